//! The programs, what they work on, and what they must give: one row a program.
//!
//! To add a program: `programs/NAME.bpf.c`, compiled by `programs/build.sh`; a row here; and where it takes memory,
//! the same algorithm in `native.rs`. With the feature `native-c`, the build script compiles the C source too.

use std::fmt;
use std::hint::black_box;
use std::path::PathBuf;

use softbpf::context::{Bytes, Context, Packet};
use softbpf::interp::Interpreter;
use softbpf::maps::{RawEntry, update_flags};
use softbpf::object::MAIN;
use softbpf::program_type::ProgramType;
use softbpf::{Config, Machine, Object};
use softbpf_conformance::{MakeEngine, engine_named};

use crate::input;

/// What a program is there to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Computation; the figures that are averaged.
    Cpu,
    /// Calls of helpers and of functions.
    Calls,
    /// Entering and leaving.
    Entry,
    /// A long program that does not loop.
    Straight,
    /// Maps.
    Maps,
    /// A context with a packet.
    Packets,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Group::Cpu => "cpu",
            Group::Calls => "calls",
            Group::Entry => "entry",
            Group::Straight => "straight",
            Group::Maps => "maps",
            Group::Packets => "packets",
        })
    }
}

/// What a program runs on.
#[derive(Debug, Clone)]
pub enum Input {
    /// Memory behind `r1`, its length in `r2`. Everything that runs BPF can do that, as nothing has to be linked.
    Memory(Vec<u8>),
    /// No context, but maps.
    Maps,
    /// A set of packets, one run each, behind `struct xdp_md`.
    Packets(Vec<Packet>, Vec<Vec<u8>>),
}

/// A program and what it works on.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Name of the program.
    pub name: &'static str,
    /// What it shows.
    pub group: Group,
    /// The object it is in.
    pub object: Object,
    /// Its instructions, linked.
    pub bytecode: Vec<u8>,
    /// What it runs on.
    pub input: Input,
    /// `r0` after the run; of a set of packets, [`fold`]ed.
    pub expected: u64,
}

/// Path of an object by the name of its source.
pub fn object_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("programs/{name}.bpf.o"))
}

/// Results of several runs as one.
pub fn fold(sum: u64, r0: u64) -> u64 {
    sum.wrapping_mul(31).wrapping_add(r0)
}

/// Columns: name, group, input, `r0`.
macro_rules! workloads {
    ($($name:ident $group:ident $input:expr, $expected:literal;)*) => {
        /// All programs.
        ///
        /// # Panics
        /// An object is missing or broken.
        pub fn workloads() -> Vec<Workload> {
            vec![$(Workload::load(stringify!($name), Group::$group, $input, $expected)),*]
        }
    };
}

workloads! {
    lcg              Cpu      Input::Memory(input::noise(1024)),         0x3fb5_8114_439b;
    collatz          Cpu      Input::Memory(input::noise(1024)),         0x00f1_0000_3356;
    sieve            Cpu      Input::Memory(input::noise(8192)),         0x0404_003b_a421;
    fnv1a            Cpu      Input::Memory(input::noise(16384)),        0xfcd1_c9fe_9bee_449b;
    crc32            Cpu      Input::Memory(input::noise(1024 + 8192)),  0xc573_321b;
    siphash          Cpu      Input::Memory(input::noise(16 + 8192)),    0x5515_2fc7_2ace_6a87;
    sha256           Cpu      Input::Memory(input::sha256(2048)),        0x9b31_4e82_da10_e612;
    shellsort        Cpu      Input::Memory(input::noise(4096)),         0x0005_629d_6a75_f809;
    matmul           Cpu      Input::Memory(input::noise(12 * 24 * 24)), 0x3283_b0c2_008a_07eb;
    packets          Cpu      Input::Memory(input::packet_buffer(64)),   0x2398_8308_edf0;
    tcpsum           Cpu      Input::Memory(input::segments(8, 1460)),   0x0006_0006_01fa;
    strings          Cpu      Input::Memory(input::text(8192)),          0x01b4_00e9_006a_c3d0;
    helper_calls     Calls    Input::Memory(input::noise(4096)),         0x003e_8000_007f_f800;
    local_calls      Calls    Input::Memory(input::noise(4096)),         0x3f6e_ec08_72fc_ffb4;
    empty            Entry    Input::Memory(Vec::new()),                 0;
    tracing          Straight Input::Memory(input::noise(21 * 8)),       0x8bd2_012f_e84e_44c5;
    xdp_parse        Packets  Input::packets(64),                        0x415a_883b_424f_d31f;
    map_array_lookup Maps     Input::Maps,                               256;
    map_array_update Maps     Input::Maps,                               512;
    map_percpu_array Maps     Input::Maps,                               256;
    map_hash_lookup  Maps     Input::Maps,                               256;
    map_hash_update  Maps     Input::Maps,                               512;
    map_hash_churn   Maps     Input::Maps,                               512;
    map_percpu_hash  Maps     Input::Maps,                               512;
    map_lru_hash     Maps     Input::Maps,                               512;
}

