//! Calls by which vCPUs give up and get CPU time, and ask about the processor.

use hv_core::sync::Ordering;
use hv_core::vcpu::exit::Next;
use hv_core::vcpu::services::Services;

use super::hcall::Args;
use super::status::{Answer, Status};
use super::{MSR_EE, Papr};

/// What the processor has and needs against speculative execution attacks (PAPR, H_GET_CPU_CHARACTERISTICS). On a nested
/// machine this is what the hypervisor below answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Characteristics {
    /// What the processor has.
    pub character: u64,
    /// What software is to do.
    pub behaviour: u64,
}

/// H_CEDE: sleep until an interrupt or an H_PROD. Turns external interrupts on.
pub fn cede(p: &Papr, args: &mut Args<'_>) -> Answer {
    *args.msr |= MSR_EE;
    let Some(seat) = p.seat(args.vcpu) else {
        return Status::Hardware.into();
    };
    if seat.prodded.swap(false, Ordering::AcqRel) || p.interrupt(args.vcpu) {
        return Status::Success.into();
    }
    seat.ceded();
    Answer::then(Next::Halt)
}

/// H_CONFER(target or -1, its dispatch count): give the rest of the time slice to a vCPU that was seen not to run.
///
/// Nothing if it has run since, which the count in its virtual processor area tells. A vCPU that confers to itself is to
/// wait for an H_PROD; it may be woken early, and here is at its next turn.
pub fn confer(p: &Papr, args: &Args<'_>) -> Answer {
    let (target, count) = (args.param::<1>(), args.param::<2>());
    if target == u64::MAX {
        return Answer::then(Next::Yield);
    }
    let Some(vcpu) = p.named(target) else {
        return Status::Parameter.into();
    };
    if vcpu == args.vcpu {
        let prodded = p.seat(vcpu).is_some_and(|seat| seat.prodded.swap(false, Ordering::AcqRel));
        return if prodded { Status::Success.into() } else { Answer::then(Next::Yield) };
    }
    let now = p.seat(vcpu).map_or(0, |seat| seat.dispatches.load(Ordering::Acquire));
    let still_waiting = count & 1 == 1 && u64::from(now) == count & u64::from(u32::MAX);
    if still_waiting { Answer::then(Next::Yield) } else { Status::Success.into() }
}

/// H_PROD(vcpu): wakes a vCPU that has ceded, or makes its next H_CEDE return at once.
pub fn prod<S: Services>(p: &Papr, args: &Args<'_>, s: &S) -> Status {
    let Some((vcpu, seat)) = p.named(args.param::<1>()).and_then(|v| Some((v, p.seat(v)?))) else {
        return Status::Parameter;
    };
    seat.prodded.store(true, Ordering::Release);
    s.wake(vcpu);
    Status::Success
}

/// H_GET_CPU_CHARACTERISTICS: r4 what the processor has, r5 what software is to do.
pub fn characteristics(p: &Papr, args: &mut Args<'_>) -> Status {
    let Some(c) = *p.characteristics.lock() else {
        return Status::Function;
    };
    args.answer::<1>(c.character);
    args.answer::<2>(c.behaviour);
    Status::Success
}

/// H_RANDOM: r4 a random number.
pub fn random<S: Services>(args: &mut Args<'_>, s: &S) -> Status {
    let Some(number) = s.random() else {
        return Status::Hardware;
    };
    args.answer::<1>(number);
    Status::Success
}

#[cfg(test)]
mod tests {
    use super::Characteristics;
    use crate::hash::calls::{Counts, EarlyCalls};
    use crate::papr::double::{Calls as _, Double};
    use crate::papr::hcall::Hcall;
    use crate::papr::{MSR_EE, Papr};
    use hv_core::vcpu::exit::Next;

    fn vm() -> (Papr, Double) {
        (Papr::new(2).unwrap(), Double::new(2))
    }

