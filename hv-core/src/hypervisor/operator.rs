//! What the monitor may do to the running hypervisor.

use super::Hypervisor;
use crate::addr::{Order, PAGE_SIZE};
use crate::epoch::Cpu;
use crate::guest::lifecycle::{Life, Refused};
use crate::isa::Isa;
use crate::machine::Machine;
use crate::mmu::GuestMemory;
use crate::monitor::{ExitCounts, MemoryInfo, Operator, OwnMemory, PageUse, VmInfo};
use crate::sync::Ordering;
use crate::vm::Vm;

/// The hypervisor, as the CPU that serves the operator sees it.
pub(super) struct Operating<'a, I: Isa> {
    pub(super) hv: &'a Hypervisor<I>,
    pub(super) cpu: &'a Cpu,
}

impl<I: Isa> Operating<'_, I> {
    fn vm(&self, vm: usize) -> Result<&Vm<I>, Refused> {
        self.hv.vms.get(vm).ok_or(Refused::NoSuchVm)
    }

    fn page_use(&self, memory: &GuestMemory<I>) -> PageUse {
        let (stats, census) = (memory.stats(), memory.census(self.cpu, self.hv.machine));
        let mapped = |order: Order| census.leaves(order).saturating_mul(order.pages());
        let (huge, giant) = (mapped(Order::MIB2), mapped(Order::GIB));
        PageUse {
            small: census.pages().saturating_sub(huge).saturating_sub(giant),
            huge,
            giant,
            splits: stats.splits,
            collapses: stats.collapses,
            retries: stats.retries,
            flushes: stats.flushes,
            ..PageUse::default()
        }
    }
}

impl<I: Isa> Operator for Operating<'_, I> {
    fn vms(&self) -> usize {
        self.hv.vms.len()
    }

    fn vm_info(&self, vm: usize) -> Option<VmInfo<'_>> {
        let vm = self.hv.vms.get(vm)?;
        let life = *vm.life.lock();
        let mut info = VmInfo {
            name: &vm.config.name,
            state: life.state(),
            restarts: life.restarts(),
            vcpus: vm.config.vcpus,
            memory: vm.config.memory,
            resident: 0,
            tables: 0,
            pages: PageUse::default(),
            cpu_ticks: 0,
            exits: ExitCounts::default(),
        };
        if let Some(running) = vm.running() {
            let memory = running.memory.stats();
            (info.resident, info.tables) = (memory.resident, memory.tables);
            info.pages = self.page_use(&running.memory);
            for cell in &running.vcpus {
                let (counts, exits) = (&cell.counts, &mut info.exits);
                exits.faults = exits.faults.saturating_add(counts.faults.get());
                exits.calls = exits.calls.saturating_add(counts.calls.get());
                exits.interrupts = exits.interrupts.saturating_add(counts.interrupts.get());
                exits.deadlines = exits.deadlines.saturating_add(counts.deadlines.get());
                exits.halts = exits.halts.saturating_add(counts.halts.get());
                info.cpu_ticks = info.cpu_ticks.saturating_add(counts.ticks.get());
            }
            info.exits.unknown_calls = crate::isa::Platform::unknown_calls(&running.platform);
        }
        Some(info)
    }

    fn memory(&self) -> MemoryInfo {
        let page = PAGE_SIZE as u64;
        let mut guests = 0_u64;
        let mut tables = 0_u64;
        for running in self.hv.vms.iter().filter_map(Vm::running) {
            let stats = running.memory.stats();
            guests = guests.saturating_add(stats.resident);
            tables = tables.saturating_add(stats.tables);
        }
        let footprint = &self.hv.footprint;
        MemoryInfo {
            total: footprint.total,
            free: self.hv.machine.frames().counts().free.saturating_mul(page),
            guests: guests.saturating_mul(page),
            firmware: footprint.firmware,
            bundle: footprint.bundle,
            own: OwnMemory { tables: tables.saturating_mul(page), ..footprint.own },
        }
    }

    fn ticks_per_second(&self) -> u64 {
        self.hv.machine.ticks_per_second()
    }

    fn stop(&self, vm: usize) -> Result<(), Refused> {
        let found = self.vm(vm)?;
        if let Some(ending) = found.end(Life::stop)? {
            self.hv.drain(self.cpu, vm, found, ending);
        }
        Ok(())
    }

    fn start(&self, vm: usize) -> Result<(), Refused> {
        // Looked at here so that the operator hears of it; decided when the request is carried out.
        self.vm(vm)?.life.lock().may_start()?;
        self.hv.request_start(vm);
        Ok(())
    }

    fn focus(&self, vm: usize) -> Result<(), Refused> {
        self.hv.console.focus(vm)
    }

    fn power_off(&self) {
        self.hv.switch_off.store(true, Ordering::Release);
    }
}
