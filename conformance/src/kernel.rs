//! The running Linux kernel as an oracle: loads programs and test-runs them by `bpf(2)`, and never attaches any.
//!
//! What the kernel's verifier refuses is an answer ([`Verdict::Refused`]), not an error. Where `bpf(2)` is not
//! permitted, [`Kernel::open`] says why, and tests skip with that line.
//!
//! A test run returns 32 bits. A program that has more to say writes it into an [`Array`], whose value it addresses
//! directly, and which is read back.

mod syscall;

use std::fmt;
use std::io;
use std::time::Duration;

use softbpf::asm::{R0, R10};
use softbpf::codec::{Code, SLOT_BYTES};
use softbpf::insn::{Insn, Size};
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::program_type::ProgramType;
use syscall::{Attr, Command, Descriptor, bpf};

use crate::generator::Level;

/// Bytes of the verifier's log that are kept.
const LOG_BYTES: usize = 1 << 20;

/// Bytes of packet or context that a test run may leave.
const OUTPUT_BYTES: usize = 1 << 16;

/// `BPF_F_SLEEPABLE`.
const SLEEPABLE: u32 = 1 << 4;

/// Fewest bytes of a packet: `ETH_HLEN`.
const SMALLEST_PACKET: usize = 14;

/// `bpf(2)` is not to be had, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotPermitted(String);

impl fmt::Display for NotPermitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotPermitted {}

/// What the kernel makes of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It ran.
    Ran {
        /// The low half of `r0`.
        ret: u32,
        /// The packet's (for `syscall` programs: the context's) bytes afterwards.
        data_out: Vec<u8>,
    },
    /// The verifier does not take it.
    Refused {
        /// What it said.
        log: String,
    },
}

/// The kernel, known to answer.
#[derive(Debug)]
pub struct Kernel(());

/// A loaded program; unloaded when dropped.
#[derive(Debug)]
pub struct Loaded {
    fd: Descriptor,
    program_type: ProgramType,
}

/// What [`Loaded::repeat`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeated {
    /// The low half of the last run's `r0`.
    pub ret: u32,
    /// Time of a run, a whole number of nanoseconds: the mean of all, as the kernel has measured it.
    pub duration: Duration,
}

/// A map; gone when dropped.
#[derive(Debug)]
pub struct Map {
    fd: Descriptor,
    key_size: usize,
    value_size: usize,
}

/// An array map with one value; gone when dropped.
#[derive(Debug)]
pub struct Array(Map);

impl Kernel {
    /// The kernel, if it lets us load and test-run programs.
    ///
    /// # Errors
    /// In words, what it did not let us do.
    pub fn open() -> Result<Kernel, NotPermitted> {
        let kernel = Kernel(());
        let refused = |what: &str, error: io::Error| NotPermitted(format!("{what} is not permitted here: {error}"));
        kernel.array(8).map_err(|error| refused("bpf(BPF_MAP_CREATE)", error))?;
        // r0 = 0; exit
        let nothing = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
        match kernel.run(&nothing, ProgramType::SocketFilter, &[0; 64]) {
            Ok(Verdict::Ran { .. }) => Ok(kernel),
            Ok(Verdict::Refused { log }) => Err(NotPermitted(format!("the verifier refuses to return 0: {log}"))),
            Err(error) => Err(refused("bpf(BPF_PROG_LOAD) or bpf(BPF_PROG_TEST_RUN)", error)),
        }
    }

    /// The newest instructions that it takes.
    ///
    /// # Errors
    /// The system call fails for another reason than a program.
    pub fn level(&self) -> io::Result<Level> {
        let takes = |load: Insn| {
            let code = Code::from(vec![Insn::store(Size::DW, R10, -8, 0), load, Insn::exit()]);
            let bytes = code.encode().unwrap_or_default();
            Ok::<bool, io::Error>(self.load(&bytes, ProgramType::SocketFilter)?.is_ok())
        };
        Ok(if takes(Insn::load_acquire(Size::DW, R0, R10, -8))? {
            Level::Ordered
        } else if takes(Insn::load_sx(Size::W, R0, R10, -8))? {
            Level::V4
        } else {
            Level::V3
        })
    }

