//! A bare machine in hypervisor mode.
//!
//! Flushing. `tlbie` drops what every CPU has cached of a partition. In an emulator that gives each CPU a thread of its own
//! another CPU does so a little later, but before it has left its guest; so those inside are also kicked and waited for
//! ([`crate::inside`]).
//!
//! Kicks are directed hypervisor doorbells (`msgsnd`). One that comes while its CPU is in the hypervisor stays pending: it
//! ends `stop`, and the next run of a guest.
#![expect(unsafe_code, reason = "doorbells, sleep, random numbers")]

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::arch::asm;
use core::num::NonZeroU16;

use hv_core::addr::{Order, PAGE_SHIFT, Pfn};
use hv_core::epoch::{Cpu, Domain};
use hv_core::guest::manifest::{Backing, Granule, MAX_VMS, VmConfig};
use hv_core::isa::{Shape, VmTag};
use hv_core::machine::{CpuId, Instant, Interrupts, Machine};
use hv_core::mmu::flush::{FlushBatch, Flushed, Scope};
use hv_core::mmu::ready::Readiness;
use hv_core::page::Frames;
use hv_core::radix::format::TableRef;
use hv_core::sync::{AtomicU16, Mutex, Ordering, spin_loop};

use super::hashed::Rare;
use super::opal::Opal;
use super::stale::Stale;
use super::{enter, linear, tlb};
use crate::boot::inventory::Inventory;
use crate::hash::first_run::{self, Offset, Wants};
use crate::hash::rmo::{Rmo, rmls};
use crate::hash::{Config, Gone, HashStage2, Layout, Processor};
use crate::inside::Inside;
use crate::nested_host::children::{self, Limits};
use crate::papr::fdt::{Table, segment_page_sizes};
use crate::papr::{Characteristics, Papr};
use crate::radix::radix_root;
use crate::real::memory::{Memory, real_memory};
use crate::real::partitions::Partitions;
use crate::vcpu::layout::{HvGuestState, Registers};
use crate::vcpu::power::Host;
use crate::vcpu::sprs::{self, mtspr};

/// More than VMs can have tags.
const TAGS: usize = 256;
/// The word of a kernel's command line by which it gives up radix tables.
const NO_RADIX: &str = "disable_radix";

/// The machine.
#[derive(Debug)]
pub struct Bare {
    memory: Memory,
    inside: Inside,
    partitions: Partitions,
    /// The hardware's numbers of CPUs.
    threads: Vec<u32>,
    timebase_hz: u64,
    /// By tag: 0 for a VM with radix tables; else order of the hashed one in the low byte, of its pages above, and bit 15.
    hashed: [AtomicU16; TAGS],
    /// By tag: pages and vCPUs of a VM that may have guests.
    nests: Mutex<Vec<(VmTag, Limits)>>,
    /// Names in translation caches that guests of guests may have, one bit each.
    names: Mutex<[u64; TAGS / 64]>,
    /// Which processors these are: ISA 2.07 is POWER8.
    layout: Layout,
    /// What no instruction drops for all CPUs.
    stale: Stale,
    /// What guests with hashed tables rarely need.
    pub(super) rare: Rare,
    /// By tag: the frames that the VM's RAM is, in one run; see [`Host::prepare`].
    offsets: [Mutex<Option<Rmo>>; MAX_VMS + 1],
    /// By tag: who may run the VM, if its table is a hashed one.
    ready: [Arc<Readiness>; MAX_VMS + 1],
    /// Calendar time in seconds, less the timebase's at that moment.
    calendar: u64,
}

/// Why the machine could not be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BareError {
    /// Firmware would not have interrupts taken little-endian.
    BigEndian(i64),
    /// Not enough memory for tables.
    NoMemory,
}

impl core::fmt::Display for BareError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::BigEndian(status) => write!(f, "firmware keeps interrupts big-endian (status {status})"),
            Self::NoMemory => f.write_str("the machine has too little memory"),
        }
    }
}

