//! QEMU: the image as its kernel, the bundle as that kernel's RAM disk, the console on its standard channels.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};

use super::{Launch, Started, spawn};
use crate::process;

/// Starts it.
pub fn start(launch: &Launch<'_>, kernel: &Path) -> Result<Started> {
    let mut command = process::outlived(&launch.board.emulator.program);
    command.args(launch.args).args(&launch.machine.args);
    command.args(["-smp", &launch.cpus.to_string(), "-m", &format!("{}M", launch.memory.0 >> 20)]);
    command.arg("-kernel").arg(kernel);
    if let Some(bundle) = launch.bundle {
        command.arg("-initrd").arg(bundle);
    }
    let (mut child, command) = spawn(&mut command, Stdio::piped(), Stdio::piped())?;
    let output = child.stdout.take().context("the emulator's output is a pipe")?;
    let input = child.stdin.take().context("the emulator's input is a pipe")?;
    Ok(Started { child, command, input: Box::new(input), output: Box::new(output), bochs: None })
}
