//! What the monitor prints.

use core::fmt::{self, Write};

use super::command::COMMANDS;
use super::table::{Align, Cell, lines, table};
use super::{Operator, PageUse, VmInfo};
use crate::addr::PAGE_SIZE;
use crate::guest::lifecycle::{State, how_ended};
use crate::guest::manifest::MAX_VMS;

/// A state in the operator's words.
fn state_text(state: State) -> Cell<'static> {
    match state {
        State::Configured => Cell::Text("not started"),
        State::Running => Cell::Text("running"),
        State::Ending(how) => Cell::Pair("ending: ", how_ended(how)),
        State::Ended(how) => Cell::Pair("ended: ", how_ended(how)),
    }
}

/// All commands.
pub(super) fn help(out: &mut dyn Write) -> fmt::Result {
    let columns = [("COMMAND", Align::Left), ("WHAT IT DOES", Align::Left)];
    table(out, &columns, COMMANDS.len(), &|row, column| match (COMMANDS.get(row), column) {
        (Some(spec), 0) => Cell::Pair(spec.name, spec.args),
        (Some(spec), _) => Cell::Text(spec.help),
        (None, _) => Cell::Text(""),
    })
}

/// A table of VMs, one a row, whose first column, after the number where there is one, is the name.
fn vms<'a>(
    operator: &'a dyn Operator,
    (first, count): (usize, usize),
    columns: &[(&'a str, Align)],
    out: &mut dyn Write,
    cell: &dyn Fn(usize, &VmInfo<'a>, usize) -> Cell<'a>,
) -> fmt::Result {
    table(out, columns, count.min(MAX_VMS), &|row, column| {
        let vm = first.saturating_add(row);
        // It may vanish between two questions.
        operator.vm_info(vm).map_or(Cell::Text("-"), |info| cell(vm, &info, column))
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
        ("SWAPPED", Align::Right),
        ("RESTARTS", Align::Right),
        ("STATE", Align::Left),
    ];
    vms(operator, (0, operator.vms()), &columns, out, &|vm, info, column| match column {
        0 => Cell::Count(vm.saturating_add(1) as u64),
        1 => Cell::Text(info.name),
        2 => Cell::Count(info.vcpus.into()),
        3 => Cell::Bytes(info.memory),
        4 => Cell::Frames(info.resident),
        5 => Cell::Frames(info.swap.pages),
        6 => Cell::Count(info.restarts.into()),
        _ => state_text(info.state),
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
    vms(operator, (0, operator.vms()), &columns, out, &|_, info, column| match column {
        0 => Cell::Text(info.name),
        1 => Cell::Seconds(info.cpu_ticks, per_second),
        2 => Cell::Count(info.exits.total()),
        3 => Cell::Count(info.exits.faults),
        4 => Cell::Count(info.exits.calls),
        5 => Cell::Count(info.exits.interrupts),
        6 => Cell::Count(info.exits.deadlines),
        _ => Cell::Count(info.exits.halts),
    })?;
    match operator.tags() {
        [0, _] => Ok(()),
        [each, given] => writeln!(out, "tags: {each} a CPU, {given} given out"),
    }
}

/// Everything about one VM.
pub(super) fn stat_one(operator: &dyn Operator, vm: usize, out: &mut dyn Write) -> fmt::Result {
    let Some(info) = operator.vm_info(vm) else { return Ok(()) };
    let VmInfo { exits, swap, dirty, .. } = info;
    lines(
        out,
        &[
            ("VM", Cell::Text(info.name)),
            ("state", state_text(info.state)),
            ("restarts", Cell::Count(info.restarts.into())),
            ("vcpus", Cell::Count(info.vcpus.into())),
            ("cpu time", Cell::Seconds(info.cpu_ticks, operator.ticks_per_second())),
            ("memory", Cell::Bytes(info.memory)),
            ("resident", Cell::Frames(info.resident)),
            ("swapped", Cell::Frames(swap.pages)),
            ("  pages out", Cell::Count(swap.outs)),
            ("  pages in", Cell::Count(swap.ins)),
            ("blocks aged", Cell::Count(swap.aged)),
            ("  in use", Cell::Count(swap.referenced)),
            ("dirty log", Cell::Text(if dirty.on { "on" } else { "off" })),
            ("  harvests", Cell::Count(dirty.harvests)),
            ("  pages", Cell::Count(dirty.pages)),
            ("tables", Cell::Frames(info.tables)),
            ("exits", Cell::Count(exits.total())),
            ("  faults", Cell::Count(exits.faults)),
            ("  calls", Cell::Count(exits.calls)),
            ("    unknown", Cell::Count(exits.unknown_calls)),
            ("  interrupts", Cell::Count(exits.interrupts)),
            ("  deadlines", Cell::Count(exits.deadlines)),
            ("halts", Cell::Count(exits.halts)),
        ],
    )?;
    operator.report(vm, out)
}

/// Where the machine's memory is.
pub(super) fn memory(operator: &dyn Operator, out: &mut dyn Write) -> fmt::Result {
    let info = operator.memory();
    let (own, store) = (info.own, info.store);
    let rows = [
        ("machine", info.total),
        ("  free", info.free),
        ("  reserve", info.reserve),
        ("  guests", info.guests),
        ("  swap store", store.bytes),
        ("  bundle", info.bundle),
        ("  firmware", info.firmware),
        ("  Trivet", own.total()),
        ("    image", own.image),
        ("    frame account", own.metadata),
        ("    heap", own.heap),
        ("    tables", own.tables),
    ];
    let columns = [("MEMORY OF", Align::Left), ("SIZE", Align::Right), ("FRAMES", Align::Right)];
    table(out, &columns, rows.len(), &|row, column| match (rows.get(row), column) {
        (Some((name, _)), 0) => Cell::Text(name),
        (Some((_, bytes)), 1) => Cell::Bytes(*bytes),
        (Some((_, bytes)), _) => Cell::Count(bytes.div_ceil(PAGE_SIZE as u64)),
        (None, _) => Cell::Text(""),
    })?;
    out.write_char('\n')?;
    let columns = [
        ("SWAP STORE", Align::Left),
        ("PAGES", Align::Right),
        ("OF ONE WORD", Align::Right),
        ("BEFORE", Align::Right),
        ("COMPRESSED", Align::Right),
        ("RATIO", Align::Right),
        ("REFUSED", Align::Right),
    ];
    table(out, &columns, 1, &|_, column| match column {
        0 => Cell::Text("memory"),
        1 => Cell::Count(store.pages),
        2 => Cell::Count(store.same),
        3 => Cell::Bytes(store.before),
        4 => Cell::Bytes(store.after),
        5 => Cell::Ratio(store.before, store.after),
        _ => Cell::Count(store.refused),
    })?;
    out.write_char('\n')?;
    vm_memory(operator, (0, operator.vms()), out)
}

/// Where one VM's memory is.
pub(super) fn memory_of(operator: &dyn Operator, vm: usize, out: &mut dyn Write) -> fmt::Result {
    vm_memory(operator, (vm, 1), out)
}

fn vm_memory(operator: &dyn Operator, (first, count): (usize, usize), out: &mut dyn Write) -> fmt::Result {
    // Asked once each: how memory is mapped is counted by walking the tables.
    let pages = (first..first.saturating_add(count)).map(|vm| operator.pages(vm).unwrap_or_default());
    let pages: heapless::Vec<PageUse, MAX_VMS> = pages.take(MAX_VMS).collect();
    let used = |vm: usize| pages.get(vm.saturating_sub(first)).copied().unwrap_or_default();
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
    vms(operator, (first, count), &columns, out, &|vm, info, column| match column {
        0 => Cell::Text(info.name),
        1 => Cell::Bytes(info.memory),
        2 => Cell::Frames(info.resident),
        3 => Cell::Count(info.resident),
        4 => Cell::Frames(info.tables),
        5 => Cell::Frames(used(vm).small),
        6 => Cell::Frames(used(vm).huge),
        _ => Cell::Frames(used(vm).giant),
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
    vms(operator, (first, count), &columns, out, &|vm, info, column| match column {
        0 => Cell::Text(info.name),
        1 => Cell::Count(info.exits.faults),
        2 => Cell::Count(used(vm).retries),
        3 => Cell::Count(used(vm).flushes),
        4 => Cell::Count(used(vm).splits),
        5 => Cell::Count(used(vm).collapses),
        6 => Cell::Count(used(vm).teams),
        _ => Cell::Count(used(vm).broken),
    })?;
    out.write_char('\n')?;
    let columns = [
        ("VM", Align::Left),
        ("SWAPPED", Align::Right),
        ("PAGES OUT", Align::Right),
        ("PAGES IN", Align::Right),
        ("AGED", Align::Right),
        ("IN USE", Align::Right),
        ("DIRTY LOG", Align::Right),
        ("HARVESTS", Align::Right),
        ("PAGES", Align::Right),
    ];
    vms(operator, (first, count), &columns, out, &|_, info, column| match column {
        0 => Cell::Text(info.name),
        1 => Cell::Frames(info.swap.pages),
        2 => Cell::Count(info.swap.outs),
        3 => Cell::Count(info.swap.ins),
        4 => Cell::Count(info.swap.aged),
        5 => Cell::Count(info.swap.referenced),
        6 => Cell::Text(if info.dirty.on { "on" } else { "off" }),
        7 => Cell::Count(info.dirty.harvests),
        _ => Cell::Count(info.dirty.pages),
    })
}
