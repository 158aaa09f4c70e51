//! Which cache lines a look-up and a fault read and write: every access to memory that CPUs share is seen, one
//! instruction at a time.
//!
//! The figures are those that the project promises: a look-up is 4 loads of entries (3 to a 2 MiB leaf), no store but two
//! to the CPU's own line, no locked instruction; a fault on a present page is one locked store, to the entry.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[path = "lines/tracer.rs"]
mod tracer;

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use bench_host::isa::Bench;
use bench_host::machine::BenchMachine;
use hv_core::addr::{Gpa, Order, Pfn};
use hv_core::epoch::Cpu;
use hv_core::host::{HostFormat, HugePolicy};
use hv_core::isa::{Stage2, VmTag};
use hv_core::machine::{CpuId, Machine};
use hv_core::mmu::{GuestMemory, MemoryConfig, Outcome};
use hv_core::radix::Radix;
use hv_core::radix::format::{Leaf, Prot, Pte, Rc};
use hv_core::vcpu::exit::{Access, Fault};

use tracer::{Access as Seen, Shared};

const RAM: usize = 16 << 20;

/// What was seen, counted.
#[derive(Debug, PartialEq, Eq)]
struct Totals {
    /// Loads of words in tables.
    entries: usize,
    /// Stores, wherever.
    stores: usize,
    /// Stores by locked instructions.
    locked: usize,
    /// Lines stored to that are not the CPU's own.
    foreign: usize,
}

fn totals(of: &[Seen], ram: std::ops::Range<usize>, own: &BTreeSet<usize>) -> Totals {
    let stores: Vec<&Seen> = of.iter().filter(|seen| seen.store).collect();
    let lines: BTreeSet<usize> = stores.iter().map(|seen| seen.line()).collect();
    Totals {
        entries: of.iter().filter(|seen| !seen.store && ram.contains(&seen.at)).count(),
        stores: stores.len(),
        locked: stores.iter().filter(|seen| seen.locked).count(),
        foreign: lines.difference(own).count(),
    }
}

/// A machine in shared memory, its two CPUs, and what belongs to CPU 0 alone.
fn machine(shared: &mut Shared) -> (&'static BenchMachine, [Cpu; 2]) {
    let machine: &'static BenchMachine = shared.hold(|| Box::leak(Box::new(BenchMachine::new(RAM))));
    let ram = machine.ram();
    shared.watch(ram.start()..ram.start() + ram.bytes());
    let cpus = [0, 1].map(|n| machine.epoch().cpu(CpuId(n)).expect("a CPU"));
    (machine, cpus)
}

/// The lines that opening and closing a guard writes.
fn own_lines(shared: &Shared, machine: &BenchMachine, cpu: &Cpu) -> BTreeSet<usize> {
    let seen = shared.trace(|| drop(machine.epoch().enter(cpu)));
    seen.iter().filter(|seen| seen.store).map(Seen::line).collect()
}

fn ram(machine: &BenchMachine) -> std::ops::Range<usize> {
    machine.ram().start()..machine.ram().start() + machine.ram().bytes()
}

fn leaf(pfn: u64) -> Leaf {
    Leaf { pfn: Pfn(pfn), prot: Prot::all(), rc: Rc::empty() }
}

#[test]
fn what_cpus_write_and_read_of_shared_memory() {
    // One test, because traps are the process's.
    let mut shared = Shared::new();
    let (m, cpus) = machine(&mut shared);
    guards(&shared, m, &cpus);
    look_ups(&mut shared, m, &cpus[0]);
    faults(&mut shared, m, &cpus[0]);
}

fn guards(shared: &Shared, m: &BenchMachine, cpus: &[Cpu; 2]) {
    let seen = shared.trace(|| drop(m.epoch().enter(&cpus[0])));
    let own = own_lines(shared, m, &cpus[0]);
    let expected = Totals { entries: 0, stores: 2, locked: 0, foreign: 0 };
    assert_eq!(totals(&seen, ram(m), &own), expected, "a guard: {seen:x?}");
    assert_eq!(own.len(), 1, "a guard is published in one line");
    assert!(own.is_disjoint(&own_lines(shared, m, &cpus[1])), "two CPUs publish in one line");
}

fn look_ups(shared: &mut Shared, m: &'static BenchMachine, cpu: &Cpu) {
    let own = own_lines(shared, m, cpu);
    let table: &Radix<HostFormat> = shared.hold(|| Box::leak(Box::new(Radix::new(cpu, m).expect("a root"))));
    for (key, order) in [(5 << 18, Order::PAGE), (6 << 18, Order::MIB2)] {
        table.map(m, &m.epoch().enter(cpu), key, order, leaf(512)).expect("nothing is mapped there");
    }
    for (key, loads) in [(5 << 18, 4), (6 << 18, 3), (6 << 18 | 77, 3)] {
        let look_up = |guard: &_| {
            let found = table.walk(m, guard, key).map(|seen| seen.pte);
            assert_eq!(found, Some(Pte::Leaf(leaf(512))));
        };
        let seen = shared.trace(|| look_up(&m.epoch().enter(cpu)));
        let expected = Totals { entries: loads, stores: 2, locked: 0, foreign: 0 };
        assert_eq!(totals(&seen, ram(m), &own), expected, "a look-up of {key:#x}: {seen:x?}");
        let guard = m.epoch().enter(cpu);
        let seen = shared.trace(|| look_up(&guard));
        let expected = Totals { entries: loads, stores: 0, locked: 0, foreign: 0 };
        assert_eq!(totals(&seen, ram(m), &own), expected, "the same inside an open guard: {seen:x?}");
    }
}

fn faults(shared: &mut Shared, m: &'static BenchMachine, cpu: &Cpu) {
    let own = own_lines(shared, m, cpu);
    let tag = VmTag(NonZeroU16::MIN);
    let config = MemoryConfig { huge: HugePolicy::Never, ..MemoryConfig::from(4 << 20) };
    let memory = shared.hold(|| GuestMemory::<Bench>::new(cpu, m, tag, config).expect("memory for a VM"));
    let memory: &GuestMemory<Bench> = shared.hold(|| Box::leak(Box::new(memory)));
    let fault = |page: u64| {
        let fault = Fault { gpa: Gpa(page << 12), access: Access::Write, claim: () };
        assert_eq!(memory.fault(cpu, m, &fault), Outcome::Mapped);
    };
    // Pages 0 and 1 are there in the host table; page 0's translation keeps the tables that page 1's needs.
    fault(0);
    fault(1);
    let one = hv_core::addr::GfnRange::new(hv_core::addr::Gfn(1), 1).expect("one page");
    let mut batch = hv_core::mmu::flush::FlushBatch::new(tag);
    let _ = Stage2::<Bench>::unmap(memory.stage2(), cpu, m, one, &mut batch);
    m.flush(batch).release(cpu, m);

    let seen = shared.trace(|| fault(1));
    let found = totals(&seen, ram(m), &own);
    assert_eq!((found.locked, found.foreign), (1, 1), "a fault on a present page: {seen:x?}");
    let entry: Vec<&Seen> = seen.iter().filter(|seen| seen.store && !own.contains(&seen.line())).collect();
    assert!(matches!(entry[..], [store] if store.locked && ram(m).contains(&store.at)), "{entry:x?}");
}
