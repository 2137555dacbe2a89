//! The engine: programs compiled when they first run, and runs of them.

use std::panic::resume_unwind;
use std::ptr::NonNull;
use std::sync::Arc;

use softbpf::engine::{Engine, Entry, Finish, ProgramId, StepHook};
use softbpf::interp::Interpreter;
use softbpf::machine::{Machine, Repeated};
use softbpf::memory::{FRAME_STRIDE, STACK_TOP};
use softbpf::outcome::Trap;

use super::Options;
use super::assume;
use super::cells::{CONTEXT, CellMemory, NO_FRAME, PACKET, Window, WindowNumber, counted_numbers};
use super::code::{CodeError, Compiled, HelperSite, Site};
use super::compile::{self, Reasons, Tables};
use super::glue::{Glue, Returned};
use super::perf;
use super::run::{Run, Special};
use crate::blocks::SLACK;
use crate::fault::Fault;
use crate::inspect::Compilation;
use crate::{Perf, Unavailable};

/// Numbers of windows that are kept at least before those that are there twice are sorted out.
const MAX_FLEETING: usize = 4096;

/// The code of one program.
#[derive(Debug, Default)]
struct Code {
    /// As configured.
    proved: Option<Box<Compiled>>,
    /// With nothing proved: for runs of which the assumptions do not hold.
    plain: Option<Box<Compiled>>,
}

/// Where runs of a program begin, once all has been looked at that must be before.
#[derive(Debug, Clone, Copy)]
struct Ready {
    start: *const u8,
    writes_stack: bool,
    /// It may write to stack frames, or count calls: so may whatever it tail-calls, for which it has to call a helper.
    leaves_work: bool,
}

/// Runs programs as machine code.
#[derive(Debug)]
pub(crate) struct Jit {
    pub(super) options: Options,
    pub(super) glue: &'static Glue,
    cells: CellMemory,
    programs: Vec<Code>,
    /// The run in progress, which functions of Rust find through the cells.
    run: NonNull<Run>,
    /// Some code wants to know where context and packet are.
    likely_objects: bool,
    /// Some code takes helpers' answers from the cells.
    answers: bool,
    /// Some code counts calls of helpers in the cells.
    counts: bool,
    /// Where code expects context and packet: where they were when it was first made.
    objects: [Option<u32>; 2],
    helpers: Vec<HelperSite>,
    /// Windows in memory that the next run lays out anew.
    fleeting: Vec<WindowNumber>,
    /// Length of `fleeting` at which it is sorted out.
    fleeting_limit: usize,
    /// [`Machine::load_id`] of the machine that code and windows are of.
    load_id: u64,
    /// [`softbpf::memory::Memory::generation`] that the windows are true for.
    generation: u64,
    pub(super) interpreter: Interpreter,
    /// The interpreter executed all of the last run.
    interpreted: bool,
    perf: perf::Output,
}

impl Jit {
    pub(super) fn new(options: Options) -> Result<Jit, CodeError> {
        let glue = Glue::get()?;
        let mut cells = CellMemory::new()?;
        let run = NonNull::from(Box::leak(Box::default()));
        // SAFETY: the cells are in a mapping of their own, large enough, and nobody else uses them.
        unsafe {
            (*cells.cells()).routines = glue.routines();
            (*cells.cells()).run = run.as_ptr();
        }
        Ok(Jit {
            options,
            glue,
            cells,
            programs: Vec::new(),
            run,
            likely_objects: false,
            answers: false,
            counts: false,
            objects: [None; 2],
            helpers: Vec::new(),
            fleeting: Vec::new(),
            fleeting_limit: MAX_FLEETING,
            load_id: 0,
            generation: 0,
            interpreter: Interpreter::new(),
            interpreted: false,
            perf: perf::Output::default(),
        })
    }

    /// Tells `perf` of all code from now on, in the way that is asked for.
    pub(super) fn tell_perf(&mut self, perf: &Perf) -> Result<(), Unavailable> {
        self.perf = perf::Output::open(perf, self.glue)?;
        Ok(())
    }

