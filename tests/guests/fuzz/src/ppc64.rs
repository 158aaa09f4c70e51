//! Garbage on POWER. Both vCPUs do random steps: calls on the hashed table, with entries put, removed and changed in four
//! segments; loads and stores through these, of which many are not allowed, or find nothing; every other hypervisor call but
//! those that end the VM or put the caller to sleep; firmware calls with any arguments; loads and stores with translation
//! off, beyond memory too. On a radix tree calls on the table are garbage as a whole.
//!
//! vCPU 1 also stops itself now and then, and vCPU 0 starts it again. Nothing that is drawn changes the program's own memory or
//! the entries by which it runs.

mod draw;

use core::sync::atomic::{AtomicU64, Ordering};

use crate::machine::{Call, Tree, must, power_off, say};
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

/// For vCPU 1.
static SEED: AtomicU64 = AtomicU64::new(0);
/// Bytes of memory; groups of the table, 0 if it is a tree.
static MEMORY: AtomicU64 = AtomicU64::new(0);
static GROUPS: AtomicU64 = AtomicU64::new(0);
/// vCPU 0 has enough.
static OVER: AtomicU64 = AtomicU64::new(0);
/// Calls that were refused.
static CALLS_REFUSED: AtomicU64 = AtomicU64::new(0);
/// A firmware call of each vCPU.
static mut BLOCKS: [[u32; 64]; 2] = [[0; 64]; 2];

#[unsafe(no_mangle)]
extern "C" fn guest_main(tree: *const u8) -> ! {
    // SAFETY: the first argument.
    let told = unsafe { Tree::new(tree) };
    let (seed, rounds) = (told.told_number("seed").unwrap_or(1), told.told_number("rounds").unwrap_or(1000));
    SEED.store(seed ^ 0x5eed_5eed_5eed_5eed, Ordering::Relaxed);
    MEMORY.store(told.memory(), Ordering::Relaxed);
    GROUPS.store(told.table_bytes() >> 7, Ordering::Relaxed);
    say(format_args!("FUZZ begins"));
    install_vectors();
    // Interrupts are little-endian, as the vectors are.
    must(Call::SetMode, [1, 4, 0, 0]);
    set_segments();
    start_second();
    let mut random = Random::new(seed);
    for _ in 0..rounds {
        step(&mut random, 0);
        if random.one_in(64) {
            start_second();
        }
    }
    OVER.store(1, Ordering::Release);
    // SAFETY: a word that only the vectors write.
    let skipped = unsafe { core::ptr::with_exposed_provenance::<u64>(REFUSED).read_volatile() };
    let refused = skipped + CALLS_REFUSED.load(Ordering::Relaxed);
    say(format_args!("\nFUZZ seed {seed} rounds {rounds} refused {refused}"));
    power_off()
}

#[unsafe(no_mangle)]
extern "C" fn second_main() -> ! {
    set_segments();
    let mut random = Random::new(SEED.load(Ordering::Relaxed));
    while OVER.load(Ordering::Acquire) == 0 && !random.one_in(4096) {
        step(&mut random, 1);
    }
    // The next life goes on from here.
    SEED.store(random.next(), Ordering::Relaxed);
    loop {
        firmware(1, &[STOP_SELF, 0, 1]);
    }
}

/// One thing of many.
fn step(random: &mut Random, vcpu: usize) {
    let (memory, groups) = (MEMORY.load(Ordering::Relaxed), GROUPS.load(Ordering::Relaxed));
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

/// Begins another life of vCPU 1, if it has stopped.
fn start_second() {
    let entry = (&raw const second_start).expose_provenance() as u32;
    firmware(0, &[START_CPU, 3, 1, 1, entry, 0]);
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

fn set_segments() {
    if GROUPS.load(Ordering::Relaxed) == 0 {
        return;
    }
    for (n, vsid) in (1..).zip(draw::SEGMENTS) {
        // SAFETY: this program does not go by segments.
        unsafe { set_segment(vsid << 12, n << 28 | VALID | n) };
    }
}

/// One of the accesses.
fn pick(random: &mut Random) -> *const u8 {
    let count = ((&raw const accesses_end).addr() - (&raw const accesses).addr()) as u64 / 8;
    (&raw const accesses).wrapping_add(8 * random.below(count) as usize)
}
