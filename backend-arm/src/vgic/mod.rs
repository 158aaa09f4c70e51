//! The interrupt controller that a guest sees: a GICv3 without a second security state, LPIs or messages (IHI 0069).
//!
//! Distributor ([`dist`]) and redistributors ([`redist`]) are emulated here, in safe code; the CPU interface is the
//! hardware's virtual one, which takes its interrupts from list registers. An interrupt is in one of two places:
//!
//! - **at home**: its pending latch, its line and its active state are in its bank, a `Seat` for SGIs and PPIs
//!   of one vCPU, `Spis` for SPIs;
//! - **listed**: in one list register of one vCPU ([`Lists`]). What it was pending by has gone there with it.
//!
//! An SPI that is listed, or was acknowledged by a vCPU that has no room to list it, is *held* by that vCPU, and by no other
//! until it is over. It moves only like this:
//!
//! 1. Anybody may latch an interrupt or raise a line, at home, at any time; then sets `look` of the vCPU that is to take it
//!    and wakes it ([`Services::wake`]), in this order.
//! 2. [`Vgic::fill`], on the CPU that runs the vCPU and before it enters the guest, takes `look` and then moves what is
//!    deliverable into list registers. Taking the latch and listing is one step for that vCPU, and no other lists it: a
//!    private interrupt is its own, an SPI is held under the lock. So none is listed twice, and none is latched unseen.
//! 3. The guest acknowledges and ends what is listed, without an exit. [`Vgic::fold`] reads from the registers what has
//!    become of it. What a vCPU may take later ends with an exit that brings `fold` and `fill`: levels are listed with a
//!    maintenance interrupt, and [`Underflow`] says what else must be turned on while more waits than fits.
//! 4. [`Vgic::withdraw`] takes everything home again: pending by a latch becomes the latch, pending by a line stays the
//!    line, active becomes parked (active and held, but not listed). Done before the guest reads or writes distributor
//!    or redistributors, so that these see a vCPU's own interrupts as they are; what *other* vCPUs have listed they see
//!    as of those vCPUs' last `fill` or `fold`, and changes reach it at their next, for which they are woken.
//!
//! What runs the vCPU does, at each entry, if [`Vgic::wants_look`] or a timer's line has changed or a maintenance interrupt
//! came: copy the list registers in use from hardware into [`Lists`], `fold`, `fill`, [`Vgic::wake`] if `lists.wake` is not 0,
//! carry out `lists.engage` and `lists.release`, copy those of `lists.changed` to hardware, and turn on in ICH_HCR_EL2 what
//! `fill` answered. At a WFI: copy, `fold`, [`Vgic::pending`].
//!
//! Timers are physical interrupts that the guest ends itself ([`Source::Physical`]): their lines are not kept here but given to
//! `fill`, and `Lists::physical` knows which are active in the host's own controller on behalf of the vCPU. A physical
//! interrupt that is active raises no further one.
//!
//! One lock per VM guards the SPIs; it is a leaf. Everything of SGIs and PPIs is atomic words, so that a message from one vCPU
//! to another takes no lock.

mod bank;
pub mod dist;
#[cfg(test)]
mod double;
mod flow;
#[cfg(test)]
mod fuzz;
mod ids;
pub mod lists;
pub mod redist;
mod seat;
mod spi;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec::Vec;

use hv_core::sync::{AtomicU32, Mutex, Ordering};
use hv_core::vcpu::services::Services;

use lists::bits;
pub use lists::{Group, Lists, Lr, MAX_LISTS, Source};
use seat::Seat;
use spi::Spis;

/// A priority as the guest writes it: 0 is the highest. [`PRIORITY_MASK`] says which bits are there.
pub type Priority = u8;
/// Five bits of priority are implemented, as virtual CPU interfaces have at least (IHI 0069, ICH_VTR_EL2.PRIbits).
pub const PRIORITY_MASK: u8 = 0xf8;
/// The first SPI's INTID.
pub const FIRST_SPI: u32 = 32;
/// First INTID that is not there.
pub const END: u32 = 64;
/// vCPUs that a VM can have: the width of the sets of them here. More than the manifest allows.
pub const MAX_VCPUS: u16 = 32;

/// Lines of the timers' PPIs as they are now, bit = INTID. Only [`TimerLines::PHYSICAL`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerLines(pub u32);

impl TimerLines {
    /// INTID of the virtual timer (CNTV), as Arm's Base System Architecture has it.
    pub const VIRTUAL_TIMER: u32 = 27;
    /// INTID of the EL1 physical timer (CNTP).
    pub const PHYSICAL_TIMER: u32 = 30;
    /// The PPIs that are backed by physical ones.
    pub const PHYSICAL: u32 = 1 << Self::VIRTUAL_TIMER | 1 << Self::PHYSICAL_TIMER;
    /// No line is up.
    pub const DOWN: Self = Self(0);
}

/// The state of an interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The device asks for nothing.
    Low,
    /// The device wants service.
    High,
}

/// Bits to be set in ICH_HCR_EL2 while more waits than the list registers hold, so that the guest is left in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Underflow(pub u64);

