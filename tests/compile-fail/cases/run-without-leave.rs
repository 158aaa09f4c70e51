//! E0382: a VM is entered on a permit that was given back, when the VM may be gone (R20).

use hv_core::mmu::ready::{Left, Permit};

fn enter(_: &Permit) {}

pub fn run(permit: Permit) -> Left {
    enter(&permit);
    let left = permit.leave();
    #[cfg(misuse)]
    enter(&permit);
    left
}
