//! What an abort from a guest asks for (DDI 0487, D24.2.40, ISS of instruction and data aborts; D24.2.61 HPFAR_EL2). Pure;
//! [`super::exits`] has the rest, and the tests.

use hv_core::addr::{Gpa, PAGE_SIZE};
use hv_core::vcpu::exit::Access;

use super::exits::{Call, DEVICES, class, ec};
use super::mmio::{ISS_WRITE, MmioAccess};

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

/// An abort's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// The second stage has to answer.
    Fault(Gpa, Access),
    /// Somebody else has to.
    Call(Call),
    /// No guest's access ends so.
    Broken(&'static str),
}

/// What an abort asks for.
#[inline]
pub(super) const fn abort(esr: u64, far: u64, page: Option<Gpa>) -> Abort {
    let iss = esr as u32;
    let fetch = class(esr) == ec::FETCH;
    let kind = iss & FSC_KIND;
    let access = access(iss, fetch, kind);
    if matches!(kind, FSC_EXTERNAL | FSC_EXTERNAL_WALK) {
        return Abort::Call(Call::ExternalAbort(access));
    }
    if matches!(page_source(esr), PageSource::Nowhere) {
        return Abort::Broken("its access ended in a way that no guest's access ends in");
    }
    // The guest's tables have changed under the abort: it is to try again.
    let Some(page) = page else { return Abort::Call(Call::Look) };
    let walk = iss & ISS_WALK != 0;
    // Of a walk FAR_EL2 holds the address that was being translated.
    let gpa = if walk { page } else { Gpa(page.0 | (far & (PAGE_SIZE as u64 - 1))) };
    if gpa.0 < DEVICES.0 || fetch || walk {
        return Abort::Fault(gpa, access);
    }
    match (iss & ISS_CACHE != 0, iss & ISS_VALID != 0) {
        (true, _) => Abort::Call(Call::Skip),
        (false, true) => Abort::Call(Call::Mmio(MmioAccess::of(iss, gpa))),
        // No memslot is there, so this ends as an external abort.
        (false, false) => Abort::Fault(gpa, access),
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
