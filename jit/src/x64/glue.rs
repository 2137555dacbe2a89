//! The routines that all compiled code shares: the way in, the ways out, and the calls of Rust.
//!
//! Code calls them through the cells. The return address on the stack says where in the program it was: every such
//! address is a [`super::code::Site`]. Between guest instructions the stack pointer is a multiple of 16; a routine
//! finds it 8 off, as any function does.

use std::sync::OnceLock;

use dynasmrt::{AssemblyOffset, DynamicLabel, DynasmApi, DynasmLabelApi};

use super::asm::{LabelAssembler as Assembler, x64};
use super::cells::{self, Cells, Routines};
use super::code::{CodeError, CodeMemory};
use super::registers::host;
use super::run;
use softbpf::insn::{Reg, Size};
use softbpf::memory::{FRAME_STRIDE, STACK_FRAME, STACK_TOP};

/// The routines' code.
#[derive(Debug)]
pub(super) struct Glue {
    memory: CodeMemory,
    begin: Begin,
    enter: Enter,
    routines: [AssemblyOffset; 5],
    check: [AssemblyOffset; 12],
}

/// What an access needs of each of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Read,
    Write,
    Both,
}

/// Index of the routine that checks accesses of this kind.
pub(super) fn check_index(need: Need, size: Size) -> i32 {
    let need = match need {
        Need::Read => 0,
        Need::Write => 1,
        Need::Both => 2,
    };
    let size = match size {
        Size::B => 0,
        Size::H => 1,
        Size::W => 2,
        Size::DW => 3,
    };
    need * 4 + size
}

/// How a function ended that Rust has entered.
#[repr(C)]
pub(super) struct Returned {
    pub(super) r0: u64,
    /// What is left; [`LEFT`] if it did not end in code.
    pub(super) fuel: i64,
}

/// No run has so little fuel.
const LEFT: i64 = i64::MIN;

impl Returned {
    /// `None` for one that has left.
    fn in_code(self) -> Option<Returned> {
        (self.fuel != LEFT).then_some(self)
    }
}

/// The signature of what [`Glue::enter`] calls: the middle of the cells, and where to go.
type Enter = extern "C" fn(*mut u8, *const u8) -> Returned;

/// The signature of what [`Glue::begin`] calls: `r1` and `r2`, where code has them, then as [`Enter`], and fuel.
type Begin = extern "C" fn(u64, u64, *mut u8, *const u8, i64) -> Returned;

