//! What the fuzz targets do with an input: logic here, on stable Rust, and a few lines each in `fuzz/`.
//!
//! A target takes any bytes, and panics where softbpf does what it must not; that is what a fuzzer looks for. Beside it
//! stand seeds, inputs to begin with, and the words of its dictionary, both made from the tables of the product and the
//! committed objects. `tests/targets.rs` runs all seeds, and the inputs in `fuzz/regressions`, which fuzzing found.
//!
//! The command line has a target too; it is in `cli`, which knows it. Nothing here knows a fuzzer.

pub mod decode;
pub mod dictionary;
pub mod helpers;
mod instructions;
pub mod maps;
pub mod object;
pub mod program;
pub mod scenario;
pub mod stream;
pub mod text;

pub use dictionary::Word;

use crate::rng::Rng;

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: of the file in `fuzz/fuzz_targets`, of its dictionary, of its folder of seeds.
    pub name: &'static str,
    /// Does with these bytes what the target is for.
    ///
    /// # Panics
    /// There is a bug.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Pieces that inputs are made of; none where they are all choices of a generator.
    pub words: fn() -> Vec<Word>,
}

/// All targets of this crate.
pub const TARGETS: [Target; 8] = [
    Target { name: "decode", run: decode::run, seeds: decode::seeds, words: decode::words },
    Target { name: "text", run: text::run, seeds: text::seeds, words: text::words },
    Target { name: "object", run: object::run, seeds: object::seeds, words: object::words },
    Target { name: "stream", run: stream::run, seeds: stream::seeds, words: decode::words },
    Target { name: "program", run: program::run, seeds: program::seeds, words: Vec::new },
    Target { name: "scenario", run: scenario::run, seeds: scenario::seeds, words: Vec::new },
    Target { name: "maps", run: maps::run, seeds: maps::seeds, words: Vec::new },
    Target { name: "helpers", run: helpers::run, seeds: helpers::seeds, words: Vec::new },
];

/// Inputs for targets whose bytes are choices of a generator: this many of each length, at random.
fn random_seeds(count: u64, len: usize) -> Vec<Vec<u8>> {
    let bytes = |seed| {
        let mut rng = Rng::new(seed);
        // The first bytes count, so that each kind of knobs gets its seeds.
        std::iter::once(seed as u8).chain((1..len).map(|_| rng.next_u64() as u8)).collect()
    };
    (0..count).map(bytes).collect()
}
