//! Roots of several pages: one block from its being taken to its being given back (exhibit H4).

use backend_arm::stage2::format::{Entries, Forced};
use backend_ppc64::radix::PartitionScoped;
use hv_core::addr::{Order, Pfn};
use hv_core::isa::RadixFormat;
use hv_core::machine::Machine;
use hv_core::mmu::flush::FlushBatch;
use hv_core::radix::Radix;
use hv_core::radix::edit::Removed;
use hv_core::radix::format::{Leaf, Prot, Rc, TableRef};

use super::{TAG, broken, on_machine};

/// Unlinked tables wait in the batch; leaves are of no interest.
struct Tables(FlushBatch);

impl Removed for Tables {
    fn room(&self) -> bool {
        self.0.room()
    }
    fn leaf(&mut self, _key: u64, _order: Order, _leaf: Leaf) {}
    fn table(&mut self, table: TableRef) {
        self.0.hold(table).unwrap();
    }
}

/// One leaf under each page of the root, removed again with the tables above it, page by page. The root is left as it was.
fn fill_and_empty<F: RadixFormat>() {
    on_machine(|m, cpu| {
        let free = m.frames().counts().free;
        let table = Radix::<F>::new(cpu, m).unwrap();
        let (root, bits) = (table.root(), F::BITS.iter().map(|bits| u32::from(*bits)).sum::<u32>());
        let pages = root.order().pages();
        assert!(pages > 1, "a root of one page shows nothing");
        // Two rounds: what was given back too soon would be another table in the second.
        for round in 0..2 {
            let span = (1 << bits) / pages;
            for page in 0..pages {
                let leaf = Leaf { pfn: Pfn(page), prot: Prot::READ, rc: Rc::REFERENCED };
                table.map(m, &m.epoch().enter(cpu), page * span, Order::PAGE, leaf).unwrap();
            }
            for page in 0..pages {
                let (from, to) = (page * span, (page + 1) * span);
                let mut gone = Tables(FlushBatch::new(TAG));
                table.unmap(m, &m.epoch().enter(cpu), from, to, &mut gone);
                table.prune(m, &m.epoch().enter(cpu), from, to, &mut gone);
                m.flush(gone.0).release(cpu, m);
                let given = (0..pages).filter(|n| m.frames().is_free(Pfn(root.base().0 + n))).count();
                assert_eq!(given, 0, "R24: {given} pages of a root in use are free, in round {round}");
            }
            assert_eq!(table.frames(), pages, "R24: an emptied table holds something else than its root");
        }
        table.destroy(cpu, m, |_, _, _| {});
        assert_eq!(m.frames().counts().free, free, "R24: a root is not given back as it was taken");
        assert_eq!(broken(m), Vec::<String>::new());
    });
}

#[test]
fn r24_two_concatenated_tables_are_one_block() {
    fill_and_empty::<Entries<Forced>>();
}

#[test]
fn r24_a_root_of_sixteen_pages_is_one_block() {
    fill_and_empty::<PartitionScoped>();
}
