//! Runs an image in an emulator, with the machine's console on two byte streams.
//!
//! Which emulator, and who tells how a run went, is in the board's file: QEMU (`qemu.rs`) on every board, and Bochs
//! (`bochs.rs`) for machines that say so.

mod bochs;
mod exit;
mod qemu;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::board::{Board, Machine, Verdict};
use crate::process;
use crate::units::Size;
pub use bochs::tools as bochs_tools;
pub use exit::Exit;
use exit::LastLine;

/// What is run.
#[derive(Clone, Copy)]
pub struct Launch<'a> {
    /// The board.
    pub board: &'a Board,
    /// Its machine.
    pub machine: &'a Machine,
    /// QEMU's arguments before the machine's. Bochs has none: its clock always counts instructions.
    pub args: &'a [String],
    /// Physical CPUs on which guests run.
    pub cpus: u16,
    /// Machine memory.
    pub memory: Size,
    /// Trivet, as an ELF program, or another kernel as it is.
    pub image: &'a Path,
    /// The bundle, if the image takes one.
    pub bundle: Option<&'a Path>,
}

impl Launch<'_> {
    /// The machine's CPUs: one more where the first of several runs no guests.
    fn machine_cpus(&self) -> u16 {
        let keeps_house = self.machine.house_cpu && self.cpus > 1 && self.bundle.is_some();
        self.cpus + u16::from(keeps_house)
    }
}

/// Where the console's bytes go to.
type Input = Box<dyn Write + Send>;
/// Where they come from.
type Output = Box<dyn Read + Send>;

/// An emulator that has been started, before anybody listens to it.
struct Started {
    child: Child,
    /// The command, to be shown.
    command: String,
    input: Input,
    output: Output,
    /// What is only Bochs's.
    bochs: Option<bochs::Folder>,
}

/// A running emulator; it ends when this value does.
pub struct Emulator {
    child: Child,
    input: Option<Input>,
    output: Receiver<Vec<u8>>,
    complaints: Arc<Mutex<Vec<u8>>>,
    verdict: Verdict,
    last: LastLine,
    begun: Instant,
    bochs: Option<bochs::Folder>,
    program: String,
    /// The command, to be shown.
    pub command: String,
}

/// What came of waiting.
pub enum Happened {
    /// Console bytes.
    Bytes(Vec<u8>),
    /// Nothing until the deadline.
    Silence,
    /// The emulator has ended.
    Ended(Exit),
}

impl Emulator {
    /// Starts it with Trivet, in the form that the board boots.
    pub fn start(launch: &Launch<'_>) -> Result<Self> {
        let launch = Launch { cpus: launch.machine_cpus(), ..*launch };
        Self::boot(&launch, &launch.board.image.form.file(launch.image))
    }

    /// Starts it with another kernel, as it is.
    pub fn start_kernel(launch: &Launch<'_>) -> Result<Self> {
        Self::boot(launch, launch.image)
    }

    fn boot(launch: &Launch<'_>, kernel: &Path) -> Result<Self> {
        let (mut started, verdict) = match &launch.machine.bochs {
            Some(model) => (bochs::start(launch, model, kernel)?, Verdict::Console),
            None => (qemu::start(launch, kernel)?, launch.board.emulator.verdict),
        };
        let program = launch.machine.bochs.as_ref().map_or(&*launch.board.emulator.program, |_| "bochs").to_owned();
        let (sender, output) = channel();
        thread::spawn(move || copy(started.output, |bytes| sender.send(bytes.to_vec()).is_ok()));
        let complaints = Arc::new(Mutex::new(Vec::new()));
        if let Some(stderr) = started.child.stderr.take() {
            let kept = Arc::clone(&complaints);
            thread::spawn(move || {
                copy(stderr, |bytes| {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
                    true
                });
            });
        }
        Ok(Self {
            child: started.child,
            input: Some(started.input),
            output,
            complaints,
            verdict,
            last: LastLine::default(),
            begun: Instant::now(),
            bochs: started.bochs,
            program,
            command: started.command,
        })
    }

    /// Types bytes into the console. An emulator that has ended does not mind; waiting will tell.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Some(input) = &mut self.input
            && input.write_all(bytes).and_then(|()| input.flush()).is_err()
        {
            self.input = None;
        }
    }

    /// The console's input, for a thread of its own.
    pub fn take_input(&mut self) -> Option<Input> {
        self.input.take()
    }

    /// Waits for output until `deadline` at the latest.
    pub fn next(&mut self, deadline: Instant) -> Result<Happened> {
        match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(bytes) => {
                self.last.feed(&bytes);
                Ok(Happened::Bytes(bytes))
            }
            Err(RecvTimeoutError::Timeout) => Ok(Happened::Silence),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().context("cannot wait for the emulator")?;
                Ok(Happened::Ended(Exit::new(status, self.verdict, &self.last)))
            }
        }
    }

    /// Its name.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// What it has said on its own error channel, or into its log.
    pub fn complaints(&self) -> String {
        match &self.bochs {
            Some(folder) => folder.complaints(),
            None => {
                let said = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
                String::from_utf8_lossy(&said).into_owned()
            }
        }
    }

    /// What the run has cost, of an emulator that knows how many instructions it has carried out.
    pub fn cost(&self) -> Option<String> {
        let ticks = self.bochs.as_ref()?.ticks()?;
        Some(format!("{:.1} s, {ticks} emulated ticks", self.begun.elapsed().as_secs_f64()))
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Runs an emulator that says what it wants to say on its error channel.
fn spawn(command: &mut Command, stdin: Stdio, stdout: Stdio) -> Result<(Child, String)> {
    let shown = process::show(command);
    let child = command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn();
    Ok((child.with_context(|| format!("cannot run {shown}"))?, shown))
}

/// Hands on what can be read, until the end or until nobody wants more.
fn copy(mut from: impl Read, mut to: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !buffer.get(..count).is_some_and(&mut to) {
            return;
        }
    }
}
