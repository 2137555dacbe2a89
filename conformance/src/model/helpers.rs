//! The helpers that the model knows: maps, tail calls, the world, `bpf_loop`. Numbers are `enum bpf_func_id`'s.
//!
//! Where the kernel's verifier would refuse a program, an argument stops it here, and the arguments are looked at in
//! this order: the map, the value, the key.

use super::maps::{Kind, Map, errno};
use super::memory::Region;
use super::observed::{Problem, StopKind};
use super::{BadAccess, Caller, Flow, Loop, MAY_GOTO_LOOPS, Model, Over};

/// `bpf_map_lookup_elem(map, key)`.
pub const MAP_LOOKUP_ELEM: i32 = 1;
/// `bpf_map_update_elem(map, key, value, flags)`.
pub const MAP_UPDATE_ELEM: i32 = 2;
/// `bpf_map_delete_elem(map, key)`.
pub const MAP_DELETE_ELEM: i32 = 3;
/// `bpf_ktime_get_ns()`.
pub const KTIME_GET_NS: i32 = 5;
/// `bpf_get_prandom_u32()`.
pub const GET_PRANDOM_U32: i32 = 7;
/// `bpf_get_smp_processor_id()`.
pub const GET_SMP_PROCESSOR_ID: i32 = 8;
/// `bpf_tail_call(ctx, map, index)`.
pub const TAIL_CALL: i32 = 12;
/// `bpf_get_current_pid_tgid()`.
pub const GET_CURRENT_PID_TGID: i32 = 14;
/// `bpf_get_current_uid_gid()`.
pub const GET_CURRENT_UID_GID: i32 = 15;
/// `bpf_get_current_comm(buf, size)`.
pub const GET_CURRENT_COMM: i32 = 16;
/// `bpf_for_each_map_elem(map, callback, ctx, flags)`.
pub const FOR_EACH_MAP_ELEM: i32 = 164;
/// `bpf_loop(nr_loops, callback, ctx, flags)`.
pub const LOOP: i32 = 181;

/// Tail calls of a run: the kernel's `MAX_TAIL_CALL_CNT`.
const MAX_TAIL_CALLS: u32 = 33;
/// From one walk's key to the next one's: keys are short, and objects far apart.
const WALK_KEY_STRIDE: u64 = 128;
/// More bytes than any region has.
const MAX_BUFFER: usize = 1 << 16;
/// Most rounds of `bpf_loop`: the kernel's `BPF_MAX_LOOPS`.
const MAX_LOOPS: u64 = 8 * 1024 * 1024;

