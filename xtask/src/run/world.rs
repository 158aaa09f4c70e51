//! What is known of a run: taken from the console's bytes, frame by frame.

use std::collections::VecDeque;

use hv_core::link::{CommandResult, Decoder, Event, Item, Outcome, PANIC_MARK, Stream, VmEnd};

use super::tail::{Echo, Tail};
use crate::log::Log;

/// How a VM is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not started yet.
    Waits,
    /// Runs.
    Runs,
    /// Has ended.
    Ended(End),
}

/// [`VmEnd`] with its own text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Switched off by itself.
    PowerOff,
    /// Stopped by the operator.
    Stopped,
    /// Its operating system failed; its last words.
    Panic(String),
    /// Any other way, in words.
    Other(String),
}

impl From<VmEnd<'_>> for End {
    fn from(end: VmEnd<'_>) -> Self {
        match end {
            VmEnd::PowerOff => Self::PowerOff,
            VmEnd::Stopped => Self::Stopped,
            VmEnd::GuestPanic(words) => Self::Panic(words.trim().to_owned()),
            VmEnd::Reboot => Self::Other("asked for a reboot".to_owned()),
            VmEnd::OutOfMemory => Self::Other("ran out of the machine's memory".to_owned()),
            VmEnd::Broken(what) => Self::Other(format!("left its architecture: {what}")),
        }
    }
}

/// What a Linux kernel says when it gives up.
const KERNEL_PANIC: &str = "Kernel panic - not syncing: ";

/// One VM's console and state.
pub struct Vm {
    /// Its name.
    pub name: String,
    /// How it is doing.
    pub state: State,
    /// Console output that nobody has taken yet.
    pub unread: Vec<u8>,
    tail: Tail,
}

/// Everything known of a run.
pub struct World {
    decoder: Decoder,
    log: Log,
    log_tail: Tail,
    raw: Tail,
    monitor_tail: Tail,
    /// The VMs in the order of the configuration.
    pub vms: Vec<Vm>,
    /// Trivet has said that it is up.
    pub booted: bool,
    /// Output of the monitor that nobody has taken yet.
    pub monitor: Vec<u8>,
    /// Results of monitor commands that nobody has taken yet.
    pub monitor_done: VecDeque<CommandResult>,
    /// Trivet has refused the bundle or the machine.
    pub refused: Option<String>,
    /// Trivet has failed.
    pub panicked: Option<String>,
    /// Trivet's own verdict.
    pub outcome: Option<Outcome>,
}

impl World {
    /// Nothing known yet.
    pub fn new(names: impl Iterator<Item = String>, log: Log, echo: Echo) -> Self {
        let vm = |name: String| Vm { tail: Tail::new(&name, echo), name, state: State::Waits, unread: Vec::new() };
        Self {
            decoder: Decoder::new(),
            log,
            log_tail: Tail::new("trivet's log", echo),
            raw: Tail::new("outside of the protocol", echo),
            monitor_tail: Tail::new("monitor", echo),
            vms: names.map(vm).collect(),
            booted: false,
            monitor: Vec::new(),
            monitor_done: VecDeque::new(),
            refused: None,
            panicked: None,
            outcome: None,
        }
    }

