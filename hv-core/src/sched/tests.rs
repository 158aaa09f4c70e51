//! What the scheduler promises: order, slices, timers, and that no wake-up is lost.

use alloc::sync::Arc;

use super::{Entity, Leave, Pick, Scheduler, Slice, Task};
use crate::machine::{CpuId, Instant};

#[derive(Debug)]
struct Named(&'static str, Entity);

impl Task for Arc<Named> {
    fn entity(&self) -> &Entity {
        &self.1
    }
}

fn task(name: &'static str) -> Arc<Named> {
    Arc::new(Named(name, Entity::default()))
}

const A: CpuId = CpuId(0);
const B: CpuId = CpuId(1);

fn run(s: &Scheduler<Arc<Named>>, cpu: CpuId, now: u64) -> Arc<Named> {
    match s.next(cpu, Instant(now)) {
        Pick::Run(task, _) => task,
        Pick::Sleep(until) => panic!("CPU {} sleeps until {until:?}", cpu.0),
    }
}

#[test]
fn tasks_take_turns() {
    let s = Scheduler::new(100, 4).unwrap();
    for name in ["a", "b", "c"] {
        assert_eq!(s.start(task(name)), Ok(None));
    }
    let mut order = alloc::string::String::new();
    for round in 0..6 {
        let task = run(&s, A, round * 100);
        order.push_str(task.0);
        assert_eq!(s.slice(A, Instant(round * 100 + 100)), Slice::GiveWay);
        s.leave(A, task, Leave::Yield);
    }
    assert_eq!(order, "abcabc");
}

#[test]
fn a_lone_task_keeps_its_cpu() {
    let s = Scheduler::new(100, 4).unwrap();
    s.start(task("a")).unwrap();
    run(&s, A, 0);
    assert_eq!(s.slice(A, Instant(100)), Slice::Continue(Instant(200)));
}

#[test]
fn ready_work_wakes_one_sleeping_cpu() {
    let s = Scheduler::new(100, 4).unwrap();
    assert!(matches!(s.next(A, Instant(0)), Pick::Sleep(Instant::NEVER)));
    assert!(matches!(s.next(B, Instant(0)), Pick::Sleep(Instant::NEVER)));
    assert_eq!(s.start(task("a")), Ok(Some(A)));
    assert_eq!(s.start(task("b")), Ok(Some(B)));
    assert_eq!(s.start(task("c")), Ok(None), "both have been given something");
}

#[test]
fn a_timer_bounds_sleep_and_slices_of_its_cpu_only() {
    let s = Scheduler::new(100, 4).unwrap();
    s.start(task("sleeper")).unwrap();
    s.start(task("spinner")).unwrap();
    let sleeper = run(&s, A, 0);
    s.leave(A, sleeper, Leave::Halt(Instant(50)));
    let Pick::Run(spinner, until) = s.next(A, Instant(0)) else { panic!("work is waiting") };
    assert_eq!(until, Instant(50), "the guest is left when the sleeper's timer fires");
    assert!(matches!(s.next(B, Instant(0)), Pick::Sleep(Instant::NEVER)));
    assert_eq!(s.slice(A, Instant(50)), Slice::GiveWay);
    s.leave(A, spinner, Leave::Yield);
    assert_eq!(run(&s, A, 50).0, "sleeper", "who wakes goes first");
}

#[test]
fn a_wake_up_before_the_halt_is_not_lost() {
    let s = Scheduler::new(100, 4).unwrap();
    s.start(task("a")).unwrap();
    let a = run(&s, A, 0);
    assert!(!a.entity().look());
    assert_eq!(s.wake(&a), Some(A), "it runs, so its CPU is kicked");
    s.leave(A, a, Leave::Halt(Instant::NEVER));
    let a = run(&s, A, 0);
    assert!(a.entity().look(), "it finds the mark");
    s.leave(A, a.clone(), Leave::Halt(Instant::NEVER));
    assert!(matches!(s.next(A, Instant(0)), Pick::Sleep(Instant::NEVER)));
    assert_eq!(s.wake(&a), Some(A));
    assert_eq!(run(&s, A, 0).0, "a");
}

#[test]
fn a_stopped_task_is_not_woken_and_starts_once() {
    let s = Scheduler::new(100, 4).unwrap();
    let a = task("a");
    s.start(a.clone()).unwrap();
    assert!(s.start(a.clone()).is_err());
    let running = run(&s, A, 0);
    s.leave(A, running, Leave::Stop);
    assert_eq!(s.wake(&a), None);
    assert!(matches!(s.next(A, Instant(0)), Pick::Sleep(_)));
    assert_eq!(s.start(a), Ok(Some(A)));
}
