//! Addresses, frame numbers and ranges, and the only arithmetic on them.
//!
//! A page is 4 KiB. Sizes are orders: an [`Order`] of `k` is `2^k` pages. Every operation that can leave the address
//! space answers `None`: the numbers may come from a guest or from firmware (R26).

/// log2 of the page size in bytes.
pub const PAGE_SHIFT: u32 = 12;
/// The page size in bytes.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// log2 of a size in pages. 0 is 4 KiB, 9 is 2 MiB, 18 is 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(u8);

impl Order {
    /// One page.
    pub const PAGE: Self = Self(0);
    /// 64 KiB.
    pub const KIB64: Self = Self(4);
    /// 16 MiB.
    pub const MIB16: Self = Self(12);
    /// 2 MiB.
    pub const MIB2: Self = Self(9);
    /// 1 GiB.
    pub const GIB: Self = Self(18);
    /// The largest order there is: 2^40 pages.
    pub const MAX: Self = Self(40);

    /// The order `k`, if it is at most [`Order::MAX`].
    #[must_use]
    pub const fn new(k: u8) -> Option<Self> {
        if k <= Self::MAX.0 { Some(Self(k)) } else { None }
    }

    /// The exponent.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The size in pages.
    #[must_use]
    pub const fn pages(self) -> u64 {
        1 << self.0
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.pages() << PAGE_SHIFT
    }

    /// True if a page number is a multiple of this size.
    #[must_use]
    pub const fn aligned(self, page: u64) -> bool {
        page & (self.pages() - 1) == 0
    }

    /// The page number rounded down to a multiple of this size.
    #[must_use]
    pub const fn align_down(self, page: u64) -> u64 {
        page & !(self.pages() - 1)
    }

    /// The smallest order whose size is at least `pages`; `None` for 0 and for more than [`Order::MAX`].
    #[must_use]
    pub const fn covering(pages: u64) -> Option<Self> {
        match pages.checked_next_power_of_two() {
            Some(p) if pages != 0 && p.trailing_zeros() <= Self::MAX.0 as u32 => Some(Self(p.trailing_zeros() as u8)),
            _ => None,
        }
    }
}

/// A set of sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders(u64);

impl Orders {
    /// No size.
    pub const NONE: Self = Self(0);

    /// The set with `order` added.
    #[must_use]
    pub const fn with(self, order: Order) -> Self {
        Self(self.0 | 1 << order.0)
    }

    /// True if `order` is in it.
    #[must_use]
    pub const fn contains(self, order: Order) -> bool {
        self.0 >> order.0 & 1 == 1
    }

    /// Those of its members that are at most `order`.
    #[must_use]
    pub const fn up_to(self, order: Order) -> Self {
        Self(self.0 & (u64::MAX >> (u64::BITS - 1 - order.0 as u32)))
    }

    /// The set without `order`.
    #[must_use]
    pub const fn without(self, order: Order) -> Self {
        Self(self.0 & !(1 << order.0))
    }

    /// Its largest member; `None` if it is empty.
    #[must_use]
    pub const fn largest(self) -> Option<Order> {
        match self.0.checked_ilog2() {
            Some(k) => Order::new(k as u8),
            None => None,
        }
    }
}

macro_rules! page_number {
    ($(#[$doc:meta])* $name:ident, $addr:ident, $(#[$adoc:meta])*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The page `n` further on.
            #[must_use]
            pub const fn checked_add(self, n: u64) -> Option<Self> {
                match self.0.checked_add(n) {
                    Some(v) => Some(Self(v)),
                    None => None,
                }
            }

            /// How many pages this one lies after `base`; `None` if it lies before.
            #[must_use]
            pub const fn since(self, base: Self) -> Option<u64> {
                self.0.checked_sub(base.0)
            }

            /// Rounded down to a multiple of `order`.
            #[must_use]
            pub const fn align_down(self, order: Order) -> Self {
                Self(order.align_down(self.0))
            }

            /// True if it is a multiple of `order`.
            #[must_use]
            pub const fn is_aligned(self, order: Order) -> bool {
                order.aligned(self.0)
            }

            /// Address of the page's first byte; `None` if it does not fit in 64 bits.
            #[must_use]
            pub const fn addr(self) -> Option<$addr> {
                if self.0 > (u64::MAX >> PAGE_SHIFT) { None } else { Some($addr(self.0 << PAGE_SHIFT)) }
            }
        }

        $(#[$adoc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $addr(pub u64);

        impl $addr {
            /// The address `bytes` further on.
            #[must_use]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(v) => Some(Self(v)),
                    None => None,
                }
            }

            /// The page that holds this address.
            #[must_use]
            pub const fn page(self) -> $name {
                $name(self.0 >> PAGE_SHIFT)
            }

            /// Offset in its page, in bytes; less than [`PAGE_SIZE`].
            #[must_use]
            pub const fn offset(self) -> usize {
                (self.0 & (PAGE_SIZE as u64 - 1)) as usize
            }
        }
    };
}

