//! `demo dirty`: two vCPUs write pages while the dirty log is harvested twenty times and more; in the short form, ten. The
//! union of what was harvested has to be what they wrote: not one page missed, and not one too many.
//!
//! `demo dirty-nested`: the same of a guest whose own guest writes, with two vCPUs. What that may store to is derived from the
//! guest's second stage, from which a harvest takes it while faults give it: at least one fault has to have met a harvest.
//!
//! The guest is `tests/guests/writer`. It writes each page of its range once while it is watched, or twice if both vCPUs
//! do, or never; so a write that a harvest loses is never made up for. Which pages those are is known here too.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hv_core::link::Outcome;

use super::Form;
use super::stage::{Place, Stage, kernel, line, monitor, nested_count, patience, power_off, said};
use super::story::Story;
use crate::board::Board;
use crate::error::refuse;
use crate::run::talk::Talk;
use crate::tables::row;

/// How long the guest may take, on most machines.
const LIMIT: Duration = Duration::from_secs(120);
/// The pages that the guest writes: from 16 MiB, 32 MiB of them.
const FIRST: u64 = (16 << 20) >> 12;
const PAGES: u64 = (32 << 20) >> 12;
const GUEST: usize = 0;

/// Whether the guest writes a page, as it decides itself.
const fn written(page: u64) -> bool {
    (page.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61) & 3 != 0
}

/// What came of the run.
struct Found {
    /// Harvests while the guest was writing that found something.
    rounds: usize,
    /// Pages of all harvests, each counted as often as it was found.
    reported: u64,
    pages: BTreeSet<u64>,
    /// What the guest says it has written.
    wrote: u64,
    /// What is mapped by leaves of 2 MiB: before the log, with it, and after it.
    huge: [String; 3],
    outcome: Outcome,
    /// Of a guest that has a guest: what the monitor counted.
    nested: Option<Nested>,
}

/// What the monitor counts of a guest's guest.
struct Nested {
    exits: u64,
    faults: u64,
    retries: u64,
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// The guest.
    Guest,
    /// Its guest.
    GuestOfGuest,
}

/// Plays it.
pub fn play(place: &Place<'_>, form: Form, story: &mut Story) -> Result<()> {
    play_with(place, form, story, Writer::Guest)
}

/// Where it can be played with a guest's guest.
pub fn has_nested(board: &Board) -> bool {
    board.name == "powernv"
}

/// Plays it with a guest's guest.
pub fn play_nested(place: &Place<'_>, form: Form, story: &mut Story) -> Result<()> {
    if place.machine.guest_cmdline.is_some() || place.machine.name == "8" {
        return Err(refuse("only radix guests may have guests: take another machine".to_owned()));
    }
    play_with(place, form, story, Writer::GuestOfGuest)
}

fn play_with(place: &Place<'_>, form: Form, story: &mut Story, writer: Writer) -> Result<()> {
    // What the guest waits between its pages; and how many harvests must have found something while it wrote. How long one
    // takes depends on the emulator: where an answer takes 50 ms, about 20 fit into the short form, and 100 into the whole one.
    let (key, rounds) = match form {
        Form::Whole => ("l", 20),
        Form::Short => ("s", 10),
    };
    let more = match writer {
        Writer::Guest => "",
        Writer::GuestOfGuest => "nested = true\ncmdline = 'nested'\n",
    };
    let manifest = format!(
        "[[vm]]\nname = 'writer'\nvcpus = 2\nmemory = '64MiB'\nhuge = 'always'\nkernel = '{}'\ninitrd = 'none'\n{more}",
        kernel(place.board, "writer")?.display()
    );
    let limit = patience(place, LIMIT);
    let stage = Stage { place, manifest, cpus: 2, memory: 512, timeout: limit };
    let found = stage.play(|talk| watch(talk, writer, key, limit, story))?;
    let expected: BTreeSet<u64> = (FIRST..FIRST + PAGES).filter(|page| written(*page)).collect();
    let inside: BTreeSet<u64> = found.pages.iter().copied().filter(|page| *page >= FIRST).collect();
    let missed = expected.difference(&inside).count();
    let invented = inside.difference(&expected).count();
    story.fact("pages in the range", PAGES);
    story.fact("stores of both vCPUs to them", found.wrote);
    story.fact("pages that were written", expected.len());
    story.fact("pages that were reported, all harvests together", found.reported);
    story.fact("of them the guest's own, outside of the range", found.pages.len() - inside.len());
    let [before, with, after] = &found.huge;
    story.fact("in 2 MiB leaves before the log, and as it begins", format_args!("{before}, {with}"));
    story.judge("in 2 MiB leaves after it", after, (after == before).into());
    story.judge("harvests while it wrote", found.rounds, (found.rounds >= rounds).into());
    if let Some(Nested { exits, faults, retries }) = found.nested {
        story.fact("exits of the guest's guest, and its faults among them", format_args!("{exits}, {faults}"));
        story.judge("faults that met a harvest", retries, (retries > 0).into());
    }
    story.judge("pages missed", missed, (missed == 0).into());
    story.judge("pages reported that nobody wrote", invented, (invented == 0).into());
    story.judge("Trivet's verdict", format_args!("{:?}", found.outcome), (found.outcome == Outcome::Success).into());
    story.verdict()
}

