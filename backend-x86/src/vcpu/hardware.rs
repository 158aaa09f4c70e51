//! The seam between the vCPU and the two vendors' halves: what of a guest's state is in a control structure, and the world
//! switch. `svm/` and `vmx/` implement [`WorldSwitch`], the vCPU uses [`Hardware`], which is one of them.
//!
//! Protocol: `reset` while the vCPU is off a CPU; `load`; then any number of `run` and of the accessors, on that CPU; `put`.
//! All accessors but `reset` need a loaded vCPU: one vendor's structure can be read by its CPU only.

use hv_core::epoch::Cpu;
use hv_core::isa::VmTag;
use hv_core::machine::Instant;

use crate::apic::Local;
use crate::bus::GeneralProtection;
use crate::decode::{Flow, Mode, Segment};
use crate::event::Event;
use crate::exit::{Cause, ControlAccess};
use crate::features::Extension;
use crate::machine::X86Machine;
use crate::paging::Paging;
use crate::stage2::{Processor as _, X86Stage2};
use crate::start::Start;
use crate::svm::vcpu::Svm;
use crate::vmx::vcpu::Vmx;

/// The general registers by number: rAX, rCX, rDX, rBX, rSP, rBP, rSI, rDI, R8 to R15. That of rSP is not used: see
/// [`WorldSwitch::rsp`].
pub type General = [u64; 16];

bitflags::bitflags! {
    /// What ends a guest's run as soon as the guest can take it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Windows: u8 {
        /// An interrupt: EFLAGS.IF, no interrupt shadow, and nothing else to be delivered before.
        const INTERRUPT = 1 << 0;
        /// An NMI.
        const NMI = 1 << 1;
    }
}

/// One vendor's half of a vCPU.
pub trait WorldSwitch: Sized {
    /// Makes it, with memory for the control structure; `None` if there is none.
    fn create(m: &X86Machine) -> Option<Self>;
    /// Everything is as after a reset: `start`, nothing to deliver, no windows, a task priority of 0. Not while loaded.
    fn reset(&mut self, start: &Start);
    /// Brings to the calling CPU what a run does not switch. General registers, floating point, debug registers 0 to 3 and
    /// TSC_AUX are not its business.
    fn load(&mut self, cpu: &Cpu, m: &X86Machine);
    /// Saves what `load` brought.
    fn put(&mut self, cpu: &Cpu, m: &X86Machine);
    /// The guest's run is to end at `until`. Called when that changes, after `load`, and after each physical interrupt.
    fn set_deadline(&mut self, cpu: &Cpu, m: &X86Machine, until: Instant);
    /// Runs the guest until it leaves: publishes that this CPU is in the VM ([`X86Machine::entering`]), drops what is stale
    /// in its translation caches, delivers what was injected, and names what ended the run.
    fn run(&mut self, general: &mut General, cpu: &Cpu, m: &X86Machine, tag: VmTag, s2: &X86Stage2) -> Cause;

    /// What was being delivered when the run ended, and has to be delivered again. To be asked once after each run.
    fn interrupted(&mut self) -> Option<Event>;
    /// Has the next run begin with this, in place of what it had before. CR2 is set apart.
    fn inject(&mut self, event: Event);
    /// True if the next run begins with something already.
    fn is_injecting(&self) -> bool;
    /// True if the guest can take an interrupt now: EFLAGS.IF is set and it is in no shadow.
    fn can_take_interrupt(&self) -> bool;
    /// True if the guest can take an NMI now.
    fn can_take_nmi(&self) -> bool;
    /// Sets what ends the run as soon as the guest can take it.
    fn set_windows(&mut self, windows: Windows);
    /// Has the run end as soon as the guest's task priority is below this class and it can take an interrupt. Nothing to do
    /// where each change of it ends the run.
    fn await_priority(&mut self, _: Option<u8>) {}
    /// The local APIC learns what the guest has made of its task priority (CR8) without an exit. After each run.
    fn take_priority(&self, local: &mut Local);
    /// The guest's CR8 shows this task priority. Before a run, if the local APIC's may have changed.
    fn show_priority(&mut self, tpr: u8);