impl Bare {
    /// Takes the machine over, and makes the boot CPU, which calls this once, fit to enter guests.
    pub fn new(found: &Inventory, frames: Frames, opal: &Opal, rare: Rare) -> Result<Self, BareError> {
        let layout = Layout::of(sprs::pvr());
        opal.little_endian(layout).map_err(BareError::BigEndian)?;
        let domain = Domain::new();
        // The boot CPU, which joins for good later.
        let cpu = domain.cpu(CpuId(0)).ok_or(BareError::NoMemory)?;
        let memory = Memory { domain, frames };
        let partitions = Partitions::new(&memory.frames, &cpu);
        let linear = linear(&memory, &cpu);
        memory.domain.leave(cpu);
        let (Some(partitions), Some(linear)) = (partitions, linear) else { return Err(BareError::NoMemory) };
        partitions.set_own(linear.partition_entry());
        let seconds = opal.time_of_day().unwrap_or(0);
        let machine = Self {
            memory,
            inside: Inside::new(),
            partitions,
            threads: found.cpus.clone(),
            timebase_hz: found.timebase_hz,
            hashed: [const { AtomicU16::new(0) }; TAGS],
            nests: Mutex::new(Vec::new()),
            names: Mutex::new(spare_names()),
            layout,
            stale: Stale::new(),
            rare,
            offsets: [const { Mutex::new(None) }; MAX_VMS + 1],
            ready: core::array::from_fn(|_| Readiness::new()),
            calendar: seconds.saturating_sub(sprs::timebase() / found.timebase_hz),
        };
        machine.arrive()?;
        Ok(machine)
    }

    /// Makes the calling CPU fit to enter guests. Once, as it comes up.
    pub fn arrive(&self) -> Result<(), BareError> {
        if enter::arrive(self.layout, self.partitions.register()) { Ok(()) } else { Err(BareError::NoMemory) }
    }

    /// States which kind of table the VM with this tag has when it is built next: a hashed one, or a tree.
    pub fn set_table(&self, tag: VmTag, table: Option<Config>) {
        let word =
            table.map_or(0, |config| 1 << 15 | u16::from(config.granule.get()) << 8 | u16::from(config.size.get()));
        if let Some(hashed) = self.hashed.get(usize::from(tag.0.get())) {
            hashed.store(word, Ordering::Relaxed);
        }
    }

    /// States whether the VM with this tag may have guests when it is built next.
    pub fn set_nest(&self, tag: VmTag, limits: Option<Limits>) {
        let mut nests = self.nests.lock();
        nests.retain(|(known, _)| *known != tag);
        // Without heap for this it is a VM that may have none.
        if let Some(limits) = limits
            && nests.try_reserve(1).is_ok()
        {
            nests.push((tag, limits));
        }
    }

    /// [`Host::enter`], part of whoever calls it.
    #[inline(always)]
    pub(super) fn enter_here(&self, cpu: &Cpu, tag: VmTag, hv: &mut HvGuestState, registers: &mut Registers) -> i64 {
        self.inside.with(cpu, tag, || {
            if self.layout == Layout::Isa207 && self.stale.entering(cpu, tag) {
                // In place of the partition table that hardware does not look at.
                enter::set_table_207(self.partitions.first(tag));
                tlb::drop_own_207();
            }
            enter::enter(hv, registers)
        })
    }

    fn drop_partition(&self, tag: VmTag) {
        match self.hashed(tag) {
            None => tlb::drop_partition(tag),
            Some(_) if self.layout == Layout::Isa207 => self.stale.changed(tag),
            Some(_) => tlb::drop_hashed(tag),
        }
    }

    /// Has every CPU forget what it has cached of the VM, and waits for those that are inside it.
    fn forget(&self, tag: VmTag) {
        let all = self.threads.len();
        match self.layout {
            Layout::Isa207 => {
                self.stale.changed(tag);
                self.inside.wait(tag, all, || {}, |cpu| self.kick(cpu));
            }
            Layout::Isa300 => self.inside.wait(tag, all, || self.drop_partition(tag), |cpu| self.kick(cpu)),
        }
    }

    /// What the first run of the VM makes ready.
    pub fn wants(&self, tag: VmTag, table: &HashStage2) -> Wants {
        match self.layout {
            // ISA 3.0 has no offset. QEMU's processors know no other pages in the virtual real mode area: LPCR[VRMASD] is
            // not theirs, and the partition table's page size is not looked at.
            Layout::Isa300 => Wants { offset: Offset::Never, rmo: None, page: Order::PAGE },
            Layout::Isa207 => {
                let rmo = self.offsets.get(usize::from(tag.0.get())).and_then(|rmo| *rmo.lock());
                Wants { offset: Offset::Perhaps, rmo, page: table.granule() }
            }
        }
    }

    /// Has the vCPU that is loaded on the calling CPU run with what its VM's first run made ready. Returns bits of LPCR.
    pub fn run_with(&self, registers: first_run::Registers) -> u64 {
        match self.layout {
            Layout::Isa300 => enter::LPCR_300,
            Layout::Isa207 => {
                enter::set_offset_207(registers.rmor);
                registers.lpcr
            }
        }
    }

