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
