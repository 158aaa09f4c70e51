//! The distributor's registers, GICD_* (IHI 0069, chapter 12.9).
//!
//! One security state (GICD_CTLR.DS = 1), affinity routing always on (ARE = 1); both are fixed. Registers about SGIs and PPIs
//! are the redistributors' then, and read as zero here. Nothing is ever still to take effect (RWP = 0): what a write
//! takes from a vCPU that is inside the guest on another CPU goes with the kick that follows it.
//!
//! An access of a width that its register does not have reads zero and writes nothing.

use hv_core::sync::Ordering;

use super::ids::{IIDR, identification};
use super::lists::bits;
use super::spi::Spis;
use super::{FIRST_SPI, Vgic};
use crate::vcpu::mmio::Width;

/// GICD_CTLR.EnableGrp0.
pub const GROUP0: u32 = 1 << 0;
/// GICD_CTLR.EnableGrp1.
pub const GROUP1: u32 = 1 << 1;
/// GICD_CTLR.ARE and .DS.
const FIXED: u32 = 1 << 4 | 1 << 6;
/// GICD_TYPER: INTIDs up to 63, of 10 bits, no 1-of-N delivery.
const TYPER: u32 = 1 | 9 << 19 | 1 << 25;

/// A bank of registers with one bit for each interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    /// IGROUPR.
    Group,
    /// ISENABLER.
    SetEnable,
    /// ICENABLER.
    ClearEnable,
    /// ISPENDR.
    SetPending,
    /// ICPENDR.
    ClearPending,
    /// ISACTIVER.
    SetActive,
    /// ICACTIVER.
    ClearActive,
}

impl Bits {
    /// The bank that begins at `offset`.
    pub const fn at(offset: u64) -> Option<Self> {
        Some(match offset {
            0x080 => Self::Group,
            0x100 => Self::SetEnable,
            0x180 => Self::ClearEnable,
            0x200 => Self::SetPending,
            0x280 => Self::ClearPending,
            0x300 => Self::SetActive,
            0x380 => Self::ClearActive,
            _ => return None,
        })
    }
}

/// Two bits for each of 16 interrupts, the upper one from `edges` (ICFGR\<n\>).
pub fn config(edges: u32) -> u32 {
    bits((edges & 0xffff).into()).fold(0, |word, n| word | 2 << (2 * n))
}

/// The upper ones of 16 pairs of bits.
fn edges(config: u32) -> u32 {
    (0..16).fold(0, |mask, n| mask | (config >> (2 * n + 1) & 1) << n)
}

impl Vgic {
    /// Reads `width` bytes at `offset` of the distributor.
    #[must_use]
    pub fn read_distributor(&self, offset: u64, width: Width) -> u64 {
        let spis = self.spis.lock();
        match (offset, width) {
            (0x0400..0x0800, Width::Byte | Width::Word) => {
                (0..width.bytes()).rev().fold(0, |word, n| word << 8 | priority(&spis, offset + n))
            }
            (0x6100..0x6200, Width::Word | Width::Double) => {
                spis.route(route(offset)) >> (8 * (offset & 4)) & width.mask()
            }
            (_, Width::Word) => self.distributor_word(&spis, offset).into(),
            _ => 0,
        }
    }

    fn distributor_word(&self, spis: &Spis, offset: u64) -> u32 {
        match (Bits::at(offset & !0x7f), offset & 0x7f) {
            (Some(Bits::Group), 4) => return spis.group1,
            (Some(Bits::SetEnable | Bits::ClearEnable), 4) => return spis.enabled,
            (Some(Bits::SetPending | Bits::ClearPending), 4) => {
                return spis.latch | spis.levels() | spis.shown_pending;
            }
            (Some(Bits::SetActive | Bits::ClearActive), 4) => return spis.parked | spis.shown_active,
            _ => {}
        }
        match offset {
            0x0000 => self.groups() | FIXED,
            0x0004 => TYPER,
            0x0008 => IIDR,
            0x0c08 => config(spis.edges),
            0x0c0c => config(spis.edges >> 16),
            _ => identification(offset),
        }
    }

