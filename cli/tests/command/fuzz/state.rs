/// Found by `softbpf fuzz` in program main of tests/command/fuzz/state.s.
#[test]
fn main_read_null_13() -> Result<(), Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("tests/command/fuzz/state.s")?;
    let object = softbpf::Object::assemble(&text, softbpf::program_type::ProgramType::Tracepoint, vec![softbpf::map_spec::MapSpec::new("table", softbpf::map_spec::MapType::Hash, 4, 8, 16)])?;
    let mut vm = softbpf::Machine::load(&object)?;
    vm.fuel = 1000000;
    vm.world.task.uid = softbpf::Uid(4242);
    vm.map("table")?.insert_bytes(&[0x07, 0x00, 0x00, 0x00], &[0x34, 0x12, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00], 0)?;
    let context = [0_u8; 64];
    let outcome = vm.run("main", &context[..])?;
    let trap = outcome.trap().ok_or("the program returned")?;
    assert_eq!(trap.kind.to_string(), "invalid read of 1 bytes at 0x1234: null pointer");
    assert_eq!((&*trap.program, trap.slot), ("main", 13));
    Ok(())
}
