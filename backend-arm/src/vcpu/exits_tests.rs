//! Exits as QEMU's virt machine reports them, and those that it never shows, built by the manual.

use hv_core::addr::Gpa;
use hv_core::vcpu::exit::Access;

use super::{Call, Cause, Conduit, DEVICES, Raw, Wait, ec, name, request};
use crate::vcpu::aborts::{PageSource, hpfar_page, page_source, par_page};
use crate::vcpu::mmio::{Extend, MmioAccess, Transfer, Width};
use crate::vcpu::sysreg::{Direction, SysReg, SysRegAccess};

const RAM: Gpa = Gpa(0x12_3000);

/// What an exit comes to: its name, and what is asked for if it is a request.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Call(Call),
    Other(Cause),
}

fn meaning(raw: &Raw) -> Meaning {
    match name(raw) {
        Cause::Call => Meaning::Call(request(raw)),
        other => Meaning::Other(other),
    }
}

fn sync(esr: u64) -> Meaning {
    meaning(&Raw::of(esr))
}

fn data(iss: u64, far: u64, page: Option<Gpa>) -> Meaning {
    meaning(&Raw { esr: 0x24 << 26 | 1 << 25 | iss, far, page })
}

fn fetch(iss: u64, far: u64, page: Option<Gpa>) -> Meaning {
    meaning(&Raw { esr: 0x20 << 26 | 1 << 25 | iss, far, page })
}

fn fault(gpa: Gpa, access: Access) -> Meaning {
    Meaning::Other(Cause::Fault(gpa, access))
}

#[test]
fn trapped_instructions_are_told_apart() {
    assert_eq!(sync(0x5a00_0000), Meaning::Call(Call::Hypercall(Conduit::Hvc(0))));
    assert_eq!(sync(0x5a00_beef), Meaning::Call(Call::Hypercall(Conduit::Hvc(0xbeef))));
    assert_eq!(sync(0x5e00_0000), Meaning::Call(Call::Hypercall(Conduit::Smc)));
    assert_eq!(sync(0x07e0_0000), Meaning::Call(Call::Wait(Wait::Interrupt)));
    assert_eq!(sync(0x07e0_0001), Meaning::Call(Call::Wait(Wait::Event)));
    assert_eq!(sync(0x07e0_0002), Meaning::Call(Call::Wait(Wait::Event)), "WFIT may not sleep for ever");
    assert_eq!(sync(0x1fe0_0000), Meaning::Call(Call::Float));
    assert_eq!(sync(0x6600_0000), Meaning::Call(Call::Undefined), "SVE");
    assert_eq!(sync(0x0200_0000), Meaning::Call(Call::Undefined), "unknown reason");
    let register = SysReg::new(3, 0, 0, 4, 0);
    let read = SysRegAccess { register, rt: 5, direction: Direction::Read };
    assert_eq!(sync(0x6230_00a9), Meaning::Call(Call::SysReg(read)));
}

#[test]
fn interrupts_and_errors_have_no_syndrome() {
    assert_eq!(name(&Raw::DEADLINE), Cause::Deadline);
    assert_eq!(name(&Raw::INTERRUPT), Cause::Interrupt);
    assert_eq!(meaning(&Raw::GUEST), Meaning::Call(Call::Look));
    assert!(matches!(name(&Raw::of(ec::SERROR << 26)), Cause::Broken(_)));
}

#[test]
fn a_fault_in_memory_names_the_byte_and_the_access() {
    // Translation faults, level 3: ldr, str, and a fetch.
    assert_eq!(data(0x07, 0xffff_8000_0000_0abc, Some(RAM)), fault(Gpa(RAM.0 | 0xabc), Access::Read));
    assert_eq!(data(0x47, 0xffff_8000_0000_0abc, Some(RAM)), fault(Gpa(RAM.0 | 0xabc), Access::Write));
    assert_eq!(fetch(0x07, 0x4000, Some(RAM)), fault(RAM, Access::Fetch));
    // Access flag and permission faults.
    assert_eq!(data(0x4b, 0, Some(RAM)), fault(RAM, Access::Write));
    assert_eq!(data(0x4f, 0, Some(RAM)), fault(RAM, Access::Write));
    // An instruction abort has no WnR: bit 6 says nothing there.
    assert_eq!(fetch(0x47, 0, Some(RAM)), fault(RAM, Access::Fetch));
}

