//! Why a vCPU left its guest, and what it is told when it goes back. Closed sets: a new kind breaks the build of
//! whoever forgot it (P7).

use crate::addr::Gpa;
use crate::isa::Isa;

/// What a guest was doing when its access was not translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load, or the hardware's read of a guest page table.
    Read,
    /// A store, or the hardware's update of a guest page table.
    Write,
    /// An instruction fetch.
    Fetch,
}

/// An access that the second stage does not translate, or not strongly enough.
#[derive(Clone, Copy, Debug)]
pub struct Fault<C> {
    /// The guest physical address.
    pub gpa: Gpa,
    /// The access that must become possible.
    pub access: Access,
    /// What must still hold when the translation is published.
    pub claim: C,
}

/// One exit, named.
pub enum Exit<I: Isa> {
    /// Second-stage fault: resolve, map, enter again.
    Fault(Fault<I::Claim>),
    /// A request to the personality (hypercall, trapped register).
    Call(I::Call),
    /// A physical interrupt or a kick: let the machine take it, enter again.
    Interrupt,
    /// The deadline given to `enter` passed.
    Deadline,
    /// The vCPU did what it cannot be forgiven (an exit that its architecture does not allow): its VM is stopped
    /// with this text.
    Broken(&'static str),
}

/// What to do after a personality call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Enter again.
    Resume,
    /// Enter again, after others that wait for a CPU.
    Yield,
    /// Sleep until an interrupt is pending, the vCPU's timer fires, or another vCPU wakes it.
    Halt,
    /// This vCPU leaves the VM until it is started again.
    StopSelf,
    /// The VM has ended.
    End(End),
}

/// How a VM ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest switched itself off.
    PowerOff,
    /// The guest asked to be started anew.
    Reboot,
    /// The guest reported that its operating system failed.
    GuestPanic,
    /// The operator stopped it.
    Stopped,
    /// Memory was needed that the machine does not have.
    OutOfMemory,
    /// The guest left the architecture in a way that cannot be answered.
    Broken(&'static str),
}

/// The answer to a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The translation is there, or may be: run the instruction again.
    Again,
    /// Nothing lies at that address: raise the architecture's error.
    BadAddress(Gpa, Access),
}
