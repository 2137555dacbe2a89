/// Found by `softbpf fuzz` in program parse_missing_check of ../conformance/objects/xdp_parse_bug.bpf.o.
#[test]
fn parse_missing_check_read_out_of_bounds_129() -> Result<(), Box<dyn std::error::Error>> {
    let object = softbpf::Object::from_file("../conformance/objects/xdp_parse_bug.bpf.o")?;
    let mut vm = softbpf::Machine::load(&object)?;
    vm.fuel = 1000000;
    let packet = softbpf::context::Packet::new([
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, 0x00, 0x45, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x06, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x01, 0xbb, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x60, 0x02,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ]);
    let outcome = vm.run("parse_missing_check", packet)?;
    // ./xdp_parse_bug.bpf.c:92:13: u8 kind = at[0], length;
    let trap = outcome.trap().ok_or("the program returned")?;
    assert_eq!(trap.kind.to_string(), "invalid read of 1 bytes at 0x1001f6: out of bounds");
    assert_eq!((&*trap.program, trap.slot), ("parse_missing_check", 129));
    Ok(())
}
