//! What a guest finds in place of firmware: its device tree, the RTAS code, and the state of its first vCPU.

use core::fmt::{self, Write};

use hv_core::addr::Pfn;
use hv_core::epoch::Cpu;
use hv_core::guest::loader::ByteOrder;
use hv_core::guest::manifest::VmConfig;
use hv_core::heap::list;
use hv_core::isa::{Firmware, Platform, Shape, VmTag};
use hv_core::machine::Machine;
use hv_core::mmu::GuestMemory;
use hv_core::vcpu::services::{Services, StartAt};

use super::power::{Host, Power};
use super::sprs;
use crate::papr::fdt::{RTAS_CEILING, RTAS_REGION, Random, Table, TreeConfig, build};
use crate::papr::{Papr, RTAS_BLOB_SIZE, rtas_blob};

/// ELF machine number of 64-bit PowerPC.
const EM_PPC64: u16 = 21;

impl<I: Power> Platform<I> for Papr {
    const ELF_MACHINE: u16 = EM_PPC64;
    const CEILING: u64 = RTAS_CEILING;
    const TREE_ROOM: u64 = 0x1_0000;
    const CODE_ROOM: u64 = RTAS_REGION;

    fn prepare(cpu: &Cpu, m: &I::Machine, tag: VmTag, config: &VmConfig) -> Option<Pfn> {
        m.prepare(cpu, tag, config)
    }

    fn create(m: &I::Machine, vcpus: u16) -> Option<Self> {
        let papr = Self::new(vcpus)?;
        if let Some(characteristics) = m.characteristics() {
            papr.set_characteristics(characteristics);
        }
        Some(papr)
    }

    fn firmware(&self, m: &I::Machine, shape: &Shape<'_>) -> Option<Firmware> {
        let random = if m.random().is_some() { Random::Offered } else { Random::Absent };
        let table = m.table(shape);
        self.set_table(table);
        firmware(shape, m.ticks_per_second(), random, table)
    }

    fn unknown_calls(&self) -> u64 {
        Papr::unknown_calls(self)
    }

    fn report(&self, memory: &GuestMemory<I>, out: &mut dyn Write) -> fmt::Result {
        I::report(self, memory.stage2(), out)
    }

    fn console_input(&self) -> impl IntoIterator<Item = u16> {
        self.vty_input()
    }

    fn dispatched<S: Services>(&self, vcpu: u16, s: &S) {
        Papr::dispatched(self, vcpu, s);
    }

    fn preempted<S: Services>(&self, vcpu: u16, s: &S) {
        Papr::preempted(self, vcpu, s);
    }
}

fn firmware(shape: &Shape<'_>, timebase_hz: u64, random: Random, table: Table) -> Option<Firmware> {
    let plan = &shape.plan;
    let tree = build(&TreeConfig {
        name: shape.name,
        pvr: sprs::pvr(),
        vcpus: shape.vcpus,
        memory: shape.ram,
        shared: shape.shared.clone(),
        timebase_hz: u32::try_from(timebase_hz).ok()?,
        bootargs: shape.cmdline,
        initrd: (!plan.initrd.is_empty()).then_some(plan.initrd.start..plan.initrd.end),
        rtas: plan.firmware.start,
        random,
        table,
        seed: None,
    })
    .ok()?;
    let start = StartAt {
        entry: shape.entry,
        // Kexec's way in: the tree, the kernel's own address, and no client interface.
        args: [plan.tree.start.0, shape.entry.0, 0, 0],
        big_endian: shape.order == ByteOrder::Big,
    };
    let code = list(RTAS_BLOB_SIZE, |n| rtas_blob().get(n).copied())?;
    (tree.len() as u64 <= plan.tree.len()).then_some(Firmware { tree, code, start })
}
