//! How VMs come and go.
//!
//! ```text
//!   start:  request_start -> a CPU between turns: start_vm: Readiness says Building
//!           build, load images -> Ready -> vCPU 0 to the scheduler; on any error all is undone, and it is Empty again
//!   end:    vCPU (or operator) -> end_vm: life says Ending, Readiness Draining, vCPUs are woken or kicked
//!           each vCPU at its next look leaves -> vcpu_gone; the last one -> drained:
//!           memory destroyed -> Empty -> life says Ended, or the VM is built anew (reboot)
//! ```
//!
//! [`Life`](crate::guest::lifecycle::Life) says what is wanted of a VM and how it ended, [`crate::mmu::ready`] who may be
//! in it: whoever is given a `Drained` takes the VM apart, exactly once, and tells its life afterwards.

use core::convert::Infallible;
use core::num::NonZeroU16;

use super::Hypervisor;
use crate::addr::{GfnRange, Gpa, PAGE_SIZE};
use crate::epoch::Cpu;
use crate::guest::lifecycle::{After, Fleet, fleet};
use crate::guest::loader::{self, LoadError, Plan, Sizes};
use crate::guest::manifest::Granule;
use crate::heap::Counted;
use crate::isa::{Firmware, Isa, Platform, Shape, Vcpu, VmTag};
use crate::log::info;
use crate::machine::Machine;
use crate::mmu::ready::{Drained, Left, Permit};
use crate::sched::Leave;
use crate::sync::{Ordering, spin_loop};
use crate::vcpu::exit::End;
use crate::vcpu::services::MemError;
use crate::vm::{Ending, Job, NoMemory, Running, Vm};

impl<I: Isa> Hypervisor<I> {
    /// Ends a VM: from now on its vCPUs leave. Whoever calls first decides how it ended.
    #[cold]
    pub(crate) fn end_vm(&self, cpu: &Cpu, index: usize, how: End) {
        let Some(vm) = self.vms.get(index) else { return };
        let Ok(ended) = vm.end(|life| Ok::<_, Infallible>(life.end(how)));
        if let Some(ending) = ended {
            self.drain(cpu, index, vm, ending);
        }
    }

    /// Makes the vCPUs of an ending VM leave.
    pub(super) fn drain(&self, cpu: &Cpu, index: usize, vm: &Vm<I>, ending: Ending) {
        if let Some(running) = vm.running() {
            for job in (0..vm.config.vcpus).filter_map(|n| Job::new(&running, n)) {
                self.wake(cpu, &job);
            }
        }
        if let Ending(Some(drained)) = ending {
            self.drained(cpu, index, drained);
        }
    }

    /// A vCPU stopped itself; it may be started again.
    pub(crate) fn vcpu_stopped(&self, cpu: &Cpu, job: Job<I>) {
        let (index, left) = self.take_off(cpu, job);
        if let Left::Nobody = left {
            self.end_vm(cpu, index, End::Broken("every vCPU stopped itself"));
        }
        self.left(cpu, index, left);
    }

    /// A vCPU has left its ending VM for good.
    pub(crate) fn vcpu_gone(&self, cpu: &Cpu, job: Job<I>) {
        let (index, left) = self.take_off(cpu, job);
        self.left(cpu, index, left);
    }

    /// Takes a vCPU off the scheduler and gives its permit back. Neither vCPU nor VM is touched after that.
    fn take_off(&self, cpu: &Cpu, job: Job<I>) -> (usize, Left) {
        let index = job.vm.index;
        // Before the vCPU counts as stopped: from then on another CPU may start it, with a permit of its own.
        let permit = job.cell().dismiss();
        self.sched.leave(cpu.id(), job, Leave::Stop);
        (index, permit.map_or(Left::Others, Permit::leave))
    }

    /// Whoever leaves last takes it apart.
    fn left(&self, cpu: &Cpu, index: usize, left: Left) {
        if let Left::Last(drained) = left {
            self.drained(cpu, index, drained);
        }
    }

    /// No vCPU is in the VM nor enters it again: frees what it owned (R20).
    #[cold]
    fn drained(&self, cpu: &Cpu, index: usize, drained: Drained) {
        let Some(vm) = self.vms.get(index) else { return };
        let running = vm.running.lock().take();
        if let Some(mut shared) = running {
            // Handles of CPUs that have just left, or of the operator's `stat`, last a moment longer.
            let alone = loop {
                match Counted::try_unwrap(shared) {
                    Ok(alone) => break alone,
                    Err(again) => shared = again,
                }
                spin_loop();
            };
            info!("VM {} is taken down", index);
            self.take_apart(cpu, alone);
        }
        drop(drained);
        let after = vm.life.lock().drained();
        self.over(index, vm, after);
    }

