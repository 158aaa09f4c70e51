//! The vCPU's interrupts on Arm: as much of a GICv3 driver (IHI 0069) as measuring guests need. Everything is in group 1 and
//! of one priority, and goes to vCPU 0.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use super::machine::{Tree, fail, load, store};

core::arch::global_asm!(include_str!("vectors.S"), options(raw));

unsafe extern "C" {
    static vectors: u8;
    /// Virtual counter at which an interrupt's vector was entered; 0 until then.
    static arrived: AtomicU64;
}

/// INTIDs from here on are in the distributor, those before in the redistributor.
const SHARED: u32 = 32;
/// What is acknowledged if nothing is pending.
pub const NONE: u32 = 1023;
/// The distributor's registers.
const GICD_CTLR: u64 = 0x0000;
const GICD_IROUTER: u64 = 0x6000;
/// Registers with a bit for each INTID, in the distributor, and in the second frame of the redistributor.
const IGROUPR: u64 = 0x0080;
const ISENABLER: u64 = 0x0100;
const IPRIORITYR: u64 = 0x0400;
/// The redistributor's registers.
const GICR_WAKER: u64 = 0x0014;
const SLEEPS: u32 = 1 << 1;
const CHILDREN_SLEEP: u32 = 1 << 2;
const SECOND_FRAME: u64 = 0x1_0000;
/// Affinity routing, both groups (one security state).
const ROUTED_AND_ENABLED: u32 = 0x13;
const PRIORITY: u32 = 0xa0;

/// vCPU 0's interrupt controller.
pub struct Gic {
    distributor: u64,
    redistributor: u64,
}

impl Gic {
    /// Sets it up, and the exception vectors. Interrupts stay masked.
    pub fn new(tree: &Tree) -> Self {
        let [distributor, redistributor] = tree.device("arm,gic-v3");
        store(distributor + GICD_CTLR, ROUTED_AND_ENABLED);
        store(redistributor + GICR_WAKER, load(redistributor + GICR_WAKER) & !SLEEPS);
        while load(redistributor + GICR_WAKER) & CHILDREN_SLEEP != 0 {}
        // SAFETY: the vectors are code, which stays where it is; nothing is enabled yet.
        unsafe {
            asm!(
                "msr vbar_el1, {vectors}",
                "msr S3_0_C12_C12_5, {one}",   // ICC_SRE_EL1: system registers
                "isb",
                "msr S3_0_C4_C6_0, {lowest}",  // ICC_PMR_EL1: every priority
                "msr S3_0_C12_C12_4, xzr",     // ICC_CTLR_EL1: the end of an interrupt deactivates it
                "msr S3_0_C12_C12_7, {one}",   // ICC_IGRPEN1_EL1
                "isb",
                vectors = in(reg) &raw const vectors,
                one = in(reg) 1_u64,
                lowest = in(reg) 0xff_u64,
                options(nostack)
            );
        }
        Self { distributor, redistributor }
    }

    /// Enables an interrupt.
    pub fn enable(&self, id: u32) {
        let (frame, bit) = (self.frame(id), 1 << (id % 32));
        let word = u64::from(id / 32 * 4);
        store(frame + IGROUPR + word, load(frame + IGROUPR + word) | bit);
        let priority = frame + IPRIORITYR + u64::from(id & !3);
        let shift = id % 4 * 8;
        store(priority, load(priority) & !(0xff << shift) | PRIORITY << shift);
        if id >= SHARED {
            // To affinity 0.0.0.0: both halves.
            let router = frame + GICD_IROUTER + u64::from(id) * 8;
            store(router, 0);
            store(router + 4, 0);
        }
        store(frame + ISENABLER + word, bit);
        if load(frame + ISENABLER + word) & bit == 0 {
            fail(format_args!("interrupt {id} cannot be enabled"));
        }
    }

    fn frame(&self, id: u32) -> u64 {
        if id < SHARED { self.redistributor + SECOND_FRAME } else { self.distributor }
    }
}

/// Acknowledges the interrupt that waits, [`NONE`] if there is none.
pub fn acknowledge() -> u32 {
    let id: u64;
    // SAFETY: the interrupt becomes active, which its end undoes.
    unsafe { asm!("mrs {0}, S3_0_C12_C12_0", "dsb sy", out(reg) id, options(nostack)) };
    id as u32
}

/// The interrupt that waits, as [`acknowledge`] would find it.
pub fn waiting() -> u32 {
    let id: u64;
    // SAFETY: ICC_HPPIR1_EL1 only tells.
    unsafe { asm!("mrs {0}, S3_0_C12_C12_2", out(reg) id, options(nostack)) };
    id as u32
}

/// Ends an interrupt.
pub fn end(id: u32) {
    // SAFETY: it was acknowledged.
    unsafe { asm!("msr S3_0_C12_C12_1, {0:x}", "isb", in(reg) u64::from(id), options(nostack)) };
}

/// Forgets that an interrupt was taken.
pub fn rearm() {
    // SAFETY: written by the vector too, a word at a time.
    unsafe { arrived.store(0, Ordering::Relaxed) };
}

/// The counter at which an interrupt was taken since [`rearm`].
pub fn taken() -> Option<u64> {
    // SAFETY: as above.
    match unsafe { arrived.load(Ordering::Relaxed) } {
        0 => None,
        at => Some(at),
    }
}

/// Lets interrupts come until one was taken or the virtual counter has reached `until`.
pub fn open(until: u64) -> Option<u64> {
    // SAFETY: the vectors are there; the handler masks interrupts again.
    unsafe { asm!("msr daifclr, #2", options(nostack)) };
    while taken().is_none() && super::machine::now() < until {}
    // SAFETY: masks interrupts.
    unsafe { asm!("msr daifset, #2", options(nostack)) };
    taken()
}

/// Waits for an interrupt that is enabled and taken; true if one was.
pub fn wait() -> bool {
    rearm();
    // SAFETY: as in `open`. One that comes before the wait leaves its line up, which ends it.
    unsafe { asm!("msr daifclr, #2", "wfi", "isb", "msr daifset, #2", options(nostack)) };
    taken().is_some()
}

/// An exception that the program has no use for.
#[unsafe(no_mangle)]
extern "C" fn unexpected(kind: u64) -> ! {
    let (syndrome, at, address): (u64, u64, u64);
    // SAFETY: registers that the exception has set.
    unsafe {
        asm!("mrs {0}, esr_el1", "mrs {1}, elr_el1", "mrs {2}, far_el1",
            out(reg) syndrome, out(reg) at, out(reg) address, options(nomem, nostack));
    }
    fail(format_args!("exception {kind} at {at:#x}: syndrome {syndrome:#x}, address {address:#x}"))
}