fn watch(talk: &mut Talk<'_>, writer: Writer, key: &str, limit: Duration, story: &Story) -> Result<Found> {
    said(talk, GUEST, "READY", limit)?;
    let before = huge(talk)?;
    monitor(talk, "dirty writer start")?;
    // What was written before is nobody's question.
    monitor(talk, "dirty writer harvest")?;
    let with = huge(talk)?;
    story.tell("the log is on; both vCPUs write");
    talk.watch.type_to(GUEST, key);
    let (mut rounds, mut reported, mut pages) = (0, 0, BTreeSet::new());
    let done = loop {
        let done = line(talk, GUEST, "DONE ")?;
        let text = monitor(talk, "dirty writer list")?;
        let before = reported;
        for range in ranges(&text)? {
            reported += range.end - range.start;
            pages.extend(range);
        }
        if done.is_none() && reported > before {
            rounds += 1;
            if rounds % 10 == 0 {
                story.tell(format_args!("{rounds} harvests, {} different pages", pages.len()));
            }
        }
        if let Some(done) = done {
            break done;
        }
    };
    let wrote = done.parse().with_context(|| format!("the guest's last line is DONE {done:?}"))?;
    monitor(talk, "dirty writer stop")?;
    let nested = match writer {
        Writer::Guest => None,
        Writer::GuestOfGuest => Some(nested(&monitor(talk, "stat writer")?)?),
    };
    // Large translations come back with the next faults.
    talk.watch.type_to(GUEST, key);
    said(talk, GUEST, "AGAIN", limit)?;
    let after = huge(talk)?;
    Ok(Found { rounds, reported, pages, wrote, huge: [before, with, after], outcome: power_off(talk)?, nested })
}

/// How much of the guest's memory is mapped by leaves of 2 MiB.
fn huge(talk: &mut Talk<'_>) -> Result<String> {
    let text = monitor(talk, "memory writer")?;
    Ok(row(&text, "writer").value("IN 2M")?.to_owned())
}

fn nested(stat: &str) -> Result<Nested> {
    let [exits, faults, retries] = ["exits", "faults", "retries"].map(|name| nested_count(stat, name));
    Ok(Nested { exits: exits?, faults: faults?, retries: retries? })
}

/// The pages in a harvest's answer: lines of a first guest frame in hexadecimal and a number of pages.
fn ranges(text: &str) -> Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("0x")) {
        let (first, pages) = line.trim_end().split_once(' ').with_context(|| format!("{line:?} is no run of pages"))?;
        let first = u64::from_str_radix(first, 16).with_context(|| format!("{line:?} has no first page"))?;
        let pages: u64 = pages.parse().with_context(|| format!("{line:?} has no number of pages"))?;
        ranges.push(first..first + pages);
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::{FIRST, PAGES, ranges, written};

    #[test]
    fn a_harvests_ranges_are_read() {
        let text = "0x1000 2\n0x20 1\n3 pages written since the last harvest\n";
        assert_eq!(ranges(text).unwrap(), [0x1000..0x1002, 0x20..0x21]);
        assert!(ranges("0x1\n").is_err() && ranges("0xz 1\n").is_err());
    }

    #[test]
    fn a_good_part_of_the_pages_is_written_and_the_rest_is_not() {
        let count = (FIRST..FIRST + PAGES).filter(|page| written(*page)).count();
        assert!((5000..7500).contains(&count), "{count}");
    }
}
