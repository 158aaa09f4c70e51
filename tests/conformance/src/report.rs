//! Runs the table and says how each case ended, one machine-readable line each:
//! `CASE <ok|FAIL|skip> <name> <rule> [reason]`, and at the end `CASES <ok> <failed> <skipped>`.

use core::fmt;

use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::page::RESERVE;

use crate::cases::{Case, table};
use crate::rig::{Bench, Rig};
use crate::verdict::Stop;

/// How many cases ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// As the rules demand.
    pub ok: u32,
    /// Otherwise.
    pub failed: u32,
    /// Not at all.
    pub skipped: u32,
}

/// Runs each case whose name contains `filter`, on a rig of its own or on a common one, as `rig` decides.
pub fn run<I: Isa, R: Rig<I>>(
    filter: &str,
    rig: impl FnMut() -> R,
    out: &mut dyn fmt::Write,
) -> Result<Tally, fmt::Error> {
    run_with(core::iter::empty(), filter, rig, out)
}

/// The same, and before them the cases of this column alone.
pub fn run_with<I: Isa, R: Rig<I>>(
    own: impl Iterator<Item = Case<I>>,
    filter: &str,
    mut rig: impl FnMut() -> R,
    out: &mut dyn fmt::Write,
) -> Result<Tally, fmt::Error> {
    let mut tally = Tally::default();
    for case in own.chain(table::<I>()).filter(|case| case.name.contains(filter)) {
        let (name, rule) = (case.name, case.rule);
        match one(&case, &rig()) {
            Ok(()) => {
                tally.ok += 1;
                writeln!(out, "CASE ok {name} {rule}")?;
            }
            Err(Stop::Fail(why)) => {
                tally.failed += 1;
                writeln!(out, "CASE FAIL {name} {rule} {why}")?;
            }
            Err(Stop::Skip(why)) => {
                tally.skipped += 1;
                writeln!(out, "CASE skip {name} {rule} {why}")?;
            }
        }
    }
    writeln!(out, "CASES {} {} {}", tally.ok, tally.failed, tally.skipped)?;
    Ok(tally)
}

fn one<I: Isa>(case: &Case<I>, rig: &dyn Rig<I>) -> Result<(), Stop> {
    // Before the count: a case with a store would take them out of what is free.
    rig.machine().frames().keep_reserve(rig.cpu(), RESERVE);
    let before = rig.machine().frames().counts();
    let run = (case.run)(&Bench::new(rig));
    let after = rig.machine().frames().counts();
    if rig.violated() {
        return Err(Stop::Fail("the checked machine saw a rule broken"));
    }
    run?;
    if after != before {
        return Err(Stop::Fail("frames were lost, or freed twice"));
    }
    Ok(())
}
