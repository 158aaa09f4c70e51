//! The interactive console: the user's terminal becomes the machine's. Keys pass untouched; Trivet knows the escape
//! key. Only one thing is kept back, for a Trivet that hangs: Ctrl-] three times within a second ends the emulator.

use std::io::{IsTerminal as _, Read as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hv_core::link::{Decoder, Event, Item, Outcome, PANIC_MARK, Stream, VmEnd, frames};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::tail::Echo;
use crate::emulator::{Emulator, Happened};
use crate::log::Log;

const FORCE_KEY: u8 = 0x1d;
const FORCE_COUNT: usize = 3;

/// The terminal in raw mode; back to what it was when dropped.
struct RawMode(Option<Termios>);

impl RawMode {
    fn enter() -> Result<Self> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(Self(None));
        }
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // If the terminal is gone, nobody misses its mode.
            let _restored = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// What the streams said about how things went.
#[derive(Default)]
struct Said {
    failures: Vec<String>,
    outcome: Option<Outcome>,
}

/// Connects terminal and machine until the machine is switched off.
pub fn run(emulator: &mut Emulator, names: &[String], mut log: Log, echo: Echo) -> Result<()> {
    let force = Arc::new(AtomicBool::new(false));
    if std::io::stdin().is_terminal() {
        eprintln!("Ctrl-A x switches the machine off, Ctrl-A m is the monitor, Ctrl-A ? lists the keys");
    }
    let mode = RawMode::enter()?;
    if let Some(input) = emulator.take_input() {
        let force = Arc::clone(&force);
        thread::spawn(move || keys(input, &force));
    }
    let mut decoder = Decoder::new();
    let mut said = Said::default();
    let status = loop {
        if force.load(Ordering::Relaxed) {
            drop(mode);
            bail!("the emulator was ended by Ctrl-]");
        }
        match emulator.next(Instant::now() + Duration::from_millis(200))? {
            Happened::Bytes(bytes) => decoder.feed(&bytes, |item| show(item, names, &mut log, echo, &mut said)),
            Happened::Silence => {}
            Happened::Ended(status) => break status,
        }
    };
    decoder.finish(|item| show(item, names, &mut log, echo, &mut said));
    drop(mode);
    if !said.failures.is_empty() {
        bail!("{}", said.failures.join("; "));
    }
    match (said.outcome, status.success()) {
        (Some(Outcome::Success), true) => Ok(()),
        (Some(Outcome::Failure), _) => bail!("Trivet reports that the run failed"),
        (None, true) => bail!("the machine went off without a verdict of Trivet"),
        (_, false) => {
            let complaints = emulator.complaints();
            bail!("the emulator ended with {status}\n{}", complaints.trim_end())
        }
    }
}

fn show(item: Item<'_>, names: &[String], log: &mut Log, echo: Echo, said: &mut Said) {
    let name = |vm: u8| names.get(usize::from(vm)).map_or("?", String::as_str);
    match item {
        Item::Raw(text) | Item::Frame(Stream::Terminal, text) => {
            let mut stdout = std::io::stdout().lock();
            // A terminal that is gone ends the run by its own signal.
            let _shown = stdout.write_all(text).and_then(|()| stdout.flush());
        }
        Item::Frame(Stream::Log, bytes) => {
            let lines = log.feed(bytes);
            if echo == Echo::Shown {
                // The terminal is raw: a line needs its own carriage return.
                lines.iter().for_each(|line| eprint!("[trivet's log] {line}\r\n"));
            }
        }
        Item::Frame(Stream::Event, payload) => match Event::decode(payload) {
            Some(Event::VmEnded(vm, VmEnd::GuestPanic(words))) => {
                said.failures.push(format!("guest kernel panic in {}: {}", name(vm), words.trim()));
            }
            Some(Event::Panic(what)) => said.failures.push(format!("Trivet panicked: {}", what.trim())),
            Some(Event::Refused(why)) => said.failures.push(format!("Trivet refused to start: {why}")),
            Some(Event::PoweringOff(outcome)) => said.outcome = Some(outcome),
            _ => {}
        },
        Item::Frame(Stream::Monitor | Stream::Console(_), _) => {}
    }
    if let Item::Raw(text) = item
        && String::from_utf8_lossy(text).contains(PANIC_MARK)
        && said.failures.is_empty()
    {
        said.failures.push("Trivet panicked; see its last lines above".to_owned());
    }
}

/// Sends what is typed, until input ends.
fn keys(mut input: impl Write, force: &AtomicBool) {
    let mut presses: Vec<Instant> = Vec::new();
    let mut buffer = [0; 128];
    while let Ok(count @ 1..) = std::io::stdin().lock().read(&mut buffer) {
        let typed = buffer.get(..count).unwrap_or_default();
        let now = Instant::now();
        presses.retain(|press| now.duration_since(*press) < Duration::from_secs(1));
        presses.extend(typed.iter().filter(|key| **key == FORCE_KEY).map(|_| now));
        if presses.len() >= FORCE_COUNT {
            force.store(true, Ordering::Relaxed);
        }
        for frame in frames(Stream::Terminal, typed) {
            if input.write_all(frame.as_bytes()).and_then(|()| input.flush()).is_err() {
                return;
            }
        }
    }
}
