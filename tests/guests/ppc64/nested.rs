//! A guest of this guest, by the nested interface, version 1: it has the same memory at the same addresses, page by page, and
//! its vCPUs run functions of this program, in real mode.

use crate::machine::{Call, call, fail, must};

core::arch::global_asm!(include_str!("nested.S"), options(raw));

unsafe extern "C" {
    static l2_start: u8;
}

/// Memory that it has, from 0: this program's.
const MEMORY: u64 = 64 << 20;
const PAGE: u64 = 4096;
const ENTRIES: usize = 512;
/// Its number.
const LPID: u64 = 1;
/// vCPUs of it.
const VCPUS: usize = 2;
/// The call with which it says that its function has returned: nested.S.
const END: u64 = 4;
/// How it leaves with a call of its hypervisor's.
const CALLED: i64 = 0xc00;
/// How it leaves when this guest is wanted.
const WANTED: i64 = 0x500;

/// Entries of tables: valid, leaf; with everything noted and allowed.
const VALID: u64 = 1 << 63;
const LEAF: u64 = 1 << 62;
const ALL: u64 = 0x100 | 0x80 | 7;
/// A tree of 52 bits whose root has 2^13 entries, for the host; a process table, for the guest.
const TREE: u64 = 1 << 63 | 2 << 61 | 5 << 5 | 13;
const PROCESSES: u64 = 1 << 63;

/// 64 bits; little-endian; machine checks.
const MSR: u64 = 1 << 63 | 1 << 12 | 1;
/// Doublewords of the two blocks, and where in them: version, number and vCPU, the deadline; general registers, where it goes
/// on, its state.
const STATE: usize = 31;
const NUMBER: usize = 1;
const DEADLINE: usize = 11;
const REGISTERS: usize = 44;
const NIP: usize = 32;
const STATUS: usize = 33;

#[repr(C, align(65536))]
struct Tables {
    root: [u64; 1 << 13],
    partitions: [u64; ENTRIES],
    second: [u64; ENTRIES],
    third: [u64; ENTRIES],
    /// Read by nobody: it never translates.
    processes: [u64; ENTRIES],
    leaves: [[u64; ENTRIES]; (MEMORY / PAGE) as usize / ENTRIES],
}

#[repr(C, align(4096))]
struct Vcpu {
    stack: [u64; 4096],
    state: [u64; STATE],
    _aligned: u64,
    registers: [u64; REGISTERS],
}

static mut TABLES: Tables = Tables {
    root: [0; 1 << 13],
    partitions: [0; ENTRIES],
    second: [0; ENTRIES],
    third: [0; ENTRIES],
    processes: [0; ENTRIES],
    leaves: [[0; ENTRIES]; (MEMORY / PAGE) as usize / ENTRIES],
};

static mut SEATS: [Vcpu; VCPUS] =
    [const { Vcpu { stack: [0; 4096], state: [0; STATE], _aligned: 0, registers: [0; REGISTERS] } }; VCPUS];

fn address<T>(of: *const T) -> u64 {
    of.expose_provenance() as u64
}

/// Makes it. Once, before any vCPU of it runs.
pub fn make() {
    // SAFETY: nobody else names the tables in this program; the hypervisor reads them when they have been made.
    let tables = unsafe { &mut *&raw mut TABLES };
    for (n, entry) in tables.leaves.as_flattened_mut().iter_mut().enumerate() {
        *entry = (VALID | LEAF | ALL | n as u64 * PAGE).to_be();
    }
    for (entry, leaves) in tables.third.iter_mut().zip(&tables.leaves) {
        *entry = (VALID | address(leaves) | 9).to_be();
    }
    tables.second[0] = (VALID | address(&tables.third) | 9).to_be();
    tables.root[0] = (VALID | address(&tables.second) | 9).to_be();
    tables.partitions[LPID as usize * 2] = (TREE | address(&tables.root)).to_be();
    tables.partitions[LPID as usize * 2 + 1] = (PROCESSES | address(&tables.processes)).to_be();
    must(Call::SetPartitionTable, [address(&tables.partitions), 0, 0, 0]);
}

/// Runs `function` in its vCPU `number` until that returns; its value. Other calls that it makes are answered by nothing.
pub fn run(number: usize, function: extern "C" fn(u64) -> u64, argument: u64) -> u64 {
    // SAFETY: each vCPU of this program has its own.
    let seat = unsafe { &raw mut SEATS[number] };
    // SAFETY: as above; the hypervisor reads and writes the two blocks during the call only.
    let [state, registers] = unsafe { [(&raw mut (*seat).state).cast::<u64>(), (&raw mut (*seat).registers).cast()] };
    // The red zone and a frame above the stack's beginning.
    let stack = address(state) - 512;
    // SAFETY: as above, within the blocks.
    unsafe {
        state.write_volatile(2);
        state.add(NUMBER).write_volatile(LPID | (number as u64) << 32);
        state.add(DEADLINE).write_volatile(u64::MAX >> 1);
        registers.add(1).write_volatile(stack);
        registers.add(3).write_volatile(argument);
        registers.add(12).write_volatile(function as usize as u64);
        registers.add(NIP).write_volatile(address(&raw const l2_start));
        registers.add(STATUS).write_volatile(MSR);
    }
    loop {
        match call(Call::EnterNested, [address(state), address(registers), 0, 0]).0 {
            CALLED => {
                // SAFETY: as above.
                let [number, value] = unsafe { [registers.add(3).read_volatile(), registers.add(4).read_volatile()] };
                if number == END {
                    return value;
                }
            }
            WANTED => {}
            vector => {
                // SAFETY: as above.
                let nip = unsafe { registers.add(NIP).read_volatile() };
                fail(format_args!("the guest's guest left by {vector:#x} at {nip:#x}"));
            }
        }
    }
}
