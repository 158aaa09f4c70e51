//! QEMU: the image as its kernel, the bundle as that kernel's RAM disk, the console on its standard channels.
//!
//! A machine that cannot have as little memory as a run wants has more, and Trivet's command line says how much of it is to be
//! used: `memory=256M`.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};

use super::{Launch, Started, spawn};
use crate::process;
use crate::units::Size;

/// Starts it.
pub fn start(launch: &Launch<'_>, kernel: &Path) -> Result<Started> {
    let mut command = process::outlived(&launch.board.emulator.program);
    command.args(launch.args).args(&launch.machine.args);
    let (memory, words) = memory(launch);
    command.args(["-smp", &launch.cpus.to_string(), "-m", &format!("{}M", memory.0 >> 20)]);
    if let Some(words) = words {
        command.args(["-append", &words]);
    }
    command.arg("-kernel").arg(kernel);
    if let Some(bundle) = launch.bundle {
        command.arg("-initrd").arg(bundle);
    }
    let (mut child, command) = spawn(&mut command, Stdio::piped(), Stdio::piped())?;
    let output = child.stdout.take().context("the emulator's output is a pipe")?;
    let input = child.stdin.take().context("the emulator's input is a pipe")?;
    Ok(Started { child, command, input: Box::new(input), output: Box::new(output), bochs: None })
}

/// The machine's memory, and Trivet's command line.
fn memory(launch: &Launch<'_>) -> (Size, Option<String>) {
    let step = launch.board.emulator.machine_step.unwrap_or(launch.memory);
    let memory = Size(launch.memory.0.next_multiple_of(step.0.max(1)));
    let most = (memory != launch.memory).then(|| format!("memory={}M", launch.memory.0 >> 20));
    let words: Vec<&str> = launch.machine.append.as_deref().into_iter().chain(most.as_deref()).collect();
    (memory, (!words.is_empty()).then(|| words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::{Launch, memory};
    use crate::board::Board;
    use crate::units::Size;

    /// What the machine has beyond what a run asks for is not used, and a machine's own words are not lost over it.
    #[test]
    fn memory_that_is_not_asked_for_is_left_alone() {
        let board = Board::named("powernv").unwrap();
        let with = |machine, mib: u64| {
            let launch = Launch {
                board: &board,
                machine: board.machine(Some(machine)).unwrap(),
                args: &[],
                cpus: 1,
                memory: Size(mib << 20),
                image: "image".as_ref(),
                bundle: None,
            };
            let (memory, words) = memory(&launch);
            (memory.0 >> 20, words.unwrap_or_default())
        };
        assert_eq!(with("9", 1024), (1024, String::new()));
        assert_eq!(with("9", 256), (1024, "memory=256M".to_owned()));
        assert_eq!(with("9-hpt", 2048), (2048, "hashed".to_owned()));
        assert_eq!(with("9-hpt", 1280), (2048, "hashed memory=1280M".to_owned()));
    }
}
