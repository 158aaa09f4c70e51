//! Two or three CPUs over one allocator: frames in their caches, in the pool, in the buddy, and on the way.
//!
//! No VM: frames are taken, marked and given back. Whatever the order, no frame has two owners, what is free can be had
//! by whoever asks, wherever it lies, and at the end all of it merges.

use std::sync::{Mutex, MutexGuard, PoisonError};

use backend_fake::FakeMachine;
use hv_core::addr::Order;
use hv_core::epoch::{Cpu, Domain};
use hv_core::machine::{CpuId, Machine};
use hv_core::page::{Frame, zeroed};
use hv_core::sync::{AtomicU64, Ordering};

use crate::scenario::{About, Model, Scenario, World};

/// One frame by itself, and a pair: what is huge under a model checker.
const FRAMES: usize = 3;
const PAIR: Order = match Order::new(1) {
    Some(order) => order,
    None => Order::PAGE,
};

/// The world.
#[derive(Debug)]
pub struct Memory {
    machine: FakeMachine,
    /// What CPUs 1 and 2 have taken before the race. Not part of it: a lock that checkers do not see.
    taken: [Mutex<Option<Frame>>; 2],
    /// How many of them have given theirs back.
    given: AtomicU64,
}

impl Memory {
    fn new() -> Self {
        Self {
            machine: FakeMachine::new(FRAMES),
            taken: [Mutex::new(None), Mutex::new(None)],
            given: AtomicU64::new(0),
        }
    }

    /// CPU `n` has taken all frames, lowest first, and done something with them.
    fn after(n: u16, with: impl FnOnce(&Self, &Cpu, Vec<Frame>)) -> Self {
        let memory = Self::new();
        let frames = memory.machine.frames();
        let cpu = memory.machine.epoch().cpu(CpuId(n)).expect("nobody runs yet");
        let mut all: Vec<Frame> = (0..FRAMES).filter_map(|_| frames.alloc(&cpu, Order::PAGE)).collect();
        all.sort_by_key(|frame| frame.pfn().0);
        with(&memory, &cpu, all);
        memory.machine.epoch().leave(cpu);
        memory
    }

    /// CPU 1 has given all back: its cache is full.
    fn kept() -> Self {
        Self::after(1, |memory, cpu, all| all.into_iter().for_each(|frame| memory.machine.frames().free(cpu, frame)))
    }

    /// CPUs 1 and 2 have a half of the pair each.
    fn halved() -> Self {
        Self::after(0, |memory, cpu, mut all| {
            memory.slots().for_each(|mut slot| *slot = all.pop());
            all.into_iter().for_each(|frame| memory.machine.frames().free(cpu, frame));
        })
    }

    /// One frame is in CPU 1's cache, one is CPU 2's, which has no cache yet, and nobody wants the third.
    fn spread() -> Self {
        Self::after(1, |memory, cpu, mut all| {
            memory.slots().for_each(|mut slot| *slot = all.pop());
            all.into_iter().for_each(|frame| memory.machine.frames().free(cpu, frame));
        })
    }

    fn slots(&self) -> impl Iterator<Item = MutexGuard<'_, Option<Frame>>> {
        self.taken.iter().map(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a frame, of which there is one for everybody.
    fn take(&self, cpu: &Cpu) -> Frame {
        let frame = self.machine.frames().alloc(cpu, Order::PAGE).expect("P8: a free frame was not found");
        self.machine.zero(frame.pfn(), Order::PAGE);
        self.machine.write(frame.pfn(), 0, &[cpu.id().0 as u8 + 1; 8]);
        frame
    }

    /// Gives it back, if it is still its owner's alone.
    fn give(&self, cpu: &Cpu, frame: Frame) {
        let mut mark = [0; 8];
        self.machine.read(frame.pfn(), 0, &mut mark);
        assert!(mark == [cpu.id().0 as u8 + 1; 8], "G1: a frame has two owners");
        self.machine.frames().free(cpu, frame);
    }
}

impl World for Memory {
    fn domain(&self) -> &Domain {
        self.machine.epoch()
    }

