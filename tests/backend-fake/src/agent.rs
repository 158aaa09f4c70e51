//! Accesses of guests, and of hardware on its own account: all that happens in the CPUs without Trivet.

use hv_core::addr::{Gfn, GfnRange, Gpa, PAGE_SIZE, Pfn};
use hv_core::isa::VmTag;
use hv_core::machine::CpuId;
use hv_core::radix::format::{Prot, Rc};

use crate::machine::FakeMachine;
use crate::tlb::Entry;
use crate::walk::{Missed, View, Walker};

/// The hardware of all CPUs, at work for one VM.
///
/// Scenarios make it a thread of its own: a CPU may read tables, cache what it finds and set R at any moment, whatever
/// runs on it, and a guest's accesses that were begun go on. Each call is one access, during which no flush of that CPU's
/// caches completes; that is how a flush waits for accesses in flight.
#[derive(Clone, Copy, Debug)]
pub struct Agent<'m> {
    m: &'m FakeMachine,
    tag: VmTag,
    view: View,
}

impl<'m> Agent<'m> {
    pub(crate) fn new(m: &'m FakeMachine, tag: VmTag, view: View) -> Self {
        Self { m, tag, view }
    }

    /// Caches the translation of an address without using it. False if there is none.
    pub fn fill(&self, cpu: CpuId, at: Gpa) -> bool {
        let _access = self.m.access(cpu);
        self.translate(cpu, at.page(), Prot::empty()).is_ok()
    }

    /// A guest's aligned 8-byte load. `None` is a second-stage fault.
    pub fn load(&self, cpu: CpuId, at: Gpa) -> Option<u64> {
        let _access = self.m.access(cpu);
        let pfn = self.translate(cpu, at.page(), Prot::READ).ok()?;
        let mut bytes = [0; 8];
        self.m.ram.read(self.m.all_frames(), pfn, offset(at), &mut bytes, "a guest");
        Some(u64::from_le_bytes(bytes))
    }

    /// A guest's aligned 8-byte store. False is a second-stage fault.
    pub fn store(&self, cpu: CpuId, at: Gpa, value: u64) -> bool {
        let _access = self.m.access(cpu);
        let Ok(pfn) = self.translate(cpu, at.page(), Prot::WRITE) else { return false };
        self.m.ram.write(self.m.all_frames(), pfn, offset(at), &value.to_le_bytes(), "a guest");
        true
    }

    /// Does something to one of the pages `over`; `choice` says what and where.
    pub fn step(&self, cpu: CpuId, over: &GfnRange, choice: u64) {
        let page = Gfn(over.start().0 + choice / 3 % over.pages());
        let Some(at) = page.addr() else { return };
        match choice % 3 {
            0 => _ = self.fill(cpu, at),
            1 => _ = self.load(cpu, at),
            _ => _ = self.store(cpu, at, choice),
        }
    }

    /// The frame through which `gfn` is reached.
    fn translate(&self, cpu: CpuId, gfn: Gfn, need: Prot) -> Result<Pfn, Missed> {
        let Self { m, tag, view } = *self;
        let walker = Walker { ram: &m.ram, caches: &m.caches, cpu, tag, view };
        if let Some(mut held) = m.caches.find(cpu, tag, gfn) {
            let clean = need.contains(Prot::WRITE) && !held.leaf.rc.contains(Rc::CHANGED);
            if held.leaf.prot.contains(need) && (!clean || walker.set_changed(&held).is_ok()) {
                if clean {
                    held.leaf.rc |= Rc::CHANGED;
                    m.caches.update(cpu, held);
                }
                return Ok(self.through(cpu, &held, gfn));
            }
            // Too weak, or gone when C was to be set: hardware forgets this entry and looks again.
            m.caches.forget(cpu, tag, gfn);
        }
        let found = walker.walk(gfn, need)?;
        if let Some((other, held)) = m.caches.fill(cpu, found) {
            m.ram.violation(format!("G9: {cpu:?} caches {found:?}, while {other:?} holds {held:?}"));
        }
        Ok(self.through(cpu, &found, gfn))
    }

    fn through(&self, cpu: CpuId, entry: &Entry, gfn: Gfn) -> Pfn {
        let pfn = entry.frame(gfn);
        if self.m.ram.reused_since(pfn, entry.since) {
            self.m.ram.violation(format!("G1: {cpu:?} reaches {gfn:?} in {pfn:?}, which has found another use"));
        }
        pfn
    }
}

fn offset(at: Gpa) -> usize {
    at.offset().min(PAGE_SIZE - 8)
}
