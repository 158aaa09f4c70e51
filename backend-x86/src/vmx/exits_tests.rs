use hv_core::addr::Gpa;
use hv_core::vcpu::exit::Access;

use super::{Record, reason};
use crate::bus::Width;
use crate::event::Exception;
use crate::exit::{Call, Cause, ControlAccess, Direction, PortAccess, PortForm};

fn name(reason: u32, qualification: u64, gpa: u64) -> Cause {
    Record { reason, qualification, gpa, ..Record::default() }.name()
}

#[test]
fn recorded_exits_mean_what_happened() {
    for (number, call) in [
        (18, Call::Hypercall),
        (10, Call::Cpuid),
        (12, Call::Halt),
        (31, Call::ReadMsr),
        (32, Call::WriteMsr),
        (2, Call::TripleFault),
    ] {
        assert_eq!(name(number, 0, 0), Cause::Call(call));
    }
    assert_eq!((name(1, 0, 0), name(52, 0, 0)), (Cause::Interrupt, Cause::Deadline));
    // With bits of advanced exit information, and without.
    for q in [0x181, 0x781] {
        assert_eq!(name(48, q, 0x5008), Cause::Fault(Gpa(0x5008), Access::Read));
    }
    assert_eq!(name(48, 0x18a, 0x5008), Cause::Fault(Gpa(0x5008), Access::Write));
    assert_eq!(name(48, 0x183, 0x5008), Cause::Fault(Gpa(0x5008), Access::Write), "a read-modify-write");
    assert_eq!(name(48, 0x184, 0x5008), Cause::Fault(Gpa(0x5008), Access::Fetch));
    assert!(matches!(name(49, 0, 0x5008), Cause::Broken(_)));
}

#[test]
fn a_device_is_one_by_its_address() {
    let mmio = |access| Cause::Call(Call::Mmio(Gpa(0xfee0_0300), access));
    assert_eq!(name(48, 0x181, 0xfee0_0300), mmio(Access::Read));
    assert_eq!(name(48, 0x182, 0xfee0_0300), mmio(Access::Write));
    let denied = |access| Cause::Fault(Gpa(0xfee0_0300), access);
    assert_eq!(name(48, 0x184, 0xfee0_0300), denied(Access::Fetch), "code in a device");
    assert_eq!(name(48, 0x083, 0xfee0_0300), denied(Access::Write), "a page table in a device");
    assert_eq!(name(48, 0x102, 0xfee0_0300), denied(Access::Write), "bit 8 without 7 says nothing");
}

#[test]
fn nmis_are_the_hosts_and_exceptions_the_guests_if_they_are_known() {
    let with = |event| Record { reason: reason::EXCEPTION, event, ..Record::default() }.name();
    assert_eq!(with(0x8000_0202), Cause::Interrupt);
    assert!(matches!(with(0x8000_0306), Cause::Broken(_)), "#UD was not asked for");
    assert!(matches!(with(0x8000_0312), Cause::Broken(_)), "a machine check is no guest's");
    let reflected = |vector, error| Cause::Call(Call::Reflect(Exception::Other { vector, error }));
    assert_eq!((with(0x8000_0301), with(0x8000_0501)), (reflected(1, None), reflected(1, None)));
    assert_eq!(with(0x8000_0b11), reflected(17, Some(0)));
    assert!(matches!(name(0x8000_0021, 0, 0), Cause::Broken(_)), "an entry that failed is no CPUID");
}

#[test]
fn a_debug_exception_says_why_and_where_it_comes_from() {
    let exit = |event| Record { reason: reason::EXCEPTION, event, qualification: 0x1_4ff4, ..Record::default() };
    assert_eq!(exit(0x8000_0301).debug_status(), Some(0x4004));
    assert_eq!((exit(0x8000_0b11).debug_status(), exit(0x8000_0202).debug_status()), (None, None));
    assert_eq!(Record { reason: reason::CPUID, ..exit(0x8000_0301) }.debug_status(), None);
    assert!(exit(0x8000_0501).is_int1() && !exit(0x8000_0301).is_int1());
}

#[test]
fn ports_and_control_registers_are_read_in_all_their_forms() {
    let port = |q| match name(30, q, 0) {
        Cause::Call(Call::Port(access)) => access,
        other => panic!("{other:?}"),
    };
    let out = PortAccess { port: 0xe9, width: Width::Byte, direction: Direction::Out, form: PortForm::Register };
    assert_eq!(port(0xe9_0040), out);
    assert_eq!(
        port(0x1f0_0039),
        PortAccess { port: 0x1f0, width: Width::Word, direction: Direction::In, form: PortForm::Repeated }
    );
    assert_eq!(port(0x3f8_0013).form, PortForm::String);
    assert!(matches!(name(30, 0x3f8_0002, 0), Cause::Broken(_)));
    for (q, access) in [
        (0x0304, ControlAccess::Write(4, 3)),
        (0x0f10, ControlAccess::Read(0, 15)),
        (0x0020, ControlAccess::ClearTaskSwitched),
        (0x1_0030, ControlAccess::LoadStatus(1)),
    ] {
        assert_eq!(name(28, q, 0), Cause::Call(Call::ControlRegister(access)));
    }
}

#[test]
fn instructions_of_the_extension_are_not_the_guests() {
    for number in (19..28).chain([11, 50, 53, 59]) {
        assert_eq!(name(number, 0, 0), Cause::Call(Call::Undefined), "{number}");
    }
    for number in [3, 4, 9, 14, 16, 29, 33, 44, 56, 63, 200] {
        assert!(matches!(name(number, 0, 0), Cause::Broken(_)), "{number}");
    }
}
