//! A run in progress, and the functions of Rust that compiled code calls.
//!
//! What code cannot do itself ends here: helpers, accesses that neither windows nor bitmaps grant, calls through
//! registers, and leaving. To leave is to hand the run to the interpreter, which goes on in the middle, exactly: so the
//! end of the budget and every trap are the interpreter's.
//!
//! No panic unwinds through compiled code, which has no tables for it: it is caught here, and goes on behind
//! [`super::glue::Glue::begin`] or [`super::glue::Glue::enter`].

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use softbpf::engine::{Caller, ProgramId};
use softbpf::errno::Errno;
use softbpf::helpers::Stop;
use softbpf::insn::{Callee, Insn, MemoryOperand};
use softbpf::interp::{CallerFrame, MAY_GOTO_LOOPS, Suspended, access, load_packet};
use softbpf::machine::{MAX_TAIL_CALLS, Machine};
use softbpf::memory::{Access, FRAME_STRIDE, STACK_TOP};
use softbpf::outcome::{Trap, TrapKind};

use super::cells::{self, Cells, Window};
use super::code::{Compiled, HelperSite, Site};
use super::compile::has_padding;
use super::engine::Jit;
use super::glue::Returned;
use crate::blocks::SLACK;
use crate::effects::Effects;
use crate::fault::Fault;

/// Misses between two that move a window.
const MISSES: i64 = 15;

/// One run, or what is left of it for Rust: between two runs, as [`Run::default`] but for the first three.
pub(super) struct Run {
    pub(super) jit: *mut Jit,
    pub(super) machine: *mut Machine,
    /// Fuel that the code starts with: the budget less [`SLACK`].
    pub(super) fuel: i64,
    pub(super) tail_calls: u32,
    /// Deepest call of what the interpreter has executed.
    pub(super) deepest: u32,
    /// Depth of the function that the innermost entry into code has called.
    pub(super) floor: u32,
    /// Helper calls that have called back, the outermost first.
    pub(super) segments: Vec<Segment>,
    /// How the innermost entry into code ended, if not by returning.
    pub(super) finished: Option<Result<u64, Box<Trap>>>,
    /// What a helper wants that is not a value.
    pub(super) special: Option<Special>,
}

impl Default for Run {
    fn default() -> Run {
        Run {
            jit: std::ptr::null_mut(),
            machine: std::ptr::null_mut(),
            fuel: 0,
            tail_calls: 0,
            deepest: 0,
            floor: 0,
            segments: Vec::new(),
            finished: None,
            special: None,
        }
    }
}

/// A helper call that has called back: where the code that called it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    stack: u64,
    site: u64,
    frame_pointer: u64,
    floor: u32,
}

pub(super) enum Special {
    Stop(Stop),
    Panic(Box<dyn Any + Send>),
}

/// Two results in two registers.
#[repr(C)]
pub(super) struct Pair {
    value: u64,
    special: u64,
}

/// What the functions below are called with. Pointers, not borrows: a helper may call back, and then there is another one
/// of these, of the same cells and the same run, while the first still stands.
#[derive(Clone, Copy)]
struct Environment<'e> {
    cells: *mut Cells,
    run: *mut Run,
    lives: PhantomData<&'e mut Run>,
}

