//! The arena: content, and G1 and G6 at each touch.

use hv_core::addr::{Order, Pfn};
use hv_core::machine::Machine;
use hv_core::mmu::flush::FlushBatch;

use super::{TAG, broken, on_machine};
use crate::FakeMachine;

fn byte(m: &FakeMachine, pfn: Pfn) -> u8 {
    let mut byte = [0xff];
    m.read(pfn, 4095, &mut byte);
    byte[0]
}

#[test]
fn memory_is_zero_once_zeroed_and_never_before() {
    on_machine(|m, cpu| {
        let frame = m.frames().alloc(cpu, Order::PAGE).unwrap();
        for round in 1..4 {
            m.zero(frame.pfn(), Order::PAGE);
            assert_eq!(byte(m, frame.pfn()), 0);
            m.write(frame.pfn(), 4094, &[round; 2]);
            assert_eq!(byte(m, frame.pfn()), round);
        }
        let table = m.alloc_table(cpu, Order::PAGE).unwrap();
        let other = m.frames().alloc(cpu, Order::PAGE).unwrap();
        m.copy(frame.pfn(), other.pfn());
        assert_eq!(byte(m, other.pfn()), 3);
        assert_eq!(broken(m), Vec::<String>::new());
        assert_ne!(table.base(), other.pfn());
        m.frames().free(cpu, frame);
        m.frames().free(cpu, other);
    });
}

#[test]
fn a_gigabyte_is_zeroed_and_used_here_and_there() {
    on_machine(|m, cpu| {
        let frame = m.frames().alloc(cpu, Order::GIB).expect("6 GiB have an aligned one in them");
        m.zero(frame.pfn(), Order::GIB);
        let last = Pfn(frame.pfn().0 + Order::GIB.pages() - 1);
        m.write(last, 4095, &[7]);
        assert_eq!((byte(m, last), byte(m, frame.pfn())), (7, 0));
        assert_eq!(broken(m), Vec::<String>::new());
        m.frames().free(cpu, frame);
    });
}

#[test]
fn g1_free_frames_and_frames_of_tables_are_nobodys_memory() {
    on_machine(|m, cpu| {
        let frame = m.frames().alloc(cpu, Order::PAGE).unwrap();
        let pfn = frame.pfn();
        m.write(pfn, 0, &[1]);
        assert_eq!(broken(m), ["G1"], "never made guest memory");
        m.zero(pfn, Order::PAGE);
        m.frames().free(cpu, frame);
        m.write(pfn, 0, &[1]);
        assert_eq!(broken(m), ["G1", "G1"], "free");
        let table = m.alloc_table(cpu, Order::PAGE).unwrap();
        m.write(table.base(), 0, &[1]);
        assert_eq!(broken(m), ["G1", "G1", "G1"], "a table");
    });
}

#[test]
fn g6_a_cell_is_lent_of_live_tables_only() {
    on_machine(|m, cpu| {
        let table = m.alloc_table(cpu, Order::PAGE).unwrap();
        m.pte(&m.epoch().enter(cpu), table, 511);
        assert_eq!(broken(m), Vec::<String>::new());
        let mut batch = FlushBatch::new(TAG);
        batch.hold(table).unwrap();
        m.flush(batch).release(cpu, m);
        m.pte(&m.epoch().enter(cpu), table, 511);
        assert_eq!(broken(m), ["G6"]);
    });
}
