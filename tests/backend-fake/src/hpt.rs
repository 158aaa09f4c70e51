//! POWER's hashed table on the fake: the shipped source of `backend_ppc64::hash`, walked by hardware as the
//! architecture has it, and a guest whose one segment is as wide as its memory, with every page where its number says.

use std::sync::Arc;

use backend_ppc64::hash::edit::{NoRoom, Room};
use backend_ppc64::hash::entry::Patience;
use backend_ppc64::hash::place::{Segment, VRMA};
use backend_ppc64::hash::table::{GROUP, Parts, SIZES};
use backend_ppc64::hash::words::{self, LARGE_PAGE, PageSize, SECONDARY, VALID};
use backend_ppc64::hash::{Claim, Config, Gone, HashStage2, Layout, Processor};
use hv_core::addr::{Gfn, GfnRange, Gpa, Order};
use hv_core::epoch::Cpu;
use hv_core::isa::{Isa, VmTag};
use hv_core::machine::Machine;
use hv_core::mmu::flush::FlushBatch;
use hv_core::mmu::ready::Readiness;
use hv_core::radix::format::{Leaf, Prot, Rc};
use hv_core::sync::Ordering;

use crate::check::Translation;
use crate::machine::FakeMachine;
use crate::platform::FakePlatform;
use crate::ram::Ram;
use crate::script::ScriptVcpu;
use crate::stage2::FakeStage2;
use crate::walk::View;

/// The fake instruction set with POWER's hashed table.
#[derive(Debug)]
pub struct FakeHpt;

impl Isa for FakeHpt {
    const NAME: &'static str = "fake-hpt";
    type Machine = FakeMachine;
    type Stage2 = HashStage2;
    type Vcpu = ScriptVcpu;
    type Platform = FakePlatform;
    type Claim = Claim;
    type Call = ();
    const GRANULES: bool = true;
}

impl Processor for FakeMachine {
    fn layout(&self) -> Layout {
        Layout::Isa300
    }

    fn hashed(&self, _tag: VmTag) -> Option<Config> {
        Some(Config { size: Order::new(*SIZES.start())?, granule: LARGE_PAGE })
    }

    fn readiness(&self, _tag: VmTag) -> Option<Arc<Readiness>> {
        Some(Readiness::new())
    }

    fn flush_entries(&self, tag: VmTag, entries: &[Gone]) {
        let mut batch = FlushBatch::new(tag);
        for gone in entries {
            batch.note(GfnRange::block(gone.gfn, gone.order).expect("entries are for blocks"), gone.order);
        }
        // No table is held back.
        drop(self.flush(batch));
    }

    /// This hardware is told at each access.
    fn go_by(&self, _tag: VmTag, _entry: u64) {}
}

/// Protection that lets the guest do anything; memory that is cached.
const ANYTHING: u64 = 0x10 | 2;

/// The guest's only segment.
fn segment() -> Segment {
    Segment::new(VRMA).expect("a descriptor of the architecture")
}

impl FakeStage2 for HashStage2 {
    type Claim = Claim;

    fn view(&self) -> View {
        View::Hpt(self.parts())
    }

    /// The entry that the access found. If there is none, the fault is the guest's own affair: it puts one, of 4 KiB.
    fn claim(&self, cpu: &Cpu, m: &FakeMachine, at: Gpa) -> Claim {
        let (parts, address) = (self.parts(), at.page().addr().expect("guest memory").0);
        let place = segment().place(address, parts.groups());
        loop {
            let walk = m.epoch().enter(cpu);
            if let Some(claim) = self.entry_for(m, &walk, &segment(), address) {
                return claim;
            }
            for place in [place, place.secondary(parts.groups())] {
                let room = Room::InGroupOf(place.group * GROUP);
                match self.put(m, &walk, Patience::Endless, room, (place.v, address | ANYTHING)) {
                    Ok(claim) => return claim,
                    Err(NoRoom::Full) => {}
                    Err(NoRoom::Busy) => unreachable!("patience is endless"),
                }
            }
            // Both groups are full: the first entry makes room.
            if let Some(entry) = parts.entry(m, &walk, place.group * GROUP).lock(Patience::Endless)
                && !entry.words().is_free()
            {
                let _ = self.free(m, &walk, entry);
            }
        }
    }

    /// This guest has small pages only.
    fn claim_of(&self, cpu: &Cpu, m: &FakeMachine, at: Gpa, _order: Order) -> Claim {
        self.claim(cpu, m, at)
    }

