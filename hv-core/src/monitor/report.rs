//! What the monitor prints.

use core::fmt::{self, Write};

use super::command::COMMANDS;
use super::table::{Align, Seconds, Size, table};
use super::{ExitCounts, Operator, PageUse, VmInfo};
use crate::addr::PAGE_SIZE;
use crate::guest::lifecycle::{State, how_ended};
use crate::guest::manifest::MAX_VMS;

/// A VM that vanished between two questions.
const GONE: VmInfo<'static> = VmInfo {
    name: "-",
    state: State::Configured,
    restarts: 0,
    vcpus: 0,
    memory: 0,
    resident: 0,
    tables: 0,
    pages: PageUse {
        small: 0,
        huge: 0,
        giant: 0,
        teams: 0,
        broken: 0,
        splits: 0,
        collapses: 0,
        retries: 0,
        flushes: 0,
    },
    cpu_ticks: 0,
    exits: ExitCounts { faults: 0, calls: 0, unknown_calls: 0, interrupts: 0, deadlines: 0, halts: 0 },
};

/// A state in the operator's words.
struct StateText(State);

impl fmt::Display for StateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, how) = match self.0 {
            State::Configured => return f.write_str("not started"),
            State::Running => return f.write_str("running"),
            State::Ending(how) => ("ending: ", how),
            State::Ended(how) => ("ended: ", how),
        };
        f.write_str(prefix)?;
        f.write_str(how_ended(how))
    }
}

const fn frames(count: u64) -> Size {
    Size(count.saturating_mul(PAGE_SIZE as u64))
}

/// All commands.
pub(super) fn help(out: &mut dyn Write) -> fmt::Result {
    table(out, [("COMMAND", Align::Left), ("WHAT IT DOES", Align::Left)], COMMANDS.len(), &|row, column, cell| {
        let Some(spec) = COMMANDS.get(row) else { return Ok(()) };
        let (name, args) = spec.usage();
        if column == 0 { write!(cell, "{name}{args}") } else { cell.write_str(spec.help) }
    })
}

/// All VMs.
pub(super) fn list(operator: &dyn Operator, out: &mut dyn Write) -> fmt::Result {
    let columns = [
        ("NO", Align::Right),
        ("VM", Align::Left),
        ("VCPUS", Align::Right),
        ("MEMORY", Align::Right),
        ("RESIDENT", Align::Right),
        ("RESTARTS", Align::Right),
        ("STATE", Align::Left),
    ];
    table(out, columns, operator.vms(), &|vm, column, cell| {
        let info = operator.vm_info(vm).unwrap_or(GONE);
        match column {
            0 => write!(cell, "{}", vm.saturating_add(1)),
            1 => cell.write_str(info.name),
            2 => write!(cell, "{}", info.vcpus),
            3 => write!(cell, "{}", Size(info.memory)),
            4 => write!(cell, "{}", frames(info.resident)),
            5 => write!(cell, "{}", info.restarts),
            _ => write!(cell, "{}", StateText(info.state)),
        }
    })
}

/// Counters of all VMs.
pub(super) fn stat_all(operator: &dyn Operator, out: &mut dyn Write) -> fmt::Result {
    let columns = [
        ("VM", Align::Left),
        ("CPU TIME", Align::Right),
        ("EXITS", Align::Right),
        ("FAULTS", Align::Right),
        ("CALLS", Align::Right),
        ("INTERRUPTS", Align::Right),
        ("DEADLINES", Align::Right),
        ("HALTS", Align::Right),
    ];
    let per_second = operator.ticks_per_second();
    table(out, columns, operator.vms(), &|vm, column, cell| {
        let info = operator.vm_info(vm).unwrap_or(GONE);
        match column {
            0 => cell.write_str(info.name),
            1 => write!(cell, "{}", Seconds { ticks: info.cpu_ticks, per_second }),
            2 => write!(cell, "{}", info.exits.total()),
            3 => write!(cell, "{}", info.exits.faults),
            4 => write!(cell, "{}", info.exits.calls),
            5 => write!(cell, "{}", info.exits.interrupts),
            6 => write!(cell, "{}", info.exits.deadlines),
            _ => write!(cell, "{}", info.exits.halts),
        }
    })
}

/// Lines of a name and a value, the values flush right.
fn lines(out: &mut dyn Write, rows: &[(&str, &dyn fmt::Display)]) -> fmt::Result {
    let name_width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().try_for_each(|(name, value)| writeln!(out, "{name:name_width$}  {value}"))
}

