//! The fast path of a fault, in many states: a deferral has changed no word, an answer one at most, and every way out leaves
//! the CPU as it came.

use hv_core::addr::{Gfn, GfnRange, Gpa, HvnRange, Pfn};
use hv_core::context::Atomic;
use hv_core::epoch::{Cpu, WalkGuard};
use hv_core::host::{HUGE, HostFormat, HugePolicy};
use hv_core::isa::RadixFormat;
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::fast::{Fast, fast};
use hv_core::mmu::zap::{invalidate, rewindow};
use hv_core::mmu::{GuestMemory, MemoryConfig, MemoryStats, Outcome};
use hv_core::radix::format::{Prot, Pte, TableRef, Transition};
use hv_core::sync::{AtomicU64, Ordering};
use hv_core::vcpu::exit::{Access, Fault};
use proptest::prelude::*;

use super::TAG;
use crate::format::Skewed;
use crate::ram::FIRST;
use crate::walk::View;
use crate::{FakeMachine, FakeRadix, FakeStage2};

/// Three blocks of RAM and what their tables take.
const RAM: u64 = 3 * HUGE.pages();
const FRAMES: usize = 4 * HUGE.pages() as usize;

/// One step on the way to a state.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The hypervisor writes to the page.
    Write(u64),
    /// The guest faults on it.
    Fault(u64),
    /// So many pages are taken away.
    Discard(u64, u64),
}

/// What is out of the ordinary when the fault comes.
#[derive(Clone, Copy, Debug)]
enum Odd {
    Nothing,
    /// A bracket is open, from this page, over so many.
    Bracket(u64, u64),
    /// An entry on the fault's way, so many levels up, is in transition.
    Host(u8, Transition),
    Stage2(u8, Transition),
    /// RAM may only be read.
    ReadOnly,
    /// No frame is free.
    Starved,
}

fn page() -> impl Strategy<Value = u64> {
    // Few pages of each block, so that steps meet; and some that no slot shows.
    (0..=RAM / HUGE.pages(), 0..4_u64).prop_map(|(block, n)| block * HUGE.pages() + n)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => page().prop_map(Step::Write),
        3 => page().prop_map(Step::Fault),
        1 => (page(), 1..600_u64).prop_map(|(at, pages)| Step::Discard(at, pages)),
    ];
    prop::collection::vec(step, 0..8)
}

fn odd() -> impl Strategy<Value = Odd> {
    let transition = || prop_oneof![Just(Transition::Busy), Just(Transition::Splitting), Just(Transition::Frozen)];
    prop_oneof![
        4 => Just(Odd::Nothing),
        2 => (page(), 1..600_u64).prop_map(|(at, pages)| Odd::Bracket(at, pages)),
        2 => (0..3_u8, transition()).prop_map(|(up, t)| Odd::Host(up, t)),
        2 => (0..3_u8, transition()).prop_map(|(up, t)| Odd::Stage2(up, t)),
        1 => Just(Odd::ReadOnly),
        1 => Just(Odd::Starved),
    ]
}

/// One VM.
struct World<'a> {
    m: &'a FakeMachine,
    cpu: &'a Cpu,
    memory: GuestMemory<FakeRadix>,
}

/// Everything that a deferral may not change.
#[derive(Debug, PartialEq)]
struct Seen {
    /// All words of all tables, the host's and stage 2's.
    words: Vec<u64>,
    stats: MemoryStats,
    free: u64,
    violations: usize,
}

/// The entry for `key` in the tree under `root`, `up` levels above the one where the walk ends.
fn entry<'g, F: RadixFormat>(
    m: &'g FakeMachine,
    g: &'g WalkGuard<'_>,
    root: TableRef,
    key: u64,
    up: u8,
) -> (&'g AtomicU64, u8) {
    let mut way = Vec::new();
    let (mut table, mut level) = (root, F::BITS.len() as u8 - 1);
    loop {
        let below: u32 = F::BITS.iter().take(usize::from(level)).map(|b| u32::from(*b)).sum();
        let slot = key >> below & ((1 << F::BITS[usize::from(level)]) - 1);
        let cell = m.pte(g, table, slot as usize);
        way.push((cell, level));
        match F::decode(cell.load(Ordering::Relaxed), level) {
            Pte::Table { table: next, .. } => (table, level) = (next, level - 1),
            _ => return way[way.len().saturating_sub(1 + usize::from(up))],
        }
    }
}

