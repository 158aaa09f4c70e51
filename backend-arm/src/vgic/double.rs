//! A vCPU's virtual CPU interface as hardware would be, for tests (IHI 0069, chapter 4.8): it sees list registers and
//! active priorities, and checks at each step what must hold of them.

extern crate std;

use std::vec::Vec;

use super::lists::{Lists, Lr, bits};
use super::{TimerLines, Underflow, Vgic};

/// How the guest ends interrupts (ICC_CTLR_EL1.EOImode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// One write drops the priority and deactivates.
    Together,
    /// The priority was dropped when it was acknowledged, and it is deactivated by number in any order.
    Apart,
}

/// One vCPU with its list registers.
pub struct Interface {
    pub vcpu: u16,
    pub lists: Lists,
    pub underflow: Underflow,
    pub timers: TimerLines,
    /// What the guest has acknowledged and not ended, the latest last.
    pub active: Vec<(u32, u8)>,
    pub ending: Ending,
    /// PPIs that are active in the host's controller.
    pub host: u32,
}

impl Interface {
    pub fn new(vcpu: u16, limit: u8) -> Self {
        Self {
            vcpu,
            lists: Lists::new(limit),
            underflow: Underflow::NONE,
            timers: TimerLines::DOWN,
            active: Vec::new(),
            ending: Ending::Together,
            host: 0,
        }
    }

    /// What the vCPU's runner does before each entry. Returns the vCPUs to wake.
    pub fn enter(&mut self, gic: &Vgic) -> u32 {
        // Physical interrupts arrive first: a line that is up and not active is acknowledged by the host.
        for id in bits((self.timers.0 & !self.host).into()) {
            self.host |= 1 << id;
            self.lists.acknowledged(id);
        }
        gic.fold(self.vcpu, &mut self.lists);
        self.underflow = gic.fill(self.vcpu, &mut self.lists, self.timers);
        self.carry_out();
        core::mem::take(&mut self.lists.wake)
    }

    /// What it does before the guest reads or writes the controller's registers.
    pub fn withdraw(&mut self, gic: &Vgic) -> u32 {
        gic.withdraw(self.vcpu, &mut self.lists, self.timers);
        self.carry_out();
        core::mem::take(&mut self.lists.wake)
    }

    fn carry_out(&mut self) {
        let (engage, release) = (core::mem::take(&mut self.lists.engage), core::mem::take(&mut self.lists.release));
        assert_eq!(engage & release, 0);
        assert_eq!(release & !self.host, 0, "released what was not active");
        self.host = (self.host | engage) & !release;
        self.lists.changed = 0;
        self.check();
    }

    /// The list registers keep to the specification.
    pub fn check(&self) {
        let lists = &self.lists;
        let mut seen = 0_u64;
        assert_eq!(lists.physical & !self.host, 0, "believed to be active in the host's controller");
        for n in 0..16 {
            let lr = Lr(lists.lr[n]);
            let in_use = lists.used >> n & 1 != 0;
            assert_eq!(in_use, lr.0 != 0, "register {n}: {lr:x?}");
            if !in_use {
                continue;
            }
            assert!(n < lists.limit.into(), "a register that is not there");
            assert!(lr.id() < super::END && seen >> lr.id() & 1 == 0, "INTID {} twice", lr.id());
            seen |= 1 << lr.id();
            if lr.is_physical() {
                assert!(!(lr.is_pending() && lr.is_active()), "a physical one cannot be both (ICH_LR.State)");
                assert_ne!(self.host >> lr.id() & 1, 0, "the guest would end what is not active");
                assert_eq!(lr.0 >> 32 & 0x1fff, lr.id().into());
            }
        }
        assert_eq!(seen, lists.held);
    }

    fn running(&self) -> u8 {
        match self.ending {
            Ending::Together => self.active.last().map_or(0xff, |(_, priority)| *priority),
            Ending::Apart => 0xff,
        }
    }

    /// The guest reads ICC_IAR1_EL1: the pending one with the highest priority, if it is higher than what it is at. What is
    /// active as well has to be ended first.
    pub fn acknowledge(&mut self) -> Option<u32> {
        let pending = self.lists.in_use().filter(|(_, lr)| lr.is_pending() && !lr.is_active());
        let (n, lr) = pending.min_by_key(|(n, lr)| ((lr.0 >> 48) as u8, *n))?;
        let priority = (lr.0 >> 48) as u8;
        if priority >= self.running() {
            return None;
        }
        self.active.retain(|(id, _)| *id != lr.id());
        self.active.push((lr.id(), priority));
        self.lists.lr[n] = lr.with(Lr::ACTIVE).0;
        Some(lr.id())
    }

    /// The guest ends its latest interrupt (ICC_EOIR1_EL1). Returns it.
    pub fn end(&mut self) -> Option<u32> {
        let (id, _) = self.active.pop()?;
        self.deactivate(id);
        Some(id)
    }

    /// The guest ends the interrupt that it took `n`-th (ICC_DIR_EL1); trapped if that is on.
    pub fn end_any(&mut self, gic: &Vgic, n: usize) -> Option<u32> {
        let n = n.checked_rem(self.active.len())?;
        let (id, _) = self.active.remove(n);
        if self.underflow.0 & Underflow::NOT_LISTED.0 != 0 {
            gic.deactivate(self.vcpu, &mut self.lists, id);
            self.carry_out();
        } else {
            self.deactivate(id);
        }
        Some(id)
    }

    fn deactivate(&mut self, id: u32) {
        let found = self.lists.in_use().find(|(_, lr)| lr.id() == id && lr.is_active());
        let Some((n, lr)) = found else {
            self.lists.unmatched += 1;
            return;
        };
        self.lists.lr[n] = lr.with(lr.0 & Lr::PENDING).0;
        if lr.is_physical() {
            assert_ne!(self.host >> id & 1, 0);
            self.host &= !(1 << id);
        }
    }

    /// Whether hardware would leave the guest at once for a maintenance interrupt, so that nothing waits unseen.
    pub fn maintenance(&self) -> bool {
        let over = self.lists.in_use().any(|(_, lr)| lr.is_over() && !lr.is_physical() && lr.0 & Lr::NOTIFY != 0);
        let none = self.underflow.0 & Underflow::NO_PENDING.0 != 0 && !self.lists.shows_pending();
        let unmatched = self.underflow.0 & Underflow::NOT_LISTED.0 != 0 && self.lists.unmatched != 0;
        over || none || unmatched
    }
}
