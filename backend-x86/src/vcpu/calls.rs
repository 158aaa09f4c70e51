//! What is done about a guest's requests: hypercalls, identification, registers, ports, waiting. Called by the vCPU loop, on the
//! CPU that holds the vCPU's state.

use core::arch::x86_64::__cpuid_count;

use hv_core::log::info;
use hv_core::machine::Instant;
use hv_core::vcpu::exit::{End, Next};
use hv_core::vcpu::services::Services;

use super::cpu::{Attention, X86Vcpu};
use super::hardware::WorldSwitch as _;
use crate::apic::Clock;
use crate::bus::GeneralProtection;
use crate::decode::{Flow, Trapped, length, to_cr8};
use crate::event::{Event, Exception};
use crate::exit::{Call, ControlAccess, Direction, PortAccess, PortForm};
use crate::guest::pc::{Answer, Pc};
use crate::policy::cpuid::{self, Identity};
use crate::policy::msr::{self, Paging};

/// What the guest interface, whose name guests are shown, answers to a call that it does not know: KVM_ENOSYS (Linux,
/// Documentation/virt/kvm/x86/hypercalls.rst).
const UNKNOWN_CALL: u64 = -1000_i64 as u64;
/// CR0.PG.
const CR0_PG: u64 = 1 << 31;

/// General registers.
const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RBX: usize = 3;

impl X86Vcpu {
    /// Carries out a request: what is frequent here, the rest elsewhere.
    #[inline]
    pub(super) fn carry_out<S: Services>(&mut self, call: Call, p: &Pc, s: &S) -> Next {
        match call {
            Call::Hypercall => {
                self.general[RAX] = UNKNOWN_CALL;
                self.pass(Trapped::Vmmcall, s);
                Next::Resume
            }
            Call::WriteMsr => {
                self.write_msr(p, s.now(), s);
                Next::Resume
            }
            other => self.seldom(other, p, s),
        }
    }

    #[inline(never)]
    fn seldom(&mut self, call: Call, p: &Pc, s: &dyn Services) -> Next {
        match call {
            Call::Hypercall | Call::WriteMsr => {}
            Call::Cpuid => self.identify(s),
            Call::ReadMsr => self.read_msr(p, s),
            Call::Port(access) => return self.port(access, p, s),
            Call::Mmio(gpa, access) => self.device(gpa, access, p, s),
            Call::Halt => {
                self.pass(Trapped::Hlt, s);
                self.attention |= Attention::HALTED;
                return Next::Halt;
            }
            Call::Held => return Next::Halt,
            Call::InterruptWindow | Call::NmiWindow => self.attention |= Attention::LOOK,
            // Guests are shown no XSAVE.
            Call::Xsetbv | Call::Undefined => self.raise(Exception::InvalidOpcode),
            Call::Reflect(exception) => self.raise(exception),
            Call::ControlRegister(access) => self.control_register(access),
            Call::TaskPriority => self.move_to_cr8(s),
            Call::Skip(what) => self.pass(what, s),
            Call::TripleFault => return Next::End(End::Reboot),
        }
        Next::Resume
    }

    /// The guest takes an exception at the instruction that ended its run.
    pub(super) fn raise(&mut self, exception: Exception) {
        self.hardware.inject(Event::Exception(exception));
        self.attention |= Attention::LOOK;
    }

    /// The guest goes on after `what`, which ended its run. If other bytes are there by now it runs those.
    #[inline]
    pub(super) fn pass(&mut self, what: Trapped, s: &dyn Services) {
        match self.hardware.after() {
            Some(next) => self.hardware.set_rip(next),
            None => self.measure(what, s),
        }
    }

    /// The same where hardware does not say how long the instruction was.
    #[inline]
    fn measure(&mut self, what: Trapped, s: &dyn Services) {
        let (rip, root) = (self.hardware.rip(), self.hardware.root());
        if let Some(length) = self.lengths.get(rip, root, what).or_else(|| self.read_length(what, s)) {
            self.hardware.set_rip(rip.wrapping_add(length.into()));
        }
    }

