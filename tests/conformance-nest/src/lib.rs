//! What must hold of the guests of a guest: cases for the host and for boards alike.
//!
//! A case is the guest (L1): it writes a partition table and a tree into its memory, and takes the faults of its own guest
//! (L2) to the hypervisor as that would. What L2's CPU does is done by reading the derived table, as hardware does. The runner
//! is the conformance table's, so no case may lose a frame, and a checking machine sees that no rule is broken.
// Model checkers run scenarios of their own.
#![cfg(not(any(loom, shuttle, small)))]
#![no_std]
#![forbid(unsafe_code)]

mod blocks;
mod copy;
mod copy_refused;
mod faults;
mod invalidate;
mod l1;
mod limits;
mod marks;

use backend_ppc64::nested_host::children::Partitions;
use backend_ppc64::nested_host::stage2::MayNest;
use conformance::cases::Case;
use hv_core::isa::Isa;

/// Virtual CPUs of the L1 of the cases, as a column has to configure its VM.
pub const VCPUS: u16 = 2;
/// Pages of its RAM, likewise.
pub const PAGES: u64 = l1::PAGES;

/// All cases, in order.
pub fn table<I>() -> impl Iterator<Item = Case<I>>
where
    I: Isa,
    I::Machine: Partitions,
    I::Stage2: MayNest,
{
    let faults = faults::cases::<I>().into_iter().chain(marks::cases());
    faults
        .chain(invalidate::cases())
        .chain(limits::cases())
        .chain(blocks::cases())
        .chain(copy::cases())
        .chain(copy_refused::cases())
}

/// A module's list: names, rules and functions of an L1, on memory in small pages or in large ones where it can be.
macro_rules! cases {
    ($count:literal: $($name:literal, $rule:literal, $huge:ident, $run:ident;)*) => {
        pub(super) fn cases<I>() -> [conformance::cases::Case<I>; $count]
        where
            I: hv_core::isa::Isa,
            I::Machine: backend_ppc64::nested_host::children::Partitions,
            I::Stage2: backend_ppc64::nested_host::stage2::MayNest,
        {
            [$(conformance::cases::Case {
                name: $name,
                rule: $rule,
                run: |b| crate::l1::with(b, hv_core::host::HugePolicy::$huge, $run),
            }),*]
        }
    };
}
use cases;

/// A case's function.
macro_rules! on_l1 {
    ($(fn $name:ident($l1:ident) $body:block)*) => {
        $(fn $name<I>($l1: &mut crate::l1::L1<'_, I>) -> conformance::verdict::Run
        where
            I: hv_core::isa::Isa,
            I::Machine: backend_ppc64::nested_host::children::Partitions,
            I::Stage2: backend_ppc64::nested_host::stage2::MayNest,
        $body)*
    };
}
use on_l1;
