//! A frame that somebody owns, and what its bytes may be shown to.
//!
//! ```text
//!   Frames::alloc -> Frame --zero--> Zeroed ------+--> GuestFrame -> a leaf of a host table, or a page of an object
//!                      |  \--fill----------------/          |
//!                      |   zeroed::take -> Zeroed           | out of the table again: bracket, grace period (R20)
//!   Frames::free <-----+------ Zeroed::into_frame           v
//!   Frames::free_guest <------------------------- Retired<GuestFrame>
//!   Frames::free_run   <------------------------- Retired<GuestRun>: many that lie side by side
//!
//!   Frames::alloc_table -> TableRef -> unlinked, grace period -> Retired<TableRef> -> Frames::free_table
//! ```
//!
//! Two things follow from there being no other arrows. A guest never sees what a frame held before: only zeroing and
//! filling lead to [`GuestFrame`], and each writes all of it. And a frame of the hypervisor's own never becomes a
//! guest's: what is a table has no value of these types, and a number is made one again only in this crate, by the owner
//! of the table out of which it was just taken.

use core::iter;

use super::MAX_ORDER;
use crate::addr::{Order, Pfn};
use crate::machine::Machine;

/// `2^order` frames taken from the allocator, owned by whoever holds this value; their content is arbitrary.
///
/// It cannot be copied and is not to be dropped (R24): it goes back through [`super::Frames::free`], or becomes one of
/// the types below. A dropped one is memory lost; the dev profile stops there.
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

/// What a page of a new guest frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Zeros.
    Zeros,
    /// The bytes of this frame, which is guest memory that nobody writes meanwhile and that is not freed meanwhile.
    CopyOf(Pfn),
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

    /// Gives up the value for the number; whoever stores the number owns the frames.
    #[must_use]
    pub fn into_pfn(mut self) -> Pfn {
        self.owned.0 = false;
        self.pfn
    }

    /// Fills it with zeros, all of it.
    pub fn zero<M: Machine>(self, m: &M) -> Zeroed {
        m.zero(self.pfn, self.order);
        Zeroed(self)
    }

    /// Gives every page of it, in order, the content that `of` names; `of` is given the page's place in the block.
    pub fn fill<M: Machine>(self, m: &M, mut of: impl FnMut(u64) -> Content) -> GuestFrame {
        for n in 0..self.order.pages() {
            let page = Pfn(self.pfn.0 | n);
            match of(n) {
                Content::Zeros => m.zero(page, Order::PAGE),
                Content::CopyOf(from) => m.copy(from, page),
            }
        }
        GuestFrame(self)
    }
}

/// Frames that hold zeros and that nobody has been shown.
#[derive(Debug)]
#[must_use = "a frame is freed or stored, never dropped"]
pub struct Zeroed(Frame);

impl Zeroed {
    /// Only the pool of zeroed frames, which keeps numbers.
    pub(super) fn known(pfn: Pfn, order: Order) -> Self {
        Self(Frame::owned(pfn, order))
    }

    /// Its first frame number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.0.pfn
    }

    /// Its size.
    #[must_use]
    pub fn order(&self) -> Order {
        self.0.order
    }

    /// Lends page `n` of it as if it was a block of its own.
    pub(crate) fn with_page(&self, n: u64, f: impl FnOnce(&Self)) {
        debug_assert!(n < self.0.order.pages(), "a page beyond the block");
        let page = Self::known(Pfn(self.0.pfn.0 | n), Order::PAGE);
        f(&page);
        // The block still owns it.
        let _ = page.into_frame().into_pfn();
    }

    /// Forgets that it holds zeros.
    pub fn into_frame(self) -> Frame {
        self.0
    }
}

/// Frames whose every byte is the guest's to see. Host tables and objects take and give back nothing else.
///
/// Neither a frame of arbitrary content, nor a table, nor a mere number becomes one:
///
/// ```compile_fail,E0277
/// # use hv_core::page::{Frame, GuestFrame};
/// fn stale(frame: Frame) -> GuestFrame { frame.into() }
/// ```
/// ```compile_fail,E0277
/// # use hv_core::{page::GuestFrame, radix::format::TableRef};
/// fn own(table: TableRef) -> GuestFrame { table.into() }
/// ```
/// ```compile_fail,E0624
/// # use hv_core::{addr::{Order, Pfn}, page::GuestFrame};
/// fn number(pfn: Pfn) -> GuestFrame { GuestFrame::owned(pfn, Order::PAGE) }
/// ```
///
/// There is no way back to [`Frame`]: a guest may have a translation of it, and a walk the number, so it ends as
/// [`crate::epoch::Retired`] and through [`super::Frames::free_guest`].
#[derive(Debug)]
#[must_use = "a frame is freed or stored, never dropped"]
pub struct GuestFrame(Frame);

impl From<Zeroed> for GuestFrame {
    fn from(zeroed: Zeroed) -> Self {
        Self(zeroed.0)
    }
}

impl GuestFrame {
    /// Only the owner of the table or object out of which the number was just taken; it may be a part of the block that
    /// went in.
    pub(crate) fn owned(pfn: Pfn, order: Order) -> Self {
        Self(Frame::owned(pfn, order))
    }

    /// Its first frame number.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.0.pfn
    }

    /// Its size.
    #[must_use]
    pub fn order(&self) -> Order {
        self.0.order
    }

    /// Gives up the value for the number; ownership goes to the table or object that stores it.
    #[must_use]
    pub fn into_pfn(self) -> Pfn {
        self.0.into_pfn()
    }

    /// What the allocator takes back.
    pub(super) fn into_frame(self) -> Frame {
        self.0
    }
}

/// Guest frames that lie side by side, on their way back together, however many blocks they came from.
#[derive(Debug)]
#[must_use = "frames are freed, never dropped"]
pub struct GuestRun {
    first: Pfn,
    pages: u64,
    owned: Owned,
}

impl GuestRun {
    /// Only the owner of the table out of which the numbers were just taken.
    pub(crate) fn owned(first: Pfn, pages: u64) -> Self {
        Self { first, pages, owned: Owned(true) }
    }

    /// The largest blocks that it can be cut into, each aligned to its size.
    pub(super) fn into_blocks(mut self) -> impl Iterator<Item = (Pfn, Order)> + Clone {
        self.owned.0 = false;
        let (mut at, mut left) = (self.first.0, self.pages);
        iter::from_fn(move || {
            let most = left.checked_ilog2()?.min(at.trailing_zeros()).min(MAX_ORDER.into());
            let (pfn, order) = (Pfn(at), Order::new(most as u8)?);
            (at, left) = (at.wrapping_add(order.pages()), left.wrapping_sub(order.pages()));
            Some((pfn, order))
        })
    }
}

#[cfg(all(test, debug_assertions, not(any(loom, shuttle))))]
mod tests {
    use super::Frame;
    use crate::addr::{Order, Pfn};

    #[test]
    #[should_panic(expected = "dropped instead of freed")]
    fn r24_a_dropped_frame_stops_the_dev_profile() {
        drop(Frame::owned(Pfn(5), Order::PAGE));
    }
}
