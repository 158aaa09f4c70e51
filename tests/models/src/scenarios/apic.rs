//! Messages between local APICs of x86 guests (`backend-x86/src/apic`): none is lost, none is taken that was not sent, and
//! nobody sleeps on with one waiting.
//!
//! ```text
//!   anybody   request; announce; wake           a vCPU's CPU   announced? take that; take the request; halt if none waits
//!   anybody   INIT; start-up; wake              that CPU       take both at once, or one after the other
//! ```
//!
//! Who finds a vector requested already wakes nobody: whoever requested it does.

use backend_x86::apic::{Apics, Delivery, Destination, Event, Local, Message, Trigger};
use backend_x86::bus::Width;
use hv_core::epoch::{Cpu, Domain};
use hv_core::machine::Instant;
use hv_core::sync::{AtomicBool, AtomicU32, Mutex, Ordering};

use crate::scenario::{About, Model, Scenario, World};

const VECTOR: u8 = 0x31;
const OTHER: u8 = 0x42;
/// Page of the start-up that follows an INIT, and of another starter's.
const PAGE: u8 = 9;
const OTHER_PAGE: u8 = 0x1a;

/// A VM's local APICs, each locked by the CPU that runs its vCPU, and at the end; and what has become of vCPUs.
#[derive(Debug)]
pub struct Vm {
    domain: Domain,
    apics: Apics,
    locals: [Mutex<Local>; 2],
    /// vCPU 0 went to sleep.
    asleep: AtomicBool,
    /// Who was woken, bit = vCPU.
    woken: AtomicU32,
    /// How often vCPU 0 was sent and has taken the vectors.
    sent: AtomicU32,
    taken: AtomicU32,
    /// vCPU 1 was told to start; where it did, in order, a byte each.
    told: AtomicBool,
    starts: AtomicU32,
}

impl Vm {
    fn new() -> Self {
        let apics = Apics::new(2).expect("two vCPUs");
        let mut first = Local::new(0, 1);
        let _ = first.write(&apics, 0xf0, Width::Double, 0x1ff, Instant(0));
        let (no, zero) = (|| AtomicBool::new(false), || AtomicU32::new(0));
        let locals = [Mutex::new(first), Mutex::new(Local::new(1, 1))];
        let domain = Domain::new();
        let (asleep, woken) = (no(), zero());
        Self { domain, apics, locals, asleep, woken, sent: zero(), taken: zero(), told: no(), starts: zero() }
    }

    /// The same, and vCPU 1 has been running.
    fn running() -> Self {
        let vm = Self::new();
        vm.send(Delivery::StartUp, 1);
        vm.look_one();
        vm.starts.store(0, Ordering::Relaxed);
        vm.told.store(false, Ordering::Relaxed);
        vm
    }

    fn send(&self, delivery: Delivery, vector: u8) {
        if delivery == Delivery::StartUp {
            self.told.store(true, Ordering::Relaxed);
        }
        let to = Destination::Physical8(u8::from(matches!(delivery, Delivery::Init | Delivery::StartUp)));
        let rouse = self.apics.send(None, to, Message { delivery, vector, trigger: Trigger::Edge });
        let woken = rouse.vcpus().fold(0, |woken, vcpu| woken | 1 << vcpu);
        self.woken.fetch_or(woken, Ordering::Release);
    }

    fn send_fixed(&self, vector: u8) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.send(Delivery::Fixed, vector);
    }

    /// vCPU 0 on its way into the guest, which takes what it is offered and ends it.
    fn run(&self) {
        let mut local = self.locals[0].lock();
        while local.wants_look(&self.apics) {
            assert!(local.look(&self.apics).is_none(), "nobody sent an event");
            if local.acknowledge(&self.apics).is_some() {
                self.taken.fetch_add(1, Ordering::Relaxed);
                let _ = local.write(&self.apics, 0xb0, Width::Double, 0, Instant(0));
            }
        }
    }

    /// vCPU 1 likewise.
    fn look_one(&self) {
        let mut local = self.locals[1].lock();
        if local.wants_look(&self.apics) {
            match local.look(&self.apics) {
                Some(Event::Start(page)) => {
                    let starts = self.starts.load(Ordering::Relaxed);
                    self.starts.store(starts << 8 | u32::from(page), Ordering::Relaxed);
                }
                Some(Event::Restart) => panic!("vCPU 1 is no boot processor"),
                Some(Event::Init) | None => {}
            }
        }
    }
}

impl World for Vm {
    fn domain(&self) -> &Domain {
        &self.domain
    }

