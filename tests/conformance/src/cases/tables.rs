//! The one radix walker, on the host table's format, in this machine's memory.

use hv_core::addr::{Order, Pfn};
use hv_core::host::HostFormat;
use hv_core::isa::{Isa, RadixFormat};
use hv_core::machine::Machine;
use hv_core::mmu::flush::FlushBatch;
use hv_core::radix::Radix;
use hv_core::radix::edit::{EditError, Removed};
use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef, Transition};
use hv_core::sync::{AtomicU64, Ordering};

use super::{Case, case};
use crate::hold::Hold;
use crate::rig::{Bench, FIRST};
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 8] {
    [
        case!("tables-map-then-walk", "R1", map_then_walk),
        case!("tables-large-leaves", "G3", large_leaves),
        case!("tables-walker-stops-at-a-transition", "R3", stops_at_transition),
        case!("tables-nothing-is-stored-over-a-stranger", "R4", occupied),
        case!("tables-a-stronger-mapping-strengthens", "R4", strengthen),
        case!("tables-empty-ones-are-unlinked", "R20", prune),
        case!("tables-no-memory-for-a-table", "P8", no_memory),
        case!("tables-keys-beyond-the-geometry", "R26", beyond),
    ]
}

type Table = Radix<HostFormat>;

const KEY: u64 = 0x1_2345;

fn leaf(pfn: u64) -> Leaf {
    Leaf { pfn: Pfn(pfn), prot: Prot::READ, rc: Rc::empty() }
}

/// Keeps what was removed.
#[derive(Default)]
struct Kept {
    leaves: heapless::Vec<(u64, Order, Leaf), 16>,
    tables: heapless::Vec<TableRef, 16>,
}

impl Removed for Kept {
    fn room(&self) -> bool {
        !self.leaves.is_full() && !self.tables.is_full()
    }
    fn leaf(&mut self, key: u64, order: Order, leaf: Leaf) {
        // room() was asked, so it fits.
        self.leaves.push((key, order, leaf)).unwrap_or_default();
    }
    fn table(&mut self, table: TableRef) {
        self.tables.push(table).unwrap_or_default();
    }
}

fn with_table<I: Isa>(b: &Bench<'_, I>, with: impl FnOnce(&Table) -> Run) -> Run {
    let table = Table::new(b.cpu, b.m).ok_or(Stop::Fail("no memory for a root"))?;
    let run = with(&table);
    table.destroy(b.cpu, b.m, |_, _, _| {});
    run
}

fn map<I: Isa>(b: &Bench<'_, I>, table: &Table, key: u64, order: Order, leaf: Leaf) -> Result<(), EditError> {
    table.map(b.m, &b.m.epoch().enter(b.cpu), key, order, leaf)
}

fn look<I: Isa>(b: &Bench<'_, I>, table: &Table, key: u64) -> Option<(Pte, Order)> {
    table.walk(b.m, &b.m.epoch().enter(b.cpu), key).map(|seen| (seen.pte, seen.order))
}

/// The cell of `key`'s leaf entry, found by hand.
fn cell<'g, I: Isa>(b: &'g Bench<'_, I>, g: &'g hv_core::epoch::WalkGuard<'_>, table: &Table) -> &'g AtomicU64 {
    let (mut at, mut left) = (table.root(), HostFormat::BITS.iter().map(|b| u32::from(*b)).sum::<u32>());
    for (level, bits) in HostFormat::BITS.iter().enumerate().rev() {
        left -= u32::from(*bits);
        let entry = b.m.pte(g, at, ((KEY >> left) & ((1 << bits) - 1)) as usize);
        match HostFormat::decode(entry.load(Ordering::Acquire), level as u8) {
            Pte::Table { table, .. } => at = table,
            Pte::Hole | Pte::Leaf(_) | Pte::Swapped(_) | Pte::Transition(_) => return entry,
        }
    }
    b.m.pte(g, at, 0)
}

fn map_then_walk<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_table(b, |t| {
        check(matches!(look(b, t, KEY), Some((Pte::Hole, _))), "an empty table has a translation")?;
        for n in 0..4 {
            check(map(b, t, KEY + n, Order::PAGE, leaf(100 + n)).is_ok(), "a page could not be mapped")?;
        }
        for n in 0..4 {
            let found = look(b, t, KEY + n) == Some((Pte::Leaf(leaf(100 + n)), Order::PAGE));
            check(found, "the walker finds another page")?;
        }
        check(matches!(look(b, t, KEY + 4), Some((Pte::Hole, _))), "a neighbour has a translation")
    })
}

fn large_leaves<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_table(b, |t| {
        let order = Order::new(9).unwrap_or(Order::PAGE);
        let start = order.align_down(KEY);
        check(map(b, t, start + 1, order, leaf(0x200)) == Err(EditError::Unfit), "a large leaf off its alignment")?;
        check(map(b, t, start, order, leaf(0x201)) == Err(EditError::Unfit), "a large frame off its alignment")?;
        check(map(b, t, start, order, leaf(0x200)).is_ok(), "a large leaf could not be mapped")?;
        let whole = Some((Pte::Leaf(leaf(0x200)), order));
        check(look(b, t, start) == whole && look(b, t, start + 511) == whole, "a large leaf does not cover its pages")?;
        let inside = map(b, t, start + 3, Order::PAGE, leaf(0x203));
        check(inside.is_ok(), "a page that a large leaf maps already was refused")?;
        let mut kept = Kept::default();
        t.unmap(b.m, &b.m.epoch().enter(b.cpu), start + 5, start + 6, &mut kept);
        let whole = kept.leaves.first() == Some(&(start, order, leaf(0x200)));
        check(whole, "removing one page of a large leaf does not report all of it")
    })
}