    /// vCPU `by` writes `width` bytes at `offset` of the distributor. Returns the vCPUs to wake, bit = number.
    #[must_use]
    pub fn write_distributor(&self, by: u16, offset: u64, width: Width, value: u64) -> u32 {
        let mut spis = self.spis.lock();
        let which = match (offset, width) {
            (0x0000, Width::Word) => {
                self.groups.store(value as u32 & (GROUP0 | GROUP1), Ordering::Relaxed);
                let all = (0_u16..).zip(&self.seats).fold(0, |all, (vcpu, _)| all | self.announce(vcpu));
                return all | self.changed(&mut spis, u32::MAX);
            }
            (0x0400..0x0800, Width::Byte | Width::Word) => {
                (0..width.bytes()).fold(0, |which, n| which | set_priority(&mut spis, offset + n, value >> (8 * n)))
            }
            (0x6100..0x6200, Width::Word | Width::Double) => set_route(&mut spis, offset, width, value),
            (0x0c08, Width::Word) => set_edges(&mut spis, 0xffff, edges(value as u32)),
            (0x0c0c, Width::Word) => set_edges(&mut spis, 0xffff_0000, edges(value as u32) << 16),
            (_, Width::Word) if offset & 0x7f == 4 => match Bits::at(offset & !0x7f) {
                Some(bank) => self.write_bits(&mut spis, by, bank, value as u32),
                None => 0,
            },
            _ => 0,
        };
        self.changed(&mut spis, which)
    }

    /// Returns those that have changed.
    fn write_bits(&self, spis: &mut Spis, by: u16, bank: Bits, value: u32) -> u32 {
        match bank {
            Bits::Group => {
                let before = core::mem::replace(&mut spis.group1, value);
                return before ^ value;
            }
            Bits::SetEnable => spis.enabled |= value,
            Bits::ClearEnable => spis.enabled &= !value,
            Bits::SetPending => spis.latch |= value,
            Bits::ClearPending => {
                spis.latch &= !value;
                spis.unpend |= value & spis.listed;
            }
            Bits::SetActive => {
                for n in bits(value.into()) {
                    // Whose it is decides who may end it: the one that would take it, if there is such a vCPU.
                    let target = crate::virt::layout::number(spis.route(n)).filter(|vcpu| self.seat(*vcpu).is_some());
                    spis.park(n, target.unwrap_or(by));
                }
            }
            Bits::ClearActive => {
                spis.parked &= !value;
                spis.deactivate |= value & spis.listed;
            }
        }
        value
    }
}

/// The SPI whose IGROUPR, IPRIORITYR, ... byte is at `offset`.
fn priority(spis: &Spis, offset: u64) -> u64 {
    (offset - 0x400).checked_sub(FIRST_SPI.into()).filter(|n| *n < 32).map_or(0, |n| spis.priority(n as u32).into())
}

fn set_priority(spis: &mut Spis, offset: u64, value: u64) -> u32 {
    match (offset - 0x400).checked_sub(FIRST_SPI.into()) {
        Some(n) if n < 32 => {
            spis.set_priority(n as u32, value as u8);
            1 << n
        }
        _ => 0,
    }
}

fn set_edges(spis: &mut Spis, mask: u32, edges: u32) -> u32 {
    spis.edges = spis.edges & !mask | edges;
    mask
}

/// The SPI whose GICD_IROUTER is at `offset`.
const fn route(offset: u64) -> u32 {
    ((offset - 0x6100) / 8) as u32
}

fn set_route(spis: &mut Spis, offset: u64, width: Width, value: u64) -> u32 {
    let (n, shift) = (route(offset), 8 * (offset & 4));
    let mask = width.mask() << shift;
    spis.set_route(n, spis.route(n) & !mask | value << shift & mask);
    1 << n
}
