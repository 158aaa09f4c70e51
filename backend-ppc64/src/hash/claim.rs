//! What an entry says, and what a fault claims by it.

use hv_core::addr::{Gfn, Order};

use super::stage2::HashStage2;
use super::words::{ABSENT, C, LOCK, PageSize, R, VALID, first_gfn};

/// An entry as one look at it found it; in guests' form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// The first doubleword, without LOCK.
    pub v: u64,
    /// The second as hardware has it.
    pub r: u64,
    /// The second as the guest gave it.
    pub view: u64,
}

/// What a fault must still find when it is answered: the entry by which it was taken (R4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    index: u32,
    v: u64,
    view: u64,
}

impl Claim {
    /// The entry's number.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index.into()
    }

    /// The size that the guest chose.
    #[must_use]
    #[inline]
    pub fn order(&self) -> Order {
        PageSize::of(self.v, self.view).map_or(Order::PAGE, |size| size.actual)
    }
}

/// A fault's claim that may be one of a hashed table. An instruction set that has other tables too says
/// `Option<Claim>`.
pub trait Hashed: Copy {
    /// The claim.
    fn claim(&self) -> Option<Claim>;
    /// The claim for hv-core.
    fn of(claim: Claim) -> Self;
}

/// A second stage that may be of this kind.
pub trait MayBeHashed {
    /// The table, if it is.
    fn hashed(&self) -> Option<&HashStage2>;
}

impl MayBeHashed for HashStage2 {
    fn hashed(&self) -> Option<&HashStage2> {
        Some(self)
    }
}

impl Hashed for Claim {
    fn claim(&self) -> Option<Claim> {
        Some(*self)
    }

    fn of(claim: Claim) -> Self {
        claim
    }
}

impl Hashed for Option<Claim> {
    fn claim(&self) -> Option<Claim> {
        *self
    }

    fn of(claim: Claim) -> Self {
        Some(claim)
    }
}

impl Words {
    /// Those of an entry that nobody uses.
    pub(super) const FREE: Self = Self { v: 0, r: 0, view: 0 };

    /// True if nobody uses the entry.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.v & (VALID | ABSENT) == 0
    }

    /// True if hardware may use it.
    #[inline]
    pub fn is_valid(&self) -> bool {
        self.v & VALID != 0
    }

    /// How much it translates. Only entries whose size decodes are ever put.
    #[inline]
    pub fn order(&self) -> Order {
        PageSize::of(self.v, self.view).map_or(Order::PAGE, |size| size.actual)
    }

    /// The first guest frame.
    #[inline(always)]
    pub fn gfn(&self) -> Gfn {
        first_gfn(self.view, self.order())
    }

    /// v as a guest is told: that the hypervisor does not translate by an entry now is not its affair.
    #[inline]
    pub fn shown(&self) -> u64 {
        if self.is_free() { self.v } else { self.v & !(ABSENT | LOCK) | VALID }
    }

    /// r as a guest is told: what it gave, and what hardware has noted since.
    #[inline]
    pub fn told(&self) -> u64 {
        self.view | self.r & (R | C)
    }

    /// What a fault by this entry claims.
    #[inline]
    pub fn claim(&self, index: u64) -> Claim {
        Claim { index: index as u32, v: self.v, view: self.view & !(R | C) }
    }
}
