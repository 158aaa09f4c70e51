//! Which controls a guest runs under (Intel SDM vol. 3C, "VM-Execution Control Fields" and those for exit and entry;
//! vol. 3D, A.3 to A.5).
//!
//! A capability register holds, for each group of controls, bits that have to be 1 in its lower half and bits that may
//! be 1 in its upper. What Trivet needs and cannot have, or does not want and cannot avoid, is an error that names the
//! bits.

/// Pin-based controls.
pub mod pin {
    /// Physical interrupts end the run.
    pub const EXTERNAL_INTERRUPT: u32 = 1 << 0;
    /// NMIs end the run.
    pub const NMI: u32 = 1 << 3;
    /// The guest's blocking of NMIs is told from the host's.
    pub const VIRTUAL_NMI: u32 = 1 << 5;
    /// A timer that counts TSC ticks ends the run.
    pub const PREEMPTION_TIMER: u32 = 1 << 6;
}

/// Primary processor-based controls.
pub mod primary {
    /// The run ends when the guest can take an interrupt.
    pub const INTERRUPT_WINDOW: u32 = 1 << 2;
    /// The guest's TSC is offset.
    pub const TSC_OFFSET: u32 = 1 << 3;
    /// HLT ends the run.
    pub const HLT: u32 = 1 << 7;
    /// INVLPG ends it.
    pub const INVLPG: u32 = 1 << 9;
    /// MWAIT ends it.
    pub const MWAIT: u32 = 1 << 10;
    /// RDPMC ends it.
    pub const RDPMC: u32 = 1 << 11;
    /// RDTSC ends it.
    pub const RDTSC: u32 = 1 << 12;
    /// Loads of CR3 end it.
    pub const CR3_LOAD: u32 = 1 << 15;
    /// Stores of CR3 end it.
    pub const CR3_STORE: u32 = 1 << 16;
    /// Loads of CR8 end it: the task priority is that of our local APIC, and the guest's is not there.
    pub const CR8_LOAD: u32 = 1 << 19;
    /// Stores of CR8 end it.
    pub const CR8_STORE: u32 = 1 << 20;
    /// The run ends when the guest can take an NMI.
    pub const NMI_WINDOW: u32 = 1 << 22;
    /// All ports end it.
    pub const PORTS: u32 = 1 << 24;
    /// A bitmap says which MSRs end it; without it all do.
    pub const MSR_BITMAP: u32 = 1 << 28;
    /// MONITOR ends it.
    pub const MONITOR: u32 = 1 << 29;
    /// There are secondary controls.
    pub const SECONDARY: u32 = 1 << 31;
}

/// Secondary processor-based controls.
pub mod secondary {
    /// Extended page tables.
    pub const EPT: u32 = 1 << 1;
    /// The guest has RDTSCP.
    pub const RDTSCP: u32 = 1 << 3;
    /// Virtual-processor identifiers.
    pub const VPID: u32 = 1 << 5;
    /// WBINVD ends the run.
    pub const WBINVD: u32 = 1 << 6;
    /// The guest may run unpaged and in real mode.
    pub const UNRESTRICTED: u32 = 1 << 7;
    /// The guest has INVPCID.
    pub const INVPCID: u32 = 1 << 12;
    /// The guest has XSAVES.
    pub const XSAVES: u32 = 1 << 20;
}

/// Exit controls.
pub mod exit {
    /// The guest's DR7 and IA32_DEBUGCTL are stored.
    pub const SAVE_DEBUG: u32 = 1 << 2;
    /// The host is in long mode.
    pub const HOST_64: u32 = 1 << 9;
    /// The guest's PAT is stored.
    pub const SAVE_PAT: u32 = 1 << 18;
    /// The host's PAT is loaded.
    pub const LOAD_PAT: u32 = 1 << 19;
    /// The guest's EFER is stored.
    pub const SAVE_EFER: u32 = 1 << 20;
    /// The host's EFER is loaded.
    pub const LOAD_EFER: u32 = 1 << 21;
}

/// Entry controls.
pub mod entry {
    /// The guest's DR7 and IA32_DEBUGCTL are loaded.
    pub const LOAD_DEBUG: u32 = 1 << 2;
    /// The guest is in long mode. Hardware keeps this up to date in the VMCS of an unrestricted guest.
    pub const GUEST_64: u32 = 1 << 9;
    /// The guest's PAT is loaded.
    pub const LOAD_PAT: u32 = 1 << 14;
    /// The guest's EFER is loaded.
    pub const LOAD_EFER: u32 = 1 << 15;
}

/// A group of controls, as errors name it, and its capability register: that for processors whose defaults can be cleared
/// (IA32_VMX_BASIC bit 55) and that for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Pin-based.
    Pin,
    /// Primary processor-based.
    Primary,
    /// Secondary processor-based.
    Secondary,
    /// Exit.
    Exit,
    /// Entry.
    Entry,
}

