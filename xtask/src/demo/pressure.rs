//! `demo pressure`: a guest with three times the machine's memory writes twice of it, reads it back, and does so three
//! times, while its memory is split, collapsed, swapped out and in, and its dirty log is read.
//!
//! Every page is different (`tests/guests/pages`: its number, 768 pseudo-random bytes, zeros), so nothing can be shared
//! or left out, and about four pages fit into a frame. As long as there is room, which is until the first round has
//! written as much as fits, some memory that was taken from the guest comes back, and a CPU that has nothing else to do
//! collapses what has come back in pieces.

use std::time::Duration;

use anyhow::Result;
use hv_core::link::Outcome;

use super::Form;
use super::stage::{Beside, Place, Stage, monitor, power_off, shell, shell_while};
use super::story::Story;
use crate::run::talk::Talk;
use crate::tables::{frames, row};

/// Between two chores.
const EVERY: Duration = Duration::from_millis(700);
/// What is swapped out and in before the pressure begins, in MiB.
const WARM: u64 = 24;
/// How many chores the dirty log stays on, and then off.
const LOGGED: u32 = 6;
/// Physical CPUs: one more than the guest has, for what is done when nothing else is.
const CPUS: u16 = 3;

/// Sizes in MiB.
struct Sizes {
    machine: u64,
    guest: u64,
    written: u64,
    rounds: u32,
    /// How long one pass over the memory may take.
    limit: Duration,
}

/// Plays it.
pub fn play(place: &Place<'_>, form: Form, story: &mut Story) -> Result<()> {
    let sizes = match form {
        Form::Whole => Sizes { machine: 512, guest: 1536, written: 1024, rounds: 3, limit: Duration::from_secs(1200) },
        Form::Short => Sizes { machine: 256, guest: 512, written: 256, rounds: 1, limit: Duration::from_secs(300) },
    };
    let manifest = format!("[[vm]]\nname = 'big'\nvcpus = 2\nmemory = '{}MiB'\n", sizes.guest);
    let stage = Stage { place, manifest, cpus: CPUS, memory: sizes.machine, timeout: sizes.limit };
    let mut chores = Chores::default();
    let (text, stat, outcome) = stage.play(|talk| {
        rounds(talk, &sizes, &mut chores, story)?;
        Ok((monitor(talk, "memory")?, monitor(talk, "stat big")?, power_off(talk)?))
    })?;
    let big = row(&text, "big");
    story
        .fact("machine, guest, written, in MiB", format_args!("{}, {}, {}", sizes.machine, sizes.guest, sizes.written));
    story.fact(
        "frames of the machine, and free at the end",
        format_args!("{}, {}", frames(&text, "machine")?, frames(&text, "free")?),
    );
    let pages = u64::from(sizes.rounds) * sizes.written * 256;
    story.judge("pages written, each another", chores.filled, (chores.filled == pages).into());
    story.judge("pages read back as they were written", chores.checked, (chores.checked == pages).into());
    for (what, column) in [
        ("large leaves split", "SPLITS"),
        ("blocks collapsed", "COLLAPSES"),
        ("pages swapped out", "PAGES OUT"),
        ("pages swapped in", "PAGES IN"),
        ("dirty harvests", "HARVESTS"),
    ] {
        let count = big.number(column)?;
        story.judge(what, count, (count > 0).into());
    }
    let beside = ("blocks collapsed while the first round wrote", chores.collapsed);
    match form {
        Form::Whole => story.judge(beside.0, beside.1, (beside.1 > 0).into()),
        // It has room for a second or two only.
        Form::Short => story.fact(beside.0, beside.1),
    }
    story.judge("pages that the harvests found", chores.dirty, (chores.dirty > 0).into());
    early_calls(&stat, form, story);
    story.judge("Trivet's verdict", format_args!("{outcome:?}"), (outcome == Outcome::Success).into());
    story.verdict()
}

/// What became of requests that are answered in two steps, of a guest that makes some: on POWER those of one with a hashed
/// table, answered in real mode or deferred by it. None may stay unanswered; and an entry for a page that need not be brought
/// back first, which such a guest asks for at each fault of its own, is to be put in real mode.
fn early_calls(stat: &str, form: Form, story: &mut Story) {
    // "H_ENTER: 224961 at once, 12 deferred (11 for memory), 12 finished"
    let calls = stat.lines().filter_map(|line| {
        let (name, counts) = line.split_once(": ")?;
        let numbers = counts.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
        Some((name, <[u64; 4]>::try_from(numbers.collect::<Vec<u64>>()).ok()?))
    });
    let (mut all, mut enter) = ([0; 4], None);
    for (name, counts) in calls {
        all.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        if name == "H_ENTER" {
            enter = Some(counts);
        }
    }
    let Some([at_once, deferred, absent, _]) = enter else { return };
    let others = at_once + deferred - absent;
    story.fact("H_ENTER of pages in the store, and of others", format_args!("{absent}, {others}"));
    let permille = at_once * 1000 / others.max(1);
    story.judge("of the others answered in real mode, in permille", permille, (permille > 950).into());
    let [_, deferred, _, finished] = all;
    match form {
        Form::Whole => story.judge("calls that real mode deferred", deferred, (deferred > 0).into()),
        Form::Short => story.fact("calls that real mode deferred", deferred),
    }
    story.judge("of these finished in virtual mode", finished, (finished == deferred).into());
}

