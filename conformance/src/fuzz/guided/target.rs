//! [`Target`]: the program that is fuzzed, and what holds in every run of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use softbpf::codec::Code;
use softbpf::helpers::table;
use softbpf::insn::{Callee, Imm64, Insn, Reg};
use softbpf::machine::{LoadError, RunError};
use softbpf::map_spec::{DataSection, MapSpec, MapType};
use softbpf::maps::create_flags;
use softbpf::program::{Program, ProgramError};
use softbpf::{Object, World};

use super::input::{Far, Input, PrepareError};

/// Values above this are too large to be worth varying.
const MAX_VALUE: u32 = 16 << 10;

/// Most bytes of a context whose size nobody says.
const MAX_CONTEXT: usize = 4096;

/// A program of an object, with what it is run on.
#[derive(Debug, Clone)]
pub struct Target {
    /// The object.
    pub object: Object,
    /// Name of the program.
    pub program: Arc<str>,
    /// CPUs of the machine.
    pub cpus: u32,
    /// Whether reading stack bytes that were never written is a trap.
    pub strict: bool,
    /// Most instructions of one run: more is a loop without an end.
    pub fuel: u64,
    /// Helpers that return a constant.
    pub mocks: Vec<(i32, u64)>,
    /// What every input starts from. Its elements and its memory are in every input, in front of others, and maps that they
    /// are of get no others.
    pub base: Input,
    /// Parts of the base's world that stay as they are.
    pub pinned: BTreeSet<Ask>,
}

/// A part of the world that a program may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ask {
    /// [`softbpf::world::Clock::monotonic`].
    Time,
    /// The seed of the random numbers.
    Random,
    /// Process and thread id.
    Pids,
    /// User and group id.
    Uids,
    /// The task's name.
    Comm,
    /// Which CPU.
    Cpu,
    /// The cgroup's id.
    Cgroup,
}

impl Ask {
    /// All parts.
    pub const ALL: [Ask; 7] = [Ask::Time, Ask::Random, Ask::Pids, Ask::Uids, Ask::Comm, Ask::Cpu, Ask::Cgroup];

    /// Makes this part of a world that of another.
    pub fn copy(self, from: &World, to: &mut World) {
        match self {
            Ask::Time => to.clock.clone_from(&from.clock),
            Ask::Random => to.random.clone_from(&from.random),
            Ask::Pids => (to.task.tgid, to.task.pid) = (from.task.tgid, from.task.pid),
            Ask::Uids => (to.task.uid, to.task.gid) = (from.task.uid, from.task.gid),
            Ask::Comm => to.task.comm = from.task.comm,
            Ask::Cpu => to.cpu = from.cpu,
            Ask::Cgroup => to.cgroup_id = from.cgroup_id,
        }
    }
}

/// Why a program cannot be fuzzed.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The object's maps cannot be made.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The program is not there or not sound.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The program does not run on its base input.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The base input cannot be put into the machine.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
}

impl Target {
    /// The program.
    ///
    /// # Errors
    /// It is not there or not sound.
    pub fn linked(&self) -> Result<Program, ProgramError> {
        self.object.program(&self.program)
    }

    /// The instructions that a run may reach: the program's, and with tail calls those of all programs.
    pub(super) fn codes(&self) -> Result<Vec<Code>, ProgramError> {
        let own = self.linked()?.code().clone();
        let calls = |code: &Code, wanted: &str| {
            let row = table::by_name(wanted);
            let is_wanted = |insn: &Insn| matches!(insn, Insn::Call(Callee::Helper(number)) if row.is_some_and(|row| row.number == *number));
            code.insns().iter().any(is_wanted)
        };
        if !calls(&own, "tail_call") {
            return Ok(vec![own]);
        }
        let all = (0..self.object.programs().len()).filter_map(|index| self.object.program_at(index)?.ok());
        Ok(std::iter::once(own.clone()).chain(all.map(|program| program.code().clone())).collect())
    }

