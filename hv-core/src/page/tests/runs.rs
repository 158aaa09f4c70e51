//! Frames that come back side by side.

use proptest::prelude::*;

use super::super::GuestRun;
use super::{cpus, frames, o};
use crate::addr::{Order, Pfn};
use crate::epoch::{Domain, never_published};
use crate::page::MAX_ORDER;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn g1_a_run_is_cut_into_aligned_blocks_without_gap(first in 0..1_u64 << 20, pages in 1..5000_u64) {
        let mut at = first;
        let mut orders = Vec::new();
        for (pfn, order) in GuestRun::owned(Pfn(first), pages).into_blocks() {
            prop_assert_eq!(pfn, Pfn(at));
            prop_assert!(pfn.is_aligned(order) && order.get() <= MAX_ORDER);
            at += order.pages();
            orders.push(order);
        }
        prop_assert_eq!(at, first + pages);
        // Rising, then falling: nothing smaller than need be.
        let peak = orders.iter().position(|k| orders.iter().all(|other| other <= k)).unwrap();
        prop_assert!(orders[..peak].is_sorted() && orders[peak..].iter().rev().is_sorted());
    }

    #[test]
    fn r24_what_comes_back_by_runs_merges_with_all_else(cuts in prop::collection::vec(0..=2048_u64, 0..40)) {
        const PAGES: u64 = 2048;
        let domain = Domain::new();
        let ([a, b, _], all) = (cpus(&domain), frames(&[(1 << 11, PAGES)]));
        for _ in 0..PAGES {
            let _owned_by_runs = all.alloc(&a, Order::PAGE).unwrap().into_pfn();
        }
        prop_assert!(all.alloc(&b, Order::PAGE).is_none());
        let mut edges: Vec<u64> = cuts.into_iter().chain([0, PAGES]).collect();
        edges.sort_unstable();
        let mut back = 0;
        for (n, ends) in edges.windows(2).enumerate().filter(|(_, ends)| ends[0] < ends[1]) {
            let run = GuestRun::owned(Pfn(PAGES + ends[0]), ends[1] - ends[0]);
            all.free_run(if n % 2 == 0 { &a } else { &b }, never_published(run));
            back += ends[1] - ends[0];
            prop_assert_eq!(all.counts().free, back);
        }
        let whole = all.alloc(&b, o(11)).expect("all merges back to 8 MiB");
        all.free(&b, whole);
    }
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "freed that was not allocated")]
fn g1_a_run_with_a_free_frame() {
    let domain = Domain::new();
    let ([a, b, _], all) = (cpus(&domain), frames(&[(0, 64)]));
    let taken: Vec<_> = (0..64).map(|_| all.alloc(&a, Order::PAGE).unwrap()).collect();
    for frame in taken {
        if frame.pfn() == Pfn(21) {
            all.free(&b, frame);
        } else {
            let _owned_by_the_run = frame.into_pfn();
        }
    }
    all.free_run(&a, never_published(GuestRun::owned(Pfn(0), 64)));
}
