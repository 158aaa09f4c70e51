//! The safe half of defmt's global logger.

use super::ring::{LogRing, MESSAGE_MAX};
use crate::sync::{AtomicBool, Mutex, Ordering, spin_loop};

/// Encodes one message at a time, whichever CPU it comes from, and appends it to its ring when it is whole.
///
/// The board makes one `static`, and its `defmt::Logger` calls these methods one to one. [`Logger::acquire`] waits for
/// another CPU that is just logging. A CPU that is itself in the middle of a message must not log: Trivet takes no
/// interrupts while it runs its own code, and a panic handler writes text and does not log.
pub struct Logger<const N: usize> {
    /// Where the messages go.
    pub ring: LogRing<N>,
    taken: AtomicBool,
    message: Mutex<Message>,
}

struct Message {
    encoder: defmt::Encoder,
    bytes: heapless::Vec<u8, MESSAGE_MAX>,
    fit: Fit,
}

/// Whether the message is whole so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Whole,
    TooLong,
}

impl Message {
    fn append(bytes: &mut heapless::Vec<u8, MESSAGE_MAX>, fit: &mut Fit, encoded: &[u8]) {
        if bytes.extend_from_slice(encoded).is_err() {
            *fit = Fit::TooLong;
        }
    }
}

impl<const N: usize> Default for Logger<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Logger<N> {
    /// A logger with an empty ring.
    #[must_use]
    pub const fn new() -> Self {
        let message = Message { encoder: defmt::Encoder::new(), bytes: heapless::Vec::new(), fit: Fit::Whole };
        Self { ring: LogRing::new(), taken: AtomicBool::new(false), message: Mutex::new(message) }
    }

    /// Begins a message; `defmt::Logger::acquire`.
    pub fn acquire(&self) {
        while self.taken.swap(true, Ordering::Acquire) {
            spin_loop();
        }
        let mut message = self.message.lock();
        let Message { encoder, bytes, fit } = &mut *message;
        *encoder = defmt::Encoder::new();
        bytes.clear();
        *fit = Fit::Whole;
        encoder.start_frame(|encoded| Message::append(bytes, fit, encoded));
    }

    /// Adds to the message that this CPU has begun; `defmt::Logger::write`.
    pub fn write(&self, raw: &[u8]) {
        let mut message = self.message.lock();
        let Message { encoder, bytes, fit } = &mut *message;
        encoder.write(raw, |encoded| Message::append(bytes, fit, encoded));
    }

    /// Ends the message that this CPU has begun; `defmt::Logger::release`.
    pub fn release(&self) {
        {
            let mut message = self.message.lock();
            let Message { encoder, bytes, fit } = &mut *message;
            encoder.end_frame(|encoded| Message::append(bytes, fit, encoded));
            match fit {
                Fit::Whole => self.ring.push(bytes),
                Fit::TooLong => self.ring.lose(),
            }
        }
        self.taken.store(false, Ordering::Release);
    }
}

impl<const N: usize> core::fmt::Debug for Logger<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Logger").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Logger;
    use alloc::vec::Vec;

    fn log(logger: &Logger<1024>, parts: &[&[u8]]) {
        logger.acquire();
        parts.iter().for_each(|part| logger.write(part));
        logger.release();
    }

    /// Each message is a frame of its own, between zero bytes, however it was written.
    #[test]
    fn messages_are_frames_and_long_ones_are_counted() {
        let logger = Logger::<1024>::new();
        log(&logger, &[&[1, 2], &[0, 3]]);
        log(&logger, &[&[9; 1000]]);
        log(&logger, &[&[4]]);
        let mut all = Vec::new();
        logger.ring.drain(|piece| all.extend_from_slice(piece));
        let frames: Vec<&[u8]> = all.split(|byte| *byte == 0).filter(|frame| !frame.is_empty()).collect();
        // rzCOBS: the bytes that are not zero, then one bit for each byte, set where it was zero or missing.
        assert_eq!(frames, [&[1, 2, 3, 0b111_0100][..], &[4, 0b111_1110]]);
        assert_eq!(logger.ring.lost(), 1);
    }
}
