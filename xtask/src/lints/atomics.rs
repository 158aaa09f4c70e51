//! hv-core and the conformance table take atomics from `hv-core/src/sync` only, so that the model checkers see them all.

use super::{Problem, Tree};

/// The lint.
pub fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in tree.rust() {
        let judged = ["hv-core", "tests/conformance"].contains(&file.package().as_str());
        if !judged
            || file.path.starts_with("hv-core/src/sync")
            || file.path == std::path::Path::new("hv-core/src/sync.rs")
        {
            continue;
        }
        for (number, line) in file.code_lines() {
            if line.contains("core::sync::atomic") || line.contains("std::sync::atomic") {
                problems.push(Problem::error(&file.path, number, "atomics come from hv-core's sync only"));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::{Tree, found};
    use super::check;

    #[test]
    fn only_the_facade_names_atomics() {
        let text = "use core::sync::atomic::AtomicU64;";
        let tree =
            Tree::of(&[("hv-core/src/a.rs", text), ("hv-core/src/sync/core.rs", text), ("xtask/src/a.rs", text)]);
        assert_eq!(found(&check(&tree)), ["hv-core/src/a.rs:1: atomics come from hv-core's sync only"]);
    }
}
