//! Whatever the text, the parser ends in instructions or an error, in time proportional to its length.

use softbpf::text::parse::parse;

#[test]
fn every_beginning_of_a_listing_ends_in_instructions_or_an_error() {
    let texts = [include_str!("text_parse/readlinkat.txt"), &include_str!("text_xlated/atomics.xlated")[..2000]];
    for text in texts {
        for end in (0..text.len()).filter(|&end| text.is_char_boundary(end)) {
            let _ = parse(&text[..end]);
        }
    }
}

/// Pieces of texts, between tildes.
const PIECES: &str = "r1~w2~r0~r11~ = ~=~+=~s>>=~-~+~*~(~)~(u32 *)~(s8 *)~skb[~[~]~if~goto~call~kfunc~exit~lock~ll~0x~7~\
    18446744073709551616~-0x80000000~map[id:~map[~subprog[~be16~atomic_fetch_add(~cmpxchg_64(~load_acquire(~ld_pseudo~\
    ~ ~\n~\t~;~#~//~/*~*/~:~<~>~>:~b7 ~(18)~ü~\0~<unknown>~label~pc~95 00 00 00 00 00 00 00 ~\r\n~int f(void *):\n";

#[test]
fn noise_ends_in_instructions_or_an_error() {
    let pieces: Vec<_> = PIECES.split('~').collect();
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..50_000 {
        let text: String = (0..next(12)).map(|_| pieces[next(pieces.len())]).collect();
        let _ = parse(&text);
    }
}

#[test]
fn the_same_over_and_over_takes_time_in_proportion() {
    let pieces = PIECES.split('~').filter(|piece| !piece.is_empty());
    let lines = ["a:", "0 <a>:", "0 <", "/**/", "/*\n", "f(): ", "r0 = 0\n", "r0 = 0 ; x\n", "goto a\n", "r1 = a ll\n"];
    for text in pieces.chain(lines) {
        let text = text.repeat(20_000);
        for before in ["", "exit ", "exit ;", "r1 = ", "if r1 == ", "(18) "] {
            let _ = parse(&format!("{before}{text}"));
        }
    }
}

#[test]
fn many_labels_take_time_in_proportion() {
    let labels: String = (0..20_000).map(|label| format!("l{label}: ")).collect();
    assert_eq!(parse(&labels).unwrap().labels.len(), 20_000);
    let lines: String = (0..20_000).map(|label| format!("l{label}: goto l{label}\n")).collect();
    assert_eq!(parse(&lines).unwrap().code.slot_count(), 20_000);
}
