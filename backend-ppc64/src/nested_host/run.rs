//! A vCPU whose guest may have guests: its calls of the interface are answered where they arrive, and it runs L2s.
//!
//! ```text
//!   Own --H_ENTER_NESTED--> Inside --vector for L1, L1 wanted, its deadline--> Leaving --blocks written--> Own
//!                            |  ^
//!                            +--+ derived entries, this hypervisor's own interrupts and deadline
//! ```
//!
//! L2's decrementer is L1's: one register, which neither loses on the way. An external interrupt for L1 ends L2's run whether
//! L1 has enabled it or not: L1 decides.

use hv_core::addr::Gpa;
use hv_core::radix::Radix;
use hv_core::vcpu::exit::Access;

use super::calls::{self, Called};
use super::children::Nest;
use super::counts::Event;
use super::fault::{Answer, Tables};
use super::seat::Place;
use super::stage2::NestStage2;
use crate::bare::Ppc64Bare;
use crate::bare::hashed::Left;
use crate::radix::PartitionScoped;
use crate::vcpu::cpu::State;
use crate::vcpu::exits::{self, ASDR_GPA, Cause, DSISR_STORE};
use crate::vcpu::msr;
use crate::vcpu::power::{Host, Run};
use crate::vcpu::sprs::timebase;

/// The vector of the hypervisor decrementer.
const DEADLINE: i64 = 0x980;

/// Runs the vCPU until it leaves with something that is not answered here. Compiled with the board's loop, for speed, as all that
/// it calls for an L2's faults.
#[inline]
pub fn run(
    run: &Run<'_, Ppc64Bare>,
    stage2: &NestStage2<PartitionScoped>,
    nest: &Nest<PartitionScoped>,
    vcpu: &mut State,
) -> Left {
    loop {
        let place = vcpu.nested.as_ref().map_or(Place::Own, |seat| seat.place);
        let left = match place {
            Place::Own | Place::Again => own(run, nest, vcpu, place),
            Place::Inside => inside(run, stage2.own().table(), nest, vcpu),
            Place::Leaving(vector) => leave(run, nest, vcpu, vector),
        };
        if let Some(left) = left {
            return left;
        }
    }
}

/// Runs L1.
fn own(run: &Run<'_, Ppc64Bare>, nest: &Nest<PartitionScoped>, vcpu: &mut State, place: Place) -> Option<Left> {
    if place == Place::Own {
        vcpu.hv.lpcr |= crate::bare::enter::LPCR_RADIX;
        let vector = run.m.enter(run.cpu, run.tag, &mut vcpu.hv, &mut vcpu.registers);
        if vector != 0xc00 || vcpu.registers.msr & msr::PR != 0 {
            return Some(Left::By(vector));
        }
    }
    let called = calls::call(run, nest, vcpu);
    match called {
        Called::NotOurs => Some(Left::By(0xc00)),
        Called::Inside => None,
        Called::Done(status) => {
            vcpu.registers.gpr[3] = status.cast_unsigned();
            None
        }
        Called::Need(gpa, access) => Some(Left::Fault { gpa, access, claim: None }),
    }
}

/// Runs L2.
#[inline]
fn inside(
    run: &Run<'_, Ppc64Bare>,
    parent: &Radix<PartitionScoped>,
    nest: &Nest<PartitionScoped>,
    vcpu: &mut State,
) -> Option<Left> {
    let State { hv, registers, nested: Some(seat), .. } = vcpu else { return None };
    let held = seat.guest?;
    if seat.cpu != run.cpu.id() {
        seat.cpu = run.cpu.id();
        nest.moved(run.cpu, run.m, held, seat.given.vcpu_token);
    }
    if core::mem::take(&mut seat.wanted) {
        return leave(run, nest, vcpu, 0x500);
    }
    let deadline = seat.given.hdec_expiry;
    if timebase() >= deadline {
        return leave(run, nest, vcpu, DEADLINE.cast_unsigned());
    }
    hv.lpcr |= crate::bare::enter::LPCR_RADIX;
    hv.hdec_expiry = seat.until.min(deadline);
    let vector = run.m.enter(run.cpu, held, hv, registers);
    nest.counts().add(Event::Exit);
    let (at, access) = match exits::cause(vector, hv.hdsisr) {
        Cause::Data(access) => (hv.asdr, access),
        Cause::Instruction => (hv.asdr, Access::Fetch),
        Cause::Deadline if timebase() < seat.until => return None,
        Cause::Deadline => return Some(Left::By(vector)),
        Cause::Interrupt => {
            // L1's own mediation raises the same line: it is told, and looks.
            seat.wanted = hv.lpcr & msr::LPCR_MER != 0 && registers.msr & msr::EE != 0;
            return Some(Left::By(vector));
        }
        Cause::Broken(_) => return Some(Left::By(vector)),
        Cause::Hypercall | Cause::Reflect(_) => {
            crate::bare::enter::explain(hv, vector);
            return leave(run, nest, vcpu, vector.cast_unsigned());
        }
    };
    let read = |at, into: &mut [u8]| run.memory.read(run.cpu, run.m, at, into);
    let tables = Tables { read: &read, near: &mut seat.near };
    match nest.fault(run.cpu, run.m, parent, tables, held, (Gpa(at & ASDR_GPA), access)) {
        Answer::Enter => None,
        Answer::Parent(gpa, access) => {
            seat.faulted = vector.cast_unsigned();
            Some(Left::Fault { gpa, access, claim: None })
        }
        Answer::Leave(why) => {
            let store = if access == Access::Write { DSISR_STORE } else { 0 };
            hv.hdsisr = why | store;
            leave(run, nest, vcpu, vector.cast_unsigned())
        }
        // Emptied tables serve again. If there are none the CPU is somebody else's for a while.
        Answer::NoMemory if nest.trim(run.cpu, run.m, true) => None,
        Answer::NoMemory => Some(Left::By(DEADLINE)),
    }
}

fn leave(run: &Run<'_, Ppc64Bare>, nest: &Nest<PartitionScoped>, vcpu: &mut State, vector: u64) -> Option<Left> {
    let (gpa, access) = calls::leave(run, nest, vcpu, vector).err()?;
    Some(Left::Fault { gpa, access, claim: None })
}