    #[cold]
    #[inline(never)]
    fn read_length(&mut self, what: Trapped, s: &dyn Services) -> Option<u8> {
        let (length, _) = self.read_trapped(Some(what), s)?;
        self.lengths.set(self.hardware.rip(), self.hardware.root(), what, length);
        Some(length)
    }

    /// Reads the instruction that ended the run: its length and, of a MOV to CR8, for which there is no `what`, its operand.
    #[cold]
    #[inline(never)]
    fn read_trapped(&mut self, what: Option<Trapped>, s: &dyn Services) -> Option<(u8, u8)> {
        let mode = self.hardware.mode();
        let decode = |bytes: &[u8]| match what {
            Some(what) => length(bytes, mode, what).map(|length| (length, 0)),
            None => to_cr8(bytes, mode),
        };
        self.code().instruction(self.linear_rip(), decode, s).ok()
    }

    fn identify(&mut self, s: &dyn Services) {
        let who = Identity { vcpu: self.local.number(), vcpus: s.vcpus(), ticks_per_second: s.ticks_per_second() };
        let host = |leaf, subleaf| {
            let found = __cpuid_count(leaf, subleaf);
            [found.eax, found.ebx, found.ecx, found.edx]
        };
        let (leaf, subleaf) = (self.general[RAX] as u32, self.general[RCX] as u32);
        let [eax, ebx, ecx, edx] = cpuid::answer(host, leaf, subleaf, &who).map(u64::from);
        (self.general[RAX], self.general[RBX], self.general[RCX], self.general[RDX]) = (eax, ebx, ecx, edx);
        self.pass(Trapped::Cpuid, s);
    }

    #[inline]
    fn write_msr(&mut self, p: &Pc, now: Instant, s: &dyn Services) {
        let msr = self.general[RCX] as u32;
        let value = self.general[RDX] << 32 | self.general[RAX] & 0xffff_ffff;
        let clock = Clock { now, offset: self.tsc_offset };
        let done = match p.write_msr(&mut self.local, msr, value, clock, s) {
            Ok(Answer::Here(())) => {
                // The guest's timer may have been set.
                if msr != X2APIC_ICR && msr != X2APIC_EOI {
                    self.attention |= Attention::DEADLINE;
                }
                Ok(())
            }
            Ok(Answer::Switched) => self.set_switched(msr, value),
            Ok(Answer::Clock) => {
                self.tsc_offset = value.wrapping_sub(clock.now.0);
                self.hardware.set_tsc_offset(self.tsc_offset);
                self.local.retime(Clock { offset: self.tsc_offset, ..clock });
                self.attention |= Attention::DEADLINE;
                Ok(())
            }
            Ok(Answer::Again) => return,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => self.pass(Trapped::Wrmsr, s),
            Err(GeneralProtection) => self.refuse_msr(p),
        }
    }

    /// The guest gets #GP for the register that it asked for; the operator hears of it the first time.
    #[cold]
    #[inline(never)]
    fn refuse_msr(&mut self, p: &Pc) {
        let msr = self.general[RCX] as u32;
        if p.is_news(msr) {
            // A VM's tag is its number plus 1.
            info!("VM {=u16}: #GP for MSR {=u32:#x}; not told again", self.tag.0.get() - 1, msr);
        }
        self.raise(Exception::GeneralProtection(0));
    }

    fn read_msr(&mut self, p: &Pc, s: &dyn Services) {
        let (msr, now) = (self.general[RCX] as u32, s.now());
        let value = match p.read_msr(&self.local, msr, now) {
            Ok(Answer::Here(value)) => Ok(value),
            Ok(Answer::Switched) => self.switched(msr),
            Ok(Answer::Clock) => Ok(now.0.wrapping_add(self.tsc_offset)),
            Ok(Answer::Again) => return,
            Err(error) => Err(error),
        };
        match value {
            Ok(value) => {
                (self.general[RAX], self.general[RDX]) = (value & 0xffff_ffff, value >> 32);
                self.pass(Trapped::Rdmsr, s);
            }
            Err(GeneralProtection) => self.refuse_msr(p),
        }
    }

