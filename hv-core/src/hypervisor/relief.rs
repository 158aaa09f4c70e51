//! What is done when the machine's memory has run out.
//!
//! ```text
//!   a vCPU's fault, or a service for its guest, finds no frame: it holds nothing any more, and asks (Rare::relieve)
//!     somebody freed some meanwhile                                -> Again
//!     a VM is ending, whose memory comes                           -> Wait
//!     reclaim, BATCH frames: its own VM and the largest take turns at being first, then the others
//!       enough went                                                -> Again
//!     nobody has anything to give: the VM that uses most has to go
//!       the asker's own                                            -> End
//!       another one is ended                                       -> Wait
//!   a VM that is being built asks as well, and ends nobody else: it is not built
//!   idle CPUs do the same in advance, a little at a time, so that a fault seldom has to
//! ```
//!
//! Again: the guest is entered again and faults anew, so that whatever was derived before memory ran out is derived again
//! (B4, B5). Wait: it is entered again after others that want the CPU. End: its VM ends, by the policy of its manifest.
//!
//! **No livelock.** Each Again follows at least [`LEAST`] frames that were freed, and each of them is taken by somebody's
//! fault, which is then answered; the pages that went had not been used since the hand last came by, or all had been, and
//! what a fault has brought goes last (`host/reclaim.rs`). Each Wait follows the end of one VM, of which there are finitely
//! many: its vCPUs leave at their next look, for which they need no memory, and the last of them frees all of it. What comes
//! back by its policy has to be built first, of free frames, or stays down. Memory that the store does not take can never be
//! freed by trying again: a round over everything that freed less than [`LEAST`] frames is the end, not a reason to go on.
//!
//! **Who ends.** The VM with most frames, those that the store holds for it included. So one that did not cause the shortage
//! is never ended while a larger one is there.
//!
//! Locks: none is held here while memory is reclaimed or a VM ended; callers hold no guard and no ranked lock.

use core::cmp::Reverse;

use heapless::Vec;

use super::Hypervisor;
use super::scan::Scan;
use crate::epoch::Cpu;
use crate::guest::lifecycle::State;
use crate::guest::manifest::MAX_VMS;
use crate::isa::Isa;
use crate::machine::{Instant, Machine};
use crate::sync::{AtomicUsize, Mutex, Ordering};
use crate::vcpu::exit::End;
use crate::vm::Vm;

/// Frames that are asked for when a fault waits: the brackets and flushes that they cost are shared by as many faults.
const BATCH: u64 = 256;
/// Frames that have to come of a whole round, or nothing more is to be had.
const LEAST: u64 = 16;
/// Frames that an idle CPU asks for at a time.
const STEP: u64 = 64;
/// Idle CPUs begin when less than one in so many frames is free, and end when twice as much is.
const SHARE: u64 = 64;

/// What became of a shortage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relief {
    /// There are frames: enter the guest again.
    Again,
    /// There will be, when others have run.
    Wait,
    /// There are none, and the asker's VM uses most: it ends.
    End,
}

/// What is remembered between shortages.
#[derive(Debug)]
pub(super) struct Shortage {
    /// Counts reliefs, so that who is first changes.
    turn: AtomicUsize,
    /// Held by the one CPU that frees memory in advance.
    ahead: Mutex<Ahead>,
}

/// How far freeing in advance is.
#[derive(Debug)]
enum Ahead {
    /// Nothing to be done before this instant.
    Rests(Instant),
    /// Between the two marks; so many VMs in a row had nothing to give.
    Frees(usize),
}

impl Default for Shortage {
    fn default() -> Self {
        Self { turn: AtomicUsize::new(0), ahead: Mutex::new(Ahead::Rests(Instant(0))) }
    }
}

impl<I: Isa> Hypervisor<I> {
    /// The VM `asker` needs memory, and there is none.
    #[cold]
    pub(crate) fn relieve(&self, cpu: &Cpu, asker: usize) -> Relief {
        if self.make_room(cpu, asker) {
            return Relief::Again;
        }
        if self.vms.iter().any(|vm| matches!(vm.life.lock().state(), State::Ending(_))) {
            return Relief::Wait;
        }
        match self.by_use().first() {
            Some((_, largest)) if *largest != asker => {
                self.end_vm(cpu, *largest, End::OutOfMemory);
                Relief::Wait
            }
            Some(_) | None => Relief::End,
        }
    }

    /// Sees to it that some memory is free, without ending anybody. False if there is none to be had.
    #[cold]
    pub(super) fn make_room(&self, cpu: &Cpu, asker: usize) -> bool {
        if self.free() >= LEAST {
            return true;
        }
        let mut order = self.by_use();
        let turn = self.shortage.turn.fetch_add(1, Ordering::Relaxed);
        if turn.is_multiple_of(2) {
            order.sort_by_key(|(_, vm)| *vm != asker);
        }
        let mut freed = 0_u64;
        for (_, vm) in order {
            let Some(running) = self.vms.get(vm).and_then(Vm::running) else { continue };
            let done = running.memory.reclaim(cpu, self.machine, BATCH.saturating_sub(freed));
            freed = freed.saturating_add(done.freed);
            if freed >= BATCH {
                break;
            }
        }
        // What a VM that ended meanwhile gave back counts as well.
        self.free() >= LEAST
    }

    /// Frames that anybody may have.
    fn free(&self) -> u64 {
        self.machine.frames().counts().free
    }

    /// The VMs that run, by the frames that they use, the largest first: resident ones, tables, and their share of the store.
    fn by_use(&self) -> Vec<(u64, usize), MAX_VMS> {
        let store = self.store.stats();
        let running = self.vms.iter().enumerate().filter_map(|(index, vm)| Some((index, vm.running()?)));
        let used = running.map(|(index, vm)| {
            let stats = vm.memory.stats();
            let stored = stats.swapped.saturating_mul(store.frames).checked_div(store.pages).unwrap_or(0);
            (stats.resident.saturating_add(stats.tables).saturating_add(stored), index)
        });
        let mut used: Vec<_, MAX_VMS> = used.take(MAX_VMS).collect();
        used.sort_unstable_by_key(|(frames, _)| Reverse(*frames));
        used
    }

    /// A step of a CPU that has nothing to run.
    pub(super) fn free_ahead(&self, cpu: &Cpu) -> Scan {
        let Some(mut ahead) = self.shortage.ahead.try_lock() else { return Scan::Rest };
        let now = self.machine.now();
        if matches!(*ahead, Ahead::Rests(until) if now < until) {
            return Scan::Rest;
        }
        let counts = self.machine.frames().counts();
        let low = counts.total / SHARE;
        let rest = Ahead::Rests(now.after(self.machine.ticks_per_second() / 16));
        let vain = match *ahead {
            Ahead::Rests(_) if counts.free >= low => return Scan::Rest,
            Ahead::Rests(_) => 0,
            Ahead::Frees(vain) => vain,
        };
        if counts.free >= low.saturating_mul(2) || vain >= self.vms.len() {
            *ahead = rest;
            return Scan::Rest;
        }
        let turn = self.shortage.turn.fetch_add(1, Ordering::Relaxed);
        let vm = turn.checked_rem(self.vms.len()).and_then(|vm| self.vms.get(vm)).and_then(Vm::running);
        let freed = vm.map_or(0, |vm| vm.memory.reclaim(cpu, self.machine, STEP).freed);
        *ahead = Ahead::Frees(if freed == 0 { vain.saturating_add(1) } else { 0 });
        Scan::Stepped
    }
}
