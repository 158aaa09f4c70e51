//! List registers as data: what one vCPU's virtual CPU interface is shown (IHI 0069, ICH_LR\<n\>_EL2).
//!
//! [`Lr`] is one register's word, [`Lists`] a vCPU's set of them with what has to be remembered beside. Neither touches
//! hardware: whoever runs the vCPU copies the words in and out, as [`super`] says.

use super::Priority;

/// The most list registers that an implementation may have.
pub const MAX_LISTS: usize = 16;

/// One list register's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lr(pub u64);

/// What stands behind an interrupt in a list register, which decides how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A message: it is over when the guest deactivates it.
    Message,
    /// A device: when the guest deactivates it a maintenance interrupt follows, and line and route are looked at again.
    Device,
    /// A physical interrupt of the same number, which the guest's deactivation deactivates too.
    Physical,
}

impl Lr {
    /// The interrupt is pending.
    pub const PENDING: u64 = 1 << 62;
    /// The interrupt is active.
    pub const ACTIVE: u64 = 1 << 63;
    const STATE: u64 = Self::PENDING | Self::ACTIVE;
    /// HW: it maps to a physical interrupt.
    const PHYSICAL: u64 = 1 << 61;
    const GROUP1: u64 = 1 << 60;
    const PRIORITY_SHIFT: u32 = 48;
    /// Where HW is set: the physical interrupt's number.
    const PHYSICAL_SHIFT: u32 = 32;
    /// Where HW is clear: a maintenance interrupt follows its deactivation.
    pub(super) const NOTIFY: u64 = 1 << 41;

    /// A register that shows interrupt `id`, in no state yet.
    #[must_use]
    #[inline]
    pub const fn new(id: u32, priority: Priority, group: Group, source: Source) -> Self {
        let source = match source {
            Source::Message => 0,
            Source::Device => Self::NOTIFY,
            Source::Physical => Self::PHYSICAL | (id as u64) << Self::PHYSICAL_SHIFT,
        };
        let group = match group {
            Group::Zero => 0,
            Group::One => Self::GROUP1,
        };
        Self(id as u64 | (priority as u64) << Self::PRIORITY_SHIFT | group | source)
    }

    /// The same with these of [`Lr::PENDING`] and [`Lr::ACTIVE`].
    #[must_use]
    #[inline]
    pub const fn with(self, state: u64) -> Self {
        Self(self.0 & !Self::STATE | state & Self::STATE)
    }

    /// The interrupt's number as the guest sees it.
    #[must_use]
    #[inline]
    pub const fn id(self) -> u32 {
        self.0 as u32
    }

    /// Pending, or pending and active.
    #[must_use]
    #[inline]
    pub const fn is_pending(self) -> bool {
        self.0 & Self::PENDING != 0
    }

    /// Active, or pending and active.
    #[must_use]
    #[inline]
    pub const fn is_active(self) -> bool {
        self.0 & Self::ACTIVE != 0
    }

    /// Neither: the guest is done with it.
    #[must_use]
    #[inline]
    pub const fn is_over(self) -> bool {
        self.0 & Self::STATE == 0
    }

    /// It maps to a physical interrupt.
    #[must_use]
    #[inline]
    pub const fn is_physical(self) -> bool {
        self.0 & Self::PHYSICAL != 0
    }
}

/// The group of an interrupt, which decides whether the guest takes it as FIQ or as IRQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// FIQ.
    Zero,
    /// IRQ.
    One,
}

/// A vCPU's list registers. Owned by whoever runs the vCPU; [`super::Vgic`] keeps no second copy.
#[derive(Clone, Debug)]
pub struct Lists {
    /// ICH_LR\<n\>_EL2. Those that are not in use are 0.
    pub lr: [u64; MAX_LISTS],
    /// Bit n: `lr[n]` holds an interrupt.
    pub used: u16,
    /// Bit n: `lr[n]` has been changed here since this was last cleared; hardware is to get it.
    pub changed: u16,
    /// How many the hardware has, 1 to 16.
    pub limit: u8,
    /// Physical interrupts (bit = INTID) that are active on behalf of this vCPU. Set when the host acknowledges one, and by
    /// [`super::Vgic::fill`]; a vCPU that leaves a CPU takes them off there and puts them back where it comes to.
    pub physical: u32,
    /// Physical interrupts that the hardware is to make active now: they are listed, and were never acknowledged. Cleared
    /// by whoever does it.
    pub engage: u32,
    /// Physical interrupts that the hardware is to deactivate now, because the guest will not. Cleared by whoever does it.
    pub release: u32,
    /// ICH_HCR_EL2.EOIcount: how often the guest ended an interrupt that no list register held. Added to by whoever reads
    /// it, taken by [`super::Vgic::fold`].
    pub unmatched: u8,
    /// vCPUs (bit = number) that have something to take because of what `fold` or `fill` found. [`super::Vgic::wake`]
    /// tells them, and has to be called before the guest is entered.
    pub wake: u32,
    /// The last `fill` could not list all.
    pub(super) crowded: bool,
    /// INTIDs in `lr`: none is there twice.
    pub(super) held: u64,
    /// Those of them that were pending by a latch, not (only) by their line: what goes back when they are taken off.
    pub(super) latched: u64,
}

