//! The real [`Services`]: what a personality may use, over the VM of the vCPU that calls.

use crate::addr::Gpa;
use crate::epoch::Cpu;
use crate::hypervisor::{Hypervisor, Relief};
use crate::isa::{Isa, Vcpu};
use crate::machine::{Instant, Machine};
use crate::mmu::GfnCache;
use crate::sched::Task;
use crate::vcpu::services::{MemError, Services, StartAt, StartError, VcpuState};
use crate::vm::Job;

/// The calling vCPU, the CPU it runs on, and the hypervisor around them.
pub struct Env<'a, I: Isa> {
    pub(crate) hv: &'a Hypervisor<I>,
    pub(crate) cpu: &'a Cpu,
    pub(crate) job: &'a Job<I>,
}

impl<I: Isa> Env<'_, I> {
    /// Does what needs memory, again and again while some can be had. Where it cannot, the guest is told so: its next fault
    /// decides who ends.
    fn relieved(&self, mut work: impl FnMut() -> Result<(), MemError>) -> Result<(), MemError> {
        loop {
            match work() {
                Err(MemError::NoMemory)
                    if (self.hv.rare.relieve)(self.hv, self.cpu, self.job.vm.index) == Relief::Again => {}
                done => return done,
            }
        }
    }
}

impl<I: Isa> Services for Env<'_, I> {
    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), MemError> {
        let (memory, cpu, m) = (&self.job.vm.memory, self.cpu, self.hv.machine);
        if self.job.cell().with_kept(|kept| kept.try_read(memory, cpu, m, at, into)) {
            return Ok(());
        }
        self.relieved(|| memory.read(cpu, m, at, into))
    }

    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), MemError> {
        let (memory, cpu, m) = (&self.job.vm.memory, self.cpu, self.hv.machine);
        if self.job.cell().with_kept(|kept| kept.try_write(memory, cpu, m, at, from)) {
            return Ok(());
        }
        self.relieved(|| memory.write(cpu, m, at, from))
    }

    fn keep(&self, vcpu: u16, at: Option<Gpa>) {
        if let Some(job) = Job::new(&self.job.vm, vcpu) {
            // Without memory for a cache every access goes the long way.
            job.cell().keep(at.and_then(|at| GfnCache::new(&self.job.vm.memory, at.page())));
        }
    }

    fn console_write(&self, bytes: &[u8]) {
        self.hv.console.write(self.job.vm.index, bytes);
    }

    fn console_read(&self, into: &mut [u8]) -> usize {
        self.hv.console.read(self.job.vm.index, into)
    }

    fn now(&self) -> Instant {
        self.hv.machine.now()
    }

    fn ticks_per_second(&self) -> u64 {
        self.hv.machine.ticks_per_second()
    }

    fn wall_clock(&self) -> u64 {
        self.hv.machine.wall_clock()
    }

    fn random(&self) -> Option<u64> {
        self.hv.machine.random()
    }

    fn vcpus(&self) -> u16 {
        self.job.vm.vcpus.len().try_into().unwrap_or(u16::MAX)
    }

    fn vcpu_state(&self, vcpu: u16) -> Option<VcpuState> {
        let job = Job::new(&self.job.vm, vcpu)?;
        Some(if job.entity().is_started() { VcpuState::Started } else { VcpuState::Stopped })
    }

    fn start_vcpu(&self, vcpu: u16, at: StartAt) -> Result<(), StartError> {
        let job = Job::new(&self.job.vm, vcpu).ok_or(StartError::NoSuchVcpu)?;
        // A started vCPU's lock is held for as long as it runs; a stopped one's only by another starter. The state is
        // looked at again inside, so of two starters one wins.
        if job.entity().is_started() {
            return Err(StartError::NotStopped);
        }
        let cell = job.cell();
        let mut target = cell.vcpu.try_lock().ok_or(StartError::NotStopped)?;
        if job.entity().is_started() {
            return Err(StartError::NotStopped);
        }
        // Refused if the VM is ending.
        let permit = job.vm.ready.run().map_err(|_| StartError::NotStopped)?;
        cell.admit(permit);
        target.reset(at);
        // Started while its lock is held, so that no second starter gets this far.
        if let Ok(Some(idle)) = self.hv.sched.start(job.clone()) {
            self.hv.machine.kick(idle);
        }
        Ok(())
    }

    fn wake(&self, vcpu: u16) {
        if let Some(job) = Job::new(&self.job.vm, vcpu) {
            self.hv.wake(self.cpu, &job);
        }
    }

    fn last_words(&self, text: &[u8]) {
        self.hv.keep_last_words(self.job.vm.index, text);
    }
}
