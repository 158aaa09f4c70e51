//! The running hypervisor: its VMs, its CPUs' main loop, and what an operator can do to both.
//!
//! Every physical CPU ends up in [`Hypervisor::run`]: take a vCPU from the scheduler and give it a turn, or sleep.
//! Between turns the CPU does work that belongs to no vCPU: the operator's commands, starting and taking down VMs.
//! How a VM starts and ends is `hypervisor/life.rs`, what happens when memory runs out `hypervisor/relief.rs`, what the
//! monitor may do `hypervisor/operator.rs`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::device::console::Consoles;
use crate::epoch::Cpu;
use crate::guest::bundle::Bundle;
use crate::guest::lifecycle::{Life, verdict_now};
use crate::isa::{Isa, Platform};
use crate::link::Event;
use crate::log::info;
use crate::machine::{Instant, Interrupts, Machine, Verdict};
use crate::monitor::OwnMemory;
use crate::page::Store;
use crate::page::zeroed::{self, Refill};
use crate::sched::{Pick, Scheduler};
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::vcpu::exit::End;
use crate::vcpu::run::turn;
use crate::vm::{Job, Vm};

mod life;
mod objects;
mod operator;
mod relief;
mod scan;

pub use objects::{Objects, Uses};
use operator::Operating;
pub(crate) use relief::Relief;
use relief::Shortage;
use scan::{Scan, Scanning};

/// Time slices in a second.
const SLICES_PER_SECOND: u64 = 200;
/// A CPU that has nothing to do looks at the console this often even if no interrupt comes.
const LOOKS_PER_SECOND: u64 = 50;

/// What the board knows and hv-core only reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Footprint {
    /// All RAM, in bytes.
    pub total: u64,
    /// What firmware keeps.
    pub firmware: u64,
    /// The bundle.
    pub bundle: u64,
    /// Image, metadata and heap; tables are counted at run time.
    pub own: OwnMemory,
}

/// What only the board can do.
#[derive(Clone, Copy, Debug)]
pub struct Hooks {
    /// Sends what was logged to the operator.
    pub drain_log: fn(&Consoles),
    /// Ends the run.
    pub power_off: fn(Verdict) -> !,
}

/// What a CPU's loop does rarely, by reference: it is compiled by whoever makes the [`Hypervisor`], the loop by whoever
/// calls [`Hypervisor::run`]. A board has the one compiled for size and the other for speed.
pub(crate) struct Rare<I: Isa> {
    housekeep: fn(&Hypervisor<I>, &Cpu),
    /// What makes memory better, a step at a time, when nothing is to be run.
    tidy: fn(&Hypervisor<I>, &Cpu) -> Scan,
    pub(crate) relieve: fn(&Hypervisor<I>, &Cpu, usize) -> Relief,
    pub(crate) poll_console: fn(&Hypervisor<I>, &Cpu),
    pub(crate) end_vm: fn(&Hypervisor<I>, &Cpu, usize, End),
    pub(crate) vcpu_stopped: fn(&Hypervisor<I>, &Cpu, Job<I>),
    pub(crate) vcpu_gone: fn(&Hypervisor<I>, &Cpu, Job<I>),
}

/// The hypervisor.
pub struct Hypervisor<I: Isa> {
    /// The machine it runs on.
    pub machine: &'static I::Machine,
    pub(crate) sched: Scheduler<Job<I>>,
    pub(crate) console: Consoles,
    vms: Vec<Vm<I>>,
    objects: Objects<I>,
    /// Where pages go when memory is short.
    store: Arc<dyn Store<I::Machine>>,
    shortage: Shortage,
    bundle: Bundle<'static>,
    footprint: Footprint,
    hooks: Hooks,
    pub(crate) rare: Rare<I>,
    /// Where the search for blocks to collapse goes on. Held by the CPU that looks.
    scanning: Mutex<Scanning>,
    /// Work that belongs to no vCPU waits; any CPU between turns does it.
    housekeeping: AtomicBool,
    /// The operator wants the machine off.
    switch_off: AtomicBool,
    /// Requests to start a VM, by VM; done between turns because loading takes long.
    starts: Mutex<heapless::Deque<usize, 32>>,
}

impl<I: Isa> Hypervisor<I> {
    /// The scheduler for the vCPUs of `bundle`; `None` if there is no heap for so many.
    pub fn scheduler(machine: &I::Machine, bundle: &Bundle<'_>) -> Option<Scheduler<Job<I>>> {
        let vcpus = bundle.config().vms.iter().map(|vm| usize::from(vm.vcpus)).sum();
        Scheduler::new(machine.ticks_per_second() / SLICES_PER_SECOND, vcpus)
    }

    /// A hypervisor for the VMs of `bundle`, none of them started. Their pages go to `store` when memory is short. `sched` is
    /// that of [`Hypervisor::scheduler`].
    pub fn new(
        machine: &'static I::Machine,
        console: Consoles,
        sched: Scheduler<Job<I>>,
        mut bundle: Bundle<'static>,
        store: Arc<dyn Store<I::Machine>>,
        footprint: Footprint,
        hooks: Hooks,
    ) -> Self {
        let vms = bundle.take_vms().into_iter().map(Vm::new).collect();
        Self {
            machine,
            sched,
            console,
            vms,
            objects: Objects::default(),
            store,
            shortage: Shortage::default(),
            bundle,
            footprint,
            hooks,
            rare: Rare {
                housekeep: Self::housekeep,
                tidy: Self::tidy,
                relieve: Self::relieve,
                poll_console: Self::poll_console,
                end_vm: Self::end_vm,
                vcpu_stopped: Self::vcpu_stopped,
                vcpu_gone: Self::vcpu_gone,
            },
            scanning: Mutex::new(Scanning::default()),
            housekeeping: AtomicBool::new(false),
            switch_off: AtomicBool::new(false),
            starts: Mutex::new(heapless::Deque::new()),
        }
    }

