//! All that one vCPU may take, in words of 64 bits: its own interrupts in the lower half, SPIs in the upper.
//!
//! A [`Bank`] is open while a vCPU looks. It has the lock of the SPIs if these are any concern of the vCPU's: those that it
//! may take, or holds.

use hv_core::sync::{MutexGuard, Ordering};

use super::lists::{Group, Lists, Lr, Source, bits};
use super::seat::{EDGES, Seat};
use super::spi::Spis;
use super::{FIRST_SPI, Priority, TimerLines, Vgic};

/// A vCPU's view of what is at home.
pub struct Bank<'a> {
    vcpu: u16,
    seat: &'a Seat,
    spis: Option<MutexGuard<'a, Spis>>,
    timers: u32,
    /// Those that may be forwarded to it when they are pending. As of the opening, like what follows: of a change since then
    /// the vCPU is told.
    pub allowed: u64,
    /// Lines that make an interrupt pending as long as they are up.
    pub lines: u64,
    /// Those that may be pending again while they are active.
    pub edges: u64,
}

const fn join(private: u32, shared: u32) -> u64 {
    private as u64 | (shared as u64) << FIRST_SPI
}

/// The word's part that is about SPIs.
pub const fn shared(ids: u64) -> u32 {
    (ids >> FIRST_SPI) as u32
}

impl<'a> Bank<'a> {
    pub fn open(gic: &'a Vgic, vcpu: u16, seat: &'a Seat, held: u64, timers: TimerLines) -> Self {
        let timers = timers.0 & TimerLines::PHYSICAL;
        let groups = gic.groups();
        let mut bank = Self {
            vcpu,
            seat,
            spis: None,
            timers,
            allowed: seat.allowed(groups).into(),
            lines: timers.into(),
            edges: EDGES.into(),
        };
        if seat.has_spis() || shared(held) != 0 {
            let spis = gic.spis.lock();
            bank.allowed |= join(0, spis.routed_to(vcpu, spis.allowed(groups)));
            bank.lines |= join(0, spis.levels());
            bank.edges |= join(0, spis.edges);
            bank.spis = Some(spis);
        }
        bank
    }

    /// Makes known what other vCPUs may take now, and what this one has listed. Returns the vCPUs to wake.
    pub fn close(mut self, gic: &Vgic, lists: &Lists) -> u32 {
        let (pending, active) = shown(lists);
        self.seat.show(pending as u32, active as u32, TimerLines(self.timers));
        let Some(spis) = &mut self.spis else { return 0 };
        spis.show(shared(lists.held), shared(pending), shared(active));
        gic.offer(spis, u32::MAX) & !(1 << self.vcpu)
    }

    pub fn latches(&self) -> u64 {
        join(self.seat.latch.load(Ordering::Acquire), self.spis.as_ref().map_or(0, |spis| spis.latch))
    }

    /// Active ones of this vCPU that no list register shows as such.
    pub fn parked(&self) -> u64 {
        let shared = self.spis.as_ref().map_or(0, |spis| spis.parked_by(self.vcpu));
        join(self.seat.parked.load(Ordering::Relaxed), shared)
    }

    /// Those that are to be listed, as far as they are not: pending and allowed, or parked.
    pub fn rest(&self) -> u64 {
        // Nobody else's: who holds an SPI lists it until it is over.
        let others = self.spis.as_ref().map_or(0, |spis| spis.held() & !spis.held_by(self.vcpu));
        (self.latches() | self.lines) & self.allowed & !join(0, others) | self.parked()
    }

    /// Takes a latch from home; whether it was set.
    pub fn unlatch(&mut self, bit: u64) -> bool {
        match &mut self.spis {
            Some(spis) if shared(bit) != 0 => {
                let was = spis.latch & shared(bit) != 0;
                spis.latch &= !shared(bit);
                was
            }
            _ => self.seat.unlatch(bit as u32),
        }
    }

    fn latch(&mut self, bit: u64) {
        match &mut self.spis {
            Some(spis) if shared(bit) != 0 => spis.latch |= shared(bit),
            _ => self.seat.latch(bit as u32),
        }
    }

    /// It is not parked any more: over, or about to be listed. Whether it was.
    pub fn unpark(&mut self, bit: u64) -> bool {
        if self.parked() & bit == 0 {
            return false;
        }
        match &mut self.spis {
            Some(spis) if shared(bit) != 0 => spis.parked &= !shared(bit),
            _ => {
                self.seat.parked.fetch_and(!(bit as u32), Ordering::Relaxed);
            }
        }
        true
    }

    fn park(&mut self, id: u32) {
        match (&mut self.spis, id.checked_sub(FIRST_SPI)) {
            (Some(spis), Some(n)) => spis.park(n, self.vcpu),
            _ => {
                self.seat.parked.fetch_or(1 << (id & 31), Ordering::Relaxed);
            }
        }
    }

    pub fn priority(&self, id: u32) -> Priority {
        match (&self.spis, id.checked_sub(FIRST_SPI)) {
            (Some(spis), Some(n)) => spis.priority(n),
            _ => self.seat.priority(id),
        }
    }

    fn group(&self, id: u32) -> Group {
        match (&self.spis, id.checked_sub(FIRST_SPI)) {
            (Some(spis), Some(n)) => spis.group(n),
            _ => self.seat.group(id),
        }
    }

    /// The one of `ids` with the highest priority, of equals that with the lowest number.
    pub fn best(&self, ids: u64) -> Option<u32> {
        bits(ids).min_by_key(|id| self.priority(*id))
    }