impl Glue {
    /// The routines of this process: they belong to no engine, which all have cells of their own.
    pub(super) fn get() -> Result<&'static Glue, CodeError> {
        static GLUE: OnceLock<Glue> = OnceLock::new();
        match GLUE.get() {
            Some(glue) => Ok(glue),
            None => {
                let glue = Glue::new()?;
                Ok(GLUE.get_or_init(|| glue))
            }
        }
    }

    fn new() -> Result<Glue, CodeError> {
        let mut asm = Assembler::new(0);
        let leave_label = asm.new_dynamic_label();
        let out = asm.new_dynamic_label();
        let left = asm.new_dynamic_label();
        let begin = emit_begin(&mut asm);
        let enter = emit_enter(&mut asm, out);
        emit_out(&mut asm, left, out);
        let leave = emit_leave(&mut asm, leave_label, left);
        let slow_label = asm.new_dynamic_label();
        let slow = emit_slow(&mut asm, slow_label, leave_label);
        let helper = emit_helper(&mut asm, left);
        let call_register = emit_call_register(&mut asm, leave_label);
        let close_frame = emit_close_frame(&mut asm);
        let open_frames = asm.new_dynamic_label();
        emit_open_frames(&mut asm, open_frames);
        let mut check = [AssemblyOffset(0); 12];
        for need in [Need::Read, Need::Write, Need::Both] {
            for &size in Size::ALL {
                check[check_index(need, size) as usize] = emit_check(&mut asm, need, size, slow_label, open_frames);
            }
        }
        let memory = CodeMemory::new(&asm.take()?)?;
        // SAFETY: `emit_begin` and `emit_enter` made code with these signatures, which keeps the ABI and stays where it is.
        let (begin, enter) = unsafe {
            (
                std::mem::transmute::<*const u8, Begin>(memory.address(begin.0)),
                std::mem::transmute::<*const u8, Enter>(memory.address(enter.0)),
            )
        };
        Ok(Glue { memory, begin, enter, routines: [leave, slow, helper, call_register, close_frame], check })
    }

    /// The addresses for the cells.
    pub(super) fn routines(&self) -> Routines {
        let [leave, slow, helper, call_register, close_frame] =
            self.routines.map(|offset| self.memory.address(offset.0));
        Routines {
            leave,
            slow,
            helper,
            call_register,
            close_frame,
            check: self.check.map(|offset| self.memory.address(offset.0)),
            on_leave: run::on_leave as *const u8,
            on_helper: run::on_helper as *const u8,
            on_special: run::on_special as *const u8,
            on_call_register: run::on_call_register as *const u8,
            on_slow: run::on_slow as *const u8,
        }
    }

    /// The code, and the names and places of the routines in it.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code))]
    pub(super) fn symbols(&self) -> (&CodeMemory, Vec<(String, usize)>) {
        let names = ["leave", "slow", "helper", "call_register", "close_frame"].map(str::to_owned);
        let checks = ["read", "write", "both"]
            .into_iter()
            .flat_map(|need| [1, 2, 4, 8].map(|size| format!("check_{need}{size}")));
        let entries = [self.begin as *const u8, self.enter as *const u8];
        let entries = entries.map(|entry| self.memory.offset_of(entry as usize).unwrap_or(0));
        let routines = self.routines.iter().chain(&self.check).map(|start| start.0);
        let names = ["begin", "enter"].map(str::to_owned).into_iter().chain(names).chain(checks);
        (&self.memory, names.zip(entries.into_iter().chain(routines)).collect())
    }

    /// Runs a program on `r1`, `r2` and fuel, the other registers 0, until it returns; `None` when it has left.
    ///
    /// # Safety
    /// As [`Glue::enter`], and nothing else has been entered.
    #[inline]
    pub(super) unsafe fn begin(
        &self,
        cells: *mut Cells,
        entry: *const u8,
        args: [u64; 2],
        fuel: i64,
    ) -> Option<Returned> {
        (self.begin)(args[0], args[1], cells::middle(cells), entry, fuel).in_code()
    }

    /// Runs code on the registers and fuel that the cells hold until it returns; `None` when it has left.
    ///
    /// # Safety
    /// `entry` is an entry of code made for this glue, and the cells describe a run of the program that it belongs to:
    /// arena, bitmaps and the run are alive and nobody else uses them.
    pub(super) unsafe fn enter(&self, cells: *mut Cells, entry: *const u8) -> Option<Returned> {
        (self.enter)(cells::middle(cells), entry).in_code()
    }
}

fn register_cell(reg: Reg) -> i32 {
    cells::REGISTERS + 8 * i32::from(reg.number())
}

/// Stores guest registers and fuel in the cells.
fn save(asm: &mut Assembler, registers: &[Reg]) {
    for &reg in registers {
        x64!(asm; mov [DWORD r12 + register_cell(reg)], Rq(host(reg)));
    }
    x64!(asm; mov [DWORD r12 + cells::FUEL], r9);
}

/// Loads all guest registers, fuel and the arena's address from the cells.
fn restore(asm: &mut Assembler) {
    for reg in Reg::ALL {
        x64!(asm; mov Rq(host(reg)), [DWORD r12 + register_cell(reg)]);
    }
    x64!(asm
        ; mov r9, [DWORD r12 + cells::FUEL]
        ; mov r10, [DWORD r12 + cells::ARENA]
    );
}

/// Pushes what functions preserve.
fn emit_preserve(asm: &mut Assembler) {
    x64!(asm
        ; push rbx
        ; push rbp
        ; push r12
        ; push r13
        ; push r14
        ; push r15
    );
}

/// Begins a program.
fn emit_begin(asm: &mut Assembler) -> AssemblyOffset {
    let start = asm.offset();
    emit_preserve(asm);
    x64!(asm
        ; mov r12, rdx
        ; mov r11, rcx
        ; mov r9, r8
        // Nothing to go back to: the cell is not read, which would make each run wait for the one before.
        ; push BYTE 0
        ; sub rsp, BYTE 8
        ; mov [DWORD r12 + cells::HOST_STACK], rsp
        ; mov r10, [DWORD r12 + cells::ARENA]
    );
    for reg in Reg::ALL {
        match reg {
            Reg::R1 | Reg::R2 => {}
            Reg::R10 => x64!(asm; mov Rd(host(reg)), DWORD STACK_TOP as i32),
            Reg::R0 | Reg::R3 | Reg::R4 | Reg::R5 | Reg::R6 | Reg::R7 | Reg::R8 | Reg::R9 => {
                x64!(asm; xor Rd(host(reg)), Rd(host(reg)));
            }
        }
    }
    // The cell with the stack pointer is stale then, which nobody looks at before the next run.
    x64!(asm
        ; call r11
        ; mov rdx, r9
        ; add rsp, BYTE 16
    );
    emit_restore(asm);
    start
}

