//! Taking memory away, to see what happens when there is none.

use heapless::Vec;
use hv_core::addr::Order;
use hv_core::epoch::Cpu;
use hv_core::page::{Frame, Frames, MAX_ORDER};

/// Blocks it can hold; enough for all of a machine's, taken largest first.
const MOST: usize = 256;

/// All of the machine's free frames but a few.
#[derive(Debug)]
pub struct Hold<'a> {
    cpu: &'a Cpu,
    frames: &'a Frames,
    held: Vec<Frame, MOST>,
}

impl<'a> Hold<'a> {
    /// Takes every block there is.
    #[must_use]
    pub fn everything(cpu: &'a Cpu, frames: &'a Frames) -> Self {
        let mut hold = Self { cpu, frames, held: Vec::new() };
        for order in (0..=MAX_ORDER).rev().filter_map(Order::new) {
            while !hold.held.is_full() {
                let Some(frame) = frames.alloc(cpu, order) else { break };
                if let Err(frame) = hold.held.push(frame) {
                    frames.free(cpu, frame);
                    break;
                }
            }
        }
        hold
    }

    /// Takes every block but `keep` single frames.
    #[must_use]
    pub fn all_but(cpu: &'a Cpu, frames: &'a Frames, keep: usize) -> Self {
        let mut kept: Vec<Frame, 64> = Vec::new();
        for _ in 0..keep {
            if let Some(frame) = frames.alloc(cpu, Order::PAGE)
                && let Err(frame) = kept.push(frame)
            {
                frames.free(cpu, frame);
            }
        }
        let hold = Self::everything(cpu, frames);
        while let Some(frame) = kept.pop() {
            frames.free(cpu, frame);
        }
        hold
    }

    /// True if nothing is free.
    #[must_use]
    pub fn nothing_left(&self) -> bool {
        self.frames.counts().free == 0
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        while let Some(frame) = self.held.pop() {
            self.frames.free(self.cpu, frame);
        }
    }
}
