//! A vCPU whose guest is the probe of `conformance::probe`: it looks for a command in its mailbox, carries it out, puts
//! down the answer and calls the hypervisor. Every load and store goes through the CPU's adversarial cache.
//!
//! The probe is written as a machine of small steps with one memory access each, so that a faulting access is simply
//! tried again when the vCPU is entered anew, as an instruction would be.

use conformance::probe::{self, Field, Op, STATUS_DONE, STATUS_EXCEPTION};
use hv_core::addr::Gpa;
use hv_core::epoch::Cpu;
use hv_core::isa::{Isa, Vcpu, VmTag};
use hv_core::machine::{Instant, Machine};
use hv_core::mmu::GuestMemory;
use hv_core::vcpu::exit::{Access, Completion, Exit, Fault, Next};
use hv_core::vcpu::services::{Services, StartAt};

use crate::machine::FakeMachine;
use crate::platform::FakePlatform;
use crate::stage2::FakeStage2;

/// The exit record, of a machine whose faults make claims of type `C`.
#[derive(Clone, Copy, Debug)]
pub enum Raw<C> {
    /// An access that the second stage did not translate.
    Fault(Fault<C>),
    /// The probe calls.
    Call,
    /// A kick.
    Interrupt,
    /// The time is up.
    Deadline,
}

/// What the probe does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Poll,
    Fetch(usize),
    Execute,
    /// Spinning: look whether another command has been posted.
    Look,
    Status,
    Result,
    Done,
    Call,
}

/// The fields a command is made of, in the order in which the probe reads them.
const OPERANDS: [Field; 3] = [Field::Op, Field::Address, Field::Value];

/// A virtual CPU that runs the probe.
#[derive(Debug)]
pub struct ScriptVcpu {
    tag: VmTag,
    mailbox: Gpa,
    step: Step,
    /// Number of the command at work; that of the last one done when polling.
    number: u64,
    operands: [u64; 3],
    status: u64,
    result: u64,
}

impl ScriptVcpu {
    /// Carries out one step. `Err` ends the run of the guest.
    fn advance<S: FakeStage2>(&mut self, cpu: &Cpu, m: &FakeMachine, s2: &S) -> Result<(), Raw<S::Claim>> {
        let agent = m.agent(s2, self.tag);
        let fault = |at: Gpa, access| Raw::Fault(Fault { gpa: at, access, claim: s2.claim(cpu, m, at) });
        let load = |at: Gpa| agent.load(cpu.id(), at).ok_or_else(|| fault(at, Access::Read));
        let store = |at: Gpa, value: u64| {
            if agent.store(cpu.id(), at, value) { Ok(()) } else { Err(fault(at, Access::Write)) }
        };
        let field = |f: Field| f.at(self.mailbox);
        let [op, address, value] = self.operands;
        match self.step {
            Step::Poll => {
                let number = load(field(Field::Number))?;
                if number == self.number {
                    return Err(Raw::Call);
                }
                self.number = number;
                self.step = Step::Fetch(0);
            }
            Step::Fetch(n) => match OPERANDS.get(n) {
                Some(&f) => {
                    let word = load(field(f))?;
                    self.operands[n] = word;
                    self.step = Step::Fetch(n + 1);
                }
                None => {
                    (self.status, self.result) = (STATUS_DONE, 0);
                    self.step = Step::Execute;
                }
            },
            Step::Execute => {
                let at = Gpa(address);
                match Op::from_word(op) {
                    // It brings no code, and has none to call.
                    Some(Op::Null | Op::Fetch) | None => self.step = Step::Status,
                    Some(Op::Read) => {
                        self.result = load(at)?;
                        self.step = Step::Status;
                    }
                    Some(Op::Write) => {
                        store(at, value)?;
                        self.step = Step::Status;
                    }
                    Some(Op::Spin) => {
                        store(at, value.wrapping_add(self.result))?;
                        self.result += 1;
                        self.step = Step::Look;
                    }
                }
            }
            Step::Look => {
                let go_on = load(field(Field::Stop))? != self.number;
                store(field(Field::Result), self.result)?;
                self.step = if go_on { Step::Execute } else { Step::Status };
            }
            Step::Status => {
                store(field(Field::Status), self.status)?;
                self.step = Step::Result;
            }
            Step::Result => {
                store(field(Field::Result), self.result)?;
                self.step = Step::Done;
            }
            Step::Done => {
                store(field(Field::Done), self.number)?;
                self.step = Step::Call;
            }
            Step::Call => {
                self.step = Step::Poll;
                return Err(Raw::Call);
            }
        }
        Ok(())
    }
}

impl<I> Vcpu<I> for ScriptVcpu
where
    I: Isa<Machine = FakeMachine, Platform = FakePlatform, Call = ()>,
    I::Stage2: FakeStage2<Claim = I::Claim>,
{
    type Raw = Raw<I::Claim>;

    fn create(_m: &FakeMachine, tag: VmTag, index: u16) -> Option<Self> {
        Some(Self {
            tag,
            mailbox: probe::mailbox(index),
            step: Step::Poll,
            number: 0,
            operands: [0; 3],
            status: 0,
            result: 0,
        })
    }

    fn reset(&mut self, at: StartAt) {
        self.mailbox = Gpa(at.args[0]);
        self.step = Step::Poll;
        self.number = 0;
    }

    fn load(&mut self, _cpu: &Cpu, _m: &FakeMachine) {}

    fn put(&mut self, _cpu: &Cpu, _m: &FakeMachine) {}

    fn enter(
        &mut self,
        cpu: &Cpu,
        m: &FakeMachine,
        memory: &GuestMemory<I>,
        _p: &FakePlatform,
        until: Instant,
    ) -> Self::Raw {
        loop {
            if m.take_kick(cpu) {
                return Raw::Interrupt;
            }
            if m.now() >= until {
                return Raw::Deadline;
            }
            if let Err(raw) = self.advance(cpu, m, memory.stage2()) {
                return raw;
            }
        }
    }

    fn classify(&self, raw: &Self::Raw) -> Exit<I> {
        match *raw {
            Raw::Fault(fault) => Exit::Fault(fault),
            Raw::Call => Exit::Call(()),
            Raw::Interrupt => Exit::Interrupt,
            Raw::Deadline => Exit::Deadline,
        }
    }

    fn call<S: Services>(&mut self, (): (), _p: &FakePlatform, _s: &S) -> Next {
        Next::Resume
    }

    fn complete(&mut self, done: Completion) {
        match done {
            Completion::Again => {}
            // The probe's exception handler: give the command up.
            Completion::BadAddress(..) => {
                self.status = STATUS_EXCEPTION;
                self.step = Step::Status;
            }
        }
    }

    fn timer(&self) -> Option<Instant> {
        None
    }

    fn pending(&self, _p: &FakePlatform) -> bool {
        false
    }
}
