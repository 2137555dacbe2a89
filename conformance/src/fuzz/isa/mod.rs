//! Fuzzing of implementations of the instruction set: generated programs, what each side makes of them, and the smallest
//! program for each way in which they differ.
//!
//! [`engines`] holds engines against each other, the model and the kernel; [`against`] another implementation, behind the
//! plugin protocol, against the model. `drive` runs either on several threads until time or programs are up; [`key`] tells
//! findings apart, and [`finding`] is one, with the files that replay it; `sides` knows when engines differ, and who is right.
//!
//! For plugins: `portable` knows what any implementation must answer, `fold` makes it show in `r0`, `probe` finds out what
//! the plugin knows at all, `avoid` takes out of programs what it does not (or is known to do wrong), and `encoding` makes
//! what must be refused.

pub mod against;
mod avoid;
mod drive;
mod encoding;
pub mod engines;
pub mod finding;
mod fold;
mod kernel;
pub mod key;
mod portable;
mod probe;
mod sides;

use std::num::NonZero;
use std::time::Duration;

pub use drive::{Event, Progress, Report};
pub use finding::{Finding, Program};
pub use key::{About, Key, Kind};
pub use probe::{Feature, LONGEST, Lacks};

use crate::plugin::PluginError;

/// How long a finding is minimised at most; what is asked then is still waited for.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long a campaign goes on, and how wide.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Number of the first program.
    pub first_seed: u64,
    /// Programs at most.
    pub programs: Option<u64>,
    /// Time at most. What is being minimised then is finished, within a time of its own.
    pub time: Option<Duration>,
    /// Programs at a time.
    pub jobs: NonZero<usize>,
    /// Different findings at which the campaign ends.
    pub findings: usize,
}

impl Default for Limits {
    /// A minute, one program at a time, 1,000 findings.
    fn default() -> Limits {
        let time = Some(Duration::from_secs(60));
        Limits { first_seed: 0, programs: None, time, jobs: NonZero::<usize>::MIN, findings: 1_000 }
    }
}

/// Why a campaign cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    /// The plugin cannot be run.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The plugin does not do the least that one must.
    #[error("this is no plugin: asked for a program that returns 42, it said {0}")]
    NoPlugin(String),
    /// There is no machine.
    #[error("no machine can be made: {0}")]
    Setup(String),
    /// The host has no thread left.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// There is nothing to compare.
    #[error("there is only {0}: nothing to compare it with")]
    Alone(String),
    /// The kernel's system calls fail.
    #[error("the kernel: {0}")]
    Kernel(#[from] std::io::Error),
    /// The kernel is not to be had.
    #[error(transparent)]
    NotPermitted(#[from] crate::kernel::NotPermitted),
}
