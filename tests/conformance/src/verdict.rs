//! How a case can end.

/// Why a case ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The behaviour is not as the rule demands.
    Fail(&'static str),
    /// This column cannot run the case.
    Skip(&'static str),
}

/// A case's own result.
pub type Run = Result<(), Stop>;

/// Ends the case unless `fine`.
pub fn check(fine: bool, otherwise: &'static str) -> Run {
    if fine { Ok(()) } else { Err(Stop::Fail(otherwise)) }
}
