//! What the monitor may do to the running hypervisor.

use core::fmt::{self, Write};

use super::Hypervisor;
use crate::addr::{GfnRange, Order, PAGE_SHIFT, PAGE_SIZE};
use crate::epoch::Cpu;
use crate::guest::lifecycle::{Life, Refused};
use crate::heap::Counted;
use crate::host::{Reclaimed, Survey};
use crate::isa::{Isa, Platform};
use crate::machine::Machine;
use crate::mmu::{LogError, pieces};
use crate::monitor::{
    DirtyOrder, DirtyUse, ExitCounts, MemoryInfo, Operator, OwnMemory, PageUse, StoreUse, SwapUse, VmInfo,
};
use crate::sync::Ordering;
use crate::vm::{Running, Vm};

/// Frames that are asked for when a dirty log has none: enough for that of 32 GiB.
const LOG_ROOM: u64 = 256;

/// The hypervisor, as the CPU that serves the operator sees it.
pub(super) struct Operating<'a, I: Isa> {
    pub(super) hv: &'a Hypervisor<I>,
    pub(super) cpu: &'a Cpu,
}

impl<I: Isa> Operating<'_, I> {
    fn vm(&self, vm: usize) -> Result<&Vm<I>, Refused> {
        self.hv.vms.get(vm).ok_or(Refused::NoSuchVm)
    }

    fn running(&self, vm: usize) -> Result<Counted<Running<I>>, Refused> {
        self.vm(vm)?.running().ok_or(Refused::NotRunning)
    }

    fn page_use(&self, running: &Running<I>) -> PageUse {
        let memory = &running.memory;
        let (stats, census) = (memory.stats(), memory.census(self.cpu, self.hv.machine));
        let objects =
            [&running.uses.ram, &running.uses.window].into_iter().flatten().map(|o| o.stats(self.cpu, self.hv.machine));
        let (teams, broken) =
            objects.fold((0_u64, 0_u64), |(t, b), o| (t.saturating_add(o.complete), b.saturating_add(o.broken)));
        let mapped = |order: Order| census.leaves(order).saturating_mul(order.pages());
        let (huge, giant) = (mapped(Order::MIB2), mapped(Order::GIB));
        PageUse {
            small: census.pages().saturating_sub(huge).saturating_sub(giant),
            huge,
            giant,
            teams,
            broken,
            splits: stats.splits,
            collapses: stats.collapses,
            retries: stats.retries,
            flushes: stats.flushes,
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
        let hole = I::Platform::HOLE;
        let [below, above] = pieces(vm.config.memory >> PAGE_SHIFT, hole);
        let mut info = VmInfo {
            name: &vm.config.name,
            state: life.state(),
            restarts: life.restarts(),
            vcpus: vm.config.vcpus,
            memory: vm.config.memory,
            resident: 0,
            tables: 0,
            places: [below, above, vm.config.shared_window(hole)],
            swap: SwapUse::default(),
            dirty: DirtyUse::default(),
            cpu_ticks: 0,
            exits: ExitCounts::default(),
        };
        if let Some(running) = vm.running() {
            let memory = running.memory.stats();
            (info.resident, info.tables) = (memory.resident, memory.tables);
            info.swap = SwapUse {
                pages: memory.swapped,
                outs: memory.swapped_out,
                ins: memory.swapped_in,
                aged: memory.aged,
                referenced: memory.used,
            };
            info.dirty = DirtyUse {
                on: running.memory.space().dirty.active().is_some(),
                harvests: memory.harvests,
                pages: memory.harvested,
            };
            for cell in &running.vcpus {
                let (counts, exits) = (&cell.counts, &mut info.exits);
                exits.faults = exits.faults.saturating_add(counts.faults.get());
                exits.calls = exits.calls.saturating_add(counts.calls.get());
                exits.interrupts = exits.interrupts.saturating_add(counts.interrupts.get());
                exits.deadlines = exits.deadlines.saturating_add(counts.deadlines.get());
                exits.halts = exits.halts.saturating_add(counts.halts.get());
                info.cpu_ticks = info.cpu_ticks.saturating_add(counts.ticks.get());
            }
            info.exits.unknown_calls = Platform::unknown_calls(&running.platform);
        }
        Some(info)
    }

    fn report(&self, vm: usize, out: &mut dyn Write) -> fmt::Result {
        self.running(vm).map_or(Ok(()), |running| running.platform.report(&running.memory, out))
    }

    fn tags(&self) -> [u64; 2] {
        self.hv.machine.tags()
    }

    fn pages(&self, vm: usize) -> Option<PageUse> {
        self.running(vm).ok().map(|running| self.page_use(&running))
    }

    fn survey(&self, vm: usize, gfns: GfnRange) -> Option<Survey> {
        let running = self.running(vm).ok()?;
        let (memory, m) = (&running.memory, self.hv.machine);
        Some(Survey { dirty: memory.logged(self.cpu, m, gfns), ..memory.survey(self.cpu, m, gfns) })
    }

    fn dirty(&self, vm: usize, order: DirtyOrder, found: &mut dyn FnMut(GfnRange)) -> Result<u64, Refused> {
        let running = self.running(vm)?;
        let (memory, cpu, m) = (&running.memory, self.cpu, self.hv.machine);
        match order {
            DirtyOrder::Start => {
                let begin = || memory.log_start(cpu, m);
                // Its bits lie in frames. Where there are none, pages of the VM's own give way.
                let begun = begin().or_else(|LogError::NoMemory| {
                    memory.reclaim(cpu, m, LOG_ROOM);
                    begin()
                });
                begun.map(|()| 0).map_err(|LogError::NoMemory| Refused::NoMemory)
            }
            DirtyOrder::Harvest | DirtyOrder::List if memory.space().dirty.active().is_none() => {
                Err(Refused::NotLogging)
            }
            DirtyOrder::Harvest | DirtyOrder::List => Ok(memory.log_harvest(cpu, m, found).pages),
            DirtyOrder::Stop => {
                memory.log_stop(cpu, m);
                Ok(0)
            }
        }
    }

    fn reclaim(&self, vm: usize, pages: u64) -> Result<Reclaimed, Refused> {
        let running = self.running(vm)?;
        if !self.vm(vm)?.config.swap {
            return Err(Refused::NoSwap);
        }
        Ok(running.memory.reclaim(self.cpu, self.hv.machine, pages))
    }

    fn memory(&self) -> MemoryInfo {
        let page = PAGE_SIZE as u64;
        let mut tables = 0_u64;
        for running in self.hv.vms.iter().filter_map(Vm::running) {
            tables = tables.saturating_add(running.memory.stats().tables);
        }
        let footprint = &self.hv.footprint;
        let store = self.hv.store.stats();
        let frames = self.hv.machine.frames().counts();
        // Not the sum of what is resident in each VM: VMs share frames, and objects have some that no VM maps.
        let taken = frames.total.saturating_sub(frames.free).saturating_sub(frames.reserve);
        let guests = taken.saturating_sub(tables).saturating_sub(store.frames);
        MemoryInfo {
            total: footprint.total,
            free: frames.free.saturating_mul(page),
            guests: guests.saturating_mul(page),
            reserve: frames.reserve.saturating_mul(page),
            store: StoreUse {
                bytes: store.frames.saturating_mul(page),
                pages: store.pages,
                same: store.same,
                before: store.pages.saturating_sub(store.same).saturating_mul(page),
                after: store.bytes,
                refused: store.refused,
            },
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