    #[test]
    fn cede_enables_interrupts_and_halts() {
        let (p, s) = vm();
        let (r, msr, next) = s.call_with_msr(&p, 0, Hcall::Cede as u64, &[], 0);
        assert_eq!((r[3], msr, next), (0, MSR_EE, Next::Halt));
    }

    #[test]
    fn a_prod_before_the_cede_is_not_lost_and_is_used_up() {
        let (p, s) = vm();
        assert_eq!(s.call(&p, 0, Hcall::Prod as u64, &[1]).0[3], 0);
        assert!(s.woken(1) && p.wanted(1) && !p.wanted(0));
        assert_eq!(s.call(&p, 1, Hcall::Cede as u64, &[]).1, Next::Resume);
        assert_eq!(s.call(&p, 1, Hcall::Cede as u64, &[]).1, Next::Halt);
    }

    #[test]
    fn a_pending_interrupt_keeps_cede_awake() {
        let (p, s) = vm();
        s.call(&p, 0, Hcall::Cppr as u64, &[0xff]);
        s.call(&p, 1, Hcall::Ipi as u64, &[0, 4]);
        assert_eq!(s.call(&p, 0, Hcall::Cede as u64, &[]).1, Next::Resume);
    }

    #[test]
    fn prod_and_confer_refuse_unknown_processors() {
        let (p, s) = vm();
        for target in [2, 0x1_0000, u64::MAX - 1] {
            assert_eq!(s.call(&p, 0, Hcall::Prod as u64, &[target]).0[3] as i64, -4);
            assert_eq!(s.call(&p, 0, Hcall::Confer as u64, &[target, 1]).0[3] as i64, -4);
        }
        assert_eq!(s.call(&p, 0, Hcall::Prod as u64, &[u64::MAX]).0[3] as i64, -4);
    }

    #[test]
    fn confer_yields_only_to_a_processor_that_has_not_run_since() {
        let (p, s) = vm();
        let confer = |target: u64, count: u64| s.call(&p, 0, Hcall::Confer as u64, &[target, count]).1;
        p.dispatched(1, &s);
        p.preempted(1, &s);
        assert_eq!(confer(1, 1), Next::Yield);
        assert_eq!(confer(1, 3), Next::Resume);
        p.dispatched(1, &s);
        assert_eq!(confer(1, 1), Next::Resume);
        assert_eq!(confer(1, 2), Next::Resume);
        assert_eq!(confer(u64::MAX, 0), Next::Yield);
        assert_eq!(confer(0, 0), Next::Yield);
    }

    #[test]
    fn characteristics_are_there_once_stated() {
        let (p, s) = vm();
        assert_eq!(s.call(&p, 0, Hcall::GetCpuCharacteristics as u64, &[]).0[3] as i64, -2);
        p.set_characteristics(Characteristics { character: 7, behaviour: 9 });
        assert_eq!(s.call(&p, 0, Hcall::GetCpuCharacteristics as u64, &[]).0[3..6], [0, 7, 9]);
    }

    #[test]
    fn random_needs_a_source() {
        let (p, s) = vm();
        assert_eq!(s.call(&p, 0, Hcall::Random as u64, &[]).0[3] as i64, -1);
        s.set_random(Some(4));
        assert_eq!(s.call(&p, 0, Hcall::Random as u64, &[]).0[3..5], [0, 4]);
    }

    #[test]
    fn calls_on_the_table_are_summed_over_vcpus() {
        let p = vm().0;
        let calls = |at_once, deferred, absent, finished| EarlyCalls { at_once, deferred, absent, finished };
        for vcpu in [0, 0, 1, 9] {
            p.count(vcpu, &Counts { kind: 1, calls: calls(7, 3, 2, 1) });
            p.count(vcpu, &Counts { kind: 0, calls: calls(1, 0, 0, 0) });
        }
        let mut told = String::new();
        p.report_table_calls(&mut told).unwrap();
        let want = "H_REMOVE: 3 at once, 0 deferred (0 for memory), 0 finished\n\
                    H_ENTER: 21 at once, 9 deferred (6 for memory), 3 finished\n";
        assert_eq!(told, want);
    }
}
