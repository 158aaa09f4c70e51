//! The console's interrupt on POWER: a source of PAPR's interrupt controller, presented to vCPU 0.

use core::ops::Range;

use crate::machine::{Call, SERVER, Tree, fail, must};

core::arch::global_asm!(include_str!("ppc64.S"), options(raw));

unsafe extern "C" {
    fn spin_closed(ticks: u64);
    fn spin_open(ticks: u64) -> i64;
    fn cede() -> u64;
    fn publish_code(start: usize, end: usize);
    static vector_external: u8;
    static vector_external_end: u8;
    static vector_decrementer: u8;
    static vector_decrementer_end: u8;
    static vector_other: u8;
    static vector_other_end: u8;
}

/// The priority that the console's interrupt is given.
const PRIORITY: u8 = 5;
/// H_CPPR's value that lets everything through.
const OPEN: u8 = 0xff;
const VTY: &str = "/vdevice/vty@71000000";
/// The interrupt number's part of what H_XIRR and H_IPOLL answer.
const NUMBER: u64 = 0xff_ffff;
/// Interrupt vectors, and the distance between two.
const VECTORS: Range<usize> = 0x100..0x1000;
const VECTOR_STEP: usize = 0x80;

/// The console's interrupt, as it is to be presented.
pub struct Line {
    source: u32,
}

impl Line {
    /// Sets it up; interrupts are off.
    pub fn new(tree: &Tree) -> Self {
        install_vectors();
        // Interrupts are to be taken in the byte order in which this program runs.
        must(Call::SetMode, [1, 4, 0, 0]);
        must(Call::Cppr, [OPEN.into(), 0, 0, 0]);
        let source = tree.number(VTY, "interrupts");
        let status = tree.rtas("ibm,set-xive", [source, SERVER, PRIORITY.into()]);
        if status != 0 {
            fail(format_args!("ibm,set-xive: status {status}"));
        }
        Self { source }
    }

    /// Passes time with interrupts off.
    pub fn spin(ticks: u64) {
        // SAFETY: passes time.
        unsafe { spin_closed(ticks) }
    }

    /// Whether it waits. Asking makes the hypervisor look.
    pub fn waits(&self) -> bool {
        let [xirr, ..] = must(Call::Ipoll, [SERVER.into(), 0, 0, 0]);
        xirr & NUMBER != 0
    }

    /// Turns interrupts on until it was taken, for `most` ticks; the ticks until the vector's first instructions.
    pub fn open(&self, most: u64) -> Option<u64> {
        // SAFETY: the vectors are there.
        u64::try_from(unsafe { spin_open(most) }).ok()
    }

    /// Sleeps in H_CEDE until it was taken.
    pub fn sleep(&self) {
        // SAFETY: the vectors are there. H_CEDE may also end early, or for the decrementer.
        while unsafe { cede() } == 0 {}
    }

    /// Takes the interrupt and the character, and makes sure that there are no others.
    pub fn take(&self, key: u8) {
        let [xirr, ..] = must(Call::Xirr, [0; 4]);
        if xirr != u64::from(OPEN) << 24 | u64::from(self.source) {
            fail(format_args!("the interrupt accepted is {xirr:#x}, not {:#x} at priority {OPEN:#x}", self.source));
        }
        let [count, typed, _] = must(Call::GetTermChar, [0; 4]);
        if (count, typed) != (1, u64::from(key) << 56) {
            fail(format_args!("{count} characters {typed:#018x} in place of {}", char::from(key)));
        }
        must(Call::Eoi, [xirr, 0, 0, 0]);
        let [rest, ..] = must(Call::Ipoll, [SERVER.into(), 0, 0, 0]);
        if rest != u64::from(OPEN) << 24 {
            fail(format_args!("after the end of interrupt {rest:#x} is left"));
        }
    }
}

/// Copies the handlers to where the architecture wants them.
fn install_vectors() {
    let put = |at: usize, start: *const u8, end: *const u8| {
        let to = core::ptr::with_exposed_provenance_mut::<u8>(at);
        // SAFETY: memory below the program, which nothing else uses; each handler is shorter than the step.
        unsafe { core::ptr::copy_nonoverlapping(start, to, end.addr() - start.addr()) };
    };
    for at in VECTORS.step_by(VECTOR_STEP) {
        put(at, &raw const vector_other, &raw const vector_other_end);
    }
    put(0x500, &raw const vector_external, &raw const vector_external_end);
    put(0x900, &raw const vector_decrementer, &raw const vector_decrementer_end);
    // SAFETY: the range just written.
    unsafe { publish_code(VECTORS.start, VECTORS.end) };
}

/// An interrupt that this program has no use for.
#[unsafe(no_mangle)]
extern "C" fn unexpected(at: u64, vector: u64) -> ! {
    fail(format_args!("interrupt {:#x} at {at:#x}", vector & !0x7f));
}
