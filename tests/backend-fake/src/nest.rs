//! A second stage with guests of its guest, on the fake: the shipped source of `backend_ppc64::nested_host`, over the fake's
//! entries.

use std::num::NonZeroU16;

use backend_ppc64::nested_host::children::{Limits, Partitions};
use backend_ppc64::nested_host::stage2::NestStage2;
use hv_core::addr::{Gpa, Order};
use hv_core::epoch::Cpu;
use hv_core::isa::{Isa, VmTag};
use hv_core::machine::Machine;
use hv_core::mmu::flush::FlushBatch;
use hv_core::radix::Stage2Format;
use hv_core::radix::format::TableRef;
use hv_core::sync::Ordering;

use crate::agent::Agent;
use crate::format::Trapping;
use crate::machine::FakeMachine;
use crate::platform::FakePlatform;
use crate::script::ScriptVcpu;
use crate::stage2::FakeStage2;
use crate::walk::View;

/// The fake instruction set whose guests may have guests. Its hardware notes no stores, as POWER's is taken to.
#[derive(Debug)]
pub struct FakeNest;

impl Isa for FakeNest {
    const NAME: &'static str = "fake-nest";
    type Machine = FakeMachine;
    type Stage2 = NestStage2<Trapping>;
    type Vcpu = ScriptVcpu;
    type Platform = FakePlatform;
    type Claim = ();
    type Call = ();
}

/// What the machine's guests may have of guests.
const LIMITS: Limits = Limits { vcpus: conformance_nest::VCPUS, pages: conformance_nest::PAGES };
/// The first name of an L2: VMs have smaller ones.
const FIRST: u16 = 64;

impl Partitions for FakeMachine {
    fn nest(&self, _tag: VmTag) -> Option<Limits> {
        Some(LIMITS)
    }

    fn take_name(&self) -> Option<VmTag> {
        let free = |taken: u64| (taken != u64::MAX).then(|| taken | 1 << (!taken).trailing_zeros());
        let taken = self.names.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        NonZeroU16::new(FIRST + (!taken).trailing_zeros() as u16).map(VmTag)
    }

    fn give_name(&self, tag: VmTag) {
        let bit = 1 << (tag.0.get() - FIRST);
        if self.names.fetch_and(!bit, Ordering::Relaxed) & bit == 0 {
            self.ram.violation(format!("R24: {tag:?} is given back twice"));
        }
    }

    fn set_child(&self, tag: VmTag, entry: Option<(TableRef, u64)>) -> bool {
        {
            let mut children = self.children.lock();
            children.retain(|(known, _)| *known != tag);
            children.extend(entry.map(|(root, _)| (tag, root)));
        }
        drop(self.flush(FlushBatch::whole(tag)));
        true
    }

    fn child_moved(&self, tag: VmTag) {
        drop(self.flush(FlushBatch::whole(tag)));
    }
}

impl FakeMachine {
    /// What the CPUs' hardware can do for a guest of a guest, by its entry of the partition table.
    pub fn agent_of(&self, child: VmTag) -> Option<Agent<'_>> {
        let root = self.children.lock().iter().find(|(tag, _)| *tag == child)?.1;
        Some(Agent::new(self, child, View::Radix(root)))
    }
}

impl<F: Stage2Format> FakeStage2 for NestStage2<F> {
    type Claim = ();

    fn view(&self) -> View {
        self.own().view()
    }

    fn claim(&self, _cpu: &Cpu, _m: &FakeMachine, _at: Gpa) {}

    fn claim_of(&self, _cpu: &Cpu, _m: &FakeMachine, _at: Gpa, _order: Order) {}

    fn faults_at_rest(&self, _cpu: &Cpu, _m: &FakeMachine) -> Vec<String> {
        Vec::new()
    }
}
