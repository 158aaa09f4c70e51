//! What the exits of VMX mean (Intel SDM vol. 3D, appendix C: reasons; vol. 3C, "Basic VM-Exit Information":
//! qualifications). Pure, so that recorded exits test it.

use hv_core::addr::Gpa;
use hv_core::vcpu::exit::Access;

use crate::bus::Width;
use crate::decode::Trapped;
use crate::event::Exception;
use crate::exit::{Call, Cause, ControlAccess, Direction, PortAccess, PortForm, Stage, fault};

/// What the VMCS says when the run has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Exit reason.
    pub reason: u32,
    /// Exit qualification.
    pub qualification: u64,
    /// Guest physical address. Means something for [`reason::EPT_VIOLATION`] alone.
    pub gpa: u64,
    /// The exception or NMI. Means something for [`reason::EXCEPTION`] alone.
    pub event: u32,
    /// Its error code.
    pub error: u32,
}

/// Basic exit reasons: the lower half of the field.
pub mod reason {
    /// An exception or an NMI.
    pub const EXCEPTION: u32 = 0;
    /// A physical interrupt.
    pub const EXTERNAL_INTERRUPT: u32 = 1;
    /// A triple fault.
    pub const TRIPLE_FAULT: u32 = 2;
    /// The guest can take an interrupt.
    pub const INTERRUPT_WINDOW: u32 = 7;
    /// The guest can take an NMI.
    pub const NMI_WINDOW: u32 = 8;
    /// CPUID.
    pub const CPUID: u32 = 10;
    /// GETSEC.
    pub const GETSEC: u32 = 11;
    /// HLT.
    pub const HLT: u32 = 12;
    /// INVD.
    pub const INVD: u32 = 13;
    /// RDPMC.
    pub const RDPMC: u32 = 15;
    /// VMCALL.
    pub const VMCALL: u32 = 18;
    /// VMCLEAR, the first of nine instructions of the extension.
    pub const VMCLEAR: u32 = 19;
    /// VMXON, the last of them.
    pub const VMXON: u32 = 27;
    /// A control register.
    pub const CONTROL_REGISTER: u32 = 28;
    /// A port.
    pub const PORT: u32 = 30;
    /// RDMSR.
    pub const RDMSR: u32 = 31;
    /// WRMSR.
    pub const WRMSR: u32 = 32;
    /// MWAIT.
    pub const MWAIT: u32 = 36;
    /// MONITOR.
    pub const MONITOR: u32 = 39;
    /// PAUSE.
    pub const PAUSE: u32 = 40;
    /// The second stage has no translation, or one that allows less.
    pub const EPT_VIOLATION: u32 = 48;
    /// An entry of the second stage is none.
    pub const EPT_MISCONFIGURATION: u32 = 49;
    /// INVEPT.
    pub const INVEPT: u32 = 50;
    /// The preemption timer.
    pub const PREEMPTION_TIMER: u32 = 52;
    /// INVVPID.
    pub const INVVPID: u32 = 53;
    /// WBINVD.
    pub const WBINVD: u32 = 54;
    /// XSETBV.
    pub const XSETBV: u32 = 55;
    /// VMFUNC.
    pub const VMFUNC: u32 = 59;
}

/// The entry failed: nothing of the guest has run.
const ENTRY_FAILURE: u32 = 1 << 31;
/// Bits 10:8 of an event: what it is.
const EVENT_TYPE: u32 = 7 << 8;
const EVENT_NMI: u32 = 2 << 8;
const EVENT_INT1: u32 = 5 << 8;
/// Vectors of #DB, #AC and #MC.
const DEBUG: u32 = 1;
const ALIGNMENT: u32 = 17;
const MACHINE_CHECK: u32 = 18;
/// The exceptions that end a guest's run: the first two the processor could be made to deliver without end, with no place for
/// an interrupt in between, and the third is the machine's.
pub const EXCEPTIONS: u32 = 1 << DEBUG | 1 << ALIGNMENT | 1 << MACHINE_CHECK;

/// Qualification of an EPT violation: a store.
const VIOLATION_WRITE: u64 = 1 << 1;
/// A fetch.
const VIOLATION_FETCH: u64 = 1 << 2;
/// There is a linear address.
const VIOLATION_LINEAR: u64 = 1 << 7;
/// The access was to what the linear address translates to, not to a table on the way there. Nothing if there is none.
const VIOLATION_LAST: u64 = 1 << 8;

