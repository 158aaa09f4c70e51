//! `cargo xtask museum`: bugs that shipped, planted one at a time in a copy of the source, where the checkers must find
//! them.
//!
//! ```text
//!   catalogue   tests/museum/exhibits.toml: what is planted, and who must find it
//!   copy        the source tree, patched and made whole again; one a worker
//!   stand       a copy with its build folders: plants, builds, runs
//!   verdict     what the end of a check means, with the bug in it and without
//!   report      found of all, by section and by rule
//!   tables      the same exhibits in ARCHITECTURE.md and in the book
//! ```
//! Everything lies in `target/museum`. Nothing there has to be whole: a run begins by making it so.

mod catalogue;
mod copy;
mod exhibit;
mod patches;
mod report;
mod stand;
mod tables;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::error::refuse;
use crate::progress::Parts;
use crate::{jobs, workspace};
use copy::Source;
use exhibit::{Catalogue, Check, Exhibit, Planted, State};
use stand::{Stand, Tried};
use verdict::Verdict;

/// More workers than this would build everything once more each.
const WORKERS: u8 = 2;

/// The command's arguments.
#[derive(Args, Clone, Debug, Default)]
pub struct MuseumArgs {
    /// Only these exhibits
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Show the catalogue, plant nothing
    #[arg(long)]
    pub list: bool,
    /// Only the exhibits that `cargo xtask test` plants
    #[arg(long, conflicts_with = "ids")]
    pub gate: bool,
    /// How many exhibits at a time [default: 2, or the number of processors if that is less]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(WORKERS)))]
    pub jobs: Option<u8>,
}

/// Carries out the command; fails if an exhibit in scope is not found.
pub fn run(args: &MuseumArgs) -> Result<()> {
    let catalogue = catalogue::read(&workspace::root().join("tests").join("museum"))?;
    if args.list {
        print!("{}", report::list(&catalogue));
        return Ok(());
    }
    let scope = scope(&catalogue, args)?;
    let cores = u8::try_from(jobs::cores()).unwrap_or(WORKERS);
    let workers = usize::from(args.jobs.unwrap_or(WORKERS.min(cores)));
    let begun = Instant::now();
    let tried = visit(&scope, workers)?;
    print!("{}", report::times(&tried));
    // Of a few exhibits there is nothing to sum up.
    if args.ids.is_empty() {
        print!(
            "{}{}{}",
            report::sections(&catalogue, &tried),
            report::rules(&catalogue, &tried),
            report::waiting(&catalogue)
        );
    }
    let missed: Vec<&str> = tried
        .iter()
        .filter(|(_, tried)| !matches!(tried.verdict, Verdict::Found(_)))
        .map(|(exhibit, _)| exhibit.id.as_str())
        .collect();
    let found = tried.len() - missed.len();
    println!("\nfound {found} of {} in {} s", tried.len(), begun.elapsed().as_secs());
    if missed.is_empty() { Ok(()) } else { bail!("not found: {}", missed.join(" ")) }
}

/// Sees whether catalogue, patches and the tables about them belong to this source; plants nothing.
pub fn lint() -> Result<()> {
    let root = workspace::root();
    let catalogue = catalogue::read(&root.join("tests").join("museum"))?;
    let tables::Renewed { files, wrong } = tables::renewed(&catalogue, &root)?;
    let mut problems = patches::stale(&catalogue, &root)?;
    problems.extend(wrong);
    let name = |path: &Path| path.strip_prefix(&root).unwrap_or(path).display().to_string();
    problems.extend(
        files.iter().map(|(path, _)| {
            format!("{}: a table of exhibits is out of date; `cargo xtask fmt` writes it", name(path))
        }),
    );
    if problems.is_empty() { Ok(()) } else { bail!("museum: {}", problems.join("\nmuseum: ")) }
}

/// Writes the tables of exhibits in ARCHITECTURE.md and in the book.
pub fn write_tables() -> Result<()> {
    let root = workspace::root();
    tables::write(&catalogue::read(&root.join("tests").join("museum"))?, &root)
}

