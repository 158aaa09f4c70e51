//! What a case wants done on the other CPU while it goes on: one piece of work at a time, lent for as long as it takes.

use hv_core::epoch::Cpu;
use hv_core::sync::{Mutex, spin_loop};

/// The work. It lives for as long as [`with`] lets it, which is longer than anybody looks at it.
type Work = &'static (dyn Fn(&Cpu) + Sync);

/// How far it has got.
enum Errand {
    /// There is none, or it has been done.
    None,
    /// It waits to be begun.
    Wanted(Work),
    /// The other CPU is at it.
    Begun,
}

static ERRAND: Mutex<Errand> = Mutex::new(Errand::None);

/// Has the other CPU do `work` and calls `meanwhile` here; returns when both have ended.
pub fn with(work: &(dyn Fn(&Cpu) + Sync), meanwhile: impl FnOnce()) {
    // SAFETY: only the lifetime changes. The borrow goes to `ERRAND`, out of which `carry_out` takes it once, and says so
    // when it will not use it again; until then this function does not return, nor does a panic unwind it.
    let work = unsafe { core::mem::transmute::<&(dyn Fn(&Cpu) + Sync), Work>(work) };
    *ERRAND.lock() = Errand::Wanted(work);
    meanwhile();
    while !matches!(*ERRAND.lock(), Errand::None) {
        spin_loop();
    }
}

/// Does what is wanted of the calling CPU, the other one. False if that is nothing.
pub fn carry_out(cpu: &Cpu) -> bool {
    let Some(work) = begin() else { return false };
    work(cpu);
    *ERRAND.lock() = Errand::None;
    true
}

fn begin() -> Option<Work> {
    let mut errand = ERRAND.lock();
    let Errand::Wanted(work) = *errand else { return None };
    *errand = Errand::Begun;
    Some(work)
}