    fn end(self, cpu: &Cpu) {
        if let Some(seen) = self.machine.violations().first() {
            panic!("{seen}");
        }
        let frames = self.machine.frames();
        self.slots().filter_map(|mut slot| slot.take()).for_each(|frame| frames.free(cpu, frame));
        assert!(frames.counts().free == FRAMES as u64, "R24: frames were lost");
        let pair = frames.alloc(cpu, PAIR).expect("P8: what is free does not merge");
        frames.free(cpu, pair);
    }
}

/// Two frames, while nobody else has more than one.
fn two(w: &Memory, cpu: &Cpu) {
    let both = [w.take(cpu), w.take(cpu)];
    both.into_iter().for_each(|frame| w.give(cpu, frame));
}

/// One frame at a time.
fn one_and_one(w: &Memory, cpu: &Cpu) {
    one(w, cpu);
    one(w, cpu);
}

/// Gives back what was taken before the race, and says so.
fn give_half(w: &Memory, cpu: &Cpu) {
    let half = w.slots().nth(usize::from(cpu.id().0) - 1).and_then(|mut slot| slot.take());
    w.machine.frames().free(cpu, half.expect("it was taken"));
    w.given.fetch_add(1, Ordering::Release);
}

/// One frame, of which there is always one somewhere.
fn one(w: &Memory, cpu: &Cpu) {
    let frame = w.take(cpu);
    w.give(cpu, frame);
}

/// One frame, once there are two.
fn one_of_two(w: &Memory, cpu: &Cpu) {
    if w.given.load(Ordering::Acquire) == 1 {
        one(w, cpu);
    }
}

/// Takes the pair. It must be there once both halves are back.
fn pair(w: &Memory, cpu: &Cpu) {
    let given = w.given.load(Ordering::Acquire);
    match w.machine.frames().alloc(cpu, PAIR) {
        Some(pair) => w.machine.frames().free(cpu, pair),
        None => assert!(given < 2, "P8: two halves in two caches were not put together"),
    }
}

/// An idle CPU.
fn idle(w: &Memory, _cpu: &Cpu) {
    for _ in 0..3 {
        zeroed::refill(&w.machine);
    }
}

/// Takes everything there is, as a fault does.
fn all_zeroed(w: &Memory, cpu: &Cpu) {
    let frames = w.machine.frames();
    let mut held = Vec::new();
    for left in (1..=FRAMES as u64).rev() {
        assert!(frames.counts().free == left, "P8: a frame that is being zeroed is not counted");
        let frame = zeroed::take(cpu, &w.machine, Order::PAGE).expect("P8: a frame that is being zeroed was not found");
        let mut there = [1; 8];
        w.machine.read(frame.pfn(), 0, &mut there);
        assert!(there == [0; 8], "G1: a frame that should be zero is not");
        held.push(frame);
    }
    held.into_iter().for_each(|frame| zeroed::give(cpu, &w.machine, frame));
}

/// All of them.
pub static ALL: &[&dyn Model] = &[&CACHES, &HALVES, &SPREAD, &ZEROED];

static CACHES: Scenario<Memory> = Scenario {
    about: About {
        name: "frames-caches",
        rules: "R24",
        race: "taking frames and giving them back against taking what lies in the other CPU's cache",
        preemptions: 3,
    },
    world: Memory::kept,
    steps: &[two, one_and_one],
};

static HALVES: Scenario<Memory> = Scenario {
    about: About {
        name: "frames-halves",
        rules: "R24",
        race: "two CPUs giving back the halves of a huge page against a third that wants it whole",
        preemptions: 3,
    },
    world: Memory::halved,
    steps: &[pair, give_half, give_half],
};

static SPREAD: Scenario<Memory> = Scenario {
    about: About {
        name: "frames-spread",
        rules: "R24",
        race: "the one free frame going from a cache to another that did not exist, against a third CPU that wants it",
        preemptions: 3,
    },
    world: Memory::spread,
    steps: &[one, one_of_two, give_half],
};

static ZEROED: Scenario<Memory> = Scenario {
    about: About {
        name: "frames-zeroed",
        rules: "R19,R24",
        race: "an idle CPU zeroing frames in advance against a fault that needs all there are",
        preemptions: 3,
    },
    world: Memory::new,
    steps: &[all_zeroed, idle],
};

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::num::NonZeroU16;

    use backend_fake::{FakeMachine, FakeRadix};
    use hv_core::addr::{Gpa, Order};
    use hv_core::isa::VmTag;
    use hv_core::machine::{CpuId, Machine};
    use hv_core::mmu::GuestMemory;
    use hv_core::page::zeroed::{self, Refill};
    use hv_core::page::{Content, GuestFrame};

