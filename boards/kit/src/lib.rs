//! What boards share. A board finds out what its machine is, and wires it to this; nothing here knows which machine it is.
//!
//! - [`memory`]: what is free becomes the frame allocator, and the bundle is read.
//! - [`cpus`]: what a further CPU is started with.
//! - [`guests`]: the bundle becomes a running hypervisor.
//! - `column`: the conformance table in place of guests.
//! - [`ends`]: the run is refused, or fails.
//! - [`heap`] and [`log`]: the image's allocator and its logger, one of each an image.
#![no_std]
#![expect(unsafe_code, reason = "the heap, the logger, and memory that is given out")]

extern crate alloc;

#[cfg(feature = "conformance")]
pub mod column;
pub mod cpus;
pub mod ends;
#[cfg(feature = "conformance")]
mod errand;
pub mod guests;
pub mod heap;
pub mod log;
pub mod memory;
