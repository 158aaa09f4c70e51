//! The client interface of Open Firmware (IEEE 1275): asks it for the whole device tree and flattens it.
//!
//! Only the boot CPU calls it, before anything else of the image runs; afterwards its memory is ours.
#![expect(unsafe_code, reason = "calls into firmware through an entry point that the platform handed over")]

use alloc::vec;
use alloc::vec::Vec;
use core::ffi::CStr;

use hv_core::flat::{Writer, tree};

/// Longest property name. The standard says 31 characters; real trees have longer ones
/// (`ibm,associativity-reference-points`), and a 32-byte buffer makes SLOF overrun it.
const NAME_BYTES: usize = 64;
/// The flattened form allows names of so many characters; those that are longer are none that we read.
const FLAT_NAME_BYTES: usize = 31;
/// Longest path of a node.
const PATH_BYTES: usize = 256;
/// Largest property taken over; the largest seen is 3 KiB.
const VALUE_BYTES: usize = 64 * 1024;
/// Deepest nesting followed.
const MAX_DEPTH: u32 = 16;
/// A call that failed, as the interface says it.
const FAILED: u32 = u32::MAX;

unsafe extern "C" {
    fn trivet_call_be(argument: u64, entry: u64) -> u64;
}

/// Firmware would not describe the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// The call of this name failed.
    Failed(&'static str),
    /// The tree is deeper than any machine's.
    TooDeep,
    /// The tree is larger than any machine's: there is no heap for it.
    TooLarge,
}

impl core::fmt::Display for ClientError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Failed(call) => write!(f, "firmware does not describe the machine: its {call} failed"),
            Self::TooDeep => f.write_str("firmware's device tree is nested too deeply"),
            Self::TooLarge => f.write_str("firmware's device tree is too large"),
        }
    }
}

/// The client interface at the entry point the platform handed over.
pub struct Client {
    entry: u64,
}

/// The argument block: service name, counts, then arguments and results, all big-endian cells.
#[repr(C, align(16))]
struct Block([u32; 12]);

impl Client {
    /// Takes the entry point.
    ///
    /// # Safety
    /// `entry` is the client interface's entry point (r5 at entry), and firmware's memory has not been touched.
    #[must_use]
    pub const unsafe fn new(entry: u64) -> Self {
        Self { entry }
    }

    /// Reads the whole tree and returns it flattened.
    pub fn flatten(&self) -> Result<Vec<u8>, ClientError> {
        let root = self.step(c"peer", 0)?;
        let mut all = Ok(());
        let flat = tree(&[], |node| all = self.fill(node, root, 0));
        all.and(flat.map_err(|_| ClientError::TooLarge))
    }

    fn fill(&self, node: &mut Writer, phandle: u32, depth: u32) -> Result<(), ClientError> {
        if depth > MAX_DEPTH {
            return Err(ClientError::TooDeep);
        }
        let mut last = [0u8; NAME_BYTES];
        loop {
            let mut next = [0u8; NAME_BYTES];
            let more = self.call(c"nextprop", &[phandle, low(last.as_ptr()), low(next.as_mut_ptr())])?;
            if more != 1 {
                break;
            }
            if let Ok(name) = CStr::from_bytes_until_nul(&next)
                && let Ok(name) = name.to_str()
                && name != "name"
                && (1..=FLAT_NAME_BYTES).contains(&name.len())
            {
                node.bytes(name, &self.property(phandle, &next)?);
            }
            last = next;
        }
        let mut child = self.step(c"child", phandle)?;
        while child != 0 {
            let mut path = [0; PATH_BYTES];
            let name = self.unit_name(child, &mut path)?;
            node.node(&name, |node| self.fill(node, child, depth + 1))?;
            child = self.step(c"peer", child)?;
        }
        Ok(())
    }

    fn property(&self, phandle: u32, name: &[u8; NAME_BYTES]) -> Result<Vec<u8>, ClientError> {
        let size = self.call(c"getproplen", &[phandle, low(name.as_ptr())])?;
        if size == FAILED || size as usize > VALUE_BYTES {
            return Ok(Vec::new());
        }
        let mut value = vec![0u8; size as usize];
        self.call(c"getprop", &[phandle, low(name.as_ptr()), low(value.as_mut_ptr()), size])?;
        Ok(value)
    }

    /// The node's name with its unit address: the last component of its path.
    fn unit_name<'p>(&self, phandle: u32, path: &'p mut [u8; PATH_BYTES]) -> Result<&'p str, ClientError> {
        let failed = ClientError::Failed("package-to-path");
        let size = self.call(c"package-to-path", &[phandle, low(path.as_mut_ptr()), PATH_BYTES as u32 - 1])?;
        let path = path.get(..size as usize).ok_or(failed)?;
        let path = path.split(|&b| b == 0).next().unwrap_or(path);
        let last = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
        core::str::from_utf8(last).map_err(|_| failed)
    }

    fn step(&self, service: &'static CStr, phandle: u32) -> Result<u32, ClientError> {
        self.call(service, &[phandle])
    }

    /// One call with one result.
    fn call(&self, service: &'static CStr, arguments: &[u32]) -> Result<u32, ClientError> {
        let failed = ClientError::Failed(service.to_str().unwrap_or("?"));
        let mut block = Block([0; 12]);
        let count = arguments.len().min(8);
        block.0[0] = low(service.as_ptr()).to_be();
        block.0[1] = (count as u32).to_be();
        block.0[2] = 1u32.to_be();
        for (cell, value) in block.0[3..].iter_mut().zip(arguments) {
            *cell = value.to_be();
        }
        // SAFETY: the entry point is firmware's (see `new`); every pointer in the block is below 4 GiB, where
        // firmware loaded this image, and stays valid during the call.
        let status = unsafe { trivet_call_be((&raw mut block).expose_provenance() as u64, self.entry) };
        // SAFETY: the block is alive; firmware wrote it behind the compiler's back.
        let answer = unsafe { (&raw const block.0[3 + count]).read_volatile() };
        if status as u32 == FAILED { Err(failed) } else { Ok(u32::from_be(answer)) }
    }
}

/// An address as firmware's 32-bit cells hold it; the image lies below 4 GiB.
fn low<T>(p: *const T) -> u32 {
    p.expose_provenance() as u32
}
