//! The ways in which a run ends that is not to go on. How a machine is switched off is its board's.

use core::fmt::Display;

use hv_core::device::console::{write_panic, write_refusal};
use hv_core::hypervisor::Hypervisor;
use hv_core::link::{ENDED_BADLY, ENDED_WELL, ENDS_MARK};
use hv_core::machine::{Board, Console, Verdict};
use spin::Once;

/// Says why Trivet does not run what it was given, and ends the run.
pub fn refuse<B: Board>(why: &dyn Display) -> ! {
    // Mostly before the bundle has told how the console is used. No terminal minds what a receiver of frames needs.
    write_refusal(B::console(), None, why);
    B::power_off(Verdict::Failure)
}

/// Says what failed in Trivet itself, a panic or a trap, and ends the run. Works at any time, on any CPU.
pub fn report<B: Board>(hypervisor: &Once<Hypervisor<B::Isa>>, what: &dyn Display) -> ! {
    match hypervisor.get() {
        Some(hypervisor) => hypervisor.console().panic(what),
        None => write_panic(B::console(), None, what),
    }
    B::power_off(Verdict::Failure)
}

/// Writes the console's last line, for boards whose machine leaves no status behind that everyone sees. The zero byte ends
/// a frame that another CPU may have begun.
pub fn last_line(console: &dyn Console, verdict: Verdict) {
    let ended = if verdict == Verdict::Success { ENDED_WELL } else { ENDED_BADLY };
    for text in ["\0\r\n", ENDS_MARK, ": ", ended, "\r\n"] {
        console.write(text.as_bytes());
    }
}
