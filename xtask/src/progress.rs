//! Tells the user what takes long: a spinner on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Work below this needs no word.
const PATIENCE: Duration = Duration::from_secs(2);

/// Does `work`, and says `what` on stderr if it takes long.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if std::io::stderr().is_terminal() { spinner(what, work) } else { lines(what, work) }
}

fn spinner<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let bar = ProgressBar::new_spinner().with_message(what.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    let done = work();
    bar.finish_and_clear();
    done
}

fn lines<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (finished, waits) = mpsc::channel::<()>();
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            if waits.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{what} ...");
                // Ends when the other end is dropped, which is when the work is done.
                let _ended = waits.recv();
                eprintln!("{what}: {} s", begun.elapsed().as_secs());
            }
        });
        let done = work();
        drop(finished);
        done
    })
}

/// Work in many parts, whose results are lines of standard output: on a terminal there is a bar below them.
pub struct Parts(ProgressBar);

impl Parts {
    /// Nothing of `count` parts is done yet.
    pub fn new(what: &str, count: usize) -> Self {
        // It hides where there is no terminal; the lines are progress enough then.
        let bar = ProgressBar::new(count as u64).with_message(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}: {pos} of {len} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// One more is done, and this is its line.
    pub fn done(&self, line: &str) {
        self.0.inc(1);
        self.0.suspend(|| println!("{line}"));
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
