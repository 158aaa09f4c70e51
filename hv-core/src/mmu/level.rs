//! How large a translation may be: the smallest of all the bounds (R11).

use crate::addr::{Gfn, Order, Pfn};
use crate::isa::SizeRule;
use crate::memslot::Slot;

/// What bounds the size of one translation.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// The faulting guest frame.
    pub gfn: Gfn,
    /// Its physical frame.
    pub pfn: Pfn,
    /// The size of the host table's leaf now, never what the page is part of (R12).
    pub host: Order,
    /// The window it is seen through.
    pub slot: &'a Slot,
    /// What stage 2 can do, or what the guest chose.
    pub rule: SizeRule,
}

/// No size satisfies the guest's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall;

/// The order to map with.
///
/// Guest, host and physical addresses must agree modulo the size (G3), the whole of it must lie in the slot, and it may
/// not exceed the host's leaf.
pub fn order(b: &Bounds<'_>) -> Result<Order, TooSmall> {
    let fine = |o: &Order| *o <= b.host && fits(b, *o);
    match b.rule {
        SizeRule::AnyOf(orders) => Ok(orders.largest_first().find(fine).unwrap_or(Order::PAGE)),
        SizeRule::Exactly(wanted) => Some(wanted).filter(fine).ok_or(TooSmall),
    }
}

fn fits(b: &Bounds<'_>, o: Order) -> bool {
    let Some(hvn) = b.slot.hvn(b.gfn) else { return false };
    let inside = b.gfn.0 - o.align_down(b.gfn.0);
    let agree = hvn.0 - o.align_down(hvn.0) == inside && b.pfn.0 - o.align_down(b.pfn.0) == inside;
    agree && crate::addr::GfnRange::block(b.gfn, o).is_some_and(|block| b.slot.gfns().covers(&block))
}

#[cfg(test)]
mod tests {
    use super::{Bounds, TooSmall, order};
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

    fn ask(slot: &Slot, gfn: u64, pfn: u64, host: u8, rule: SizeRule) -> Result<Order, TooSmall> {
        order(&Bounds { gfn: Gfn(gfn), pfn: Pfn(pfn), host: o(host), slot, rule })
    }

    #[test]
    fn r11_the_smallest_bound_wins() {
        let whole = slot(0, 1024, 0x10000);
        let any = up_to(9);
        assert_eq!(ask(&whole, 5, 512 + 5, 9, any), Ok(o(9)));
        assert_eq!(ask(&whole, 5, 512 + 5, 4, any), Ok(o(4)), "host leaf");
        assert_eq!(ask(&whole, 5, 512 + 5, 9, up_to(3)), Ok(o(3)), "stage 2");
        assert_eq!(ask(&slot(4, 600, 0x10004), 5, 512 + 5, 9, any), Ok(o(2)), "slot begins inside the block");
        assert_eq!(ask(&slot(0, 7, 0x10000), 5, 512 + 5, 9, any), Ok(o(1)), "slot ends inside the block");
    }

    #[test]
    fn g3_addresses_agree_modulo_the_size() {
        let any = up_to(9);
        assert_eq!(ask(&slot(0, 1024, 0x10001), 5, 512 + 5, 9, any), Ok(o(0)), "host address askew");
        assert_eq!(ask(&slot(0, 1024, 0x10000), 5, 512 + 5 + 8, 9, any), Ok(o(3)), "frame askew");
    }

    #[test]
    fn the_guests_own_size_is_met_or_refused() {
        let whole = slot(0, 1024, 0x10000);
        assert_eq!(ask(&whole, 5, 512 + 5, 9, SizeRule::Exactly(o(4))), Ok(o(4)));
        assert_eq!(ask(&whole, 5, 512 + 5, 0, SizeRule::Exactly(o(4))), Err(TooSmall));
    }
}
