//! H_ENTER and H_REMOVE where nothing is in the way, which is nearly always.
//!
//! ```text
//!   H_ENTER    arguments -> sample (R5) -> walk begun, which is the commit section -> slot -> revalidate (R6) -> primary (R11)
//!                -> a free entry, locked -> reverse map -> the guest's words, VALID -> unlocked
//!   H_REMOVE   locked, in use, the one that is meant -> VALID off -> flush -> R and C (R14) -> reverse map (R9) -> free, unlocked
//! ```
//!
//! It is answered with success or not at all: then **nothing has been changed**, and the call is made the general way, from its
//! beginning, which answers whatever is otherwise (a wrong argument, no page, a pending invalidation, a lock that is taken, a full
//! group). So this is short, and a board may have it compiled for speed; what it does is what `enter.rs` and `remove.rs` do, by the
//! same functions, but that an entry is put and published in one section and under one lock, in place of being put absent and
//! answered like a fault. All of it is part of who calls it.

use hv_core::addr::HvnRange;
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::mmu::GuestMemory;
use hv_core::radix::format::Prot;

use super::enter::Asked;
use super::{RealMode, TableCall, wanted};
use crate::hash::{HashStage2, Hashed, Processor, claim::Words};
use crate::papr::status::Status;

/// Answers the call whose number is in r3 if it is one of these and nothing is in the way: then its place in
/// [`TableCall::ALL`]. The caller is as [`super::call`]'s.
pub fn at_once<I: Isa>(
    real: RealMode<'_>,
    m: &I::Machine,
    memory: &GuestMemory<I>,
    table: &HashStage2,
    gpr: &mut [u64; 32],
) -> Option<usize>
where
    I::Machine: Processor,
    I::Claim: Hashed,
{
    const ENTER: u64 = TableCall::Enter as u64;
    const REMOVE: u64 = TableCall::Remove as u64;
    let kind = match gpr[3] {
        ENTER => {
            enter(real, m, memory, table, gpr)?;
            const { TableCall::Enter.place() }
        }
        REMOVE => {
            remove::<I>(real, m, table, gpr)?;
            const { TableCall::Remove.place() }
        }
        _ => return None,
    };
    gpr[3] = Status::Success as i64 as u64;
    Some(kind)
}

#[inline(always)]
fn enter<I: Isa>(
    RealMode(atomic): RealMode<'_>,
    m: &I::Machine,
    memory: &GuestMemory<I>,
    table: &HashStage2,
    gpr: &mut [u64; 32],
) -> Option<()>
where
    I::Machine: Processor,
    I::Claim: Hashed,
{
    let space = memory.space();
    let seq = space.mmu.sample();
    let section = space.mmu.within(atomic.enter(m.epoch()));
    let (walk, parts) = (section.walk(), table.parts());
    let asked = Asked::of(table, &parts, gpr).ok()?;
    if asked.zeroes() {
        return None;
    }
    let (gfn, (v, r)) = (asked.block.start(), asked.words);
    let slot = space.slots.find(walk, gfn)?;
    let hvn = slot.hvn(gfn)?;
    let fresh = section.revalidate(seq, HvnRange::new(hvn, 1)?).ok()?;
    let primary = fresh.primary(m, &space.host, hvn).ok()?;
    // Of the claim the size is asked.
    let claim = Words { v, r: 0, view: r }.claim(0);
    let to = space.target(m, I::Claim::of(claim), Prot::READ);
    let ready = fresh.prepare(&to, &slot, gfn, primary).ok()?;
    gpr[4] = table.put_valid(m, walk, &parts, asked.room, asked.words, &ready)?;
    Some(())
}

#[inline(always)]
fn remove<I: Isa>(RealMode(atomic): RealMode<'_>, m: &I::Machine, table: &HashStage2, gpr: &mut [u64; 32]) -> Option<()>
where
    I::Machine: Processor,
{
    let walk = atomic.enter(m.epoch());
    let (parts, index) = (table.parts(), gpr[5]);
    if index >= parts.entries() {
        return None;
    }
    let entry = parts.entry(m, &walk, index).try_lock()?;
    if !table.tables().is(&parts) || !wanted(&entry, gpr[4], gpr[6]) {
        return None;
    }
    let removed = table.free_of(m, &walk, &parts, entry);
    (gpr[4], gpr[5]) = (removed.v, removed.r);
    Some(())
}
