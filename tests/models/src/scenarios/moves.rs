//! Pages that move while others hold on to where they were: between windows, between sizes, in and out of objects.
//!
//! ```text
//!   CPU 1  stores through either of two windows            CPU 0  the page behind both is taken away       (F3)
//!   CPU 1  its hardware marks a leaf                       CPU 0  zaps that leaf and its neighbour         (F1)
//!   CPU 1  takes a page away, and gives it to an heir      CPU 0  moves the window that showed it          (F5)
//!   CPU 1  reads a page, or takes it away and touches it   CPU 0  makes one leaf of small ones in place    (C4, C10)
//! ```

use std::sync::{Mutex, PoisonError};

use hv_core::addr::{GfnRange, Gpa, Hvn, Order, PAGE_SIZE};
use hv_core::epoch::{Cpu, Domain};
use hv_core::host::{HUGE, HugePolicy, ScanCursor};
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::MemoryConfig;
use hv_core::mmu::zap::rewindow;
use hv_core::page::Frame;
use hv_core::radix::format::Prot;
use hv_core::vcpu::exit::{Access, Fault};

use super::vm::{TAG, Vm, ram};
use crate::scenario::{About, Model, Scenario, World};

/// Frames for both trees, a block twice, and heirs.
const FRAMES: usize = 8 + 4 * HUGE.pages() as usize;
/// The host table's reach under a model checker.
const PAGES: u64 = 4;
/// The last page of the first block.
const LAST: Gpa = page(HUGE.pages() - 1);
/// The first page of the next one: no table is named by these two alone.
const NEXT: Gpa = page(HUGE.pages());

const fn page(n: u64) -> Gpa {
    Gpa(n * PAGE_SIZE as u64)
}

fn gfns(from: Gpa, pages: u64) -> GfnRange {
    GfnRange::new(from.page(), pages).expect("some pages")
}

/// Shows the host pages `of`, counted from the first one, at guest frames from 0.
fn show(vm: &Vm, cpu: &Cpu, of: &[u64]) {
    let regions = vm.memory.space().host.regions();
    let base = regions.iter().next().expect("RAM").hvns().start();
    let slot = |(n, page): (usize, &u64)| {
        Slot::new(gfns(Gpa((n * PAGE_SIZE) as u64), 1), Hvn(base.0 + page), Prot::all()).expect("a slot")
    };
    let slots: Vec<_> = of.iter().enumerate().map(slot).collect();
    rewindow(cpu, &vm.machine, vm.memory.space(), &slots).expect("they do not overlap");
}

fn take(vm: &Vm, cpu: &Cpu, what: GfnRange) {
    vm.memory.discard(cpu, &vm.machine, what);
    vm.inherit(cpu);
}

/// Guest frames 0 and 1 show one page, and CPU 1 has cached the first of these translations.
fn twice_shown() -> Vm {
    Vm::new(FRAMES, PAGES, |vm, cpu| {
        show(vm, cpu, &[0, 0]);
        vm.store(cpu, Gpa(0), 1);
    })
}

fn take_first(vm: &Vm, cpu: &Cpu) {
    take(vm, cpu, gfns(Gpa(0), 1));
}

fn store_first(vm: &Vm, cpu: &Cpu) {
    vm.store(cpu, Gpa(0), 2);
}

/// Guest frame 0 shows the first page, and CPU 1 has that cached.
fn shown() -> Vm {
    Vm::new(FRAMES, PAGES, |vm, cpu| {
        show(vm, cpu, &[0]);
        vm.store(cpu, Gpa(0), 1);
    })
}

/// The first page is seen at guest frame 1 from now on.
fn move_window(vm: &Vm, cpu: &Cpu) {
    show(vm, cpu, &[1, 0]);
}

/// Takes the page away wherever it is seen.
fn take_both(vm: &Vm, cpu: &Cpu) {
    take(vm, cpu, gfns(Gpa(0), 2));
}

/// Two pages are mapped, and no CPU has touched them.
fn mapped() -> Vm {
    Vm::new(FRAMES, PAGES, |vm, cpu| {
        for gpa in [LAST, NEXT] {
            vm.memory.fault(cpu, &vm.machine, &Fault { gpa, access: Access::Write, claim: () });
        }
    })
}

fn take_two(vm: &Vm, cpu: &Cpu) {
    take(vm, cpu, gfns(LAST, 2));
}

fn hardware_stores(vm: &Vm, cpu: &Cpu) {
    vm.machine.agent(vm.memory.stage2(), TAG).store(cpu.id(), LAST, 2);
}

/// A block that is there page by page, in frames that a large leaf could name, and is to have one from now on.
pub struct InPlace {
    vm: Vm,
    heir: Mutex<Option<Frame>>,
}

/// What page `n` holds.
const fn holds(n: u64) -> u64 {
    n + 7
}
/// What the last page holds after it was touched anew.
const ANEW: u64 = 3;

impl World for InPlace {
    fn domain(&self) -> &Domain {
        self.vm.domain()
    }

