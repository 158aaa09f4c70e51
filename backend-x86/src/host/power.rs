//! How the machine is switched off, and what tells its owner how the run went.
#![expect(unsafe_code, reason = "device registers")]

use hv_core::link::{ENDED_BADLY, ENDED_WELL, ENDS_MARK};
use hv_core::machine::{Console, Verdict};
use x86_64::instructions::port::Port;

use super::acpi::{PowerOff, Register};
use super::serial::Serial;

/// QEMU's isa-debug-exit, as it is asked for: its status is twice what is written, plus one.
const DEBUG_EXIT: u16 = 0xf4;
/// Bochs: a port that takes a word, letter by letter.
const BOCHS: u16 = 0x8900;
const SHUTDOWN: &[u8] = b"Shutdown";

/// Says how the run went and switches the machine off, by whatever it has.
pub fn end(verdict: Verdict, by: Option<PowerOff>) -> ! {
    let (status, word): (u8, _) = match verdict {
        Verdict::Success => (0x10, ENDED_WELL),
        Verdict::Failure => (0x11, ENDED_BADLY),
    };
    // The zero ends a frame that was being sent.
    for part in [b"\0\r\n", ENDS_MARK.as_bytes(), b": ", word.as_bytes(), b"\r\n"] {
        Serial.write(part);
    }
    Serial.finish();
    // SAFETY: where these ports are not what they are meant for, they are nobody's.
    unsafe { Port::new(DEBUG_EXIT).write(status) };
    for letter in SHUTDOWN {
        // SAFETY: as above.
        unsafe { Port::new(BOCHS).write(*letter) };
    }
    // SAFETY: ACPI's tables say that this is what does it.
    unsafe {
        match by {
            None => {}
            Some(PowerOff::Fixed { a: (port, word), b }) => {
                Port::new(port).write(word);
                if let Some((port, word)) = b {
                    Port::new(port).write(word);
                }
            }
            Some(PowerOff::Reduced(Register::Port(port), byte)) => Port::new(port).write(byte),
            Some(PowerOff::Reduced(Register::Memory(at), byte)) => {
                core::ptr::with_exposed_provenance_mut::<u8>(at as usize).write_volatile(byte);
            }
        }
    }
    loop {
        x86_64::instructions::hlt();
    }
}
