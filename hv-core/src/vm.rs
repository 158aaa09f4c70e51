//! One virtual machine: what the manifest says of it, and what it owns while it runs.
//!
//! [`Running`] exists from start to end of a VM's life and is shared by its vCPUs. Nothing of it is freed before every
//! vCPU has left it for good (R20): a vCPU that has been started and has not left holds a [`Permit`] of the VM's
//! [`Readiness`], and the one that leaves last after the end was announced takes it apart.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::addr::Pfn;
use crate::epoch::Cpu;
use crate::guest::lifecycle::{EndStep, Life};
use crate::guest::manifest::{Huge, VmConfig};
use crate::heap::{self, Counted};
use crate::host::{Backing, HugePolicy};
use crate::hypervisor::Uses;
use crate::isa::{Isa, Platform, Vcpu, VmTag};
use crate::log::info;
use crate::mmu::ready::{Drained, Permit, Readiness, State};
use crate::mmu::{GfnCache, GuestMemory, MemoryConfig, Window};
use crate::page::Store;
use crate::page::tmpfs::Tmpfs;
use crate::radix::format::Prot;
use crate::sched::{Entity, Task};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// A VM of the manifest.
pub struct Vm<I: Isa> {
    /// What the manifest says.
    pub config: VmConfig,
    /// Where it is in its life. The lock is a leaf: nothing is locked while it is held.
    pub life: Mutex<Life>,
    /// Whether it may be run.
    pub ready: Arc<Readiness>,
    /// What it owns while it runs. The lock is held only to clone or take the handle.
    pub running: Mutex<Option<Counted<Running<I>>>>,
    /// The guest's last words about its own failure.
    pub last_words: Mutex<heapless::String<160>>,
}

impl<I: Isa> Vm<I> {
    /// A VM that has not been started.
    pub fn new(config: VmConfig) -> Self {
        Self {
            life: Mutex::new(Life::with(config.out_of_memory)),
            config,
            ready: Readiness::new(),
            running: Mutex::new(None),
            last_words: Mutex::new(heapless::String::new()),
        }
    }

    /// Ends it as `how` says. Life and readiness change together, or a drain that was meant for one round could meet the
    /// next. `None` if it had ended before; otherwise the caller makes its vCPUs leave, and takes apart what it is given.
    pub fn end<E>(&self, how: impl FnOnce(&mut Life) -> Result<EndStep, E>) -> Result<Option<Ending>, E> {
        let mut life = self.life.lock();
        Ok(match how(&mut life)? {
            EndStep::Drain => Some(Ending(self.ready.drain())),
            EndStep::AlreadyEnding => None,
        })
    }

    /// What it owns, if it runs.
    pub fn running(&self) -> Option<Counted<Running<I>>> {
        self.running.lock().clone()
    }
}

/// A VM has been told to end; nobody was inside any more if there is something in it.
#[must_use = "its vCPUs are to be made to leave"]
pub struct Ending(pub Option<Drained>);

/// What a VM owns while it runs.
pub struct Running<I: Isa> {
    /// Its place in the manifest.
    pub index: usize,
    /// Its memory.
    pub memory: GuestMemory<I>,
    /// The objects that its memory is made of.
    pub uses: Uses<I>,
    /// Its platform.
    pub platform: I::Platform,
    /// Its vCPUs.
    pub vcpus: Vec<VcpuCell<I>>,
    /// Who may run it: the same as [`Vm::ready`].
    pub ready: Arc<Readiness>,
}

/// The machine has no memory for what was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl<I: Isa> Running<I> {
    /// Builds an empty VM: memory that reads as zero, or as the objects that it shares, and stopped vCPUs. Without memory
    /// for it nothing is left of it, and the use of its objects comes back.
    pub fn build(
        cpu: &Cpu,
        m: &I::Machine,
        index: usize,
        tag: VmTag,
        vm: &Vm<I>,
        uses: Uses<I>,
        store: &Arc<dyn Store<I::Machine>>,
    ) -> Result<Self, (NoMemory, Uses<I>)> {
        let config = &vm.config;
        let fixed = I::Platform::prepare(cpu, m, tag, config);
        if let Some(first) = fixed {
            info!("VM {} has its RAM in one piece, from frame {=u64:#x}", index, first.0);
        }
        let memory =
            memory_of(config, &uses, store, fixed).and_then(|memory| GuestMemory::new(cpu, m, tag, memory).ok());
        let Some(memory) = memory else { return Err((NoMemory, uses)) };
        let parts = || {
            if config.dirty_log {
                memory.log_start(cpu, m).ok()?;
            }
            let platform = I::Platform::create(m, config.vcpus)?;
            let vcpu = |n| I::Vcpu::create(m, tag, u16::try_from(n).ok()?).map(VcpuCell::new);
            Some((platform, heap::list(config.vcpus.into(), vcpu)?))
        };
        let Some((platform, vcpus)) = parts() else {
            memory.destroy(cpu, m);
            return Err((NoMemory, uses));
        };
        Ok(Self { index, memory, uses, platform, vcpus, ready: Arc::clone(&vm.ready) })
    }

    /// Every vCPU is to leave.
    pub fn is_ending(&self) -> bool {
        self.ready.state() == State::Draining
    }
}

