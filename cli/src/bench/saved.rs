//! Samples in a file: a baseline for later.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::error::CliError;
use crate::input;

/// The form of the file.
const VERSION: u64 = 1;

/// The engine's name of a compilation.
pub(super) const COMPILE: &str = "compile";

/// What was measured, with everything that must be the same to compare it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Samples {
    /// Empty for a compilation.
    pub(super) input: String,
    pub(super) engine: String,
    /// Nanoseconds.
    pub(super) ns: Vec<f64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Saved {
    pub(super) program: String,
    pub(super) tag: String,
    pub(super) samples: Vec<Samples>,
}

impl Saved {
    pub(super) fn find(&self, input: &str, engine: &str) -> Option<&[f64]> {
        let found = self.samples.iter().find(|samples| samples.input == input && samples.engine == engine);
        found.map(|samples| &samples.ns[..])
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), CliError> {
        let text = format!("{:#}\n", self.json());
        std::fs::write(path, text).map_err(|source| CliError::Write { path: path.to_owned(), source })
    }

    pub(super) fn read(path: &Path) -> Result<Saved, CliError> {
        let bytes = input::read(path)?;
        let document = serde_json::from_slice(&bytes).ok();
        let saved = document.as_ref().and_then(Saved::from_json);
        saved.ok_or_else(|| CliError::NoBaseline { file: input::name(path) })
    }

    fn json(&self) -> Json {
        let samples = |samples: &Samples| json!({ "input": samples.input, "engine": samples.engine, "ns": samples.ns });
        json!({
            "softbpf_bench": VERSION,
            "program": self.program,
            "tag": self.tag,
            "samples": self.samples.iter().map(samples).collect::<Vec<_>>(),
        })
    }

    fn from_json(document: &Json) -> Option<Saved> {
        let text = |value: &Json| value.as_str().map(str::to_owned);
        let samples = |samples: &Json| {
            let ns = samples["ns"].as_array()?.iter().map(Json::as_f64).collect::<Option<_>>()?;
            Some(Samples { input: text(&samples["input"])?, engine: text(&samples["engine"])?, ns })
        };
        (document["softbpf_bench"] == VERSION).then_some(())?;
        Some(Saved {
            program: text(&document["program"])?,
            tag: text(&document["tag"])?,
            samples: document["samples"].as_array()?.iter().map(samples).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_can_be_read() {
        let samples = Samples { input: "packet 1".to_owned(), engine: "jit".to_owned(), ns: vec![1.5, 2.25] };
        let saved = Saved { program: "main".to_owned(), tag: "0123456789abcdef".to_owned(), samples: vec![samples] };
        let mut document = saved.json();
        assert_eq!(Saved::from_json(&document), Some(saved));
        document["softbpf_bench"] = 2.into();
        assert_eq!(Saved::from_json(&document), None);
        assert_eq!(Saved::from_json(&Json::Null), None);
    }
}
