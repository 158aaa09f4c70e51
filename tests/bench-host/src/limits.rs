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
        // 1.05, 1.03, 1.03 and 1.05 times what the loops written by hand take.
        (Op::Map, "trivet") => Some((48.3, 4.1)),
        (Op::Independent, "trivet") => Some((48.4, 2.1)),
        (Op::Dependent, "trivet") => Some((44.3, 1.1)),
        (Op::Unmap, "trivet") => Some((50.4, 3.1)),
        (Op::Discard, "trivet-vm") => Some((15.0, 1.0)),
        (Op::DirtyFault, "trivet-vm") => Some((730.0, 93.0)),
        (Op::Harvest, "trivet-vm") => Some((21.0, 1.4)),
        (Op::Split, "trivet-vm") => Some((1_400.0, 560.0)),
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
