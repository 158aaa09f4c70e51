//! H_REMOVE and H_BULK_REMOVE: the guest takes entries away.
//!
//! A bulk of up to four is flushed at once. In real mode all of them are locked before the first is touched, or the
//! call is deferred; in virtual mode, where a lock is waited for, one is held at a time.

use hv_core::isa::Isa;

use super::{Context, Stop, Vm};
use crate::hash::edit::MOST;
use crate::hash::entry::Locked;
use crate::hash::words::{C, MATCH, R};
use crate::hash::{Hashed, Processor};
use crate::papr::status::Status;

/// A translation specifier's high byte: what it is, how it ended, what is to match.
const KIND_SHIFT: u32 = 62;
const REQUEST: u64 = 1;
const END: u64 = 3;
const RESPONSE: u64 = 2 << KIND_SHIFT;
const NOT_FOUND: u64 = 1 << 60;
const PARAMETER: u64 = 2 << 60;
const MATCH_SHIFT: u32 = 56;
const MATCH_KIND: u64 = 3;
const INDEX: u64 = (1 << 56) - 1;
/// From R and C in r to where a response has them.
const MARKS_SHIFT: u32 = 51;

/// One translation specifier.
#[derive(Clone, Copy, Debug)]
struct Request {
    word: u64,
    avpn: u64,
}

impl Request {
    fn kind(self) -> u64 {
        self.word >> KIND_SHIFT
    }

    fn index(self) -> u64 {
        self.word & INDEX
    }

    fn matching(self) -> u64 {
        self.word >> MATCH_SHIFT & MATCH_KIND
    }

    fn wants(self, v: u64) -> bool {
        match self.matching() {
            0 => true,
            1 => v & self.avpn == 0,
            _ => v & MATCH == self.avpn,
        }
    }

    fn response(self, result: u64) -> u64 {
        RESPONSE | result | self.word & (MATCH_KIND << MATCH_SHIFT | INDEX)
    }
}

impl<I: Isa> Vm<'_, I>
where
    I::Machine: Processor,
    I::Claim: Hashed,
{
    /// H_REMOVE(flags, index, AVPN) -> v, r.
    pub(super) fn remove(&self, gpr: &mut [u64; 32]) -> Result<(), Stop> {
        let (index, walk) = (self.index(gpr[5])?, self.walk());
        let entry = self.lock_used(&walk, index, gpr[4], gpr[6])?;
        let removed = self.table.free(self.m, &walk, entry);
        (gpr[4], gpr[5]) = (removed.v, removed.r);
        Ok(())
    }

    /// H_BULK_REMOVE: four pairs of a request and what it is to match; answers in the requests. A request that cannot
    /// be ends the bulk, with what came before it done.
    pub(super) fn bulk_remove(&self, gpr: &mut [u64; 32]) -> Result<(), Stop> {
        let at_once = if matches!(self.ctx, Context::Real(_)) { MOST } else { 1 };
        let mut next = 0;
        while next < MOST {
            let end = (next + at_once).min(MOST);
            let goes_on = self.some(gpr, next, end)?;
            if !goes_on {
                break;
            }
            next = end;
        }
        Ok(())
    }

    /// Requests `from..to` of a bulk; false if that was the last.
    fn some(&self, gpr: &mut [u64; 32], from: usize, to: usize) -> Result<bool, Stop> {
        let walk = self.walk();
        let mut held: [Option<Locked<'_>>; MOST] = [const { None }; MOST];
        let mut answers = [None; MOST];
        let mut end = Ok(true);
        for n in from..to {
            let request = Request { word: gpr[4 + 2 * n], avpn: gpr[5 + 2 * n] };
            if request.kind() == END {
                end = Ok(false);
                break;
            }
            let wrong = request.kind() != REQUEST || request.matching() == MATCH_KIND;
            if wrong || self.index(request.index()).is_err() {
                answers[n] = Some(request.response(PARAMETER));
                end = Err(Status::Parameter);
                break;
            }
            let entry = self.lock(&walk, request.index())?;
            if entry.words().is_free() || !request.wants(entry.words().shown()) {
                answers[n] = Some(request.response(NOT_FOUND));
            } else {
                answers[n] = Some(request.response(0));
                held[n] = Some(entry);
            }
        }
        for (answer, removed) in answers.iter_mut().zip(self.table.free_some(self.m, &walk, held)) {
            *answer = answer.map(|word| word | removed.map_or(0, |removed| marks(removed.r)));
        }
        for (n, answer) in answers.into_iter().enumerate() {
            gpr[4 + 2 * n] = answer.unwrap_or(gpr[4 + 2 * n]);
        }
        Ok(end?)
    }
}

fn marks(r: u64) -> u64 {
    (r & (R | C)) << MARKS_SHIFT
}
