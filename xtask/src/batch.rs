//! Boots an image that does one thing and switches off, and collects what it writes: conformance and benchmarks.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hv_core::link::{Decoder, Item, PANIC_MARK, Stream};

use crate::emulator::{Emulator, Exit, Happened, Launch};

/// What a bare-metal guest says before its end if something is wrong, where its platform knows no failed operating system.
const GUEST_FAILED: &str = "GUEST FAILED: ";

/// What an image has written, and how it ended.
pub struct Written {
    /// Its lines.
    pub lines: Vec<String>,
    /// How the emulator ended.
    pub status: Exit,
}

/// Runs it for `timeout` at most. A panic of Trivet is an error, and so is a guest that says that it has failed.
pub fn run(launch: &Launch<'_>, timeout: Duration) -> Result<Written> {
    let mut emulator = Emulator::start(launch)?;
    let deadline = Instant::now() + timeout;
    let mut decoder = Decoder::new();
    let mut text = Vec::new();
    let mut collect = |item: Item<'_>| match item {
        Item::Raw(bytes) | Item::Frame(Stream::Terminal, bytes) => text.extend_from_slice(bytes),
        Item::Frame(..) => {}
    };
    let ended = loop {
        match emulator.next(deadline)? {
            Happened::Bytes(bytes) => decoder.feed(&bytes, &mut collect),
            Happened::Ended(status) => break Some(status),
            Happened::Silence => break None,
        }
    };
    decoder.finish(&mut collect);
    let lines: Vec<String> = String::from_utf8_lossy(&text).lines().map(|line| line.trim_end().to_owned()).collect();
    let last = || lines.iter().rev().take(20).rev().map(String::as_str).collect::<Vec<_>>().join("\n");
    if let Some(line) = lines.iter().find(|line| line.contains(PANIC_MARK)) {
        bail!("Trivet panicked: {line}");
    }
    if let Some(line) = lines.iter().find(|line| line.contains(GUEST_FAILED)) {
        bail!("{line}");
    }
    match ended {
        Some(status) => Ok(Written { lines, status }),
        None => bail!("the image did not end within {} s; its last lines:\n{}", timeout.as_secs(), last()),
    }
}