impl Underflow {
    /// Everything is listed.
    pub const NONE: Self = Self(0);
    /// NPIE: exit when no pending interrupt is listed any more, because others wait.
    pub const NO_PENDING: Self = Self(1 << 3);
    /// LRENPIE and TDIR: exit when the guest ends an active interrupt that is not listed, by either way of doing so.
    pub const NOT_LISTED: Self = Self(1 << 2 | 1 << 14);

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The interrupt controller of one VM. All methods may be called on any CPU; those with [`Lists`] by the one that runs the
/// vCPU. Numbers of vCPUs that are not there do nothing.
#[derive(Debug)]
pub struct Vgic {
    /// GICD_CTLR: which groups are forwarded ([`dist::GROUP0`], [`dist::GROUP1`]).
    groups: AtomicU32,
    seats: Box<[Seat]>,
    spis: Mutex<Spis>,
}

impl Vgic {
    /// The controller of a VM that has just been switched on; `None` for no vCPU, too many, or no memory.
    #[must_use]
    pub fn new(vcpus: u16) -> Option<Self> {
        if vcpus == 0 || vcpus > MAX_VCPUS {
            return None;
        }
        let mut seats = Vec::new();
        seats.try_reserve_exact(vcpus.into()).ok()?;
        seats.extend((0..vcpus).map(|_| Seat::new()));
        let seats = seats.into_boxed_slice();
        Some(Self { groups: AtomicU32::new(0), seats, spis: Mutex::new(Spis::new()) })
    }

    /// True if something has changed since the last [`Vgic::fill`]. One load.
    #[inline]
    #[must_use]
    pub fn wants_look(&self, vcpu: u16) -> bool {
        self.seat(vcpu).is_some_and(Seat::wants_look)
    }

    /// True if an interrupt waits for the vCPU, so that it must not halt; `lists` as of the last [`Vgic::fold`]. Priorities
    /// and groups that the guest masks in its CPU interface do not count: it may be woken for nothing.
    #[must_use]
    pub fn pending(&self, vcpu: u16, lists: &Lists, timers: TimerLines) -> bool {
        let Some(seat) = self.seat(vcpu) else { return false };
        let new = seat.waiting(self.groups(), timers) & !(lists.held as u32);
        lists.shows_pending() || new != 0 || seat.offered() != 0
    }

    /// Message `id` (an SGI, 0 to 15) for a vCPU; whoever calls this wakes it afterwards, unless it is the one that runs here.
    /// No lock.
    #[inline]
    pub fn send(&self, vcpu: u16, id: u32) {
        if let Some(seat) = self.seat(vcpu) {
            seat.latch(1 << (id & 15));
            seat.look();
        }
    }

    /// The group that a vCPU has given its SGI `id`.
    #[must_use]
    pub fn sgi_group(&self, vcpu: u16, id: u32) -> Group {
        self.seat(vcpu).map_or(Group::One, |seat| seat.group(id & 15))
    }

    /// A device's line changes. Returns the vCPU to wake, if one has something to take now.
    pub fn set_line(&self, id: u32, level: Level) -> Option<u16> {
        let n = id.checked_sub(FIRST_SPI).filter(|_| id < END)?;
        let mut spis = self.spis.lock();
        spis.set_line(n, level);
        // A holder is not woken for a line that fell: it would withdraw what it has not acknowledged, but may do so later.
        let wake = self.changed(&mut spis, 1 << n);
        let wake = if level == Level::High { wake } else { 0 };
        bits(wake.into()).next().and_then(|vcpu| u16::try_from(vcpu).ok())
    }

    /// Tells the vCPUs of `lists.wake`.
    pub fn wake<S: Services>(&self, lists: &mut Lists, s: &S) {
        wake(core::mem::take(&mut lists.wake), s);
    }

    #[inline]
    fn seat(&self, vcpu: u16) -> Option<&Seat> {
        self.seats.get(usize::from(vcpu))
    }

    #[inline]
    fn groups(&self) -> u32 {
        self.groups.load(Ordering::Relaxed)
    }

    /// Makes known who may take these SPIs (bit 0 is INTID 32). Returns the vCPUs to wake. Called under the lock after
    /// whatever may have changed it.
    fn offer(&self, spis: &mut Spis, which: u32) -> u32 {
        let waiting = spis.waiting(self.groups()) & which;
        let mut wake = 0;
        for (vcpu, seat) in (0_u16..).zip(&self.seats) {
            let (mine, parked) = (spis.routed_to(vcpu, waiting), spis.parked_by(vcpu));
            if seat.offer(which, mine, parked) {
                wake |= 1 << vcpu;
            }
        }
        wake
    }

    /// These SPIs have changed at home: who holds one looks again, and who may take one learns of it. Returns the vCPUs to
    /// wake.
    fn changed(&self, spis: &mut Spis, which: u32) -> u32 {
        let holders = bits((spis.held() & which).into()).filter_map(|n| spis.holder(n));
        let wake = holders.fold(0, |wake, vcpu| wake | self.announce(vcpu));
        wake | self.offer(spis, which)
    }

    /// A vCPU has something to look at. Returns it as a set.
    fn announce(&self, vcpu: u16) -> u32 {
        self.seat(vcpu).map_or(0, |seat| {
            seat.look();
            1 << vcpu
        })
    }
}

/// Wakes vCPUs, bit = number.
pub(crate) fn wake<S: Services>(vcpus: u32, s: &S) {
    bits(vcpus.into()).filter_map(|vcpu| u16::try_from(vcpu).ok()).for_each(|vcpu| s.wake(vcpu));
}