    /// Code of a program that is right for a run where it finds `r1` in its first argument, compiled now if it has not
    /// been; `None` for a program that cannot be run or compiled.
    pub(super) fn compiled(&mut self, machine: &mut Machine, id: ProgramId, r1: u64) -> Option<&Compiled> {
        if self.programs.len() <= id.index() {
            self.programs.resize_with(id.index() + 1, Default::default);
        }
        let options = self.options;
        if self.programs[id.index()].proved.is_none() {
            let (compiled, _) = self.compile(machine, id, options)?;
            self.programs[id.index()].proved = Some(compiled);
        }
        let proved = self.programs[id.index()].proved.as_deref()?;
        if assume::holds(&proved.assumptions, machine, r1) {
            return self.programs[id.index()].proved.as_deref();
        }
        if self.programs[id.index()].plain.is_none() {
            let (compiled, _) = self.compile(machine, id, Options { proofs: false, ..options })?;
            self.programs[id.index()].plain = Some(compiled);
        }
        self.programs[id.index()].plain.as_deref()
    }

    fn compile(&mut self, machine: &mut Machine, id: ProgramId, options: Options) -> Option<(Box<Compiled>, Reasons)> {
        let program = Arc::clone(machine.program(id)?);
        let placed = *machine.placed();
        self.objects[CONTEXT].get_or_insert(placed.context.0);
        if let Some((packet, _)) = placed.packet {
            self.objects[PACKET].get_or_insert(packet);
        }
        let tables = Tables { cells: &mut self.cells, helpers: &mut self.helpers, objects: self.objects };
        let (compiled, reasons) = compile::compile(machine, id, &program, options, tables).ok()?;
        self.perf.program(&compiled);
        if compiled.likely_objects && !self.likely_objects {
            self.likely_objects = true;
            self.place_objects(machine);
        }
        if compiled.answers && !self.answers {
            self.answers = true;
            self.note_answers(machine);
        }
        if compiled.counts && !self.counts {
            self.counts = true;
            self.note_kept(machine);
        }
        Some((Box::new(compiled), reasons))
    }

    /// Compiles a program; the size of the code.
    pub(super) fn code_size(&mut self, machine: &mut Machine, id: ProgramId) -> Option<usize> {
        Some(self.compile(machine, id, self.options)?.0.memory.bytes().len())
    }

    /// Compiles a program and describes the code.
    pub(super) fn inspect(&mut self, machine: &mut Machine, id: ProgramId) -> Option<Compilation> {
        let (compiled, reasons) = self.compile(machine, id, Options { explain: true, ..self.options })?;
        Some(compiled.describe(&reasons))
    }

    /// Tells code where the run's objects are.
    fn place_objects(&mut self, machine: &mut Machine) {
        // SAFETY: the cells are in a mapping of their own, and code does not run now.
        unsafe { (*self.cells.cells()).objects = assume::objects(machine, self.objects) };
    }

    /// Tells code what helpers give that it does not call.
    fn note_answers(&mut self, machine: &Machine) {
        // SAFETY: the cells are in a mapping of their own, and code does not run now.
        unsafe { (*self.cells.cells()).answers = machine.steady_answers() };
    }

    /// Tells code which calls are kept with their arguments: not those of a helper whose log is full.
    fn note_kept(&mut self, machine: &Machine) {
        // SAFETY: the cells are in a mapping of their own, and code does not run now.
        let cells = unsafe { &mut *self.cells.cells() };
        for (kept, helper) in cells.kept.iter_mut().zip(counted_numbers()) {
            *kept = (!machine.log_full(helper)).into();
        }
    }

    /// Tells the machine how often code has done what helpers do.
    fn settle_counts(&mut self, machine: &mut Machine) {
        if !self.counts {
            return;
        }
        // SAFETY: as above.
        let cells = unsafe { &mut *self.cells.cells() };
        let counts = machine.call_counts();
        for (counted, helper) in cells.counted.iter_mut().zip(counted_numbers()) {
            counts[helper as usize] += std::mem::take(counted);
        }
    }

    /// A mock may have changed the world.
    pub(super) fn after_mock(&mut self, machine: &Machine) {
        if self.answers && machine.has_mocks() && !self.options.planted.is(Fault::AnswersStay) {
            self.note_answers(machine);
        }
    }

