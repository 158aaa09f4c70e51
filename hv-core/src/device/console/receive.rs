//! The input side: bytes of the port become keys, input of VMs, and orders to the monitor.

use super::Order;
use super::keys::{Escape, Meaning};
use crate::link::{Decoder, Item as LinkItem, LinkMode, MAX_PAYLOAD, Stream};
use crate::machine::Console;
use crate::monitor::Line;

/// Bytes taken from the port at once.
const CHUNK: usize = 64;
/// Chunks taken in one call, so that a port that never runs dry does not keep the CPU for ever.
const CHUNKS: usize = 64;

/// What has been received.
#[derive(Debug)]
pub(super) enum Item<'b> {
    /// A key of the terminal.
    Key(Meaning),
    /// Input of a VM, from its own stream.
    Input(usize, &'b [u8]),
}

/// The state of the input side.
pub(super) struct Receiver {
    mode: LinkMode,
    decoder: Decoder,
    escape: Escape,
    /// Bytes of the terminal's stream, or of the monitor's in split mode, that wait their turn.
    pending: heapless::Deque<u8, { 2 * (MAX_PAYLOAD + CHUNK) }>,
    line: Line,
    length: Length,
    /// An order that nobody has taken. Nothing more is received before it is.
    order: Option<Order>,
}

/// Whether the monitor's line fits so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Length {
    #[default]
    Fits,
    TooLong,
}

impl Receiver {
    pub(super) const fn new(mode: LinkMode) -> Self {
        Self {
            mode,
            decoder: Decoder::new(),
            escape: Escape::Idle,
            pending: heapless::Deque::new(),
            line: Line::new(),
            length: Length::Fits,
            order: None,
        }
    }

    /// The order that waits. It must be carried out before anything behind it is looked at.
    pub(super) fn take_order(&mut self) -> Option<Order> {
        self.order.take()
    }

    /// Passes what waits, then what the port has, to `sink`, whose answer may be an order. Stops at an order; true if
    /// there is one.
    pub(super) fn receive(&mut self, port: &dyn Console, mut sink: impl FnMut(Item<'_>) -> Option<Order>) -> bool {
        let mut chunk = [0; CHUNK];
        for _ in 0..CHUNKS {
            while self.order.is_none()
                && let Some(byte) = self.pending.pop_front()
            {
                self.order = self.digest(byte, &mut sink);
            }
            if self.order.is_some() {
                return true;
            }
            let len = port.read(&mut chunk).min(CHUNK);
            if len == 0 {
                return false;
            }
            self.unwrap(chunk.get(..len).unwrap_or(&[]), &mut sink);
        }
        false
    }

    /// Takes the frames apart. Input of VMs is passed on at once, the rest waits in `pending`, which is empty now and
    /// has room for the frame that was begun earlier and for this chunk.
    fn unwrap(&mut self, bytes: &[u8], sink: &mut impl FnMut(Item<'_>) -> Option<Order>) {
        let Self { mode, decoder, pending, .. } = self;
        let mut wait = |bytes: &[u8]| {
            for byte in bytes {
                // It has room; see above.
                let _fits = pending.push_back(*byte);
            }
        };
        match mode {
            LinkMode::Plain => wait(bytes),
            LinkMode::Terminal => decoder.feed(bytes, |item| match item {
                // Whoever types into a framed console without xtask is still at a terminal.
                LinkItem::Frame(Stream::Terminal, keys) | LinkItem::Raw(keys) => wait(keys),
                LinkItem::Frame(..) => {}
            }),
            LinkMode::Split => decoder.feed(bytes, |item| match item {
                LinkItem::Frame(Stream::Console(vm), input) => {
                    // Input of a VM never is an order.
                    let _none = sink(Item::Input(usize::from(vm), input));
                }
                LinkItem::Frame(Stream::Monitor, line) => wait(line),
                LinkItem::Frame(..) | LinkItem::Raw(_) => {}
            }),
        }
    }

    /// One byte of `pending`.
    fn digest(&mut self, byte: u8, sink: &mut impl FnMut(Item<'_>) -> Option<Order>) -> Option<Order> {
        if self.mode != LinkMode::Split {
            return sink(Item::Key(self.escape.key(byte)));
        }
        if byte == b'\n' {
            let line = core::mem::take(&mut self.line);
            return Some(match core::mem::take(&mut self.length) {
                Length::Fits => Order::Line(line),
                Length::TooLong => Order::TooLong,
            });
        }
        if self.line.push(char::from(byte)).is_err() {
            self.length = Length::TooLong;
        }
        None
    }
}
