//! A source file, with its code apart from comments and from the insides of strings.

use std::path::PathBuf;

/// One text file.
pub struct Source {
    /// Path relative to the tree's root.
    pub path: PathBuf,
    /// The text as it is.
    pub text: String,
    /// For Rust: the text with comments and the insides of literals replaced by spaces, line breaks kept.
    pub code: String,
}

impl Source {
    /// Takes a file's text apart.
    pub fn new(path: PathBuf, text: String) -> Self {
        let rust = path.extension().is_some_and(|ext| ext == "rs");
        let code = if rust { code(&text) } else { String::new() };
        Self { path, text, code }
    }

    /// Lines of code with their numbers from 1.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.code.lines())
    }

    /// The package's folder, such as `hv-core` or `boards/pseries`; empty outside of packages.
    pub fn package(&self) -> String {
        let text = self.path.to_string_lossy().replace('\\', "/");
        ["/src/", "/tests/", "/benches/", "/examples/"]
            .iter()
            .filter_map(|inside| text.split_once(inside))
            .map(|(package, _)| package.to_owned())
            .min_by_key(String::len)
            .unwrap_or_default()
    }
}

/// Whether `line` has `word` as a word of its own.
pub fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = match (at(i), at(i + 1)) {
            ('/', '/') => (i..chars.len()).find(|j| at(*j) == '\n').unwrap_or(chars.len()),
            ('/', '*') => block_comment(&chars, i),
            ('"', _) => string(&chars, i + 1),
            ('r', '"' | '#') if !ident_before(&chars, i) => match raw_string(&chars, i + 1) {
                Some(end) => end,
                None => i,
            },
            // A character, not a lifetime.
            ('\'', '\\') => (i + 3..chars.len()).find(|j| at(*j) == '\'').map_or(chars.len(), |j| j + 1),
            ('\'', _) if at(i + 2) == '\'' => i + 3,
            _ => i,
        };
        if end == i {
            out.push(at(i));
            i += 1;
            continue;
        }
        out.extend(chars.get(i..end).unwrap_or_default().iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        i = end;
    }
    out
}

fn ident_before(chars: &[char], i: usize) -> bool {
    let before = i.checked_sub(1).and_then(|j| chars.get(j));
    before.is_some_and(|c| (c.is_alphanumeric() || *c == '_') && *c != 'b' && *c != 'c')
}

fn block_comment(chars: &[char], start: usize) -> usize {
    let (mut depth, mut i) = (0, start);
    while i < chars.len() {
        match (chars.get(i), chars.get(i + 1)) {
            (Some('/'), Some('*')) => (depth, i) = (depth + 1, i + 2),
            (Some('*'), Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i.min(chars.len())
}

/// The index after the closing quote of a string whose inside begins at `i`.
fn string(chars: &[char], mut i: usize) -> usize {
    while i < chars.len() {
        match chars.get(i) {
            Some('\\') => i += 2,
            Some('"') => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// The same for a raw string whose hashes or quote begin at `i`; `None` if it is none (`r#type`).
fn raw_string(chars: &[char], i: usize) -> Option<usize> {
    let hashes = chars.get(i..)?.iter().take_while(|c| **c == '#').count();
    if chars.get(i + hashes) != Some(&'"') {
        return None;
    }
    let closes = |j: &usize| chars.get(j + 1..j + 1 + hashes).is_some_and(|after| after.iter().all(|c| *c == '#'));
    let quotes = (i + hashes + 1..chars.len()).filter(|j| chars.get(*j) == Some(&'"'));
    Some(quotes.into_iter().find(closes).map_or(chars.len(), |j| j + 1 + hashes))
}

#[cfg(test)]
mod tests {
    use super::{Source, code, has_word};

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = "a /* b /* c */ d */ e // f\n\"g \\\" h\" i r#\"j \" k\"# l 'm' '\\'' 'n: loop r#type";
        let words: Vec<String> = code(text).split_whitespace().map(str::to_owned).collect();
        assert_eq!(words, ["a", "e", "i", "l", "'n:", "loop", "r#type"]);
        assert_eq!(code(text).lines().count(), 2);
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("unsafe {", "unsafe") && has_word("(unsafe)", "unsafe"));
        assert!(!has_word("unsafe_code", "unsafe") && !has_word("an_unsafe", "unsafe"));
    }

    #[test]
    fn packages_are_found_by_their_folders() {
        let package = |path: &str| Source::new(path.into(), String::new()).package();
        assert_eq!(package("hv-core/src/mmu/map.rs"), "hv-core");
        assert_eq!(package("tests/conformance/src/lib.rs"), "tests/conformance");
        assert_eq!(package("boards/pseries/src/main.rs"), "boards/pseries");
        assert_eq!(package("Cargo.toml"), "");
    }
}