impl<'e> Environment<'e> {
    /// # Safety
    /// `middle` is what `r12` holds while code runs that [`super::engine::Jit`] has entered.
    unsafe fn new(middle: *mut u8) -> Environment<'e> {
        let cells = cells::from_middle(middle);
        // SAFETY: the cells outlive the run, and code does not touch them while a function of Rust runs.
        let run = unsafe { (*cells).run };
        Environment { cells, run, lives: PhantomData }
    }

    /// Not to be kept while code runs.
    fn cells(&mut self) -> &'e mut Cells {
        // SAFETY: as in `new`.
        unsafe { &mut *self.cells }
    }

    /// Not to be kept while code runs.
    fn run(&mut self) -> &'e mut Run {
        // SAFETY: the run outlives the entry into code, which does not touch it.
        unsafe { &mut *self.run }
    }

    fn machine(&mut self) -> &'e mut Machine {
        // SAFETY: the machine is borrowed for the run by `Engine::run` or `Engine::repeat`, and nobody but the functions here uses it meanwhile.
        unsafe { &mut *self.run().machine }
    }

    fn jit(&mut self) -> &'e mut Jit {
        // SAFETY: as for the machine; of the engine's fields, code and cells are used through the cells only.
        unsafe { &mut *self.run().jit }
    }

    /// Whether this fault has been planted.
    fn planted(&mut self, fault: Fault) -> bool {
        self.jit().options.planted.is(fault)
    }

    /// The site with this return address.
    fn site(&mut self, address: usize) -> Option<(ProgramId, &'e Compiled, Site)> {
        self.jit().locate(address)
    }

    /// Where the code goes on that has called a helper.
    fn return_address(&mut self) -> Option<usize> {
        let stack = self.run().segments.last()?.stack as *const usize;
        // SAFETY: the helper's routine noted its stack pointer, where its return address is; the routine has not returned.
        Some(unsafe { *stack.sub(1) })
    }

    fn depth(&mut self) -> u32 {
        depth(self.cells().registers[10])
    }

    fn used(&mut self) -> u64 {
        (self.run().fuel - self.cells().fuel).unsigned_abs()
    }

    /// A helper has been called whose calls code counts once its log is full: it may be now.
    fn note_kept(&mut self, site: HelperSite) {
        if let Some(place) = site.counted {
            self.cells().kept[place] = (!self.machine().log_full(site.helper)).into();
        }
    }

    /// Opens the frames of the function that runs and of its callers: for who looks at the bitmaps, or takes over.
    fn open_frames(&mut self) {
        if self.cells().opened > self.cells().registers[10] {
            self.open_closed_frames();
        }
    }

    #[inline(never)]
    fn open_closed_frames(&mut self) {
        let frame_pointer = self.cells().registers[10];
        let first = (cells::NO_FRAME - self.cells().opened) as u32 / FRAME_STRIDE;
        for frame in first..=depth(frame_pointer) {
            self.machine().memory.view().push_frame(frame);
        }
        self.cells().opened = frame_pointer;
    }

    /// The callers of the function whose stack pointer is `stack`, the outermost first.
    fn callers(&mut self, stack: u64) -> Vec<CallerFrame> {
        let mut callers = Vec::new();
        for segment in self.run().segments.clone() {
            // What these have in registers is not asked for: the part of the run that can be handed over ends above them.
            let now = Waiting { registers: [0; 4], loops: 0 };
            self.walk(segment.stack, depth(segment.frame_pointer), segment.floor, now, &mut callers);
            if let Some(site) = self.jit().helper_site(segment.site) {
                callers.push(CallerFrame {
                    program: site.program,
                    ret: site.index as usize + 1,
                    saved: [0; 4],
                    frame_pointer: segment.frame_pointer,
                    loops: 0,
                });
            }
        }
        let (depth, floor) = (self.depth(), self.run().floor);
        let [_, _, _, _, _, _, r6, r7, r8, r9, _] = self.cells().registers;
        let now = Waiting { registers: [r6, r7, r8, r9], loops: self.cells().loops };
        self.walk(stack, depth, floor, now, &mut callers);
        callers
    }

    /// Adds the callers on one stretch of the host's stack, as [`super::compile`] lays out a call; `now` is what the function
    /// that runs finds. What a caller has not saved is as the function leaves it that it has called.
    fn walk(&mut self, stack: u64, depth: u32, floor: u32, mut now: Waiting, callers: &mut Vec<CallerFrame>) {
        let start = callers.len();
        let mut stack = stack as *const u64;
        for caller in (floor..depth).rev() {
            let mut pop = || {
                // SAFETY: the function above `caller` was called by code that pushed these words, the return address last,
                // and so were its callers down to the one at `floor`.
                unsafe {
                    let word = *stack;
                    stack = stack.add(1);
                    word
                }
            };
            let Some((program, _, site)) = self.site(pop() as usize) else { break };
            if has_padding(site.saved) {
                pop();
            }
            if site.saved.loops() {
                now.loops = pop();
            }
            for (reg, value) in Effects::PRESERVED.into_iter().zip(&mut now.registers).rev() {
                if site.saved.writes(reg) {
                    *value = pop();
                }
            }
            callers.push(CallerFrame {
                program,
                ret: site.index as usize + 1,
                saved: now.registers,
                frame_pointer: u64::from(STACK_TOP - caller * FRAME_STRIDE),
                loops: now.loops as u32,
            });
        }
        callers[start..].reverse();
    }

    /// Has the interpreter go on before the instruction with this index.
    fn hand_over(&mut self, program: ProgramId, index: usize, stack: u64) {
        let callers = self.callers(stack);
        self.hand_over_from(program, index, callers);
    }

    /// As [`Environment::hand_over`], of a function with these callers.
    fn hand_over_from(&mut self, program: ProgramId, index: usize, callers: Vec<CallerFrame>) {
        if !self.planted(Fault::FramesNotHandedOver) {
            self.open_frames();
        }
        let suspended = Suspended {
            program,
            index,
            registers: self.cells().registers,
            callers,
            floor: self.run().floor,
            loops: self.cells().loops as u32,
            used: self.used(),
            budget: (self.run().fuel + i64::from(SLACK)).unsigned_abs(),
            tail_calls: self.run().tail_calls,
        };
        let (jit, machine) = (self.jit(), self.machine());
        let resumed = jit.interpreter.resume(machine, suspended);
        self.cells().fuel = self.run().fuel - i64::try_from(resumed.used).unwrap_or(self.run().fuel);
        self.run().tail_calls = resumed.tail_calls;
        self.run().deepest = self.run().deepest.max(resumed.deepest);
        match resumed.ret {
            Ok(ret) => self.run().finished = Some(ret),
            // Nothing unwinds through code: a mock's panic waits until code has been left.
            Err(panic) => self.run().special = Some(Special::Panic(panic)),
        }
    }

    fn trap(&mut self, kind: TrapKind, program: ProgramId, index: usize, stack: u64) {
        let callers = self.callers(stack);
        let callers = callers.iter().map(|frame| (frame.program, frame.ret - 1));
        let trap = self.machine().trap(kind, program, index, self.cells().registers, callers);
        self.run().finished = Some(Err(trap));
    }

    /// Moves the window of a site to the object that the address is in.
    fn move_window(&mut self, site: &Site, insn: &Insn) {
        self.cells().misses = MISSES;
        let (Some(number), Some(operand)) = (site.window, insn.memory()) else { return };
        let MemoryOperand { size, base, off, reads, writes } = operand;
        let off = i64::from(off) as u64;
        let addr = self.cells().registers[usize::from(base.number())].wrapping_add(off);
        let memory = &self.machine().memory;
        let range = |access| memory.window(addr, access);
        let range = match (reads, writes) {
            (true, true) => range(Access::Read)
                .zip(range(Access::Write))
                .map(|(read, write)| read.start.max(write.start)..read.end.min(write.end)),
            (_, false) => range(Access::Read),
            (false, true) => range(Access::Write),
        };
        let Some(range) = range else { return };
        let start = u64::from(range.start).wrapping_sub(off);
        let len = u64::from(range.end.saturating_sub(range.start)).saturating_sub(u64::from(size.bytes()) - 1);
        let len = len + u64::from(len > 0 && self.planted(Fault::WindowOneMore));
        let fleeting = self.machine().memory.is_fleeting(range.start);
        self.jit().set_window(number, Window { start, len }, fleeting);
    }

    /// Executes an instruction as the interpreter would, and says where to go on; null to have it trap.
    fn slow(&mut self, address: usize) -> *const u8 {
        self.open_frames();
        let Some((_, compiled, site)) = self.site(address) else { return std::ptr::null() };
        let Some(insn) = compiled.program.code().insns().get(site.index as usize) else { return std::ptr::null() };
        if let Insn::LoadPacket { size, offset } = *insn {
            let Ok(value) = load_packet(self.machine(), size, offset, &self.cells().registers) else {
                return std::ptr::null();
            };
            self.cells().registers[0] = value.unwrap_or(0);
            self.cells().registers[1..6].fill(0);
            if value.is_some() {
                return compiled.address(site.resume);
            }
            // The function returns: what comes behind the load is not executed.
            self.cells().fuel += i64::from(site.charged) - 1;
            return compiled.address(compiled.epilogue);
        }
        if self.cells().misses < 0 {
            self.move_window(&site, insn);
        }
        match access(self.machine(), insn, &mut self.cells().registers) {
            Ok(()) => compiled.address(site.resume),
            Err(_) => std::ptr::null(),
        }
    }

    /// What becomes of a helper call that gave no value: where to go on, or null when the run has ended.
    fn special(&mut self, address: usize, stack: u64) -> *const u8 {
        let Some((program, compiled, site)) = self.site(address) else { return std::ptr::null() };
        match self.run().special.take() {
            Some(Special::Stop(Stop::TailCall(target))) => {
                if self.run().tail_calls >= MAX_TAIL_CALLS && !self.planted(Fault::TailCallsUnlimited) {
                    self.cells().registers[0] = Errno::EPERM.ret();
                    self.cells().registers[1..6].fill(0);
                    return compiled.address(site.offset);
                }
                self.tail_call(program, site.index as usize, target, stack)
            }
            Some(Special::Stop(Stop::Trap(kind))) => {
                self.trap(*kind, program, site.index as usize, stack);
                std::ptr::null()
            }
            Some(Special::Stop(Stop::Ended(trap))) => {
                self.run().finished = Some(Err(trap));
                std::ptr::null()
            }
            special @ (Some(Special::Panic(_) | Special::Stop(Stop::Errno(_))) | None) => {
                self.run().special = special;
                std::ptr::null()
            }
        }
    }

    fn tail_call(&mut self, program: ProgramId, index: usize, target: ProgramId, stack: u64) -> *const u8 {
        if self.machine().program(target).is_none() {
            let kind = self.machine().bad_program(target);
            self.trap(kind, program, index, stack);
            return std::ptr::null();
        }
        self.run().tail_calls += 1;
        let callers = self.callers_that_saved_little(stack);
        let (context, frame_pointer) = (self.cells().registers[1], self.cells().registers[10]);
        let r6 = if self.planted(Fault::TailCallKeepsR6) { self.cells().registers[6] } else { 0 };
        self.cells().registers = [0; 11];
        self.cells().registers[6] = r6;
        self.cells().registers[1] = context;
        self.cells().registers[10] = frame_pointer;
        self.cells().loops = MAY_GOTO_LOOPS.into();
        let depth = self.depth();
        if !self.planted(Fault::TailCallKeepsFrame) {
            self.machine().fresh_frame(depth);
        }
        if let Some(callers) = callers {
            self.hand_over_from(target, 0, callers);
            return std::ptr::null();
        }
        match self.jit().compiled(self.machine(), target, context) {
            Some(code) => code.entry(),
            None => {
                self.hand_over(target, 0, stack);
                std::ptr::null()
            }
        }
    }

    /// The callers of the function that runs, if the one that called it has not saved all that another program may change:
    /// where a mock asks for a tail call, which nobody can know of a program.
    fn callers_that_saved_little(&mut self, stack: u64) -> Option<Vec<CallerFrame>> {
        if self.depth() == self.run().floor {
            return None;
        }
        // SAFETY: the function was called by code, so that its return address lies there.
        let address = unsafe { *(stack as *const usize) };
        let (_, _, site) = self.site(address)?;
        (site.saved != Effects::ALL).then(|| self.callers(stack))
    }
}

