//! The world switch: a guest's general registers, and the way in and out (`enter.S`).
#![cfg_attr(target_arch = "aarch64", expect(unsafe_code, reason = "runs a guest"))]

use super::psr::Place;

/// What `enter.S` moves at every entry and exit. It knows the offsets.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct Context {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Where Trivet's stack pointer is while the guest runs.
    host_sp: u64,
    /// The guest's program counter and processor state.
    pub place: Place,
}

const _: () = assert!(core::mem::offset_of!(Context, host_sp) == 248 && core::mem::offset_of!(Context, place) == 256);

impl Context {
    /// All zero, at a place.
    #[must_use]
    pub const fn new(place: Place) -> Self {
        Self { x: [0; 31], host_sp: 0, place }
    }

    /// General register `n`; 31 is the zero register.
    #[must_use]
    #[inline]
    pub fn get(&self, n: u8) -> u64 {
        self.x.get(usize::from(n)).copied().unwrap_or(0)
    }

    /// x0 to x3, a call's arguments and results.
    #[inline]
    pub fn arguments(&mut self) -> &mut [u64; 4] {
        let [first, ..] = self.x.as_chunks_mut().0 else { unreachable!("31 registers begin with four") };
        first
    }

    /// Sets general register `n`; 31 takes nothing.
    #[inline]
    pub fn set(&mut self, n: u8, value: u64) {
        if let Some(x) = self.x.get_mut(usize::from(n)) {
            *x = value;
        }
    }
}

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(include_str!("enter.S"));

#[cfg(target_arch = "aarch64")]
unsafe extern "C" {
    fn trivet_enter(context: *mut Context) -> u64;
}

#[cfg(target_arch = "aarch64")]
impl Context {
    /// Runs the guest until it leaves; returns ESR_EL2, or a class of [`super::exits::ec`] that has no syndrome.
    ///
    /// # Safety
    ///
    /// The CPU holds the state of the vCPU that this belongs to, its second stage and the guards that confine it (`guards`), and
    /// the exception vectors lead to `enter.S`. Interrupts and SErrors are masked.
    #[inline]
    pub unsafe fn enter(&mut self) -> u64 {
        // SAFETY: as promised by the caller; the context is exclusively borrowed and of the layout that is expected.
        unsafe { trivet_enter(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Context, Place};

    #[test]
    fn register_31_is_the_zero_register() {
        let mut context = Context::new(Place { pc: 0, pstate: 0 });
        context.set(30, 7);
        context.set(31, 9);
        assert_eq!((context.get(30), context.get(31), context.get(255)), (7, 0, 0));
    }
}
