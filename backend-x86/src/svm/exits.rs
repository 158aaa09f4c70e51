//! What the exits of SVM mean (AMD APM vol. 2, appendix C: exit codes; 15.10.2: ports; 15.25.6: nested page faults).
//! Pure, so that recorded exits test it.

use hv_core::addr::Gpa;
use hv_core::vcpu::exit::Access;

use crate::bus::Width;
use crate::decode::Trapped;
use crate::event::Exception;
use crate::exit::{Call, Cause, Direction, PortAccess, PortForm, Stage, fault};
use crate::features::Svm;

/// What the control area says when the run has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// EXITCODE.
    pub code: u64,
    /// EXITINFO1.
    pub info1: u64,
    /// EXITINFO2.
    pub info2: u64,
    /// nRIP, which is nothing without [`Svm::NEXT_RIP`].
    pub next_rip: u64,
}

/// Exit codes.
pub mod code {
    /// A write to CR8.
    pub const WRITE_CR8: u64 = 0x18;
    /// The first exception's: the others follow by vector.
    pub const EXCEPTION: u64 = 0x40;
    /// #DB.
    pub const DEBUG: u64 = EXCEPTION + 1;
    /// #AC, with its error code in EXITINFO1.
    pub const ALIGNMENT: u64 = EXCEPTION + 17;
    /// #MC.
    pub const MACHINE_CHECK: u64 = EXCEPTION + 18;
    /// A physical interrupt.
    pub const INTR: u64 = 0x60;
    /// A physical NMI.
    pub const NMI: u64 = 0x61;
    /// A system management interrupt.
    pub const SMI: u64 = 0x62;
    /// INIT.
    pub const INIT: u64 = 0x63;
    /// The guest can take a virtual interrupt.
    pub const VINTR: u64 = 0x64;
    /// RDPMC.
    pub const RDPMC: u64 = 0x6f;
    /// CPUID.
    pub const CPUID: u64 = 0x72;
    /// IRET: NMIs are no longer held back once it is through.
    pub const IRET: u64 = 0x74;
    /// INVD.
    pub const INVD: u64 = 0x76;
    /// PAUSE.
    pub const PAUSE: u64 = 0x77;
    /// HLT.
    pub const HLT: u64 = 0x78;
    /// INVLPGA.
    pub const INVLPGA: u64 = 0x7a;
    /// A port.
    pub const IOIO: u64 = 0x7b;
    /// RDMSR or WRMSR.
    pub const MSR: u64 = 0x7c;
    /// A shutdown.
    pub const SHUTDOWN: u64 = 0x7f;
    /// VMRUN.
    pub const VMRUN: u64 = 0x80;
    /// VMMCALL.
    pub const VMMCALL: u64 = 0x81;
    /// VMLOAD, VMSAVE, STGI, CLGI, SKINIT, RDTSCP, ICEBP.
    pub const VMLOAD: u64 = 0x82;
    /// The last of those.
    pub const ICEBP: u64 = 0x88;
    /// WBINVD.
    pub const WBINVD: u64 = 0x89;
    /// MONITOR.
    pub const MONITOR: u64 = 0x8a;
    /// MWAIT with the monitor armed, the last of three.
    pub const MWAIT_ARMED: u64 = 0x8c;
    /// XSETBV.
    pub const XSETBV: u64 = 0x8d;
    /// A nested page fault.
    pub const NPF: u64 = 0x400;
    /// VMRUN would not take the block.
    pub const INVALID: u64 = u64::MAX;
}

/// EXITINFO1 of a nested page fault: the access was a store.
const NPF_WRITE: u64 = 1 << 1;
/// A reserved bit was set in an entry.
const NPF_RESERVED: u64 = 1 << 3;
/// The access was a fetch. Only where the host has set EFER.NXE.
const NPF_FETCH: u64 = 1 << 4;
/// It happened in the walk of the guest's tables.
const NPF_WALK: u64 = 1 << 33;

/// EXITINFO1 of a port: IN, not OUT.
const IO_IN: u64 = 1 << 0;
/// INS or OUTS.
const IO_STRING: u64 = 1 << 2;
/// With a repeat prefix.
const IO_REPEATED: u64 = 1 << 3;

