//! Windows show exactly the open bytes around an address, and the generation says when they are out of date. What was cleared
//! is as new.

use super::{
    ARENA_SIZES, Access, FAR_START, MAX_FRAMES, MAX_PAGES_CLEARED, MAX_PAGES_KEPT, Memory, ObjectKind, PAGE,
    Permission, STACK_TOP, frame_base,
};

fn memory() -> Memory {
    Memory::new().expect("an arena")
}

/// One whose arena nobody has had before.
fn new_memory() -> Memory {
    Memory::with_size(ARENA_SIZES[0]).expect("an arena")
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
fn a_row_is_opened_as_its_elements_are() {
    let mut memory = memory();
    memory.track_uninitialised().expect("an arena");
    for permission in [Permission::Read, Permission::ReadWrite, Permission::Write] {
        for (size, count) in [(1, 1), (7, 3), (8, 5), (9, 2), (24, 17), (500, 4)] {
            let [row, one_by_one] = [(); 2].map(|()| memory.reserve_elements(placed(), size, count).expect("room"));
            memory.grant_elements(row, size, count, permission);
            (0..count).for_each(|index| memory.grant(one_by_one.address(index), size, permission));
            for offset in 0..row.stride * count + 8 {
                let open = |memory: &Memory, start: u32| {
                    let addr = u64::from(start + offset);
                    (memory.read(addr, 1).is_ok(), memory.check_write(addr, 1).is_ok(), memory.is_granted(addr as u32))
                };
                let (row, one_by_one) = (open(&memory, row.start), open(&memory, one_by_one.start));
                assert_eq!(row, one_by_one, "{permission:?}, {count} of {size} bytes: byte {offset}");
            }
        }
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

/// What a test does with a memory: objects of this size, opened, written, closed, in all zones.
fn use_up(memory: &mut Memory, size: u32) -> [u32; 3] {
    let kept = memory.allocate(placed(), size, Permission::ReadWrite).expect("room");
    let revoked = memory.allocate(placed(), size, Permission::ReadWrite).expect("room");
    let fleeting = memory.allocate_for_run(ObjectKind::Context, size, Permission::ReadWrite).expect("room");
    let starts = [kept, revoked, fleeting];
    for start in starts {
        memory.put(start, &[1]);
        memory.put(start + size - 1, &[2]);
    }
    memory.revoke(revoked, size);
    let top = memory.view().push_frame(0).expect("a frame");
    memory.write(top - 8, &[3; 8]).expect("it is open");
    memory.place_far(FAR_START, "far", &[4; 4]).expect("a far object");
    starts
}

/// That nothing is left of what [`use_up`] did from `start` on.
fn is_new(memory: &mut Memory, starts: &[u32], size: u32) {
    for &start in starts {
        for at in [start, start + size - 1] {
            assert_eq!(memory.get(at, 1), [0], "{at:#x}");
            assert!(memory.read(at.into(), 1).is_err() && memory.check_write(at.into(), 1).is_err());
        }
    }
    assert!(memory.read(u64::from(STACK_TOP) - 8, 8).is_err());
    assert_eq!(memory.get(STACK_TOP - 8, 8), [0; 8]);
    assert!(memory.read(FAR_START, 1).is_err());
}

#[test]
fn a_memory_that_was_reset_is_as_new() {
    for tracking in [false, true] {
        let mut memory = memory();
        if tracking {
            memory.track_uninitialised().expect("room");
        }
        let mut first = None;
        // The last is more than is cleared page by page.
        for size in [1, 64, PAGE, 3 * PAGE + 5, MAX_PAGES_CLEARED as u32 * PAGE, 100] {
            let starts = use_up(&mut memory, size);
            assert_eq!(*first.get_or_insert(starts[0]), starts[0]);
            let generation = memory.generation();
            memory.reset();
            assert_ne!(memory.generation(), generation);
            is_new(&mut memory, &starts, size);
            assert_eq!(memory.footprint.take(), []);
            // Frames still wait to be written.
            memory.view().push_frame(0);
            assert_eq!(memory.read(u64::from(STACK_TOP) - 8, 8).is_err(), tracking);
            memory.write(u64::from(STACK_TOP) - 8, &[0; 8]).expect("it is open");
            assert!(memory.read(u64::from(STACK_TOP) - 8, 8).is_ok());
        }
    }
}

#[test]
fn a_mark_keeps_what_was_there() {
    let mut memory = memory();
    let size = PAGE + 100;
    let before = memory.allocate(placed(), size, Permission::ReadWrite).expect("room");
    memory.put(before, &[9; PAGE as usize]);
    memory.mark();
    for size in [1, 64, PAGE, 3 * PAGE + 5] {
        let starts = use_up(&mut memory, size);
        memory.return_to_mark();
        is_new(&mut memory, &starts, size);
        assert_eq!(memory.read(before.into(), PAGE.into()), Ok(&[9; PAGE as usize][..]));
    }
    let generation = memory.generation();
    memory.return_to_mark();
    assert_eq!(memory.generation(), generation);
}

/// That all bytes of the zones' beginnings are zero and closed.
fn is_empty(memory: &Memory) {
    let zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
    for start in [0, memory.persistent.start as usize] {
        assert!(zero(&memory.arena[start..start + (4 << 20)]));
        for bits in [&memory.readable, &memory.writable] {
            assert!(
                (start as u32..start as u32 + (4 << 20)).step_by(8).all(|addr| bits.first_clear(addr, 8) == Some(0))
            );
        }
    }
}

#[test]
fn a_memory_with_the_arena_of_another_is_as_new() {
    let new = new_memory();
    for tracking in [false, true] {
        let mut memory = memory();
        if tracking {
            memory.track_uninitialised().expect("room");
        }
        for _ in 0..3 {
            let starts = use_up(&mut memory, 2 * PAGE);
            memory.mark();
            (0..MAX_FRAMES).for_each(|frame| {
                let top = memory.view().push_frame(frame).expect("a frame");
                memory.write(top - 512, &[5; 512]).expect("it is open");
            });
            // Where no machine has objects: the null page, a red zone, in place of a frame, the end.
            for addr in [0, 100, frame_base(0) - 8, frame_base(1), u32::MAX - 7] {
                memory.grant(addr, 8, Permission::ReadWrite);
                memory.put(addr, &[6; 8]);
                memory.name(addr, placed(), 8);
            }
            memory.unname(frame_base(2));
            memory = memory.take();
            is_new(&mut memory, &starts, 2 * PAGE);
            is_empty(&memory);
            assert_eq!(memory.get(u32::MAX - 7, 8), [0; 8]);
            assert!(memory.read(u64::from(u32::MAX - 7), 1).is_err());
            assert_eq!((memory.left(), memory.generation()), (new.left(), new.generation()));
            assert_eq!((memory.mark, memory.tracking()), (new.mark, false));
            for addr in [0, 100, u64::from(frame_base(0)), frame_base(1).into(), frame_base(2).into(), 1 << 31, 1 << 40]
            {
                assert_eq!(memory.nearest(addr, 1), new.nearest(addr, 1));
            }
        }
    }
}

#[test]
fn pages_are_in_use_once() {
    let mut memory = new_memory();
    let start = memory.persistent.start as u32;
    // Frames are left out, and so are the addresses behind the last one.
    memory.view().push_frame(0);
    for (addr, size, pages) in
        [(start, PAGE, 1), (start, 1, 1), (start + PAGE - 1, 2, 2), (start, 3 * PAGE, 3), (u32::MAX, 9, 4)]
    {
        memory.grant(addr, size, Permission::ReadWrite);
        assert_eq!(memory.footprint.in_use(), pages);
        memory = memory.take();
        assert_eq!(memory.footprint.in_use(), pages);
    }
}

#[test]
fn what_takes_long_to_clear_is_not_kept() {
    let mut large = new_memory();
    assert!(large.may_be_kept());
    large.allocate(placed(), MAX_PAGES_KEPT as u32 * PAGE, Permission::Read).expect("room");
    assert!(large.may_be_kept());
    large.allocate(placed(), PAGE, Permission::Read).expect("room");
    assert!(!large.may_be_kept());
}

#[test]
fn what_a_panic_has_cut_off_is_not_kept() {
    let mut memory = new_memory();
    memory.cut_off();
    assert!(!memory.may_be_kept());
    memory.return_to_mark();
    assert!(!memory.may_be_kept());

    struct Unwound(Memory);
    impl Drop for Unwound {
        fn drop(&mut self) {
            assert!(!self.0.may_be_kept());
        }
    }
    let unwound = Unwound(new_memory());
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _unwound = unwound;
        std::panic::resume_unwind(Box::new("while a machine is there"));
    }));
    assert!(caught.is_err());
}

#[test]
fn an_arena_that_is_smaller_than_it_should_be_is_not_kept() {
    let memory = Memory::with_size(ARENA_SIZES[1]).expect("an arena");
    assert!(!memory.may_be_kept());
}
