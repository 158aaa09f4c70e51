//! AMD's half of a vCPU: its control block, and the way in and out (`enter.S`).
//!
//! VMRUN loads and saves most of the guest's state by itself. What VMLOAD and VMSAVE move (FS, GS, LDTR, TR, the registers of
//! SYSCALL and SYSENTER, the kernel's GS base) Trivet does not use: it stays on the CPU from `load` to `put`.
//!
//! NMIs. There is no window for them: after one was delivered the guest's next IRET ends its run, and once that is through they
//! are no longer held back. An NMI that waits for it is delivered with the next entry after that; nothing makes that one come
//! early (AMD APM vol. 2, 15.21.9, has no means for it without virtual NMIs).
#![expect(unsafe_code, reason = "enters guests")]

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::{asm, global_asm};

use hv_core::epoch::Cpu;
use hv_core::isa::VmTag;
use hv_core::machine::Instant;
use x86_64::registers::model_specific::Msr;

use super::exits::{Record, code};
use super::maps::{self, Maps};
use super::vmcb::{EFER_SVME, Intercepts, VirtualInterrupt, Vmcb, tlb};
use crate::apic::Local;
use crate::bus::GeneralProtection;
use crate::decode::{Flow, Mode, Segment};
use crate::event::{Event, Exception};
use crate::exit::{Cause, ControlAccess};
use crate::features::{Extension, Svm as Has};
use crate::host::vectors;
use crate::machine::X86Machine;
use crate::machine::inside::{Cached, Seen};
use crate::paging::Paging;
use crate::stage2::{Processor as _, X86Stage2};
use crate::start::Start;
use crate::tags::{Flush, Held};
use crate::vcpu::hardware::{General, Windows, WorldSwitch};

global_asm!(include_str!("enter.S"));

unsafe extern "C" {
    fn trivet_svm_run(general: *mut General, vmcb: *mut Vmcb);
}

/// What ends every guest's run, a virtual interrupt unless it is one for the guest to take.
const INTERCEPTS: Intercepts = Intercepts::INTR
    .union(Intercepts::VINTR)
    .union(Intercepts::NMI)
    .union(Intercepts::SMI)
    .union(Intercepts::INIT)
    .union(Intercepts::RDPMC)
    .union(Intercepts::CPUID)
    .union(Intercepts::INVD)
    .union(Intercepts::HLT)
    .union(Intercepts::INVLPGA)
    .union(Intercepts::IOIO)
    .union(Intercepts::MSR)
    .union(Intercepts::FERR_FREEZE)
    .union(Intercepts::SHUTDOWN)
    .union(Intercepts::VMRUN)
    .union(Intercepts::VMMCALL)
    .union(Intercepts::VMLOAD)
    .union(Intercepts::VMSAVE)
    .union(Intercepts::STGI)
    .union(Intercepts::CLGI)
    .union(Intercepts::SKINIT)
    .union(Intercepts::WBINVD)
    .union(Intercepts::MONITOR)
    .union(Intercepts::MWAIT)
    .union(Intercepts::MWAIT_ARMED)
    .union(Intercepts::XSETBV);

/// Exceptions that end every guest's run: #DB and #AC, which a guest can have delivered to itself without end, in one go that
/// no interrupt ends; and #MC.
const EXCEPTIONS: u32 = 1 << 1 | 1 << 17 | 1 << 18;

/// Control area, 090h: nested paging.
const NESTED_PAGING: u64 = 1 << 0;
/// Control area, 068h: the guest is in an interrupt shadow.
const SHADOW: u64 = 1 << 0;
/// RFLAGS.TF and IF.
const FLAGS_TF: u64 = 1 << 8;
const FLAGS_IF: u64 = 1 << 9;
/// DR6: a single step; and the exception that tells of it.
const DR6_BS: u64 = 1 << 14;
const STEP: Event = Event::Exception(Exception::Other { vector: 1, error: None });
/// A window for an interrupt that the local APIC offers: the task priority has been looked at.
const WINDOW: VirtualInterrupt = VirtualInterrupt::PENDING.union(VirtualInterrupt::IGNORE_TPR);
/// Control area, 000h: writes to CR8 end the run.
const WRITES_OF_CR8: u32 = 1 << (16 + 8);
/// V_TPR.
const V_TPR: u64 = 0xff;
/// CR0.PE; RFLAGS.VM; EFER.LMA. Attributes of a code segment: L and D.
const CR0_PE: u64 = 1 << 0;
const FLAGS_VM: u64 = 1 << 17;
const EFER_LMA: u64 = 1 << 10;
const LONG: u16 = 1 << 9;
const DEFAULT_32: u16 = 1 << 10;

