//! The conformance table: what every port of Trivet must do, as cases that run on the host and on each board alike.
//!
//! A case names the rule it defends. It sees the column through [`rig::Rig`] and knows nothing else of it. The runner
//! adds two checks to every case: no frame is lost, and a checking machine saw no rule broken.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod alone;
// Model checkers run scenarios of their own, on trees of another geometry; of this crate they need the probe.
#[cfg(not(any(loom, shuttle, small)))]
pub mod cases;
#[cfg(not(any(loom, shuttle)))]
pub mod figures;
pub mod guest;
pub mod hold;
pub mod probe;
#[cfg(not(any(loom, shuttle, small)))]
pub mod report;
pub mod rig;
pub mod store;
pub mod verdict;
