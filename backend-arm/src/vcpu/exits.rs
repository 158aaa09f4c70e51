//! What the exceptions that end a guest's run mean (DDI 0487, D24.2.40 ESR_EL2, D24.2.61 HPFAR_EL2). Pure, so that recorded
//! exits test it.
//!
//! `ArmVcpu::enter` makes a [`Raw`], `ArmVcpu::classify` hands it to [`name`]. A guest physical address from [`DEVICES`] up
//! is a device's by decree: nothing is ever mapped there, so what a fault means is decided by its address alone.

use hv_core::addr::{Gpa, PAGE_SIZE};
use hv_core::vcpu::exit::Access;

use super::mmio::{ISS_WRITE, MmioAccess};
use super::sysreg::SysRegAccess;

/// Devices have guest physical addresses from here up, memory below.
pub const DEVICES: Gpa = Gpa(1 << 39);

/// Why the guest's run ended, exactly as hardware says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raw {
    /// A synchronous exception that is no abort.
    Sync {
        /// ESR_EL2.
        esr: u64,
    },
    /// An instruction or data abort.
    Abort {
        /// ESR_EL2.
        esr: u64,
        /// FAR_EL2.
        far: u64,
        /// Where HPFAR_EL2, or a look at the guest's tables, says that it happened (see [`ipa_source`]).
        page: Option<Gpa>,
    },
    /// Trivet's own timer.
    Deadline,
    /// A physical interrupt for Trivet.
    Interrupt,
    /// A physical interrupt on behalf of this guest: one of its timers, or its list registers want attention. It has been
    /// noted.
    Guest,
    /// A system error.
    SystemError,
}

/// A request to the personality, or to what of the processor is emulated or lent.
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
    /// An interrupt of the guest's that has been noted: entering delivers it.
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
    /// Somebody else has to.
    Call(Call),
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
}

/// ISS of an abort: what goes wrong, without its level.
const FSC_KIND: u32 = 0x3c;
const FSC_ADDRESS_SIZE: u32 = 0x00;
const FSC_TRANSLATION: u32 = 0x04;
const FSC_ACCESS_FLAG: u32 = 0x08;
/// A permission fault.
const FSC_PERMISSION: u32 = 0x0c;
/// A synchronous external abort, of the access or of a table walk.
const FSC_EXTERNAL: u32 = 0x10;
const FSC_EXTERNAL_WALK: u32 = 0x14;
/// ISS of an abort: the access was the walk of the guest's own tables.
const ISS_WALK: u32 = 1 << 7;
/// ISS of a data abort: it was cache maintenance.
const ISS_CACHE: u32 = 1 << 8;
/// ISS of a data abort: the syndrome says what the instruction was.
const ISS_VALID: u32 = 1 << 24;

/// Where the page of an abort is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSource {
    /// HPFAR_EL2 holds it.
    Hpfar,
    /// HPFAR_EL2 is UNKNOWN: translate FAR_EL2 by the guest's own first stage. If that fails, the guest has changed its
    /// tables since, and takes its own fault when it runs again.
    Translate,
    /// There is none: the abort is not about a translation.
    Nowhere,
}

/// Where the page of an abort with this syndrome is to be had. HPFAR_EL2 is valid for translation, access flag and address
/// size faults of stage 2, and for every stage 2 fault of a stage 1 walk; a permission fault of the access itself leaves it
/// UNKNOWN (DDI 0487, D24.2.61).
#[must_use]
#[inline]
pub const fn page_source(esr: u64) -> PageSource {
    let iss = esr as u32;
    match iss & FSC_KIND {
        FSC_TRANSLATION | FSC_ACCESS_FLAG | FSC_ADDRESS_SIZE => PageSource::Hpfar,
        FSC_PERMISSION if iss & ISS_WALK != 0 => PageSource::Hpfar,
        FSC_PERMISSION => PageSource::Translate,
        _ => PageSource::Nowhere,
    }
}

/// The page that HPFAR_EL2 names: FIPA is bits 43:4, and stands for address bits 51:12.
#[must_use]
#[inline]
pub const fn hpfar_page(hpfar: u64) -> Gpa {
    Gpa((hpfar & 0x0000_0fff_ffff_fff0) << 8)
}

