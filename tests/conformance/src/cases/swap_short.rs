//! Swapping where frames, or the store's room, are short.

use hv_core::addr::Gpa;
use hv_core::host::HugePolicy;
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::mmu::{GuestMemory, Outcome};
use hv_core::page::{RESERVE, Store};
use hv_core::vcpu::exit::Access;
use hv_core::vcpu::services::MemError;

use super::huge::{BLOCK, anon};
use super::split::{fill, holds};
use super::swap::{PAGES, empty, packed, small, stats, with_store};
use super::{Case, case, fault, page};
use crate::guest::ProbeVm;
use crate::hold::Hold;
use crate::probe::{FREE, Op, RAM_PAGES};
use crate::rig::Bench;
use crate::store::Heap;
use crate::verdict::{Run, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 6] {
    [
        case!("swap-a-full-store-keeps-nothing-from-anybody", "P8", full),
        case!("swap-what-does-not-pack-stays", "P8", noise),
        case!("swap-what-was-refused-goes-once-it-packs", "P8", forgiven),
        case!("swap-of-huge-leaves-without-a-free-frame", "P8", starved),
        case!("swap-in-without-a-free-frame-changes-nothing", "P8", no_frame),
        case!("swap-guests-together-larger-than-the-machine-has-free", "P8", overcommitted),
    ]
}

fn full<I: Isa>(b: &Bench<'_, I>) -> Run {
    let room = PAGES / 2;
    let store = Heap::new(b, usize::try_from(room).unwrap_or(0))?;
    b.with_config(small().swap(store.clone()), |memory| {
        fill(b, memory, 0..PAGES)?;
        let done = memory.reclaim(b.cpu, b.m, u64::MAX);
        check(done.freed == room && done.refused >= PAGES - room, "a full store took pages")?;
        check(store.kept() as u64 == room && memory.stats().resident == PAGES - room, "pages were lost")?;
        check(memory.reclaim(b.cpu, b.m, 1).freed == 0, "a page went nowhere")?;
        holds(b, memory, 0..PAGES, 0..0)
    })?;
    let left = Store::<I::Machine>::stats(&*store);
    check((left.pages, left.damaged) == (0, 0), "a token was used twice, or never")
}

/// Fills a page with what does not pack.
fn write_noise<I: Isa>(b: &Bench<'_, I>, memory: &GuestMemory<I>, n: u64) -> Run {
    check(memory.write(b.cpu, b.m, page(n), &random(n)).is_ok(), "RAM cannot be written")
}

/// Bytes without a pattern, others for each `seed`.
pub(super) fn random(seed: u64) -> [u8; 4096] {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    core::array::from_fn(|_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    })
}

fn noise<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_store(b, small(), |memory, store| {
        for n in 0..PAGES {
            write_noise(b, memory, n)?;
        }
        let before = b.free();
        let done = memory.reclaim(b.cpu, b.m, 1);
        check((done.freed, done.refused) == (0, PAGES), "what does not pack was taken, or tried again at once")?;
        let again = memory.reclaim(b.cpu, b.m, 1);
        check((again.freed, again.refused) == (0, 0), "what was refused is tried again though nobody used it")?;
        let kept = stats::<I>(store);
        check((kept.pages, kept.frames) == (0, 0) && b.free() == before, "a refusal costs frames")?;
        for n in 0..PAGES {
            let mut bytes = [0; 4096];
            let read = memory.read(b.cpu, b.m, page(n), &mut bytes).is_ok();
            check(read && bytes == random(n), "a page that stayed has changed")?;
        }
        check(memory.stats().resident == PAGES, "a page that was refused is gone")
    })
}

fn forgiven<I: Isa>(b: &Bench<'_, I>) -> Run {
    let store = packed(b)?;
    ProbeVm::with_config(b, anon(RAM_PAGES, HugePolicy::Never).swap(store.clone()), |vm| {
        let (all, one) = (8, FREE + 3);
        for n in FREE..FREE + all {
            write_noise(b, &vm.memory, n)?;
        }
        vm.memory.reclaim(b.cpu, b.m, u64::MAX);
        check(stats::<I>(&store).refused >= all, "noise was taken")?;
        let out = vm.memory.stats().swapped_out;
        // The guest makes zeros of one.
        for at in (page(one).0..page(one + 1).0).step_by(8).map(Gpa) {
            vm.ask(b, Op::Write, at, 0)?;
        }
        vm.memory.reclaim(b.cpu, b.m, u64::MAX);
        check(vm.memory.stats().swapped_out > out, "a page that was refused once stays for ever")?;
        let (resident, mut bytes) = (vm.memory.stats().resident, [0; 4096]);
        check(resident < all, "a page of zeros stays")?;
        let read = vm.memory.read(b.cpu, b.m, page(one), &mut bytes).is_ok();
        check(read && bytes == [0; 4096], "what the guest wrote is lost")
    })?;
    empty::<I>(&store)
}

fn starved<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_store(b, anon(2 * BLOCK, HugePolicy::Always), |memory, _| {
        fill(b, memory, 0..2 * BLOCK)?;
        check(memory.stats().huge == 2, "no blocks")?;
        let hold = Hold::everything(b.cpu, b.m.frames());
        check(hold.nothing_left(), "something is free")?;
        let done = memory.reclaim(b.cpu, b.m, 2 * BLOCK);
        let (free, reserve) = (b.free(), b.m.frames().counts().reserve);
        drop(hold);
        check(done.freed == 2 * BLOCK && done.refused == 0, "the reserve did not suffice")?;
        check(reserve == RESERVE, "the reserve was not filled up again")?;
        check(free > BLOCK, "next to nothing was gained")?;
        holds(b, memory, 0..2 * BLOCK, 0..0)
    })
}

fn no_frame<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_store(b, small(), |memory, store| {
        fill(b, memory, 0..PAGES)?;
        memory.reclaim(b.cpu, b.m, PAGES);
        let hold = Hold::everything(b.cpu, b.m.frames());
        let mut bytes = [0; 8];
        let read = memory.read(b.cpu, b.m, page(3), &mut bytes);
        let faulted = fault(b, memory, page(3), Access::Read);
        drop(hold);
        check(read == Err(MemError::NoMemory), "a page came back into no frame")?;
        check(faulted == Outcome::NoMemory, "a fault was answered without a frame")?;
        check(stats::<I>(store).pages == PAGES, "the store forgot a page that never came back")?;
        holds(b, memory, 0..PAGES, 0..0)
    })
}

/// Twice what is free, page by page; what does not fit any more makes room by itself.
fn overcommitted<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_store(b, anon(2 * BLOCK, HugePolicy::Never), |memory, _| {
        let _hold = Hold::all_but(b.cpu, b.m.frames(), 48);
        let mut misses = 0_u64;
        for round in 0..2_u64 {
            for n in 0..PAGES {
                let value = n + 1 + round * 1000;
                while memory.write(b.cpu, b.m, page(n), &value.to_le_bytes()).is_err() {
                    misses += 1;
                    check(memory.reclaim(b.cpu, b.m, 8).freed > 0, "nothing can be freed, with packable pages about")?;
                }
            }
            for n in 0..PAGES {
                let mut bytes = [0; 8];
                while memory.read(b.cpu, b.m, page(n), &mut bytes).is_err() {
                    check(memory.reclaim(b.cpu, b.m, 8).freed > 0, "nothing can be freed, with packable pages about")?;
                }
                check(u64::from_le_bytes(bytes) == n + 1 + round * 1000, "a page came back as another")?;
            }
        }
        check(misses > 0, "memory was not short")
    })
}
