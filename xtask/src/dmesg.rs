//! `cargo xtask dmesg`: what a guest's kernel complains of, beside what the same kernel complains of without Trivet.
//!
//! The default guest is booted twice: under Trivet, and by itself on the machine that the board's file calls direct, which
//! has the same processor. Its messages of priority 4 (warning) and more urgent ones are compared without their times and
//! addresses. One that comes only under Trivet is something that Trivet does not do as hardware does. What the other kernel
//! says too, it says of a machine alike, whatever priority it gives that.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hv_core::link::LinkMode;

use crate::board::{Board, Machine};
use crate::bundle::{Temporary, pack};
use crate::emulator::{Emulator, Happened, Launch};
use crate::error::refuse;
use crate::guests::{self, READY};
use crate::image::{self, Profile, Variant};
use crate::log::Log;
use crate::progress::step;
use crate::run::plan::{Plan, Wish};
use crate::run::shell;
use crate::run::tail::Echo;
use crate::run::talk::Talk;
use crate::run::world::World;
use crate::setup;
use crate::units::Size;

/// What a message begins with that tells how long something took: it comes or not as the machine that builds is busy or idle.
const OF_THE_LOAD: &str = "hrtimer: interrupt took ";
/// Prints the kernel's messages with their priorities.
const MESSAGES: &str = "dmesg -r";
/// The least urgent priority that is looked at: a warning.
const WARNING: u32 = 4;
/// The least urgent that there is.
const DEBUG: u32 = 7;
/// Memory of the machine that the kernel has for itself: the default guest's.
const MEMORY: Size = Size(512 << 20);
/// Hexadecimal digits of which at least so many in a row are an address.
const ADDRESS: usize = 6;

/// Compares, prints the difference; fails if there is a message under Trivet only.
pub fn run(board: &str, machine: Option<&str>) -> Result<()> {
    let board = Board::named(board)?;
    let machine = board.machine(machine)?;
    let Some(direct) = &machine.direct else {
        let what = "can be booted by the guest's kernel itself: there is nothing to compare with";
        return Err(refuse(format!("no machine like {} of board {} {what}", machine.name, board.name)));
    };
    setup::need_to_run(&board, machine)?;
    let limit = board.timeout(machine);
    let beneath = step("booting under Trivet", || under_trivet(&board, machine, limit))?;
    let direct = Machine { args: direct.clone(), direct: None, ..machine.clone() };
    let alone = step("booting without Trivet", || without(&board, &direct, limit))?;
    for line in own(&alone, &beneath)? {
        println!("- {line}");
    }
    let added = own(&beneath, &alone)?;
    for line in &added {
        println!("+ {line}");
    }
    let extra = added.len();
    println!(
        "{} on {}: {} complaints without Trivet, {} under it, {extra} of them its own",
        board.name,
        machine.name,
        said(&alone, WARNING)?.len(),
        said(&beneath, WARNING)?.len()
    );
    if extra == 0 { Ok(()) } else { bail!("the guest's kernel has {extra} complaints that it has under Trivet only") }
}

/// The kernel's messages as a guest.
fn under_trivet(board: &Board, machine: &Machine, limit: Duration) -> Result<String> {
    let plan = Plan::new(board, machine, &Wish::default(), LinkMode::Split)?;
    let image = image::build(board, Profile::Release, Variant::Guests)?;
    let bundle = Temporary::write("dmesg.tar", &pack(&plan.config, &plan.images)?)?;
    let mut emulator = Emulator::start(&Launch {
        board,
        machine,
        args: &board.emulator.args,
        cpus: plan.cpus,
        memory: plan.memory,
        image: &image,
        bundle: Some(bundle.path()),
    })?;
    let mut world = World::new(plan.names().into_iter(), Log::of(&image)?, Echo::Kept);
    let mut text = Vec::new();
    let mut talk = Talk::new(&mut emulator, &mut world, limit);
    let done = talk.exec(0, MESSAGES, &mut |part| {
        text.extend_from_slice(part);
        Ok(())
    });
    let done = done.and_then(|status| talk.switch_off().map(|()| status));
    match done {
        Ok(0) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Ok(status) => bail!("{MESSAGES} ended with status {status} in the guest"),
        Err(why) => {
            world.finish();
            world.print_tails();
            Err(why)
        }
    }
}

/// The kernel's messages on a machine of its own, with as many CPUs and as much memory.
fn without(board: &Board, machine: &Machine, limit: Duration) -> Result<String> {
    let guest = guests::default(board)?;
    let mut args = board.emulator.args.clone();
    args.extend(["-no-reboot", "-append", &board.guest.cmdline].map(str::to_owned));
    let mut emulator = Emulator::start_kernel(&Launch {
        board,
        machine,
        args: &args,
        cpus: board.cpus(machine),
        memory: MEMORY,
        image: &guest.kernel,
        bundle: Some(&guest.initrd),
    })?;
    let mut console = Console { emulator: &mut emulator, unread: Vec::new(), deadline: Instant::now() + limit };
    let ready = |unread: &mut Vec<u8>| {
        let marked = unread.windows(READY.len()).any(|part| part == READY.as_bytes());
        (marked && shell::at_prompt(unread)).then_some(())
    };
    console.wait("its shell", ready)?;
    let answer = |number| {
        move |unread: &mut Vec<u8>| {
            let found = shell::scan(unread, number);
            found.status.map(|status| (status, found.output))
        }
    };
    console.emulator.send(shell::quiet(1).as_bytes());
    console.wait("a quiet shell", answer(1))?;
    let typed = shell::typed(2, MESSAGES).context("the command is short")?;
    console.emulator.send(typed.as_bytes());
    let mut output = Vec::new();
    let status = console.wait(MESSAGES, |unread| {
        let found = shell::scan(unread, 2);
        output.extend(found.output);
        found.status
    })?;
    if status != 0 {
        bail!("{MESSAGES} ended with status {status} without Trivet");
    }
    Ok(String::from_utf8_lossy(&output).into_owned())
}

