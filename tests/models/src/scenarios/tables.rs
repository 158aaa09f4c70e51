//! Leaf tables that go away while somebody is about to put a leaf into one: whole, with all that they hold, or because
//! they hold nothing.
//!
//! ```text
//!   CPU 1  first touch of a page: walk, a hole in a leaf table; a frame; CAS hole -> leaf
//!          by the guest, or by the hypervisor that writes for it
//!   CPU 0  discard of all pages: table -> hole, grace, leaves read, frames and table freed; the heir takes frames
//!          or prune: each hole -> frozen, table -> hole, grace, table freed
//! ```
//!
//! The leaf that comes into a table just unlinked is lost with it, frame and all (R24), and nobody stores through it (G1,
//! R6). One that comes into an empty table keeps it there, or comes again (R3).

use backend_fake::FakeMachine;
use hv_core::addr::{Gfn, GfnRange, Gpa, Order, PAGE_SIZE, Pfn};
use hv_core::epoch::{Cpu, Domain};
use hv_core::host::HostFormat;
use hv_core::machine::Machine;
use hv_core::mmu::flush::FlushBatch;
use hv_core::radix::Radix;
use hv_core::radix::edit::{EditError, Removed};
use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef};
use hv_core::sync::spin_loop;

use super::vm::{TAG, Vm};
use crate::scenario::{About, Model, Scenario, World, as_cpu};

/// Frames enough for both trees, the guest's pages and the heir's.
const FRAMES: usize = 12;
/// The host table's reach under a model checker.
const PAGES: u64 = 4;
/// The page that is touched.
const TARGET: Gpa = Gpa(0);
/// Its neighbour, which is there: so is their table.
const BESIDE: Gpa = Gpa(PAGE_SIZE as u64);

fn beside() -> Vm {
    Vm::new(FRAMES, PAGES, |vm, cpu| vm.write(cpu, BESIDE, 1))
}

fn take_all(vm: &Vm, cpu: &Cpu) {
    vm.memory.discard(cpu, &vm.machine, GfnRange::new(Gfn(0), PAGES).expect("some pages"));
    vm.inherit(cpu);
}

fn guest(vm: &Vm, cpu: &Cpu) {
    vm.store(cpu, TARGET, 1);
}

fn hypervisor(vm: &Vm, cpu: &Cpu) {
    vm.write(cpu, TARGET, 1);
}

/// A table by itself, with an empty leaf table.
struct Empty {
    machine: FakeMachine,
    table: Radix<HostFormat>,
    free: u64,
}

/// Never freed: nobody owns it.
const LEAF: Leaf = Leaf { pfn: Pfn(5), prot: Prot::READ, rc: Rc::empty() };

/// Tables on their way through a flush and a grace period.
struct Unlinked(FlushBatch);

impl Removed for Unlinked {
    fn room(&self) -> bool {
        self.0.room()
    }
    fn leaf(&mut self, key: u64, _order: Order, _leaf: Leaf) {
        panic!("R3: a leaf at {key} went with an empty table");
    }
    fn table(&mut self, table: TableRef) {
        self.0.hold(table).expect("room was asked for");
    }
}

fn empty() -> Empty {
    let machine = FakeMachine::new(FRAMES);
    let free = machine.frames().counts().free;
    let table = as_cpu(machine.epoch(), 0, |cpu| {
        let table = Radix::new(cpu, &machine).expect("a root");
        let guard = machine.epoch().enter(cpu);
        table.map(&machine, &guard, 1, Order::PAGE, LEAF).expect("a page");
        table.unmap(&machine, &guard, 1, 2, &mut Gone);
        table
    });
    Empty { machine, table, free }
}

/// Whose leaves nobody misses.
struct Gone;

impl Removed for Gone {
    fn room(&self) -> bool {
        true
    }
    fn leaf(&mut self, _key: u64, _order: Order, _leaf: Leaf) {}
    fn table(&mut self, _table: TableRef) {}
}

fn prune(w: &Empty, cpu: &Cpu) {
    let mut out = Unlinked(FlushBatch::new(TAG));
    w.table.prune(&w.machine, &w.machine.epoch().enter(cpu), 0, PAGES, &mut out);
    w.machine.flush(out.0).release(cpu, &w.machine);
}

fn touch(w: &Empty, cpu: &Cpu) {
    loop {
        match w.table.map(&w.machine, &w.machine.epoch().enter(cpu), 0, Order::PAGE, LEAF) {
            Ok(()) => return,
            Err(EditError::Retry) => spin_loop(),
            Err(other) => panic!("R3: a page could not be mapped: {other:?}"),
        }
    }
}

impl World for Empty {
    fn domain(&self) -> &Domain {
        self.machine.epoch()
    }

    fn end(self, cpu: &Cpu) {
        let found = self.table.walk(&self.machine, &self.machine.epoch().enter(cpu), 0).map(|seen| seen.pte);
        assert_eq!(found, Some(Pte::Leaf(LEAF)), "R3: what was published is in a table that is no longer there");
        self.table.destroy(cpu, &self.machine, |_, _, _| {});
        if let Some(seen) = self.machine.violations().first() {
            panic!("{seen}");
        }
        assert_eq!(self.machine.frames().counts().free, self.free, "R24: frames were lost");
    }
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&TOUCH, &WRITE, &PRUNE];

static TOUCH: Scenario<Vm> = Scenario {
    about: About {
        name: "detach-first-touch",
        rules: "R2,R6,R20,R24",
        race: "a first touch in a leaf table against that table being taken away whole",
        preemptions: 2,
    },
    world: beside,
    steps: &[take_all, guest],
};

static WRITE: Scenario<Vm> = Scenario {
    about: About {
        name: "detach-write",
        rules: "R2,R20,R24",
        race: "the hypervisor's first write to a page against its leaf table being taken away whole",
        preemptions: 2,
    },
    world: beside,
    steps: &[take_all, hypervisor],
};

static PRUNE: Scenario<Empty> = Scenario {
    about: About {
        name: "prune-first-touch",
        rules: "R2,R3,R4,R20",
        race: "a first touch in an empty table against that table being taken away",
        preemptions: 3,
    },
    world: empty,
    steps: &[prune, touch],
};
