//! The allocator against a plain model of it, on several CPUs.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::frames::Found;
use super::{Counts, Frame, Frames, FramesError, MAX_ORDER};
use crate::addr::{Order, Pfn, PfnRange};
use crate::epoch::{Cpu, Domain};
use crate::host::HUGE;
use crate::machine::CpuId;
use crate::sync::{AtomicBool, Ordering};

mod runs;

/// A whole GiB, and ranges that nothing large fits into.
const RANGES: [(u64, u64); 3] = [(3, 1000), (5000, 7), (1 << 18, 1 << 18)];

fn frames(ranges: &[(u64, u64)]) -> Frames {
    let ranges: Vec<_> = ranges.iter().map(|&(at, n)| PfnRange::new(Pfn(at), n).unwrap()).collect();
    Frames::new(&ranges, vec![0; Frames::metadata_words(&ranges)].leak()).unwrap()
}

fn cpus(domain: &Domain) -> [Cpu; 3] {
    [0, 1, 2].map(|n| domain.cpu(CpuId(n)).unwrap())
}

fn o(k: u8) -> Order {
    Order::new(k).unwrap()
}

/// What is taken, by first frame.
#[derive(Default)]
struct Held(BTreeMap<u64, Frame>);

impl Held {
    fn add(&mut self, frame: Frame) {
        let (at, end) = (frame.pfn().0, frame.pfn().0 + frame.order().pages());
        assert!(frame.order().aligned(at), "misaligned");
        assert!(RANGES.iter().any(|&(first, n)| at >= first && end <= first + n), "outside of memory");
        assert!(!self.meets(at, end), "G1: {at:#x} is given out twice");
        self.0.insert(at, frame);
    }

    fn meets(&self, at: u64, end: u64) -> bool {
        self.0.range(..end).next_back().is_some_and(|(b, f)| b + f.order().pages() > at)
    }

    fn pages(&self) -> u64 {
        self.0.values().map(|f| f.order().pages()).sum()
    }

    /// True if some block of this order is free, wherever its parts lie.
    fn has_room(&self, order: Order) -> bool {
        let n = order.pages();
        RANGES.iter().any(|&(first, pages)| {
            let mut at = first.next_multiple_of(n);
            while at + n <= first + pages {
                if !self.meets(at, at + n) {
                    return true;
                }
                at += n;
            }
            false
        })
    }
}

