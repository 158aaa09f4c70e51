//! What the vCPU asks of a loaded guest's state, and sets in it ([`crate::vcpu::hardware::WorldSwitch`] has the meanings).

use hv_core::epoch::Cpu;
use hv_core::isa::VmTag;
use hv_core::machine::Instant;

use super::beside;
use super::control_registers::{Fixed, seen, written_cr0, written_cr4};
use super::controls::{entry, primary};
use super::fields::{Field, Segment as Name};
use super::vcpu::{AFTER_SS, AFTER_STI, BLOCKS_NMIS, Injecting, SHADOWS, Vmx};
use crate::apic::Local;
use crate::bus::GeneralProtection;
use crate::decode::{Flow, Mode, Segment};
use crate::event::Event;
use crate::exit::{Cause, ControlAccess};
use crate::machine::X86Machine;
use crate::paging::Paging;
use crate::stage2::X86Stage2;
use crate::start::Start;
use crate::vcpu::hardware::{General, Windows, WorldSwitch};

/// RFLAGS.IF.
const FLAGS_IF: u64 = 1 << 9;
/// RFLAGS.TF: a debug exception follows each instruction. PENDING_DEBUG: one does (BS).
const FLAGS_TF: u64 = 1 << 8;
const SINGLE_STEP: u64 = 1 << 14;
/// EFER.LMA.
const LMA: u64 = 1 << 10;
/// Access rights of CS: L, D.
const RIGHTS_L: u64 = 1 << 13;
const RIGHTS_D: u64 = 1 << 14;
/// ENTRY_EVENT: there is an error code.
const HAS_ERROR: u32 = 1 << 11;
/// CR0.PE.
const PE: u64 = 1 << 0;

impl Vmx {
    /// Writes all of the guest's state, as after a reset.
    pub(super) fn begin(&mut self, start: &Start, fixed: &Fixed) {
        for field in [
            Field::GUEST_DEBUG_CONTROL,
            Field::GUEST_SYSENTER_CS,
            Field::GUEST_SYSENTER_ESP,
            Field::GUEST_SYSENTER_EIP,
            Field::INTERRUPTIBILITY,
            Field::ACTIVITY,
            Field::PENDING_DEBUG,
        ] {
            self.vmcs.set(field, 0);
        }
        start.vmcs(|field, value| self.vmcs.set(field, value));
        self.vmcs.set(Field::GUEST_CR0, fixed.cr0(start.cr0));
        self.vmcs.set(Field::GUEST_CR4, fixed.cr4(start.cr4));
        self.vmcs.set(Field::CR0_SHADOW, start.cr0);
        self.vmcs.set(Field::CR4_SHADOW, start.cr4);
        if start.efer & LMA != 0 {
            let controls = self.vmcs.get(Field::ENTRY_CONTROLS);
            self.vmcs.set(Field::ENTRY_CONTROLS, controls | u64::from(entry::GUEST_64));
        }
    }

    fn seen(&self, register: Field, shadow: Field, mask: Field) -> u64 {
        seen(self.vmcs.get(register), self.vmcs.get(shadow), self.vmcs.get(mask))
    }
}

impl WorldSwitch for Vmx {
    fn create(m: &X86Machine) -> Option<Self> {
        Self::new(m)
    }

    fn reset(&mut self, start: &Start) {
        self.restart(start);
    }

    fn load(&mut self, cpu: &Cpu, m: &X86Machine) {
        self.bring(cpu, m);
    }

    fn put(&mut self, _: &Cpu, _: &X86Machine) {
        self.take_away();
    }

    #[inline]
    fn set_deadline(&mut self, _: &Cpu, _: &X86Machine, until: Instant) {
        self.until = until;
    }

    #[inline]
    fn run(&mut self, general: &mut General, cpu: &Cpu, m: &X86Machine, tag: VmTag, s2: &X86Stage2) -> Cause {
        self.go(general, cpu, m, tag, s2)
    }

    #[inline]
    fn interrupted(&mut self) -> Option<Event> {
        self.delivered()
    }

    fn inject(&mut self, event: Event) {
        let (mut info, error) = event.vmx();
        // Real mode has no error codes, and hardware refuses to deliver one there.
        if info & HAS_ERROR != 0 && self.vmcs.get(Field::GUEST_CR0) & PE == 0 {
            info &= !HAS_ERROR;
        }
        if event == Event::Nmi {
            // Its delivery blocks others; while that holds already it is refused. STI holds no NMI back.
            let now = self.vmcs.get(Field::INTERRUPTIBILITY);
            self.vmcs.set(Field::INTERRUPTIBILITY, now & !(BLOCKS_NMIS | AFTER_STI));
        }
        self.vmcs.set(Field::ENTRY_EVENT, info.into());
        self.vmcs.set(Field::ENTRY_EVENT_ERROR, error.into());
        self.injecting = Injecting::Event;
    }

    #[inline]
    fn is_injecting(&self) -> bool {
        self.injecting == Injecting::Event
    }

    fn can_take_interrupt(&self) -> bool {
        let held_back = self.vmcs.get(Field::INTERRUPTIBILITY) & SHADOWS != 0;
        self.flags() & FLAGS_IF != 0 && !held_back
    }

