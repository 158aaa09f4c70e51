//! How tests make hypervisor calls.

use hv_core::vcpu::exit::Next;
pub use services_double::{Double, MEMORY};

use super::{Call, Papr};

/// Hypervisor calls over a [`Double`].
pub trait Calls {
    /// Makes a call with `args` in r4 and on; every other register holds its own number.
    fn call(&self, p: &Papr, vcpu: u16, nr: u64, args: &[u64]) -> ([u64; 32], Next);
    /// As [`Calls::call`], and with the machine state register before and after.
    fn call_with_msr(&self, p: &Papr, vcpu: u16, nr: u64, args: &[u64], msr: u64) -> ([u64; 32], u64, Next);
}

impl Calls for Double {
    fn call(&self, p: &Papr, vcpu: u16, nr: u64, args: &[u64]) -> ([u64; 32], Next) {
        let (gpr, _, next) = self.call_with_msr(p, vcpu, nr, args, 0);
        (gpr, next)
    }

    fn call_with_msr(&self, p: &Papr, vcpu: u16, nr: u64, args: &[u64], msr: u64) -> ([u64; 32], u64, Next) {
        let mut gpr = core::array::from_fn(|n| n as u64);
        gpr[3] = nr;
        gpr[4..4 + args.len()].copy_from_slice(args);
        let (before, mut msr) = (gpr, msr);
        let next = p.hcall(Call { vcpu, gpr: &mut gpr, msr: &mut msr }, self);
        assert_eq!((&gpr[..3], &gpr[13..]), (&before[..3], &before[13..]), "registers that no call may touch");
        (gpr, msr, next)
    }
}