fn rounds(talk: &mut Talk<'_>, sizes: &Sizes, chores: &mut Chores, story: &Story) -> Result<()> {
    shell(talk, 0, "mkdir /m && mount -t tmpfs -o size=95% none /m")?;
    story.tell("the guest is at its shell");
    promote(talk, story)?;
    let before = collapses(talk)?;
    for round in 1..=sizes.rounds {
        for verb in ["fill", "check"] {
            let command = format!("pages {verb} numbered /m/pages {} {round} 2", sizes.written);
            let mut beside = News { story, chores, verb, round, last: 0 };
            shell_while(talk, 0, &command, sizes.limit, EVERY, &mut beside)?;
            let text = monitor(talk, "memory big")?;
            let big = row(&text, "big");
            story.tell(format_args!(
                "round {round}: {verb} done; {} resident, {} pages swapped out and {} in so far",
                big.value("RESIDENT")?,
                big.value("PAGES OUT")?,
                big.value("PAGES IN")?
            ));
            if round == 1 && verb == "fill" {
                chores.collapsed = collapses(talk)?.saturating_sub(before);
                // Who reads it over and over ends with it.
                shell(talk, 0, "rm /m/warm")?;
            }
        }
    }
    Ok(())
}

/// How many blocks have been collapsed.
fn collapses(talk: &mut Talk<'_>) -> Result<u64> {
    row(&monitor(talk, "memory big")?, "big").number("COLLAPSES")
}

/// While there is room: memory that was mapped in large leaves goes to the store and comes back page by page; the guest rests,
/// and idle CPUs put the pages together again. Then once more, and now it comes back while the first round writes. Under
/// pressure nothing can be put together: what is free then lies between pages of the store, and is no block.
fn promote(talk: &mut Talk<'_>, story: &Story) -> Result<()> {
    shell(talk, 0, &format!("pages fill numbered /m/warm {WARM} 0 1"))?;
    let told = monitor(talk, &format!("reclaim big {}", 3 * WARM * 256))?;
    story.tell(told.trim_end());
    shell(talk, 0, &format!("pages check numbered /m/warm {WARM} 0 1 && sleep 3"))?;
    let text = monitor(talk, "memory big")?;
    let big = row(&text, "big");
    story.tell(format_args!(
        "{} pages have come back; {} large leaves were split, {} blocks put together",
        big.value("PAGES IN")?,
        big.value("SPLITS")?,
        big.value("COLLAPSES")?
    ));
    monitor(talk, &format!("reclaim big {}", 3 * WARM * 256))?;
    let again = format!("while pages check numbered /m/warm {WARM} 0 1; do sleep 1; done");
    shell(talk, 0, &format!("sh -c '{again}' >/dev/null 2>&1 &")).map(drop)
}

/// What is done to the guest while it works, and what came of it.
#[derive(Default)]
struct Chores {
    turn: u32,
    logging: bool,
    dirty: u64,
    /// Blocks collapsed while the first round wrote.
    collapsed: u64,
    /// Pages of passes that ended well: one with a page that is not as it should be does not.
    filled: u64,
    checked: u64,
}

impl Chores {
    fn chore(&mut self, talk: &mut Talk<'_>) -> Result<()> {
        let turn = self.turn;
        self.turn += 1;
        if self.logging {
            let text = monitor(talk, "dirty big harvest")?;
            // "1234 pages were written"
            let count = text.split_whitespace().find_map(|word| word.parse::<u64>().ok());
            self.dirty += count.unwrap_or(0);
        }
        if turn.is_multiple_of(LOGGED) {
            self.logging = !self.logging;
            monitor(talk, if self.logging { "dirty big start" } else { "dirty big stop" })?;
        }
        Ok(())
    }
}

/// The guest's news, and the chores.
struct News<'a> {
    story: &'a Story,
    chores: &'a mut Chores,
    verb: &'static str,
    round: u32,
    last: u64,
}

impl Beside for News<'_> {
    fn line(&mut self, line: &str) {
        match line.strip_prefix("AT ").and_then(|mib| mib.parse::<u64>().ok()) {
            Some(mib) if mib < self.last + 128 => {}
            Some(mib) => {
                self.last = mib;
                self.story.tell(format_args!("round {}: {} at {mib} MiB", self.round, self.verb));
            }
            None => match line.strip_prefix("DONE ").and_then(|pages| pages.parse::<u64>().ok()) {
                Some(pages) if self.verb == "fill" => self.chores.filled += pages,
                Some(pages) => self.chores.checked += pages,
                None => self.story.tell(line),
            },
        }
    }

    fn chore(&mut self, talk: &mut Talk<'_>) -> Result<()> {
        self.chores.chore(talk)
    }
}
