//! How VMs come and go.
//!
//! ```text
//!   start:  request_start -> a CPU between turns: start_vm -> build, load images -> vCPU 0 to the scheduler
//!   end:    vCPU (or operator) -> end_vm: life says Ending, Running is closed, vCPUs are woken or kicked
//!           each vCPU at its next look leaves -> vcpu_gone; the last one -> drained:
//!           memory destroyed -> life says Ended, or the VM is built anew (reboot)
//! ```

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU16;

use super::Hypervisor;
use crate::epoch::Cpu;
use crate::guest::lifecycle::{After, EndStep, Fleet, State, fleet};
use crate::guest::loader::{self, Kernel, LoadError, Plan, Sizes};
use crate::isa::{Firmware, Isa, Platform, Shape, Vcpu, VmTag};
use crate::log::info;
use crate::machine::Machine;
use crate::sched::Leave;
use crate::sync::{Ordering, spin_loop};
use crate::vcpu::exit::End;
use crate::vcpu::services::MemError;
use crate::vm::{Job, Running, Vm};

impl<I: Isa> Hypervisor<I> {
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
    pub(super) fn drain(&self, cpu: &Cpu, index: usize, vm: &Vm<I>) {
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
            After::StartAgain => {
                self.console.ended(index, End::Reboot, "");
                self.request_start(index);
            }
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

    /// Asks a CPU between turns to start a VM.
    pub(super) fn request_start(&self, index: usize) {
        // The queue has room for twice as many VMs as a manifest may have; a VM is asked for once at a time.
        let _ = self.starts.lock().push_back(index);
        self.housekeeping.store(true, Ordering::Release);
    }

    #[cold]
    pub(super) fn start_vm(&self, cpu: &Cpu, index: usize) {
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
            shared: vm.config.shared_window(),
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
}
