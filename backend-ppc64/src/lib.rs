//! Under construction.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod irq;
pub mod papr;
pub mod radix;
