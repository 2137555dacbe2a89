//! The files of findings: `NAME.vec` for `softbpf conform`, `NAME.bin` for `softbpf run`, `NAME.rs`, a test; `NAME.txt`
//! for programs with maps, which the first two cannot have.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use softbpf_conformance::fuzz::isa::Finding;

use crate::error::CliError;

/// Files of a finding.
pub(super) struct Saved {
    pub(super) name: String,
    pub(super) paths: Vec<PathBuf>,
}

/// Saves all findings, each under a name of its own.
pub(super) fn save(folder: &Path, findings: &[Finding]) -> Result<Vec<Saved>, CliError> {
    if findings.is_empty() {
        return Ok(Vec::new());
    }
    std::fs::create_dir_all(folder).map_err(|source| CliError::Write { path: folder.to_owned(), source })?;
    let mut names = BTreeSet::new();
    findings.iter().map(|finding| one(folder, finding, &mut names)).collect()
}

fn one(folder: &Path, finding: &Finding, names: &mut BTreeSet<String>) -> Result<Saved, CliError> {
    let base = finding.name();
    let mut name = base.clone();
    let mut number = 2;
    while !names.insert(name.clone()) {
        name = format!("{base}_{number}");
        number += 1;
    }
    let mut saved = Saved { name, paths: Vec::new() };
    let mut write = |extension: &str, bytes: &[u8]| {
        let path = folder.join(&saved.name).with_extension(extension);
        std::fs::write(&path, bytes).map_err(|source| CliError::Write { path: path.clone(), source })?;
        saved.paths.push(path);
        Ok::<(), CliError>(())
    };
    match (finding.vector(), finding.bytecode()) {
        (Some(vector), Some(bytecode)) => {
            write("vec", vector.as_bytes())?;
            write("bin", bytecode)?;
        }
        (_, _) => write("txt", finding.listing().join("\n").as_bytes())?,
    }
    write("rs", finding.rust_test().as_bytes())?;
    Ok(saved)
}
