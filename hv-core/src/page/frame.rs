//! A frame that somebody owns.

use crate::addr::{Order, Pfn};

/// `2^order` frames taken from the allocator, owned by whoever holds this value.
///
/// It cannot be copied and is not to be dropped: it goes back through [`super::Frames::free`], or is stored in a table as
/// a number by [`Frame::into_pfn`], whose owner makes it a `Frame` again when the entry is removed. A dropped one is
/// memory lost; the dev profile stops there.
#[derive(Debug)]
#[must_use = "a frame is freed or stored, never dropped"]
pub struct Frame {
    pfn: Pfn,
    order: Order,
    owned: Owned,
}

/// The part that notices being dropped, so that `Frame` itself can be taken apart.
#[derive(Debug)]
struct Owned(bool);

impl Drop for Owned {
    fn drop(&mut self) {
        debug_assert!(!self.0, "a frame was dropped instead of freed");
    }
}

impl Frame {
    /// Only the allocator, and the owner of a table out of which the number was just taken, make one.
    pub(crate) fn owned(pfn: Pfn, order: Order) -> Self {
        Self { pfn, order, owned: Owned(true) }
    }

    /// Its first frame number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// Its size.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }

    /// Gives up the value for the number; ownership goes to the table it is stored in.
    #[must_use]
    pub fn into_pfn(mut self) -> Pfn {
        self.owned.0 = false;
        self.pfn
    }
}
