//! Two VMs on the fake machine, each answer held against the model.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::sync::Arc;

use backend_fake::{FakeMachine, FakeStage2};
use conformance::hold::Hold;
use hv_core::addr::{Gfn, GfnRange, Gpa, PAGE_SIZE};
use hv_core::heap::Counted;
use hv_core::host::{Backing, HugePolicy, ScanCursor};
use hv_core::isa::{Isa, VmTag};
use hv_core::machine::{CpuId, Machine};
use hv_core::mmu::zap::rewindow;
use hv_core::mmu::{GfnCache, GuestMemory, LogError, MemoryConfig, Outcome, Window};
use hv_core::page::{Counts, Packed, Store, Tmpfs};
use hv_core::radix::format::Prot;
use hv_core::vcpu::exit::{Access, Fault};
use hv_core::vcpu::services::MemError;

use crate::bed::{Bed, Kind, Setup};
use crate::model::{Model, Place};
use crate::op::{OBJECT, OBJECT_AT, Op, RAM};

/// The page that each VM's hypervisor keeps in mind.
const CACHED: u64 = 1;
/// Attempts of a guest; nobody else is at work, so the first answer that is no [`Outcome::Retry`] counts.
const PATIENCE: u32 = 16;

/// What an operation found wrong.
pub type Found = Result<(), String>;

struct Vm<I: Isa> {
    memory: GuestMemory<I>,
    cache: GfnCache<I>,
    cursor: ScanCursor,
}

/// Two VMs, an object that both map, a store, and what all of it must look like.
pub struct World<'a, I: Isa> {
    bed: &'a Bed,
    before: Counts,
    object: Counted<Tmpfs<I>>,
    store: Option<Arc<Packed>>,
    vms: [Vm<I>; 2],
    model: Model,
    squeezed: Option<Hold<'a>>,
}

fn gfns(gfn: u64, pages: u64) -> GfnRange {
    GfnRange::new(Gfn(gfn), pages).expect("no operation is about nothing")
}

fn gpa(gfn: u64, offset: u64) -> Gpa {
    Gpa(gfn * PAGE_SIZE as u64 + offset)
}

/// An error unless `fine`.
fn check(fine: bool, otherwise: impl FnOnce() -> String) -> Found {
    if fine { Ok(()) } else { Err(otherwise()) }
}

impl<'a, I: Kind> World<'a, I> {
    /// Both VMs, untouched.
    pub fn new(bed: &'a Bed, setup: Setup) -> Self {
        let before = bed.machine.frames().counts();
        let store = setup.store.then(|| Arc::new(Packed::new().expect("there is heap")));
        let shared = store.clone().map(|store| store as Arc<dyn Store<FakeMachine>>);
        let object = Tmpfs::with(OBJECT, setup.grow, shared.clone()).expect("there is heap");
        let vm = |n: usize| {
            let tag = VmTag(NonZeroU16::MIN.saturating_add(n as u16));
            let mut config = MemoryConfig::from(RAM * PAGE_SIZE as u64);
            (config.huge, config.store) = (setup.huge[n], shared.clone());
            let backing = Backing::Shared { object: Counted::clone(&object), first: 0 };
            let (window, shift, huge) = (gfns(OBJECT_AT, OBJECT), setup.shifts[n], HugePolicy::Always);
            let window = Window { gfns: window, shift, prot: Prot::all(), backing, huge };
            assert!(config.windows.push(window).is_ok(), "one window fits");
            let memory = GuestMemory::new(&bed.cpu, bed.machine, tag, config).expect("there is memory");
            let cache = GfnCache::new(&memory, Gfn(CACHED)).expect("there is heap");
            Vm { memory, cache, cursor: ScanCursor::default() }
        };
        let (vms, model) = ([vm(0), vm(1)], Model::new(setup.shifts));
        Self { bed, before, object, store, vms, model, squeezed: None }
    }

