//! Trivet's segment and interrupt descriptors (Intel SDM vol. 3A, chapters 3 and 6; AMD APM vol. 2, chapters 4 and 8). All
//! CPUs use the same: nothing in them is a CPU's own. There is no task state: handlers stay on the stack that was in use.
#![expect(unsafe_code, reason = "tells the processor where its tables are")]

use core::arch::asm;

use super::vectors::{CONSOLE, KICK, SPURIOUS, TIMER};

/// Selector of 64-bit code.
pub const CODE: u16 = 0x08;
/// Selector of data: SS, DS, ES.
pub const DATA: u16 = 0x10;

/// A gate of the interrupt descriptor table: present, 64-bit interrupt gate, no stack of its own.
#[repr(C)]
#[derive(Clone, Copy)]
struct Gate([u64; 2]);

impl Gate {
    const fn to(handler: u64) -> Self {
        let low = handler & 0xffff | (CODE as u64) << 16 | 0x8e00 << 32 | (handler >> 16 & 0xffff) << 48;
        Self([low, handler >> 32])
    }
}

static mut GATES: [Gate; 256] = [Gate([0; 2]); 256];

/// What LGDT and LIDT read.
#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

unsafe extern "C" {
    /// The segment descriptors, in `start.S`.
    static trivet_segments: [u64; 3];
    fn trivet_taken_kick();
    fn trivet_taken_timer();
    fn trivet_taken_console();
    fn trivet_taken_stray();
    fn trivet_taken_spurious();
    fn trivet_exceptions();
}

/// Addresses of the tables, for a world switch that has to restore them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    /// GDTR's base.
    pub gdt: u64,
    /// IDTR's base.
    pub idt: u64,
}

/// Where the tables are.
#[must_use]
pub fn tables() -> Tables {
    Tables { gdt: (&raw const trivet_segments).expose_provenance() as u64, idt: (&raw const GATES).addr() as u64 }
}

/// Fills the interrupt descriptors in.
///
/// # Safety
/// Once, on the boot CPU, before any CPU has [`load`]ed them.
pub unsafe fn fill() {
    let address = |handler: unsafe extern "C" fn()| handler as usize as u64;
    let gates = &raw mut GATES;
    // SAFETY: nobody else names them, and no processor reads them yet.
    let gates = unsafe { &mut *gates };
    gates.fill(Gate::to(address(trivet_taken_stray)));
    for (n, gate) in (0..).zip(gates.iter_mut().take(32)) {
        *gate = Gate::to(address(trivet_exceptions) + 16 * n);
    }
    for (vector, handler) in [
        (KICK, address(trivet_taken_kick)),
        (TIMER, address(trivet_taken_timer)),
        (CONSOLE, address(trivet_taken_console)),
        (SPURIOUS, address(trivet_taken_spurious)),
    ] {
        gates[usize::from(vector)] = Gate::to(handler);
    }
}

/// Has the calling CPU use the interrupt descriptors; `start.S` has loaded the others.
///
/// # Safety
/// They are filled in.
pub unsafe fn load() {
    let pointer = Pointer { limit: (size_of::<Gate>() * 256 - 1) as u16, base: tables().idt };
    // SAFETY: the table is a static, and its handlers are there.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags)) };
}
