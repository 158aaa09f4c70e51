//! `demo lives`: VMs are booted and ended over and over, half of them by their own shell, half by the monitor in the
//! middle of their boot. Afterwards everything is where it was: frames, tables, partitions.
//!
//! Several VMs take turns on one machine, so that one boots while another is taken apart. What is compared is measured
//! twice while all of them have ended: after each has lived once, and at the end. One more VM sleeps all the time, and
//! keeps the machine from being over.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Form;
use super::stage::{Place, Stage, kernel, monitor, power_off};
use super::story::Story;
use crate::run::talk::Talk;
use crate::run::watch::Waited;
use crate::run::world::{End, State};
use crate::tables::{frames, row};
use hv_core::link::Outcome;

/// VMs that take turns.
const VMS: usize = 3;
/// Physical CPUs.
const CPUS: u16 = 2;
/// Of so many tags a demo need not see the last one.
const MANY: u64 = 1000;
/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a boot, or an end, may take.
const LIMIT: Duration = Duration::from_secs(120);

/// How a life is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// At its shell, which switches it off.
    PowerOff,
    /// In the middle of its boot, by the monitor: when its console has said so much of what it says until its shell.
    Stop {
        /// Hundredths.
        percent: usize,
    },
}

impl Plan {
    /// Every other one is stopped, each at another place.
    fn of(life: usize) -> Self {
        if life.is_multiple_of(2) { Self::PowerOff } else { Self::Stop { percent: life * 37 % 95 } }
    }
}

/// What may be no other at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Balance {
    free: u64,
    guests: u64,
    tables: u64,
}

/// Tags of CPUs' translation caches, where VMs have none of their own.
#[derive(Clone, Copy, Debug)]
struct Tags {
    /// Of a CPU.
    each: u64,
    /// Given out since the boot, on all CPUs.
    given: u64,
}

/// How many lives ended how.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    begun: usize,
    powered_off: usize,
    stopped: usize,
}

/// Plays it.
pub fn play(place: &Place<'_>, form: Form, story: &mut Story) -> Result<()> {
    let lives = match form {
        Form::Whole => 200,
        Form::Short => 16,
    };
    let sleeper = kernel(place.board, "writer")?;
    let mut manifest = format!(
        "[[vm]]\nname = 'sleeper'\nmemory = '64MiB'\nkernel = '{}'\ninitrd = 'none'\ncmdline = 'sleep'\n",
        sleeper.display()
    );
    for name in names() {
        manifest += &format!("[[vm]]\nname = '{name}'\nmemory = '256MiB'\n");
    }
    let stage = Stage { place, manifest, cpus: CPUS, memory: 1024, timeout: LIMIT };
    let (count, before, after, tags, outcome) = stage.play(|talk| {
        // Each lives once to its shell before anything is measured; how much its console says is known from then on.
        let whole = (1..=VMS).map(|vm| first_life(talk, vm)).collect::<Result<Vec<_>>>()?;
        let before = balance(talk)?;
        story.tell(format_args!("{VMS} VMs have lived once; {} frames are free", before.free));
        let count = take_turns(talk, &whole, lives, story)?;
        let after = balance(talk)?;
        let tags = tags(&monitor(talk, "stat")?)?;
        Ok((count, before, after, tags, power_off(talk)?))
    })?;
    story.fact("VMs that take turns", VMS);
    story.judge("lives ended by the guest, at its shell", count.powered_off, (count.powered_off == lives / 2).into());
    story.judge("lives ended by the monitor, in mid-boot", count.stopped, (count.stopped == lives / 2).into());
    for (what, was, is) in [
        ("free frames", before.free, after.free),
        ("frames of guests", before.guests, after.guests),
        ("frames of tables", before.tables, after.tables),
    ] {
        story.judge(format!("{what}, before and after"), format_args!("{was} {is}"), (was == is).into());
    }
    match tags {
        // Nothing to balance: `hv_core::isa::VmTag`.
        None => {
            story.fact("VMs' tags", "each VM's number plus 1, the same in every life: none is given out or comes back")
        }
        // None comes back by itself: all do at once, when a CPU has given out its last one. So none is lost if more were given
        // out than there are, and every life had one.
        Some(Tags { each, given }) => {
            let all = each * u64::from(CPUS);
            let what = format!("tags given out by {CPUS} CPUs, of {each} each");
            if all < MANY {
                story.judge(what, given, (given > all).into())
            } else {
                story.fact(what, given)
            };
        }
    }
    story.judge("Trivet's verdict", format_args!("{outcome:?}"), (outcome == Outcome::Success).into());
    story.verdict()
}

fn names() -> impl Iterator<Item = String> {
    (1..=VMS).map(|n| format!("turn-{n}"))
}

