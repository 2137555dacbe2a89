//! Windows show exactly the open bytes around an address, and the generation says when they are out of date.

use super::{Access, Memory, ObjectKind, Permission};

fn memory() -> Memory {
    Memory::new().expect("an arena")
}

fn placed() -> ObjectKind {
    ObjectKind::Placed { name: "object".into() }
}

/// The window as a byte-by-byte search finds it, inside the object from `start` to `end`.
fn searched(memory: &Memory, addr: u32, access: Access, start: u32, end: u32) -> Option<std::ops::Range<u32>> {
    let open = |addr: &u32| match access {
        Access::Read => memory.read(u64::from(*addr), 1).is_ok(),
        Access::Write => memory.check_write(u64::from(*addr), 1).is_ok(),
    };
    let first = (start..=addr).rev().take_while(open).last()?;
    let last = (addr..end).take_while(open).last()?;
    Some(first..last + 1)
}

#[test]
fn a_window_is_the_open_bytes_around_an_address() {
    let mut memory = memory();
    let size = 700;
    let start = memory.allocate(placed(), size, Permission::ReadWrite).expect("room");
    for (offset, len) in [(0, 1), (63, 2), (130, 1), (200, 57), (400, 64), (500, 100), (690, 10)] {
        memory.revoke(start + offset, len);
    }
    memory.grant(start + 300, 5, Permission::Read);
    memory.grant(start + 310, 5, Permission::Write);
    for access in [Access::Read, Access::Write] {
        for addr in start - 70..start + size + 70 {
            let expected = if (start..start + size).contains(&addr) {
                searched(&memory, addr, access, start, start + size)
            } else {
                None
            };
            assert_eq!(memory.window(addr.into(), access), expected, "{access:?} {}", addr - start);
        }
    }
}

#[test]
fn a_window_ends_with_its_element() {
    let mut memory = memory();
    let elements = memory.reserve_elements(placed(), 24, 3).expect("room");
    (0..3).for_each(|index| memory.grant(elements.address(index), 24, Permission::ReadWrite));
    for index in 0..3 {
        let start = elements.address(index);
        assert_eq!(memory.window(u64::from(start) + 23, Access::Read), Some(start..start + 24));
        assert_eq!(memory.window(u64::from(start) + 24, Access::Read), None);
    }
}

#[test]
fn frames_records_and_far_objects_have_no_windows() {
    let mut memory = memory();
    let top = memory.view().push_frame(0).expect("the first frame");
    assert!(memory.read(top - 8, 8).is_ok());
    assert_eq!(memory.window(top - 8, Access::Read), None);

    let ring = memory.reserve_elements(placed(), 4096, 1).expect("room").start;
    memory.name(ring + 8, ObjectKind::Record { map: "ring".into() }, 16);
    memory.grant_uninitialised(ring + 8, 16);
    assert!(memory.read(u64::from(ring) + 8, 16).is_ok());
    assert_eq!(memory.window(u64::from(ring) + 8, Access::Read), None);

    memory.place_far(1 << 40, "task", &[1; 8]).expect("a far object");
    for addr in [0, 1 << 32, 1 << 40, u64::MAX] {
        assert_eq!(memory.window(addr, Access::Read), None);
    }
}

#[test]
fn the_generation_tells_of_closed_bytes() {
    let mut memory = memory();
    let start = memory.allocate(placed(), 8, Permission::ReadWrite).expect("room");
    let before = memory.generation();
    memory.allocate(placed(), 8, Permission::ReadWrite).expect("room");
    memory.allocate_for_run(ObjectKind::Context, 8, Permission::Read).expect("room");
    memory.start_run();
    memory.view().push_frame(0);
    memory.view().pop_frame(0);
    assert_eq!(memory.generation(), before);
    memory.grant(start, 4, Permission::Read);
    let narrowed = memory.generation();
    assert_ne!(narrowed, before);
    memory.revoke(start, 8);
    assert_ne!(memory.generation(), narrowed);
}