/// A program of 4,096 instructions as a compiler meets them: arithmetic, stack, memory and branches, in blocks of 16.
///
/// # Panics
/// It is broken.
pub fn long() -> Workload {
    const NAME: &str = "long";
    let block = |number: usize| {
        let offset = number % 64 * 8;
        format!(
            "r3 = *(u64 *)(r1 + {offset})
            r4 = *(u8 *)(r1 + {})
            r3 *= 29
            r4 <<= 3
            r3 += r4
            r5 = r3
            r5 >>= 7
            r3 ^= r5
            *(u64 *)(r10 - 16) = r3
            if r3 > {number} goto +2
            r0 += 1
            r4 = 0
            r2 = *(u32 *)(r10 - 12)
            r2 += r4
            r0 ^= r2
            *(u32 *)(r1 + {}) = r3
",
            offset + 5,
            offset + 512,
        )
    };
    let blocks: String = (0..255).map(block).collect();
    let text = format!("r0 = 0\n{blocks}{}exit", "r0 += 3\n".repeat(14));
    let broken = |error: &dyn fmt::Display| -> ! { panic!("{NAME}: {error}") };
    let object = Object::from_text(&text, ProgramType::Unspec).unwrap_or_else(|error| broken(&error));
    let program = object.program(MAIN).unwrap_or_else(|error| broken(&error));
    let bytecode = program.code().encode().unwrap_or_else(|error| broken(&error));
    let object = Object::from_bytecode(NAME, ProgramType::Unspec, &bytecode).unwrap_or_else(|error| broken(&error));
    let input = Input::Memory(input::noise(2048));
    let mut workload = Workload { name: NAME, group: Group::Straight, object, bytecode, input, expected: 0 };
    // There is no other version of it: engines are compared with the interpreter.
    let mut machine = workload.machine(|| Box::new(Interpreter::new()));
    (workload.expected, _) = workload.run(&mut machine, 1).unwrap_or_else(|error| broken(&error));
    workload
}

impl Input {
    fn packets(count: usize) -> Input {
        let bytes = input::packets(count);
        Input::Packets(bytes.iter().map(Packet::new).collect(), bytes)
    }
}

impl Workload {
    fn load(name: &'static str, group: Group, input: Input, expected: u64) -> Workload {
        let file = if group == Group::Maps { "maps" } else { name };
        let object = Object::from_file(object_path(file)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let program = object.program(name).unwrap_or_else(|error| panic!("{error}"));
        let bytecode = program.code().encode().unwrap_or_else(|error| panic!("{name}: {error}"));
        Workload { name, group, object, bytecode, input, expected }
    }

    /// The memory behind `r1`, if that is what it runs on.
    pub fn memory(&self) -> Option<&[u8]> {
        match &self.input {
            Input::Memory(memory) => Some(memory),
            Input::Maps | Input::Packets(..) => None,
        }
    }

    /// A machine with the program, and with its maps as the program expects them.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn machine(&self, engine: MakeEngine) -> Machine {
        let config = Config { engine: engine(), ..Config::default() };
        let mut machine = Machine::with_config(&self.object, config).unwrap_or_else(|error| panic!("{error}"));
        for spec in self.object.maps() {
            let mut map = machine.map(&spec.name).unwrap_or_else(|error| panic!("{error}"));
            for (key, value) in self.elements(&spec.name) {
                map.insert_bytes(&key, &value, update_flags::ANY).unwrap_or_else(|error| panic!("{error}"));
            }
        }
        machine
    }

    /// Keys and values that the program expects in a map.
    pub fn elements(&self, map: &str) -> impl Iterator<Item = RawEntry> {
        let filled = self.group == Group::Maps && map == "a_hash";
        let keys = if filled { 0..512_u32 } else { 0..0 };
        keys.map(|key| (key.to_le_bytes().to_vec(), u64::from(key).to_le_bytes().to_vec()))
    }

    /// Instructions that a run executes, as softbpf's interpreter counts them.
    ///
    /// # Errors
    /// It cannot run it, or the result is not what it should be.
    pub fn instructions(&self) -> Result<u64, String> {
        let engine = engine_named("interpreter").map_err(|error| error.to_string())?;
        match self.run(&mut self.machine(engine), 1) {
            Ok((r0, instructions)) if r0 == self.expected => Ok(instructions),
            Ok((r0, _)) => Err(format!("{}: r0 is {r0:#x} and should be {:#x}", self.name, self.expected)),
            Err(error) => Err(format!("{}: {error}", self.name)),
        }
    }

    /// Runs the program so many times, on each packet if it has them: `r0` of the last run and the instructions of all.
    ///
    /// Memory is placed once and kept from run to run, as other implementations keep it; packets are placed one by one.
    ///
    /// # Errors
    /// The machine refuses, or the program traps.
    pub fn run(&self, machine: &mut Machine, times: u64) -> Result<(u64, u64), String> {
        match &self.input {
            Input::Memory(memory) => run(machine, self.name, Bytes(memory), times),
            Input::Maps => run(machine, self.name, (), times),
            Input::Packets(packets, _) => (0..times).try_fold((0, 0), |(_, instructions), _| {
                packets.iter().try_fold((0, instructions), |(sum, instructions), packet| {
                    let (r0, more) = run(machine, self.name, packet, 1)?;
                    Ok((fold(sum, r0), instructions + more))
                })
            }),
        }
    }
}

/// Runs a program so many times on one context: `r0` of the last run and the instructions of all.
fn run(machine: &mut Machine, program: &str, context: impl Context, times: u64) -> Result<(u64, u64), String> {
    let repeated = machine.repeat(program, context, times).map_err(|error| error.to_string())?;
    let r0 = black_box(repeated.ret).map_err(|trap| trap.to_string())?;
    Ok((r0, repeated.instructions))
}
