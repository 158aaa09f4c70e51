//! Between the two halves: from an access that hardware did not translate to the entry by which it should have been.
//!
//! With the guest's memory virtualized all of its storage interrupts come here, its own mistakes too. The entry that
//! the guest has put for the address, with the rights that it gave it, tells them apart:
//!
//! ```text
//!   no entry                                  the guest's: it puts one, or ends its program
//!   an entry that does not allow the access   the guest's
//!   an entry, valid by now                    run the instruction again
//!   an entry that is absent, or that allows more to the guest than the host side does: a fault, claiming it
//! ```

use hv_core::addr::Gpa;
use hv_core::epoch::WalkGuard;
use hv_core::machine::Machine;
use hv_core::vcpu::exit::Access;

use super::claim::Claim;
use super::entry::{Entry, Patience};
use super::place::{KP, KS, NO_EXECUTION, Place, Segment};
use super::stage2::HashStage2;
use super::table::GROUP;
use super::words::{self, ABSENT, KEY_HI, KEY_LO, VALID};

/// HDSISR, DSISR; HSRR1, SRR1 of a fetch: there is no entry.
pub const NO_ENTRY: u64 = 0x4000_0000;
/// SRR1 of a fetch: from memory that is not for execution, or guarded.
pub const NOT_FOR_EXECUTION: u64 = 0x1000_0000;
/// The access is not permitted.
pub const PROTECTION: u64 = 0x0800_0000;
/// DSISR: it was a store.
pub const STORE: u64 = 0x0200_0000;
/// DSISR: its storage key forbids it.
pub const KEY: u64 = 0x0020_0000;

/// An access of the guest's that ended in a storage interrupt, as hardware tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Effective address: HDAR, or the instruction's.
    pub address: u64,
    /// The segment's descriptor: ASDR. In the guest's real mode the virtual real mode area's.
    pub segment: u64,
    /// HDSISR, or the high half of HSRR1's low word.
    pub status: u64,
    /// What it was to do.
    pub access: Access,
    /// What it was made from.
    pub state: State,
    /// The guest's AMR.
    pub keys: u64,
}

/// How the guest accessed memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its translation is off: no keys, no protection.
    Real,
    /// Its kernel.
    Privileged,
    /// A program.
    Problem,
}

/// What it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A fault of the second stage.
    Fault {
        /// The guest real address.
        gpa: Gpa,
        /// What has to become possible.
        access: Access,
        /// The entry.
        claim: Claim,
    },
    /// The guest's own affair: its storage interrupt, with this status.
    Reflect(u64),
    /// Run it again.
    Again,
}

impl HashStage2 {
    /// The entry for a place or its secondary one, valid or absent, at a look: its number, and in which of the two it stands,
    /// which is what it has to be compared with again under its lock.
    fn find<'g, M: Machine>(&self, m: &'g M, g: &'g WalkGuard<'_>, place: Place) -> Option<(u64, Place, Entry<'g>)> {
        let parts = self.parts();
        [place, place.secondary(parts.groups())].into_iter().find_map(|place| {
            let first = place.group * GROUP;
            (first..first + GROUP).find_map(|index| {
                let entry = parts.entry(m, g, index);
                let words = entry.look();
                (words.v & (VALID | ABSENT) != 0 && place.is(words.v, words.view)).then_some((index, place, entry))
            })
        })
    }

    /// The entry by which an access of the guest goes, if it has put one: what a fault of it claims.
    #[must_use]
    pub fn entry_for<M: Machine>(&self, m: &M, g: &WalkGuard<'_>, segment: &Segment, address: u64) -> Option<Claim> {
        let place = segment.place(address, self.parts().groups());
        let (index, _, entry) = self.find(m, g, place)?;
        Some(entry.look().claim(index))
    }

    /// Tells what a storage interrupt of the guest comes to. Waits for nothing, so it serves in real mode.
    #[must_use]
    pub fn missed<M: Machine>(&self, m: &M, g: &WalkGuard<'_>, missed: &Missed) -> Found {
        let Missed { address, access, status, .. } = *missed;
        let Some(segment) = Segment::new(missed.segment) else { return Found::Reflect(status) };
        if status & (NO_ENTRY | PROTECTION) == 0 {
            return Found::Reflect(status);
        }
        let place = segment.place(address, self.parts().groups());
        let Some((index, place, _)) = self.find(m, g, place) else {
            // An entry that forbade something has gone since: then there is none, which the next try will say.
            return if status & NO_ENTRY != 0 { Found::Reflect(status) } else { Found::Again };
        };
        let Some(entry) = self.lock(m, g, index, Patience::Some) else { return Found::Again };
        let words = *entry.words();
        if words.is_free() || !place.is(words.v, words.view) {
            return Found::Again;
        }
        if let Some(why) = missed.forbidden(words.view) {
            return Found::Reflect(status & !NO_ENTRY | why);
        }
        if words.is_valid() && status & NO_ENTRY != 0 {
            return Found::Again;
        }
        let within = address & (words.order().bytes() - 1);
        match words.gfn().addr() {
            Some(at) => Found::Fault { gpa: Gpa(at.0 | within), access, claim: words.claim(index) },
            None => Found::Reflect(status),
        }
    }
}

impl Missed {
    /// Why the guest's own entry forbids the access.
    fn forbidden(&self, view: u64) -> Option<u64> {
        let store = if self.access == Access::Write { STORE } else { 0 };
        let key = match self.state {
            State::Real => false,
            State::Privileged => self.segment & KS != 0,
            State::Problem => self.segment & KP != 0,
        };
        let fetch = self.access == Access::Fetch;
        if fetch && (view & (words::N | words::G) != 0 || self.state != State::Real && self.segment & NO_EXECUTION != 0)
        {
            return Some(NOT_FOR_EXECUTION);
        }
        if !words::allows(view, key, self.access) {
            return Some(PROTECTION | store);
        }
        let number = (view & KEY_HI) >> 57 | (view & KEY_LO) >> 9;
        // Two bits a key: no stores, no loads.
        let keyed = self.keys >> (62 - 2 * number) & if self.access == Access::Write { 2 } else { 1 };
        let applies = !fetch && self.state != State::Real;
        (applies && keyed != 0).then_some(KEY | store)
    }
}
