//! How a vCPU begins: its registers after a reset, as neither vendor's structure has them yet.
//!
//! A `StartAt` says one of two things. With a root page table in its third argument, RDX, it is the kernel's entry in
//! long mode, as [`crate::guest::boot`] prepares it. Without one it is what a start-up message asks for
//! ([`crate::apic`]): real mode, at a page below 1 MiB.

use hv_core::addr::Gpa;
use hv_core::vcpu::services::StartAt;

use crate::decode::Registers;
use crate::guest::boot::{CODE_SELECTOR, DATA_SELECTOR, DESCRIPTORS, GDT};
use crate::svm::vmcb;
use crate::vmx::fields::{Field, Segment as Name};

/// A segment register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// The descriptor's attributes: type, S, DPL and P in bits 7:0; AVL, L, D and G in 11:8.
    pub attributes: u16,
    /// Limit in bytes.
    pub limit: u32,
    /// Base.
    pub base: u64,
}

/// A vCPU's first state. Registers that it does not name are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// General registers and flags.
    pub registers: Registers,
    /// The first instruction.
    pub rip: u64,
    /// CR0. CD and NW of a reset are left out: the guest's memory is always cached.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
    /// CS.
    pub code: Segment,
    /// DS, ES, FS, GS and SS.
    pub data: Segment,
    /// LDTR.
    pub ldtr: Segment,
    /// TR.
    pub tr: Segment,
    /// Base and limit of the global descriptor table.
    pub gdtr: (u64, u16),
    /// Base and limit of the interrupt descriptor table.
    pub idtr: (u64, u16),
}

/// ET; and PG, NE and PE beside.
const CR0_REAL: u64 = 1 << 4;
const CR0_LONG: u64 = 1 << 31 | 1 << 5 | 1 << 4 | 1 << 0;
const CR4_PAE: u64 = 1 << 5;
/// LME and LMA.
const EFER_LONG: u64 = 1 << 8 | 1 << 10;
/// Bit 1 of RFLAGS is always set.
const FLAGS: u64 = 1 << 1;
/// DR6 and DR7 after a reset.
const DR6: u64 = 0xffff_0ff0;
const DR7: u64 = 0x400;
/// PAT after a reset.
const PAT: u64 = 0x0007_0406_0007_0406;
/// Attributes: P; G.
const PRESENT: u16 = 1 << 7;
const PAGES: u16 = 1 << 11;

impl Segment {
    /// What loading `selector` from `descriptor` makes of the register.
    const fn of(selector: u16, descriptor: u64) -> Self {
        let attributes = (descriptor >> 40 & 0xff) as u16 | (descriptor >> 44 & 0xf00) as u16;
        let limit = (descriptor & 0xffff) as u32 | (descriptor >> 32 & 0xf_0000) as u32;
        let limit = if attributes & PAGES != 0 { limit << 12 | 0xfff } else { limit };
        let base = descriptor >> 16 & 0xff_ffff | descriptor >> 32 & 0xff00_0000;
        Self { selector, attributes, limit, base }
    }

    /// A register of real mode: attributes are those of a reset.
    const fn real(selector: u16, attributes: u16) -> Self {
        Self { selector, attributes, limit: 0xffff, base: (selector as u64) << 4 }
    }

    /// The access rights as a VMCS has them: the descriptor's, in place; bit 16 is "unusable".
    #[must_use]
    pub const fn rights(&self) -> u32 {
        let attributes = self.attributes as u32;
        let unusable = if self.attributes & PRESENT == 0 { 1 << 16 } else { 0 };
        attributes & 0xff | (attributes & 0xf00) << 4 | unusable
    }
}

impl From<Segment> for vmcb::Segment {
    fn from(Segment { selector, attributes, limit, base }: Segment) -> Self {
        Self { selector, attributes, limit, base }
    }
}