    /// Where the instruction after the one that ended the run is, if hardware says. Means something for runs that ended
    /// because an instruction asked for something, and no others.
    fn after(&self) -> Option<u64>;
    /// RIP.
    fn rip(&self) -> u64;
    /// The guest goes on at `rip`, after an instruction that was carried out for it: what one before held back (the shadow of
    /// STI and MOV SS) is over, and a guest that goes step by step (RFLAGS.TF) takes its #DB.
    fn set_rip(&mut self, rip: u64);
    /// RSP.
    fn rsp(&self) -> u64;
    /// Sets it.
    fn set_rsp(&mut self, rsp: u64);
    /// RFLAGS.
    fn rflags(&self) -> u64;
    /// Sets it.
    fn set_rflags(&mut self, rflags: u64);
    /// CR0, CR3, CR4 and EFER as the guest sees them.
    fn paging(&self, address_bits: u8) -> Paging;
    /// CR3, which tells address spaces apart.
    fn root(&self) -> u64;
    /// Sets CR2.
    fn set_cr2(&mut self, cr2: u64);
    /// Sets EFER, which policy has looked at.
    fn set_efer(&mut self, efer: u64);
    /// PAT.
    fn pat(&self) -> u64;
    /// Sets it, which policy has looked at.
    fn set_pat(&mut self, pat: u64);
    /// The base of a segment.
    fn base(&self, segment: Segment) -> u64;
    /// How instructions are read.
    fn mode(&self) -> Mode;
    /// The privilege level.
    fn privilege(&self) -> u8;
    /// What is added to the machine's time-stamp counter for the guest.
    fn set_tsc_offset(&mut self, offset: u64);
    /// Carries out an access to a control register other than CR8. The guest goes on after the instruction, or carries it out
    /// itself, now that it can.
    fn control(&mut self, access: ControlAccess, general: &mut General) -> Result<Flow, GeneralProtection>;
}

/// The half that this machine's processors have.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "all of a machine's are of one variant")]
pub enum Hardware {
    /// AMD's.
    Svm(Svm),
    /// Intel's.
    Vmx(Vmx),
}

/// The same expression for whichever half it is.
macro_rules! each {
    ($hardware:expr, $h:ident => $with:expr) => {
        match $hardware {
            Hardware::Svm($h) => $with,
            Hardware::Vmx($h) => $with,
        }
    };
}

macro_rules! forward {
    ($($(#[$how:meta])* fn $name:ident(&self $(, $arg:ident: $ty:ty)*) $(-> $out:ty)?;)*) => {
        $(#[inline] fn $name(&self $(, $arg: $ty)*) $(-> $out)? { each!(self, h => h.$name($($arg),*)) })*
    };
}

macro_rules! forward_mut {
    ($(fn $name:ident(&mut self $(, $arg:ident: $ty:ty)*) $(-> $out:ty)?;)*) => {
        $(#[inline] fn $name(&mut self $(, $arg: $ty)*) $(-> $out)? { each!(self, h => h.$name($($arg),*)) })*
    };
}

impl WorldSwitch for Hardware {
    fn create(m: &X86Machine) -> Option<Self> {
        Some(match m.features().extension {
            Extension::Svm { .. } => Self::Svm(Svm::create(m)?),
            Extension::Vmx { .. } => Self::Vmx(Vmx::create(m)?),
        })
    }

    forward! {
        fn is_injecting(&self) -> bool;
        fn can_take_interrupt(&self) -> bool;
        fn can_take_nmi(&self) -> bool;
        fn take_priority(&self, local: &mut Local);
        fn after(&self) -> Option<u64>;
        fn rip(&self) -> u64;
        fn rsp(&self) -> u64;
        fn rflags(&self) -> u64;
        fn paging(&self, address_bits: u8) -> Paging;
        fn root(&self) -> u64;
        fn pat(&self) -> u64;
        fn base(&self, segment: Segment) -> u64;
        fn mode(&self) -> Mode;
        fn privilege(&self) -> u8;
    }

    forward_mut! {
        fn reset(&mut self, start: &Start);
        fn load(&mut self, cpu: &Cpu, m: &X86Machine);
        fn put(&mut self, cpu: &Cpu, m: &X86Machine);
        fn set_deadline(&mut self, cpu: &Cpu, m: &X86Machine, until: Instant);
        fn run(&mut self, general: &mut General, cpu: &Cpu, m: &X86Machine, tag: VmTag, s2: &X86Stage2) -> Cause;
        fn interrupted(&mut self) -> Option<Event>;
        fn inject(&mut self, event: Event);
        fn set_windows(&mut self, windows: Windows);
        fn await_priority(&mut self, class: Option<u8>);
        fn show_priority(&mut self, tpr: u8);
        fn set_rip(&mut self, rip: u64);
        fn set_rsp(&mut self, rsp: u64);
        fn set_rflags(&mut self, rflags: u64);
        fn set_cr2(&mut self, cr2: u64);
        fn set_efer(&mut self, efer: u64);
        fn set_pat(&mut self, pat: u64);
        fn set_tsc_offset(&mut self, offset: u64);
        fn control(&mut self, access: ControlAccess, general: &mut General) -> Result<Flow, GeneralProtection>;
    }
}
