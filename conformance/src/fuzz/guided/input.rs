//! [`Input`]: everything that one run of a program depends on, as a value.
//!
//! It knows how it gets into a machine, not what is varied in it (`mutate`) nor how it is written to a file.

use std::sync::Arc;

use softbpf::context::{Bytes, Context, ContextError, Packet, Placed, PtRegs};
use softbpf::machine::NoSuchMap;
use softbpf::maps::MapAccessError;
use softbpf::memory::{Memory, MemoryError};
use softbpf::program_type::ProgramType;
use softbpf::{Machine, World};

/// What a program is called with, what its maps hold, and what it finds around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// What `r1` points to.
    pub data: Data,
    /// Elements that are put into maps, in this order, over what the object declares.
    pub elements: Vec<Element>,
    /// Kernel and user memory, which helpers read.
    pub memory: Vec<Far>,
    /// Time, random numbers, task, CPU.
    pub world: World,
}

/// What `r1` points to, in the kind that the program takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A packet, for `struct xdp_md` and `struct __sk_buff`.
    Packet {
        /// Its bytes, from the Ethernet header on.
        bytes: Vec<u8>,
        /// Index of the interface that it came in on.
        ifindex: u32,
        /// Receive queue.
        queue: u32,
        /// The socket buffer's mark; not for XDP.
        mark: u32,
    },
    /// `struct pt_regs`.
    Registers(PtRegs),
    /// Any other structure.
    Bytes(Vec<u8>),
}

impl Data {
    /// A packet that came in on interface 1.
    pub fn packet(bytes: impl Into<Vec<u8>>) -> Data {
        Data::Packet { bytes: bytes.into(), ifindex: 1, queue: 0, mark: 0 }
    }

    /// The bytes of packet or structure; `None` for registers.
    pub fn bytes(&self) -> Option<&Vec<u8>> {
        match self {
            Data::Packet { bytes, .. } | Data::Bytes(bytes) => Some(bytes),
            Data::Registers(_) => None,
        }
    }

    /// The same, to be changed.
    pub fn bytes_mut(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Data::Packet { bytes, .. } | Data::Bytes(bytes) => Some(bytes),
            Data::Registers(_) => None,
        }
    }
}

impl Context for Data {
    fn place(&self, memory: &mut Memory, program_type: ProgramType) -> Result<Placed, ContextError> {
        match self {
            Data::Packet { bytes, ifindex, queue, mark } => {
                Packet::new(bytes).ifindex(*ifindex).queue(*queue).mark(*mark).place(memory, program_type)
            }
            Data::Registers(registers) => registers.place(memory, program_type),
            Data::Bytes(bytes) => Bytes(bytes).place(memory, program_type),
        }
    }
}

/// An element of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Name of the map.
    pub map: Arc<str>,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; in a per-CPU map, the value on every CPU.
    pub value: Vec<u8>,
}

/// Memory of the kernel or of the current task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Far {
    /// Where it lies: at least 2^32.
    pub addr: u64,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Why an input cannot be put into a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// The machine has no such map.
    #[error(transparent)]
    Map(#[from] NoSuchMap),
    /// The map does not take it.
    #[error(transparent)]
    Access(#[from] MapAccessError),
    /// Memory cannot be placed where it should be.
    #[error("{bytes} bytes at {addr:#x}: {source}")]
    Memory {
        /// Where it should be.
        addr: u64,
        /// How much.
        bytes: usize,
        /// Why not.
        source: MemoryError,
    },
}

impl Far {
    fn place(&self, vm: &mut Machine) -> Result<(), PrepareError> {
        let placed = vm.place_at(self.addr, "memory", &self.bytes);
        placed.map_err(|source| PrepareError::Memory { addr: self.addr, bytes: self.bytes.len(), source })
    }
}

impl Element {
    /// Puts it into its map.
    ///
    /// # Errors
    /// There is no such map, or it does not take the element: sizes differ, it is full, ...
    pub fn insert(&self, vm: &mut Machine) -> Result<(), PrepareError> {
        let mut map = vm.map(&self.map)?;
        if map.map().is_percpu() {
            let mut copy = self.value.clone();
            copy.resize(self.value.len().next_multiple_of(8), 0);
            return Ok(map.insert_bytes(&self.key, &copy.repeat(map.map().copies() as usize), 0)?);
        }
        Ok(map.insert_bytes(&self.key, &self.value, 0)?)
    }
}

impl Input {
    /// No elements, no memory, and the default world.
    pub fn new(data: Data) -> Input {
        Input { data, elements: Vec::new(), memory: Vec::new(), world: World::default() }
    }

    /// Puts world, memory and elements into a machine; [`Input::data`] is for [`Machine::run`]. What stands behind something
    /// that is refused is put in all the same.
    ///
    /// # Errors
    /// Why the first such thing is refused.
    pub fn prepare(&self, vm: &mut Machine) -> Result<(), PrepareError> {
        vm.world.clone_from(&self.world);
        let mut done = Ok(());
        for far in &self.memory {
            done = done.and(far.place(vm));
        }
        for element in &self.elements {
            done = done.and(element.insert(vm));
        }
        done
    }

    /// Bytes that it takes, about: of two inputs that do the same, the smaller one is better.
    pub(super) fn size(&self) -> usize {
        let elements: usize = self.elements.iter().map(|element| element.key.len() + element.value.len() + 16).sum();
        let memory: usize = self.memory.iter().map(|far| far.bytes.len() + 16).sum();
        self.data.bytes().map_or(0, Vec::len) + elements + memory
    }
}
