//! The vCPU loop: enter, classify, resolve, map, complete, enter.
//!
//! [`turn`] runs one vCPU on the calling CPU until it gives the CPU up. The loop holds the vCPU's lock and nothing
//! else; an exit that is answered takes no lock of the scheduler and writes no line that another CPU writes.
//!
//! ```text
//!   enter --Raw--> classify --Fault-----> memory.fault --Mapped, Retry--> Again ------+
//!     ^                     |             --NoSlot--> BadAddress --> complete --------+
//!     |                     |             --NoMemory--> relieve --Again---------------+
//!     |                     |                           --Wait, End--> give up        |
//!     |                     +-Call------> personality --Resume------------------------+
//!     |                     |             --Yield, Halt, StopSelf, End--> give up     |
//!     |                     +-Interrupt-> machine, console --------------------------+|
//!     |                     +-Deadline--> others wait? --yes--> give up, --no--------+|
//!     +--------------------------------------------------------------------------------+
//! ```

use crate::epoch::Cpu;
use crate::hypervisor::{Hypervisor, Relief};
use crate::isa::{Isa, Platform, Vcpu};
use crate::machine::{Instant, Machine};
use crate::mmu::{GuestMemory, Outcome};
use crate::sched::{Leave, Slice};
use crate::vcpu::env::Env;
use crate::vcpu::exit::{Completion, End, Exit, Fault, Next};
use crate::vm::{Job, NoMemory};

/// Why a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The vCPU will be scheduled again.
    Leave(Leave),
    /// Its VM ends, because of it or because it has been told.
    Gone(Option<End>),
}

/// Runs `job` on this CPU, until `until` at first, and gives it back to the scheduler.
pub fn turn<I: Isa>(hv: &Hypervisor<I>, cpu: &Cpu, job: Job<I>, until: Instant) {
    let m = hv.machine;
    let cell = job.cell();
    let env = Env { hv, cpu, job: &job };
    let began = m.now();
    let end = {
        let mut vcpu = cell.vcpu.lock();
        vcpu.load(cpu, m);
        job.vm.platform.dispatched(job.index(), &env);
        let end = inside(&env, &mut vcpu, until);
        job.vm.platform.preempted(job.index(), &env);
        vcpu.put(cpu, m);
        // A halt ends with the vCPU's own timer, which only counts once it is saved.
        match end {
            Turn::Leave(Leave::Halt(_)) => Turn::Leave(Leave::Halt(vcpu.timer().unwrap_or(Instant::NEVER))),
            other => other,
        }
    };
    cell.counts.ticks.add(m.now().0.saturating_sub(began.0));
    match end {
        Turn::Leave(Leave::Stop) => (hv.rare.vcpu_stopped)(hv, cpu, job),
        Turn::Leave(how) => hv.sched.leave(cpu.id(), job, how),
        Turn::Gone(how) => {
            if let Some(how) = how {
                (hv.rare.end_vm)(hv, cpu, job.vm.index, how);
            }
            (hv.rare.vcpu_gone)(hv, cpu, job);
        }
    }
}

/// The loop proper.
fn inside<I: Isa>(env: &Env<'_, I>, vcpu: &mut I::Vcpu, mut until: Instant) -> Turn {
    let (hv, cpu, vm) = (env.hv, env.cpu, &env.job.vm);
    let (m, cell) = (hv.machine, env.job.cell());
    loop {
        // Taking the mark before looking at what it may be about: whoever marks later is seen by the next round, or
        // has kicked this CPU and so ends the guest's run.
        if cell.entity.look() && vm.is_ending() {
            return Turn::Gone(None);
        }
        let raw = vcpu.enter(cpu, m, &vm.memory, &vm.platform, until);
        match vcpu.classify(&raw) {
            Exit::Fault(fault) => {
                cell.counts.faults.add(1);
                if let Err(NoMemory) = answer(&vm.memory, vcpu, cpu, m, &fault) {
                    match (hv.rare.relieve)(hv, cpu, vm.index) {
                        Relief::Again => {}
                        Relief::Wait => return Turn::Leave(Leave::Yield),
                        Relief::End => return Turn::Gone(Some(End::OutOfMemory)),
                    }
                }
            }
            Exit::Call(call) => {
                cell.counts.calls.add(1);
                match vcpu.call(call, &vm.platform, env) {
                    Next::Resume => {}
                    Next::Yield => return Turn::Leave(Leave::Yield),
                    Next::Halt if vcpu.pending(&vm.platform) => {}
                    Next::Halt => {
                        cell.counts.halts.add(1);
                        return Turn::Leave(Leave::Halt(Instant::NEVER));
                    }
                    Next::StopSelf => return Turn::Leave(Leave::Stop),
                    Next::End(how) => return Turn::Gone(Some(how)),
                }
            }
            Exit::Interrupt => {
                cell.counts.interrupts.add(1);
                hv.interrupts(cpu);
                if hv.has_housekeeping() {
                    return Turn::Leave(Leave::Yield);
                }
            }
            Exit::Deadline => {
                cell.counts.deadlines.add(1);
                if m.now() >= until {
                    // Consoles signal edges, and an edge is lost when two CPUs look at once: look again now and then.
                    (hv.rare.poll_console)(hv, cpu);
                    match hv.sched.slice(cpu.id(), m.now()) {
                        Slice::Continue(later) if !hv.has_housekeeping() => until = later,
                        Slice::Continue(_) | Slice::GiveWay => return Turn::Leave(Leave::Yield),
                    }
                }
            }
            Exit::Broken(why) => return Turn::Gone(Some(End::Broken(why))),
        }
    }
}

/// Answers a second-stage fault: resolve, map, and tell the vCPU. Without memory for it the guest faults again when it is
/// entered again. The caller holds no guard and no lock but the vCPU's.
#[inline]
pub fn answer<I: Isa>(
    memory: &GuestMemory<I>,
    vcpu: &mut I::Vcpu,
    cpu: &Cpu,
    m: &I::Machine,
    fault: &Fault<I::Claim>,
) -> Result<(), NoMemory> {
    let outcome = memory.fault(cpu, m, fault);
    vcpu.complete(match outcome {
        Outcome::NoSlot => Completion::BadAddress(fault.gpa, fault.access),
        Outcome::Mapped | Outcome::Retry | Outcome::NoMemory => Completion::Again,
    });
    if outcome == Outcome::NoMemory { Err(NoMemory) } else { Ok(()) }
}