    /// Takes console bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut decoder = std::mem::take(&mut self.decoder);
        decoder.feed(bytes, |item| self.item(item));
        self.decoder = decoder;
    }

    /// No more bytes will come.
    pub fn finish(&mut self) {
        let mut decoder = std::mem::take(&mut self.decoder);
        decoder.finish(|item| self.item(item));
        if self.raw.has_begun() {
            self.raw.end_line();
        }
        self.look_for_panic();
    }

    fn item(&mut self, item: Item<'_>) {
        match item {
            Item::Raw(text) => {
                self.raw.feed(text);
                self.look_for_panic();
            }
            Item::Frame(Stream::Terminal, text) => self.raw.feed(text),
            Item::Frame(Stream::Log, bytes) => {
                for line in self.log.feed(bytes) {
                    self.log_tail.feed(line.as_bytes());
                    self.log_tail.end_line();
                }
            }
            Item::Frame(Stream::Monitor, text) => {
                self.monitor_tail.feed(text);
                self.monitor.extend(text);
            }
            Item::Frame(Stream::Console(vm), text) => {
                if let Some(vm) = self.vms.get_mut(usize::from(vm)) {
                    vm.tail.feed(text);
                    vm.unread.extend(text);
                }
            }
            Item::Frame(Stream::Event, payload) => {
                if let Some(event) = Event::decode(payload) {
                    self.event(event);
                }
            }
        }
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Booted { .. } => self.booted = true,
            Event::VmStarted(vm) => self.set_state(vm, State::Runs),
            Event::VmEnded(vm, end) => self.set_state(vm, State::Ended(self.end(vm, end))),
            Event::MonitorDone(result) => self.monitor_done.push_back(result),
            Event::Refused(why) => self.refused = Some(why.to_owned()),
            Event::Panic(what) => self.panicked = Some(what.split_whitespace().collect::<Vec<_>>().join(" ")),
            Event::PoweringOff(outcome) => self.outcome = Some(outcome),
        }
    }

    fn set_state(&mut self, vm: u8, state: State) {
        let Some(vm) = self.vms.get_mut(usize::from(vm)) else { return };
        match state {
            // That it has panicked is not forgotten because it starts again.
            State::Runs if matches!(vm.state, State::Ended(End::Panic(_))) => return,
            State::Runs => vm.unread.clear(),
            State::Waits | State::Ended(_) => {}
        }
        vm.state = state;
    }

    /// How a VM has ended. Where the platform has no call for an operating system that has failed, it reboots at once (the
    /// board's command line says so), and its last lines tell why.
    fn end(&self, vm: u8, end: VmEnd<'_>) -> End {
        let words = |vm: &Vm| {
            let line =
                vm.tail.lines().filter_map(|line| Some(line.split_once(KERNEL_PANIC)?.1.trim().to_owned())).last();
            line.filter(|_| end == VmEnd::Reboot)
        };
        self.vms.get(usize::from(vm)).and_then(words).map_or_else(|| end.into(), End::Panic)
    }

    fn look_for_panic(&mut self) {
        if self.panicked.is_none() {
            let line = self.raw.lines().find(|line| line.starts_with(PANIC_MARK));
            self.panicked =
                line.map(|line| line.trim_start_matches(PANIC_MARK).trim_start_matches([':', ' ']).to_owned());
        }
    }

    /// The first line outside of the protocol that contains `word`.
    pub fn raw_line(&self, word: &str) -> Option<String> {
        self.raw.lines().find(|line| line.contains(word)).cloned()
    }

    /// Prints what was kept of every channel, for the report of a failure.
    pub fn print_tails(&self) {
        self.raw.print();
        self.log_tail.print();
        self.monitor_tail.print();
        for vm in &self.vms {
            vm.tail.print();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{End, State, World};
    use crate::log::Log;
    use crate::run::tail::Echo;
    use hv_core::link::{Event, Frame, Stream, VmEnd};

    fn world() -> World {
        World::new(["a", "b"].map(str::to_owned).into_iter(), Log::none(), Echo::Kept)
    }

    #[test]
    fn frames_reach_their_vm_and_strangers_are_ignored() {
        let mut world = world();
        for (vm, text) in [(1, b"one"), (9, b"xxx")] {
            world.feed(Frame::new(Stream::Console(vm), text).unwrap().as_bytes());
        }
        world.feed(Frame::event(&Event::VmEnded(0, VmEnd::GuestPanic("oops\n"))).unwrap().as_bytes());
        assert_eq!(world.vms[1].unread, b"one");
        assert_eq!(world.vms[0].state, State::Ended(End::Panic("oops".into())));
    }

    #[test]
    fn a_guest_that_reboots_because_of_a_panic_has_panicked() {
        let said = |world: &mut World, text: &str| {
            world.feed(Frame::new(Stream::Console(0), text.as_bytes()).unwrap().as_bytes());
        };
        let event = |world: &mut World, event: &Event<'_>| world.feed(Frame::event(event).unwrap().as_bytes());
        let mut world = world();
        said(&mut world, "all is well\r\n");
        event(&mut world, &Event::VmEnded(0, VmEnd::Reboot));
        assert!(matches!(world.vms[0].state, State::Ended(End::Other(_))));
        event(&mut world, &Event::VmStarted(0));
        assert_eq!(world.vms[0].state, State::Runs);
        said(&mut world, "[   12.5] Kernel panic - not syncing: sysrq\r\n[   12.6] CPU: 0\r\n");
        event(&mut world, &Event::VmEnded(0, VmEnd::PowerOff));
        assert_eq!(world.vms[0].state, State::Ended(End::PowerOff));
        event(&mut world, &Event::VmEnded(0, VmEnd::Reboot));
        event(&mut world, &Event::VmStarted(0));
        assert_eq!(world.vms[0].state, State::Ended(End::Panic("sysrq".into())));
    }

    #[test]
    fn a_panic_is_seen_in_raw_text_even_inside_a_torn_frame() {
        let mut world = world();
        let frame = Frame::new(Stream::Console(0), b"torn").unwrap();
        world.feed(&frame.as_bytes()[..4]);
        world.feed(b"\r\nTRIVET PANIC: at x.rs:7: reason");
        world.finish();
        assert_eq!(world.panicked.as_deref(), Some("at x.rs:7: reason"));
    }
}
