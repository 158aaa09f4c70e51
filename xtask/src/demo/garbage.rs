//! `demo garbage`: a guest with two vCPUs writes garbage to every interface that it has, while another one boots, fills
//! memory, and reads it back over and over. The first comes to its end, the other one's memory is as it was, and Trivet
//! answers all the while.
//!
//! The guest is `tests/guests/fuzz`. What it draws follows from its seed, which it prints.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hv_core::link::Outcome;

use super::Form;
use super::stage::{Place, Stage, kernel, monitor, power_off, shell};
use super::story::Story;
use crate::run::talk::Talk;
use crate::run::world::{End, State};

/// How long a command may take, and all of it.
const LIMIT: Duration = Duration::from_secs(120);
const ALL: Duration = Duration::from_secs(900);
/// The machine's memory in MiB, if it can have so little.
const MEMORY: u64 = 512;
/// The VM that writes garbage, and the one that minds its own business.
const HOSTILE: usize = 0;
const HONEST: usize = 1;
/// What the honest guest keeps, in MiB, and in pages.
const KEPT: u64 = 32;
const PAGES: u64 = KEPT * 256;
/// Garbage of every run comes from another seed, but from the same ones each time.
const SEEDS: [u64; 4] = [1, 0x9e37_79b9, 77, 4_000_000_007];

/// What came of a run.
#[derive(Default)]
struct Found {
    /// Steps of the hostile guest's first vCPU, and exceptions that both were given.
    steps: u64,
    refused: u64,
    /// How often the honest guest found all of its memory as it should be.
    checks: usize,
    /// Of them while the garbage came.
    beside: usize,
}

/// Plays it.
pub fn play(place: &Place<'_>, form: Form, story: &mut Story) -> Result<()> {
    let (seeds, rounds) = match form {
        Form::Whole => (&SEEDS[..], 2_000_000),
        Form::Short => (&SEEDS[..1], 500_000),
    };
    let (mut all, mut outcomes) = (Found::default(), Vec::new());
    for seed in seeds {
        let manifest = format!(
            "[[vm]]\nname = 'hostile'\nvcpus = 2\nmemory = '64MiB'\nkernel = '{}'\ninitrd = 'none'\n\
             cmdline = 'seed={seed} rounds={rounds}'\n[[vm]]\nname = 'honest'\nmemory = '256MiB'\n",
            kernel(place.board, "fuzz")?.display()
        );
        let memory = MEMORY.max(place.board.memory_step.0 >> 20);
        let stage = Stage { place, manifest, cpus: 2, memory, timeout: LIMIT };
        let (found, outcome) = stage.play(|talk| Ok((watch(talk, story)?, power_off(talk)?)))?;
        all.steps += found.steps;
        all.refused += found.refused;
        all.checks += found.checks;
        all.beside += found.beside;
        outcomes.push(outcome);
    }
    let wanted = rounds * seeds.len() as u64;
    story.judge("steps of garbage on vCPU 0", all.steps, (all.steps == wanted).into());
    story.judge("exceptions that they raised", all.refused, (all.refused > 0).into());
    story.judge("times that the other guest found its memory whole", all.checks, (all.checks > seeds.len()).into());
    story.judge("of them with garbage beside", all.beside, (all.beside >= seeds.len()).into());
    let good = outcomes.iter().all(|outcome| *outcome == Outcome::Success);
    story.judge("Trivet's verdict", format_args!("{outcomes:?}"), good.into());
    story.verdict()
}

fn watch(talk: &mut Talk<'_>, story: &Story) -> Result<Found> {
    let deadline = Instant::now() + ALL;
    shell(talk, HONEST, "mkdir /m && mount -t tmpfs -o size=95% none /m")?;
    story.tell("the honest guest has booted beside it");
    shell(talk, HONEST, &format!("pages fill random /m/kept {KEPT} 7 1"))?;
    let mut found = Found::default();
    loop {
        if let Some(State::Ended(end)) = talk.watch.state(HOSTILE)
            && end != End::PowerOff
        {
            bail!("the hostile guest ended by {end:?}; it last said: {}", last_words(talk));
        }
        // Asked before: then the whole of the check was beside it.
        let over = !runs(talk)?;
        let text = shell(talk, HONEST, &format!("pages check random /m/kept {KEPT} 7 1"))?;
        if !text.lines().any(|line| line.trim_end() == format!("DONE {PAGES}")) {
            bail!("the honest guest did not read {PAGES} pages back: {text}");
        }
        let still = runs(talk)?;
        found.checks += 1;
        if over && found.beside == 0 {
            // It came to its end while the honest guest was still booting: once more, beside what was to be seen.
            monitor(talk, "start hostile")?;
            // That was the answer to having asked.
            while !runs(talk)? && Instant::now() < deadline {}
            continue;
        }
        if over {
            break;
        }
        found.beside += usize::from(!over && still);
        if Instant::now() > deadline {
            bail!("the hostile guest did not come to its end in {} s: {}", ALL.as_secs(), last_words(talk));
        }
    }
    let said = last_words(talk);
    (found.steps, found.refused) = result(&said).with_context(|| format!("the hostile guest last said: {said}"))?;
    story.tell(said);
    Ok(found)
}

/// If the hostile guest runs, by Trivet's own word: it may have been started again.
fn runs(talk: &mut Talk<'_>) -> Result<bool> {
    let list = monitor(talk, "list")?;
    let row = list.lines().find(|line| line.split_whitespace().nth(1) == Some("hostile"));
    Ok(row.context("the monitor lists it")?.trim_end().ends_with("running"))
}

/// The hostile guest's last line with text: the others are garbage too.
fn last_words(talk: &Talk<'_>) -> String {
    let said = talk.watch.world.vms.get(HOSTILE).map_or(&[][..], |vm| &vm.unread);
    let text = String::from_utf8_lossy(said).into_owned();
    let line = text.lines().rev().find(|line| line.starts_with("FUZZ ") || line.starts_with("GUEST FAILED"));
    line.map_or_else(|| format!("{} bytes without a line of its own", said.len()), |line| line.trim_end().to_owned())
}

/// `FUZZ seed 1 rounds 20 refused 3`.
fn result(line: &str) -> Option<(u64, u64)> {
    let ["FUZZ", "seed", _, "rounds", rounds, "refused", refused] = line.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    Some((rounds.parse().ok()?, refused.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::result;

    #[test]
    fn only_the_last_line_is_a_result() {
        assert_eq!(result("FUZZ seed 1 rounds 20 refused 3"), Some((20, 3)));
        assert_eq!(result("FUZZ begins"), None);
        assert_eq!(result("GUEST FAILED: x"), None);
    }
}