/// What a function finds in `r6` to `r9` when what it has called returns, and as its budget of `may_goto`.
struct Waiting {
    registers: [u64; 4],
    loops: u64,
}

/// Depth of the call whose frame has this top.
fn depth(frame_pointer: u64) -> u32 {
    (STACK_TOP - frame_pointer as u32) / FRAME_STRIDE
}

/// What helpers may ask of the JIT.
struct CallBack {
    middle: *mut u8,
}

impl Caller for CallBack {
    fn call_back(&mut self, machine: &mut Machine, function: u64, args: [u64; 5]) -> Result<u64, Stop> {
        // SAFETY: this exists only while a helper runs that code has called.
        let environment = unsafe { Environment::new(self.middle) };
        environment.call_back(machine, function, args)
    }
}

impl Environment<'_> {
    fn call_back(mut self, machine: &mut Machine, function: u64, args: [u64; 5]) -> Result<u64, Stop> {
        let frame_pointer = self.cells().registers[10];
        let caller = depth(frame_pointer);
        let site = self.jit().helper_site(self.cells().site);
        let program = site.map_or(ProgramId::new(0), |site| site.program);
        let Some(index) = machine.code_at(program, function) else {
            return Err(Stop::trap(TrapKind::BadCallTarget { target: function }));
        };
        let Some(top) = machine.memory.view().push_frame(caller + 1) else {
            return Err(Stop::trap(TrapKind::TooDeep));
        };
        let saved = (
            self.cells().registers,
            self.cells().site,
            self.cells().caller_stack,
            self.cells().loops,
            self.run().floor,
        );
        let outer = std::mem::replace(&mut self.run().machine, machine);
        // The return address lies below the caller's own part of the stack.
        let stack = self.cells().caller_stack + 8;
        self.run().segments.push(Segment { stack, site: self.cells().site, frame_pointer, floor: self.run().floor });
        self.run().floor = caller + 1;
        let first = usize::from(self.planted(Fault::CallbackLosesR1));
        self.cells().registers = [0; 11];
        self.cells().registers[1 + first..6].copy_from_slice(&args[first..]);
        self.cells().registers[10] = top;
        self.cells().loops = MAY_GOTO_LOOPS.into();
        self.cells().lowest = self.cells().lowest.min(top);
        self.cells().opened = top;
        let machine = self.machine();
        self.jit().after_helper(machine);
        self.jit().after_mock(machine);
        let result = self.run_callback(program, index);
        // What did not return has left its own frames open.
        for frame in caller + 1..=depth(self.cells().opened) {
            self.machine().memory.view().pop_frame(frame);
        }
        self.cells().opened = frame_pointer;
        self.run().segments.pop();
        self.run().machine = outer;
        (self.cells().registers, self.cells().site, self.cells().caller_stack, self.cells().loops, self.run().floor) =
            saved;
        // Whoever called may catch it, and go on.
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// What a function that is called back came to; a panic, if it comes to one.
    fn run_callback(&mut self, program: ProgramId, index: usize) -> Result<Result<u64, Stop>, Box<dyn Any + Send>> {
        let jit = self.jit();
        // The code that called the helper, whichever variant it is.
        let caller = self.return_address().and_then(|address| jit.locate(address));
        let code = caller.and_then(|(_, code, _)| code.function(index));
        match code {
            Some(entry) => {
                // SAFETY: the entry is one of this engine's code, and the cells describe this run.
                let returned = unsafe { jit.glue.enter(self.cells, entry) };
                if let Some(Returned { r0, fuel }) = returned {
                    self.cells().fuel = fuel;
                    return Ok(Ok(r0));
                }
            }
            // Not an instruction that the program says it calls: the interpreter takes it from there.
            None => self.hand_over(program, index, 0),
        }
        if let Some(Special::Panic(panic)) = self.run().special.take() {
            return Err(panic);
        }
        Ok(match self.run().finished.take() {
            Some(Ok(value)) => Ok(value),
            Some(Err(trap)) => Err(Stop::Ended(trap)),
            None => Ok(0),
        })
    }
}

