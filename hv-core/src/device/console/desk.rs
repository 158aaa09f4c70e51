//! The output side: who has the terminal, what the others printed meanwhile, and how it goes over the wire.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::keys;
use super::ring::Backlog;
use super::text::for_terminal;
use crate::guest::manifest::MAX_NAME;
use crate::link::{Event, Frame, LinkMode, Stream, frames};
use crate::machine::Console;
use crate::monitor::{Key, Line, LineReader};

/// What the monitor shows when it waits for a command.
const PROMPT: &[u8] = b"trivet> ";

/// Who has the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The VM with this number.
    Vm(usize),
    /// The monitor.
    Monitor,
}

/// Where the terminal's cursor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    First,
    Other,
}

/// One VM's share of the output side.
#[derive(Debug)]
struct Screen {
    name: heapless::String<MAX_NAME>,
    backlog: Backlog,
}

/// The output side. Everything that leaves through the port in the course of normal running goes through here.
pub(super) struct Desk {
    port: &'static dyn Console,
    mode: LinkMode,
    place: Place,
    /// The VM that had the terminal before the monitor.
    last_vm: usize,
    column: Column,
    line: LineReader,
    screens: Vec<Screen>,
}

impl Desk {
    pub(super) fn new<'n>(
        port: &'static dyn Console,
        mode: LinkMode,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Self {
        // A name that is too long cannot come out of a validated configuration; its number names the VM as well.
        let screen =
            |name| Screen { name: heapless::String::try_from(name).unwrap_or_default(), backlog: Backlog::new() };
        let screens = names.into_iter().map(screen).collect();
        let line = LineReader::new();
        Self { port, mode, place: Place::Vm(0), last_vm: 0, column: Column::First, line, screens }
    }

    pub(super) fn vms(&self) -> usize {
        self.screens.len()
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// A VM's name; empty if there is no such VM.
    pub(super) fn name(&self, vm: usize) -> heapless::String<MAX_NAME> {
        self.screens.get(vm).map(|screen| screen.name.clone()).unwrap_or_default()
    }

    /// Sends bytes of a stream; in plain mode there is one, the terminal.
    pub(super) fn send(&mut self, stream: Stream, bytes: &[u8]) {
        match self.mode {
            LinkMode::Plain if stream == Stream::Terminal => self.port.write(bytes),
            LinkMode::Plain => {}
            LinkMode::Terminal | LinkMode::Split => {
                // One write a frame, so that nothing comes between its bytes.
                frames(stream, bytes).for_each(|frame| self.port.write(frame.as_bytes()));
            }
        }
    }

    pub(super) fn event(&mut self, event: &Event<'_>) {
        if self.mode != LinkMode::Plain
            && let Some(frame) = Frame::event(event)
        {
            self.port.write(frame.as_bytes());
        }
    }

    /// Bytes for the person at the terminal, as they are.
    fn show(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            self.column = if *last == b'\n' { Column::First } else { Column::Other };
            self.send(Stream::Terminal, bytes);
        }
    }

    /// Trivet's own text for the terminal.
    pub(super) fn show_text(&mut self, text: &str) {
        for_terminal(text, &mut |part| self.show(part));
    }

    /// The monitor's output.
    pub(super) fn monitor_text(&mut self, text: &str) {
        match self.mode {
            LinkMode::Split => self.send(Stream::Monitor, text.as_bytes()),
            LinkMode::Plain | LinkMode::Terminal => self.show_text(text),
        }
    }

    /// One line of Trivet's own between whatever the terminal shows. It never reaches a guest nor a split console.
    pub(super) fn notice(&mut self, text: fmt::Arguments<'_>) {
        if self.column == Column::Other {
            self.show(b"\r\n");
        }
        // A full pipe has no error to report; the text of `fmt` traits that fail is cut.
        let _cut = writeln!(ShowText(self), "[trivet] {text}");
        if self.place == Place::Monitor && self.mode != LinkMode::Split {
            self.prompt();
        }
    }

