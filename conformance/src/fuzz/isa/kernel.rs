//! The kernel that runs here, as one more side: for samples whose input is the value of a map, which it lets any program
//! write to.

use softbpf::Outcome;
use softbpf::asm::R1;
use softbpf::codec::Code;
use softbpf::insn::{AluOp, Imm64, Insn, Operand, Width};
use softbpf::program_type::ProgramType;

use super::CampaignError;
use crate::generator::{INPUT, Knobs};
use crate::kernel::{Array, Kernel, Loaded};
use crate::minimise::flow::{Node, code, nodes};

/// A packet for programs that do not look at it.
const PACKET: [u8; 64] = [0; 64];

/// The kernel with a map.
#[derive(Debug)]
pub(super) struct KernelSide {
    kernel: Kernel,
    map: Array,
    level: crate::generator::Level,
}

impl KernelSide {
    /// # Errors
    /// It lets nobody load and run programs here.
    pub(super) fn open() -> Result<KernelSide, CampaignError> {
        let kernel = Kernel::open()?;
        Ok(KernelSide { map: kernel.array(INPUT)?, level: kernel.level()?, kernel })
    }

    /// Of these knobs, what the verifier takes.
    pub(super) fn knobs(&self, knobs: Knobs) -> Knobs {
        Knobs {
            out_of_bounds: false,
            kernel_acceptable: true,
            calls: false,
            masked_shifts: false,
            level: knobs.level.min(self.level),
            ..knobs
        }
    }

    /// Loads a program that gets its input in `r1`; `None` when the verifier refuses it.
    ///
    /// # Errors
    /// The system call fails for another reason.
    pub(super) fn load(&self, program: &Code) -> Result<Option<Loaded>, CampaignError> {
        let mut nodes = nodes(program);
        if let Some(Node { insn, .. }) = nodes.first_mut()
            && let Insn::Alu { op: AluOp::Mov, width: Width::W64, dst, src: Operand::Reg(R1) } = *insn
        {
            *insn = Insn::LoadImm64 { dst, value: Imm64::MapValue { fd: self.map.fd(), offset: 0 } };
        }
        let bytes = code(&nodes).encode().unwrap_or_default();
        Ok(self.kernel.load(&bytes, ProgramType::SocketFilter)?.ok())
    }

    /// How the kernel differs from what an engine did on this input, in words.
    ///
    /// # Errors
    /// The system call fails.
    pub(super) fn differs(
        &self,
        loaded: &Loaded,
        input: &[u8],
        outcome: &Outcome,
    ) -> Result<Option<String>, CampaignError> {
        self.map.set(input)?;
        let (ret, _) = loaded.run(&PACKET)?;
        let value = self.map.get()?;
        let same = outcome.ret.as_ref().is_ok_and(|&r0| r0 as u32 == ret) && outcome.context == value;
        Ok((!same).then(|| format!("returned {ret:#x}, memory {value:02x?}")))
    }
}
