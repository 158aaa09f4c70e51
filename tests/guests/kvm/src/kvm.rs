//! Linux's interface to virtual machines, as much of it as one vCPU of a POWER guest takes (kernel documentation,
//! "The Definitive KVM API Documentation"; its numbers are those of `linux/kvm.h`, encoded as POWER encodes requests).

use core::ptr::read_volatile;

use crate::linux::{Failed, control, map_open, memory, open};

/// `_IO`, `_IOW`: the direction, how large what the argument points at is, and KVM's letter.
const fn plain(number: u64) -> u64 {
    1 << 29 | 0xae << 8 | number
}

const fn giving<T>(number: u64) -> u64 {
    4 << 29 | (size_of::<T>() as u64) << 16 | 0xae << 8 | number
}

const KVM_GET_API_VERSION: u64 = plain(0x00);
const KVM_CREATE_VM: u64 = plain(0x01);
const KVM_GET_VCPU_MMAP_SIZE: u64 = plain(0x04);
const KVM_CREATE_VCPU: u64 = plain(0x41);
const KVM_SET_USER_MEMORY_REGION: u64 = giving::<Region>(0x46);
const KVM_RUN: u64 = plain(0x80);
const KVM_SET_REGS: u64 = giving::<Registers>(0x82);
const KVM_ENABLE_CAP: u64 = giving::<Capability>(0xa3);
const KVM_PPC_CONFIGURE_V3_MMU: u64 = giving::<Tables>(0xaf);

/// A VM whose guest runs in privileged state, not in problem state.
const KVM_VM_PPC_HV: u64 = 1;
/// The vCPU makes hypervisor calls.
const KVM_CAP_PPC_PAPR: u32 = 68;
const KVM_EXIT_MMIO: u32 = 6;
const KVM_EXIT_PAPR_HCALL: u32 = 19;
/// Translation by a radix tree, as the flags say it, and as the process table's register does.
const KVM_PPC_MMUV3_RADIX: u64 = 1;
const RADIX: u64 = 1 << 63;

/// `struct kvm_userspace_memory_region`
#[repr(C)]
struct Region {
    slot: u32,
    flags: u32,
    at: u64,
    size: u64,
    memory: u64,
}

/// `struct kvm_regs`: what is not set here is zero.
#[repr(C)]
struct Registers {
    pc: u64,
    /// CR, CTR, LR, XER.
    user: [u64; 4],
    msr: u64,
    /// SRR0, SRR1, PID, SPRG0 to SPRG7.
    special: [u64; 11],
    general: [u64; 32],
}

/// `struct kvm_enable_cap`
#[repr(C)]
struct Capability {
    number: u32,
    flags: u32,
    arguments: [u64; 4],
    unused: [u8; 64],
}

/// `struct kvm_ppc_mmuv3_cfg`
#[repr(C)]
struct Tables {
    flags: u64,
    process_table: u64,
}

/// The beginning of `struct kvm_run`, which the kernel shares with the program. Only ever read and written as volatile.
#[repr(C)]
struct Shared {
    request: [u8; 8],
    reason: u32,
    state: [u8; 4],
    unused: [u64; 2],
    /// A call: its number, its status, its nine arguments, which are its values afterwards. A device access: its address, its
    /// bytes, then its length and direction.
    words: [u64; 11],
}

/// Why the vCPU has stopped.
pub enum Exit {
    /// A hypervisor call and its first argument.
    Call(u64, u64),
    /// A load of so many bytes from a device at this address.
    Load(u64, u64),
    /// Something else: KVM's number of it.
    Other(u32),
}

/// A VM with one vCPU and memory from 0.
pub struct Vm {
    vcpu: u64,
    shared: *mut Shared,
    /// Its memory, as this program sees it.
    pub memory: *mut u64,
}

