//! Other opinions on a case than its own and an engine's: the reference model, and the kernel that runs here.
//!
//! Both are [`Subject`]s, so that they can be asked, compared and reported like engines. What they cannot be asked is
//! skipped with the reason.

use softbpf::asm::{Insn, R0, R1, Size};
use softbpf::codec::Code;
use softbpf::helpers::table;
use softbpf::insn::{Callee, Imm64};
use softbpf::memory::FAR_START;
use softbpf::program_type::ProgramType;

use crate::case::{Case, End, Input};
use crate::kernel::{Kernel, NotPermitted, Verdict};
use crate::model::{BadAccess, Model, Observed, Setup, StopKind};
use crate::subject::{Answer, MOCKED_HELPER, State, Step, Subject};

/// `bpf_get_smp_processor_id`: the one helper of the kernel that the model knows; CPU 0, as in the default world.
const GET_SMP_PROCESSOR_ID: i32 = 8;

/// Bytes from address 0 that are accesses through a null pointer.
const NULL_PAGE: u64 = 0x1_0000;

fn skipped(why: impl std::fmt::Display) -> Answer {
    Answer::Skipped { why: why.to_string() }
}

/// The model of [`crate::model`].
#[derive(Debug, Default)]
pub struct ModelSubject;

impl ModelSubject {
    /// Runs a case, calling `before` before each instruction.
    fn ask(case: &Case, mut before: impl FnMut(&Model<'_>)) -> Answer {
        if matches!(case.expect.end, End::Rejected(..)) {
            return skipped("the model is handed checked programs only");
        }
        if case.needs_program_array() || case.insns().iter().any(|insn| is_beyond_model(insn, case.mock_helper_5)) {
            return skipped("the model has no maps and no helpers");
        }
        let code = match Code::decode(case.bytes()) {
            Ok(code) => code,
            Err(error) => return skipped(error),
        };
        let setup = match setup(case) {
            Ok(setup) => setup,
            Err(error) => return skipped(error),
        };
        let mocked = case.mock_helper_5;
        let helper = move |number: i32, args: [u64; 5], _: &mut _| match number {
            MOCKED_HELPER if mocked => Some(args[0]),
            GET_SMP_PROCESSOR_ID => Some(0),
            _ => None,
        };
        let mut model = Model::new(&code, &setup).with_helpers(helper);
        before(&model);
        answer(model.run_with(|model, _| before(model)), &code)
    }
}

impl Subject for ModelSubject {
    fn name(&self) -> String {
        "model".to_owned()
    }

    fn run(&mut self, case: &Case) -> Answer {
        ModelSubject::ask(case, |_| ())
    }

    fn trace(&mut self, case: &Case, limit: usize) -> Vec<Step> {
        let limit = limit.min(case.fuel.map_or(usize::MAX, |fuel| usize::try_from(fuel).unwrap_or(usize::MAX)));
        let mut steps = Vec::new();
        ModelSubject::ask(case, |model| {
            if let Some((slot, insn)) = model.next().filter(|_| steps.len() < limit) {
                steps.push(Step { program: 0, slot, insn: *insn, registers: model.registers });
            }
        });
        steps
    }
}

/// A call of a helper that the kernel has and the model has not.
fn is_beyond_model(insn: &Insn, mocked: bool) -> bool {
    let Insn::Call(Callee::Helper(number)) = *insn else { return false };
    let known = number == GET_SMP_PROCESSOR_ID || number == MOCKED_HELPER && mocked;
    !known && table::by_number(number).is_some()
}

fn setup(case: &Case) -> Result<Setup, Box<dyn std::error::Error>> {
    let setup = Setup::of(case.input.program_type(), case.input.context())?;
    Ok(Setup { fuel: case.fuel.unwrap_or(setup.fuel), ..setup })
}

/// What vectors call what became of a run of the model.
pub(crate) fn answer(observed: Observed, code: &Code) -> Answer {
    let memory = observed.packet.unwrap_or(observed.context);
    let state = State { memory: Some(memory), instructions: Some(observed.instructions) };
    match observed.ret {
        Ok(r0) => Answer::Returned { r0, state },
        Err(stop) => {
            let insn = code.index_at(stop.slot).and_then(|index| code.insns().get(index));
            let message = format!("{:x?}", stop.kind);
            Answer::Trapped { name: trap_name(&stop.kind, insn).to_owned(), slot: stop.slot, message, state }
        }
    }
}

/// What vectors call it. The model says less than an engine: why an access is bad shows in its address, what is missing
/// in the instruction.
fn trap_name(kind: &StopKind, insn: Option<&Insn>) -> &'static str {
    match kind {
        StopKind::Access(BadAccess { addr: 0..NULL_PAGE, .. }) => "null",
        StopKind::Access(BadAccess { addr, .. }) if *addr < FAR_START => "out of bounds",
        StopKind::Access(_) => "not mapped",
        StopKind::OutOfFuel => "out of fuel",
        StopKind::TooDeep => "too deep",
        StopKind::NoHelper(_) => "no helper",
        StopKind::BadCallTarget(_) => "bad call target",
        StopKind::NoPacket(_) => "no packet",
        StopKind::Missing => match insn {
            Some(Insn::Call(Callee::Kfunc { .. })) => "no kfunc",
            Some(Insn::LoadImm64 { value: Imm64::Variable { .. }, .. }) => "no extern",
            Some(Insn::LoadImm64 { value: Imm64::MapValue { .. } | Imm64::MapIndexValue { .. }, .. }) => "no map value",
            _ => "no map",
        },
        StopKind::Argument { .. } | StopKind::Helper(_) => "bad argument",
    }
}

