//! `--exec` and `--monitor`, in the order in which they stand on the command line.

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use hv_core::guest::manifest::is_name;

use crate::error::{refuse, suggestion};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A command for a guest's shell.
    Exec {
        /// The guest's number.
        vm: usize,
        /// The command.
        command: String,
    },
    /// A line for Trivet's monitor.
    Monitor(String),
}

/// What was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Typed {
    Exec(String),
    Monitor(String),
}

/// The options as typed; they are checked once the VMs' names are known.
#[derive(Clone, Debug, Default)]
pub struct Steps(Vec<Typed>);

impl Steps {
    /// True if there are none: then the console is the user's.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Finds out which VM each step is for.
    pub fn resolve(&self, names: &[String]) -> Result<Vec<Action>> {
        self.0.iter().map(|typed| resolve(typed, names)).collect()
    }
}

fn resolve(typed: &Typed, names: &[String]) -> Result<Action> {
    let text = match typed {
        Typed::Monitor(line) => return Ok(Action::Monitor(line.clone())),
        Typed::Exec(text) => text,
    };
    match text.split_once(':') {
        Some((name, command)) if is_name(name) => match names.iter().position(|known| known == name) {
            Some(vm) => Ok(Action::Exec { vm, command: command.to_owned() }),
            None => {
                let hint = suggestion(name, names.iter().map(String::as_str));
                Err(refuse(format!("--exec {text:?}: there is no VM {name:?}{hint} (VMs: {})", names.join(", "))))
            }
        },
        _ => Ok(Action::Exec { vm: 0, command: text.clone() }),
    }
}

impl Args for Steps {
    fn augment_args(command: Command) -> Command {
        let arg = |name: &'static str| {
            Arg::new(name).long(name).action(ArgAction::Append).value_parser(clap::value_parser!(String))
        };
        command
            .arg(
                arg("exec")
                    .value_name("[VM:]CMD")
                    .help("Run CMD in the shell of a guest (the first one by default), print its output"),
            )
            .arg(arg("monitor").value_name("CMD").help("Run CMD in Trivet's monitor, print its output"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Steps {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut found: Vec<(usize, Typed)> = Vec::new();
        for (name, make) in [("exec", Typed::Exec as fn(String) -> Typed), ("monitor", Typed::Monitor)] {
            let places = matches.indices_of(name).into_iter().flatten();
            let texts = matches.get_many::<String>(name).into_iter().flatten();
            found.extend(places.zip(texts).map(|(place, text)| (place, make(text.clone()))));
        }
        found.sort_by_key(|(place, _)| *place);
        Ok(Self(found.into_iter().map(|(_, typed)| typed).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Steps};
    use clap::{Args as _, Command, FromArgMatches as _};

    fn steps(words: &[&str], names: &[&str]) -> Result<Vec<Action>, String> {
        let matches = Steps::augment_args(Command::new("x")).get_matches_from(std::iter::once(&"x").chain(words));
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let resolved = Steps::from_arg_matches(&matches).unwrap().resolve(&names);
        resolved.map_err(|error| error.to_string())
    }

    #[test]
    fn the_order_of_the_command_line_is_kept() {
        let exec = |vm, command: &str| Action::Exec { vm, command: command.to_owned() };
        let got = steps(&["--exec", "b:one", "--monitor", "list", "--exec", "echo a:b"], &["a", "b"]);
        assert_eq!(got, Ok(vec![exec(1, "one"), Action::Monitor("list".into()), exec(0, "echo a:b")]));
    }

    #[test]
    fn an_unknown_vm_is_refused() {
        let error = steps(&["--exec", "linus:true"], &["linux"]).unwrap_err();
        assert!(error.contains("did you mean \"linux\"?"), "{error}");
    }
}