    /// Loads a program and runs it once.
    ///
    /// # Errors
    /// The system call fails for another reason than the program.
    pub fn run(&self, program: &[u8], program_type: ProgramType, input: &[u8]) -> io::Result<Verdict> {
        match self.load(program, program_type)? {
            Ok(loaded) => loaded.run(input).map(|(ret, data_out)| Verdict::Ran { ret, data_out }),
            Err(log) => Ok(Verdict::Refused { log }),
        }
    }

    /// Loads a program; the inner error is the verifier's log.
    ///
    /// # Errors
    /// The system call fails for another reason than the program.
    pub fn load(&self, program: &[u8], program_type: ProgramType) -> io::Result<Result<Loaded, String>> {
        let refused = match load(program, program_type, None) {
            Ok(fd) => return Ok(Ok(Loaded { fd, program_type })),
            Err(error) if is_refusal(&error) => error,
            Err(error) => return Err(error),
        };
        // Only who is refused pays for the words.
        let mut log = vec![0; LOG_BYTES];
        // The answer is the same as before, or that the log was too long.
        let _ = load(program, program_type, Some(&mut log));
        let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
        Ok(Err(format!("{refused}\n{}", String::from_utf8_lossy(&log[..end]))))
    }

    /// An array map with one value of this size, zero.
    ///
    /// # Errors
    /// The system call fails.
    pub fn array(&self, value_size: usize) -> io::Result<Array> {
        self.map(&MapSpec::new("", MapType::Array, 4, number(value_size)?, 1)).map(Array)
    }

    /// A map of this type, with these sizes and flags, empty. What else a definition says (first contents, types) is the
    /// caller's business.
    ///
    /// # Errors
    /// The system call fails.
    pub fn map(&self, spec: &MapSpec) -> io::Result<Map> {
        let MapSpec { map_type, key_size, value_size, max_entries, map_flags, .. } = *spec;
        let mut attr = Attr::new();
        attr.number(0, map_type.number()).number(4, key_size).number(8, value_size);
        attr.number(12, max_entries).number(16, map_flags);
        let fd = made(bpf(Command::MapCreate, &mut attr)?)?;
        Ok(Map { fd, key_size: key_size as usize, value_size: value_size as usize })
    }
}

impl Map {
    /// Its descriptor, for 64-bit immediate loads of programs that this process loads.
    pub fn fd(&self) -> i32 {
        self.fd.number()
    }

    /// Writes an element. For maps with one copy of a value.
    ///
    /// # Errors
    /// Key or value have another size, or the system call fails.
    pub fn set(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if key.len() != self.key_size || value.len() != self.value_size {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut attr = Attr::new();
        attr.number(0, self.fd() as u32).input(8, key).input(16, value);
        bpf(Command::MapUpdateElem, &mut attr).map(drop)
    }
}

impl Array {
    /// Its descriptor, for 64-bit immediate loads of programs that this process loads.
    pub fn fd(&self) -> i32 {
        self.0.fd()
    }

    /// Writes the value.
    ///
    /// # Errors
    /// The value has another size, or the system call fails.
    pub fn set(&self, value: &[u8]) -> io::Result<()> {
        self.0.set(&[0; 4], value)
    }

