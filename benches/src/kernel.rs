//! The kernel that runs here, by `BPF_PROG_TEST_RUN`: the same bytecode, repeated and timed by the kernel.
//!
//! Memory is the value of an array map, whose address and length two instructions in front put into `r1` and `r2`. What the
//! verifier refuses is left out, with its reason; so is everything where bpf(2) is not permitted.

use std::time::Duration;

use softbpf::asm::{R1, R2};
use softbpf::codec::Code;
use softbpf::insn::{Imm64, Insn};
use softbpf::program_type::ProgramType;
use softbpf_conformance::kernel::{self, Array, Loaded, Map, reason};

use crate::contestants::Made;
use crate::measure::Contestant;
use crate::workload::{Input, Workload, fold};

/// The context of programs that do not look at it.
const NO_PACKET: [u8; 64] = [0; 64];

/// A program in the kernel, with what it works on.
#[derive(Debug)]
pub(crate) struct Kernel {
    loaded: Loaded,
    packets: Vec<Vec<u8>>,
    expected: u64,
    /// They go when this is dropped.
    _maps: Vec<Map>,
    _memory: Option<Array>,
}

impl Kernel {
    pub(crate) fn make(workload: &Workload) -> Made {
        let kernel = kernel::Kernel::open().map_err(|error| error.to_string())?;
        let failed = |error: std::io::Error| error.to_string();
        let (maps, memory) = match &workload.input {
            Input::Memory(memory) if memory.is_empty() => (Vec::new(), None),
            Input::Memory(memory) => {
                let array = kernel.array(memory.len()).map_err(failed)?;
                array.set(memory).map_err(failed)?;
                (Vec::new(), Some(array))
            }
            Input::Maps | Input::Packets(..) => (maps(&kernel, workload).map_err(failed)?, None),
        };
        let code = Code::decode(&workload.bytecode).map_err(|error| error.to_string())?;
        let linked = link(&code, &maps, memory.as_ref().zip(workload.memory()));
        let bytes = linked.encode().map_err(|error| error.to_string())?;
        let loaded = kernel.load(&bytes, ProgramType::Xdp).map_err(failed)?;
        let loaded = loaded.map_err(|log| format!("the verifier refuses it: {}", reason(&log)))?;
        let packets = match &workload.input {
            Input::Packets(_, packets) => packets.clone(),
            Input::Memory(_) | Input::Maps => vec![NO_PACKET.to_vec()],
        };
        Ok(Box::new(Kernel { loaded, packets, expected: workload.expected, _maps: maps, _memory: memory }))
    }

    /// Runs the program so often on each packet: `r0` as far as the kernel gives it, and its time.
    fn run(&self, times: u64) -> Result<(u64, Duration), String> {
        let times = u32::try_from(times).map_err(|_| "more than 2^32 runs".to_owned())?;
        let (mut sum, mut spent) = (0, Duration::ZERO);
        for packet in &self.packets {
            let repeated = self.loaded.repeat(packet, times).map_err(|error| error.to_string())?;
            let r0 = u64::from(repeated.ret);
            sum = if self.packets.len() == 1 { r0 } else { fold(sum, r0) };
            spent += repeated.duration * times;
        }
        Ok((sum, spent))
    }
}

impl Contestant for Kernel {
    /// The whole `r0`, which the kernel gives only half of, where that half is right.
    fn repeat(&mut self, times: u64) -> Result<u64, String> {
        let (r0, _) = self.run(times)?;
        let whole = if self.packets.len() == 1 { u64::from(self.expected as u32) } else { self.expected };
        if r0 != whole {
            // The helper of `helper_calls` tells the truth here.
            return Err(format!("gives {r0:#x} here, not {whole:#x}"));
        }
        Ok(self.expected)
    }

    fn time(&mut self, times: u64) -> Result<Duration, String> {
        Ok(self.run(times)?.1)
    }
}

/// The workload's maps, with the elements that its program expects.
fn maps(kernel: &kernel::Kernel, workload: &Workload) -> std::io::Result<Vec<Map>> {
    let mut maps = Vec::new();
    for spec in workload.object.maps() {
        let map = kernel.map(spec)?;
        for (key, value) in workload.elements(&spec.name) {
            map.set(&key, &value)?;
        }
        maps.push(map);
    }
    Ok(maps)
}

/// The program with the kernel's descriptors in it, and with its memory behind `r1`.
fn link(code: &Code, maps: &[Map], memory: Option<(&Array, &[u8])>) -> Code {
    let mut insns = Vec::new();
    if let Some((array, bytes)) = memory {
        insns.extend([Insn::load_map_value(R1, array.fd(), 0), Insn::mov(R2, bytes.len() as i32)]);
    }
    let fd = |index: i32| usize::try_from(index).ok().and_then(|index| maps.get(index)).map_or(-1, Map::fd);
    insns.extend(code.insns().iter().map(|insn| {
        let Insn::LoadImm64 { dst, value: Imm64::MapFd(index) } = *insn else { return *insn };
        Insn::load_map_fd(dst, fd(index))
    }));
    insns.into_iter().collect()
}
