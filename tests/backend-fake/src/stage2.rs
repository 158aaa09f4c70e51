//! What the fake needs to know of a second stage beyond `hv_core::isa::Stage2`: the same for both flavours.

use hv_core::addr::{Gpa, Order};
use hv_core::epoch::Cpu;
use hv_core::radix::{RadixStage2, Stage2Format};

use crate::machine::FakeMachine;
use crate::walk::View;

/// A second stage in a format that the fake's hardware knows.
pub trait FakeStage2 {
    /// See `hv_core::isa::Isa::Claim`.
    type Claim;
    /// What CPUs are told of it.
    fn view(&self) -> View;
    /// What a fault at `at` must still find when it is answered.
    fn claim(&self, cpu: &Cpu, m: &FakeMachine, at: Gpa) -> Self::Claim;
    /// The same, of a guest that wants a translation of `order` there, if it is the guest that chooses.
    fn claim_of(&self, cpu: &Cpu, m: &FakeMachine, at: Gpa, order: Order) -> Self::Claim;
    /// What is wrong with it in itself, where nobody is at work on it.
    fn faults_at_rest(&self, cpu: &Cpu, m: &FakeMachine) -> Vec<String>;
}

/// Either radix flavour: their words are the same.
impl<F: Stage2Format> FakeStage2 for RadixStage2<F> {
    type Claim = ();

    fn view(&self) -> View {
        View::Radix(self.root())
    }

    fn claim(&self, _cpu: &Cpu, _m: &FakeMachine, _at: Gpa) {}

    fn claim_of(&self, _cpu: &Cpu, _m: &FakeMachine, _at: Gpa, _order: Order) {}

    fn faults_at_rest(&self, _cpu: &Cpu, _m: &FakeMachine) -> Vec<String> {
        Vec::new()
    }
}
