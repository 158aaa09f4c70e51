//! The running hypervisor: its VMs, its CPUs' main loop, and what an operator can do to both.
//!
//! Every physical CPU ends up in [`Hypervisor::run`]: take a vCPU from the scheduler and give it a turn, or sleep.
//! Between turns the CPU does work that belongs to no vCPU: the operator's commands, starting and taking down VMs.
//!
//! ```text
//!   end of a VM:  vCPU (or operator) -> end_vm: life says Ending, Running is closed, vCPUs are woken or kicked
//!                 each vCPU at its next look leaves -> vcpu_gone; the last one -> drained:
//!                 memory destroyed -> life says Ended, or the VM is built anew (reboot)
//! ```

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU16;

use crate::device::console::Consoles;
use crate::epoch::Cpu;
use crate::guest::bundle::Bundle;
use crate::guest::lifecycle::{After, EndStep, Fleet, State, fleet, verdict_now};
use crate::guest::loader::{self, Kernel, LoadError, Plan, Sizes};
use crate::isa::{Firmware, Isa, Platform, Shape, Vcpu, VmTag};
use crate::link::Event;
use crate::log::info;
use crate::machine::{Interrupts, Machine, Verdict};
use crate::monitor::OwnMemory;
use crate::sched::{Leave, Pick, Scheduler};
use crate::sync::{AtomicBool, Mutex, Ordering, spin_loop};
use crate::vcpu::exit::End;
use crate::vcpu::run::turn;
use crate::vcpu::services::MemError;
use crate::vm::{Job, Running, Vm};

mod operator;

use operator::Operating;

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

/// The hypervisor.
pub struct Hypervisor<I: Isa> {
    /// The machine it runs on.
    pub machine: &'static I::Machine,
    pub(crate) sched: Scheduler<Job<I>>,
    pub(crate) console: Consoles,
    vms: Vec<Vm<I>>,
    bundle: Bundle<'static>,
    footprint: Footprint,
    hooks: Hooks,
    /// Work that belongs to no vCPU waits; any CPU between turns does it.
    housekeeping: AtomicBool,
    /// The operator wants the machine off.
    switch_off: AtomicBool,
    /// Requests to start a VM, by VM; done between turns because loading takes long.
    starts: Mutex<heapless::Deque<usize, 32>>,
}

impl<I: Isa> Hypervisor<I> {
    /// A hypervisor for the VMs of `bundle`, none of them started.
    pub fn new(
        machine: &'static I::Machine,
        console: Consoles,
        bundle: Bundle<'static>,
        footprint: Footprint,
        hooks: Hooks,
    ) -> Self {
        let vms = bundle.config().vms.iter().cloned().map(Vm::new).collect();
        let slice = machine.ticks_per_second() / SLICES_PER_SECOND;
        Self {
            machine,
            sched: Scheduler::new(slice),
            console,
            vms,
            bundle,
            footprint,
            hooks,
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
            if self.housekeeping.swap(false, Ordering::AcqRel) {
                self.housekeep(cpu);
            }
            (self.hooks.drain_log)(&self.console);
            match self.sched.next(cpu.id(), self.machine.now()) {
                Pick::Run(job, until) => turn(self, cpu, job, until),
                Pick::Sleep(until) => {
                    let look = self.machine.now().after(self.machine.ticks_per_second() / LOOKS_PER_SECOND);
                    self.machine.idle(cpu, until.min(look));
                    self.machine.interrupts(cpu);
                    self.poll_console(cpu);
                }
            }
        }
    }

