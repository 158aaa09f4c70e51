//! The operator's shell.
//!
//! A line comes from the console (its escape key, or a frame of the link), [`execute`] carries it out on an
//! [`Operator`] and writes text. Nothing here allocates, so that it works when memory is out, and nothing here locks:
//! it may be called on any CPU, outside every lock.

use core::fmt::{self, Write};

use crate::addr::GfnRange;
use crate::guest::lifecycle::{Refused, State};
use crate::host::{Reclaimed, Survey};
use crate::link::CommandResult;

mod command;
mod line;
mod map;
mod report;
mod table;

pub use command::{Command, DirtyOrder, ParseError, parse};
pub use line::{Key, LINE_MAX, Line, LineReader};

/// What the monitor asks of the runtime. VMs are named by their number, beginning with 0, as in the configuration.
///
/// The methods are called on any CPU without a lock held. To stop or to start is a request, whose outcome the operator
/// sees in `list`; a look at a VM's memory, its dirty log and its reclaim take as long as they take.
pub trait Operator {
    /// How many VMs there are.
    fn vms(&self) -> usize;
    /// What is known of one VM, at about this moment; `None` if there is no such VM.
    fn vm_info(&self, vm: usize) -> Option<VmInfo<'_>>;
    /// See [`crate::isa::Platform::report`].
    fn report(&self, _vm: usize, _out: &mut dyn Write) -> fmt::Result {
        Ok(())
    }
    /// See [`crate::machine::Machine::tags`].
    fn tags(&self) -> [u64; 2] {
        [0, 0]
    }
    /// How the memory of one VM is mapped. Walks its tables.
    fn pages(&self, vm: usize) -> Option<PageUse>;
    /// What the pages `gfns` of a VM are. Walks its tables.
    fn survey(&self, vm: usize, gfns: GfnRange) -> Option<Survey>;
    /// Where the machine's memory is, at about this moment.
    fn memory(&self) -> MemoryInfo;
    /// Ticks of [`VmInfo::cpu_ticks`] in a second.
    fn ticks_per_second(&self) -> u64;
    /// Ends a VM, whatever it is doing.
    fn stop(&self, vm: usize) -> Result<(), Refused>;
    /// Starts a VM that has ended, anew.
    fn start(&self, vm: usize) -> Result<(), Refused>;
    /// Begins, harvests or ends a VM's dirty log. Of a harvest: how many pages were written since the one before, and
    /// `found` is told which.
    fn dirty(&self, vm: usize, order: DirtyOrder, found: &mut dyn FnMut(GfnRange)) -> Result<u64, Refused>;
    /// Takes so many pages out of a VM's memory, of those that were not used lately.
    fn reclaim(&self, vm: usize, pages: u64) -> Result<Reclaimed, Refused>;
    /// Gives a VM the operator's terminal.
    fn focus(&self, vm: usize) -> Result<(), Refused>;
    /// Switches the machine off soon.
    fn power_off(&self);
}

/// One VM, as the operator sees it. Everything from `resident` on counts from the VM's latest start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it is in its life.
    pub state: State,
    /// How often it has been started again.
    pub restarts: u32,
    /// Virtual CPUs.
    pub vcpus: u16,
    /// The memory that the guest believes to have, in bytes.
    pub memory: u64,
    /// Frames (4 KiB) that hold its memory.
    pub resident: u64,
    /// Frames (4 KiB) of its tables, host side and second stage.
    pub tables: u64,
    /// Where it sees memory: below and above its platform's hole, and what it shares with other VMs.
    pub places: [Option<GfnRange>; 3],
    /// What of it is in the store, and how it came there.
    pub swap: SwapUse,
    /// Its dirty log.
    pub dirty: DirtyUse,
    /// Time that its vCPUs have spent in the guest, in ticks, all together.
    pub cpu_ticks: u64,
    /// Why its vCPUs left the guest.
    pub exits: ExitCounts,
}

