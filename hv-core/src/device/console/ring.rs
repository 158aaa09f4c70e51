//! Bounded byte queues: one that refuses what does not fit, one that forgets what is oldest.

use alloc::collections::VecDeque;

/// Copies as many bytes as `into` has room for, and takes them out of the queue.
fn take(queue: &mut VecDeque<u8>, into: &mut [u8]) -> usize {
    let len = into.len().min(queue.len());
    for (slot, byte) in into.iter_mut().zip(queue.drain(..len)) {
        *slot = byte;
    }
    len
}

/// What was typed for a VM. When it is full the newest bytes are dropped and counted: what the guest has not read yet
/// stays in order and whole.
#[derive(Debug)]
pub(super) struct Input {
    queue: VecDeque<u8>,
    dropped: u64,
}

impl Input {
    /// Room for a long line with much to spare; no terminal is typed ahead further.
    pub(super) const CAPACITY: usize = 4096;

    pub(super) fn new() -> Self {
        Self { queue: VecDeque::with_capacity(Self::CAPACITY), dropped: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = Self::CAPACITY.saturating_sub(self.queue.len());
        let (fits, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        self.queue.extend(fits);
        self.dropped = self.dropped.saturating_add(u64::try_from(rest.len()).unwrap_or(u64::MAX));
    }

    pub(super) fn take(&mut self, into: &mut [u8]) -> usize {
        take(&mut self.queue, into)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// What a VM printed while nobody looked. When it is full the oldest bytes are forgotten and counted.
#[derive(Debug)]
pub(super) struct Backlog {
    queue: VecDeque<u8>,
    forgotten: u64,
}

impl Backlog {
    /// A few screens.
    pub(super) const CAPACITY: usize = 4096;

    pub(super) fn new() -> Self {
        Self { queue: VecDeque::with_capacity(Self::CAPACITY), forgotten: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let keep = bytes.len().min(Self::CAPACITY);
        let (skipped, kept) = bytes.split_at_checked(bytes.len().saturating_sub(keep)).unwrap_or((&[], bytes));
        let excess = self.queue.len().saturating_add(keep).saturating_sub(Self::CAPACITY);
        self.queue.drain(..excess);
        self.queue.extend(kept);
        let lost = u64::try_from(excess.saturating_add(skipped.len())).unwrap_or(u64::MAX);
        self.forgotten = self.forgotten.saturating_add(lost);
    }

    pub(super) fn take(&mut self, into: &mut [u8]) -> usize {
        take(&mut self.queue, into)
    }

    /// How many bytes were forgotten since this was last asked.
    pub(super) fn forgotten(&mut self) -> u64 {
        core::mem::take(&mut self.forgotten)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Backlog, Input};
    use alloc::vec::Vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|n| (n % 251) as u8).collect()
    }

    fn all(mut take: impl FnMut(&mut [u8]) -> usize) -> Vec<u8> {
        let (mut out, mut part) = (Vec::new(), [0; 100]);
        loop {
            let len = take(&mut part);
            if len == 0 {
                return out;
            }
            out.extend_from_slice(&part[..len]);
        }
    }

    proptest! {
        /// Input keeps the oldest bytes, a backlog the newest; both keep their order and count the rest.
        #[test]
        fn what_is_kept_is_in_order_and_the_rest_is_counted(
            sizes in proptest::collection::vec(0_usize..6000, 1..6), read in any::<u16>(),
        ) {
            let (mut input, mut backlog, mut sent) = (Input::new(), Backlog::new(), Vec::new());
            let mut at = 0;
            let source = bytes(sizes.iter().sum());
            for size in sizes {
                input.push(&source[at..at + size]);
                backlog.push(&source[at..at + size]);
                at += size;
                sent.extend_from_slice(&source[at - size..at]);
            }
            let kept = sent.len().min(4096);
            let lost = (sent.len() - kept) as u64;
            prop_assert_eq!((input.dropped(), backlog.forgotten(), backlog.forgotten()), (lost, lost, 0));
            let mut first = alloc::vec![0; usize::from(read)];
            let len = input.take(&mut first);
            prop_assert_eq!(&first[..len], &sent[..len]);
            prop_assert_eq!(all(|into| input.take(into)), &sent[len..kept.max(len)]);
            prop_assert_eq!(all(|into| backlog.take(into)), &sent[sent.len() - kept..]);
            prop_assert_eq!((input.len(), backlog.is_empty()), (0, true));
        }
    }
}
