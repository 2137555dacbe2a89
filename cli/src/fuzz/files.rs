//! The files of findings: names that every file system takes, and no finding written over another.
//!
//! What stands in them: [`super::saved`] and [`super::test`] for a user's program, [`softbpf_conformance::fuzz::isa::Finding`]
//! for programs that were generated.

use std::path::{Path, PathBuf};

use crate::error::CliError;

/// Characters of a name that comes out of an object, at most: a name of two of them and what is wrong is no more than
/// about 100.
const MAX_NAME: usize = 40;

/// A name out of an object as the beginning of a file's name: of letters, digits, `_`, `-` and `.`, and beginning as names of
/// functions do.
pub(super) fn safe(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' };
    let name: String = name.chars().map(allowed).take(MAX_NAME).collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') { name } else { format!("_{name}") }
}

/// The name of a file as that of a function.
pub(super) fn function(file: &str) -> String {
    file.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

/// Writes files `NAME.EXTENSION`, and says where they are: under `base`, or with a number behind it where there are files of
/// that name with other contents. `files` has extensions and contents, which may tell the name.
pub(super) fn write<const N: usize>(
    folder: &Path,
    base: &str,
    files: impl Fn(&str) -> [(&'static str, Vec<u8>); N],
) -> Result<(String, [PathBuf; N]), CliError> {
    let failed = |path: &Path, source| CliError::Write { path: path.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
    let mut number = 1_u64;
    loop {
        let name = if number == 1 { base.to_owned() } else { format!("{base}_{number}") };
        let files = files(&name).map(|(extension, bytes)| (folder.join(format!("{name}.{extension}")), bytes));
        if files.iter().any(|(path, bytes)| is_taken(path, bytes)) {
            number += 1;
            continue;
        }
        for (path, bytes) in &files {
            std::fs::write(path, bytes).map_err(|source| failed(path, source))?;
        }
        return Ok((name, files.map(|(path, _)| path)));
    }
}

/// Whether something else has this name.
fn is_taken(path: &Path, bytes: &[u8]) -> bool {
    let Ok(found) = path.symlink_metadata() else { return false };
    let is_alike = found.is_file() && found.len() == bytes.len() as u64;
    !is_alike || std::fs::read(path).ok().as_deref() != Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_everywhere() {
        assert_eq!(safe("parse_right"), "parse_right");
        assert_eq!(safe("0day"), "_0day");
        assert_eq!(safe("../etc/a$b\n"), "_.._etc_a_b_");
        assert_eq!(safe("-rf"), "_-rf");
        assert_eq!(safe(""), "_");
        assert_eq!(safe(&"ä".repeat(300)), "_".repeat(MAX_NAME));
        assert_eq!(function("_0day-read-null-7.old"), "_0day_read_null_7_old");
    }

    #[test]
    fn files_of_other_contents_stay() {
        let folder = std::env::temp_dir().join(format!("softbpf-files-{}", std::process::id()));
        let write = |text: &str| {
            let files = |name: &str| [("txt", text.as_bytes().to_vec()), ("name", name.as_bytes().to_vec())];
            write(&folder, "same", files).map(|(name, _)| name).map_err(|error| error.to_string())
        };
        for (text, name) in [("a", "same"), ("b", "same_2"), ("a", "same"), ("b", "same_2"), ("c", "same_3")] {
            assert_eq!(write(text).as_deref(), Ok(name), "{text}");
        }
        std::fs::create_dir(folder.join("same_4.txt")).expect("a folder");
        assert_eq!(write("d").as_deref(), Ok("same_5"));
        assert_eq!(std::fs::read(folder.join("same.txt")).expect("it is there"), b"a");
        std::fs::remove_dir_all(&folder).expect("it is ours");
    }
}
