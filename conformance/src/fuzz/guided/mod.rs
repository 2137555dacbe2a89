//! Coverage-guided fuzzing of one program: which packet, context, map contents or surroundings make it go wrong?
//!
//! ```text
//! Target (object, program, what holds in every run) -> Campaign -> Finding, minimised
//! ```
//!
//! An [`Input`] is all that a run depends on. An [`Executor`] runs one from the same state each time, and sees which
//! edges of the program's [`coverage::Graph`] it takes. A [`Campaign`] keeps the inputs that took new ones, makes others of
//! them ([`mutate`]), and reports what went wrong as [`Finding`]s: traps, loops without an end, and results that an
//! [`Expectation`] does not allow.
//!
//! Nothing here reads or writes files, or writes sentences: that is the command line's.

pub mod campaign;
mod compared;
mod corpus;
pub mod coverage;
mod dictionary;
pub mod execute;
pub mod expect;
pub mod finding;
pub mod input;
mod minimise;
pub mod mutate;
pub mod seeds;
pub mod target;

pub use campaign::{Campaign, Event, Options, Stats, Summary};
pub use execute::Executor;
pub use expect::Expectation;
pub use finding::{Finding, Key};
pub use input::{Data, Element, Far, Input};
pub use target::{Ask, Target, TargetError};
