//! `bpf_trace_printk`: the lines that programs print, and the formats that the kernel refuses.
//!
//! `bpf_snprintf` of Linux 6.18, which shares the code, printed the same and refused the same, but that it hashes `%p`
//! and `%pK`.

use softbpf::Outcome;
use softbpf::errno::Errno;
use softbpf::object::MAIN;
use softbpf_conformance::on_every_engine;
use softbpf_conformance::programs::program;

/// Where a string is in user memory, one in kernel memory, and one without an end.
const USER: u64 = 0x7ffd_0000_1000;
const KERNEL: u64 = 0xffff_8880_0000_1000;
const ENDLESS: u64 = 0xffff_8880_0000_2000;
/// Bytes 192, 0, 2, 1 and 12 zeros.
const ADDRESS: u64 = 0xffff_8880_0000_3000;
const NOTHING: u64 = 0xffff_8880_0000_4000;

/// Prints by a format, which lies in the context with all of its bytes.
#[track_caller]
fn print(format: &[u8], args: [u64; 3]) -> Outcome {
    let [a, b, c] = args;
    let text = format!("r3 = {a:#x} ll\n r4 = {b:#x} ll\n r5 = {c:#x} ll\n call trace_printk\n exit");
    let mut agreed = None;
    on_every_engine(&program(&text), |mut vm| {
        for (address, bytes) in [
            (USER, &b"user\0"[..]),
            (KERNEL, b"kernel\0"),
            (ENDLESS, b"endless"),
            (ADDRESS, &[192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            vm.place_at(address, "placed", bytes).unwrap_or_else(|error| panic!("{error}"));
        }
        let outcome = vm.run(MAIN, format).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(*agreed.get_or_insert_with(|| outcome.clone()), outcome);
    });
    agreed.unwrap_or_else(|| panic!("there are no engines"))
}

/// Checks lines: format without its NUL, first argument, the line.
#[track_caller]
fn assert_lines(cases: &[(&str, u64, &str)]) {
    for (format, arg, expected) in cases {
        let outcome = print(&[format.as_bytes(), &[0]].concat(), [*arg, 0, 0]);
        assert_eq!(outcome.printk, [*expected], "{format:?} of {arg:#x}");
        assert_eq!(outcome.ret, Ok(expected.len() as u64), "{format:?} of {arg:#x}");
    }
}

#[track_caller]
fn assert_refused(formats: &[&[u8]]) {
    for format in formats {
        let outcome = print(format, [0; 3]);
        assert_eq!((outcome.ret, outcome.printk), (Ok(Errno::EINVAL.ret()), Vec::new()), "{format:?}");
    }
}

#[test]
fn numbers_have_the_width_of_their_type() {
    const VALUE: u64 = 0xffff_fff0_ffff_fff6;
    assert_lines(&[
        ("%d", VALUE, "-10"),
        ("%i", VALUE, "-10"),
        ("%u", VALUE, "4294967286"),
        ("%x", VALUE, "fffffff6"),
        ("%X", VALUE, "FFFFFFF6"),
        ("%ld", VALUE, "-64424509450"),
        ("%lld", VALUE, "-64424509450"),
        ("%lu", VALUE, "18446744009285042166"),
        ("%llx", VALUE, "fffffff0fffffff6"),
        ("%ld", 1 << 63, "-9223372036854775808"),
    ]);
}

#[test]
fn flags_and_width_pad() {
    assert_lines(&[
        ("[%5d]", 42, "[   42]"),
        ("[%-5d]", 42, "[42   ]"),
        ("[%05d]", 42, "[00042]"),
        ("[%05d]", -42_i64 as u64, "[-0042]"),
        ("[%+d]", 42, "[+42]"),
        ("[% d]", 42, "[ 42]"),
        ("[%08lx]", 0xbeef, "[0000beef]"),
        ("[%2d]", 12345, "[12345]"),
        ("[%8s]", USER, "[    user]"),
        ("[%-8s]", USER, "[user    ]"),
        ("[%3c]", u64::from(b'x'), "[  x]"),
        ("[%05c]", u64::from(b'x'), "[    x]"),
        ("[%05s]", NOTHING, "[     ]"),
        ("%-05d|", 5, "5    |"),
        ("%+5d|", 5, "   +5|"),
        ("% 05d|", 5, " 0005|"),
        ("%+x|", 5, "5|"),
        ("%ldx", 5, "5x"),
        ("%cx", u64::from(b'a'), "ax"),
    ]);
}

#[test]
fn strings_are_read_where_they_are() {
    assert_lines(&[
        ("<%s>", USER, "<user>"),
        ("<%s>", KERNEL, "<kernel>"),
        ("<%pks>", KERNEL, "<kernel>"),
        ("<%pus>", USER, "<user>"),
        // What cannot be read to its end is empty.
        ("<%s>", ENDLESS, "<>"),
        ("<%s>", NOTHING, "<>"),
        ("<%s>", 0, "<>"),
    ]);
}

#[test]
fn pointers_print_as_16_digits_unless_a_width_is_given() {
    assert_lines(&[
        ("%p", 0xffff_8880_0000_1000, "ffff888000001000"),
        ("%px", 0x1234, "0000000000001234"),
        ("%pK.", 0x1234, "0000000000001234."),
        ("[%20px]", 0x1234, "[                1234]"),
        ("[%-20px]", 0x1234, "[1234                ]"),
        ("%05px|", 0x12, "00012|"),
        // There are no symbols.
        ("%ps", 0x1234, "0x1234"),
        ("%pB", 0x1234, "0x1234"),
    ]);
}

#[test]
fn addresses_print_as_the_network_writes_them() {
    assert_lines(&[
        ("%pI4", ADDRESS, "192.0.2.1"),
        ("%pi4", ADDRESS, "192.000.002.001"),
        ("%pI6", ADDRESS, "c000:0201:0000:0000:0000:0000:0000:0000"),
        ("%pi6", ADDRESS, "c0000201000000000000000000000000"),
        ("%pI4", NOTHING, "0.0.0.0"),
        ("[%16pI4]", NOTHING, "[0.0.0.0]"),
    ]);
}

#[test]
fn a_percent_sign_takes_no_argument() {
    assert_lines(&[("100%%", 0, "100%"), ("%d%%", 7, "7%"), ("%%d", 7, "%d")]);
}

#[test]
fn three_arguments_are_taken_in_order() {
    let outcome = print(b"%d %s %lx\0", [1, USER, 0xabc]);
    assert_eq!(outcome.printk, ["1 user abc"]);
    assert_refused(&[b"%d %d %d %d\0"]);
}

#[test]
fn a_newline_counts_but_is_not_kept() {
    let outcome = print(b"line\n\0", [0; 3]);
    assert_eq!((outcome.ret, outcome.printk), (Ok(5), vec!["line".to_owned()]));
}

#[test]
fn the_format_ends_at_its_first_nul() {
    let outcome = print(b"one\0two%", [0; 3]);
    assert_eq!((outcome.ret, outcome.printk), (Ok(3), vec!["one".to_owned()]));
}

#[test]
fn text_beyond_ascii_is_printed() {
    assert_lines(&[("naïve %d", 1, "naïve 1")]);
}

#[test]
fn a_line_is_cut_at_1023_bytes_but_counts_whole() {
    let outcome = print(b"%1000d%1000d\0", [1, 2, 0]);
    assert_eq!((outcome.ret, outcome.printk[0].len()), (Ok(2000), 1023));
}

#[test]
fn a_format_without_a_nul_is_refused() {
    assert_refused(&[b"abc", b"%"]);
}

#[test]
fn what_the_kernel_does_not_print_is_refused() {
    assert_refused(&[
        b"%\0", b"%o\0", b"%#x\0", b"%.3d\0", b"%*d\0", b"%f\0", b"%n\0", b"%hd\0", b"%zu\0", b"%l\0", b"%lls\0",
        b"%lp\0", b"%sx\0", b"%pZ\0", b"%pI5\0", b"%pk\0", b"\x01\0", b"\x7f\0",
    ]);
}