/// The page that PAR_EL1 names after an address translation instruction; `None` if that failed (PAR_EL1.F).
#[must_use]
#[inline]
pub const fn par_page(par: u64) -> Option<Gpa> {
    if par & 1 != 0 { None } else { Some(Gpa(par & 0x000f_ffff_ffff_f000)) }
}

/// Names an exit.
#[must_use]
#[inline]
pub const fn name(raw: &Raw) -> Cause {
    match *raw {
        Raw::Sync { esr } => Cause::Call(instruction(esr)),
        Raw::Abort { esr, far, page } => abort(esr, far, page),
        Raw::Guest => Cause::Call(Call::Look),
        Raw::Deadline => Cause::Deadline,
        Raw::Interrupt => Cause::Interrupt,
        Raw::SystemError => Cause::Broken("a system error was reported while it ran"),
    }
}

/// What to do for the instruction that was trapped.
#[inline]
const fn instruction(esr: u64) -> Call {
    let iss = esr as u32 & 0x01ff_ffff;
    match class(esr) {
        ec::HVC => Call::Hypercall(Conduit::Hvc(iss as u16)),
        ec::SMC => Call::Hypercall(Conduit::Smc),
        ec::SYSTEM => Call::SysReg(SysRegAccess::of(iss)),
        // TI: WFI 0, WFE 1, WFIT 2, WFET 3. That with a timeout may end early, and does.
        ec::WAIT => Call::Wait(match iss & 3 {
            0 => Wait::Interrupt,
            _ => Wait::Event,
        }),
        ec::FLOAT => Call::Float,
        // Whatever else is trapped belongs to what the identification registers deny: SVE, SME, coprocessors of AArch32,
        // pointer authentication where keys are not lent.
        _ => Call::Undefined,
    }
}

/// What an abort asks for.
#[inline]
const fn abort(esr: u64, far: u64, page: Option<Gpa>) -> Cause {
    let iss = esr as u32;
    let fetch = class(esr) == ec::FETCH;
    let kind = iss & FSC_KIND;
    let access = access(iss, fetch, kind);
    if matches!(kind, FSC_EXTERNAL | FSC_EXTERNAL_WALK) {
        return Cause::Call(Call::ExternalAbort(access));
    }
    if matches!(page_source(esr), PageSource::Nowhere) {
        return Cause::Broken("its access ended in a way that no guest's access ends in");
    }
    // The guest's tables have changed under the abort: it is to try again.
    let Some(page) = page else { return Cause::Call(Call::Look) };
    let walk = iss & ISS_WALK != 0;
    // Of a walk FAR_EL2 holds the address that was being translated.
    let gpa = if walk { page } else { Gpa(page.0 | (far & (PAGE_SIZE as u64 - 1))) };
    if gpa.0 < DEVICES.0 || fetch || walk {
        return Cause::Fault(gpa, access);
    }
    match (iss & ISS_CACHE != 0, iss & ISS_VALID != 0) {
        (true, _) => Cause::Call(Call::Skip),
        (false, true) => Cause::Call(Call::Mmio(MmioAccess::of(iss, gpa))),
        // No memslot is there, so this ends as an external abort.
        (false, false) => Cause::Fault(gpa, access),
    }
}

/// The access that must become possible.
#[inline]
const fn access(iss: u32, fetch: bool, kind: u32) -> Access {
    let denied = kind == FSC_PERMISSION;
    if iss & ISS_WALK != 0 {
        // A table that may be read and yet faults: hardware wanted to set an access flag or a dirty state in it.
        return if denied || (!fetch && iss & ISS_WRITE != 0) { Access::Write } else { Access::Read };
    }
    if fetch {
        return Access::Fetch;
    }
    // Cache maintenance always says that it wrote (D24.2.40, WnR). Most of it needs a translation and no more; what was
    // denied (DC IVAC) needs to be allowed to write.
    let wrote = iss & ISS_WRITE != 0 && (iss & ISS_CACHE == 0 || denied);
    if wrote { Access::Write } else { Access::Read }
}

#[cfg(test)]
#[path = "exits_tests.rs"]
mod tests;
