//! Whatever the budget, a run ends at the same instruction in the same state on every engine: generated programs with
//! calls, callbacks, tail calls and packet loads, cut off at each place.

use softbpf::Outcome;
use softbpf_conformance::engines;
use softbpf_conformance::generator::scenario::{Scenario, ScenarioKnobs};
use softbpf_conformance::model::Contents;
use softbpf_conformance::model::scenario::{machine, runs};

fn count(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn every_budget_ends_a_run_at_the_same_place() {
    let engines = engines();
    let (first, scenarios) = (count("SOFTBPF_SEED", 0), count("SOFTBPF_PROGRAMS", 30));
    for seed in first..first + scenarios {
        let knobs = ScenarioKnobs { statements: 12, ..ScenarioKnobs::ALL };
        let mut scenario = Scenario::from_seed(seed, &knobs);
        let on = |scenario: &Scenario, engine: usize| -> Vec<(Outcome, Vec<Contents>)> {
            machine(scenario, engines[engine])
                .and_then(|mut vm| runs(scenario, &mut vm))
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"))
        };
        let whole = on(&scenario, 0).iter().map(|(outcome, _)| outcome.instructions).max().unwrap_or(0);
        // Every place of what is short, and places all over what is long.
        let step = (whole / 150).max(1) as usize;
        for fuel in (0..=whole).step_by(step) {
            scenario.fuel = fuel;
            let expected = on(&scenario, 0);
            let others = if fuel % 8 == 0 { engines.len() } else { engines.len().min(2) };
            for engine in 1..others {
                let got = on(&scenario, engine);
                assert!(
                    got == expected,
                    "seed {seed}, engine {engine}, fuel {fuel}\n{scenario}\n{got:x?}\n{expected:x?}"
                );
            }
        }
    }
}
