//! What the operator may type: parsing, and one clear line for whatever is not understood.

use core::fmt;

/// A command with its argument, if it takes one. Names of VMs are not looked up here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// All VMs, one line each.
    List,
    /// Counters of one VM, or of all.
    Stat(Option<&'a str>),
    /// Where the machine's memory is, or one VM's.
    Memory(Option<&'a str>),
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

/// How many arguments a command takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Args {
    None,
    OptionalVm,
    Vm,
}

/// One line of the list of commands.
pub(super) struct Spec {
    /// As typed.
    name: &'static str,
    args: Args,
    /// One line for `help`.
    pub(super) help: &'static str,
    make: for<'a> fn(Option<&'a str>) -> Option<Command<'a>>,
}

impl Spec {
    /// As `help` and the error lines show it.
    pub(super) const fn usage(&self) -> (&'static str, &'static str) {
        let args = match self.args {
            Args::None => "",
            Args::OptionalVm => " [VM]",
            Args::Vm => " VM",
        };
        (self.name, args)
    }
}

macro_rules! spec {
    ($name:literal, $args:ident, $help:literal, $make:expr) => {
        Spec { name: $name, args: Args::$args, help: $help, make: $make }
    };
}

/// Every command, in the order of `help`.
pub(super) const COMMANDS: &[Spec] = &[
    spec!("list", None, "all VMs and their states", |_| Some(Command::List)),
    spec!("stat", OptionalVm, "exits and processor time", |vm| Some(Command::Stat(vm))),
    spec!("memory", OptionalVm, "frames in use, the machine's or a VM's", |vm| Some(Command::Memory(vm))),
    spec!("stop", Vm, "stop a VM at once", |vm| vm.map(Command::Stop)),
    spec!("start", Vm, "start a VM that has ended", |vm| vm.map(Command::Start)),
    spec!("console", Vm, "give a VM the terminal (also: focus VM)", |vm| vm.map(Command::Console)),
    spec!("poweroff", None, "switch the machine off, whatever its VMs are doing", |_| Some(Command::PowerOff)),
    #[cfg(debug_assertions)]
    spec!("panic", None, "make Trivet panic", |_| Some(Command::Panic)),
    spec!("help", None, "this list", |_| Some(Command::Help)),
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
    let (arg, rest) = (words.next(), words.next());
    let fits = match spec.args {
        Args::None => arg.is_none(),
        Args::OptionalVm => rest.is_none(),
        Args::Vm => arg.is_some() && rest.is_none(),
    };
    let (name, args) = spec.usage();
    match (spec.make)(arg) {
        Some(command) if fits => Ok(Some(command)),
        _ => Err(ParseError::Usage(name, args)),
    }
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
    use super::{COMMANDS, Command, ParseError, distance, nearest, parse};
    use alloc::string::ToString;

    #[test]
    fn every_command_of_the_list_parses_with_what_it_takes() {
        for spec in COMMANDS {
            let (name, args) = spec.usage();
            let line = alloc::format!("  {name} {} ", if args == " VM" { "a" } else { "" });
            assert!(matches!(parse(&line), Ok(Some(_))), "{line}");
            assert_eq!(parse(&alloc::format!("{name} a b")), Err(ParseError::Usage(name, args)));
        }
        assert_eq!(parse("stat a"), Ok(Some(Command::Stat(Some("a")))));
        assert_eq!(parse("stat"), Ok(Some(Command::Stat(None))));
        assert_eq!(parse("focus b"), Ok(Some(Command::Console("b"))));
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