    fn can_take_nmi(&self) -> bool {
        self.vmcs.get(Field::INTERRUPTIBILITY) & (AFTER_SS | BLOCKS_NMIS) == 0
    }

    #[inline]
    fn set_windows(&mut self, windows: Windows) {
        if windows == self.windows {
            return;
        }
        let bit = |window, control: u32| if windows.contains(window) { u64::from(control) } else { 0 };
        let both = u64::from(primary::INTERRUPT_WINDOW | primary::NMI_WINDOW);
        let asked = bit(Windows::INTERRUPT, primary::INTERRUPT_WINDOW) | bit(Windows::NMI, primary::NMI_WINDOW);
        let controls = self.vmcs.get(Field::PRIMARY_CONTROLS);
        self.vmcs.set(Field::PRIMARY_CONTROLS, controls & !both | asked);
        self.windows = windows;
    }

    /// CR8 ends the run, so nothing is learnt here.
    #[inline]
    fn take_priority(&self, _: &mut Local) {}

    /// Nor shown.
    #[inline]
    fn show_priority(&mut self, _: u8) {}

    #[inline]
    fn after(&self) -> Option<u64> {
        Some(self.rip().wrapping_add(self.vmcs.get(Field::INSTRUCTION_LENGTH)))
    }

    #[inline]
    fn rip(&self) -> u64 {
        self.vmcs.get(Field::GUEST_RIP)
    }

    #[inline]
    fn set_rip(&mut self, rip: u64) {
        self.vmcs.set(Field::GUEST_RIP, rip);
        let now = self.vmcs.get(Field::INTERRUPTIBILITY);
        if now & SHADOWS != 0 {
            self.vmcs.set(Field::INTERRUPTIBILITY, now & !SHADOWS);
        }
        if self.flags() & FLAGS_TF != 0 {
            self.vmcs.set(Field::PENDING_DEBUG, SINGLE_STEP);
        }
    }

    fn rsp(&self) -> u64 {
        self.vmcs.get(Field::GUEST_RSP)
    }

    fn set_rsp(&mut self, rsp: u64) {
        self.vmcs.set(Field::GUEST_RSP, rsp);
    }

    fn rflags(&self) -> u64 {
        self.flags()
    }

    fn set_rflags(&mut self, rflags: u64) {
        self.vmcs.set(Field::GUEST_RFLAGS, rflags);
    }

    fn paging(&self, address_bits: u8) -> Paging {
        Paging {
            cr0: self.seen(Field::GUEST_CR0, Field::CR0_SHADOW, Field::CR0_MASK),
            cr3: self.vmcs.get(Field::GUEST_CR3),
            cr4: self.seen(Field::GUEST_CR4, Field::CR4_SHADOW, Field::CR4_MASK),
            efer: self.vmcs.get(Field::GUEST_EFER),
            address_bits,
        }
    }

    fn root(&self) -> u64 {
        self.vmcs.get(Field::GUEST_CR3)
    }

    fn set_cr2(&mut self, cr2: u64) {
        beside::set_cr2(cr2);
    }

    fn set_efer(&mut self, efer: u64) {
        // Long mode goes on and off with paging, which hardware sees to: LMA stays.
        self.vmcs.set(Field::GUEST_EFER, efer);
    }

    fn pat(&self) -> u64 {
        self.vmcs.get(Field::GUEST_PAT)
    }

    fn set_pat(&mut self, pat: u64) {
        self.vmcs.set(Field::GUEST_PAT, pat);
    }

    fn base(&self, segment: Segment) -> u64 {
        self.vmcs.get(Field::base(match segment {
            Segment::Es => Name::Es,
            Segment::Cs => Name::Cs,
            Segment::Ss => Name::Ss,
            Segment::Ds => Name::Ds,
            Segment::Fs => Name::Fs,
            Segment::Gs => Name::Gs,
        }))
    }

    fn mode(&self) -> Mode {
        let rights = self.vmcs.get(Field::rights(Name::Cs));
        if rights & RIGHTS_L != 0 && self.vmcs.get(Field::GUEST_EFER) & LMA != 0 {
            Mode::Bits64
        } else if rights & RIGHTS_D != 0 {
            Mode::Bits32
        } else {
            Mode::Bits16
        }
    }

    /// SS's, which is the processor's own.
    fn privilege(&self) -> u8 {
        (self.vmcs.get(Field::rights(Name::Ss)) >> 5 & 3) as u8
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.offset_tsc(offset);
    }

    /// See `control_registers`: of what it may write the shadow is made, and the instruction runs again.
    fn control(&mut self, access: ControlAccess, general: &mut General) -> Result<Flow, GeneralProtection> {
        // Nothing else of control registers ends the run, CR8 apart.
        let ControlAccess::Write(number @ (0 | 4), from) = access else { return Err(GeneralProtection) };
        let value = match from {
            4 => self.rsp(),
            n => general[usize::from(n & 15)],
        };
        let (shadow, value) = match number {
            0 => (Field::CR0_SHADOW, written_cr0(value)?),
            _ => (Field::CR4_SHADOW, written_cr4(value, self.vmcs.get(Field::CR4_MASK))?),
        };
        self.vmcs.set(shadow, value);
        Ok(Flow::Same)
    }
}
