//! VMX's half of a vCPU: its VMCS, brought to a CPU and run there.
//!
//! `state.rs` has what the vCPU asks of the guest's state. What no field of the VMCS holds is moved by hand when a vCPU comes and
//! goes, because Trivet uses none of it: [`Beside`].

use hv_core::epoch::Cpu;
use hv_core::isa::VmTag;
use hv_core::machine::{Instant, Machine as _};

use super::beside::{self, Beside};
use super::exits::{Record, reason};
use super::fields::Field;
use super::host::{self, Shared};
use super::switch::{self, Launch};
use super::vmcs::Vmcs;
use crate::event::Event;
use crate::exit::Cause;
use crate::machine::X86Machine;
use crate::machine::inside::{Cached, Seen};
use crate::stage2::{Processor as _, X86Stage2};
use crate::start::Start;
use crate::tags::{Flush, Held};
use crate::vcpu::hardware::{General, Windows};

/// One vCPU's half.
#[derive(Debug)]
pub struct Vmx {
    pub(super) vmcs: Vmcs,
    shared: Shared,
    /// What the next load begins with, after a reset.
    start: Option<Start>,
    beside: Beside,
    launch: Launch,
    /// What HOST_RSP was set to.
    rsp: u64,
    /// Its VPID.
    held: Option<Held>,
    /// What it has seen of flushes.
    seen: Seen,
    /// The EPT pointer in the VMCS.
    pointer: u64,
    /// When the run is to end.
    pub(super) until: Instant,
    /// RFLAGS while it is not loaded: somebody may ask if an interrupt would wake it.
    flags: u64,
    /// What is added to the machine's time-stamp counter: set while it is not loaded, too.
    tsc_offset: u64,
    /// What was being delivered when the run ended: DELIVERED_EVENT and its error code.
    interrupted: (u32, u32),
    /// The next run begins with an event.
    pub(super) injecting: Injecting,
    /// The primary controls in the VMCS: they change with the windows.
    pub(super) windows: Windows,
}

/// Whether the next run begins with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Injecting {
    /// It does not.
    Nothing,
    /// It does.
    Event,
}

/// DR7.GD: debug registers are guarded, until a debug exception.
const GUARDED: u64 = 1 << 13;
/// Qualification of an EPT violation: the run ended in an IRET that had lifted the blocking of NMIs.
const UNBLOCKED_NMIS: u64 = 1 << 12;
/// INTERRUPTIBILITY: the instruction before was STI, or one that loads SS.
pub(super) const AFTER_STI: u64 = 1 << 0;
pub(super) const AFTER_SS: u64 = 1 << 1;
pub(super) const SHADOWS: u64 = AFTER_STI | AFTER_SS;
/// INTERRUPTIBILITY: NMIs are blocked.
pub(super) const BLOCKS_NMIS: u64 = 1 << 3;

impl Vmx {
    /// Makes one; `None` if there is no memory for its VMCS, or the machine's extension is another.
    pub(super) fn new(m: &X86Machine) -> Option<Self> {
        let shared = host::shared(m.features())?;
        Some(Self {
            vmcs: Vmcs::new(&shared)?,
            shared,
            start: None,
            beside: Beside::RESET,
            launch: Launch::First,
            rsp: 0,
            held: None,
            seen: Seen::default(),
            pointer: 0,
            until: Instant::NEVER,
            flags: 0,
            tsc_offset: 0,
            interrupted: (0, 0),
            injecting: Injecting::Nothing,
            windows: Windows::empty(),
        })
    }

    /// Everything is as after a reset. Not while it is loaded: what is in the VMCS the next load writes.
    pub(super) fn restart(&mut self, start: &Start) {
        self.start = Some(*start);
        self.flags = start.registers.flags;
        self.beside = Beside::RESET;
        self.interrupted = (0, 0);
        self.injecting = Injecting::Nothing;
        self.windows = Windows::empty();
    }

    /// Brings the vCPU to the calling CPU.
    pub(super) fn bring(&mut self, cpu: &Cpu, m: &X86Machine) {
        self.vmcs.load();
        if let Some(start) = self.start.take() {
            self.vmcs.write_controls(&self.shared);
            let fixed = self.shared.fixed;
            self.begin(&start, &fixed);
            (self.pointer, self.rsp) = (0, 0);
        }
        let (held, flush) = m.hold_tag(cpu, &mut self.held);
        if flush == Flush::All {
            host::forget_all();
        }
        self.vmcs.set(Field::VPID, held.tag().into());
        self.vmcs.set(Field::TSC_OFFSET, self.tsc_offset);
        self.beside.load();
        self.launch = Launch::First;
    }

    /// Takes it from its CPU.
    pub(super) fn take_away(&mut self) {
        self.beside.save();
        self.flags = self.vmcs.get(Field::GUEST_RFLAGS);
        self.vmcs.put();
    }

    /// RFLAGS.
    pub(super) fn flags(&self) -> u64 {
        if self.vmcs.is_current() { self.vmcs.get(Field::GUEST_RFLAGS) } else { self.flags }
    }

