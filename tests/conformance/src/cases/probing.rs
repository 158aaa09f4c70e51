//! A guest that does single accesses.

use hv_core::addr::Gpa;
use hv_core::isa::Isa;

use super::{Case, case, gfns, page};
use crate::guest::{Answer, ProbeVm, read_word, write_word};
use crate::probe::{FREE, Nowhere, Op, RAM_PAGES};
use crate::rig::{Bench, FIRST, SECOND};
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 9] {
    [
        case!("guest-null-call", "P1", null_call),
        case!("guest-reads-fresh-memory-as-zero", "G1", reads_zero),
        case!("guest-store-reaches-the-host", "G2", store_reaches_host),
        case!("guest-sees-the-hosts-store", "G2", sees_hosts_store),
        case!("guest-access-beyond-ram-meets-nothing", "R17", beyond_ram),
        case!("guest-sees-a-discard", "R9", sees_discard),
        case!("guest-sees-which-pages-went", "R9", sees_which_went),
        case!("guest-reads-then-writes-one-page", "R10", read_then_write),
        case!("guests-of-two-vms-are-apart", "G1", two_vms),
    ]
}

fn null_call<I: Isa>(b: &Bench<'_, I>) -> Run {
    ProbeVm::with(b, FIRST, |vm| {
        for _ in 0..3 {
            check(vm.ask(b, Op::Null, Gpa(0), 0)?.fine, "doing nothing raised an exception")?;
        }
        Ok(())
    })
}

fn reads_zero<I: Isa>(b: &Bench<'_, I>) -> Run {
    ProbeVm::with(b, FIRST, |vm| {
        let before = vm.memory.stats().resident;
        for n in [0, 1, 7, 100] {
            let answer = vm.ask(b, Op::Read, Gpa(page(FREE + n).0 + 8 * n), 0)?;
            check(answer.fine && answer.result == 0, "fresh memory is not zero")?;
        }
        check(vm.memory.stats().resident >= before + 4, "a page that the guest read is not resident")
    })
}

fn store_reaches_host<I: Isa>(b: &Bench<'_, I>) -> Run {
    ProbeVm::with(b, FIRST, |vm| {
        for n in 0..4 {
            let at = Gpa(page(FREE + n).0 + 0x100);
            check(vm.ask(b, Op::Write, at, 0x1122_3344_5566_7700 + n)?.fine, "a store raised an exception")?;
            let there = read_word(&vm.memory, b.cpu, b.m, at)?;
            check(there == 0x1122_3344_5566_7700 + n, "the guest's store went elsewhere")?;
        }
        Ok(())
    })
}

fn sees_hosts_store<I: Isa>(b: &Bench<'_, I>) -> Run {
    ProbeVm::with(b, FIRST, |vm| {
        for value in [1, u64::MAX, 0x0102_0304_0506_0708] {
            write_word(&vm.memory, b.cpu, b.m, page(FREE), value)?;
            check(vm.ask(b, Op::Read, page(FREE), 0)?.result == value, "the guest does not see the host's store")?;
        }
        Ok(())
    })
}

fn beyond_ram<I: Isa>(b: &Bench<'_, I>) -> Run {
    let nowhere = b.rig.probe().map_err(Stop::Skip)?.nowhere;
    let met = |op, answer: Answer| match (nowhere, op) {
        (Nowhere::Exception, _) => !answer.fine,
        (Nowhere::Ones, Op::Read) => answer.fine && answer.result == u64::MAX,
        (Nowhere::Ones, _) => answer.fine,
    };
    ProbeVm::with(b, FIRST, |vm| {
        let before = vm.memory.stats().resident;
        for op in [Op::Read, Op::Write] {
            for gfn in [RAM_PAGES, RAM_PAGES + 3, 1 << 20] {
                check(met(op, vm.ask(b, op, page(gfn), 1)?), "an access where nothing is met something")?;
            }
        }
        check(vm.ask(b, Op::Write, page(RAM_PAGES - 1), 1)?.fine, "the guest did not survive its exceptions")?;
        check(vm.memory.stats().resident <= before + 2, "an access where nothing is cost a frame")
    })
}

fn sees_discard<I: Isa>(b: &Bench<'_, I>) -> Run {
    ProbeVm::with(b, FIRST, |vm| {
        for n in 0..8 {
            check(vm.ask(b, Op::Write, page(FREE), n + 1)?.fine, "a store raised an exception")?;
            vm.memory.discard(b.cpu, b.m, gfns(FREE, 1)?);
            check(vm.ask(b, Op::Read, page(FREE), 0)?.result == 0, "the guest still sees a discarded page")?;
        }
        // A whole neighbourhood, so that tables go as well and walk caches with them.
        for n in 0..64 {
            check(vm.ask(b, Op::Write, page(FREE + n), n + 1)?.fine, "a store raised an exception")?;
        }
        vm.memory.discard(b.cpu, b.m, gfns(FREE, RAM_PAGES - FREE)?);
        for n in 0..64 {
            check(vm.ask(b, Op::Read, page(FREE + n), 0)?.result == 0, "the guest still sees a discarded page")?;
        }
        Ok(())
    })
}

/// Flushes by address, of one leaf and of many, and those that are too many to be named: each ends what the guest had cached
/// of the pages that go, and costs none of the others.
fn sees_which_went<I: Isa>(b: &Bench<'_, I>) -> Run {
    const PAGES: u64 = 128;
    ProbeVm::with(b, FIRST, |vm| {
        for (from, pages) in [(3, 1), (8, 24), (40, 80)] {
            for n in 0..PAGES {
                check(vm.ask(b, Op::Write, page(FREE + n), n + 1)?.fine, "a store raised an exception")?;
            }
            vm.memory.discard(b.cpu, b.m, gfns(FREE + from, pages)?);
            for n in 0..PAGES {
                let kept = if (from..from + pages).contains(&n) { 0 } else { n + 1 };
                let read = vm.ask(b, Op::Read, page(FREE + n), 0)?.result;
                check(read == kept, "the guest sees a page that went, or misses one that did not")?;
            }
        }
        Ok(())
    })
}

fn read_then_write<I: Isa>(b: &Bench<'_, I>) -> Run {
    ProbeVm::with(b, FIRST, |vm| {
        check(vm.ask(b, Op::Read, page(FREE), 0)?.fine, "a load raised an exception")?;
        let resident = vm.memory.stats().resident;
        check(vm.ask(b, Op::Write, page(FREE), 9)?.fine, "a store after a load raised an exception")?;
        check(vm.ask(b, Op::Read, page(FREE), 0)?.result == 9, "the store went elsewhere")?;
        check(vm.memory.stats().resident == resident, "one page has two frames")
    })
}

fn two_vms<I: Isa>(b: &Bench<'_, I>) -> Run {
    ProbeVm::with(b, FIRST, |one| {
        ProbeVm::with(b, SECOND, |two| {
            for n in 0..4 {
                check(one.ask(b, Op::Write, page(FREE), 100 + n)?.fine, "a store raised an exception")?;
                check(two.ask(b, Op::Write, page(FREE), 200 + n)?.fine, "a store raised an exception")?;
                check(one.ask(b, Op::Read, page(FREE), 0)?.result == 100 + n, "one VM sees the other's store")?;
                check(two.ask(b, Op::Read, page(FREE), 0)?.result == 200 + n, "one VM sees the other's store")?;
            }
            Ok(())
        })
    })
}
