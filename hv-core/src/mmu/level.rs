//! How large a translation may be: the smallest of all the bounds (R11). Pure; called by `Fresh::install` only, with the
//! host table's leaf as it is in the same commit section, never with what a page is part of (R12).

use crate::addr::{Gfn, GfnRange, Hvn, Order, Orders, Pfn};
use crate::isa::SizeRule;
use crate::memslot::Slot;

/// What bounds the size of one translation.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// The faulting guest frame.
    pub gfn: Gfn,
    /// Its host page.
    pub hvn: Hvn,
    /// Its physical frame.
    pub pfn: Pfn,
    /// The size of the host table's leaf.
    pub host: Order,
    /// The window it is seen through.
    pub slot: &'a Slot,
    /// What stage 2 can do, or what the guest chose.
    pub rule: SizeRule,
    /// What the VM's dirty log wants.
    pub log: Logging,
}

/// Is it noted which pages are stored to?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logging {
    /// No.
    Off,
    /// Yes, page by page: no translation whose size we choose is larger (exhibit E6). One whose size the guest chose is noted
    /// whole.
    On,
}

/// Why a translation may not have a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The host table's leaf is smaller.
    Primary,
    /// Guest, host and physical addresses do not agree modulo the size (G3).
    Askew,
    /// The slot does not show all of it.
    Slot,
    /// Stage 2 has no leaf of that size, or the guest chose another.
    Stage2,
    /// The dirty log wants to know of each page.
    DirtyLog,
}

/// The order to map with; an error only if the guest chose the size, and it cannot be had.
#[inline(always)]
pub fn order(b: &Bounds<'_>) -> Result<Order, Limit> {
    match b.rule {
        // Most often, and no bound is lower.
        SizeRule::AnyOf(_) if b.host == Order::PAGE || b.log == Logging::On => Ok(Order::PAGE),
        SizeRule::AnyOf(orders) => Ok(largest(b, orders)),
        SizeRule::Exactly(wanted) => fits(b, wanted).map(|()| wanted),
    }
}

/// The largest of these sizes that all bounds allow.
fn largest(b: &Bounds<'_>, orders: Orders) -> Order {
    let mut left = orders.up_to(b.host);
    while let Some(order) = left.largest().filter(|order| *order > Order::PAGE) {
        if allows(b, order).is_ok() {
            return order;
        }
        left = left.without(order);
    }
    Order::PAGE
}

/// May the translation be of this size?
#[inline]
pub fn allows(b: &Bounds<'_>, order: Order) -> Result<(), Limit> {
    match b.rule {
        SizeRule::AnyOf(_) if b.log == Logging::On && order > Order::PAGE => return Err(Limit::DirtyLog),
        SizeRule::AnyOf(orders) if orders.contains(order) => {}
        SizeRule::Exactly(wanted) if wanted == order => {}
        SizeRule::AnyOf(_) | SizeRule::Exactly(_) => return Err(Limit::Stage2),
    }
    fits(b, order)
}

