//! The local APICs that a guest sees: one state with two faces, memory-mapped (xAPIC) and by model-specific registers (x2APIC).
//!
//! Sources: Intel SDM volume 3, chapters "Advanced Programmable Interrupt Controller" (register tables) and "x2APIC"; AMD APM
//! volume 2, chapter 16. Differences between the vendors are in reserved bits only; what is here is the common part.
//!
//! Each APIC has two sides:
//!
//! - [`Local`] belongs to the vCPU and is used by the CPU that runs it: task priority, in-service register, local vectors,
//!   timer. No lock, no atomics.
//! - [`seat::Seat`], in [`Apics`], is what others may touch: the request register, INIT, start-up and NMI, and the address by
//!   which it is reached. Atomic words: a message from one vCPU to another takes no lock.
//!
//! How an interrupt goes: a sender sets a bit in the request register, then `look`, then wakes the vCPU, in this order
//! ([`Apics::send`], [`Rouse::carry_out`]). The vCPU, before it enters the guest:
//!
//! 1. if its timer is due, [`Local::tick`];
//! 2. if [`Local::wants_look`] (one load), [`Local::look`], which says what to do about INIT, start-up and NMI, and finds out
//!    what can be delivered;
//! 3. if there is a [`Local::offered`] vector and the guest can take it, [`Local::acknowledge`] and inject; if the guest cannot
//!    take it now, it asks to be left when it can (an interrupt window).
//!
//! An injection that hardware reports as not delivered (IDT-vectoring, EXITINTINFO) is injected again by the vCPU: for the
//! APIC it has happened. The guest's CR8 is [`Local::set_tpr`]'s business after each exit in which it may have changed.

mod base;
mod events;
mod local;
mod message;
mod registers;
mod seat;
mod timer;
mod x2apic;
mod xapic;

use alloc::boxed::Box;
use alloc::vec::Vec;

use hv_core::addr::Gpa;
use hv_core::vcpu::services::{Services, StartAt, VcpuState};

pub use events::{Event, Role};
pub use local::{Local, Outcome};
use message::Address;
pub use message::{Delivery, Destination, Message, Trigger};
use seat::Seat;
pub use timer::Clock;
pub use x2apic::{FIRST_MSR, LAST_MSR};

/// Where the memory-mapped registers are. It cannot be moved.
pub const BASE: Gpa = Gpa(0xfee0_0000);
/// Their length in bytes.
pub const BYTES: u64 = 0x1000;
/// vCPUs that a VM can have: the width of the sets of them here. More than the manifest allows.
pub const MAX_VCPUS: u16 = 32;

/// Error status register: a message was sent with a vector that none can have.
const SEND_ILLEGAL: u32 = 1 << 5;
/// One was received.
const RECEIVE_ILLEGAL: u32 = 1 << 6;
/// A register was used that is not there.
const ILLEGAL_REGISTER: u32 = 1 << 7;

/// The shared sides of all local APICs of a VM. Any CPU may use it.
#[derive(Debug)]
pub struct Apics {
    seats: Box<[Seat]>,
}

impl Apics {
    /// Those of a VM that has just been switched on; vCPU 0 is the boot processor. `None` for no vCPU, too many, or no memory.
    #[must_use]
    pub fn new(vcpus: u16) -> Option<Self> {
        if vcpus == 0 || vcpus > MAX_VCPUS {
            return None;
        }
        let mut seats = Vec::new();
        seats.try_reserve_exact(vcpus.into()).ok()?;
        seats.extend((0..vcpus).map(|vcpu| Seat::new(if vcpu == 0 { Role::Boot } else { Role::Application })));
        let apics = Self { seats: seats.into_boxed_slice() };
        // As a `Local` is after reset.
        apics.seats.iter().for_each(|seat| seat.set_address(Address::xapic(0, u32::MAX, 0)));
        Some(apics)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.seats.len() as u16
    }

    /// Sends a message, from vCPU `from` or from a device. Returns who has something to look at. No lock.
    #[inline]
    pub fn send(&self, from: Option<u16>, to: Destination, message: Message) -> Rouse {
        let named = |(vcpu, seat): &(u16, &Seat)| {
            let address = seat.address();
            address.accepts(message.delivery) && address.is_named(*vcpu, from, to)
        };
        let all = || (0..).zip(&self.seats).filter(named);
        if message.delivery != Delivery::Lowest {
            return all().fold(Rouse::NOBODY, |rouse, (vcpu, seat)| rouse.and(deliver(vcpu, seat, message)));
        }
        // Which one is the implementation's choice: by vector, so that interrupts spread and each keeps to one vCPU.
        let count = all().count();
        let one = usize::from(message.vector).checked_rem(count).and_then(|n| all().nth(n));
        one.map_or(Rouse::NOBODY, |(vcpu, seat)| deliver(vcpu, seat, message))
    }

    fn seat(&self, vcpu: u16) -> Option<&Seat> {
        self.seats.get(usize::from(vcpu))
    }
}

/// The message is at one of its destinations.
#[inline]
fn deliver(vcpu: u16, seat: &Seat, message: Message) -> Rouse {
    if message.is_illegal() {
        seat.error(RECEIVE_ILLEGAL);
        return Rouse::one(vcpu);
    }
    match message.delivery {
        Delivery::Fixed | Delivery::Lowest => {
            return if seat.accept(message.vector, message.trigger) { Rouse::one(vcpu) } else { Rouse::NOBODY };
        }
        Delivery::None => return Rouse::NOBODY,
        Delivery::Nmi => seat.events.nmi(),
        Delivery::Init => seat.events.init(),
        Delivery::StartUp => seat.events.start_up(message.vector),
    }
    seat.look();
    Rouse::one(vcpu)
}

/// vCPUs that have something to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "they would sleep on"]
pub struct Rouse(u32);

impl Rouse {
    /// None.
    pub const NOBODY: Self = Self(0);

    const fn one(vcpu: u16) -> Self {
        Self(1 << (vcpu & 31))
    }

    /// These and those.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Their numbers.
    pub fn vcpus(self) -> impl Iterator<Item = u16> {
        (0..MAX_VCPUS).filter(move |vcpu| self.0 >> vcpu & 1 != 0)
    }

    /// Wakes them, but for vCPU `by`, which looks anyway before it enters its guest. One that has never run is started if it
    /// was told to.
    pub fn carry_out(self, by: Option<u16>, apics: &Apics, s: &dyn Services) {
        for vcpu in self.vcpus().filter(|vcpu| Some(*vcpu) != by) {
            let starting = apics.seat(vcpu).and_then(|seat| seat.events.starting());
            let begun = starting.filter(|_| s.vcpu_state(vcpu) == Some(VcpuState::Stopped)).map(|vector| {
                // It takes the message from its seat when it looks; this is what it will find there.
                s.start_vcpu(vcpu, StartAt { entry: Gpa(u64::from(vector) << 12), args: [0; 4], big_endian: false })
            });
            // Somebody else may have started it in between.
            if begun != Some(Ok(())) {
                s.wake(vcpu);
            }
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
