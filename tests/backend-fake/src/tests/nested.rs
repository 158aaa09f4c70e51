//! A guest's guest that stores on two CPUs while the log of its guest's memory is harvested, and what the log tells is copied, as
//! a migration does. A page that is told once and stored to afterwards has to be told again: only the copy shows whether it was.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use backend_ppc64::nested_host::children::Nest;
use backend_ppc64::nested_host::counts::Event;
use backend_ppc64::nested_host::fault::{Answer, Tables};
use backend_ppc64::nested_host::walk::{Near, Partition};
use hv_core::addr::{Gpa, PAGE_SHIFT};
use hv_core::epoch::Cpu;
use hv_core::isa::VmTag;
use hv_core::machine::{CpuId, Machine};
use hv_core::mmu::{GuestMemory, MemoryConfig, Outcome};
use hv_core::vcpu::exit::{Access, Fault};

use super::{TAG, broken, on_machine};
use crate::format::Trapping;
use crate::nest::FakeNest;
use crate::{Agent, FakeMachine};

/// The guest's tables in its own memory: a tree of 52 bits, from its root to one table of leaves.
const ROOT: u64 = 0x2_0000;
const SECOND: u64 = 0x3_0000;
const THIRD: u64 = 0x3_1000;
const LEAVES: u64 = 0x3_2000;
const VALID: u64 = 1 << 63;
/// A leaf of a page: everything noted and allowed.
const PAGE: u64 = VALID | 1 << 62 | 0x187;
const ENTRY: u128 = ((VALID | 2 << 61 | 5 << 5 | ROOT | 13) as u128) << 64 | 1 << 63;
/// The guest's pages that its guest has, from 0 there.
const FIRST: u64 = 512;
const PAGES: u64 = 128;
/// CPUs that the guest's guest is on.
const CPUS: usize = 2;
const ROUNDS: u64 = 10;

/// A vCPU of the guest's guest.
struct Vcpu<'a> {
    m: &'a FakeMachine,
    cpu: &'a Cpu,
    memory: &'a GuestMemory<FakeNest>,
    nest: &'a Nest<Trapping>,
    held: VmTag,
    agent: Agent<'a>,
    near: RefCell<Near>,
}

impl Vcpu<'_> {
    /// Stores to a page, or loads from it, with as many faults as that takes.
    fn access(&self, page: u64, access: Access, value: u64) {
        let at = Gpa(page << PAGE_SHIFT);
        loop {
            let done = match access {
                Access::Write => self.agent.store(self.cpu.id(), at, value),
                Access::Read | Access::Fetch => self.agent.load(self.cpu.id(), at).is_some(),
            };
            if done {
                return;
            }
            self.fault(at, access);
        }
    }

    fn fault(&self, at: Gpa, access: Access) {
        let (m, cpu) = (self.m, self.cpu);
        let read = |at, into: &mut [u8]| self.memory.read(cpu, m, at, into);
        let tables = Tables { read: &read, near: &mut self.near.borrow_mut() };
        let parent = self.memory.stage2().own().table();
        match self.nest.fault(cpu, m, parent, tables, self.held, (at, access)) {
            Answer::Enter => {}
            Answer::Parent(gpa, access) => {
                let done = self.memory.fault(cpu, m, &Fault { gpa, access, claim: () });
                assert!(matches!(done, Outcome::Mapped | Outcome::Retry), "{done:?}");
            }
            other => panic!("{at:?}, {access:?}: {other:?}"),
        }
    }
}

/// Which CPU stores to a page in a round, if any does: one at most, so that a store that a harvest loses is not made up for.
fn writer(round: u64, page: u64) -> usize {
    let mixed = (round << 32 | page).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 61) as usize % (CPUS + 1)
}

/// One round of a vCPU, in an order of its own.
fn go_through(vcpu: &Vcpu<'_>, number: usize, round: u64) {
    for n in 0..PAGES {
        let page = n * [37, 75][number] % PAGES;
        let access = if writer(round, page) == number { Access::Write } else { Access::Read };
        vcpu.access(page, access, round);
    }
}

