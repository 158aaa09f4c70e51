//! What is measured on Arm only: a trapped system register, an interrupt that a vCPU sends to itself, its timer.

use core::arch::asm;

use super::{Counts, Scale, measure};
use crate::gic::{self, Gic};
use crate::machine::{Tree, fail, now};

core::arch::global_asm!(include_str!("arm64.S"), options(raw));

unsafe extern "C" {
    fn time_id_register() -> u64;
    fn send_to_self(register: u64) -> u64;
}

/// A function that nobody gives a meaning, among the hypervisor's own: answered with NOT_SUPPORTED.
pub const NOTHING: u64 = 0xc600_ffff;

/// The interrupt that is sent: an SGI.
const SENT: u32 = 5;
/// ICC_SGI1R_EL1: that SGI to affinity 0.0.0.0.
const TO_SELF: u64 = (SENT as u64) << 24 | 1;
/// The virtual timer's interrupt, a PPI.
const TIMER: u32 = 27;
/// Microseconds until the timer ends: long enough that the guest waits for it by then.
const SOON: u64 = 50;

/// Everything.
pub fn more(tree: &Tree, counts: &mut Counts, scale: &Scale) {
    // SAFETY: reads a register.
    measure(counts, |_| unsafe { time_id_register() });
    scale.report("id-register", counts);

    let gic = Gic::new(tree);
    gic.enable(SENT);
    measure(counts, |_| {
        // SAFETY: the vectors are there, and nothing else is enabled.
        let begun = unsafe { send_to_self(TO_SELF) };
        let at = taken(SENT);
        gic::end(SENT);
        at - begun
    });
    scale.report("self-ipi", counts);

    // Wholly inside of the guest until the interrupt is there: what is counted is the way of a physical one.
    gic.enable(TIMER);
    let soon = tree.ticks_per_second() / 1_000_000 * SOON;
    measure(counts, |_| timer(soon, |end| assert!(gic::open(end + 100 * soon).is_some(), "the timer is lost")));
    scale.report("timer-spinning", counts);
    measure(counts, |_| timer(soon, |_| while !gic::wait() {}));
    scale.report("timer-waiting", counts);
}

/// Sets the timer, has `wait` wait for its interrupt; the ticks from its end to the vector.
fn timer(soon: u64, wait: impl FnOnce(u64)) -> u64 {
    gic::rearm();
    let end = now() + soon;
    // SAFETY: the timer is this program's.
    unsafe {
        asm!("msr cntv_cval_el0, {0}", "msr cntv_ctl_el0, {1}", "isb", in(reg) end, in(reg) 1_u64, options(nostack))
    };
    wait(end);
    let at = taken(TIMER);
    // SAFETY: as above: off, so that its line is down before its interrupt ends.
    unsafe { asm!("msr cntv_ctl_el0, xzr", "isb", options(nostack)) };
    gic::end(TIMER);
    at.saturating_sub(end)
}

/// Acknowledges the interrupt, which must be this one; when it was taken.
fn taken(id: u32) -> u64 {
    let acknowledged = gic::acknowledge();
    if acknowledged != id {
        fail(format_args!("interrupt {acknowledged} in place of {id}"));
    }
    gic::taken().unwrap_or_else(|| fail(format_args!("interrupt {id} was acknowledged, but never taken")))
}
