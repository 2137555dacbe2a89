//! The files of findings: `NAME.vec` for `softbpf conform`, `NAME.bin` for `softbpf run`, `NAME.rs`, a test; `NAME.txt`
//! for programs with maps, which the first two cannot have.

use std::path::{Path, PathBuf};

use softbpf_conformance::fuzz::isa::Finding;

use crate::error::CliError;
use crate::fuzz::files;

/// Files of a finding.
pub(super) struct Saved {
    pub(super) name: String,
    pub(super) paths: Vec<PathBuf>,
}

/// Saves all findings, each under a name of its own.
pub(super) fn save(folder: &Path, findings: &[Finding]) -> Result<Vec<Saved>, CliError> {
    findings.iter().map(|finding| one(folder, finding)).collect()
}

fn one(folder: &Path, finding: &Finding) -> Result<Saved, CliError> {
    let base = finding.name();
    let test = |name: &str| ("rs", finding.rust_test(name).into_bytes());
    let (name, paths) = match (finding.vector(), finding.bytecode()) {
        (Some(vector), Some(bytecode)) => {
            let contents = |name: &str| [("vec", vector.clone().into_bytes()), ("bin", bytecode.to_vec()), test(name)];
            files::write(folder, &base, contents).map(|(name, paths)| (name, paths.to_vec()))?
        }
        (_, _) => {
            let contents = |name: &str| [("txt", finding.listing().join("\n").into_bytes()), test(name)];
            files::write(folder, &base, contents).map(|(name, paths)| (name, paths.to_vec()))?
        }
    };
    Ok(Saved { name, paths })
}
