//! Shares the physical CPUs among all vCPUs: more vCPUs than CPUs, nobody starves, a CPU without work sleeps.
//!
//! One queue for the machine under one lock, taken when a vCPU changes hands and never on a vCPU's way through an exit.
//! A vCPU that becomes ready goes to a sleeping CPU if there is one. One that wakes (an interrupt, its timer) goes
//! before those that used up their slice, so the wait for a CPU is at most one slice per CPU's queue.
//!
//! The timer of a halted vCPU is kept by the CPU on which it halted: that CPU neither sleeps nor runs a guest past it.
//!
//! No wake-up is lost: a waker first makes its reason visible, then marks the vCPU ([`Scheduler::wake`]); a vCPU that
//! halts does so under the same lock and not if it has been marked since it last looked ([`Entity::look`]).
//!
//! Nothing here touches the machine: what returns a [`CpuId`] wants that CPU kicked. Generic over the task, so that it
//! is tested without one.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::epoch::MAX_CPUS;
use crate::machine::{CpuId, Instant};
use crate::sync::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Mutex, Ordering};

/// What is scheduled: a cheap handle on a vCPU.
pub trait Task: Clone {
    /// Its scheduling state; the same for every clone.
    fn entity(&self) -> &Entity;
}

const STOPPED: u32 = 0;
const READY: u32 = 1;
const HALTED: u32 = 2;
/// Running on CPU `n` is this plus `n`.
const RUNNING: u32 = 16;

/// Scheduling state of one task. Written under the scheduler's lock only.
#[derive(Debug, Default)]
pub struct Entity {
    state: AtomicU32,
    /// The CPU that keeps its timer.
    home: AtomicU16,
    wake_at: AtomicU64,
    marked: AtomicBool,
}

impl Entity {
    /// True if the task has been marked since the last call. The task calls it before it looks for reasons to run.
    pub fn look(&self) -> bool {
        // The load spares the common case a read-modify-write.
        self.marked.load(Ordering::Relaxed) && self.marked.swap(false, Ordering::AcqRel)
    }

    /// True if it has been started and has not stopped itself.
    pub fn is_started(&self) -> bool {
        self.state.load(Ordering::Relaxed) != STOPPED
    }

    fn set(&self, state: u32) {
        self.state.store(state, Ordering::Relaxed);
    }

    fn due(&self) -> Instant {
        Instant(self.wake_at.load(Ordering::Relaxed))
    }

    fn home(&self) -> CpuId {
        CpuId(self.home.load(Ordering::Relaxed))
    }

    fn is_home(&self, cpu: CpuId) -> bool {
        self.home() == cpu
    }
}

/// Why a task gives up its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Others wait.
    Yield,
    /// Until it is woken, or this instant.
    Halt(Instant),
    /// Until it is started again.
    Stop,
}

/// What a CPU does next.
#[derive(Debug)]
pub enum Pick<T> {
    /// Run this task, until this instant at the latest.
    Run(T, Instant),
    /// Sleep until this instant or a kick.
    Sleep(Instant),
}

/// What a task does whose time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice {
    /// Nobody waits: go on until this instant.
    Continue(Instant),
    /// Give way to another.
    GiveWay,
}

/// The scheduler.
#[derive(Debug)]
pub struct Scheduler<T> {
    queue: Mutex<Queue<T>>,
    glance: Glance,
    slice_ticks: u64,
}

/// What a CPU at the end of a slice may know without the lock. Written under it.
#[derive(Debug)]
struct Glance {
    /// How many tasks are ready.
    ready: AtomicUsize,
    /// The earliest timer that each CPU keeps.
    due: [AtomicU64; MAX_CPUS],
}

impl Glance {
    fn due(&self, cpu: CpuId) -> Instant {
        Instant(self.due.get(usize::from(cpu.0)).map_or(0, |due| due.load(Ordering::Relaxed)))
    }

