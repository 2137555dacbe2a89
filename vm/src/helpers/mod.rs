//! Helpers: what programs call by number.
//!
//! [`table`] has a row for every helper of the kernel; here is the table of those that are implemented, the mocks
//! that replace them, and the log of calls. A helper asks the machine's world for everything outside, and reaches
//! guest memory through [`Call`]'s checked views only.
//!
//! To add a helper: a function in the file of its family, and a row in `IMPLEMENTED`.

pub mod call;
mod callbacks;
mod format;
pub mod log;
mod maps;
mod output;
mod probe;
pub mod table;
mod task;
mod time;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::LazyLock;

pub use call::Call;
use log::Log;
pub use log::{CallRecord, Calls, Counts, MAX_RECORDS};
pub(crate) use maps::Room;
pub use task::{STEADY_CPU, STEADY_HELPERS, steady_helper, steady_numbers};

use crate::engine::{Caller, ProgramId};
use crate::errno::Errno;
use crate::machine::Machine;
use crate::outcome::{Trap, TrapKind};

/// What a helper wants instead of a plain value in `r0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The negated error number in `r0`.
    Errno(Errno),
    /// The program stopped.
    Trap(Box<TrapKind>),
    /// The current function replaced by this program.
    TailCall(ProgramId),
    /// The program stopped, by a trap in a function that the helper has called back. It says where.
    Ended(Box<Trap>),
}

impl Stop {
    /// The program stopped.
    pub fn trap(kind: TrapKind) -> Stop {
        Stop::Trap(Box::new(kind))
    }
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Stop::Errno(errno)
    }
}

/// An implementation.
type Body = fn(&mut Call<'_>) -> Result<u64, Stop>;

/// What is implemented: name in [`table`], function.
const IMPLEMENTED: &[(&str, Body)] = &[
    ("map_lookup_elem", maps::map_lookup_elem),
    ("map_update_elem", maps::map_update_elem),
    ("map_delete_elem", maps::map_delete_elem),
    ("tail_call", maps::tail_call),
    ("probe_read", probe::probe_read),
    ("probe_read_user", probe::probe_read_user),
    ("probe_read_kernel", probe::probe_read_kernel),
    ("probe_read_str", probe::probe_read_str),
    ("probe_read_user_str", probe::probe_read_user_str),
    ("probe_read_kernel_str", probe::probe_read_kernel_str),
    ("ktime_get_ns", time::ktime_get_ns),
    ("ktime_get_boot_ns", time::ktime_get_boot_ns),
    ("ktime_get_coarse_ns", time::ktime_get_coarse_ns),
    ("ktime_get_tai_ns", time::ktime_get_tai_ns),
    ("jiffies64", time::jiffies64),
    ("get_prandom_u32", time::get_prandom_u32),
    ("get_smp_processor_id", task::get_smp_processor_id),
    ("get_numa_node_id", task::get_numa_node_id),
    ("get_current_pid_tgid", task::get_current_pid_tgid),
    ("get_current_uid_gid", task::get_current_uid_gid),
    ("get_current_comm", task::get_current_comm),
    ("get_current_task", task::get_current_task),
    ("get_current_cgroup_id", task::get_current_cgroup_id),
    ("get_stackid", task::get_stackid),
    ("trace_printk", output::trace_printk),
    ("perf_event_output", output::perf_event_output),
    ("ringbuf_output", output::ringbuf_output),
    ("ringbuf_reserve", output::ringbuf_reserve),
    ("ringbuf_submit", output::ringbuf_submit),
    ("ringbuf_discard", output::ringbuf_discard),
    ("ringbuf_query", output::ringbuf_query),
    ("loop", callbacks::bpf_loop),
    ("for_each_map_elem", callbacks::for_each_map_elem),
];

/// Helper numbers are below this.
pub(crate) const NUMBERS: usize = 256;

/// `IMPLEMENTED` by number.
static BODIES: LazyLock<[Option<Body>; NUMBERS]> = LazyLock::new(|| {
    let mut bodies = [None; NUMBERS];
    for (name, body) in IMPLEMENTED {
        let number = table::by_name(name).and_then(|row| usize::try_from(row.number).ok());
        if let Some(place) = number.and_then(|number| bodies.get_mut(number)) {
            *place = Some(*body);
        }
    }
    bodies
});

/// Whether a helper is implemented (mocks aside).
pub fn is_implemented(number: i32) -> bool {
    usize::try_from(number).ok().and_then(|number| BODIES.get(number)).is_some_and(Option::is_some)
}

/// Name without `bpf_`, or the number of a helper that the kernel does not know.
pub fn helper_name(number: i32) -> String {
    table::by_number(number).map_or_else(|| format!("helper {number:#x}"), |row| row.name.to_owned())
}

/// Calls a helper for a program: its mock if it has one, else its implementation.
#[inline]
pub(crate) fn call(machine: &mut Machine, caller: &mut dyn Caller, number: i32, args: &[u64; 5]) -> Result<u64, Stop> {
    // The plain case, which costs little more than the helper: nothing is mocked, and the call is only counted.
    let helpers = machine.helpers_mut();
    if helpers.mocks.is_empty()
        && helpers.log.is_full(number)
        && let Some(body) = body(number)
    {
        helpers.log.count(number);
        return body(&mut Call { machine, caller, number, row: table::by_number(number), args });
    }
    call_noted(machine, caller, number, args)
}

fn body(number: i32) -> Option<Body> {
    *BODIES.get(usize::try_from(number).ok()?)?
}

#[inline(never)]
fn call_noted(machine: &mut Machine, caller: &mut dyn Caller, number: i32, args: &[u64; 5]) -> Result<u64, Stop> {
    let row = table::by_number(number);
    let record = machine.helpers_mut().log.begin(number, args);
    let result = match machine.helpers_mut().take_mock(number) {
        Some(Mock { body: Some(mut body) }) => {
            let mut call = Call { machine, caller, number, row, args };
            let result = catch_unwind(AssertUnwindSafe(|| call.check().and_then(|()| body(&mut call))));
            // Whatever the mock was doing when it panicked, whoever uses it again has caught the panic.
            machine.helpers_mut().give_back(number, body);
            result.unwrap_or_else(|panic| resume_unwind(panic))
        }
        Some(Mock { body: None }) => Err(Stop::trap(TrapKind::MockReentered { helper: helper_name(number).into() })),
        None => match body(number) {
            Some(body) => body(&mut Call { machine, caller, number, row, args }),
            None => Err(Stop::trap(TrapKind::NoHelper { number, name: row.map(|row| row.name) })),
        },
    };
    let ret = match &result {
        Ok(value) => Some(*value),
        Err(Stop::Errno(errno)) => Some(errno.ret()),
        Err(Stop::Trap(_) | Stop::TailCall(_) | Stop::Ended(_)) => None,
    };
    machine.helpers_mut().log.end(number, record, ret);
    result
}

// Mocks.

/// A helper, by name (with or without `bpf_`) or by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelperRef<'n> {
    /// Its name.
    Name(&'n str),
    /// Its number; also one that the kernel does not know.
    Number(i32),
}

impl HelperRef<'_> {
    /// Its number.
    ///
    /// # Errors
    /// No helper has this name.
    pub fn number(self) -> Result<i32, UnknownHelper> {
        match self {
            HelperRef::Number(number) => Ok(number),
            HelperRef::Name(name) => match table::by_name(name) {
                Some(row) => Ok(row.number),
                None => Err(UnknownHelper { name: name.to_owned() }),
            },
        }
    }
}