    /// What is to be undone of what the guest was shown, because another vCPU cleared it.
    pub fn undo(&mut self, lists: &mut Lists) {
        let take = |word: &hv_core::sync::AtomicU32| match word.load(Ordering::Relaxed) {
            0 => 0,
            _ => word.swap(0, Ordering::Acquire),
        };
        let mut unpend = join(take(&self.seat.unpend), 0);
        let mut deactivate = join(take(&self.seat.deactivate), 0);
        if let Some(spis) = &mut self.spis {
            let listed = shared(lists.held);
            unpend |= join(0, spis.unpend & listed);
            deactivate |= join(0, spis.deactivate & listed);
            spis.unpend &= !listed;
            spis.deactivate &= !listed;
        }
        // What is left without a reason to be pending goes when the registers are revised.
        lists.latched &= !unpend;
        for n in bits(if deactivate == 0 { 0 } else { lists.used.into() }) {
            let lr = Lr(lists.lr[n as usize & 15]);
            if deactivate >> (lr.id() & 63) & 1 != 0 {
                self.put(lists, n as usize, lr.with(lr.0 & Lr::PENDING));
            }
        }
    }

    /// Looks again at every register in use. Returns those interrupts that are to be listed and are not.
    pub fn revise(&mut self, lists: &mut Lists) -> u64 {
        let (allowed, lines, edges) = (self.allowed, self.lines, self.edges);
        for n in bits(lists.used.into()) {
            let lr = Lr(lists.lr[n as usize & 15]);
            let (id, bit) = (lr.id() & 63, 1 << (lr.id() & 63));
            let active = self.unpark(bit) || lr.is_active();
            let twice = edges & bit != 0 && !lr.is_physical();
            let mut pending = lr.is_pending();
            if allowed & bit != 0 && (pending || twice) && self.latches() & bit != 0 && self.unlatch(bit) {
                lists.latched |= bit;
                pending = true;
            }
            // Pending: is there still a reason for it, and may it be forwarded? A level that is active waits at home.
            if pending {
                let reason = (lines | lists.latched) & bit & allowed != 0;
                if !reason || active && !twice {
                    self.take_home(lists, bit);
                    pending = false;
                }
            }
            let state = if active { Lr::ACTIVE } else { 0 } | if pending { Lr::PENDING } else { 0 };
            let lr = if active { lr } else { self.fresh(id, lines & bit != 0) };
            self.put(lists, n as usize, lr.with(state));
        }
        self.rest() & !lists.held
    }

    /// Lists an interrupt of [`Bank::rest`] in a free register.
    pub fn list(&mut self, lists: &mut Lists, id: u32) {
        let bit = 1_u64 << (id & 63);
        let (line, allowed, edge) = (self.lines & bit != 0, self.allowed & bit != 0, self.edges & bit != 0);
        let active = self.unpark(bit);
        let mut pending = false;
        if allowed && (edge || !active) {
            let latched = self.unlatch(bit);
            lists.latched |= if latched { bit } else { 0 };
            pending = latched || line;
        }
        let state = if active { Lr::ACTIVE } else { 0 } | if pending { Lr::PENDING } else { 0 };
        let lr = self.fresh(id, line || active && lists.physical & bit as u32 != 0).with(state);
        if lr.is_over() {
            return;
        }
        back(lists, lr);
        if let (Some(spis), Some(n)) = (&mut self.spis, id.checked_sub(FIRST_SPI)) {
            spis.list(n, self.vcpu);
        }
        lists.add(lr);
    }

    /// Takes what register `n` holds home.
    pub fn unlist(&mut self, lists: &mut Lists, n: usize) {
        let lr = Lr(lists.lr[n & 15]);
        if lr.is_pending() {
            self.take_home(lists, 1 << (lr.id() & 63));
        }
        if lr.is_active() {
            self.park(lr.id() & 63);
        }
        self.put(lists, n, lr.with(0));
    }

    /// It is not shown as pending any more: what it was pending by is latched again.
    fn take_home(&mut self, lists: &mut Lists, bit: u64) {
        if lists.latched & bit != 0 {
            lists.latched &= !bit;
            self.latch(bit);
        }
    }

    /// Sets a register; an SPI of which nothing is left is let go.
    fn put(&mut self, lists: &mut Lists, n: usize, lr: Lr) {
        lists.set(n, lr);
        back(lists, lr);
        if let (Some(spis), Some(spi)) = (&mut self.spis, (lr.id() & 63).checked_sub(FIRST_SPI))
            && lr.is_over()
        {
            spis.unlist(1 << spi);
        }
    }

    /// A register for an interrupt, with its priority and group as they are now.
    fn fresh(&self, id: u32, physical: bool) -> Lr {
        let bit = 1_u64 << (id & 63);
        let source = if physical && u64::from(TimerLines::PHYSICAL) & bit != 0 {
            Source::Physical
        } else if EDGES & bit as u32 != 0 {
            Source::Message
        } else {
            Source::Device
        };
        Lr::new(id, self.priority(id), self.group(id), source)
    }
}

/// What the guest will end in the host's controller has to be active there.
const fn back(lists: &mut Lists, lr: Lr) {
    let bit = 1 << (lr.id() & 31);
    if lr.is_physical() && !lr.is_over() && lists.physical & bit == 0 {
        lists.physical |= bit;
        lists.engage |= bit;
    }
}

/// What list registers show as pending, and as active.
pub fn shown(lists: &Lists) -> (u64, u64) {
    lists.in_use().fold((0, 0), |(pending, active), (_, lr)| {
        let bit = 1_u64 << (lr.id() & 63);
        (pending | if lr.is_pending() { bit } else { 0 }, active | if lr.is_active() { bit } else { 0 })
    })
}