#[test]
fn r15_a_log_is_what_a_guests_guest_stored_on_two_cpus() {
    on_machine(|m, cpu| {
        let memory = GuestMemory::<FakeNest>::new(cpu, m, TAG, MemoryConfig::from(4 << 20)).unwrap();
        let write = |at: u64, word: u64| memory.write(cpu, m, Gpa(at), &word.to_be_bytes()).unwrap();
        for (at, below) in [(ROOT, SECOND), (SECOND, THIRD), (THIRD, LEAVES)] {
            write(at, VALID | below | 9);
        }
        (0..PAGES).for_each(|n| write(LEAVES + n * 8, PAGE | (FIRST + n) << PAGE_SHIFT));
        let nest = memory.stage2().guests().unwrap();
        let held = nest.hold(cpu, m, (7, 0), Partition::new(ENTRY).unwrap()).unwrap();
        assert_eq!(nest.hold(cpu, m, (7, 1), Partition::new(ENTRY).unwrap()), Ok(held));
        memory.log_start(cpu, m).unwrap();
        memory.log_harvest(cpu, m, &mut |_| {});
        // Rounds without a race show nothing: there are more of them until a fault has met a harvest.
        let (begin, running) = (Barrier::new(CPUS + 1), AtomicUsize::new(0));
        let going = AtomicUsize::new(1);
        let (mut rounds, mut wrong) = (0, None);
        let word = |page: u64| {
            let mut word = [0; 8];
            memory.read(cpu, m, Gpa((FIRST + page) << PAGE_SHIFT), &mut word).unwrap();
            u64::from_le_bytes(word)
        };
        let mut copy: Vec<u64> = (0..PAGES).map(word).collect();
        std::thread::scope(|scope| {
            for number in 0..CPUS {
                let (memory, begin, running, going) = (&memory, &begin, &running, &going);
                scope.spawn(move || {
                    let cpu = m.epoch().cpu(CpuId(1 + number as u16)).unwrap();
                    let agent = m.agent_of(held).unwrap();
                    let vcpu = Vcpu { m, cpu: &cpu, memory, nest, held, agent, near: RefCell::default() };
                    for round in 0.. {
                        begin.wait();
                        if going.load(Ordering::Relaxed) == 0 {
                            break;
                        }
                        go_through(&vcpu, number, round);
                        running.fetch_sub(1, Ordering::Release);
                    }
                    m.epoch().leave(cpu);
                });
            }
            for round in 0.. {
                let enough = wrong.is_some() || round >= ROUNDS && nest.counts().of(Event::Retry) > 0;
                going.store(usize::from(!enough && round < 100 * ROUNDS), Ordering::Relaxed);
                running.store(CPUS, Ordering::Relaxed);
                begin.wait();
                if going.load(Ordering::Relaxed) == 0 {
                    break;
                }
                let mut told = BTreeSet::new();
                loop {
                    // What is stored before this look is told by the harvest after it.
                    let last = running.load(Ordering::Acquire) == 0;
                    let mut now = BTreeSet::new();
                    memory.log_harvest(cpu, m, &mut |pages| now.extend(pages.start().0..pages.end().0));
                    for page in now.iter().filter_map(|gfn| gfn.checked_sub(FIRST)).filter(|page| *page < PAGES) {
                        copy[page as usize] = word(page);
                    }
                    told.append(&mut now);
                    if last {
                        break;
                    }
                }
                let stored: BTreeSet<u64> =
                    (0..PAGES).filter(|n| writer(round, *n) < CPUS).map(|n| FIRST + n).collect();
                // Said when the vCPUs have ended, or they would wait for the next round.
                let stale: Vec<u64> = (0..PAGES).filter(|page| copy[*page as usize] != word(*page)).collect();
                if told != stored || !stale.is_empty() {
                    wrong = Some((round, stale, told, stored));
                }
                rounds += 1;
            }
        });
        assert_eq!(
            wrong, None,
            "G4: the round, the pages whose last store was not told, what the harvests told, and what was stored"
        );
        assert!(rounds >= ROUNDS && nest.counts().of(Event::Retry) > 0, "in {rounds} rounds no fault met a harvest");
        nest.put(held);
        nest.put(held);
        memory.destroy(cpu, m);
        assert_eq!(broken(m), Vec::<String>::new());
    });
}
