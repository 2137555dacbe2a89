//! The current task, CPU and stack: the world's.

use super::{Call, Stop};
use crate::machine::Machine;
use crate::map_spec::MapType;
use crate::maps::{Map, stack_flags};
use crate::world::TASK_COMM_LEN;

type Ret = Result<u64, Stop>;

/// What a helper gives that only tells what the world says of CPU, task or node.
type Answer = fn(&Machine) -> u64;

/// Those helpers: number, answer.
const STEADY: [(i32, Answer); STEADY_HELPERS] = [
    (8, |machine| machine.cpu().into()),
    (14, |machine| machine.world.task.pid_tgid()),
    (15, |machine| machine.world.task.uid_gid()),
    (35, |machine| machine.world.task.address),
    (42, |machine| machine.world.numa_node.into()),
    (80, |machine| machine.world.cgroup_id),
];

/// How many helpers [`steady_helper`] knows.
pub const STEADY_HELPERS: usize = 6;

/// Place of `bpf_get_smp_processor_id` in [`Machine::steady_answers`]: the CPU that per-CPU maps go by, too.
pub const STEADY_CPU: usize = 0;

/// Place of a helper in [`Machine::steady_answers`], if it is one without arguments that gives the same until somebody
/// changes the world: a test between two runs, or a mock.
pub fn steady_helper(number: i32) -> Option<usize> {
    STEADY.iter().position(|&(steady, _)| steady == number)
}

/// The numbers of those helpers, by place.
pub fn steady_numbers() -> [i32; STEADY_HELPERS] {
    STEADY.map(|(number, _)| number)
}

impl Machine {
    /// What the helpers that [`steady_helper`] knows give now, for engines that need not call them.
    pub fn steady_answers(&self) -> [u64; STEADY_HELPERS] {
        STEADY.map(|(_, answer)| answer(self))
    }
}

/// Number of the CPU. `bpf_get_smp_processor_id`.
pub(super) fn get_smp_processor_id(call: &mut Call<'_>) -> Ret {
    Ok(call.machine.cpu().into())
}

/// Number of the NUMA node. `bpf_get_numa_node_id`.
pub(super) fn get_numa_node_id(call: &mut Call<'_>) -> Ret {
    Ok(call.world().numa_node.into())
}

/// `tgid << 32 | pid`. `bpf_get_current_pid_tgid`.
pub(super) fn get_current_pid_tgid(call: &mut Call<'_>) -> Ret {
    Ok(call.world().task.pid_tgid())
}

/// `gid << 32 | uid`. `bpf_get_current_uid_gid`.
pub(super) fn get_current_uid_gid(call: &mut Call<'_>) -> Ret {
    Ok(call.world().task.uid_gid())
}

/// Address of the `task_struct`. `bpf_get_current_task`.
pub(super) fn get_current_task(call: &mut Call<'_>) -> Ret {
    Ok(call.world().task.address)
}

/// Id of the task's cgroup in the v2 hierarchy. `bpf_get_current_cgroup_id`.
pub(super) fn get_current_cgroup_id(call: &mut Call<'_>) -> Ret {
    Ok(call.world().cgroup_id)
}

/// Copies the task's name, cut to the buffer and padded with NULs. `bpf_get_current_comm`.
pub(super) fn get_current_comm(call: &mut Call<'_>) -> Ret {
    let comm = call.world().task.comm_bytes();
    // strscpy_pad: at most size - 1 bytes of the name, then NULs to the end.
    call.clear(0)?;
    let mut bytes = comm[..TASK_COMM_LEN.min(call.arg(1) as usize)].to_vec();
    if let Some(last) = bytes.last_mut() {
        *last = 0;
    }
    call.write(0, &bytes)?;
    Ok(0)
}

/// Stores the world's kernel or user stack in a stack trace map; its id. `bpf_get_stackid`.
pub(super) fn get_stackid(call: &mut Call<'_>) -> Ret {
    call.check_context(0)?;
    let flags = call.arg(2);
    let world = call.world();
    let ips = if flags & stack_flags::USER_STACK != 0 { &world.user_stack } else { &world.kernel_stack }.clone();
    let (_, traces, _) = call.map_of(1, MapType::StackTrace, Map::stack_trace)?;
    Ok(traces.stack_id(&ips, flags)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program_type::ProgramType;
    use crate::{Object, Pid, Task, Tgid};

    #[test]
    fn steady_helpers_give_their_answers() -> Result<(), Box<dyn std::error::Error>> {
        for (place, (number, _)) in STEADY.iter().enumerate() {
            let object = Object::from_text(&format!("call {number}\n exit"), ProgramType::Unspec)?;
            let mut vm = Machine::load(&object)?;
            vm.world.task = Task::new("task", Tgid(7), Pid(8));
            vm.world.task.address = 0xffff_0000_1234_0000;
            vm.world.cpu = 0;
            vm.world.numa_node = 3;
            vm.world.cgroup_id = 99;
            assert_eq!(vm.run("main", ())?.ret, Ok(vm.steady_answers()[place]), "{number}");
            assert_eq!(steady_helper(*number), Some(place));
            assert_eq!(steady_numbers()[place], *number);
        }
        assert_eq!(steady_helper(1), None);
        assert_eq!(steady_helper(8), Some(STEADY_CPU));
        Ok(())
    }
}
