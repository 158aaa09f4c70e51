//! How often a guest's guest leaves hardware, and whom that concerns: this hypervisor (L0) alone, or the guest (L1) as well. Counted
//! by the hypervisor, and read from its monitor between the parts of what the counting guest does.

use std::time::Duration;

use anyhow::{Result, bail};
use hv_core::link::Outcome;

use crate::board::{Board, Machine};
use crate::demo::stage::{Place, Stage, kernel, monitor, nested_count, patience, power_off, said};
use crate::run::talk::Talk;

/// Faults, and calls, that the guest's guest makes: those that are counted in instructions, and those that warm caches.
const EVENTS: u64 = 2048;
const GUEST: usize = 0;
const LIMIT: Duration = Duration::from_secs(120);

/// What the monitor tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Entries by L1.
    entries: u64,
    /// Exits to L0.
    exits: u64,
    /// Of them those that L1 was told of.
    returns: u64,
    faults: u64,
    answers: u64,
}

/// Counts, and judges: a fault on a page that L1 has mapped takes one exit to L0 and none to L1, a call that L1 answers two entries of
/// L0 (L2's exit, and L1's call by which it goes on).
pub fn run(board: &Board, machine: &Machine) -> Result<()> {
    let place = Place { board, machine };
    let manifest = format!(
        "[[vm]]\nname = 'bench'\nvcpus = 1\nmemory = '64MiB'\nhuge = 'never'\nnested = true\ncmdline = 'nested watched'\n\
         kernel = '{}'\ninitrd = 'none'\n",
        kernel(board, "bench")?.display()
    );
    let timeout = patience(&place, LIMIT);
    let stage = Stage { place: &place, manifest, cpus: 1, memory: 512, timeout };
    let [faults, calls] = stage.play(|talk| {
        let faults = part(talk, "READY", "FAULTED", timeout)?;
        talk.watch.type_to(GUEST, "x");
        let calls = part(talk, "CALLS", "CALLED", timeout)?;
        match power_off(talk)? {
            Outcome::Success => Ok([faults, calls]),
            Outcome::Failure => bail!("Trivet reports that the run failed"),
        }
    })?;
    println!("{}", told("faults", &faults));
    println!("{}", told("calls", &calls));
    judge(&faults, &calls)
}

/// What happens from the guest's line `from` to its line `to`.
fn part(talk: &mut Talk<'_>, from: &str, to: &str, limit: Duration) -> Result<Counts> {
    said(talk, GUEST, from, limit)?;
    let before = counts(talk)?;
    talk.watch.type_to(GUEST, "x");
    said(talk, GUEST, to, limit)?;
    Ok(counts(talk)?.since(&before))
}

fn counts(talk: &mut Talk<'_>) -> Result<Counts> {
    let text = monitor(talk, "stat bench")?;
    let [entries, exits, returns, faults, answers] =
        ["entries", "exits", "returns", "faults", "answers"].map(|name| nested_count(&text, name));
    Ok(Counts { entries: entries?, exits: exits?, returns: returns?, faults: faults?, answers: answers? })
}

impl Counts {
    fn since(&self, before: &Self) -> Self {
        Self {
            entries: self.entries - before.entries,
            exits: self.exits - before.exits,
            returns: self.returns - before.returns,
            faults: self.faults - before.faults,
            answers: self.answers - before.answers,
        }
    }
}

fn told(what: &str, counts: &Counts) -> String {
    let Counts { entries, exits, returns, faults, answers } = counts;
    format!(
        "a guest's guest, {EVENTS} {what}: {exits} exits to L0 ({faults} faults, {answers} answered there), {returns} of them passed on \
         to L1, {entries} entries by L1"
    )
}

/// In each part L1 enters once more and is told once more: L2 begins, and says that it is done. Exits beyond what is said here are
/// this hypervisor's own interrupts.
fn judge(faults: &Counts, calls: &Counts) -> Result<()> {
    let own = |counts: &Counts| counts.exits.checked_sub(counts.faults + counts.returns);
    let fine = (faults.faults, faults.answers, faults.entries, faults.returns) == (EVENTS, EVENTS, 1, 1)
        && (calls.faults, calls.entries, calls.returns) == (0, EVENTS + 1, EVENTS + 1)
        && own(faults).is_some()
        && own(calls).is_some();
    if fine { Ok(()) } else { bail!("a fault is to take one exit to L0 and none to L1, a call two entries of L0") }
}

#[cfg(test)]
mod tests {
    use super::{Counts, EVENTS, judge};

    #[test]
    fn one_exit_too_many_is_seen() {
        let faults = Counts { entries: 1, exits: EVENTS + 3, returns: 1, faults: EVENTS, answers: EVENTS };
        let calls = Counts { entries: EVENTS + 1, exits: EVENTS + 1, returns: EVENTS + 1, ..Counts::default() };
        assert!(judge(&faults, &calls).is_ok());
        for wrong in [
            Counts { faults: EVENTS + 1, exits: EVENTS + 4, ..faults },
            Counts { answers: EVENTS - 1, ..faults },
            Counts { returns: 2, entries: 2, ..faults },
            Counts { exits: EVENTS, ..faults },
        ] {
            assert!(judge(&wrong, &calls).is_err(), "{wrong:?}");
        }
        for wrong in [
            Counts { entries: EVENTS + 2, ..calls },
            Counts { faults: 1, exits: EVENTS + 2, ..calls },
            Counts { returns: EVENTS, ..calls },
        ] {
            assert!(judge(&faults, &wrong).is_err(), "{wrong:?}");
        }
    }
}