    /// Carries out one operation, in the world and in the model.
    pub fn step(&mut self, op: Op) -> Found {
        let Bed { machine: m, cpu } = self.bed;
        match op {
            Op::Store { vm, cpu, gfn, offset, value } => {
                self.make_ready(vm, gfn, 1);
                let agent = m.agent(self.vms[vm].memory.stage2(), self.vms[vm].memory.tag());
                let done = self.access(vm, gfn, Access::Write, || {
                    agent.store(CpuId(cpu), gpa(gfn, offset), value).then_some(())
                })?;
                if let Some((place, ())) = done {
                    self.model.write(vm, place, offset as usize, &value.to_le_bytes());
                }
                Ok(())
            }
            Op::Load { vm, cpu, gfn, offset } => {
                let agent = m.agent(self.vms[vm].memory.stage2(), self.vms[vm].memory.tag());
                let done = self.access(vm, gfn, Access::Read, || agent.load(CpuId(cpu), gpa(gfn, offset)))?;
                let Some((place, found)) = done else { return Ok(()) };
                let want = self.model.word(place, offset as usize);
                check(found == want, || format!("the guest loads {found:#x} where {want:#x} is"))
            }
            Op::Write { vm, gfn, offset, len, value } => {
                let bytes: Vec<u8> = (0..len).map(|n| value.wrapping_add(n as u8)).collect();
                let done = self.vms[vm].memory.write(cpu, m, gpa(gfn, offset), &bytes);
                let Some(pieces) = self.pieces(vm, gfn, offset, len, Prot::WRITE, done)? else { return Ok(()) };
                pieces.into_iter().for_each(|(place, at, part)| self.model.write(vm, place, at, &bytes[part]));
                Ok(())
            }
            Op::Read { vm, gfn, offset, len } => {
                let (mut found, mut want) = (vec![0xaa; len], vec![0; len]);
                let done = self.vms[vm].memory.read(cpu, m, gpa(gfn, offset), &mut found);
                let Some(pieces) = self.pieces(vm, gfn, offset, len, Prot::READ, done)? else { return Ok(()) };
                pieces.into_iter().for_each(|(place, at, part)| self.model.read(place, at, &mut want[part]));
                check(found == want, || "the hypervisor reads something else".to_owned())
            }
            Op::Cached { vm, offset, value } => self.cached(vm, offset, value),
            Op::MapRange { vm, gfn, pages } => {
                self.make_ready(vm, gfn, pages);
                let shown = (gfn..gfn + pages).all(|gfn| self.model.usable(vm, gfn, Prot::WRITE).is_some());
                let done = I::map_range(&self.vms[vm].memory, self.bed, gfns(gfn, pages));
                match done {
                    None | Some(Outcome::NoMemory) if self.squeezed.is_some() || done.is_none() => Ok(()),
                    Some(Outcome::Mapped) if shown => Ok(()),
                    Some(Outcome::NoSlot) if !shown => Ok(()),
                    other => Err(format!("{other:?}, and the windows show all of it: {shown}")),
                }
            }
            Op::Discard { vm, gfn, pages } => {
                self.vms[vm].memory.discard(cpu, m, gfns(gfn, pages));
                self.model.discard(vm, gfn, pages);
                Ok(())
            }
            Op::Advise { vm, gfn, pages } => {
                self.vms[vm].memory.advise(cpu, m, gfns(gfn, pages));
                Ok(())
            }
            Op::Scan { vm, steps } => {
                let Vm { memory, cursor, .. } = &mut self.vms[vm];
                (0..steps).for_each(|_| _ = memory.scan(cpu, m, cursor));
                Ok(())
            }
            Op::Rewindow { vm, layout } => {
                let done = rewindow(cpu, *m, self.vms[vm].memory.space(), self.model.rewindow(vm, layout));
                done.map_err(|why| format!("windows are refused: {why:?}"))
            }
            Op::Reclaim { vm, want } => {
                self.vms[vm].memory.reclaim(cpu, m, want);
                Ok(())
            }
            Op::Punch { page, pages } => {
                self.object.punch(cpu, m, page, page + pages);
                self.model.punch(page, page + pages);
                Ok(())
            }
            Op::Shrink { want } => {
                self.object.shrink(cpu, m, want);
                Ok(())
            }
            Op::SwapOut { page } => {
                let done = self.object.swap_out(cpu, m, page);
                check(done.is_ok() == self.store.is_some(), || format!("{done:?}"))
            }
            Op::LogStart { vm } => match self.vms[vm].memory.log_start(cpu, m) {
                Ok(()) => {
                    self.model.log(vm, true);
                    Ok(())
                }
                Err(LogError::NoMemory) => check(self.squeezed.is_some(), || "no memory, while there is".to_owned()),
            },
            Op::LogHarvest { vm } => {
                let mut told = BTreeSet::new();
                self.vms[vm].memory.log_harvest(cpu, m, &mut |r| told.extend(r.start().0..r.end().0));
                self.model.harvested(vm, &told)
            }
            Op::LogStop { vm } => {
                self.vms[vm].memory.log_stop(cpu, m);
                self.model.log(vm, false);
                Ok(())
            }
            Op::Squeeze { left } => {
                self.squeezed.get_or_insert_with(|| Hold::all_but(cpu, m.frames(), left));
                Ok(())
            }
            Op::Relax => {
                self.squeezed = None;
                Ok(())
            }
            Op::Check => self.at_rest(),
        }
    }

