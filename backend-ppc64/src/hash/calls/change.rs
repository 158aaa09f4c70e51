//! Calls that look at an entry or change it where it is: H_READ, H_PROTECT, H_CLEAR_REF, H_CLEAR_MOD.

use hv_core::isa::Isa;
use hv_core::radix::format::Leaf;

use super::{Stop, Vm};
use crate::hash::words::{C, KEY_HI, KEY_LO, N, PP, PP0, R, first_pfn, rc, real};
use crate::hash::{Hashed, Processor};

/// H_READ: four entries.
const READ_4: u64 = 1 << (63 - 26);
/// What H_PROTECT changes in r.
const PROTECTION: u64 = PP0 | KEY_HI | KEY_LO | N | PP;
/// From a bit of H_PROTECT's flags to its bit in r.
const PP0_SHIFT: u32 = 55;
const KEY_HI_SHIFT: u32 = 48;

impl<I: Isa> Vm<'_, I>
where
    I::Machine: Processor,
    I::Claim: Hashed,
{
    /// H_READ(flags, index) -> one or four pairs of v and r. A free entry reads as zeros, whatever it held.
    pub(super) fn read(&self, gpr: &mut [u64; 32]) -> Result<(), Stop> {
        let (first, count) = if gpr[4] & READ_4 == 0 { (gpr[5], 1) } else { (gpr[5] & !3, 4) };
        self.index(gpr[5])?;
        let walk = self.walk();
        let mut read = [(0, 0); 4];
        for (index, pair) in (first..).zip(read.iter_mut().take(count)) {
            let entry = self.lock(&walk, index)?;
            let words = entry.words();
            *pair = if words.is_free() { (0, 0) } else { (words.shown(), words.told()) };
        }
        for (n, (v, r)) in read.into_iter().take(count).enumerate() {
            (gpr[4 + 2 * n], gpr[5 + 2 * n]) = (v, r);
        }
        Ok(())
    }

    /// H_PROTECT(flags, index, AVPN). The host side's rights stay as they are: what it does not allow now is for a
    /// fault.
    pub(super) fn protect(&self, gpr: &mut [u64; 32]) -> Result<(), Stop> {
        let (flags, index, walk) = (gpr[4], self.index(gpr[5])?, self.walk());
        let mut entry = self.lock_used(&walk, index, flags, gpr[6])?;
        let asked = flags << PP0_SHIFT & PP0 | flags << KEY_HI_SHIFT & KEY_HI | flags & (KEY_LO | N | PP);
        let view = entry.words().view & !PROTECTION | asked;
        entry.set_view(view);
        if !entry.words().is_valid() {
            return Ok(());
        }
        let (order, allowed) = (entry.words().order(), entry.allowed());
        let new = |r| real(view, &Leaf { pfn: first_pfn(r, order), prot: allowed, rc: rc(r) }, order);
        if new(entry.words().r) != entry.words().r {
            self.quiesce(&mut entry);
            entry.make_valid(new(entry.words().r));
        }
        Ok(())
    }

    /// H_CLEAR_REF(flags, index) -> r as it was.
    pub(super) fn clear_ref(&self, gpr: &mut [u64; 32]) -> Result<(), Stop> {
        gpr[4] = self.clear(gpr[5], R)?;
        Ok(())
    }

    /// H_CLEAR_MOD(flags, index) -> r as it was.
    pub(super) fn clear_mod(&self, gpr: &mut [u64; 32]) -> Result<(), Stop> {
        gpr[4] = self.clear(gpr[5], C)?;
        Ok(())
    }

    /// Clears a mark; returns what the guest is told of the entry with it. Hardware sets it again at the next use, for
    /// no CPU has the entry cached any more; the host's account of uses is kept.
    fn clear(&self, index: u64, mark: u64) -> Result<u64, Stop> {
        let (index, walk) = (self.index(index)?, self.walk());
        let mut entry = self.lock_used(&walk, index, 0, 0)?;
        let valid = entry.words().is_valid();
        if entry.harvest() & mark != 0 || entry.is_stale() {
            self.quiesce(&mut entry);
        }
        let (told, used) = (entry.words().told(), entry.words().r & mark & R != 0);
        entry.clear(mark);
        entry.set_view(entry.words().view & !mark);
        if valid {
            if used {
                self.table.chain(self.m, &walk, entry.words().gfn()).set_used();
            }
            if !entry.words().is_valid() {
                entry.make_valid(entry.words().r);
            }
        }
        Ok(told)
    }
}