/// In which sizes a VM's memory is mapped, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageUse {
    /// Frames mapped by second-stage leaves of less than 2 MiB.
    pub small: u64,
    /// Frames mapped by leaves of 2 MiB.
    pub huge: u64,
    /// Frames mapped by leaves of 1 GiB.
    pub giant: u64,
    /// Complete teams in the tmpfs objects that it maps.
    pub teams: u64,
    /// Teams there that have been broken.
    pub broken: u64,
    /// Large leaves that were split.
    pub splits: u64,
    /// Runs of small leaves that became a large one.
    pub collapses: u64,
    /// Faults that had to be tried again because memory changed meanwhile.
    pub retries: u64,
    /// Invalidations that made every CPU forget translations.
    pub flushes: u64,
}

/// A VM's pages in the swap store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwapUse {
    /// Pages that are there now.
    pub pages: u64,
    /// Pages that went there.
    pub outs: u64,
    /// Pages that came back.
    pub ins: u64,
    /// Blocks of 2 MiB that were looked at, to learn which pages are in use.
    pub aged: u64,
    /// Pages that were found in use.
    pub referenced: u64,
}

/// A VM's dirty log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirtyUse {
    /// Writes are being logged.
    pub on: bool,
    /// How often it was harvested.
    pub harvests: u64,
    /// Pages that all harvests together found written.
    pub pages: u64,
}

/// How often vCPUs left their guest, by reason; the reasons are those of [`crate::vcpu::exit::Exit`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitCounts {
    /// Second-stage faults.
    pub faults: u64,
    /// Requests to the personality.
    pub calls: u64,
    /// Of the calls, those that it does not know.
    pub unknown_calls: u64,
    /// Physical interrupts and kicks.
    pub interrupts: u64,
    /// Ends of time slices, and the guest's timers.
    pub deadlines: u64,
    /// How often a vCPU went to sleep.
    pub halts: u64,
}

impl ExitCounts {
    /// All exits.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.faults.saturating_add(self.calls).saturating_add(self.interrupts).saturating_add(self.deadlines)
    }
}

/// Where the machine's memory is, in bytes. The parts add up to `total`, as far as they were read at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryInfo {
    /// All RAM that the firmware reports.
    pub total: u64,
    /// What nobody uses.
    pub free: u64,
    /// What is kept for freeing more.
    pub reserve: u64,
    /// What holds guests' memory.
    pub guests: u64,
    /// The store of swapped pages.
    pub store: StoreUse,
    /// What the firmware keeps for itself.
    pub firmware: u64,
    /// The guests' images as they were loaded, kept for restarts.
    pub bundle: u64,
    /// What Trivet itself needs.
    pub own: OwnMemory,
}

/// The store of swapped pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreUse {
    /// What it takes of the machine, in bytes.
    pub bytes: u64,
    /// Pages in it.
    pub pages: u64,
    /// Of them, those that are one word again and again, and take no room.
    pub same: u64,
    /// Bytes of the others before they were compressed.
    pub before: u64,
    /// And after.
    pub after: u64,
    /// Pages that it did not take, because they do not compress.
    pub refused: u64,
}

/// Trivet's own memory by use, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnMemory {
    /// Code and data of the image, with its stacks.
    pub image: u64,
    /// The account of frames.
    pub metadata: u64,
    /// Everything allocated by size.
    pub heap: u64,
    /// The VMs' tables, host side and second stage.
    pub tables: u64,
}

impl OwnMemory {
    /// All of it.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.image.saturating_add(self.metadata).saturating_add(self.heap).saturating_add(self.tables)
    }
}

/// Carries out one line and writes its output, lines that end in `\n`. A failure's last line says why.
///
/// An error of `out` ends the output early and counts as failure.
pub fn execute(line: &str, operator: &dyn Operator, out: &mut dyn Write) -> CommandResult {
    match run(line, operator, out) {
        Ok(()) => CommandResult::Done,
        Err(Failure::Said) => CommandResult::Failed,
    }
}

/// The command has failed, and its output says so.
enum Failure {
    Said,
}

impl From<fmt::Error> for Failure {
    fn from(_: fmt::Error) -> Self {
        Self::Said
    }
}

