//! A stand-in for the hypervisor, for the tests of what guests find instead of firmware: flat memory, a console, a clock
//! that is set.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hv_core::addr::Gpa;
use hv_core::machine::Instant;
use hv_core::vcpu::services::{MemError, Services, StartAt, StartError, VcpuState};

/// Bytes of guest memory.
pub const MEMORY: usize = 0x10000;

/// The hypervisor's side of a test.
#[derive(Debug)]
pub struct Double {
    vcpus: u16,
    memory: RefCell<Vec<u8>>,
    printed: RefCell<Vec<u8>>,
    typed: RefCell<VecDeque<u8>>,
    started: RefCell<BTreeSet<u16>>,
    starts: RefCell<Vec<(u16, StartAt)>>,
    woken: RefCell<BTreeSet<u16>>,
    last_words: RefCell<Vec<u8>>,
    kept: RefCell<BTreeMap<u16, Gpa>>,
    now: Cell<u64>,
    wall_clock: Cell<u64>,
    random: Cell<Option<u64>>,
    short: Cell<bool>,
}

impl Double {
    /// A VM of which only vCPU 0 runs.
    pub fn new(vcpus: u16) -> Self {
        Self {
            vcpus,
            memory: RefCell::new(std::vec![0; MEMORY]),
            printed: RefCell::default(),
            typed: RefCell::default(),
            started: RefCell::new(BTreeSet::from([0])),
            starts: RefCell::default(),
            woken: RefCell::default(),
            last_words: RefCell::default(),
            kept: RefCell::default(),
            now: Cell::new(0),
            wall_clock: Cell::new(0),
            random: Cell::new(None),
            short: Cell::new(false),
        }
    }

    /// The page that is kept in mind for a vCPU.
    pub fn kept(&self, vcpu: u16) -> Option<Gpa> {
        self.kept.borrow().get(&vcpu).copied()
    }

    /// Sets the clock, in ticks.
    pub fn set_now(&self, ticks: u64) {
        self.now.set(ticks);
    }

    /// Sets the calendar clock, in seconds.
    pub fn set_wall_clock(&self, seconds: u64) {
        self.wall_clock.set(seconds);
    }

    /// What the source of random numbers answers from now on.
    pub fn set_random(&self, number: Option<u64>) {
        self.random.set(number);
    }

    /// Whether the machine has no frame for a page that is written.
    pub fn set_short(&self, short: bool) {
        self.short.set(short);
    }

    /// Types at the console.
    pub fn type_in(&self, text: &[u8]) {
        self.typed.borrow_mut().extend(text);
    }

    /// How much of what was typed nobody has read.
    pub fn untyped(&self) -> usize {
        self.typed.borrow().len()
    }

    /// All that the guest has printed.
    pub fn printed(&self) -> Vec<u8> {
        self.printed.borrow().clone()
    }

    /// All last words.
    pub fn last_words_said(&self) -> Vec<u8> {
        self.last_words.borrow().clone()
    }

    /// Makes a vCPU one that runs.
    pub fn start(&self, vcpu: u16) {
        self.started.borrow_mut().insert(vcpu);
    }

    /// Every start so far.
    pub fn starts(&self) -> Vec<(u16, StartAt)> {
        self.starts.borrow().clone()
    }

    /// Whether a vCPU has been woken since the last [`Double::sleep`].
    pub fn woken(&self, vcpu: u16) -> bool {
        self.woken.borrow().contains(&vcpu)
    }

    /// Forgets who has been woken.
    pub fn sleep(&self) {
        self.woken.borrow_mut().clear();
    }

    /// Writes guest memory.
    pub fn poke(&self, at: u64, bytes: &[u8]) {
        self.write(Gpa(at), bytes).unwrap();
    }

    /// Reads guest memory.
    pub fn peek<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.read(Gpa(at), &mut bytes).unwrap();
        bytes
    }
}

fn range(at: Gpa, len: usize) -> Result<core::ops::Range<usize>, MemError> {
    let start = usize::try_from(at.0).map_err(|_| MemError::BadAddress)?;
    let end = start.checked_add(len).filter(|&e| e <= MEMORY).ok_or(MemError::BadAddress)?;
    Ok(start..end)
}

impl Services for Double {
    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), MemError> {
        into.copy_from_slice(&self.memory.borrow()[range(at, into.len())?]);
        Ok(())
    }

    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), MemError> {
        let range = range(at, from.len())?;
        if self.short.get() {
            return Err(MemError::NoMemory);
        }
        self.memory.borrow_mut()[range].copy_from_slice(from);
        Ok(())
    }

    fn keep(&self, vcpu: u16, at: Option<Gpa>) {
        let mut kept = self.kept.borrow_mut();
        match at {
            Some(at) => kept.insert(vcpu, at),
            None => kept.remove(&vcpu),
        };
    }

    fn console_write(&self, bytes: &[u8]) {
        self.printed.borrow_mut().extend_from_slice(bytes);
    }

    fn console_read(&self, into: &mut [u8]) -> usize {
        let mut typed = self.typed.borrow_mut();
        let count = into.len().min(typed.len());
        for (slot, byte) in into.iter_mut().zip(typed.drain(..count)) {
            *slot = byte;
        }
        count
    }

    fn now(&self) -> Instant {
        Instant(self.now.get())
    }

    fn ticks_per_second(&self) -> u64 {
        512_000_000
    }

    fn wall_clock(&self) -> u64 {
        self.wall_clock.get()
    }

    fn random(&self) -> Option<u64> {
        self.random.get()
    }

    fn vcpus(&self) -> u16 {
        self.vcpus
    }

    fn vcpu_state(&self, vcpu: u16) -> Option<VcpuState> {
        let started = self.started.borrow().contains(&vcpu);
        (vcpu < self.vcpus).then_some(if started { VcpuState::Started } else { VcpuState::Stopped })
    }

    fn start_vcpu(&self, vcpu: u16, at: StartAt) -> Result<(), StartError> {
        if vcpu >= self.vcpus {
            return Err(StartError::NoSuchVcpu);
        }
        if !self.started.borrow_mut().insert(vcpu) {
            return Err(StartError::NotStopped);
        }
        self.starts.borrow_mut().push((vcpu, at));
        Ok(())
    }

    fn wake(&self, vcpu: u16) {
        self.woken.borrow_mut().insert(vcpu);
    }

    fn last_words(&self, text: &[u8]) {
        self.last_words.borrow_mut().extend_from_slice(text);
    }
}
