//! H_RESIZE_HPT_PREPARE and H_RESIZE_HPT_COMMIT: the guest wants a table of another size.
//!
//! Preparing is done at once, so there is nothing to wait for between the two. Both are for virtual mode: frames are taken, and
//! the hypervisor waits for CPUs.

use hv_core::isa::Isa;

use super::{Stop, Vm};
use crate::hash::resize::Refused;
use crate::hash::{Hashed, Processor};
use crate::papr::status::Status;

impl<I: Isa> Vm<'_, I>
where
    I::Machine: Processor,
    I::Claim: Hashed,
{
    /// H_RESIZE_HPT_PREPARE(flags, log2 of the size): 0 gives up what was prepared.
    pub(super) fn resize_prepare(&self, gpr: &[u64; 32]) -> Result<(), Stop> {
        let log2 = wanted(gpr)?;
        Ok(self.table.prepare(self.ctx.cpu()?, self.m, log2).map_err(Status::from)?)
    }

    /// H_RESIZE_HPT_COMMIT(flags, log2 of the size). Entries that are not bolted are gone afterwards.
    pub(super) fn resize_commit(&self, gpr: &[u64; 32]) -> Result<(), Stop> {
        let log2 = wanted(gpr)?;
        Ok(self.table.commit(self.ctx.cpu()?, self.m, log2).map_err(Status::from)?)
    }
}

/// No flag is known.
fn wanted(gpr: &[u64; 32]) -> Result<u64, Status> {
    if gpr[4] == 0 { Ok(gpr[5]) } else { Err(Status::Parameter) }
}

impl From<Refused> for Status {
    fn from(why: Refused) -> Self {
        match why {
            Refused::Size => Self::Parameter,
            Refused::Quota => Self::Resource,
            Refused::NoMemory => Self::NoMemory,
            Refused::NotPrepared => Self::Closed,
            Refused::Full => Self::PtegFull,
        }
    }
}
