//! What is drawn on Arm: instructions on system registers.

use crate::random::Random;

/// MRS, MSR and SYS with x0 (DDI 0487, C6.2): the class, op0 in it, and the register's name in four parts.
const MRS: u32 = 0xd520_0000;
const MSR: u32 = 0xd500_0000;
const OP0_3: u32 = 3 << 19;
const OP0_2: u32 = 2 << 19;
const OP0_1: u32 = 1 << 19;

const fn name(op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    op1 << 16 | crn << 12 | crm << 8 | op2 << 5
}

/// Reads any system register that there could be.
pub fn read(random: &mut Random) -> u32 {
    let any = name(random.below(8) as u32, random.below(16) as u32, random.below(16) as u32, random.below(8) as u32);
    // Half of them from where those of EL1 are that a hypervisor looks at: identification, and the interrupt controller.
    let known = match random.below(3) {
        0 => name(0, 0, random.below(8) as u32, random.below(8) as u32),
        1 => name(0, 12, 8 + random.below(5) as u32, random.below(8) as u32),
        _ => name(3, random.below(2) as u32 * 5 + 9, 12 + random.below(3) as u32, random.below(8) as u32),
    };
    MRS | if random.one_in(8) { OP0_2 } else { OP0_3 } | if random.one_in(2) { any } else { known }
}

/// Writes a register that means nothing to a program with interrupts masked and translation off: of the interrupt
/// controller (ICC_*), the timers, the performance counters, the activity counters, ACTLR_EL1, the OS lock.
pub fn write(random: &mut Random) -> u32 {
    let op2 = random.below(8) as u32;
    match random.below(8) {
        0..3 => MSR | OP0_3 | name(0, 12, 8 + random.below(5) as u32, op2),
        // ICC_ASGI1R_EL1, ICC_SGI0R_EL1, ICC_SGI1R_EL1
        3 => MSR | OP0_3 | name(0, 12, 11, 5 + random.below(3) as u32),
        4 => MSR | OP0_3 | name(3, 14, 2 + random.below(2) as u32, random.below(3) as u32),
        5 => MSR | OP0_3 | name(3, 9, 12 + random.below(3) as u32, op2),
        6 => MSR | OP0_3 | name(3, 13, 2 + random.below(14) as u32, op2),
        _ if random.one_in(2) => MSR | OP0_3 | name(0, 1, 0, 1),
        _ => MSR | OP0_2 | name(0, 1, random.below(4) as u32, 4),
    }
}

/// An operation on caches, on address translation or on its caches.
pub fn operation(random: &mut Random) -> u32 {
    let (op1, crm, op2) = (random.below(8) as u32, random.below(16) as u32, random.below(8) as u32);
    MSR | OP0_1 | name(op1, 7 + random.below(2) as u32, crm, op2)
}
