//! A file holds one idea: past 300 lines ask whether it is two, past 500 split it.

use super::{Problem, Tree};

const ASK: usize = 300;
const SPLIT: usize = 500;

/// The lint.
pub fn check(tree: &Tree) -> Vec<Problem> {
    let judge = |file: &super::Source| match file.text.lines().count() {
        lines if lines > SPLIT => Some(Problem::error(&file.path, lines, format!("{lines} lines: split it"))),
        lines if lines > ASK => Some(Problem::warning(&file.path, lines, format!("{lines} lines: is it two ideas?"))),
        _ => None,
    };
    tree.rust().filter_map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Tree, Weight};
    use super::check;

    #[test]
    fn long_files_are_asked_about_then_refused() {
        let text = |lines: usize| "x\n".repeat(lines);
        let (short, long, longer) = (text(300), text(301), text(501));
        let tree = Tree::of(&[("a.rs", &short), ("b.rs", &long), ("c.rs", &longer), ("d.md", &longer)]);
        let weights: Vec<Weight> = check(&tree).iter().map(|problem| problem.weight).collect();
        assert_eq!(weights, [Weight::Warning, Weight::Error]);
    }
}