    /// Registers that are switched with the vCPU, but not reached without an exit.
    #[inline(never)]
    fn set_switched(&mut self, msr: u32, value: u64) -> Result<(), GeneralProtection> {
        match msr {
            EFER => {
                let now = self.paging();
                let paging = if now.cr0 & CR0_PG != 0 { Paging::On } else { Paging::Off };
                self.hardware.set_efer(msr::efer(now.efer, value, paging)?);
            }
            PAT => self.hardware.set_pat(msr::pat(value)?),
            TSC_AUX => self.extras.set_tsc_aux(value)?,
            // The others are reached without.
            _ => return Err(GeneralProtection),
        }
        Ok(())
    }

    fn switched(&self, msr: u32) -> Result<u64, GeneralProtection> {
        match msr {
            EFER => Ok(self.paging().efer),
            PAT => Ok(self.hardware.pat()),
            TSC_AUX => self.extras.tsc_aux(),
            _ => Err(GeneralProtection),
        }
    }

    fn port(&mut self, access: PortAccess, p: &Pc, s: &dyn Services) -> Next {
        let PortAccess { port, width, direction, form } = access;
        if form != PortForm::Register {
            return self.string(&access, p, s);
        }
        let (mask, rax) = (width.mask(), self.general[RAX]);
        match direction {
            Direction::In => {
                let value = u64::from(p.input(self.local.number(), port, width, s)) & mask;
                // 32 bits clear the upper half.
                let kept = if mask == 0xffff_ffff { 0 } else { rax & !mask };
                self.general[RAX] = kept | value;
            }
            Direction::Out => match p.output(self.local.number(), port, width, (rax & mask) as u32, s) {
                Next::Resume => {}
                other => return other,
            },
        }
        self.go_on();
        Next::Resume
    }

    /// The guest goes on after an instruction of which hardware always says how long it was: a port's; and control registers,
    /// for which one vendor's processors leave, who say so of all.
    fn go_on(&mut self) {
        if let Some(next) = self.hardware.after() {
            self.hardware.set_rip(next);
        }
    }

    fn control_register(&mut self, access: ControlAccess) {
        let done = match access {
            ControlAccess::Read(8, register) => {
                let tpr = u64::from(self.local.tpr() >> 4);
                self.set_register(register, tpr);
                Ok(Flow::Next)
            }
            ControlAccess::Write(8, register) => self.set_task_priority(register).map(|()| Flow::Next),
            other => self.hardware.control(other, &mut self.general),
        };
        match done {
            Ok(Flow::Next) => self.go_on(),
            Ok(Flow::Same) => {}
            Err(GeneralProtection) => self.raise(Exception::GeneralProtection(0)),
        }
    }

    fn set_task_priority(&mut self, register: u8) -> Result<(), GeneralProtection> {
        let class = u8::try_from(self.register(register)).ok().filter(|class| *class < 16).ok_or(GeneralProtection)?;
        self.local.set_tpr(class << 4);
        self.attention |= Attention::LOOK;
        Ok(())
    }

    /// The guest's own instruction runs again if it is not that one any more.
    #[cold]
    #[inline(never)]
    fn move_to_cr8(&mut self, s: &dyn Services) {
        let Some((length, register)) = self.read_trapped(None, s) else { return };
        match self.set_task_priority(register) {
            Ok(()) => self.hardware.set_rip(self.hardware.rip().wrapping_add(length.into())),
            Err(GeneralProtection) => self.raise(Exception::GeneralProtection(0)),
        }
    }

    fn register(&self, number: u8) -> u64 {
        match number {
            RSP => self.hardware.rsp(),
            n => self.general[usize::from(n & 15)],
        }
    }

    fn set_register(&mut self, number: u8, value: u64) {
        match number {
            RSP => self.hardware.set_rsp(value),
            n => self.general[usize::from(n & 15)] = value,
        }
    }
}

const RSP: u8 = 4;
/// Registers that are named here.
const EFER: u32 = 0xc000_0080;
const PAT: u32 = 0x277;
const TSC_AUX: u32 = 0xc000_0103;
const X2APIC_EOI: u32 = 0x80b;
const X2APIC_ICR: u32 = 0x830;
