//! No input makes softbpf panic or hang, and all engines agree on what it does.
//!
//! The counts are slices of what is asked of the product; the environment variables raise them:
//! `SOFTBPF_STREAMS=1000000 SOFTBPF_MUTATIONS=100000 cargo test --release -p softbpf-conformance --test hostile`.

use softbpf::Object;
use softbpf_conformance::{fixture_files, hostile, rng::Rng, streams};

/// Slots of the longest random stream.
const MAX_SLOTS: usize = 48;

fn count(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn random_streams_return_or_trap() {
    let (mut accepted, mut returned) = (0_u64, 0_u64);
    let streams = count("SOFTBPF_STREAMS", 20_000);
    for seed in 0..streams {
        let bytes = streams::stream(seed, MAX_SLOTS);
        let Some(object) = hostile::object(&bytes) else { continue };
        accepted += 1;
        let seen = hostile::run_all(&object);
        returned += u64::from(seen[0].outcomes.iter().any(|outcome| outcome.ret.is_ok()));
        for pair in seen.windows(2) {
            assert_eq!(pair[0], pair[1], "stream {seed}");
        }
    }
    // A generator whose programs are all refused, or all trap at once, would prove nothing.
    assert!(accepted * 4 > streams, "only {accepted} of {streams} streams are programs");
    assert!(returned * 50 > accepted, "only {returned} of {accepted} programs return");
}

#[test]
fn mutated_objects_load_or_are_refused() {
    let read = |path| std::fs::read(path).unwrap_or_else(|error| panic!("{error}"));
    let objects: Vec<Vec<u8>> = fixture_files().into_iter().map(read).collect();
    let mutations = count("SOFTBPF_MUTATIONS", 1_000);
    let mut parsed = 0_u64;
    for seed in 0..mutations {
        let mut rng = Rng::new(seed);
        let mut bytes = objects[rng.below(objects.len())].clone();
        mutate(&mut rng, &mut bytes);
        let Ok(object) = Object::parse(&bytes) else { continue };
        parsed += 1;
        for pair in hostile::run_all(&object).windows(2) {
            assert_eq!(pair[0], pair[1], "mutation {seed}");
        }
    }
    assert!(parsed * 10 > mutations, "only {parsed} of {mutations} mutated objects parse");
}

/// A few flipped, overwritten, removed or repeated bytes.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len());
        match rng.below(16) {
            0 => bytes.truncate(at),
            1 => {
                let end = (at + rng.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            2 => {
                let end = (at + rng.below(64)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            3..=7 => {
                for byte in bytes.iter_mut().skip(at).take(1 + rng.below(8)) {
                    *byte = rng.pick(&[0x00, 0x01, 0x7f, 0x80, 0xff]);
                }
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.below(8);
                }
            }
        }
    }
}
