//! Samples: every contestant has a turn in each round, so that whatever else the machine does meets all alike. A sample is
//! the least of many short measurements, since what interrupts a measurement only ever adds to it.

use std::time::{Duration, Instant};

use softbpf::engine::Engine;
use softbpf::machine::Machine;
use softbpf::outcome::Trap;
use softbpf_conformance::MakeEngine;
use softbpf_conformance::fuzz::guided::Data;
use softbpf_jit::inspect::code_size;

use crate::error::CliError;

/// Samples of each that are taken however long it takes: fewer cannot be compared.
const LEAST_ROUNDS: usize = 7;

/// Samples of each that the time is shared out for, and how many there may be.
const ROUNDS: u32 = 40;
const MOST_ROUNDS: usize = 1000;

/// One measurement: long enough for the clock, short enough that most are not interrupted.
const PIECE: Duration = Duration::from_micros(200);

/// Measurements that a sample is the least of, at most.
const PIECES: u32 = 100;

/// Makes a machine anew, with this engine.
pub(super) type MakeMachine<'m> = dyn Fn(Box<dyn Engine>) -> Result<Machine, CliError> + 'm;

/// Why there are no samples.
pub(super) enum Stopped {
    Error(CliError),
    /// The program did, on this machine.
    Trapped(Box<Trap>, Box<Machine>),
}

impl<E: Into<CliError>> From<E> for Stopped {
    fn from(error: E) -> Stopped {
        Stopped::Error(error.into())
    }
}

/// What is measured.
pub(super) trait Contestant {
    /// So often, does the work so many times; the least that it took.
    fn sample(&mut self, pieces: u32, times: u64) -> Result<Duration, Stopped>;
}

/// A program on an input, by an engine.
pub(super) struct Runs<'m> {
    pub(super) machine: &'m MakeMachine<'m>,
    pub(super) engine: MakeEngine,
    pub(super) program: &'m str,
    pub(super) context: &'m Data,
    /// Of the first run of a machine.
    pub(super) r0: u64,
    /// Of a run, on average.
    pub(super) instructions: f64,
}

impl Contestant for Runs<'_> {
    fn sample(&mut self, pieces: u32, times: u64) -> Result<Duration, Stopped> {
        let mut vm = (self.machine)((self.engine)())?;
        // Unmeasured: the JIT compiles the program, and memory is touched for the first time.
        let mut last = vm.repeat(self.program, self.context, 1)?;
        self.r0 = *last.ret.as_ref().unwrap_or(&0);
        let mut least = Duration::MAX;
        for _ in 0..pieces {
            if last.ret.is_err() {
                break;
            }
            let start = Instant::now();
            last = vm.repeat(self.program, self.context, times)?;
            least = least.min(start.elapsed());
        }
        self.instructions = last.instructions as f64 / last.runs as f64;
        match last.ret {
            Ok(_) => Ok(least),
            Err(trap) => Err(Stopped::Trapped(trap, Box::new(vm))),
        }
    }
}

/// A compilation of the program.
pub(super) struct Compiles<'m> {
    vm: Machine,
    program: &'m str,
    /// Size of the code.
    pub(super) bytes: usize,
}

impl<'m> Compiles<'m> {
    /// An error where there is no JIT, or it does not compile the program.
    pub(super) fn new(mut vm: Machine, program: &'m str) -> Result<Self, CliError> {
        softbpf_jit::engine()?;
        let bytes = compile(&mut vm, program)?.ok_or_else(|| CliError::NotCompiled { program: program.to_owned() })?;
        Ok(Compiles { vm, program, bytes })
    }
}

fn compile(vm: &mut Machine, program: &str) -> Result<Option<usize>, CliError> {
    Ok(code_size(vm, program, softbpf_jit::Config::default())?)
}

impl Contestant for Compiles<'_> {
    fn sample(&mut self, pieces: u32, times: u64) -> Result<Duration, Stopped> {
        let mut least = Duration::MAX;
        for _ in 0..pieces {
            let start = Instant::now();
            for _ in 0..times {
                std::hint::black_box(compile(&mut self.vm, self.program)?);
            }
            least = least.min(start.elapsed());
        }
        Ok(least)
    }
}

/// Samples of each contestant, in nanoseconds for doing the work once. `tick` hears how much of the time is over.
pub(super) fn interleaved(
    contestants: &mut [&mut dyn Contestant],
    budget: Duration,
    tick: impl Fn(Duration),
) -> Result<Vec<Vec<f64>>, Stopped> {
    let start = Instant::now();
    let sample = budget / ROUNDS / contestants.len().max(1) as u32;
    let mut plans = Vec::new();
    for contestant in &mut *contestants {
        plans.push(calibrate(*contestant, sample)?);
        tick(start.elapsed());
    }
    let mut samples = vec![Vec::new(); contestants.len()];
    for round in 0..MOST_ROUNDS {
        if round >= LEAST_ROUNDS && start.elapsed() >= budget {
            break;
        }
        for ((contestant, &(pieces, times)), samples) in contestants.iter_mut().zip(&plans).zip(&mut samples) {
            samples.push(contestant.sample(pieces, times)?.as_secs_f64() * 1e9 / times as f64);
            tick(start.elapsed());
        }
    }
    Ok(samples)
}

/// How many measurements fit into a sample, and how often the work fits into a measurement. What comes once a measurement
/// must weigh the same in every process, so one disturbance must not decide.
fn calibrate(contestant: &mut dyn Contestant, sample: Duration) -> Result<(u32, u64), Stopped> {
    let mut times = 1;
    loop {
        let taken = contestant.sample(5, times)?;
        if taken >= PIECE / 4 {
            let once = taken.as_secs_f64() / times as f64;
            let times = (PIECE.as_secs_f64() / once).max(1.0);
            let pieces = (sample.as_secs_f64() / (once * times)) as u32;
            return Ok((pieces.clamp(1, PIECES), times as u64));
        }
        times *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sleeper(u64);

    impl Contestant for Sleeper {
        fn sample(&mut self, _: u32, times: u64) -> Result<Duration, Stopped> {
            self.0 += 1;
            Ok(Duration::from_micros(10) * times as u32)
        }
    }

    #[test]
    fn all_have_as_many_samples_at_least_seven() {
        let (mut one, mut other) = (Sleeper(0), Sleeper(0));
        let result = interleaved(&mut [&mut one, &mut other], Duration::ZERO, |_| ());
        let Ok(samples) = result else { panic!("nothing stops it") };
        assert_eq!(samples, vec![vec![10_000.0; LEAST_ROUNDS]; 2]);
        assert_eq!(one.0, other.0);
    }
}
