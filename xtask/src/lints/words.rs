//! Nothing of one machine may be in the tree: its folders, its mirrors.

use super::{Problem, Tree};

/// Never in the tree. Split, so that this file is clean too.
const WORDS: [&str; 9] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/t", "mp/"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("deb.", "debian", ".org"),
    concat!("security.", "debian", ".org"),
    concat!("static.", "rust-lang.org"),
];

/// The lint. Cargo's own lock file names its registry and is left alone.
pub fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in tree.files.iter().filter(|file| !file.path.ends_with("Cargo.lock")) {
        for (number, line) in (1..).zip(file.text.lines()) {
            if let Some(word) = WORDS.iter().find(|word| line.contains(*word)) {
                problems.push(Problem::error(&file.path, number, format!("{word} is of one machine")));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::{Tree, found};
    use super::{WORDS, check};

    #[test]
    fn each_word_is_found_in_any_text() {
        for word in WORDS {
            let text = format!("fine\nsee {word}x");
            assert_eq!(found(&check(&Tree::of(&[("a.md", &text)]))).len(), 1, "{word}");
        }
        assert!(check(&Tree::of(&[("a.md", "the root of work at home")])).is_empty());
    }
}
