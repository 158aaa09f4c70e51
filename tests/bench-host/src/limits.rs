//! What may not be exceeded: instructions, as callgrind counts them, with the loop around the operation.
//!
//! They are counted on x86-64, so they belong to this compiler and this instruction set; what carries over to boards is
//! that a change which doubles one of them is noticed. Each has about one tenth of room.

use std::collections::HashMap;

use crate::Key;
use crate::run::Op;

/// The most instructions and stores that `op` may take; `None` where nothing is promised.
pub fn of(op: Op, subject: &str) -> Option<(f64, f64)> {
    match (op, subject) {
        (Op::Map, "trivet") => Some((54.0, 4.1)),
        (Op::Independent, "trivet") => Some((53.0, 2.1)),
        (Op::Dependent, "trivet") => Some((49.0, 1.1)),
        (Op::Unmap, "trivet") => Some((55.0, 3.1)),
        (Op::Discard, "trivet-vm") => Some((14.0, 0.75)),
        // 4,096 of each are the new table's zeroing, one `rep stosb`, of which callgrind counts every byte. The goal for
        // the rest is 1,400.
        (Op::Split, "trivet-vm") => Some((5_800.0, 4_700.0)),
        _ => None,
    }
}

/// An error names every limit that was exceeded.
pub fn check(counts: &HashMap<Key, [f64; 3]>) -> Result<(), String> {
    let mut over = Vec::new();
    for ((op, subject), [instructions, _, stores]) in counts {
        let Some((most, most_stores)) = of(*op, subject) else { continue };
        if *instructions > most || *stores > most_stores {
            let op = op.name();
            over.push(format!(
                "{op}, {subject}: {instructions:.1} of {most} instructions, {stores:.1} of {most_stores} stores"
            ));
        }
    }
    over.sort();
    if over.is_empty() { Ok(()) } else { Err(format!("over the limit:\n{}", over.join("\n"))) }
}