impl Record {
    /// Names it.
    #[must_use]
    pub fn name(&self) -> Cause {
        let call = match self.code {
            code::INTR | code::NMI | code::SMI => return Cause::Interrupt,
            code::NPF => return self.nested_page_fault(),
            code::IOIO => return self.port().map_or(Cause::Broken("a port access of no size"), Cause::Call),
            code::VINTR => Call::InterruptWindow,
            code::IRET => Call::NmiWindow,
            code::WRITE_CR8 => Call::TaskPriority,
            code::CPUID => Call::Cpuid,
            code::HLT => Call::Halt,
            code::MSR if self.info1 == 0 => Call::ReadMsr,
            code::MSR => Call::WriteMsr,
            code::SHUTDOWN => Call::TripleFault,
            code::VMMCALL => Call::Hypercall,
            code::XSETBV => Call::Xsetbv,
            // INVD may not lose what Trivet has in the caches, and memory is coherent without it.
            code::INVD => Call::Skip(Trapped::Invd),
            code::PAUSE => Call::Skip(Trapped::Pause),
            code::WBINVD => Call::Skip(Trapped::Wbinvd),
            code::RDPMC | code::INVLPGA | code::VMRUN => Call::Undefined,
            code::VMLOAD..=code::ICEBP | code::MONITOR..=code::MWAIT_ARMED => Call::Undefined,
            code::DEBUG => Call::Reflect(Exception::Other { vector: 1, error: None }),
            code::ALIGNMENT => Call::Reflect(Exception::Other { vector: 17, error: Some(self.info1 as u32) }),
            code::MACHINE_CHECK => return Cause::Broken("the machine has an error where it ran"),
            code::INIT => return Cause::Broken("INIT came to a processor that Trivet runs on"),
            code::INVALID => return Cause::Broken("VMRUN found its state invalid"),
            _ => return Cause::Broken("its run ended in a way that was not asked for"),
        };
        Cause::Call(call)
    }

    /// The address of the instruction after the one that ended the run, if hardware says; else it is to be decoded
    ///. Means something for exits that an instruction asked for, and no others.
    #[must_use]
    pub fn after(&self, has: Svm) -> Option<u64> {
        match self.code {
            code::IOIO => Some(self.info2),
            _ => has.contains(Svm::NEXT_RIP).then_some(self.next_rip),
        }
    }

    fn nested_page_fault(&self) -> Cause {
        if self.info1 & NPF_RESERVED != 0 {
            return Cause::Broken("its second stage has a reserved bit set");
        }
        let access = match self.info1 {
            info if info & NPF_FETCH != 0 => Access::Fetch,
            info if info & NPF_WRITE != 0 => Access::Write,
            _ => Access::Read,
        };
        let stage = if self.info1 & NPF_WALK != 0 { Stage::Walk } else { Stage::Last };
        fault(Gpa(self.info2), access, stage)
    }

    fn port(&self) -> Option<Call> {
        let width = match self.info1 >> 4 & 7 {
            1 => Width::Byte,
            2 => Width::Word,
            4 => Width::Double,
            _ => return None,
        };
        let direction = if self.info1 & IO_IN != 0 { Direction::In } else { Direction::Out };
        let form = match self.info1 & (IO_STRING | IO_REPEATED) {
            IO_STRING => PortForm::String,
            both if both == IO_STRING | IO_REPEATED => PortForm::Repeated,
            // A repeat prefix means nothing to IN and OUT.
            _ => PortForm::Register,
        };
        Some(Call::Port(PortAccess { port: (self.info1 >> 16) as u16, width, direction, form }))
    }
}

#[cfg(test)]
mod tests {
    use hv_core::addr::Gpa;
    use hv_core::vcpu::exit::Access;

    use super::{Record, code};
    use crate::bus::Width;
    use crate::event::Exception;
    use crate::exit::{Call, Cause, Direction, PortAccess, PortForm};
    use crate::features::Svm;

    fn name(code: u64, info1: u64, info2: u64) -> Cause {
        Record { code, info1, info2, next_rip: 0 }.name()
    }

