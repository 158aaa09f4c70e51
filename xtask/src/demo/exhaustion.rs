//! `demo exhaustion`: one guest writes pages that nobody can compress until the machine has no memory left. That guest
//! ends, and says why; the memory of the other one is as it was; and the first can be started again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hv_core::link::Outcome;

use super::Form;
use super::stage::{Place, Stage, monitor, power_off, shell};
use super::story::Story;
use crate::run::talk::Talk;
use crate::run::watch::Waited;
use crate::run::world::{End, State, World};
use crate::tables::frames;

/// How long the guest may take to use everything up.
const LIMIT: Duration = Duration::from_secs(900);
/// The VM that wants more than there is, and the one that minds its own business.
const GREEDY: usize = 0;
const MODEST: usize = 1;
/// What the modest guest keeps, in MiB.
const KEPT: u64 = 48;
/// What the greedy one writes in its next life, in MiB.
const AGAIN: u64 = 32;

/// What came of it.
struct Found {
    end: String,
    free_before: u64,
    free_then: u64,
    free_after: u64,
    /// Pages that were read back as written: VM b's, and VM a's once it was started again.
    kept: u64,
    again: u64,
    outcome: Outcome,
}

/// Plays it.
pub fn play(place: &Place<'_>, form: Form, story: &mut Story) -> Result<()> {
    let (machine, guest) = match form {
        Form::Whole => (512, 1536),
        Form::Short => (256, 512),
    };
    let manifest = format!(
        "[[vm]]\nname = 'a'\nvcpus = 2\nmemory = '{guest}MiB'\nout-of-memory = 'stop'\n[[vm]]\nname = 'b'\nmemory = '256MiB'\n"
    );
    let stage = Stage { place, manifest, cpus: 2, memory: machine, timeout: LIMIT };
    let found = stage.play(|talk| exhaust(talk, guest * 3 / 4, story))?;
    story.fact("machine and greedy guest, in MiB", format_args!("{machine}, {guest}"));
    let held = found.end == "ran out of the machine's memory";
    story.judge("how VM a ended", &found.end, held.into());
    story.fact("free frames with both booted", found.free_before);
    story.fact("free frames when VM a had ended", found.free_then);
    story.fact("free frames with VM a started again", found.free_after);
    let kept = KEPT * 256;
    story.judge("pages of VM b that were read back as written", found.kept, (found.kept == kept).into());
    let again = AGAIN * 256;
    story.judge("pages of VM a, in its next life", found.again, (found.again == again).into());
    // A run in which a guest failed has failed, whatever became of the others.
    story.judge("Trivet's verdict", format_args!("{:?}", found.outcome), (found.outcome == Outcome::Failure).into());
    story.verdict()
}

fn exhaust(talk: &mut Talk<'_>, mib: u64, story: &Story) -> Result<Found> {
    const MOUNT: &str = "mkdir /m && mount -t tmpfs -o size=95% none /m";
    let free = |talk: &mut Talk<'_>| frames(&monitor(talk, "memory")?, "free");
    shell(talk, MODEST, MOUNT)?;
    shell(talk, MODEST, &format!("pages fill random /m/kept {KEPT} 7 1"))?;
    shell(talk, GREEDY, MOUNT)?;
    let free_before = free(talk)?;
    story.tell(format_args!("both guests are at their shells; b keeps {KEPT} MiB in mind"));
    let exec = talk.begin(GREEDY, &format!("pages fill random /m/pages {mib} 1 2"), LIMIT)?;
    let deadline = Instant::now() + LIMIT;
    let end = loop {
        // The command's end is an error here: it was to be cut off.
        let ended = |world: &World| world.vms.get(GREEDY).is_none_or(|vm| matches!(vm.state, State::Ended(_)));
        match talk.watch.wait(Instant::now() + Duration::from_secs(5), ended)? {
            Waited::Yes => match talk.watch.state(GREEDY) {
                Some(State::Ended(End::Other(how))) => break how,
                Some(State::Ended(end)) => break format!("{end:?}"),
                _ => bail!("VM a is not known any more"),
            },
            Waited::Ended(status) => bail!("the machine was switched off ({status})"),
            Waited::TimedOut if Instant::now() > deadline => bail!("the memory lasts for ever"),
            Waited::TimedOut => {
                match talk.hear(&exec, Instant::now()) {
                    Ok(heard) if heard.status.is_some() => {
                        bail!("VM a has written all {mib} MiB: there was memory enough")
                    }
                    // Just now, while that was asked.
                    Err(_) if ended(talk.watch.world) => continue,
                    heard => drop(heard?),
                }
                story.tell(format_args!("{} frames are free", free(talk)?));
            }
        }
    };
    story.tell(format_args!("VM a {end}"));
    let free_then = free(talk)?;
    let kept = done(&shell(talk, MODEST, &format!("pages check random /m/kept {KEPT} 7 1"))?)?;
    story.tell("VM b finds its memory as it was");
    monitor(talk, "start a")?;
    let starts = |world: &World| world.vms.get(GREEDY).is_none_or(|vm| vm.state == State::Runs);
    if !matches!(talk.watch.wait(Instant::now() + LIMIT, starts)?, Waited::Yes) {
        bail!("VM a did not start again");
    }
    shell(talk, GREEDY, MOUNT)?;
    shell(talk, GREEDY, &format!("pages fill numbered /m/pages {AGAIN} 2 2"))?;
    let again = done(&shell(talk, GREEDY, &format!("pages check numbered /m/pages {AGAIN} 2 2"))?)?;
    story.tell("VM a has been started again, and works");
    let free_after = free(talk)?;
    Ok(Found { end, free_before, free_then, free_after, kept, again, outcome: power_off(talk)? })
}

/// How many pages the program says were as they should be.
fn done(text: &str) -> Result<u64> {
    let pages = text.lines().find_map(|line| line.trim_end().strip_prefix("DONE ")?.parse().ok());
    pages.with_context(|| format!("the program did not say that it is done: {text}"))
}
