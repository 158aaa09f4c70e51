//! Firmware calls to the platform, as far as Trivet needs them (LoPAPR, "Run-time abstraction services").
//!
//! Made by hypercall with the argument block's real address; tokens come from the tree.
#![expect(unsafe_code, reason = "hypercalls that read and write an argument block")]

use super::hcall::{H_RTAS, hcall};
use crate::boot::inventory::RtasTokens;

/// The argument block: token, counts, arguments, results; big-endian cells.
#[repr(C, align(16))]
struct Block([u32; 16]);

/// Calls `token` and returns its status, or `None` if the platform lacks the call.
fn call<const OUT: usize>(token: Option<u32>, arguments: &[u32]) -> Option<(i32, [u32; OUT])> {
    let mut block = Block([0; 16]);
    let head = [token?, arguments.len() as u32, 1 + OUT as u32];
    for (cell, value) in block.0.iter_mut().zip(head.iter().chain(arguments)) {
        *cell = value.to_be();
    }
    // SAFETY: the block is alive, aligned and below 4 GiB, where the platform loaded the image and its stacks.
    let (status, _) = unsafe { hcall(H_RTAS, [(&raw mut block).expose_provenance() as u64, 0, 0, 0]) };
    // SAFETY: as above; the platform wrote it behind the compiler's back.
    let block = unsafe { (&raw const block.0).read_volatile() };
    let mut results = block.iter().skip(3 + arguments.len()).map(|cell| u32::from_be(*cell));
    let first = results.next()? as i32;
    let mut out = [0; OUT];
    out.iter_mut().zip(results).for_each(|(to, from)| *to = from);
    (status == 0).then_some((first, out))
}

/// Switches the machine off; comes back only if the platform refuses.
pub fn power_off(tokens: &RtasTokens) {
    call::<0>(tokens.power_off, &[0, 0]);
}

/// Tells the platform that its operating system failed, so that the emulator's exit status says so.
pub fn os_term(tokens: &RtasTokens, message: &core::ffi::CStr) {
    call::<0>(tokens.os_term, &[message.as_ptr().expose_provenance() as u32]);
}

/// Starts the CPU with this server number at `entry` with `argument` in r3. The status is the platform's.
pub fn start_cpu(tokens: &RtasTokens, server: u32, entry: u32, argument: u32) -> Result<(), i64> {
    match call::<0>(tokens.start_cpu, &[server, entry, argument]) {
        Some((0, _)) => Ok(()),
        Some((status, _)) => Err(status.into()),
        None => Err(i64::from(i32::MIN)),
    }
}

/// Routes an interrupt source to a CPU.
pub fn set_xive(tokens: &RtasTokens, source: u32, server: u32, priority: u8) {
    call::<0>(tokens.set_xive, &[source, server, priority.into()]);
}

/// Seconds since 1970 by the platform's calendar clock.
pub fn time_of_day(tokens: &RtasTokens) -> Option<u64> {
    let (0, [year, month, day, hour, minute, second, _nanosecond]) = call::<7>(tokens.get_time_of_day, &[])? else {
        return None;
    };
    hv_core::calendar::to_seconds(year, month, day, hour, minute, second)
}
