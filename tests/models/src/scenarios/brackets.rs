//! Brackets that overlap in time.
//!
//! ```text
//!   CPU 1  the guest: store; fault if untranslated; store      CPU 0  bracket: what the page holds may not change inside
//!                                                              CPU 2  bracket over the same page, or over others
//! ```
//!
//! Inside a bracket nobody stores into its pages (R8). Where two brackets cover one page, the one that comes second finds
//! nothing to zap; it may rely on that only because the first one's flush was over before the lock was let go (R9, F5).

use hv_core::addr::{Gpa, HvnRange, Pfn};
use hv_core::epoch::{Cpu, Domain};
use hv_core::machine::Machine;
use hv_core::mmu::zap::invalidate;
use hv_core::sync::spin_loop;

use super::vm::Vm;
use crate::scenario::{About, Model, Scenario, World, as_cpu};

const FRAMES: usize = 16;
const PAGES: u64 = 4;
const TARGET: Gpa = Gpa(0);

/// A VM with the target mapped and cached, and where it lies; nobody takes it away.
pub struct Target {
    vm: Vm,
    range: HvnRange,
    pfn: Pfn,
}

impl World for Target {
    fn domain(&self) -> &Domain {
        self.vm.domain()
    }

    fn end(self, cpu: &Cpu) {
        self.vm.end(cpu);
    }
}

fn mapped() -> Target {
    let vm = Vm::new(FRAMES, PAGES, |vm, cpu| assert!(vm.store(cpu, TARGET, 1), "nobody is in the way"));
    let (page, pfn) = as_cpu(vm.domain(), 0, |cpu| vm.behind(cpu, TARGET));
    Target { vm, range: HvnRange::new(page, 1).expect("a page"), pfn }
}

fn guest(t: &Target, cpu: &Cpu) {
    t.vm.store(cpu, TARGET, 2);
}

fn bracket(t: &Target, cpu: &Cpu) {
    invalidate(cpu, &t.vm.machine, t.vm.memory.space(), t.range, |_| ());
}

/// A bracket in which what the target holds does not change.
fn watched(t: &Target, cpu: &Cpu) {
    let machine = &t.vm.machine;
    invalidate(cpu, machine, t.vm.memory.space(), t.range, |_| {
        let word = || {
            let mut word = [0; 8];
            machine.read(t.pfn, 0, &mut word);
            u64::from_le_bytes(word)
        };
        let before = word();
        spin_loop();
        assert_eq!(before, word(), "R8: a guest stored into a page inside a bracket");
    });
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&TWO_FLUSHES];

static TWO_FLUSHES: Scenario<Target> = Scenario {
    about: About {
        name: "two-brackets-store",
        rules: "R8,R9",
        race: "a store through a cached translation against two brackets over its page",
        preemptions: 2,
    },
    world: mapped,
    steps: &[watched, guest, bracket],
};