    /// Reads the value.
    ///
    /// # Errors
    /// The system call fails.
    pub fn get(&self) -> io::Result<Vec<u8>> {
        // The kernel copies whole words.
        let mut value = vec![0; self.0.value_size.next_multiple_of(8)];
        let mut attr = Attr::new();
        attr.number(0, self.fd() as u32).input(8, &[0; 4]).output(16, &mut value);
        bpf(Command::MapLookupElem, &mut attr)?;
        value.truncate(self.0.value_size);
        Ok(value)
    }
}

impl Loaded {
    /// Runs the program once: `r0`'s low half, and the packet's (for `syscall` programs: the context's) bytes afterwards.
    /// A packet that is too short for the kernel is padded with zeros.
    ///
    /// # Errors
    /// The system call fails: the kernel cannot test-run programs of this type.
    pub fn run(&self, input: &[u8]) -> io::Result<(u32, Vec<u8>)> {
        if self.program_type == ProgramType::Syscall {
            let mut attr = Attr::new();
            attr.number(0, self.fd.number() as u32);
            let mut context = input.to_vec();
            attr.number(40, number(context.len())?);
            if !context.is_empty() {
                attr.output(48, &mut context);
            }
            bpf(Command::ProgTestRun, &mut attr)?;
            let ret = attr.get(4);
            return Ok((ret, context));
        }
        let mut output = vec![0; OUTPUT_BYTES];
        let TestRun { ret, len, .. } = self.test_run(input, &mut output, 1)?;
        output.truncate(len as usize);
        Ok((ret, output))
    }

    /// Runs the program so many times on one packet, which keeps what runs change; for types with a packet.
    ///
    /// # Errors
    /// The system call fails: the kernel cannot test-run programs of this type again and again.
    pub fn repeat(&self, input: &[u8], times: u32) -> io::Result<Repeated> {
        let TestRun { ret, duration, .. } = self.test_run(input, &mut [], times)?;
        Ok(Repeated { ret, duration })
    }

    /// A packet that is too short for the kernel is padded; the packet afterwards goes to `output`, if there is room.
    fn test_run(&self, input: &[u8], output: &mut [u8], times: u32) -> io::Result<TestRun> {
        let mut packet = input.to_vec();
        packet.resize(packet.len().max(SMALLEST_PACKET), 0);
        let mut attr = Attr::new();
        attr.number(0, self.fd.number() as u32).number(32, times);
        attr.number(8, number(packet.len())?).input(16, &packet);
        if !output.is_empty() {
            attr.number(12, number(output.len())?).output(24, output);
        }
        bpf(Command::ProgTestRun, &mut attr)?;
        let duration = Duration::from_nanos(attr.get(36).into());
        Ok(TestRun { ret: attr.get(4), len: attr.get(12), duration })
    }
}

/// What `BPF_PROG_TEST_RUN` answers.
struct TestRun {
    ret: u32,
    /// Bytes of the packet afterwards.
    len: u32,
    duration: Duration,
}

/// The line of a verifier's log that says why.
pub fn reason(log: &str) -> &str {
    let told = |line: &&str| !line.is_empty() && !line.starts_with("processed ");
    log.lines().rev().find(told).unwrap_or("no reason")
}

fn number(size: usize) -> io::Result<u32> {
    u32::try_from(size).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// What a command has made.
fn made(answer: Option<Descriptor>) -> io::Result<Descriptor> {
    answer.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn load(program: &[u8], program_type: ProgramType, log: Option<&mut Vec<u8>>) -> io::Result<Descriptor> {
    let mut attr = Attr::new();
    attr.number(0, program_type.number()).number(4, number(program.len() / SLOT_BYTES)?).input(8, program);
    attr.input(16, b"GPL\0");
    if program_type == ProgramType::Syscall {
        attr.number(44, SLEEPABLE);
    }
    if let Some(log) = log {
        attr.number(24, 1).number(28, number(log.len())?).output(32, log);
    }
    made(bpf(Command::ProgLoad, &mut attr)?)
}

/// Whether an error of `BPF_PROG_LOAD` is the verifier's. Who may not load at all gets `EPERM`.
fn is_refusal(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|errno| !syscall::NOT_THE_PROGRAM.contains(&errno))
}
