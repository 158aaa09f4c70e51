//! What is done when the machine's memory has run out.
//!
//! ```text
//!   a vCPU's fault, or a service for its guest, finds no frame: it holds nothing any more, and asks (Rare::relieve)
//!     somebody freed some meanwhile                                -> Again
//!     a VM is ending, whose memory comes                           -> Wait
//!     reclaim, BATCH frames: its own VM and the largest take turns at being first, then the others
//!       some went                                                  -> Again
//!       pages were met that the store does not take                -> Wait, and the next one goes on behind them
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
//! many: its vCPUs leave at their next look, for which they need no memory, and the last of them frees all of it. Or it
//! follows pages that the store did not take, and those are counted: once there have been as many as all VMs have pages, and
//! little has come of it ([`WORTH`]), what is left does not pack, and to go on would be to try the same pages for ever. What
//! comes back by its policy has to be built first, of free frames, or stays down.
//!
//! **Who ends.** The VM with most frames, those that the store holds for it included. So one that did not cause the shortage
//! is never ended while a larger one is there.
//!
//! Locks: none is held here while memory is reclaimed or a VM ended; callers hold no guard and no ranked lock.

use heapless::Vec;

use super::Hypervisor;
use super::scan::Scan;
use crate::epoch::Cpu;
use crate::guest::lifecycle::State;
use crate::guest::manifest::MAX_VMS;
use crate::isa::Isa;
use crate::machine::{Instant, Machine};
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, spin_loop};
use crate::vcpu::exit::End;
use crate::vm::Vm;

/// Frames that are asked for when a fault waits: the brackets and flushes that they cost are shared by as many faults.
const BATCH: u64 = 256;
/// With fewer free frames than this memory is short.
const LEAST: u64 = 16;
/// Frames that have to come of a round, or it was not worth what it took.
const WORTH: u64 = BATCH / 4;
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

/// Whether memory can be had without ending anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// Some is free.
    Some,
    /// Some may be, if one asks again.
    Perhaps,
    /// None.
    None,
}

/// What is remembered between shortages.
#[derive(Debug)]
pub(super) struct Shortage {
    /// Counts reliefs, so that who is first changes.
    turn: AtomicUsize,
    /// Pages that the store did not take since a round was last worth it.
    barren: AtomicU64,
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
        Self { turn: AtomicUsize::new(0), barren: AtomicU64::new(0), ahead: Mutex::new(Ahead::Rests(Instant(0))) }
    }
}

impl Shortage {
    /// What a round came to in which so many frames were freed and so many pages refused, of the VMs' so many.
    fn judge(&self, freed: u64, refused: u64, pages: u64) -> Room {
        if freed >= WORTH {
            self.barren.store(0, Ordering::Relaxed);
            return Room::Some;
        }
        let barren = self.barren.fetch_add(refused, Ordering::Relaxed).saturating_add(refused);
        if barren > pages || (freed == 0 && refused == 0) {
            self.barren.store(0, Ordering::Relaxed);
            Room::None
        } else if freed >= LEAST {
            Room::Some
        } else {
            Room::Perhaps
        }
    }
}

impl<I: Isa> Hypervisor<I> {
    /// The VM `asker` needs memory, and there is none.
    #[cold]
    pub(crate) fn relieve(&self, cpu: &Cpu, asker: usize) -> Relief {
        let ending = |vm: &Vm<I>| matches!(vm.life.lock().state(), State::Ending(_));
        if self.free() < LEAST && self.vms.iter().any(ending) {
            return Relief::Wait;
        }
        match self.make_room(cpu, asker) {
            Room::Some => return Relief::Again,
            Room::Perhaps => return Relief::Wait,
            Room::None => {}
        }
        match self.by_use().first() {
            Some((_, largest)) if *largest != asker => {
                self.end_vm(cpu, *largest, End::OutOfMemory);
                Relief::Wait
            }
            Some(_) | None => Relief::End,
        }
    }

    /// The same for a VM that is being built: it asks until it knows. True if there is some.
    #[cold]
    pub(super) fn room_to_build(&self, cpu: &Cpu, asker: usize) -> bool {
        loop {
            match self.make_room(cpu, asker) {
                Room::Some => return true,
                Room::None => return false,
                Room::Perhaps => spin_loop(),
            }
        }
    }

    /// Sees to it that some memory is free, without ending anybody.
    fn make_room(&self, cpu: &Cpu, asker: usize) -> Room {
        if self.free() >= LEAST {
            return Room::Some;
        }
        let users = self.by_use();
        let turn = self.shortage.turn.fetch_add(1, Ordering::Relaxed);
        let own = users.iter().filter(|(_, vm)| turn.is_multiple_of(2) && *vm == asker);
        let (mut freed, mut refused) = (0_u64, 0_u64);
        for (_, vm) in own.chain(&users) {
            if freed >= BATCH {
                break;
            }
            if let Some(running) = self.vms.get(*vm).and_then(Vm::running) {
                let done = running.memory.reclaim(cpu, self.machine, BATCH.saturating_sub(freed));
                freed = freed.saturating_add(done.freed);
                refused = refused.saturating_add(done.refused);
            }
        }
        let pages = users.iter().fold(0_u64, |sum, (frames, _)| sum.saturating_add(*frames));
        self.shortage.judge(freed, refused, pages)
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
        let mut sorted: Vec<_, MAX_VMS> = Vec::new();
        for one in used {
            // There are no more VMs than the manifest may have.
            let _ = sorted.insert(sorted.iter().position(|other| one > *other).unwrap_or(sorted.len()), one);
        }
        sorted
    }

    /// A step of a CPU that has nothing to run: frees some memory in advance, if little is free.
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

#[cfg(test)]
mod tests {
    use super::{LEAST, Room, Shortage, WORTH};

    /// Every way of asking again ends: in frames, or in the knowledge that there are none.
    #[test]
    fn p8_a_shortage_that_nobody_can_relieve_is_known_after_a_round_over_all_pages() {
        let shortage = Shortage::default();
        assert_eq!(shortage.judge(0, 0, 1000), Room::None, "nobody swaps");
        assert_eq!(shortage.judge(WORTH, 5000, 1000), Room::Some);
        for _ in 0..4 {
            assert_eq!(shortage.judge(0, 250, 1000), Room::Perhaps, "others may lie ahead");
        }
        assert_eq!(shortage.judge(LEAST, 1, 1000), Room::None, "all were tried: what comes now is not worth it");
        assert_eq!(shortage.judge(LEAST, 999, 1000), Room::Some, "and the count begins anew");
        assert_eq!(shortage.judge(WORTH, 999, 1000), Room::Some);
        assert_eq!(shortage.judge(LEAST - 1, 999, 1000), Room::Perhaps, "what was worth it wiped the count out");
    }
}
