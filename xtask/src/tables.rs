//! Reads the tables that Trivet's monitor prints.

use anyhow::{Context as _, Result, bail};

/// One row of the monitor's tables: a VM's values by column.
#[derive(Debug)]
pub struct Row<'a>(Vec<(&'a str, &'a str)>);

impl Row<'_> {
    /// A cell's text.
    pub fn value(&self, column: &str) -> Result<&str> {
        let found = self.0.iter().find(|(name, _)| *name == column);
        Ok(found.with_context(|| format!("the monitor shows no {column}"))?.1)
    }

    /// A cell that is a whole number.
    pub fn number(&self, column: &str) -> Result<u64> {
        self.value(column)?.parse().with_context(|| format!("{column} is no number"))
    }

    /// Bytes, as precise as the monitor shows them.
    pub fn bytes(&self, column: &str) -> Result<f64> {
        let text = self.value(column)?;
        let (number, unit) = text.split_once(' ').with_context(|| format!("{column} is no size: {text}"))?;
        let unit = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            _ => bail!("{column} has an unknown unit: {text}"),
        };
        Ok(number.parse::<f64>()? * f64::from(unit))
    }
}

/// All that the tables of `text` say of `vm`.
pub fn row<'a>(text: &'a str, vm: &str) -> Row<'a> {
    find(text, "VM", vm)
}

/// How many frames `of` has, by the table of the machine's memory.
pub fn frames(text: &str, of: &str) -> Result<u64> {
    find(text, "MEMORY OF", of).number("FRAMES").with_context(|| format!("of the memory of {of}"))
}

/// The rows that begin with `name`, of all tables whose first column is `head`. Columns are at least two spaces apart.
fn find<'a>(text: &'a str, head: &str, name: &str) -> Row<'a> {
    let cells = |line: &'a str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>();
    let mut names: Vec<&str> = Vec::new();
    let mut values = Vec::new();
    for line in text.lines() {
        let line = cells(line);
        match line.first() {
            Some(first) if *first == head => names = line,
            Some(first) if *first == name && line.len() == names.len() => {
                values.extend(names.iter().copied().zip(line));
            }
            _ => {}
        }
    }
    Row(values)
}

#[cfg(test)]
mod tests {
    use super::{frames, row};

    #[test]
    fn the_monitors_tables_are_read_by_column() {
        let text = "VM        MEMORY  IN 2M\na      512.0 MiB  2.0 KiB\nb      256.0 MiB    0 B\n\nVM  TEAMS\na       3\nb       0\n";
        let a = row(text, "a");
        assert_eq!((a.bytes("MEMORY").unwrap(), a.bytes("IN 2M").unwrap()), (512.0 * 1048576.0, 2048.0));
        assert_eq!((a.number("TEAMS").unwrap(), row(text, "b").number("TEAMS").unwrap()), (3, 0));
        assert!(a.value("BROKEN").is_err() && row(text, "c").value("MEMORY").is_err());
    }
    #[test]
    fn the_machines_memory_is_read_by_what_it_is_used_for() {
        let text = "MEMORY OF               SIZE  FRAMES\nmachine            768.0 MiB  196608\n  free             626.4 MiB  160366\n";
        assert_eq!((frames(text, "machine").unwrap(), frames(text, "free").unwrap()), (196608, 160366));
        assert!(frames(text, "guests").is_err());
    }
}
