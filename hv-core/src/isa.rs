//! The seam, first half: what an instruction set must supply.
//!
//! Data flows one way: `enter` gives a raw exit record, `classify` names it, `resolve` and `map` (in `mmu/`) make a
//! translation if that was what was missing, `complete` hands the answer to the vCPU, and it is entered again.
//! Nothing calls backwards; to retry is to drop the value and enter again.
//!
//! Every trait here is a safe trait: its contract stands in its documentation, the checked arena of
//! `tests/backend-fake` tests it, and whatever `unsafe` it takes is in the backend's implementation.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::addr::{Gfn, GfnRange, Gpa, Order, Orders, Pfn};
use crate::epoch::{Cpu, WalkGuard};
use crate::guest::loader::{ByteOrder, Kernel, LoadError, Plan};
use crate::guest::manifest::VmConfig;
use crate::machine::{Instant, Machine};
use crate::mmu::GuestMemory;
use crate::mmu::census::Census;
use crate::mmu::flush::FlushBatch;
use crate::mmu::level::Limit;
use crate::mmu::lock::Mapping;
use crate::radix::format::{Leaf, Prot, Pte, Rc};
use crate::vcpu::exit::{Completion, Exit, Next};
use crate::vcpu::services::{Services, StartAt};

/// One instruction set: the bundle of types that hv-core is generic over.
pub trait Isa: Sized + 'static {
    /// Name as it appears in reports, e.g. `ppc64`.
    const NAME: &'static str;
    /// The physical machine: memory, CPUs, translation caches, clock.
    type Machine: Machine;
    /// The second-stage table. Where an ISA has several kinds this is an enum over them.
    type Stage2: Stage2<Self>;
    /// One virtual CPU.
    type Vcpu: Vcpu<Self>;
    /// What one VM owns beside memory and vCPUs: interrupt controller, firmware services, their state.
    type Platform: Platform<Self>;
    /// What a fault must still find true when its translation is published: nothing for a radix table, the HPTE's
    /// index and words for a hashed one (R4).
    type Claim: Copy + Send;
    /// A request of the guest that memory management knows nothing of: a hypercall, a trapped register.
    type Call;
    /// True if guests may choose the size of their translations ([`SizeRule::Exactly`]), so that memory may have to be there
    /// in runs of more than a page: [`crate::mmu::MemoryConfig::granule`]. Where it is false no VM's memory is.
    const GRANULES: bool = false;
}

/// A radix table's entry format: pure bit arithmetic, no memory, no effects (P4).
///
/// Geometry is data, so that model checkers run the shipped walker on tables of one or two bits a level.
pub trait RadixFormat: 'static {
    /// Index bits per level, leaf level first.
    const BITS: &'static [u8];
    /// Decodes one entry of a table at `level` (0 = leaf level). Total: every word means something (R1, R3).
    fn decode(raw: u64, level: u8) -> Pte;
    /// Encodes for a table at `level`. The result is the memory image: byte order is the format's business.
    fn encode(pte: Pte, level: u8) -> u64;
    /// The word of a leaf that allows stores, without that and without the marks `along`; `None` for any other word. To be
    /// overridden where it can be had without decoding.
    #[inline]
    fn protected(raw: u64, level: u8, along: Rc) -> Option<u64> {
        match Self::decode(raw, level) {
            Pte::Leaf(leaf) if leaf.prot.contains(Prot::WRITE) => {
                let (prot, rc) = (leaf.prot.difference(Prot::WRITE), leaf.rc.difference(along));
                Some(Self::encode(Pte::Leaf(Leaf { prot, rc, ..leaf }), level))
            }
            Pte::Leaf(_) | Pte::Hole | Pte::Table { .. } | Pte::Swapped(_) | Pte::Transition(_) => None,
        }
    }
}

/// What sizes a translation may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeRule {
    /// The hypervisor chooses among these, which the table has leaves for. 4 KiB is always one of them.
    AnyOf(Orders),
    /// The guest chose (hashed page table); anything else is refused.
    Exactly(Order),
}