    /// The maps whose contents are varied: those that the instructions name, unless pinned, constant or too large.
    pub(super) fn maps(&self, codes: &[Code]) -> Vec<MapSpec> {
        let named: BTreeSet<usize> = codes.iter().flat_map(Code::insns).filter_map(map_index).collect();
        let maps = named.into_iter().filter_map(|index| self.object.maps().get(index));
        maps.filter(|map| is_varied(map) && !self.is_pinned(&map.name)).cloned().collect()
    }

    /// The parts of the world that the instructions ask for, unless pinned.
    pub(super) fn asks(&self, codes: &[Code]) -> Vec<Ask> {
        let asks: BTreeSet<Ask> = codes.iter().flat_map(Code::insns).flat_map(asked).copied().collect();
        asks.difference(&self.pinned).copied().collect()
    }

    /// Whether a map has the elements that it is to have.
    fn is_pinned(&self, map: &str) -> bool {
        self.base.elements.iter().any(|element| &*element.map == map)
    }

    /// An input from elsewhere, with what every input of this target has.
    #[must_use]
    pub fn adopt(&self, input: Input) -> Input {
        let Input { data, elements, memory, mut world } = input;
        let others = elements.into_iter().filter(|element| !self.is_pinned(&element.map));
        for ask in &self.pinned {
            ask.copy(&self.base.world, &mut world);
        }
        world.cpu = world.cpu.min(self.cpus.saturating_sub(1));
        let elements = self.base.elements.iter().cloned().chain(others).collect();
        let is_base = |far: &Far| self.base.memory.iter().any(|base| base.addr == far.addr);
        let others = memory.into_iter().filter(|far| !is_base(far));
        Input { data, elements, memory: self.base.memory.iter().cloned().chain(others).collect(), world }
    }
}

/// Bytes of a context whose type nobody says: what the program might read of it, by the offsets of its loads.
pub fn context_size(program: &Program) -> usize {
    let end = |insn: &Insn| {
        let Insn::Load { size, base, off, .. } = *insn else { return None };
        (base != Reg::R10).then(|| usize::try_from(off).unwrap_or(0) + size.bytes() as usize)
    };
    let ends = program.code().insns().iter().filter_map(end);
    ends.max().unwrap_or(0).next_multiple_of(8).clamp(64, MAX_CONTEXT)
}

pub(super) fn map_index(insn: &Insn) -> Option<usize> {
    let Insn::LoadImm64 { value, .. } = insn else { return None };
    let (Imm64::MapFd(index)
    | Imm64::MapIndex(index)
    | Imm64::MapValue { fd: index, .. }
    | Imm64::MapIndexValue { index, .. }) = *value
    else {
        return None;
    };
    usize::try_from(index).ok()
}

fn is_varied(map: &MapSpec) -> bool {
    use MapType::{Array, Hash, LruHash, LruPercpuHash, PercpuArray, PercpuHash};
    [Array, Hash, LruHash, LruPercpuHash, PercpuArray, PercpuHash].contains(&map.map_type)
        && !matches!(map.data, Some(DataSection::Rodata | DataSection::Kconfig))
        && map.map_flags & create_flags::RDONLY == 0
        && (1..=MAX_VALUE).contains(&map.value_size)
        && map.max_entries > 0
}

/// What an instruction asks the world for.
fn asked(insn: &Insn) -> &'static [Ask] {
    let Insn::Call(Callee::Helper(number)) = insn else { return &[] };
    match table::by_number(*number).map(|row| row.name) {
        Some("ktime_get_ns" | "ktime_get_boot_ns" | "ktime_get_coarse_ns" | "ktime_get_tai_ns" | "jiffies64") => {
            &[Ask::Time]
        }
        Some("get_prandom_u32") => &[Ask::Random],
        Some("get_current_pid_tgid") => &[Ask::Pids],
        Some("get_current_uid_gid") => &[Ask::Uids],
        Some("get_current_comm") => &[Ask::Comm],
        Some("get_smp_processor_id") => &[Ask::Cpu],
        Some("get_current_cgroup_id" | "get_current_ancestor_cgroup_id") => &[Ask::Cgroup],
        Some(_) | None => &[],
    }
}
