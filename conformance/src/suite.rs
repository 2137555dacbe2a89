//! Folders of cases, in either format, and the vectors of our own.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::case::Case;
use crate::data::{self, DataError};
use crate::vectors::{self, VectorError};

/// Most bytes of a file of cases. The longest of our own has 60,000.
pub const MAX_FILE: u64 = 16 << 20;

/// Cases, and what could not be read.
#[derive(Debug, Default)]
pub struct Suite {
    /// The cases, by file.
    pub cases: Vec<Case>,
    /// Files that are none, with the reason.
    pub unreadable: Vec<SuiteError>,
}

/// A file or folder that gives no cases.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is a device, a pipe or the like, which may never end.
    #[error("{path}: not a regular file")]
    NotRegular {
        /// The file.
        path: String,
    },
    /// It has more than [`MAX_FILE`] bytes.
    #[error("{path}: more than {MAX_FILE} bytes")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// The folder has no file of either format.
    #[error("{path}: no files that end in .{} or .{}", vectors::EXTENSION, data::EXTENSION)]
    Nothing {
        /// The folder.
        path: String,
    },
    /// It is in our own format, and wrong.
    #[error(transparent)]
    Vector(#[from] VectorError),
    /// It is in the public format, and wrong.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// Names and contents of our own vectors.
macro_rules! own_files {
    ($($name:literal)*) => { &[$(($name, include_str!(concat!("../vectors/", $name)))),*] };
}

/// Our own vectors: name and text of each file in `vectors/`.
pub const OWN: &[(&str, &str)] = own_files! {
    "alu32.vec"
    "alu64.vec"
    "atomic.vec"
    "byte_order.vec"
    "call.vec"
    "divmul32.vec"
    "divmul64.vec"
    "helper.vec"
    "jump32.vec"
    "jump64.vec"
    "jump_far.vec"
    "lddw.vec"
    "limits.vec"
    "linux.vec"
    "load.vec"
    "mov.vec"
    "packet.vec"
    "rejected.vec"
    "shift32.vec"
    "shift64.vec"
    "store.vec"
    "tail_call.vec"
};

impl Suite {
    /// Our own vectors, which the crate carries with it.
    pub fn own() -> Suite {
        let mut suite = Suite::default();
        for (name, text) in OWN {
            suite.add(vectors::parse(name, text));
        }
        suite
    }

    /// The cases of a file, or of all files of either format in a folder and the folders below it.
    pub fn load(path: &Path) -> Suite {
        let mut suite = Suite::default();
        let mut files = Vec::new();
        find(path, &mut files, &mut suite.unreadable);
        if files.is_empty() && suite.unreadable.is_empty() {
            suite.unreadable.push(SuiteError::Nothing { path: path.display().to_string() });
        }
        files.sort();
        for file in files {
            suite.read(&file);
        }
        suite
    }

    /// Appends another suite.
    pub fn append(&mut self, other: Suite) {
        self.cases.extend(other.cases);
        self.unreadable.extend(other.unreadable);
    }

    fn read(&mut self, path: &Path) {
        let name = path.display().to_string();
        match read(path) {
            Err(error) => self.unreadable.push(error),
            Ok(text) if is(path, data::EXTENSION) => self.add(data::parse(&name, &text).map(|case| vec![case])),
            Ok(text) => self.add(vectors::parse(&name, &text)),
        }
    }

    fn add<E: Into<SuiteError>>(&mut self, cases: Result<Vec<Case>, E>) {
        match cases {
            Ok(cases) => self.cases.extend(cases),
            Err(error) => self.unreadable.push(error.into()),
        }
    }
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// The text of a regular file of at most [`MAX_FILE`] bytes.
fn read(path: &Path) -> Result<String, SuiteError> {
    let name = || path.display().to_string();
    let io = |source| SuiteError::Io { path: name(), source };
    // Before it is opened: to open a pipe is to wait for its writer.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(SuiteError::NotRegular { path: name() });
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(io)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(SuiteError::TooLarge { path: name() });
    }
    String::from_utf8(bytes).map_err(|error| io(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))
}

/// A named file whatever its name; in folders, those with either ending. What cannot be read does not hide the rest.
fn find(path: &Path, files: &mut Vec<PathBuf>, errors: &mut Vec<SuiteError>) {
    let io = |source| SuiteError::Io { path: path.display().to_string(), source };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return files.push(path.to_owned()),
        Err(error) => return errors.push(io(error)),
    }
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return errors.push(io(error)),
    };
    for entry in entries {
        // Not through links, which may lead in circles.
        match entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) {
            Ok((inner, kind)) if kind.is_dir() => find(&inner, files, errors),
            Ok((inner, _)) if is(&inner, data::EXTENSION) || is(&inner, vectors::EXTENSION) => files.push(inner),
            Ok(_) => {}
            Err(error) => errors.push(io(error)),
        }
    }
}
