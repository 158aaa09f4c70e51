//! Second-stage faults, without a guest.

use hv_core::addr::Gpa;
use hv_core::isa::{Isa, Stage2};
use hv_core::machine::Machine;
use hv_core::mmu::{GuestMemory, MemoryError, Outcome};
use hv_core::radix::format::{Prot, Pte};
use hv_core::vcpu::exit::Access;

use super::{Case, case, fault, page};
use crate::hold::Hold;
use crate::probe::{FREE, RAM_PAGES};
use crate::rig::{Bench, FIRST};
use crate::verdict::{Run, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 7] {
    [
        case!("fault-fresh-page-is-mapped", "R6", fresh),
        case!("fault-present-page-costs-no-frame", "R4", present),
        case!("fault-outside-every-slot", "R17", no_slot),
        case!("fault-addresses-at-the-end-of-time", "R17", wrap_around),
        case!("fault-without-memory", "P8", no_memory),
        case!("fault-memory-runs-out-at-every-point", "P8", every_point),
        case!("memory-absurd-sizes-are-refused", "P8", absurd_sizes),
    ]
}

fn fresh<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        for (n, access) in [Access::Read, Access::Write, Access::Fetch].into_iter().enumerate() {
            let at = page(FREE + n as u64);
            check(memory.stats().resident == n as u64, "memory that nobody touched is resident")?;
            check(fault(b, memory, at, access) == Outcome::Mapped, "a fault on RAM was not answered")?;
            let Pte::Leaf(leaf) = memory.stage2().lookup(b.cpu, b.m, at.page()) else {
                return check(false, "an answered fault left no translation");
            };
            check(leaf.prot == Prot::all(), "RAM is not readable, writable and executable")?;
        }
        Ok(())
    })
}

fn present<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        check(fault(b, memory, page(FREE), Access::Read) == Outcome::Mapped, "a fault on RAM was not answered")?;
        let before = memory.stats();
        for access in [Access::Read, Access::Write, Access::Fetch] {
            let mapped = fault(b, memory, Gpa(page(FREE).0 + 0xff8), access) == Outcome::Mapped;
            check(mapped, "a fault on a present page was not answered")?;
        }
        let after = memory.stats();
        check((before.resident, before.tables) == (after.resident, after.tables), "a present page cost a frame")?;
        check(after.retries == 0, "a fault that met nobody was tried again")
    })
}

fn no_slot<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        let before = memory.stats();
        for gfn in [RAM_PAGES, RAM_PAGES + 1, 1 << 24, 1 << 36, 1 << 40] {
            check(fault(b, memory, page(gfn), Access::Read) == Outcome::NoSlot, "an address without RAM was answered")?;
        }
        let last = fault(b, memory, page(RAM_PAGES - 1), Access::Read);
        check(last == Outcome::Mapped, "the last page of RAM is missing")?;
        check(memory.stats().resident == before.resident + 1, "a refused fault cost a frame")
    })
}

fn wrap_around<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        for gpa in [u64::MAX, u64::MAX - 0xfff, 1 << 63, (1 << 63) + (FREE << 12), !0xfff >> 1] {
            for access in [Access::Read, Access::Write, Access::Fetch] {
                check(fault(b, memory, Gpa(gpa), access) == Outcome::NoSlot, "an impossible address was answered")?;
            }
        }
        Ok(())
    })
}

fn no_memory<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        let hold = Hold::everything(b.cpu, b.m.frames());
        let starved = fault(b, memory, page(FREE), Access::Write);
        drop(hold);
        check(starved == Outcome::NoMemory, "a page out of nothing")?;
        check(memory.stats().resident == 0, "a page that was not given counts")?;
        check(fault(b, memory, page(FREE), Access::Write) == Outcome::Mapped, "no recovery once there is memory")
    })
}

fn every_point<I: Isa>(b: &Bench<'_, I>) -> Run {
    // A page, and tables in both trees: with each frame more, the fault gets one step further.
    let mut needed = 0;
    for keep in 0..16 {
        let before = b.free();
        b.with_memory(|memory| {
            let hold = Hold::all_but(b.cpu, b.m.frames(), keep);
            let outcome = fault(b, memory, page(FREE), Access::Write);
            drop(hold);
            check(matches!(outcome, Outcome::NoMemory | Outcome::Mapped), "a lack of memory shows as something else")?;
            check(outcome == Outcome::Mapped || keep == needed, "more memory makes a fault fail")?;
            needed += usize::from(outcome == Outcome::NoMemory);
            check(fault(b, memory, page(FREE), Access::Write) == Outcome::Mapped, "no recovery once there is memory")
        })?;
        check(b.free() == before, "a fault that failed half-way lost a frame")?;
    }
    check((2..16).contains(&needed), "the fault did not meet a lack of memory where it must")
}

fn absurd_sizes<I: Isa>(b: &Bench<'_, I>) -> Run {
    for bytes in [0, 1, 4095, 4097, u64::MAX, u64::MAX << 12] {
        let refused = match GuestMemory::<I>::new(b.cpu, b.m, FIRST, bytes) {
            Ok(memory) => {
                memory.destroy(b.cpu, b.m);
                false
            }
            Err(error) => error == MemoryError::BadSize,
        };
        check(refused, "an absurd size of RAM was accepted")?;
    }
    Ok(())
}
