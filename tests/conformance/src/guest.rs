//! A VM with a probe in it, and the shortest possible vCPU loop around it.

use hv_core::addr::Gpa;
use hv_core::epoch::Cpu;
use hv_core::isa::{Isa, Platform, Vcpu, VmTag};
use hv_core::machine::Machine;
use hv_core::mmu::{GuestMemory, MemoryConfig};
use hv_core::sync::Mutex;
use hv_core::vcpu::exit::{Completion, Exit, Next};
use hv_core::vcpu::run::answer;
use hv_core::vcpu::services::StartAt;

use crate::alone::Alone;
use crate::probe::{CODE, Field, Op, RAM_PAGES, STATUS_DONE, mailbox};
use crate::rig::{Bench, FIRST};
use crate::verdict::{Run, Stop, check};

/// Exits after which a command that has not ended is given up.
const PATIENCE: u32 = 1 << 20;
/// The most vCPUs a probe VM has.
pub const VCPUS: usize = 2;

/// A VM that runs the probe on each of its vCPUs.
pub struct ProbeVm<I: Isa> {
    /// Its memory.
    pub memory: GuestMemory<I>,
    platform: I::Platform,
    vcpus: [Mutex<I::Vcpu>; VCPUS],
}

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What was loaded, or how many stores were made.
    pub result: u64,
    /// The access raised no exception.
    pub fine: bool,
}

/// What to do when the guest faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFault {
    /// Answer it, as the hypervisor would.
    Answer,
    /// Stop there if it is on the page of this address, otherwise answer it.
    StopAt(Gpa),
}

/// How a run of a vCPU ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The probe called: its command is done.
    Called,
    /// It faulted where it was to be stopped.
    Faulted,
}

impl<I: Isa> ProbeVm<I> {
    /// A VM with the probe loaded and its vCPUs at the first instruction.
    pub fn new(bench: &Bench<'_, I>, tag: VmTag) -> Result<Self, Stop> {
        Self::laid_out(bench, tag, MemoryConfig::from(RAM_PAGES << 12))
    }

    /// The same with memory as `config` says, [`RAM_PAGES`] of RAM or more.
    fn laid_out(bench: &Bench<'_, I>, tag: VmTag, config: MemoryConfig<I>) -> Result<Self, Stop> {
        let image = bench.rig.probe().map_err(Stop::Skip)?;
        let vcpu = |index: u16| {
            let mut vcpu = I::Vcpu::create(bench.m, tag, index)?;
            vcpu.reset(StartAt { entry: image.entry, args: [mailbox(index).0, 0, 0, 0], big_endian: false });
            Some(Mutex::new(vcpu))
        };
        let made = || Some((I::Platform::create(bench.m, VCPUS as u16)?, [vcpu(0)?, vcpu(1)?]));
        let (platform, vcpus) = made().ok_or(Stop::Fail("no vCPU could be made"))?;
        let memory = GuestMemory::new(bench.cpu, bench.m, tag, config);
        let memory = memory.map_err(|_| Stop::Fail("no memory for a VM"))?;
        if memory.write(bench.cpu, bench.m, CODE, image.code).is_err() {
            memory.destroy(bench.cpu, bench.m);
            return Err(Stop::Fail("the probe could not be loaded"));
        }
        Ok(Self { memory, platform, vcpus })
    }

    /// Gives `with` a VM, and destroys it however that ends.
    pub fn with(bench: &Bench<'_, I>, tag: VmTag, with: impl FnOnce(&Self) -> Run) -> Run {
        Self::new(bench, tag)?.used(bench, with)
    }

    /// The same with memory as `config` says.
    pub fn with_config(bench: &Bench<'_, I>, config: MemoryConfig<I>, with: impl FnOnce(&Self) -> Run) -> Run {
        Self::laid_out(bench, FIRST, config)?.used(bench, with)
    }

    fn used(self, bench: &Bench<'_, I>, with: impl FnOnce(&Self) -> Run) -> Run {
        let vm = self;
        let run = with(&vm);
        bench.rig.at_rest(vm.memory.space());
        vm.memory.destroy(bench.cpu, bench.m);
        run
    }

    /// True if the probe has no command left.
    fn is_done(&self, cpu: &Cpu, m: &I::Machine, vcpu: u16) -> Result<bool, Stop> {
        Ok(self.word(cpu, m, vcpu, Field::Done)? == self.word(cpu, m, vcpu, Field::Number)?)
    }

