//! Garbage on POWER. Both vCPUs do random steps: calls on the hashed table, with entries put, removed and changed in four
//! segments; loads and stores through these, of which many are not allowed, or find nothing; every other hypervisor call but
//! those that end the VM or put the caller to sleep; firmware calls with any arguments; loads and stores with translation
//! off, beyond memory too. On a radix tree calls on the table are garbage as a whole.
//!
//! Nothing that is drawn changes the program's own memory or the entries by which it runs.

mod draw;

use core::sync::atomic::{AtomicU64, Ordering};

use crate::machine::{Call, Tree, must};
use crate::random::Random;

core::arch::global_asm!(include_str!("ppc64/entry.S"), include_str!("../../ppc64/second.S"), options(raw));

unsafe extern "C" {
    static vector: u8;
    static vector_end: u8;
    static accesses: u8;
    static accesses_end: u8;
    #[link_name = "__trivet_big_endian_second"]
    static second_start: u8;
    fn call_all(registers: *mut [u64; 10]);
    fn translated(address: u64, value: u64, access: *const u8);
    fn set_segment(vsid: u64, esid: u64);
    fn publish(first: *const u8, bytes: u64);
}

/// Where vectors are, one every so many bytes.
const VECTORS: core::ops::Range<usize> = 0x100..0x1000;
const VECTOR: usize = 0x80;
/// Where they count.
const REFUSED: usize = 0x48;
/// Firmware calls.
const START_CPU: u32 = 0x2009;
const STOP_SELF: u32 = 0x200a;
const RTAS: u64 = Call::Rtas as u64;
/// Segment buffer: the entry is valid. Beside the VSID: keys of both states, or none.
const VALID: u64 = 1 << 27;
const KEYS: u64 = 0xc00;

/// Calls that were refused.
static CALLS_REFUSED: AtomicU64 = AtomicU64::new(0);
/// A firmware call of each vCPU.
static mut BLOCKS: [[u32; 64]; 2] = [[0; 64]; 2];

/// What both vCPUs know: bytes of memory; groups of the table, 0 if it is a tree.
pub struct Target {
    memory: u64,
    groups: u64,
}

/// vCPU 1 stops itself.
pub fn stop() -> ! {
    loop {
        firmware(1, &[STOP_SELF, 0, 1]);
    }
}

impl Target {
    /// What the tree says.
    pub fn new(tree: &Tree) -> Self {
        Self { memory: tree.memory(), groups: tree.table_bytes() >> 7 }
    }

    /// Before vCPU 0's first step.
    pub fn begin(&self, _: &Tree) {
        install_vectors();
        // Interrupts are little-endian, as the vectors are.
        must(Call::SetMode, [1, 4, 0, 0]);
        self.ready();
        self.start_second();
    }

    /// Before a vCPU's first step.
    pub fn ready(&self) {
        if self.groups == 0 {
            return;
        }
        for (n, vsid) in (1..).zip(draw::SEGMENTS) {
            // SAFETY: this program does not go by segments.
            unsafe { set_segment(vsid << 12, n << 28 | VALID | n) };
        }
    }

    /// Begins another life of vCPU 1, if it has stopped.
    pub fn start_second(&self) {
        let entry = (&raw const second_start).expose_provenance() as u32;
        firmware(0, &[START_CPU, 3, 1, 1, entry, 0]);
    }

    /// After vCPU 0's last step. How many accesses and calls were refused.
    pub fn end(&self, _: &Tree, _: &mut Random) -> u64 {
        // SAFETY: a word that only the vectors write.
        let skipped = unsafe { core::ptr::with_exposed_provenance::<u64>(REFUSED).read_volatile() };
        skipped + CALLS_REFUSED.load(Ordering::Relaxed)
    }

    /// One thing of many.
    pub fn step(&self, random: &mut Random, vcpu: usize) {
        let Self { memory, groups } = *self;
        match random.below(16) {
            0..9 => call(draw::call(random, groups.max(draw::FEWEST), memory)),
            9..13 if groups != 0 => {
                let address = (1 + random.below(4)) << 28 | random.below(draw::PAGES) << 12 | random.below(0x1000) & !7;
                let (value, access) = (random.value(), pick(random));
                // SAFETY: no entry that has been put reaches this program's own memory; an exception skips the access.
                unsafe { translated(address, value, access) };
            }
            9..14 => {
                let address = draw::untranslated(random, memory);
                // SAFETY: outside of this program's memory; an exception skips the access.
                unsafe {
                    core::arch::asm!("stw {0}, 0({1})", in(reg) random.next(), in(reg_nonzero) address, options(nostack))
                };
            }
            14 if random.one_in(16) => {
                // Segments with and without keys.
                let n = random.below(4);
                let vsid = draw::SEGMENTS[n as usize] << 12 | random.below(4) * (KEYS / 3);
                // SAFETY: this program does not go by segments.
                unsafe { set_segment(vsid, (1 + n) << 28 | VALID | (1 + n)) };
            }
            _ => firmware(vcpu, &draw::firmware(random, memory)),
        }
    }
}

/// Makes a call that was drawn.
fn call(mut registers: [u64; 10]) {
    // SAFETY: what is drawn changes nothing of this program's.
    unsafe { call_all(&raw mut registers) };
    if registers[0] != 0 {
        CALLS_REFUSED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Makes a firmware call, whatever it says.
fn firmware(vcpu: usize, cells: &[u32]) {
    // SAFETY: each vCPU has its own block, which is longer than any call; the hypervisor writes to it behind the compiler's back.
    let at = unsafe {
        let block = (&raw mut BLOCKS[vcpu]).cast::<u32>();
        for (n, cell) in cells.iter().enumerate() {
            block.add(n).write_volatile(cell.to_be());
        }
        block.expose_provenance() as u64
    };
    call([RTAS, at, 0, 0, 0, 0, 0, 0, 0, 0]);
}

fn install_vectors() {
    let bytes = (&raw const vector_end).addr() - (&raw const vector).addr();
    for at in VECTORS.step_by(VECTOR) {
        let to = core::ptr::with_exposed_provenance_mut::<u8>(at);
        // SAFETY: low memory, where nothing else is; the vector is position independent.
        unsafe {
            core::ptr::copy_nonoverlapping(&raw const vector, to, bytes);
            publish(to, bytes as u64);
        }
    }
}

/// One of the accesses.
fn pick(random: &mut Random) -> *const u8 {
    let count = ((&raw const accesses_end).addr() - (&raw const accesses).addr()) as u64 / 8;
    (&raw const accesses).wrapping_add(8 * random.below(count) as usize)
}
