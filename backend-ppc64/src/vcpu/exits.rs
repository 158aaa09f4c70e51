//! What the vectors that end a guest's run mean (Power ISA v3.0B, Book III 6.5). Pure, so that recorded exits test it.

use hv_core::vcpu::exit::Access;

/// HDSISR, DSISR and SRR1: no translation was found.
pub const NO_TRANSLATION: u64 = 0x4000_0000;
/// HDSISR: the access is not permitted.
pub const PROTECTION: u64 = 0x0800_0000;
/// HDSISR, DSISR: the access was a store.
pub const DSISR_STORE: u64 = 0x0200_0000;
/// HDSISR: the reference or change bit has to be set.
pub const SET_RC: u64 = 0x0004_0000;
/// HDSISR, DSISR: a table of a form that the processor does not know.
pub const UNSUPPORTED: u64 = 0x0008_0000;
/// Causes that the second stage answers.
const OURS: u64 = NO_TRANSLATION | PROTECTION | SET_RC;
/// ASDR, radix: the guest real address of the page.
pub const ASDR_GPA: u64 = 0x000f_ffff_ffff_f000;

/// SRR1 of a program interrupt: illegal instruction.
const SRR1_ILLEGAL: u64 = 0x0008_0000;
/// SRR1 of a program interrupt: privileged instruction.
pub const SRR1_PRIVILEGED: u64 = 0x0004_0000;

/// Facilities that guests may use: floating point, vector, data streams, performance monitor, branch history,
/// event-based branches, target address, message passing, prefixed instructions. Not transactional memory.
pub const HFSCR: u64 = 1 << 13 | 1 << 10 | 1 << 8 | 1 << 7 | 1 << 4 | 1 << 3 | 1 << 2 | 1 << 1 | 1;

/// Why the guest's run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `sc 1`.
    Hypercall,
    /// The hypervisor decrementer.
    Deadline,
    /// A physical interrupt.
    Interrupt,
    /// A data access that the second stage has to answer.
    Data(Access),
    /// An instruction fetch that the second stage has to answer.
    Instruction,
    /// Something the guest's own kernel has to answer.
    Reflect(Reflected),
    /// Nothing that an entered guest may end with.
    Broken(&'static str),
}

/// An interrupt for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reflected {
    /// Its vector.
    pub vector: u64,
    /// Its cause bits in SRR1.
    pub cause: u64,
    /// DAR (`None`: the exit's) and DSISR, if it is a data interrupt.
    pub data: Option<(Option<u64>, u64)>,
}

/// Names the exit with this status of `H_ENTER_NESTED` and, for a data exit, this HDSISR.
#[must_use]
#[inline]
pub const fn cause(status: i64, hdsisr: u64) -> Cause {
    match status {
        0xc00 => Cause::Hypercall,
        0x980 => Cause::Deadline,
        // External, hypervisor virtualization, hypervisor doorbell: all of them are for this hypervisor.
        0x500 | 0xea0 | 0xe80 => Cause::Interrupt,
        0xe00 if hdsisr & OURS != 0 => {
            Cause::Data(if hdsisr & DSISR_STORE != 0 { Access::Write } else { Access::Read })
        }
        // A fault of the guest's own tables (bad address in them, unsupported form).
        0xe00 => Cause::Reflect(Reflected { vector: 0x300, cause: 0, data: Some((None, hdsisr & 0xffff_ffff)) }),
        0xe20 => Cause::Instruction,
        // Emulation assistance, facility unavailable: instructions that this virtual CPU does not have.
        0xe40 | 0xf80 => Cause::Reflect(Reflected { vector: 0x700, cause: SRR1_ILLEGAL, data: None }),
        0x200 => Cause::Reflect(Reflected { vector: 0x200, cause: 0, data: None }),
        // System reset and hypervisor maintenance: nothing to do for the guest.
        0x100 | 0xe60 => Cause::Interrupt,
        status if status < 0 => Cause::Broken("the platform refused to enter it"),
        _ => Cause::Broken("it left by a vector that no guest leaves by"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exits as recorded on QEMU 7.2, POWER9: a load and a store without translation, a store without permission.
    #[test]
    fn data_exits_are_told_apart() {
        assert_eq!(cause(0xe00, 0x4000_0000), Cause::Data(Access::Read));
        assert_eq!(cause(0xe00, 0x4200_0000), Cause::Data(Access::Write));
        assert_eq!(cause(0xe00, 0x0a00_0000), Cause::Data(Access::Write));
        assert_eq!(cause(0xe00, 0x0204_0000), Cause::Data(Access::Write));
    }

    /// The guest's own mistakes go back to it; R26: no status can do more than break its own VM.
    #[test]
    fn mistakes_of_the_guest_are_its_own() {
        let Cause::Reflect(what) = cause(0xe00, 0x0008_0000) else { panic!("unsupported tables are the guest's") };
        assert_eq!((what.vector, what.data), (0x300, Some((None, 0x0008_0000))));
        assert!(matches!(cause(0xe40, 0), Cause::Reflect(Reflected { vector: 0x700, .. })));
        assert!(matches!(cause(-4, 0), Cause::Broken(_)));
        assert!(matches!(cause(0x300, 0), Cause::Broken(_)));
    }
}
