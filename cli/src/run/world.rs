//! The options that say what the program finds around it.

use softbpf::world::{Comm, Random};
use softbpf::{Gid, Machine, Pid, Tgid, Uid};

use crate::args::WorldArgs;
use crate::error::CliError;

/// Sets what was given; the rest keeps the library's defaults.
pub(crate) fn set(args: &WorldArgs, vm: &mut Machine) -> Result<(), CliError> {
    let cpus = vm.cpus();
    let world = &mut vm.world;
    if let Some(cpu) = args.cpu {
        if cpu >= cpus {
            return Err(CliError::NoSuchCpu { cpu, cpus });
        }
        world.cpu = cpu;
    }
    world.clock.monotonic = args.time.unwrap_or(world.clock.monotonic);
    world.random = args.seed.map_or_else(|| world.random.clone(), Random::new);
    world.cgroup_id = args.cgroup.unwrap_or(world.cgroup_id);
    if let Some(stack) = &args.stack {
        world.kernel_stack.clone_from(stack);
    }
    if let Some(stack) = &args.user_stack {
        world.user_stack.clone_from(stack);
    }
    let task = &mut world.task;
    if let Some(comm) = &args.comm {
        task.comm = Comm::new(comm);
    }
    // A task with one id given is the only thread of its process.
    task.pid = args.pid.or(args.tgid).map_or(task.pid, Pid);
    task.tgid = args.tgid.or(args.pid).map_or(task.tgid, Tgid);
    task.uid = args.uid.map_or(task.uid, Uid);
    task.gid = args.gid.map_or(task.gid, Gid);
    Ok(())
}
