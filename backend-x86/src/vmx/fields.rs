//! Encodings of the VMCS's fields (Intel SDM vol. 3D, appendix B).
//!
//! ```text
//!   14:13 width    11:10 whose    9:1 index    0 upper half of a field of 64 bits
//! ```
//!
//! The structure's layout is the processor's own: fields are reached by VMREAD and VMWRITE with these numbers, of which
//! only those that Trivet uses are here. Those of segment registers are computed: each kind has them in one order.

/// A field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field(pub u32);

/// How wide a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldWidth {
    /// 16 bits.
    Word,
    /// 64 bits.
    Quad,
    /// 32 bits.
    Double,
    /// As wide as a register.
    Natural,
}

/// What a field is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// It says how the guest runs.
    Control,
    /// It says how the run ended, and is only read.
    Exit,
    /// The guest's state.
    Guest,
    /// The state that an exit brings back.
    Host,
}

/// Segment registers in the order of their fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// ES.
    Es,
    /// CS.
    Cs,
    /// SS.
    Ss,
    /// DS.
    Ds,
    /// FS.
    Fs,
    /// GS.
    Gs,
    /// LDTR.
    Ldtr,
    /// TR.
    Tr,
}

impl Field {
    /// How wide it is.
    #[must_use]
    pub const fn width(self) -> FieldWidth {
        match self.0 >> 13 & 3 {
            0 => FieldWidth::Word,
            1 => FieldWidth::Quad,
            2 => FieldWidth::Double,
            _ => FieldWidth::Natural,
        }
    }

    /// What it is for.
    #[must_use]
    pub const fn group(self) -> Group {
        match self.0 >> 10 & 3 {
            0 => Group::Control,
            1 => Group::Exit,
            2 => Group::Guest,
            _ => Group::Host,
        }
    }

    const fn of(self, segment: Segment) -> Self {
        Self(self.0 + 2 * segment as u32)
    }

    /// The guest's selector.
    #[must_use]
    pub const fn selector(segment: Segment) -> Self {
        Self(0x800).of(segment)
    }

    /// The guest's limit.
    #[must_use]
    pub const fn limit(segment: Segment) -> Self {
        Self(0x4800).of(segment)
    }

    /// The guest's access rights: the descriptor's attributes at their places in its second word, from bit 0; 16 is
    /// "unusable".
    #[must_use]
    pub const fn rights(segment: Segment) -> Self {
        Self(0x4814).of(segment)
    }

    /// The guest's base.
    #[must_use]
    pub const fn base(segment: Segment) -> Self {
        Self(0x6806).of(segment)
    }
}

macro_rules! fields {
    ($($name:ident $encoding:literal $what:literal),* $(,)?) => {
        impl Field {
            $(#[doc = $what] pub const $name: Self = Self($encoding);)*
            /// All that have names.
            #[cfg(test)]
            const NAMED: &'static [(&'static str, Self)] = &[$((stringify!($name), Self::$name)),*];
        }
    };
}