/// Bytes of the header that the kernel wants of every packet.
const ETHERNET_HEADER: usize = 14;

/// The kernel that runs here.
///
/// A program on memory is loaded as a `syscall` program, whose context is the memory, behind a prologue that calls it
/// and keeps all 64 bits of its result; one on a packet as a `sched_cls` program, of whose result the low 32 bits are
/// compared. What the
/// verifier refuses that ought to run is skipped, and counted as such: it also refuses much that is harmless.
#[derive(Debug)]
pub struct KernelSubject {
    kernel: Kernel,
}

impl KernelSubject {
    /// The kernel, if it lets us load and test-run programs.
    ///
    /// # Errors
    /// In words, what it did not let us do.
    pub fn open() -> Result<KernelSubject, NotPermitted> {
        Ok(KernelSubject { kernel: Kernel::open()? })
    }

    fn on_memory(&self, case: &Case, memory: &[u8]) -> std::io::Result<Answer> {
        let result = self.kernel.array(8)?;
        let fd = result.fd();
        let prologue = Code::from(vec![
            Insn::call_local(5),
            Insn::LoadImm64 { dst: R1, value: Imm64::MapValue { fd, offset: 0 } },
            Insn::store(Size::DW, R1, 0, R0),
            Insn::mov(R0, 0),
            Insn::exit(),
        ]);
        let mut bytes = prologue.encode().unwrap_or_default();
        bytes.extend_from_slice(case.bytes());
        Ok(match self.kernel.run(&bytes, ProgramType::Syscall, memory)? {
            Verdict::Refused { log } => refused(case, &log),
            Verdict::Ran { data_out, .. } => {
                let value = result.get()?;
                let r0 = value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                Answer::Returned { r0, state: State { memory: Some(data_out), instructions: None } }
            }
        })
    }

    fn on_packet(&self, case: &Case, packet: &[u8]) -> std::io::Result<Answer> {
        if packet.len() < ETHERNET_HEADER {
            return Ok(skipped("the kernel test-runs no packet without an Ethernet header"));
        }
        // Legacy loads are not allowed in functions that have no BTF: no prologue can keep the high half of r0 here.
        let high_half = match case.expect.end {
            End::Returns(r0) => r0 & !u64::from(u32::MAX),
            End::Traps(..) | End::Rejected(..) | End::Fails => 0,
        };
        Ok(match self.kernel.run(case.bytes(), case.input.program_type(), packet)? {
            Verdict::Refused { log } => refused(case, &log),
            Verdict::Ran { ret, data_out } => Answer::Returned {
                r0: high_half | u64::from(ret),
                state: State { memory: Some(data_out), instructions: None },
            },
        })
    }
}

impl Subject for KernelSubject {
    fn name(&self) -> String {
        "kernel".to_owned()
    }

    fn run(&mut self, case: &Case) -> Answer {
        if case.fuel.is_some() {
            return skipped("the kernel has no budget of instructions");
        }
        if case.needs_program_array() {
            return skipped("programs of the kernel's that call each other are not set up here");
        }
        if case.mock_helper_5 && case.calls_helpers() {
            return skipped("the kernel's helper 5 is another one");
        }
        if case.expect.instructions.is_some() && case.insns().iter().any(|insn| matches!(insn, Insn::MayGoto { .. })) {
            return skipped("since Linux 6.15, how long may_goto goes on is a matter of time");
        }
        let answer = match &case.input {
            Input::Memory(memory) => self.on_memory(case, memory),
            Input::Packet(packet) => self.on_packet(case, packet),
        };
        answer.unwrap_or_else(|error| {
            if error.kind() == std::io::ErrorKind::InvalidInput {
                skipped("the kernel test-runs no program that may read more of its context than there is")
            } else {
                skipped(error)
            }
        })
    }
}

/// The verifier's refusal: right where the case must fail, no answer where it ought to run.
fn refused(case: &Case, log: &str) -> Answer {
    match case.expect.end {
        End::Returns(_) => skipped("the verifier refuses it"),
        End::Traps(..) | End::Rejected(..) | End::Fails => {
            let last = log.lines().rfind(|line| !line.starts_with("processed "));
            Answer::Failed { message: last.unwrap_or_default().trim().to_owned() }
        }
    }
}