#[test]
fn a_fault_of_the_guests_own_walk_is_about_its_table() {
    // FAR has the address that was translated: its offset is not the table entry's.
    assert_eq!(data(0x87, 0xabc, Some(RAM)), fault(RAM, Access::Read));
    // The load's walk wants to set an access flag: WnR is the walk's.
    assert_eq!(data(0x80 | 0x47, 0xabc, Some(RAM)), fault(RAM, Access::Write));
    assert_eq!(data(0x80 | 0x0f, 0xabc, Some(RAM)), fault(RAM, Access::Write));
    // The same for a fetch, which could not be executed from where its table is.
    assert_eq!(fetch(0x80 | 0x07, 0xabc, Some(RAM)), fault(RAM, Access::Read));
    assert_eq!(fetch(0x80 | 0x0f, 0xabc, Some(RAM)), fault(RAM, Access::Write));
}

#[test]
fn cache_maintenance_asks_for_no_more_than_it_needs() {
    assert_eq!(data(0x147, 0x40, Some(RAM)), fault(Gpa(RAM.0 | 0x40), Access::Read));
    assert_eq!(data(0x14f, 0x40, Some(RAM)), fault(Gpa(RAM.0 | 0x40), Access::Write), "or it faults for ever");
    assert_eq!(data(0x147, 0x40, Some(DEVICES)), Meaning::Call(Call::Skip));
}

#[test]
fn devices_are_told_by_their_address() {
    let load = |gpa| {
        Meaning::Call(Call::Mmio(MmioAccess {
            gpa,
            width: Width::Word,
            register: 2,
            transfer: Transfer::Load(Extend::Zero),
        }))
    };
    // ldr w2, [..]: ISV, SAS 2, SRT 2, translation fault.
    let iss = 1 << 24 | 2 << 22 | 2 << 16 | 0x06;
    assert_eq!(data(iss, 0x18, Some(DEVICES)), load(Gpa(DEVICES.0 | 0x18)));
    assert_eq!(data(iss, 0, Some(DEVICES)), load(DEVICES), "the first byte of all");
    let below = Gpa(DEVICES.0 - 0x1000);
    assert_eq!(data(iss, 0xffc, Some(below)), fault(Gpa(DEVICES.0 - 4), Access::Read));
    // Nothing that could be emulated: these become faults without a slot, and end as external aborts.
    let stp = data(0x46, 0x18, Some(DEVICES));
    assert_eq!(stp, fault(Gpa(DEVICES.0 | 0x18), Access::Write));
    assert_eq!(data(iss | 0x80, 0x18, Some(DEVICES)), fault(DEVICES, Access::Read), "a table in a device");
    assert_eq!(fetch(0x06, 0x18, Some(DEVICES)), fault(Gpa(DEVICES.0 | 0x18), Access::Fetch));
}

#[test]
fn hpfar_is_asked_only_where_it_is_valid() {
    let of = |iss: u64| page_source(0x24 << 26 | iss);
    for valid in [0x00, 0x05, 0x07, 0x09, 0x0b, 0x8f, 0x87] {
        assert_eq!(of(valid), PageSource::Hpfar, "{valid:#x}");
    }
    for unknown in [0x0c, 0x0d, 0x0e, 0x0f, 0x4f, 0x14f] {
        assert_eq!(of(unknown), PageSource::Translate, "{unknown:#x}");
    }
    for none in [0x10, 0x14, 0x17, 0x21, 0x30, 0x31, 0x34] {
        assert_eq!(of(none), PageSource::Nowhere, "{none:#x}");
    }
    assert_eq!(hpfar_page(0x0080_0000), Gpa(0x8000_0000));
    assert_eq!(hpfar_page(u64::MAX), Gpa(0x000f_ffff_ffff_f000), "NS and reserved bits are no address");
    assert_eq!(par_page(0xff00_0000_4123_4f80), Some(Gpa(0x4123_4000)));
    assert_eq!(par_page(0x0000_0000_0000_080f), None);
}

#[test]
fn a_guest_that_changed_its_tables_meanwhile_tries_again() {
    assert_eq!(data(0x4f, 0, None), Meaning::Call(Call::Look));
}

#[test]
fn what_is_no_fault_of_the_second_stage_is_not_answered_as_one() {
    assert_eq!(data(0x10, 0, None), Meaning::Call(Call::ExternalAbort(Access::Read)));
    assert_eq!(data(0x50, 0, None), Meaning::Call(Call::ExternalAbort(Access::Write)));
    assert_eq!(data(0x17, 0, None), Meaning::Call(Call::ExternalAbort(Access::Read)));
    assert_eq!(fetch(0x10, 0, None), Meaning::Call(Call::ExternalAbort(Access::Fetch)));
    assert!(
        matches!(data(0x30, 0, None), Meaning::Other(Cause::Broken(_))),
        "a TLB conflict: break-before-make was broken"
    );
    assert!(matches!(data(0x31, 0, None), Meaning::Other(Cause::Broken(_))));
}
