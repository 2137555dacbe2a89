/// Found by `softbpf fuzz` in program main of tests/command/fuzz/memory.s.
#[test]
fn main_read_null_7() -> Result<(), Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("tests/command/fuzz/memory.s")?;
    let object = softbpf::Object::assemble(&text, softbpf::program_type::ProgramType::Kprobe, vec![])?;
    let config = softbpf::Config { cpus: 2, track_uninitialised: true, ..Default::default() };
    let mut vm = softbpf::Machine::with_config(&object, config)?;
    vm.fuel = 1000000;
    vm.place_at(0xffff888010000000, "memory", &[0xef, 0xbe, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00])?;
    vm.mock(27, |_| 0xfffffffffffffff2_u64)?;
    let mut registers = softbpf::context::PtRegs::new();
    registers.set("di", 0xffff888010000000)?;
    let outcome = vm.run("main", registers)?;
    let trap = outcome.trap().ok_or("the program returned")?;
    assert_eq!(trap.kind.to_string(), "invalid read of 1 bytes at 0xbeef: null pointer");
    assert_eq!((&*trap.program, trap.slot), ("main", 7));
    Ok(())
}
