//! Lookups in maps that code makes itself: in arrays an addition, as in the kernel's `array_map_gen_lookup`, and in hash
//! maps a search, in a routine behind the program for each map that is searched.
//!
//! All that a search reads lies in the guest's memory, and each of its addresses is one of 32 bits there: whatever the tables
//! hold, it stays in the arena, and it ends. Nothing of a table is remembered but where its header is, which is so for as
//! long as the code is: [`softbpf::maps::HashLayout`].

use dynasmrt::DynasmApi;
use softbpf::helpers::STEADY_CPU;
use softbpf::insn::Reg;
use softbpf::maps::{ArrayLayout, HASH_BIT, HASH_FACTOR, HashLayout, pieces};

use super::alu;
use super::asm::{Assembler, Cc, Forward, x64};
use super::cells::{self, LOOKUPS};
use super::code::Search;
use super::compile::{Compiler, Stub};
use super::registers::{Host, RDX, SCRATCH, host};
use crate::fault::{Fault, Planted};
use crate::proof::{Lookup, MAP_LOOKUP_ELEM};

/// Longest key that code compares: each eight bytes of it take some thirty bytes of code.
const LONGEST_KEY: u32 = 64;

/// How a map is looked up in.
#[derive(Debug, Clone, Copy)]
enum Layout {
    Array(ArrayLayout),
    Hash(HashLayout),
}

/// A call of the routine that searches this map.
#[derive(Debug)]
pub(super) struct SearchCall {
    map: u32,
    layout: HashLayout,
    call: Forward,
}

impl Compiler<'_> {
    /// `bpf_map_lookup_elem` in a known map.
    pub(super) fn lookup(&mut self, index: u32, lookup: Lookup) {
        let map = lookup.map();
        let layout = lookup.key().and_then(|key| Some((key, self.layout(map)?)));
        let Some((key, layout)) = layout else { return self.helper(index, MAP_LOOKUP_ELEM, Some(map)) };
        let noted = self.count_call(LOOKUPS);
        match layout {
            Layout::Array(layout) => self.array_element(index, key, layout),
            Layout::Hash(layout) => {
                x64!(self.asm; lea rdi, [DWORD r10 + rbp * 1 + key]);
                let call = self.asm.call_forward();
                self.searches.push(SearchCall { map, layout, call });
            }
        }
        let end = self.offset();
        if let Some(noted) = noted {
            self.stub_of(noted, Stub::Helper { index, place: LOOKUPS as u32, map: Some(map), end });
        }
    }

    /// How code finds elements of a map, if it can: not those of arrays that open them one by one, nor those of maps that take
    /// note of lookups.
    fn layout(&mut self, map: u32) -> Option<Layout> {
        let info = self.machine.map_info(map as usize)?;
        let array = info.array_layout().filter(|layout| layout.all_open).map(Layout::Array);
        let hash =
            || info.hash_layout().filter(|layout| !layout.lru && layout.key_size <= LONGEST_KEY).map(Layout::Hash);
        array.or_else(hash)
    }

    fn array_element(&mut self, index: u32, key: i32, layout: ArrayLayout) {
        x64!(self.asm
            ; mov eax, [DWORD r10 + rbp * 1 + key]
            ; cmp eax, DWORD layout.max_entries as i32
        );
        let none = self.asm.jump_forward(Some(Cc::AboveOrEqual));
        if layout.stride.is_power_of_two() {
            x64!(self.asm; shl eax, BYTE layout.stride.trailing_zeros() as i8);
        } else {
            x64!(self.asm; imul eax, eax, DWORD layout.stride as i32);
        }
        x64!(self.asm; add eax, DWORD layout.start as i32);
        self.add_copy(layout.cpu_stride);
        let done = self.offset();
        self.lose_arguments();
        self.stub_of(none, Stub::NoElement { index, done });
    }

    /// From the value of CPU 0 in `eax` to that of the current one.
    fn add_copy(&mut self, cpu_stride: u32) {
        if cpu_stride == 0 || self.options.planted.is(Fault::LookupOfFirstCpu) {
            return;
        }
        const CPU: i32 = cells::ANSWERS + 8 * STEADY_CPU as i32;
        x64!(self.asm
            ; imul r11d, [DWORD r12 + CPU], DWORD cpu_stride as i32
            ; add eax, r11d
        );
        self.answers = true;
    }

    /// `r1` to `r5` as a helper leaves them.
    pub(super) fn lose_arguments(&mut self) {
        for reg in [Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5] {
            alu::load_imm(&mut self.asm, host(reg), 0);
        }
    }

    /// The routines that search maps, each once.
    pub(super) fn searches(&mut self) -> Vec<Search> {
        let mut calls = std::mem::take(&mut self.searches);
        calls.sort_by_key(|call| call.map);
        let mut searches: Vec<Search> = Vec::new();
        for SearchCall { map, layout, call } in calls {
            let start = match searches.last() {
                Some(search) if search.map == map => search.start,
                _ => {
                    let start = self.offset();
                    self.search(layout);
                    searches.push(Search { map, start });
                    start
                }
            };
            self.asm.aim(call, start);
        }
        searches
    }

    /// Searches a hash map for the key whose host address is in `rdi`; the address of its value, or 0, in `rax`, and
    /// `r1` to `r5` are lost.
    fn search(&mut self, layout: HashLayout) {
        let planted = self.options.planted;
        let (pieces, header) = (Vec::from_iter(pieces(layout.key_size)), layout.header as i32);
        let asm = &mut self.asm;
        hash(asm, layout.seed, &pieces);
        // The first entry in `edx`, the number of entries less one in `ecx`, which entry it is in `esi`.
        x64!(asm
            ; mov ecx, DWORD header
            ; mov rcx, [r10 + rcx]
            ; mov edx, ecx
            ; shr rcx, BYTE 32
            ; mov esi, eax
            ; and esi, ecx
        );
        let look = asm.offset();
        x64!(asm
            ; lea r8d, [rdx + rsi * 8]
            ; mov r8, [r10 + r8]
            ; mov r11, r8
            ; shr r11, BYTE 32
            ; cmp r11d, eax
        );
        let other_hash = asm.jump_forward(Some(Cc::NotEqual));
        // The record.
        x64!(asm; mov r8d, r8d);
        let other_keys = compare(asm, &pieces, layout.key, planted);
        x64!(asm; mov eax, [r10 + r8]);
        self.add_copy(layout.cpu_stride);
        let done = self.offset();
        self.lose_arguments();
        let asm = &mut self.asm;
        x64!(asm; ret);
        asm.aim_here(other_hash);
        x64!(asm; test r11d, r11d);
        let free = asm.jump_forward(Some(Cc::Equal));
        for other_key in other_keys {
            asm.aim_here(other_key);
        }
        if !planted.is(Fault::SearchGivesUp) {
            // Until it is back at its home.
            x64!(asm
                ; inc esi
                ; and esi, ecx
                ; mov r11d, eax
                ; and r11d, ecx
                ; cmp esi, r11d
            );
            asm.jump_back(Some(Cc::NotEqual), look);
        }
        asm.aim_here(free);
        x64!(asm; xor eax, eax);
        asm.jump_back(None, done);
    }
}

