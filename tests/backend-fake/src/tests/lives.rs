//! What hardware has cached when a table or a tag begins another life.

use hv_core::addr::PAGE_SIZE;
use hv_core::host::HugePolicy;
use hv_core::isa::{Stage2, Unmapped};
use hv_core::machine::Machine;
use hv_core::mmu::flush::FlushBatch;
use hv_core::mmu::{GuestMemory, Outcome};
use hv_core::vcpu::exit::{Access, Fault};

use super::{ONE, PAGE, TAG, broken, gfns, on_machine, with_memory};
use crate::FakeRadix;

/// A table above the leaf tables goes by another path than theirs, and alone when they are gone already.
#[test]
fn g6_a_table_that_holds_nothing_leaves_the_walk_caches_too() {
    with_memory::<FakeRadix>(HugePolicy::Never, |w| {
        w.map(PAGE);
        // All of RAM, which is less than the upper table translates: that one stays, empty.
        w.memory.discard(w.cpu, w.m, gfns(0, 1024));
        assert!(!w.agent.fill(ONE, PAGE), "the walk ends in the empty table, whose address is cached now");
        let mut batch = FlushBatch::new(TAG);
        let end = Stage2::<FakeRadix>::unmap(w.memory.stage2(), w.cpu, w.m, gfns(0, 1 << 18), &mut batch, None);
        assert_eq!(end, Unmapped::All);
        w.m.flush(batch).release(w.cpu, w.m);
        assert_eq!(broken(w.m), Vec::<String>::new());
    });
}

/// A VM's tag is the next one's: nothing that was cached under it may serve the other (F9).
#[test]
fn g1_a_tag_given_again_finds_nothing_cached() {
    on_machine(|m, cpu| {
        for life in 0..2 {
            let memory = GuestMemory::<FakeRadix>::new(cpu, m, TAG, 16 * PAGE_SIZE as u64).unwrap();
            let agent = m.agent(memory.stage2(), TAG);
            assert_eq!(agent.load(ONE, PAGE), None, "G1: life {life} begins with a page of another");
            let fault = Fault { gpa: PAGE, access: Access::Write, claim: () };
            assert_eq!(memory.fault(cpu, m, &fault), Outcome::Mapped);
            assert_eq!(agent.load(ONE, PAGE), Some(0), "G1: life {life} reads what another wrote");
            assert!(agent.store(ONE, PAGE, 7));
            m.check(cpu, memory.space());
            memory.destroy(cpu, m);
        }
        assert_eq!(broken(m), Vec::<String>::new());
    });
}
