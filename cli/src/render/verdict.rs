//! What a return value means, where its program's type says, or where it looks like an error number.

use softbpf::errno::Errno;
use softbpf::program_type::ProgramType;

/// `enum xdp_action`.
const XDP: [&str; 5] = ["XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"];

/// `TC_ACT_*`, from `TC_ACT_UNSPEC`, -1, on.
const TC: [&str; 10] = [
    "TC_ACT_UNSPEC",
    "TC_ACT_OK",
    "TC_ACT_RECLASSIFY",
    "TC_ACT_SHOT",
    "TC_ACT_PIPE",
    "TC_ACT_STOLEN",
    "TC_ACT_QUEUED",
    "TC_ACT_REPEAT",
    "TC_ACT_REDIRECT",
    "TC_ACT_TRAP",
];

/// The kernel's `MAX_ERRNO`.
const MAX_ERRNO: i64 = 4095;

/// `XDP_PASS`; `-14 as 32 bits: -EFAULT`; nothing for a plain number.
pub(crate) fn reading(value: u64, program_type: ProgramType) -> Option<String> {
    // The kernel looks at the low half of what these return.
    let low = value as u32 as i32;
    if program_type == ProgramType::Xdp {
        return XDP.get(usize::try_from(low).ok()?).map(|name| (*name).to_owned());
    }
    if [ProgramType::SchedCls, ProgramType::SchedAct].contains(&program_type) {
        return TC.get(usize::try_from(low.checked_add(1)?).ok()?).map(|name| (*name).to_owned());
    }
    let (number, width) = if value > u32::MAX.into() { (value as i64, "") } else { (low.into(), " as 32 bits") };
    if !(-MAX_ERRNO..0).contains(&number) {
        return None;
    }
    let name = Errno(-number as i32).name().map(|name| format!(": -{name}")).unwrap_or_default();
    Some(format!("{number}{width}{name}"))
}

/// The value of a name that programs of this type return: the other way round.
pub(crate) fn verdict(name: &str, program_type: ProgramType) -> Option<i64> {
    let (names, first): (&[&str], i64) = match program_type == ProgramType::Xdp {
        true => (&XDP, 0),
        false => (&TC, -1),
    };
    Some(names.iter().position(|known| *known == name)? as i64 + first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_and_errors_are_named() {
        assert_eq!(reading(2, ProgramType::Xdp).as_deref(), Some("XDP_PASS"));
        assert_eq!(reading(5, ProgramType::Xdp), None);
        assert_eq!(reading(u32::MAX.into(), ProgramType::SchedCls).as_deref(), Some("TC_ACT_UNSPEC"));
        assert_eq!(reading(2, ProgramType::SchedCls).as_deref(), Some("TC_ACT_SHOT"));
        assert_eq!(reading(i32::MAX as u64, ProgramType::SchedCls), None);
        assert_eq!(reading(2, ProgramType::Kprobe), None);
        assert_eq!(reading(-14_i64 as u64, ProgramType::Kprobe).as_deref(), Some("-14: -EFAULT"));
        assert_eq!(reading(-14_i32 as u32 as u64, ProgramType::Kprobe).as_deref(), Some("-14 as 32 bits: -EFAULT"));
        assert_eq!(reading(-4000_i64 as u64, ProgramType::Kprobe).as_deref(), Some("-4000"));
        assert_eq!(reading(i64::MIN as u64, ProgramType::Kprobe), None);
        assert_eq!(verdict("XDP_PASS", ProgramType::Xdp), Some(2));
        assert_eq!(verdict("TC_ACT_UNSPEC", ProgramType::SchedCls), Some(-1));
        assert_eq!(verdict("TC_ACT_OK", ProgramType::Xdp), None);
    }
}
