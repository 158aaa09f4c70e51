//! What became of a guest's guests, in numbers: for the monitor's `stat`, the benchmark and the demos.
//!
//! An exit of an L2 is one of three things: a fault, which the derived table answers or which is passed on; something else
//! that is passed on; or an interrupt of this hypervisor's own. What is passed on is a return to L1.

use core::fmt::{self, Write};

use hv_core::sync::{AtomicU64, Ordering};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// L1 entered an L2.
    Entry,
    /// An L2 left hardware.
    Exit,
    /// L1 was told why an L2 left.
    Return,
    /// An L2 faulted: of [`Event::Exit`].
    Fault,
    /// The derived table answered a fault.
    Answer,
    /// Something changed while a fault was answered, so that the L2 has to fault again.
    Retry,
    /// L1 said that its tables have changed.
    Invalidation,
}

/// How often, since the VM began.
#[derive(Debug)]
pub struct Counts([AtomicU64; NAMES.len()]);

/// In the order of [`Event`].
const NAMES: [&str; 7] = ["entries", "exits", "returns", "faults", "answers", "retries", "invalidations"];

impl Counts {
    pub(super) fn new() -> Self {
        Self(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Notes that it happened; how often it had before.
    pub fn add(&self, event: Event) -> u64 {
        self.cell(event).map_or(0, |cell| cell.fetch_add(1, Ordering::Relaxed))
    }

    /// How often it happened.
    #[must_use]
    pub fn of(&self, event: Event) -> u64 {
        self.cell(event).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    fn cell(&self, event: Event) -> Option<&AtomicU64> {
        self.0.get(event as usize)
    }

    /// Writes them in lines.
    pub fn write(&self, out: &mut dyn Write) -> fmt::Result {
        NAMES
            .iter()
            .zip(&self.0)
            .try_for_each(|(name, count)| writeln!(out, "nested {name}: {}", count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Event};

    #[test]
    fn each_event_has_its_own_line() {
        let counts = Counts::new();
        use Event::{Answer, Entry, Exit, Fault, Invalidation, Retry, Return};
        for (n, event) in [Entry, Exit, Return, Fault, Answer, Retry, Invalidation].into_iter().enumerate() {
            (0..=n as u64).for_each(|before| assert_eq!(counts.add(event), before));
            assert_eq!(counts.of(event), n as u64 + 1);
        }
        let mut text = String::new();
        counts.write(&mut text).unwrap();
        let want = "nested entries: 1\nnested exits: 2\nnested returns: 3\nnested faults: 4\nnested answers: 5\n\
                    nested retries: 6\nnested invalidations: 7\n";
        assert_eq!(text, want);
    }
}