impl Start {
    /// The state that `at` asks for.
    #[must_use]
    pub fn of(at: &StartAt) -> Self {
        let [rdi, rsi, rdx, rcx] = at.args;
        let mut registers = Registers { flags: FLAGS, ..Registers::default() };
        (registers.general[1], registers.general[2]) = (rcx, rdx);
        (registers.general[6], registers.general[7]) = (rsi, rdi);
        let ldtr = Segment::real(0, 0x82);
        let tr = Segment::real(0, 0x8b);
        if rdx == 0 {
            return Self::real(at.entry, registers, ldtr, tr);
        }
        let descriptor = |selector: u16| Segment::of(selector, DESCRIPTORS[usize::from(selector >> 3)]);
        Self {
            registers,
            rip: at.entry.0,
            cr0: CR0_LONG,
            cr3: rdx,
            cr4: CR4_PAE,
            efer: EFER_LONG,
            code: descriptor(CODE_SELECTOR),
            data: descriptor(DATA_SELECTOR),
            ldtr,
            tr,
            gdtr: (rdx.wrapping_add(GDT), size_of_val(&DESCRIPTORS) as u16 - 1),
            idtr: (0, 0),
        }
    }

    /// After INIT and a start-up message (AMD APM vol. 2, table 14-1; Intel SDM vol. 3A, "Processor State After Reset").
    fn real(entry: Gpa, registers: Registers, ldtr: Segment, tr: Segment) -> Self {
        // A start-up message names one of 256 pages.
        let selector = (entry.0 >> 4) as u16 & 0xff00;
        Self {
            registers,
            rip: 0,
            cr0: CR0_REAL,
            cr3: 0,
            cr4: 0,
            efer: 0,
            code: Segment::real(selector, 0x9b),
            data: Segment::real(0, 0x93),
            ldtr,
            tr,
            gdtr: (0, 0xffff),
            idtr: (0, 0xffff),
        }
    }

    /// Fills the state save area of a VMCB. VMRUN wants EFER.SVME, which the guest is not shown.
    pub fn vmcb(&self, state: &mut vmcb::State) {
        let table = |(base, limit): (u64, u16)| vmcb::Segment { base, limit: u32::from(limit), ..Default::default() };
        *state = vmcb::State::default();
        state.es_cs_ss_ds = [self.data, self.code, self.data, self.data].map(Into::into);
        (state.fs, state.gs) = (self.data.into(), self.data.into());
        (state.ldtr, state.tr) = (self.ldtr.into(), self.tr.into());
        (state.gdtr, state.idtr) = (table(self.gdtr), table(self.idtr));
        (state.cr0, state.cr3, state.cr4) = (self.cr0, self.cr3, self.cr4);
        (state.dr6, state.dr7, state.pat) = (DR6, DR7, PAT);
        state.efer = self.efer | vmcb::EFER_SVME;
        state.rflags = self.registers.flags;
        (state.rip, state.rsp, state.rax) = (self.rip, self.registers.general[4], self.registers.general[0]);
    }

