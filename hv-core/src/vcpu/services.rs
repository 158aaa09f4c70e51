//! All that a guest's personality (hypercalls, firmware calls) may use of the hypervisor.
//!
//! A trait, so that a personality is tested on the host against a double; `vcpu::run` implements it over the real
//! VM. Every argument may come from a hostile guest: nothing here panics, whatever it is given (R26).

use crate::addr::Gpa;
use crate::machine::Instant;

/// Guest memory could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemError {
    /// Some byte lies outside every memslot. Nothing of a write has been stored.
    BadAddress,
    /// The machine has no frame left for the page.
    NoMemory,
}

/// The state in which a vCPU begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartAt {
    /// The first instruction's guest real address.
    pub entry: Gpa,
    /// The argument registers' values, in the ISA's order of arguments.
    pub args: [u64; 4],
    /// The first instruction is big-endian (only where an ISA knows both).
    pub big_endian: bool,
}

/// What a vCPU is doing, as other vCPUs may learn it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuState {
    /// Waits to be started.
    Stopped,
    /// Has been started (running, ready or halted).
    Started,
}

/// Why a vCPU was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The VM has no such vCPU.
    NoSuchVcpu,
    /// It has been started already.
    NotStopped,
}

/// Services to a personality, for the vCPU that is calling.
pub trait Services {
    /// Reads guest memory; the guest may be writing it, so read each value once.
    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), MemError>;
    /// Writes guest memory, through the dirty log like any other writer (R16).
    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), MemError>;
    /// The page at `at` is one that is read and written each time `vcpu` comes to a CPU or leaves it: its frame may be kept
    /// in mind. One page a vCPU; `None`: no longer. Changes nothing but the time that accesses take.
    fn keep(&self, vcpu: u16, at: Option<Gpa>);
    /// Sends bytes to the VM's console.
    fn console_write(&self, bytes: &[u8]);
    /// Takes typed bytes; returns how many were put into `into`.
    fn console_read(&self, into: &mut [u8]) -> usize;
    /// The machine's clock.
    fn now(&self) -> Instant;
    /// Ticks of [`Services::now`] in a second.
    fn ticks_per_second(&self) -> u64;
    /// Seconds since 1970-01-01 00:00 UTC.
    fn wall_clock(&self) -> u64;
    /// A random number, `None` if the machine has no source.
    fn random(&self) -> Option<u64>;
    /// How many vCPUs the VM has.
    fn vcpus(&self) -> u16;
    /// What another vCPU is doing; `None` if there is no such vCPU.
    fn vcpu_state(&self, vcpu: u16) -> Option<VcpuState>;
    /// Starts a stopped vCPU.
    fn start_vcpu(&self, vcpu: u16, at: StartAt) -> Result<(), StartError>;
    /// Makes a vCPU look at its pending interrupts: wakes it if halted, kicks it if running. Unknown numbers do nothing.
    fn wake(&self, vcpu: u16);
    /// Keeps a line of the guest's last words for the operator (`ibm,os-term` and the like).
    fn last_words(&self, text: &[u8]);
}
