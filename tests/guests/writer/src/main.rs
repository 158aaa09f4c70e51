//! Two vCPUs that write pages while their memory's dirty log is read, for `cargo xtask demo dirty`.
//!
//! Each page of the range has a kind, which depends on its number alone: neither vCPU writes it, or the first, or the
//! second, or both. Before the line `READY` all of them have been written once. A key later both vCPUs go through the
//! range, each in an order of its own: they write each page that is theirs once, read it if it is not, and wait a while
//! (`s` a short one, `l` a long one). Whoever misses one of these writes never sees it again. Then the first vCPU reads
//! everything back and says `DONE <pages written>`. After one more key it writes all of it again, as whoever has turned
//! the log off wants to see, says `AGAIN`, and sleeps for ever as the other one does.
//!
//! With the command line `nested` the writing is done by the two vCPUs of a guest that this one has, which only POWER can:
//! the log is then of a guest's memory that its guest writes.
//!
//! With the command line `sleep` it does nothing at all: a VM that keeps the machine from being over.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: entry, hypercalls, raw memory")]

#[allow(dead_code, reason = "other guests', which need more of it")]
#[cfg_attr(target_arch = "powerpc64", path = "../../ppc64/machine.rs")]
#[cfg_attr(target_arch = "aarch64", path = "../../arm64/machine.rs")]
#[cfg_attr(target_arch = "x86_64", path = "../../x86/machine.rs")]
mod machine;

#[cfg(target_arch = "powerpc64")]
#[path = "../../ppc64/nested.rs"]
mod nested;

use core::sync::atomic::{AtomicU64, Ordering};

use machine::{Tree, fail, now, say, sleep, typed};

#[cfg(target_arch = "powerpc64")]
core::arch::global_asm!(include_str!("../../ppc64/second.S"), options(raw));
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(include_str!("../../arm64/second.S"), options(raw));
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(include_str!("../../x86/second.S"), options(raw));

unsafe extern "C" {
    #[cfg_attr(target_arch = "powerpc64", link_name = "__trivet_big_endian_second")]
    static second_start: u8;
}

const PAGE: u64 = 4096;
/// The pages that are written: from 16 MiB, 32 MiB of them.
const FIRST: u64 = (16 << 20) / PAGE;
const PAGES: u64 = (32 << 20) / PAGE;
/// Both are odd, so each leads through all pages.
const STRIDES: [u64; 2] = [4099, 2741];
/// Microseconds between two pages.
const SHORT: u64 = 120;
const LONG: u64 = 600;

/// Ticks between two pages; 0 until the key has come.
static PACE: AtomicU64 = AtomicU64::new(0);
/// 1: a guest of this one writes.
static NESTED: AtomicU64 = AtomicU64::new(0);
/// Pages that the second vCPU has written, and one more: 0 until it has ended.
static SECOND_WROTE: AtomicU64 = AtomicU64::new(0);

#[unsafe(no_mangle)]
extern "C" fn guest_main(tree: *const u8) -> ! {
    // SAFETY: the first argument.
    let tree = unsafe { Tree::new(tree) };
    if tree.is_told("sleep") {
        sleep();
    }
    for page in FIRST..FIRST + PAGES {
        cell(page).store(0, Ordering::Relaxed);
    }
    if tree.is_told("nested") {
        #[cfg(not(target_arch = "powerpc64"))]
        fail(format_args!("guests have no guests here"));
        #[cfg(target_arch = "powerpc64")]
        nested::make();
        NESTED.store(1, Ordering::Relaxed);
    }
    tree.start_second(&raw const second_start);
    say(format_args!("READY"));
    let ticks_per_us = tree.ticks_per_second() / 1_000_000;
    PACE.store(ticks_per_us * key(ticks_per_us), Ordering::Release);
    let own = round(0);
    let other = loop {
        match SECOND_WROTE.load(Ordering::Acquire) {
            0 => core::hint::spin_loop(),
            wrote => break wrote - 1,
        }
    };
    for page in FIRST..FIRST + PAGES {
        let (is, wanted) = (cell(page).load(Ordering::Relaxed), kind(page));
        if is != wanted {
            fail(format_args!("page {page:#x} holds {is}, not {wanted}"));
        }
    }
    say(format_args!("DONE {}", own + other));
    key(ticks_per_us);
    for page in FIRST..FIRST + PAGES {
        cell(page).store(0, Ordering::Relaxed);
    }
    say(format_args!("AGAIN"));
    sleep()
}

#[unsafe(no_mangle)]
extern "C" fn second_main() -> ! {
    while PACE.load(Ordering::Acquire) == 0 {
        core::hint::spin_loop();
    }
    let wrote = round(1);
    SECOND_WROTE.store(wrote + 1, Ordering::Release);
    sleep()
}

/// Has a vCPU go through all pages, or that of the guest's guest with its number; how many were written.
fn round(vcpu: usize) -> u64 {
    #[cfg(target_arch = "powerpc64")]
    if NESTED.load(Ordering::Relaxed) != 0 {
        return nested::run(vcpu, write, vcpu as u64);
    }
    write(vcpu as u64)
}

/// Goes through all pages; returns how many were written.
extern "C" fn write(vcpu: u64) -> u64 {
    let vcpu = vcpu as usize;
    let (mut wrote, pace, own) = (0, PACE.load(Ordering::Relaxed), 1 << vcpu);
    for n in 0..PAGES {
        let page = FIRST + n * STRIDES[vcpu] % PAGES;
        let begun = now();
        if kind(page) & own == 0 {
            cell(page).load(Ordering::Relaxed);
        } else {
            cell(page).fetch_add(own, Ordering::Relaxed);
            wrote += 1;
        }
        while now().wrapping_sub(begun) < pace {}
    }
    wrote
}

/// Who writes a page: bit 0 the first vCPU, bit 1 the second. As in xtask, which knows nothing else of this program.
const fn kind(page: u64) -> u64 {
    (page.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61) & 3
}

/// A word of a page, another one in each.
fn cell(page: u64) -> &'static AtomicU64 {
    let at = page * PAGE + page % (PAGE / 8) * 8;
    // SAFETY: memory behind the program, which uses it as words only.
    unsafe { AtomicU64::from_ptr(core::ptr::with_exposed_provenance_mut(at as usize)) }
}

/// Waits for a key; returns the microseconds that it stands for.
fn key(ticks_per_us: u64) -> u64 {
    loop {
        match typed() {
            None => {}
            Some(b's') => return SHORT,
            Some(b'l') => return LONG,
            Some(other) => fail(format_args!("key {other:#x} means nothing")),
        }
        let begun = now();
        while now().wrapping_sub(begun) < 1000 * ticks_per_us {}
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    fail(format_args!("{info}"));
}