impl Model<'_> {
    /// Section 4.3.1. `r0` is the result and `r1` to `r5` are lost, unless the program goes on elsewhere.
    pub(super) fn call_helper(&mut self, number: i32) -> Result<Flow, StopKind> {
        let [_, r1, r2, r3, r4, r5, ..] = self.registers;
        if let Some(helper) = &mut self.helper {
            let r0 = helper(number, [r1, r2, r3, r4, r5], &mut self.memory).ok_or(StopKind::NoHelper(number))?;
            return Ok(self.returned(r0));
        }
        let result = match number {
            MAP_LOOKUP_ELEM => {
                let map = self.map_argument(r1)?;
                let key = self.argument(1, r2, self.maps[map].setup.key_size)?;
                Ok(self.maps[map].lookup(self.world.cpu, &key))
            }
            MAP_UPDATE_ELEM => {
                let map = self.map_argument(r1)?;
                let key = self.argument(1, r2, self.maps[map].setup.key_size)?;
                let value = self.argument(2, r3, self.maps[map].setup.value_size)?;
                self.maps[map].update(&mut self.memory, self.world.cpu, &key, &value, r4).map(|()| 0)
            }
            MAP_DELETE_ELEM => {
                let map = self.map_argument(r1)?;
                let key = self.argument(1, r2, self.maps[map].setup.key_size)?;
                self.maps[map].delete(&key).map(|()| 0)
            }
            KTIME_GET_NS => Ok(self.world.time()),
            GET_PRANDOM_U32 => Ok(self.world.random()),
            GET_SMP_PROCESSOR_ID => Ok(self.world.cpu as u64),
            GET_CURRENT_PID_TGID => Ok(self.world.pid_tgid),
            GET_CURRENT_UID_GID => Ok(self.world.uid_gid),
            GET_CURRENT_COMM => self.task_name(r1, r2).map(Ok)?,
            TAIL_CALL => match self.tail_call(r1, r2, r3)? {
                Ok(()) => return Ok(Flow::Goto(0)),
                Err(errno) => Err(errno),
            },
            LOOP => match self.start_loop(r1, r2, r3, r4)? {
                Ok(flow) => return Ok(flow),
                Err(errno) => Err(errno),
            },
            FOR_EACH_MAP_ELEM if self.setup.walk_key.is_some() => match self.start_walk(r1, r2, r3, r4)? {
                Ok(flow) => return Ok(flow),
                Err(errno) => Err(errno),
            },
            _ => return Err(StopKind::NoHelper(number)),
        };
        Ok(self.returned(result.unwrap_or_else(|errno| (-errno) as u64)))
    }

    /// Section 2.3: `r1` to `r5` are "scratch"; softbpf loses them to zero.
    pub(super) fn clobber(&mut self) {
        self.registers[1..=5].fill(0);
    }

    fn returned(&mut self, r0: u64) -> Flow {
        self.registers[0] = r0;
        self.clobber();
        Flow::Next
    }

    /// Index of a map that has elements.
    fn map_argument(&self, handle: u64) -> Result<usize, StopKind> {
        let map = self.map_of(0, handle)?;
        if self.maps[map].setup.kind == Kind::Programs { Err(bad(0, Problem::WrongMapType)) } else { Ok(map) }
    }

    fn map_of(&self, argument: usize, handle: u64) -> Result<usize, StopKind> {
        let is = |map: &Map| map.setup.handle == handle;
        self.maps.iter().position(is).ok_or(bad(argument, Problem::NotAMap(handle)))
    }

    /// The bytes behind an argument.
    fn argument(&self, argument: usize, addr: u64, size: usize) -> Result<Vec<u8>, StopKind> {
        self.memory.bytes(addr, size).map_err(|access| bad(argument, Problem::Access(access)))
    }

    /// `strscpy_pad`: the name, cut so that a zero fits, and zeros to the end of the buffer.
    fn task_name(&mut self, buffer: u64, size: u64) -> Result<u64, StopKind> {
        if size == 0 {
            return Err(bad(1, Problem::ZeroSize));
        }
        let mut bytes = self.world.name.clone();
        bytes.truncate(usize::try_from(size - 1).unwrap_or(usize::MAX));
        bytes.resize(usize::try_from(size).unwrap_or(usize::MAX).min(MAX_BUFFER), 0);
        self.memory.store_bytes(buffer, &bytes, size).map_err(|access| bad(0, Problem::Access(access)))?;
        Ok(0)
    }

    /// The current function is replaced by the start of a program, in a frame that is as new.
    fn tail_call(&mut self, context: u64, map: u64, index: u64) -> Result<Result<(), i64>, StopKind> {
        if context != self.setup.args[0] {
            return Err(bad(0, Problem::NotContext(context)));
        }
        let map = self.map_of(1, map)?;
        if self.maps[map].setup.kind != Kind::Programs {
            return Err(bad(1, Problem::WrongMapType));
        }
        // The index is an `u32`.
        let index = super::arithmetic::unsigned(32, index);
        let found = self.maps[map].setup.programs.iter().find(|(slot, _)| i128::from(**slot) == index);
        let Some((_, &program)) = found else { return Ok(Err(errno::ENOENT)) };
        if self.tail_calls == MAX_TAIL_CALLS {
            return Ok(Err(errno::EPERM));
        }
        self.tail_calls += 1;
        self.program = program;
        self.loops = MAY_GOTO_LOOPS;
        let frame_pointer = self.registers[10];
        self.registers = [0; 11];
        (self.registers[1], self.registers[10]) = (context, frame_pointer);
        self.memory.regions[self.callers.len()].bytes.fill(0);
        Ok(Ok(()))
    }

    /// `bpf_loop`: calls a function with the round's number until it returns something else than 0.
    fn start_loop(&mut self, rounds: u64, callback: u64, ctx: u64, flags: u64) -> Result<Result<Flow, i64>, StopKind> {
        let index = self.function(callback).ok_or(StopKind::BadCallTarget(callback))?;
        if flags != 0 {
            return Ok(Err(errno::EINVAL));
        }
        // The number of rounds is an `u32`.
        let rounds = rounds % (1 << 32);
        if rounds > MAX_LOOPS {
            return Ok(Err(errno::E2BIG));
        }
        self.call_rounds(Loop { rounds, round: 0, callback: index, over: Over::Numbers, ctx }).map(Ok)
    }

    /// `bpf_for_each_map_elem` on an array: calls a function with each element until it returns something else than 0.
    /// Keys stand in memory of their own, by how many walks are around this one and by map.
    fn start_walk(&mut self, map: u64, callback: u64, ctx: u64, flags: u64) -> Result<Result<Flow, i64>, StopKind> {
        let map = self.map_argument(map)?;
        let index = self.function(callback).ok_or(StopKind::BadCallTarget(callback))?;
        if flags != 0 {
            return Ok(Err(errno::EINVAL));
        }
        let is_walk = |caller: &&Caller| matches!(caller.again, Some(Loop { over: Over::Elements { .. }, .. }));
        let place = (self.callers.iter().filter(is_walk).count(), map);
        let first = self.setup.walk_key.unwrap_or_default();
        let known = self.walk_keys.iter().position(|known| *known == place);
        let key = first + WALK_KEY_STRIDE * known.unwrap_or(self.walk_keys.len()) as u64;
        if known.is_none() {
            self.walk_keys.push(place);
            let size = self.maps[map].setup.key_size;
            let region = Region { writable: vec![false; size], ..Region::new(key, &vec![0; size]) };
            self.memory.regions.push(region);
        }
        let rounds = self.maps[map].setup.max_entries as u64;
        let over = Over::Elements { map, key };
        self.call_rounds(Loop { rounds, round: 0, callback: index, over, ctx }).map(Ok)
    }

    /// The first round, if there is one.
    fn call_rounds(&mut self, rounds: Loop) -> Result<Flow, StopKind> {
        if rounds.rounds == 0 {
            return Ok(self.returned(0));
        }
        let flow = self.call(rounds.callback)?;
        if let Some(caller) = self.callers.last_mut() {
            caller.again = Some(rounds);
        }
        self.start_round(rounds);
        Ok(flow)
    }

    /// Nothing but the arguments is in a round's registers.
    fn start_round(&mut self, Loop { round, over, ctx, .. }: Loop) {
        let arguments = match over {
            Over::Numbers => [round, ctx, 0, 0],
            Over::Elements { map, key } => {
                let bytes = super::arithmetic::to_bytes(4, round);
                self.memory.fill(key, &bytes);
                let value = self.maps[map].lookup(self.world.cpu, &bytes);
                [self.maps[map].setup.handle, key, value, ctx]
            }
        };
        let frame_pointer = self.registers[10];
        self.registers = [0; 11];
        self.registers[1..=4].copy_from_slice(&arguments);
        self.registers[10] = frame_pointer;
        self.loops = MAY_GOTO_LOOPS;
    }

    /// The next round of the loop that the returning function is one of; `None` when it was the last.
    pub(super) fn next_round(&mut self) -> Option<Flow> {
        let r0 = self.registers[0];
        let caller = self.callers.last_mut()?;
        let (program, again) = (caller.program, caller.again.as_mut()?);
        again.round += 1;
        if r0 != 0 || again.round == again.rounds {
            return None;
        }
        let next = *again;
        self.program = program;
        self.start_round(next);
        Some(Flow::Goto(next.callback))
    }
}

fn bad(argument: usize, problem: Problem) -> StopKind {
    StopKind::Argument { argument, problem }
}

impl From<BadAccess> for Problem {
    fn from(access: BadAccess) -> Problem {
        Problem::Access(access)
    }
}