impl Lists {
    /// An empty set of `limit` registers, at least 1 and at most [`MAX_LISTS`].
    #[must_use]
    pub fn new(limit: u8) -> Self {
        Self {
            lr: [0; MAX_LISTS],
            used: 0,
            changed: 0,
            limit: limit.clamp(1, MAX_LISTS as u8),
            physical: 0,
            engage: 0,
            release: 0,
            unmatched: 0,
            wake: 0,
            crowded: false,
            held: 0,
            latched: 0,
        }
    }

    /// The host acknowledged physical interrupt `id`, whose virtual twin this vCPU owns: it is active until the guest
    /// deactivates it, or [`Lists::release`] says so.
    pub const fn acknowledged(&mut self, id: u32) {
        if id < 32 {
            self.physical |= 1 << id;
        }
    }

    /// True if some register holds an interrupt that the guest may take: one that is active too has to be ended first.
    #[must_use]
    pub fn shows_pending(&self) -> bool {
        self.in_use().any(|(_, lr)| lr.is_pending() && !lr.is_active())
    }

    /// Lists a message that is pending by its latch, in the first register, with none in use.
    #[inline]
    pub(super) fn add_message(&mut self, lr: Lr) {
        self.lr[0] = lr.0;
        self.used = 1;
        self.changed |= 1;
        self.held = 1 << (lr.id() & 63);
        self.latched = self.held;
    }

    /// If all that is listed is a message in the first register, and it is over, drops it.
    #[inline]
    pub(super) fn drop_message(&mut self) -> bool {
        let is_message = self.lr[0] & (Lr::STATE | Lr::PHYSICAL | Lr::NOTIFY) == 0;
        if self.used != 1 || !is_message {
            return false;
        }
        self.lr[0] = 0;
        self.used = 0;
        self.changed |= 1;
        self.held = 0;
        self.latched = 0;
        true
    }

    /// The registers in use.
    #[inline]
    pub(super) fn in_use(&self) -> impl Iterator<Item = (usize, Lr)> + '_ {
        bits(self.used.into()).filter_map(|n| Some((n as usize, Lr(*self.lr.get(n as usize)?))))
    }

    /// How many registers are free.
    #[inline]
    pub(super) fn free(&self) -> u32 {
        u32::from(self.limit).saturating_sub(self.used.count_ones())
    }

    /// Sets a register in use, or frees it if nothing is left of its interrupt.
    #[inline]
    pub(super) fn set(&mut self, n: usize, lr: Lr) {
        let word = if lr.is_over() { 0 } else { lr.0 };
        let Some(slot) = self.lr.get_mut(n) else { return };
        if *slot != word {
            self.changed |= 1 << n;
            *slot = word;
        }
        if word == 0 {
            let bit = 1_u64 << (lr.id() & 63);
            self.used &= !(1 << n);
            self.held &= !bit;
            self.latched &= !bit;
        }
    }

    /// Changes a register's state as the guest's CPU interface would: what is over stays in use for the next fold.
    pub(super) fn set_state(&mut self, n: usize, lr: Lr) {
        if let Some(slot) = self.lr.get_mut(n) {
            *slot = lr.0;
            self.changed |= 1 << n;
        }
    }

    /// Puts an interrupt into a free register. The caller has checked that there is one and that the interrupt is in none.
    #[inline]
    pub(super) fn add(&mut self, lr: Lr) {
        let n = (!self.used).trailing_zeros() as usize;
        if n < usize::from(self.limit) && !lr.is_over() {
            self.used |= 1 << n;
            self.held |= 1 << (lr.id() & 63);
            self.set(n, lr);
        }
    }
}

/// The numbers of the bits that are set, from below.
#[inline]
pub fn bits(mut mask: u64) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let n = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (n < u64::BITS).then_some(n)
    })
}
