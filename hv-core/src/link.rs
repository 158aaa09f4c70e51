//! The byte protocol between Trivet and `cargo xtask run` on the machine's one console.
//!
//! ```text
//! console bytes = raw text, frames in between
//! frame         = 0x00  COBS(stream byte, payload of 1..=240 bytes)  0x00
//! ```
//!
//! - A frame has a zero byte before and after it. Raw text has none. What firmware or a panic writes needs no framing
//!   and passes as [`Item::Raw`].
//! - The receiver is in text until a zero byte, then in a frame until the next. Zero bytes in a row count as one
//!   start. A frame that does not decode is handed on as raw text (a panic may have cut a frame in two), and the zero
//!   that ended it counts as a start. So a receiver that lost its place finds it again within one frame.
//! - Both directions use the same frames. A stream's bytes are a plain byte stream: frame borders mean nothing, except
//!   on [`Stream::Event`], where each frame is one [`Event`] in postcard.
//! - To Trivet: [`Stream::Terminal`] carries keys, [`Stream::Monitor`] command lines that end in `\n`,
//!   [`Stream::Console`] input of that VM.
//!
//! Which streams are used is the [`LinkMode`] of the bundle. Nothing here allocates, and every byte sequence has a
//! meaning (R26: either end may be hostile).

mod event;

use serde::{Deserialize, Serialize};

pub use event::{CommandResult, Event, Outcome, VmEnd};

/// Most payload bytes in one frame. Below 254, so that COBS adds exactly one byte.
pub const MAX_PAYLOAD: usize = 240;
/// Most bytes of one frame on the wire: two delimiters, one COBS code, the stream byte, the payload.
pub const MAX_FRAME: usize = MAX_PAYLOAD + 4;
/// Most bytes of one line that xtask sends to a VM or to the monitor, with its `\n`; receivers have room for one.
pub const MAX_LINE: usize = 2048;
/// What a line of raw text begins with if Trivet itself failed.
pub const PANIC_MARK: &str = "TRIVET PANIC";
/// What the last line of raw text begins with on boards whose machine has no exit status for everyone who runs it. After it
/// come a colon, a space and [`ENDED_WELL`] or [`ENDED_BADLY`].
pub const ENDS_MARK: &str = "TRIVET ENDS";
/// See [`ENDS_MARK`]: every guest ended well.
pub const ENDED_WELL: &str = "success";
/// See [`ENDS_MARK`]: one did not, or Trivet itself.
pub const ENDED_BADLY: &str = "failure";

/// What the console carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkMode {
    /// No frames: the terminal's bytes only, the log is dropped. What a person at a bare serial line wants.
    Plain,
    /// Frames: the terminal (one VM in focus), the log, events.
    Terminal,
    /// Frames: each VM's console by itself, the monitor, the log, events.
    Split,
}

/// Names a stream of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The operator's terminal.
    Terminal,
    /// defmt's encoded log (rzCOBS frames in a byte stream of their own).
    Log,
    /// [`Event`]s.
    Event,
    /// The monitor's output, or its command lines.
    Monitor,
    /// The console of the VM with this index in the configuration, below [`Stream::CONSOLES`].
    Console(u8),
}

impl Stream {
    /// How many consoles the protocol can name.
    pub const CONSOLES: u8 = 16;
    const FIRST_CONSOLE: u8 = 16;

    /// The byte on the wire; `None` for a console that the protocol cannot name.
    #[must_use]
    pub const fn to_byte(self) -> Option<u8> {
        match self {
            Self::Terminal => Some(0),
            Self::Log => Some(1),
            Self::Event => Some(2),
            Self::Monitor => Some(3),
            Self::Console(vm) if vm < Self::CONSOLES => Self::FIRST_CONSOLE.checked_add(vm),
            Self::Console(_) => None,
        }
    }

    /// The stream a byte names, if it names one.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Terminal),
            1 => Some(Self::Log),
            2 => Some(Self::Event),
            3 => Some(Self::Monitor),
            _ => match byte.checked_sub(Self::FIRST_CONSOLE) {
                Some(vm) if vm < Self::CONSOLES => Some(Self::Console(vm)),
                _ => None,
            },
        }
    }
}

/// One frame, ready for the wire.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    bytes: [u8; MAX_FRAME],
    len: usize,
}

