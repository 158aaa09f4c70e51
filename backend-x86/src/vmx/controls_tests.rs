use super::{Controls, Group, Unfit, entry, exit, fixed, pin, primary, secondary};

/// A processor that can clear its defaults, with the values of a Skylake.
fn skylake(number: u32) -> u64 {
    match number {
        0x480 => 0x00da_0400_0000_0012,
        0x48b => 0x0057_ffff_0000_0000,
        0x48d => 0x0000_007f_0000_0016,
        0x48e => 0xfff9_fffe_0400_6172,
        0x48f => 0x01ff_ffff_0003_6dfb,
        0x490 => 0x0003_ffff_0000_11fb,
        other => panic!("{other:#x} was not to be read"),
    }
}

#[test]
fn controls_are_what_is_needed_what_can_be_had_and_what_has_to_be() {
    let chosen = Controls::choose(skylake).unwrap();
    assert_eq!(
        chosen.pin,
        0x7f & (0x16 | pin::EXTERNAL_INTERRUPT | pin::NMI | pin::VIRTUAL_NMI | pin::PREEMPTION_TIMER)
    );
    assert_eq!(chosen.primary & primary::HLT, primary::HLT);
    assert_eq!(chosen.primary & (primary::CR3_LOAD | primary::CR3_STORE | primary::INTERRUPT_WINDOW), 0);
    assert_eq!(chosen.primary & 0x0400_6172, 0x0400_6172, "defaults stay");
    let all = secondary::EPT | secondary::UNRESTRICTED | secondary::VPID | secondary::RDTSCP | secondary::WBINVD;
    assert_eq!(chosen.secondary, all | secondary::INVPCID | secondary::XSAVES);
    assert_eq!(chosen.exit & (exit::HOST_64 | exit::SAVE_DEBUG), exit::HOST_64 | exit::SAVE_DEBUG);
    let entries = entry::LOAD_EFER | entry::LOAD_DEBUG;
    assert_eq!(chosen.entry & (entries | entry::GUEST_64), entries);
    // What it may not set it does not set.
    let plain = Controls::choose(|n| if n == 0x48b { 0xa2 << 32 } else { skylake(n) }).unwrap();
    assert_eq!(plain.secondary, secondary::EPT | secondary::UNRESTRICTED | secondary::VPID);
}

#[test]
fn a_processor_that_cannot_is_refused_by_name() {
    let with = |number, value| Controls::choose(move |n| if n == number { value } else { skylake(n) });
    let restricted = with(0x48b, 0x22 << 32);
    assert_eq!(restricted, Err(Unfit::Lacks(Group::Secondary, secondary::UNRESTRICTED)));
    let forced = with(0x48e, 0xfff9_fffe_0401_e172);
    assert_eq!(forced, Err(Unfit::Forces(Group::Primary, primary::CR3_LOAD | primary::CR3_STORE)));
    assert_eq!(with(0x48d, 0x16_0000_0016), Err(Unfit::Lacks(Group::Pin, 0x69)));
}

#[test]
fn defaults_that_cannot_be_cleared_are_asked_of_their_own_registers() {
    let old = |number| match number {
        0x480 => 0x0012,
        0x482 => 0xfff9_fffe_0401_e172,
        0x481 => skylake(0x48d),
        0x48b => skylake(0x48b),
        other => panic!("{other:#x} was not to be read"),
    };
    let forced = Controls::choose(old);
    assert_eq!(forced, Err(Unfit::Forces(Group::Primary, primary::CR3_LOAD | primary::CR3_STORE)));
}

#[test]
fn control_registers_are_as_vmx_operation_wants_them() {
    // NE, PE and PG have to be set; CR4.VMXE as well, and bits that the processor does not know stay clear.
    assert_eq!(fixed(0x6000_0011, 0x8000_0021, 0xffff_ffff), 0xe000_0031);
    assert_eq!(fixed(1 << 40 | 0x20, 0x2000, 0x37_67ff), 0x2020);
}
