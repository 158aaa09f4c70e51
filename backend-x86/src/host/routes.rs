//! Devices' interrupts: the old controllers (Intel 8259A) are silenced, and the I/O APIC (Intel 82093AA data sheet, 3.0) sends
//! the one that Trivet uses.
#![expect(unsafe_code, reason = "device registers")]

use x86_64::instructions::port::Port;

use super::acpi::{IoApic, Line};

/// Commands and data of the two old controllers.
const PIC: [(u16, u16); 2] = [(0x20, 0x21), (0xa0, 0xa1)];
/// They are told to begin with these vectors, which nobody has, were one of them ever to be heard.
const PIC_VECTORS: u8 = 0x20;

/// Registers of an I/O APIC: which one, and its value.
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
/// The version, with the number of the last input in 23:16.
const VERSION: u32 = 1;
/// The first input's two words.
const FIRST: u32 = 0x10;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const LOW: u32 = 1 << 13;

/// Silences the old controllers, and forgets what firmware had pending in them.
///
/// # Safety
/// Interrupts are disabled.
pub unsafe fn silence() {
    let put = |port: u16, value: u8| {
        // SAFETY: the two controllers are where every PC has them, or nobody is.
        unsafe { Port::new(port).write(value) };
    };
    for (n, (command, data)) in (0..).zip(PIC) {
        // ICW1 to ICW4: edges, cascaded; vectors; on which input, or which number; ends of interrupt by command.
        put(command, 0x11);
        put(data, PIC_VECTORS + 8 * n);
        put(data, [1 << 2, 2][usize::from(n)]);
        put(data, 1);
        put(data, u8::MAX);
    }
}

/// Masks every input of an I/O APIC.
///
/// # Safety
/// It is there, mapped as a device.
pub unsafe fn mask(apic: &IoApic) {
    // SAFETY: as the caller promises.
    let last = unsafe { read(apic, VERSION) } >> 16 & 0xff;
    for input in 0..=last {
        // SAFETY: as above.
        unsafe { write(apic, FIRST + 2 * input, MASKED) };
    }
}

/// Sends the interrupt of this line as `vector` to the CPU with this APIC identifier. False if none of the I/O APICs has the
/// line, or if the CPU's identifier has more than 8 bits.
///
/// # Safety
/// They are there, mapped as devices, and the CPU has a handler.
pub unsafe fn send(apics: &[IoApic], line: Line, vector: u8, to: u32) -> bool {
    let last = |apic: &IoApic| {
        // SAFETY: as the caller promises.
        unsafe { read(apic, VERSION) >> 16 & 0xff }
    };
    let apic = apics.iter().find(|apic| line.input.checked_sub(apic.first).is_some_and(|n| n <= last(apic)));
    let (Some(apic), Ok(to)) = (apic, u8::try_from(to)) else { return false };
    let register = FIRST + 2 * (line.input - apic.first);
    let how = if line.level { LEVEL } else { 0 } | if line.low { LOW } else { 0 };
    // SAFETY: as above. The upper word first: the lower one lets it through.
    unsafe {
        write(apic, register + 1, u32::from(to) << 24);
        write(apic, register, how | u32::from(vector));
    }
    true
}

/// # Safety
/// The I/O APIC is there, mapped as a device, and no other CPU uses it.
unsafe fn select(apic: &IoApic, register: u32) -> *mut u32 {
    // SAFETY: as the caller promises.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>((apic.base + SELECT) as usize).write_volatile(register) };
    core::ptr::with_exposed_provenance_mut((apic.base + WINDOW) as usize)
}

/// # Safety
/// As of [`select`].
unsafe fn read(apic: &IoApic, register: u32) -> u32 {
    // SAFETY: as the caller promises.
    unsafe { select(apic, register).read_volatile() }
}

/// # Safety
/// As of [`select`].
unsafe fn write(apic: &IoApic, register: u32, value: u32) {
    // SAFETY: as the caller promises.
    unsafe { select(apic, register).write_volatile(value) };
}
