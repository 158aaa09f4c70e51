//! What a guest finds in place of firmware: its device tree, and the state of its first vCPU.

use alloc::vec::Vec;

use hv_core::guest::loader::{Kernel, LoadError};
use hv_core::isa::{Firmware, Platform, Shape};
use hv_core::machine::Machine;
use hv_core::vcpu::services::{Services, StartAt};

use super::fdt::{Seed, TreeConfig, build};
use super::{Virt, image, layout};
use crate::Arm64;
use crate::machine::ArmMachine;

/// An initial RAM disk has to lie within 32 GiB of the kernel (booting.rst).
const CEILING: u64 = 32 << 30;

impl Platform<Arm64> for Virt {
    const ELF_MACHINE: u16 = image::EM_AARCH64;
    const CEILING: u64 = CEILING;
    const TREE_ROOM: u64 = 0x1_0000;
    const CODE_ROOM: u64 = 0;

    fn kernel(file: &[u8]) -> Result<Kernel<'_>, LoadError> {
        image::kernel(file)
    }

    fn create(_: &ArmMachine, vcpus: u16) -> Option<Self> {
        Self::new(vcpus)
    }

    fn firmware(&self, m: &ArmMachine, shape: &Shape<'_>) -> Option<Firmware> {
        let plan = &shape.plan;
        if shape.ram > layout::DEVICES.0 {
            return None;
        }
        let tree = build(&TreeConfig {
            name: shape.name,
            vcpus: shape.vcpus,
            memory: shape.ram,
            shared: shape.shared.clone(),
            bootargs: shape.cmdline,
            initrd: (!plan.initrd.is_empty()).then_some(plan.initrd.start..plan.initrd.end),
            seed: seed(m),
        })
        .ok()?;
        // The kernel's way in: the tree in x0, nothing in x1 to x3.
        let start = StartAt { entry: shape.entry, args: [plan.tree.start.0, 0, 0, 0], big_endian: false };
        (tree.len() as u64 <= plan.tree.len()).then(|| Firmware { tree, code: Vec::new(), start })
    }

    fn unknown_calls(&self) -> u64 {
        Self::unknown_calls(self)
    }

    fn console_input(&self) -> impl IntoIterator<Item = u16> {
        self.typed()
    }

    // A guest is told nothing of when it runs.
    fn dispatched<S: Services>(&self, _: u16, _: &S) {}
    fn preempted<S: Services>(&self, _: u16, _: &S) {}
}

/// Random numbers, if the machine has a source of them.
fn seed(m: &ArmMachine) -> Option<Seed> {
    let mut generator = [0; 32];
    for word in generator.as_chunks_mut::<8>().0 {
        *word = m.random()?.to_le_bytes();
    }
    Some(Seed { generator, place: m.random()? })
}
