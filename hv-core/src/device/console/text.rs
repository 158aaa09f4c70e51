//! Text of Trivet's own that does not go through the desk line by line: the monitor's output, and last words.

use core::fmt::{self, Display, Write};

use super::desk::Desk;
use crate::link::{Event, Frame, LinkMode, MAX_PAYLOAD, PANIC_MARK};
use crate::machine::Console;
use crate::sync::Mutex;

/// The monitor's output, sent line by line so that it costs few frames.
pub(super) struct MonitorOut<'c> {
    desk: &'c Mutex<Desk>,
    held: heapless::String<MAX_PAYLOAD>,
}

impl<'c> MonitorOut<'c> {
    pub(super) const fn new(desk: &'c Mutex<Desk>) -> Self {
        Self { desk, held: heapless::String::new() }
    }

    /// Sends what is held.
    pub(super) fn flush(&mut self) {
        self.desk.lock().monitor_text(&self.held);
        self.held.clear();
    }
}

impl Write for MonitorOut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.held.push(c).is_err() {
                self.flush();
                // An empty buffer has room for any character.
                self.held.push(c).map_err(|_| fmt::Error)?;
            }
            if c == '\n' {
                self.flush();
            }
        }
        Ok(())
    }
}

/// Text straight to the port, line ends as a terminal wants them. For whoever runs without [`Consoles`](super::Consoles).
pub struct PortText(pub &'static dyn Console);

impl Write for PortText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for_terminal(text, &mut |part| self.0.write(part));
        Ok(())
    }
}

/// Gives `send` a text piece by piece: lines end in `\n`, a terminal wants a return as well.
pub(super) fn for_terminal(text: &str, send: &mut dyn FnMut(&[u8])) {
    for part in text.as_bytes().split_inclusive(|byte| *byte == b'\n') {
        match part.strip_suffix(b"\n") {
            Some(line) => {
                send(line);
                send(b"\r\n");
            }
            None => send(part),
        }
    }
}

/// The beginning of a text that fits an event.
struct Short(heapless::String<{ Event::MAX_TEXT }>);

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.0.push(c)).map_err(|_| fmt::Error)
    }
}

impl Short {
    fn of(text: &dyn Display) -> Self {
        let mut short = Self(heapless::String::new());
        // What does not fit is left out.
        let _cut = write!(short, "{text}");
        short
    }
}

/// Reports that Trivet has failed, on a port of which nothing is known but perhaps its mode. Takes no lock.
///
/// For panics before there are consoles; afterwards [`Consoles::panic`](super::Consoles::panic) is better.
pub fn write_panic(port: &'static dyn Console, mode: Option<LinkMode>, what: &dyn Display) {
    last_words(port, mode, format_args!("{PANIC_MARK}: {what}"), &Event::Panic(&Short::of(what).0));
}

/// Reports that Trivet does not run what it was given, before there are consoles. `mode` is `None` if the bundle could
/// not even be read so far; then it is said in both ways.
pub fn write_refusal(port: &'static dyn Console, mode: Option<LinkMode>, why: &dyn Display) {
    last_words(port, mode, format_args!("TRIVET REFUSES: {why}"), &Event::Refused(&Short::of(why).0));
}

fn last_words(port: &'static dyn Console, mode: Option<LinkMode>, text: fmt::Arguments<'_>, event: &Event<'_>) {
    if mode != Some(LinkMode::Plain) {
        // Ends a frame that was being sent, so that the text is not taken for a part of it.
        port.write(&[0]);
    }
    // The port reports no errors, and a text that fails to format is cut.
    let _cut = write!(PortText(port), "\n{text}\n");
    if mode != Some(LinkMode::Plain)
        && let Some(frame) = Frame::event(event)
    {
        port.write(frame.as_bytes());
    }
}
