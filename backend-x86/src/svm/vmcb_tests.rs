use core::mem::offset_of;

use super::{Control, Intercepts, State, VirtualInterrupt, Vmcb};

#[test]
fn every_field_is_where_the_manual_has_it() {
    macro_rules! at {
        ($area:ty: $($field:ident $offset:expr),* $(,)?) => {
            $(assert_eq!(offset_of!($area, $field), $offset, stringify!($field));)*
        };
    }
    // Table B-1.
    at!(Control: control_registers 0x00, debug_registers 0x04, exceptions 0x08, intercepts 0x0c, pause_threshold 0x3c,
        pause_count 0x3e, io_map 0x40, msr_map 0x48, tsc_offset 0x50, asid 0x58, tlb_control 0x5c, virtual_interrupt 0x60,
        shadow 0x68, exit_code 0x70, exit_info1 0x78, exit_info2 0x80, exit_interrupt_info 0x88, nested_control 0x90,
        event_injection 0xa8, nested_cr3 0xb0, virtualization 0xb8, clean 0xc0, next_rip 0xc8, instruction 0xd0);
    // Table B-2, from the beginning of that area.
    at!(State: es_cs_ss_ds 0x00, fs 0x40, gs 0x50, gdtr 0x60, ldtr 0x70, idtr 0x80, tr 0x90, cpl 0xcb, efer 0xd0,
        cr4 0x148, cr3 0x150, cr0 0x158, dr7 0x160, dr6 0x168, rflags 0x170, rip 0x178, rsp 0x1d8, rax 0x1f8, star 0x200,
        lstar 0x208, cstar 0x210, sfmask 0x218, kernel_gs_base 0x220, sysenter_cs 0x228, sysenter_esp 0x230,
        sysenter_eip 0x238, cr2 0x240, pat 0x268, debug_control 0x270);
    assert_eq!((offset_of!(Vmcb, control), offset_of!(Vmcb, state)), (0, 0x400));
}

#[test]
fn intercepts_are_two_words_of_the_block() {
    let mut control = Vmcb::default().control;
    assert_eq!(control.intercepts(), Intercepts::empty());
    let what = Intercepts::INTR | Intercepts::SHUTDOWN | Intercepts::VMRUN | Intercepts::XSETBV;
    control.intercept(what);
    assert_eq!(control.intercepts, [0x8000_0001, 0x2001]);
    assert_eq!(control.intercepts(), what);
    // Exits of instructions are numbered as their intercepts are: 60h and 80h on.
    assert_eq!(Intercepts::CPUID.bits().trailing_zeros() + 0x60, 0x72);
    assert_eq!(Intercepts::XSETBV.bits().trailing_zeros() - 32 + 0x80, 0x8d);
}

#[test]
fn a_virtual_interrupt_has_its_vector_in_the_upper_half() {
    let interrupt = VirtualInterrupt::PENDING | VirtualInterrupt::MASKING | VirtualInterrupt::vector(0xec);
    assert_eq!(interrupt.bits(), 0xec_0100_0100);
}
