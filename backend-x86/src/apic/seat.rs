//! What others may do to a vCPU's local APIC: words that they set without a lock, and that the vCPU takes.

use hv_core::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::events::{Events, Role};
use super::message::{Address, Trigger};

/// Words of a register with one bit for each vector (IRR, ISR, TMR).
pub const WORDS: usize = 8;

/// The shared side of one local APIC.
#[derive(Debug)]
pub struct Seat {
    /// Something has been made pending that the vCPU has not looked at.
    look: AtomicBool,
    /// IRR: accepted and not yet taken by the processor.
    requests: [AtomicU32; WORDS],
    /// TMR: which of those accepted last were levels.
    levels: [AtomicU32; WORDS],
    /// How it is reached. Written by the vCPU.
    address: AtomicU64,
    /// Errors of what others sent, as bits of the error status register.
    errors: AtomicU32,
    /// INIT, start-up, NMI.
    pub events: Events,
}

impl Seat {
    pub fn new(role: Role) -> Self {
        let words = || core::array::from_fn(|_| AtomicU32::new(0));
        Self {
            look: AtomicBool::new(false),
            requests: words(),
            levels: words(),
            address: AtomicU64::new(Address::OFF.0),
            errors: AtomicU32::new(0),
            events: Events::new(role),
        }
    }

    #[inline]
    pub fn wants_look(&self) -> bool {
        self.look.load(Ordering::Relaxed)
    }

    /// Announces a change that has been made. A swap here too: of two senders whose vectors are in different words the vCPU
    /// would see only the one whose plain store it takes.
    #[inline]
    pub fn look(&self) {
        self.look.swap(true, Ordering::Release);
    }

    /// Takes the announcement, before what it may be about is read. A swap: a plain store could overwrite an announcement
    /// that it has not seen.
    pub fn take_look(&self) -> bool {
        self.wants_look() && self.look.swap(false, Ordering::Acquire)
    }

    pub fn address(&self) -> Address {
        Address(self.address.load(Ordering::Relaxed))
    }

    pub fn set_address(&self, address: Address) {
        self.address.store(address.0, Ordering::Relaxed);
    }

    /// Makes a vector pending. True if it was not: then the vCPU is to be woken. If it was, somebody has just done so and
    /// wakes it, or it has been awake since.
    #[inline]
    pub fn accept(&self, vector: u8, trigger: Trigger) -> bool {
        let (word, bit) = place(vector);
        match trigger {
            Trigger::Level => _ = self.levels[word].fetch_or(bit, Ordering::Relaxed),
            // Nearly all are edges, and nearly always were: no write then.
            Trigger::Edge if self.levels[word].load(Ordering::Relaxed) & bit != 0 => {
                self.levels[word].fetch_and(!bit, Ordering::Relaxed);
            }
            Trigger::Edge => {}
        }
        let new = self.requests[word].fetch_or(bit, Ordering::AcqRel) & bit == 0;
        if new {
            self.look();
        }
        new
    }

    /// An interrupt came with a vector that none can have.
    pub fn error(&self, bits: u32) {
        self.errors.fetch_or(bits, Ordering::Relaxed);
        self.look();
    }

    pub fn take_errors(&self) -> u32 {
        if self.errors.load(Ordering::Relaxed) == 0 { 0 } else { self.errors.swap(0, Ordering::Relaxed) }
    }

    /// The highest pending vector.
    #[inline]
    pub fn highest(&self) -> Option<u8> {
        highest(core::array::from_fn(|word| self.requests[word].load(Ordering::Acquire)))
    }

    /// The processor takes a pending vector; whether it was one.
    pub fn take(&self, vector: u8) -> bool {
        let (word, bit) = place(vector);
        self.requests[word].fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    /// A vector that was taken pends again, edge or level as before. Called by the vCPU itself, which looks anyway.
    pub fn put_back(&self, vector: u8) {
        let (word, bit) = place(vector);
        self.requests[word].fetch_or(bit, Ordering::AcqRel);
    }

    /// The vector was accepted as a level last.
    pub fn is_level(&self, vector: u8) -> bool {
        let (word, bit) = place(vector);
        self.levels[word].load(Ordering::Relaxed) & bit != 0
    }

    /// One word of IRR.
    pub fn requests(&self, word: usize) -> u32 {
        self.requests[word & 7].load(Ordering::Relaxed)
    }

    /// One word of TMR.
    pub fn levels(&self, word: usize) -> u32 {
        self.levels[word & 7].load(Ordering::Relaxed)
    }

    /// Forgets every interrupt: INIT.
    pub fn clear(&self) {
        self.requests.iter().chain(&self.levels).for_each(|word| word.store(0, Ordering::Relaxed));
        self.errors.store(0, Ordering::Relaxed);
    }
}

/// Where a vector's bit is.
pub const fn place(vector: u8) -> (usize, u32) {
    (vector as usize >> 5, 1 << (vector & 31))
}

/// The highest vector of a register.
#[inline]
pub fn highest(words: [u32; WORDS]) -> Option<u8> {
    let word = words.iter().rposition(|word| *word != 0)?;
    Some((word as u32 * 32 + words[word].ilog2()) as u8)
}

#[cfg(test)]
mod tests {
    use super::{Role, Seat, Trigger, highest, place};

    #[test]
    fn the_highest_vector_is_found_in_any_word() {
        assert_eq!(highest([0; 8]), None);
        for vector in 0..=255 {
            let mut words = [0; 8];
            words[place(vector).0] |= place(vector).1;
            words[0] |= 1;
            assert_eq!(highest(words), Some(vector));
        }
    }

    #[test]
    fn a_vector_is_announced_once_until_it_is_taken() {
        let seat = Seat::new(Role::Boot);
        assert!(seat.accept(0x31, Trigger::Level) && seat.wants_look());
        assert!(seat.take_look() && !seat.take_look());
        assert!(!seat.accept(0x31, Trigger::Level) && !seat.wants_look());
        assert!(seat.is_level(0x31) && seat.highest() == Some(0x31));
        assert!(seat.take(0x31) && !seat.take(0x31));
        assert!(seat.accept(0x31, Trigger::Edge) && !seat.is_level(0x31));
    }
}
