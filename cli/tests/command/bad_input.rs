//! Command lines and files that are refused, each with a message and status 2.

use std::process::Command;

use expect_test::{Expect, expect};

use crate::jited::there_is_a_jit;
use crate::{check, check_file, fixtures, scratch, softbpf, transcript};

/// `softbpf run OBJECT PROGRAM ...`
fn check_kprobe(args: &[&str], expected: Expect) {
    check(&[&["run", "tracex4_kern.o", "bpf_prog1"], args].concat(), expected);
}

#[test]
fn files() {
    check(
        &["run", "no-such-file.o"],
        expect![[r#"
        --- standard error
        error: no-such-file.o: No such file or directory (os error 2)
        --- status 2
    "#]],
    );
    check(
        &["run", "."],
        expect![[r#"
        --- standard error
        error: .: Is a directory (os error 21)
        --- status 2
    "#]],
    );
    check_file(
        "text.o",
        b"hello",
        &["show", "FILE"],
        expect![[r#"
        --- standard error
        error: text.o: not an ELF file; name assembly text .s, .asm or .txt and raw bytecode .bin
        --- status 2
    "#]],
    );
    check_file(
        "magic.o",
        b"\x7fELF",
        &["show", "FILE"],
        expect![[r#"
        --- standard error
        error: magic.o: not an ELF file
        --- status 2
    "#]],
    );
    check_file(
        "empty.bin",
        b"",
        &["run", "FILE"],
        expect![[r#"
        --- standard error
        error: empty.bin: program main: slot 0: the program is empty
        --- status 2
    "#]],
    );
    check_file(
        "zeros.bin",
        &[0; 12],
        &["run", "FILE"],
        expect![[r#"
        --- standard error
        error: zeros.bin: program main: slot 0: unknown opcode 0x00
        --- status 2
    "#]],
    );
    check_file(
        "falls.s",
        b"r0 = 1\n",
        &["run", "FILE"],
        expect![[r#"
        --- standard error
        error: falls.s: program main: slot 0: control falls off the end of the program
        --- status 2
    "#]],
    );
}

#[test]
fn damaged_objects() {
    let object = std::fs::read(fixtures().join("tracex4_kern.o")).unwrap();
    check_file(
        "cut.o",
        &object[..700],
        &["show", "FILE"],
        expect![[r#"
        --- standard error
        error: cut.o: the ELF file is cut off or damaged: Invalid ELF section header offset/size/alignment
        --- status 2
    "#]],
    );
    let mut other = object.clone();
    other[18] = 62;
    check_file(
        "machine.o",
        &other,
        &["show", "FILE"],
        expect![[r#"
        --- standard error
        error: machine.o: the ELF file is for x86-64, not for BPF
        --- status 2
    "#]],
    );
    let mut big = object;
    big[5] = 2;
    big[18..20].copy_from_slice(&[0, 247]);
    check_file(
        "big.o",
        &big,
        &["disasm", "FILE"],
        expect![[r#"
        --- standard error
        error: big.o: big-endian BPF objects are not supported
        --- status 2
    "#]],
    );
}

/// However an object is cut or changed, every command ends with a message or a result.
#[test]
fn no_bytes_make_it_panic() {
    let object = std::fs::read(fixtures().join("subprogs.bpf.o")).unwrap();
    let folder = scratch("no-panic");
    let path = folder.join("damaged.o");
    for step in 0..24 {
        let mut bytes = object.clone();
        if step % 2 == 0 {
            bytes.truncate(object.len() * step / 24);
        } else {
            bytes.iter_mut().skip(step).step_by(97 + step).for_each(|byte| *byte ^= 0x55);
            bytes[..20].copy_from_slice(&object[..20]);
        }
        std::fs::write(&path, bytes).unwrap();
        let file = path.to_str().unwrap();
        for args in [&["show", file][..], &["disasm", file], &["disasm", file, "--style", "xlated"], &["run", file]] {
            let status = softbpf(args).output().unwrap().status.code();
            assert!(matches!(status, Some(0..=2)), "{args:?}, step {step}: {status:?}");
        }
    }
}

#[test]
fn programs() {
    check(
        &["run", "tracex4_kern.o"],
        expect![[r#"
        --- standard error
        error: which program? There are: bpf_prog1, bpf_prog2
        --- status 2
    "#]],
    );
    check(
        &["run", "tracex4_kern.o", "bpf_prog3"],
        expect![[r#"
        --- standard error
        error: there is no program bpf_prog3; there are: bpf_prog1, bpf_prog2
        --- status 2
    "#]],
    );
    check(
        &["disasm", "tracex4_kern.o", "bpf_prog3"],
        expect![[r#"
        --- standard error
        error: there is no program bpf_prog3; there are: bpf_prog1, bpf_prog2
        --- status 2
    "#]],
    );
    check(
        &["disasm", "tracex4_kern.o", "bpf_prog3", "--linked"],
        expect![[r#"
        --- standard error
        error: there is no program bpf_prog3; there are: bpf_prog1, bpf_prog2
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--type", "kprob"],
        expect![[r#"
        --- standard error
        error: there is no program type kprob; there are: unspec, socket_filter, kprobe, sched_cls, sched_act, tracepoint, xdp, perf_event, cgroup_skb, cgroup_sock, lwt_in, lwt_out, lwt_xmit, sock_ops, sk_skb, cgroup_device, sk_msg, raw_tracepoint, cgroup_sock_addr, lwt_seg6local, lirc_mode2, sk_reuseport, flow_dissector, cgroup_sysctl, raw_tracepoint_writable, cgroup_sockopt, tracing, struct_ops, ext, lsm, sk_lookup, syscall, netfilter
        --- status 2
    "#]],
    );
}

#[test]
fn maps() {
    check_kprobe(
        &["--map", "my_map=hex:0102:5"],
        expect![[r#"
        --- standard error
        error: key for map my_map: expected 8 bytes, got 2
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--map", "my_map=1:hex:0102"],
        expect![[r#"
        --- standard error
        error: value for map my_map: expected 16 bytes, got 2
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--map", "other=1:5"],
        expect![[r#"
        --- standard error
        error: there is no map other; there are: my_map
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--map", "my_map=1"],
        expect![[r#"
        --- standard error
        error: invalid value 'my_map=1' for '--map <NAME=KEY:VALUE>': write NAME=KEY:VALUE, where KEY and VALUE are numbers or hex:BYTES

        For more information, try '--help'.
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--map", "my_map=x:1"],
        expect![[r#"
        --- standard error
        error: invalid value 'my_map=x:1' for '--map <NAME=KEY:VALUE>': "x" is not a number: write 42, -42, 0x2a or 0b101010

        For more information, try '--help'.
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--create", "m=array:4:4:1"],
        expect![[r#"
        --- standard error
        error: tracex4_kern.o: --create is for assembly text; this object has maps of its own, or cannot name any
        --- status 2
    "#]],
    );
    check(
        &["run", "tailcall.bpf.o", "spin", "--map", "programs=1:nope"],
        expect![[r#"
        --- standard error
        error: there is no program nope; there are: open_report, spin, open_enter
        --- status 2
    "#]],
    );
    check(
        &["run", "tailcall.bpf.o", "spin", "--map", "programs=9:spin"],
        expect![[r#"
        --- standard error
        error: map programs has 4 elements at most: -E2BIG
        --- status 2
    "#]],
    );
    check(
        &["run", "tailcall.bpf.o", "spin", "--map", "counters=0x100000000:1"],
        expect![[r#"
        --- standard error
        error: key for map counters: 4294967296 does not fit into 4 bytes
        --- status 2
    "#]],
    );
    check_file(
        "kinds.s",
        b"exit\n",
        &["run", "FILE", "--create", "m=lpm_trie:8:4:1"],
        expect![[r#"
        --- standard error
        error: map m (lpm_trie): map type lpm_trie is not implemented yet
        --- status 2
    "#]],
    );
    check_file(
        "sizes.s",
        b"exit\n",
        &["run", "FILE", "--create", "m=array:8:4:1"],
        expect![[r#"
        --- standard error
        error: map m (array): the key size is 8 bytes, must be 4
        --- status 2
    "#]],
    );
}

#[test]
fn contexts() {
    check_kprobe(
        &["--ctx", "parm7=1"],
        expect![[r#"
        --- standard error
        error: no field parm7 in the context of kprobe programs; there are: parm1, parm2, parm3, parm4, parm5, parm6, ret, r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--ctx", "parm1=zz"],
        expect![[r#"
        --- standard error
        error: invalid value 'parm1=zz' for '--ctx <FIELD=VALUE>': "zz" is not a number: write 42, -42, 0x2a or 0b101010

        For more information, try '--help'.
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--ctx", "parm1"],
        expect![[r#"
        --- standard error
        error: invalid value 'parm1' for '--ctx <FIELD=VALUE>': write FIELD=VALUE

        For more information, try '--help'.
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--ctx-hex", "0g"],
        expect![[r#"
        --- standard error
        error: invalid value '0g' for '--ctx-hex <HEX>': 'g' is not a hexadecimal digit

        For more information, try '--help'.
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--ctx-hex", "000"],
        expect![[r#"
        --- standard error
        error: invalid value '000' for '--ctx-hex <HEX>': an odd number of hexadecimal digits (3): two are a byte

        For more information, try '--help'.
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--packet", "00"],
        expect![[r#"
        --- standard error
        error: kprobe programs take no packet
        --- status 2
    "#]],
    );
    check(
        &["run", "xdp_count.bpf.o", "--ctx", "mark=1"],
        expect![[r#"
        --- standard error
        error: no field mark in the context of xdp programs; there are: ifindex, queue
        --- status 2
    "#]],
    );
    check(
        &["run", "xdp_count.bpf.o", "--ctx", "queue=0x100000000"],
        expect![[r#"
        --- standard error
        error: field queue: 4294967296 does not fit into 4 bytes
        --- status 2
    "#]],
    );
    check(
        &["run", "events.bpf.o", "--ctx", "file=1"],
        expect![[r#"
        --- standard error
        error: no field file in the context of tracepoint programs; there are: common_type, common_flags, common_preempt_count, common_pid, syscall_nr, pad, dfd, filename, flags, mode
        --- status 2
    "#]],
    );
    check(
        &["run", "events.bpf.o", "--ctx", "common_type=65536"],
        expect![[r#"
        --- standard error
        error: field common_type: 65536 does not fit into 2 bytes
        --- status 2
    "#]],
    );
    check_file(
        "fields.s",
        b"exit\n",
        &["run", "FILE", "--type", "tracepoint", "--ctx", "a=1"],
        expect![[r#"
        --- standard error
        error: the context of tracepoint programs has no fields here: give its bytes by --ctx-hex or --ctx-file
        --- status 2
    "#]],
    );
}

#[test]
fn variables() {
    let xdp = ["run", "xdp_count.bpf.o", "--set"];
    check(
        &[&xdp[..], &["port=1"]].concat(),
        expect![[r#"
        --- standard error
        error: there is no variable port; there are: blocked_port
        --- status 2
    "#]],
    );
    check(
        &[&xdp[..], &["blocked_port=70000"]].concat(),
        expect![[r#"
        --- standard error
        error: variable blocked_port: 70000 does not fit into 2 bytes
        --- status 2
    "#]],
    );
    check(
        &[&xdp[..], &[".rodata+1:4=1"]].concat(),
        expect![[r#"
        --- standard error
        error: variable .rodata+1: bytes 1 to 5 lie outside of .rodata, which has 2
        --- status 2
    "#]],
    );
    check(
        &[&xdp[..], &[".bss+0:4=1"]].concat(),
        expect![[r#"
        --- standard error
        error: there is no map .bss; there are: counters, .rodata
        --- status 2
    "#]],
    );
}

#[test]
fn worlds() {
    check_kprobe(
        &["--cpu", "4"],
        expect![[r#"
        --- standard error
        error: CPU 4 of --cpu is not one of the 4 that the machine has (--cpus)
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--cpus", "0"],
        expect![[r#"
        --- standard error
        error: a machine needs at least one CPU and at most 1024
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--mem", "0x1000=00"],
        expect![[r#"
        --- standard error
        error: --mem: 1 byte cannot be placed at 0x1000: addresses must be free and at least 2^32
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--mock", "no_such_helper=1"],
        expect![[r#"
        --- standard error
        error: --mock: there is no helper no_such_helper; write one of the kernel's names, or a number
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--engine", "interpreter", "--perf", "map"],
        expect![[r#"
        --- standard error
        error: --perf: the interpreter has no code that perf could name
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--perf", "map", "--perf-dir", "there"],
        expect![[r#"
        --- standard error
        error: --perf-dir: perf looks for the map in /tmp and nowhere else; the folder is that of --perf jitdump
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--repeat", "0"],
        expect![[r#"
        --- standard error
        error: --repeat: a program runs at least once
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--pid", "-1"],
        expect![[r#"
        --- standard error
        error: unexpected argument '-1' found

          tip: to pass '-1' as a value, use '-- -1'

        Usage: softbpf run [OPTIONS] <OBJECT> [PROGRAM]

        For more information, try '--help'.
        --- status 2
    "#]],
    );
    check_kprobe(
        &["--pid=-1"],
        expect![[r#"
        --- standard error
        error: invalid value '-1' for '--pid <N>': -1 does not fit into 4 bytes

        For more information, try '--help'.
        --- status 2
    "#]],
    );
}

#[test]
fn usage() {
    check(
        &["dance"],
        expect![[r#"
        --- standard error
        error: unrecognized subcommand 'dance'

        Usage: softbpf <COMMAND>

        For more information, try '--help'.
        --- status 2
    "#]],
    );
    check(
        &["run"],
        expect![[r#"
        --- standard error
        error: the following required arguments were not provided:
          <OBJECT>

        Usage: softbpf run <OBJECT> [PROGRAM]

        For more information, try '--help'.
        --- status 2
    "#]],
    );
}

/// Where the host grants less address space than guest memory has, nobody is told that the JIT has run.
#[test]
#[cfg(target_os = "linux")]
fn a_host_with_little_memory() {
    if !there_is_a_jit() {
        return;
    }
    let within = |kib: u32, args: &str| {
        let mut shell = Command::new("sh");
        let command = format!("ulimit -v {kib} && exec {} {args}", env!("CARGO_BIN_EXE_softbpf"));
        transcript(&shell.arg("-c").arg(command).current_dir(fixtures()).output().expect("sh starts"))
    };
    let limited = |args: &str| within(1_500_000, args);
    let refused = "this host grants a program less than the 4 GiB of addresses that the JIT needs";
    let run = "xdp_count.bpf.o --packet 00 --json";
    for args in [
        "run xdp_count.bpf.o --packet 00 --engine jit",
        "run xdp_count.bpf.o --packet 00 --perf map",
        "bench xdp_count.bpf.o --packet 00 --engine jit",
        "conform --match tail_call --engine jit",
        "fuzz isa --engine jit --programs 1",
    ] {
        let answer = limited(args);
        assert!(answer.contains(refused) && answer.ends_with("--- status 2\n"), "{args}: {answer}");
    }
    for engine in ["auto", "interpreter"] {
        let answer = limited(&format!("run {run} --engine {engine}"));
        assert!(answer.contains("\"engine\": \"interpreter\""), "{engine}: {answer}");
    }
    let rows = limited("bench xdp_count.bpf.o --packet 00 --seconds 0");
    assert!(rows.contains(refused) && !rows.contains(" jit "), "{rows}");
    // Room for one machine, but not for two.
    let rows = within(8_000_000, "bench xdp_count.bpf.o --packet 00 --seconds 0");
    assert!(rows.contains(refused) && !rows.contains(" jit "), "{rows}");
    let answer = within(8_000_000, "fuzz isa --engine interpreter --engine jit --programs 1 --jobs 1");
    assert!(answer.contains(refused), "{answer}");
}
