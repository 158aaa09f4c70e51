//! A vCPU whose table is a hashed one: its calls on the table and its storage interrupts are answered where they arrive, with
//! the guest's state still on the CPU, and only what may take long goes through hv-core's loop.
//!
//! The virtual real mode area. A guest with translation off goes by entries of the table too, which it never put: the VM's
//! first run does, and what that has left out is put as it is missed (`hash/vrma.rs`).

use hv_core::addr::Gpa;
use hv_core::epoch::Cpu;
use hv_core::heap::boxed;
use hv_core::machine::Machine;
use hv_core::mmu::GuestMemory;
use hv_core::mmu::ready::{Permit, State as Ready};
use hv_core::vcpu::exit::Access;

use super::Ppc64Bare;
use super::machine::Bare;
use super::stage2::BareStage2;
use super::translated::translated;
use crate::hash::calls::{Called, Context, Counts, RealMode, any, at_once};
use crate::hash::fault::{Found, Missed, NO_ENTRY, State as From};
use crate::hash::first_run::{NotYet, Wants};
use crate::hash::place::{Segment, VRMA};
use crate::hash::{Claim, HashStage2, MayBeHashed};
use crate::vcpu::cpu::State;
use crate::vcpu::exits::{DSISR_STORE, Reflected};
use crate::vcpu::hashed::{Again, Hashed};
use crate::vcpu::layout::{HvGuestState, Registers};
use crate::vcpu::msr;
use crate::vcpu::power::{Host, Run};
use crate::vcpu::sprs::{authority_mask, machine_state};

/// How a guest left.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    /// By this vector.
    By(i64),
    /// With a fault of the second stage.
    Fault {
        /// The address.
        gpa: Gpa,
        /// What must become possible.
        access: Access,
        /// The entry. None: of no entry, the page is needed.
        claim: Option<Claim>,
    },
    /// With something that its own kernel has to answer.
    Reflect(Reflected),
    /// It cannot go on.
    Broken(&'static str),
}

/// What a guest with a hashed table rarely needs. By reference: it is compiled with whoever makes the machine, for size, and not
/// with the way from a guest's exit to its next entry.
#[derive(Clone, Copy, Debug)]
pub struct Rare {
    call: fn(Context<'_>, &Bare, &GuestMemory<Ppc64Bare>, &HashStage2, &mut [u64; 32], &mut Counts) -> Called,
    begin: fn(&HashStage2, &Cpu, &Bare, &GuestMemory<Ppc64Bare>, &Wants) -> Result<Permit, NotYet>,
}

impl Rare {
    /// It.
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        Self { call: any, begin: HashStage2::begin }
    }
}

impl Default for Rare {
    #[inline]
    fn default() -> Self {
        Self::new()
    }
}

/// Runs the vCPU until it leaves with something that is not answered here. Compiled with whoever calls it, and the calls with it.
#[inline]
pub fn run(run: &Run<'_, Ppc64Bare>, table: &HashStage2, vcpu: &mut State) -> Left {
    let Run { cpu, m, tag, .. } = *run;
    if vcpu.hashed.is_none() {
        let Ok(hashed) = boxed(Hashed::default()) else { return Left::Broken("there is no heap for its segments") };
        hashed.load();
        vcpu.hashed = Some(hashed);
    }
    let State { hv, registers, hashed: Some(hashed), .. } = vcpu else {
        return Left::Broken("it has no segments");
    };
    // Looked at before every entry: whoever drains the table kicks those inside, and waits until they have looked.
    if hashed.permit.is_none() || table.first_run().ready().state() != Ready::Ready {
        hashed.permit = None;
        match (m.rare.begin)(table, cpu, m, run.memory, &m.wants(tag, table)) {
            Ok(permit) => {
                hashed.lpcr = m.run_with(table.first_run().registers(&permit));
                hashed.permit = Some(permit);
            }
            // As if it had been interrupted: whatever is asked of this CPU meanwhile comes first.
            Err(NotYet::Wait) => return Left::By(0x500),
            Err(NotYet::Failed(why)) => return Left::Broken(why.why()),
        }
    }
    hv.lpcr |= hashed.lpcr;
    loop {
        let vector = match hashed.again {
            Again::Call => 0xc00,
            Again::No => m.enter_here(cpu, tag, hv, registers),
        };
        hashed.again = Again::No;
        if vector == 0xc00 && registers.msr & msr::PR == 0 {
            if is_answered_at_once(run, table, hv.vcpu_token, registers) {
                continue;
            }
            match call(run, table, hv.vcpu_token, registers, hashed) {
                Called::NotOurs => return Left::By(vector),
                Called::Done => {}
                Called::Need(gpa, access) => {
                    hashed.again = Again::Call;
                    return Left::Fault { gpa, access, claim: None };
                }
                Called::Defer => return Left::Broken("a call was deferred for good"),
            }
        } else if let Some(left) = missed(run, table, hv, registers, vector) {
            return left;
        }
    }
}

