//! What is done about a guest's requests: firmware calls, trapped registers, device accesses, waiting, and looking at its
//! interrupts. Called by the vCPU loop, on the CPU that holds the vCPU's state.

use aarch64_cpu::registers::{
    ELR_EL1, ESR_EL1, FAR_EL1, FAR_EL2, Readable as _, SCTLR_EL1, SPSR_EL1, VBAR_EL1, Writeable as _,
};
use hv_core::vcpu::exit::{Access, Next};
use hv_core::vcpu::services::Services;

use super::cpu::{ArmVcpu, attention};
use super::debug::OsLock;
use super::exits::{self, Call, Conduit, Raw, Wait};
use super::guards::Debug;
use super::mmio::{DataOrder, MmioAccess, Transfer};
use super::registers::identification;
use super::sysreg::{self, Direction, SysRegAccess};
use super::{idregs, lists, timer};
use crate::vgic::Group;
use crate::virt::Virt;

/// What the SMC calling convention answers to a call that is not known (DEN 0028).
const NOT_SUPPORTED: u64 = u64::MAX;

impl ArmVcpu {
    /// Carries out a request: what is frequent here, the rest elsewhere.
    #[inline]
    pub(super) fn carry_out<S: Services>(&mut self, raw: &Raw, p: &Virt, s: &S) -> Next {
        match exits::request(raw) {
            Call::SysReg(access) if access.is_message() => {
                p.sgi(self.index, self.context.get(access.rt), Group::One, s);
                self.context.place = self.context.place.past(raw.esr);
                Next::Resume
            }
            other => self.seldom(other, p, s),
        }
    }

    /// A call of the SMC calling convention.
    #[inline(always)]
    pub(super) fn firmware<S: Services>(&mut self, p: &Virt, s: &S) -> Next {
        match p.psci(self.context.arguments(), s) {
            Next::Resume => Next::Resume,
            next => self.leave(next, p, s),
        }
    }

    /// The vCPU gives its CPU up because of a firmware call.
    #[inline(never)]
    fn leave<S: Services>(&mut self, next: Next, p: &Virt, s: &S) -> Next {
        match next {
            // Whoever is started in its place finds its list registers empty.
            Next::StopSelf => self.withdraw(p, s),
            Next::Halt => self.rest(p, s),
            Next::Resume | Next::Yield | Next::End(_) => {}
        }
        next
    }

    /// The vCPU is about to halt. Whether it may is decided by the list registers as they are.
    #[inline(never)]
    fn rest<S: Services>(&mut self, p: &Virt, s: &S) {
        lists::copy_out(&mut self.lists);
        p.gic().fold(self.index, &mut self.lists);
        p.gic().wake(&mut self.lists, s);
    }

    #[inline(never)]
    fn seldom<S: Services>(&mut self, call: Call, p: &Virt, s: &S) -> Next {
        match call {
            Call::Look => p.gic().wake(&mut self.lists, s),
            Call::Hypercall(Conduit::Smc) => {
                self.advance();
                return self.firmware(p, s);
            }
            Call::Hypercall(Conduit::Hvc(0)) => return self.firmware(p, s),
            // Other numbers than 0 belong to other hypervisors' interfaces.
            Call::Hypercall(Conduit::Hvc(_)) => self.context.x[0] = NOT_SUPPORTED,
            Call::SysReg(access) => self.register(access, p, s),
            Call::Mmio(access) => self.device(access, p, s),
            Call::Wait(Wait::Event) => {
                self.advance();
                return Next::Yield;
            }
            Call::Wait(Wait::Interrupt) => {
                self.advance();
                self.rest(p, s);
                return Next::Halt;
            }
            Call::Float => self.lend_float(),
            Call::Skip => self.advance(),
            Call::Undefined => self.undefined(p),
            Call::ExternalAbort(access) => self.external_abort(access),
        }
        Next::Resume
    }

    /// Takes what is listed home, where the guest's accesses to the interrupt controller find it. The next entry lists it again.
    fn withdraw<S: Services>(&mut self, p: &Virt, s: &S) {
        lists::copy_out(&mut self.lists);
        p.gic().withdraw(self.index, &mut self.lists, timer::lines_here());
        p.gic().wake(&mut self.lists, s);
        self.attention |= attention::LOOK;
    }

