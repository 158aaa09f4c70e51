//! A program of Linux: fills a file that lies in memory with pages that tell who they are, and checks them.
//!
//! `pages fill|check numbered|random FILE MIB ROUND JOBS`. Page `n` of a file begins with `n` as a word; a numbered
//! page goes on with 768 pseudo-random bytes of `n` and `ROUND` and is zero behind them, a random one is pseudo-random
//! to its end. The work is divided among `JOBS` processes, page by page in turn.
//!
//! The first job says `AT <MiB>` now and then; `MISMATCH page <n> word <n> is <x> not <x>` is what a check finds;
//! the last line is `DONE <pages>`, if nothing was wrong, and then the status is 0.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "no library: entry, system calls, mapped memory")]

#[allow(dead_code, reason = "other programs', which need more of it")]
#[path = "../../linux.rs"]
mod linux;

use core::ffi::{CStr, c_char};
use core::fmt::{self, Write};

use linux::{Failed, Output, ended_well, exit, fork, map};

#[cfg(target_arch = "powerpc64")]
core::arch::global_asm!(include_str!("../../ppc64/linux.S"), options(raw));
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(include_str!("../../arm64/linux.S"), options(raw));
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(include_str!("../../x86/linux.S"), options(raw));

/// Words of a page of 4 KiB.
const WORDS: u64 = 512;
/// Pages of a MiB.
const PAGES: u64 = 256;
/// Pseudo-random words of a numbered page: 768 bytes.
const RANDOM: u64 = 96;
/// Most processes.
const JOBS: u64 = 8;
/// Mismatches that each job shows; the rest it counts.
const SHOWN: u64 = 4;
/// How often the first job says where it is.
const NEWS: u64 = 16;

/// What is to be done.
#[derive(Clone, Copy)]
struct Task {
    verb: Verb,
    /// Words that are not zero, the number not counted.
    random: u64,
    memory: *mut u64,
    pages: u64,
    round: u64,
    jobs: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Fill,
    Check,
}

/// Why nothing, or not all, was done.
enum Wrong {
    Usage,
    System(Failed),
}

impl From<Failed> for Wrong {
    fn from(failed: Failed) -> Self {
        Self::System(failed)
    }
}

/// The words of a page in their order.
struct Words(u64);

impl Words {
    /// Of page `page` in round `round`: spread, so that neighbours have nothing in common. Never zero.
    fn new(page: u64, round: u64) -> Self {
        let mut x = page.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((x ^ (x >> 29)) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[unsafe(no_mangle)]
extern "C" fn program_main(arguments: *const u64) -> ! {
    // SAFETY: where Linux puts them: their count, then their addresses.
    let task = unsafe { parse(arguments) };
    let good = match task.and_then(|task| Ok((task, carry_out(&task)?))) {
        Ok((task, true)) => {
            say(format_args!("DONE {}", task.pages));
            true
        }
        Ok((_, false)) => false,
        Err(Wrong::Usage) => {
            say(format_args!("usage: pages fill|check numbered|random FILE MIB ROUND JOBS"));
            false
        }
        Err(Wrong::System(Failed(what, error))) => {
            say(format_args!("pages: {what} failed with error {error}"));
            false
        }
    };
    exit(if good { 0 } else { 1 })
}

/// # Safety
/// What Linux's stack pointer pointed at: the number of arguments, then their addresses, the program's name first.
unsafe fn parse(arguments: *const u64) -> Result<Task, Wrong> {
    let word = |n: u64| -> Result<&'static CStr, Wrong> {
        // SAFETY: the count, and behind it as many addresses of texts that end in a zero byte and stay where they are.
        unsafe {
            if n >= *arguments {
                return Err(Wrong::Usage);
            }
            let at = *arguments.add(1 + n as usize);
            Ok(CStr::from_ptr(core::ptr::with_exposed_provenance::<c_char>(at as usize)))
        }
    };
    let number = |n: u64| word(n)?.to_str().ok().and_then(|text| text.parse::<u64>().ok()).ok_or(Wrong::Usage);
    let verb = match word(1)?.to_bytes() {
        b"fill" => Verb::Fill,
        b"check" => Verb::Check,
        _ => return Err(Wrong::Usage),
    };
    let random = match word(2)?.to_bytes() {
        b"numbered" => RANDOM,
        b"random" => WORDS - 1,
        _ => return Err(Wrong::Usage),
    };
    let (mib, round, jobs) = (number(4)?, number(5)?, number(6)?);
    if mib == 0 || mib > 1 << 20 || jobs == 0 || jobs > JOBS {
        return Err(Wrong::Usage);
    }
    let memory = map(word(3)?, mib << 20)?;
    Ok(Task { verb, random, memory, pages: mib * PAGES, round, jobs })
}

/// Divides the work; true if every job found everything as it should be.
fn carry_out(task: &Task) -> Result<bool, Failed> {
    let mut others = [0; JOBS as usize];
    for (job, process) in (1..task.jobs).zip(&mut others) {
        *process = fork()?;
        if *process == 0 {
            exit(if work(task, job) == 0 { 0 } else { 1 });
        }
    }
    let mut good = work(task, 0) == 0;
    for process in others.into_iter().take_while(|process| *process != 0) {
        good &= ended_well(process)?;
    }
    Ok(good)
}

/// One job's share; returns how many words were wrong.
fn work(task: &Task, job: u64) -> u64 {
    let mut wrong = 0;
    let news = (task.pages / NEWS).max(1);
    for page in (job..task.pages).step_by(task.jobs as usize) {
        if job == 0 && page % news < task.jobs && page != 0 {
            say(format_args!("AT {}", page / PAGES));
        }
        // SAFETY: a page of the mapping; no other job has it.
        let words = unsafe { task.memory.add((page * WORDS) as usize) };
        match task.verb {
            // SAFETY: as above.
            Verb::Fill => unsafe { fill(words, page, task) },
            // SAFETY: as above.
            Verb::Check => wrong += unsafe { check(words, page, task, wrong) },
        }
    }
    if wrong > 0 {
        say(format_args!("job {job}: {wrong} words are wrong"));
    }
    wrong
}

/// # Safety
/// A page that nobody else uses.
unsafe fn fill(words: *mut u64, page: u64, task: &Task) {
    let mut next = Words::new(page, task.round);
    // SAFETY: as promised. The words behind are zero from the start: nobody has ever written them.
    unsafe {
        words.write(page);
        for n in 1..=task.random as usize {
            words.add(n).write(next.next());
        }
    }
}

/// How many words are wrong.
///
/// # Safety
/// A page that nobody else uses.
unsafe fn check(words: *const u64, page: u64, task: &Task, before: u64) -> u64 {
    let mut next = Words::new(page, task.round);
    let mut wrong = 0;
    for n in 0..WORDS {
        let wanted = match n {
            0 => page,
            _ if n <= task.random => next.next(),
            _ => 0,
        };
        // SAFETY: as promised.
        let is = unsafe { words.add(n as usize).read() };
        if is != wanted {
            wrong += 1;
            if before + wrong <= SHOWN {
                say(format_args!("MISMATCH page {page} word {n} is {is:#x} not {wanted:#x}"));
            }
        }
    }
    wrong
}

/// Prints a line.
fn say(line: fmt::Arguments<'_>) {
    // The output has nobody to be told of its errors.
    let _ = writeln!(Output, "{line}");
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    say(format_args!("pages: {info}"));
    exit(2)
}
