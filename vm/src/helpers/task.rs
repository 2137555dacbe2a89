//! The current task, CPU and stack: the world's.

use super::{Call, Stop};
use crate::map_spec::MapType;
use crate::maps::{Map, stack_flags};
use crate::world::TASK_COMM_LEN;

type Ret = Result<u64, Stop>;

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