/// The exhibits that are asked for, and can be planted.
fn scope<'a>(catalogue: &'a Catalogue, args: &MuseumArgs) -> Result<Vec<(&'a Exhibit, &'a Planted)>> {
    let mut chosen: Vec<&Exhibit> = Vec::new();
    for id in &args.ids {
        let exhibit = catalogue.named(id)?;
        if let State::Waits(what) = &exhibit.state {
            return Err(refuse(format!("exhibit {} cannot be planted yet: it waits for {what}", exhibit.id)));
        }
        if !chosen.contains(&exhibit) {
            chosen.push(exhibit);
        }
    }
    if args.ids.is_empty() {
        chosen = catalogue.exhibits.iter().collect();
    }
    let planted = chosen.into_iter().filter_map(|exhibit| Some((exhibit, exhibit.planted()?)));
    let scope: Vec<_> = planted.filter(|(_, planted)| planted.gate || !args.gate).collect();
    if scope.is_empty() { Err(refuse("the catalogue has no such exhibit")) } else { Ok(scope) }
}

/// Plants each, having seen that its check passes otherwise; the results have the order of `scope`.
fn visit<'a>(scope: &[(&'a Exhibit, &'a Planted)], workers: usize) -> Result<Vec<(&'a Exhibit, Tried)>> {
    let folder = workspace::target_dir().join("museum");
    let _alone = lock(&folder)?;
    let source = Source::read(&workspace::root())?;
    let stands: Vec<Mutex<Stand<'_>>> = (0..workers)
        .map(|worker| Ok(Mutex::new(Stand::new(&source, folder.join(worker.to_string()), workers)?)))
        .collect::<Result<_>>()?;
    // A worker keeps to its stand, so nobody ever waits for one.
    let at = |worker: usize, work: &dyn Fn(&Stand<'_>) -> Result<Tried>| match stands.get(worker) {
        Some(stand) => tried(work(&stand.lock().unwrap_or_else(PoisonError::into_inner))),
        None => tried(Err(anyhow::anyhow!("there is no stand {worker}"))),
    };

    // Sorted, so that those of one flavour are neighbours.
    let checks: Vec<&Check> =
        scope.iter().map(|(_, planted)| &planted.check).collect::<BTreeSet<_>>().into_iter().collect();
    let mut broken: BTreeMap<&Check, String> = BTreeMap::new();
    let parts = Parts::new("checks without patches", checks.len());
    let work = |worker: usize, check: &&Check| at(worker, &|stand| stand.pristine(check));
    jobs::each(&checks, workers, work, |number, tried| {
        let Some(check) = checks.get(number) else { return };
        let time = format!("{:6.1} s {:6.1} s", tried.build.as_secs_f64(), tried.run.as_secs_f64());
        match tried.verdict {
            Verdict::Found(_) => parts.done(&format!("passes {time}  {check}")),
            Verdict::Missed(why) | Verdict::Error(why) => {
                parts.done(&format!("ERROR  {time}  {check}: {why}"));
                broken.insert(check, why.lines().next().unwrap_or_default().to_owned());
            }
        }
    });
    drop(parts);

    let mut order: Vec<(usize, &'a Exhibit, &'a Planted)> = Vec::new();
    let mut results: BTreeMap<usize, Tried> = BTreeMap::new();
    for (number, (exhibit, planted)) in scope.iter().enumerate() {
        match broken.get(&planted.check) {
            Some(why) => drop(results.insert(number, tried(Err(anyhow::anyhow!("its check {why}"))))),
            None => order.push((number, exhibit, planted)),
        }
    }
    order.sort_by(|a, b| a.2.check.cmp(&b.2.check));
    let parts = Parts::new("exhibits", order.len());
    let work =
        |worker: usize, (_, _, planted): &(usize, &Exhibit, &Planted)| at(worker, &|stand| stand.planted(planted));
    jobs::each(&order, workers, work, |at, tried| {
        let Some((number, exhibit, _)) = order.get(at) else { return };
        parts.done(&report::line(exhibit, &tried));
        results.insert(*number, tried);
    });
    drop(parts);
    Ok(scope.iter().enumerate().filter_map(|(at, (exhibit, _))| Some((*exhibit, results.remove(&at)?))).collect())
}

/// What could not be tried at all is a result too.
fn tried(result: Result<Tried>) -> Tried {
    result.unwrap_or_else(|error| Tried {
        verdict: Verdict::Error(format!("{error:#}")),
        build: Duration::ZERO,
        run: Duration::ZERO,
    })
}

/// Two runs would patch one copy.
fn lock(folder: &Path) -> Result<File> {
    workspace::make_dir(folder)?;
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => eprintln!("another `cargo xtask museum` is at work here; waiting for its end"),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}
