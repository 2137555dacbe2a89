//! The files of findings: `NAME.vec` for `softbpf conform`, `NAME.bin` for `softbpf run`, `NAME.rs`, a test; `NAME.txt`
//! for programs with maps, helpers or little fuel, which the first two cannot have.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use softbpf_conformance::fuzz::isa::Finding;

use crate::error::CliError;
use crate::fuzz::files;

/// Files of a finding.
pub(super) struct Saved {
    pub(super) name: String,
    pub(super) paths: Vec<PathBuf>,
}

/// Saves findings as they come, each under a name of its own.
pub(super) struct Files<'a> {
    folder: &'a Path,
    /// What has been saved, in the order in which it was found.
    pub(super) saved: Vec<Saved>,
    /// Why the last could not be.
    failed: Option<CliError>,
}

impl<'a> Files<'a> {
    /// Makes the folder when there is something to save.
    pub(super) fn new(folder: &'a Path) -> Files<'a> {
        Files { folder, saved: Vec::new(), failed: None }
    }

    /// Saves one; the campaign ends when it cannot be.
    pub(super) fn save(&mut self, finding: &Finding) -> ControlFlow<()> {
        match one(self.folder, finding) {
            Ok(saved) => {
                self.saved.push(saved);
                ControlFlow::Continue(())
            }
            Err(error) => {
                self.failed.get_or_insert(error);
                ControlFlow::Break(())
            }
        }
    }

    /// # Errors
    /// A finding could not be saved.
    pub(super) fn check(self) -> Result<(), CliError> {
        self.failed.map_or(Ok(()), Err)
    }
}

fn one(folder: &Path, finding: &Finding) -> Result<Saved, CliError> {
    std::fs::create_dir_all(folder).map_err(|source| CliError::Write { path: folder.to_owned(), source })?;
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
