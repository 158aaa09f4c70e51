//! What `H_TLB_INVALIDATE` asks for: the operands of the `tlbie` that L1 would execute (Power ISA v3.0B, Book III 5.9.3.3).

use hv_core::addr::{Gfn, GfnRange, Order, PAGE_SHIFT};

/// What of an L2's translations goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Those of these pages of one L2.
    Pages(u32, GfnRange),
    /// All of one L2, and what was read of its entry of the partition table.
    One(u32),
    /// Those of all.
    All,
}

/// The instruction's fields in r4: RIC, PRS, R.
const RIC: u64 = 3 << 18;
const PRS: u64 = 1 << 17;
const RADIX: u64 = 1 << 16;
/// Operand RB: which translations, and of what size a page is.
const IS: u64 = 3 << 10;
const AP: u64 = 7 << 5;

/// Reads r4 to r6; `None` if they ask for what an L1 has not: hashed tables, process-scoped translations, an address of a page
/// walk cache.
#[must_use]
pub fn reach(instruction: u64, rs: u64, rb: u64) -> Option<Reach> {
    if instruction & (PRS | RADIX) != RADIX {
        return None;
    }
    let lpid = rs as u32;
    match ((rb & IS) >> 10, (instruction & RIC) >> 18) {
        (_, 3) => None,
        // One address; only translations proper have one.
        (0, 0) => {
            let order = Order::new(match (rb & AP) >> 5 {
                0 => 0,
                5 => 4,
                1 => 9,
                2 => 18,
                _ => return None,
            })?;
            Some(Reach::Pages(lpid, GfnRange::block(Gfn(rb >> PAGE_SHIFT), order)?))
        }
        (2, _) => Some(Reach::One(lpid)),
        (3, _) => Some(Reach::All),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{AP, IS, Reach, reach};
    use hv_core::addr::{Gfn, GfnRange};

    fn pages(first: u64, count: u64) -> Reach {
        Reach::Pages(7, GfnRange::new(Gfn(first), count).unwrap())
    }

    #[test]
    fn an_address_goes_with_the_page_around_it() {
        for (ap, first, count) in [(0, 0x12345, 1), (5, 0x12340, 16), (1, 0x12200, 512), (2, 0, 1 << 18)] {
            assert_eq!(reach(1 << 16, 7, 0x1234_5000 | ap << 5), Some(pages(first, count)), "{ap}");
        }
        for ap in [3, 4, 6, 7] {
            assert_eq!(reach(1 << 16, 7, ap << 5), None, "{ap}");
        }
    }

    #[test]
    fn what_trivet_and_linux_call_it_with_is_understood() {
        for ric in 0..3 {
            assert_eq!(reach(ric << 18 | 1 << 16, 7 | 1 << 32, 2 << 10), Some(Reach::One(7)));
            assert_eq!(reach(ric << 18 | 1 << 16, 0, IS), Some(Reach::All));
        }
    }

    #[test]
    fn r26_what_an_l1_has_not_is_refused() {
        for (instruction, rb) in [
            (0, 2 << 10),                 // not radix
            (1 << 16 | 1 << 17, 2 << 10), // process-scoped
            (3 << 18 | 1 << 16, 2 << 10), // RIC 3
            (1 << 16, 1 << 10),           // by process
            (1 << 18 | 1 << 16, 0),       // one address of a walk cache
            (2 << 18 | 1 << 16, 0),       // one address of everything
            (1 << 16, 7 << 5),            // no such size
        ] {
            assert_eq!(reach(instruction, 7, rb), None, "{instruction:#x} {rb:#x}");
        }
        // No address leads outside of what a range can be.
        for ap in 0..8 {
            let _ = reach(1 << 16, 7, !(IS | AP) | ap << 5);
        }
    }
}
