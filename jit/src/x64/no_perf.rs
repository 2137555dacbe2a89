//! Where there is no `perf`, nothing is told to it.

use super::code::Compiled;
use super::glue::Glue;
use crate::{Perf, Unavailable};

/// Nothing.
#[derive(Debug, Default)]
pub(super) struct Output {}

impl Output {
    pub(super) fn open(perf: &Perf, _: &Glue) -> Result<Output, Unavailable> {
        match perf {
            Perf::Off => Ok(Output {}),
            Perf::Map | Perf::JitDump { .. } => Err(Unavailable::NoPerf),
        }
    }

    pub(super) fn program(&mut self, _: &Compiled) {}
}
