//! Generated programs without helpers: interpreter, JIT and model agree on the whole outcome.

use std::cell::RefCell;

use arbitrary::Unstructured;
use softbpf::context::Bytes;
use softbpf::program_type::ProgramType;

use crate::generator::{INPUT, Knobs, Sample};
use crate::model::{self, Setup};
use crate::reusable::Reusable;

/// What is kept from one input to the next.
struct Kept {
    setup: Setup,
    machines: Vec<Reusable>,
}

thread_local! {
    static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

fn keep() -> Kept {
    let setup = Setup::of(ProgramType::Unspec, Bytes(&[0; INPUT])).unwrap_or_else(|error| panic!("{error}"));
    Kept { setup, machines: Reusable::on(crate::engines()) }
}

/// The first byte chooses the knobs, the others the program and its input.
///
/// # Panics
/// An engine does not do what the model does.
pub fn run(bytes: &[u8]) {
    let Some((&knobs, choices)) = bytes.split_first() else { return };
    let knobs = Knobs::ALL.mixed(knobs.into());
    let Ok(sample) = Sample::arbitrary(&mut Unstructured::new(choices), &knobs) else { return };
    KEPT.with_borrow_mut(|kept| {
        let Kept { setup, machines } = kept.get_or_insert_with(keep);
        let (code, setup) = (sample.code(), setup.clone().with_context(&sample.input));
        let expected = model::run(&code, &setup);
        for machine in machines {
            match model::compare(&code, &setup, machine, &expected) {
                Ok(None) => {}
                Ok(Some(difference)) => panic!("{difference}"),
                Err(error) => panic!("{error:?}\n{}", model::compare::listing(&code)),
            }
        }
    });
}

/// Programs of every kind of knobs.
pub fn seeds() -> Vec<Vec<u8>> {
    super::random_seeds(64, 1024)
}
