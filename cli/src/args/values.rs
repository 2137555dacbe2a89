//! Options whose values have parts: `NAME=KEY:VALUE`, `SECTION+OFFSET:SIZE=VALUE`, `ADDR=HEX`.

use std::str::FromStr;

use softbpf::map_spec::{MapSpec, MapType};

use crate::literal::{self, BYTES, Literal, LiteralError, number32};

/// A value that lacks a part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("write {shape}")]
    Shape { shape: &'static str },
    #[error("there is no map type {name}; there are: {}", map_types())]
    MapType { name: String },
    #[error(transparent)]
    Literal(#[from] LiteralError),
}

fn map_types() -> String {
    MapType::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")
}

fn split<'t>(text: &'t str, at: char, shape: &'static str) -> Result<(&'t str, &'t str), ValueError> {
    match text.split_once(at) {
        Some((left, right)) if !left.is_empty() && !right.is_empty() => Ok((left, right)),
        _ => Err(ValueError::Shape { shape }),
    }
}

/// `FIELD=VALUE` of `--ctx`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) value: u64,
}

impl FromStr for Field {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Field, ValueError> {
        let (name, value) = split(text, '=', "FIELD=VALUE")?;
        Ok(Field { name: name.trim().to_owned(), value: literal::number64(value.trim())? })
    }
}

/// `NAME=KEY:VALUE` of `--map`. The value of a program array names a program, so it stays text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MapEntry {
    pub(crate) map: String,
    pub(crate) key: Literal,
    pub(crate) value: String,
}

impl FromStr for MapEntry {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<MapEntry, ValueError> {
        const SHAPE: &str = "NAME=KEY:VALUE, where KEY and VALUE are numbers or hex:BYTES";
        let (map, entry) = split(text, '=', SHAPE)?;
        let marked = entry.strip_prefix(BYTES);
        let (key, value) = split(marked.unwrap_or(entry), ':', SHAPE)?;
        let key = if marked.is_some() { Literal::Bytes(literal::hex(key)?) } else { key.parse()? };
        Ok(MapEntry { map: map.to_owned(), key, value: value.to_owned() })
    }
}

/// `NAME=TYPE:KEY:VALUE:ENTRIES` of `--create`.
#[derive(Debug, Clone)]
pub(crate) struct MapDefinition(pub(crate) MapSpec);

impl FromStr for MapDefinition {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<MapDefinition, ValueError> {
        const SHAPE: &str = "NAME=TYPE:KEY:VALUE:ENTRIES, with the sizes of a key and a value in bytes";
        let (name, definition) = split(text, '=', SHAPE)?;
        let [map_type, key, value, entries] = definition.split(':').collect::<Vec<_>>()[..] else {
            return Err(ValueError::Shape { shape: SHAPE });
        };
        let unknown = || ValueError::MapType { name: map_type.to_owned() };
        let map_type = MapType::from_name(map_type).ok_or_else(unknown)?;
        let [key, value, entries] = [number32(key)?, number32(value)?, number32(entries)?];
        Ok(MapDefinition(MapSpec::new(name, map_type, key, value, entries)))
    }
}

/// Where a global variable is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A variable of the source.
    Name(String),
    /// Bytes of a section.
    Section { section: String, offset: u64, size: u64 },
}

/// `NAME=VALUE` or `SECTION+OFFSET:SIZE=VALUE` of `--set`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) place: Place,
    pub(crate) value: Literal,
}

impl FromStr for Setting {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Setting, ValueError> {
        const SHAPE: &str = "NAME=VALUE or SECTION+OFFSET:SIZE=VALUE";
        let (place, value) = split(text, '=', SHAPE)?;
        let place = match place.split_once('+') {
            None => Place::Name(place.to_owned()),
            Some((section, bytes)) => {
                let (offset, size) = split(bytes, ':', SHAPE)?;
                let (offset, size) = (literal::number32(offset)?.into(), literal::number32(size)?.into());
                Place::Section { section: section.to_owned(), offset, size }
            }
        };
        Ok(Setting { place, value: value.parse()? })
    }
}

/// `ADDR=HEX` of `--mem`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FarBytes {
    pub(crate) addr: u64,
    pub(crate) bytes: Vec<u8>,
}

impl FromStr for FarBytes {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<FarBytes, ValueError> {
        let (addr, bytes) = split(text, '=', "ADDR=HEX")?;
        Ok(FarBytes { addr: literal::number64(addr)?, bytes: literal::hex(bytes)? })
    }
}

/// `HELPER=VALUE` of `--mock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MockSpec {
    pub(crate) helper: String,
    pub(crate) value: u64,
}

impl FromStr for MockSpec {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<MockSpec, ValueError> {
        let (helper, value) = split(text, '=', "HELPER=VALUE")?;
        Ok(MockSpec { helper: helper.to_owned(), value: literal::number64(value)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_may_be_bytes() {
        let entry: MapEntry = "m=hex:01 02:hex:03".parse().unwrap();
        assert_eq!((entry.key, &*entry.value), (Literal::Bytes(vec![1, 2]), "hex:03"));
        let entry: MapEntry = "m=-1:7".parse().unwrap();
        assert_eq!((entry.key, &*entry.value), (Literal::Number(-1), "7"));
        for text in ["m", "m=", "=1:2", "m=1", "m=1:", "m=hex:", "m=hex:01", "m=x:1"] {
            assert!(text.parse::<MapEntry>().is_err(), "{text}");
        }
    }

    #[test]
    fn variables_are_named_or_placed() {
        let setting: Setting = ".rodata+4:2=0x10".parse().unwrap();
        assert_eq!(setting.place, Place::Section { section: ".rodata".to_owned(), offset: 4, size: 2 });
        let setting: Setting = "filter_on=1".parse().unwrap();
        assert_eq!(setting.place, Place::Name("filter_on".to_owned()));
        assert!("a+b=1".parse::<Setting>().is_err());
    }
}
