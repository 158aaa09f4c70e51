//! Cases beside the table's: what the hypervisor builds a VM of, and takes apart again. No column's guest sees any of it, so
//! it is none of conformance's.

use std::sync::Arc;

use conformance::cases::Case;
use conformance::rig::{Bench, FIRST, SECOND};
use conformance::verdict::{Run, Stop, check};
use hv_core::addr::{Gfn, Gpa};
use hv_core::guest::manifest::{Backing, Granule, Huge, OutOfMemory, Shared, VmConfig};
use hv_core::heap::Counted;
use hv_core::hypervisor::Objects;
use hv_core::isa::{Isa, VmTag};
use hv_core::mmu::GfnCache;
use hv_core::page::{Packed, Store};
use hv_core::vm::{Job, NoMemory, Running, Vm};

/// Memory of each VM, in bytes.
const MEMORY: u64 = 8 << 20;
/// Where a window lies that is beside it.
const WINDOW: Gpa = Gpa(1 << 30);

/// The cases.
pub fn cases<I: Isa>() -> [Case<I>; 3] {
    [
        Case { name: "vm-of-anonymous-memory", rule: "P8", run: anonymous::<I> },
        Case { name: "vm-of-an-object-of-its-own", rule: "P8", run: own_object::<I> },
        Case { name: "vms-that-share-an-object", rule: "P8", run: sharing::<I> },
    ]
}

fn config(backing: Backing, shared: Option<Shared>) -> VmConfig {
    VmConfig {
        name: "a".to_owned(),
        vcpus: 2,
        memory: MEMORY,
        backing,
        huge: Huge::Advise,
        granule: Granule::Page,
        shared,
        swap: true,
        out_of_memory: OutOfMemory::Stop,
        dirty_log: true,
        nested: false,
        kernel: String::new(),
        initrd: None,
        cmdline: String::new(),
    }
}

/// The object that VMs share.
fn common() -> Shared {
    Shared { object: "common".to_owned(), size: MEMORY }
}

/// What a machine has before the first VM is built.
struct World<I: Isa> {
    store: Arc<dyn Store<I::Machine>>,
    objects: Objects<I>,
}

impl<I: Isa> World<I> {
    fn new(b: &Bench<'_, I>) -> Result<Self, Stop> {
        let store = Packed::new().ok_or(Stop::Fail("no heap for a store"))?;
        Ok(Self { store: b.own(|| Arc::new(store))?, objects: Objects::default() })
    }

    /// Builds a VM as the hypervisor does, has `with` use it, and takes it apart. Without heap nothing is left of it either.
    fn with_vm(
        &self,
        b: &Bench<'_, I>,
        tag: VmTag,
        config: VmConfig,
        with: impl FnOnce(&Counted<Running<I>>) -> Run,
    ) -> Run {
        let vm = b.own(|| Vm::new(config))?;
        let uses =
            self.objects.acquire(b.cpu, b.m, &vm.config, &self.store).ok_or(Stop::Fail("no heap for objects"))?;
        let running = match Running::build(b.cpu, b.m, 0, tag, &vm, uses, &self.store) {
            Ok(running) => running,
            Err((NoMemory, uses)) => {
                self.objects.release(b.cpu, b.m, uses);
                return Err(Stop::Fail("no memory for a VM"));
            }
        };
        let (run, running) = match Counted::new(running) {
            Ok(shared) => {
                let run = with(&shared);
                let alone = Counted::try_unwrap(shared).map_err(|_| Stop::Fail("somebody still has the VM"))?;
                (run, alone)
            }
            Err(running) => (Err(Stop::Fail("no heap for a VM")), running),
        };
        let Running { memory, vcpus, uses, .. } = running;
        drop(vcpus);
        b.rig.at_rest(memory.space());
        memory.destroy(b.cpu, b.m);
        self.objects.release(b.cpu, b.m, uses);
        run
    }
}

/// Each vCPU keeps a page in mind; the VM writes and reads its memory at `at`.
fn live<I: Isa>(b: &Bench<'_, I>, vm: &Counted<Running<I>>, at: Gpa) -> Run {
    for n in 0..2 {
        let job = Job::new(vm, n).ok_or(Stop::Fail("a vCPU is not there"))?;
        job.cell().keep(GfnCache::new(&vm.memory, Gfn(n.into())));
    }
    let word = |_| Stop::Fail("no memory for a word");
    vm.memory.write(b.cpu, b.m, at, b"trivet").map_err(word)?;
    let mut seen = [0; 6];
    vm.memory.read(b.cpu, b.m, at, &mut seen).map_err(word)?;
    check(&seen == b"trivet", "the VM's memory does not keep what is written")
}

fn anonymous<I: Isa>(b: &Bench<'_, I>) -> Run {
    World::new(b)?.with_vm(b, FIRST, b.own(|| config(Backing::Anon, None))?, |vm| live(b, vm, Gpa(0)))
}

fn own_object<I: Isa>(b: &Bench<'_, I>) -> Run {
    let both = || config(Backing::Tmpfs, Some(common()));
    World::new(b)?.with_vm(b, FIRST, b.own(both)?, |vm| live(b, vm, Gpa(0)))
}

fn sharing<I: Isa>(b: &Bench<'_, I>) -> Run {
    let world = World::new(b)?;
    world.with_vm(b, FIRST, b.own(|| config(Backing::Anon, Some(common())))?, |vm| {
        live(b, vm, WINDOW)?;
        world.with_vm(b, SECOND, b.own(|| config(Backing::Named("common".to_owned()), None))?, |other| {
            let mut seen = [0; 6];
            let read = other.memory.read(b.cpu, b.m, Gpa(0), &mut seen).is_ok();
            check(read && &seen == b"trivet", "what one VM wrote another does not read")?;
            live(b, other, Gpa(0x1000))
        })
    })
}