// What code calls, through `glue`.

pub(super) extern "C" fn on_leave(middle: *mut u8, address: usize, stack: u64) {
    // SAFETY: called by `glue` with what `r12` holds.
    let mut environment = unsafe { Environment::new(middle) };
    let Some((program, _, site)) = environment.site(address) else { return };
    environment.cells().fuel += i64::from(site.charged);
    environment.hand_over(program, site.index as usize, stack);
}

pub(super) extern "C" fn on_slow(middle: *mut u8, address: usize, _stack: u64) -> *const u8 {
    // SAFETY: called by `glue` with what `r12` holds.
    let mut environment = unsafe { Environment::new(middle) };
    environment.slow(address)
}

pub(super) extern "C" fn on_special(middle: *mut u8, address: usize, stack: u64) -> *const u8 {
    // SAFETY: called by `glue` with what `r12` holds.
    let mut environment = unsafe { Environment::new(middle) };
    environment.special(address, stack)
}

pub(super) extern "C" fn on_call_register(middle: *mut u8, address: usize, _stack: u64) -> *const u8 {
    // SAFETY: called by `glue` with what `r12` holds.
    let mut environment = unsafe { Environment::new(middle) };
    let Some((program, compiled, site)) = environment.site(address) else { return std::ptr::null() };
    let Some(Insn::Call(Callee::Reg(reg))) = compiled.program.code().insns().get(site.index as usize) else {
        return std::ptr::null();
    };
    let target = environment.cells().registers[usize::from(reg.number())];
    let function = environment.machine().code_at(program, target).and_then(|index| compiled.function(index));
    function.unwrap_or(std::ptr::null())
}

