//! The hypervisor calls' numbers, and who carries each out.

use hv_core::sync::Ordering;
use hv_core::vcpu::exit::Next;
use hv_core::vcpu::services::Services;

use super::status::{Answer, Status};
use super::{Call, MSR_PR, Papr, cpu, mode, presentation, rtas, term, vpa};

/// The calls that are there. The numbers are PAPR's, except [`Hcall::Rtas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Hcall {
    /// H_GET_TERM_CHAR
    GetTermChar = 0x54,
    /// H_PUT_TERM_CHAR
    PutTermChar = 0x58,
    /// H_EOI
    Eoi = 0x64,
    /// H_CPPR
    Cppr = 0x68,
    /// H_IPI
    Ipi = 0x6c,
    /// H_IPOLL
    Ipoll = 0x70,
    /// H_XIRR
    Xirr = 0x74,
    /// H_REGISTER_VPA
    RegisterVpa = 0xdc,
    /// H_CEDE
    Cede = 0xe0,
    /// H_CONFER
    Confer = 0xe4,
    /// H_PROD
    Prod = 0xe8,
    /// H_GET_CPU_CHARACTERISTICS
    GetCpuCharacteristics = 0x1c8,
    /// H_XIRR_X
    XirrX = 0x2fc,
    /// H_RANDOM
    Random = 0x300,
    /// H_SET_MODE
    SetMode = 0x31c,
    /// H_REGISTER_PROC_TBL
    RegisterProcTbl = 0x37c,
    /// Run-time firmware. In the range that PAPR leaves to platforms, and the same number as other hypervisors use, so
    /// that guests which know theirs (Trivet itself is one) also find ours.
    Rtas = 0xf000,
}

/// Every call, for tests and tables.
#[cfg(test)]
pub const ALL: [Hcall; 17] = [
    Hcall::GetTermChar,
    Hcall::PutTermChar,
    Hcall::Eoi,
    Hcall::Cppr,
    Hcall::Ipi,
    Hcall::Ipoll,
    Hcall::Xirr,
    Hcall::RegisterVpa,
    Hcall::Cede,
    Hcall::Confer,
    Hcall::Prod,
    Hcall::GetCpuCharacteristics,
    Hcall::XirrX,
    Hcall::Random,
    Hcall::SetMode,
    Hcall::RegisterProcTbl,
    Hcall::Rtas,
];

impl Hcall {
    const fn from_number(nr: u64) -> Option<Self> {
        Some(match nr {
            0x54 => Self::GetTermChar,
            0x58 => Self::PutTermChar,
            0x64 => Self::Eoi,
            0x68 => Self::Cppr,
            0x6c => Self::Ipi,
            0x70 => Self::Ipoll,
            0x74 => Self::Xirr,
            0xdc => Self::RegisterVpa,
            0xe0 => Self::Cede,
            0xe4 => Self::Confer,
            0xe8 => Self::Prod,
            0x1c8 => Self::GetCpuCharacteristics,
            0x2fc => Self::XirrX,
            0x300 => Self::Random,
            0x31c => Self::SetMode,
            0x37c => Self::RegisterProcTbl,
            0xf000 => Self::Rtas,
            _ => return None,
        })
    }
}

/// A call's registers as its handler sees them.
pub struct Args<'a> {
    /// The caller's number.
    pub vcpu: u16,
    gpr: &'a mut [u64; 32],
    /// The caller's machine state register.
    pub msr: &'a mut u64,
}

impl Args<'_> {
    /// Parameter 1 is in r4.
    pub fn param<const N: usize>(&self) -> u64 {
        const { assert!(1 <= N && N <= 9) };
        self.gpr[N + 3]
    }

    /// Returned value 1 goes to r4. Values are set on success only: a call that fails leaves its parameters as they were.
    pub fn answer<const N: usize>(&mut self, value: u64) {
        const { assert!(1 <= N && N <= 9) };
        self.gpr[N + 3] = value;
    }
}

/// See [`Papr::hcall`].
pub fn dispatch<S: Services>(p: &Papr, call: Call<'_>, s: &S) -> Next {
    let nr = call.gpr[3];
    let mut args = Args { vcpu: call.vcpu, gpr: call.gpr, msr: call.msr };
    let answer = if *args.msr & MSR_PR != 0 { Status::Privilege.into() } else { carry_out(p, nr, &mut args, s) };
    args.gpr[3] = answer.status as i64 as u64;
    answer.next
}

fn carry_out<S: Services>(p: &Papr, nr: u64, args: &mut Args<'_>, s: &S) -> Answer {
    let Some(nr) = Hcall::from_number(nr) else {
        p.unknown.fetch_add(1, Ordering::Relaxed);
        return Status::Function.into();
    };
    match nr {
        Hcall::GetTermChar => term::get(args, s).into(),
        Hcall::PutTermChar => term::put(args, s).into(),
        Hcall::Eoi => presentation::eoi(p, args).into(),
        Hcall::Cppr => presentation::cppr(p, args).into(),
        Hcall::Ipi => presentation::ipi(p, args, s).into(),
        Hcall::Ipoll => presentation::ipoll(p, args).into(),
        Hcall::Xirr => presentation::xirr(p, args).into(),
        Hcall::XirrX => presentation::xirr_x(p, args, s).into(),
        Hcall::RegisterVpa => vpa::register(p, args, s).into(),
        Hcall::Cede => cpu::cede(p, args),
        Hcall::Confer => cpu::confer(p, args),
        Hcall::Prod => cpu::prod(p, args, s).into(),
        Hcall::GetCpuCharacteristics => cpu::characteristics(p, args).into(),
        Hcall::Random => cpu::random(args, s).into(),
        Hcall::SetMode => mode::set_mode(p, args, s).into(),
        Hcall::RegisterProcTbl => mode::register_process_table(p, args).into(),
        Hcall::Rtas => rtas::call(p, args, s).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, Hcall};
    use crate::papr::double::{Calls as _, Double};
    use crate::papr::{MSR_PR, Papr};
    use hv_core::vcpu::exit::Next;

    #[test]
    fn every_call_is_reached_by_its_number() {
        for call in ALL {
            assert_eq!(Hcall::from_number(call as u64), Some(call));
        }
        assert_eq!((0..0x10000).filter_map(Hcall::from_number).count(), ALL.len());
    }

    #[test]
    fn an_unknown_call_is_refused_and_counted() {
        let (p, s) = (Papr::new(1).unwrap(), Double::new(1));
        // Page table calls, calls of nested virtualization, misaligned and absurd numbers.
        for (n, nr) in [0x04, 0x08, 0xf800, 0xf804, 0xf808, 0xf80c, 0x55, 0, u64::MAX].into_iter().enumerate() {
            let (r, next) = s.call(&p, 0, nr, &[1, 2, 3]);
            assert_eq!((r[3] as i64, &r[4..7]), (-2, &[1, 2, 3][..]));
            assert_eq!(next, Next::Resume);
            assert_eq!(p.unknown_calls(), n as u64 + 1);
        }
    }

    #[test]
    fn problem_state_may_not_call() {
        let (p, s) = (Papr::new(1).unwrap(), Double::new(1));
        for call in ALL {
            let (r, msr, next) = s.call_with_msr(&p, 0, call as u64, &[], MSR_PR);
            assert_eq!((r[3] as i64, msr, next), (-3, MSR_PR, Next::Resume), "{call:?}");
        }
    }
}
