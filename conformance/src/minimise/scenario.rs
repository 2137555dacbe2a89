//! The same for generated scenarios: fewer runs, programs and slots of the array of programs, then the programs and the
//! input themselves.

use super::{Budget, Minimised, Options, Reproducer, minimise};
use crate::generator::scenario::{FUEL, Input, Scenario};

/// The smallest scenario that was found, and how it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinimisedScenario {
    /// The scenario.
    pub found: Scenario,
    /// How often the predicate was called.
    pub calls: usize,
    /// No pass finds anything smaller; false when calls or time were used up before.
    pub done: bool,
}

/// Makes `from`, which shows it, smaller, as long as `shows` says that it still does. A context stays as long as it is,
/// and a packet has a byte at least.
pub fn minimise_scenario(
    from: Scenario,
    options: &Options,
    mut shows: impl FnMut(&Scenario) -> bool,
) -> MinimisedScenario {
    let total = options.calls;
    let mut budget = Budget::of(options);
    let start = surroundings(from, &mut budget, &mut shows);
    let is_packet = matches!(start.input, Input::Packet(_));
    // Programs with maps are none that can be looked at on their own.
    let options = Options { calls: budget.left, shorten_input: is_packet, values: None, ..*options };
    let input = bytes(&start).to_vec();
    let reproducer = Reproducer { programs: start.programs.clone(), input };
    let Minimised { found, done, calls } = minimise(reproducer, &options, |reproducer| {
        !(is_packet && reproducer.input.is_empty()) && shows(&with(&start, reproducer))
    });
    budget.left -= calls;
    let found = surroundings(with(&start, &found), &mut budget, &mut shows);
    MinimisedScenario { found, calls: total - budget.left, done: done && !budget.is_spent() }
}

fn bytes(scenario: &Scenario) -> &[u8] {
    match &scenario.input {
        Input::Bytes(bytes) | Input::Packet(bytes) => bytes,
    }
}

fn with(scenario: &Scenario, reproducer: &Reproducer) -> Scenario {
    let input = match scenario.input {
        Input::Bytes(_) => Input::Bytes(reproducer.input.clone()),
        Input::Packet(_) => Input::Packet(reproducer.input.clone()),
    };
    Scenario { programs: reproducer.programs.clone(), input, ..scenario.clone() }
}

/// All but the programs' instructions and the input.
fn surroundings(from: Scenario, budget: &mut Budget, shows: &mut dyn FnMut(&Scenario) -> bool) -> Scenario {
    let mut best = from;
    let mut attempt = |candidate: Scenario, best: &mut Scenario| {
        let shows = candidate != *best && budget.take() && shows(&candidate);
        if shows {
            *best = candidate;
        }
        shows
    };
    attempt(Scenario { runs: 1, ..best.clone() }, &mut best);
    attempt(Scenario { cpu: 0, ..best.clone() }, &mut best);
    attempt(Scenario { fuel: FUEL, ..best.clone() }, &mut best);
    for slot in best.slots.keys().copied().collect::<Vec<_>>() {
        let mut candidate = best.clone();
        candidate.slots.remove(&slot);
        attempt(candidate, &mut best);
    }
    // The last program, as long as nothing leads to it.
    while best.programs.len() > 1 && best.slots.values().all(|&program| program + 1 < best.programs.len()) {
        let mut candidate = best.clone();
        candidate.programs.pop();
        if !attempt(candidate, &mut best) {
            break;
        }
    }
    best
}