fn run(line: &str, operator: &dyn Operator, out: &mut dyn Write) -> Result<(), Failure> {
    let command = match parse(line) {
        Ok(None) => return Ok(()),
        Ok(Some(command)) => command,
        Err(why) => {
            writeln!(out, "{why}")?;
            return Err(Failure::Said);
        }
    };
    match command {
        Command::Help => report::help(out)?,
        Command::List => report::list(operator, out)?,
        Command::Stat(None) => report::stat_all(operator, out)?,
        Command::Stat(Some(name)) => report::stat_one(operator, find(name, operator, out)?, out)?,
        Command::Memory(None) => report::memory(operator, out)?,
        Command::Memory(Some(name)) => report::memory_of(operator, find(name, operator, out)?, out)?,
        Command::Map(None) => {
            for vm in 0..operator.vms() {
                map::draw(operator, vm, out)?;
            }
        }
        Command::Map(Some(name)) => map::draw(operator, find(name, operator, out)?, out)?,
        Command::Dirty(name, what) => dirty(name, what, operator, out)?,
        Command::Reclaim(name, pages) => {
            let vm = find(name, operator, out)?;
            let done = operator.reclaim(vm, pages).or_else(|why| refuse(name, "reclaimed", why, out))?;
            let Reclaimed { freed, looked, refused } = done;
            writeln!(out, "{freed} frames freed, {looked} blocks looked at, {refused} pages do not compress")?;
        }
        Command::Stop(name) => order(name, "stopped", operator, &|vm| operator.stop(vm), out)?,
        Command::Start(name) => order(name, "started", operator, &|vm| operator.start(vm), out)?,
        Command::Console(name) => order(name, "given the terminal", operator, &|vm| operator.focus(vm), out)?,
        Command::PowerOff => {
            writeln!(out, "switching off")?;
            operator.power_off();
        }
        #[cfg(debug_assertions)]
        Command::Panic => panic!("the operator asked for it"),
    }
    Ok(())
}

/// Carries out an order to one VM; says nothing if it goes well.
fn order(
    name: &str,
    done: &str,
    operator: &dyn Operator,
    act: &dyn Fn(usize) -> Result<(), Refused>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let vm = find(name, operator, out)?;
    act(vm).or_else(|why| refuse(name, done, why, out))
}

/// Says why not.
fn refuse<T>(name: &str, done: &str, why: Refused, out: &mut dyn Write) -> Result<T, Failure> {
    writeln!(out, "{name} cannot be {done}: {why}")?;
    Err(Failure::Said)
}

/// Carries out what concerns a dirty log.
fn dirty(name: &str, what: DirtyOrder, operator: &dyn Operator, out: &mut dyn Write) -> Result<(), Failure> {
    let vm = find(name, operator, out)?;
    let mut printed = Ok(());
    let mut list = |run: GfnRange| {
        if printed.is_ok() && what == DirtyOrder::List {
            printed = writeln!(out, "{:#x} {}", run.start().0, run.pages());
        }
    };
    let pages = operator.dirty(vm, what, &mut list);
    printed?;
    let pages = pages.or_else(|why| refuse(name, "logged", why, out))?;
    if matches!(what, DirtyOrder::Harvest | DirtyOrder::List) {
        writeln!(out, "{pages} pages written since the last harvest")?;
    }
    Ok(())
}

/// The VM of this name, or with this number as `list` shows it.
fn find(name: &str, operator: &dyn Operator, out: &mut dyn Write) -> Result<usize, Failure> {
    let count = operator.vms();
    let names = || (0..count).map(|vm| operator.vm_info(vm).map_or("", |info| info.name));
    if let Some(vm) = names().position(|known| known == name) {
        return Ok(vm);
    }
    if let Some(vm) = name.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).filter(|vm| *vm < count) {
        return Ok(vm);
    }
    match command::nearest(name, names()) {
        Some(near) => writeln!(out, "no VM \"{name}\"; did you mean \"{near}\"?")?,
        None => writeln!(out, "no VM \"{name}\"; \"list\" shows them")?,
    }
    Err(Failure::Said)
}

#[cfg(test)]
mod tests;
