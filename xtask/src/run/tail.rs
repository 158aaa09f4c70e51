//! The last lines of a channel, for the report of a failure; or all of them, as they come.

use std::collections::VecDeque;

/// Lines kept of each channel for the report of a failure.
const KEPT: usize = 40;

/// Whether everything is shown as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// On stderr, line by line, with the channel's name before it.
    Shown,
    /// Kept for a failure.
    Kept,
}

/// The last lines of a channel.
pub struct Tail {
    name: String,
    lines: VecDeque<String>,
    partial: Vec<u8>,
    echo: Echo,
}

impl Tail {
    /// An empty one.
    pub fn new(name: &str, echo: Echo) -> Self {
        Self { name: name.to_owned(), lines: VecDeque::new(), partial: Vec::new(), echo }
    }

    /// Takes bytes; whole lines are kept, and shown if so wished.
    pub fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                b'\r' => {}
                _ => self.partial.push(*byte),
            }
        }
    }

    /// The line that has begun is over.
    pub fn end_line(&mut self) {
        let line = harmless(&self.partial);
        self.partial.clear();
        if self.echo == Echo::Shown {
            eprintln!("[{}] {line}", self.name);
        }
        self.lines.push_back(line);
        if self.lines.len() > KEPT {
            self.lines.pop_front();
        }
    }

    /// The lines that were kept.
    pub fn lines(&self) -> impl Iterator<Item = &String> {
        self.lines.iter()
    }

    /// True in the middle of a line.
    pub fn has_begun(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Prints what was kept.
    pub fn print(&self) {
        if self.echo == Echo::Shown || (self.lines.is_empty() && self.partial.is_empty()) {
            return;
        }
        eprintln!("--- {}, last lines:", self.name);
        for line in &self.lines {
            eprintln!("{line}");
        }
        if !self.partial.is_empty() {
            eprintln!("{}", harmless(&self.partial));
        }
    }
}

/// The text without what a terminal would obey: a guest's line editor asks for the cursor's position, for example.
fn harmless(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            // A control sequence ends with a letter.
            let _rest = chars.by_ref().find(|c| c.is_ascii_alphabetic());
        } else if !c.is_control() || c == '\t' {
            shown.push(c);
        }
    }
    shown
}
