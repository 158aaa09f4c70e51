//! What a child's fault asks for, and what is taken away from translations.

use super::ParentSeq;
use crate::addr::{Gfn, Order, Pfn};
use crate::isa::VmTag;
use crate::radix::format::{Leaf, Prot, Rc};

/// What a child's fault asks for, by the guest's own table.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// The child, by its name in translation caches.
    pub child: VmTag,
    /// The address that faulted.
    pub at: Gfn,
    /// The guest's address behind it.
    pub from: Gfn,
    /// How large the guest's own translation is.
    pub order: Order,
    /// What it allows.
    pub prot: Prot,
    /// What the access needs, of that.
    pub need: Prot,
}

/// A wish that the parent could answer a moment ago. Consumed by [`super::Derived::publish`].
#[derive(Debug)]
pub struct Resolved {
    pub(super) seq: ParentSeq,
    pub(super) wish: Wish,
    /// The frame that was there; `None` if nobody has looked.
    pub(super) pfn: Option<Pfn>,
    pub(super) prot: Prot,
    pub(super) rc: Rc,
}

/// What is taken away from translations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Permission.
    pub prot: Prot,
    /// Reference and change bits.
    pub rc: Rc,
}

/// Why a child's fault found no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The parent does not translate the guest's address for this access: that fault comes first.
    Parent,
    /// Something changed meanwhile: enter the child again, it will fault again if it must.
    Retry,
    /// The address is beyond the child's tables, or the guest's own table does not allow the access.
    Unfit,
    /// No memory for a table or a record.
    NoMemory,
    /// There is no such child any more.
    NoChild,
}

impl Taken {
    /// The change bit.
    pub const CHANGED: Self = Self { prot: Prot::empty(), rc: Rc::CHANGED };
    /// The reference bit.
    pub const REFERENCED: Self = Self { prot: Prot::empty(), rc: Rc::REFERENCED };

    pub(super) fn from(self, leaf: Leaf) -> Leaf {
        Leaf { pfn: leaf.pfn, prot: leaf.prot.difference(self.prot), rc: leaf.rc.difference(self.rc) }
    }
}