    fn faults_at_rest(&self, cpu: &Cpu, m: &FakeMachine) -> Vec<String> {
        let (parts, walk) = (self.parts(), m.epoch().enter(cpu));
        let mut faults = Vec::new();
        let (mut valid, mut linked) = (0, 0);
        for index in 0..parts.entries() {
            let Some(entry) = parts.entry(m, &walk, index).try_lock() else {
                faults.push(format!("R27: entry {index} stayed locked"));
                continue;
            };
            valid += usize::from(entry.words().is_valid());
            if entry.words().is_valid() != entry.is_linked() {
                faults.push(format!("G7: entry {index} is {:?}, linked: {}", entry.words(), entry.is_linked()));
            }
        }
        for head in 0..parts.heads() {
            let chain = self.chain(m, &walk, Gfn(head));
            let mut at = chain.entries();
            while let Some(index) = chain.next(&mut at) {
                let gfn = parts.entry(m, &walk, index).look().gfn();
                linked += 1;
                if gfn.0 & (parts.heads() - 1) != head {
                    faults.push(format!("R18: entry {index} for {gfn:?} is recorded at {head}"));
                }
                if linked > parts.entries() as usize {
                    faults.push(format!("R18: the records at {head} go round"));
                    return faults;
                }
            }
        }
        if valid != linked {
            faults.push(format!("G7: {linked} records of {valid} valid entries"));
        }
        faults
    }
}

/// What hardware finds for `gfn`: the entry's number, its page and what it says.
pub fn walk(ram: &Ram, parts: &Parts, gfn: Gfn, need: Prot) -> Option<(u64, Gfn, Order, Leaf)> {
    let first = segment().place(gfn.addr()?.0, parts.groups());
    [first, first.secondary(parts.groups())].into_iter().find_map(|place| {
        let group = place.group * GROUP;
        (group..group + GROUP).find_map(|index| {
            let (v, r) = read(ram, parts, index);
            // The guest says SECONDARY, and hardware believes it.
            if v & VALID == 0 || !place.is(v, r) || v & SECONDARY != place.v & SECONDARY {
                return None;
            }
            // The caches of this machine, and flushes, go by guest frames: its guest uses entries that say the frame of their own
            // address, and 4 KiB of it, or two of different sizes would be the guest's own mistake.
            let view = ram.cell(parts.notes, 2 * index as usize, "hardware").load(Ordering::Acquire);
            if words::first_gfn(view, Order::PAGE) != gfn || order(v, r) != Order::PAGE {
                return None;
            }
            let found = (index, gfn.align_down(order(v, r)), order(v, r), leaf(v, r));
            found.3.prot.contains(need).then_some(found)
        })
    })
}

/// Hardware sets marks in an entry, whatever is there by now.
pub fn mark(ram: &Ram, parts: &Parts, index: u64, marks: Rc) {
    let cell = ram.cell(parts.table, 2 * index as usize + 1, "hardware");
    cell.fetch_or(words::rc_bits(marks).to_be(), Ordering::AcqRel);
}

/// All translations that the table holds. Which frames they are for is what the guest has said: its addresses are not
/// in the entries, but for their group.
pub fn leaves(ram: &Ram, parts: &Parts) -> Vec<Translation> {
    let valid = (0..parts.entries()).map(|n| (n, read(ram, parts, n))).filter(|(_, (v, _))| v & VALID != 0);
    let view = |n| ram.cell(parts.notes, 2 * n as usize, "a check").load(Ordering::Acquire);
    valid
        .map(|(n, (v, r))| Translation {
            gfn: words::first_gfn(view(n), order(v, r)),
            order: order(v, r),
            leaf: leaf(v, r),
        })
        .collect()
}

fn leaf(v: u64, r: u64) -> Leaf {
    Leaf { pfn: words::first_pfn(r, order(v, r)), prot: words::prot(r), rc: words::rc(r) }
}

fn order(v: u64, r: u64) -> Order {
    PageSize::of(v, r).map_or(Order::PAGE, |size| size.actual)
}

/// The two words, one after the other, as hardware may read them.
fn read(ram: &Ram, parts: &Parts, index: u64) -> (u64, u64) {
    let word = |n| u64::from_be(ram.cell(parts.table, 2 * index as usize + n, "hardware").load(Ordering::Acquire));
    let first = word(0);
    parts.layout.join(first, word(1))
}
