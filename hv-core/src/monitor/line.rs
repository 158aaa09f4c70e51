//! The monitor's line editor: backspace, Ctrl-U, Ctrl-C, Ctrl-D, and a bound on the length.
//!
//! No history and no cursor movement: escape sequences are swallowed whole, so that an arrow key does not type `[A`.

/// The longest line, in bytes.
pub const LINE_MAX: usize = 120;

/// A line as typed: printable ASCII only.
pub type Line = heapless::String<LINE_MAX>;

/// What a key did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// The line has changed, or not.
    Edited,
    /// Return: here is the line; the editor is empty again.
    Entered(Line),
    /// Ctrl-C: the line was thrown away.
    Cancelled,
    /// Ctrl-D on an empty line: the operator wants to leave.
    Leave,
}

/// Where in an escape sequence the editor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sequence {
    Outside,
    /// After ESC.
    Begun,
    /// After ESC `[` or ESC `O`, until a final byte.
    Inside,
}

/// The editor's state.
#[derive(Debug)]
pub struct LineReader {
    line: Line,
    sequence: Sequence,
    /// The last key was a carriage return, so a line feed belongs to it.
    after_return: AfterReturn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterReturn {
    No,
    Yes,
}

impl Default for LineReader {
    fn default() -> Self {
        Self::new()
    }
}

impl LineReader {
    /// An empty line.
    #[must_use]
    pub const fn new() -> Self {
        Self { line: Line::new(), sequence: Sequence::Outside, after_return: AfterReturn::No }
    }

    /// What has been typed so far, to be shown again after something else was printed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.line
    }

    /// Takes one key and passes what the terminal is to show to `echo`.
    pub fn key(&mut self, key: u8, mut echo: impl FnMut(&[u8])) -> Key {
        let after_return = core::mem::replace(&mut self.after_return, AfterReturn::No);
        match self.sequence {
            Sequence::Begun => {
                self.sequence = if matches!(key, b'[' | b'O') { Sequence::Inside } else { Sequence::Outside };
                return Key::Edited;
            }
            Sequence::Inside => {
                if (0x40..=0x7e).contains(&key) {
                    self.sequence = Sequence::Outside;
                }
                return Key::Edited;
            }
            Sequence::Outside => {}
        }
        match key {
            b'\n' if after_return == AfterReturn::Yes => Key::Edited,
            b'\r' | b'\n' => {
                if key == b'\r' {
                    self.after_return = AfterReturn::Yes;
                }
                echo(b"\r\n");
                Key::Entered(core::mem::take(&mut self.line))
            }
            // Backspace and delete
            0x08 | 0x7f => {
                if self.line.pop().is_some() {
                    echo(b"\x08 \x08");
                }
                Key::Edited
            }
            // Ctrl-U
            0x15 => {
                while self.line.pop().is_some() {
                    echo(b"\x08 \x08");
                }
                Key::Edited
            }
            // Ctrl-C
            0x03 => {
                self.line.clear();
                echo(b"^C\r\n");
                Key::Cancelled
            }
            // Ctrl-D
            0x04 if self.line.is_empty() => Key::Leave,
            0x1b => {
                self.sequence = Sequence::Begun;
                Key::Edited
            }
            b' '..=b'~' => {
                // A full line rings the bell.
                match self.line.push(char::from(key)) {
                    Ok(()) => echo(&[key]),
                    Err(_) => echo(b"\x07"),
                }
                Key::Edited
            }
            _ => Key::Edited,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, LINE_MAX, LineReader};
    use alloc::string::String;
    use alloc::vec::Vec;

    /// Types `keys`; returns what the terminal shows and every answer but `Edited`.
    fn typed(keys: &[u8]) -> (String, Vec<Key>) {
        let (mut reader, mut echo, mut answers) = (LineReader::new(), Vec::new(), Vec::new());
        for key in keys {
            let answer = reader.key(*key, |bytes| echo.extend_from_slice(bytes));
            if answer != Key::Edited {
                answers.push(answer);
            }
        }
        (String::from_utf8(echo).unwrap(), answers)
    }

    fn entered(line: &str) -> Key {
        Key::Entered(line.try_into().unwrap())
    }

    #[test]
    fn typing_and_correcting() {
        assert_eq!(typed(b"lisx\x7ft\r"), ("lisx\x08 \x08t\r\n".into(), [entered("list")].into()));
        assert_eq!(typed(b"\x7f\x08ab\x15c\r").1, [entered("c")]);
        assert_eq!(typed(b"abc\x03d\n"), ("abc^C\r\nd\r\n".into(), [Key::Cancelled, entered("d")].into()));
    }

    #[test]
    fn return_and_line_feed_are_one_line() {
        assert_eq!(typed(b"a\r\nb\r\rc\n").1, [entered("a"), entered("b"), entered(""), entered("c")]);
    }

    #[test]
    fn escape_sequences_and_controls_type_nothing() {
        assert_eq!(typed(b"a\x1b[A\x1bOP\x1b[1;5C\x01\x00\xffb\r"), ("ab\r\n".into(), [entered("ab")].into()));
    }

    #[test]
    fn end_of_input_leaves_only_from_an_empty_line() {
        assert_eq!(typed(b"a\x04\r\x04").1, [entered("a"), Key::Leave]);
    }

    #[test]
    fn a_line_is_bounded() {
        let mut keys = Vec::from([b'x'; 1000]);
        keys.push(b'\r');
        let (echo, answers) = typed(&keys);
        assert_eq!(answers, [entered(&"x".repeat(LINE_MAX))]);
        assert_eq!(echo.bytes().filter(|b| *b == 7).count(), 1000 - LINE_MAX);
    }
}
