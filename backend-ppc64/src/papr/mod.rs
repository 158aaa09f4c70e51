//! What a guest of the POWER backend finds instead of firmware: the PAPR personality.
//!
//! An unmodified Linux for pseries needs a device tree ([`fdt`]), run-time firmware (`rtas`), hypervisor calls
//! (`hcall`), and an interrupt controller ([`crate::irq::xics`]). All of it is logic over [`Services`]: no `unsafe`, no
//! knowledge of how the guest is entered, tested on the build machine against a double.
//!
//! How a vCPU uses it:
//! - an `sc 1` exit becomes [`Papr::hcall`]; the answer says what to do next and what has changed;
//! - before each entry, [`Papr::lpcr`] goes into the guest's LPCR, [`Papr::process_table`] into its partition table
//!   entry, and [`Papr::interrupt`] tells whether its external interrupt line is up;
//! - [`Papr::wanted`] tells whether a halted vCPU must run;
//! - [`Papr::dispatched`] and [`Papr::preempted`] bracket its time on a CPU, for the guest's own accounting.
//!
//! Everything a guest passes is hostile: every number is looked up, every address goes through [`Services`], which
//! reads it once (R26).

mod cpu;
pub mod fdt;
mod hcall;
mod mode;
mod presentation;
mod rtas;
pub(crate) mod status;
mod term;
mod vpa;

#[cfg(test)]
mod double;
#[cfg(test)]
mod fuzz;

use alloc::vec::Vec;
use core::array;
use core::fmt::{self, Write};

use hv_core::heap::list;
use hv_core::sync::{AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering};
use hv_core::vcpu::exit::Next;
use hv_core::vcpu::services::Services;

use crate::hash::calls::{Counts, EarlyCalls, TableCall};
use crate::irq::xics::{FIRST_SOURCE, Xics};

pub use cpu::Characteristics;
pub use rtas::blob::{RTAS_BLOB_SIZE, rtas_blob};

pub use crate::vcpu::msr::{EE as MSR_EE, LPCR_AIL, LPCR_ILE, PR as MSR_PR};

/// Unit address of the virtual terminal, which is its number in H_GET_TERM_CHAR and H_PUT_TERM_CHAR.
pub const VTY_UNIT: u32 = 0x7100_0000;
/// The virtual terminal's interrupt source.
pub const VTY_SOURCE: u32 = FIRST_SOURCE;
/// How many interrupt sources a VM has.
const SOURCES: u16 = 1;

/// One hypervisor call, as the vCPU that made it lends its registers.
#[derive(Debug)]
pub struct Call<'a> {
    /// The caller's number, which is also its interrupt server number and its hardware CPU number.
    pub vcpu: u16,
    /// General purpose registers. The call's number is in r3, its arguments from r4 on; the status comes back in r3,
    /// values from r4 on. No other register is touched.
    pub gpr: &'a mut [u64; 32],
    /// The guest's machine state register at the call. H_CEDE sets its EE bit.
    pub msr: &'a mut u64,
}

/// The personality's state for one VM. Shared by all of its vCPUs.
#[derive(Debug)]
pub struct Papr {
    xics: Xics,
    seats: Vec<Seat>,
    lpcr: AtomicU64,
    process_table: AtomicU64,
    /// Seconds that the guest's clock is ahead of [`Services::wall_clock`], modulo 2^64.
    clock_ahead: AtomicU64,
    unknown: AtomicU64,
    characteristics: Mutex<Option<Characteristics>>,
}

/// What the personality keeps for one vCPU.
#[derive(Debug)]
struct Seat {
    /// H_PROD came and has not been used up yet.
    prodded: AtomicBool,
    /// Odd while the vCPU is off every CPU; rises by one whenever that changes.
    dispatches: AtomicU32,
    areas: Mutex<vpa::Areas>,
    /// Calls on its table, by kind, in the order of [`EarlyCalls`]' fields.
    table_calls: [[AtomicU64; 4]; TableCall::ALL.len()],
}

impl Papr {
    /// Doubleword 1 of the partition table entry of a VM whose table is a hashed one.
    pub const NO_PROCESS_TABLE: u64 = mode::NEVER_A_PROCESS_TABLE;

    /// The state of a VM that has just been switched on, with `vcpus` virtual CPUs; `None` for 0, or if there is no heap for
    /// them.
    #[must_use]
    pub fn new(vcpus: u16) -> Option<Self> {
        if vcpus == 0 {
            return None;
        }
        let seat = |_| {
            let (prodded, dispatches) = (AtomicBool::new(false), AtomicU32::new(0));
            let table_calls = array::from_fn(|_| array::from_fn(|_| AtomicU64::new(0)));
            Some(Seat { prodded, dispatches, areas: Mutex::new(vpa::Areas::default()), table_calls })
        };
        Some(Self {
            xics: Xics::new(vcpus, SOURCES)?,
            seats: list(vcpus.into(), seat)?,
            lpcr: AtomicU64::new(0),
            process_table: AtomicU64::new(mode::NO_PROCESS_TABLE),
            clock_ahead: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            characteristics: Mutex::new(None),
        })
    }