    /// Sets what is added to the time-stamp counter.
    pub(super) fn offset_tsc(&mut self, offset: u64) {
        self.tsc_offset = offset;
        if self.vmcs.is_current() {
            self.vmcs.set(Field::TSC_OFFSET, offset);
        }
    }

    /// Runs the guest until it leaves.
    #[inline]
    pub(super) fn go(&mut self, general: &mut General, cpu: &Cpu, m: &X86Machine, tag: VmTag, s2: &X86Stage2) -> Cause {
        if self.pointer != s2.pointer() {
            self.pointer = s2.pointer();
            self.vmcs.set(Field::EPT_POINTER, self.pointer);
        }
        // The timer begins anew with each entry. One tick more than is left, for what the shift loses.
        let left = self.until.0.saturating_sub(m.now().0) >> self.shared.timer_shift;
        self.vmcs.set(Field::PREEMPTION_TIMER, left.saturating_add(1).min(u32::MAX.into()));
        if m.entering(cpu, tag, &mut self.seen) == Cached::Stale {
            self.shared.forget(self.pointer);
        }
        let entered = self.enter(general);
        m.left(cpu);
        if entered.is_err() {
            return Cause::Broken("the processor took no notice of its VMCS");
        }
        self.launch = Launch::Again;
        self.injecting = Injecting::Nothing;
        let record = self.record();
        if record.reason == reason::EXCEPTION {
            self.excepted(&record);
        }
        record.name()
    }

    #[inline]
    #[expect(unsafe_code, reason = "runs the guest")]
    fn enter(&mut self, general: &mut General) -> Result<(), switch::NotEntered> {
        // SAFETY: the vCPU is loaded, so its VMCS is current, with Trivet's state and `Shared`'s controls; `launch` is First
        // after each load. Interrupts are off in all of Trivet.
        unsafe { switch::enter(general, &mut self.rsp, self.launch) }
    }

    /// An exception ended the run, or an NMI. What hardware does for one before it delivers it is done here.
    #[cold]
    #[inline(never)]
    fn excepted(&mut self, record: &Record) {
        if record.is_nmi() {
            return host::take_nmi();
        }
        if let Some(status) = record.debug_status() {
            // Vol. 3C, "VM Exits Due to Debug Exceptions": the exit leaves both registers as they were.
            beside::add_dr6(status);
            let dr7 = self.vmcs.get(Field::GUEST_DR7);
            self.vmcs.set(Field::GUEST_DR7, dr7 & !GUARDED);
            if record.is_int1() {
                let after = self.vmcs.get(Field::GUEST_RIP).wrapping_add(self.vmcs.get(Field::INSTRUCTION_LENGTH));
                self.vmcs.set(Field::GUEST_RIP, after);
            }
        }
        // An exception ends the shadow of the instruction before.
        let now = self.vmcs.get(Field::INTERRUPTIBILITY);
        self.vmcs.set(Field::INTERRUPTIBILITY, now & !SHADOWS);
    }

    /// What the VMCS says of the exit: what the reason gives a meaning to.
    #[inline]
    fn record(&mut self) -> Record {
        let reason = self.vmcs.get(Field::EXIT_REASON) as u32;
        let mut record = Record { reason, ..Record::default() };
        match reason & 0xffff {
            // Instructions: nothing was being delivered.
            reason::CPUID | reason::HLT | reason::VMCALL | reason::RDMSR | reason::WRMSR => return record,
            reason::PORT | reason::CONTROL_REGISTER => {
                record.qualification = self.vmcs.get(Field::QUALIFICATION);
                return record;
            }
            reason::EPT_VIOLATION => {
                record.qualification = self.vmcs.get(Field::QUALIFICATION);
                record.gpa = self.vmcs.get(Field::GUEST_PHYSICAL);
            }
            reason::EXCEPTION => {
                record.event = self.vmcs.get(Field::EXIT_EVENT) as u32;
                record.error = self.vmcs.get(Field::EXIT_EVENT_ERROR) as u32;
                record.qualification = self.vmcs.get(Field::QUALIFICATION);
            }
            _ => {}
        }
        let event = self.vmcs.get(Field::DELIVERED_EVENT) as u32;
        if event >> 31 != 0 {
            self.interrupted = (event, self.vmcs.get(Field::DELIVERED_EVENT_ERROR) as u32);
        } else if reason == reason::EPT_VIOLATION && record.qualification & UNBLOCKED_NMIS != 0 {
            // The IRET runs once more, and what it has lifted holds until then (vol. 3C, "Information for VM Exits Due to
            // Vectored Events", on NMI unblocking).
            let now = self.vmcs.get(Field::INTERRUPTIBILITY);
            self.vmcs.set(Field::INTERRUPTIBILITY, now | BLOCKS_NMIS);
        }
        record
    }

    /// What has to be delivered again.
    #[inline]
    pub(super) fn delivered(&mut self) -> Option<Event> {
        let (event, error) = core::mem::take(&mut self.interrupted);
        Event::delivered_vmx(event, error)
    }
}
