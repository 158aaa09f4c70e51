//! The platform's virtual terminal (LoPAPR, "Vterm I/O"): terminal 0, the partition's default.
#![expect(unsafe_code, reason = "hypercalls")]

use hv_core::machine::Console;

use super::hcall::{H_GET_TERM_CHAR, H_PUT_TERM_CHAR, H_SUCCESS, H_VIO_SIGNAL, hcall};
use crate::boot::inventory::Vty;

/// The terminal.
#[derive(Clone, Copy, Debug)]
pub struct Terminal;

/// The platform has no room just now.
const H_BUSY: i64 = 1;

impl Console for Terminal {
    fn write(&self, bytes: &[u8]) {
        for chunk in bytes.chunks(16) {
            let mut words = [0u8; 16];
            words[..chunk.len()].copy_from_slice(chunk);
            let all = u128::from_be_bytes(words);
            let arguments = [0, chunk.len() as u64, (all >> 64) as u64, all as u64];
            // SAFETY: the call reads registers only.
            while unsafe { hcall(H_PUT_TERM_CHAR, arguments) }.0 == H_BUSY {
                core::hint::spin_loop();
            }
        }
    }

    fn read(&self, into: &mut [u8]) -> usize {
        let mut done = 0;
        // The call takes up to 16 bytes from the platform, so there must be room for as many.
        while into.len() - done >= 16 {
            // SAFETY: the call returns registers only.
            let (status, [len, high, low]) = unsafe { hcall(H_GET_TERM_CHAR, [0; 4]) };
            let len = (len as usize).min(16);
            if status != H_SUCCESS || len == 0 {
                break;
            }
            let words = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
            into[done..done + len].copy_from_slice(&words[..len]);
            done += len;
        }
        done
    }
}

/// Has the terminal raise its interrupt when input comes.
pub fn enable_interrupt(vty: &Vty) {
    // SAFETY: changes the device's signalling only.
    unsafe { hcall(H_VIO_SIGNAL, [vty.unit.into(), 1, 0, 0]) };
}
