//! Talks to a guest's shell over its console, so that a command's output and status come back and nothing else.
//!
//! ```text
//! guest: ... # | wait for a prompt
//! xtask: stty -echo ...; printf mark | no echo and no prompts from now on; all before the mark is dropped
//! xtask: eval 'COMMAND' </dev/null   | the command cannot eat what is typed after it
//!        printf mark $?              | on a line of its own: a syntax error drops the rest of its line
//! guest: output mark
//! ```
//!
//! The mark is a record separator (byte 0x1e), a number of this exchange, the status, and the separator again. What is
//! typed has it only as the escape `\036`, so an echo is not taken for it.

use hv_core::link::MAX_LINE;

const SEPARATOR: u8 = 0x1e;
/// The line editor asks the terminal for its position after the prompt.
const POSITION_QUERY: &[u8] = b"\x1b[6n";

/// Whether `text` ends in a shell's prompt.
pub fn at_prompt(text: &[u8]) -> bool {
    let text = text.strip_suffix(POSITION_QUERY).unwrap_or(text);
    let line = text.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    line.ends_with(b"# ") || line.ends_with(b"$ ")
}

/// What makes the shell quiet; answered with mark `number`, status 0.
pub fn quiet(number: u32) -> String {
    format!("stty -echo -onlcr; PS1= PS2=; printf '\\036%d:%d\\036' {number} 0\n")
}

/// What carries out `command`; answered with mark `number` and the command's status.
/// `None` if it is longer than a guest's console takes at once.
pub fn typed(number: u32, command: &str) -> Option<String> {
    let quoted = command.replace('\'', r"'\''");
    let text = format!("eval '{quoted}' </dev/null\nprintf '\\036%d:%d\\036' {number} \"$?\"\n");
    (text.len() <= MAX_LINE).then_some(text)
}

/// What was found in a console's output.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// Output that is certainly before the mark.
    pub output: Vec<u8>,
    /// The status, if the mark has come.
    pub status: Option<u8>,
}

/// Takes from `unread` what comes before mark `number`, and the mark.
pub fn scan(unread: &mut Vec<u8>, number: u32) -> Found {
    let begin = format!("\x1e{number}:");
    let mut at = 0;
    while let Some(next) = unread.iter().skip(at).position(|byte| *byte == SEPARATOR) {
        at += next;
        let rest = unread.get(at..).unwrap_or_default();
        if let Some(after) = rest.strip_prefix(begin.as_bytes()) {
            let Some(end) = after.iter().position(|byte| *byte == SEPARATOR) else { break };
            let status = after.get(..end).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            if let Some(status) = status {
                let rest = after.get(end + 1..).unwrap_or_default().to_vec();
                let output = unread.drain(..at).collect();
                *unread = rest;
                return Found { output, status: Some(status) };
            }
        } else if begin.as_bytes().starts_with(rest) {
            break;
        }
        at += 1;
    }
    let certain = unread.iter().skip(at).position(|byte| *byte == SEPARATOR).map_or(unread.len(), |next| at + next);
    Found { output: unread.drain(..certain).collect(), status: None }
}

#[cfg(test)]
mod tests {
    use super::{Found, at_prompt, scan, typed};

    fn found(output: &[u8], status: Option<u8>) -> Found {
        Found { output: output.to_vec(), status }
    }

    #[test]
    fn prompts_are_known_with_and_without_a_query() {
        assert!(at_prompt(b"text\r\n~ # ") && at_prompt(b"~ # \x1b[6n") && at_prompt(b"$ "));
        assert!(!at_prompt(b"# \r\n") && !at_prompt(b"") && !at_prompt(b"a # b"));
    }

    #[test]
    fn a_mark_is_found_however_it_is_cut() {
        let whole = b"ppc64le\n\x1e7:3\x1e~ # ";
        for cut in 0..whole.len() {
            let (first, second) = whole.split_at(cut);
            let mut unread = first.to_vec();
            let early = scan(&mut unread, 7);
            let mut output = early.output;
            let mut status = early.status;
            if status.is_none() {
                unread.extend(second);
                let late = scan(&mut unread, 7);
                output.extend(late.output);
                status = late.status;
            }
            assert_eq!((output.as_slice(), status), (&b"ppc64le\n"[..], Some(3)), "cut at {cut}");
        }
    }

    #[test]
    fn other_separators_are_output() {
        let mut unread = b"a\x1eb\x1e8:0\x1ec\x1e7:x\x1e\x1e7:0\x1erest".to_vec();
        assert_eq!(scan(&mut unread, 7), found(b"a\x1eb\x1e8:0\x1ec\x1e7:x\x1e", Some(0)));
        assert_eq!(unread, b"rest");
    }

    #[test]
    fn quotes_survive_and_length_is_bounded() {
        let text = typed(1, "echo 'a b'").unwrap();
        assert!(text.starts_with(r"eval 'echo '\''a b'\''' </dev/null"), "{text}");
        assert!(!text.contains('\x1e'));
        assert!(typed(1, &"x".repeat(2048)).is_none());
    }
}
