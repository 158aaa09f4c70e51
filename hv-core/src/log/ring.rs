//! Where encoded messages wait for the console.

use crate::sync::{AtomicBool, Mutex, Ordering};

/// The longest encoded message, in bytes. Longer ones are dropped and counted.
pub const MESSAGE_MAX: usize = 240;

/// A queue of whole messages, `N` bytes long. Any CPU may push, any may drain.
///
/// The bytes that come out are those that went in, in the order of the messages; a reader need not know where
/// one ends, because the encoding tells.
#[derive(Debug)]
pub struct LogRing<const N: usize> {
    state: Mutex<State<N>>,
    draining: AtomicBool,
}

#[derive(Debug)]
struct State<const N: usize> {
    queue: heapless::Deque<u8, N>,
    lost: u64,
}

impl<const N: usize> Default for LogRing<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> LogRing<N> {
    /// An empty ring.
    #[must_use]
    pub const fn new() -> Self {
        let state = Mutex::new(State { queue: heapless::Deque::new(), lost: 0 });
        Self { state, draining: AtomicBool::new(false) }
    }

    /// Appends one message. If it does not fit it is dropped and counted as lost.
    pub fn push(&self, message: &[u8]) {
        let mut state = self.state.lock();
        let room = N.saturating_sub(state.queue.len());
        if message.len() > room.min(MESSAGE_MAX) {
            state.lost = state.lost.saturating_add(1);
            return;
        }
        for byte in message {
            // There is room for all of them.
            let _fits = state.queue.push_back(*byte);
        }
    }

    /// Counts a message that never became whole.
    pub fn lose(&self) {
        let mut state = self.state.lock();
        state.lost = state.lost.saturating_add(1);
    }

    /// Passes on what waits, piece by piece. The lock is not held while `sink` runs, so `sink` may log; it is called at
    /// most as often as is needed to empty a full ring, lest it feed itself for ever. If another CPU is draining already
    /// this does nothing, because two would mix up their pieces.
    pub fn drain(&self, sink: impl FnMut(&[u8])) {
        if !self.draining.swap(true, Ordering::Acquire) {
            self.drain_alone(sink);
            self.draining.store(false, Ordering::Release);
        }
    }

    fn drain_alone(&self, mut sink: impl FnMut(&[u8])) {
        let mut piece = [0; MESSAGE_MAX];
        for _ in 0..=N / MESSAGE_MAX {
            let mut len = 0_usize;
            {
                let mut state = self.state.lock();
                for slot in &mut piece {
                    let Some(byte) = state.queue.pop_front() else { break };
                    *slot = byte;
                    len = len.saturating_add(1);
                }
            }
            if len == 0 {
                return;
            }
            sink(piece.get(..len).unwrap_or(&[]));
        }
    }

    /// How many messages were lost since this was last asked. The answer belongs into the log itself.
    pub fn lost(&self) -> u64 {
        core::mem::take(&mut self.state.lock().lost)
    }
}

#[cfg(test)]
mod tests {
    use super::{LogRing, MESSAGE_MAX};
    use alloc::vec::Vec;
    use alloc::{format, vec};

    fn drained<const N: usize>(ring: &LogRing<N>) -> Vec<u8> {
        let mut all = Vec::new();
        ring.drain(|piece| all.extend_from_slice(piece));
        all
    }

    #[test]
    fn messages_come_out_in_order_and_whole() {
        let ring = LogRing::<600>::new();
        let messages: Vec<Vec<u8>> = (0..10).map(|n| vec![n; 70]).collect();
        messages.iter().for_each(|message| ring.push(message));
        assert_eq!(drained(&ring), messages[..8].concat(), "eight of them fit");
        assert_eq!((ring.lost(), ring.lost()), (2, 0));
        ring.push(b"small");
        assert_eq!(drained(&ring), b"small", "there is room again");
    }

    #[test]
    fn one_drains_at_a_time() {
        let ring = LogRing::<1024>::new();
        ring.push(&[7; MESSAGE_MAX]);
        ring.push(b"rest");
        let mut pieces = Vec::new();
        ring.drain(|piece| {
            ring.drain(|_| panic!("this would come before the piece that is being passed on"));
            pieces.push(piece.len());
        });
        assert_eq!(pieces, [MESSAGE_MAX, 4]);
    }

    #[test]
    fn a_message_that_is_too_long_is_lost_and_not_cut() {
        let ring = LogRing::<1024>::new();
        ring.push(&[1; MESSAGE_MAX + 1]);
        ring.push(&[2; MESSAGE_MAX]);
        ring.lose();
        assert_eq!((drained(&ring), ring.lost()), (vec![2; MESSAGE_MAX], 2));
    }

    /// A drain whose sink logs must end, and must not dead-lock.
    #[test]
    fn draining_may_log() {
        let ring = LogRing::<1024>::new();
        ring.push(b"first");
        let mut calls = 0;
        ring.drain(|_| {
            calls += 1;
            ring.push(b"echo");
        });
        assert_eq!(calls, 1 + 1024 / MESSAGE_MAX);
    }

    /// Many CPUs log at once: no message is torn, none is doubled, and those of one CPU keep their order.
    #[test]
    fn messages_of_many_cpus_stay_whole() {
        let ring = LogRing::<{ 1 << 16 }>::new();
        let text = std::thread::scope(|scope| {
            for cpu in 0..3 {
                let ring = &ring;
                scope.spawn(move || (0..100).for_each(|n| ring.push(format!("{cpu}:{n};").as_bytes())));
            }
            let mut all = Vec::new();
            while all.iter().filter(|byte| **byte == b';').count() < 300 {
                ring.drain(|piece| all.extend_from_slice(piece));
                std::thread::yield_now();
            }
            alloc::string::String::from_utf8(all).unwrap()
        });
        for cpu in 0..3 {
            let own = text.split_terminator(';').filter_map(|word| word.strip_prefix(&format!("{cpu}:")));
            let numbers: Vec<u32> = own.map(|n| n.parse().unwrap()).collect();
            assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        }
    }
}