pub(super) extern "C" fn on_helper(r1: u64, r2: u64, r3: u64, r4: u64, r5: u64, middle: *mut u8) -> Pair {
    // SAFETY: called by `glue` with what `r12` holds.
    let mut environment = unsafe { Environment::new(middle) };
    let Some(site) = environment.jit().helper_site(environment.cells().site) else {
        return Pair { value: 0, special: 1 };
    };
    environment.open_frames();
    let machine = environment.machine();
    // A lookup in a known map, of which only the number of calls is noted.
    if let Some(map) = site.map
        && machine.log_full(site.helper)
        && let Some(value) = machine.lookup(map as usize, r2)
    {
        machine.count_call(site.helper);
        environment.note_kept(site);
        return Pair { value, special: 0 };
    }
    let args = [r1, r2, r3, r4, r5];
    // What the helper wants is sorted out inside, while it is hot.
    let call = || match machine.call_helper(&mut CallBack { middle }, site.helper, &args) {
        Ok(value) => (value, None),
        Err(Stop::Errno(errno)) => (errno.ret(), None),
        Err(stop @ (Stop::Trap(_) | Stop::TailCall(_) | Stop::Ended(_))) => (0, Some(Box::new(stop))),
    };
    let result = catch_unwind(AssertUnwindSafe(call));
    let machine = environment.machine();
    environment.jit().after_helper(machine);
    environment.note_kept(site);
    environment.jit().after_mock(machine);
    let special = match result {
        Ok((value, None)) => return Pair { value, special: 0 },
        Ok((_, Some(stop))) => Special::Stop(*stop),
        Err(panic) => Special::Panic(panic),
    };
    environment.cells().registers[1..6].copy_from_slice(&args);
    environment.run().special = Some(special);
    Pair { value: 0, special: 1 }
}