/// Whether NMIs are held back from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nmi {
    /// No.
    Open,
    /// Until its next IRET.
    Blocked,
    /// Until the IRET at this address is through.
    Ending(u64),
}

/// AMD's half.
#[derive(Debug)]
pub struct Svm {
    vmcb: Box<[Vmcb; 1]>,
    has: Has,
    held: Option<Held>,
    seen: Seen,
    /// The tag is to be asked for: others may have used up this CPU's in between.
    away: bool,
    nmi: Nmi,
    windows: Windows,
    /// The class that the guest's task priority is to fall below.
    awaited: Option<u8>,
    /// Whether this processor has been seen to take the class of a virtual interrupt for high enough if it is that of the task
    /// priority. QEMU's does; the manual wants a higher one (15.21.4).
    equals: bool,
    /// QEMU's own: interrupts are posted, not injected ([`Svm::post`]), and writes to CR8 are looked after ([`Svm::open`]).
    is_tcg: bool,
    /// The interrupt that is posted.
    posted: Option<u8>,
    maps: &'static Maps,
}

impl Svm {
    #[inline]
    fn address(&self) -> u64 {
        // Memory is mapped at its own addresses.
        core::ptr::from_ref(&self.vmcb[0]).expose_provenance() as u64
    }

    /// This CPU may have something cached under the vCPU's tag that is no longer so, or others have used its tags.
    #[cold]
    #[inline(never)]
    fn refresh(&mut self, cpu: &Cpu, m: &X86Machine, cached: Cached) {
        let control = &mut self.vmcb[0].control;
        if cached == Cached::Stale {
            self.held = None;
        }
        let (held, flush) = m.hold_tag(cpu, &mut self.held);
        control.asid = held.tag();
        if flush == Flush::All {
            control.tlb_control = tlb::ALL;
        }
        self.away = false;
    }

    /// V_TPR.
    #[inline]
    fn priority(&self) -> u8 {
        (self.vmcb[0].control.virtual_interrupt.bits() & 15) as u8
    }

    /// Has the guest take `vector` as its run begins, as a virtual interrupt and not an injected one. QEMU delivers an injected
    /// interrupt inside VMRUN and keeps its vector as if an exception were to be raised; whatever else asks the CPU's thread
    /// out of its loop before the guest's next exception or exit then has it delivered a second time, with EFLAGS.IF clear.
    #[inline(never)]
    fn post(&mut self, vector: u8) {
        self.posted = Some(vector);
        self.open();
        self.intercept();
    }

    /// The run that began with the posted interrupt is over.
    #[inline(never)]
    fn take_back(&mut self) {
        let Some(vector) = self.posted.take() else { return };
        let control = &mut self.vmcb[0].control;
        if control.virtual_interrupt.contains(VirtualInterrupt::PENDING) {
            // The guest has not taken it. Of a delivery that was cut short QEMU says that it was an exception's.
            control.exit_interrupt_info = Event::Interrupt(vector).svm();
        }
        self.open();
        self.intercept();
    }

    /// Has a virtual interrupt pend: the one that is posted, or one that stands for what is waited for, of whose vector nothing
    /// comes, should it be delivered to Trivet itself.
    fn open(&mut self) {
        let interrupt = &mut self.vmcb[0].control.virtual_interrupt;
        interrupt.remove(WINDOW | VirtualInterrupt::PRIORITY | VirtualInterrupt::VECTOR);
        interrupt.insert(VirtualInterrupt::vector(self.posted.unwrap_or(vectors::SPURIOUS)));
        if self.posted.is_some() || self.windows.contains(Windows::INTERRUPT) {
            interrupt.insert(WINDOW);
        } else if let Some(class) = self.awaited {
            interrupt.insert(VirtualInterrupt::PENDING | VirtualInterrupt::priority(class));
        }
        // While one pends a write to CR8 ends QEMU itself.
        let pends = interrupt.contains(VirtualInterrupt::PENDING);
        self.vmcb[0].control.control_registers = if self.is_tcg && pends { WRITES_OF_CR8 } else { 0 };
    }

    fn intercept(&mut self) {
        let nmi = if self.nmi == Nmi::Blocked { Intercepts::IRET } else { Intercepts::empty() };
        let posted = if self.posted.is_some() { Intercepts::VINTR } else { Intercepts::empty() };
        self.vmcb[0].control.intercept((INTERCEPTS | nmi).difference(posted));
    }
}