/// Why a table would not take a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No frame for a table page, or none may be taken here. Returned by every kind of table; the caller may reclaim and
    /// try again.
    NoTable,
    /// The claim no longer holds, or another CPU is changing the entry: enter the guest again (R4).
    Retry,
    /// A table of smaller translations, empty or not, stands where a leaf of this order belongs. It has to be broken up
    /// first (R10); nothing has been changed.
    TableInWay(Order),
    /// A translation of this larger order, for the same frames, stands where a smaller one belongs that allows more. It has to
    /// be broken up first (R10); nothing has been changed.
    LeafInWay(Order),
    /// The guest chose a size that cannot be had there. Not an answer of a table, but of the level rule before it.
    Unfit(Limit),
}

/// How a table learns that a page was stored to. A property of the table, not of the VM: one VM may have tables of both kinds
/// (exhibit E4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirtyMethod {
    /// Hardware records nothing that could be relied on: a store is noticed because it faults.
    WriteProtect,
    /// Hardware sets reference and change bits in the entry by itself, and again after they were cleared and flushed.
    HardwareBits,
}

/// How far [`Stage2::unmap`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "tables that are left behind cost memory and stand in the way of large leaves"]
pub enum Unmapped {
    /// No translation is left, nor any table that held nothing else.
    All,
    /// No translation is left; empty tables are, because the batch has no room for more. Call again with another batch.
    TablesLeft,
}

