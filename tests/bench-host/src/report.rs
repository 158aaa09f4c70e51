//! The table for people.

use std::fmt::Write as _;

use crate::run::Op;

/// One row a competitor, one column an operation.
pub fn table(title: &str, rows: &[&str], ops: &[Op], cell: impl Fn(Op, &str) -> String) -> String {
    let mut text = format!("{title}\n{:16}", "");
    for op in ops {
        let _ = write!(text, "{:>18}", op.name());
    }
    text.push('\n');
    for row in rows {
        let _ = write!(text, "{row:16}");
        for op in ops {
            let _ = write!(text, "{:>18}", cell(*op, row));
        }
        text.push('\n');
    }
    text
}
