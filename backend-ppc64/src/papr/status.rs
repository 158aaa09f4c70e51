//! What a hypervisor call answers in r3.

use hv_core::vcpu::exit::Next;
use hv_core::vcpu::services::MemError;

/// The statuses that this personality answers with. The values are PAPR's (Hypervisor Call Return Codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Status {
    /// Done.
    Success = 0,
    /// What it would end has not been begun.
    Closed = 2,
    /// The hardware, or what stands for it, could not.
    Hardware = -1,
    /// No such call, or not offered.
    Function = -2,
    /// Not from problem state.
    Privilege = -3,
    /// The first parameter, or a parameter in general, is wrong.
    Parameter = -4,
    /// No entry of the group is free.
    PtegFull = -6,
    /// The entry is free, or another than the one that was meant.
    NotFound = -7,
    /// The machine has no memory for it.
    NoMemory = -9,
    /// What it depends on is not there, or is still in use.
    Resource = -16,
    /// The second parameter is wrong.
    P2 = -55,
    /// The third parameter is wrong.
    P3 = -56,
    /// The fourth parameter is wrong.
    P4 = -57,
    /// A flag is not supported.
    UnsupportedFlag = -256,
}

/// How a handler ended: the status for r3, and what the vCPU does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: Status,
    pub next: Next,
}

impl Answer {
    /// Success, and then something else than entering again.
    pub const fn then(next: Next) -> Self {
        Self { status: Status::Success, next }
    }
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Self { status, next: Next::Resume }
    }
}

/// A handler's result as it reads best: `?` leaves with the status that names what was wrong.
impl<T: Into<Self>, E: Into<Status>> From<Result<T, E>> for Answer {
    fn from(result: Result<T, E>) -> Self {
        result.map_or_else(|e| e.into().into(), Into::into)
    }
}

impl From<MemError> for Status {
    /// An address that is not the guest's is a wrong parameter; a machine without memory is a resource that is missing.
    fn from(e: MemError) -> Self {
        match e {
            MemError::BadAddress => Self::Parameter,
            MemError::NoMemory => Self::Resource,
        }
    }
}