impl Group {
    fn register(self, clearable: bool) -> u32 {
        match (self, clearable) {
            (Self::Pin, false) => 0x481,
            (Self::Primary, false) => 0x482,
            (Self::Exit, false) => 0x483,
            (Self::Entry, false) => 0x484,
            (Self::Secondary, _) => 0x48b,
            (Self::Pin, true) => 0x48d,
            (Self::Primary, true) => 0x48e,
            (Self::Exit, true) => 0x48f,
            (Self::Entry, true) => 0x490,
        }
    }
}

/// The processor cannot run guests in the way that Trivet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// These bits cannot be set.
    Lacks(Group, u32),
    /// These cannot be cleared.
    Forces(Group, u32),
}

/// What Trivet asks of a group. What it does not name is as hardware has it by default.
#[derive(Clone, Copy, Debug)]
struct Wish {
    group: Group,
    /// Has to be set.
    needs: u32,
    /// Is set where it can be.
    likes: u32,
    /// Has to be clear.
    shuns: u32,
}

impl Wish {
    fn choose(&self, read: impl Fn(u32) -> u64, clearable: bool) -> Result<u32, Unfit> {
        let capability = read(self.group.register(clearable));
        let (must, may) = (capability as u32, (capability >> 32) as u32);
        match (self.needs & !may, self.shuns & must) {
            (0, 0) => Ok((self.needs | self.likes) & may | must),
            (0, forced) => Err(Unfit::Forces(self.group, forced)),
            (lacking, _) => Err(Unfit::Lacks(self.group, lacking)),
        }
    }
}

impl core::fmt::Display for Unfit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Lacks(group, bits) => write!(f, "the processor's VMX lacks {group:?} controls {bits:#x}"),
            Self::Forces(group, bits) => {
                write!(f, "the processor's VMX cannot do without {group:?} controls {bits:#x}")
            }
        }
    }
}

/// The controls of every guest. An entry sets the windows, and clears and sets [`entry::GUEST_64`] with the guest's
/// state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controls {
    /// Pin-based.
    pub pin: u32,
    /// Primary.
    pub primary: u32,
    /// Secondary.
    pub secondary: u32,
    /// Exit.
    pub exit: u32,
    /// Entry.
    pub entry: u32,
}

impl Controls {
    /// Chooses them; `read` reads a capability register. The processor has VMX.
    pub fn choose(read: impl Fn(u32) -> u64) -> Result<Self, Unfit> {
        let clearable = read(crate::features::msr::VMX_BASIC) >> 55 & 1 == 1;
        let pin = Wish {
            group: Group::Pin,
            needs: pin::EXTERNAL_INTERRUPT | pin::NMI | pin::VIRTUAL_NMI | pin::PREEMPTION_TIMER,
            likes: 0,
            shuns: 0,
        };
        let primary = Wish {
            group: Group::Primary,
            needs: {
                let idle = primary::HLT | primary::MWAIT | primary::MONITOR;
                let devices = primary::PORTS | primary::MSR_BITMAP | primary::CR8_LOAD | primary::CR8_STORE;
                primary::TSC_OFFSET | primary::RDPMC | idle | devices | primary::SECONDARY
            },
            likes: 0,
            // With EPT a guest's own translations are its own, and its TSC is offset, not emulated.
            shuns: primary::CR3_LOAD | primary::CR3_STORE | primary::INVLPG | primary::RDTSC,
        };
        let secondary = Wish {
            group: Group::Secondary,
            needs: secondary::EPT | secondary::UNRESTRICTED | secondary::VPID,
            likes: secondary::RDTSCP | secondary::WBINVD | secondary::INVPCID | secondary::XSAVES,
            shuns: 0,
        };
        let exit = Wish {
            group: Group::Exit,
            needs: {
                let host = exit::HOST_64 | exit::LOAD_PAT | exit::LOAD_EFER;
                host | exit::SAVE_DEBUG | exit::SAVE_PAT | exit::SAVE_EFER
            },
            likes: 0,
            shuns: 0,
        };
        let entry = Wish {
            group: Group::Entry,
            needs: entry::LOAD_DEBUG | entry::LOAD_PAT | entry::LOAD_EFER,
            likes: 0,
            shuns: entry::GUEST_64,
        };
        Ok(Self {
            pin: pin.choose(&read, clearable)?,
            primary: primary.choose(&read, clearable)?,
            secondary: secondary.choose(&read, clearable)?,
            exit: exit.choose(&read, clearable)?,
            entry: entry.choose(&read, clearable)?,
        })
    }
}

/// CR0 or CR4 as VMX operation wants it (A.7, A.8): `must` are bits that have to be 1 (IA32_VMX_CR0_FIXED0,
/// CR4_FIXED0), `may` those that can be (FIXED1).
#[must_use]
pub const fn fixed(value: u64, must: u64, may: u64) -> u64 {
    (value | must) & may
}

#[cfg(test)]
#[path = "controls_tests.rs"]
mod tests;
