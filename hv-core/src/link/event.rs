//! What Trivet tells xtask beside the streams: one frame an event.

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::{PANIC_MARK, Stream};

/// What Trivet tells xtask beside the streams. VMs are named by their index in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event<'a> {
    /// Trivet is up, VMs are not started yet.
    Booted {
        /// Physical CPUs that run.
        cpus: u16,
        /// The machine's memory in bytes.
        memory: u64,
        /// Of it, what Trivet holds itself: image, tables, metadata, heap.
        own: u64,
    },
    /// A VM runs.
    VmStarted(u8),
    /// A VM has ended.
    VmEnded(u8, VmEnd<'a>),
    /// The monitor has carried out one command line.
    MonitorDone(CommandResult),
    /// The bundle or the machine was refused, and why.
    Refused(&'a str),
    /// Trivet failed. The full text comes as raw text that begins with [`PANIC_MARK`].
    Panic(&'a str),
    /// The run is over; the machine is switched off next.
    PoweringOff(Outcome),
}

impl Event<'_> {
    /// The longest text an event may carry, in bytes.
    pub const MAX_TEXT: usize = 200;

    /// The beginning of `text` that fits an event, cut at a character.
    #[must_use]
    pub fn fit(text: &str) -> &str {
        let end = (0..=Self::MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        if text.len() <= Self::MAX_TEXT { text } else { text.get(..end).unwrap_or("") }
    }

    /// Reads the payload of a frame of [`Stream::Event`].
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Event<'_>> {
        postcard::from_bytes(payload).ok()
    }
}

/// How a VM ended, as [`crate::vcpu::exit::End`] with the guest's last words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VmEnd<'a> {
    /// The guest switched itself off.
    PowerOff,
    /// The guest asked to be started anew.
    Reboot,
    /// The guest's operating system failed; its last words.
    GuestPanic(&'a str),
    /// The operator stopped it.
    Stopped,
    /// Memory was needed that the machine does not have.
    OutOfMemory,
    /// The guest left its architecture; what it did.
    Broken(&'a str),
}

/// How a monitor command went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandResult {
    /// It was carried out.
    Done,
    /// It was not understood, or could not be carried out; its output says why.
    Failed,
}

/// How a whole run went, as [`crate::machine::Verdict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Every guest ended well.
    Success,
    /// A guest or Trivet failed.
    Failure,
}
