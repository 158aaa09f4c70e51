//! What programs without a library ask of Linux.

use core::ffi::CStr;
use core::fmt::{self, Write};

use number::{CLONE, EXIT_GROUP, FTRUNCATE, IOCTL, MMAP, OPENAT, WAIT4, WRITE};

unsafe extern "C" {
    fn syscall(number: u64, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> i64;
}

/// The numbers of ppc64.
#[cfg(target_arch = "powerpc64")]
mod number {
    pub const EXIT_GROUP: u64 = 234;
    pub const CLONE: u64 = 120;
    pub const WRITE: u64 = 4;
    pub const OPENAT: u64 = 286;
    pub const MMAP: u64 = 90;
    pub const FTRUNCATE: u64 = 93;
    pub const WAIT4: u64 = 114;
    pub const IOCTL: u64 = 54;
}

/// The numbers of arm64.
#[cfg(target_arch = "aarch64")]
mod number {
    pub const EXIT_GROUP: u64 = 94;
    pub const CLONE: u64 = 220;
    pub const WRITE: u64 = 64;
    pub const OPENAT: u64 = 56;
    pub const MMAP: u64 = 222;
    pub const FTRUNCATE: u64 = 46;
    pub const WAIT4: u64 = 260;
    pub const IOCTL: u64 = 29;
}

/// The numbers of x86-64.
#[cfg(target_arch = "x86_64")]
mod number {
    pub const EXIT_GROUP: u64 = 231;
    pub const CLONE: u64 = 56;
    pub const WRITE: u64 = 1;
    pub const OPENAT: u64 = 257;
    pub const MMAP: u64 = 9;
    pub const FTRUNCATE: u64 = 77;
    pub const WAIT4: u64 = 61;
    pub const IOCTL: u64 = 16;
}

/// `AT_FDCWD`: names are relative to the working directory.
const HERE: u64 = -100_i64 as u64;
/// `SIGCHLD`, of which a process that ends tells its parent; nothing is shared between the two.
const SEPARATE: u64 = 17;
/// `O_RDWR`
const READ_WRITE_FILE: u64 = 0o2;
/// `O_CREAT`
const CREATE: u64 = 0o100;
/// `PROT_READ | PROT_WRITE`
const READ_WRITE: u64 = 3;
/// `MAP_SHARED`
const SHARED: u64 = 1;
/// `MAP_PRIVATE | MAP_ANONYMOUS`
const OWN: u64 = 0x22;
/// In place of a file's number, where there is none.
const NO_FILE: u64 = u64::MAX;

/// A system call that failed, and its error's number.
#[derive(Clone, Copy, Debug)]
pub struct Failed(pub &'static str, pub i64);

fn call(what: &'static str, number: u64, [a, b, c, d, e, f]: [u64; 6]) -> Result<u64, Failed> {
    // SAFETY: the calls of this file hand over memory that their callers own, and map only where nothing is.
    let result = unsafe { syscall(number, a, b, c, d, e, f) };
    u64::try_from(result).map_err(|_| Failed(what, result.wrapping_neg()))
}

/// Ends the program.
pub fn exit(status: u8) -> ! {
    loop {
        // Nobody is left to be told of an error.
        let _ = call("exit", EXIT_GROUP, [status.into(), 0, 0, 0, 0, 0]);
    }
}

/// Standard output.
pub struct Output;

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let at = rest.as_ptr().expose_provenance() as u64;
            let written = call("write", WRITE, [1, at, rest.len() as u64, 0, 0, 0]).map_err(|_| fmt::Error)?;
            rest = rest.get(written as usize..).ok_or(fmt::Error)?;
        }
        Ok(())
    }
}

/// Opens a file to read and write it; returns its number.
pub fn open(file: &CStr) -> Result<u64, Failed> {
    let name = file.as_ptr().expose_provenance() as u64;
    call("openat", OPENAT, [HERE, name, READ_WRITE_FILE, 0, 0, 0])
}

/// Has a device do something.
///
/// # Safety
/// If `argument` is an address, this is about memory of the caller's, which the request may change as it is documented to.
pub unsafe fn control(what: &'static str, file: u64, request: u64, argument: u64) -> Result<u64, Failed> {
    call(what, IOCTL, [file, request, argument, 0, 0, 0])
}

/// Maps the first `bytes` of an open file, and shares them with whoever else does.
pub fn map_open(file: u64, bytes: u64) -> Result<*mut u64, Failed> {
    mapped(bytes, SHARED, file)
}

/// New memory, all zeros.
pub fn memory(bytes: u64) -> Result<*mut u64, Failed> {
    mapped(bytes, OWN, NO_FILE)
}

fn mapped(bytes: u64, kind: u64, file: u64) -> Result<*mut u64, Failed> {
    let at = call("mmap", MMAP, [0, bytes, READ_WRITE, kind, file, 0])?;
    Ok(core::ptr::with_exposed_provenance_mut(at as usize))
}

/// Maps the first `bytes` of a file, which is made if there is none, so that all who map it share it.
pub fn map(file: &CStr, bytes: u64) -> Result<*mut u64, Failed> {
    let name = file.as_ptr().expose_provenance() as u64;
    let fd = call("openat", OPENAT, [HERE, name, READ_WRITE_FILE | CREATE, 0o600, 0, 0])?;
    call("ftruncate", FTRUNCATE, [fd, bytes, 0, 0, 0, 0])?;
    map_open(fd, bytes)
}

/// Doubles the process: 0 in the new one, its number in the old one.
pub fn fork() -> Result<u64, Failed> {
    call("clone", CLONE, [SEPARATE, 0, 0, 0, 0, 0])
}

/// Waits for a process that [`fork`] made: true if it ended with status 0.
pub fn ended_well(process: u64) -> Result<bool, Failed> {
    let mut status = 0_u32;
    let at = (&raw mut status).expose_provenance() as u64;
    call("wait4", WAIT4, [process, at, 0, 0, 0, 0])?;
    // SAFETY: a local variable, which the call has written behind the compiler's back.
    Ok(unsafe { (&raw const status).read_volatile() } == 0)
}