    fn device<S: Services>(&mut self, access: MmioAccess, p: &Virt, s: &S) {
        if Virt::shows_interrupts(access.gpa) {
            self.withdraw(p, s);
        }
        let (order, register) = (self.data_order(), self.context.get(access.register));
        let done = match access.transfer {
            Transfer::Load(_) => p.read(self.index, access.gpa, access.width, s).map(|value| {
                self.context.set(access.register, access.loaded(value, order));
            }),
            Transfer::Store => p.write(self.index, access.gpa, access.width, access.stored(register, order), s),
        };
        match (done, access.transfer) {
            (Some(()), _) => self.advance(),
            (None, Transfer::Load(_)) => self.external_abort(Access::Read),
            (None, Transfer::Store) => self.external_abort(Access::Write),
        }
    }

    /// The byte order of the guest's data accesses: SCTLR_EL1.EE at EL1, .E0E at EL0, PSTATE.E in AArch32.
    fn data_order(&self) -> DataOrder {
        let place = self.context.place;
        if place.is_big_endian(SCTLR_EL1.get()) { DataOrder::Big } else { DataOrder::Little }
    }

    #[inline(never)]
    fn register<S: Services>(&mut self, access: SysRegAccess, p: &Virt, s: &S) {
        let SysRegAccess { register, rt, direction } = access;
        let value = self.context.get(rt);
        match (direction, register) {
            (Direction::Write, sysreg::ICC_ASGI1R_EL1 | sysreg::ICC_SGI0R_EL1) => {
                p.sgi(self.index, value, Group::Zero, s);
            }
            // Trapped only while an interrupt is active that is in no list register.
            (Direction::Write, sysreg::ICC_DIR_EL1) => {
                lists::copy_out(&mut self.lists);
                p.gic().deactivate(self.index, &mut self.lists, value as u32 & 0xff_ffff);
                p.gic().wake(&mut self.lists, s);
                self.attention |= attention::LOOK;
            }
            (Direction::Read, _) if idregs::is_id(register) => {
                let hardware = identification(register.crm(), register.op2());
                self.context.set(rt, idregs::visible(register, hardware));
            }
            (Direction::Write, sysreg::OSLAR_EL1) => {
                self.debug.1.os_lock = OsLock::written(value);
                if self.debug.0 == Debug::Lent {
                    self.debug.1.lock_here();
                }
            }
            (Direction::Read, sysreg::OSLSR_EL1) => self.context.set(rt, self.debug.1.os_lock.status()),
            // Read as zero, write ignored: no double lock, no power control by the guest, no debug ROM, and auxiliary control
            // that controls nothing.
            (_, sysreg::OSDLR_EL1 | sysreg::DBGPRCR_EL1 | sysreg::ACTLR_EL1) | (Direction::Read, sysreg::MDRAR_EL1) => {
                if direction == Direction::Read {
                    self.context.set(rt, 0);
                }
            }
            _ if sysreg::is_debug(register) && self.debug.0 == Debug::Trapped => {
                // It makes its access itself, this time to registers of its own.
                return self.lend_debug();
            }
            _ => return self.undefined(p),
        }
        self.advance();
    }

    fn undefined(&mut self, p: &Virt) {
        p.count_undefined();
        self.raise(self.context.place.undefined());
    }

    /// Has the guest take a synchronous external abort for its last access.
    pub(super) fn external_abort(&mut self, access: Access) {
        FAR_EL1.set(FAR_EL2.get());
        self.raise(self.context.place.external_abort(access));
    }

    /// Has EL1 take a synchronous exception with this syndrome.
    fn raise(&mut self, esr: u64) {
        let place = self.context.place;
        ELR_EL1.set(place.pc);
        SPSR_EL1.set(place.pstate);
        ESR_EL1.set(esr);
        self.context.place = place.exception(VBAR_EL1.get(), SCTLR_EL1.get());
    }
}
