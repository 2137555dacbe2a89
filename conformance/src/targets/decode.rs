//! Bytes to instructions and back: what decodes encodes to the same bytes, and the check of it ends.

use softbpf::codec::{Code, encode_one};

use super::{Word, instructions};
use crate::fixtures;

/// Decodes, encodes, checks.
///
/// # Panics
/// What was decoded encodes to other bytes.
pub fn run(bytes: &[u8]) {
    if let Ok(code) = Code::decode(bytes) {
        assert_eq!(code.encode().as_deref(), Ok(bytes));
        // An error value, never a panic.
        let _ = softbpf::check::check(&code);
    }
}

/// Each operation by itself, and every program of the fixtures.
pub fn seeds() -> Vec<Vec<u8>> {
    let alone = instructions::every_operation();
    let encoded = alone.iter().filter_map(|insn| Some(encode_one(insn).ok()?.to_vec()));
    encoded.chain(programs()).collect()
}

/// The bytes of every program of the fixtures.
pub(super) fn programs() -> Vec<Vec<u8>> {
    let objects = fixtures().into_iter().map(|(_, object)| object);
    let programs = objects.flat_map(|object| {
        let codes = (0..object.programs().len()).filter_map(|index| object.code_at(index)?.ok()?.encode().ok());
        codes.collect::<Vec<_>>()
    });
    programs.collect()
}

/// The first half of each operation's encoding: opcode, registers, offset; and the immediates that select operations.
pub fn words() -> Vec<Word> {
    let alone = instructions::every_operation();
    let heads = alone.iter().filter_map(|insn| Some(Word::bytes(encode_one(insn).ok()?.get(..4)?)));
    let tails = alone.iter().filter_map(|insn| Some(Word::bytes(encode_one(insn).ok()?.get(4..8)?)));
    super::dictionary::distinct(heads.chain(tails))
}
