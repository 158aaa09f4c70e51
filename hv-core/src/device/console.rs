//! The consoles of all VMs and of the operator on the machine's one port.
//!
//! ```text
//! guest output --write(vm)--> Desk (who has the terminal, backlogs) --frames or bytes--> port
//! port --poll--> frames? --> escape key --+--> Input of the VM that has the terminal --read(vm)--> guest
//!                                         +--> monitor's line --serve--> monitor::execute
//! ```
//!
//! What a caller may rely on:
//!
//! - All methods take `&self` and may be called on any CPU, also at once. Nothing allocates after [`Consoles::new`].
//! - Output of one VM keeps its order and, in [`LinkMode::Split`], arrives whole. At a terminal one VM at a time has
//!   the screen; of what the others print meanwhile the last 4 KiB are kept and shown when they get it.
//! - Input of one VM keeps its order. When a guest leaves 4 KiB of it unread, what is typed further is dropped and
//!   counted.
//! - [`Consoles::panic`] waits for no lock.
//!
//! Locks, in the order in which they are taken: `keys` (what is being received), `desk` (what is being sent, held while
//! the port takes the bytes), one VM's `inputs`. `keys` is only ever tried: whoever finds it taken leaves the port to
//! the CPU that has it. Callers must hold no lock of their own that a reader of the console may wait for.

use alloc::vec::Vec;
use core::fmt::{self, Display, Write};

use crate::guest::lifecycle::Refused;
use crate::link::{CommandResult, Event, LinkMode, Stream};
use crate::machine::Console;
use crate::monitor::{self, Line, Operator};
use crate::sync::{AtomicUsize, Mutex, Ordering};

mod desk;
mod keys;
mod news;
mod receive;
mod ring;
mod text;

use desk::{Desk, Focus, Place};
use keys::Meaning;
use receive::Receiver;
use ring::Input;
use text::MonitorOut;
pub use text::{PortText, write_panic, write_refusal};

/// The consoles of a machine.
pub struct Consoles {
    port: &'static dyn Console,
    mode: LinkMode,
    keys: Mutex<Receiver>,
    desk: Mutex<Desk>,
    inputs: Vec<Queue>,
}

/// One VM's input, and how much of it waits, to be looked at without the lock.
struct Queue {
    input: Mutex<Input>,
    waiting: AtomicUsize,
}

/// A set of VMs, by number; the link can name half as many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct VmSet(u32);

impl VmSet {
    fn insert(&mut self, vm: usize) {
        self.0 |= u32::try_from(vm).ok().and_then(|vm| 1_u32.checked_shl(vm)).unwrap_or(0);
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        (0..32).filter(move |vm| self.0 & (1 << vm) != 0)
    }
}

/// What the operator wants of the monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Order {
    /// This command line.
    Line(Line),
    /// A command line that was too long, and is not carried out.
    TooLong,
}