    fn end(self, _cpu: &Cpu) {
        let waits = self.locals[0].lock().interrupt_waits(&self.apics);
        let (asleep, woken) = (self.asleep.load(Ordering::Relaxed), self.woken.load(Ordering::Acquire));
        assert!(!(waits && asleep) || woken & 1 != 0, "lost: an interrupt waits, and the vCPU sleeps");
        assert!(
            !waits || self.locals[0].lock().wants_look(&self.apics),
            "lost: nobody was told of a waiting interrupt"
        );
        self.run();
        let (sent, taken) = (self.sent.load(Ordering::Relaxed), self.taken.load(Ordering::Relaxed));
        assert!(taken <= sent, "twice: {taken} interrupts taken, {sent} sent");
        assert!(sent == 0 || taken > 0, "lost: none of {sent} interrupts was taken");
        assert!(!self.locals[0].lock().interrupt_waits(&self.apics), "lost: one is left");

        self.look_one();
        let local = self.locals[1].lock();
        assert!(!local.event_waits(&self.apics), "lost: vCPU 1 was told nothing of an event");
        match self.starts.load(Ordering::Relaxed) {
            0 => assert!(!self.told.load(Ordering::Relaxed), "lost: vCPU 1 was told to start and did not"),
            start => {
                assert!([PAGE.into(), OTHER_PAGE.into()].contains(&start), "twice: vCPU 1 was started at {start:#x}")
            }
        }
    }
}

fn run_and_halt(w: &Vm, _cpu: &Cpu) {
    w.run();
    let waits = w.locals[0].lock().interrupt_waits(&w.apics);
    w.asleep.store(!waits, Ordering::Relaxed);
}

fn run_twice(w: &Vm, _cpu: &Cpu) {
    w.run();
    w.run();
}

fn send(w: &Vm, _cpu: &Cpu) {
    w.send_fixed(VECTOR);
}

fn send_another(w: &Vm, _cpu: &Cpu) {
    w.send_fixed(OTHER);
}

fn send_and_send(w: &Vm, _cpu: &Cpu) {
    w.send_fixed(VECTOR);
    w.send_fixed(VECTOR);
}

/// As every system starts a processor: the second start-up is for those that missed the first.
fn restart(w: &Vm, _cpu: &Cpu) {
    w.send(Delivery::Init, 0);
    w.send(Delivery::StartUp, PAGE);
    w.send(Delivery::StartUp, PAGE);
}

fn start(w: &Vm, _cpu: &Cpu) {
    w.send(Delivery::StartUp, PAGE);
}

fn start_elsewhere(w: &Vm, _cpu: &Cpu) {
    w.send(Delivery::StartUp, OTHER_PAGE);
}

fn look_one(w: &Vm, _cpu: &Cpu) {
    w.look_one();
    w.look_one();
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[&MESSAGE, &SAME, &MESSAGES, &AGAIN, &RESTART, &STARTERS];

static MESSAGE: Scenario<Vm> = Scenario {
    about: About { name: "apic-message", rules: "apic 1, 2", race: "a message against a halt", preemptions: 4 },
    world: Vm::new,
    steps: &[run_and_halt, send],
};

static SAME: Scenario<Vm> = Scenario {
    about: About {
        name: "apic-message-same",
        rules: "apic 2",
        race: "the same message from two senders, of whom one wakes, against a halt",
        preemptions: 2,
    },
    world: Vm::new,
    steps: &[run_and_halt, send, send],
};

static MESSAGES: Scenario<Vm> = Scenario {
    about: About { name: "apic-messages", rules: "apic 2, 3", race: "two messages against a look", preemptions: 2 },
    world: Vm::new,
    steps: &[run_twice, send, send_another],
};

static AGAIN: Scenario<Vm> = Scenario {
    about: About {
        name: "apic-message-again",
        rules: "apic 2, 3",
        race: "a message that is sent again while it is taken",
        preemptions: 3,
    },
    world: Vm::new,
    steps: &[run_and_halt, send_and_send],
};

static RESTART: Scenario<Vm> = Scenario {
    about: About {
        name: "apic-restart",
        rules: "apic events",
        race: "INIT and start-up against the look of a running vCPU",
        preemptions: 4,
    },
    world: Vm::running,
    steps: &[look_one, restart],
};

static STARTERS: Scenario<Vm> = Scenario {
    about: About { name: "apic-starters", rules: "apic events", race: "two starters of one vCPU", preemptions: 3 },
    world: Vm::new,
    steps: &[look_one, start, start_elsewhere],
};
