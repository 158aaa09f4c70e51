//! Beside every `unsafe` stands the reason: `// SAFETY:` before a block or an impl, `# Safety` in the documentation of a
//! function. clippy checks the first on the build machine's code only, and boards are built for another.

use super::source::{Source, has_word};
use super::{Problem, Tree};

/// The lint.
pub fn check(tree: &Tree) -> Vec<Problem> {
    tree.rust().filter(|file| !file.package().is_empty()).flat_map(one).collect()
}

fn one(file: &Source) -> Vec<Problem> {
    let text: Vec<&str> = file.text.lines().collect();
    let mut problems = Vec::new();
    for (number, code) in file.code_lines() {
        // `unsafe(no_mangle)` and the like promise something about a name, and are written in attributes.
        if !has_word(code, "unsafe") || code.contains("unsafe(") {
            continue;
        }
        let function = code.contains("unsafe fn") || code.contains("unsafe extern");
        let reason = if function { "# Safety" } else { "SAFETY:" };
        let here = text.get(number - 1).is_some_and(|line| line.contains(reason));
        // A function pointer's type, or an extern block, needs no reason of its own; an implementation of a trait's
        // function has the trait's.
        let implements = code.starts_with(' ') && code.trim_start().starts_with("unsafe fn");
        let exempt = implements
            || code.contains("unsafe extern")
            || code.contains(": unsafe fn")
            || code.contains("as unsafe fn");
        if !here && !exempt && !above(&text, number - 1, reason) {
            problems.push(Problem::error(&file.path, number, format!("unsafe without its reason ({reason})")));
        }
    }
    problems
}

/// Whether the comments and attributes right above line `at` (from 0) hold `reason`. A statement that began above, and
/// an attribute, may stand in between.
fn above(text: &[&str], at: usize, reason: &str) -> bool {
    let mut in_comment = false;
    for line in text.get(..at).unwrap_or_default().iter().rev() {
        let line = line.trim();
        if line.starts_with("//") {
            in_comment = true;
            if line.contains(reason) {
                return true;
            }
        } else if in_comment || line.is_empty() || line.ends_with(';') || line.ends_with('}') {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::{Tree, found};
    use super::check;

    fn problems(text: &str) -> usize {
        found(&check(&Tree::of(&[("p/src/a.rs", text)]))).len()
    }

    #[test]
    fn a_reason_must_stand_beside_each_use() {
        assert_eq!(problems("// SAFETY: because\nunsafe { f() }"), 0);
        assert_eq!(problems("// SAFETY: because\n// of that\nlet x =\n    unsafe { f() };"), 0);
        assert_eq!(problems("unsafe { f() } // SAFETY: because"), 0);
        assert_eq!(problems("/// # Safety\n/// Only once.\n#[inline]\npub unsafe fn f() {}"), 0);
        assert_eq!(problems("// SAFETY: because\nunsafe impl T for X {\n    unsafe fn f() {}\n}"), 0);
        assert_eq!(problems("#[unsafe(no_mangle)]\nfn f() {}"), 0);
        assert_eq!(problems("// reason\nunsafe { f() }"), 1);
        assert_eq!(problems("// SAFETY: other\ng();\nunsafe { f() }"), 1);
        assert_eq!(problems("pub unsafe fn f() {}"), 1);
        assert_eq!(problems("unsafe impl Send for X {}"), 1);
    }
}
