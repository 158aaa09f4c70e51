//! What is measured on x86 only: a trapped instruction, an interrupt that a vCPU sends to itself, its timer.

use super::{Counts, Scale, measure};
use crate::apic;
use crate::machine::{ICR, Tree, fail, now, write_msr};

core::arch::global_asm!(include_str!("x86.S"), options(raw));

unsafe extern "C" {
    fn time_cpuid() -> u64;
    fn send_to_self(register: u32, message: u64) -> u64;
}

/// A hypercall that nobody gives a meaning: answered with an error.
pub const NOTHING: u64 = 0xffff_ffff;

/// The vector that is sent, to APIC 0.
const SENT: u8 = 0x40;
/// The timer's vector and entry in the local vector table: by the time-stamp counter's value.
const TIMER: u8 = 0x41;
const LVT_TIMER: u32 = 0x832;
const BY_DEADLINE: u64 = 2 << 17;
const DEADLINE: u32 = 0x6e0;
/// Microseconds until the timer ends: long enough that the guest waits for it by then.
const SOON: u64 = 50;

/// Everything.
pub fn more(tree: &Tree, counts: &mut Counts, scale: &Scale) {
    // SAFETY: changes registers that it saves.
    measure(counts, |_| unsafe { time_cpuid() });
    scale.report("cpuid", counts);

    apic::set_up();
    measure(counts, |_| {
        apic::rearm();
        // SAFETY: the vectors are there, and nothing else sends.
        let begun = unsafe { send_to_self(ICR, SENT.into()) };
        taken(SENT) - begun
    });
    scale.report("self-ipi", counts);

    // SAFETY: the vector is there.
    unsafe { write_msr(LVT_TIMER, BY_DEADLINE | u64::from(TIMER)) };
    let soon = tree.ticks_per_second() / 1_000_000 * SOON;
    measure(counts, |_| timer(soon, |end| assert!(apic::open(end + 100 * soon).is_some(), "the timer is lost")));
    scale.report("timer-spinning", counts);
    measure(counts, |_| timer(soon, |_| while !apic::wait() {}));
    scale.report("timer-waiting", counts);
}

/// Sets the timer, has `wait` wait for its interrupt; the ticks from its end to the vector.
fn timer(soon: u64, wait: impl FnOnce(u64)) -> u64 {
    apic::rearm();
    let end = now() + soon;
    // SAFETY: the timer is this program's.
    unsafe { write_msr(DEADLINE, end) };
    wait(end);
    taken(TIMER).saturating_sub(end)
}

/// Ends the interrupt, which must be this one; when it was taken.
fn taken(sent: u8) -> u64 {
    let at = apic::taken().unwrap_or_else(|| fail(format_args!("interrupt {sent:#x} was never taken")));
    if apic::last() != sent {
        fail(format_args!("interrupt {:#x} in place of {sent:#x}", apic::last()));
    }
    apic::end();
    at
}
