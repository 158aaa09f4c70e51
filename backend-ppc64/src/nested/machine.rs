//! The machine under a nested hypervisor: a PAPR partition whose platform offers nested HV (interface version 1).
//!
//! Trivet runs in real mode, so a frame's address is its number times the page size, and table cells are plain memory.
//!
//! Flushing. The platform drops a guest's cached translations whenever the guest is entered or left (QEMU), or when told
//! (`H_TLB_INVALIDATE`; elsewhere). A CPU that is inside the guest may therefore keep stale ones until it leaves
//! ([`crate::inside`]).
#![expect(unsafe_code, reason = "hypercalls")]

use alloc::vec::Vec;

use hv_core::addr::Pfn;
use hv_core::epoch::{Cpu, Domain};
use hv_core::guest::manifest::VmConfig;
use hv_core::isa::{Shape, VmTag};
use hv_core::machine::{CpuId, Instant, Interrupts, Machine};
use hv_core::mmu::flush::{FlushBatch, Flushed, Scope};
use hv_core::page::Frames;

use super::hcall::{
    H_CEDE, H_ENTER_NESTED, H_GET_CPU_CHARACTERISTICS, H_RANDOM, H_SET_PARTITION_TABLE, H_SUCCESS, H_TLB_INVALIDATE,
    hcall,
};
use super::irq::{self, Taken};
use super::rtas;
use crate::boot::inventory::{Inventory, RtasTokens};
use crate::inside::Inside;
use crate::papr::Characteristics;
use crate::papr::fdt::Table;
use crate::real::memory::{Memory, real_memory};
use crate::real::partitions::Partitions;
use crate::vcpu::layout::{HvGuestState, Registers};
use crate::vcpu::power::Host;
use crate::vcpu::sprs;

/// The machine.
#[derive(Debug)]
pub struct Nested {
    memory: Memory,
    inside: Inside,
    /// Interrupt server numbers by CPU.
    servers: Vec<u32>,
    partitions: Partitions,
    timebase_hz: u64,
    tokens: RtasTokens,
    /// The console's interrupt source.
    console_irq: Option<u32>,
    /// Calendar time in seconds, less the timebase's at that moment.
    calendar: u64,
}

/// The platform has no nested HV, or not enough memory for its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NestedError {
    /// `H_SET_PARTITION_TABLE` failed with this status.
    NoNestedHv(i64),
    /// No frame for the partition table.
    NoMemory,
}

impl core::fmt::Display for NestedError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoNestedHv(status) => {
                write!(f, "the platform offers no nested HV (status {status}; on QEMU: -M pseries,cap-nested-hv=on)")
            }
            Self::NoMemory => f.write_str("the machine has too little memory"),
        }
    }
}

impl Nested {
    /// Takes the machine over. Called once, by the boot CPU, in real mode.
    pub fn new(found: &Inventory, frames: Frames) -> Result<Self, NestedError> {
        let domain = Domain::new();
        // The boot CPU, which joins for good later.
        let cpu = domain.cpu(CpuId(0)).ok_or(NestedError::NoMemory)?;
        let partitions = Partitions::new(&frames, &cpu).ok_or(NestedError::NoMemory)?;
        domain.leave(cpu);
        // SAFETY: the table is a page of its own and stays.
        let (status, _) = unsafe { hcall(H_SET_PARTITION_TABLE, [partitions.register(), 0, 0, 0]) };
        if status != H_SUCCESS {
            return Err(NestedError::NoNestedHv(status));
        }
        let seconds = rtas::time_of_day(&found.rtas).unwrap_or(0);
        Ok(Self {
            memory: Memory { domain, frames },
            inside: Inside::new(),
            servers: found.cpus.clone(),
            partitions,
            timebase_hz: found.timebase_hz,
            tokens: found.rtas,
            console_irq: found.vty.and_then(|vty| vty.irq),
            calendar: seconds.saturating_sub(sprs::timebase() / found.timebase_hz),
        })
    }

    /// Tokens of the platform's firmware calls.
    pub fn tokens(&self) -> &RtasTokens {
        &self.tokens
    }