fields! {
    VPID 0x0000 "Virtual-processor identifier.",
    HOST_ES 0xc00 "ES of the host.",
    HOST_CS 0xc02 "CS of the host.",
    HOST_SS 0xc04 "SS of the host.",
    HOST_DS 0xc06 "DS of the host.",
    HOST_FS 0xc08 "FS of the host.",
    HOST_GS 0xc0a "GS of the host.",
    HOST_TR 0xc0c "TR of the host.",
    MSR_BITMAP 0x2004 "Physical address of the bitmap of MSRs.",
    EXIT_MSR_STORE 0x2006 "Physical address of the MSRs that an exit stores.",
    EXIT_MSR_LOAD 0x2008 "Physical address of the MSRs that an exit loads.",
    ENTRY_MSR_LOAD 0x200a "Physical address of the MSRs that an entry loads.",
    TSC_OFFSET 0x2010 "What is added to the TSC that a guest reads.",
    EPT_POINTER 0x201a "See [`crate::stage2::eptp`].",
    XSS_BITMAP 0x202c "Components whose XSAVES and XRSTORS end the run.",
    GUEST_PHYSICAL 0x2400 "The guest physical address of an EPT violation or misconfiguration.",
    LINK_POINTER 0x2800 "All ones.",
    GUEST_DEBUG_CONTROL 0x2802 "IA32_DEBUGCTL.",
    GUEST_PAT 0x2804 "IA32_PAT.",
    GUEST_EFER 0x2806 "IA32_EFER.",
    HOST_PAT 0x2c00 "IA32_PAT.",
    HOST_EFER 0x2c02 "IA32_EFER.",
    PIN_CONTROLS 0x4000 "See [`super::controls`].",
    PRIMARY_CONTROLS 0x4002 "See [`super::controls`].",
    EXCEPTIONS 0x4004 "Exceptions that end the run.",
    PAGE_FAULT_MASK 0x4006 "Which bits of a page fault's error code are compared.",
    PAGE_FAULT_MATCH 0x4008 "With what; those that differ are treated as [`Field::EXCEPTIONS`] does not say.",
    CR3_TARGETS 0x400a "How many values of CR3 do not end the run.",
    EXIT_CONTROLS 0x400c "See [`super::controls`].",
    EXIT_MSR_STORE_COUNT 0x400e "MSRs that an exit stores.",
    EXIT_MSR_LOAD_COUNT 0x4010 "MSRs that an exit loads.",
    ENTRY_CONTROLS 0x4012 "See [`super::controls`].",
    ENTRY_MSR_LOAD_COUNT 0x4014 "MSRs that an entry loads.",
    ENTRY_EVENT 0x4016 "What an entry delivers.",
    ENTRY_EVENT_ERROR 0x4018 "Its error code.",
    ENTRY_EVENT_LENGTH 0x401a "The length of the instruction that it is about.",
    SECONDARY_CONTROLS 0x401e "See [`super::controls`].",
    INSTRUCTION_ERROR 0x4400 "Why VMLAUNCH or VMRESUME failed.",
    EXIT_REASON 0x4402 "See [`super::exits`].",
    EXIT_EVENT 0x4404 "The exception or NMI that ended the run.",
    EXIT_EVENT_ERROR 0x4406 "Its error code.",
    DELIVERED_EVENT 0x4408 "What was being delivered when the run ended.",
    DELIVERED_EVENT_ERROR 0x440a "Its error code.",
    INSTRUCTION_LENGTH 0x440c "The length of the instruction that ended the run.",
    INSTRUCTION_INFO 0x440e "What else is known of it.",
    GUEST_GDTR_LIMIT 0x4810 "GDTR, limit.",
    GUEST_IDTR_LIMIT 0x4812 "IDTR, limit.",
    INTERRUPTIBILITY 0x4824 "What holds interrupts back: STI, MOV SS, SMI, NMI.",
    ACTIVITY 0x4826 "Active, halted, shut down, waiting for SIPI.",
    GUEST_SYSENTER_CS 0x482a "IA32_SYSENTER_CS.",
    PREEMPTION_TIMER 0x482e "What is left of the time the guest has.",
    HOST_SYSENTER_CS 0x4c00 "IA32_SYSENTER_CS.",
    CR0_MASK 0x6000 "Bits of CR0 that are not the guest's.",
    CR4_MASK 0x6002 "Bits of CR4 that are not the guest's.",
    CR0_SHADOW 0x6004 "What it reads there.",
    CR4_SHADOW 0x6006 "What it reads there.",
    QUALIFICATION 0x6400 "Particulars of the exit.",
    GUEST_LINEAR 0x640a "The linear address of the exit.",
    GUEST_CR0 0x6800 "CR0.",
    GUEST_CR3 0x6802 "CR3.",
    GUEST_CR4 0x6804 "CR4.",
    GUEST_GDTR_BASE 0x6816 "GDTR, base.",
    GUEST_IDTR_BASE 0x6818 "IDTR, base.",
    GUEST_DR7 0x681a "DR7.",
    GUEST_RSP 0x681c "RSP.",
    GUEST_RIP 0x681e "RIP.",
    GUEST_RFLAGS 0x6820 "RFLAGS.",
    PENDING_DEBUG 0x6822 "Debug exceptions that wait.",
    GUEST_SYSENTER_ESP 0x6824 "IA32_SYSENTER_ESP.",
    GUEST_SYSENTER_EIP 0x6826 "IA32_SYSENTER_EIP.",
    HOST_CR0 0x6c00 "CR0.",
    HOST_CR3 0x6c02 "CR3.",
    HOST_CR4 0x6c04 "CR4.",
    HOST_FS_BASE 0x6c06 "FS, base.",
    HOST_GS_BASE 0x6c08 "GS, base.",
    HOST_TR_BASE 0x6c0a "TR, base.",
    HOST_GDTR_BASE 0x6c0c "GDTR, base.",
    HOST_IDTR_BASE 0x6c0e "IDTR, base.",
    HOST_SYSENTER_ESP 0x6c10 "IA32_SYSENTER_ESP.",
    HOST_SYSENTER_EIP 0x6c12 "IA32_SYSENTER_EIP.",
    HOST_RSP 0x6c14 "RSP after an exit.",
    HOST_RIP 0x6c16 "RIP after an exit.",
}

#[cfg(test)]
mod tests {
    use super::{Field, FieldWidth, Group, Segment};

    #[test]
    fn numbers_say_what_the_names_say() {
        for &(name, field) in Field::NAMED {
            assert_eq!(field.0 & !0x6ffe, 0, "{name}: no field of full access has other bits");
            assert_eq!(Field::NAMED.iter().filter(|(_, other)| *other == field).count(), 1, "{name}");
            let group = match name.split('_').next() {
                Some("GUEST") if name != "GUEST_PHYSICAL" && name != "GUEST_LINEAR" => Group::Guest,
                Some("HOST") => Group::Host,
                _ => continue,
            };
            assert_eq!(field.group(), group, "{name}");
        }
        assert_eq!(Field::EXIT_REASON.group(), Group::Exit);
        assert_eq!(Field::QUALIFICATION.group(), Group::Exit);
        assert_eq!((Field::VPID.width(), Field::EPT_POINTER.width()), (FieldWidth::Word, FieldWidth::Quad));
        assert_eq!((Field::EXIT_REASON.width(), Field::HOST_RIP.width()), (FieldWidth::Double, FieldWidth::Natural));
    }

    #[test]
    fn segments_are_in_the_order_of_the_tables() {
        // The first and the last of each, from tables B-2, B-12 and B-15.
        assert_eq!((Field::selector(Segment::Es).0, Field::selector(Segment::Tr).0), (0x800, 0x80e));
        assert_eq!((Field::limit(Segment::Es).0, Field::limit(Segment::Tr).0), (0x4800, 0x480e));
        assert_eq!((Field::rights(Segment::Es).0, Field::rights(Segment::Tr).0), (0x4814, 0x4822));
        assert_eq!((Field::base(Segment::Es).0, Field::base(Segment::Tr).0), (0x6806, 0x6814));
        assert_eq!(Field::selector(Segment::Cs).0, 0x802);
    }
}