    /// Frames for the RAM of a VM of POWER8, all zeros, if they can be had: for each of its lives the same.
    fn offset(&self, cpu: &Cpu, tag: VmTag, config: &VmConfig) -> Option<Pfn> {
        // What a guest stores with its translation off goes by no entry: nobody could tell which pages those are.
        let own = config.backing == Backing::Anon && config.granule == Granule::Page;
        let may = own && !config.dirty_log && rmls(config.memory).is_some();
        if self.layout == Layout::Isa300 || !may {
            return None;
        }
        let pages = config.memory >> PAGE_SHIFT;
        let order = Order::covering(pages)?;
        let mut rmo = self.offsets.get(usize::from(tag.0.get()))?.lock();
        if rmo.is_none() {
            *rmo = self.memory.frames.alloc(cpu, order).map(|frames| Rmo { first: frames.into_pfn(), pages });
        }
        let first = (*rmo)?.first;
        self.memory.zero(first, order);
        Some(first)
    }

    /// The hardware's number of a CPU.
    pub fn thread(&self, cpu: CpuId) -> Option<u32> {
        self.threads.get(usize::from(cpu.0)).copied()
    }
}

/// Makes the hypervisor's own tables.
fn linear(memory: &Memory, cpu: &Cpu) -> Option<linear::Frames> {
    let zeroed = |order| {
        let first = memory.frames.alloc(cpu, order)?.into_pfn();
        memory.zero(first, order);
        Some(first)
    };
    let tables =
        linear::Frames { root: zeroed(linear::ROOT)?, second: zeroed(Order::PAGE)?, processes: zeroed(Order::PAGE)? };
    let write = |table: Pfn, slot: usize, word: u64| memory.write(table, slot * 8, &word.to_be_bytes());
    write(tables.root, 0, tables.root_entry());
    write(tables.processes, 0, tables.process_entry());
    linear::Frames::second_entries().enumerate().for_each(|(slot, word)| write(tables.second, slot, word));
    Some(tables)
}

/// The hashed table of a VM with so many bytes of RAM in runs of this size, if its kernel gives up radix tables or there are
/// none.
fn hashed(layout: Layout, ram: u64, granule: Order, cmdline: &str) -> Option<Config> {
    let given_up = layout == Layout::Isa207 || cmdline.split_ascii_whitespace().any(|word| word == NO_RADIX);
    given_up.then(|| Config::for_ram(ram, granule))
}

impl Host for Bare {
    #[inline]
    fn enter(&self, cpu: &Cpu, tag: VmTag, hv: &mut HvGuestState, registers: &mut Registers) -> i64 {
        self.enter_here(cpu, tag, hv, registers)
    }

    fn load(&self, hv: &HvGuestState) {
        enter::load(hv);
    }

    fn put(&self, hv: &mut HvGuestState) {
        enter::put(hv);
    }

    fn moved(&self, tag: VmTag) {
        self.drop_partition(tag);
    }

    fn set_partition(&self, tag: VmTag, entry: [u64; 2]) {
        self.partitions.set(tag, entry);
        self.drop_partition(tag);
    }

    fn prepare(&self, cpu: &Cpu, tag: VmTag, config: &VmConfig) -> Option<Pfn> {
        self.set_table(tag, hashed(self.layout, config.memory, config.granule.order(), &config.cmdline));
        let limits = Limits { vcpus: config.vcpus, pages: config.memory >> PAGE_SHIFT };
        self.set_nest(tag, config.nested.then_some(limits));
        self.offset(cpu, tag, config)
    }

    fn table(&self, shape: &Shape<'_>) -> Table {
        let hashed = |Config { size, granule }| Table::Hashed {
            log2: PAGE_SHIFT + u32::from(size.get()),
            pages: segment_page_sizes(granule),
        };
        self::hashed(self.layout, shape.ram, shape.granule, shape.cmdline).map_or(Table::Radix, hashed)
    }

    fn characteristics(&self) -> Option<Characteristics> {
        None
    }
}

impl Processor for Bare {
    #[inline]
    fn layout(&self) -> Layout {
        self.layout
    }

    fn hashed(&self, tag: VmTag) -> Option<Config> {
        let [flag_granule, size] = self.hashed.get(usize::from(tag.0.get()))?.load(Ordering::Relaxed).to_be_bytes();
        let granule = flag_granule.checked_sub(1 << 7)?;
        Some(Config { size: Order::new(size)?, granule: Order::new(granule)? })
    }

