//! Firmware calls: PSCI 1.1 (DEN 0022), and of the SMC calling convention 1.1 (DEN 0028) what says that it is there.
//!
//! A guest makes them by HVC or SMC; the number is in x0, arguments from x1 on, the answer comes back in x0. Calls of the
//! 32-bit convention pass the lower halves. vCPUs are named by affinity.

use hv_core::addr::Gpa;
use hv_core::sync::Ordering;
use hv_core::vcpu::exit::{End, Next};
use hv_core::vcpu::services::{Services, StartAt, StartError, VcpuState};

use super::{Virt, layout};

/// A call that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// SMCCC_VERSION
    SmcccVersion,
    /// SMCCC_ARCH_FEATURES
    ArchFeatures,
    /// PSCI_VERSION
    Version,
    /// CPU_SUSPEND
    CpuSuspend,
    /// CPU_OFF
    CpuOff,
    /// CPU_ON
    CpuOn,
    /// AFFINITY_INFO
    AffinityInfo,
    /// MIGRATE_INFO_TYPE
    MigrateInfoType,
    /// SYSTEM_OFF
    SystemOff,
    /// SYSTEM_RESET
    SystemReset,
    /// PSCI_FEATURES
    Features,
}

/// The numbers of the calls, for tests and tables. Those with arguments of 64 bits have one of each convention.
pub const FUNCTIONS: [(u32, Function); 14] = [
    (0x8000_0000, Function::SmcccVersion),
    (0x8000_0001, Function::ArchFeatures),
    (0x8400_0000, Function::Version),
    (0x8400_0001, Function::CpuSuspend),
    (0xc400_0001, Function::CpuSuspend),
    (0x8400_0002, Function::CpuOff),
    (0x8400_0003, Function::CpuOn),
    (0xc400_0003, Function::CpuOn),
    (0x8400_0004, Function::AffinityInfo),
    (0xc400_0004, Function::AffinityInfo),
    (0x8400_0006, Function::MigrateInfoType),
    (0x8400_0008, Function::SystemOff),
    (0x8400_0009, Function::SystemReset),
    (0x8400_000a, Function::Features),
];

/// What PSCI's numbers have in common, without their width and their last bits.
const PSCI: u32 = 0x8400_0000;
/// Those last bits.
const FUNCTION_BITS: u32 = 0xf;
/// What the two numbers of the calling convention have in common, halved.
const ARCHITECTURE: u32 = 0x8000_0000 >> 1;
/// Bit 30 of a number: arguments are 64 bits wide.
const WIDE: u32 = 1 << 30;

const SUCCESS: i64 = 0;
const NOT_SUPPORTED: i64 = -1;
const INVALID_PARAMETERS: i64 = -2;
const ALREADY_ON: i64 = -4;
const INVALID_ADDRESS: i64 = -9;

/// PSCI_VERSION and SMCCC_VERSION: 1.1.
const VERSION_1_1: i64 = 0x1_0001;
/// MIGRATE_INFO_TYPE: there is no trusted operating system that would have to be migrated.
const NOT_TRUSTED: i64 = 2;
/// CPU_SUSPEND, power_state: a powerdown state, not a standby state.
const POWERDOWN: u64 = 1 << 16;
/// AFFINITY_INFO.
const ON: i64 = 0;
const OFF: i64 = 1;

impl Function {
    /// True for a number that none of these has, told by the bits that all of them share: guests probe for calls that are not
    /// there.
    #[inline]
    const fn is_foreign(number: u32) -> bool {
        number & !(WIDE | FUNCTION_BITS) != PSCI && number >> 1 != ARCHITECTURE
    }

    fn from_number(number: u32) -> Option<Self> {
        FUNCTIONS.iter().find(|(n, _)| *n == number).map(|(_, function)| *function)
    }
}

