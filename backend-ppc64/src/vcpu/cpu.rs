//! One virtual CPU, whoever enters it.
//!
//! State is in three places: the two blocks of [`super::layout`], which every entry reads and every exit writes; the
//! registers of [`sprs`], which stay on the CPU from `load` to `put`; and the decrementer, which does so too and is kept
//! as the timebase value at which it expires.

use alloc::boxed::Box;

use hv_core::addr::Gpa;
use hv_core::epoch::Cpu;
use hv_core::heap::boxed;
use hv_core::isa::{Vcpu, VmTag};
use hv_core::machine::{CpuId, Instant, Machine};
use hv_core::mmu::GuestMemory;
use hv_core::vcpu::exit::{Access, Completion, Exit, Fault, Next};
use hv_core::vcpu::services::{Services, StartAt};

use super::exits::{self, Cause, Reflected};
use super::hashed::Hashed;
use super::layout::{HvGuestState, Registers, VERSION};
use super::msr;
use super::power::{Host, Power, Run};
use super::sprs::{self, Unswitched};
use crate::nested_host::seat::Seat;
use crate::papr::{self, Papr};

/// How long a guest that holds interrupts off runs before it is looked at again while one waits for it, in fractions
/// of a second. Platforms that honour LPCR\[MER\] deliver it at once; QEMU 7.2 does not.
const LOOKS_PER_SECOND: u64 = 5000;

/// A virtual CPU.
pub struct PowerVcpu {
    state: Box<State>,
    tag: VmTag,
    index: u16,
    /// Timebase value at which the decrementer expires; valid while not loaded.
    expires: Instant,
    loaded: Loaded,
    /// What the partition-table entry was last set to.
    partition: Option<[u64; 2]>,
    look_ticks: u64,
    /// Where it was loaded last.
    last: Option<CpuId>,
}

/// Where the state outside the blocks is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loaded {
    /// On the CPU.
    OnCpu,
    /// In memory.
    Saved,
}

/// The registers of a vCPU.
pub struct State {
    /// The block of privileged state.
    pub hv: HvGuestState,
    /// The block of general state.
    pub registers: Registers,
    unswitched: Unswitched,
    /// What it has beside if its table is a hashed one.
    pub hashed: Option<Box<Hashed>>,
    /// What it has beside once it has run guests of its own.
    pub nested: Option<Box<Seat>>,
}

/// A request to the personality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A hypervisor call; its number and arguments are in the registers.
    Hypercall,
    /// An exit that the guest's own kernel has to answer.
    Reflect(Reflected),
}

impl<I: Power> Vcpu<I> for PowerVcpu {
    type Raw = I::Left;

    fn create(m: &I::Machine, tag: VmTag, index: u16) -> Option<Self> {
        Self::new(tag, index, m.ticks_per_second() / LOOKS_PER_SECOND)
    }

    fn reset(&mut self, at: StartAt) {
        self.begin_at(&at);
    }

    fn load(&mut self, cpu: &Cpu, m: &I::Machine) {
        if self.last.replace(cpu.id()).is_some_and(|last| last != cpu.id()) {
            m.moved(self.tag);
        }
        m.load(&self.state.hv);
        self.come();
    }

    fn put(&mut self, _: &Cpu, m: &I::Machine) {
        m.put(&mut self.state.hv);
        self.go();
    }

    #[inline]
    fn enter(&mut self, cpu: &Cpu, m: &I::Machine, memory: &GuestMemory<I>, p: &Papr, until: Instant) -> I::Left {
        let partition = I::partition(memory.stage2(), p);
        if self.partition != Some(partition) {
            self.partition = Some(I::set_partition(m, self.tag, memory.stage2(), p));
        }
        let mut lpcr = p.lpcr();
        let mut until = until.0;
        if let Some(seat) = I::inside(&mut self.state) {
            seat.wanted |= p.interrupt(self.index);
            seat.until = until;
            return I::enter(Run { cpu, m, tag: self.tag, memory, papr: p }, &mut self.state);
        }
        if p.interrupt(self.index) {
            if self.state.registers.msr & msr::EE != 0 {
                self.interrupt(lpcr, 0x500, 0);
            } else {
                lpcr |= msr::LPCR_MER;
                until = until.min(sprs::timebase().wrapping_add(self.look_ticks));
            }
        }
        self.state.hv.lpcr = lpcr;
        self.state.hv.hdec_expiry = until;
        I::enter(Run { cpu, m, tag: self.tag, memory, papr: p }, &mut self.state)
    }

    #[inline]
    fn classify(&self, left: &I::Left) -> Exit<I> {
        I::name(left, &self.state)
    }