    /// Asks for every VM to be started. Called once, by the boot CPU, before [`Hypervisor::run`].
    pub fn start_all(&self) {
        for index in 0..self.vms.len() {
            self.request_start(index);
        }
    }

    /// A physical CPU's main loop.
    pub fn run(&self, cpu: &Cpu) -> ! {
        loop {
            self.between_turns(cpu);
            match self.sched.next(cpu.id(), self.machine.now()) {
                Pick::Run(job, until) => turn(self, cpu, job, until),
                Pick::Sleep(until) => self.rest(cpu, until),
            }
        }
    }

    /// The main loop of a CPU on which no guest may run: it does what the others do between turns, and when they rest.
    pub fn keep_house(&self, cpu: &Cpu) -> ! {
        loop {
            self.between_turns(cpu);
            self.rest(cpu, Instant::NEVER);
        }
    }

    fn between_turns(&self, cpu: &Cpu) {
        if self.housekeeping.swap(false, Ordering::AcqRel) {
            (self.rare.housekeep)(self, cpu);
        }
        (self.hooks.drain_log)(&self.console);
    }

    /// Nothing is to be run until then.
    fn rest(&self, cpu: &Cpu, until: Instant) {
        // What is zeroed, freed or collapsed now no fault waits for later. A step is short, and then the CPU looks for work
        // again.
        if (self.rare.tidy)(self, cpu) == Scan::Rest {
            let look = self.machine.now().after(self.machine.ticks_per_second() / LOOKS_PER_SECOND);
            self.machine.idle(cpu, until.min(look));
        }
        self.machine.interrupts(cpu);
        (self.rare.poll_console)(self, cpu);
    }

    /// Takes this CPU's physical interrupts.
    pub(crate) fn interrupts(&self, cpu: &Cpu) {
        if self.machine.interrupts(cpu).contains(Interrupts::CONSOLE) {
            (self.rare.poll_console)(self, cpu);
        }
    }

    /// A step of what a CPU with nothing to run does for others.
    fn tidy(&self, cpu: &Cpu) -> Scan {
        if zeroed::refill(self.machine) == Refill::Step || self.free_ahead(cpu) == Scan::Stepped {
            return Scan::Stepped;
        }
        self.scan(cpu)
    }

    /// Takes the console's input. What the operator wants waits for a CPU between turns: it may take long.
    #[cold]
    pub(crate) fn poll_console(&self, cpu: &Cpu) {
        if self.console.poll(|vm| self.console_input(cpu, vm)) {
            self.housekeeping.store(true, Ordering::Release);
        }
    }

    /// True if work waits that a CPU between turns must do.
    pub(crate) fn has_housekeeping(&self) -> bool {
        self.housekeeping.load(Ordering::Relaxed)
    }

    /// Does what belongs to no vCPU.
    #[cold]
    fn housekeep(&self, cpu: &Cpu) {
        while self.console.serve(&Operating { hv: self, cpu }).is_some() {
            // Until it was served nothing more was received.
            self.poll_console(cpu);
        }
        loop {
            let start = self.starts.lock().pop_front();
            let Some(index) = start else { break };
            self.start_vm(cpu, index);
        }
        if self.switch_off.load(Ordering::Acquire) {
            self.off(verdict_now(self.lives()));
        }
    }

    fn console_input(&self, cpu: &Cpu, vm: usize) {
        let Some(running) = self.vms.get(vm).and_then(Vm::running) else { return };
        for job in running.platform.console_input().into_iter().filter_map(|vcpu| Job::new(&running, vcpu)) {
            self.wake(cpu, &job);
        }
    }

    /// Makes a vCPU look at what waits for it.
    pub(crate) fn wake(&self, cpu: &Cpu, job: &Job<I>) {
        if let Some(other) = self.sched.wake(job)
            && other != cpu.id()
        {
            self.machine.kick(other);
        }
    }

    /// Keeps a guest's last words.
    pub(crate) fn keep_last_words(&self, vm: usize, text: &[u8]) {
        if let Some(vm) = self.vms.get(vm) {
            let mut words = vm.last_words.lock();
            words.clear();
            let printable = text.iter().map(|&b| if b.is_ascii_graphic() || b == b' ' { char::from(b) } else { ' ' });
            // What does not fit is cut.
            let _ = printable.take_while(|&c| words.push(c).is_ok()).count();
        }
    }

    /// Where each VM is in its life.
    fn lives(&self) -> impl Iterator<Item = Life> {
        self.vms.iter().map(|vm| *vm.life.lock())
    }

    /// Ends the run.
    fn off(&self, verdict: Verdict) -> ! {
        (self.hooks.drain_log)(&self.console);
        self.console.powering_off(verdict);
        (self.hooks.power_off)(verdict)
    }

    /// The consoles, for the board's own messages and for panics.
    pub fn console(&self) -> &Consoles {
        &self.console
    }

    /// Says that Trivet is up.
    pub fn announce(&self, cpus: u16) {
        info!("{} on {} CPUs, {} VMs", I::NAME, cpus, self.vms.len());
        let own = self.footprint.own.total();
        self.console.event(&Event::Booted { cpus, memory: self.footprint.total, own });
    }
}

impl<I: Isa> core::fmt::Debug for Hypervisor<I> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Hypervisor").field("vms", &self.vms.len()).finish_non_exhaustive()
    }
}