/// Enters a function that is called back.
fn emit_enter(asm: &mut Assembler, out: DynamicLabel) -> AssemblyOffset {
    let start = asm.offset();
    emit_preserve(asm);
    x64!(asm
        ; mov r12, rdi
        ; mov r11, rsi
        ; push QWORD [DWORD r12 + cells::HOST_STACK]
        ; sub rsp, BYTE 8
        ; mov [DWORD r12 + cells::HOST_STACK], rsp
    );
    restore(asm);
    emit_call(asm, out);
    start
}

/// Calls what `r11` points to, and returns a [`Returned`].
fn emit_call(asm: &mut Assembler, out: DynamicLabel) {
    x64!(asm
        ; call r11
        ; mov rdx, r9
        ; jmp =>out
    );
}

/// The way back to Rust, for what entered and for what leaves.
fn emit_out(asm: &mut Assembler, left: DynamicLabel, out: DynamicLabel) {
    x64!(asm
        ; =>left
        ; mov rsp, [DWORD r12 + cells::HOST_STACK]
        ; mov rdx, QWORD LEFT
        ; =>out
        ; add rsp, BYTE 8
        ; pop QWORD [DWORD r12 + cells::HOST_STACK]
    );
    emit_restore(asm);
}

/// Pops what [`emit_preserve`] has pushed, and returns.
fn emit_restore(asm: &mut Assembler) {
    x64!(asm
        ; pop r15
        ; pop r14
        ; pop r13
        ; pop r12
        ; pop rbp
        ; pop rbx
        ; ret
    );
}

/// Gives the run to Rust for good.
fn emit_leave(asm: &mut Assembler, saved: DynamicLabel, left: DynamicLabel) -> AssemblyOffset {
    let start = asm.offset();
    save(asm, &Reg::ALL);
    x64!(asm; =>saved);
    emit_arguments(asm);
    x64!(asm
        ; call QWORD [DWORD r12 + cells::ON_LEAVE]
        ; jmp =>left
    );
    start
}

/// Arguments of the functions in [`run`]: the cells, the site, the stack pointer of the guest's function.
fn emit_arguments(asm: &mut Assembler) {
    x64!(asm
        ; mov rdi, r12
        ; mov rsi, [rsp]
        ; lea rdx, [BYTE rsp + 8]
        ; sub rsp, BYTE 8
    );
}

/// Has Rust execute one instruction, and goes on where Rust says.
fn emit_slow(asm: &mut Assembler, slow: DynamicLabel, leave: DynamicLabel) -> AssemblyOffset {
    x64!(asm; =>slow);
    let start = asm.offset();
    save(asm, &Reg::ALL);
    emit_arguments(asm);
    x64!(asm
        ; call QWORD [DWORD r12 + cells::ON_SLOW]
        ; add rsp, BYTE 8
        ; test rax, rax
        ; jz =>leave
        ; mov r11, rax
    );
    restore(asm);
    x64!(asm
        ; add rsp, BYTE 8
        ; jmp r11
    );
    start
}

/// Calls a helper; `r11` is the number of the call.
fn emit_helper(asm: &mut Assembler, left: DynamicLabel) -> AssemblyOffset {
    let start = asm.offset();
    let special = asm.new_dynamic_label();
    x64!(asm
        ; mov [DWORD r12 + cells::REGISTERS], rax
        ; mov [DWORD r12 + register_cell(Reg::R10)], rbp
        ; mov [DWORD r12 + cells::SITE], r11
        ; mov [DWORD r12 + cells::FUEL], r9
        ; mov [DWORD r12 + cells::CALLER_STACK], rsp
        ; sub rsp, BYTE 8
        ; mov r9, r12
        ; call QWORD [DWORD r12 + cells::ON_HELPER]
        ; add rsp, BYTE 8
        ; mov r9, [DWORD r12 + cells::FUEL]
        ; mov r10, [DWORD r12 + cells::ARENA]
        ; test edx, edx
        ; jnz =>special
        ; xor edi, edi
        ; xor esi, esi
        ; xor ecx, ecx
        ; xor r8d, r8d
        ; ret
        ; =>special
    );
    save(asm, &[Reg::R6, Reg::R7, Reg::R8, Reg::R9]);
    emit_arguments(asm);
    x64!(asm
        ; call QWORD [DWORD r12 + cells::ON_SPECIAL]
        ; add rsp, BYTE 8
        ; test rax, rax
        ; jz =>left
        ; mov r11, rax
    );
    restore(asm);
    x64!(asm
        ; add rsp, BYTE 8
        ; jmp r11
    );
    start
}