/// Lets a VM boot to its shell and stops it; returns how many bytes its console has said by then.
fn first_life(talk: &mut Talk<'_>, vm: usize) -> Result<usize> {
    let deadline = Instant::now() + LIMIT;
    while !talk.at_shell(vm) {
        look(talk, deadline)?;
    }
    let said = talk.watch.world.vms.get(vm).map_or(0, |vm| vm.unread.len());
    let name = talk.watch.name(vm);
    monitor(talk, &format!("stop {name}"))?;
    while !matches!(talk.watch.state(vm), Some(State::Ended(_))) {
        look(talk, deadline)?;
    }
    Ok(said)
}

fn look(talk: &mut Talk<'_>, deadline: Instant) -> Result<()> {
    if let Waited::Ended(status) = talk.watch.wait(Instant::now() + LOOK, |_| false)? {
        bail!("the machine was switched off: {status}");
    }
    if Instant::now() >= deadline {
        bail!("a VM did not boot or end within {} s", LIMIT.as_secs());
    }
    Ok(())
}

/// `lives` lives on all VMs together. `whole` is how much each VM's console says until its shell.
fn take_turns(talk: &mut Talk<'_>, whole: &[usize], lives: usize, story: &Story) -> Result<Count> {
    let mut count = Count::default();
    let mut plans: Vec<Option<(Plan, Ordered)>> = vec![None; VMS];
    let mut deadline = Instant::now() + LIMIT;
    while count.powered_off + count.stopped < lives {
        look(talk, deadline)?;
        for (vm, (plan, whole)) in (1..).zip(plans.iter_mut().zip(whole)) {
            let (name, state) = (talk.watch.name(vm), talk.watch.state(vm).context("there is such a VM")?);
            match (&state, *plan) {
                (State::Ended(_), None) if count.begun < lives => {
                    *plan = Some((Plan::of(count.begun), Ordered::Nothing));
                    count.begun += 1;
                    monitor(talk, &format!("start {name}"))?;
                }
                (State::Ended(end), Some((meant, Ordered::End))) => {
                    match (end, meant) {
                        (End::PowerOff, Plan::PowerOff) => count.powered_off += 1,
                        (End::Stopped, Plan::Stop { .. }) => count.stopped += 1,
                        _ => bail!("{name} was to end by {meant:?}, and ended by {end:?}"),
                    }
                    *plan = None;
                    deadline = Instant::now() + LIMIT;
                    let done = count.powered_off + count.stopped;
                    if done.is_multiple_of((lives / 8).max(1)) {
                        story.tell(format_args!("{done} of {lives} lives"));
                    }
                }
                (State::Runs, Some((Plan::PowerOff, Ordered::Nothing))) if talk.at_shell(vm) => {
                    talk.watch.type_to(vm, "poweroff -f\n");
                    *plan = Some((Plan::PowerOff, Ordered::End));
                }
                (State::Runs, Some((meant @ Plan::Stop { percent }, Ordered::Nothing))) => {
                    if talk.at_shell(vm) {
                        bail!("{name} was to be stopped in mid-boot, but has reached its shell");
                    }
                    let said = talk.watch.world.vms.get(vm).map_or(0, |vm| vm.unread.len());
                    if said * 100 >= whole * percent {
                        monitor(talk, &format!("stop {name}"))?;
                        *plan = Some((meant, Ordered::End));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(count)
}

/// What a VM was told in its present life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ordered {
    /// To start.
    Nothing,
    /// To end.
    End,
}

/// What the monitor says of the machine while all VMs but the sleeper have ended.
fn balance(talk: &mut Talk<'_>) -> Result<Balance> {
    let text = monitor(talk, "memory")?;
    for name in names() {
        let resident = row(&text, &name).number("FRAMES")?;
        if resident != 0 {
            bail!("{name} has ended and still holds {resident} frames:\n{text}");
        }
    }
    Ok(Balance { free: frames(&text, "free")?, guests: frames(&text, "guests")?, tables: frames(&text, "tables")? })
}

/// What `stat` says of tags, if it does.
fn tags(text: &str) -> Result<Option<Tags>> {
    let Some(line) = text.lines().find_map(|line| line.strip_prefix("tags: ")) else { return Ok(None) };
    let numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect::<Vec<u64>>();
    match numbers[..] {
        [each, given] => Ok(Some(Tags { each, given })),
        _ => bail!("stat says of tags {line:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Plan, Tags, tags};

    #[test]
    fn tags_are_read_where_there_are_any() {
        assert!(matches!(
            tags("VM  HALTS\na 1\ntags: 15 a CPU, 1234 given out\n"),
            Ok(Some(Tags { each: 15, given: 1234 }))
        ));
        assert!(matches!(tags("VM  HALTS\na 1\n"), Ok(None)));
        assert!(tags("tags: 15\n").is_err());
    }

    #[test]
    fn half_of_the_lives_are_stopped_at_many_places() {
        let plans: Vec<Plan> = (0..200).map(Plan::of).collect();
        assert_eq!(plans.iter().filter(|plan| **plan == Plan::PowerOff).count(), 100);
        let mut places: Vec<_> =
            plans.iter().filter(|plan| **plan != Plan::PowerOff).map(|p| format!("{p:?}")).collect();
        places.sort();
        places.dedup();
        assert!(places.len() > 60, "{}", places.len());
    }
}
