//! What a vCPU has beside if its table is a hashed one: segments, and calls on the table under way.
#![expect(unsafe_code, reason = "the processor's segment buffer")]

use core::arch::asm;

use hv_core::mmu::ready::Permit;

/// Entries of the segment buffer, on every processor that is known here.
const SEGMENTS: usize = 32;
/// ESID doubleword: the entry is valid.
const VALID: u64 = 1 << 27;

/// It.
#[derive(Default)]
pub struct Hashed {
    /// The segment buffer while the vCPU is not loaded: ESID and VSID doublewords.
    segments: [[u64; 2]; SEGMENTS],
    /// The call in its registers is to be made again before the guest goes on.
    pub again: Again,
    /// The right to run on the table; given back when the vCPU leaves its CPU.
    pub permit: Option<Permit>,
    /// Bits of LPCR that are this VM's; valid with a permit.
    pub lpcr: u64,
}

/// See [`Hashed::again`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Again {
    /// No call is under way.
    #[default]
    No,
    /// A page is needed first.
    Call,
}

impl Hashed {
    /// Takes the segments of this CPU.
    pub fn save(&mut self) {
        for (number, segment) in (0_u64..).zip(&mut self.segments) {
            let [esid, vsid] = segment;
            // SAFETY: reads the buffer, which nothing of the hypervisor's goes by.
            unsafe {
                asm!("slbmfee {0}, {2}", "slbmfev {1}, {2}", out(reg) *esid, out(reg) *vsid, in(reg) number,
                    options(nomem, nostack));
            }
        }
    }

    /// Leaves this CPU without any.
    pub fn clear() {
        // `slbia` leaves entry 0.
        // SAFETY: nothing of the hypervisor's goes by the buffer.
        unsafe { asm!("isync", "slbmte {0}, {0}", "slbia", "isync", in(reg) 0_u64, options(nomem, nostack)) };
    }

    /// Puts them onto this CPU.
    pub fn load(&self) {
        Self::clear();
        for (number, [esid, vsid]) in (0_u64..).zip(&self.segments).filter(|(_, [esid, _])| esid & VALID != 0) {
            let place = (esid & !0xfff) | number;
            // SAFETY: as above.
            unsafe { asm!("slbmte {0}, {1}", in(reg) *vsid, in(reg) place, options(nomem, nostack)) };
        }
    }
}
