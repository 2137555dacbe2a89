//! Programs of a few instructions, out of assembly text, and what they come to.

use softbpf::context::Context;
use softbpf::map_spec::MapSpec;
use softbpf::object::MAIN;
use softbpf::program_type::ProgramType;
use softbpf::{Object, Outcome, TrapKind};

/// A program in text, of no particular type, without maps.
///
/// # Panics
/// The text is no program.
#[track_caller]
pub fn program(text: &str) -> Object {
    program_with(text, Vec::new())
}

/// As [`program`], with maps that the text names.
///
/// # Panics
/// The text is no program.
#[track_caller]
pub fn program_with(text: &str, maps: Vec<MapSpec>) -> Object {
    match Object::assemble(text, ProgramType::Unspec, maps) {
        Ok(object) => object,
        Err(error) => panic!("{error} in\n{text}"),
    }
}

/// What the program [`MAIN`] of `object` comes to, on which all engines must agree.
///
/// # Panics
/// The object does not load, the program does not take the context, or engines disagree.
#[track_caller]
pub fn outcome(object: &Object, context: impl Context) -> Outcome {
    let mut agreed: Option<Outcome> = None;
    crate::on_every_engine(object, |mut vm| match vm.run(MAIN, &context) {
        Ok(outcome) => {
            let first = agreed.get_or_insert_with(|| outcome.clone());
            assert_eq!(*first, outcome, "engines disagree");
        }
        Err(error) => panic!("{error}"),
    });
    agreed.unwrap_or_else(|| panic!("there are no engines"))
}

/// `r0`, or why there is none, of a program in text that gets no context.
///
/// # Panics
/// As [`program`] and [`outcome`].
#[track_caller]
pub fn ret(text: &str) -> Result<u64, TrapKind> {
    outcome(&program(text), ()).ret.map_err(|trap| trap.kind)
}

/// Checks what programs in text return.
///
/// # Panics
/// One of them returns something else, or traps.
#[track_caller]
pub fn assert_returns(cases: &[(&str, u64)]) {
    for (text, expected) in cases {
        match ret(text) {
            Ok(ret) => assert_eq!(ret, *expected, "{ret:#x}, not {expected:#x}:\n{text}"),
            Err(trap) => panic!("{trap}:\n{text}"),
        }
    }
}