/// May it, if it is a size that stage 2 and the log want?
#[inline(always)]
fn fits(b: &Bounds<'_>, order: Order) -> Result<(), Limit> {
    if order > b.host {
        return Err(Limit::Primary);
    }
    // Two numbers agree modulo a power of two if they do not differ in the bits below it.
    if !order.aligned((b.gfn.0 ^ b.hvn.0) | (b.gfn.0 ^ b.pfn.0)) {
        return Err(Limit::Askew);
    }
    match GfnRange::block(b.gfn, order) {
        Some(block) if b.slot.gfns().covers(&block) => Ok(()),
        _ => Err(Limit::Slot),
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Limit, Logging, allows, order};
    use crate::addr::{Gfn, GfnRange, Hvn, Order, Orders, Pfn};
    use crate::isa::SizeRule;
    use crate::memslot::Slot;
    use crate::radix::format::Prot;

    fn slot(gfn: u64, pages: u64, hvn: u64) -> Slot {
        Slot::new(GfnRange::new(Gfn(gfn), pages).unwrap(), Hvn(hvn), Prot::all()).unwrap()
    }

    fn o(k: u8) -> Order {
        Order::new(k).unwrap()
    }

    fn up_to(k: u8) -> SizeRule {
        SizeRule::AnyOf((0..=k).fold(Orders::NONE, |set, k| set.with(o(k))))
    }

    fn bounds(slot: &Slot, gfn: u64, pfn: u64, host: u8, rule: SizeRule) -> Bounds<'_> {
        let hvn = slot.hvn(Gfn(gfn)).unwrap();
        Bounds { gfn: Gfn(gfn), hvn, pfn: Pfn(pfn), host: o(host), slot, rule, log: Logging::Off }
    }

    /// The size, and why the next larger one is refused.
    fn ask(slot: &Slot, gfn: u64, pfn: u64, host: u8, rule: SizeRule) -> (u8, Limit) {
        let b = bounds(slot, gfn, pfn, host, rule);
        let got = order(&b).unwrap();
        assert_eq!(allows(&b, got), Ok(()));
        (got.get(), allows(&b, o(got.get() + 1)).unwrap_err())
    }

    #[test]
    fn r11_the_smallest_bound_wins_and_says_so() {
        let whole = slot(0, 1024, 0x10000);
        let any = up_to(12);
        assert_eq!(ask(&whole, 5, 1024 + 5, 9, any), (9, Limit::Primary));
        assert_eq!(ask(&whole, 5, 1024 + 5, 0, any), (0, Limit::Primary));
        assert_eq!(ask(&whole, 5, 1024 + 5, 9, up_to(3)), (3, Limit::Stage2));
        assert_eq!(ask(&slot(4, 600, 0x10004), 5, 1024 + 5, 9, any), (2, Limit::Slot), "R11: begins inside the block");
        assert_eq!(ask(&slot(0, 7, 0x10000), 5, 1024 + 5, 9, any), (1, Limit::Slot), "R11: ends inside the block");
        assert_eq!(ask(&slot(0, 512, 0x10000), 511, 1024 + 511, 10, any), (9, Limit::Slot), "is the block");
    }

    #[test]
    fn g3_addresses_agree_modulo_the_size() {
        let any = up_to(12);
        assert_eq!(ask(&slot(0, 1024, 0x10001), 5, 512 + 5, 9, any), (0, Limit::Askew), "host address");
        assert_eq!(ask(&slot(0, 1024, 0x10100), 5, 512 + 5, 9, any), (8, Limit::Askew), "host address");
        assert_eq!(ask(&slot(0, 1024, 0x10000), 5, 512 + 5 + 8, 9, any), (3, Limit::Askew), "frame");
        assert_eq!(ask(&slot(4, 1024, 0x10000), 5, 512 + 1, 9, any), (2, Limit::Askew), "guest address");
    }

    #[test]
    fn r11_sizes_that_stage_2_has_no_leaf_for_are_passed_over() {
        let whole = slot(0, 1 << 20, 1 << 30);
        let two = SizeRule::AnyOf(Orders::NONE.with(Order::PAGE).with(Order::MIB2).with(Order::GIB));
        for (host, want) in [(0, 0), (8, 0), (9, 9), (17, 9), (18, 18), (20, 18)] {
            let b = bounds(&whole, 5, 5, host, two);
            assert_eq!(order(&b), Ok(o(want)), "host leaf of order {host}");
        }
    }

    #[test]
    fn r11_with_a_dirty_log_only_the_guest_chooses_large_ones() {
        let whole = slot(0, 1024, 0x10000);
        let logged = |rule| Bounds { log: Logging::On, ..bounds(&whole, 5, 512 + 5, 9, rule) };
        assert_eq!(order(&logged(up_to(12))), Ok(o(0)));
        assert_eq!(allows(&logged(up_to(12)), o(1)), Err(Limit::DirtyLog));
        assert_eq!(order(&logged(SizeRule::Exactly(o(9)))), Ok(o(9)));
        assert_eq!(order(&logged(SizeRule::Exactly(o(10)))), Err(Limit::Primary));
    }

    #[test]
    fn the_guests_own_size_is_met_or_refused() {
        let whole = slot(0, 1024, 0x10000);
        let exactly = |k| SizeRule::Exactly(o(k));
        assert_eq!(order(&bounds(&whole, 5, 512 + 5, 9, exactly(4))), Ok(o(4)));
        assert_eq!(order(&bounds(&whole, 5, 512 + 5, 0, exactly(4))), Err(Limit::Primary));
        assert_eq!(order(&bounds(&whole, 5, 512 + 6, 9, exactly(4))), Err(Limit::Askew));
        assert_eq!(order(&bounds(&slot(0, 8, 0x10000), 5, 512 + 5, 9, exactly(4))), Err(Limit::Slot));
        assert_eq!(allows(&bounds(&whole, 5, 512 + 5, 9, exactly(4)), Order::PAGE), Err(Limit::Stage2));
    }
}
