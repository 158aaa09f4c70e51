//! An instruction set made of software: tiny tables, skewed bits, memory that checks every access, and translation
//! caches as unhelpful as an architecture allows. A port like any other, and the first that must pass.
//!
//! - `ram`: the checked arena, over `cells` (storage) and `book` (what each frame is used for). Whoever touches a frame that
//!   is free, or a table that is none, is noted down.
//! - `format`: entries whose bits move with the level, so that decoding at a wrong level shows at once.
//! - `walk`: how hardware finds a translation, and sets R and C; `tlb`: keeps every translation and every table address
//!   until a flush names it, and prefers them to the tables; `agent`: what CPUs do through both, at any moment.
//! - `hash`: a second stage of the other kind, which the guest fills and the hypervisor answers.
//! - `hpt`: POWER's hashed table, the shipped source, under the fake's hardware.
//! - `nest`: the guests of a guest, the shipped source, over the fake's entries.
//! - `check`, `derived`: what must be true of a VM at rest, and of tables derived from its second stage.
//! - `machine`: the seam's machine over these.
//! - `own`: heap that the fake takes for itself, which no test of shortage refuses it.
//! - `script`: a vCPU whose guest is the probe of `conformance::probe`; `platform`: nothing beside.

mod agent;
mod book;
mod cells;
mod check;
#[cfg(not(any(loom, shuttle, small)))]
pub mod column;
mod derived;
mod format;
mod hash;
mod hpt;
mod machine;
#[cfg(not(any(loom, shuttle, small)))]
mod nest;
mod own;
mod platform;
mod ram;
mod script;
mod stage2;
#[cfg(all(test, not(any(loom, shuttle, small))))]
mod tests;
mod tlb;
mod walk;

pub use agent::Agent;
pub use format::{Skewed, SkewedStage2, Trapping, TrappingStage2};
pub use hash::{Claim, HashStage2};
pub use hpt::FakeHpt;
pub use machine::FakeMachine;
#[cfg(not(any(loom, shuttle, small)))]
pub use nest::FakeNest;
pub use own::Own;
pub use platform::FakePlatform;
pub use script::ScriptVcpu;
pub use stage2::FakeStage2;

use hv_core::isa::Isa;

/// The fake instruction set, radix flavour.
#[derive(Debug)]
pub struct FakeRadix;

/// The fake instruction set, hash flavour: the same but for the second stage.
#[derive(Debug)]
pub struct FakeHash;

/// The fake instruction set, radix flavour without hardware that notes what is used and stored to.
#[derive(Debug)]
pub struct FakeTrap;

impl Isa for FakeRadix {
    const NAME: &'static str = "fake-radix";
    type Machine = FakeMachine;
    type Stage2 = SkewedStage2;
    type Vcpu = ScriptVcpu;
    type Platform = FakePlatform;
    type Claim = ();
    type Call = ();
    const GRANULES: bool = true;
}

impl Isa for FakeHash {
    const NAME: &'static str = "fake-hash";
    type Machine = FakeMachine;
    type Stage2 = HashStage2;
    type Vcpu = ScriptVcpu;
    type Platform = FakePlatform;
    type Claim = Claim;
    type Call = ();
    const GRANULES: bool = true;
}

impl Isa for FakeTrap {
    const NAME: &'static str = "fake-trap";
    type Machine = FakeMachine;
    type Stage2 = TrappingStage2;
    type Vcpu = ScriptVcpu;
    type Platform = FakePlatform;
    type Claim = ();
    type Call = ();
    const GRANULES: bool = true;
}
