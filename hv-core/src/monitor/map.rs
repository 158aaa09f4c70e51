//! A picture of a guest's memory: one character a block, from guest physical address 0 on.
//!
//! A block is 2 MiB; where that would make more than [`ROWS`] lines, as many as are needed to be no more. What a person is
//! to see first wins where a block is of several kinds: that it was written, then that some of it is out, then its size.

use core::fmt::{self, Write};

use super::Operator;
use super::table::Cell;
use crate::addr::GfnRange;
use crate::host::{HUGE, Survey};

/// Characters in a line, in groups.
const COLUMNS: u64 = 64;
const GROUP: u64 = 16;
/// Most lines of a picture.
const ROWS: u64 = 16;
/// Digits of the longest address: 1 TiB, in MiB.
const ADDRESS: usize = 7;

/// The character for a block of so many pages.
fn character(found: &Survey, pages: u64) -> char {
    let half = pages.div_ceil(2);
    match found {
        Survey { dirty: 1.., .. } => 'd',
        Survey { swapped, .. } if *swapped >= half => 'S',
        Survey { swapped: 1.., .. } => 's',
        Survey { team, .. } if *team >= half => 'T',
        Survey { huge, .. } if *huge >= half => '#',
        _ if found.resident() >= half => '+',
        _ if found.resident() > 0 => ':',
        _ => '.',
    }
}

/// Draws one VM's memory, place by place.
pub(super) fn draw(operator: &dyn Operator, vm: usize, out: &mut dyn Write) -> fmt::Result {
    let Some(info) = operator.vm_info(vm) else { return Ok(()) };
    for (what, gfns) in ["memory", "memory above the hole", "shared window"].into_iter().zip(info.places) {
        if let Some(gfns) = gfns {
            write!(out, "{}: {what}, {}", info.name, Cell::Frames(gfns.pages()))?;
            picture(operator, vm, gfns, out)?;
        }
    }
    Ok(())
}

fn picture(operator: &dyn Operator, vm: usize, gfns: GfnRange, out: &mut dyn Write) -> fmt::Result {
    let room = COLUMNS.saturating_mul(ROWS);
    let block = gfns.pages().div_ceil(room).max(HUGE.pages()).next_power_of_two();
    writeln!(out, ", one character is {}", Cell::Frames(block))?;
    let mut all = Survey::default();
    for n in 0..gfns.pages().div_ceil(block) {
        let done = n.saturating_mul(block);
        let pages = block.min(gfns.pages().saturating_sub(done));
        let Some(gfns) = gfns.start().checked_add(done).and_then(|start| GfnRange::new(start, pages)) else { break };
        if n.is_multiple_of(COLUMNS) {
            let mib = gfns.start().0 >> 8;
            let gap = if n > 0 { "\n" } else { "" };
            write!(out, "{gap}{mib:ADDRESS$} MiB ")?;
        }
        if n.is_multiple_of(GROUP) {
            out.write_char(' ')?;
        }
        // A VM that has ended has nothing.
        let found = operator.survey(vm, gfns).unwrap_or_default();
        out.write_char(character(&found, pages))?;
        all.add(&found);
    }
    let untouched = gfns.pages().saturating_sub(all.resident()).saturating_sub(all.swapped);
    let legend = [
        ("\n  .", "untouched", untouched),
        ("  :+", "small", all.small),
        ("  #", "huge", all.huge),
        ("  T", "huge, of a shared object", all.team),
        ("\n  sS", "swapped", all.swapped),
        ("  d", "dirty", all.dirty),
    ];
    legend.iter().try_for_each(|(sign, name, pages)| write!(out, "{sign} {name} {}", Cell::Frames(*pages)))?;
    writeln!(out, "  (: and s: less than half of the block; + and S: half or more)")
}