/// Asks Rust where a call through a register goes: returns with it in `r11`.
fn emit_call_register(asm: &mut Assembler, leave: DynamicLabel) -> AssemblyOffset {
    let start = asm.offset();
    save(asm, &Reg::ALL);
    emit_arguments(asm);
    x64!(asm
        ; call QWORD [DWORD r12 + cells::ON_CALL_REGISTER]
        ; add rsp, BYTE 8
        ; test rax, rax
        ; jz =>leave
        ; mov r11, rax
    );
    restore(asm);
    x64!(asm; ret);
    start
}

/// Bytes of a bitmap for one stack frame.
const FRAME_BITS: i32 = STACK_FRAME as i32 / 8;

/// Closes the current frame.
fn emit_close_frame(asm: &mut Assembler) -> AssemblyOffset {
    let start = asm.offset();
    x64!(asm; pxor xmm0, xmm0);
    for bitmap in [cells::READABLE, cells::WRITABLE] {
        x64!(asm
            ; mov r11d, ebp
            ; shr r11d, BYTE 3
            ; add r11, [DWORD r12 + bitmap]
        );
        for offset in (0..FRAME_BITS).step_by(16) {
            x64!(asm; movups [r11 + offset - FRAME_BITS], xmm0);
        }
    }
    x64!(asm
        ; lea r11d, [rbp + FRAME_STRIDE as i32]
        ; mov [DWORD r12 + cells::OPENED], r11
        ; ret
    );
    start
}

/// Opens the current frame and those of its callers; `rax`, `rcx` and `rdx` are lost.
fn emit_open_frames(asm: &mut Assembler, label: DynamicLabel) {
    let again = asm.new_dynamic_label();
    x64!(asm
        ; =>label
        ; pcmpeqd xmm0, xmm0
        ; mov eax, [DWORD r12 + cells::OPENED]
        ; =>again
        ; sub eax, DWORD FRAME_STRIDE as i32
        ; mov ecx, eax
        ; shr ecx, BYTE 3
    );
    for bitmap in [cells::READABLE, cells::WRITABLE] {
        x64!(asm; mov rdx, [DWORD r12 + bitmap]);
        for offset in (0..FRAME_BITS).step_by(16) {
            x64!(asm; movups [rdx + rcx + offset - FRAME_BITS], xmm0);
        }
    }
    x64!(asm
        ; cmp eax, ebp
        ; ja =>again
        ; mov [DWORD r12 + cells::OPENED], rax
        ; ret
    );
}

/// Returns if the bitmaps grant all bytes of an access at the guest address in `r11`; else, and now and then to have a
/// window moved, Rust executes the instruction. Accesses over two words of a bitmap are Rust's too. What is refused while
/// frames are not open is looked at again when they are.
fn emit_check(
    asm: &mut Assembler,
    need: Need,
    size: Size,
    slow: DynamicLabel,
    open_frames: DynamicLabel,
) -> AssemblyOffset {
    let start = asm.offset();
    let (again, refused, stays) = (asm.new_dynamic_label(), asm.new_dynamic_label(), asm.new_dynamic_label());
    let mask = ((1_u32 << size.bytes()) - 1) as i8;
    x64!(asm
        ; dec QWORD [DWORD r12 + cells::MISSES]
        ; js =>slow
        ; push rax
        ; push rcx
        ; push rdx
        ; =>again
        ; mov rdx, r11
        ; shr rdx, BYTE 6
        ; cmp rdx, [DWORD r12 + cells::WORDS]
        ; jae =>refused
        ; mov ecx, r11d
    );
    let bitmaps: &[i32] = match need {
        Need::Read => &[cells::READABLE],
        Need::Write => &[cells::WRITABLE],
        Need::Both => &[cells::READABLE, cells::WRITABLE],
    };
    for &bitmap in bitmaps {
        x64!(asm
            ; mov rax, [DWORD r12 + bitmap]
            ; mov rax, [rax + rdx * 8]
            ; shr rax, cl
            ; not eax
            ; test al, BYTE mask
            ; jnz =>refused
        );
    }
    x64!(asm
        ; pop rdx
        ; pop rcx
        ; pop rax
        ; ret
        ; =>refused
        ; cmp rbp, [DWORD r12 + cells::OPENED]
        ; jae =>stays
        ; call =>open_frames
        ; jmp =>again
        ; =>stays
        ; pop rdx
        ; pop rcx
        ; pop rax
        ; jmp =>slow
    );
    start
}