page_number!(
    /// Guest frame number: a guest physical address in pages.
    Gfn, Gpa,
    /// Guest physical address (on POWER: guest real address), in bytes.
);
page_number!(
    /// Physical frame number: a page of the machine's RAM.
    Pfn, Hpa,
    /// Host physical address, in bytes.
);
page_number!(
    /// A page of a VM's host space, see [`Hva`].
    Hvn, Hva,
    /// An address in a VM's host space: Trivet's own window onto that VM's memory. Nothing dereferences it.
);

macro_rules! page_range {
    ($(#[$doc:meta])* $name:ident, $page:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            start: $page,
            pages: u64,
        }

        impl $name {
            /// `pages` pages from `start`; `None` if empty or if the end does not fit in 64 bits.
            #[must_use]
            pub const fn new(start: $page, pages: u64) -> Option<Self> {
                if pages == 0 || start.0.checked_add(pages).is_none() {
                    return None;
                }
                Some(Self { start, pages })
            }

            /// The block of `order` that holds `page`; `None` at the very end of the number space.
            #[must_use]
            pub const fn block(page: $page, order: Order) -> Option<Self> {
                Self::new(page.align_down(order), order.pages())
            }

            /// The first page.
            #[must_use]
            pub const fn start(&self) -> $page {
                self.start
            }

            /// How many pages; never 0.
            #[must_use]
            pub const fn pages(&self) -> u64 {
                self.pages
            }

            /// The first page after the range.
            #[must_use]
            pub const fn end(&self) -> $page {
                // new() checked the sum.
                $page(self.start.0.wrapping_add(self.pages))
            }

            /// True if `page` lies inside.
            #[must_use]
            pub const fn contains(&self, page: $page) -> bool {
                page.0 >= self.start.0 && page.0 < self.end().0
            }

            /// True if all of `other` lies inside.
            #[must_use]
            pub const fn covers(&self, other: &Self) -> bool {
                other.start.0 >= self.start.0 && other.end().0 <= self.end().0
            }

            /// What both have; `None` if nothing.
            #[must_use]
            pub fn intersect(&self, other: &Self) -> Option<Self> {
                let start = self.start.max(other.start);
                let end = self.end().min(other.end());
                Self::new(start, end.0.checked_sub(start.0)?)
            }

            /// The smallest range that covers both.
            #[must_use]
            pub fn hull(&self, other: &Self) -> Self {
                let start = self.start.min(other.start);
                let end = self.end().max(other.end());
                Self { start, pages: end.0.wrapping_sub(start.0) }
            }
        }
    };
}

page_range!(
    /// A non-empty range of guest frames.
    GfnRange, Gfn
);
page_range!(
    /// A non-empty range of physical frames.
    PfnRange, Pfn
);
page_range!(
    /// A non-empty range of pages of a host space.
    HvnRange, Hvn
);

#[cfg(test)]
mod tests {
    use super::{Gfn, GfnRange, Gpa, Order, Orders};

    #[test]
    fn r17_ranges_that_wrap_do_not_exist() {
        assert!(GfnRange::new(Gfn(u64::MAX), 2).is_none());
        assert!(GfnRange::new(Gfn(1), u64::MAX).is_none());
        assert!(GfnRange::new(Gfn(0), 0).is_none());
        assert!(Gpa(u64::MAX).checked_add(1).is_none());
        assert!(Gfn(u64::MAX).addr().is_none());
    }

    #[test]
    fn orders_cover_and_refuse() {
        assert_eq!(Order::covering(1), Some(Order::PAGE));
        assert_eq!(Order::covering(513).map(Order::get), Some(10));
        assert_eq!(Order::covering(0), None);
        assert_eq!(Order::covering(u64::MAX), None);
        assert_eq!(Order::new(41), None);
    }

    #[test]
    fn sets_of_orders_hold_what_was_put_in() {
        let set = Orders::NONE.with(Order::PAGE).with(Order::MIB2).with(Order::MAX);
        assert_eq!(set.largest(), Some(Order::MAX));
        assert_eq!(set.up_to(Order(39)).largest(), Some(Order::MIB2));
        assert_eq!(set.up_to(Order::MIB2), set.without(Order::MAX));
        assert_eq!(set.up_to(Order(8)).largest(), Some(Order::PAGE));
        assert_eq!(Orders::NONE.largest(), None);
        assert_eq!(set.up_to(Order::MAX), set);
    }

    #[test]
    fn intersection_and_hull_agree_with_membership() {
        let a = GfnRange::new(Gfn(4), 8).unwrap();
        let b = GfnRange::new(Gfn(10), 8).unwrap();
        let both = a.intersect(&b).unwrap();
        let hull = a.hull(&b);
        for n in 0..32 {
            assert_eq!(both.contains(Gfn(n)), a.contains(Gfn(n)) && b.contains(Gfn(n)));
            assert!(hull.contains(Gfn(n)) || !(a.contains(Gfn(n)) || b.contains(Gfn(n))));
        }
        let far = GfnRange::new(Gfn(100), 1).unwrap();
        assert!(a.intersect(&far).is_none());
        assert!(hull.covers(&a) && hull.covers(&b) && !a.covers(&b));
    }
}