#[derive(Clone, Debug)]
enum Step {
    Take(u8),
    /// Take until there is none.
    Exhaust(u8),
    Give(prop::sample::Index),
    /// Give so many back.
    GiveMany(prop::sample::Index, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![Just(0), Just(0), Just(9), 0..=10_u8, 0..=MAX_ORDER].prop_map(Step::Take),
        1 => (9..=MAX_ORDER).prop_map(Step::Exhaust),
        4 => any::<prop::sample::Index>().prop_map(Step::Give),
        1 => (any::<prop::sample::Index>(), 1..400_usize).prop_map(|(at, n)| Step::GiveMany(at, n)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn g1_every_block_that_is_free_can_be_had_by_any_cpu(steps in prop::collection::vec((0..3_usize, step()), 1..300)) {
        let domain = Domain::new();
        let (all, cpus) = (frames(&RANGES), cpus(&domain));
        let total = all.counts().total;
        let mut held = Held::default();
        // Some disorder to begin with.
        for n in 0..200 {
            held.add(all.alloc(&cpus[n % 3], Order::PAGE).unwrap());
        }
        let give = |held: &mut Held, cpu: &Cpu, at: &prop::sample::Index| {
            if held.0.is_empty() {
                return;
            }
            let key = *held.0.keys().nth(at.index(held.0.len())).unwrap();
            all.free(cpu, held.0.remove(&key).unwrap());
            assert!(all.is_free(Pfn(key)));
        };
        let take = |held: &mut Held, cpu: &Cpu, order: Order| match all.alloc(cpu, order) {
            Some(frame) => {
                assert!(!all.is_free(frame.pfn()));
                held.add(frame);
                true
            }
            None => {
                assert!(!held.has_room(order), "a free block of {order:?} was not found");
                false
            }
        };
        for (n, step) in &steps {
            let cpu = &cpus[*n];
            match step {
                Step::Take(k) => drop(take(&mut held, cpu, o(*k))),
                Step::Exhaust(k) => while take(&mut held, cpu, o(*k)) {},
                Step::Give(at) => give(&mut held, cpu, at),
                Step::GiveMany(at, n) => (0..*n).for_each(|n| give(&mut held, &cpus[n % 3], at)),
            }
            prop_assert_eq!(all.counts(), Counts { total, free: total - held.pages(), reserve: 0, refused: 0 });
        }
        for (n, (_, frame)) in held.0.into_iter().enumerate() {
            all.free(&cpus[n % 3], frame);
        }
        prop_assert_eq!(all.counts().free, total);
        let whole = all.alloc(&cpus[0], o(MAX_ORDER)).expect("all merges back to 1 GiB");
        all.free(&cpus[0], whole);
    }
}

#[test]
fn p8_exhaustion_is_an_answer() {
    let domain = Domain::new();
    let [cpu, other, _] = cpus(&domain);
    let few = frames(&[(0, 3)]);
    assert!(few.alloc(&cpu, o(2)).is_none());
    let (a, b) = (few.alloc(&cpu, o(1)).unwrap(), few.alloc(&other, o(0)).unwrap());
    assert!(few.alloc(&cpu, o(0)).is_none());
    assert!(!few.is_free(Pfn(2)));
    few.free(&cpu, a);
    few.free(&cpu, b);
    assert!(few.is_free(Pfn(2)) && !few.is_free(Pfn(3)));
    assert!(few.alloc(&cpu, Order::MAX).is_none());
}

#[test]
fn p8_what_another_cpu_keeps_is_found() {
    let domain = Domain::new();
    let [a, b, c] = cpus(&domain);
    let all = frames(&[(0, 512)]);
    let taken: Vec<_> = (0..512).map(|_| all.alloc(&a, Order::PAGE).unwrap()).collect();
    // Odd frames to one CPU, even ones to another, so that neither has two neighbours.
    for frame in taken {
        all.free(if frame.pfn().0 & 1 == 0 { &a } else { &b }, frame);
    }
    assert_eq!(all.counts().free, 512);
    let huge = all.alloc(&c, o(9)).expect("the halves that two caches hold merge");
    assert!(all.alloc(&c, Order::PAGE).is_none());
    all.free(&c, huge);
    let one = all.alloc(&a, Order::PAGE).expect("a huge block that another CPU keeps is split");
    all.free(&a, one);
}

/// Lines that CPUs share are written when the buddy or the pool is locked, and at no other time.
#[test]
fn frames_taken_and_given_back_disturb_nobody() {
    let domain = Domain::new();
    let [a, b, _] = cpus(&domain);
    let all = frames(&RANGES);
    for order in [Order::PAGE, HUGE] {
        for cpu in [&a, &b] {
            let warm = all.alloc(cpu, order).unwrap();
            all.free(cpu, warm);
        }
        let before = all.trips();
        for _ in 0..1000 {
            let (x, y) = (all.alloc(&a, order).unwrap(), all.alloc(&b, order).unwrap());
            // Each gives back what the other took.
            all.free(&a, y);
            all.free(&b, x);
        }
        assert_eq!(all.trips(), before, "{order:?}");
    }
    // Nor does a fault, which would rather have a zeroed frame, while no idle CPU has made any.
    let busy = all.pool().lock();
    let before = all.trips();
    for _ in 0..1000 {
        let Some(Found::Raw(frame)) = all.take_clean(&a, Order::PAGE) else { panic!("nothing was zeroed") };
        all.cache(&a).unwrap().push(frame.into_pfn(), Order::PAGE).unwrap();
    }
    assert_eq!(all.trips(), before);
    drop(busy);
    // One way only: a trip for every 32 frames, in either direction.
    let before = all.trips();
    let many: Vec<_> = (0..1024).map(|_| all.alloc(&a, Order::PAGE).unwrap()).collect();
    assert!(all.trips() - before <= 1024 / 32);
    many.into_iter().for_each(|frame| all.free(&b, frame));
    assert!(all.trips() - before <= 2 * 1024 / 32);
}

#[test]
fn g1_no_frame_has_two_owners_among_threads() {
    let (domain, all) = (Domain::new(), frames(&[(64, 700)]));
    let owned: Vec<AtomicBool> = (0..1024).map(|_| AtomicBool::new(false)).collect();
    let claim = |frame: &Frame, is: bool| {
        for n in 0..frame.order().pages() {
            let was = owned[(frame.pfn().0 + n) as usize].swap(is, Ordering::Relaxed);
            assert_ne!(was, is, "G1: a frame has two owners");
        }
    };
    std::thread::scope(|s| {
        for n in 0..3 {
            let (domain, all, claim) = (&domain, &all, &claim);
            s.spawn(move || {
                let cpu = domain.cpu(CpuId(n)).unwrap();
                let (mut held, mut x) = (Vec::new(), u64::from(n) + 1);
                for _ in 0..4000 {
                    x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    if x >> 62 != 0 {
                        let order = [0, 0, 0, 1, 3, 6, 9, 2][(x >> 40) as usize % 8];
                        let Some(frame) = all.alloc(&cpu, o(order)) else { continue };
                        claim(&frame, true);
                        held.push(frame);
                    } else {
                        for frame in held.drain(..held.len() / 2) {
                            claim(&frame, false);
                            all.free(&cpu, frame);
                        }
                    }
                }
                for frame in held {
                    claim(&frame, false);
                    all.free(&cpu, frame);
                }
            });
        }
    });
    assert_eq!(all.counts(), Counts { total: 700, free: 700, reserve: 0, refused: 0 });
}

#[test]
fn metadata_is_two_bits_a_frame_and_its_lack_is_noticed() {
    let gib = PfnRange::new(Pfn(0), 1 << MAX_ORDER).unwrap();
    let words = Frames::metadata_words(&[gib]);
    assert!(words * 64 < (1 << MAX_ORDER) * 22 / 10);
    let short = vec![0; words - 1].leak();
    assert_eq!(Frames::new(&[gib], short).err(), Some(FramesError::Metadata));
    let enough = vec![0; 2 * words].leak();
    assert_eq!(Frames::new(&[gib, gib], enough).err(), Some(FramesError::Overlap));
    assert_eq!(Frames::new(&[], &mut []).err(), Some(FramesError::Ranges));
}

#[cfg(debug_assertions)]
mod freed_twice {
    use super::{Domain, Frame, Order, Pfn, cpus, frames, o};

    /// Takes a block on one CPU, gives it back, and then once more.
    fn twice(order: Order, again: impl Fn(Pfn) -> (Pfn, Order)) {
        let domain = Domain::new();
        let [a, b, _] = cpus(&domain);
        let all = frames(&[(0, 2048)]);
        let frame = all.alloc(&a, order).unwrap();
        let pfn = frame.pfn();
        all.free(&a, frame);
        let (pfn, order) = again(pfn);
        all.free(&b, Frame::owned(pfn, order));
    }

    #[test]
    #[should_panic(expected = "freed that was not allocated")]
    fn g1_a_frame_in_another_cpus_cache() {
        twice(Order::PAGE, |pfn| (pfn, Order::PAGE));
    }

    #[test]
    #[should_panic(expected = "freed that was not allocated")]
    fn g1_a_block_in_the_buddy() {
        twice(o(4), |pfn| (pfn, o(4)));
    }

    #[test]
    #[should_panic(expected = "freed that was not allocated")]
    fn g1_a_part_of_a_free_block() {
        twice(o(9), |pfn| (Pfn(pfn.0 + 3), Order::PAGE));
    }

    #[test]
    #[should_panic(expected = "freed that was not allocated")]
    fn g1_a_block_with_a_free_part() {
        twice(Order::PAGE, |pfn| (pfn.align_down(o(9)), o(9)));
    }

    #[test]
    #[should_panic(expected = "freed that was not allocated")]
    fn g1_what_was_never_the_allocators() {
        twice(Order::PAGE, |_| (Pfn(5000), Order::PAGE));
    }
}
