//! A vCPU's own side of its local APIC.

use hv_core::machine::Instant;

use super::events::Event;
use super::message::{Address, Delivery, Message, Trigger, logical_id};
use super::seat::{Seat, WORDS, highest, place};
use super::timer::{Clock, Timer};
use super::{Apics, Rouse};

/// A local vector is masked.
pub const LVT_MASKED: u32 = 1 << 16;

/// By which face it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// None: switched off.
    Off,
    /// Memory.
    Xapic,
    /// Model-specific registers.
    X2apic,
}

/// The local vectors, in the order of their registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lvt {
    /// The timer's.
    Timer = 0,
    /// That of errors.
    Error = 5,
}

/// What a use of a register leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    /// Who has something to look at.
    pub rouse: Rouse,
    /// A level interrupt with this vector is over, which the I/O APIC has to be told.
    pub ended: Option<u8>,
}

impl Outcome {
    pub(super) const NOTHING: Self = Self { rouse: Rouse::NOBODY, ended: None };
}

/// The state.
#[derive(Debug)]
pub struct Local {
    pub(super) number: u16,
    pub(super) face: Face,
    pub(super) in_service: [u32; WORDS],
    /// Task priority register.
    pub(super) tpr: u8,
    /// Spurious-interrupt vector register.
    pub(super) svr: u32,
    /// Logical destination and destination format registers, as the xAPIC has them.
    pub(super) ldr: u32,
    pub(super) dfr: u32,
    /// Interrupt command register.
    pub(super) command: u64,
    pub(super) lvt: [u32; 6],
    /// Error status: what was found, and what the guest was shown of it.
    pub(super) found: u32,
    pub(super) shown: u32,
    pub(super) timer: Timer,
    /// What can be delivered now, if `stale` does not say otherwise.
    offered: Option<u8>,
    stale: bool,
}

impl Local {
    /// The local APIC of vCPU `number` after reset, on a machine with so many ticks a second.
    #[must_use]
    pub fn new(number: u16, ticks_per_second: u64) -> Self {
        Self {
            number,
            face: Face::Xapic,
            in_service: [0; WORDS],
            tpr: 0,
            svr: 0xff,
            ldr: 0,
            dfr: u32::MAX,
            command: 0,
            lvt: [LVT_MASKED; 6],
            found: 0,
            shown: 0,
            timer: Timer::new(ticks_per_second),
            offered: None,
            stale: false,
        }
    }

    /// The vCPU's number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// Everything but the face is as after reset: so INIT does it, and switching off.
    pub(super) fn reset(&mut self, seat: &Seat) {
        self.timer.reset();
        *self = Self { face: self.face, timer: self.timer, ..Self::new(self.number, 0) };
        seat.clear();
        self.publish(seat);
    }

    /// Lets others know how it is reached.
    pub(super) fn publish(&self, seat: &Seat) {
        seat.set_address(match self.face {
            Face::Off => Address::OFF,
            Face::Xapic => Address::xapic(self.ldr, self.dfr, self.svr),
            Face::X2apic => Address::x2apic(logical_id(self.number), self.svr),
        });
    }

    /// True if [`Local::look`] has something to find. One load.
    #[inline]
    #[must_use]
    pub fn wants_look(&self, apics: &Apics) -> bool {
        self.stale || apics.seat(self.number).is_some_and(Seat::wants_look)
    }

    /// Finds out what can be delivered. On `Some` the vCPU does what the event says; its APIC has done so. Afterwards it takes
    /// NMIs ([`Local::take_nmi`]).
    pub fn look(&mut self, apics: &Apics) -> Option<Event> {
        let seat = apics.seat(self.number)?;
        seat.take_look();
        let event = seat.events.take();
        if event.is_some() {
            self.reset(seat);
        }
        let errors = seat.take_errors();
        if errors != 0 {
            self.error(seat, errors);
        }
        self.offered = seat.highest().filter(|vector| vector >> 4 > self.ppr() >> 4);
        self.stale = false;
        event
    }

    /// The vector that can be delivered, as of the last look.
    #[inline]
    #[must_use]
    pub fn offered(&self) -> Option<u8> {
        self.offered
    }

    /// The processor takes the offered vector, which is in service from now on. The next entry looks again.
    #[inline]
    pub fn acknowledge(&mut self, apics: &Apics) -> Option<u8> {
        let (vector, seat) = (self.offered.take()?, apics.seat(self.number)?);
        self.stale = true;
        if !seat.take(vector) {
            return None;
        }
        let (word, bit) = place(vector);
        self.in_service[word] |= bit;
        Some(vector)
    }