    #[inline]
    fn call<S: Services>(&mut self, call: Call, p: &Papr, s: &S) -> Next {
        match call {
            Call::Hypercall if self.state.registers.msr & msr::PR != 0 => {
                // User space may not call the hypervisor: the instruction is privileged there. It has been passed.
                self.state.registers.nip = self.state.registers.nip.wrapping_sub(4);
                self.interrupt(p.lpcr(), 0x700, exits::SRR1_PRIVILEGED);
                Next::Resume
            }
            Call::Hypercall => {
                let Registers { gpr, msr, .. } = &mut self.state.registers;
                p.hcall(papr::Call { vcpu: self.index, gpr, msr }, s)
            }
            Call::Reflect(what) => {
                if let Some((dar, dsisr)) = what.data {
                    sprs::set_data_fault(dar.unwrap_or(self.state.hv.hdar), dsisr);
                }
                self.interrupt(p.lpcr(), what.vector, what.cause);
                Next::Resume
            }
        }
    }

    fn complete(&mut self, done: Completion) {
        match done {
            Completion::Again => {}
            Completion::BadAddress(..) if let Some(seat) = I::inside(&mut self.state) => seat.refuse(),
            Completion::BadAddress(_, Access::Fetch) => {
                self.interrupt(self.state.hv.lpcr, 0x400, exits::NO_TRANSLATION);
            }
            Completion::BadAddress(_, access) => {
                let store = if access == Access::Write { exits::DSISR_STORE } else { 0 };
                sprs::set_data_fault(self.state.hv.hdar, exits::NO_TRANSLATION | store);
                self.interrupt(self.state.hv.lpcr, 0x300, 0);
            }
        }
    }

    fn timer(&self) -> Option<Instant> {
        (self.expires != Instant::NEVER).then_some(self.expires)
    }

    fn pending(&self, p: &Papr) -> bool {
        p.wanted(self.index) || (self.loaded == Loaded::OnCpu && sprs::decrementer() < 0)
    }
}

/// What is the same for all machines: compiled once.
impl PowerVcpu {
    fn new(tag: VmTag, index: u16, look_ticks: u64) -> Option<Self> {
        let state = State {
            hv: HvGuestState::default(),
            registers: Registers::default(),
            unswitched: Unswitched::RESET,
            hashed: None,
            nested: None,
        };
        let (expires, loaded) = (Instant::NEVER, Loaded::Saved);
        Some(Self { state: boxed(state).ok()?, tag, index, expires, loaded, partition: None, look_ticks, last: None })
    }

    fn begin_at(&mut self, at: &StartAt) {
        let [r3, r4, r5, r6] = at.args;
        let order = if at.big_endian { 0 } else { msr::LE };
        let mut registers = Registers { nip: at.entry.0, msr: msr::SF | msr::ME | order, ..Registers::default() };
        registers.gpr[3..7].copy_from_slice(&[r3, r4, r5, r6]);
        *self.state = State {
            hv: HvGuestState {
                version: VERSION,
                lpid: self.tag.0.get().into(),
                vcpu_token: self.index.into(),
                amor: u64::MAX,
                hfscr: exits::HFSCR,
                ..HvGuestState::default()
            },
            registers,
            unswitched: Unswitched::RESET,
            hashed: None,
            nested: None,
        };
        self.expires = Instant::NEVER;
        self.loaded = Loaded::Saved;
    }

    /// Brings what no machine switches onto the CPU.
    fn come(&mut self) {
        self.state.unswitched.load();
        if let Some(hashed) = &self.state.hashed {
            hashed.load();
        }
        let left = self.expires.0.wrapping_sub(sprs::timebase()) as i64;
        let most = i64::from(i32::MAX);
        let left = if self.expires == Instant::NEVER { most } else { left.clamp(-1, most) };
        sprs::set_decrementer(left as i32);
        self.loaded = Loaded::OnCpu;
    }

    /// Saves it.
    fn go(&mut self) {
        self.state.unswitched.save();
        if let Some(hashed) = &mut self.state.hashed {
            hashed.save();
            hashed.permit = None;
        }
        self.expires = Instant(sprs::timebase().wrapping_add_signed(sprs::decrementer().into()));
        self.loaded = Loaded::Saved;
    }

    /// Has the guest take an interrupt.
    fn interrupt(&mut self, lpcr: u64, vector: u64, cause: u64) {
        let State { hv, registers, .. } = &mut *self.state;
        let taken = msr::interrupt(registers.msr, lpcr, vector, cause);
        hv.srr0 = registers.nip;
        hv.srr1 = taken.srr1;
        registers.nip = taken.nip;
        registers.msr = taken.msr;
    }
}

impl State {
    /// Names the exit by this vector, on a radix table.
    #[inline]
    pub fn name<I: Power>(&self, vector: i64, claim: I::Claim) -> Exit<I> {
        let gpa = Gpa(self.hv.asdr & exits::ASDR_GPA);
        match exits::cause(vector, self.hv.hdsisr) {
            Cause::Hypercall => Exit::Call(Call::Hypercall),
            Cause::Deadline => Exit::Deadline,
            Cause::Interrupt => Exit::Interrupt,
            Cause::Data(access) => Exit::Fault(Fault { gpa, access, claim }),
            Cause::Instruction => Exit::Fault(Fault { gpa, access: Access::Fetch, claim }),
            Cause::Reflect(what) => Exit::Call(Call::Reflect(what)),
            Cause::Broken(why) => Exit::Broken(why),
        }
    }
}
