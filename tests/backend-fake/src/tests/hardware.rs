//! The hardware: what it does with translations that nobody flushed.

use hv_core::addr::{Gpa, Order, PAGE_SIZE};
use hv_core::host::HugePolicy;
use hv_core::isa::Stage2;
use hv_core::machine::{CpuId, Machine};
use hv_core::mmu::GuestMemory;
use hv_core::mmu::flush::FlushBatch;
use hv_core::radix::format::{Prot, Rc};
use hv_core::vcpu::exit::{Access, Fault};

use super::{ONE, PAGE, TAG, World, broken, gfns, with_memory};
use crate::FakeRadix;

fn with_mapped(with: impl FnOnce(&World<'_, FakeRadix>)) {
    with_memory(HugePolicy::Never, |w| {
        w.map(PAGE);
        with(w);
    });
}

#[test]
fn nothing_is_seen_where_nothing_is_wrong() {
    with_mapped(|w| {
        assert!(w.agent.store(ONE, PAGE, 7) && w.agent.fill(CpuId(0), PAGE));
        assert_eq!(w.agent.load(ONE, PAGE), Some(7));
        assert_eq!(w.agent.load(ONE, Gpa(0)), None);
        for choice in 0..30 {
            w.agent.step(ONE, &gfns(0, 10), choice);
        }
        w.check();
        w.memory.discard(w.cpu, w.m, gfns(0, 1024));
        assert!(!w.agent.store(ONE, PAGE, 7) && !w.agent.fill(CpuId(0), PAGE));
        w.check();
        assert_eq!(broken(w.m), Vec::<String>::new());
    });
}

#[test]
fn g1_a_frame_finds_another_use_while_it_is_cached() {
    with_mapped(|w| {
        let pfn = w.leaf().pfn;
        assert!(w.agent.store(ONE, PAGE, 0));
        w.unmap_without_flush(gfns(5, 1));
        w.check();
        assert_eq!(broken(w.m), ["R9"], "at rest");
        w.m.zero(pfn, Order::PAGE);
        assert_eq!(broken(w.m), ["R9", "G1"], "at the new use");
        assert!(w.agent.store(ONE, PAGE, 1), "what is cached is used");
        assert_eq!(broken(w.m), ["R9", "G1", "G1"], "at the access");
    });
}

#[test]
fn g2_a_translation_is_held_that_the_host_table_does_not_have() {
    with_mapped(|w| {
        assert!(w.agent.fill(ONE, PAGE));
        w.check();
        assert_eq!(broken(w.m), Vec::<String>::new());
        // Another VM's memory under the same tag: what is cached is right for the one and wrong for the other.
        let other = GuestMemory::<FakeRadix>::new(w.cpu, w.m, TAG, PAGE_SIZE as u64).unwrap();
        w.m.check(w.cpu, other.space());
        assert_eq!(broken(w.m), ["G2"], "cached");
        other.destroy(w.cpu, w.m);
    });
}

#[test]
fn g6_a_table_is_freed_while_its_address_is_cached() {
    with_mapped(|w| {
        assert!(w.agent.fill(ONE, PAGE));
        w.unmap_without_flush(gfns(0, 1024));
        assert_eq!(broken(w.m), ["G6"], "when it is freed");
        assert!(!w.agent.fill(ONE, Gpa(PAGE.0 + PAGE_SIZE as u64)), "the walk goes through what is cached");
        assert_eq!(broken(w.m), ["G6", "G6"], "when it is walked");
    });
}

#[test]
fn g9_two_cpus_reach_one_address_in_two_frames() {
    with_mapped(|w| {
        assert!(w.agent.fill(ONE, PAGE));
        w.unmap_without_flush(gfns(5, 1));
        // The two VMs' pages are at home in different frames.
        let other = GuestMemory::<FakeRadix>::new(w.cpu, w.m, TAG, 8 * PAGE_SIZE as u64).unwrap();
        other.fault(w.cpu, w.m, &Fault { gpa: PAGE, access: Access::Write, claim: () });
        assert!(w.m.agent(other.stage2(), TAG).fill(CpuId(2), PAGE));
        assert_eq!(broken(w.m), ["G9"]);
        other.destroy(w.cpu, w.m);
    });
}

#[test]
fn r14_c_is_set_late_through_what_was_cached_as_clean() {
    with_mapped(|w| {
        assert_eq!(w.agent.load(ONE, PAGE), Some(0));
        assert_eq!(w.leaf().rc, Rc::REFERENCED);
        let mut batch = FlushBatch::new(TAG);
        Stage2::<FakeRadix>::protect(w.memory.stage2(), w.cpu, w.m, gfns(5, 1), &mut batch);
        assert!(w.agent.store(ONE, PAGE, 7), "the permission that was cached holds until the flush");
        assert_eq!((w.leaf().rc, w.leaf().prot.contains(Prot::WRITE)), (Rc::all(), false));
        w.m.flush(batch).release(w.cpu, w.m);
        assert!(!w.agent.store(ONE, PAGE, 8));
        assert_eq!(w.agent.load(ONE, PAGE), Some(7));
    });
}