impl<'n> From<&'n str> for HelperRef<'n> {
    fn from(name: &'n str) -> Self {
        HelperRef::Name(name)
    }
}

impl From<i32> for HelperRef<'_> {
    fn from(number: i32) -> Self {
        HelperRef::Number(number)
    }
}

/// A helper that the kernel does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no helper {name}")]
pub struct UnknownHelper {
    /// The name asked for.
    pub name: String,
}

/// What a mock may give back: a number for `r0` (negative ones sign-extended), nothing (0), or a [`Stop`].
pub trait IntoReturn {
    /// The value for `r0`, or what is wanted instead.
    ///
    /// # Errors
    /// The mock wants something else than a value.
    fn into_return(self) -> Result<u64, Stop>;
}

macro_rules! into_return {
    ($($number:ty)*) => {
        $(impl IntoReturn for $number {
            fn into_return(self) -> Result<u64, Stop> {
                Ok(self as i64 as u64)
            }
        })*
    };
}
into_return!(i32 i64 u32 u64);

impl IntoReturn for () {
    fn into_return(self) -> Result<u64, Stop> {
        Ok(0)
    }
}

impl IntoReturn for Errno {
    fn into_return(self) -> Result<u64, Stop> {
        Ok(self.ret())
    }
}

impl<R: IntoReturn, E: Into<Stop>> IntoReturn for Result<R, E> {
    fn into_return(self) -> Result<u64, Stop> {
        self.map_err(Into::into)?.into_return()
    }
}

type MockBody = Box<dyn FnMut(&mut Call<'_>) -> Result<u64, Stop> + Send>;

/// A replacement; without a body while it runs.
struct Mock {
    body: Option<MockBody>,
}

/// The mocks of one machine, and its log of calls.
#[derive(Default)]
pub(crate) struct Helpers {
    mocks: BTreeMap<i32, Mock>,
    log: Log,
}

impl Helpers {
    pub(crate) fn set_mock(&mut self, number: i32, body: MockBody) {
        self.mocks.insert(number, Mock { body: Some(body) });
    }

    pub(crate) fn is_mocked(&self, number: i32) -> bool {
        self.mocks.contains_key(&number)
    }

    /// Gives the body back that [`Helpers::take_mock`] took.
    fn give_back(&mut self, number: i32, body: MockBody) {
        if let Some(mock) = self.mocks.get_mut(&number) {
            mock.body = Some(body);
        }
    }

    /// Whether anything is mocked.
    pub(crate) fn has_mocks(&self) -> bool {
        !self.mocks.is_empty()
    }

    /// Takes all mocks away.
    pub(crate) fn remove_mocks(&mut self) {
        self.mocks.clear();
    }

    pub(crate) fn remove_mock(&mut self, number: i32) {
        self.mocks.remove(&number);
    }

    /// The mock, leaving an empty one in its place until it is put back.
    fn take_mock(&mut self, number: i32) -> Option<Mock> {
        if self.mocks.is_empty() {
            return None;
        }
        self.mocks.get_mut(&number).map(|mock| Mock { body: mock.body.take() })
    }

    pub(crate) fn calls(&self, number: i32) -> Calls<'_> {
        self.log.calls(number)
    }

    /// Calls of one helper that are kept with their arguments.
    pub(crate) fn kept_calls(&self) -> u32 {
        self.log.limit()
    }

    pub(crate) fn keep_calls(&mut self, most: u32) {
        self.log.set_limit(most);
    }

    pub(crate) fn forget_calls(&mut self) {
        self.log.forget();
    }

    pub(crate) fn counts(&mut self) -> &mut Counts {
        self.log.counts()
    }

    pub(crate) fn log_full(&self, number: i32) -> bool {
        self.log.is_full(number)
    }

    pub(crate) fn count_call(&mut self, number: i32) {
        self.log.count(number);
    }
}

impl fmt::Debug for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helpers").field("mocks", &self.mocks.keys()).finish_non_exhaustive()
    }
}