/// The hash of the key at `rdi` in a map with this seed, in `eax`; `rdx` and `rsi` are lost.
fn hash(asm: &mut Assembler, seed: u64, pieces: &[(u32, u32)]) {
    x64!(asm
        ; mov rsi, QWORD HASH_FACTOR as i64
        ; mov rax, QWORD seed as i64
    );
    for &(start, len) in pieces {
        load_piece(asm, RDX, start, len);
        x64!(asm
            ; xor rax, rdx
            ; mul rsi
            ; xor rax, rdx
        );
    }
    x64!(asm
        ; mul rsi
        ; xor rax, rdx
        ; bts eax, BYTE HASH_BIT as i8
    );
}

/// Jumps where the key at `rdi` is not that of the record in `r8`.
fn compare(asm: &mut Assembler, pieces: &[(u32, u32)], key: u32, planted: Planted) -> Vec<Forward> {
    let mut other_keys = Vec::new();
    let pieces = if planted.is(Fault::SearchTrustsHash) { &[] } else { pieces };
    for &(start, len) in pieces {
        let in_record = (key + start) as i8;
        load_piece(asm, SCRATCH, start, len);
        match len {
            8 => x64!(asm; cmp r11, [BYTE r10 + r8 * 1 + in_record]),
            4 => x64!(asm; cmp r11d, [BYTE r10 + r8 * 1 + in_record]),
            2 => x64!(asm; cmp r11w, [BYTE r10 + r8 * 1 + in_record]),
            _ => x64!(asm; cmp r11b, [BYTE r10 + r8 * 1 + in_record]),
        }
        other_keys.push(asm.jump_forward(Some(Cc::NotEqual)));
    }
    other_keys
}

/// Loads a piece of the key at `rdi`.
fn load_piece(asm: &mut Assembler, to: Host, start: u32, len: u32) {
    let start = start as i8;
    match len {
        8 => x64!(asm; mov Rq(to), [BYTE rdi + start]),
        4 => x64!(asm; mov Rd(to), [BYTE rdi + start]),
        2 => x64!(asm; movzx Rd(to), WORD [BYTE rdi + start]),
        _ => x64!(asm; movzx Rd(to), BYTE [BYTE rdi + start]),
    }
}
