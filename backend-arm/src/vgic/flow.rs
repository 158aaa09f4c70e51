//! The ways of an interrupt between home and list registers; the protocol stands in [`super`].

use super::bank::{Bank, shared, shown};
use super::lists::{Lists, Lr, Source, bits};
use super::seat::{EDGES, Seat};
use super::{FIRST_SPI, TimerLines, Underflow, Vgic};

impl Vgic {
    /// What has become of the interrupts in list registers, which the caller has copied from hardware: those that are over
    /// leave, those that were acknowledged are no longer pending by what they were pending by.
    #[inline]
    pub fn fold(&self, vcpu: u16, lists: &mut Lists) {
        let Some(seat) = self.seat(vcpu) else { return };
        if lists.unmatched == 0 && !lists.crowded {
            if lists.used == 0 {
                return;
            }
            if lists.drop_message() {
                seat.show(0, 0, seat.lines());
                return;
            }
        }
        self.fold_all(vcpu, seat, lists);
    }

    #[inline(never)]
    fn fold_all(&self, vcpu: u16, seat: &Seat, lists: &mut Lists) {
        let (mut spis, mut look) = (0, lists.crowded);
        for n in bits(lists.used.into()) {
            let lr = Lr(lists.lr[n as usize & 15]);
            let bit = 1_u64 << (lr.id() & 63);
            if lr.is_over() {
                if lr.is_physical() {
                    lists.physical &= !(bit as u32);
                } else {
                    // Its line may still be up.
                    look |= lr.0 & Lr::NOTIFY != 0;
                }
                spis |= shared(bit);
                lists.set(n as usize, lr);
            } else if !lr.is_pending() {
                lists.latched &= !bit;
            }
        }
        let (pending, active) = shown(lists);
        seat.show(pending as u32, active as u32, seat.lines());
        if spis != 0 || shared(lists.held) != 0 {
            let mut all = self.spis.lock();
            all.unlist(spis);
            all.show(shared(lists.held), shared(pending), shared(active));
            lists.wake |= self.offer(&mut all, spis) & !(1 << vcpu);
        }
        if lists.unmatched != 0 {
            self.unmatched(vcpu, seat, lists);
            look = true;
        }
        if look {
            seat.look();
        }
    }

    /// Lists what waits for the vCPU, and takes home what may not be listed any more. `timers` are the lines of its timers.
    /// Answers what is to be turned on in ICH_HCR_EL2 until the next call.
    #[inline]
    pub fn fill(&self, vcpu: u16, lists: &mut Lists, timers: TimerLines) -> Underflow {
        let Some(seat) = self.seat(vcpu) else { return Underflow::NONE };
        seat.take_look();
        // A single message, and empty registers: nothing to weigh, nothing to undo.
        if lists.used == 0 && lists.physical | timers.0 == 0 && seat.has_latches_only() {
            let waiting = seat.waiting(self.groups(), timers) & EDGES;
            if waiting & waiting.wrapping_sub(1) == 0 {
                message(seat, lists, waiting);
                return Underflow::NONE;
            }
        }
        self.fill_all(vcpu, seat, lists, timers)
    }

    #[inline(never)]
    fn fill_all(&self, vcpu: u16, seat: &Seat, lists: &mut Lists, timers: TimerLines) -> Underflow {
        let mut bank = Bank::open(self, vcpu, seat, lists.held, timers);
        bank.undo(lists);
        let rest = bank.revise(lists);
        let mut underflow = Underflow::NONE;
        if rest.count_ones() <= lists.free() {
            bits(rest).for_each(|id| bank.list(lists, id));
        } else {
            underflow = crowd(&mut bank, lists);
        }
        lists.crowded = underflow != Underflow::NONE;
        if lists.physical != 0 {
            release(lists, bank.parked() as u32 | timers.0);
        }
        lists.wake |= bank.close(self, lists);
        underflow
    }