impl Consoles {
    /// The consoles of VMs with these names, on this port. The first VM has the terminal.
    pub fn new<'n>(port: &'static dyn Console, mode: LinkMode, names: impl IntoIterator<Item = &'n str>) -> Self {
        let desk = Desk::new(port, mode, names);
        let queue = |_| Queue { input: Mutex::new(Input::new()), waiting: AtomicUsize::new(0) };
        let inputs = (0..desk.vms()).map(queue).collect();
        Self { port, mode, keys: Mutex::new(Receiver::new(mode)), desk: Mutex::new(desk), inputs }
    }

    /// Sends a VM's output to the operator. Returns when the port has taken what is to be sent now.
    pub fn write(&self, vm: usize, bytes: &[u8]) {
        self.desk.lock().output(vm, bytes);
    }

    /// Takes bytes that were typed for a VM; returns how many were put into `into`.
    pub fn read(&self, vm: usize, into: &mut [u8]) -> usize {
        let Some(queue) = self.inputs.get(vm) else { return 0 };
        queue.with(|input| input.take(into))
    }

    /// Whether input waits for a VM. One atomic load.
    #[must_use]
    pub fn has_input(&self, vm: usize) -> bool {
        self.inputs.get(vm).is_some_and(|queue| queue.waiting.load(Ordering::Acquire) != 0)
    }

    /// How many bytes typed for a VM were dropped because it did not read.
    #[must_use]
    pub fn dropped(&self, vm: usize) -> u64 {
        self.inputs.get(vm).map_or(0, |queue| queue.input.lock().dropped())
    }

    /// Throws away what was typed for a VM: it is started anew.
    pub fn forget_input(&self, vm: usize) {
        if let Some(queue) = self.inputs.get(vm) {
            queue.with(Input::clear);
        }
    }

    /// Takes what has arrived at the port, and calls `woken` for each VM that has got input: its console's interrupt is
    /// to be raised. True if the operator wants something: [`Consoles::serve`] is to be called when it suits, and until
    /// then nothing more is received.
    ///
    /// Called on the port's interrupt, or on every tick, by any CPU; if another CPU is at it already, this one has
    /// nothing to do. No lock is held while `woken` runs.
    pub fn poll(&self, woken: impl FnMut(usize)) -> bool {
        let Some(mut keys) = self.keys.try_lock() else { return false };
        let mut typed_for = VmSet::default();
        let order = keys.receive(self.port, |item| self.take(item, &mut typed_for));
        drop(keys);
        typed_for.iter().for_each(woken);
        order
    }

    /// Does what was received; the answer is an order, when one is complete.
    fn take(&self, received: receive::Item<'_>, typed_for: &mut VmSet) -> Option<Order> {
        let meaning = match received {
            receive::Item::Input(vm, bytes) => {
                self.typed(vm, bytes, typed_for);
                return None;
            }
            receive::Item::Key(meaning) => meaning,
        };
        let mut desk = self.desk.lock();
        match (meaning, desk.place()) {
            (Meaning::Typed(key), Place::Vm(vm)) => {
                drop(desk);
                self.typed(vm, &[key], typed_for);
            }
            (Meaning::Typed(key), Place::Monitor) => return desk.monitor_key(key).map(Order::Line),
            (Meaning::PowerOff, _) => return Some(Order::poweroff()),
            (Meaning::Escape, _) => {}
            (Meaning::Monitor, _) => desk.enter_monitor(),
            (Meaning::Help, _) => desk.key_help(),
            (Meaning::Next, _) => {
                let next = desk.next_vm();
                desk.focus(next);
            }
            (Meaning::Vm(vm), _) => {
                if desk.focus(vm) == Focus::NoSuchVm {
                    desk.notice(format_args!("there is no VM {}", vm.saturating_add(1)));
                }
            }
            (Meaning::Unknown, _) => desk.notice(format_args!("no such key; Ctrl-A ? lists them")),
        }
        None
    }

    fn typed(&self, vm: usize, bytes: &[u8], typed_for: &mut VmSet) {
        if let Some(queue) = self.inputs.get(vm) {
            queue.with(|input| input.push(bytes));
            typed_for.insert(vm);
        }
    }

    /// Carries out what the operator wants, prints the output, and reports how it went; `None` if nothing is wanted.
    /// Called with no lock held, by a CPU that may do whatever `operator` does.
    pub fn serve(&self, operator: &dyn Operator) -> Option<CommandResult> {
        let order = self.keys.lock().take_order()?;
        let mut out = MonitorOut::new(&self.desk);
        let result = match &order {
            Order::Line(line) => monitor::execute(line, operator, &mut out),
            Order::TooLong => {
                // The monitor's output has no errors.
                let _printed = writeln!(out, "the line is longer than {} bytes", monitor::LINE_MAX);
                CommandResult::Failed
            }
        };
        out.flush();
        let mut desk = self.desk.lock();
        desk.event(&Event::MonitorDone(result));
        if desk.place() == Place::Monitor {
            desk.prompt();
        }
        Some(result)
    }

    /// Gives a VM the terminal, as [`Operator::focus`] wants it.
    pub fn focus(&self, vm: usize) -> Result<(), Refused> {
        match self.desk.lock().focus(vm) {
            Focus::Given => Ok(()),
            Focus::NoSuchVm => Err(Refused::NoSuchVm),
        }
    }

    /// Whether somebody may be there who starts VMs again. xtask, which splits the consoles, does not: when its VMs
    /// have ended, however they did, the run is over.
    #[must_use]
    pub fn has_operator(&self) -> bool {
        self.mode != LinkMode::Split
    }

    /// Prints a line of Trivet's own for the operator.
    pub fn say(&self, text: fmt::Arguments<'_>) {
        self.desk.lock().notice(text);
    }

    /// Tells xtask of an event; nothing in plain mode.
    pub fn event(&self, event: &Event<'_>) {
        self.desk.lock().event(event);
    }

    /// Sends encoded log bytes; nothing in plain mode.
    pub fn log(&self, bytes: &[u8]) {
        self.desk.lock().send(Stream::Log, bytes);
    }

    /// Reports that Trivet has failed. Waits for no lock: the CPU that holds one may be the one that failed. What was
    /// being sent may be cut by it; the receiver finds its place again.
    pub fn panic(&self, what: &dyn Display) {
        let quiet = self.desk.try_lock();
        write_panic(self.port, Some(self.mode), what);
        drop(quiet);
    }
}

impl fmt::Debug for Consoles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consoles").field("mode", &self.mode).field("vms", &self.inputs.len()).finish_non_exhaustive()
    }
}

impl Queue {
    /// Works on the input and keeps `waiting` true to it.
    fn with<R>(&self, work: impl FnOnce(&mut Input) -> R) -> R {
        let mut input = self.input.lock();
        let result = work(&mut input);
        self.waiting.store(input.len(), Ordering::Release);
        result
    }
}

impl Order {
    fn poweroff() -> Self {
        Line::try_from("poweroff").map_or(Self::TooLong, Self::Line)
    }
}

#[cfg(test)]
mod tests;
