//! The calling CPU's local APIC (Intel SDM vol. 3A, chapter "Advanced Programmable Interrupt Controller"; AMD APM vol. 2,
//! chapter 16): messages to other CPUs, the timer, ends of interrupts.
//!
//! Its registers are MSRs where there is x2APIC, else memory. That is found out once, by the boot CPU; all CPUs have the
//! same. Six registers and no state, so that any CPU may send at any time and handlers in assembly end interrupts.
#![expect(unsafe_code, reason = "device registers")]

use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use x86_64::registers::model_specific::Msr;

use super::vectors::{SPURIOUS, TIMER};
use crate::machine::identify::is_tcg;

/// Where the registers are, if they are memory: where a reset puts them. It is mapped as a device.
pub const BASE: u64 = 0xfee0_0000;

/// Offsets of registers; x2APIC's MSR is 800h plus a sixteenth of it.
mod register {
    pub const ID: u32 = 0x20;
    pub const TASK_PRIORITY: u32 = 0x80;
    pub const SPURIOUS: u32 = 0xf0;
    pub const COMMAND: u32 = 0x300;
    pub const COMMAND_HIGH: u32 = 0x310;
    pub const TIMER: u32 = 0x320;
    pub const THERMAL: u32 = 0x330;
    pub const PERFORMANCE: u32 = 0x340;
    pub const LINT0: u32 = 0x350;
    pub const LINT1: u32 = 0x360;
    pub const ERROR: u32 = 0x370;
    pub const INITIAL_COUNT: u32 = 0x380;
    pub const CURRENT_COUNT: u32 = 0x390;
    pub const DIVIDE: u32 = 0x3e0;
}

/// IA32_APIC_BASE, and in it: x2APIC mode, enabled.
const APIC_BASE: Msr = Msr::new(0x1b);
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLED: u64 = 1 << 11;
/// The rest of it above: the address.
const ADDRESS: u64 = !0xfff;
/// IA32_TSC_DEADLINE.
const DEADLINE: u32 = 0x6e0;

/// Spurious vector register: the APIC is on.
const ON: u32 = 1 << 8;
/// Of an entry of the local vector table: masked; the timer's mode.
const MASKED: u32 = 1 << 16;
const MODE_PERIODIC: u32 = 1 << 17;
const MODE_DEADLINE: u32 = 2 << 17;
/// Divide configuration: by 1.
const BY_ONE: u32 = 0xb;

/// CPUID leaf 1, ECX.
const HAS_X2APIC: u32 = 1 << 21;
const HAS_DEADLINE: u32 = 1 << 24;

/// Read by the handlers in `vectors.S`, which end interrupts.
#[unsafe(no_mangle)]
static TRIVET_X2APIC: AtomicBool = AtomicBool::new(false);

/// How the timer is set.
static ALARM: AtomicU8 = AtomicU8::new(ONE_SHOT);
const ONE_SHOT: u8 = 0;
const TSC_DEADLINE: u8 = 1;
const PERIODIC: u8 = 2;

/// A message's kind (bits 14:8 of the command register), edge, to one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// An interrupt of this vector.
    Fixed(u8),
    /// INIT: the CPU waits for a start-up message.
    Init,
    /// It starts at this page of the first MiB, in real mode.
    StartUp(u8),
}

impl Message {
    const fn command(self) -> u32 {
        // Bit 14: the level is asserted, as all but one obsolete message want it.
        1 << 14
            | match self {
                Self::Fixed(vector) => vector as u32,
                Self::Init => 5 << 8,
                Self::StartUp(page) => 6 << 8 | page as u32,
            }
    }
}

/// Finds out what the APICs of this machine can do. Once, on the boot CPU, before any other function here.
pub fn find() {
    let ecx = __cpuid(1).ecx;
    TRIVET_X2APIC.store(ecx & HAS_X2APIC != 0, Ordering::Relaxed);
    let alarm = match ecx & HAS_DEADLINE != 0 {
        _ if is_tcg() => PERIODIC,
        true => TSC_DEADLINE,
        false => ONE_SHOT,
    };
    ALARM.store(alarm, Ordering::Relaxed);
}