    fn readiness(&self, tag: VmTag) -> Option<Arc<Readiness>> {
        self.ready.get(usize::from(tag.0.get())).map(Arc::clone)
    }

    #[inline(always)]
    fn flush_entries(&self, tag: VmTag, entries: &[Gone]) {
        tlb::drop_entries(tag, entries);
    }

    fn go_by(&self, tag: VmTag, entry: u64) {
        self.partitions.set(tag, [entry, Papr::NO_PROCESS_TABLE]);
        self.drop_partition(tag);
    }
}

impl children::Partitions for Bare {
    fn nest(&self, tag: VmTag) -> Option<Limits> {
        self.nests.lock().iter().find(|(known, _)| *known == tag).map(|(_, limits)| *limits)
    }

    fn take_name(&self) -> Option<VmTag> {
        let mut names = self.names.lock();
        let (at, word) = (0_u16..).step_by(64).zip(names.iter_mut()).find(|(_, word)| **word != 0)?;
        let bit = word.trailing_zeros() as u16;
        *word &= *word - 1;
        NonZeroU16::new(at + bit).map(VmTag)
    }

    fn give_name(&self, tag: VmTag) {
        let number = usize::from(tag.0.get());
        if let Some(word) = self.names.lock().get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }

    fn set_child(&self, tag: VmTag, entry: Option<(TableRef, u64)>) -> bool {
        let entry = match entry {
            Some((root, processes)) => radix_root(root).map(|root| [root, processes]),
            None => Some([0; 2]),
        };
        if let Some(entry) = entry {
            self.set_partition(tag, entry);
        }
        entry.is_some()
    }

    fn child_moved(&self, tag: VmTag) {
        self.moved(tag);
    }
}

/// All that no VM has.
const fn spare_names() -> [u64; TAGS / 64] {
    let mut names = [u64::MAX; TAGS / 64];
    names[0] = u64::MAX << (MAX_VMS + 1);
    names
}
const _: () = assert!(MAX_VMS < 63);

impl Machine for Bare {
    real_memory!();

    fn flush(&self, batch: FlushBatch) -> Flushed {
        if batch.scope() != Scope::Nothing {
            self.forget(batch.tag());
        }
        batch.completed()
    }

    fn kick(&self, cpu: CpuId) {
        let Some(thread) = self.thread(cpu) else { return };
        // Message type 5. The barrier orders what the kick is about before it (ISA 5.9.2).
        // SAFETY: raises an interrupt that is expected on every CPU that has arrived.
        unsafe { asm!("sync", ".long 0x7c00019c | 5 << 11", in("r5") 5 << 27 | u64::from(thread), options(nostack)) };
    }

    fn interrupts(&self, _: &Cpu) -> Interrupts {
        // Whatever a doorbell was about is looked for after this.
        // SAFETY: takes back an interrupt of the calling CPU; `msgsync`, which POWER8 neither has nor needs; barriers.
        unsafe {
            asm!(".long 0x7c0001dc | 5 << 11", in("r5") 5_u64 << 27, options(nostack));
            if self.layout == Layout::Isa300 {
                asm!(".long 0x7c0006ec", options(nostack));
            }
            asm!("lwsync", options(nostack));
        }
        Interrupts::empty()
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
        /// What `darn` returns if the generator fails.
        const NONE: u64 = u64::MAX;
        if self.layout == Layout::Isa207 {
            return None;
        }
        let number: u64;
        // SAFETY: reads the processor's generator: `darn 3,1`, a conditioned number.
        unsafe { asm!(".long 0x7c6105e6", out("r3") number, options(nomem, nostack)) };
        (number != NONE).then_some(number)
    }

    fn idle(&self, _: &Cpu, until: Instant) {
        /// The shallowest sleep, in which nothing is lost, and out of which execution goes on (PSSCR: RL = 0, EC = ESL = 0).
        const SHALLOW: u64 = 0x300;
        /// Looks at the clock of a CPU that cannot be stopped so, before whoever called looks for work again.
        const LOOKS: usize = 64;
        if self.layout == Layout::Isa207 {
            // `nap` would wake by a system reset: it is not worth a vector.
            for _ in 0..LOOKS {
                spin_loop();
            }
            return;
        }
        let ticks = until.0.saturating_sub(sprs::timebase());
        sprs::set_decrementer(i32::try_from(ticks).unwrap_or(i32::MAX));
        mtspr!(855, SHALLOW);
        // SAFETY: interrupts are off, so whatever comes only ends the sleep.
        unsafe { asm!("ptesync", "stop", options(nostack)) };
    }
}
