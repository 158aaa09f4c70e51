//! How an emulator has ended, and what that says of the run.

use std::fmt;
use std::process::ExitStatus;

use hv_core::link::{ENDED_BADLY, ENDED_WELL, ENDS_MARK};

use crate::board::Verdict;

/// How an emulator has ended.
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    status: ExitStatus,
    /// What the status, or else Trivet, says of the run.
    good: Option<bool>,
    verdict: Verdict,
}

impl Exit {
    /// Of an emulator with this status, which has written that last.
    pub fn new(status: ExitStatus, verdict: Verdict, last: &LastLine) -> Self {
        let good = match verdict {
            Verdict::Status(good) => Some(status.code() == Some(good)),
            Verdict::Console => last.verdict(),
        };
        Self { status, good, verdict }
    }

    /// All went well.
    pub fn success(self) -> bool {
        self.good == Some(true)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.verdict, self.good) {
            (Verdict::Status(_), _) => write!(f, "{}", self.status),
            (Verdict::Console, Some(true)) => write!(f, "{ENDS_MARK}: {ENDED_WELL}"),
            (Verdict::Console, Some(false)) => write!(f, "{ENDS_MARK}: {ENDED_BADLY}"),
            (Verdict::Console, None) => write!(f, "{}, without a line {ENDS_MARK}", self.status),
        }
    }
}

/// More than the line of the verdict, with what belongs to it and what firmware says after it.
const KEPT: usize = 512;

/// The last bytes of the console.
#[derive(Debug, Default)]
pub struct LastLine(Vec<u8>);

impl LastLine {
    /// Takes more bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.0.extend(bytes.iter().skip(bytes.len().saturating_sub(KEPT)));
        self.0.drain(..self.0.len().saturating_sub(KEPT));
    }

    /// What the last line says, if it says anything. Only the last: a guest may have written such a line before. Firmware
    /// that is asked to switch the machine off may say so in lines of its own, and may not come to an end.
    fn verdict(&self) -> Option<bool> {
        let mut lines =
            self.0.split(|byte| *byte == b'\n').rev().skip_while(|line| line.is_empty() || is_firmware(line));
        let line = lines.next()?.strip_suffix(b"\r")?;
        // It has begun on a line of its own.
        lines.next()?;
        match line.strip_prefix(ENDS_MARK.as_bytes())?.strip_prefix(b": ")? {
            word if word == ENDED_WELL.as_bytes() => Some(true),
            word if word == ENDED_BADLY.as_bytes() => Some(false),
            _ => None,
        }
    }
}

/// A line of skiboot's log, or its beginning: `[    4.256933426,5] OPAL: ...`.
fn is_firmware(line: &[u8]) -> bool {
    let Some(line) = line.strip_prefix(b"[") else { return false };
    let mut parts = line.splitn(2, |byte| *byte == b']');
    let is_time = |part: &[u8]| part.iter().all(|byte| byte.is_ascii_digit() || b" .,".contains(byte));
    parts.next().is_some_and(is_time)
        && parts.next().is_none_or(|text| text.starts_with(b" OPAL: ") || b" OPAL: ".starts_with(text))
}

#[cfg(test)]
mod tests {
    use super::{Exit, LastLine};
    use crate::board::Verdict;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    fn end(code: i32, verdict: Verdict, console: &[u8]) -> Exit {
        let mut last = LastLine::default();
        console.chunks(7).for_each(|part| last.feed(part));
        Exit::new(ExitStatus::from_raw(code << 8), verdict, &last)
    }

    #[test]
    fn a_status_counts_where_it_says_something() {
        assert!(end(33, Verdict::Status(33), b"").success());
        assert!(!end(0, Verdict::Status(33), b"\r\nTRIVET ENDS: success\r\n").success());
        assert!(!end(35, Verdict::Status(33), b"").success());
    }

    #[test]
    fn elsewhere_the_last_line_counts_and_no_other() {
        let said = |text: &[u8]| end(1, Verdict::Console, text).good;
        assert_eq!(said(b"\0\x10abc\0\0\r\nTRIVET ENDS: success\r\n"), Some(true));
        assert_eq!(said(&[&[b'x'; 500][..], b"\r\nTRIVET ENDS: failure\r\n"].concat()), Some(false));
        for after in ["[    4.256933426,5] OPAL: Shutdown request type 0x0...\r\n[", "[    4.25", "[ 4.25,5] OP"] {
            assert_eq!(said(&[b"\r\nTRIVET ENDS: success\r\n", after.as_bytes()].concat()), Some(true), "{after}");
        }
        for text in [
            &b""[..],
            b"\r\nTRIVET ENDS: success\r\nmore\r\n",
            b"\r\nTRIVET ENDS: success\r\n\r\n",
            b"\r\nTRIVET ENDS: success",
            b"\r\nTRIVET ENDS: success\r\n[    1.23] Linux: more\r\n",
            b"\r\nTRIVET ENDS: success\r\n[root@guest] OPAL: more\r\n",
            b"\r\n~ # TRIVET ENDS: success\r\n",
            b"\r\nTRIVET ENDS: successful\r\n",
        ] {
            assert_eq!(said(text), None, "{}", String::from_utf8_lossy(text));
            assert!(!end(0, Verdict::Console, text).success());
        }
    }
}
