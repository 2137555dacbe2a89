//! Contexts: which bytes programs of each type may touch, and what they find there.

use std::error::Error;
use std::fmt::Write as _;

use softbpf::context::{Bytes, Context, ContextError, ContextKind, Packet, Placed, PtRegs};
use softbpf::memory::{FaultKind, Memory, Permission};
use softbpf::object::MAIN;
use softbpf::program_type::ProgramType;
use softbpf::{Object, Outcome};
use softbpf_conformance::{TestResult, on_every_engine};

/// See its first lines.
const ACCESS: &str = include_str!("context/access.txt");

const UDP: [u8; 20] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, 0x45, 0, 0, 6, 7, 8];

fn run(program_type: ProgramType, text: &str, context: impl Context) -> Result<Outcome, Box<dyn Error>> {
    let mut agreed = None;
    on_every_engine(&Object::from_text(text, program_type)?, |mut vm| {
        let outcome = vm.run(MAIN, &context);
        let first = agreed.get_or_insert_with(|| outcome.clone());
        assert_eq!(*first, outcome, "engines disagree");
    });
    Ok(agreed.ok_or("there are no engines")??)
}

fn field(outcome: &Outcome, offset: usize) -> u32 {
    outcome.context[offset..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn place(context: &impl Context, program_type: ProgramType) -> Result<(Memory, Placed), Box<dyn Error>> {
    let mut memory = Memory::new()?;
    let placed = context.place(&mut memory, program_type)?;
    Ok((memory, placed))
}

/// What may be done with a byte: `r`, `rw`, `w` or nothing.
fn access(memory: &Memory, addr: u32) -> String {
    let read = memory.read(addr.into(), 1).is_ok();
    let write = memory.check_write(addr.into(), 1).is_ok();
    [read.then_some('r'), write.then_some('w')].into_iter().flatten().collect()
}

/// What may be done with a context and its packet, as `access.txt` writes it.
fn describe(memory: &Memory, placed: &Placed) -> String {
    let (start, size) = placed.context;
    let bytes: Vec<String> = (start..start + size).map(|addr| access(memory, addr)).collect();
    let mut text = String::new();
    let mut at = 0;
    for run in bytes.chunk_by(|one, next| one == next) {
        if !run[0].is_empty() {
            let _ = writeln!(text, "  {at}..{} {}", at + run.len(), run[0]);
        }
        at += run.len();
    }
    if let Some((data, _)) = placed.packet {
        let access = access(memory, data);
        let _ = writeln!(text, "  packet {}", if access.is_empty() { "-" } else { &access });
    }
    text
}

#[test]
fn access_is_what_the_kernel_allows() -> TestResult {
    let mut ours = String::new();
    for &program_type in ProgramType::ALL {
        let (memory, placed) = match ContextKind::of(program_type) {
            ContextKind::PtRegs => place(&PtRegs::new(), program_type)?,
            ContextKind::Xdp | ContextKind::SkBuff => place(&Packet::new(UDP), program_type)?,
            ContextKind::Bytes => continue,
        };
        let _ = write!(ours, "\n{program_type}\n{}", describe(&memory, &placed));
    }
    let kernel: String = ACCESS.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    assert_eq!(ours, kernel);
    Ok(())
}

#[test]
fn the_room_around_a_packet_is_closed() -> TestResult {
    for program_type in [ProgramType::SocketFilter, ProgramType::CgroupSkb, ProgramType::SchedCls, ProgramType::Xdp] {
        for packet in [&UDP[..], &[]] {
            let (memory, placed) = place(&Packet::new(packet), program_type)?;
            let (data, size) = placed.packet.ok_or("no packet")?;
            for addr in (data - 256..data).chain(data + size..data + size + 256) {
                assert_eq!(access(&memory, addr), "", "{program_type}: {:+}", i64::from(addr) - i64::from(data));
            }
        }
    }
    Ok(())
}

#[test]
fn an_xdp_program_finds_its_packet() -> TestResult {
    let outcome = run(ProgramType::Xdp, "r0 = 0\n exit", Packet::new(UDP).ifindex(3).queue(5).mark(7))?;
    let data = field(&outcome, 0);
    let fields: Vec<u32> = (0..6).map(|index| field(&outcome, 4 * index)).collect();
    assert_eq!(fields, [data, data + 20, data, 3, 5, 0]);
    assert_eq!(outcome.context.len(), 24);
    assert_eq!(outcome.packet.as_deref(), Some(&UDP[..]));
    Ok(())
}

#[test]
fn a_classifier_finds_its_packet() -> TestResult {
    let outcome = run(ProgramType::SchedCls, "r0 = 0\n exit", Packet::new(UDP).ifindex(3).queue(5).mark(7))?;
    let data = field(&outcome, 76);
    // len, mark, queue_mapping, protocol, ingress_ifindex, ifindex, data, data_end, data_meta, wire_len
    let set =
        [(0, 20), (8, 7), (12, 5), (16, 8), (36, 3), (40, 3), (76, data), (80, data + 20), (140, data), (160, 20)];
    for offset in (0..192).step_by(4) {
        let expected = set.iter().find(|&&(at, _)| at == offset).map_or(0, |&(_, value)| value);
        assert_eq!(field(&outcome, offset), expected, "at {offset}");
    }
    assert_eq!(outcome.context.len(), 192);
    Ok(())
}

#[test]
fn a_packet_without_a_header_has_no_protocol() -> TestResult {
    let outcome = run(ProgramType::SchedCls, "r0 = 0\n exit", Packet::new(&UDP[..13]))?;
    assert_eq!((field(&outcome, 0), field(&outcome, 16)), (13, 0));
    Ok(())
}

#[test]
fn a_socket_filter_sees_the_packet_through_loads_alone() -> TestResult {
    for offset in [76, 80, 140] {
        let text = format!("r0 = *(u32 *)(r1 + {offset})\n exit");
        let outcome = run(ProgramType::SocketFilter, &text, Packet::new(UDP))?;
        let fault = outcome.trap().and_then(|trap| trap.kind.fault()).ok_or("no fault")?;
        assert_eq!(fault.kind, FaultKind::OutOfBounds);
    }
    for (load, expected) in [
        ("*(u16 *)skb[12]", 0x0800),
        ("*(u8 *)skb[-0x100000]", 0x45),    // SKF_NET_OFF
        ("*(u16 *)skb[-0x1ffff4]", 0x0800), // SKF_LL_OFF + 12
        ("*(u32 *)skb[16]", 0x0006_0708),
    ] {
        let outcome = run(ProgramType::SocketFilter, &format!("r6 = r1\n r0 = {load}\n exit"), Packet::new(UDP))?;
        assert_eq!(outcome.ret, Ok(expected), "{load}");
        assert_eq!(outcome.packet.as_deref(), Some(&UDP[..]));
    }
    Ok(())
}

#[test]
fn a_refused_write_leaves_the_context_alone() -> TestResult {
    // cb of a stream parser is the kernel's.
    let outcome = run(ProgramType::SkSkb, "*(u32 *)(r1 + 48) = 1\n r0 = 0\n exit", Packet::new(UDP))?;
    let fault = outcome.trap().and_then(|trap| trap.kind.fault()).ok_or("no fault")?;
    assert_eq!((fault.kind, field(&outcome, 48)), (FaultKind::ReadOnly, 0));
    let outcome = run(ProgramType::SkSkb, "*(u32 *)(r1 + 32) = 1\n r0 = 0\n exit", Packet::new(UDP))?;
    assert_eq!((outcome.ret.is_ok(), field(&outcome, 32)), (true, 1));
    Ok(())
}

#[test]
fn a_flow_dissector_fills_keys() -> TestResult {
    let text = "
        r2 = *(u64 *)(r1 + 144)
        r0 = *(u16 *)(r2 + 0)
        r0 <<= 32
        r3 = *(u16 *)(r2 + 2)
        r3 <<= 16
        r0 |= r3
        r3 = *(u16 *)(r2 + 10)
        r0 |= r3
        *(u64 *)(r2 + 48) = -1
        exit";
    let outcome = run(ProgramType::FlowDissector, text, Packet::new(UDP))?;
    // nhoff, thoff, n_proto
    assert_eq!(outcome.ret, Ok(14 << 32 | 14 << 16 | 0x0008));

    let outcome =
        run(ProgramType::FlowDissector, "r2 = *(u64 *)(r1 + 144)\n r0 = *(u8 *)(r2 + 56)\n exit", Packet::new(UDP))?;
    let nearest = outcome.trap().and_then(|trap| trap.nearest.clone()).ok_or("no trap")?;
    assert_eq!((nearest.kind.to_string(), nearest.distance), ("flow_keys".to_owned(), 1));
    Ok(())
}

#[test]
fn programs_refuse_what_they_do_not_take() -> TestResult {
    for &program_type in ProgramType::ALL {
        let mut memory = Memory::new()?;
        let kind = ContextKind::of(program_type);
        let any = program_type == ProgramType::Unspec;
        let packet = Packet::new(UDP).place(&mut memory, program_type);
        assert_eq!(packet.is_ok(), any || matches!(kind, ContextKind::Xdp | ContextKind::SkBuff), "{program_type}");
        let registers = PtRegs::new().place(&mut memory, program_type);
        assert_eq!(registers.is_ok(), any || kind == ContextKind::PtRegs, "{program_type}");
        for error in [packet.err(), registers.err()].into_iter().flatten() {
            assert!(matches!(error, ContextError::WrongKind { expected, .. } if expected == kind), "{error}");
        }
        assert!(Bytes(&[1, 2]).place(&mut memory, program_type).is_ok(), "{program_type}");
    }
    Ok(())
}

#[test]
fn a_context_stands_at_the_same_address_whatever_the_packet() -> TestResult {
    for program_type in [ProgramType::Xdp, ProgramType::SchedCls, ProgramType::FlowDissector, ProgramType::SocketFilter]
    {
        let contexts = [0, 1, 60, 9000].map(|len| Ok(place(&Packet::new(vec![0; len]), program_type)?.1.context));
        let contexts = contexts.into_iter().collect::<Result<Vec<_>, Box<dyn Error>>>()?;
        assert!(contexts.iter().all(|context| *context == contexts[0]), "{contexts:x?}");
    }
    Ok(())
}

#[test]
fn a_placed_packet_says_who_may_touch_it() -> TestResult {
    let permission =
        |program_type| Ok::<_, Box<dyn Error>>(place(&Packet::new(UDP), program_type)?.1.packet_permission);
    assert_eq!(permission(ProgramType::Xdp)?, Some(Permission::ReadWrite));
    assert_eq!(permission(ProgramType::CgroupSkb)?, Some(Permission::Read));
    assert_eq!(permission(ProgramType::SocketFilter)?, None);
    Ok(())
}
