//! Watches memory: nothing in it can be touched without a trap, which notes the access down, lets that one instruction
//! through, and closes the memory again.
//!
//! ```text
//!   the program            page fault                          trap after one instruction
//!   loads or stores  --->  address, kind noted down      --->  memory closed, single step off
//!                          memory open, single step on         the program goes on
//! ```
//!
//! What CPUs share is put there: the machine's RAM, and what is allocated inside [`Shared::hold`], by the allocator
//! below. Stacks are nobody else's and are not watched.

#![expect(unsafe_code, reason = "signal handlers, page protection, an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bench_host::arena::Arena;

const LINE: usize = 64;
const HEAP: usize = 1 << 20;
const REGIONS: usize = 4;
const SEEN: usize = 4096;
const SINGLE_STEP: i64 = 0x100;
/// Bit of a page fault's error code: it was a store.
const STORE: i64 = 2;

/// One access.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    pub at: usize,
    pub store: bool,
    /// By an instruction that holds the line: an atomic read-modify-write.
    pub locked: bool,
}

impl Access {
    /// Its cache line.
    pub fn line(&self) -> usize {
        self.at / LINE
    }
}

// Plain words, because handlers may use nothing else. A region is its start and its end; unused ones are empty.
static REGION: [[AtomicUsize; 2]; REGIONS] = [const { [const { AtomicUsize::new(0) }; 2] }; REGIONS];
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Address, and in bits 0 and 1 of the second word whether it was a store, a locked one.
static LOG: [[AtomicUsize; 2]; SEEN] = [const { [const { AtomicUsize::new(0) }; 2] }; SEEN];
/// Where the watched heap goes on, and where it ends.
static NEXT: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static HELD: Cell<bool> = const { Cell::new(false) };
}

/// The allocator: the watched heap inside [`Shared::hold`], the system's otherwise.
struct Heap;

#[global_allocator]
static HEAP_OF_THIS_TEST: Heap = Heap;

// SAFETY: pieces of the watched heap are disjoint, of the layout asked for, and never given out twice.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !HELD.try_with(Cell::get).unwrap_or(false) {
            // SAFETY: the caller's layout, unchanged.
            return unsafe { System.alloc(layout) };
        }
        let start = NEXT.load(Ordering::Relaxed).next_multiple_of(layout.align().max(LINE));
        let end = start + layout.size();
        if end > END.load(Ordering::Relaxed) {
            return ptr::null_mut();
        }
        NEXT.store(end, Ordering::Relaxed);
        ptr::with_exposed_provenance_mut(start)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let end = END.load(Ordering::Relaxed);
        if !(end.saturating_sub(HEAP)..end).contains(&at.addr()) {
            // SAFETY: it came from the system's allocator, with this layout.
            unsafe { System.dealloc(at, layout) };
        }
    }
}

/// Memory that CPUs share.
pub struct Shared(());

impl Shared {
    /// An empty heap, and the handlers. One at a time in a process.
    pub fn new() -> Self {
        let heap = Arena::new(HEAP);
        NEXT.store(heap.start(), Ordering::Relaxed);
        END.store(heap.start() + heap.bytes(), Ordering::Relaxed);
        handle(libc::SIGSEGV, on_fault);
        handle(libc::SIGTRAP, on_step);
        let mut shared = Self(());
        shared.watch(heap.start()..heap.start() + heap.bytes());
        shared
    }

    /// Watches more memory: whole pages.
    pub fn watch(&mut self, region: Range<usize>) {
        let free = REGION.iter().find(|words| words[1].load(Ordering::Relaxed) == 0).expect("room for a region");
        free[0].store(region.start, Ordering::Relaxed);
        free[1].store(region.end, Ordering::Relaxed);
    }

    /// Runs `f` with what it allocates in watched memory.
    pub fn hold<T>(&mut self, f: impl FnOnce() -> T) -> T {
        HELD.set(true);
        let value = f();
        HELD.set(false);
        value
    }

    /// Runs `f` and returns every access that it made to watched memory, in order.
    pub fn trace(&self, f: impl FnOnce()) -> Vec<Access> {
        COUNT.store(0, Ordering::Relaxed);
        protect(libc::PROT_NONE);
        f();
        protect(libc::PROT_READ | libc::PROT_WRITE);
        let count = COUNT.load(Ordering::Relaxed);
        assert!(count <= SEEN, "{count} accesses are more than there is room for");
        let access = |[at, kind]: &[AtomicUsize; 2]| {
            let kind = kind.load(Ordering::Relaxed);
            Access { at: at.load(Ordering::Relaxed), store: kind & 1 != 0, locked: kind & 2 != 0 }
        };
        LOG[..count].iter().map(access).collect()
    }
}

/// Opens or closes all watched memory.
fn protect(how: c_int) {
    for [start, end] in &REGION {
        let (start, end) = (start.load(Ordering::Relaxed), end.load(Ordering::Relaxed));
        // SAFETY: these are whole pages of arenas; who touches them while they are closed is noted down and let through.
        let failed =
            end != 0 && unsafe { libc::mprotect(ptr::with_exposed_provenance_mut(start), end - start, how) } != 0;
        if failed {
            std::process::abort();
        }
    }
}

type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

fn handle(signal: c_int, handler: Handler) {
    // SAFETY: all zeros is a valid sigaction; the handler has the form that SA_SIGINFO asks for, and uses only memory that
    // is never watched.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
    }
}

extern "C" fn on_fault(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives a handler these two, for as long as it runs.
    let (at, context) = unsafe { ((*info).si_addr().addr(), &mut *context.cast::<libc::ucontext_t>()) };
    let registers = &mut context.uc_mcontext.gregs;
    let inside =
        |[start, end]: &[AtomicUsize; 2]| (start.load(Ordering::Relaxed)..end.load(Ordering::Relaxed)).contains(&at);
    if !REGION.iter().any(inside) {
        // An ordinary crash: this returns to the instruction, which now ends the process.
        // SAFETY: the default action needs no handler.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        return;
    }
    let store = registers[libc::REG_ERR as usize] & STORE != 0;
    // SAFETY: the instruction was just executed, so its bytes can be read.
    let locked = store && unsafe { locks(ptr::with_exposed_provenance(registers[libc::REG_RIP as usize] as usize)) };
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    if let Some([address, kind]) = LOG.get(n) {
        address.store(at, Ordering::Relaxed);
        kind.store(usize::from(store) | usize::from(locked) << 1, Ordering::Relaxed);
    }
    protect(libc::PROT_READ | libc::PROT_WRITE);
    registers[libc::REG_EFL as usize] |= SINGLE_STEP;
}

extern "C" fn on_step(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: as in on_fault().
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    context.uc_mcontext.gregs[libc::REG_EFL as usize] &= !SINGLE_STEP;
    protect(libc::PROT_NONE);
}

/// Whether the instruction at `at` holds its line: a lock prefix, or an exchange with memory, which needs none.
///
/// # Safety
/// An instruction is there.
unsafe fn locks(at: *const u8) -> bool {
    let mut at = at;
    loop {
        // SAFETY: prefixes and the opcode are bytes of the instruction.
        match unsafe { *at } {
            0xf0 | 0x86 | 0x87 => return true,
            // Other prefixes come before the opcode.
            0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf2 | 0xf3 => at = at.wrapping_add(1),
            _ => return false,
        }
    }
}
