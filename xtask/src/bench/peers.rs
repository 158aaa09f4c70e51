//! What figures are measured against: KVM on the same emulated machine, and what they may be at most.

use crate::board::Board;
use crate::error::refuse;
use anyhow::Result;

/// What a figure is measured against, in instructions.
pub struct Peer {
    /// The figure's name on its RESULT line.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// KVM on the same machine (median), where it was measured.
    pub kvm: Option<u64>,
    /// At most this; `None`: no limit yet.
    pub target: Option<u64>,
}

const fn peer(name: &'static str, about: &'static str, kvm: Option<u64>, target: Option<u64>) -> Peer {
    Peer { name, about, kvm, target }
}

/// The figures of the pseries board.
pub const PSERIES: [Peer; 9] = [
    // Of KVM until a program can open /dev/kvm.
    peer("boot", "boot to the guest, in instructions", Some(5_785_000_000), None),
    peer("hypercall", "null hypercall, guest to guest", Some(2027), Some(600)),
    peer("fault-present", "stage-2 fault, page present", Some(3467), None),
    peer("fault-fresh", "stage-2 fault, fresh 4K page", Some(8225), Some(3000)),
    peer("dirty-log-write", "dirty-log write fault", Some(3443), Some(1200)),
    peer("swap-in", "swap-in fault, one word", None, Some(4000)),
    // Of KVM its GET_DIRTY_LOG of 4,096 pages.
    peer("harvest", "dirty-log harvest, per dirty page", Some(859), Some(40)),
    // Of both what the notifier does.
    peer("unmap", "unmap, per 4K page", Some(223), Some(40)),
    peer("discard", "unmap and free, per 4K page", None, None),
];

/// The figures of the powernv board: of a guest with radix tables, and of one with a hashed table what it calls.
const POWERNV: [Peer; 12] = [
    peer("boot", "boot to the guest, in instructions", None, None),
    peer("hypercall", "null hypercall, guest to guest", None, Some(600)),
    peer("fault-present", "stage-2 fault, page present", None, None),
    peer("fault-fresh", "stage-2 fault, fresh 4K page", None, Some(3000)),
    peer("dirty-log-write", "dirty-log write fault", None, None),
    peer("swap-in", "swap-in fault, one word", None, Some(4000)),
    peer(ENTER_REMOVE, "H_ENTER and H_REMOVE", None, Some(1500)),
    peer(NESTED, "a guest's guest: fault, page mapped", None, Some(1500)),
    peer("nested-hypercall", "its call, answered by the guest", None, Some(10_000)),
    peer("harvest", "dirty-log harvest, per dirty page", None, Some(40)),
    peer("unmap", "unmap, per 4K page", None, Some(40)),
    peer("discard", "unmap and free, per 4K page", None, None),
];

/// The figures of the virt board. What is said of KVM's above holds here too. Its processor notes stores by itself, so that the
/// dirty log costs no faults, and a harvest looks at every leaf in their place.
const VIRT: [Peer; 13] = [
    peer("boot", "boot to the guest, in instructions", Some(1_196_000_000), None),
    peer("hypercall", "null hypercall, guest to guest", Some(1242), Some(300)),
    peer("id-register", "trapped ID register", Some(1562), None),
    peer("self-ipi", "self-IPI, send to handler", Some(2618), Some(600)),
    peer("timer-spinning", "timer to handler, guest spins", Some(2532), None),
    peer("timer-waiting", "timer to handler, guest waits", Some(2295), None),
    peer("fault-present", "stage-2 fault, page present", Some(4472), None),
    peer("fault-fresh", "stage-2 fault, fresh 4K page", Some(7835), Some(2500)),
    peer("dirty-log-write", "dirty-log write fault", Some(3286), Some(1200)),
    peer("swap-in", "swap-in fault, one word", None, None),
    peer("harvest", "dirty-log harvest, per dirty page", Some(79), None),
    peer("unmap", "unmap, per 4K page", Some(152), Some(40)),
    peer("discard", "unmap and free, per 4K page", None, None),
];

/// The figures of the pc board. What is said of KVM's above holds here too; the hypercall is VMMCALL, the register CPUID's. KVM's
/// timer wakes a halted guest early and waits.
const PC: [Peer; 13] = [
    peer("boot", "boot to the guest, in instructions", Some(4_042_000_000), None),
    peer("hypercall", "null hypercall, guest to guest", Some(3194), Some(600)),
    peer("cpuid", "CPUID", Some(2961), Some(700)),
    peer("self-ipi", "self-IPI, send to handler", Some(4719), Some(1500)),
    peer("timer-spinning", "timer to handler, guest spins", Some(219), None),
    peer("timer-waiting", "timer to handler, guest waits", Some(265), None),
    peer("fault-present", "stage-2 fault, page present", Some(3337), None),
    peer("fault-fresh", "stage-2 fault, fresh 4K page", Some(7481), Some(2500)),
    peer("dirty-log-write", "dirty-log write fault", Some(1779), None),
    peer("swap-in", "swap-in fault, one word", None, None),
    peer("harvest", "dirty-log harvest, per dirty page", Some(182), None),
    peer("unmap", "unmap, per 4K page", Some(324), None),
    peer("discard", "unmap and free, per 4K page", None, None),
];

/// The figure of a guest that calls on its hashed table.
pub const ENTER_REMOVE: &str = "enter-remove";

/// The figure of a fault of a guest's guest.
pub const NESTED: &str = "nested-fault";

/// The figures of a board.
pub fn of(board: &Board) -> Result<&'static [Peer]> {
    match board.name.as_str() {
        "pc" => Ok(&PC),
        "powernv" => Ok(&POWERNV),
        "pseries" => Ok(&PSERIES),
        "virt" => Ok(&VIRT),
        name => Err(refuse(format!("nothing is known that board {name} could be measured against"))),
    }
}
