//! Writes the seeds of the fuzz targets, a folder for each, into the folder that is named; `.ci/fuzz` calls it.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use softbpf_cli::harness;
use softbpf_conformance::targets::TARGETS;

fn write(folder: &Path) -> io::Result<()> {
    for target in TARGETS.into_iter().chain([harness::TARGET]) {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder)?;
        let seeds = (target.seeds)();
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:04}")), seed)?;
        }
        writeln!(io::stdout(), "{}: {} seeds", folder.display(), seeds.len())?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        let _ = writeln!(io::stderr(), "usage: fuzz-seeds FOLDER");
        return ExitCode::from(2);
    };
    match write(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