/// Answers a storage interrupt; `None` if the guest goes on.
fn missed(
    run: &Run<'_, Ppc64Bare>,
    table: &HashStage2,
    hv: &HvGuestState,
    registers: &Registers,
    vector: i64,
) -> Option<Left> {
    let Run { cpu, m, .. } = *run;
    let missed = match vector {
        0xe00 => {
            let access = if hv.hdsisr & DSISR_STORE == 0 { Access::Read } else { Access::Write };
            Missed {
                address: hv.hdar,
                segment: hv.asdr,
                status: hv.hdsisr & 0xffff_ffff,
                access,
                state: from(registers.msr, msr::DR),
                keys: authority_mask(),
            }
        }
        0xe20 => Missed {
            address: registers.nip,
            segment: hv.asdr,
            status: hv.hdsisr,
            access: Access::Fetch,
            state: from(registers.msr, msr::IR),
            keys: 0,
        },
        _ => return Some(Left::By(vector)),
    };
    let walk = m.epoch().enter(cpu);
    match table.missed(m, &walk, &missed) {
        Found::Fault { gpa, access, claim } => Some(Left::Fault { gpa, access, claim: Some(claim) }),
        Found::Again => None,
        Found::Reflect(status) => {
            // What is reached with translation off Trivet puts itself. A guest that has filled both groups has a hole there.
            let is_ours = missed.state == From::Real && status & NO_ENTRY != 0;
            let put = || table.put_missed(m, &walk, &Segment::new(missed.segment)?, missed.address);
            if is_ours && put().is_some() { None } else { Some(Left::Reflect(reflected(missed.access, status))) }
        }
    }
}

/// Makes the call in its registers if nothing at all is in the way, which is most often so.
#[inline]
fn is_answered_at_once(run: &Run<'_, Ppc64Bare>, table: &HashStage2, vcpu: u32, registers: &mut Registers) -> bool {
    let real = RealMode::on(run.cpu, machine_state());
    let Some(kind) = real.and_then(|real| at_once(real, run.m, run.memory, table, &mut registers.gpr)) else {
        return false;
    };
    run.papr.count(vcpu as u16, &Counts::at_once(kind));
    true
}

/// Makes the call in its registers: first in real mode, where nothing may be waited for, and again with translation on if that
/// defers it.
#[inline]
fn call(
    run: &Run<'_, Ppc64Bare>,
    table: &HashStage2,
    vcpu: u32,
    registers: &mut Registers,
    segments: &mut Hashed,
) -> Called {
    let real = RealMode::on(run.cpu, machine_state());
    let mut counts = Counts::default();
    let mut make = |ctx| (run.m.rare.call)(ctx, run.m, run.memory, table, &mut registers.gpr, &mut counts);
    let called = match real.map_or(Called::Defer, |real| make(Context::Real(real))) {
        Called::Defer => translated(segments, || make(Context::Virtual(run.cpu))).unwrap_or(Called::Defer),
        done => done,
    };
    // What lacks memory is made again, and counted then.
    if !matches!(called, Called::NotOurs | Called::Need(..)) {
        run.papr.count(vcpu as u16, &counts);
    }
    called
}

/// From what state the guest accessed memory, whose translation is on with this bit.
fn from(state: u64, translated: u64) -> From {
    match (state & translated, state & msr::PR) {
        (0, _) => From::Real,
        (_, 0) => From::Privileged,
        _ => From::Problem,
    }
}

/// The interrupt that the guest takes.
fn reflected(access: Access, status: u64) -> Reflected {
    if access == Access::Fetch {
        Reflected { vector: 0x400, cause: status, data: None }
    } else {
        Reflected { vector: 0x300, cause: 0, data: Some((None, status)) }
    }
}

/// What a fault of a guest with translation off claims, for whoever runs guests by hand; `None` on a radix table, or if there is
/// no room for the entry.
pub fn claim(m: &Bare, cpu: &Cpu, stage2: &BareStage2, gpa: Gpa) -> Option<Claim> {
    let table = stage2.hashed()?;
    let walk = m.epoch().enter(cpu);
    table.put_missed(m, &walk, &Segment::new(VRMA)?, gpa.0)
}
