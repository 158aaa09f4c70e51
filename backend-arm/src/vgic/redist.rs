//! The redistributors' registers, GICR_* (IHI 0069, chapters 12.10 and 12.11): for each vCPU a frame about itself, and
//! one about its SGIs and PPIs.
//!
//! Any vCPU may use any frame. What it clears of another's that the other has listed goes at the other's next look.

use hv_core::sync::Ordering;

use super::Vgic;
use super::dist::{Bits, config};
use super::ids::{IIDR, identification};
use super::seat::{EDGES, Seat};
use crate::vcpu::mmio::Width;
use crate::virt::layout;

/// Where the frame of SGIs and PPIs begins.
const PRIVATE: u64 = 0x1_0000;
/// GICR_TYPER.Last: no frame follows.
const LAST: u64 = 1 << 4;
/// GICR_WAKER.ProcessorSleep; ChildrenAsleep, beside it, always agrees.
const PROCESSOR_SLEEP: u32 = 1 << 1;
const CHILDREN_ASLEEP: u32 = 1 << 2;

impl Vgic {
    /// Reads `width` bytes at `offset` of a vCPU's redistributor.
    #[must_use]
    pub fn read_redistributor(&self, vcpu: u16, offset: u64, width: Width) -> u64 {
        let Some(seat) = self.seat(vcpu) else { return 0 };
        match (offset, width) {
            (0x0008 | 0x000c, Width::Word | Width::Double) => self.typer(vcpu) >> (8 * (offset & 4)) & width.mask(),
            (0x1_0400..0x1_0420, Width::Byte | Width::Word) => {
                let word = seat.priorities((offset - 0x1_0400) as u32 / 4);
                u64::from(word) >> (8 * (offset & 3)) & width.mask()
            }
            (_, Width::Word) => word(seat, offset).into(),
            _ => 0,
        }
    }

    /// GICR_TYPER: affinity, number, whether it is the last. No LPIs, 16 PPIs.
    fn typer(&self, vcpu: u16) -> u64 {
        let affinity = layout::affinity(vcpu);
        let last = if usize::from(vcpu) + 1 == self.seats.len() { LAST } else { 0 };
        affinity << 32 | u64::from(vcpu) << 8 | last
    }

    /// vCPU `by` writes `width` bytes at `offset` of a vCPU's redistributor. Returns the vCPUs to wake, bit = number.
    #[must_use]
    pub fn write_redistributor(&self, by: u16, vcpu: u16, offset: u64, width: Width, value: u64) -> u32 {
        let Some(seat) = self.seat(vcpu) else { return 0 };
        let value32 = value as u32;
        match (offset, width) {
            (0x0014, Width::Word) => {
                seat.asleep.store(value32 & PROCESSOR_SLEEP != 0, Ordering::Relaxed);
                return 0;
            }
            (0x1_0400..0x1_0420, Width::Byte | Width::Word) => {
                let shift = 8 * (offset as u32 & 3);
                seat.set_priorities((offset - 0x1_0400) as u32 / 4, value32 << shift, (width.mask() as u32) << shift);
            }
            (_, Width::Word) => match private(offset) {
                Some(bank) => write_bits(seat, bank, value32),
                None => return 0,
            },
            _ => return 0,
        }
        self.announce(vcpu) & !(1 << by)
    }
}

/// The bank of bits whose register for INTIDs 0 to 31 is at `offset`.
fn private(offset: u64) -> Option<Bits> {
    offset.checked_sub(PRIVATE).and_then(Bits::at)
}

fn word(seat: &Seat, offset: u64) -> u32 {
    let load = |word: &hv_core::sync::AtomicU32| word.load(Ordering::Relaxed);
    match private(offset) {
        Some(Bits::Group) => return load(&seat.group1),
        Some(Bits::SetEnable | Bits::ClearEnable) => return load(&seat.enabled),
        Some(Bits::SetPending | Bits::ClearPending) => {
            return load(&seat.latch) | seat.lines().0 | load(&seat.shown_pending);
        }
        Some(Bits::SetActive | Bits::ClearActive) => return load(&seat.parked) | load(&seat.shown_active),
        None => {}
    }
    match offset {
        0x0004 => IIDR,
        0x0014 if seat.asleep.load(Ordering::Relaxed) => PROCESSOR_SLEEP | CHILDREN_ASLEEP,
        0x1_0c00 => config(EDGES),
        0x1_0c04 => config(EDGES >> 16),
        _ => identification(offset & (PRIVATE - 1)),
    }
}

fn write_bits(seat: &Seat, bank: Bits, value: u32) {
    match bank {
        Bits::Group => seat.group1.store(value, Ordering::Relaxed),
        Bits::SetEnable => {
            seat.enabled.fetch_or(value, Ordering::Relaxed);
        }
        Bits::ClearEnable => {
            seat.enabled.fetch_and(!value, Ordering::Relaxed);
        }
        Bits::SetPending => seat.latch(value),
        // What is listed is known to the vCPU alone: it is asked to undo that. Its own writes find nothing listed.
        Bits::ClearPending => {
            seat.unlatch(value);
            seat.unpend.fetch_or(value, Ordering::Release);
        }
        Bits::SetActive => {
            seat.parked.fetch_or(value, Ordering::Relaxed);
        }
        Bits::ClearActive => {
            seat.parked.fetch_and(!value, Ordering::Relaxed);
            seat.deactivate.fetch_or(value, Ordering::Release);
        }
    }
}
