//! Damaged objects are errors: never a panic, a hang or a heap of memory.
//!
//! The mutations are the same in every run. `SOFTBPF_MUTATIONS` sets how many are tried.

use std::path::Path;
use std::time::{Duration, Instant};

use softbpf::btf::ext::BtfExt;
use softbpf::btf::{Btf, TypeId};
use softbpf::object::Object;

/// A reproducible source of choices: Marsaglia's xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit.max(1)
    }
}

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../conformance/objects"));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the fixtures") {
        let path = entry.expect("a fixture").path();
        if path.extension().is_some_and(|extension| extension == "o") {
            found.push((path.display().to_string(), std::fs::read(&path).expect("a fixture")));
        }
    }
    found.sort();
    assert!(found.len() > 5, "{} fixtures", found.len());
    found
}

/// Numbers that parsers trip over.
const INTERESTING: [u32; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

fn mutate(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => {
                let (from, count) = (random.below(other.len()), random.below(64));
                let splice = &other[from..(from + count).min(other.len())];
                let end = (at + splice.len()).min(bytes.len());
                bytes.splice(at..end, splice.iter().copied());
            }
            2 => {
                let value = INTERESTING[random.below(INTERESTING.len())].to_le_bytes();
                let at = at & !3;
                bytes.iter_mut().skip(at).zip(value).for_each(|(byte, new)| *byte = new);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
        if bytes.is_empty() {
            return;
        }
    }
}

/// Looks at everything that an object has.
fn walk(bytes: &[u8]) {
    let Ok(object) = Object::parse(bytes) else { return };
    for index in 0..object.programs().len() {
        let Some(Ok(program)) = object.program_at(index) else { continue };
        let slots = program.code().slot_count();
        for slot in [0, slots / 2, slots.saturating_sub(1), slots] {
            let _ = (program.line_at(slot), program.function_at(slot));
        }
        let _ = (program.tag(), program.tag_sha256(), program.is_gpl_compatible());
    }
    object.maps().iter().for_each(|map| drop(map.kernel_name("object")));
    let _ = object.functions().count();
    let Some(btf) = object.btf() else { return };
    for map in object.maps() {
        let value = map.initial_value.as_deref().unwrap_or(&[0; 256]);
        let dump = map.value_type_id.map(|id| btf.dump(id, value).to_string());
        assert!(dump.is_none_or(|dump| dump.len() < 16 << 20));
    }
    for (id, found) in btf.types() {
        let _ = (btf.resolve(id), btf.size_of(id), btf.align_of(id), btf.text(found.name), found.kind.name());
    }
}

#[test]
fn mutated_objects_do_not_panic() {
    let count = std::env::var("SOFTBPF_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(2_000);
    let fixtures = fixtures();
    let mut random = Random(0x5eed_b0f5_eed0_b0f5);
    let mut slowest = (Duration::ZERO, String::new());
    for round in 0..count {
        let (name, bytes) = &fixtures[round % fixtures.len()];
        let (_, other) = &fixtures[random.below(fixtures.len())];
        let mut bytes = bytes.clone();
        mutate(&mut random, &mut bytes, other);
        let start = Instant::now();
        walk(&bytes);
        slowest = slowest.max((start.elapsed(), format!("round {round}, {name}")));
    }
    assert!(slowest.0 < Duration::from_secs(5), "{slowest:?}");
}

#[test]
fn every_prefix_of_an_object_is_handled() {
    for (_, bytes) in fixtures().iter().take(3) {
        (0..bytes.len()).step_by(7).for_each(|end| walk(&bytes[..end]));
    }
}

#[test]
fn mutated_btf_does_not_panic() {
    let mut random = Random(0xb7f);
    for (_, bytes) in &fixtures() {
        let magic = [0x9f, 0xeb, 1, 0];
        let starts: Vec<_> = bytes.windows(4).enumerate().filter(|(_, window)| *window == magic).collect();
        for (start, _) in starts {
            for _ in 0..50 {
                let mut part = bytes[start..].to_vec();
                mutate(&mut random, &mut part, bytes);
                if let Ok(btf) = Btf::parse(&part) {
                    let types = btf.types().count() as u32;
                    for id in 0..types + 2 {
                        let _ = (btf.size_of(TypeId(id)), btf.resolve(TypeId(id)));
                    }
                }
                let _ = BtfExt::parse(&part);
            }
        }
    }
}
