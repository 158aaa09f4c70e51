//! The instruction set in hypervisor mode.

use core::fmt::{self, Write};

use hv_core::isa::{Isa, VmTag};
use hv_core::vcpu::exit::{Exit, Fault};

use super::hashed::{self, Left};
use super::machine::Bare;
use super::stage2::{BareStage2, Kind};
use crate::hash::Claim;
use crate::nested_host::{self, seat::Seat};
use crate::papr::Papr;
use crate::radix::radix_root;
use crate::vcpu::cpu::{Call, PowerVcpu, State};
use crate::vcpu::power::{Host, Power, Run};

/// POWER, 64 bits, in hypervisor mode.
#[derive(Debug)]
pub enum Ppc64Bare {}

impl Isa for Ppc64Bare {
    const NAME: &'static str = "ppc64";
    type Machine = Bare;
    type Stage2 = BareStage2;
    type Vcpu = PowerVcpu;
    type Platform = Papr;
    /// None on a radix table.
    type Claim = Option<Claim>;
    type Call = Call;
    const GRANULES: bool = true;
}

impl Power for Ppc64Bare {
    type Left = Left;

    #[inline]
    fn partition(stage2: &BareStage2, papr: &Papr) -> [u64; 2] {
        let first = match stage2.kind() {
            Kind::Radix(table) => radix_root(table.own().root()).unwrap_or(0),
            Kind::Hashed(table) => table.partition_entry(),
        };
        [first, papr.process_table()]
    }

    fn set_partition(m: &Bare, tag: VmTag, stage2: &BareStage2, papr: &Papr) -> [u64; 2] {
        let set = || {
            let entry = Self::partition(stage2, papr);
            m.set_partition(tag, entry);
            entry
        };
        match stage2.kind() {
            Kind::Radix(_) => set(),
            // Or hardware might be told of a table that the guest has left since (resize.rs).
            Kind::Hashed(table) => table.tables().telling(set),
        }
    }

    #[inline]
    fn enter(run: Run<'_, Self>, vcpu: &mut State) -> Left {
        match run.memory.stage2().kind() {
            Kind::Radix(table) => {
                if let Some(nest) = table.guests() {
                    return nested_host::run::run(&run, table, nest, vcpu);
                }
                vcpu.hv.lpcr |= super::enter::LPCR_RADIX;
                Left::By(run.m.enter(run.cpu, run.tag, &mut vcpu.hv, &mut vcpu.registers))
            }
            Kind::Hashed(table) => {
                vcpu.hv.lpcr |= super::enter::LPCR_HASHED;
                hashed::run(&run, table, vcpu)
            }
        }
    }

    #[inline]
    fn inside(vcpu: &mut State) -> Option<&mut Seat> {
        vcpu.nested.as_deref_mut().filter(|seat| seat.is_inside())
    }

    fn report(papr: &Papr, stage2: &BareStage2, out: &mut dyn Write) -> fmt::Result {
        match stage2.kind() {
            Kind::Radix(table) => table.guests().map_or(Ok(()), |nest| nest.counts().write(out)),
            Kind::Hashed(_) => papr.report_table_calls(out),
        }
    }

    #[inline]
    fn name(left: &Left, vcpu: &State) -> Exit<Self> {
        match *left {
            Left::By(vector) => vcpu.name(vector, None),
            Left::Fault { gpa, access, claim } => Exit::Fault(Fault { gpa, access, claim }),
            Left::Reflect(what) => Exit::Call(Call::Reflect(what)),
            Left::Broken(why) => Exit::Broken(why),
        }
    }
}