    /// Takes this CPU's physical interrupts.
    pub(crate) fn interrupts(&self, cpu: &Cpu) {
        if self.machine.interrupts(cpu).contains(Interrupts::CONSOLE) {
            self.poll_console(cpu);
        }
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
            let lives: Vec<_> = self.vms.iter().map(|vm| *vm.life.lock()).collect();
            self.off(verdict_now(&lives));
        }
    }

    fn console_input(&self, cpu: &Cpu, vm: usize) {
        let Some(running) = self.vms.get(vm).and_then(Vm::running) else { return };
        if let Some(vcpu) = running.platform.console_input()
            && let Some(job) = Job::new(&running, vcpu)
        {
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

    /// Ends a VM: from now on its vCPUs leave. Whoever calls first decides how it ended.
    #[cold]
    pub(crate) fn end_vm(&self, cpu: &Cpu, index: usize, how: End) {
        let Some(vm) = self.vms.get(index) else { return };
        let step = vm.life.lock().end(how);
        if step == EndStep::Drain {
            self.drain(cpu, index, vm);
        }
    }

    /// Makes the vCPUs of an ending VM leave.
    fn drain(&self, cpu: &Cpu, index: usize, vm: &Vm<I>) {
        let Some(running) = vm.running() else { return };
        let empty = running.close();
        for job in (0..vm.config.vcpus).filter_map(|n| Job::new(&running, n)) {
            self.wake(cpu, &job);
        }
        if empty {
            drop(running);
            self.drained(cpu, index);
        }
    }

    /// A vCPU stopped itself; it may be started again.
    pub(crate) fn vcpu_stopped(&self, cpu: &Cpu, job: Job<I>) {
        let vm = Arc::clone(&job.vm);
        self.sched.leave(cpu.id(), job, Leave::Stop);
        if vm.part() {
            let index = vm.index;
            let ending = vm.is_ending();
            drop(vm);
            if ending {
                self.drained(cpu, index);
            } else {
                self.end_vm(cpu, index, End::Broken("every vCPU stopped itself"));
            }
        }
    }

    /// A vCPU has left its ending VM for good.
    pub(crate) fn vcpu_gone(&self, cpu: &Cpu, job: Job<I>) {
        let vm = Arc::clone(&job.vm);
        self.sched.leave(cpu.id(), job, Leave::Stop);
        let last = vm.part();
        let index = vm.index;
        drop(vm);
        if last {
            self.drained(cpu, index);
        }
    }

    /// No vCPU is in the VM nor enters it again: frees what it owned (R20).
    #[cold]
    fn drained(&self, cpu: &Cpu, index: usize) {
        let Some(vm) = self.vms.get(index) else { return };
        let running = vm.running.lock().take();
        if let Some(mut shared) = running {
            // Handles of CPUs that have just left, or of the operator's `stat`, last a moment longer.
            let alone = loop {
                match Arc::try_unwrap(shared) {
                    Ok(alone) => break alone,
                    Err(again) => shared = again,
                }
                spin_loop();
            };
            info!("VM {} is taken down", index);
            alone.memory.destroy(cpu, self.machine);
        }
        let after = vm.life.lock().drained();
        match after {
            After::StartAgain => self.request_start(index),
            After::Over(how) => {
                let words = vm.last_words.lock().clone();
                self.console.ended(index, how, &words);
                self.look_at_fleet();
            }
            After::NotEnding => {}
        }
    }

    /// Switches off once every VM is over.
    fn look_at_fleet(&self) {
        let lives: Vec<_> = self.vms.iter().map(|vm| *vm.life.lock()).collect();
        match fleet(&lives) {
            Fleet::Over(verdict) => self.off(verdict),
            Fleet::Idle(verdict) if !self.console.has_operator() => self.off(verdict),
            Fleet::Idle(_) => self.console.idle(),
            Fleet::Alive => {}
        }
    }

    fn off(&self, verdict: Verdict) -> ! {
        (self.hooks.drain_log)(&self.console);
        self.console.powering_off(verdict);
        (self.hooks.power_off)(verdict)
    }

    /// Asks a CPU between turns to start a VM.
    fn request_start(&self, index: usize) {
        // The queue has room for twice as many VMs as a manifest may have; a VM is asked for once at a time.
        let _ = self.starts.lock().push_back(index);
        self.housekeeping.store(true, Ordering::Release);
    }

    #[cold]
    fn start_vm(&self, cpu: &Cpu, index: usize) {
        let Some(vm) = self.vms.get(index) else { return };
        if vm.life.lock().start().is_err() {
            return;
        }
        vm.last_words.lock().clear();
        self.console.forget_input(index);
        match self.build(cpu, index, vm) {
            Ok(first) => {
                info!("VM {} starts on CPU {}", index, cpu.id().0);
                *vm.running.lock() = Some(Arc::clone(&first.vm));
                self.console.started(index);
                // An operator's stop that came while the VM was built found nothing to close.
                if vm.life.lock().state() == State::Running && first.vm.join() {
                    if let Ok(Some(idle)) = self.sched.start(first) {
                        self.machine.kick(idle);
                    }
                } else {
                    drop(first);
                    self.drained(cpu, index);
                }
            }
            Err(why) => {
                self.console.say(format_args!("VM {}: {why}", vm.config.name));
                let how = match why {
                    LoadError::Memory(MemError::NoMemory) => End::OutOfMemory,
                    _ => End::Broken("its images cannot be loaded"),
                };
                vm.life.lock().end(how);
                self.drained(cpu, index);
            }
        }
    }

    /// Builds a VM and loads its images; returns its first vCPU, ready to start.
    fn build(&self, cpu: &Cpu, index: usize, vm: &Vm<I>) -> Result<Job<I>, LoadError> {
        let m = self.machine;
        let out_of_memory = LoadError::Memory(MemError::NoMemory);
        let tag = u16::try_from(index).ok().and_then(|n| NonZeroU16::new(n.saturating_add(1)));
        let tag = VmTag(tag.ok_or(out_of_memory)?);
        let running = Running::<I>::build(cpu, m, index, tag, &vm.config).map_err(|_| out_of_memory)?;
        match self.load(cpu, &running, vm) {
            Ok(()) => Job::new(&Arc::new(running), 0).ok_or(out_of_memory),
            Err(why) => {
                running.memory.destroy(cpu, m);
                Err(why)
            }
        }
    }

    fn load(&self, cpu: &Cpu, running: &Running<I>, vm: &Vm<I>) -> Result<(), LoadError> {
        let m = self.machine;
        let write = |at, bytes: &[u8]| running.memory.write(cpu, m, at, bytes);
        let kernel = self.bundle.kernel(&vm.config).ok_or(LoadError::NotElf)?;
        let kernel = Kernel::parse(kernel, I::Platform::ELF_MACHINE)?;
        let initrd = self.bundle.initrd(&vm.config).unwrap_or(&[]);
        let plan = Plan::new(
            kernel.end,
            Sizes {
                ram: vm.config.memory,
                ceiling: I::Platform::CEILING,
                initrd: initrd.len() as u64,
                tree: I::Platform::TREE_ROOM,
                firmware: I::Platform::CODE_ROOM,
            },
        )?;
        let shape = Shape {
            name: &vm.config.name,
            vcpus: vm.config.vcpus,
            ram: vm.config.memory,
            entry: kernel.entry,
            order: kernel.order,
            cmdline: &vm.config.cmdline,
            plan,
        };
        let out_of_memory = LoadError::Memory(MemError::NoMemory);
        let Firmware { tree, code, start } = running.platform.firmware(m, &shape).ok_or(out_of_memory)?;
        kernel.load(write)?;
        loader::copy(plan.initrd.start, initrd, write)?;
        loader::copy(plan.tree.start, &tree, write)?;
        loader::copy(plan.firmware.start, &code, write)?;
        if let Some(first) = running.vcpus.first() {
            first.vcpu.lock().reset(start);
        }
        Ok(())
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
