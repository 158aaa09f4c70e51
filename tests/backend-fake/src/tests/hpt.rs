//! POWER's hashed table: what would end a case's process and not only the case. The cases are in `conformance-hash`.

use backend_ppc64::hash::calls::{Called, Context, Counts, RealMode, TableCall, call};
use backend_ppc64::hash::place::{Segment, VRMA};
use backend_ppc64::hash::table::GROUP;
use hv_core::addr::Gpa;
use hv_core::host::HugePolicy;
use hv_core::machine::Machine;
use hv_core::mmu::Outcome;

use super::{PAGE, World, gfns, with_memory};
use crate::FakeHpt;

/// r: cached memory that anybody may store to.
const RW: u64 = 0x12;

impl World<'_, FakeHpt> {
    /// A call in both modes; the status of the one that answered last.
    fn ask(&self, number: TableCall, args: &[u64]) -> [u64; 32] {
        let real = RealMode::on(self.cpu, 0).expect("translation is off");
        let mut gpr = [0; 32];
        for ctx in [Context::Real(real), Context::Virtual(self.cpu)] {
            gpr[3] = number as u64;
            gpr[4..4 + args.len()].copy_from_slice(args);
            let done = call(ctx, self.m, &self.memory, self.memory.stage2(), &mut gpr, &mut Counts::default());
            assert!(self.m.epoch().passed(self.m.epoch().stamp()), "R27: {number:?} came back inside its walk");
            assert!(matches!(done, Called::Done | Called::Defer), "{number:?} ended as {done:?}");
        }
        gpr
    }

    /// H_ENTER of what `r` says, at its own address.
    fn put(&self, v: u64, r: u64) -> [u64; 32] {
        let place = Segment::new(VRMA).unwrap().place(r & !0xfff, self.memory.stage2().parts().groups());
        self.ask(TableCall::Enter, &[0, place.group * GROUP, place.v | v, r])
    }
}

#[test]
fn r27_no_call_comes_back_inside_its_walk() {
    with_memory::<FakeHpt>(HugePolicy::Never, |w| {
        for at in [PAGE, Gpa(0)] {
            w.memory.write(w.cpu, w.m, at, &[1; 8]).unwrap();
        }
        let refused = |gpr: [u64; 32]| assert_eq!(gpr[3] as i64, -4);
        refused(w.put(4, 1 << 12 | RW));
        refused(w.put(0, 1 << 40 | RW));
        refused(w.ask(TableCall::PageInit, &[0, 1 << 40, 0]));
        let index = w.put(0, PAGE.0 | RW)[4];
        for (number, args) in [
            (TableCall::Read, [0, index, 0]),
            (TableCall::Protect, [3, index, 0]),
            (TableCall::ClearRef, [0, index, 0]),
            (TableCall::ClearMod, [0, index, 0]),
            (TableCall::Remove, [1 << 31, index, 7]),
            (TableCall::Remove, [0, index, 0]),
            (TableCall::BulkRemove, [1 << 62 | index, 0, 3 << 62]),
        ] {
            w.ask(number, &args);
        }
    });
}

#[test]
fn r4_a_fault_is_not_answered_by_an_entry_that_has_changed() {
    with_memory::<FakeHpt>(HugePolicy::Never, |w| {
        w.map(PAGE);
        w.memory.discard(w.cpu, w.m, gfns(5, 1));
        let stale = w.claim(PAGE);
        w.ask(TableCall::Remove, &[0, stale.index(), 0]);
        assert_eq!(w.fault(PAGE, stale), Outcome::Retry, "R4: an entry that is free");
        let other = Gpa(9 << 12);
        let v = Segment::new(VRMA).unwrap().place(PAGE.0, w.memory.stage2().parts().groups()).v;
        w.ask(TableCall::Enter, &[1 << 39, stale.index(), v, other.0 | RW]);
        assert_eq!(w.fault(PAGE, stale), Outcome::Retry, "R4: an entry for another page");
        w.check();
    });
}