    fn all_code(&self) -> impl Iterator<Item = (ProgramId, &Compiled)> {
        self.programs.iter().enumerate().flat_map(|(index, code)| {
            let both = [code.proved.as_deref(), code.plain.as_deref()];
            both.into_iter().flatten().map(move |code| (ProgramId::new(index), code))
        })
    }

    /// Forgets all code when it was made for another machine, or for another object in this one.
    fn check_machine(&mut self, machine: &Machine) {
        if self.load_id != machine.load_id() {
            self.load_id = machine.load_id();
            self.generation = machine.memory.generation();
            self.programs.clear();
            self.helpers.clear();
            self.objects = [None; 2];
            self.fleeting.clear();
            self.likely_objects = false;
            self.answers = false;
            self.counts = false;
            self.cells.forget_windows();
        }
    }

    /// The site with this return address.
    pub(super) fn locate(&self, address: usize) -> Option<(ProgramId, &Compiled, Site)> {
        self.all_code().find_map(|(id, code)| Some((id, code, *code.site(address)?)))
    }

    pub(super) fn helper_site(&self, number: u64) -> Option<HelperSite> {
        self.helpers.get(usize::try_from(number).ok()?).copied()
    }

    pub(super) fn set_window(&mut self, number: WindowNumber, window: Window, fleeting: bool) {
        // A list of those that move from object to object does not grow for ever.
        if fleeting && self.fleeting.last() != Some(&number) {
            self.fleeting.push(number);
            if self.fleeting.len() >= self.fleeting_limit {
                self.fleeting.sort_unstable();
                self.fleeting.dedup();
                self.fleeting_limit = MAX_FLEETING.max(2 * self.fleeting.len());
            }
        }
        self.cells.set_window(number, window);
    }

    /// Windows see no memory that has been closed.
    pub(super) fn after_helper(&mut self, machine: &Machine) {
        if machine.memory.generation() != self.generation {
            self.generation = machine.memory.generation();
            if !self.options.planted.is(Fault::WindowsStay) {
                self.cells.clear_windows();
            }
        }
    }

    fn start_run(&mut self, machine: &mut Machine) {
        self.after_helper(machine);
        if self.likely_objects {
            self.place_objects(machine);
        }
        if self.answers {
            self.note_answers(machine);
        }
        if self.counts {
            self.note_kept(machine);
        }
        if self.options.planted.is(Fault::FleetingWindowsStay) {
            return;
        }
        for number in self.fleeting.drain(..) {
            self.cells.set_window(number, Window::default());
        }
    }

    /// Tells code of the machine's memory.
    fn describe_machine(&mut self, machine: &mut Machine) {
        let mut view = machine.memory.view();
        let (arena, readable, writable) = view.parts();
        // SAFETY: the cells are in a mapping of their own, and no code runs.
        let cells = unsafe { &mut *self.cells.cells() };
        cells.arena = arena.as_mut_ptr();
        cells.words = readable.len().min(writable.len()) as u64;
        cells.readable = readable.as_ptr().cast();
        cells.writable = writable.as_ptr().cast();
    }

    /// Gets code and cells ready for runs on the context that has been placed; `None` where the interpreter is to run the
    /// program: a hook looks at every instruction, who tracks uninitialised bytes at every store, and of bytes that somebody has
    /// closed by hand only the bitmaps know.
    fn get_ready(&mut self, machine: &mut Machine, entry: &Entry, hooked: bool) -> Option<Ready> {
        let narrowed = machine.memory.is_narrowed();
        let view = machine.memory.view();
        self.interpreted = true;
        if hooked || narrowed || view.tracking() || !view.is_full_size() {
            return None;
        }
        self.check_machine(machine);
        self.start_run(machine);
        let code = self.compiled(machine, entry.program, entry.args[0])?;
        let Compiled { writes_stack, counts, .. } = *code;
        let ready = Ready { start: code.entry(), writes_stack, leaves_work: writes_stack || counts };
        self.describe_machine(machine);
        self.interpreted = false;
        Some(ready)
    }