impl Frame {
    /// Frames `payload`; `None` if it is empty, longer than [`MAX_PAYLOAD`], or the stream has no name on the wire.
    #[must_use]
    pub fn new(stream: Stream, payload: &[u8]) -> Option<Self> {
        if payload.is_empty() {
            return None;
        }
        let mut plain = [0; MAX_PAYLOAD + 1];
        let (first, rest) = plain.split_first_mut()?;
        *first = stream.to_byte()?;
        rest.get_mut(..payload.len())?.copy_from_slice(payload);
        let plain = plain.get(..payload.len().checked_add(1)?)?;
        let mut bytes = [0; MAX_FRAME];
        let body = bytes.get_mut(1..MAX_FRAME - 1)?;
        let coded = cobs::try_encode(plain, body).ok()?;
        Some(Self { bytes, len: coded.checked_add(2)? })
    }

    /// Frames an event; `None` if its texts are too long (see [`Event::fit`]).
    #[must_use]
    pub fn event(event: &Event<'_>) -> Option<Self> {
        let mut payload = [0; MAX_PAYLOAD];
        let payload = postcard::to_slice(event, &mut payload).ok()?;
        Self::new(Stream::Event, payload)
    }

    /// The bytes to send, delimiters included.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

/// Cuts `bytes` into frames of `stream`.
pub fn frames(stream: Stream, bytes: &[u8]) -> impl Iterator<Item = Frame> {
    bytes.chunks(MAX_PAYLOAD).filter_map(move |payload| Frame::new(stream, payload))
}

/// What a [`Decoder`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// Bytes outside every frame.
    Raw(&'a [u8]),
    /// A frame's payload.
    Frame(Stream, &'a [u8]),
}

/// Takes the console's bytes apart.
#[derive(Debug)]
pub struct Decoder {
    /// The coded bytes of the frame being received.
    held: [u8; MAX_FRAME],
    len: usize,
    in_frame: bool,
}

impl Decoder {
    /// A decoder at the beginning of the stream, in text.
    #[must_use]
    pub const fn new() -> Self {
        Self { held: [0; MAX_FRAME], len: 0, in_frame: false }
    }

    /// Takes more bytes; calls `sink` for each item in their order.
    pub fn feed(&mut self, bytes: &[u8], mut sink: impl FnMut(Item<'_>)) {
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            if *first == 0 {
                self.delimiter(&mut sink);
                rest = rest.get(1..).unwrap_or(&[]);
                continue;
            }
            let run = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            let (now, later) = rest.split_at(run);
            self.run(now, &mut sink);
            rest = later;
        }
    }

    /// The stream has ended, or has been silent so long that no frame can be on its way: hands out what is held.
    pub fn finish(&mut self, mut sink: impl FnMut(Item<'_>)) {
        self.spill(&mut sink);
        self.in_frame = false;
    }

    /// Bytes without a zero among them.
    fn run(&mut self, bytes: &[u8], sink: &mut impl FnMut(Item<'_>)) {
        if self.in_frame {
            let end = self.len.saturating_add(bytes.len());
            if let Some(room) = self.held.get_mut(self.len..end) {
                room.copy_from_slice(bytes);
                self.len = end;
                return;
            }
            // Longer than any frame: it was text all along.
            self.spill(sink);
            self.in_frame = false;
        }
        sink(Item::Raw(bytes));
    }

    fn delimiter(&mut self, sink: &mut impl FnMut(Item<'_>)) {
        if !self.in_frame || self.len == 0 {
            self.in_frame = true;
            return;
        }
        let mut plain = [0; MAX_FRAME];
        match open(self.held.get(..self.len).unwrap_or(&[]), &mut plain) {
            Some((stream, payload)) => {
                self.len = 0;
                self.in_frame = false;
                sink(Item::Frame(stream, payload));
            }
            None => self.spill(sink),
        }
    }

    fn spill(&mut self, sink: &mut impl FnMut(Item<'_>)) {
        let held = self.held.get(..self.len).unwrap_or(&[]);
        if !held.is_empty() {
            sink(Item::Raw(held));
        }
        self.len = 0;
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Decodes the inside of a frame.
fn open<'p>(coded: &[u8], plain: &'p mut [u8]) -> Option<(Stream, &'p [u8])> {
    let len = cobs::decode(coded, plain).ok()?;
    let (stream, payload) = plain.get(..len)?.split_first()?;
    let fits = !payload.is_empty() && payload.len() <= MAX_PAYLOAD;
    Some((Stream::from_byte(*stream)?, payload)).filter(|_| fits)
}

#[cfg(test)]
mod tests;
