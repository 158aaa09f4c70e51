//! The guest's two timers, virtual (CNTV) and physical (CNTP) (DDI 0487, D12.2).
//!
//! They are the guest's own: it sets them without an exit. While its vCPU is on a CPU the hardware's timers hold them, and one
//! that fires raises a physical interrupt, which ends the guest's run and is listed with its physical number (`lists`), so that
//! the guest's own end of interrupt ends the physical one. While the vCPU is off a CPU they are the values here, and the
//! hardware's are off. CNTVOFF_EL2 is 0: both count what Trivet's clock counts.

#[cfg(target_arch = "aarch64")]
use aarch64_cpu::registers::{
    CNTP_CTL_EL0, CNTP_CVAL_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVOFF_EL2, Readable as _, Writeable as _,
};
use hv_core::machine::Instant;

use crate::vgic::TimerLines;

/// CNTx_CTL: on.
const ENABLE: u64 = 1 << 0;
/// CNTx_CTL: its interrupt is masked.
const IMASK: u64 = 1 << 1;
/// CNTx_CTL: it has come to its value.
#[cfg(any(test, target_arch = "aarch64"))]
const ISTATUS: u64 = 1 << 2;

/// One timer, saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timer {
    /// CNTx_CVAL_EL0.
    pub cval: u64,
    /// CNTx_CTL_EL0.
    pub ctl: u64,
}

impl Timer {
    /// When it raises its interrupt, or did.
    #[must_use]
    pub const fn fires(&self) -> Option<Instant> {
        if self.ctl & (ENABLE | IMASK) == ENABLE { Some(Instant(self.cval)) } else { None }
    }
}

/// True if a timer with this control register raises its interrupt.
#[cfg(any(test, target_arch = "aarch64"))]
#[inline]
const fn is_up(ctl: u64) -> bool {
    ctl & (ENABLE | IMASK | ISTATUS) == ENABLE | ISTATUS
}

/// Both, saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timers {
    /// The virtual timer.
    pub virt: Timer,
    /// The physical timer.
    pub phys: Timer,
}

impl Timers {
    /// When the first of them raises its interrupt.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        [self.virt, self.phys].iter().filter_map(Timer::fires).min()
    }

    /// Their lines at `now`.
    #[must_use]
    pub fn lines_at(&self, now: Instant) -> TimerLines {
        let up = |timer: &Timer| timer.fires().is_some_and(|at| at <= now);
        lines(up(&self.virt), up(&self.phys))
    }
}

#[inline]
const fn lines(virt: bool, phys: bool) -> TimerLines {
    TimerLines((virt as u32) << TimerLines::VIRTUAL_TIMER | (phys as u32) << TimerLines::PHYSICAL_TIMER)
}

/// The lines of the timers that are loaded.
#[cfg(target_arch = "aarch64")]
#[must_use]
#[inline]
pub fn lines_here() -> TimerLines {
    // What was written to the registers a moment ago shows in ISTATUS only after a synchronization.
    aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
    lines(is_up(CNTV_CTL_EL0.get()), is_up(CNTP_CTL_EL0.get()))
}

#[cfg(target_arch = "aarch64")]
impl Timers {
    /// From the CPU, whose timers are off afterwards: their lines fall.
    pub fn save(&mut self) {
        self.virt = Timer { cval: CNTV_CVAL_EL0.get(), ctl: CNTV_CTL_EL0.get() };
        self.phys = Timer { cval: CNTP_CVAL_EL0.get(), ctl: CNTP_CTL_EL0.get() };
        CNTV_CTL_EL0.set(0);
        CNTP_CTL_EL0.set(0);
        // Before the interrupts that they raised are deactivated, or these would be pending again.
        aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
    }

    /// To the CPU. The value before the control register: a timer that is on fires by the new value only.
    pub fn load(&self) {
        CNTVOFF_EL2.set(0);
        CNTV_CVAL_EL0.set(self.virt.cval);
        CNTP_CVAL_EL0.set(self.phys.cval);
        CNTV_CTL_EL0.set(self.virt.ctl);
        CNTP_CTL_EL0.set(self.phys.ctl);
    }
}

#[cfg(test)]
mod tests {
    use hv_core::machine::Instant;

    use super::{Timer, Timers, is_up};
    use crate::vgic::TimerLines;

    const VIRTUAL: u32 = 1 << 27;
    const PHYSICAL: u32 = 1 << 30;

    fn timers(virt: (u64, u64), phys: (u64, u64)) -> Timers {
        let timer = |(cval, ctl)| Timer { cval, ctl };
        Timers { virt: timer(virt), phys: timer(phys) }
    }

    #[test]
    fn only_a_timer_that_is_on_and_not_masked_wakes_its_vcpu() {
        assert_eq!(timers((5, 0), (7, 0b11)).next(), None);
        assert_eq!(timers((5, 1), (7, 0b11)).next(), Some(Instant(5)));
        assert_eq!(timers((9, 1), (7, 0b101)).next(), Some(Instant(7)), "ISTATUS says nothing of a saved timer");
    }

    #[test]
    fn a_saved_timers_line_is_up_from_its_value_on() {
        let both = timers((5, 1), (7, 1));
        assert_eq!(both.lines_at(Instant(4)), TimerLines::DOWN);
        assert_eq!(both.lines_at(Instant(5)), TimerLines(VIRTUAL));
        assert_eq!(both.lines_at(Instant(7)), TimerLines(VIRTUAL | PHYSICAL));
        assert_eq!(timers((5, 0b111), (0, 0)).lines_at(Instant(9)), TimerLines::DOWN);
    }

    #[test]
    fn a_loaded_timer_says_itself_if_its_line_is_up() {
        assert!(is_up(0b101));
        assert!(!is_up(0b111) && !is_up(0b100) && !is_up(0b001));
    }
}