    /// The interrupt server number of a CPU.
    pub fn server(&self, cpu: CpuId) -> Option<u32> {
        self.servers.get(usize::from(cpu.0)).copied()
    }
}

/// Drops everything cached for a partition (RIC = 2, IS = 2).
fn invalidate(tag: VmTag) {
    // SAFETY: affects cached translations of the guest only.
    unsafe { hcall(H_TLB_INVALIDATE, [2 << 18 | 1 << 16, tag.0.get().into(), 2 << 10, 0]) };
}

impl Host for Nested {
    #[inline]
    fn enter(&self, cpu: &Cpu, tag: VmTag, hv: &mut HvGuestState, registers: &mut Registers) -> i64 {
        let (hv, registers) = ((&raw mut *hv).expose_provenance(), (&raw mut *registers).expose_provenance());
        self.inside.with(cpu, tag, || {
            // SAFETY: both blocks are exclusively borrowed, in real memory, of the layout that the interface defines. What
            // the guest changes beside them is guest memory and the registers of `sprs`, which the caller accounts for.
            unsafe { hcall(H_ENTER_NESTED, [hv as u64, registers as u64, 0, 0]) }.0
        })
    }

    /// The platform switches all of it.
    #[inline]
    fn load(&self, _: &HvGuestState) {}

    #[inline]
    fn put(&self, _: &mut HvGuestState) {}

    /// The platform knows which vCPU it enters where.
    #[inline]
    fn moved(&self, _: VmTag) {}

    fn set_partition(&self, tag: VmTag, entry: [u64; 2]) {
        self.partitions.set(tag, entry);
        invalidate(tag);
    }

    /// The platform gives radix guests only.
    fn prepare(&self, _: &Cpu, _: VmTag, _: &VmConfig) -> Option<Pfn> {
        None
    }

    fn table(&self, _: &Shape<'_>) -> Table {
        Table::Radix
    }

    fn characteristics(&self) -> Option<Characteristics> {
        // SAFETY: returns numbers.
        let (status, [character, behaviour, _]) = unsafe { hcall(H_GET_CPU_CHARACTERISTICS, [0; 4]) };
        (status == H_SUCCESS).then_some(Characteristics { character, behaviour })
    }
}

impl Machine for Nested {
    real_memory!();

    fn flush(&self, batch: FlushBatch) -> Flushed {
        if batch.scope() != Scope::Nothing {
            let tag = batch.tag();
            self.inside.wait(tag, self.servers.len(), || invalidate(tag), |cpu| self.kick(cpu));
        }
        batch.completed()
    }

    fn kick(&self, cpu: CpuId) {
        if let Some(server) = self.server(cpu) {
            irq::kick(server);
        }
    }

    fn interrupts(&self, cpu: &Cpu) -> Interrupts {
        let mut about = Interrupts::empty();
        let Some(server) = self.server(cpu.id()) else { return about };
        loop {
            match irq::take(server) {
                Taken::Nothing => return about,
                Taken::Kick => {}
                Taken::Device(source) if Some(source) == self.console_irq => about |= Interrupts::CONSOLE,
                Taken::Device(_) => {}
            }
        }
    }

    #[inline]
    fn now(&self) -> Instant {
        Instant(sprs::timebase())
    }

    fn ticks_per_second(&self) -> u64 {
        self.timebase_hz
    }

    fn wall_clock(&self) -> u64 {
        self.calendar.saturating_add(sprs::timebase() / self.timebase_hz)
    }

    fn random(&self) -> Option<u64> {
        // SAFETY: returns a number.
        let (status, [number, ..]) = unsafe { hcall(H_RANDOM, [0; 4]) };
        (status == H_SUCCESS).then_some(number)
    }

    fn idle(&self, _: &Cpu, until: Instant) {
        let ticks = until.0.saturating_sub(sprs::timebase());
        sprs::set_decrementer(i32::try_from(ticks).unwrap_or(i32::MAX));
        // SAFETY: the vectors taken inside return at once with interrupts off (boot::vectors).
        unsafe { hcall(H_CEDE, [0; 4]) };
    }
}
