//! Aligned tables without storage: every cell is written twice, once to be measured.
//!
//! The monitor must work when memory is out, so it does not allocate.

use core::fmt::{self, Write};

use crate::addr::PAGE_SIZE;

/// Most columns of a table.
const MAX_COLUMNS: usize = 9;

/// Where a column's text stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// What stands in one place of a table. Values, so that what asks for them is not a formatter each.
#[derive(Clone, Copy)]
pub(super) enum Cell<'a> {
    /// Words.
    Text(&'a str),
    /// Words in two parts.
    Pair(&'a str, &'a str),
    /// A number.
    Count(u64),
    /// A number of bytes.
    Bytes(u64),
    /// A number of frames, as bytes.
    Frames(u64),
    /// Ticks of a clock, and how many make a second.
    Seconds(u64, u64),
    /// How many times the second the first is.
    Ratio(u64, u64),
}

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Text(text) => f.write_str(text),
            Self::Pair(first, second) => f.write_str(first).and_then(|()| f.write_str(second)),
            Self::Count(n) => n.fmt(f),
            Self::Bytes(n) => Size(n).fmt(f),
            Self::Frames(n) => Size(n.saturating_mul(PAGE_SIZE as u64)).fmt(f),
            Self::Seconds(ticks, per_second) => match parts(ticks, per_second, 1000) {
                Some((whole, ms)) => write!(f, "{whole}.{ms:03} s"),
                None => f.write_char('-'),
            },
            Self::Ratio(of, to) => match parts(of, to, 10) {
                Some((whole, tenths)) => write!(f, "{whole}.{tenths}"),
                None => f.write_char('-'),
            },
        }
    }
}

/// A quotient: its whole, and so many parts of one. Exact for divisors below 10^16; `None` for 0.
fn parts(of: u64, by: u64, scale: u64) -> Option<(u64, u64)> {
    Some((of.checked_div(by)?, of.checked_rem(by)?.saturating_mul(scale).checked_div(by)?))
}

/// Counts characters.
struct Measure(usize);

impl Write for Measure {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.saturating_add(text.chars().count());
        Ok(())
    }
}

fn width(cell: Cell<'_>) -> usize {
    let mut width = Measure(0);
    // Counting does not fail.
    let _ = write!(width, "{cell}");
    width.0
}

pub(super) fn pad(out: &mut dyn Write, width: usize) -> fmt::Result {
    (0..width).try_for_each(|_| out.write_char(' '))
}

/// Writes a table: a line of headings, then `rows` lines. `cell` gives what stands in a row and a column; the same each
/// time it is asked.
pub(super) fn table<'a>(
    out: &mut dyn Write,
    columns: &[(&'a str, Align)],
    rows: usize,
    cell: &dyn Fn(usize, usize) -> Cell<'a>,
) -> fmt::Result {
    let mut widths = [0; MAX_COLUMNS];
    let text = |line: usize, column: usize| match line.checked_sub(1) {
        Some(row) => cell(row, column),
        None => Cell::Text(columns.get(column).map_or("", |(heading, _)| heading)),
    };
    for line in 0..=rows {
        for (column, known) in (0..columns.len()).zip(widths.iter_mut()) {
            *known = width(text(line, column)).max(*known);
        }
    }
    for line in 0..=rows {
        for (column, ((_, align), full)) in columns.iter().zip(widths).enumerate() {
            let cell = text(line, column);
            let padding = full.saturating_sub(width(cell));
            if *align == Align::Right {
                pad(out, padding)?;
            }
            write!(out, "{cell}")?;
            // No blanks at a line's end: they would be in every copied transcript.
            if column.saturating_add(1) < columns.len() {
                pad(out, if *align == Align::Left { padding.saturating_add(2) } else { 2 })?;
            }
        }
        out.write_char('\n')?;
    }
    Ok(())
}

/// Writes lines of a name and a value.
pub(super) fn lines(out: &mut dyn Write, rows: &[(&str, Cell<'_>)]) -> fmt::Result {
    let names = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().try_for_each(|(name, value)| {
        out.write_str(name)?;
        pad(out, names.saturating_sub(name.len()).saturating_add(2))?;
        writeln!(out, "{value}")
    })
}

/// A number of bytes for people: one decimal, binary units.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shift, unit) = match self.0 {
            0..0x400 => return write!(f, "{} B", self.0),
            0x400..0x10_0000 => (10, "KiB"),
            // Up to 64 GiB in MiB, so that machines and their guests are compared at a glance.
            0x10_0000..0x10_0000_0000 => (20, "MiB"),
            _ => (30, "GiB"),
        };
        let whole = self.0 >> shift;
        // What the shift dropped is less than 2^30, so ten times it fits.
        let rest = self.0 & !(u64::MAX << shift);
        write!(f, "{whole}.{} {unit}", rest.saturating_mul(10) >> shift)
    }
}

#[cfg(test)]
mod tests {
    use super::{Align, Cell, Size, table};
    use alloc::string::{String, ToString};

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let cells = [["alpha", "1"], ["b", "12345"]];
        let mut text = String::new();
        let columns = [("NAME", Align::Left), ("N", Align::Right)];
        table(&mut text, &columns, 2, &|row, column| Cell::Text(cells[row][column])).unwrap();
        assert_eq!(text, "NAME       N\nalpha      1\nb      12345\n");
        text.clear();
        let columns = [("N", Align::Right), ("NAME", Align::Left)];
        table(&mut text, &columns, 2, &|row, column| Cell::Text(cells[row][1 - column])).unwrap();
        assert_eq!(text, "    N  NAME\n    1  alpha\n12345  b\n");
    }

    #[test]
    fn sizes_and_times_read_well() {
        let sizes = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_048_575, "1023.9 KiB")];
        let more =
            [(1 << 20, "1.0 MiB"), (3 << 29, "1536.0 MiB"), (1 << 40, "1024.0 GiB"), (u64::MAX, "17179869183.9 GiB")];
        for (bytes, text) in sizes.into_iter().chain(more) {
            assert_eq!(Size(bytes).to_string(), text);
        }
        for (cell, text) in [
            (Cell::Seconds(512_000_000, 512_000_000), "1.000 s"),
            (Cell::Seconds(u64::MAX, 1), "18446744073709551615.000 s"),
            (Cell::Seconds(5, 0), "-"),
            (Cell::Ratio(7, 2), "3.5"),
            (Cell::Ratio(0, 0), "-"),
            (Cell::Frames(256), "1.0 MiB"),
            (Cell::Pair("a", "b"), "ab"),
        ] {
            assert_eq!(cell.to_string(), text);
        }
    }
}