/// Switches the calling CPU's APIC on: every vector gets through, the timer is stopped, all else is masked, so that what is
/// left of the PIC is not heard.
///
/// # Safety
/// Handlers are there ([`super::vectors`]), and interrupts are disabled.
pub unsafe fn open() {
    let mut base = APIC_BASE;
    // SAFETY: every processor with long mode has the register, and the address is the usual one. From off to x2APIC it goes by
    // xAPIC only, and from x2APIC nowhere.
    unsafe {
        let value = base.read() & !ADDRESS | BASE | BASE_ENABLED;
        base.write(value);
        if is_x2apic() {
            base.write(value | BASE_X2APIC);
        }
    }
    write(register::SPURIOUS, ON | u32::from(SPURIOUS));
    write(register::TASK_PRIORITY, 0);
    for entry in [register::THERMAL, register::PERFORMANCE, register::LINT0, register::LINT1, register::ERROR] {
        write(entry, MASKED);
    }
    write(register::DIVIDE, BY_ONE);
    let mode = match ALARM.load(Ordering::Relaxed) {
        TSC_DEADLINE => MODE_DEADLINE,
        PERIODIC => MODE_PERIODIC,
        _ => 0,
    };
    write(register::TIMER, mode | u32::from(TIMER));
    stop();
}

/// The calling CPU's identifier.
#[must_use]
pub fn id() -> u32 {
    let id = read(register::ID);
    if is_x2apic() { id } else { id >> 24 }
}

/// Sends a message to the CPU with this identifier. What was stored before is seen by who takes it.
pub fn send(to: u32, message: Message) {
    let command = message.command();
    if is_x2apic() {
        // A write of these registers waits for nothing (SDM vol. 3A, "MSR Access in x2APIC Mode").
        // SAFETY: two fences.
        unsafe { core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags)) };
        // SAFETY: the register, and a message that its caller asked for.
        unsafe { Msr::new(msr(register::COMMAND)).write(u64::from(to) << 32 | u64::from(command)) };
    } else {
        // Interrupts are disabled, so nobody else on this CPU comes between the two.
        write(register::COMMAND_HIGH, to << 24);
        write(register::COMMAND, command);
    }
}

/// True if the timer compares the TSC: [`at`], not [`after`].
#[must_use]
#[inline]
pub fn has_deadline() -> bool {
    ALARM.load(Ordering::Relaxed) == TSC_DEADLINE
}

/// True if the timer of [`after`] begins anew whenever it rings. So it is under QEMU's translator: its VMRUN with a virtual
/// interrupt changes the word that says what waits for a CPU without regard to other threads, and an interrupt that comes at
/// that moment stays with the local APIC until the next.
#[must_use]
#[inline]
pub fn rings_again() -> bool {
    ALARM.load(Ordering::Relaxed) == PERIODIC
}

/// An interrupt comes when the TSC has reached `tsc`, which is not 0.
#[inline]
pub fn at(tsc: u64) {
    // SAFETY: `has_deadline` says that there is one. The timer's entry was written long before.
    unsafe { Msr::new(DEADLINE).write(tsc) };
}

/// An interrupt comes after so many of the timer's own ticks, which are not 0; and again, if it [`rings_again`].
#[inline]
pub fn after(ticks: u32) {
    write(register::INITIAL_COUNT, ticks);
}

/// No interrupt comes.
#[inline]
pub fn stop() {
    if has_deadline() { at(0) } else { after(0) }
}

/// Has the calling CPU's APIC look once more whether it has an interrupt for the CPU, which may not have heard of it (see
/// [`rings_again`]): a write to the task priority that changes nothing.
#[inline]
pub fn look_again() {
    write(register::TASK_PRIORITY, 0);
}

/// Ticks that are left of those of [`after`].
#[must_use]
pub fn left() -> u32 {
    read(register::CURRENT_COUNT)
}

#[inline]
fn is_x2apic() -> bool {
    TRIVET_X2APIC.load(Ordering::Relaxed)
}

#[inline]
const fn msr(register: u32) -> u32 {
    0x800 + register / 16
}

#[inline]
const fn cell(register: u32) -> *mut u32 {
    core::ptr::with_exposed_provenance_mut((BASE + register as u64) as usize)
}

fn read(register: u32) -> u32 {
    if is_x2apic() {
        // SAFETY: the registers that are named here can be read.
        unsafe { Msr::new(msr(register)).read() as u32 }
    } else {
        // SAFETY: as above; the page is mapped as a device.
        unsafe { cell(register).read_volatile() }
    }
}

#[inline]
fn write(register: u32, value: u32) {
    if is_x2apic() {
        // SAFETY: the registers that are named here can be written, and only make interrupts come or not.
        unsafe { Msr::new(msr(register)).write(u64::from(value)) };
    } else {
        // SAFETY: as above; the page is mapped as a device.
        unsafe { cell(register).write_volatile(value) };
    }
}
