//! A CPU comes back from every exit as it went in: outside of walks, without locks (R27; exhibits A2, A3).

use hv_core::addr::{Gpa, Hvn, HvnRange};
use hv_core::epoch::Cpu;
use hv_core::host::HugePolicy;
use hv_core::machine::{CpuId, Machine};
use hv_core::memslot::Slot;
use hv_core::mmu::zap::{invalidate, rewindow};
use hv_core::mmu::{GuestMemory, Outcome};
use hv_core::radix::format::Prot;
use hv_core::vcpu::exit::{Access, Fault};

use super::{ONE, PAGE, TAG, World, gfns, with_memory};
use crate::{FakeMachine, FakeRadix};

/// Above all RAM.
const NOWHERE: Gpa = Gpa(1 << 30);

/// A CPU comes, does `f`, and leaves; leaving is what looks.
fn comes_back<R>(m: &FakeMachine, f: impl FnOnce(&Cpu) -> R) -> R {
    let cpu = m.epoch().cpu(ONE).expect("the CPU has left before");
    let result = f(&cpu);
    assert!(m.epoch().passed(m.epoch().stamp()), "R27: a CPU came back inside a walk");
    m.epoch().leave(cpu);
    result
}

fn fault(w: &World<'_, FakeRadix>, cpu: &Cpu, gpa: Gpa) -> Outcome {
    w.memory.fault(cpu, w.m, &Fault { gpa, access: Access::Write, claim: () })
}

#[test]
fn r27_every_exit_of_a_fault_restores_the_context() {
    with_memory(HugePolicy::Never, |w: &World<'_, FakeRadix>| {
        assert_eq!(comes_back(w.m, |cpu| fault(w, cpu, NOWHERE)), Outcome::NoSlot);
        assert_eq!(comes_back(w.m, |cpu| fault(w, cpu, PAGE)), Outcome::Mapped, "brought, and mapped by the slow path");
        let bracketed = comes_back(w.m, |cpu| {
            let all = HvnRange::new(Hvn(0), u64::MAX).expect("pages");
            invalidate(cpu, w.m, w.memory.space(), all, |_| fault(w, cpu, PAGE))
        });
        assert_eq!(bracketed, Outcome::Retry);
        assert_eq!(comes_back(w.m, |cpu| fault(w, cpu, PAGE)), Outcome::Mapped, "there, but its table has gone");
        assert_eq!(comes_back(w.m, |cpu| fault(w, cpu, PAGE)), Outcome::Mapped, "by the fast path");
    });
}

#[test]
fn r27_a_fault_without_memory_restores_the_context() {
    // Frames for both roots, and for no page or no table.
    let full = (3..12).filter(|&frames| {
        let m = FakeMachine::new(frames);
        let cpu = m.epoch().cpu(CpuId(0)).expect("nobody is there");
        let Ok(memory) = GuestMemory::<FakeRadix>::new(&cpu, &m, TAG, 4 << 20) else { return false };
        let done = comes_back(&m, |cpu| memory.fault(cpu, &m, &Fault { gpa: PAGE, access: Access::Write, claim: () }));
        memory.destroy(&cpu, &m);
        done == Outcome::NoMemory
    });
    assert!(full.count() > 0, "no machine was small enough");
}

#[test]
fn r27_refusals_restore_the_context() {
    with_memory(HugePolicy::Never, |w: &World<'_, FakeRadix>| {
        comes_back(w.m, |cpu| w.memory.read(cpu, w.m, NOWHERE, &mut [0]).expect_err("nothing is there"));
        comes_back(w.m, |cpu| w.memory.write(cpu, w.m, NOWHERE, &[0]).expect_err("nothing is there"));
        let slot = Slot::new(gfns(0, 1), Hvn(0), Prot::all()).expect("a slot");
        let twice = [slot, slot];
        comes_back(w.m, |cpu| rewindow(cpu, w.m, w.memory.space(), &twice).expect_err("they overlap"));
    });
}

#[test]
fn r27_an_inner_walk_ends_no_outer_one() {
    with_memory(HugePolicy::Never, |w: &World<'_, FakeRadix>| {
        let outer = w.m.epoch().enter(w.cpu);
        let _slots = w.memory.space().slots.all(&w.m.epoch().enter(w.cpu));
        assert!(!w.m.epoch().passed(w.m.epoch().stamp()), "R27: the end of an inner walk ended the outer one");
        drop(outer);
    });
}