    /// That a table's number does not become a [`GuestFrame`] at all is a matter of types, see there; this is what
    /// happens to code that goes by numbers.
    #[test]
    fn g6_a_frame_of_the_hypervisors_own_is_no_guests() {
        let m = FakeMachine::new(64);
        let cpu = m.epoch().cpu(CpuId(0)).unwrap();
        let vm = GuestMemory::<FakeRadix>::new(&cpu, &m, VmTag(NonZeroU16::MIN), 1 << 20).unwrap();
        vm.write(&cpu, &m, Gpa(0), &[1; 8]).unwrap();
        assert_eq!(m.violations(), Vec::<String>::new());
        // A table is not written like a guest's page.
        let table = m.alloc_table(&cpu, Order::PAGE).unwrap();
        m.write(table.base(), 0, &[1; 8]);
        let seen = m.violations();
        assert!(seen.iter().any(|v| v.contains("G1") && v.contains("Table")), "{seen:?}");
        // Nor is a guest's page walked like a table.
        let page: GuestFrame = zeroed::take(&cpu, &m, Order::PAGE).unwrap().into();
        let fake = hv_core::radix::format::TableRef::new(page.into_pfn(), Order::PAGE);
        m.pte(&m.epoch().enter(&cpu), fake, 0);
        let seen = m.violations();
        assert!(seen.iter().any(|v| v.contains("G6") && v.contains("Data")), "{seen:?}");
    }

    #[test]
    fn r19_a_guests_frame_never_holds_what_was_there_before() {
        let m = FakeMachine::new(64);
        let cpu = m.epoch().cpu(CpuId(0)).unwrap();
        let read = |pfn| {
            let mut bytes = [9; 8];
            m.read(pfn, 8, &mut bytes);
            bytes
        };
        let old = zeroed::take(&cpu, &m, Order::PAGE).unwrap();
        m.write(old.pfn(), 8, b"a secret");
        let filled = m.frames().alloc(&cpu, Order::new(2).unwrap()).unwrap();
        let filled = filled.fill(&m, |n| if n == 2 { Content::CopyOf(old.pfn()) } else { Content::Zeros });
        let pages: Vec<_> = (0..4).map(|n| read(hv_core::addr::Pfn(filled.pfn().0 + n))).collect();
        assert_eq!(pages, [[0; 8], [0; 8], *b"a secret", [0; 8]]);
        // Taken again it is zero, from the allocator and from the pool.
        m.frames().free(&cpu, old.into_frame());
        for _ in 0..2 {
            let again = zeroed::take(&cpu, &m, Order::PAGE).unwrap();
            assert_eq!(read(again.pfn()), [0; 8]);
            m.frames().free(&cpu, again.into_frame());
            while zeroed::refill(&m) == Refill::Step {}
        }
        let _ = filled.into_pfn();
    }

    #[test]
    fn p8_the_pool_is_small_free_and_taken_back() {
        let m = FakeMachine::new(3 << 18);
        let cpu = m.epoch().cpu(CpuId(0)).unwrap();
        let (frames, huge) = (m.frames(), Order::MIB2);
        let before = frames.counts();
        let fill = || {
            let mut steps = 0;
            while zeroed::refill(&m) == Refill::Step {
                steps += 1;
            }
            steps
        };
        // 64 single frames and 4 huge blocks, 16 frames a step.
        assert_eq!(fill(), (64 + 4 * 512) / 16);
        assert_eq!(frames.counts(), before, "what is zeroed stays free");
        // It is what a fault gets first: afterwards as much is wanted again.
        let blocks: Vec<_> = (0..5).filter_map(|_| zeroed::take(&cpu, &m, huge)).collect();
        let pages: Vec<_> = (0..65).filter_map(|_| zeroed::take(&cpu, &m, Order::PAGE)).collect();
        assert_eq!(frames.counts().free, before.free - 5 * 512 - 65);
        assert_eq!(fill(), (64 + 4 * 512) / 16);
        blocks.into_iter().chain(pages).for_each(|z| zeroed::give(&cpu, &m, z));
        assert_eq!(frames.counts(), before);
        // All of it can be had.
        let mut all = Vec::new();
        for k in (0..=18).rev() {
            all.extend(std::iter::from_fn(|| frames.alloc(&cpu, Order::new(k).unwrap())));
        }
        assert_eq!(frames.counts().free, 0);
        assert_eq!(zeroed::refill(&m), Refill::Enough, "memory is short");
        all.into_iter().for_each(|frame| frames.free(&cpu, frame));
        assert_eq!(frames.counts(), before);
    }
}