/// See [`Virt::psci`].
#[inline(always)]
pub fn call<S: Services>(virt: &Virt, call: &mut [u64; 4], s: &S) -> Next {
    if Function::is_foreign(call[0] as u32) {
        virt.unknown.fetch_add(1, Ordering::Relaxed);
        call[0] = NOT_SUPPORTED as u64;
        return Next::Resume;
    }
    answer(virt, call, s)
}

/// The same, for a number that may be known.
#[inline(never)]
fn answer<S: Services>(virt: &Virt, call: &mut [u64; 4], s: &S) -> Next {
    // The number is a word: what is above it in the register is not looked at.
    let number = call[0] as u32;
    let mask = if number & WIDE != 0 { u64::MAX } else { u32::MAX.into() };
    let args = [call[1] & mask, call[2] & mask, call[3] & mask];
    let (answer, next) = match Function::from_number(number) {
        Some(function) => carry_out(virt, function, args, s),
        None => {
            virt.unknown.fetch_add(1, Ordering::Relaxed);
            (NOT_SUPPORTED, Next::Resume)
        }
    };
    call[0] = answer as u64;
    next
}

fn carry_out<S: Services>(virt: &Virt, function: Function, args: [u64; 3], s: &S) -> (i64, Next) {
    let answer = match function {
        Function::SmcccVersion | Function::Version => VERSION_1_1,
        Function::ArchFeatures | Function::Features => features(function, args[0]),
        // Standby: the guest goes on behind the call when an interrupt is pending, with everything as it was.
        Function::CpuSuspend if args[0] & POWERDOWN == 0 => return (SUCCESS, Next::Halt),
        Function::CpuSuspend => INVALID_PARAMETERS,
        Function::CpuOff => return (SUCCESS, Next::StopSelf),
        Function::CpuOn => cpu_on(virt, args, s),
        Function::AffinityInfo => affinity_info(args, s),
        Function::MigrateInfoType => NOT_TRUSTED,
        Function::SystemOff => return (SUCCESS, Next::End(End::PowerOff)),
        Function::SystemReset => return (SUCCESS, Next::End(End::Reboot)),
    };
    (answer, Next::Resume)
}

/// Each asks about calls of its own kind. PSCI_FEATURES is also asked whether SMCCC_VERSION is there.
fn features(asked: Function, number: u64) -> i64 {
    let found = u32::try_from(number).ok().and_then(Function::from_number);
    let known = match found {
        Some(Function::SmcccVersion) => true,
        Some(Function::ArchFeatures) => asked == Function::ArchFeatures,
        Some(_) => asked == Function::Features,
        None => false,
    };
    if known { SUCCESS } else { NOT_SUPPORTED }
}

/// CPU_ON(target, entry, context): the vCPU begins at the address, with the context in x0.
fn cpu_on<S: Services>(virt: &Virt, [target, entry, context]: [u64; 3], s: &S) -> i64 {
    let Some(vcpu) = layout::number(target).filter(|vcpu| *vcpu < virt.vcpus()) else {
        return INVALID_PARAMETERS;
    };
    // Where there is no memory, or no instruction could be, nobody begins.
    if entry & 3 != 0 || entry >= layout::DEVICES.0 {
        return INVALID_ADDRESS;
    }
    match s.start_vcpu(vcpu, StartAt { entry: Gpa(entry), args: [context, 0, 0, 0], big_endian: false }) {
        Ok(()) => SUCCESS,
        Err(StartError::NotStopped) => ALREADY_ON,
        Err(StartError::NoSuchVcpu) => INVALID_PARAMETERS,
    }
}

/// AFFINITY_INFO(target, lowest level): of one processor, not of a group (as PSCI 1.0 permits).
fn affinity_info<S: Services>([target, level, _]: [u64; 3], s: &S) -> i64 {
    match layout::number(target).filter(|_| level == 0).and_then(|vcpu| s.vcpu_state(vcpu)) {
        Some(VcpuState::Started) => ON,
        Some(VcpuState::Stopped) => OFF,
        None => INVALID_PARAMETERS,
    }
}
