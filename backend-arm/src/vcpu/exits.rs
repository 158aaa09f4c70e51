//! What the exceptions that end a guest's run mean (DDI 0487, D24.2.40 ESR_EL2, D24.2.61 HPFAR_EL2). Pure, so that recorded
//! exits test it.
//!
//! `ArmVcpu::enter` makes a [`Raw`], `ArmVcpu::classify` hands it to [`name`]. A guest physical address from [`DEVICES`] up
//! is a device's by decree: nothing is ever mapped there, so what a fault means is decided by its address alone.

use hv_core::addr::Gpa;
use hv_core::vcpu::exit::Access;

use super::aborts::{Abort, abort};
use super::mmio::MmioAccess;
use super::sysreg::SysRegAccess;

pub use crate::virt::layout::DEVICES;

/// Why the guest's run ended, exactly as hardware says. Not an enum: what is asked of it first is its class, and once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw {
    /// ESR_EL2, or the class alone of an exit that has no syndrome ([`ec`]).
    pub esr: u64,
    /// FAR_EL2 of an abort.
    pub far: u64,
    /// Where HPFAR_EL2, or a look at the guest's tables, says that an abort happened (see [`super::aborts::page_source`]).
    pub page: Option<Gpa>,
}

impl Raw {
    /// Trivet's own timer.
    pub const DEADLINE: Self = Self::of(ec::DEADLINE << 26);
    /// A physical interrupt for Trivet.
    pub const INTERRUPT: Self = Self::of(ec::INTERRUPT << 26);
    /// A physical interrupt on behalf of this guest: one of its timers, or its list registers want attention. It has been
    /// noted.
    pub const GUEST: Self = Self::of(ec::GUEST << 26);

    /// An exit that is no abort.
    #[must_use]
    #[inline]
    pub const fn of(esr: u64) -> Self {
        Self { esr, far: 0, page: None }
    }
}

/// A request to the personality, or to what of the processor is emulated or lent: what [`request`] makes of an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A call of the SMC calling convention.
    Hypercall(Conduit),
    /// A trapped system register.
    SysReg(SysRegAccess),
    /// A device was accessed.
    Mmio(MmioAccess),
    /// The guest waits.
    Wait(Wait),
    /// Floating-point registers are used for the first time in this turn.
    Float,
    /// Nothing remains to be done for the instruction (cache maintenance of a device's address).
    Skip,
    /// An instruction that the virtual processor does not have.
    Undefined,
    /// A real external abort.
    ExternalAbort(Access),
    /// Something about the guest's interrupts that has been noted: entering delivers it. Other vCPUs may have to be woken.
    Look,
}

/// The instruction of a [`Call::Hypercall`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// HVC, which has been passed.
    Hvc(u16),
    /// SMC, trapped before it.
    Smc,
}

/// What a guest waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// WFI.
    Interrupt,
    /// WFE.
    Event,
}

/// An exit's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The second stage has to answer.
    Fault(Gpa, Access),
    /// Somebody else has to: [`request`] says what is asked for.
    Call,
    /// A physical interrupt.
    Interrupt,
    /// Trivet's own timer.
    Deadline,
    /// Nothing that a guest's run may end with.
    Broken(&'static str),
}

/// ESR.EC, the exception class.
#[must_use]
#[inline]
pub const fn class(esr: u64) -> u64 {
    esr >> 26 & 0x3f
}

/// ESR.IL: the instruction has 32 bits.
pub const LONG: u64 = 1 << 25;

/// Exception classes (DDI 0487, D24.2.40).
pub mod ec {
    /// WFI, WFE and their relatives with a timeout.
    pub const WAIT: u64 = 0x01;
    /// Floating point, Advanced SIMD, SVE or SME, with CPTR_EL2.TFP set.
    pub const FLOAT: u64 = 0x07;
    /// HVC in AArch64 state.
    pub const HVC: u64 = 0x16;
    /// SMC in AArch64 state.
    pub const SMC: u64 = 0x17;
    /// MSR, MRS or a system instruction.
    pub const SYSTEM: u64 = 0x18;
    /// An illegal execution state.
    pub const ILLEGAL: u64 = 0x0e;
    /// An instruction abort from a lower level.
    pub const FETCH: u64 = 0x20;
    /// A data abort from a lower level.
    pub const DATA: u64 = 0x24;
    /// No syndrome, and not the architecture's number: a physical interrupt, as `enter.S` says.
    pub const INTERRUPT: u64 = 0x3f;
    /// The same: a system error, as `enter.S` says.
    pub const SERROR: u64 = 0x3e;
    /// The same: a physical interrupt that was Trivet's timer.
    pub const DEADLINE: u64 = 0x3b;
    /// The same: a physical interrupt on behalf of the guest.
    pub const GUEST: u64 = 0x39;
}

/// Names an exit, as far as the vCPU loop tells them apart.
#[must_use]
#[inline]
pub const fn name(raw: &Raw) -> Cause {
    match class(raw.esr) {
        // First, because it is to be told from the others soonest.
        ec::HVC => Cause::Call,
        ec::FETCH | ec::DATA => match abort(raw.esr, raw.far, raw.page) {
            Abort::Fault(gpa, access) => Cause::Fault(gpa, access),
            Abort::Call(_) => Cause::Call,
            Abort::Broken(why) => Cause::Broken(why),
        },
        ec::DEADLINE => Cause::Deadline,
        ec::INTERRUPT => Cause::Interrupt,
        ec::SERROR => Cause::Broken("a system error was reported while it ran"),
        _ => Cause::Call,
    }
}

/// What an exit asks for of which [`name`] says [`Cause::Call`].
#[must_use]
#[inline]
pub const fn request(raw: &Raw) -> Call {
    let iss = raw.esr as u32 & 0x01ff_ffff;
    match class(raw.esr) {
        ec::HVC => Call::Hypercall(Conduit::Hvc(iss as u16)),
        ec::SMC => Call::Hypercall(Conduit::Smc),
        ec::SYSTEM => Call::SysReg(SysRegAccess::of(iss)),
        ec::GUEST => Call::Look,
        // TI: WFI 0, WFE 1, WFIT 2, WFET 3. That with a timeout may end early, and does.
        ec::WAIT => Call::Wait(match iss & 3 {
            0 => Wait::Interrupt,
            _ => Wait::Event,
        }),
        ec::FLOAT => Call::Float,
        ec::FETCH | ec::DATA => match abort(raw.esr, raw.far, raw.page) {
            Abort::Call(call) => call,
            // The vCPU loop has these.
            Abort::Fault(..) | Abort::Broken(_) => Call::Look,
        },
        // Whatever else is trapped belongs to what the identification registers deny: SVE, SME, coprocessors of AArch32,
        // pointer authentication where keys are not lent.
        _ => Call::Undefined,
    }
}

#[cfg(test)]
#[path = "exits_tests.rs"]
mod tests;