impl Record {
    /// Names it.
    #[must_use]
    pub fn name(&self) -> Cause {
        if self.reason & ENTRY_FAILURE != 0 {
            return Cause::Broken("its entry failed: the processor found its state invalid");
        }
        let call = match self.reason & 0xffff {
            reason::EXTERNAL_INTERRUPT => return Cause::Interrupt,
            reason::EXCEPTION if self.is_nmi() => return Cause::Interrupt,
            reason::EXCEPTION => match self.event & 0xff {
                DEBUG => Call::Reflect(Exception::Other { vector: DEBUG as u8, error: None }),
                ALIGNMENT => Call::Reflect(Exception::Other { vector: ALIGNMENT as u8, error: Some(self.error) }),
                MACHINE_CHECK => return Cause::Broken("the machine has an error where it ran"),
                _ => return Cause::Broken("an exception ended its run that was not asked for"),
            },
            reason::EPT_VIOLATION => return self.violation(),
            reason::EPT_MISCONFIGURATION => return Cause::Broken("its second stage has an entry that is none"),
            reason::PREEMPTION_TIMER => return Cause::Deadline,
            reason::PORT => return self.port().map_or(Cause::Broken("a port access of no size"), Cause::Call),
            reason::TRIPLE_FAULT => Call::TripleFault,
            reason::INTERRUPT_WINDOW => Call::InterruptWindow,
            reason::NMI_WINDOW => Call::NmiWindow,
            reason::CPUID => Call::Cpuid,
            reason::HLT => Call::Halt,
            reason::VMCALL => Call::Hypercall,
            reason::CONTROL_REGISTER => Call::ControlRegister(self.control_register()),
            reason::RDMSR => Call::ReadMsr,
            reason::WRMSR => Call::WriteMsr,
            reason::XSETBV => Call::Xsetbv,
            // INVD may not lose what Trivet has in the caches, and memory is coherent without it.
            reason::INVD => Call::Skip(Trapped::Invd),
            reason::PAUSE => Call::Skip(Trapped::Pause),
            reason::WBINVD => Call::Skip(Trapped::Wbinvd),
            reason::GETSEC | reason::RDPMC | reason::MWAIT | reason::MONITOR => Call::Undefined,
            reason::VMCLEAR..=reason::VMXON | reason::INVEPT | reason::INVVPID | reason::VMFUNC => Call::Undefined,
            _ => return Cause::Broken("its run ended in a way that was not asked for"),
        };
        Cause::Call(call)
    }

    /// True of the exit that an NMI brought about.
    #[must_use]
    pub const fn is_nmi(&self) -> bool {
        self.reason == reason::EXCEPTION && self.event & EVENT_TYPE == EVENT_NMI
    }

    /// What DR6 says of the debug exception that ended the run, if it was one: those bits hardware has not set.
    #[must_use]
    pub const fn debug_status(&self) -> Option<u64> {
        let is_one = self.reason == reason::EXCEPTION && !self.is_nmi() && self.event & 0xff == DEBUG;
        // B3 to B0, BD, BS.
        if is_one { Some(self.qualification & 0x600f) } else { None }
    }

    /// True if that was asked for by an instruction (INT1), after which it comes.
    #[must_use]
    pub const fn is_int1(&self) -> bool {
        self.event & EVENT_TYPE == EVENT_INT1
    }

    fn violation(&self) -> Cause {
        let access = match self.qualification {
            q if q & VIOLATION_FETCH != 0 => Access::Fetch,
            // With accessed and dirty bits, walks of the guest's tables count as stores, and loads may be set beside it.
            q if q & VIOLATION_WRITE != 0 => Access::Write,
            _ => Access::Read,
        };
        let both = VIOLATION_LINEAR | VIOLATION_LAST;
        let stage = if self.qualification & both == both { Stage::Last } else { Stage::Walk };
        fault(Gpa(self.gpa), access, stage)
    }

    fn port(&self) -> Option<Call> {
        let width = match self.qualification & 7 {
            0 => Width::Byte,
            1 => Width::Word,
            3 => Width::Double,
            _ => return None,
        };
        let direction = if self.qualification & 1 << 3 != 0 { Direction::In } else { Direction::Out };
        let form = match self.qualification >> 4 & 3 {
            1 => PortForm::String,
            3 => PortForm::Repeated,
            _ => PortForm::Register,
        };
        Some(Call::Port(PortAccess { port: (self.qualification >> 16) as u16, width, direction, form }))
    }

    fn control_register(&self) -> ControlAccess {
        let (number, register) = ((self.qualification & 15) as u8, (self.qualification >> 8 & 15) as u8);
        match self.qualification >> 4 & 3 {
            0 => ControlAccess::Write(number, register),
            1 => ControlAccess::Read(number, register),
            2 => ControlAccess::ClearTaskSwitched,
            _ => ControlAccess::LoadStatus((self.qualification >> 16) as u16),
        }
    }
}

#[cfg(test)]
#[path = "exits_tests.rs"]
mod tests;
