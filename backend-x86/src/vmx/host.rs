//! VMX on the CPUs: switched on in each, and what all guests share.
//!
//! The machine calls [`enable`] on every CPU, once. What guests share is made with the first vCPU, and never changes
//! ([`shared`]).
#![expect(unsafe_code, reason = "enters VMX operation, writes to a frame by its address")]

use alloc::alloc::alloc;
use core::alloc::Layout;

use hv_core::addr::{PAGE_SHIFT, Pfn};
use hv_core::sync::Mutex;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::Msr;

use super::control_registers::Fixed;
use super::controls::{Controls, Unfit, fixed};
use super::instructions::{self, Context};
use crate::features::{EptVpid, Extension, Features, feature_control, msr};
use crate::msr_map;

/// A CPU did not enter VMX operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its extension is not VMX, or firmware has switched it off on this CPU.
    Off,
    /// VMXON failed.
    Vmxon,
    /// Its VMX lacks something.
    Unfit(Unfit),
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Off => f.write_str("firmware has switched VMX off on one of the CPUs"),
            Self::Vmxon => f.write_str("VMXON failed"),
            Self::Unfit(why) => why.fmt(f),
        }
    }
}

/// Reads a capability register.
fn read(number: u32) -> u64 {
    // SAFETY: those that are asked for are there where VMX is (vol. 3D, appendix A), and reading them has no effect.
    unsafe { Msr::new(number).read() }
}

/// Enters VMX operation on the calling CPU (vol. 3C, "Enabling and Entering VMX Operation"), which is not in it yet.
/// `region` is a frame full of zeros, the CPU's for good. Nothing that was cached of second stages is believed.
pub fn enable(region: Pfn, features: &Features) -> Result<(), Refused> {
    let Extension::Vmx { revision, .. } = features.extension else { return Err(Refused::Off) };
    Controls::choose(read).map_err(Refused::Unfit)?;
    let control = read(msr::FEATURE_CONTROL);
    let on = feature_control(control).ok_or(Refused::Off)?;
    if on != control {
        // SAFETY: it is not locked; what it switches on is VMX alone.
        unsafe { Msr::new(msr::FEATURE_CONTROL).write(on) };
    }
    let want = Fixed::of(read);
    // Firmware has left caches off on some machines.
    let cr0 = Cr0::read_raw() & !(Cr0Flags::CACHE_DISABLE | Cr0Flags::NOT_WRITE_THROUGH).bits();
    let cr4 = Cr4::read_raw() | Cr4Flags::VIRTUAL_MACHINE_EXTENSIONS.bits();
    // SAFETY: paging stays as it is; what is added is what VMX operation wants: NE, and VMXE.
    unsafe {
        Cr0::write_raw(fixed(cr0, want.cr0.0, want.cr0.1));
        Cr4::write_raw(fixed(cr4, want.cr4.0, want.cr4.1));
    }
    let at = region.0 << PAGE_SHIFT;
    // SAFETY: the frame is the CPU's, in the identity map.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(at as usize).write(revision) };
    // SAFETY: as above; interrupts are off, and nothing else of the CPU depends on the mode.
    unsafe { instructions::vmxon(at) }.map_err(|instructions::Failed| Refused::Vmxon)?;
    forget_all();
    Ok(())
}

/// Forgets everything that this CPU has cached of second stages, under whatever VPID. It is in VMX operation.
pub(super) fn forget_all() {
    // SAFETY: `Features::of` has seen that the processor has it.
    let forgotten = unsafe { instructions::invept(Context::All, 0) };
    debug_assert!(forgotten.is_ok(), "INVEPT of all");
}

/// What all guests share. The same on every CPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    /// Their controls.
    pub(super) controls: Controls,
    /// What the processor wants of CR0 and CR4.
    pub(super) fixed: Fixed,
    /// The preemption timer counts ticks of the TSC shifted right by so much (IA32_VMX_MISC, A.6).
    pub(super) timer_shift: u32,
    /// The physical address of the bitmap of MSRs.
    pub(super) msr_map: u64,
    /// How an EPT pointer's translations are forgotten.
    one: Context,
    /// What begins a VMCS.
    pub(super) revision: u32,
}

/// The bitmap of MSRs, as it lies in memory.
#[repr(C, align(4096))]
struct Map([u8; msr_map::VMX_BYTES]);

static SHARED: Mutex<Option<Shared>> = Mutex::new(None);

/// What all guests share; `None` if there is no memory for it. [`enable`] has seen that the rest of it can be.
pub(super) fn shared(features: &Features) -> Option<Shared> {
    let mut shared = SHARED.lock();
    if shared.is_none() {
        *shared = Shared::new(features);
    }
    *shared
}

impl Shared {
    fn new(features: &Features) -> Option<Self> {
        let Extension::Vmx { has, revision } = features.extension else { return None };
        let controls = Controls::choose(read).ok()?;
        // SAFETY: the type is not empty.
        let map = unsafe { alloc(Layout::new::<Map>()) }.cast::<Map>();
        if map.is_null() {
            return None;
        }
        // SAFETY: memory of that size and alignment, which nobody else has, and which is filled here.
        msr_map::vmx(unsafe { &mut *map.cast() });
        Some(Self {
            controls,
            fixed: Fixed::of(read),
            timer_shift: (read(msr::VMX_MISC) & 31) as u32,
            // Memory is mapped at its own addresses.
            msr_map: map.expose_provenance() as u64,
            one: if has.contains(EptVpid::INVEPT_ONE) { Context::One } else { Context::All },
            revision,
        })
    }

    /// Forgets what this CPU has cached of the second stage that `pointer` names.
    #[inline]
    pub(super) fn forget(&self, pointer: u64) {
        // SAFETY: the processor has INVEPT of this kind.
        let forgotten = unsafe { instructions::invept(self.one, pointer) };
        debug_assert!(forgotten.is_ok(), "INVEPT of {pointer:#x}");
    }
}

/// Takes the NMI that ended a run: the exit has blocked others, until an IRET (vol. 3C, "Loading Host State"). The handler is
/// Trivet's own.
pub(super) fn take_nmi() {
    // SAFETY: enters the handler of NMIs, which returns with IRET and leaves registers alone.
    unsafe { core::arch::asm!("int 2") };
}