    /// The guest-state fields of a VMCS, but for those that begin as zero in a new one; `set` writes one. CR0 and CR4
    /// are still to be made what VMX operation wants ([`crate::vmx::controls::fixed`]).
    pub fn vmcs(&self, mut set: impl FnMut(Field, u64)) {
        for (name, segment) in [
            (Name::Es, &self.data),
            (Name::Cs, &self.code),
            (Name::Ss, &self.data),
            (Name::Ds, &self.data),
            (Name::Fs, &self.data),
            (Name::Gs, &self.data),
            (Name::Ldtr, &self.ldtr),
            (Name::Tr, &self.tr),
        ] {
            set(Field::selector(name), u64::from(segment.selector));
            set(Field::limit(name), u64::from(segment.limit));
            set(Field::rights(name), u64::from(segment.rights()));
            set(Field::base(name), segment.base);
        }
        for (field, value) in [
            (Field::GUEST_CR0, self.cr0),
            (Field::GUEST_CR3, self.cr3),
            (Field::GUEST_CR4, self.cr4),
            (Field::GUEST_EFER, self.efer),
            (Field::GUEST_PAT, PAT),
            (Field::GUEST_DR7, DR7),
            (Field::GUEST_RIP, self.rip),
            (Field::GUEST_RSP, self.registers.general[4]),
            (Field::GUEST_RFLAGS, self.registers.flags),
            (Field::GUEST_GDTR_BASE, self.gdtr.0),
            (Field::GUEST_GDTR_LIMIT, u64::from(self.gdtr.1)),
            (Field::GUEST_IDTR_BASE, self.idtr.0),
            (Field::GUEST_IDTR_LIMIT, u64::from(self.idtr.1)),
            (Field::LINK_POINTER, u64::MAX),
        ] {
            set(field, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hv_core::addr::Gpa;
    use hv_core::vcpu::services::StartAt;

    use super::{Segment, Start};
    use crate::svm::vmcb::State;
    use crate::vmx::fields::{Field, Segment as Name};

    fn at(entry: u64, args: [u64; 4]) -> Start {
        Start::of(&StartAt { entry: Gpa(entry), args, big_endian: false })
    }

    /// A state area that another vCPU has left.
    fn vmcb(start: &Start) -> State {
        let mut state = State::default();
        (state.cr2, state.cr3) = (7, 7);
        start.vmcb(&mut state);
        assert_eq!(state.cr2, 0, "nothing of before stays");
        state
    }

    fn vmcs(start: &Start) -> BTreeMap<u32, u64> {
        let mut fields = BTreeMap::new();
        start.vmcs(|field, value| assert_eq!(fields.insert(field.0, value), None, "{field:?} twice"));
        fields
    }

    #[test]
    fn a_kernel_begins_in_long_mode_with_its_zero_page() {
        let start = at(0x100_0200, [0, 0x9_0000, 0x8_0000, 0]);
        assert_eq!((start.rip, start.registers.general[6], start.cr3), (0x100_0200, 0x9_0000, 0x8_0000));
        assert_eq!((start.cr0, start.cr4, start.efer, start.registers.flags), (0x8000_0031, 0x20, 0x500, 2));
        let code = Segment { selector: 0x10, attributes: 0xa9b, limit: u32::MAX, base: 0 };
        assert_eq!((start.code, start.data.attributes, start.data.selector), (code, 0xc93, 0x18));
        let state = vmcb(&start);
        assert_eq!((state.efer, state.cr3, state.gdtr.base, state.gdtr.limit), (0x1500, 0x8_0000, 0x8_6000, 31));
        assert_eq!((state.es_cs_ss_ds[1].attributes, state.es_cs_ss_ds[2].selector), (0xa9b, 0x18));
        let fields = vmcs(&start);
        assert_eq!(fields[&Field::rights(Name::Cs).0], 0xa09b);
        assert_eq!(fields[&Field::rights(Name::Tr).0], 0x8b, "VMX wants a busy one");
        assert_eq!((fields[&Field::LINK_POINTER.0], fields[&Field::GUEST_EFER.0]), (u64::MAX, 0x500));
    }

    #[test]
    fn a_start_up_message_begins_a_page_in_real_mode() {
        let start = at(0x9_9000, [0; 4]);
        assert_eq!((start.code.selector, start.code.base, start.rip), (0x9900, 0x9_9000, 0));
        assert_eq!((start.cr0, start.efer, start.code.limit, start.idtr), (0x10, 0, 0xffff, (0, 0xffff)));
        let state = vmcb(&start);
        assert_eq!((state.es_cs_ss_ds[1].attributes, state.rflags, state.cr3), (0x9b, 2, 0));
        assert_eq!(vmcs(&start)[&Field::base(Name::Cs).0], 0x9_9000);
        // What cannot be in a message names a page below 1 MiB all the same.
        assert_eq!(at(u64::MAX - 0x543, [0; 4]).code.base, 0xf_f000);
    }

    #[test]
    fn descriptors_are_taken_apart_as_hardware_does() {
        let odd = Segment::of(8, 0x1245_8934_5678_9abc);
        assert_eq!(odd, Segment { selector: 8, attributes: 0x489, limit: 0x5_9abc, base: 0x1234_5678 });
        assert_eq!(Segment::of(0, 0).rights(), 1 << 16, "what is not present is unusable");
    }
}