fn stops_at_transition<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_table(b, |t| {
        check(map(b, t, KEY, Order::PAGE, leaf(100)).is_ok(), "a page could not be mapped")?;
        for kind in [Transition::Busy, Transition::Splitting, Transition::Frozen] {
            let guard = b.m.epoch().enter(b.cpu);
            let entry = cell(b, &guard, t);
            let good = entry.swap(HostFormat::encode(Pte::Transition(kind), 0), Ordering::AcqRel);
            let seen = t.walk(b.m, &guard, KEY).map(|seen| seen.pte);
            let mapped = t.map(b.m, &guard, KEY, Order::PAGE, leaf(100));
            let mut kept = Kept::default();
            let end = t.unmap(b.m, &guard, KEY, KEY + 1, &mut kept);
            entry.store(good, Ordering::Release);
            check(seen == Some(Pte::Transition(kind)), "the walker went past a transition")?;
            check(mapped == Err(EditError::Retry), "a mapping was stored over a transition")?;
            check(kept.leaves.is_empty() && end == KEY + 1, "a transition was unmapped")?;
        }
        Ok(())
    })
}

fn occupied<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_table(b, |t| {
        check(map(b, t, KEY, Order::PAGE, leaf(100)).is_ok(), "a page could not be mapped")?;
        check(map(b, t, KEY, Order::PAGE, leaf(101)) == Err(EditError::Occupied), "another frame replaced a live one")?;
        check(look(b, t, KEY) == Some((Pte::Leaf(leaf(100)), Order::PAGE)), "the refused mapping left a trace")
    })
}

fn strengthen<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_table(b, |t| {
        let strong = Leaf { prot: Prot::all(), ..leaf(100) };
        check(map(b, t, KEY, Order::PAGE, leaf(100)).is_ok(), "a page could not be mapped")?;
        check(map(b, t, KEY, Order::PAGE, strong).is_ok(), "write permission could not be added")?;
        check(map(b, t, KEY, Order::PAGE, leaf(100)).is_ok(), "a weaker mapping was refused")?;
        check(look(b, t, KEY) == Some((Pte::Leaf(strong), Order::PAGE)), "a weaker mapping took permission away")?;
        let mut weakened = 0;
        let guard = b.m.epoch().enter(b.cpu);
        for _ in 0..2 {
            t.protect(b.m, &guard, KEY, KEY + 1, Rc::empty(), |from, to, _| weakened += to - from);
        }
        let prot = Prot::all().difference(Prot::WRITE);
        check(weakened == 1, "a flush is asked for more or less often than permission was taken")?;
        let weak = Some(Pte::Leaf(Leaf { prot, ..leaf(100) }));
        check(t.walk(b.m, &guard, KEY).map(|s| s.pte) == weak, "write permission stayed")
    })
}

fn prune<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_table(b, |t| {
        let empty = t.frames();
        let span = Order::new(9).unwrap_or(Order::PAGE);
        let start = span.align_down(KEY);
        check(map(b, t, KEY, Order::PAGE, leaf(100)).is_ok(), "a page could not be mapped")?;
        check(map(b, t, start + 512, Order::PAGE, leaf(101)).is_ok(), "a page could not be mapped")?;
        let full = t.frames();
        let mut kept = Kept::default();
        t.prune(b.m, &b.m.epoch().enter(b.cpu), start, start + 512, &mut kept);
        check(kept.tables.is_empty() && t.frames() == full, "a table in use was unlinked")?;
        check(map(b, t, KEY + 1, Order::PAGE, leaf(102)).is_ok(), "a table that stays was left frozen")?;
        t.unmap(b.m, &b.m.epoch().enter(b.cpu), start, start + 512, &mut kept);
        t.prune(b.m, &b.m.epoch().enter(b.cpu), KEY, start + 512, &mut kept);
        check(kept.tables.is_empty(), "a table only part of which was named was unlinked")?;
        t.prune(b.m, &b.m.epoch().enter(b.cpu), start, start + 512, &mut kept);
        check(kept.tables.len() == 1, "an empty table stays")?;
        let again = map(b, t, KEY, Order::PAGE, leaf(103));
        t.unmap(b.m, &b.m.epoch().enter(b.cpu), 0, 1 << 36, &mut kept);
        t.prune(b.m, &b.m.epoch().enter(b.cpu), 0, 1 << 36, &mut kept);
        let left = t.frames();
        let mut batch = FlushBatch::new(FIRST);
        while let Some(table) = kept.tables.pop() {
            check(batch.hold(table).is_ok(), "a batch holds too few tables")?;
        }
        b.m.flush(batch).release(b.cpu, b.m);
        check(again.is_ok(), "the keys of an unlinked table cannot be mapped again")?;
        check(left == empty, "an emptied table is larger than a new one")
    })
}

fn no_memory<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_table(b, |t| {
        let hold = Hold::everything(b.cpu, b.m.frames());
        let starved = map(b, t, KEY, Order::PAGE, leaf(100));
        drop(hold);
        check(starved == Err(EditError::NoTable), "a table out of nothing")?;
        check(map(b, t, KEY, Order::PAGE, leaf(100)).is_ok(), "no recovery once there is memory")
    })
}

fn beyond<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_table(b, |t| {
        for key in [1 << 36, u64::MAX >> 12, u64::MAX] {
            check(look(b, t, key).is_none(), "a walk for a key that the geometry does not have")?;
            let refused = map(b, t, key, Order::PAGE, leaf(1)) == Err(EditError::Unfit);
            check(refused, "a mapping for a key that the geometry does not have")?;
        }
        Ok(())
    })
}