    /// Pages are made ready for stores.
    fn make_ready(&mut self, vm: usize, gfn: u64, pages: u64) {
        for gfn in gfn..gfn + pages {
            let place = self.model.usable(vm, gfn, Prot::WRITE);
            place.into_iter().for_each(|place| self.model.ready(vm, place));
        }
    }

    /// A guest's access, and the fault that it may need. `None` if nothing came of it, rightly.
    fn access<R>(
        &self,
        vm: usize,
        gfn: u64,
        access: Access,
        mut once: impl FnMut() -> Option<R>,
    ) -> Result<Option<(Place, R)>, String> {
        let Bed { machine: m, cpu } = self.bed;
        let need = if access == Access::Write { Prot::WRITE } else { Prot::READ };
        let place = self.model.usable(vm, gfn, need);
        let memory = &self.vms[vm].memory;
        for _ in 0..PATIENCE {
            if let Some(answer) = once() {
                let place = place.ok_or("an access went through where no window allows it")?;
                return Ok(Some((place, answer)));
            }
            let at = gpa(gfn, 0);
            let claim = memory.stage2().claim(cpu, m, at);
            match memory.fault(cpu, m, &Fault { gpa: at, access, claim }) {
                Outcome::Mapped | Outcome::Retry => {}
                Outcome::NoSlot if place.is_none() => return Ok(None),
                Outcome::NoSlot => return Err("no slot where a window is".to_owned()),
                Outcome::NoMemory if self.squeezed.is_none() => return Err("no memory, while there is".to_owned()),
                Outcome::NoMemory if memory.reclaim(cpu, m, 8).freed == 0 => return Ok(None),
                Outcome::NoMemory => {}
            }
        }
        // With next to no memory, what is freed may be what was just brought.
        if self.squeezed.is_some() { Ok(None) } else { Err("faults without end".to_owned()) }
    }