    /// The prompt, with what has been typed behind it so far.
    pub(super) fn prompt(&mut self) {
        if self.column == Column::Other {
            self.show(b"\r\n");
        }
        self.show(PROMPT);
        let mut typed = Line::new();
        // The editor's own line fits in a line.
        let _fits = typed.push_str(self.line.text());
        self.show(typed.as_bytes());
    }

    /// A VM's console output.
    pub(super) fn output(&mut self, vm: usize, bytes: &[u8]) {
        if self.mode == LinkMode::Split {
            if let Ok(number) = u8::try_from(vm) {
                self.send(Stream::Console(number), bytes);
            }
        } else if self.place == Place::Vm(vm) {
            self.show(bytes);
        } else if let Some(screen) = self.screens.get_mut(vm) {
            screen.backlog.push(bytes);
        }
    }

    /// Gives the terminal to a VM, and shows what it printed since it last had it.
    pub(super) fn focus(&mut self, vm: usize) -> Focus {
        if vm >= self.screens.len() {
            return Focus::NoSuchVm;
        }
        if self.place != Place::Vm(vm) && self.mode != LinkMode::Split {
            // First the notice, then the place: a prompt after the notice would be one too many.
            self.place = Place::Vm(vm);
            let name = self.name(vm);
            self.notice(format_args!("VM {} {name}", vm.saturating_add(1)));
            self.show_backlog(vm);
        }
        self.place = Place::Vm(vm);
        self.last_vm = vm;
        Focus::Given
    }

    fn show_backlog(&mut self, vm: usize) {
        let Some(screen) = self.screens.get_mut(vm) else { return };
        let forgotten = screen.backlog.forgotten();
        if forgotten != 0 {
            self.notice(format_args!("{forgotten} bytes skipped"));
        }
        let mut part = [0; 256];
        while let Some(screen) = self.screens.get_mut(vm).filter(|screen| !screen.backlog.is_empty()) {
            let len = screen.backlog.take(&mut part);
            self.show(part.get(..len).unwrap_or(&[]));
        }
    }

    /// The VM after the one that has, or last had, the terminal.
    pub(super) fn next_vm(&self) -> usize {
        self.last_vm.saturating_add(1).checked_rem(self.screens.len()).unwrap_or(0)
    }

    /// Gives the terminal to the monitor.
    pub(super) fn enter_monitor(&mut self) {
        if self.place != Place::Monitor {
            self.notice(format_args!("monitor; \"help\" lists the commands, Ctrl-D leads back"));
            self.place = Place::Monitor;
        }
        self.prompt();
    }

    /// A key for the monitor; a whole line is the answer when it was entered.
    pub(super) fn monitor_key(&mut self, key: u8) -> Option<Line> {
        let mut echo = heapless::Vec::<u8, { 4 * crate::monitor::LINE_MAX }>::new();
        let answer = self.line.key(key, |bytes| {
            // Room for the longest echo, which erases a whole line.
            let _fits = echo.extend_from_slice(bytes);
        });
        self.show(&echo);
        match answer {
            Key::Edited => None,
            Key::Entered(line) if line.trim_ascii().is_empty() => {
                self.prompt();
                None
            }
            Key::Entered(line) => Some(line),
            Key::Cancelled => {
                self.prompt();
                None
            }
            Key::Leave => {
                self.focus(self.last_vm);
                None
            }
        }
    }

    /// The list of escape keys.
    pub(super) fn key_help(&mut self) {
        self.notice(format_args!("keys"));
        self.show_text(keys::HELP);
        if self.place == Place::Monitor {
            self.prompt();
        }
    }
}

/// How [`Desk::focus`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Focus {
    /// The VM has the terminal.
    Given,
    /// Nothing has changed.
    NoSuchVm,
}

/// Trivet's own text on the terminal.
struct ShowText<'d>(&'d mut Desk);

impl Write for ShowText<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.show_text(text);
        Ok(())
    }
}
