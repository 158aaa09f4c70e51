//! First touch of a page of a shared object, against a hole punched there.
//!
//! ```text
//!   CPU 1  extent lock; the page comes to life;      CPU 0  punch: extent lock; mark; leaves go, as far as there are any;
//!          its host leaf; unlock; commit                    frames are free
//! ```
//!
//! A leaf made outside of the extent's lock can come after the punch has looked for it (R19, R20, C14).

use backend_fake::{FakeMachine, FakeRadix};
use hv_core::addr::Gpa;
use hv_core::epoch::{Cpu, Domain};
use hv_core::heap::Counted;
use hv_core::host::{Backing, HUGE, HugePolicy};
use hv_core::machine::Machine;
use hv_core::mmu::{GuestMemory, MemoryConfig};
use hv_core::page::Tmpfs;

use super::vm::{TAG, inherit, ram, store};
use crate::scenario::{About, Model, Scenario, World, as_cpu};

/// Frames for both trees, a team, its index and the heir.
const FRAMES: usize = 12 + 2 * HUGE.pages() as usize;

/// An object of one extent and a VM that shows it, never with large leaves.
pub struct Shown {
    machine: FakeMachine,
    object: Counted<Tmpfs<FakeRadix>>,
    memory: GuestMemory<FakeRadix>,
    free: u64,
}

impl World for Shown {
    fn domain(&self) -> &Domain {
        self.machine.epoch()
    }

    fn end(self, cpu: &Cpu) {
        let Self { machine, object, memory, free } = self;
        machine.check(cpu, memory.space());
        memory.destroy(cpu, &machine);
        Tmpfs::close(object, cpu, &machine).expect("R20: nobody has the object any more");
        if let Some(seen) = machine.violations().first() {
            panic!("{seen}");
        }
        assert_eq!(machine.frames().counts().free, free, "R24: frames were lost");
    }
}

fn world() -> Shown {
    let machine = FakeMachine::new(FRAMES);
    let free = machine.frames().counts().free;
    let object = Tmpfs::new(HUGE.pages()).expect("an object");
    let backing = Backing::Shared { object: Counted::clone(&object), first: 0 };
    let config = MemoryConfig { backing, huge: HugePolicy::Never, ..ram(HUGE.pages()) };
    let memory = as_cpu(machine.epoch(), 0, |cpu| GuestMemory::new(cpu, &machine, TAG, config));
    Shown { memory: memory.expect("memory for a VM"), machine, object, free }
}

fn touch(w: &Shown, cpu: &Cpu) {
    store(&w.machine, &w.memory, cpu, Gpa(0), 1);
}

fn punch(w: &Shown, cpu: &Cpu) {
    w.object.punch(cpu, &w.machine, 0, 1);
    inherit(&w.machine, cpu);
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&TOUCH_PUNCH];

static TOUCH_PUNCH: Scenario<Shown> = Scenario {
    about: About {
        name: "shared-first-touch-punch",
        rules: "R19,R20",
        race: "a first touch of an object's page against a hole punched there",
        preemptions: 2,
    },
    world,
    steps: &[punch, touch],
};