    /// Carries out the hypervisor call whose number is in r3, and says what the vCPU does next.
    pub fn hcall<S: Services>(&self, call: Call<'_>, s: &S) -> Next {
        hcall::dispatch(self, call, s)
    }

    /// States which kind of table the guest has. Before its first vCPU starts.
    pub fn set_table(&self, table: fdt::Table) {
        let entry = match table {
            fdt::Table::Radix => mode::NO_PROCESS_TABLE,
            fdt::Table::Hashed { .. } => mode::NEVER_A_PROCESS_TABLE,
        };
        self.process_table.store(entry, Ordering::Release);
    }

    /// The bits of the guest's LPCR that it has chosen: [`LPCR_ILE`] and [`LPCR_AIL`]. They hold for the whole VM; when
    /// one vCPU changes them the others are woken, so that they enter again soon. One load.
    #[must_use]
    pub fn lpcr(&self) -> u64 {
        self.lpcr.load(Ordering::Relaxed)
    }

    /// Doubleword 1 of the VM's partition table entry as a number (memory wants it big-endian). When it changes,
    /// translations cached through the old one must go. One load.
    #[must_use]
    pub fn process_table(&self) -> u64 {
        self.process_table.load(Ordering::Acquire)
    }

    /// True if the vCPU's external interrupt line is up. One load; false for unknown vCPUs.
    #[must_use]
    pub fn interrupt(&self, vcpu: u16) -> bool {
        self.xics.pending(vcpu)
    }

    /// True if a halted vCPU must run: an interrupt or an H_PROD waits for it. Two loads; false for unknown vCPUs.
    #[must_use]
    pub fn wanted(&self, vcpu: u16) -> bool {
        self.xics.pending(vcpu) || self.seat(vcpu).is_some_and(|seat| seat.prodded.load(Ordering::Acquire))
    }

    /// The vCPU begins to run on a CPU: its virtual processor area says so.
    pub fn dispatched<S: Services>(&self, vcpu: u16, s: &S) {
        if let Some(seat) = self.seat(vcpu) {
            seat.dispatched(s);
        }
    }

    /// The vCPU no longer runs on a CPU, because it halted or because others wait.
    pub fn preempted<S: Services>(&self, vcpu: u16, s: &S) {
        if let Some(seat) = self.seat(vcpu) {
            seat.preempted(s);
        }
    }

    /// New input waits on the virtual terminal. Returns the vCPU to wake, if any.
    #[must_use]
    pub fn vty_input(&self) -> Option<u16> {
        self.xics.raise(VTY_SOURCE).ok().flatten()
    }

    /// States what the processor needs against speculative execution attacks, for H_GET_CPU_CHARACTERISTICS. Until it
    /// is stated that call is not there, and guests protect themselves as for an unknown machine.
    pub fn set_characteristics(&self, c: Characteristics) {
        *self.characteristics.lock() = Some(c);
    }

    /// How many calls with an unknown number have been made.
    #[must_use]
    pub fn unknown_calls(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// Counts a call that a vCPU has made on its hashed table.
    #[inline]
    pub fn count(&self, vcpu: u16, counts: &Counts) {
        let EarlyCalls { at_once, deferred, absent, finished } = counts.calls;
        let Some(cells) = self.seat(vcpu).and_then(|seat| seat.table_calls.get(counts.kind)) else { return };
        // One writer: the vCPU.
        let add = |cell: &AtomicU64, new: u32| {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(new.into()), Ordering::Relaxed);
        };
        let [in_real_mode, others @ ..] = cells;
        add(in_real_mode, at_once);
        if deferred | absent | finished != 0 {
            others.iter().zip([deferred, absent, finished]).for_each(|(cell, new)| add(cell, new));
        }
    }

    /// Writes of all vCPUs' calls on their hashed table, kind by kind.
    pub fn report_table_calls(&self, out: &mut dyn Write) -> fmt::Result {
        for (number, call) in TableCall::ALL.into_iter().enumerate() {
            let sum = |n: usize| {
                let cells = self.seats.iter().filter_map(|seat| seat.table_calls.get(number)?.get(n));
                cells.fold(0_u64, |sum, cell| sum.wrapping_add(cell.load(Ordering::Relaxed)))
            };
            let [at_once, deferred, absent, finished] = [0, 1, 2, 3].map(sum);
            if [at_once, deferred, absent, finished] != [0; 4] {
                let name = call.name();
                writeln!(
                    out,
                    "{name}: {at_once} at once, {deferred} deferred ({absent} for memory), {finished} finished"
                )?;
            }
        }
        Ok(())
    }

    #[inline]
    fn seat(&self, vcpu: u16) -> Option<&Seat> {
        self.seats.get(usize::from(vcpu))
    }

    /// The vCPU that a guest names by a register or a cell.
    fn named(&self, number: u64) -> Option<u16> {
        u16::try_from(number).ok().filter(|&n| self.seat(n).is_some())
    }
}
