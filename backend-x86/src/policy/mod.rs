//! What a guest may know of the processor, and touch of it: CPUID leaves and model-specific registers as tables.
//!
//! Both are closed: what a table does not name reads as zero (CPUID) or is a #GP (registers). A feature is shown only if the
//! world switch keeps what belongs to it apart for each vCPU.

pub mod cpuid;
pub mod msr;
