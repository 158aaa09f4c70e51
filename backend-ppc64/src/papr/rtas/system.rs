//! Firmware calls about the machine as a whole: its end, its operator's panel, its parameters.

use core::fmt::Write;

use hv_core::addr::{Gpa, PAGE_SIZE};
use hv_core::vcpu::exit::{End as VmEnd, Next};
use hv_core::vcpu::services::Services;

use super::{Block, End, Outcome};

/// Bytes of last words that are kept.
const MAX_LAST_WORDS: usize = 512;
/// `ibm,get-system-parameter`: what processors the VM has.
const SPLPAR_CHARACTERISTICS: u32 = 20;

/// `display-character`: the operator's panel is the console.
pub fn display_character(block: &Block, s: &dyn Services) -> Outcome {
    let [_, _, _, character] = block.args[0].to_be_bytes();
    s.console_write(&[character]);
    Outcome::Success
}

/// `power-off` and `ibm,power-off-ups`.
pub const fn power_off() -> End {
    End::Return(Outcome::Success, Next::End(VmEnd::PowerOff))
}

/// `system-reboot`.
pub const fn reboot() -> End {
    End::Return(Outcome::Success, Next::End(VmEnd::Reboot))
}

/// `ibm,os-term`: address of the last words, a string that ends with a zero byte.
pub fn os_term(block: &Block, s: &dyn Services) -> End {
    let mut text = [0; MAX_LAST_WORDS];
    let mut at = u64::from(block.args[0]);
    let mut rest = &mut text[..];
    // Page by page, because the string may end just before the end of memory.
    while !rest.is_empty() {
        let (piece, more) = rest.split_at_mut(rest.len().min(PAGE_SIZE - Gpa(at).offset()));
        if s.read(Gpa(at), piece).is_err() {
            break;
        }
        at += piece.len() as u64;
        rest = more;
    }
    let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
    s.last_words(&text[..end]);
    End::Return(Outcome::Success, Next::End(VmEnd::GuestPanic))
}

/// `ibm,get-system-parameter`: parameter, buffer, its length. Writes the value's length in two bytes, then the value, as
/// much of it as there is room for.
pub fn get_parameter(block: &Block, s: &dyn Services) -> Outcome {
    let [parameter, buffer, length, ..] = block.args;
    if parameter != SPLPAR_CHARACTERISTICS {
        return Outcome::ParameterError;
    }
    let mut value = Text { bytes: [0; 80], len: 2 };
    let vcpus = s.vcpus();
    let written = write!(value, "MaxEntCap={vcpus},DesProcs={vcpus},MaxPlatProcs={vcpus}\0");
    let (len, room) = (value.len, usize::try_from(length).unwrap_or(usize::MAX));
    let [high, low] = u16::try_from(len - 2).unwrap_or(0).to_be_bytes();
    value.bytes[..2].copy_from_slice(&[high, low]);
    let stored = value.bytes.get(..len.min(room)).map(|bytes| s.write(Gpa(buffer.into()), bytes));
    match stored {
        Some(Ok(())) if written.is_ok() && room >= 2 => Outcome::Success,
        _ => Outcome::BufferError,
    }
}

/// Text in a buffer of its own.
struct Text {
    bytes: [u8; 80],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        let end = self.len.saturating_add(s.len());
        self.bytes.get_mut(self.len..end).ok_or(core::fmt::Error)?.copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}
