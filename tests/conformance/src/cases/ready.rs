//! Who may run on what is built once, and who takes it apart.

use hv_core::isa::Isa;
use hv_core::mmu::ready::{Left, NotNow, Readiness, State};
use hv_core::sync::{AtomicU64, Ordering};

use super::{Case, case, page};
use crate::guest::{OnFault, ProbeVm, read_word};
use crate::probe::{FREE, Field, Op};
use crate::rig::{Bench, FIRST};
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 6] {
    [
        case!("ready-nobody-runs-before-it-is-built", "R19", before),
        case!("ready-the-last-one-out-takes-it-apart", "R20", last_out),
        case!("ready-a-failed-build-leaves-nothing", "R19", failed),
        case!("ready-two-cpus-round-after-round", "R20", rounds),
        case!("tag-next-life-sees-nothing-of-the-last", "R9", tag),
        case!("tag-next-life-on-another-cpu", "R9", tag_elsewhere),
    ]
}

fn before<I: Isa>(b: &Bench<'_, I>) -> Run {
    let r = b.own(Readiness::new)?;
    check(r.run().is_err() && r.drain().is_none(), "something is there before it was built")?;
    let Ok(building) = r.build() else { return Err(Stop::Fail("nobody may build")) };
    check(r.run().is_err(), "somebody runs on what is not built yet")?;
    check(r.build().is_err_and(|e| e == NotNow(State::Building)), "two build at once")?;
    let Ok(first) = building.ready() else { return Err(Stop::Fail("the builder may not run")) };
    check(r.run().is_ok(), "it is built, and a second one may not run")?;
    check(matches!(first.leave(), Left::Nobody), "the builder is not alone")
}

fn last_out<I: Isa>(b: &Bench<'_, I>) -> Run {
    let r = b.own(Readiness::new)?;
    let Some(first) = r.build().ok().and_then(|b| b.ready().ok()) else { return Err(Stop::Fail("not built")) };
    let Ok(second) = r.run() else { return Err(Stop::Fail("a second one may not run")) };
    check(r.drain().is_none(), "it was to be taken apart with two inside")?;
    check(r.run().is_err(), "somebody got in while it was drained")?;
    check(matches!(second.leave(), Left::Others), "not the last one was told to take it apart")?;
    let Left::Last(drained) = first.leave() else { return Err(Stop::Fail("nobody takes it apart")) };
    check(r.build().is_err(), "it is built anew before it was taken apart")?;
    drop(drained);
    check(r.build().is_ok(), "it cannot be built anew")
}

fn failed<I: Isa>(b: &Bench<'_, I>) -> Run {
    let r = b.own(Readiness::new)?;
    drop(r.build());
    check(r.state() == State::Empty && r.run().is_err(), "a failed build left something")?;
    let building = r.build();
    check(r.drain().is_none(), "it was to be taken apart while it was built")?;
    drop(building);
    check(r.state() == State::Empty, "a failed build that was drained is not empty")?;
    let Some(permit) = r.build().ok().and_then(|b| b.ready().ok()) else { return Err(Stop::Fail("not built")) };
    check(matches!(permit.leave(), Left::Nobody), "somebody is inside")
}

/// Rounds of build and drain while another CPU runs.
const ROUNDS: u64 = 2000;

/// What is built: absent, there, and once for all to see, a broken promise.
struct Thing {
    there: AtomicU64,
    broken: AtomicU64,
    apart: AtomicU64,
}

impl Thing {
    fn look(&self) {
        if self.there.load(Ordering::Relaxed) != 1 {
            self.broken.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn left(&self, left: Left) {
        if let Left::Last(drained) = left {
            self.there.store(0, Ordering::Relaxed);
            self.apart.fetch_add(1, Ordering::Relaxed);
            drop(drained);
        }
    }
}

fn rounds<I: Isa>(b: &Bench<'_, I>) -> Run {
    let zero = || AtomicU64::new(0);
    let (r, thing, stop) = (b.own(Readiness::new)?, Thing { there: zero(), broken: zero(), apart: zero() }, zero());
    let mut built = 0;
    let ran = b.rig.both(
        &|_| {
            while stop.load(Ordering::Relaxed) == 0 {
                if let Ok(permit) = r.run() {
                    thing.look();
                    hv_core::sync::spin_loop();
                    thing.look();
                    thing.left(permit.leave());
                }
            }
        },
        &mut |_| {
            while built < ROUNDS {
                if let Ok(building) = r.build() {
                    built += 1;
                    thing.there.store(1, Ordering::Relaxed);
                    thing.left(building.ready().map_or_else(|left| left, |permit| permit.leave()));
                }
                if let Some(drained) = r.drain() {
                    thing.left(Left::Last(drained));
                }
            }
            stop.store(1, Ordering::Relaxed);
        },
    );
    if !ran {
        return Err(Stop::Skip("needs two CPUs"));
    }
    check(thing.broken.load(Ordering::Relaxed) == 0, "somebody ran on what was not there")?;
    check(r.state() == State::Empty && r.drain().is_none(), "it was not taken apart in the end")?;
    check(thing.apart.load(Ordering::Relaxed) == ROUNDS, "not taken apart once for each time it was built")
}

/// A VM ends and another one gets its tag: what a CPU cached for the first must be of no use to the second (F9).
fn tag<I: Isa>(b: &Bench<'_, I>) -> Run {
    for life in 1..4 {
        ProbeVm::with(b, FIRST, |vm| {
            let fresh = vm.ask(b, Op::Read, page(FREE), 0)?;
            check(fresh.fine && fresh.result == 0, "a VM finds what the last one of its tag left")?;
            check(vm.ask(b, Op::Write, page(FREE), life)?.fine, "a store raised an exception")?;
            check(read_word(&vm.memory, b.cpu, b.m, page(FREE))? == life, "a store went where the last VM had its page")
        })?;
    }
    Ok(())
}

/// The same on two CPUs: the first life's vCPU ran elsewhere, and runs there again in the second.
fn tag_elsewhere<I: Isa>(b: &Bench<'_, I>) -> Run {
    for life in 1..4 {
        ProbeVm::with(b, FIRST, |vm| {
            let number = vm.post(b.cpu, b.m, 1, Op::Write, page(FREE), life)?;
            let there = hv_core::sync::Mutex::new(Err(Stop::Fail("the other CPU did not report")));
            let ran = b.rig.both(
                &|cpu| {
                    // The first run may end in a call made before the command was seen.
                    let runs = (0..2).try_for_each(|_| vm.run(cpu, b.m, 1, OnFault::Answer).map(drop));
                    *there.lock() = runs.and_then(|()| vm.word(cpu, b.m, 1, Field::Done));
                },
                &mut |_| {},
            );
            if !ran {
                return Err(Stop::Skip("needs two CPUs"));
            }
            let done = *there.lock();
            check(done? == number, "the command was not done")?;
            check(read_word(&vm.memory, b.cpu, b.m, page(FREE))? == life, "a store went where the last VM had its page")
        })?;
    }
    Ok(())
}
