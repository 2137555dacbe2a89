//! A packet, and the context in front of it: `struct xdp_md` or `struct __sk_buff`, by the program's type.
//!
//! Layouts: `include/uapi/linux/bpf.h`. The packet pointers are 32-bit guest addresses, in the 32-bit fields that
//! the structures have for them. Who may read and write what: `sk_buff.rs` and `table.rs`.

use byteorder::{ByteOrder as _, LittleEndian};

use super::bytes::place_bytes;
use super::sk_buff::{self, Column};
use super::table::{Layout, Row};
use super::{Context, ContextError, Placed};
use crate::memory::{Memory, MemoryError, ObjectKind, Permission};
use crate::program_type::ProgramType;

/// Room in front of and behind the packet's bytes, for helpers that move its ends: `XDP_PACKET_HEADROOM`.
const ROOM: u32 = 256;

/// Bytes of the packet in front of its network header: `ETH_HLEN`.
pub(crate) const ETHERNET_HEADER: u16 = 14;

/// Fields of `struct xdp_md`, in order of memory; each is 4 bytes. The kernel lets programs read all of them, the last
/// only where they are made for a device map, and write none: `xdp_is_valid_access`.
pub(super) const XDP_MD: [&str; 6] =
    ["data", "data_end", "data_meta", "ingress_ifindex", "rx_queue_index", "egress_ifindex"];

/// Bytes of `struct bpf_flow_keys`, which flow dissectors fill.
pub(super) const FLOW_KEYS: usize = 56;

/// Bytes of the packet, from its Ethernet header on, and where it came from.
///
/// ```
/// use softbpf::context::Packet;
/// let packet = Packet::new(&[0; 64]).ifindex(3).queue(1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packet {
    bytes: Vec<u8>,
    ifindex: u32,
    queue: u32,
    mark: u32,
}

impl Packet {
    /// A packet with these bytes.
    pub fn new(bytes: impl AsRef<[u8]>) -> Packet {
        Packet { bytes: bytes.as_ref().to_vec(), ifindex: 1, ..Packet::default() }
    }

    /// Index of the interface that it came in on; 1 if not set.
    #[must_use]
    pub fn ifindex(self, ifindex: u32) -> Packet {
        Packet { ifindex, ..self }
    }

    /// Receive queue (`rx_queue_index`, `queue_mapping`); 0 if not set.
    #[must_use]
    pub fn queue(self, queue: u32) -> Packet {
        Packet { queue, ..self }
    }

    /// The socket buffer's mark; 0 if not set. XDP has none.
    #[must_use]
    pub fn mark(self, mark: u32) -> Packet {
        Packet { mark, ..self }
    }

    /// The bytes of the Ethernet header's last field, as a little-endian load finds them; 0 without such a header.
    fn protocol(&self) -> u16 {
        let end = usize::from(ETHERNET_HEADER);
        self.bytes.get(end - 2..end).map_or(0, LittleEndian::read_u16)
    }

    /// Places the bytes behind the context, whose address is thus the same for all packets; address and size.
    fn place_bytes(&self, memory: &mut Memory, permission: Option<Permission>) -> Result<(u32, u32), ContextError> {
        let too_long = MemoryError::ArenaFull { bytes: self.bytes.len() as u64, left: memory.left() };
        let size = u32::try_from(self.bytes.len()).map_err(|_| too_long)?;
        let room = size.checked_add(2 * ROOM).ok_or(too_long)?;
        let data = memory.reserve_for_run(room)? + ROOM;
        // Known by its bytes, not by the room around them.
        memory.name(data, ObjectKind::Packet, size);
        if let Some(permission) = permission {
            memory.open(data, size, permission);
        }
        memory.put(data, &self.bytes);
        Ok((data, size))
    }

    fn xdp_md(&self, memory: &mut Memory, access: Option<Permission>) -> Result<Placed, ContextError> {
        let mut bytes = [0; 4 * XDP_MD.len()];
        let placed = place_bytes(memory, &bytes, Permission::Read)?;
        let packet @ (data, size) = self.place_bytes(memory, access)?;
        let fields: [u32; XDP_MD.len()] = [data, data + size, data, self.ifindex, self.queue, 0];
        LittleEndian::write_u32_into(&fields, &mut bytes);
        memory.put(placed.context.0, &bytes);
        Ok(Placed { packet: Some(packet), packet_permission: access, ..placed })
    }

    fn sk_buff(&self, memory: &mut Memory, column: Column, access: Option<Permission>) -> Result<Placed, ContextError> {
        let start = memory.reserve_for_run(sk_buff::SIZE as u32)?;
        memory.name(start, ObjectKind::Context, sk_buff::SIZE as u32);
        for field in sk_buff::FIELDS {
            if let Some(permission) = field.permission(column) {
                memory.open(start + field.offset, field.size, permission);
            }
        }
        let flow_keys = if column == Column::Flow { self.place_flow_keys(memory)? } else { 0 };
        let packet @ (data, size) = self.place_bytes(memory, access)?;
        let mut bytes = [0; sk_buff::SIZE];
        for (field, value) in [
            (sk_buff::LEN, size),
            (sk_buff::MARK, self.mark),
            (sk_buff::QUEUE_MAPPING, self.queue),
            (sk_buff::PROTOCOL, self.protocol().into()),
            (sk_buff::INGRESS_IFINDEX, self.ifindex),
            (sk_buff::IFINDEX, self.ifindex),
            (sk_buff::DATA, data),
            (sk_buff::DATA_END, data + size),
            (sk_buff::DATA_META, data),
            (sk_buff::FLOW_KEYS, flow_keys),
            (sk_buff::WIRE_LEN, size),
        ] {
            field.put(&mut bytes, value);
        }
        memory.put(start, &bytes);
        Ok(Placed {
            args: [start.into(), 0],
            context: (start, sk_buff::SIZE as u32),
            packet: Some(packet),
            packet_permission: access,
        })
    }

    /// Places a `struct bpf_flow_keys` as `bpf_flow_dissect` hands it out: the network header comes next.
    fn place_flow_keys(&self, memory: &mut Memory) -> Result<u32, ContextError> {
        const NHOFF: usize = 0;
        const THOFF: usize = 2;
        const N_PROTO: usize = 10;
        let mut keys = [0; FLOW_KEYS];
        for (offset, value) in [(NHOFF, ETHERNET_HEADER), (THOFF, ETHERNET_HEADER), (N_PROTO, self.protocol())] {
            LittleEndian::write_u16(&mut keys[offset..offset + 2], value);
        }
        let kind = ObjectKind::Placed { name: "flow_keys".into() };
        let addr = memory.allocate_for_run(kind, FLOW_KEYS as u32, Permission::ReadWrite)?;
        memory.put(addr, &keys);
        Ok(addr)
    }
}

impl Context for Packet {
    fn place(&self, memory: &mut Memory, program_type: ProgramType) -> Result<Placed, ContextError> {
        let Row { layout, packet } = Row::of(program_type);
        match layout {
            Layout::SkBuff(column) => self.sk_buff(memory, column, packet),
            Layout::XdpMd | Layout::Any => self.xdp_md(memory, packet),
            Layout::PtRegs | Layout::Bytes => Err(layout.refuse(program_type, "a packet")),
        }
    }
}
