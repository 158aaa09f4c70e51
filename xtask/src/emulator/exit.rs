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

/// More than the line of the verdict, with what belongs to it.
const KEPT: usize = 64;

/// The last bytes of the console.
#[derive(Debug, Default)]
pub struct LastLine(Vec<u8>);

impl LastLine {
    /// Takes more bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.0.extend(bytes.iter().skip(bytes.len().saturating_sub(KEPT)));
        self.0.drain(..self.0.len().saturating_sub(KEPT));
    }

    /// What the last line says, if it says anything. Only the last: a guest may have written such a line before.
    fn verdict(&self) -> Option<bool> {
        let text = self.0.strip_suffix(b"\r\n")?;
        let line = text.rsplit(|byte| *byte == b'\n').next()?;
        match line.strip_prefix(ENDS_MARK.as_bytes())?.strip_prefix(b": ")? {
            word if word == ENDED_WELL.as_bytes() => Some(true),
            word if word == ENDED_BADLY.as_bytes() => Some(false),
            _ => None,
        }
    }
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
        for text in [
            &b""[..],
            b"\r\nTRIVET ENDS: success\r\nmore\r\n",
            b"\r\nTRIVET ENDS: success\r\n\r\n",
            b"\r\nTRIVET ENDS: success",
            b"\r\n~ # TRIVET ENDS: success\r\n",
            b"\r\nTRIVET ENDS: successful\r\n",
        ] {
            assert_eq!(said(text), None, "{}", String::from_utf8_lossy(text));
            assert!(!end(0, Verdict::Console, text).success());
        }
    }
}