    fn set_due(&self, cpu: CpuId, at: Instant) {
        if let Some(due) = self.due.get(usize::from(cpu.0)) {
            due.store(at.0, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
struct Queue<T> {
    ready: VecDeque<T>,
    halted: Vec<T>,
    /// Bit n: CPU n sleeps and nothing has been given to it.
    asleep: u64,
}

impl<T: Task> Scheduler<T> {
    /// An empty scheduler for so many tasks, whose slices have `slice_ticks` ticks. `None` if there is no heap for them: there
    /// is never more of one, so that no task is in want of it when it becomes ready.
    pub fn new(slice_ticks: u64, tasks: usize) -> Option<Self> {
        let (mut ready, mut halted) = (VecDeque::new(), Vec::new());
        ready.try_reserve_exact(tasks).ok()?;
        halted.try_reserve_exact(tasks).ok()?;
        let queue = Mutex::new(Queue { ready, halted, asleep: 0 });
        let due = core::array::from_fn(|_| AtomicU64::new(Instant::NEVER.0));
        Some(Self { queue, glance: Glance { ready: AtomicUsize::new(0), due }, slice_ticks })
    }

    /// Brings what CPUs see without the lock up to date, for the timers of `cpu`.
    fn publish(&self, queue: &Queue<T>, cpu: CpuId) {
        self.glance.ready.store(queue.ready.len(), Ordering::Relaxed);
        self.glance.set_due(cpu, queue.earliest(cpu));
    }

    /// Makes a stopped task ready; returns the sleeping CPU that it was given to, which the caller kicks.
    pub fn start(&self, task: T) -> Result<Option<CpuId>, AlreadyStarted> {
        let mut queue = self.queue.lock();
        if task.entity().is_started() {
            return Err(AlreadyStarted);
        }
        task.entity().set(READY);
        queue.ready.push_back(task);
        self.glance.ready.store(queue.ready.len(), Ordering::Relaxed);
        Ok(queue.rouse())
    }

    /// Marks a task and makes it look: wakes it if it halted, has its CPU kicked if it runs.
    #[must_use]
    pub fn wake(&self, task: &T) -> Option<CpuId> {
        let entity = task.entity();
        entity.marked.store(true, Ordering::Release);
        let mut queue = self.queue.lock();
        match entity.state.load(Ordering::Relaxed) {
            HALTED => {
                let at = queue.halted.iter().position(|t| core::ptr::eq(t.entity(), entity))?;
                let task = queue.halted.swap_remove(at);
                entity.set(READY);
                queue.ready.push_front(task);
                self.publish(&queue, entity.home());
                queue.rouse()
            }
            state => u16::try_from(state.checked_sub(RUNNING)?).ok().map(CpuId),
        }
    }

    /// Takes the next task for `cpu`.
    pub fn next(&self, cpu: CpuId, now: Instant) -> Pick<T> {
        let mut queue = self.queue.lock();
        queue.expire(cpu, now);
        let until = queue.earliest(cpu);
        let next = queue.ready.pop_front();
        self.publish(&queue, cpu);
        if let Some(task) = next {
            queue.asleep &= !bit(cpu);
            task.entity().set(RUNNING.saturating_add(u32::from(cpu.0)));
            return Pick::Run(task, until.min(now.after(self.slice_ticks)));
        }
        queue.asleep |= bit(cpu);
        Pick::Sleep(until)
    }

    /// The running task of `cpu` has used its time. Takes no lock: a CPU that overlooks a task that is just becoming
    /// ready finds it at the end of the next slice, and a due timer is expired by [`Scheduler::next`].
    pub fn slice(&self, cpu: CpuId, now: Instant) -> Slice {
        let due = self.glance.due(cpu);
        if self.glance.ready.load(Ordering::Relaxed) == 0 && now < due {
            Slice::Continue(due.min(now.after(self.slice_ticks)))
        } else {
            Slice::GiveWay
        }
    }

    /// The task that ran on `cpu` gives it up.
    pub fn leave(&self, cpu: CpuId, task: T, how: Leave) {
        let mut queue = self.queue.lock();
        let entity = task.entity();
        match how {
            Leave::Stop => entity.set(STOPPED),
            Leave::Halt(until) if !entity.marked.load(Ordering::Acquire) => {
                entity.set(HALTED);
                entity.home.store(cpu.0, Ordering::Relaxed);
                entity.wake_at.store(until.0, Ordering::Relaxed);
                queue.halted.push(task);
            }
            Leave::Halt(_) | Leave::Yield => {
                entity.set(READY);
                queue.ready.push_back(task);
            }
        }
        self.publish(&queue, cpu);
    }
}

/// The task had been started before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyStarted;

impl<T: Task> Queue<T> {
    /// Makes the tasks ready whose timer `cpu` keeps and which is due.
    fn expire(&mut self, cpu: CpuId, now: Instant) {
        while let Some(at) = self.halted.iter().position(|t| t.entity().is_home(cpu) && t.entity().due() <= now) {
            let task = self.halted.swap_remove(at);
            task.entity().set(READY);
            self.ready.push_front(task);
        }
    }

    fn earliest(&self, cpu: CpuId) -> Instant {
        let mine = self.halted.iter().map(Task::entity).filter(|e| e.is_home(cpu));
        mine.map(Entity::due).min().unwrap_or(Instant::NEVER)
    }

    /// Takes a sleeping CPU for a task that has become ready; the caller kicks it.
    fn rouse(&mut self) -> Option<CpuId> {
        let cpu = u16::try_from(self.asleep.trailing_zeros()).ok().filter(|n| *n < 64).map(CpuId)?;
        self.asleep &= !bit(cpu);
        Some(cpu)
    }
}

/// A CPU's bit; CPUs beyond the word have none and are found by their own timers.
fn bit(cpu: CpuId) -> u64 {
    1_u64.checked_shl(cpu.0.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
