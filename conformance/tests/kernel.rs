//! The kernel as the judge: random programs, run by it and by every engine, return the same.
//!
//! Programs are loaded and test-run (`BPF_PROG_LOAD`, `BPF_PROG_TEST_RUN`), never attached. Where bpf(2) is not
//! permitted, which is usual, the tests say so and pass. `SOFTBPF_KERNEL_PROGRAMS` says how many programs to try.
#![cfg(target_os = "linux")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use softbpf::Object;
use softbpf::asm::{Insn, R0, R10, Size};
use softbpf::codec::Code;
use softbpf::context::Packet;
use softbpf::program_type::ProgramType;
use softbpf_conformance::on_every_engine;
use softbpf_conformance::straight::{self, Level};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;

/// Bytes of `union bpf_attr` that these commands use and more; the rest must be 0.
const ATTR_BYTES: usize = 120;

const PACKET: [u8; 64] = [0x5a; 64];

/// Loads a socket filter into the kernel, runs it once on [`PACKET`], and lets go of it; what it returned.
fn run_in_kernel(insns: &[u8]) -> io::Result<u32> {
    let bpf = |command: libc::c_long, fields: &[&[u8]]| {
        let mut attr = fields.concat();
        attr.resize(ATTR_BYTES, 0);
        // SAFETY: `attr` is as long as said, and the kernel checks all of it. The addresses in it are those of `insns`,
        // a literal and `PACKET`, which outlive the call and have the sizes that stand beside them; the kernel
        // writes to none of them.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), attr.len()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok((result, attr)) }
    };
    let word = |value: u32| value.to_ne_bytes();
    let address = |bytes: *const u8| (bytes as u64).to_ne_bytes();
    let load = [word(BPF_PROG_TYPE_SOCKET_FILTER), word((insns.len() / 8) as u32)].concat();
    let (fd, _) = bpf(BPF_PROG_LOAD, &[&load, &address(insns.as_ptr()), &address(c"GPL".as_ptr().cast())])?;
    // SAFETY: the kernel has just opened this descriptor, and no one else knows it.
    let program = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // prog_fd, retval, data_size_in, data_size_out, data_in
    let run = [word(program.as_raw_fd() as u32), word(0), word(PACKET.len() as u32), word(0)].concat();
    let (_, attr) = bpf(BPF_PROG_TEST_RUN, &[&run, &address(PACKET.as_ptr())])?;
    Ok(attr[4..8].try_into().map(u32::from_ne_bytes).unwrap_or_default())
}

fn encode(code: &Code) -> Vec<u8> {
    code.encode().unwrap_or_else(|error| panic!("{error}"))
}

/// What this kernel can run; `None` when it lets no one in.
fn level() -> Option<Level> {
    let takes = |insns: Vec<Insn>| run_in_kernel(&encode(&insns.into())).is_ok();
    let store = Insn::store(Size::DW, R10, -8, 0);
    if takes(vec![store, Insn::load_acquire(Size::DW, R0, R10, -8), Insn::exit()]) {
        Some(Level::Ordered)
    } else if takes(vec![store, Insn::load_sx(Size::W, R0, R10, -8), Insn::exit()]) {
        Some(Level::V4)
    } else {
        takes(vec![Insn::mov(R0, 0), Insn::exit()]).then_some(Level::V3)
    }
}

#[test]
fn random_programs_return_what_the_kernel_returns() {
    let Some(level) = level() else {
        skipped();
        return;
    };
    let variable = std::env::var("SOFTBPF_KERNEL_PROGRAMS").ok();
    let programs = variable.and_then(|value| value.parse().ok()).unwrap_or(300);
    for seed in 0..programs {
        let code = straight::program(seed, 60, level);
        let bytes = encode(&code);
        let listing = || code.iter().map(|(slot, insn)| format!("{slot}: {insn}\n")).collect::<String>();
        let expected = run_in_kernel(&bytes).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{}", listing()));
        let object = Object::from_bytecode("main", ProgramType::SocketFilter, &bytes);
        on_every_engine(&object.unwrap_or_else(|error| panic!("seed {seed}: {error}")), |mut vm| {
            let ret = vm.run("main", Packet::new(PACKET)).map(|outcome| outcome.ret.map(|r0| r0 as u32));
            assert_eq!(ret, Ok(Ok(expected)), "seed {seed}:\n{}", listing());
        });
    }
}

#[allow(clippy::print_stderr)]
fn skipped() {
    eprintln!("skipped: bpf() is not permitted here");
}
