//! The machine's own interrupt controller, a GICv3 (IHI 0069), set up by the arm-gic crate.
//!
//! But for one thing, which that has not: to end an interrupt drops its priority only (EOImode 1), since a guest's timer stays
//! active until the guest ends it. For the same reason what is done on every interrupt is in `machine/icc.rs`.
//!
//! Protocol: the boot CPU calls [`HostGic::new`], then each CPU [`HostGic::open`] once, for itself.
#![expect(unsafe_code, reason = "device registers and the CPU interface's system registers")]

use alloc::vec::Vec;
use core::arch::asm;
use core::ptr::NonNull;

use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicDistributor, GicRedistributor};
use arm_gic::{IntId, UniqueMmioPointer};
use hv_core::machine::CpuId;

use super::inventory::Gic;
use super::map;
use crate::machine::clock::{GUEST_TIMERS, TIMER};
use crate::machine::icc::KICK;

/// Interrupts of devices, which the distributor routes: from here on, and to here.
const SHARED: core::ops::Range<u32> = 32..1020;
/// Private ones of a CPU's own devices.
const PRIVATE: core::ops::Range<u32> = 16..32;
/// Lets everything through.
const LOWEST_PRIORITY: u8 = 0xff;
/// ICC_CTLR_EL1.EOImode: to end an interrupt drops its priority only.
const EOI_MODE: u64 = 1 << 1;

/// The controller.
#[derive(Debug)]
pub struct HostGic {
    distributor: NonNull<Gicd>,
    /// By CPU.
    redistributors: Vec<NonNull<GicrSgi>>,
    /// The interrupt of the virtual CPU interface, the same on every CPU.
    maintenance: u32,
}

// SAFETY: the pointers are device memory that stays mapped, and each CPU uses its own redistributor.
unsafe impl Send for HostGic {}
// SAFETY: as above.
unsafe impl Sync for HostGic {}

/// Why there is no controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoGic {
    /// Its registers are where Trivet maps none.
    TooHigh,
    /// No redistributor has this CPU's affinity.
    NoRedistributor(u64),
    /// Virtual CPU interfaces cannot ask for attention.
    NoMaintenance,
}

impl core::fmt::Display for NoGic {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooHigh => f.write_str("the interrupt controller's registers lie too high"),
            Self::NoRedistributor(cpu) => write!(f, "the interrupt controller has no redistributor for CPU {cpu:#x}"),
            Self::NoMaintenance => f.write_str("the interrupt controller has no maintenance interrupt"),
        }
    }
}

impl HostGic {
    /// Finds the redistributors of the CPUs with these affinities and sets the distributor up, all interrupts off.
    ///
    /// # Safety
    /// Once, on the boot CPU, with the registers mapped as device memory; `found` says where they are.
    pub unsafe fn new(found: &Gic, affinities: &[u64]) -> Result<Self, NoGic> {
        let distributor = registers(found.distributor.start).ok_or(NoGic::TooHigh)?;
        let mut frames = Vec::new();
        for region in &found.redistributors {
            let mut at = region.start;
            while at.saturating_add(size_of::<GicrSgi>() as u64) <= region.end {
                let frame = registers::<GicrSgi>(at).ok_or(NoGic::TooHigh)?;
                // SAFETY: a redistributor's registers, as the caller promises; nobody else looks at them yet.
                let typer = GicRedistributor::new(unsafe { UniqueMmioPointer::new(frame) }).typer();
                frames.push((frame, typer.core_mpidr()));
                if typer.last_redistributor() {
                    break;
                }
                // With virtual LPIs (GICv4) each has two more frames of 64 KiB.
                at += size_of::<GicrSgi>() as u64 * if typer.virtual_lpis_supported() { 2 } else { 1 };
            }
        }
        let of = |affinity: &u64| {
            let frame = frames.iter().find(|(_, owner)| owner == affinity);
            frame.map(|(frame, _)| *frame).ok_or(NoGic::NoRedistributor(*affinity))
        };
        let redistributors = affinities.iter().map(of).collect::<Result<_, _>>()?;
        let maintenance = found.maintenance.ok_or(NoGic::NoMaintenance)?;
        let found = Self { distributor, redistributors, maintenance };
        // SAFETY: as the caller promises; this is the only driver.
        let mut distributor = unsafe { found.distributor() };
        distributor.enable_all_interrupts(false);
        distributor.configure_default_settings();
        Ok(found)
    }

    /// # Safety
    /// One at a time.
    unsafe fn distributor(&self) -> GicDistributor<'_> {
        // SAFETY: device memory of the distributor; one driver at a time, as the caller promises.
        GicDistributor::new(unsafe { UniqueMmioPointer::new(self.distributor) })
    }

    /// Wakes the calling CPU's redistributor, enables kicks, timers and maintenance interrupts, and opens the CPU interface.
    /// False if there is no such CPU.
    ///
    /// # Safety
    /// Once, on the CPU `id` itself.
    pub unsafe fn open(&self, id: CpuId) -> bool {
        let Some(frame) = self.redistributors.get(usize::from(id.0)) else { return false };
        // SAFETY: the calling CPU's own, which no other touches.
        let mut redistributor = GicRedistributor::new(unsafe { UniqueMmioPointer::new(*frame) });
        GicCpuInterface::enable_system_register_el2(true);
        // An error says that it is awake already.
        let _ = redistributor.mark_core_awake();
        redistributor.configure_default_settings();
        let [first, second] = GUEST_TIMERS;
        let own = [TIMER, first, second, self.maintenance].into_iter().filter(|line| PRIVATE.contains(line));
        for line in own.map(|line| IntId::ppi(line - PRIVATE.start)).chain([IntId::sgi(KICK)]) {
            // An error would say that it is not a private one.
            let _ = redistributor.enable_interrupt(line, true);
        }
        GicCpuInterface::set_priority_mask(LOWEST_PRIORITY);
        // SAFETY: changes how interrupts of this CPU end.
        unsafe { asm!("msr icc_ctlr_el1, {}", "isb", in(reg) EOI_MODE, options(nostack, preserves_flags)) };
        GicCpuInterface::enable_group1(true);
        true
    }

    /// Has a device's interrupt go to the CPU with this affinity, level-triggered. False if there is no such interrupt.
    ///
    /// # Safety
    /// At boot, on one CPU.
    pub unsafe fn route(&self, line: u32, affinity: u64) -> bool {
        if !SHARED.contains(&line) {
            return false;
        }
        // SAFETY: as the caller promises.
        let mut distributor = unsafe { self.distributor() };
        let line = IntId::spi(line - SHARED.start);
        distributor.set_routing(line, Some(affinity)).is_ok() && distributor.enable_interrupt(line, true).is_ok()
    }
}

/// A device's registers, if they are where the boot's map and Trivet's own have devices.
fn registers<T>(at: u64) -> Option<NonNull<T>> {
    let fits = at.is_multiple_of(align_of::<T>() as u64) && at.saturating_add(size_of::<T>() as u64) <= map::SPAN;
    NonNull::new(core::ptr::with_exposed_provenance_mut::<T>(at as usize)).filter(|_| fits)
}
