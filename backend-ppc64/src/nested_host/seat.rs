//! What a vCPU has beside while it runs a guest of its own guest: where it came from, and where it has to go back to.

use hv_core::addr::Gpa;
use hv_core::isa::VmTag;
use hv_core::machine::CpuId;

use super::block::ByteOrder;
use super::walk::Near;
use crate::vcpu::layout::{HvGuestState, Registers};

/// A vCPU's way into an L2 and out of it. Made at its first such call.
pub struct Seat {
    /// Where it is.
    pub place: Place,
    /// L1's own state while L2's is in the vCPU's blocks.
    pub hv: HvGuestState,
    /// See `hv`.
    pub registers: Registers,
    /// L2's state as L1 gave it.
    pub given: HvGuestState,
    /// Where L1's blocks are: state and general registers.
    pub blocks: [Gpa; 2],
    /// In what byte order.
    pub order: ByteOrder,
    /// The L2 that it holds, by its name in translation caches.
    pub guest: Option<VmTag>,
    /// L1 is wanted: an interrupt waits for it.
    pub wanted: bool,
    /// The vector of L2's fault that L1's second stage has to answer first.
    pub faulted: u64,
    /// Where the last walk of L1's tables ended.
    pub near: Near,
    /// Timebase value at which this hypervisor wants the CPU back.
    pub until: u64,
    /// The CPU that it ran on last.
    pub cpu: CpuId,
}

/// Where a vCPU is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// In its own guest.
    #[default]
    Own,
    /// In its own guest; the call in its registers is to be made again before that goes on.
    Again,
    /// In a guest of its guest.
    Inside,
    /// On its way back, to tell of this vector.
    Leaving(u64),
}

impl Default for Seat {
    fn default() -> Self {
        Self {
            place: Place::Own,
            hv: HvGuestState::default(),
            registers: Registers::default(),
            given: HvGuestState::default(),
            blocks: [Gpa(0); 2],
            order: ByteOrder::Big,
            guest: None,
            wanted: false,
            faulted: 0,
            near: Near::default(),
            until: 0,
            cpu: CpuId(0),
        }
    }
}

impl Seat {
    /// True if the vCPU's blocks hold an L2's state. Then nothing that is L1's may be put there: that an interrupt waits for L1
    /// (`wanted`), and until when it may run, is noted here.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        matches!(self.place, Place::Inside | Place::Leaving(_))
    }

    /// L1 has no memory where its tree says that L2's is: L2's fault is L1's own affair.
    pub fn refuse(&mut self) {
        if self.place == Place::Inside {
            self.place = Place::Leaving(self.faulted);
        }
    }
}
