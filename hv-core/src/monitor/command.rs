//! What the operator may type: parsing, and one clear line for whatever is not understood.

use core::fmt;

/// A command with its arguments. Names of VMs are not looked up here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// All VMs, one line each.
    List,
    /// Counters of one VM, or of all.
    Stat(Option<&'a str>),
    /// Where the machine's memory is, or one VM's.
    Memory(Option<&'a str>),
    /// A picture of one VM's memory, or of every VM's.
    Map(Option<&'a str>),
    /// Begin, harvest or end a VM's dirty log.
    Dirty(&'a str, DirtyOrder),
    /// Take so many pages of a VM out of memory.
    Reclaim(&'a str, u64),
    /// Stop a VM at once.
    Stop(&'a str),
    /// Start a VM that has ended.
    Start(&'a str),
    /// Give a VM the terminal.
    Console(&'a str),
    /// Switch the machine off.
    PowerOff,
    /// What can be typed.
    Help,
    /// Panic, to see that a panic is reported well. Not in release images.
    #[cfg(debug_assertions)]
    Panic,
}

/// What is to be done with a VM's dirty log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirtyOrder {
    /// Writes are logged from now on.
    Start,
    /// Say how many pages were written since the last time, and begin anew.
    Harvest,
    /// The same, and say which: a line a run of pages, its first guest frame and how many.
    List,
    /// Writes are not logged any more.
    Stop,
}

/// One line of the list of commands.
pub(super) struct Spec {
    /// As typed.
    pub(super) name: &'static str,
    /// Its arguments, as `help` and the error lines show them.
    pub(super) args: &'static str,
    /// One line for `help`.
    pub(super) help: &'static str,
    make: for<'a> fn(&[&'a str]) -> Option<Command<'a>>,
}

/// Most arguments of a command, and one more, which is one too many.
const MAX_ARGS: usize = 3;

/// `command`, if there are no arguments.
fn alone<'a>(args: &[&str], command: Command<'a>) -> Option<Command<'a>> {
    args.is_empty().then_some(command)
}

/// The only argument, if there is one.
fn optional<'a>(args: &[&'a str]) -> Option<Option<&'a str>> {
    (args.len() <= 1).then(|| args.first().copied())
}

/// The only argument.
fn only<'a>(args: &[&'a str]) -> Option<&'a str> {
    optional(args)?
}

fn memory<'a>(args: &[&'a str]) -> Option<Command<'a>> {
    match args {
        ["map", rest @ ..] => optional(rest).map(Command::Map),
        _ => optional(args).map(Command::Memory),
    }
}

fn dirty<'a>(args: &[&'a str]) -> Option<Command<'a>> {
    let [vm, what] = args else { return None };
    let order = match *what {
        "start" => DirtyOrder::Start,
        "harvest" => DirtyOrder::Harvest,
        "list" => DirtyOrder::List,
        "stop" => DirtyOrder::Stop,
        _ => return None,
    };
    Some(Command::Dirty(vm, order))
}

fn reclaim<'a>(args: &[&'a str]) -> Option<Command<'a>> {
    let [vm, pages] = args else { return None };
    pages.parse().ok().map(|pages| Command::Reclaim(vm, pages))
}

macro_rules! spec {
    ($name:literal, $args:literal, $help:literal, $make:expr) => {
        Spec { name: $name, args: $args, help: $help, make: $make }
    };
}

/// Every command, in the order of `help`.
pub(super) const COMMANDS: &[Spec] = &[
    spec!("list", "", "all VMs and their states", |a| alone(a, Command::List)),
    spec!("stat", " [VM]", "exits and processor time; of one VM, everything", |a| optional(a).map(Command::Stat)),
    spec!("memory", " [map] [VM]", "frames in use, the machine's or a VM's; map: a picture", memory),
    spec!("dirty", " VM start|harvest|list|stop", "log a VM's writes; pages written since the last harvest", dirty),
    spec!("reclaim", " VM PAGES", "take pages that are not in use out of a VM's memory", reclaim),
    spec!("stop", " VM", "stop a VM at once", |a| only(a).map(Command::Stop)),
    spec!("start", " VM", "start a VM that has ended", |a| only(a).map(Command::Start)),
    spec!("console", " VM", "give a VM the terminal (also: focus VM)", |a| only(a).map(Command::Console)),
    spec!("poweroff", "", "switch the machine off, whatever its VMs are doing", |a| alone(a, Command::PowerOff)),
    #[cfg(debug_assertions)]
    spec!("panic", "", "make Trivet panic", |a| alone(a, Command::Panic)),
    spec!("help", "", "this list", |a| alone(a, Command::Help)),
];

/// Other words for the same thing.
const ALIASES: &[(&str, &str)] = &[("focus", "console"), ("?", "help")];

/// Why a line is not a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError<'a> {
    /// No such command; the nearest one, if any is near.
    Unknown(&'a str, Option<&'static str>),
    /// The command's name and what it takes.
    Usage(&'static str, &'static str),
}

impl fmt::Display for ParseError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word, Some(near)) => write!(f, "no command \"{word}\"; did you mean \"{near}\"?"),
            Self::Unknown(word, None) => write!(f, "no command \"{word}\"; \"help\" lists them"),
            Self::Usage(name, args) => write!(f, "usage: {name}{args}"),
        }
    }
}

