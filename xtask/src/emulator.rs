//! Runs an image in the board's emulator, with the machine's console on two pipes.

use std::io::{Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::board::{Board, Machine};
use crate::process;
use crate::units::Size;

/// What is run.
pub struct Launch<'a> {
    /// The board.
    pub board: &'a Board,
    /// Its machine.
    pub machine: &'a Machine,
    /// The emulator's arguments before the machine's.
    pub args: &'a [String],
    /// Physical CPUs.
    pub cpus: u16,
    /// Machine memory.
    pub memory: Size,
    /// Trivet, as an ELF program, or another kernel as it is.
    pub image: &'a Path,
    /// The bundle, if the image takes one.
    pub bundle: Option<&'a Path>,
}

/// A running emulator; it ends when this value does.
pub struct Emulator {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<Vec<u8>>,
    complaints: Arc<Mutex<Vec<u8>>>,
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
    Ended(ExitStatus),
}

impl Emulator {
    /// Starts it with Trivet, in the form that the board boots.
    pub fn start(launch: &Launch<'_>) -> Result<Self> {
        Self::boot(launch, &launch.board.image.form.file(launch.image))
    }

    /// Starts it with another kernel, as it is.
    pub fn start_kernel(launch: &Launch<'_>) -> Result<Self> {
        Self::boot(launch, launch.image)
    }

    fn boot(launch: &Launch<'_>, kernel: &Path) -> Result<Self> {
        let mut command = process::outlived(&launch.board.emulator.program);
        command.args(launch.args).args(&launch.machine.args);
        command.args(["-smp", &launch.cpus.to_string(), "-m", &format!("{}M", launch.memory.0 >> 20)]);
        command.arg("-kernel").arg(kernel);
        if let Some(bundle) = launch.bundle {
            command.arg("-initrd").arg(bundle);
        }
        let shown = process::show(&command);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().with_context(|| format!("cannot run {shown}"))?;
        let stdout = child.stdout.take().context("the emulator's output is a pipe")?;
        let stderr = child.stderr.take().context("the emulator's errors are a pipe")?;
        let (sender, output) = channel();
        thread::spawn(move || copy(stdout, |bytes| sender.send(bytes.to_vec()).is_ok()));
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&complaints);
        thread::spawn(move || {
            copy(stderr, |bytes| {
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
                true
            });
        });
        let input = child.stdin.take();
        Ok(Self { child, input, output, complaints, command: shown })
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
    pub fn take_input(&mut self) -> Option<ChildStdin> {
        self.input.take()
    }

    /// Waits for output until `deadline` at the latest.
    pub fn next(&mut self, deadline: Instant) -> Result<Happened> {
        match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(bytes) => Ok(Happened::Bytes(bytes)),
            Err(RecvTimeoutError::Timeout) => Ok(Happened::Silence),
            Err(RecvTimeoutError::Disconnected) => {
                self.child.wait().map(Happened::Ended).context("cannot wait for the emulator")
            }
        }
    }

    /// What it has said on its own error channel.
    pub fn complaints(&self) -> String {
        String::from_utf8_lossy(&self.complaints.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
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
