//! Walk guards and grace periods.

use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::sync::{AtomicU32, Ordering, spin_loop};

use super::{Case, case};
use crate::rig::Bench;
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 3] {
    [
        case!("grace-waits-for-this-cpus-walk", "R2", own_walk),
        case!("grace-waits-for-another-cpus-walk", "R2", others_walk),
        case!("grace-does-not-wait-for-later-walks", "R20", later_walk),
    ]
}

fn own_walk<I: Isa>(b: &Bench<'_, I>) -> Run {
    let d = b.m.epoch();
    let outer = d.enter(b.cpu);
    let inner = d.enter(b.cpu);
    let stamp = d.stamp();
    drop(inner);
    check(!d.passed(stamp), "a grace period ended inside a nested walk")?;
    drop(outer);
    check(d.passed(stamp), "a grace period outlives the walk it waited for")
}

fn others_walk<I: Isa>(b: &Bench<'_, I>) -> Run {
    let d = b.m.epoch();
    // 0 nothing yet, 1 the other CPU walks, 2 it may end its walk, 3 it has.
    let step = AtomicU32::new(0);
    let wait = |n| {
        while step.load(Ordering::Acquire) != n {
            spin_loop();
        }
    };
    let (mut early, mut late) = (true, false);
    let ran = b.rig.both(
        &|cpu| {
            let walk = d.enter(cpu);
            step.store(1, Ordering::Release);
            wait(2);
            drop(walk);
            step.store(3, Ordering::Release);
        },
        &mut |_| {
            wait(1);
            let stamp = d.stamp();
            early = d.passed(stamp);
            step.store(2, Ordering::Release);
            wait(3);
            late = d.passed(stamp);
        },
    );
    if !ran {
        return Err(Stop::Skip("needs two CPUs"));
    }
    check(!early, "a grace period ended while another CPU was walking")?;
    check(late, "a grace period outlives the walk it waited for")
}

fn later_walk<I: Isa>(b: &Bench<'_, I>) -> Run {
    let d = b.m.epoch();
    let stamp = d.stamp();
    let walk = d.enter(b.cpu);
    let passed = d.passed(stamp);
    drop(walk);
    check(passed, "a grace period waits for a walk that began after the unlinking")
}
