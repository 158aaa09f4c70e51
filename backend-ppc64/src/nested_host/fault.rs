//! An L2's fault: L1's own tree first, then the table that is derived from it.

use hv_core::addr::Gpa;
use hv_core::epoch::{Cpu, WalkGuard};
use hv_core::isa::VmTag;
use hv_core::machine::Machine;
use hv_core::mmu::derived::{Refused, Wish};
use hv_core::radix::format::{Prot, Pte, Rc};
use hv_core::radix::{Radix, Stage2Format};
use hv_core::vcpu::exit::Access;
use hv_core::vcpu::services::MemError;

use super::children::{Nest, Partitions};
use super::counts::Event;
use super::walk::{Found, Known, Missed, Near, Read, Step, needed, walk};
use crate::vcpu::exits::{NO_TRANSLATION, PROTECTION, SET_RC, UNSUPPORTED};

/// What an L2's fault came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// L2 goes on; it faults again if it must.
    Enter,
    /// L1's own second stage has to allow this first.
    Parent(Gpa, Access),
    /// L1 has to answer it: why, as HDSISR has it.
    Leave(u64),
    /// There is no memory for the derived table, even after the others were emptied.
    NoMemory,
}

/// L1's tables, as a vCPU finds them.
pub struct Tables<'a> {
    /// Reads L1's memory.
    pub read: &'a Read<'a>,
    /// Where the vCPU's last walk ended.
    pub near: &'a mut Near,
}

/// After so many answers it is asked whether derived tables are as large as they may be.
const ANSWERS: u64 = 64;

impl<F: Stage2Format> Nest<F> {
    /// Answers an L2's fault: its access to its own address `at`. The caller holds no guard.
    pub fn fault<M: Partitions>(
        &self,
        cpu: &Cpu,
        m: &M,
        parent: &Radix<F>,
        tables: Tables<'_>,
        held: VmTag,
        (at, access): (Gpa, Access),
    ) -> Answer {
        self.counts().add(Event::Fault);
        // Before anything of L1's is read (R5).
        let guard = m.epoch().enter(cpu);
        let seq = self.derived.sample();
        let near = tables.near.table(held, seq.mark(), at);
        let found = near.and_then(|near| known(m, &guard, parent, near, at));
        drop(guard);
        let found = match found {
            Some(found) => found,
            None => match walk(tables.read, self.tree(held), at) {
                Ok((found, table)) => {
                    tables.near.keep(held, seq.mark(), at, table);
                    found
                }
                Err(Missed::Hole) => return Answer::Leave(NO_TRANSLATION),
                Err(Missed::Malformed | Missed::Memory(_, MemError::BadAddress)) => return Answer::Leave(UNSUPPORTED),
                Err(Missed::Memory(at, MemError::NoMemory)) => return Answer::Parent(at, Access::Read),
            },
        };
        let (need, marks) = needed(access);
        if !found.prot.contains(need) {
            return Answer::Leave(PROTECTION);
        }
        if !found.rc.contains(marks) {
            return Answer::Leave(SET_RC);
        }
        // L1 wants to be told of the first store.
        let unmarked = if found.rc.contains(Rc::CHANGED) { Prot::empty() } else { Prot::WRITE };
        let wish = Wish {
            child: held,
            at: at.page(),
            from: found.from.page(),
            order: found.order,
            prot: found.prot.difference(unmarked),
            need,
        };
        match self.derived.answer(cpu, m, parent, seq, wish) {
            Ok(_) => {
                if self.counts().add(Event::Answer).is_multiple_of(ANSWERS) {
                    self.trim(cpu, m, false);
                }
                Answer::Enter
            }
            Err(Refused::Parent) => Answer::Parent(found.from, access),
            Err(Refused::Retry | Refused::NoChild) => {
                self.counts().add(Event::Retry);
                Answer::Enter
            }
            Err(Refused::Unfit) => Answer::Leave(NO_TRANSLATION),
            Err(Refused::NoMemory) => Answer::NoMemory,
        }
    }
}

/// L1's page by an entry of a table that is known: if L1's second stage has that table's page, and the entry is a page's. What
/// else it is, a walk finds out.
fn known<F: Stage2Format, M: Machine>(
    m: &M,
    walk: &WalkGuard<'_>,
    parent: &Radix<F>,
    near: &mut Known,
    at: Gpa,
) -> Option<Found> {
    let slot = near.table.slot(at);
    let frame = match near.frame {
        Some(frame) => frame,
        None => {
            let seen = parent.entry(m, walk, slot.page().0)?;
            let Pte::Leaf(leaf) = seen.pte else { return None };
            let frame = leaf.pfn.checked_add(slot.page().since(slot.page().align_down(seen.order))?)?;
            *near.frame.insert(frame)
        }
    };
    let mut word = [0; 8];
    m.read(frame, slot.offset(), &mut word);
    match near.table.step(at, u64::from_be_bytes(word)) {
        Ok(Step::Page(found)) => Some(found),
        Ok(Step::Down(_)) | Err(_) => None,
    }
}
