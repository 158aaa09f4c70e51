//! A VMCS: a page that a processor keeps a vCPU's state and controls in, in a form of its own.
//!
//! ```text
//!   in memory --load--> current on this CPU --run, get, set--> ... --put--> in memory
//! ```
//!
//! Fields are reached while it is current only. The first [`Vmcs::load`] writes all of them.
#![expect(unsafe_code, reason = "reads and writes fields, and gives the processor a page")]

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::ptr::NonNull;

use x86_64::instructions::segmentation::{CS, SS, Segment as _};
use x86_64::instructions::tables::{sgdt, sidt};
use x86_64::registers::control::{Cr0, Cr3, Cr4};
use x86_64::registers::model_specific::{Efer, Msr};

use super::exits::EXCEPTIONS;
use super::fields::Field;
use super::host::Shared;
use super::instructions::{self, vmread, vmwrite};
use super::switch;

/// The page. What is in it is the processor's; it begins with a revision.
#[derive(Debug)]
pub(super) struct Vmcs {
    page: NonNull<u32>,
    place: Place,
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In memory.
    Memory,
    /// Current on the CPU that its vCPU is loaded on.
    Cpu,
}

// SAFETY: the page is a VMCS's own, and in memory whenever the vCPU is not loaded; who loads it has it alone.
unsafe impl Send for Vmcs {}

/// IA32_PAT.
const PAT: u32 = 0x277;

const PAGE: Layout = match Layout::from_size_align(4096, 4096) {
    Ok(layout) => layout,
    Err(_) => panic!("4 KiB, aligned to it, is a layout"),
};

impl Vmcs {
    /// A new one, in memory; `None` if there is no heap.
    pub(super) fn new(shared: &Shared) -> Option<Self> {
        // SAFETY: the layout is not empty.
        let page = NonNull::new(unsafe { alloc_zeroed(PAGE) })?.cast();
        // SAFETY: just allocated, aligned to 4 KiB.
        unsafe { page.write(shared.revision) };
        let vmcs = Self { page, place: Place::Memory };
        // SAFETY: the page is ours, and the heap in the identity map. This also marks it as not launched.
        unsafe { instructions::vmclear(vmcs.address()) }.ok()?;
        Some(vmcs)
    }

    fn address(&self) -> u64 {
        self.page.expose_provenance().get() as u64
    }

    /// Makes it the calling CPU's current one, and writes what of the host's state there is.
    pub(super) fn load(&mut self) {
        // SAFETY: it is in memory, in the identity map; until `put` only this CPU's instructions touch it.
        let loaded = unsafe { instructions::vmptrld(self.address()) };
        debug_assert!(loaded.is_ok(), "VMPTRLD of a VMCS of this revision");
        self.place = Place::Cpu;
        self.write_host();
    }

    /// Takes it from the CPU that it is current on, which calls this.
    pub(super) fn put(&mut self) {
        // SAFETY: the page is ours.
        let cleared = unsafe { instructions::vmclear(self.address()) };
        debug_assert!(cleared.is_ok(), "VMCLEAR of a VMCS");
        self.place = Place::Memory;
    }

    /// True while it is the current one of the CPU that its vCPU is loaded on.
    #[inline]
    pub(super) fn is_current(&self) -> bool {
        self.place == Place::Cpu
    }

    /// A field. The vCPU is loaded.
    #[inline(always)]
    pub(super) fn get(&self, field: Field) -> u64 {
        debug_assert!(self.place == Place::Cpu, "a field of a VMCS that is in memory");
        // SAFETY: there is a current VMCS, this one.
        unsafe { vmread(field) }
    }

    /// Sets a field of the guest's state, or a control that cannot make the processor touch memory of Trivet's. The vCPU is
    /// loaded.
    #[inline(always)]
    pub(super) fn set(&mut self, field: Field, value: u64) {
        debug_assert!(self.place == Place::Cpu, "a field of a VMCS that is in memory");
        // SAFETY: there is a current VMCS, this one. Guests are confined by the controls of `write_controls` and by the
        // second stage, whatever their state says.
        unsafe { vmwrite(field, value) };
    }

    /// The controls that stay as they are, and those that begin as nothing.
    pub(super) fn write_controls(&mut self, shared: &Shared) {
        let controls = &shared.controls;
        for (field, value) in [
            (Field::PIN_CONTROLS, controls.pin.into()),
            (Field::PRIMARY_CONTROLS, controls.primary.into()),
            (Field::SECONDARY_CONTROLS, controls.secondary.into()),
            (Field::EXIT_CONTROLS, controls.exit.into()),
            (Field::ENTRY_CONTROLS, controls.entry.into()),
            (Field::EXCEPTIONS, EXCEPTIONS.into()),
            (Field::PAGE_FAULT_MASK, 0),
            (Field::PAGE_FAULT_MATCH, 0),
            (Field::CR3_TARGETS, 0),
            (Field::EXIT_MSR_STORE_COUNT, 0),
            (Field::EXIT_MSR_LOAD_COUNT, 0),
            (Field::ENTRY_MSR_LOAD_COUNT, 0),
            (Field::ENTRY_EVENT, 0),
            (Field::MSR_BITMAP, shared.msr_map),
            (Field::CR0_MASK, shared.fixed.cr0_mask()),
            (Field::CR4_MASK, shared.fixed.cr4_mask()),
            (Field::LINK_POINTER, u64::MAX),
        ] {
            self.set(field, value);
        }
    }

    /// What an exit brings back: Trivet as it runs now. RSP is `switch`'s business.
    fn write_host(&mut self) {
        let (gdt, idt) = (sgdt(), sidt());
        let (table, flags) = Cr3::read_raw();
        for (field, value) in [
            (Field::HOST_CR0, Cr0::read_raw()),
            (Field::HOST_CR3, table.start_address().as_u64() | u64::from(flags)),
            (Field::HOST_CR4, Cr4::read_raw()),
            (Field::HOST_EFER, Efer::read_raw()),
            // SAFETY: every processor with long mode has it; reading it has no effect.
            (Field::HOST_PAT, unsafe { Msr::new(PAT).read() }),
            (Field::HOST_CS, CS::get_reg().0.into()),
            (Field::HOST_SS, SS::get_reg().0.into()),
            (Field::HOST_DS, 0),
            (Field::HOST_ES, 0),
            (Field::HOST_FS, 0),
            (Field::HOST_GS, 0),
            // Any but none: no descriptor is read, and Trivet has no use for a task.
            (Field::HOST_TR, 0x18),
            (Field::HOST_FS_BASE, 0),
            (Field::HOST_GS_BASE, 0),
            (Field::HOST_TR_BASE, 0),
            (Field::HOST_GDTR_BASE, gdt.base.as_u64()),
            (Field::HOST_IDTR_BASE, idt.base.as_u64()),
            (Field::HOST_SYSENTER_CS, 0),
            (Field::HOST_SYSENTER_ESP, 0),
            (Field::HOST_SYSENTER_EIP, 0),
            (Field::HOST_RIP, switch::way_out()),
        ] {
            self.set(field, value);
        }
    }
}

impl Drop for Vmcs {
    fn drop(&mut self) {
        debug_assert!(self.place == Place::Memory, "a VMCS that a processor has");
        // SAFETY: allocated with this layout in `new`; no processor has it.
        unsafe { dealloc(self.page.as_ptr().cast(), PAGE) };
    }
}