    /// Puts a command into a mailbox. Its number is one more than that of the last one done.
    pub fn post(&self, cpu: &Cpu, m: &I::Machine, vcpu: u16, op: Op, address: Gpa, value: u64) -> Result<u64, Stop> {
        let number = self.word(cpu, m, vcpu, Field::Done)?.wrapping_add(1);
        self.set(cpu, m, vcpu, Field::Op, op as u64)?;
        self.set(cpu, m, vcpu, Field::Address, address.0)?;
        self.set(cpu, m, vcpu, Field::Value, value)?;
        self.set(cpu, m, vcpu, Field::Number, number)?;
        Ok(number)
    }

    /// Reads a mailbox word.
    pub fn word(&self, cpu: &Cpu, m: &I::Machine, vcpu: u16, field: Field) -> Result<u64, Stop> {
        read_word(&self.memory, cpu, m, field.at(mailbox(vcpu)))
    }

    /// Writes a mailbox word.
    pub fn set(&self, cpu: &Cpu, m: &I::Machine, vcpu: u16, field: Field, value: u64) -> Run {
        write_word(&self.memory, cpu, m, field.at(mailbox(vcpu)), value)
    }

    /// Runs a vCPU until its probe calls, or faults where it is to be stopped.
    pub fn run(&self, cpu: &Cpu, m: &I::Machine, index: u16, on_fault: OnFault) -> Result<Left, Stop> {
        let slot = self.vcpus.get(usize::from(index)).ok_or(Stop::Fail("no such vCPU"))?;
        let mut vcpu = slot.lock();
        vcpu.load(cpu, m);
        let left = self.turns((index, &mut vcpu), cpu, m, on_fault);
        vcpu.put(cpu, m);
        left
    }

    fn turns(
        &self,
        (index, vcpu): (u16, &mut I::Vcpu),
        cpu: &Cpu,
        m: &I::Machine,
        on_fault: OnFault,
    ) -> Result<Left, Stop> {
        for _ in 0..PATIENCE {
            let until = m.now().after(m.ticks_per_second() / 10);
            let raw = vcpu.enter(cpu, m, &self.memory, &self.platform, until);
            match vcpu.classify(&raw) {
                Exit::Call(_) if self.is_done(cpu, m, index)? => return Ok(Left::Called),
                // Not the probe's: the port has something to do before it enters the guest (again).
                Exit::Call(call) => {
                    let next = vcpu.call(call, &self.platform, &Alone { memory: &self.memory, cpu, m });
                    check(next == Next::Resume, "the probe called without having done its command")?;
                }
                Exit::Interrupt => {
                    m.interrupts(cpu);
                }
                Exit::Deadline => {}
                Exit::Broken(why) => return Err(Stop::Fail(why)),
                Exit::Fault(fault) => {
                    if let OnFault::StopAt(at) = on_fault
                        && at.page() == fault.gpa.page()
                    {
                        vcpu.complete(Completion::Again);
                        return Ok(Left::Faulted);
                    }
                    let answered = answer(&self.memory, vcpu, cpu, m, &fault);
                    answered.map_err(|_| Stop::Fail("no memory for the guest's page"))?;
                }
            }
        }
        Err(Stop::Fail("the probe never answered"))
    }

    /// Carries out one command on vCPU 0.
    pub fn ask(&self, bench: &Bench<'_, I>, op: Op, address: Gpa, value: u64) -> Result<Answer, Stop> {
        self.ask_on(bench.cpu, bench.m, 0, op, address, value)
    }

    /// Carries out one command on a vCPU that runs on `cpu`.
    pub fn ask_on(
        &self,
        cpu: &Cpu,
        m: &I::Machine,
        vcpu: u16,
        op: Op,
        address: Gpa,
        value: u64,
    ) -> Result<Answer, Stop> {
        let number = self.post(cpu, m, vcpu, op, address, value)?;
        // The first run may end in a call made before the command was seen.
        for _ in 0..2 {
            self.run(cpu, m, vcpu, OnFault::Answer)?;
            if self.word(cpu, m, vcpu, Field::Done)? == number {
                let fine = self.word(cpu, m, vcpu, Field::Status)? == STATUS_DONE;
                return Ok(Answer { result: self.word(cpu, m, vcpu, Field::Result)?, fine });
            }
        }
        Err(Stop::Fail("the probe called without having done its command"))
    }
}

/// Reads one word of guest memory.
pub fn read_word<I: Isa>(memory: &GuestMemory<I>, cpu: &Cpu, m: &I::Machine, at: Gpa) -> Result<u64, Stop> {
    let mut bytes = [0; 8];
    memory.read(cpu, m, at, &mut bytes).map_err(|_| Stop::Fail("guest memory could not be read"))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Writes one word of guest memory.
pub fn write_word<I: Isa>(memory: &GuestMemory<I>, cpu: &Cpu, m: &I::Machine, at: Gpa, value: u64) -> Run {
    check(memory.write(cpu, m, at, &value.to_le_bytes()).is_ok(), "guest memory could not be written")
}