/// Everything about one VM.
pub(super) fn stat_one(operator: &dyn Operator, vm: usize, out: &mut dyn Write) -> fmt::Result {
    let info = operator.vm_info(vm).unwrap_or(GONE);
    let exits = info.exits;
    lines(
        out,
        &[
            ("VM", &info.name),
            ("state", &StateText(info.state)),
            ("restarts", &info.restarts),
            ("vcpus", &info.vcpus),
            ("cpu time", &Seconds { ticks: info.cpu_ticks, per_second: operator.ticks_per_second() }),
            ("memory", &Size(info.memory)),
            ("resident", &frames(info.resident)),
            ("tables", &frames(info.tables)),
            ("exits", &exits.total()),
            ("  faults", &exits.faults),
            ("  calls", &exits.calls),
            ("    unknown", &exits.unknown_calls),
            ("  interrupts", &exits.interrupts),
            ("  deadlines", &exits.deadlines),
            ("halts", &exits.halts),
        ],
    )
}

/// Where the machine's memory is.
pub(super) fn memory(operator: &dyn Operator, out: &mut dyn Write) -> fmt::Result {
    let info = operator.memory();
    let own = info.own;
    let rows = [
        ("machine", info.total),
        ("  free", info.free),
        ("  guests", info.guests),
        ("  bundle", info.bundle),
        ("  firmware", info.firmware),
        ("  Trivet", own.total()),
        ("    image", own.image),
        ("    frame account", own.metadata),
        ("    heap", own.heap),
        ("    tables", own.tables),
    ];
    let columns = [("MEMORY OF", Align::Left), ("SIZE", Align::Right), ("FRAMES", Align::Right)];
    table(out, columns, rows.len(), &|row, column, cell| match (rows.get(row), column) {
        (Some((name, _)), 0) => cell.write_str(name),
        (Some((_, bytes)), 1) => write!(cell, "{}", Size(*bytes)),
        (Some((_, bytes)), _) => write!(cell, "{}", bytes.div_ceil(PAGE_SIZE as u64)),
        (None, _) => Ok(()),
    })?;
    out.write_char('\n')?;
    vm_memory(operator, 0, operator.vms(), out)
}

/// Where one VM's memory is.
pub(super) fn memory_of(operator: &dyn Operator, vm: usize, out: &mut dyn Write) -> fmt::Result {
    vm_memory(operator, vm, 1, out)
}

fn vm_memory(operator: &dyn Operator, first: usize, count: usize, out: &mut dyn Write) -> fmt::Result {
    let columns = [
        ("VM", Align::Left),
        ("MEMORY", Align::Right),
        ("RESIDENT", Align::Right),
        ("FRAMES", Align::Right),
        ("TABLES", Align::Right),
        ("IN 4K", Align::Right),
        ("IN 2M", Align::Right),
        ("IN 1G", Align::Right),
    ];
    // Asked once each: how memory is mapped is counted by walking the tables.
    let vms = (first..first.saturating_add(count)).map(|vm| operator.vm_info(vm).unwrap_or(GONE));
    let vms: heapless::Vec<VmInfo<'_>, MAX_VMS> = vms.take(MAX_VMS).collect();
    table(out, columns, vms.len(), &|row, column, cell| {
        let info = vms.get(row).unwrap_or(&GONE);
        match column {
            0 => cell.write_str(info.name),
            1 => write!(cell, "{}", Size(info.memory)),
            2 => write!(cell, "{}", frames(info.resident)),
            3 => write!(cell, "{}", info.resident),
            4 => write!(cell, "{}", frames(info.tables)),
            5 => write!(cell, "{}", frames(info.pages.small)),
            6 => write!(cell, "{}", frames(info.pages.huge)),
            _ => write!(cell, "{}", frames(info.pages.giant)),
        }
    })?;
    out.write_char('\n')?;
    let columns = [
        ("VM", Align::Left),
        ("FAULTS", Align::Right),
        ("RETRIES", Align::Right),
        ("FLUSHES", Align::Right),
        ("SPLITS", Align::Right),
        ("COLLAPSES", Align::Right),
        ("TEAMS", Align::Right),
        ("BROKEN", Align::Right),
    ];
    table(out, columns, vms.len(), &|row, column, cell| {
        let info = vms.get(row).unwrap_or(&GONE);
        let pages = &info.pages;
        match column {
            0 => cell.write_str(info.name),
            1 => write!(cell, "{}", info.exits.faults),
            2 => write!(cell, "{}", pages.retries),
            3 => write!(cell, "{}", pages.flushes),
            4 => write!(cell, "{}", pages.splits),
            5 => write!(cell, "{}", pages.collapses),
            6 => write!(cell, "{}", pages.teams),
            _ => write!(cell, "{}", pages.broken),
        }
    })
}
