//! One CPU takes memory away while another CPU's guest is using it.

use hv_core::addr::Gpa;
use hv_core::epoch::Cpu;
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::sync::{AtomicU32, Mutex, Ordering, spin_loop};

use super::{Case, case, gfns, page};
use crate::guest::{Left, OnFault, ProbeVm, read_word, write_word};
use crate::probe::{FREE, Field, Op, mailbox};
use crate::rig::{Bench, FIRST, SECOND};
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 4] {
    [
        case!("race-frames-wait-for-a-walk", "R2", waits_for_walk),
        case!("race-no-store-lands-after-unmap", "R8", no_store_lands),
        case!("race-unmap-under-a-spinning-guest", "R6", unmap_again_and_again),
        case!("race-freed-frames-are-nobody-elses-target", "G1", frames_reused),
    ]
}

/// Seconds after which a guest that makes no progress is given up.
const PATIENCE: u64 = 20;

/// Starts vCPU 1's probe spinning on `target` on another CPU; meanwhile runs `meanwhile` here, then ends the spinning.
/// `meanwhile` is given a way to ask whether the guest has been left for good.
pub(super) fn spinning<I: Isa>(
    b: &Bench<'_, I>,
    vm: &ProbeVm<I>,
    target: Gpa,
    on_fault: OnFault,
    meanwhile: impl FnOnce(&Cpu, &dyn Fn() -> bool) -> Run,
) -> Result<Left, Stop> {
    // The guest's first touch of everything it needs, so that what follows is about the target alone.
    let number = vm.post(b.cpu, b.m, 1, Op::Spin, target, 1)?;
    write_word(&vm.memory, b.cpu, b.m, target, 0)?;
    let left = Mutex::new(None);
    let mut here = Ok(());
    let mut meanwhile = Some(meanwhile);
    let ran = b.rig.both(
        &|cpu| {
            let mut end = Ok(Left::Called);
            // The first call may come before the command was seen.
            while end == Ok(Left::Called) {
                let done = vm.word(cpu, b.m, 1, Field::Done);
                if done == Ok(number) {
                    break;
                }
                end = done.and_then(|_| vm.run(cpu, b.m, 1, on_fault));
            }
            *left.lock() = Some(end);
        },
        &mut |cpu| {
            here = meanwhile.take().map_or(Ok(()), |work| work(cpu, &|| left.lock().is_some()));
            if let Err(error) = vm.set(cpu, b.m, 1, Field::Stop, number) {
                here = Err(error);
            }
        },
    );
    if !ran {
        return Err(Stop::Skip("needs two CPUs"));
    }
    here?;
    let end = left.lock().take();
    end.unwrap_or(Err(Stop::Fail("the other CPU did not report")))
}

/// How many stores the spinning guest has made.
fn stores<I: Isa>(b: &Bench<'_, I>, vm: &ProbeVm<I>, cpu: &Cpu) -> Result<u64, Stop> {
    read_word(&vm.memory, cpu, b.m, Field::Result.at(mailbox(1)))
}

/// Waits until the spinning guest has made more than `so_far` stores.
pub(super) fn wait_beyond<I: Isa>(b: &Bench<'_, I>, vm: &ProbeVm<I>, cpu: &Cpu, so_far: u64) -> Result<u64, Stop> {
    let until = b.m.now().after(b.m.ticks_per_second().saturating_mul(PATIENCE));
    loop {
        let now = stores(b, vm, cpu)?;
        if now > so_far {
            return Ok(now);
        }
        if b.m.now() >= until {
            return Err(Stop::Fail("the spinning guest makes no progress"));
        }
        spin_loop();
    }
}