    /// A VM that ended owns nothing any more: what comes next.
    fn over(&self, index: usize, vm: &Vm<I>, after: After) {
        match after {
            After::StartAgain(how) => {
                self.console.ended(index, how, "");
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
        match fleet(self.lives()) {
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
        // Of two requests for one VM, one builds.
        let Ok(building) = vm.ready.build() else { return };
        if vm.life.lock().start().is_err() {
            return;
        }
        vm.last_words.lock().clear();
        self.console.forget_input(index);
        match self.build(cpu, index, vm) {
            Ok(first) => {
                info!("VM {} starts on CPU {}", index, cpu.id().0);
                *vm.running.lock() = Some(Counted::clone(&first.vm));
                self.console.started(index);
                match building.ready() {
                    Ok(permit) => {
                        first.cell().admit(permit);
                        if let Ok(Some(idle)) = self.sched.start(first) {
                            self.machine.kick(idle);
                        }
                    }
                    // An operator's stop came while the VM was built.
                    Err(left) => {
                        drop(first);
                        self.left(cpu, index, left);
                    }
                }
            }
            Err(why) => {
                self.console.say(format_args!("VM {}: {why}", vm.config.name));
                let how = match why {
                    LoadError::Memory(MemError::NoMemory) => End::OutOfMemory,
                    _ => End::Broken("its images cannot be loaded"),
                };
                vm.life.lock().end(how);
                drop(building);
                let after = vm.life.lock().not_built();
                self.over(index, vm, after);
            }
        }
    }

    /// Builds a VM and loads its images; returns its first vCPU, ready to start. On an error nothing is left of it.
    fn build(&self, cpu: &Cpu, index: usize, vm: &Vm<I>) -> Result<Job<I>, LoadError> {
        let m = self.machine;
        let out_of_memory = LoadError::Memory(MemError::NoMemory);
        if vm.config.granule != Granule::Page && !I::GRANULES {
            return Err(LoadError::Granule);
        }
        // The same in every life of this VM; nothing of the last one is cached under it any more (see VmTag).
        let tag = u16::try_from(index).ok().and_then(|n| NonZeroU16::new(n.saturating_add(1)));
        let tag = VmTag(tag.ok_or(out_of_memory)?);
        // For tables, and what else is asked for once. Without any it will be told so.
        self.room_to_build(cpu, index);
        let uses = self.objects.acquire(cpu, m, &vm.config, &self.store).ok_or(out_of_memory)?;
        let running = Running::<I>::build(cpu, m, index, tag, vm, uses, &self.store).map_err(|(NoMemory, uses)| {
            self.objects.release(cpu, m, uses);
            out_of_memory
        })?;
        let shared = match self.load(cpu, &running, vm) {
            Ok(()) => Counted::new(running).map_err(|running| (running, out_of_memory)),
            Err(why) => Err((running, why)),
        };
        match shared {
            Ok(running) => Job::new(&running, 0).ok_or(out_of_memory),
            Err((running, why)) => {
                self.take_apart(cpu, running);
                Err(why)
            }
        }
    }

    /// Frees what a VM owned.
    fn take_apart(&self, cpu: &Cpu, running: Running<I>) {
        let Running { memory, vcpus, uses, .. } = running;
        // With the pages that are kept in mind for them, which know the memory.
        drop(vcpus);
        memory.destroy(cpu, self.machine);
        self.objects.release(cpu, self.machine, uses);
    }

    fn load(&self, cpu: &Cpu, running: &Running<I>, vm: &Vm<I>) -> Result<(), LoadError> {
        let m = self.machine;
        let write = |at, bytes: &[u8]| loop {
            match running.memory.write(cpu, m, at, bytes) {
                Err(MemError::NoMemory) if self.room_to_build(cpu, running.index) => {}
                done => return done,
            }
        };
        let file = self.bundle.kernel(&vm.config).ok_or(LoadError::NotElf)?;
        let kernel = I::Platform::kernel(file)?;
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
            granule: vm.config.granule.order(),
            shared: vm
                .config
                .shared_window(I::Platform::HOLE)
                .and_then(|at| Some(at.start().addr()?..at.end().addr()?)),
            kernel: file,
            entry: kernel.entry,
            order: kernel.order,
            cmdline: &vm.config.cmdline,
            plan,
        };
        let out_of_memory = LoadError::Memory(MemError::NoMemory);
        let Firmware { tree, code, start } = running.platform.firmware(m, &shape).ok_or(out_of_memory)?;
        // The guest will use all of its images, and most of them again and again: worth large pages where it was asked.
        for (start, end) in [(Gpa(0), kernel.end), (plan.initrd.start, plan.initrd.end)] {
            let pages = end.0.div_ceil(PAGE_SIZE as u64).saturating_sub(start.page().0);
            if let Some(gfns) = GfnRange::new(start.page(), pages) {
                running.memory.advise(cpu, m, gfns);
            }
        }
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
