//! Aligned tables without storage: every cell is written twice, once to be measured.
//!
//! The monitor must work when memory is out, so it does not allocate.

use core::fmt::{self, Write};

/// Where a column's text stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Counts characters.
struct Measure(usize);

impl Write for Measure {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.saturating_add(text.chars().count());
        Ok(())
    }
}

fn pad(out: &mut dyn Write, width: usize) -> fmt::Result {
    (0..width).try_for_each(|_| out.write_char(' '))
}

/// Writes a table: a line of headings, then `rows` lines. `cell` writes the cell of a row and a column; it must write
/// the same text each time it is asked.
pub(super) fn table<const C: usize>(
    out: &mut dyn Write,
    columns: [(&str, Align); C],
    rows: usize,
    cell: &dyn Fn(usize, usize, &mut dyn Write) -> fmt::Result,
) -> fmt::Result {
    let measured = |row: usize, column: usize| {
        let mut width = Measure(0);
        cell(row, column, &mut width).map(|()| width.0)
    };
    let mut widths = [0; C];
    for ((column, width), (heading, _)) in widths.iter_mut().enumerate().zip(columns) {
        *width = heading.chars().count();
        for row in 0..rows {
            *width = measured(row, column)?.max(*width);
        }
    }
    for line in 0..=rows {
        for ((column, width), (heading, align)) in widths.into_iter().enumerate().zip(columns) {
            let row = line.checked_sub(1);
            let taken = row.map_or(Ok(heading.chars().count()), |row| measured(row, column))?;
            let padding = width.saturating_sub(taken);
            if align == Align::Right {
                pad(out, padding)?;
            }
            match row {
                None => out.write_str(heading)?,
                Some(row) => cell(row, column, out)?,
            }
            let last = column.saturating_add(1) == C;
            if !last {
                // No blanks at a line's end: they would be in every copied transcript.
                pad(out, if align == Align::Left { padding.saturating_add(2) } else { 2 })?;
            }
        }
        out.write_char('\n')?;
    }
    Ok(())
}

/// A number of bytes for people: one decimal, binary units.
pub(super) struct Size(pub(super) u64);

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

/// Ticks of a clock as seconds with three decimals. A clock of zero ticks a second shows as `-`.
pub(super) struct Seconds {
    pub(super) ticks: u64,
    pub(super) per_second: u64,
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(whole) = self.ticks.checked_div(self.per_second) else { return f.write_str("-") };
        // Exact for any clock below 10^16 ticks a second.
        let rest = self.ticks.checked_rem(self.per_second).unwrap_or(0);
        let ms = rest.saturating_mul(1000).checked_div(self.per_second).unwrap_or(0);
        write!(f, "{whole}.{ms:03} s")
    }
}

#[cfg(test)]
mod tests {
    use super::{Align, Seconds, Size, table};
    use alloc::string::{String, ToString};

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let cells = [["alpha", "1"], ["b", "12345"]];
        let mut text = String::new();
        table(&mut text, [("NAME", Align::Left), ("N", Align::Right)], 2, &|row, column, out| {
            out.write_str(cells[row][column])
        })
        .unwrap();
        assert_eq!(text, "NAME       N\nalpha      1\nb      12345\n");
        text.clear();
        table(&mut text, [("N", Align::Right), ("NAME", Align::Left)], 2, &|row, column, out| {
            out.write_str(cells[row][1 - column])
        })
        .unwrap();
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
        assert_eq!(Seconds { ticks: 512_000_000, per_second: 512_000_000 }.to_string(), "1.000 s");
        assert_eq!(Seconds { ticks: u64::MAX, per_second: 1 }.to_string(), "18446744073709551615.000 s");
        assert_eq!(Seconds { ticks: 5, per_second: 0 }.to_string(), "-");
    }
}