/// A second-stage table: a cache derived from the host table, droppable at any time.
///
/// Called by `mmu/` only, and by many CPUs at once, hence `&self`. `cpu` is the caller's physical CPU.
pub trait Stage2<I: Isa>: Sized + Send + Sync {
    /// Makes an empty table for the VM with this tag; `None` if there is no memory for its root.
    fn create(cpu: &Cpu, m: &I::Machine, tag: VmTag) -> Option<Self>;
    /// Frees all of it. The caller guarantees that no CPU is in the VM nor enters it again.
    fn destroy(self, cpu: &Cpu, m: &I::Machine);
    /// How it learns of stores.
    fn dirty_method(&self) -> DirtyMethod;
    /// The sizes allowed for a translation that answers `claim`.
    fn size_rule(&self, claim: &I::Claim) -> SizeRule;
    /// Publishes a translation. Only `mmu::lock::Fresh` makes a [`Mapping`] (R6).
    ///
    /// An identical or weaker translation already there is strengthened or left; a translation to another frame is a
    /// bug in the caller, because its removal was never flushed (R10). On an error nothing has been changed. Takes frames
    /// with [`WalkGuard::cpu`] only: where that is `None`, to need one is `NoTable`.
    fn map(&self, g: &WalkGuard<'_>, m: &I::Machine, claim: I::Claim, x: Mapping) -> Result<(), MapError>;
    /// Publishes the translations of one page each that `at` gives for `gfns`, in order and until it gives none; `at` may be
    /// asked for a frame more than once. Returns the guest frame to go on from; an error only if it is about the first. For
    /// each of them all is as with [`Stage2::map`].
    fn map_run(
        &self,
        g: &WalkGuard<'_>,
        m: &I::Machine,
        claim: I::Claim,
        gfns: GfnRange,
        mut at: impl FnMut(Gfn) -> Option<Mapping>,
    ) -> Result<Gfn, MapError> {
        let mut gfn = gfns.start();
        while let Some(mapping) = Some(gfn).filter(|gfn| *gfn < gfns.end()).and_then(&mut at) {
            match self.map(g, m, claim, mapping) {
                Ok(()) => gfn = Gfn(gfn.0.saturating_add(1)),
                Err(error) if gfn == gfns.start() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(gfn)
    }
    /// Removes every translation of `r`, noting in `f` what must be flushed. Ends with no translation of any gfn in `r`,
    /// which may mean that a larger leaf is dropped whole. The caller keeps two of overlapping ranges apart.
    ///
    /// If the table's method is [`DirtyMethod::HardwareBits`], `changed` is told of each leaf that went with its change bit
    /// set; nobody may rely on that before the flush (R14).
    fn unmap(
        &self,
        cpu: &Cpu,
        m: &I::Machine,
        r: GfnRange,
        f: &mut FlushBatch,
        changed: Option<&mut dyn FnMut(Gfn, Order)>,
    ) -> Unmapped;
    /// Removes write permission in `r`.
    fn protect(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, f: &mut FlushBatch);
    /// Clears change bits in `r`, and tells `changed` of each leaf that had its set. Final after the flush only (R14).
    fn collect(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, f: &mut FlushBatch, changed: &mut dyn FnMut(Gfn, Order));
    /// Tells `noted` which pages of `r` were used since the last call, as the leaves that translate them (first guest frame,
    /// size; a leaf may reach beyond `r`), and makes their next use noticeable. Where hardware sets reference bits they are
    /// cleared; elsewhere the translation is removed: one that exists was asked for. Called by [`crate::mmu::age`] only, in
    /// a bracket over the leaves (R15).
    fn age(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, f: &mut FlushBatch, noted: &mut dyn FnMut(Gfn, Order));
    /// How many frames the table itself holds.
    fn table_frames(&self) -> u64;
    /// Counts the translations of `r` by size. For statistics; what changes meanwhile may or may not count.
    fn census(&self, cpu: &Cpu, m: &I::Machine, r: GfnRange, into: &mut Census);
    /// The translation of `gfn` if there is one. For inspection and tests; the answer may be stale at once.
    fn lookup(&self, cpu: &Cpu, m: &I::Machine, gfn: Gfn) -> Pte;
}

/// Names a VM in translation caches (LPID, VMID, VPID). Never 0, never shared by two live VMs.
///
/// There are as many as VMs in the manifest, so none is ever in want, and no generation counts how often they were given out
/// (exhibit F9: one that is reset makes an old vCPU's tag look current). A tag is used again by the next life of the same VM
/// only, and that is not built before the last one's [`crate::mmu::ready::Drained`] is gone: no vCPU inside, and everything
/// that any CPU had cached under the tag flushed ([`crate::mmu::Space::destroy`]). A backend that keeps tags of its own
/// behind this one (ASIDs by CPU) has to keep the same promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmTag(pub core::num::NonZeroU16);

/// One virtual CPU.
pub trait Vcpu<I: Isa>: Sized + Send {
    /// The exit record exactly as hardware gave it.
    type Raw;
    /// Makes vCPU number `index` of a VM, stopped; [`Vcpu::reset`] sets where it begins.
    fn create(m: &I::Machine, tag: VmTag, index: u16) -> Option<Self>;
    /// Puts every register to its architected reset value and sets the entry state.
    fn reset(&mut self, at: StartAt);
    /// Brings state that exits leave loaded (floating point, timers, ...) onto this CPU.
    fn load(&mut self, cpu: &Cpu, m: &I::Machine);
    /// Saves what [`Vcpu::load`] brought. After it the vCPU may be loaded on another CPU.
    fn put(&mut self, cpu: &Cpu, m: &I::Machine);
    /// Runs the guest until it exits, at `until` at the latest. The vCPU is loaded on `cpu`. It is given all of the VM's
    /// memory, because a guest that fills its second stage itself has its calls answered without leaving this function.
    fn enter(
        &mut self,
        cpu: &Cpu,
        m: &I::Machine,
        memory: &GuestMemory<I>,
        p: &I::Platform,
        until: Instant,
    ) -> Self::Raw;
    /// Names an exit. Pure, so that it is tested from recorded exits.
    fn classify(&self, raw: &Self::Raw) -> Exit<I>;
    /// Carries out a request of the guest. `s` is all it may use of the hypervisor.
    fn call<S: Services>(&mut self, call: I::Call, p: &I::Platform, s: &S) -> Next;
    /// Tells the guest how its exit ended.
    fn complete(&mut self, done: Completion);
    /// When this vCPU's own timer next wants it to run; `None` if it is off. Valid while it is not loaded.
    fn timer(&self) -> Option<Instant>;
    /// True if an interrupt waits for this vCPU, so that a halted one must run.
    fn pending(&self, p: &I::Platform) -> bool;
}

/// What a VM is made of, as its platform must describe it to the guest.
#[derive(Clone, Debug)]
pub struct Shape<'a> {
    /// The VM's name.
    pub name: &'a str,
    /// Virtual CPUs.
    pub vcpus: u16,
    /// RAM in bytes, from guest physical address 0 and around the platform's [`Platform::HOLE`].
    pub ram: u64,
    /// The size in which RAM comes and goes.
    pub granule: Order,
    /// Where the window onto memory shared with other VMs lies, if it has one.
    pub shared: Option<Range<Gpa>>,
    /// The kernel's file: some kernels want a part of it handed to them.
    pub kernel: &'a [u8],
    /// The kernel's first instruction.
    pub entry: Gpa,
    /// The kernel's byte order.
    pub order: ByteOrder,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// Where images were placed.
    pub plan: Plan,
}

/// What the platform adds to a guest's memory, and how its first vCPU begins.
#[derive(Debug)]
pub struct Firmware {
    /// The description of the machine; goes to `plan.tree` and fits there.
    pub tree: Vec<u8>,
    /// Code that stays; goes to `plan.firmware` and fits there.
    pub code: Vec<u8>,
    /// Where vCPU 0 begins.
    pub start: StartAt,
}

/// What one VM owns beside memory and vCPUs. All its vCPUs share it.
pub trait Platform<I: Isa>: Sized + Send + Sync {
    /// ELF `e_machine` of the kernels that run.
    const ELF_MACHINE: u16;
    /// Images and firmware are placed below this guest physical address.
    const CEILING: u64;
    /// Where the guest has devices in place of RAM, which goes on behind it. Nowhere below [`Platform::CEILING`].
    const HOLE: Option<GfnRange> = None;
    /// Room for [`Firmware::tree`] in bytes.
    const TREE_ROOM: u64;
    /// Room for [`Firmware::code`] in bytes.
    const CODE_ROOM: u64;
    /// Checks a kernel, whose file comes from outside: an ELF file, unless the instruction set has kernels of other forms.
    fn kernel(file: &[u8]) -> Result<Kernel<'_>, LoadError> {
        Kernel::parse(file, Self::ELF_MACHINE)
    }
    /// The VM with this tag is about to be built: tells the machine what its tables must be made for, where that is not the
    /// same for all. Returns the first of the frames that its RAM is to be, all zeros, where hardware wants these and no others:
    /// the machine keeps them.
    fn prepare(_: &Cpu, _: &I::Machine, _: VmTag, _: &VmConfig) -> Option<Pfn> {
        None
    }
    /// Makes it for a VM with `vcpus` virtual CPUs; `None` if there is no memory for it.
    fn create(m: &I::Machine, vcpus: u16) -> Option<Self>;
    /// Builds what the guest finds in place of firmware; `None` if it does not fit its room.
    fn firmware(&self, m: &I::Machine, shape: &Shape<'_>) -> Option<Firmware>;
    /// Requests that it did not know, for statistics.
    fn unknown_calls(&self) -> u64;
    /// Writes what there is to tell of the VM beside what every VM has, in lines: of requests, say, that vCPUs answer inside
    /// [`Vcpu::enter`]. For statistics.
    fn report(&self, _: &GuestMemory<I>, _: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
    /// New input waits on the VM's console. Returns the vCPUs to wake.
    fn console_input(&self) -> impl IntoIterator<Item = u16>;
    /// The vCPU comes to a physical CPU. The guest may be told.
    fn dispatched<S: Services>(&self, vcpu: u16, s: &S);
    /// The vCPU leaves its physical CPU.
    fn preempted<S: Services>(&self, vcpu: u16, s: &S);
}
