//! Generated programs with memory, calls, loops and helpers: interpreter, JIT and model agree on outcome and maps.

use std::cell::RefCell;

use arbitrary::Unstructured;

use crate::generator::scenario::{Scenario, ScenarioKnobs};
use crate::model::scenario::{Setups, compare};
use crate::reusable::Reusable;

thread_local! {
    static KEPT: RefCell<(Setups, Vec<Reusable>)> =
        RefCell::new((Setups::default(), Reusable::on(crate::engines())));
}

/// The first byte chooses the knobs, the others programs, maps and input.
///
/// # Panics
/// An engine does not do what the model does.
pub fn run(bytes: &[u8]) {
    let Some((&knobs, choices)) = bytes.split_first() else { return };
    let knobs = ScenarioKnobs::mixed(knobs.into());
    let Ok(scenario) = Scenario::arbitrary(&mut Unstructured::new(choices), &knobs) else { return };
    KEPT.with_borrow_mut(|(setups, machines)| {
        let setup = setups.of(&scenario).unwrap_or_else(|error| panic!("{error}\n{scenario}"));
        match compare(&scenario, setup, machines) {
            Ok((_, None)) => {}
            Ok((_, Some(difference))) => panic!("{difference}"),
            Err(error) => panic!("{error}\n{scenario}"),
        }
    });
}

/// Scenarios of every kind of knobs.
pub fn seeds() -> Vec<Vec<u8>> {
    super::random_seeds(64, 2048)
}
