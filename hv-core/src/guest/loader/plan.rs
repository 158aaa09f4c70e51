//! Where a guest's images go in its memory: a pure function of their sizes.

use super::{LoadError, Piece, Span};
use crate::addr::Gpa;

/// Images are placed at multiples of this: the largest base page of any supported guest.
pub const IMAGE_ALIGN: u64 = 64 << 10;

/// The sizes from which a [`Plan`] is made, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The VM's memory, which begins at address 0.
    pub ram: u64,
    /// Nothing is placed at or above this address: what the guest can reach in its first moments.
    pub ceiling: u64,
    /// The initial RAM disk; 0 if there is none.
    pub initrd: u64,
    /// Room for the tree.
    pub tree: u64,
    /// Room for firmware that stays; 0 if there is none.
    pub firmware: u64,
}

/// Where everything goes: kernel, initial RAM disk, tree, firmware, in this order from below.
///
/// The pieces begin at multiples of [`IMAGE_ALIGN`], so no two share a page of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The initial RAM disk; empty if there is none.
    pub initrd: Span,
    /// The tree.
    pub tree: Span,
    /// The firmware that stays; empty if there is none.
    pub firmware: Span,
}

impl Plan {
    /// Places the pieces behind a kernel that ends at `kernel_end`, below memory's end and the ceiling.
    pub fn new(kernel_end: Gpa, sizes: Sizes) -> Result<Self, LoadError> {
        let mut at = fit(Piece::Kernel, Some(kernel_end), sizes.ram)?;
        let limit = sizes.ram.min(sizes.ceiling);
        let mut place = |piece, size: u64| {
            let start = fit(piece, at.0.checked_next_multiple_of(IMAGE_ALIGN).map(Gpa), limit)?;
            let end = fit(piece, start.checked_add(size), limit)?;
            at = end;
            Ok::<_, LoadError>(Span { start, end })
        };
        Ok(Self {
            initrd: place(Piece::Initrd, sizes.initrd)?,
            tree: place(Piece::Tree, sizes.tree)?,
            firmware: place(Piece::Firmware, sizes.firmware)?,
        })
    }
}

fn fit(piece: Piece, end: Option<Gpa>, limit: u64) -> Result<Gpa, LoadError> {
    let end = end.unwrap_or(Gpa(u64::MAX));
    if end.0 <= limit && end.0 != u64::MAX { Ok(end) } else { Err(LoadError::DoesNotFit { piece, end: end.0, limit }) }
}

#[cfg(test)]
mod tests {
    use super::{IMAGE_ALIGN, Plan, Sizes};
    use crate::addr::Gpa;
    use crate::guest::loader::{LoadError, Piece, Span};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    const SIZES: Sizes = Sizes { ram: 512 << 20, ceiling: 256 << 20, initrd: 1 << 20, tree: 0x1_8000, firmware: 20 };

    fn span(start: u64, end: u64) -> Span {
        Span { start: Gpa(start), end: Gpa(end) }
    }

    #[test]
    fn pieces_follow_one_another_from_below() {
        let plan = Plan::new(Gpa(0x12_3456), SIZES).unwrap();
        assert_eq!(plan.initrd, span(0x13_0000, 0x23_0000));
        assert_eq!(plan.tree, span(0x23_0000, 0x24_8000));
        assert_eq!(plan.firmware, span(0x25_0000, 0x25_0014));
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_limit() {
        let none = |sizes, kernel| Plan::new(Gpa(kernel), sizes).unwrap_err();
        let fits = |piece, end, limit| LoadError::DoesNotFit { piece, end, limit };
        assert_eq!(none(SIZES, (512 << 20) + 1), fits(Piece::Kernel, (512 << 20) + 1, 512 << 20));
        let big = Sizes { initrd: 300 << 20, ..SIZES };
        assert_eq!(none(big, 0x1_0000), fits(Piece::Initrd, (300 << 20) + 0x1_0000, 256 << 20));
        let absurd = Sizes { initrd: u64::MAX, ..SIZES };
        assert_eq!(none(absurd, 0x1_0000), fits(Piece::Initrd, u64::MAX, 256 << 20));
        let low = Sizes { ceiling: 0x25_0000, ..SIZES };
        assert_eq!(none(low, 0x12_3456), fits(Piece::Firmware, 0x25_0014, 0x25_0000));
        let text = alloc::format!("{}", none(low, 0x12_3456));
        assert_eq!(text, "the VM's memory is too small: its firmware would end at 0x250014, the limit is 0x250000");
    }

    proptest! {
        /// R26: whatever the sizes, either an error or pieces that lie apart, behind the kernel, below the limit.
        #[test]
        fn pieces_never_overlap(
            kernel in any::<u64>(), ram in any::<u64>(), ceiling in any::<u64>(), sizes in any::<[u64; 3]>(),
            shifts in proptest::array::uniform6(0_u32..64),
        ) {
            let [initrd, tree, firmware] = [sizes[0] >> shifts[0], sizes[1] >> shifts[1], sizes[2] >> shifts[2]];
            let sizes = Sizes { ram: ram >> shifts[3], ceiling: ceiling >> shifts[4], initrd, tree, firmware };
            if let Ok(plan) = Plan::new(Gpa(kernel >> shifts[5]), sizes) {
                let mut at = kernel >> shifts[5];
                for (span, size) in [(plan.initrd, initrd), (plan.tree, tree), (plan.firmware, firmware)] {
                    prop_assert!(span.start.0 >= at && span.start.0 % IMAGE_ALIGN == 0);
                    prop_assert_eq!(span.end.0 - span.start.0, size);
                    at = span.end.0;
                }
                prop_assert!(at <= sizes.ram.min(sizes.ceiling));
            }
        }
    }
}