impl WorldSwitch for Svm {
    fn create(m: &X86Machine) -> Option<Self> {
        let Extension::Svm { has, .. } = m.features().extension else { return None };
        let mut vmcb = Vec::new();
        vmcb.try_reserve_exact(1).ok()?;
        vmcb.push(Vmcb::default());
        Some(Self {
            vmcb: vmcb.into_boxed_slice().try_into().ok()?,
            has,
            held: None,
            seen: Seen::default(),
            away: true,
            nmi: Nmi::Open,
            windows: Windows::empty(),
            awaited: None,
            equals: false,
            is_tcg: m.is_tcg(),
            posted: None,
            maps: maps::get()?,
        })
    }

    fn reset(&mut self, start: &Start) {
        let [vmcb] = &mut *self.vmcb;
        start.vmcb(&mut vmcb.state);
        let control = &mut vmcb.control;
        (control.io_map, control.msr_map) = self.maps.addresses();
        control.virtual_interrupt = VirtualInterrupt::MASKING;
        control.exceptions = EXCEPTIONS;
        control.nested_control = NESTED_PAGING;
        (control.event_injection, control.exit_interrupt_info, control.shadow) = (0, 0, 0);
        (self.nmi, self.windows, self.awaited, self.away) = (Nmi::Open, Windows::empty(), None, true);
        self.posted = None;
        self.open();
        self.intercept();
    }

    fn load(&mut self, _: &Cpu, _: &X86Machine) {
        self.away = true;
        // SAFETY: the block holds the state of a guest; Trivet uses none of these registers.
        unsafe { asm!("vmload rax", in("rax") self.address(), options(nostack, preserves_flags)) };
    }

    fn put(&mut self, _: &Cpu, _: &X86Machine) {
        // SAFETY: as in `load`; the block is exclusively borrowed.
        unsafe { asm!("vmsave rax", in("rax") self.address(), options(nostack, preserves_flags)) };
    }

    #[inline]
    fn set_deadline(&mut self, cpu: &Cpu, m: &X86Machine, until: Instant) {
        m.set_timer(cpu, until);
    }

    #[inline]
    fn run(&mut self, general: &mut General, cpu: &Cpu, m: &X86Machine, tag: VmTag, s2: &X86Stage2) -> Cause {
        let cached = m.entering(cpu, tag, &mut self.seen);
        if cached == Cached::Stale || self.away {
            self.refresh(cpu, m, cached);
        }
        self.vmcb[0].control.nested_cr3 = s2.pointer();
        // SAFETY: the vCPU is loaded, the block confines its guest to its second stage, and both arguments are exclusively
        // borrowed and of the layout that is expected.
        unsafe { trivet_svm_run(general, &raw mut self.vmcb[0]) };
        m.left(cpu);
        if self.posted.is_some() {
            self.take_back();
        }
        let control = &mut self.vmcb[0].control;
        // Hardware does not take them back, or not all of it.
        (control.tlb_control, control.event_injection) = (tlb::NOTHING, 0);
        let record = Record {
            code: control.exit_code,
            info1: control.exit_info1,
            info2: control.exit_info2,
            next_rip: control.next_rip,
        };
        if record.code == code::VINTR && self.awaited == Some(self.priority()) {
            self.equals = true;
        }
        if record.code == code::IRET {
            self.nmi = Nmi::Ending(self.rip());
            self.intercept();
        }
        record.name()
    }

    #[inline]
    fn interrupted(&mut self) -> Option<Event> {
        match self.vmcb[0].control.exit_interrupt_info {
            0 => None,
            info => Event::delivered_svm(info),
        }
    }

    #[inline]
    fn inject(&mut self, event: Event) {
        if let (true, Event::Interrupt(vector)) = (self.is_tcg, event) {
            return self.post(vector);
        }
        self.vmcb[0].control.event_injection = event.svm();
        if event == Event::Nmi {
            self.nmi = Nmi::Blocked;
            self.intercept();
        }
    }

    #[inline]
    fn is_injecting(&self) -> bool {
        self.vmcb[0].control.event_injection != 0 || self.posted.is_some()
    }

    #[inline]
    fn can_take_interrupt(&self) -> bool {
        let [Vmcb { control, state }] = &*self.vmcb;
        state.rflags & FLAGS_IF != 0 && control.shadow & SHADOW == 0
    }

    fn can_take_nmi(&self) -> bool {
        let open = match self.nmi {
            Nmi::Open => true,
            Nmi::Blocked => false,
            Nmi::Ending(at) => self.rip() != at,
        };
        open && self.vmcb[0].control.shadow & SHADOW == 0
    }

