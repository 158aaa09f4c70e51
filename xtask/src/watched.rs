//! Runs a program that may do anything, as one with a planted bug does: hang, or print without end.

use std::io::BufReader;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::process;

/// More output than this is read and dropped.
const KEPT: usize = 4 << 20;
/// A longer line is cut.
const LINE: usize = 64 << 10;

/// What a program did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// How it ended; `None`: it had to be killed at the time limit.
    pub status: Option<ExitStatus>,
    /// What it wrote, to both of its channels, in order.
    pub lines: Vec<String>,
    /// How long it took.
    pub time: Duration,
}

impl Ran {
    /// It ended by itself, and with status 0.
    pub fn good(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// How it ended, in words.
    pub fn ending(&self) -> String {
        match self.status {
            Some(status) => status.to_string(),
            None => format!("no end within {} s", self.time.as_secs()),
        }
    }

    /// Its last lines, for people.
    pub fn tail(&self, count: usize) -> String {
        let from = self.lines.len().saturating_sub(count);
        self.lines.iter().skip(from).map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// The program; it ends when this value does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // With whatever it has started; all may have ended by themselves.
        let _killed = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ended = self.0.wait();
    }
}

/// Runs `command` for `limit` at most, and hands each line to `seen` as it comes. It is a process group of its own, so a
/// Ctrl-C does not reach it: make it with [`process::outlived`], and it ends with xtask.
pub fn run(command: &mut Command, limit: Duration, mut seen: impl FnMut(&str)) -> Result<Ran> {
    let shown = process::show(command);
    let (output, end) = std::io::pipe().context("cannot make a pipe")?;
    let begun = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(end.try_clone().context("cannot double a pipe")?)
        .stderr(end)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {shown}"))?;
    // The command still holds its copies of the pipe's end; with them open, the output would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = Running(child);
    let (sender, receiver) = mpsc::sync_channel(64);
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        while let Some(line) = next(&mut output) {
            // Nobody listens any more: the limit was reached.
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let (mut lines, mut kept) = (Vec::new(), 0);
    let status = loop {
        let left = limit.saturating_sub(begun.elapsed());
        // Without this test a flood of lines would keep the limit away.
        let got = if left.is_zero() { Err(RecvTimeoutError::Timeout) } else { receiver.recv_timeout(left) };
        match got {
            Ok(line) => {
                seen(&line);
                kept += line.len() + 1;
                if kept <= KEPT {
                    lines.push(line);
                }
            }
            Err(RecvTimeoutError::Timeout) => break None,
            Err(RecvTimeoutError::Disconnected) => {
                // It may have closed its output and gone on.
                match child.0.try_wait().with_context(|| format!("cannot wait for {shown}"))? {
                    Some(status) => break Some(status),
                    None if left.is_zero() => break None,
                    None => thread::sleep(Duration::from_millis(5)),
                }
            }
        }
    };
    drop(child);
    Ok(Ran { status, lines, time: begun.elapsed() })
}

/// One line without its end; bytes that are no text are replaced.
fn next(output: &mut impl std::io::BufRead) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let chunk = match output.fill_buf() {
            Ok(chunk) if !chunk.is_empty() => chunk,
            // The end, or as good as one.
            _ if bytes.is_empty() => return None,
            _ => break,
        };
        let newline = chunk.iter().position(|byte| *byte == b'\n');
        let part = newline.map_or(chunk, |at| chunk.get(..at).unwrap_or(chunk));
        bytes.extend(part.iter().take(LINE.saturating_sub(bytes.len())));
        let used = part.len() + usize::from(newline.is_some());
        output.consume(used);
        if newline.is_some() {
            break;
        }
    }
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// Runs that never were.
#[cfg(test)]
pub mod fixture {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;
    use std::time::Duration;

    use super::Ran;

    /// A program that ended with this status (`None`: it was killed at the limit) and wrote this.
    pub fn ran(status: Option<i32>, text: &str) -> Ran {
        let status = status.map(|code| ExitStatus::from_raw(code << 8));
        Ran { status, lines: text.lines().map(str::to_owned).collect(), time: Duration::from_secs(9) }
    }

    /// A program that wrote this and aborted.
    pub fn killed(text: &str) -> Ran {
        Ran { status: Some(ExitStatus::from_raw(6)), ..ran(None, text) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ran, run};
    use crate::process;
    use std::time::{Duration, Instant};

    fn shell(script: &str, limit: Duration) -> Ran {
        run(process::outlived("sh").args(["-c", script]), limit, |_| {}).unwrap()
    }

    #[test]
    fn both_channels_are_read_in_order_and_the_status_is_kept() {
        let ran = shell("echo a; echo b >&2; printf c; exit 3", Duration::from_secs(20));
        assert_eq!((ran.lines.join(","), ran.good()), ("a,b,c".to_owned(), false));
        assert_eq!(ran.status.unwrap().code(), Some(3));
        assert!(shell("true", Duration::from_secs(20)).good());
    }

    #[test]
    fn a_hang_and_a_flood_end_at_the_limit() {
        for script in
            ["echo before; exec sleep 60", "exec yes", "echo x; exec >&- 2>&-; exec sleep 60", "echo x; sleep 60"]
        {
            let begun = Instant::now();
            let ran = shell(script, Duration::from_millis(300));
            assert!(ran.status.is_none() && !ran.good() && !ran.lines.is_empty(), "{script}");
            assert!(begun.elapsed() < Duration::from_secs(10), "{script}");
            assert!(ran.lines.iter().map(|line| line.len() + 1).sum::<usize>() <= super::KEPT);
        }
    }
}
