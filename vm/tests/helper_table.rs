//! The helper table against itself and against the headers of this machine.

use softbpf::helpers::table::{self, ArgKind, HelperRow, RetKind};

fn row(name: &str) -> &'static HelperRow {
    table::by_name(name).unwrap_or_else(|| panic!("no helper {name}"))
}

#[test]
fn numbers_are_dense_and_both_lookups_find_every_row() {
    assert_eq!(table::all().len(), 211);
    for (row, number) in table::all().iter().zip(1..) {
        assert_eq!(row.number, number, "{}", row.name);
        assert_eq!(table::by_number(number), Some(row));
        // Fails for the second of two rows with one name.
        assert_eq!(table::by_name(row.name), Some(row));
        assert_eq!(table::by_name(&format!("bpf_{}", row.name)), Some(row));
    }
}

#[test]
fn unknown_helpers_are_none() {
    for number in [i32::MIN, -1, 0, 212, i32::MAX] {
        assert_eq!(table::by_number(number), None, "{number}");
    }
    for name in ["", "bpf_", "unspec", "bpf_bpf_loop", "map_lookup", "MAP_LOOKUP_ELEM"] {
        assert_eq!(table::by_name(name), None, "{name}");
    }
}

#[test]
fn memory_is_followed_by_its_size_and_sizes_follow_memory() {
    let takes_size = |kind: &ArgKind| {
        use ArgKind::{InOutMem, Mem, MemOrNull, UninitMem, UninitMemOrNull};
        matches!(kind, Mem | MemOrNull | InOutMem | UninitMem | UninitMemOrNull)
    };
    let is_size = |kind: &ArgKind| matches!(kind, ArgKind::Size | ArgKind::SizeOrZero);
    for row in table::all() {
        assert!(row.args.len() <= 5, "{}", row.name);
        assert!(!row.args.first().is_some_and(is_size), "{}", row.name);
        assert!(!row.args.last().is_some_and(takes_size), "{}", row.name);
        for pair in row.args.windows(2) {
            assert_eq!(takes_size(&pair[0]), is_size(&pair[1]), "{}: {pair:?}", row.name);
        }
    }
}

#[test]
fn null_memory_may_have_size_zero() {
    for row in table::all() {
        for pair in row.args.windows(2) {
            if matches!(pair[0], ArgKind::MemOrNull | ArgKind::UninitMemOrNull) {
                assert_eq!(pair[1], ArgKind::SizeOrZero, "{}", row.name);
            }
        }
    }
}

#[test]
fn keys_and_values_come_after_their_map() {
    use ArgKind::{Map, MapKey, MapValue, MapValueOrNull, MapValueUninit};
    for row in table::all() {
        let of_map = |kind: &ArgKind| matches!(kind, MapKey | MapValue | MapValueOrNull | MapValueUninit);
        if let Some(first) = row.args.iter().position(of_map) {
            assert!(row.args[..first].contains(&Map), "{}", row.name);
        }
    }
}

#[test]
fn returned_memory_has_a_size_argument() {
    for row in table::all() {
        let sized = row.args.contains(&ArgKind::AllocSize);
        assert_eq!(row.ret == RetKind::MemOrNull, sized, "{}", row.name);
    }
}

#[test]
fn rows_are_as_the_kernel_declares_them() {
    use ArgKind::{Address, Context, Function, Map, MapKey, Mem, Scalar, Size, SizeOrZero, StackOrNull};
    use ArgKind::{UninitFixedMem, UninitMem};
    let check = |number: i32, name: &str, args: &[ArgKind], ret: RetKind| {
        let row = row(name);
        assert_eq!((row.number, row.args, row.ret), (number, args, ret), "{name}");
    };
    check(1, "map_lookup_elem", &[Map, MapKey], RetKind::MapValueOrNull);
    check(4, "probe_read", &[UninitMem, SizeOrZero, Address], RetKind::Errno);
    check(6, "trace_printk", &[Mem, Size, Scalar, Scalar, Scalar], RetKind::Errno);
    check(12, "tail_call", &[Context, Map, Scalar], RetKind::Void);
    check(14, "get_current_pid_tgid", &[], RetKind::Scalar);
    check(25, "perf_event_output", &[Context, Map, Scalar, Mem, SizeOrZero], RetKind::Errno);
    check(105, "strtol", &[Mem, Size, Scalar, UninitFixedMem(8)], RetKind::Errno);
    check(181, "loop", &[Scalar, Function, StackOrNull, Scalar], RetKind::Errno);
}

/// The `FN` lists of `<linux/bpf.h>`: `FN(name)` counts up from 0, `FN(name, number, ...)` says it.
fn header_helpers(header: &str) -> Vec<(i32, String)> {
    let mut helpers = Vec::new();
    for line in header.lines() {
        let Some(rest) = line.trim_start().strip_prefix("FN(") else { continue };
        let Some((inside, _)) = rest.split_once(')') else { continue };
        let mut parts = inside.split(',').map(str::trim);
        let Some(name) = parts.next() else { continue };
        match parts.next().map(str::parse) {
            Some(Ok(number)) => helpers.push((number, name.to_owned())),
            Some(Err(_)) => {}
            None => helpers.push((i32::try_from(helpers.len()).unwrap(), name.to_owned())),
        }
    }
    helpers.retain(|(number, _)| *number > 0);
    helpers
}

#[test]
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn names_and_numbers_are_those_of_the_installed_header() {
    const HEADER: &str = "/usr/include/linux/bpf.h";
    let Ok(header) = std::fs::read_to_string(HEADER) else {
        eprintln!("skipped: {HEADER} is not installed");
        return;
    };
    // An older header ends earlier. A newer one has no more helpers: they are frozen.
    let helpers = header_helpers(&header);
    assert!(!helpers.is_empty(), "{HEADER} lists helpers in a form that this test does not know");
    for (number, name) in helpers {
        assert_eq!(table::by_number(number).map(|row| row.name), Some(name.as_str()), "{HEADER}: {number}");
    }
}
