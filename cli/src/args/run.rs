//! The options of `softbpf run`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use softbpf::world::TASK_COMM_LEN;

use super::values::{FarBytes, Field, MapDefinition, MapEntry, MockSpec, Setting};
use crate::literal::{Hex, number32, number64};

/// What runs the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineChoice {
    /// The interpreter
    Interpreter,
    /// Machine code
    Jit,
    /// Machine code where there is a JIT, else the interpreter
    Auto,
}

/// How perf is told of programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PerfChoice {
    /// /tmp/perf-PID.map, for perf report
    Map,
    /// jit-PID.dump with code and source lines, for perf record -k mono, perf inject --jit, perf annotate
    Jitdump,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) program: ProgramArgs,
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    /// Run on an input that softbpf fuzz has written; other options go over what it says of maps and world
    #[arg(long, value_name = "FILE", help_heading = "Context", conflicts_with_all = ["fields", "ctx_hex", "ctx_file", "packet", "packet_file"])]
    pub(crate) input: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) setup: SetupArgs,
    /// What runs the program; under --trace and --strict always the interpreter
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) engine: EngineChoice,
    /// Tell Linux's perf the names of compiled programs
    #[arg(long, value_enum, value_name = "FORMAT", conflicts_with_all = ["strict", "trace"])]
    pub(crate) perf: Option<PerfChoice>,
    /// The folder of the jitdump file [default: .]
    #[arg(long, value_name = "DIR", requires = "perf")]
    pub(crate) perf_dir: Option<PathBuf>,
    /// Run this often, on the same maps
    #[arg(long, value_name = "N", default_value = "1", value_parser = number64)]
    pub(crate) repeat: u64,
    /// Make reading stack bytes that were never written a trap
    #[arg(long)]
    pub(crate) strict: bool,
    /// Show every instruction and the registers that it changed, on standard error
    #[arg(long)]
    pub(crate) trace: bool,
    /// Show this many elements of each map
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) entries: usize,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which program.
#[derive(Debug, Args)]
pub(crate) struct ProgramArgs {
    /// ELF file, assembly text, raw bytecode, or - for standard input
    pub(crate) object: PathBuf,
    /// Name of the program; may be left out when there is only one
    pub(crate) program: Option<String>,
    /// Program type, as bpftool names it, for programs whose section does not say
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) program_type: Option<String>,
}

/// What the program finds in its machine, and how long it may run.
#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// Put an element into a map: numbers (little-endian, of the key's or value's size), hex:BYTES, or the
    /// name of a program for a program array. A per-CPU map gets the value on every CPU
    #[arg(long = "map", value_name = "NAME=KEY:VALUE", help_heading = "State")]
    pub(crate) maps: Vec<MapEntry>,
    /// Declare a map for assembly text, which has no place for it; sizes in bytes
    #[arg(long = "create", value_name = "NAME=TYPE:KEY:VALUE:ENTRIES", help_heading = "State")]
    pub(crate) created: Vec<MapDefinition>,
    /// Set a global variable: by name, or as SECTION+OFFSET:SIZE=VALUE
    #[arg(long = "set", value_name = "NAME=VALUE", help_heading = "State")]
    pub(crate) settings: Vec<Setting>,
    /// Place kernel or user memory, at an address of at least 2^32
    #[arg(long = "mem", value_name = "ADDR=HEX", help_heading = "State")]
    pub(crate) memory: Vec<FarBytes>,
    #[command(flatten)]
    pub(crate) world: WorldArgs,
    /// Make a helper, by name or number, return a constant
    #[arg(long = "mock", value_name = "HELPER=VALUE", help_heading = "World")]
    pub(crate) mocks: Vec<MockSpec>,
    /// Most instructions of one run
    #[arg(long, value_name = "N", value_parser = number64)]
    pub(crate) fuel: Option<u64>,
}

/// What the program is called with.
#[derive(Debug, Args)]
#[command(next_help_heading = "Context")]
pub(crate) struct ContextArgs {
    /// Set fields of the context: parm1 to parm6, ret, ip, sp, bp and all other registers for probes; ifindex, queue
    /// and mark for packets; members of the structure for others, if the object has its type
    #[arg(long = "ctx", value_name = "FIELD=VALUE", value_delimiter = ',')]
    pub(crate) fields: Vec<Field>,
    /// The context's bytes
    #[arg(long, value_name = "HEX", conflicts_with_all = ["ctx_file", "fields", "packet", "packet_file"])]
    pub(crate) ctx_hex: Option<Hex>,
    /// A file with the context's bytes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fields", "packet", "packet_file"])]
    pub(crate) ctx_file: Option<PathBuf>,
    /// The packet's bytes, from the Ethernet header on
    #[arg(long, value_name = "HEX", conflicts_with = "packet_file")]
    pub(crate) packet: Option<Hex>,
    /// A file with the packet's bytes
    #[arg(long, value_name = "FILE")]
    pub(crate) packet_file: Option<PathBuf>,
}

/// What the program finds around it; see `softbpf::World` for the defaults.
#[derive(Debug, Args)]
#[command(next_help_heading = "World")]
pub(crate) struct WorldArgs {
    /// Nanoseconds since boot; every look at a clock takes another microsecond
    #[arg(long, value_name = "NS", value_parser = number64)]
    pub(crate) time: Option<u64>,
    /// Seed of the random numbers
    #[arg(long, value_name = "N", value_parser = number64)]
    pub(crate) seed: Option<u64>,
    /// Thread id of the current task (the kernel's pid); also its process id unless --tgid is given
    #[arg(long, value_name = "N", value_parser = number32)]
    pub(crate) pid: Option<u32>,
    /// Process id of the current task; also its thread id unless --pid is given
    #[arg(long, value_name = "N", value_parser = number32)]
    pub(crate) tgid: Option<u32>,
    /// Name of the current task, at most 15 bytes
    #[arg(long, value_parser = task_name, value_name = "NAME")]
    pub(crate) comm: Option<String>,
    /// User id of the current task
    #[arg(long, value_name = "N", value_parser = number32)]
    pub(crate) uid: Option<u32>,
    /// Group id of the current task
    #[arg(long, value_name = "N", value_parser = number32)]
    pub(crate) gid: Option<u32>,
    /// Number of the CPU that the program runs on
    #[arg(long, value_name = "N", value_parser = number32)]
    pub(crate) cpu: Option<u32>,
    /// How many CPUs there are
    #[arg(long, value_name = "N", value_parser = number32)]
    pub(crate) cpus: Option<u32>,
    /// Id of the current task's cgroup
    #[arg(long, value_name = "ID", value_parser = number64)]
    pub(crate) cgroup: Option<u64>,
    /// The kernel stack's instruction pointers, innermost first
    #[arg(long, value_name = "ADDR", value_delimiter = ',', value_parser = number64)]
    pub(crate) stack: Option<Vec<u64>>,
    /// The user stack's instruction pointers, innermost first
    #[arg(long, value_name = "ADDR", value_delimiter = ',', value_parser = number64)]
    pub(crate) user_stack: Option<Vec<u64>>,
}

/// A task's name, which the kernel would cut.
fn task_name(text: &str) -> Result<String, String> {
    match text.len() {
        0..TASK_COMM_LEN => Ok(text.to_owned()),
        len => Err(format!("a task's name has at most {} bytes, not {len}", TASK_COMM_LEN - 1)),
    }
}
