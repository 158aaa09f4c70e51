//! The calls by which a guest drives its interrupt presentation controllers (PAPR, External Interrupt option).
//!
//! Interrupt servers are vCPUs. CPPR and MFRR are one byte each; what lies above it in the register is ignored.

use hv_core::vcpu::services::Services;

use super::Papr;
use super::hcall::Args;
use super::status::Status;
use crate::irq::xics::Unknown;

impl From<Unknown> for Status {
    fn from(_: Unknown) -> Self {
        Self::Parameter
    }
}

/// H_XIRR: r4 the old CPPR and the interrupt taken.
pub fn xirr(p: &Papr, args: &mut Args<'_>) -> Result<Status, Unknown> {
    let xirr = p.xics.accept(args.vcpu)?;
    args.answer::<1>(xirr.into());
    Ok(Status::Success)
}

/// H_XIRR_X: as H_XIRR, and r5 the time.
pub fn xirr_x<S: Services>(p: &Papr, args: &mut Args<'_>, s: &S) -> Result<Status, Unknown> {
    xirr(p, args)?;
    args.answer::<2>(s.now().0);
    Ok(Status::Success)
}

/// H_EOI(xirr): ends the service of an interrupt and sets the CPPR to the top byte.
pub fn eoi(p: &Papr, args: &Args<'_>) -> Result<Status, Unknown> {
    p.xics.set_cppr(args.vcpu, byte(args.param::<1>() >> 24))?;
    Ok(Status::Success)
}

/// H_CPPR(priority).
pub fn cppr(p: &Papr, args: &Args<'_>) -> Result<Status, Unknown> {
    p.xics.set_cppr(args.vcpu, byte(args.param::<1>()))?;
    Ok(Status::Success)
}

/// H_IPI(server, priority): requests an inter-processor interrupt, or takes the request back.
pub fn ipi<S: Services>(p: &Papr, args: &Args<'_>, s: &S) -> Result<Status, Unknown> {
    let server = p.named(args.param::<1>()).ok_or(Unknown)?;
    let wake = p.xics.set_mfrr(server, byte(args.param::<2>()))?;
    // The caller looks at its own line before it enters again.
    if let Some(server) = wake.filter(|&w| w != args.vcpu) {
        s.wake(server);
    }
    Ok(Status::Success)
}

/// H_IPOLL(server): r4 what H_XIRR would answer, r5 the MFRR. Takes nothing.
pub fn ipoll(p: &Papr, args: &mut Args<'_>) -> Result<Status, Unknown> {
    let poll = p.xics.poll(p.named(args.param::<1>()).ok_or(Unknown)?)?;
    args.answer::<1>(poll.xirr.into());
    args.answer::<2>(poll.mfrr.into());
    Ok(Status::Success)
}

const fn byte(register: u64) -> u8 {
    register.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use crate::papr::double::{Calls as _, Double};
    use crate::papr::hcall::Hcall;
    use crate::papr::{Papr, VTY_SOURCE};

    fn vm() -> (Papr, Double) {
        (Papr::new(2).unwrap(), Double::new(2))
    }

    #[test]
    fn an_ipi_goes_to_its_server_and_wakes_it() {
        let (p, s) = vm();
        let call = |vcpu, nr: Hcall, args: &[u64]| {
            let r = s.call(&p, vcpu, nr as u64, args).0;
            (r[3] as i64, r[4], r[5])
        };
        assert_eq!(call(1, Hcall::Cppr, &[0xff]).0, 0);
        assert_eq!(call(0, Hcall::Ipi, &[1, 4]).0, 0);
        assert!(s.woken(1) && p.interrupt(1));
        assert_eq!(call(0, Hcall::Ipoll, &[1]), (0, 0xff00_0002, 4));
        assert_eq!(call(1, Hcall::Xirr, &[]).1, 0xff00_0002);
        assert_eq!(call(1, Hcall::Ipi, &[1, 0xff]).0, 0);
        assert_eq!(call(1, Hcall::Eoi, &[0xff00_0002]).0, 0);
        s.set_now(77);
        assert_eq!(call(1, Hcall::XirrX, &[]), (0, 0xff00_0000, 77));
    }

    #[test]
    fn a_request_below_the_servers_priority_wakes_nobody() {
        let (p, s) = vm();
        assert_eq!(s.call(&p, 0, Hcall::Ipi as u64, &[1, 4]).0[3], 0);
        assert!(!s.woken(1) && !p.interrupt(1));
    }

    #[test]
    fn r26_unknown_servers_are_refused() {
        let (p, s) = vm();
        for server in [2, 0x1_0000, u64::MAX] {
            assert_eq!(s.call(&p, 0, Hcall::Ipi as u64, &[server, 4]).0[3] as i64, -4);
            assert_eq!(s.call(&p, 0, Hcall::Ipoll as u64, &[server]).0[3] as i64, -4);
        }
    }

    #[test]
    fn an_end_of_interrupt_for_no_interrupt_only_sets_the_priority() {
        let (p, s) = vm();
        s.call(&p, 0, Hcall::Eoi as u64, &[0xffff_ffff_0700_0000 | u64::from(VTY_SOURCE)]);
        assert_eq!(s.call(&p, 0, Hcall::Xirr as u64, &[]).0[4], 0x0700_0000);
    }
}