    fn end(self, cpu: &Cpu) {
        let last = if let Some(heir) = self.heir.into_inner().unwrap_or_else(PoisonError::into_inner) {
            self.vm.machine.frames().free(cpu, heir);
            ANEW
        } else {
            holds(HUGE.pages() - 1)
        };
        assert_eq!(self.vm.read(cpu, LAST), last, "G2: the page is not what was stored into it");
        self.vm.end(cpu);
    }
}

fn in_place() -> InPlace {
    let config = MemoryConfig { huge: HugePolicy::Advise, ..ram(HUGE.pages()) };
    let vm = Vm::with(FRAMES, config, |vm, cpu| {
        let store = |n| assert!(vm.store(cpu, page(n), holds(n)), "nobody is in the way");
        // Both trees get their tables, and the next frames to be had follow each other.
        (0..HUGE.pages()).for_each(store);
        (0..HUGE.pages()).for_each(|n| vm.memory.discard(cpu, &vm.machine, gfns(page(n), 1)));
        line_up(vm, cpu);
        (0..HUGE.pages()).for_each(store);
        let frames = [Gpa(0), LAST].map(|at| vm.behind(cpu, at).1);
        let in_place = frames[0].is_aligned(HUGE) && frames[1].0 == frames[0].0 + HUGE.pages() - 1;
        // A block of real size is more than a CPU's cache of frames holds; what is scattered is copied.
        assert!(in_place || HUGE.pages() > 2, "not in place: {frames:?}");
        vm.memory.advise(cpu, &vm.machine, gfns(Gpa(0), HUGE.pages()));
    });
    InPlace { vm, heir: Mutex::new(None) }
}

/// Sees to it that this CPU is given the frames of an aligned block next, in order: what comes back last goes out first.
fn line_up(vm: &Vm, cpu: &Cpu) {
    let frames = vm.machine.frames();
    let mut all: Vec<Frame> = core::iter::from_fn(|| frames.alloc(cpu, Order::PAGE)).collect();
    all.sort_by_key(Frame::pfn);
    let pages = HUGE.pages() as usize;
    let whole =
        |run: &[Frame]| run[0].pfn().is_aligned(HUGE) && run[pages - 1].pfn().0 + 1 == run[0].pfn().0 + HUGE.pages();
    let at = all.windows(pages).position(whole).expect("a block is free");
    let block: Vec<Frame> = all.drain(at..at + pages).collect();
    all.into_iter().chain(block.into_iter().rev()).for_each(|frame| frames.free(cpu, frame));
}

fn scan(w: &InPlace, cpu: &Cpu) {
    w.vm.memory.scan(cpu, &w.vm.machine, &mut ScanCursor::default());
}

fn read_last(w: &InPlace, cpu: &Cpu) {
    assert_eq!(w.vm.read(cpu, LAST), holds(HUGE.pages() - 1), "G2: a read found another page's content");
}

/// The last page goes, its frame with it, and comes back in another one.
fn renew_last(w: &InPlace, cpu: &Cpu) {
    w.vm.memory.discard(cpu, &w.vm.machine, gfns(LAST, 1));
    let heir = w.vm.machine.frames().alloc(cpu, Order::PAGE).expect("a frame for the heir");
    w.vm.machine.zero(heir.pfn(), Order::PAGE);
    *w.heir.lock().unwrap_or_else(PoisonError::into_inner) = Some(heir);
    w.vm.write(cpu, LAST, ANEW);
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&ALIAS, &MARKED, &MOVED, &READ, &RENEWED];

static ALIAS: Scenario<Vm> = Scenario {
    about: About {
        name: "two-windows-unmap",
        rules: "R8,R9",
        race: "a store through one of two windows onto a page against the page being taken away",
        preemptions: 1,
    },
    world: twice_shown,
    steps: &[take_first, store_first],
};

static MARKED: Scenario<Vm> = Scenario {
    about: About {
        name: "hardware-marks-unmap-two",
        rules: "R4,R22",
        race: "hardware marking a leaf against a walk that removes it and the next one",
        preemptions: 2,
    },
    world: mapped,
    steps: &[take_two, hardware_stores],
};

static MOVED: Scenario<Vm> = Scenario {
    about: About {
        name: "window-moved-unmap",
        rules: "R9,R17",
        race: "a page being taken away against the window that showed it being moved",
        preemptions: 1,
    },
    world: shown,
    steps: &[move_window, take_both],
};

static READ: Scenario<InPlace> = Scenario {
    about: About {
        name: "collapse-in-place-read",
        rules: "R1,R3",
        race: "a look at a page against its block's small leaves becoming one in place",
        preemptions: 2,
    },
    world: in_place,
    steps: &[scan, read_last],
};

static RENEWED: Scenario<InPlace> = Scenario {
    about: About {
        name: "collapse-in-place-renewed",
        rules: "R6,R24",
        race: "a page that goes and comes back in another frame against its block becoming one leaf in place",
        preemptions: 1,
    },
    world: in_place,
    steps: &[scan, renew_last],
};