impl World<'_> {
    fn fault(&self, gfn: u64, access: Access) -> Fault<()> {
        Fault { gpa: Gpa(gfn << 12), access, claim: () }
    }

    fn take(&self, step: Step) {
        match step {
            Step::Write(gfn) => drop(self.memory.write(self.cpu, self.m, Gpa(gfn << 12), &[1])),
            Step::Fault(gfn) => {
                self.memory.fault(self.cpu, self.m, &self.fault(gfn, Access::Write));
            }
            Step::Discard(gfn, pages) => {
                self.memory.discard(self.cpu, self.m, GfnRange::new(Gfn(gfn), pages).unwrap());
            }
        }
    }

    fn seen(&self) -> Seen {
        let guard = self.m.epoch().enter(self.cpu);
        let frames = (0..FRAMES as u64).map(|n| Pfn(FIRST + n));
        let tables = frames.filter(|pfn| !self.m.frames().is_free(*pfn)).filter_map(|pfn| self.m.ram.table_at(pfn));
        let slots = |t: TableRef| (0..(t.order().pages() as usize) * 512).map(move |slot| (t, slot));
        let words =
            tables.flat_map(slots).map(|(t, slot)| self.m.pte(&guard, t, slot).load(Ordering::Relaxed)).collect();
        let free = self.m.frames().counts().free;
        Seen { words, stats: self.memory.stats(), free, violations: self.m.violations().len() }
    }

    fn base(&self) -> Slot {
        self.memory.space().slots.find(&self.m.epoch().enter(self.cpu), Gfn(0)).unwrap()
    }

    /// The fast path now, and what it must leave alone.
    fn try_fast(&self, fault: &Fault<()>) -> Fast {
        let (before, seq) = (self.seen(), self.memory.space().mmu.sample());
        let done = fast(Atomic::on(self.cpu), self.m, self.memory.space(), fault);
        let after = self.seen();
        match done {
            Fast::Defer => assert_eq!(before, after, "R21: a deferral has changed something"),
            Fast::Done => {
                let changed = before.words.iter().zip(&after.words).filter(|(a, b)| a != b).count();
                assert!(changed <= 1, "R21: {changed} words for one answer");
                assert_eq!(
                    Seen { words: Vec::new(), ..before },
                    Seen { words: Vec::new(), ..after },
                    "R21: more than a word"
                );
            }
        }
        // R27: in the dev profile a ranked lock says if a walk, or another lock, is still held; outside of walks a stamp passes.
        assert!(self.m.epoch().passed(self.m.epoch().stamp()), "R27: still in a walk");
        drop(self.memory.space().slots.lock(self.cpu));
        let nowhere = HvnRange::new(hv_core::addr::Hvn(0), 1).unwrap();
        let section = self.memory.space().mmu.enter(self.cpu, self.m.epoch());
        assert!(section.revalidate(seq, nowhere).is_ok(), "R21: the sequence has risen");
        done
    }

    /// An entry that is in transition while `with` runs.
    fn in_transition<F: RadixFormat>(&self, root: TableRef, key: u64, up: u8, t: Transition, with: impl FnOnce()) {
        let (word, level, at) = {
            let guard = self.m.epoch().enter(self.cpu);
            let (cell, level) = entry::<F>(self.m, &guard, root, key, up);
            let word = cell.swap(F::encode(Pte::Transition(t), level), Ordering::Relaxed);
            (word, level, std::ptr::from_ref(cell))
        };
        with();
        let guard = self.m.epoch().enter(self.cpu);
        let (cell, again) = entry::<F>(self.m, &guard, root, key, 0);
        assert!(std::ptr::eq(cell, at) && again == level, "the entry in transition has moved");
        cell.store(word, Ordering::Relaxed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn r21_a_deferral_has_changed_nothing(
        huge in prop_oneof![Just(HugePolicy::Always), Just(HugePolicy::Never)],
        steps in steps(),
        odd in odd(),
        gfn in page(),
        access in prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::Fetch)],
    ) {
        let m = FakeMachine::new(FRAMES);
        let cpu = m.epoch().cpu(hv_core::machine::CpuId(0)).unwrap();
        let config = MemoryConfig { huge, ..MemoryConfig::from(RAM << 12) };
        let w = World { m: &m, cpu: &cpu, memory: GuestMemory::new(&cpu, &m, TAG, config).unwrap() };
        steps.into_iter().for_each(|step| w.take(step));
        let fault = w.fault(gfn, access);
        let (slot, space) = (w.base(), w.memory.space());
        let hvn = slot.hvn(Gfn(gfn));
        let View::Radix(stage2) = w.memory.stage2().view() else { unreachable!("it is radix") };
        match odd {
            Odd::Nothing => {
                if w.try_fast(&fault) == Fast::Done {
                    let there = w.seen();
                    prop_assert_eq!(w.memory.fault(&cpu, &m, &fault), Outcome::Mapped);
                    prop_assert_eq!(there, w.seen(), "the slow path had more to do");
                }
            }
            Odd::Bracket(at, pages) => {
                let range = HvnRange::new(slot.hvn(Gfn(0)).unwrap(), RAM).unwrap();
                let bracket = HvnRange::new(hv_core::addr::Hvn(range.start().0 + at), pages).unwrap();
                let done = invalidate(&cpu, &m, space, bracket, |_| w.try_fast(&fault));
                prop_assert!(done == Fast::Defer || !hvn.is_some_and(|hvn| bracket.contains(hvn)), "R6");
            }
            Odd::Host(up, t) => if let Some(hvn) = hvn {
                let root = space.host.root();
                w.in_transition::<HostFormat>(root, hvn.0, up, t, || assert_eq!(w.try_fast(&fault), Fast::Defer, "R3"));
            }
            Odd::Stage2(up, t) => if hvn.is_some() {
                w.in_transition::<Skewed>(stage2, gfn, up, t, || assert_eq!(w.try_fast(&fault), Fast::Defer, "R3"));
            }
            Odd::ReadOnly => {
                let all = GfnRange::new(Gfn(0), RAM).unwrap();
                let slot = Slot::new(all, slot.hvn(Gfn(0)).unwrap(), Prot::READ).unwrap();
                rewindow(&cpu, &m, space, &[slot]).unwrap();
                prop_assert!(w.try_fast(&fault) == Fast::Defer || access == Access::Read, "R25");
            }
            Odd::Starved => {
                let mut held = Vec::new();
                for order in (0..=hv_core::page::MAX_ORDER).rev().filter_map(hv_core::addr::Order::new) {
                    while let Some(frame) = m.frames().alloc(&cpu, order) {
                        held.push(frame);
                    }
                }
                let _ = w.try_fast(&fault);
                held.into_iter().for_each(|frame| m.frames().free(&cpu, frame));
            }
        }
        m.check(&cpu, space);
        w.memory.destroy(&cpu, &m);
        m.epoch().leave(cpu);
        prop_assert_eq!(m.violations(), Vec::<String>::new());
    }
}
