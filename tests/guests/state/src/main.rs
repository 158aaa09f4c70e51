//! Keeps patterns in the registers that the nested interface does not switch, while a neighbour on the same CPU does the
//! same with others: floating point, vectors, VRSAVE, TAR, AMR, DSCR. Two VMs of it on one CPU, with slices much shorter
//! than a round, lose them at once if the hypervisor forgets one.
//!
//! Ends by power-off if nothing was ever lost, otherwise by `ibm,os-term`, which fails the run.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: entry, hypercalls, registers")]

core::arch::global_asm!(include_str!("../../ppc64/start.S"), include_str!("entry.S"), options(raw));

unsafe extern "C" {
    fn hypercall(number: u64, a: u64, b: u64, c: u64, d: u64) -> i64;
    fn __trivet_state_switch_fill(seed: u64);
    fn __trivet_state_switch_lost(seed: u64) -> u64;
}

const H_RTAS: u64 = 0xf000;
/// Trivet's tokens, as in the tree's `/rtas`.
const RTAS_POWER_OFF: u32 = 0x2000;
const RTAS_OS_TERM: u32 = 0x2003;

/// How often the registers are filled and looked at.
const ROUNDS: u64 = 40;
/// Ticks of a round, at 512 MHz: 20 ms, four slices.
const ROUND: u64 = 10_240_000;

fn timebase() -> u64 {
    let now: u64;
    // SAFETY: reads the timebase.
    unsafe { core::arch::asm!("mftb {0}", out(reg) now, options(nomem, nostack)) };
    now
}

#[unsafe(no_mangle)]
extern "C" fn guest_main() -> ! {
    for _ in 0..ROUNDS {
        // No two guests read the same, so a neighbour's pattern is never taken for one's own.
        let seed = timebase();
        // SAFETY: this program is compiled to use none of these registers.
        unsafe { __trivet_state_switch_fill(seed) };
        while timebase().wrapping_sub(seed) < ROUND {}
        // SAFETY: as above.
        if unsafe { __trivet_state_switch_lost(seed) } != 0 {
            end(RTAS_OS_TERM, c"registers were lost to a neighbour".as_ptr().expose_provenance() as u32)
        }
    }
    end(RTAS_POWER_OFF, 0)
}

/// Makes a firmware call that does not return. Both have their arguments first; what is left over is ignored.
fn end(token: u32, argument: u32) -> ! {
    let arguments = if token == RTAS_POWER_OFF { 2 } else { 1 };
    let block = [token, arguments, 1, argument, 0, 0].map(u32::to_be);
    loop {
        // SAFETY: the block is alive.
        unsafe { hypercall(H_RTAS, (&raw const block).expose_provenance() as u64, 0, 0, 0) };
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    end(RTAS_OS_TERM, c"guest-state panicked".as_ptr().expose_provenance() as u32)
}