impl Vm {
    /// Makes one with this much memory, whose process table is at `processes`.
    pub fn new(size: u64, processes: u64) -> Result<Self, Failed> {
        let kvm = open(c"/dev/kvm")?;
        let version = request("KVM_GET_API_VERSION", kvm, KVM_GET_API_VERSION, 0)?;
        if version != 12 {
            return Err(Failed("an interface of version 12", version as i64));
        }
        let vm = request("KVM_CREATE_VM", kvm, KVM_CREATE_VM, KVM_VM_PPC_HV)?;
        let memory = memory(size)?;
        let at = memory.expose_provenance() as u64;
        let region = Region { slot: 0, flags: 0, at: 0, size, memory: at };
        about("KVM_SET_USER_MEMORY_REGION", vm, KVM_SET_USER_MEMORY_REGION, &region)?;
        let tables = Tables { flags: KVM_PPC_MMUV3_RADIX, process_table: RADIX | processes };
        about("KVM_PPC_CONFIGURE_V3_MMU", vm, KVM_PPC_CONFIGURE_V3_MMU, &tables)?;
        let vcpu = request("KVM_CREATE_VCPU", vm, KVM_CREATE_VCPU, 0)?;
        let papr = Capability { number: KVM_CAP_PPC_PAPR, flags: 0, arguments: [0; 4], unused: [0; 64] };
        about("KVM_ENABLE_CAP", vcpu, KVM_ENABLE_CAP, &papr)?;
        let bytes = request("KVM_GET_VCPU_MMAP_SIZE", kvm, KVM_GET_VCPU_MMAP_SIZE, 0)?;
        Ok(Self { vcpu, shared: map_open(vcpu, bytes)?.cast(), memory })
    }

    /// Where it begins, and in what state.
    pub fn begin(&self, pc: u64, msr: u64) -> Result<(), Failed> {
        let registers = Registers { pc, user: [0; 4], msr, special: [0; 11], general: [0; 32] };
        about("KVM_SET_REGS", self.vcpu, KVM_SET_REGS, &registers)
    }

    /// Runs it until this program is wanted.
    pub fn run(&self) -> Result<Exit, Failed> {
        request("KVM_RUN", self.vcpu, KVM_RUN, 0)?;
        // SAFETY: the vCPU's shared page, larger than this structure; the kernel writes it during the request only.
        let (reason, words) =
            unsafe { (read_volatile(&raw const (*self.shared).reason), self.words().read_volatile()) };
        Ok(match (reason, words) {
            (KVM_EXIT_PAPR_HCALL, [number, _, first, ..]) => Exit::Call(number, first),
            // Behind the length's four bytes the direction: 0 is a load.
            (KVM_EXIT_MMIO, [at, _, length, ..]) if length >> 32 & 0xff == 0 => Exit::Load(at, length & 0xffff_ffff),
            _ => Exit::Other(reason),
        })
    }

    /// Answers a call: done, with these values in r4 to r6.
    pub fn answer(&self, values: [u64; 3]) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.words())[1]).write_volatile(0) };
        for (n, value) in values.into_iter().enumerate() {
            // SAFETY: as above; the arguments' places begin with the third word.
            unsafe { (&raw mut (*self.words())[2 + n]).write_volatile(value) };
        }
    }

    /// Answers a load from a device.
    pub fn loaded(&self, value: u64) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.words())[1]).write_volatile(value) };
    }

    fn words(&self) -> *mut [u64; 11] {
        // SAFETY: inside the vCPU's shared page.
        unsafe { &raw mut (*self.shared).words }
    }
}

/// A request whose argument is a number.
fn request(what: &'static str, file: u64, number: u64, argument: u64) -> Result<u64, Failed> {
    // SAFETY: no address.
    unsafe { control(what, file, number, argument) }
}

/// A request about a structure, which the kernel reads.
fn about<T>(what: &'static str, file: u64, number: u64, structure: &T) -> Result<(), Failed> {
    // SAFETY: of the size that the request's number tells.
    unsafe { control(what, file, number, (&raw const *structure).expose_provenance() as u64) }.map(drop)
}