/// A walk that began before a discard may still know the frame: the discard does not end before the walk.
fn waits_for_walk<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        write_word(memory, b.cpu, b.m, page(FREE), 1)?;
        // 0 nothing yet, 1 the other CPU walks, 2 the discard is over, 3 the walk is.
        let step = AtomicU32::new(0);
        let mut early = true;
        let ran = b.rig.both(
            &|cpu| {
                let walk = b.m.epoch().enter(cpu);
                step.store(1, Ordering::Release);
                // A discard that does not wait has ample time to end first.
                let until = b.m.now().after(b.m.ticks_per_second() / 20);
                while step.load(Ordering::Acquire) == 1 && b.m.now() < until {
                    spin_loop();
                }
                // Only if the discard has not ended yet.
                step.compare_exchange(1, 3, Ordering::AcqRel, Ordering::Acquire).unwrap_or_default();
                drop(walk);
            },
            &mut |cpu| {
                while step.load(Ordering::Acquire) == 0 {
                    spin_loop();
                }
                if let Ok(range) = gfns(FREE, 1) {
                    memory.discard(cpu, b.m, range);
                }
                early = step.compare_exchange(1, 2, Ordering::AcqRel, Ordering::Acquire).is_ok();
            },
        );
        if !ran {
            return Err(Stop::Skip("needs two CPUs"));
        }
        check(!early, "a frame was freed under a walk that may know it")
    })
}

/// The headline. The guest is stopped at its first fault on the page, so any store after the unmap would have gone
/// through a stale translation.
fn no_store_lands<I: Isa>(b: &Bench<'_, I>) -> Run {
    for _ in 0..4 {
        ProbeVm::with(b, FIRST, |vm| {
            let target = page(FREE);
            // Map it: with it absent the guest would stop at once.
            check(vm.ask(b, Op::Write, target, 0)?.fine, "a store raised an exception")?;
            let mut after = 0;
            let left = spinning(b, vm, target, OnFault::StopAt(target), |cpu, has_left| {
                wait_beyond(b, vm, cpu, 8)?;
                vm.memory.discard(cpu, b.m, gfns(FREE, 1)?);
                after = stores(b, vm, cpu)?;
                // A guest that still had its translation would go on until it is told to stop.
                let until = b.m.now().after(b.m.ticks_per_second().saturating_mul(PATIENCE));
                while !has_left() && b.m.now() < until {
                    spin_loop();
                }
                Ok(())
            })?;
            check(left == Left::Faulted, "the guest went on storing to a page that was taken away")?;
            // The store before the fault may have been counted after the discard returned.
            check(stores(b, vm, b.cpu)? <= after + 1, "a store landed after unmap had returned")?;
            let value = read_word(&vm.memory, b.cpu, b.m, target)?;
            check(value == 0, "the page is back without a fault having brought it")
        })?;
    }
    Ok(())
}

fn unmap_again_and_again<I: Isa>(b: &Bench<'_, I>) -> Run {
    ProbeVm::with(b, FIRST, |vm| {
        let left = spinning(b, vm, page(FREE), OnFault::Answer, |cpu, _| {
            let mut seen = 0;
            for n in 0..64 {
                seen = wait_beyond(b, vm, cpu, seen)?;
                // Every other time a whole table's worth.
                vm.memory.discard(cpu, b.m, if n % 2 == 0 { gfns(FREE, 1)? } else { gfns(FREE, 16)? });
            }
            wait_beyond(b, vm, cpu, seen).map(|_| ())
        })?;
        check(left == Left::Called, "the guest did not come through")
    })
}

fn frames_reused<I: Isa>(b: &Bench<'_, I>) -> Run {
    const MARK: u64 = 0x4d4d_4d4d_4d4d_4d4d;
    ProbeVm::with(b, FIRST, |vm| {
        let heir = b.memory(SECOND)?;
        let left = spinning(b, vm, page(FREE), OnFault::Answer, |cpu, _| {
            let mut seen = 0;
            for n in 0..32 {
                seen = wait_beyond(b, vm, cpu, seen)?;
                vm.memory.discard(cpu, b.m, gfns(FREE, 1)?);
                // The heir takes the frame, or the guest gets it back: whoever has it, has it alone.
                write_word(&heir, cpu, b.m, page(FREE + n), MARK)?;
                wait_beyond(b, vm, cpu, seen)?;
                for old in 0..=n {
                    let there = read_word(&heir, cpu, b.m, page(FREE + old))?;
                    check(there == MARK, "a guest stored into a frame that was another VM's by then")?;
                }
            }
            Ok(())
        });
        heir.destroy(b.cpu, b.m);
        check(left? == Left::Called, "the guest did not come through")
    })
}