    /// Takes everything home, for the guest to find it there; `lists` have been copied from hardware. The next entry fills
    /// them again.
    pub fn withdraw(&self, vcpu: u16, lists: &mut Lists, timers: TimerLines) {
        self.fold(vcpu, lists);
        let Some(seat) = self.seat(vcpu) else { return };
        let mut bank = Bank::open(self, vcpu, seat, lists.held, timers);
        bank.undo(lists);
        bits(lists.used.into()).for_each(|n| bank.unlist(lists, n as usize));
        lists.wake |= bank.close(self, lists);
        seat.look();
    }

    /// The guest wrote `id` to ICC_DIR_EL1, which is trapped while [`Underflow::NOT_LISTED`] is on; `lists` have been
    /// copied from hardware.
    pub fn deactivate(&self, vcpu: u16, lists: &mut Lists, id: u32) {
        self.fold(vcpu, lists);
        let Some(seat) = self.seat(vcpu).filter(|_| id < super::END) else { return };
        let bit = 1_u64 << id;
        if lists.held & bit != 0 {
            for n in bits(lists.used.into()) {
                let lr = Lr(lists.lr[n as usize & 15]);
                if lr.id() == id && lr.is_active() {
                    if lr.is_physical() {
                        lists.release |= bit as u32;
                    }
                    // To the next `fold` as if hardware had done it.
                    lists.set_state(n as usize, lr.with(lr.0 & Lr::PENDING));
                }
            }
            self.fold(vcpu, lists);
        } else {
            let mut bank = Bank::open(self, vcpu, seat, 0, seat.lines());
            bank.unpark(bit);
            lists.wake |= bank.close(self, lists);
        }
        seat.look();
    }

    /// The guest ended active interrupts that are not listed: the one with the highest priority each time, as it must if it
    /// ends them in the order in which it took them.
    fn unmatched(&self, vcpu: u16, seat: &Seat, lists: &mut Lists) {
        let mut bank = Bank::open(self, vcpu, seat, lists.held, seat.lines());
        for _ in 0..core::mem::take(&mut lists.unmatched) {
            let Some(id) = bank.best(bank.parked() & !lists.held) else { break };
            bank.unpark(1 << id);
        }
        lists.wake |= bank.close(self, lists);
    }
}

/// Lists the message that waits, if there is one, in registers that are all free.
#[inline]
fn message(seat: &Seat, lists: &mut Lists, waiting: u32) {
    lists.crowded = false;
    // Another vCPU may have cleared it meanwhile.
    let listed = if waiting != 0 && seat.unlatch(waiting) { waiting } else { 0 };
    if listed != 0 {
        let id = listed.trailing_zeros();
        lists.add_message(Lr::new(id, seat.priority(id), seat.group(id), Source::Message).with(Lr::PENDING));
    }
    seat.show(listed, 0, TimerLines::DOWN);
}

/// More than fits: all registers are emptied and those with the highest priority listed. Active ones go first, because the
/// guest ends them soonest in the order of their priorities; but one register is for what is pending.
fn crowd(bank: &mut Bank<'_>, lists: &mut Lists) -> Underflow {
    bits(lists.used.into()).for_each(|n| bank.unlist(lists, n as usize));
    let mut active = bank.parked();
    let mut pending = bank.rest() & !active;
    let kept = u32::from(pending != 0);
    while lists.free() > 0 {
        let from = if lists.free() > kept && active != 0 || pending == 0 { &mut active } else { &mut pending };
        let Some(id) = bank.best(*from) else { break };
        *from &= !(1 << id);
        bank.list(lists, id);
    }
    let no_pending = if pending != 0 { Underflow::NO_PENDING } else { Underflow::NONE };
    let not_listed = if active != 0 { Underflow::NOT_LISTED } else { Underflow::NONE };
    no_pending.and(not_listed)
}

/// Physical interrupts that the guest will not end: no register has them, none is active, and their line is down.
#[inline]
fn release(lists: &mut Lists, needed: u32) {
    let listed = lists.in_use().filter(|(_, lr)| lr.is_physical()).fold(0, |mask, (_, lr)| mask | 1 << (lr.id() & 31));
    let gone = lists.physical & !needed & !listed;
    lists.physical &= !gone;
    // One that was to be made active and is not needed any more never was.
    lists.release |= gone & !lists.engage;
    lists.engage &= !gone;
}

const _: () = assert!(FIRST_SPI == 32, "the lower half of a bank is a seat's");
