//! Instructions instead of time: the same operations under callgrind, which is exact and can be a gate.
//!
//! callgrind collects between the entry and the return of [`bench_counted`], a symbol of its own for that purpose.

#![expect(unsafe_code, reason = "a symbol that callgrind finds by name")]

use std::process::Command;

/// What callgrind counted.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Instructions.
    pub instructions: u64,
    /// Loads.
    pub loads: u64,
    /// Stores.
    pub stores: u64,
}

/// The function that is counted, with all that it calls.
// SAFETY: no other symbol has this name.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn bench_counted(f: &mut dyn FnMut()) {
    f();
}

/// Runs this program again under callgrind, with these arguments. An error is a sentence.
pub fn callgrind(arguments: &[&str]) -> Result<Counts, String> {
    let own = std::env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--toggle-collect=bench_counted", "--cache-sim=yes"]);
    command.arg("--callgrind-out-file=/dev/null").arg(own).args(arguments);
    let done = command.output().map_err(|error| format!("valgrind cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        return Err(format!("{arguments:?} under valgrind: {}\n{text}", done.status));
    }
    collected(&text).ok_or_else(|| format!("valgrind's output has no counts:\n{text}"))
}

/// `==1== Collected : instructions loads stores ...`
fn collected(text: &str) -> Option<Counts> {
    let line = text.lines().find_map(|line| line.split_once("Collected :"))?.1;
    let mut numbers = line.split_whitespace().map_while(|word| word.parse().ok());
    Some(Counts { instructions: numbers.next()?, loads: numbers.next()?, stores: numbers.next()? })
}

#[cfg(test)]
mod tests {
    use super::collected;

    #[test]
    fn the_line_of_counts_is_found() {
        let text = "==7== Events    : Ir Dr Dw I1mr\n==7== Collected : 1048 204 97 1\n==7==\n";
        let counts = collected(text).map(|c| (c.instructions, c.loads, c.stores));
        assert_eq!(counts, Some((1048, 204, 97)));
        assert!(collected("==7== Collected :\n").is_none());
    }
}
