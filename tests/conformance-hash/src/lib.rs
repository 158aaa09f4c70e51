//! What every port must do with a guest's calls on its hashed page table: cases for the host and for boards alike.
//!
//! A case runs in real mode and in virtual mode, each on a VM of its own, and has to end the same way. The runner is the
//! conformance table's, so no case may lose a frame, and a checking machine sees that no rule is broken.
// Model checkers run scenarios of their own.
#![cfg(not(any(loom, shuttle, small)))]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod change;
mod defer;
mod enter;
mod enter_refused;
mod faults;
mod first_run;
mod granule;
mod guest;
mod host;
mod init;
mod real_mode;
mod remove;
mod resize;

use backend_ppc64::hash::{Hashed, MayBeHashed, Processor};
use conformance::cases::Case;
use hv_core::isa::Isa;

/// All cases, in order.
pub fn table<I>() -> impl Iterator<Item = Case<I>>
where
    I: Isa,
    I::Machine: Processor,
    I::Claim: Hashed,
    I::Stage2: MayBeHashed,
{
    let enter = enter::cases::<I>().into_iter().chain(enter_refused::cases());
    let others = remove::cases().into_iter().chain(change::cases()).chain(init::cases());
    let first = first_run::cases().into_iter().chain(first_run::others());
    let first = first.chain(real_mode::cases()).chain(real_mode::larger());
    let others = others
        .chain(faults::cases())
        .chain(host::cases())
        .chain(granule::cases())
        .chain(defer::cases())
        .chain(resize::cases());
    enter.chain(others).chain(first)
}

/// A module's list: names, rules and functions of a guest, each run in both modes, on memory in small pages or in large
/// ones where it can be.
macro_rules! cases {
    ($count:literal: $($name:literal, $rule:literal, $huge:ident, $run:ident;)*) => {
        pub(super) fn cases<I>() -> [conformance::cases::Case<I>; $count]
        where
            I: hv_core::isa::Isa,
            I::Machine: backend_ppc64::hash::Processor,
            I::Claim: backend_ppc64::hash::Hashed,
            I::Stage2: backend_ppc64::hash::MayBeHashed,
        {
            [$(conformance::cases::Case {
                name: $name,
                rule: $rule,
                run: |b| crate::guest::both_modes(b, hv_core::host::HugePolicy::$huge, $run),
            }),*]
        }
    };
}
use cases;

/// A case's function.
macro_rules! on_guest {
    ($(fn $name:ident($g:ident) $body:block)*) => {
        $(fn $name<I>($g: &crate::guest::Guest<'_, I>) -> conformance::verdict::Run
        where
            I: hv_core::isa::Isa,
            I::Machine: backend_ppc64::hash::Processor,
            I::Claim: backend_ppc64::hash::Hashed,
            I::Stage2: backend_ppc64::hash::MayBeHashed,
        $body)*
    };
}
use on_guest;
