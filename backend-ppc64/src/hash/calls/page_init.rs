//! H_PAGE_INIT: the guest has a page filled.

use hv_core::addr::{Gpa, PAGE_SIZE};
use hv_core::isa::Isa;

use super::{Stop, Vm};
use crate::hash::{Hashed, Processor};
use crate::papr::status::Status;

/// Instruction caches: coherent with stores, so there is nothing to do.
const ICACHE_INVALIDATE: u64 = 1 << (63 - 40);
const ICACHE_SYNC: u64 = 1 << (63 - 41);
/// Hints about pages that the guest lends (bits 42 to 44); nothing is done about them.
const LOANED: u64 = 0xe << (63 - 45);
const ZERO_PAGE: u64 = 1 << (63 - 48);
const COPY_PAGE: u64 = 1 << (63 - 49);

impl<I: Isa> Vm<'_, I>
where
    I::Machine: Processor,
    I::Claim: Hashed,
{
    /// H_PAGE_INIT(flags, destination, source): pages of 4 KiB. Copied if both are asked for. Always deferred by real
    /// mode: it stores to guest memory, which may have to be brought first.
    pub(super) fn page_init(&self, gpr: &mut [u64; 32]) -> Result<(), Stop> {
        let (flags, to, from) = (gpr[4], Gpa(gpr[5]), Gpa(gpr[6]));
        let known = ICACHE_INVALIDATE | ICACHE_SYNC | LOANED | ZERO_PAGE | COPY_PAGE;
        let copies = flags & COPY_PAGE != 0;
        if flags & !known != 0 || to.offset() != 0 || copies && from.offset() != 0 {
            return Err(Status::Parameter.into());
        }
        // The page has to be the guest's even if nothing is done with it.
        let page = hv_core::addr::GfnRange::new(to.page(), 1).ok_or(Status::Parameter)?;
        if self.memory.space().slots.find(&self.walk(), page.start()).is_none() {
            return Err(Status::Parameter.into());
        }
        if copies {
            self.copy(to, from)
        } else if flags & ZERO_PAGE != 0 {
            self.zero(to, PAGE_SIZE as u64)
        } else {
            Ok(())
        }
    }
}
