//! Programs that return.

use expect_test::expect;

use crate::{check, check_file, scratch, softbpf, stdout, transcript, with_input};

/// An Ethernet, IPv4 and TCP header; the flags say SYN and the port is 80.
const SYN: &str = "001122334455 66778899aabb 0800 \
    45000028 00000000 40060000 0a000001 0a000002 \
    30390050 00000000 00000000 50020000 00000000";

#[test]
fn a_kprobe_deletes_an_element() {
    for object in ["tracex4_kern.o", "tracex4.bpf.o"] {
        let key = "my_map=0xffff9637e3175cc0:5";
        let with = ["run", object, "bpf_prog1", "--map", key, "--ctx", "parm2=0xffff9637e3175cc0"];
        assert!(stdout(&with).contains("map my_map (hash): 0 elements"), "{object}");
        let with = ["run", object, "bpf_prog1", "--map", key, "--ctx", "parm2=1"];
        assert!(stdout(&with).contains("map my_map (hash): 1 element\n"), "{object}");
    }
}

#[test]
fn a_kretprobe_inserts_an_element() {
    let world = ["--time", "7000", "--mem", "0xffffc90000000008=8877665544332211"];
    let context = ["--ctx", "ret=0xffff9637e3175cc0,bp=0xffffc90000000000"];
    check(
        &[&["run", "tracex4.bpf.o", "bpf_prog2"], &world[..], &context].concat(),
        expect![[r#"
        program       bpf_prog2 (kprobe)
        returned      0 (0x0)
        instructions  23

        map my_map (hash): 1 element
        key: c0 5c 17 e3 37 96 ff ff  value: 58 1b 00 00 00 00 00 00 88 77 66 55 44 33 22 11
          18446627765510167744: {"time": 7000, "ip": 1234605616436508552}
    "#]],
    );
    check(
        &[&["run", "tracex4_kern.o", "bpf_prog2"], &world[..], &context].concat(),
        expect![[r#"
        program       bpf_prog2 (kprobe)
        returned      0 (0x0)
        instructions  23

        map my_map (hash): 1 element
        key: c0 5c 17 e3 37 96 ff ff  value: 58 1b 00 00 00 00 00 00 88 77 66 55 44 33 22 11
    "#]],
    );
}

#[test]
fn settings_choose_the_path() {
    let off = ["run", "readlinkat.bpf.o", "--tgid", "42", "--pid", "43", "--map", "records=43:0"];
    assert!(stdout(&off).contains("map stacks (stack_trace): 0 elements"));
    let other = [&off[..], &["--set", "filter_on=1", "--set", "filter_tgid=41"]].concat();
    assert!(stdout(&other).contains("map stacks (stack_trace): 0 elements"));
    let on = [&off[..], &["--set", "filter_on=1", "--set", ".rodata+4:4=42", "--stack", "0xffffffff81000000,0x2"]];
    check(
        &on.concat(),
        expect![[r#"
        program       trace_readlinkat (kprobe)
        returned      0 (0x0)
        instructions  42

        map records (hash): 1 element
        key:
        2b 00 00 00
        value:
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  53 02 00 00 a1 03 00 00
          43: {"entered_at": 0, "left_at": 0, "number": 0, "result": 0, "tgid": 0, "tid": 0, "kernel_stack": 595, "user_stack": 929}

        map stacks (stack_trace): 2 elements
        key: 53 02 00 00  stack:
          0xffffffff81000000
          0x2
        key: a1 03 00 00  stack:
          0x555555555010
          0x555555556020
          0x555555557030
    "#]],
    );
    let mocked = [&off[..], &["--set", "filter_on=1", "--set", "filter_tgid=42", "--mock", "get_stackid=-14"]];
    assert!(stdout(&mocked.concat()).contains("\"kernel_stack\": 0, \"user_stack\": 0"));
}

#[test]
fn tail_calls_and_perf_events() {
    check(
        &["run", "tailcall.bpf.o", "open_enter", "--ctx", "parm1=5,parm3=6", "--cpus", "2", "--cpu", "1"],
        expect![[r#"
            program       open_enter (kprobe)
            returned      2 (0x2)
            instructions  43

            map programs (prog_array): 1 element
            key: 01 00 00 00  value: open_report

            map myself (prog_array): 1 element
            key: 00 00 00 00  value: spin

            map scratch (percpu_array): 1 element
            key:
            00 00 00 00
            value (CPU 00): 00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
            value (CPU 01): 05 00 00 00 00 00 00 00  06 00 00 00 03 00 00 00
              0: [{"path": 0, "flags": 0, "visited": 0}, {"path": 5, "flags": 6, "visited": 3}]

            map counters (array): 3 elements
            key: 00 00 00 00  value: 00 00 00 00 00 00 00 00
              0: 0
            key: 01 00 00 00  value: 00 00 00 00 00 00 00 00
              1: 0
            key: 02 00 00 00  value: 00 00 00 00 00 00 00 00
              2: 0

            event 0: map events, CPU 1, 16 bytes
              0000  05 00 00 00 00 00 00 00  06 00 00 00 03 00 00 00  |................|
        "#]],
    );
    let spin = stdout(&["run", "tailcall.bpf.o", "spin"]);
    assert!(spin.contains("  0: 34\n") && spin.contains("  1: 1\n"), "{spin}");
    let other = stdout(&["run", "tailcall.bpf.o", "open_enter", "--map", "programs=1:spin"]);
    assert!(other.contains("returned      3 (0x3)"), "{other}");
}

#[test]
fn packets_are_counted_and_dropped() {
    check(
        &["run", "xdp_count.bpf.o", "--packet", SYN, "--cpus", "1"],
        expect![[r#"
        program       xdp_count (xdp)
        returned      2 (0x2), XDP_PASS
        instructions  52

        map counters (percpu_array): 4 elements
        key:
        00 00 00 00
        value (CPU 00): 00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
          0: {"packets": 0, "bytes": 0}
        key:
        01 00 00 00
        value (CPU 00): 00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
          1: {"packets": 0, "bytes": 0}
        key:
        02 00 00 00
        value (CPU 00): 01 00 00 00 00 00 00 00  36 00 00 00 00 00 00 00
          2: {"packets": 1, "bytes": 54}
        key:
        03 00 00 00
        value (CPU 00): 00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
          3: {"packets": 0, "bytes": 0}
    "#]],
    );
    let dropped = stdout(&["run", "xdp_count.bpf.o", "--packet", SYN, "--set", "blocked_port=80"]);
    assert!(dropped.contains("returned      1 (0x1), XDP_DROP"), "{dropped}");
    assert!(stdout(&["run", "xdp_count.bpf.o"]).contains("XDP_PASS"));
}

#[test]
fn per_cpu_maps_are_filled_on_every_cpu() {
    let args = ["run", "xdp_count.bpf.o", "--packet", SYN, "--cpus", "2", "--cpu", "1"];
    let counted =
        stdout(&[&args[..], &["--map", "counters=2:hex:05 00 00 00 00 00 00 00 09 00 00 00 00 00 00 00"]].concat());
    assert!(counted.contains("  2: [{\"packets\": 5, \"bytes\": 9}, {\"packets\": 6, \"bytes\": 63}]"), "{counted}");
}

#[test]
fn a_tracepoint_by_the_members_of_its_context() {
    check(
        &[
            "run",
            "events.bpf.o",
            "--cpus",
            "1",
            "--ctx",
            "dfd=-100,filename=0x7fff00001000",
            "--comm",
            "sshd",
            "--mem",
            "0x7fff00001000=2f6574632f70617373776400",
            "--tgid",
            "42",
            "--pid",
            "43",
            "--uid",
            "1000",
            "--gid",
            "100",
            "--seed",
            "1",
        ],
        expect![[r#"
            program       on_openat (tracepoint)
            returned      0 (0x0)
            instructions  86

            map last_seen (lru_hash): 1 element
            key: 2b 00 00 00  value: 00 ca 9a 3b 00 00 00 00
              43: 1000000000

            map totals (percpu_hash): 1 element
            key:
            e8 03 00 00
            value (CPU 00): 01 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
              1000: {"events": 1, "failures": 0}

            event 0: map events, 112 bytes
              0000  2a 00 00 00 2b 00 00 00  e8 03 00 00 64 00 00 00  |*...+.......d...|
              0010  00 00 00 00 ec 2d 0a 91  0c 00 00 00 00 00 00 00  |.....-..........|
              0020  73 73 68 64 00 00 00 00  00 00 00 00 00 00 00 00  |sshd............|
              0030  2f 65 74 63 2f 70 61 73  73 77 64 00 00 00 00 00  |/etc/passwd.....|
              0040  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
              0050  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
              0060  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|

            printk
              openat by 43 on cpu 0
        "#]],
    );
}

#[test]
fn the_packet_is_shown_when_it_changed() {
    let program = b"r2 = *(u32 *)(r1 + 0)\n*(u8 *)(r2 + 1) = 7\nr0 = 3\nexit\n";
    check_file(
        "change.s",
        program,
        &["run", "FILE", "--type", "xdp", "--packet", "00 01 02"],
        expect![[r#"
        program       main (xdp)
        returned      3 (0x3), XDP_TX
        instructions  4

        packet changed, 3 bytes
          0000  00 07 02                                          |...|
    "#]],
    );
    check_file(
        "same.s",
        b"r0 = -22\nexit\n",
        &["run", "FILE", "--packet", "00 01 02"],
        expect![[r#"
        program       main (unspec)
        returned      18446744073709551594 (0xffffffffffffffea), -22: -EINVAL
        instructions  2
    "#]],
    );
}

#[test]
fn text_and_bytecode_run_from_a_pipe() {
    let text = with_input(&["run", "-", "--ctx", "parm1=4"], b"r0 = *(u64 *)(r1 + 112)\nexit");
    expect![[r#"
        program       main (unspec)
        returned      4 (0x4)
        instructions  2
    "#]]
    .assert_eq(&transcript(&text));
    let bytecode = with_input(&["run", "-"], &[0xb7, 0, 0, 0, 5, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]);
    assert!(transcript(&bytecode).contains("returned      5 (0x5)"));
    let object = std::fs::read(crate::fixtures().join("xdp_count.bpf.o")).unwrap();
    assert!(transcript(&with_input(&["run", "-"], &object)).contains("XDP_PASS"));
}

#[test]
fn text_uses_maps_that_the_command_line_declares() {
    let program = b"*(u32 *)(r10 - 4) = 1\nr2 = r10\nr2 += -4\nr1 = counts ll\ncall bpf_map_lookup_elem\n\
        if r0 == 0 goto out\nr1 = *(u64 *)(r0 + 0)\nr1 += 1\n*(u64 *)(r0 + 0) = r1\nr0 = r1\nout:\nexit\n";
    check_file(
        "maps.s",
        program,
        &["run", "FILE", "--create", "counts=array:4:8:30", "--repeat", "3"],
        expect![[r#"
        program       main (unspec)
        returned      3 (0x3)
        runs          3
        instructions  33

        map counts (array): 30 elements
        key: 00 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 01 00 00 00  value: 03 00 00 00 00 00 00 00
        key: 02 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 03 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 04 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 05 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 06 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 07 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 08 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 09 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 0a 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 0b 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 0c 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 0d 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 0e 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 0f 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 10 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 11 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 12 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 13 00 00 00  value: 00 00 00 00 00 00 00 00
        ... and 10 more (--entries)
    "#]],
    );
}

/// Nobody waits for four thousand million slots.
#[test]
fn of_a_huge_map_only_what_is_shown_is_read() {
    let create = ["--create", "progs=prog_array:4:4:4294967295", "--create", "counts=array:4:8:134217728"];
    let rest = ["--map", "progs=4294967280:main", "--entries", "2"];
    check_file(
        "huge.s",
        b"r0 = 0\nexit\n",
        &[&["run", "FILE"], &create[..], &rest].concat(),
        expect![[r#"
        program       main (unspec)
        returned      0 (0x0)
        instructions  2

        map progs (prog_array): 1 element
        key: f0 ff ff ff  value: main

        map counts (array): 134217728 elements
        key: 00 00 00 00  value: 00 00 00 00 00 00 00 00
        key: 01 00 00 00  value: 00 00 00 00 00 00 00 00
        ... and 134217726 more (--entries)
    "#]],
    );
}

/// As text these would be several gigabytes.
#[test]
fn values_are_shown_up_to_a_size() {
    let args = ["run", "FILE", "--create", "large=array:4:1073741824:2"];
    check_file(
        "large.s",
        b"r0 = 0\nexit\n",
        &args,
        expect![[r#"
        program       main (unspec)
        returned      0 (0x0)
        instructions  2

        map large (array): 2 elements
        ... and 2 more, too large to show
    "#]],
    );
}

#[test]
fn a_trace_shows_changed_registers() {
    let program = b"r1 = 5\ncall pc+2\nr0 += 1\nexit\nr0 = r1\nexit\n";
    check_file(
        "trace.s",
        program,
        &["run", "FILE", "--trace"],
        expect![[r#"
        program       main (unspec)
        returned      6 (0x6)
        instructions  6
        --- standard error
        main     0: r1 = 0x5                                     r1=0x5
        main     1: call pc+0x2                                  r10=0xffc00
        main     4:   r0 = r1                                    r0=0x5
        main     5:   exit                                       r10=0x100000
        main     2: r0 += 0x1                                    r0=0x6
        main     3: exit
    "#]],
    );
    check_file(
        "trace-json.s",
        program,
        &["run", "FILE", "--trace", "--json"],
        expect![[r#"
        {
          "program": "main",
          "type": "unspec",
          "engine": "interpreter",
          "return": 6,
          "meaning": null,
          "trap": null,
          "runs": 1,
          "instructions": 6,
          "maps": [],
          "events": [],
          "printk": [],
          "context": "",
          "packet": null,
          "trace": [
            {
              "program": "main",
              "slot": 0,
              "depth": 0,
              "instruction": "r1 = 0x5",
              "changed": {
                "r1": 5
              }
            },
            {
              "program": "main",
              "slot": 1,
              "depth": 0,
              "instruction": "call pc+0x2",
              "changed": {
                "r10": 1047552
              }
            },
            {
              "program": "main",
              "slot": 4,
              "depth": 1,
              "instruction": "r0 = r1",
              "changed": {
                "r0": 5
              }
            },
            {
              "program": "main",
              "slot": 5,
              "depth": 1,
              "instruction": "exit",
              "changed": {
                "r10": 1048576
              }
            },
            {
              "program": "main",
              "slot": 2,
              "depth": 0,
              "instruction": "r0 += 0x1",
              "changed": {
                "r0": 6
              }
            },
            {
              "program": "main",
              "slot": 3,
              "depth": 0,
              "instruction": "exit",
              "changed": {}
            }
          ],
          "trace_cut": false
        }
    "#]],
    );
}

#[test]
fn json_says_the_same() {
    check(
        &["run", "tailcall.bpf.o", "open_enter", "--cpus", "1", "--engine", "interpreter", "--json"],
        expect![[r#"
            {
              "program": "open_enter",
              "type": "kprobe",
              "engine": "interpreter",
              "return": 2,
              "meaning": null,
              "trap": null,
              "runs": 1,
              "instructions": 43,
              "maps": [
                {
                  "name": "programs",
                  "type": "prog_array",
                  "count": 1,
                  "elements": [
                    {
                      "key": "01000000",
                      "program": "open_report"
                    }
                  ]
                },
                {
                  "name": "myself",
                  "type": "prog_array",
                  "count": 1,
                  "elements": [
                    {
                      "key": "00000000",
                      "program": "spin"
                    }
                  ]
                },
                {
                  "name": "scratch",
                  "type": "percpu_array",
                  "count": 1,
                  "elements": [
                    {
                      "key": "00000000",
                      "values": [
                        "00000000000000000000000003000000"
                      ],
                      "formatted": {
                        "key": 0,
                        "values": [
                          {
                            "path": 0,
                            "flags": 0,
                            "visited": 3
                          }
                        ]
                      }
                    }
                  ]
                },
                {
                  "name": "counters",
                  "type": "array",
                  "count": 3,
                  "elements": [
                    {
                      "key": "00000000",
                      "value": "0000000000000000",
                      "formatted": {
                        "key": 0,
                        "values": [
                          0
                        ]
                      }
                    },
                    {
                      "key": "01000000",
                      "value": "0000000000000000",
                      "formatted": {
                        "key": 1,
                        "values": [
                          0
                        ]
                      }
                    },
                    {
                      "key": "02000000",
                      "value": "0000000000000000",
                      "formatted": {
                        "key": 2,
                        "values": [
                          0
                        ]
                      }
                    }
                  ]
                }
              ],
              "events": [
                {
                  "map": "events",
                  "cpu": 0,
                  "data": "00000000000000000000000003000000"
                }
              ],
              "printk": [],
              "context": "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
              "packet": null
            }
        "#]],
    );
    let args = ["run", "faults.bpf.o", "past_map_value", "--engine", "interpreter", "--json"];
    check(
        &args,
        expect![[r#"
            {
              "program": "past_map_value",
              "type": "kprobe",
              "engine": "interpreter",
              "return": null,
              "meaning": null,
              "trap": {
                "message": "invalid read of 1 byte at 0x40000010: out of bounds",
                "help": "values of this map have 16 bytes: is an index or offset checked?",
                "program": "past_map_value",
                "function": "past_map_value",
                "slot": 10,
                "instruction": "w0 = *(u8 *)(r1 + 0x10)",
                "line": {
                  "file": "./faults.bpf.c",
                  "line": 25,
                  "column": 9,
                  "text": "\treturn *(volatile u8 *)(value + 16);"
                },
                "registers": [
                  4294967295,
                  1073741824,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  1048576
                ],
                "callers": [],
                "address": 1073741840,
                "nearest": {
                  "object": "value of map table",
                  "index": 0,
                  "start": 1073741824,
                  "size": 16,
                  "distance": 1
                }
              },
              "runs": 1,
              "instructions": 10,
              "maps": [
                {
                  "name": "table",
                  "type": "array",
                  "count": 2,
                  "elements": [
                    {
                      "key": "00000000",
                      "value": "00000000000000000000000000000000",
                      "formatted": {
                        "key": 0,
                        "values": [
                          [
                            0,
                            0
                          ]
                        ]
                      }
                    },
                    {
                      "key": "01000000",
                      "value": "00000000000000000000000000000000",
                      "formatted": {
                        "key": 1,
                        "values": [
                          [
                            0,
                            0
                          ]
                        ]
                      }
                    }
                  ]
                }
              ],
              "events": [],
              "printk": [],
              "context": "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
              "packet": null
            }
            --- status 1
        "#]],
    );
}

#[test]
fn the_engine_can_be_chosen() {
    check_file(
        "engine.s",
        b"r0 = 1\nexit\n",
        &["run", "FILE", "--engine", "interpreter"],
        expect![[r#"
        program       main (unspec)
        returned      1 (0x1)
        instructions  2
    "#]],
    );
}

#[test]
fn the_engine_that_ran_is_named() {
    let engine = |more: &[&str]| {
        let text = stdout(&[&["run", "tailcall.bpf.o", "open_enter", "--json"], more].concat());
        let line = text.lines().find_map(|line| line.trim().strip_prefix("\"engine\": ")).unwrap();
        line.trim_end_matches(',').trim_matches('"').to_owned()
    };
    let jit = softbpf_jit::engine();
    let auto = if jit.is_ok() { "jit" } else { "interpreter" };
    assert_eq!(engine(&["--engine", "interpreter"]), "interpreter");
    assert_eq!(engine(&[]), auto);
    assert_eq!(engine(&["--engine", "auto"]), auto);
    match jit {
        Ok(_) => {
            assert_eq!(engine(&["--engine", "jit"]), "jit");
            assert_eq!(engine(&["--engine", "jit", "--trace"]), "interpreter");
            assert_eq!(engine(&["--engine", "jit", "--strict"]), "interpreter");
        }
        Err(error) => {
            let args = ["run", "tailcall.bpf.o", "open_enter", "--engine", "jit"];
            let said = transcript(&softbpf(&args).output().unwrap());
            assert_eq!(said, format!("--- standard error\nerror: {error}\n--- status 2\n"));
        }
    }
}

#[test]
fn perf_is_told_of_programs() {
    let folder = scratch("perf");
    let args = ["run", "tailcall.bpf.o", "open_enter", "--perf", "jitdump", "--perf-dir", folder.to_str().unwrap()];
    let output = softbpf(&args).output().unwrap();
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for file in &files {
        std::fs::remove_file(file).unwrap();
    }
    if output.status.success() {
        let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
        assert!(matches!(names[..], [name] if name.starts_with("jit-") && name.ends_with(".dump")), "{names:?}");
    } else {
        let why = softbpf_jit::engine_with(softbpf_jit::Config {
            perf: softbpf_jit::Perf::JitDump { directory: folder },
            ..softbpf_jit::Config::default()
        });
        assert_eq!(transcript(&output), format!("--- standard error\nerror: {}\n--- status 2\n", why.unwrap_err()));
    }
}