/// Parses one line. An empty line is no command and no error.
pub fn parse(line: &str) -> Result<Option<Command<'_>>, ParseError<'_>> {
    let mut words = line.split_ascii_whitespace();
    let Some(typed) = words.next() else { return Ok(None) };
    let name = ALIASES.iter().find(|(alias, _)| *alias == typed).map_or(typed, |(_, name)| *name);
    let Some(spec) = COMMANDS.iter().find(|spec| spec.name == name) else {
        return Err(ParseError::Unknown(typed, nearest(typed, COMMANDS.iter().map(|spec| spec.name))));
    };
    let mut args = [""; MAX_ARGS];
    let given = args.iter_mut().zip(words).map(|(arg, word)| *arg = word).count();
    let command = args.get(..given).and_then(spec.make);
    command.map(Some).ok_or(ParseError::Usage(spec.name, spec.args))
}

/// Words longer than this are compared by their beginning only.
const LONGEST: usize = 32;

/// The candidate that `word` was most likely meant to be: one of which it is the beginning, or else the one that takes
/// the fewest single-letter changes, if they are one, or few for its length.
pub(super) fn nearest<'n>(word: &str, candidates: impl Iterator<Item = &'n str> + Clone) -> Option<&'n str> {
    if let Some(begun) = candidates.clone().find(|name| name.starts_with(word)) {
        return Some(begun);
    }
    let few = (word.len().min(LONGEST) / 3).max(1);
    // As many changes as letters would make it any word.
    let close = |name: &&str| distance(word, name) <= few && distance(word, name) < word.len();
    candidates.filter(close).min_by_key(|name| distance(word, name))
}

/// Single-byte insertions, deletions and replacements that turn one word into the other.
fn distance(from: &str, to: &str) -> usize {
    let mut row = [0_usize; LONGEST + 1];
    for (at, cell) in row.iter_mut().enumerate() {
        *cell = at;
    }
    for (done, a) in from.bytes().take(LONGEST).enumerate() {
        let (mut diagonal, mut left) = (done, done.saturating_add(1));
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (b, cell) in to.bytes().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal.saturating_add(usize::from(a != b));
            diagonal = *cell;
            left = replaced.min(left.saturating_add(1)).min(diagonal.saturating_add(1));
            *cell = left;
        }
    }
    row.get(to.len().min(LONGEST)).copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{COMMANDS, Command, DirtyOrder, ParseError, distance, nearest, parse};
    use alloc::format;
    use alloc::string::ToString;

    #[test]
    fn every_command_of_the_list_parses_with_what_it_takes() {
        for spec in COMMANDS {
            let args = spec.args.replace("VM", "a").replace("PAGES", "7").replace("start|", "start |");
            let args = args.split('|').next().unwrap().replace("[map]", "").replace("[a]", "");
            assert!(matches!(parse(&format!("  {} {args} ", spec.name)), Ok(Some(_))), "{} {args}", spec.name);
            for wrong in ["a b c", "a b c d e f"] {
                let line = format!("{} {wrong}", spec.name);
                assert_eq!(parse(&line), Err(ParseError::Usage(spec.name, spec.args)), "{line}");
            }
        }
        for (line, command) in [
            ("stat a", Command::Stat(Some("a"))),
            ("stat", Command::Stat(None)),
            ("focus b", Command::Console("b")),
            ("memory", Command::Memory(None)),
            ("memory a", Command::Memory(Some("a"))),
            ("memory map", Command::Map(None)),
            ("memory map map", Command::Map(Some("map"))),
            ("dirty a start", Command::Dirty("a", DirtyOrder::Start)),
            ("dirty a harvest", Command::Dirty("a", DirtyOrder::Harvest)),
            ("dirty a list", Command::Dirty("a", DirtyOrder::List)),
            ("dirty a stop", Command::Dirty("a", DirtyOrder::Stop)),
            ("reclaim a 512", Command::Reclaim("a", 512)),
        ] {
            assert_eq!(parse(line), Ok(Some(command)));
        }
        assert_eq!(parse(" \t "), Ok(None));
    }

    #[test]
    fn a_wrong_line_gets_one_line_with_a_suggestion() {
        let text = |line| parse(line).unwrap_err().to_string();
        assert_eq!(text("lst"), "no command \"lst\"; did you mean \"list\"?");
        assert_eq!(text("mem"), "no command \"mem\"; did you mean \"memory\"?");
        assert_eq!(text("power-off"), "no command \"power-off\"; did you mean \"poweroff\"?");
        assert_eq!(text("frobnicate"), "no command \"frobnicate\"; \"help\" lists them");
        assert_eq!(text("stop"), "usage: stop VM");
        assert_eq!(text("list a"), "usage: list");
        assert_eq!(text("dirty a begin"), "usage: dirty VM start|harvest|list|stop");
        for line in ["reclaim a", "reclaim a -1", "reclaim a 99999999999999999999", "reclaim a many"] {
            assert_eq!(text(line), "usage: reclaim VM PAGES");
        }
    }

    #[test]
    fn distances_are_those_of_the_textbook() {
        for (a, b, n) in [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)] {
            assert_eq!((distance(a, b), distance(b, a)), (n, n), "{a} {b}");
        }
        let long = "x".repeat(500);
        assert_eq!(distance(&long, &long), 0, "bounded, and no panic");
        assert_eq!(nearest("zz", ["alpha", "beta"].into_iter()), None);
    }
}