/// The memory that the manifest asks for; `None` if its addresses cannot be had.
fn memory_of<I: Isa>(
    config: &VmConfig,
    uses: &Uses<I>,
    store: &Arc<dyn Store<I::Machine>>,
    fixed: Option<Pfn>,
) -> Option<MemoryConfig<I>> {
    let huge = match config.huge {
        Huge::Always => HugePolicy::Always,
        Huge::Advise => HugePolicy::Advise,
        Huge::Never => HugePolicy::Never,
    };
    let of = |object: &Counted<Tmpfs<I>>| Backing::Shared { object: Counted::clone(object), first: 0 };
    let mut memory = MemoryConfig::from(config.memory);
    memory.hole = I::Platform::HOLE;
    memory.huge = huge;
    memory.granule = config.granule.order();
    let own = fixed.map_or(Backing::Anon, |first| Backing::Fixed { first });
    memory.backing = uses.ram.as_ref().map_or(own, of);
    if let (Some(object), Some(gfns)) = (&uses.window, config.shared_window(I::Platform::HOLE)) {
        let window = Window { gfns, shift: 0, prot: Prot::all(), backing: of(object), huge };
        memory.windows.push(window).ok()?;
    }
    if config.swap {
        memory = memory.swap(Arc::clone(store));
    }
    Some(memory)
}

/// One vCPU with its scheduling state and its counters.
pub struct VcpuCell<I: Isa> {
    /// Held by the physical CPU that runs it for as long as it does, and by whoever starts it.
    pub vcpu: Mutex<I::Vcpu>,
    /// Its scheduling state.
    pub entity: Entity,
    /// What it has done.
    pub counts: Counts,
    /// Its right to run, from its start until it leaves. Held only to put or take.
    permit: Mutex<Option<Permit>>,
    /// The page that the hypervisor uses at each of its comings and goings. A leaf lock, held while the page is touched.
    kept: Mutex<Option<GfnCache<I>>>,
}

impl<I: Isa> VcpuCell<I> {
    fn new(vcpu: I::Vcpu) -> Self {
        Self {
            vcpu: Mutex::new(vcpu),
            entity: Entity::default(),
            counts: Counts::default(),
            permit: Mutex::new(None),
            kept: Mutex::new(None),
        }
    }

    /// Keeps another page in mind, or none.
    pub fn keep(&self, page: Option<GfnCache<I>>) {
        let before = core::mem::replace(&mut *self.kept.lock(), page);
        // Unlisted with no lock held.
        drop(before);
    }

    /// Whether `touch` could do with the page that is kept in mind, if there is one.
    #[inline]
    pub fn with_kept(&self, touch: impl FnOnce(&GfnCache<I>) -> bool) -> bool {
        self.kept.lock().as_ref().is_some_and(touch)
    }

    /// Gives the vCPU the right to run, before it is started.
    pub fn admit(&self, permit: Permit) {
        let before = self.permit.lock().replace(permit);
        debug_assert!(before.is_none(), "a vCPU was started twice");
    }

    /// Takes the right back, while the vCPU does not count as stopped: from then on another CPU may start it anew.
    pub fn dismiss(&self) -> Option<Permit> {
        self.permit.lock().take()
    }
}

/// Counters of one vCPU. Written by the CPU that runs it, read by anybody.
#[derive(Debug, Default)]
pub struct Counts {
    /// Second-stage faults.
    pub faults: Count,
    /// Requests to the personality.
    pub calls: Count,
    /// Physical interrupts.
    pub interrupts: Count,
    /// Ends of time slices and timers.
    pub deadlines: Count,
    /// How often it went to sleep.
    pub halts: Count,
    /// Ticks spent on a CPU.
    pub ticks: Count,
}

/// A counter with one writer at a time: no read-modify-write is needed.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `n`. Called by the CPU that runs the vCPU.
    pub fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A handle on one vCPU, as the scheduler passes it around.
pub struct Job<I: Isa> {
    /// The VM.
    pub vm: Counted<Running<I>>,
    /// The vCPU's number, which [`Job::new`] has checked.
    index: u16,
}

impl<I: Isa> Job<I> {
    /// vCPU `index` of `vm`, if there is one.
    pub fn new(vm: &Counted<Running<I>>, index: u16) -> Option<Self> {
        vm.vcpus.get(usize::from(index))?;
        Some(Self { vm: Counted::clone(vm), index })
    }

    /// The vCPU's number.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The vCPU.
    #[inline]
    #[expect(
        clippy::indexing_slicing,
        reason = "`new` is the only constructor and checks the index; vcpus never shrinks"
    )]
    pub fn cell(&self) -> &VcpuCell<I> {
        &self.vm.vcpus[usize::from(self.index)]
    }
}

impl<I: Isa> Clone for Job<I> {
    fn clone(&self) -> Self {
        Self { vm: Counted::clone(&self.vm), index: self.index }
    }
}

impl<I: Isa> Task for Job<I> {
    fn entity(&self) -> &Entity {
        &self.cell().entity
    }
}