    /// Is `done` the right answer for these bytes? The pieces of them if something came of it.
    #[expect(clippy::type_complexity, reason = "a place, an offset there, and a part of the caller's bytes")]
    fn pieces(
        &self,
        vm: usize,
        gfn: u64,
        offset: u64,
        len: usize,
        need: Prot,
        done: Result<(), MemError>,
    ) -> Result<Option<Vec<(Place, usize, std::ops::Range<usize>)>>, String> {
        let (mut pieces, mut at) = (Vec::new(), 0);
        while at < len {
            let address = gpa(gfn, offset + at as u64);
            let part = (PAGE_SIZE - address.offset()).min(len - at);
            pieces.push(
                self.model.usable(vm, address.page().0, need).map(|place| (place, address.offset(), at..at + part)),
            );
            at += part;
        }
        match (done, pieces.into_iter().collect()) {
            (Ok(()), pieces @ Some(_)) => Ok(pieces),
            (Err(MemError::BadAddress), None) => Ok(None),
            // A write looks at all of its range first; a read may be at want of memory before it comes to its end.
            (Err(MemError::NoMemory), pieces)
                if self.squeezed.is_some() && (pieces.is_some() || need == Prot::READ) =>
            {
                Ok(None)
            }
            (other, pieces) => Err(format!("{other:?}, and the windows allow it: {}", pieces.is_some())),
        }
    }

    /// An access by the frame that is kept in mind; it may be refused at any time.
    fn cached(&mut self, vm: usize, offset: u64, value: Option<u64>) -> Found {
        let Bed { machine: m, cpu } = self.bed;
        let Vm { memory, cache, .. } = &self.vms[vm];
        let (at, mut word) = (gpa(CACHED, offset), [0; 8]);
        let (need, done) = match value {
            Some(value) => (Prot::WRITE, cache.try_write(memory, cpu, m, at, &value.to_le_bytes())),
            None => (Prot::READ, cache.try_read(memory, cpu, m, at, &mut word)),
        };
        if !done {
            return Ok(());
        }
        let place = self.model.usable(vm, CACHED, need).ok_or("a cache knows a page that no window shows")?;
        match value {
            Some(value) => self.model.write(vm, place, offset as usize, &value.to_le_bytes()),
            None => {
                let (found, want) = (u64::from_le_bytes(word), self.model.word(place, offset as usize));
                return check(found == want, || format!("a cache reads {found:#x} where {want:#x} is"));
            }
        }
        Ok(())
    }

    /// Both VMs, as they are now: what is derived agrees with what it was derived from, and no rule was seen broken.
    fn at_rest(&self) -> Found {
        let Bed { machine: m, cpu } = self.bed;
        self.vms.iter().for_each(|vm| m.check(cpu, vm.memory.space()));
        check(m.violations().is_empty(), || m.violations().join("; "))
    }

    /// All that was ever written is there, and then everything comes back.
    pub fn end(mut self) -> Found {
        self.squeezed = None;
        self.at_rest()?;
        let Bed { machine: m, cpu } = self.bed;
        for vm in 0..2 {
            self.step(Op::Rewindow { vm, layout: 0 })?;
            for (gfn, place) in self.model.written(vm) {
                let (mut found, mut want) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
                let done = self.vms[vm].memory.read(cpu, m, gpa(gfn, 0), &mut found);
                self.model.read(place, 0, &mut want);
                check(done.is_ok() && found == want, || format!("at the end VM {vm} has lost what was at {gfn:#x}"))?;
            }
        }
        let Self { vms, object, store, before, .. } = self;
        vms.into_iter().for_each(|vm| {
            drop(vm.cache);
            vm.memory.destroy(cpu, m);
        });
        check(Tmpfs::close(object, cpu, m).is_ok(), || "somebody still has the object".to_owned())?;
        if let Some(store) = store {
            let stats = Store::<FakeMachine>::stats(&*store);
            let left = (stats.pages, stats.frames, stats.damaged);
            check(left == (0, 0, 0), || format!("R24: the store has pages, frames, damage: {left:?}"))?;
        }
        check(m.violations().is_empty(), || m.violations().join("; "))?;
        let after = m.frames().counts();
        // The reserve is filled when the first VM is made that has a store.
        let all = |counts: Counts| (counts.free + counts.reserve, counts.refused);
        check(all(after) == all(before), || format!("R24: {before:?} became {after:?}"))
    }
}
