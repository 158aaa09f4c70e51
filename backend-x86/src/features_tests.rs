use hv_core::addr::{Order, Orders};

use super::{Cpuid, EptVpid, Extension, Features, Nested, Svm, Unsupported, feature_control, msr};

/// QEMU's `max`, with 40 bits of address.
const TCG: Cpuid = Cpuid {
    leaf1_ecx: 0,
    extended1_ecx: 1 << 2,
    extended1_edx: 1 << 20 | 1 << 26,
    sizes_eax: 0x3028,
    svm_ebx: 16,
    svm_edx: 0x1001_0001,
};
/// A Skylake as Bochs has it.
const SKYLAKE: Cpuid = Cpuid { leaf1_ecx: 1 << 5, extended1_ecx: 0, svm_ebx: 0, svm_edx: 0, ..TCG };

fn registers(number: u32) -> u64 {
    match number {
        msr::FEATURE_CONTROL => 5,
        msr::VMX_BASIC => 0x00da_1000_8000_0012,
        msr::VMX_PROCBASED => 0xfff9_fffe_0401_e172,
        msr::VMX_PROCBASED2 => 0x00ff_ffff_0000_0000,
        msr::VMX_EPT_VPID => 0x0000_0f01_0673_4141,
        msr::VM_CR => 0,
        other => panic!("{other:#x} was not to be read"),
    }
}

/// Those, with one of them different.
fn with(number: u32, value: u64) -> impl Fn(u32) -> u64 {
    move |asked| if asked == number { value } else { registers(asked) }
}

#[test]
fn processors_are_what_their_manuals_say() {
    let all = Orders::NONE.with(Order::PAGE).with(Order::MIB2).with(Order::GIB);
    let tcg = Features::of(&TCG, registers).unwrap();
    assert_eq!(tcg.extension, Extension::Svm { has: Svm::NESTED_PAGING | Svm::VGIF, asids: 16 });
    assert_eq!((tcg.nested(), tcg.leaves(), tcg.address_bits), (Nested::Npt, all, 40));
    let skylake = Features::of(&SKYLAKE, registers).unwrap();
    let Extension::Vmx { has, revision } = skylake.extension else { panic!("{skylake:?}") };
    assert!(has.contains(EptVpid::MARKS | EptVpid::INVVPID_ONE | EptVpid::INVEPT_ONE));
    assert_eq!(revision, 0x12, "bit 31 would make it a shadow VMCS");
    assert_eq!((skylake.nested(), skylake.leaves()), (Nested::EptMarks, all));
}

#[test]
fn leaves_and_marks_are_those_that_there_are() {
    let small = Features::of(&Cpuid { extended1_edx: 1 << 20, ..TCG }, registers).unwrap();
    assert!(!small.leaves().contains(Order::GIB) && small.leaves().contains(Order::MIB2));
    let old = Features::of(&SKYLAKE, with(msr::VMX_EPT_VPID, 0x0610_4040)).unwrap();
    assert_eq!((old.nested(), old.leaves()), (Nested::EptTrap, Orders::NONE.with(Order::PAGE)));
    // VPIDs that may not be used are not there, whatever their flush says.
    let without = Features::of(&SKYLAKE, with(msr::VMX_PROCBASED2, 0x2_0000_0000)).unwrap();
    assert!(matches!(without.extension, Extension::Vmx { has, .. } if !has.intersects(EptVpid::INVVPID)));
    let narrow = Features::of(&Cpuid { sizes_eax: 0, ..TCG }, registers).unwrap();
    assert_eq!(narrow.address_bits, 36);
}

#[test]
fn a_processor_that_cannot_hold_a_guest_is_refused() {
    let none = |id: Cpuid| Features::of(&id, registers).map(|_| ());
    assert_eq!(none(Cpuid { extended1_ecx: 0, ..TCG }), Err(Unsupported::NoExtension));
    assert_eq!(none(Cpuid { svm_edx: 0, ..TCG }), Err(Unsupported::NoNestedPaging));
    assert_eq!(none(Cpuid { svm_ebx: 1, ..TCG }), Err(Unsupported::NoNestedPaging));
    assert_eq!(none(Cpuid { extended1_edx: 0, ..TCG }), Err(Unsupported::NoExecuteDisable));
    let svm = |number, value| Features::of(&TCG, with(number, value)).map(|_| ());
    assert_eq!(svm(msr::VM_CR, 1 << 4), Err(Unsupported::Locked));
    let vmx = |number, value| Features::of(&SKYLAKE, with(number, value)).map(|_| ());
    assert_eq!(vmx(msr::FEATURE_CONTROL, 1), Err(Unsupported::Locked));
    assert_eq!(vmx(msr::FEATURE_CONTROL, 0), Ok(()), "the board may still switch it on");
    assert_eq!(vmx(msr::VMX_PROCBASED, 0x7ff9_fffe_0401_e172), Err(Unsupported::NoNestedPaging));
    assert_eq!(vmx(msr::VMX_PROCBASED2, 0xfffd << 32), Err(Unsupported::NoNestedPaging));
    let lacking = vmx(msr::VMX_EPT_VPID, 0x0633_4141 & !(1 << 6));
    assert_eq!(lacking, Err(Unsupported::Ept(EptVpid::FOUR_LEVELS)));
}

#[test]
fn vmx_is_switched_on_where_firmware_has_left_that_open() {
    assert_eq!([0, 4, 5, 1].map(feature_control), [Some(5), Some(5), Some(5), None]);
    assert_eq!(feature_control(1 << 20), Some(1 << 20 | 5), "what else it switches on stays");
}
