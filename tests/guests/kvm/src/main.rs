//! A program of Linux: makes a virtual machine by `/dev/kvm`, runs a guest without an operating system in it, and counts.
//!
//! The guest is told by the answer to a hypervisor call how many pages it is to touch, writes each and reads it back,
//! and tells how many that were. Then it turns its translation on and loads from a device, which is this program: for
//! that Linux has to read the guest's instruction, by H_COPY_TOFROM_GUEST if it is a guest itself. The guest's last
//! call tells what it loaded. Every page is looked at from here as well.
//!
//! Says `hypercalls <n>`, `pages <n>`, `device loads <n>`; the status is 0 if they are what they have to be.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "no library: entry, system calls, a guest's memory")]

mod kvm;
#[allow(dead_code, reason = "other programs', which need more of it")]
#[path = "../../linux.rs"]
mod linux;

use core::fmt::{self, Write};

use kvm::{Exit, Vm};
use linux::{Failed, Output, exit};

core::arch::global_asm!(include_str!("../../ppc64/linux.S"), include_str!("l2.S"), options(raw));

unsafe extern "C" {
    static l2_start: u8;
    static l2_end: u8;
    static l2_vector: u8;
    static l2_vector_end: u8;
}

/// The guest's memory in bytes, and what lies where in it: interrupt vectors below [`CODE`], then its code, its process table,
/// and a tree of two levels that maps the first GiB to itself.
const MEMORY: u64 = 8 << 20;
const VECTORS: core::ops::Range<u64> = 0x100..0x1000;
const CODE: u64 = 0x8000;
const PROCESSES: u64 = 0x1_0000;
const ROOT: u64 = 0x2_0000;
const SECOND: u64 = 0x3_0000;
/// The pages that it touches, of the size that Linux's own have: the first, the distance, how many.
const FIRST: u64 = 1 << 20;
const PAGE: u64 = 64 << 10;
const PAGES: u64 = 64;
/// Where it finds a device, outside of its memory, and what that says.
const DEVICE: u64 = 512 << 20;
const ANSWER: u64 = 0x5472_6976;

/// Entries of a radix tree (Power ISA v3.0B, Book III 5.7.10): valid; leaf; R, C, privileged, read, write, execute.
const VALID: u64 = 1 << 63;
const LEAF: u64 = 1 << 62;
const ALL: u64 = 0x18f;
/// A tree of 52 bits whose root has 2^13 entries.
const TREE: u64 = 2 << 61 | 5 << 5 | 13;
/// Machine state: 64 bits, machine checks, little-endian.
const STATE: u64 = 1 << 63 | 1 << 12 | 1;

/// H_GET_TERM_CHAR and H_PUT_TERM_CHAR, which KVM hands to the program that runs the VM.
const ASK: u64 = 0x54;
const TELL: u64 = 0x58;

/// What the guest has done.
#[derive(Default)]
struct Counts {
    calls: u64,
    pages: u64,
    loads: u64,
}

#[unsafe(no_mangle)]
extern "C" fn program_main(_arguments: *const u64) -> ! {
    let good = match play() {
        Ok(Some(Counts { calls, pages, loads })) => {
            say(format_args!("hypercalls {calls}"));
            say(format_args!("pages {pages}"));
            say(format_args!("device loads {loads}"));
            (calls, pages, loads) == (3, PAGES, 1)
        }
        Ok(None) => false,
        Err(Failed(what, error)) => {
            say(format_args!("kvm: {what} failed with error {error}"));
            false
        }
    };
    exit(if good { 0 } else { 1 })
}

/// Runs the guest to its end; `None` if it does something that it should not, which has been said.
fn play() -> Result<Option<Counts>, Failed> {
    let vm = Vm::new(MEMORY, PROCESSES)?;
    furnish(&vm);
    vm.begin(CODE, STATE)?;
    let mut counts = Counts::default();
    loop {
        match vm.run()? {
            Exit::Call(ASK, _) if counts.calls == 0 => vm.answer([PAGES, FIRST, PAGE]),
            Exit::Call(TELL, pages) if counts.calls == 1 => {
                counts.pages = pages.min(touched(&vm));
                vm.answer([DEVICE, 0, 0]);
            }
            Exit::Call(TELL, ANSWER) if counts.calls == 2 => {
                counts.calls += 1;
                return Ok(Some(counts));
            }
            Exit::Load(DEVICE, 4) => {
                vm.loaded(ANSWER);
                counts.loads += 1;
                continue;
            }
            Exit::Call(number, first) => {
                say(format_args!("kvm: the guest's call {number:#x} with {first:#x}, after {}", counts.calls));
                return Ok(None);
            }
            Exit::Load(at, length) => {
                say(format_args!("kvm: the guest loads {length} bytes at {at:#x}"));
                return Ok(None);
            }
            Exit::Other(reason) => {
                say(format_args!("kvm: the guest stopped for reason {reason}"));
                return Ok(None);
            }
        }
        counts.calls += 1;
    }
}

/// Puts code and tables into the guest's memory.
fn furnish(vm: &Vm) {
    let copy = |from: *const u8, to: *const u8, at: u64| {
        let length = to.addr() - from.addr();
        // SAFETY: between two labels of this program, into the guest's memory, where there is room.
        unsafe { from.copy_to_nonoverlapping(vm.memory.cast::<u8>().add(at as usize), length) };
    };
    for vector in VECTORS.step_by(0x20) {
        copy(&raw const l2_vector, &raw const l2_vector_end, vector);
    }
    copy(&raw const l2_start, &raw const l2_end, CODE);
    for (at, word) in [(PROCESSES, TREE | ROOT), (ROOT, VALID | SECOND | 9), (SECOND, VALID | LEAF | ALL)] {
        // SAFETY: a doubleword of the guest's memory.
        unsafe { vm.memory.add(at as usize / 8).write_volatile(word.to_be()) };
    }
}

/// How many pages hold what the guest was to write there: their address.
fn touched(vm: &Vm) -> u64 {
    let pages = (FIRST..).step_by(PAGE as usize).take(PAGES as usize);
    // SAFETY: a doubleword of the guest's memory; the guest has stopped.
    pages.filter(|at| unsafe { vm.memory.add(*at as usize / 8).read_volatile() } == *at).count() as u64
}

/// Prints a line.
fn say(line: fmt::Arguments<'_>) {
    // The output has nobody to be told of its errors.
    let _ = writeln!(Output, "{line}");
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    say(format_args!("kvm: {info}"));
    exit(2)
}
