//! Shared interrupts at home, and who holds which: INTIDs 32 to 63. Bit 0 of every word here is INTID 32.
//!
//! All of it is behind one lock: what raises these is a device's register, not a vCPU's message.

use super::lists::{Group, bits};
use super::seat::of_groups;
use super::{Level, PRIORITY_MASK, Priority};
use crate::virt::layout;

/// The shared interrupts of one VM.
#[derive(Debug)]
pub struct Spis {
    /// Pending latches at home.
    pub latch: u32,
    /// Lines that are up.
    pub lines: u32,
    /// GICD_ISENABLER.
    pub enabled: u32,
    /// GICD_IGROUPR.
    pub group1: u32,
    /// GICD_ICFGR: these are edges.
    pub edges: u32,
    /// In a list register of their holder.
    pub listed: u32,
    /// Active, but not as far as a list register says: their holder has no room, or somebody wrote GICD_ISACTIVER.
    pub parked: u32,
    /// Listed and pending, at its holder's last look.
    pub shown_pending: u32,
    /// Listed and active, at its holder's last look.
    pub shown_active: u32,
    /// Their pending state was cleared: what is listed goes when the holder looks.
    pub unpend: u32,
    /// The same for their active state.
    pub deactivate: u32,
    holders: [u16; 32],
    priorities: [Priority; 32],
    /// GICD_IROUTER: the affinity of the vCPU that takes it.
    routes: [u64; 32],
}

/// The bits of GICD_IROUTER that are there. There is no 1-of-N delivery (GICD_TYPER.No1N), so bit 31 is not.
const ROUTE_MASK: u64 = 0xff_00ff_ffff;

impl Spis {
    pub const fn new() -> Self {
        Self {
            latch: 0,
            lines: 0,
            enabled: 0,
            group1: 0,
            edges: 0,
            listed: 0,
            parked: 0,
            shown_pending: 0,
            shown_active: 0,
            unpend: 0,
            deactivate: 0,
            holders: [0; 32],
            priorities: [0; 32],
            routes: [0; 32],
        }
    }

    /// Lines as far as they make an interrupt pending: an edge's does by rising only.
    pub const fn levels(&self) -> u32 {
        self.lines & !self.edges
    }

    pub const fn allowed(&self, groups: u32) -> u32 {
        self.enabled & of_groups(self.group1, groups)
    }

    /// Those that some vCPU holds.
    pub const fn held(&self) -> u32 {
        self.listed | self.parked
    }

    /// Those that nobody holds and somebody would take.
    pub const fn waiting(&self, groups: u32) -> u32 {
        (self.latch | self.levels()) & self.allowed(groups) & !self.held()
    }

    pub fn set_line(&mut self, n: u32, level: Level) {
        let bit = 1 << (n & 31);
        match level {
            Level::Low => self.lines &= !bit,
            Level::High => {
                self.latch |= bit & self.edges & !self.lines;
                self.lines |= bit;
            }
        }
    }

    /// Those of `which` that are routed to a vCPU.
    pub fn routed_to(&self, vcpu: u16, which: u32) -> u32 {
        let affinity = layout::affinity(vcpu);
        bits(which.into()).filter(|n| self.route(*n) == affinity).fold(0, |mask, n| mask | 1 << n)
    }

    /// Those that a vCPU holds.
    pub fn held_by(&self, vcpu: u16) -> u32 {
        bits(self.held().into()).filter(|n| self.holder(*n) == Some(vcpu)).fold(0, |mask, n| mask | 1 << n)
    }

    /// Those that a vCPU has acknowledged and does not list.
    pub fn parked_by(&self, vcpu: u16) -> u32 {
        if self.parked == 0 { 0 } else { self.held_by(vcpu) & self.parked }
    }

    /// Who holds it.
    pub fn holder(&self, n: u32) -> Option<u16> {
        self.holders.get(n as usize).copied().filter(|_| self.held() >> n & 1 != 0)
    }

    /// This vCPU lists it.
    pub fn list(&mut self, n: u32, vcpu: u16) {
        self.set_holder(n, vcpu);
        self.listed |= 1 << n;
    }

    /// It is active, and this vCPU's if it was nobody's.
    pub fn park(&mut self, n: u32, vcpu: u16) {
        if self.holder(n).is_none() {
            self.set_holder(n, vcpu);
        }
        self.parked |= 1 << n;
    }

    fn set_holder(&mut self, n: u32, vcpu: u16) {
        if let Some(holder) = self.holders.get_mut(n as usize) {
            *holder = vcpu;
        }
    }

    /// They are in no list register any more.
    pub const fn unlist(&mut self, which: u32) {
        self.listed &= !which;
        self.shown_pending &= !which;
        self.shown_active &= !which;
        self.unpend &= !which;
        self.deactivate &= !which;
    }

    /// What a vCPU lists now, for others to see.
    pub const fn show(&mut self, listed: u32, pending: u32, active: u32) {
        self.shown_pending = self.shown_pending & !listed | pending;
        self.shown_active = self.shown_active & !listed | active;
    }

    pub fn priority(&self, n: u32) -> Priority {
        self.priorities.get(n as usize).copied().unwrap_or(0)
    }

    pub fn set_priority(&mut self, n: u32, priority: Priority) {
        if let Some(at) = self.priorities.get_mut(n as usize) {
            *at = priority & PRIORITY_MASK;
        }
    }

    pub const fn group(&self, n: u32) -> Group {
        if self.group1 >> (n & 31) & 1 == 0 { Group::Zero } else { Group::One }
    }

    pub fn route(&self, n: u32) -> u64 {
        self.routes.get(n as usize).copied().unwrap_or(0)
    }

    pub fn set_route(&mut self, n: u32, to: u64) {
        if let Some(at) = self.routes.get_mut(n as usize) {
            *at = to & ROUTE_MASK;
        }
    }
}