/// The console of a machine without Trivet: bare bytes.
struct Console<'a> {
    emulator: &'a mut Emulator,
    unread: Vec<u8>,
    deadline: Instant,
}

impl Console<'_> {
    /// Waits until `look` finds what it wants in what nobody has read yet.
    fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&mut Vec<u8>) -> Option<T>) -> Result<T> {
        loop {
            if let Some(found) = look(&mut self.unread) {
                return Ok(found);
            }
            let why = match self.emulator.next(self.deadline)? {
                Happened::Bytes(bytes) => {
                    self.unread.extend(bytes);
                    continue;
                }
                Happened::Silence => "the time is over".to_owned(),
                Happened::Ended(status) => format!("the emulator ended ({status}): {}", self.emulator.complaints()),
            };
            let text = String::from_utf8_lossy(&self.unread).into_owned();
            let tail = text.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
            bail!("without Trivet {what} was not reached, {why}; the last lines:\n{tail}");
        }
    }
}

/// What is complained of in `messages` and not said at all in `others`.
fn own(messages: &str, others: &str) -> Result<BTreeSet<String>> {
    Ok(&said(messages, WARNING)? - &said(others, DEBUG)?)
}

/// The messages of priority `least` and more urgent ones, each without what differs from boot to boot.
fn said(messages: &str, least: u32) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut lines = 0;
    for line in messages.lines() {
        let Some((priority, text)) = line.strip_prefix('<').and_then(|rest| rest.split_once('>')) else { continue };
        // Behind the lowest three bits is who speaks.
        let priority: u32 = priority.parse().with_context(|| format!("{line:?} has no priority"))?;
        lines += 1;
        let text = plain(text);
        if priority % 8 <= least && !text.starts_with(OF_THE_LOAD) {
            found.insert(text);
        }
    }
    // A kernel always says something; if nothing is found, it is the command that has failed.
    if lines == 0 {
        bail!("{MESSAGES} printed no message:\n{messages}")
    }
    Ok(found)
}

/// A message without its time and with `ADDRESS` for every address.
fn plain(text: &str) -> String {
    let text = text.trim_end();
    let text = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((time, rest)) if time.trim().parse::<f64>().is_ok() => rest.trim_start(),
        _ => text,
    };
    let mut plain = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(if end == 0 { first.len_utf8() } else { end });
        plain += if is_address(word) { "ADDRESS" } else { word };
        rest = behind;
    }
    plain
}

fn is_address(word: &str) -> bool {
    let digits = word.strip_prefix("0x");
    let hexadecimal = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit());
    // A word of letters alone is a word, whatever its letters are.
    digits.is_some_and(hexadecimal)
        || word.len() >= ADDRESS && hexadecimal(word) && word.chars().any(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{WARNING, own, plain, said};

    #[test]
    fn times_and_addresses_are_taken_away_and_nothing_else() {
        for (text, wanted) in [
            ("[    2.420382] pci-host-generic 4010000000.pcie: window", "pci-host-generic ADDRESS.pcie: window"),
            ("[   12.0] pc : 0xffffa0b+0x1c/0x20", "pc : ADDRESS+ADDRESS/ADDRESS"),
            ("[Firmware Bug]: x", "[Firmware Bug]: x"),
            ("added 12345 defaced", "added 12345 defaced"),
            ("GICv3: 988 SPIs, é", "GICv3: 988 SPIs, é"),
        ] {
            assert_eq!(plain(text), wanted);
        }
    }

    #[test]
    fn only_what_is_urgent_counts() {
        let text = "~ # dmesg\n<6>[ 0.1] Booting\n<4>[ 0.2] warned at 0x10\n<3>[ 0.3] failed\n<12>[ 9.1] said\n<13>[ 9.2] hm\n\
                    <4>[ 9.3] hrtimer: interrupt took 1234567 ns\n";
        let found: Vec<String> = said(text, WARNING).unwrap().into_iter().collect();
        assert_eq!(found, ["failed", "said", "warned at ADDRESS"]);
        assert!(said("sh: dmesg: not found\n", WARNING).is_err());
        assert!(said("<x>[ 0.1] odd\n", WARNING).is_err());
    }

    #[test]
    fn what_the_other_kernel_says_too_is_no_complaint_of_its_own_however_urgent() {
        let one = "<4>[ 0.1] none at 0x10\n<4>[ 0.2] mine\n<6>[ 0.3] fine\n";
        let other = "<6>[ 0.4] none at 0x20\n<3>[ 0.5] theirs\n";
        let [mine, theirs] = [own(one, other), own(other, one)].map(|own| Vec::from_iter(own.unwrap()));
        assert_eq!((mine, theirs), (vec!["mine".to_owned()], vec!["theirs".to_owned()]));
    }
}
