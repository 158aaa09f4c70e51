//! Interrupts of Arm guests between home and list registers (`backend-arm/src/vgic`): none is lost, none listed twice.
//!
//! ```text
//!   anybody   latch; announce                 a vCPU's CPU   announced? take that; take the latch; list it
//!   anybody   line up, routed to a vCPU       that CPU, or the one that the route changes to
//! ```
//!
//! A vCPU that is told of nothing does not look: what was latched before the last announcement it took is listed, or there
//! is a newer announcement.

use backend_arm::vcpu::mmio::Width;
use backend_arm::vgic::{Level, Lists, Lr, TimerLines, Vgic};
use hv_core::epoch::{Cpu, Domain};
use hv_core::sync::Mutex;

use crate::scenario::{About, Model, Scenario, World};

const SPI: u32 = 33;
/// GICD_IROUTER of that SPI.
const ROUTE: u64 = 0x6000 + 8 * SPI as u64;

/// A VM's interrupt controller, and its vCPUs' list registers: each locked by the CPU that runs the vCPU, and at the end.
#[derive(Debug)]
pub struct Vm {
    domain: Domain,
    gic: Vgic,
    lists: [Mutex<Lists>; 2],
}

impl Vm {
    fn new() -> Self {
        let gic = Vgic::new(2).expect("two vCPUs");
        for vcpu in 0..2 {
            for bank in [0x1_0080, 0x1_0100] {
                let _ = gic.write_redistributor(vcpu, vcpu, bank, Width::Word, u64::MAX);
            }
        }
        for (register, value) in [(0x84, u64::MAX), (0x104, u64::MAX), (0, 2)] {
            let _ = gic.write_distributor(0, register, Width::Word, value);
        }
        let vm = Self { domain: Domain::new(), gic, lists: [Mutex::new(Lists::new(4)), Mutex::new(Lists::new(4))] };
        vm.look(0);
        vm.look(1);
        vm
    }

    /// A vCPU on its way into the guest.
    fn look(&self, vcpu: u16) {
        if self.gic.wants_look(vcpu) {
            let mut lists = self.lists[usize::from(vcpu)].lock();
            self.gic.fold(vcpu, &mut lists);
            let _ = self.gic.fill(vcpu, &mut lists, TimerLines::DOWN);
        }
    }

    /// In how many registers an interrupt is.
    fn listed(&self, vcpu: u16, id: u32) -> usize {
        let lists = self.lists[usize::from(vcpu)].lock();
        lists.lr.iter().map(|word| Lr(*word)).filter(|lr| !lr.is_over() && lr.id() == id).count()
    }

    /// The guest takes and ends it, if it is listed.
    fn taken(&self, vcpu: u16, id: u32) {
        let mut lists = self.lists[usize::from(vcpu)].lock();
        let lr = lists.lr.iter_mut().find(|word| Lr(**word).id() == id && Lr(**word).is_pending());
        if let Some(word) = lr {
            *word = Lr(*word).with(0).0;
        }
        self.gic.fold(vcpu, &mut lists);
    }

    /// Everybody who was told something looks, until nobody is told anything any more.
    fn settle(&self) {
        for _ in 0..4 {
            self.look(0);
            self.look(1);
        }
    }
}

impl World for Vm {
    fn domain(&self) -> &Domain {
        &self.domain
    }

    fn end(self, _cpu: &Cpu) {
        self.settle();
        for id in [3, 5] {
            // Sent in some scenarios and not in others, and taken in none but one.
            assert!(self.listed(0, id) <= 1, "twice: message {id}");
            let state = self.gic.read_redistributor(0, 0x1_0200, Width::Word) >> id & 1;
            assert!(state as usize == self.listed(0, id), "lost: message {id} is pending, and nobody was told");
        }
        let pending = self.gic.read_distributor(0x204, Width::Word) >> (SPI - 32) & 1;
        let listed = self.listed(0, SPI) + self.listed(1, SPI);
        assert!(listed <= 1, "twice: the device's interrupt");
        assert!(listed as u64 == pending, "lost: the device's interrupt is pending, and nobody was told");
    }
}

fn send(w: &Vm, _cpu: &Cpu) {
    w.gic.send(0, 3);
}

fn send_another(w: &Vm, _cpu: &Cpu) {
    w.gic.send(0, 5);
}

fn look(w: &Vm, _cpu: &Cpu) {
    w.look(0);
    w.look(0);
}

/// Each message that was sent before the last one taken is that one or was taken.
fn take(w: &Vm, _cpu: &Cpu) {
    w.look(0);
    w.taken(0, 3);
    w.look(0);
}

fn send_and_send(w: &Vm, _cpu: &Cpu) {
    w.gic.send(0, 3);
    w.gic.send(0, 3);
}

fn withdraw(w: &Vm, _cpu: &Cpu) {
    let mut lists = w.lists[0].lock();
    w.gic.withdraw(0, &mut lists, TimerLines::DOWN);
    drop(lists);
    w.look(0);
}

/// Another vCPU disables and enables it again.
fn toggle(w: &Vm, _cpu: &Cpu) {
    for bank in [0x1_0180, 0x1_0100] {
        let _ = w.gic.write_redistributor(1, 0, bank, Width::Word, 1 << 3);
    }
}

fn raise(w: &Vm, _cpu: &Cpu) {
    let _ = w.gic.set_line(SPI, Level::High);
}

fn look_zero(w: &Vm, _cpu: &Cpu) {
    w.look(0);
}

fn reroute(w: &Vm, _cpu: &Cpu) {
    let _ = w.gic.write_distributor(1, ROUTE, Width::Double, 1);
    w.look(1);
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&MESSAGE, &MESSAGES, &AGAIN, &HOME, &TOGGLE, &LINE];

static MESSAGE: Scenario<Vm> = Scenario {
    about: About { name: "gic-message", rules: "vgic 1, 2", race: "a message against a look", preemptions: 4 },
    world: Vm::new,
    steps: &[look, send],
};

static MESSAGES: Scenario<Vm> = Scenario {
    about: About { name: "gic-messages", rules: "vgic 1, 2", race: "two messages against a look", preemptions: 2 },
    world: Vm::new,
    steps: &[look, send, send_another],
};

static AGAIN: Scenario<Vm> = Scenario {
    about: About {
        name: "gic-message-again",
        rules: "vgic 2, 3",
        race: "a message that is sent again while it is taken",
        preemptions: 3,
    },
    world: Vm::new,
    steps: &[take, send_and_send],
};

static HOME: Scenario<Vm> = Scenario {
    about: About { name: "gic-home", rules: "vgic 4", race: "a message against its being taken home", preemptions: 3 },
    world: Vm::new,
    steps: &[withdraw, send_and_send],
};

static TOGGLE: Scenario<Vm> = Scenario {
    about: About {
        name: "gic-toggle",
        rules: "vgic 1, 2",
        race: "a message while another vCPU disables and enables it",
        preemptions: 2,
    },
    world: Vm::new,
    steps: &[look, send, toggle],
};

static LINE: Scenario<Vm> = Scenario {
    about: About {
        name: "gic-line",
        rules: "vgic 1, 2",
        race: "a device's line while its route changes: one vCPU of two lists it",
        preemptions: 2,
    },
    world: Vm::new,
    steps: &[look_zero, raise, reroute],
};
