//! A worker's copy of the source, where checks are built and run.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::copy::{Copy, Source};
use super::exhibit::{Check, Planted};
use super::verdict::{self, Verdict};
use crate::model::{Flavour, PROFILE};
use crate::watched::{self, Ran};
use crate::{jobs, process};

/// How long a check may take where nothing is planted: it explores everything then.
const PRISTINE: Duration = Duration::from_secs(10 * 60);

/// The stand.
pub struct Stand<'a> {
    copy: Copy<'a>,
    /// What is built, a folder a flavour.
    built: PathBuf,
    /// How many compilers may run.
    jobs: usize,
}

/// What came of an exhibit, and how long it took.
#[derive(Clone, Debug)]
pub struct Tried {
    /// What came of it.
    pub verdict: Verdict,
    /// Building.
    pub build: Duration,
    /// The check.
    pub run: Duration,
}

/// A check that is built.
struct Program {
    command: Command,
    time: Duration,
}

impl<'a> Stand<'a> {
    /// The stand in `folder`, one of `workers`.
    pub fn new(source: &'a Source, folder: PathBuf, workers: usize) -> Result<Self> {
        let copy = Copy::new(source, folder.join("tree"))?;
        Ok(Self { copy, built: folder.join("built"), jobs: (jobs::cores() / workers.max(1)).max(1) })
    }

    /// Sees whether the check passes on the source as it is.
    pub fn pristine(&self, check: &Check) -> Result<Tried> {
        self.copy.reset()?;
        let (ran, build) = self.ran(check, PRISTINE)?;
        let verdict = match verdict::pristine(check, &ran) {
            Ok(()) => Verdict::Found(String::new()),
            Err(why) => Verdict::Error(format!("{why}\n{}", ran.tail(30))),
        };
        Ok(Tried { verdict, build, run: ran.time })
    }

    /// Plants the bug, and sees whether it is found.
    pub fn planted(&self, planted: &Planted) -> Result<Tried> {
        let (mut build, mut run) = (Duration::ZERO, Duration::ZERO);
        let mut attempt = |patches: &[&str]| -> Result<Ran> {
            self.copy.reset()?;
            self.copy.plant(patches)?;
            let (ran, time) = self.ran(&planted.check, planted.limit)?;
            build += time;
            run += ran.time;
            Ok(ran)
        };
        let patches: Vec<&str> = planted.patches.iter().map(String::as_str).collect();
        for patch in patches.iter().filter(|_| planted.alone) {
            let ran = attempt(&[patch])?;
            if let Err(verdict) = verdict::alone(&planted.check, patch, &ran) {
                return Ok(Tried { verdict, build, run });
            }
        }
        let ran = attempt(&patches)?;
        Ok(Tried { verdict: verdict::planted(&planted.check, &planted.oracle, &ran), build, run })
    }

    /// Builds the check and runs it; also says how long building took.
    fn ran(&self, check: &Check, limit: Duration) -> Result<(Ran, Duration)> {
        let mut program = self.build(check)?;
        Ok((watched::run(&mut program.command, limit, |_| {})?, program.time))
    }

    fn build(&self, check: &Check) -> Result<Program> {
        let begun = Instant::now();
        let flavour = match check {
            Check::Scenario { runner, .. } => runner.flavour(),
            Check::Test { .. } | Check::Case { .. } => Flavour::Plain,
        };
        let target = self.built.join(flavour.folder());
        let mut cargo = flavour.cargo(self.copy.root(), &target);
        cargo.env("CARGO_BUILD_JOBS", self.jobs.to_string());
        cargo.env("CARGO_INCREMENTAL", "1"); // the same sources over and over, a patch apart; CI asks for none elsewhere
        let mut built = |words: &[&str]| {
            cargo.args(words).args(["--quiet", "--profile", PROFILE]);
            process::output(&mut cargo).context("it does not build")
        };
        let command = match check {
            Check::Scenario { name, bound, .. } => {
                built(&["build", "--package", "models", "--bin", "models"])?;
                let mut command = process::outlived(target.join(PROFILE).join("models"));
                command.arg(name);
                if let Some(bound) = bound {
                    command.args(["--preemptions", &bound.to_string()]);
                }
                command
            }
            Check::Case { column, name } => {
                built(&["build", "--package", "backend-fake", "--bin", column])?;
                let mut command = process::outlived(target.join(PROFILE).join(column));
                command.args(["--filter", name]);
                command
            }
            Check::Test { package, name } => {
                // Not by cargo: when this process is killed, a test that cargo has started would go on.
                let form = "--message-format=json-render-diagnostics";
                let messages = built(&["test", "--package", package, "--lib", "--no-run", form])?;
                let Some(program) = executable(&messages) else {
                    bail!("package {package} has no tests beside its code")
                };
                let mut command = process::outlived(program);
                command.args([name, "--exact"]);
                command
            }
        };
        Ok(Program { command, time: begun.elapsed() })
    }
}

/// The program that cargo's messages name.
fn executable(messages: &str) -> Option<PathBuf> {
    let message = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok();
    messages.lines().filter_map(message).find_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
}

#[cfg(test)]
mod tests {
    use super::executable;
    use std::path::Path;

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let text = "noise\n{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                    {\"reason\":\"compiler-artifact\",\"executable\":\"/x/deps/hv_core-1\"}\n{\"reason\":\"build-finished\"}\n";
        assert_eq!(executable(text).as_deref(), Some(Path::new("/x/deps/hv_core-1")));
        assert_eq!(executable("{\"reason\":\"build-finished\"}"), None);
    }
}
