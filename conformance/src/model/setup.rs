//! Where things are: the addresses that a machine gives to what a program sees.
//!
//! RFC 9669 leaves them open, and programs can compute with them; so the model takes them from a machine, by running
//! a program there that goes as deep as it may and looking at its registers.

use softbpf::asm::{Assembler, Condition, R0, R1};
use softbpf::codec::Code;
use softbpf::context::{Context, ContextKind};
use softbpf::insn::{Imm64, Insn};
use softbpf::machine::DEFAULT_FUEL;
use softbpf::memory::{MAX_FRAMES, STACK_FRAME};
use softbpf::object::MAIN;
use softbpf::program::{Program, ProgramInfo};
use softbpf::program_type::ProgramType;
use softbpf::{Machine, Object};

use super::maps::MapSetup;
use super::memory::Region;
use super::world::World;

/// What a run starts with.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Values of `r1` and `r2`.
    pub args: [u64; 2],
    /// Value of `r10` by call depth: as many as there are frames.
    pub frames: Vec<u64>,
    /// Bytes of a frame.
    pub frame_size: usize,
    /// Address of the first program's first slot; the others follow at 8 bytes each.
    pub code: u64,
    /// Bytes from one program's first slot to the next program's.
    pub code_stride: u64,
    /// Names of the programs; [`MAIN`] where there is but one.
    pub names: Vec<String>,
    /// What `r1` points to, if anything.
    pub context: Option<Region>,
    /// The packet, if the context has one.
    pub packet: Option<Region>,
    /// Other memory: objects that a test placed.
    pub others: Vec<Region>,
    /// Maps.
    pub maps: Vec<MapSetup>,
    /// Address of the key of a run's first walk over a map, where there is a helper for such walks.
    pub walk_key: Option<u64>,
    /// What helpers know.
    pub world: World,
    /// Most instructions to execute.
    pub fuel: u64,
}

impl Setup {
    /// Where a machine puts this context of a program of this type.
    ///
    /// # Errors
    /// What the machine says to the context.
    pub fn of(program_type: ProgramType, context: impl Context) -> Result<Setup, Box<dyn std::error::Error>> {
        let program = Program::new(ProgramInfo::new(MAIN, program_type), deep())?;
        let mut vm = Machine::load(&Object::from_programs(vec![program], Vec::new()))?;
        Setup::of_machine(&mut vm, program_type, context)
    }

    /// Where a machine whose program [`MAIN`] is [`deep`] puts this context.
    pub(super) fn of_machine(
        vm: &mut Machine,
        program_type: ProgramType,
        context: impl Context,
    ) -> Result<Setup, Box<dyn std::error::Error>> {
        let code = vm.imm64(vm.find_program(MAIN)?, 0, Imm64::Code(-1)).ok_or("code has no address")?;
        let mut setup = Setup { code, frame_size: STACK_FRAME as usize, fuel: DEFAULT_FUEL, ..Setup::default() };
        let outcome = vm.trace(MAIN, context, |step| {
            if step.depth as usize == setup.frames.len() {
                setup.frames.push(step.registers[10]);
            }
            if step.slot == 0 {
                setup.args = [step.registers[1], step.registers[2]];
            }
        })?;
        // The context and the packet stay where they are until the next run.
        let region = |start, bytes: &[u8]| Region {
            writable: (start..).take(bytes.len()).map(|addr| vm.memory.check_write(addr, 1).is_ok()).collect(),
            ..Region::new(start, bytes)
        };
        if setup.args[0] != 0 {
            setup.context = Some(region(setup.args[0], &outcome.context));
        }
        setup.packet = outcome.packet.map(|bytes| region(packet_address(program_type, &outcome.context), &bytes));
        Ok(setup)
    }

    /// The same with other bytes in the context.
    #[must_use]
    pub fn with_context(mut self, bytes: &[u8]) -> Setup {
        if let Some(context) = &mut self.context {
            context.bytes = bytes.to_vec();
            context.writable.resize(bytes.len(), true);
        }
        self
    }
}

/// The packet's address out of the field `data` of `struct xdp_md` or `struct __sk_buff`.
fn packet_address(program_type: ProgramType, context: &[u8]) -> u64 {
    let offset = match ContextKind::of(program_type) {
        ContextKind::SkBuff => 76,
        ContextKind::Xdp | ContextKind::PtRegs | ContextKind::Bytes => 0,
    };
    let field = context.get(offset..).and_then(|bytes| bytes.first_chunk());
    field.map_or(0, |bytes| u32::from_le_bytes(*bytes).into())
}

/// A program that calls itself until there are no frames left.
pub(super) fn deep() -> Code {
    let mut asm = Assembler::new();
    asm.push(Insn::mov(R1, MAX_FRAMES as i32 - 1)).call("deeper").push(Insn::exit());
    asm.label("deeper").jump_if(Condition::Eq, R1, 1, "bottom").push(Insn::sub(R1, 1)).call("deeper");
    asm.label("bottom").push(Insn::mov(R0, 0)).push(Insn::exit());
    asm.finish().unwrap_or_default()
}
