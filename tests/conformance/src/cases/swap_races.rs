//! Pages go to a store and come back while another CPU uses them.

use hv_core::epoch::Cpu;
use hv_core::host::HugePolicy;
use hv_core::isa::Isa;
use hv_core::mmu::GuestMemory;
use hv_core::sync::{AtomicU64, Mutex, Ordering};

use super::huge::{BLOCK, anon};
use super::races::{spinning, wait_beyond};
use super::swap::{empty, packed, with_store};
use super::{Case, case, gfns, page};
use crate::guest::{Left, OnFault, ProbeVm, read_word};
use crate::probe::{FREE, Field, RAM_PAGES, mailbox};
use crate::rig::Bench;
use crate::verdict::{Run, Stop, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 4] {
    [
        case!("race-a-writer-and-a-reclaimer", "R2", writer),
        case!("race-two-cpus-bring-the-same-pages", "R24", two_bring),
        case!("race-a-discard-and-a-swap-in", "R8", discard),
        case!("race-a-guest-stores-to-a-page-that-is-swapped", "R8", guest),
    ]
}

const ROUNDS: u64 = 60;
const PAGES: u64 = 24;

/// Runs `there` on the other CPU, again and again, until `here` has ended.
fn meanwhile<I: Isa>(
    b: &Bench<'_, I>,
    there: impl Fn(&Cpu, u64) -> Run + Sync,
    mut here: impl FnMut(&Cpu) -> Run,
) -> Run {
    let (stop, beyond, mut end) = (AtomicU64::new(0), Mutex::new(Ok(())), Ok(()));
    let ran = b.rig.both(
        &|cpu| {
            let mut round = 0;
            while stop.load(Ordering::Relaxed) == 0 {
                let run = there(cpu, round);
                if run.is_err() {
                    *beyond.lock() = run;
                    return;
                }
                round += 1;
            }
        },
        &mut |cpu| {
            end = here(cpu);
            stop.store(1, Ordering::Relaxed);
        },
    );
    if !ran {
        return Err(Stop::Skip("needs two CPUs"));
    }
    end.and(beyond.into_inner())
}

fn read<I: Isa>(m: &I::Machine, memory: &GuestMemory<I>, cpu: &Cpu, n: u64) -> Result<u64, Stop> {
    read_word(memory, cpu, m, page(n))
}

/// Whatever is stored at any moment of a swap is there afterwards.
fn writer<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_store(b, anon(BLOCK, HugePolicy::Never), |memory, _| {
        let wrong = Stop::Fail("a store was lost to a swap");
        meanwhile(
            b,
            |cpu, round| {
                for n in 0..PAGES {
                    let value = 1 + round * PAGES + n;
                    let wrote = memory.write(cpu, b.m, page(n), &value.to_le_bytes());
                    check(wrote.is_ok(), "RAM cannot be written")?;
                    // Another page's turn, and perhaps a swap, in between.
                    let (before, next) = (value.saturating_sub(PAGES), (n + 1) % PAGES);
                    let expected = if next == 0 { value - n } else { before + 1 };
                    if (round > 0 || next == 0) && read(b.m, memory, cpu, next)? != expected {
                        return Err(wrong);
                    }
                }
                Ok(())
            },
            |cpu| {
                let until = memory.stats().swapped_in + ROUNDS * PAGES;
                while memory.stats().swapped_in < until {
                    memory.reclaim(cpu, b.m, PAGES);
                }
                Ok(())
            },
        )
    })
}

/// Two CPUs want the same pages: each is brought once.
fn two_bring<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_store(b, anon(BLOCK, HugePolicy::Never), |memory, _| {
        for n in 0..PAGES {
            check(memory.write(b.cpu, b.m, page(n), &(n + 1).to_le_bytes()).is_ok(), "RAM cannot be written")?;
        }
        let all = |cpu: &Cpu| {
            (0..PAGES).try_for_each(|n| check(read(b.m, memory, cpu, n)? == n + 1, "a page came back as another"))
        };
        meanwhile(
            b,
            |cpu, _| all(cpu),
            |cpu| {
                for _ in 0..ROUNDS {
                    check(memory.reclaim(cpu, b.m, PAGES).refused == 0, "a page was refused")?;
                    all(cpu)?;
                }
                Ok(())
            },
        )?;
        let now = memory.stats();
        check(now.swapped_in + now.swapped == now.swapped_out, "a page was brought twice, or never")
    })
}

/// What is discarded is zero, also while another CPU is bringing it back.
fn discard<I: Isa>(b: &Bench<'_, I>) -> Run {
    with_store(b, anon(BLOCK, HugePolicy::Never), |memory, _| {
        meanwhile(
            b,
            |cpu, round| {
                let there = read(b.m, memory, cpu, round % PAGES)?;
                check(there == 0 || there == 1 + round % PAGES, "a page came back as another")
            },
            |cpu| {
                for _ in 0..ROUNDS {
                    for n in 0..PAGES {
                        let wrote = memory.write(cpu, b.m, page(n), &(n + 1).to_le_bytes());
                        check(wrote.is_ok(), "RAM cannot be written")?;
                    }
                    memory.reclaim(cpu, b.m, PAGES);
                    memory.discard(cpu, b.m, gfns(0, PAGES)?);
                    for n in 0..PAGES {
                        check(read(b.m, memory, cpu, n)? == 0, "a page came back after it had been discarded")?;
                    }
                }
                Ok(())
            },
        )
    })
}

/// The guest counts its stores: the last one is there.
fn guest<I: Isa>(b: &Bench<'_, I>) -> Run {
    let store = packed(b)?;
    ProbeVm::with_config(b, anon(RAM_PAGES, HugePolicy::Never).swap(store.clone()), |vm| {
        let left = spinning(b, vm, page(FREE), OnFault::Answer, |cpu, _| {
            let mut seen = 0;
            for _ in 0..8 {
                seen = wait_beyond(b, vm, cpu, seen)?;
                // In the second round at the latest what the guest uses goes as well.
                vm.memory.reclaim(cpu, b.m, 1);
            }
            wait_beyond(b, vm, cpu, seen).map(|_| ())
        })?;
        check(left == Left::Called, "the guest did not come through")?;
        let counted = read_word(&vm.memory, b.cpu, b.m, Field::Result.at(mailbox(1)))?;
        let stored = read_word(&vm.memory, b.cpu, b.m, page(FREE))?;
        check(stored == counted, "the guest's last store is lost")?;
        check(vm.memory.stats().swapped_in > 0, "nothing was swapped under the guest")
    })?;
    empty::<I>(&store)
}