    /// What an emulator without next-RIP and decode assists was seen to say.
    #[test]
    fn recorded_exits_mean_what_happened() {
        assert_eq!(name(0x81, 0, 0), Cause::Call(Call::Hypercall));
        assert_eq!(name(0x72, 0, 0), Cause::Call(Call::Cpuid));
        assert_eq!(name(0x78, 0, 0), Cause::Call(Call::Halt));
        assert_eq!((name(0x7c, 0, 0), name(0x7c, 1, 0)), (Cause::Call(Call::ReadMsr), Cause::Call(Call::WriteMsr)));
        assert_eq!(name(0x400, 0x1_0000_0004, 0x5000), Cause::Fault(Gpa(0x5000), Access::Read));
        assert_eq!(name(0x400, 0x1_0000_0007, 0x5008), Cause::Fault(Gpa(0x5008), Access::Write));
        assert_eq!(name(0x400, 0x1_0000_0015, 0x5008), Cause::Fault(Gpa(0x5008), Access::Fetch));
        assert_eq!((name(0x60, 0, 0), name(0x18, 0, 0)), (Cause::Interrupt, Cause::Call(Call::TaskPriority)));
        let port = PortAccess { port: 0xe9, width: Width::Byte, direction: Direction::Out, form: PortForm::Register };
        for info in [0xe9_0010, 0xe9_0090] {
            assert_eq!(name(0x7b, info, 0x7c02), Cause::Call(Call::Port(port)), "with and without address size");
        }
    }

    #[test]
    fn ports_are_read_in_all_their_forms() {
        let of = |info| match name(0x7b, info, 0) {
            Cause::Call(Call::Port(access)) => (access.width, access.direction, access.form),
            other => panic!("{other:?}"),
        };
        assert_eq!(of(0x3f8_0211), (Width::Byte, Direction::In, PortForm::Register));
        assert_eq!(of(0x3f8_0224), (Width::Word, Direction::Out, PortForm::String));
        assert_eq!(of(0x3f8_024d), (Width::Double, Direction::In, PortForm::Repeated));
        assert!(matches!(name(0x7b, 0x3f8_0071, 0), Cause::Broken(_)));
    }

    #[test]
    fn a_device_is_one_by_its_address() {
        let mmio = |access| Cause::Call(Call::Mmio(Gpa(0xfee0_00b0), access));
        assert_eq!(name(0x400, 0x1_0000_0004, 0xfee0_00b0), mmio(Access::Read));
        assert_eq!(name(0x400, 0x1_0000_0006, 0xfee0_00b0), mmio(Access::Write));
        let denied = |access| Cause::Fault(Gpa(0xfee0_00b0), access);
        assert_eq!(name(0x400, 0x1_0000_0014, 0xfee0_00b0), denied(Access::Fetch), "code in a device");
        assert_eq!(name(0x400, 0x2_0000_0006, 0xfee0_00b0), denied(Access::Write), "a page table in a device");
        assert!(matches!(name(0x400, 0x1_0000_000d, 0x5000), Cause::Broken(_)), "a reserved bit is our mistake");
    }

    #[test]
    fn instructions_of_the_extension_are_not_the_guests() {
        for code in [0x80, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x7a, 0x8a, 0x8b, 0x8c] {
            assert_eq!(name(code, 0, 0), Cause::Call(Call::Undefined), "{code:#x}");
        }
        assert_eq!(name(0x7f, 0, 0), Cause::Call(Call::TripleFault));
        for code in [code::INVALID, u64::MAX - 1, 0x63, 0x401, 0x2000] {
            assert!(matches!(name(code, 0, 0), Cause::Broken(_)), "{code:#x}");
        }
    }

    #[test]
    fn exceptions_that_could_be_delivered_for_ever_are_the_guests_all_the_same() {
        let reflected = |vector, error| Cause::Call(Call::Reflect(Exception::Other { vector, error }));
        assert_eq!((name(0x41, 9, 9), name(0x51, 0, 9)), (reflected(1, None), reflected(17, Some(0))));
        assert!(matches!(name(0x52, 0, 0), Cause::Broken(_)), "a machine check is no guest's");
        assert!(matches!(name(0x4e, 0, 0), Cause::Broken(_)), "its page faults are its own");
    }

    #[test]
    fn the_next_instruction_is_known_where_hardware_says_it() {
        let record = Record { code: code::CPUID, next_rip: 0x1002, ..Record::default() };
        assert_eq!((record.after(Svm::empty()), record.after(Svm::NEXT_RIP)), (None, Some(0x1002)));
        let port = Record { code: code::IOIO, info2: 0x2001, ..Record::default() };
        assert_eq!(port.after(Svm::empty()), Some(0x2001), "a port's exit always says");
    }
}
