//! Starts a CPU (Intel SDM vol. 3A, "MP Initialization Protocol"): it wakes in real mode in a copy of `start.S`'s trampoline,
//! and takes its start block.
#![expect(unsafe_code, reason = "puts code where a CPU will start")]

use core::sync::atomic::{AtomicU64, Ordering};

use hv_core::machine::StartCpuError;
use hv_core::sync::Mutex;

use super::apic::{self, Message};
use crate::machine::clock;

/// What the CPU that is starting takes: the address of its start block. 0 once it has.
#[unsafe(no_mangle)]
static TRIVET_START_BLOCK: AtomicU64 = AtomicU64::new(0);

/// One starts at a time.
static STARTING: Mutex<()> = Mutex::new(());

unsafe extern "C" {
    static __trivet_32_bit_trampoline: u8;
    static trivet_trampoline_end: u8;
}

/// No such CPU; it does not come; there is no page to start at.
pub const ABSENT: StartCpuError = StartCpuError(-1);
const SILENT: StartCpuError = StartCpuError(-2);
/// See [`ABSENT`].
pub const NO_PAGE: StartCpuError = StartCpuError(-3);

/// How long it waits after INIT, between the two start-up messages, and for the CPU to be there at all.
const AFTER_INIT_MS: u64 = 10;
const BETWEEN_MS: u64 = 1;
const PATIENCE_MS: u64 = 2_000;

/// Starts the CPU with this APIC identifier, with this start block, at this page below 1 MiB.
///
/// # Safety
/// The page is RAM that nobody else uses, mapped; the block is a `board_kit::cpus::StartBlock` that stays.
pub unsafe fn start(id: u32, block: u64, page: u8) -> Result<(), StartCpuError> {
    let _one = STARTING.lock();
    let (from, end) = (&raw const __trivet_32_bit_trampoline, &raw const trivet_trampoline_end);
    let to = core::ptr::with_exposed_provenance_mut::<u8>(usize::from(page) << 12);
    // SAFETY: the code between the two symbols is much shorter than a page, and the page is ours.
    unsafe { from.copy_to_nonoverlapping(to, end.addr() - from.addr()) };
    TRIVET_START_BLOCK.store(block, Ordering::SeqCst);
    apic::send(id, Message::Init);
    wait(AFTER_INIT_MS);
    apic::send(id, Message::StartUp(page));
    if !taken_within(BETWEEN_MS) {
        apic::send(id, Message::StartUp(page));
    }
    if taken_within(PATIENCE_MS) || TRIVET_START_BLOCK.swap(0, Ordering::SeqCst) == 0 {
        return Ok(());
    }
    Err(SILENT)
}

/// The TSC in so many milliseconds.
fn later(ms: u64) -> u64 {
    clock::now().0 + clock::hz() / 1000 * ms
}

fn wait(ms: u64) {
    let until = later(ms);
    while clock::now().0 < until {
        core::hint::spin_loop();
    }
}

fn taken_within(ms: u64) -> bool {
    let until = later(ms);
    loop {
        if TRIVET_START_BLOCK.load(Ordering::SeqCst) == 0 {
            return true;
        }
        if clock::now().0 >= until {
            return false;
        }
        core::hint::spin_loop();
    }
}
