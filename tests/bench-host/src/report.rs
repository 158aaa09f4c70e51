//! The table for people, on standard error.

use crate::Key;
use crate::run::Op;
use crate::{TABLES, VM};

/// Prints what `cell` knows: a row for each table, and a line for each operation of the VM.
pub fn print(title: &str, keys: &[Key], cell: impl Fn(Key) -> Option<String>) {
    eprintln!("{title}");
    let columns: Vec<Op> = Op::TABLES.into_iter().filter(|op| keys.iter().any(|key| key.0 == *op)).collect();
    if !columns.is_empty() {
        let head: String = columns.iter().map(|op| format!("{:>18}", op.name())).collect();
        eprintln!("{:16}{head}", "a page");
        for row in TABLES {
            let cells = columns.iter().map(|op| format!("{:>18}", cell((*op, row)).unwrap_or_default()));
            eprintln!("{row:16}{}", cells.collect::<String>());
        }
    }
    for (op, text) in keys.iter().filter(|key| key.1 == VM).filter_map(|key| Some((key.0, cell(*key)?))) {
        eprintln!("{:16}{text:>18}", op.name());
    }
}