    #[inline]
    fn set_windows(&mut self, windows: Windows) {
        if self.windows == windows {
            return;
        }
        self.windows = windows;
        self.open();
    }

    #[inline]
    fn await_priority(&mut self, class: Option<u8>) {
        // Where equals end the run nothing can be awaited of a guest whose priority is just this class: its run would end
        // before it began. It is found out at its next exit.
        let class = class.filter(|class| !(self.equals && self.priority() == *class));
        if self.awaited != class {
            self.awaited = class;
            self.open();
        }
    }

    #[inline]
    fn take_priority(&self, local: &mut Local) {
        let priority = self.priority();
        if local.tpr() >> 4 != priority {
            local.set_tpr(priority << 4);
        }
    }

    fn show_priority(&mut self, tpr: u8) {
        let interrupt = &mut self.vmcb[0].control.virtual_interrupt;
        *interrupt = VirtualInterrupt::from_bits_retain(interrupt.bits() & !V_TPR | u64::from(tpr >> 4));
    }

    #[inline]
    fn after(&self) -> Option<u64> {
        let control = &self.vmcb[0].control;
        let next_rip = control.next_rip;
        Record { code: control.exit_code, info1: 0, info2: control.exit_info2, next_rip }.after(self.has)
    }

    #[inline]
    fn rip(&self) -> u64 {
        self.vmcb[0].state.rip
    }

    #[inline]
    fn set_rip(&mut self, rip: u64) {
        let [Vmcb { control, state }] = &mut *self.vmcb;
        state.rip = rip;
        control.shadow &= !SHADOW;
        if state.rflags & FLAGS_TF != 0 {
            // The instruction was one step.
            state.dr6 |= DR6_BS;
            control.event_injection = STEP.svm();
        }
    }

    fn rsp(&self) -> u64 {
        self.vmcb[0].state.rsp
    }

    fn set_rsp(&mut self, rsp: u64) {
        self.vmcb[0].state.rsp = rsp;
    }

    #[inline]
    fn rflags(&self) -> u64 {
        self.vmcb[0].state.rflags
    }

    fn set_rflags(&mut self, rflags: u64) {
        self.vmcb[0].state.rflags = rflags;
    }

    fn paging(&self, address_bits: u8) -> Paging {
        let state = &self.vmcb[0].state;
        Paging { cr0: state.cr0, cr3: state.cr3, cr4: state.cr4, efer: state.efer & !EFER_SVME, address_bits }
    }

    #[inline]
    fn root(&self) -> u64 {
        self.vmcb[0].state.cr3
    }

    fn set_cr2(&mut self, cr2: u64) {
        self.vmcb[0].state.cr2 = cr2;
    }

    fn set_efer(&mut self, efer: u64) {
        self.vmcb[0].state.efer = efer | EFER_SVME;
    }

    fn pat(&self) -> u64 {
        self.vmcb[0].state.pat
    }

    fn set_pat(&mut self, pat: u64) {
        self.vmcb[0].state.pat = pat;
    }

    fn base(&self, segment: Segment) -> u64 {
        let state = &self.vmcb[0].state;
        let [es, cs, ss, ds] = &state.es_cs_ss_ds;
        match segment {
            Segment::Es => es.base,
            Segment::Cs => cs.base,
            Segment::Ss => ss.base,
            Segment::Ds => ds.base,
            Segment::Fs | Segment::Gs => {
                // They are on the CPU.
                let msr = if segment == Segment::Fs { FS_BASE } else { GS_BASE };
                // SAFETY: every processor of 64 bits has it; to read it has no effect.
                unsafe { Msr::new(msr).read() }
            }
        }
    }

    fn mode(&self) -> Mode {
        let state = &self.vmcb[0].state;
        let code = state.es_cs_ss_ds[1].attributes;
        match state.cr0 & CR0_PE != 0 && state.rflags & FLAGS_VM == 0 {
            true if state.efer & EFER_LMA != 0 && code & LONG != 0 => Mode::Bits64,
            true if code & DEFAULT_32 != 0 => Mode::Bits32,
            _ => Mode::Bits16,
        }
    }

    fn privilege(&self) -> u8 {
        self.vmcb[0].state.cpl
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.vmcb[0].control.tsc_offset = offset;
    }

    /// No access to one ends a run.
    fn control(&mut self, _: ControlAccess, _: &mut General) -> Result<Flow, GeneralProtection> {
        Err(GeneralProtection)
    }
}

/// FS.Base and GS.Base.
const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
