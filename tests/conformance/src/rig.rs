//! What a column must supply for the table to run on it.

use hv_core::addr::{Gpa, Order};
use hv_core::epoch::Cpu;
use hv_core::isa::{Isa, RadixFormat, VmTag};
use hv_core::machine::Machine;
use hv_core::mmu::{GuestMemory, MemoryConfig, Space};
use hv_core::radix::format::Pte;

use crate::probe::{Image, RAM_PAGES};
use crate::verdict::{Run, Stop};

/// One entry format, as data.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// For reports.
    pub name: &'static str,
    /// Index bits per level, leaf level first.
    pub bits: &'static [u8],
    /// [`RadixFormat::decode`].
    pub decode: fn(u64, u8) -> Pte,
    /// [`RadixFormat::encode`].
    pub encode: fn(Pte, u8) -> u64,
}

impl Codec {
    /// The codec of a format.
    #[must_use]
    pub const fn of<F: RadixFormat>(name: &'static str) -> Self {
        Self { name, bits: F::BITS, decode: F::decode, encode: F::encode }
    }
}

/// A column: the fake on the host, or a board. Cases run one after another; nothing else uses the machine.
pub trait Rig<I: Isa> {
    /// The machine.
    fn machine(&self) -> &I::Machine;
    /// The CPU that runs the cases.
    fn cpu(&self) -> &Cpu;
    /// The formats that this column uses.
    fn codecs(&self) -> &[Codec];
    /// The probe, or why there is none.
    fn probe(&self) -> Result<Image, &'static str>;
    /// The claim of a fault at `gpa` of the VM with this second stage. Where the guest chooses the size of translations, it
    /// has chosen `size` there, and may be refused it.
    fn claim(&self, stage2: &I::Stage2, gpa: Gpa, size: Order) -> I::Claim;
    /// Runs `there` on another CPU while `here` runs on this one; returns when both have. False, having run neither, if
    /// there is only one CPU.
    fn both(&self, there: &(dyn Fn(&Cpu) + Sync), here: &mut dyn FnMut(&Cpu)) -> bool;
    /// Runs `work`, which takes heap for the case itself: where a test refuses hv-core heap, this is not meant.
    fn own(&self, work: &mut dyn FnMut()) {
        work();
    }
    /// A checking machine looks at a VM that is at rest, on the CPU that runs the cases.
    fn at_rest(&self, space: &Space<I>);
    /// True if a checking machine has seen a rule broken since the last call; it reports the particulars itself.
    fn violated(&self) -> bool;
}

/// The tag of the case's first VM.
pub const FIRST: VmTag = VmTag(match core::num::NonZeroU16::new(1) {
    Some(n) => n,
    None => core::num::NonZeroU16::MIN,
});
/// The tag of its second.
pub const SECOND: VmTag = VmTag(match core::num::NonZeroU16::new(2) {
    Some(n) => n,
    None => core::num::NonZeroU16::MIN,
});

/// What each case is given.
pub struct Bench<'a, I: Isa> {
    /// The column.
    pub rig: &'a dyn Rig<I>,
    /// Its machine.
    pub m: &'a I::Machine,
    /// The CPU that runs the case.
    pub cpu: &'a Cpu,
}

impl<'a, I: Isa> Bench<'a, I> {
    /// A bench on `rig`.
    pub fn new(rig: &'a dyn Rig<I>) -> Self {
        Self { rig, m: rig.machine(), cpu: rig.cpu() }
    }

    /// Memory for a VM, [`RAM_PAGES`] of it.
    pub fn memory(&self, tag: VmTag) -> Result<GuestMemory<I>, Stop> {
        GuestMemory::new(self.cpu, self.m, tag, RAM_PAGES << 12).map_err(|_| Stop::Fail("no memory for a VM"))
    }

    /// Gives `with` the memory of a VM, and destroys it however that ends.
    pub fn with_memory(&self, with: impl FnOnce(&GuestMemory<I>) -> Run) -> Run {
        let memory = self.memory(FIRST)?;
        let run = with(&memory);
        self.rig.at_rest(memory.space());
        memory.destroy(self.cpu, self.m);
        run
    }

    /// Gives `with` memory laid out as `config` says, and destroys it however that ends.
    pub fn with_config(&self, config: MemoryConfig<I>, with: impl FnOnce(&GuestMemory<I>) -> Run) -> Run {
        let memory = GuestMemory::new(self.cpu, self.m, FIRST, config);
        let memory = memory.map_err(|_| Stop::Fail("no memory for a VM"))?;
        let run = with(&memory);
        self.rig.at_rest(memory.space());
        memory.destroy(self.cpu, self.m);
        run
    }

    /// What `make` makes of heap that the case has for itself; see [`Rig::own`].
    pub fn own<R>(&self, make: impl FnOnce() -> R) -> Result<R, Stop> {
        let (mut make, mut made) = (Some(make), None);
        self.rig.own(&mut || made = make.take().map(|make| make()));
        made.ok_or(Stop::Fail("the column did not run what is the case's own"))
    }

    /// Free frames.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.m.frames().counts().free
    }
}
