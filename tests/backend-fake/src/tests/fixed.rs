//! Frames that the allocator does not own.

use hv_core::host::{Backing, HUGE, HugePolicy};
use hv_core::machine::Machine;
use hv_core::mmu::{GuestMemory, MemoryConfig, Outcome};
use hv_core::vcpu::exit::{Access, Fault};

use super::{PAGE, TAG, on_machine};
use crate::FakeRadix;

#[test]
fn r24_a_devices_frames_outlive_a_vm_that_shows_them() {
    on_machine(|m, cpu| {
        let device = m.frames().alloc(cpu, HUGE).unwrap().zero(m);
        let free = m.frames().counts().free;
        let backing = Backing::Fixed { first: device.pfn() };
        let config = MemoryConfig { backing, huge: HugePolicy::Always, ..MemoryConfig::from(HUGE.bytes()) };
        let memory = GuestMemory::<FakeRadix>::new(cpu, m, TAG, config).unwrap();
        assert_eq!(memory.fault(cpu, m, &Fault { gpa: PAGE, access: Access::Write, claim: () }), Outcome::Mapped);
        memory.destroy(cpu, m);
        assert_eq!(m.frames().counts().free, free, "R24: a device's frame was freed with the VM, or a table was not");
        m.frames().free(cpu, device.into_frame());
    });
}