    /// Runs a program that is ready.
    #[inline(always)]
    fn execute(&mut self, machine: &mut Machine, entry: &Entry, ready: Ready) -> Finish {
        let budget = i64::try_from(entry.budget).unwrap_or(i64::MAX / 2).min(i64::MAX / 2);
        let fuel = budget - i64::from(SLACK);
        let (cells, run, glue) = (self.cells.cells(), self.run.as_ptr(), self.glue);
        // SAFETY: the run is this engine's, and so are the cells, in a mapping of their own; no code runs.
        unsafe {
            (*run).jit = self;
            (*run).machine = machine;
            (*run).fuel = fuel;
            (*cells).begin();
        }
        // SAFETY: the code is this engine's, of a program of this machine, which the cells describe; what they point to is
        // not touched until the code has left, but by the functions in `run`.
        let returned = unsafe { glue.begin(cells, ready.start, entry.args, fuel) };
        let (ret, left) = match returned {
            Some(Returned { r0, fuel }) => (Ok(r0), fuel),
            None => self.after_leaving(machine),
        };
        // SAFETY: code has left.
        let opened = unsafe { (*cells).opened };
        if opened != NO_FRAME {
            machine.close_frames((STACK_TOP - opened as u32) / FRAME_STRIDE);
        }
        if ready.leaves_work {
            self.settle_counts(machine);
            if ready.writes_stack {
                machine.zero_frames(self.deepest());
            }
        }
        Finish { ret, instructions: (fuel - left).unsigned_abs() }
    }

    /// What a run came to that did not end in code, and its fuel; the panic of a mock goes on from here.
    #[cold]
    fn after_leaving(&mut self, machine: &mut Machine) -> (Result<u64, Box<Trap>>, i64) {
        self.settle_counts(machine);
        // SAFETY: run and cells are this engine's, and code has left.
        let (run, cells) = unsafe { (self.run.as_mut(), &*self.cells.cells()) };
        let (r0, fuel) = (cells.registers[0], cells.fuel);
        if let Some(Special::Panic(panic)) = run.special.take() {
            *run = Run::default();
            resume_unwind(panic);
        }
        let ret = run.finished.take().unwrap_or(Ok(r0));
        // Mocks were the interpreter's to call.
        self.after_mock(machine);
        (ret, fuel)
    }

    /// How deep the run went that has ended, where it may have written to frames.
    #[inline]
    fn deepest(&mut self) -> u32 {
        // SAFETY: run and cells are this engine's, and code has left.
        let (run, cells) = unsafe { (self.run.as_mut(), &*self.cells.cells()) };
        let deepest = (STACK_TOP - cells.lowest as u32) / FRAME_STRIDE;
        if run.tail_calls == 0 && run.deepest == 0 {
            return deepest;
        }
        deepest.max(std::mem::take(run).deepest)
    }
}

impl Drop for Jit {
    fn drop(&mut self) {
        // SAFETY: it was leaked where the engine was made, and no run is in progress.
        drop(unsafe { Box::from_raw(self.run.as_ptr()) });
    }
}

// SAFETY: what the pointers point to is the engine's alone, or its machine's while a run is in progress.
unsafe impl Send for Jit {}

impl Engine for Jit {
    /// Behind a run that the interpreter executed, the interpreter's.
    fn name(&self) -> &'static str {
        if self.interpreted { self.interpreter.name() } else { "jit" }
    }

    fn run(&mut self, machine: &mut Machine, entry: Entry, hook: Option<StepHook<'_>>) -> Finish {
        match self.get_ready(machine, &entry, hook.is_some()) {
            Some(ready) => self.execute(machine, &entry, ready),
            None => self.interpreter.run(machine, entry, hook),
        }
    }

    fn repeat(&mut self, machine: &mut Machine, entry: Entry, times: u64) -> Repeated {
        let Some(ready) = self.get_ready(machine, &entry, false) else {
            return self.interpreter.repeat(machine, entry, times);
        };
        machine.run_times(entry.program, times, |machine, _| {
            // What the last run held has been closed.
            self.after_helper(machine);
            self.execute(machine, &entry, ready).into()
        })
    }
}
