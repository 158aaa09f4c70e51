//! The table.

use hv_core::addr::{Gfn, GfnRange, Gpa, Order};
use hv_core::host::{HUGE, Peek};
use hv_core::isa::{Isa, SizeRule, Stage2};
use hv_core::machine::Machine;
use hv_core::mmu::{GuestMemory, Outcome};
use hv_core::vcpu::exit::{Access, Fault};

use crate::rig::Bench;
use crate::verdict::{Run, Stop};

mod age;
mod codec;
mod collapse;
mod commit;
mod dirty;
mod dirty_blocks;
mod discard;
mod fast;
mod fault;
mod fetch;
mod frames;
mod gpc;
mod grace;
mod granule;
mod hole;
mod huge;
mod memory;
mod notifier;
mod packed;
mod probing;
mod races;
mod ready;
mod split;
mod swap;
mod swap_races;
mod swap_short;
mod tables;
mod teams;
mod tmpfs;

/// One behaviour that every port must show.
pub struct Case<I: Isa> {
    /// Unique; `area-behaviour`.
    pub name: &'static str,
    /// The rule, oracle or principle it defends.
    pub rule: &'static str,
    /// Does it. Leaves no frame behind.
    pub run: fn(&Bench<'_, I>) -> Run,
}

/// All cases, in order.
pub fn table<I: Isa>() -> impl Iterator<Item = Case<I>> {
    let pure = codec::cases::<I>().into_iter().chain(frames::cases()).chain(grace::cases()).chain(ready::cases());
    let tables = tables::cases().into_iter().chain(notifier::cases());
    let memory = fault::cases()
        .into_iter()
        .chain(memory::cases())
        .chain(discard::cases())
        .chain(fast::cases())
        .chain(gpc::cases());
    let large = huge::cases()
        .into_iter()
        .chain(hole::cases())
        .chain(split::cases())
        .chain(collapse::cases())
        .chain(granule::cases())
        .chain(commit::cases());
    let shared = tmpfs::cases().into_iter().chain(teams::cases());
    let guests = probing::cases()
        .into_iter()
        .chain(fetch::cases())
        .chain(age::cases())
        .chain(dirty::cases())
        .chain(dirty_blocks::cases())
        .chain(races::cases());
    let swap = packed::cases().into_iter().chain(swap::cases()).chain(swap_short::cases()).chain(swap_races::cases());
    pure.chain(tables).chain(memory).chain(large).chain(shared).chain(guests).chain(swap)
}

/// A case in a module's list.
macro_rules! case {
    ($name:literal, $rule:literal, $run:ident) => {
        crate::cases::Case { name: $name, rule: $rule, run: $run::<I> }
    };
}
use case;

/// The address of the first byte of guest frame `gfn`.
pub(crate) fn page(gfn: u64) -> Gpa {
    Gpa(gfn << 12)
}

/// A range of guest frames that a case wrote down itself.
pub(crate) fn gfns(start: u64, pages: u64) -> Result<GfnRange, Stop> {
    GfnRange::new(Gfn(start), pages).ok_or(Stop::Fail("the case names an empty range"))
}

/// The size of the host leaf at `gpa`, or of a large block: what a guest that chooses sizes, and knows, would choose.
fn size_at<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, gpa: Gpa) -> Order {
    let guard = b.m.epoch().enter(b.cpu);
    let hvn = memory.space().slots.find(&guard, gpa.page()).and_then(|slot| slot.hvn(gpa.page()));
    match hvn.map(|hvn| memory.space().host.peek(b.m, &guard, hvn)) {
        Some(Peek::Page(now)) => now.order.min(HUGE),
        Some(Peek::Absent | Peek::Swapped | Peek::Retry | Peek::OutOfReach) | None => Order::PAGE,
    }
}

/// Leaves a case about leaves of 2 MiB out where the guest has no pages of that size to ask for.
fn wants_blocks<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>) -> Run {
    match memory.stage2().size_rule(&b.rig.claim(memory.stage2(), page(0), HUGE)) {
        SizeRule::Exactly(order) if order != HUGE => Err(Stop::Skip("the guest has no pages of 2 MiB")),
        SizeRule::Exactly(_) | SizeRule::AnyOf(_) => Ok(()),
    }
}

/// A fault of the guest at `gpa`.
pub(crate) fn fault<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, gpa: Gpa, access: Access) -> Outcome {
    let of = |size| memory.fault(b.cpu, b.m, &Fault { gpa, access, claim: b.rig.claim(memory.stage2(), gpa, size) });
    // A guest that chooses sizes wants a large one, and takes a small one if it is refused that.
    match of(HUGE) {
        Outcome::NoSlot => of(Order::PAGE),
        other @ (Outcome::Mapped | Outcome::Retry | Outcome::NoMemory) => other,
    }
}