    /// The processor has not taken `vector` after all, which it acknowledged: it pends again.
    pub fn put_back(&mut self, apics: &Apics, vector: u8) {
        let (word, bit) = place(vector);
        self.in_service[word] &= !bit;
        self.stale = true;
        if let Some(seat) = apics.seat(self.number) {
            seat.put_back(vector);
        }
    }

    /// Takes an NMI, to be injected.
    pub fn take_nmi(&mut self, apics: &Apics) -> bool {
        apics.seat(self.number).is_some_and(|seat| seat.events.take_nmi())
    }

    /// True if an interrupt can be delivered to a processor that takes any (IF = 1).
    #[must_use]
    pub fn interrupt_waits(&self, apics: &Apics) -> bool {
        let highest = apics.seat(self.number).and_then(Seat::highest);
        highest.is_some_and(|vector| vector >> 4 > self.ppr() >> 4)
    }

    /// The priority class of the highest interrupt that nothing but the task priority holds back.
    #[must_use]
    pub fn held_back(&self, apics: &Apics) -> Option<u8> {
        let class = apics.seat(self.number).and_then(Seat::highest)? >> 4;
        let served = highest(self.in_service).unwrap_or(0) >> 4;
        (class > served && class <= self.tpr >> 4).then_some(class)
    }

    /// True if INIT, a start-up or an NMI waits, which any halted processor takes.
    #[must_use]
    pub fn event_waits(&self, apics: &Apics) -> bool {
        apics.seat(self.number).is_some_and(|seat| seat.events.any())
    }

    /// The vCPU runs because it was told to by other means than a start-up.
    pub fn begun(&self, apics: &Apics) {
        if let Some(seat) = apics.seat(self.number) {
            seat.events.begun();
        }
    }

    /// True if the vCPU must not run, but halt until an event waits: it has been given no start-up.
    #[must_use]
    pub fn is_held(&self, apics: &Apics) -> bool {
        apics.seat(self.number).is_some_and(|seat| seat.events.waiting())
    }

    /// Processor priority.
    pub(super) fn ppr(&self) -> u8 {
        let served = highest(self.in_service).unwrap_or(0) & 0xf0;
        if self.tpr & 0xf0 >= served { self.tpr } else { served }
    }

    /// Task priority, of which CR8 is bits 7:4.
    #[must_use]
    pub const fn tpr(&self) -> u8 {
        self.tpr
    }

    /// The same is set.
    #[inline]
    pub fn set_tpr(&mut self, tpr: u8) {
        if self.tpr != tpr {
            self.tpr = tpr;
            self.stale = true;
        }
    }

    /// The interrupt with the highest priority is over.
    pub(super) fn end(&mut self, seat: &Seat) -> Outcome {
        let Some(vector) = highest(self.in_service) else { return Outcome::NOTHING };
        let (word, bit) = place(vector);
        self.in_service[word] &= !bit;
        self.stale = true;
        Outcome { ended: Some(vector).filter(|vector| seat.is_level(*vector)), ..Outcome::NOTHING }
    }

    /// Raises the timer's interrupt if it is due.
    pub fn tick(&mut self, apics: &Apics, now: Instant) {
        if let Some(seat) = apics.seat(self.number).filter(|_| self.timer.expire(now)) {
            self.fire(seat, Lvt::Timer);
        }
    }

    /// When the timer next wants the vCPU to run.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.timer.due().filter(|_| self.lvt[Lvt::Timer as usize] & LVT_MASKED == 0)
    }

    /// IA32_TSC_DEADLINE.
    #[must_use]
    pub const fn deadline(&self) -> u64 {
        self.timer.deadline()
    }

    /// The same is written.
    pub fn set_deadline(&mut self, tsc: u64, clock: Clock) {
        self.timer.set_deadline(tsc, clock);
    }

    /// The guest's time-stamp counter has been set.
    pub fn retime(&mut self, clock: Clock) {
        self.timer.retime(clock);
    }

    fn fire(&mut self, seat: &Seat, which: Lvt) {
        let lvt = self.lvt[which as usize];
        let message = Message { delivery: Delivery::Fixed, vector: lvt as u8, trigger: Trigger::Edge };
        if lvt & LVT_MASKED != 0 {
            return;
        }
        if message.is_illegal() {
            // Reported, but not by an interrupt that would be illegal in its turn.
            self.found |= super::RECEIVE_ILLEGAL;
            if which != Lvt::Error {
                self.fire(seat, Lvt::Error);
            }
        } else {
            seat.accept(message.vector, Trigger::Edge);
        }
    }

    /// Something was wrong.
    pub(super) fn error(&mut self, seat: &Seat, bits: u32) {
        self.found |= bits;
        self.fire(seat, Lvt::Error);
    }
}
