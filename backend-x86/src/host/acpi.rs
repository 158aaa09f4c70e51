//! What of ACPI's tables Trivet reads (ACPI specification 6.5, chapter 5): CPUs, interrupt routing, power-off, a timer. No
//! AML is carried out; the one package that power-off needs is recognized by its bytes.

use alloc::vec::Vec;

use super::physical::{Physical, long, number};

/// No table is longer.
const LONGEST: usize = 1 << 20;
/// More tables than any firmware has.
const MOST_TABLES: usize = 128;

/// An I/O port, or a byte of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// Port.
    Port(u16),
    /// Memory.
    Memory(u64),
}

/// How the machine is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerOff {
    /// Write the words to the PM1 control ports (4.8.3.2.1).
    Fixed {
        /// PM1a_CNT and what to write.
        a: (u16, u16),
        /// PM1b_CNT, where there is one.
        b: Option<(u16, u16)>,
    },
    /// Write a byte to the sleep control register (4.8.3.7) of a machine without the fixed ones.
    Reduced(Register, u8),
}

/// An I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApic {
    /// Its registers.
    pub base: u64,
    /// The number of its first input.
    pub first: u32,
}

/// Where an interrupt of the ISA bus goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The input's number among all I/O APICs'.
    pub input: u32,
    /// It is active when low.
    pub low: bool,
    /// It is a level, not an edge.
    pub level: bool,
}

/// What the tables say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acpi {
    /// APIC identifiers of the CPUs that can be used, in the tables' order.
    pub cpus: Vec<u32>,
    /// The I/O APICs.
    pub io_apics: Vec<IoApic>,
    /// ISA interrupts that are not on the input of their number: the interrupt, and its line.
    pub overrides: Vec<(u8, Line)>,
    /// Port of the power management timer.
    pub timer: Option<u16>,
    /// How to switch off.
    pub power_off: Option<PowerOff>,
}

impl Acpi {
    /// Reads the tables; `root` is where the loader says that they begin, else the BIOS's area is searched. `None` if there
    /// are none.
    pub fn read(p: &impl Physical, root: Option<u64>) -> Option<Self> {
        let root = root.filter(|at| is_root(p, *at)).or_else(|| search(p))?;
        let mut found = Self::default();
        for at in tables(p, root)? {
            let Some(table) = table(p, at) else { continue };
            // A table that ends early tells what it tells until there.
            let _ = match table.first_chunk() {
                Some(b"APIC") => found.madt(table),
                Some(b"FACP") => found.fadt(p, table),
                _ => None,
            };
        }
        Some(found)
    }

    /// Where the interrupt of this number on the ISA bus goes: edges, active when high, unless something else is said.
    #[must_use]
    pub fn line(&self, isa: u8) -> Line {
        let usual = Line { input: isa.into(), low: false, level: false };
        self.overrides.iter().find(|(number, _)| *number == isa).map_or(usual, |(_, line)| *line)
    }

    /// 5.2.12.
    fn madt(&mut self, table: &[u8]) -> Option<()> {
        let mut rest = table.get(44..)?;
        while let [kind, length, ..] = *rest {
            let entry = rest.get(..usize::from(length).max(2))?;
            match kind {
                0 if number(entry, 4)? & 1 != 0 => self.cpus.push((*entry.get(3)?).into()),
                9 if number(entry, 8)? & 1 != 0 => self.cpus.push(number(entry, 4)? as u32),
                1 => self.io_apics.push(IoApic { base: number(entry, 4)?, first: number(entry, 8)? as u32 }),
                2 => {
                    let flags = *entry.get(8)?;
                    let line =
                        Line { input: number(entry, 4)? as u32, low: flags & 3 == 3, level: flags >> 2 & 3 == 3 };
                    self.overrides.push((*entry.get(3)?, line));
                }
                _ => {}
            }
            rest = rest.get(entry.len()..)?;
        }
        Some(())
    }

    /// 5.2.9.
    fn fadt(&mut self, p: &impl Physical, table: &[u8]) -> Option<()> {
        let port = |at| number(table, at).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        self.timer = port(76);
        let dsdt = long(table, 140).filter(|at| *at != 0).or_else(|| number(table, 40))?;
        let (a, b) = self::table(p, dsdt).and_then(soft_off)?;
        /// Flags: there are no fixed registers.
        const REDUCED: u64 = 1 << 20;
        self.power_off = if number(table, 112)? & REDUCED != 0 {
            let register = match *table.get(244)? {
                0 => Register::Memory(long(table, 248)?),
                1 => Register::Port(u16::try_from(long(table, 248)?).ok()?),
                _ => return None,
            };
            Some(PowerOff::Reduced(register, a << 2 | 1 << 5))
        } else {
            let word = |kind: u8| u16::from(kind) << 10 | 1 << 13;
            Some(PowerOff::Fixed { a: (port(64)?, word(a)), b: port(68).map(|port| (port, word(b))) })
        };
        Some(())
    }
}

/// Whether the bytes add up.
fn is_sum(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == 0
}

/// 5.2.5.3: the first 20 bytes have a sum of their own.
fn is_root(p: &impl Physical, at: u64) -> bool {
    p.bytes(at, 20).is_some_and(|root| root.starts_with(b"RSD PTR ") && is_sum(root))
}

/// 5.2.5.1: the first KiB of the extended BIOS data area, then the BIOS.
fn search(p: &impl Physical) -> Option<u64> {
    let area = p.bytes(0x40e, 2).and_then(|b| b.first_chunk().copied()).map_or(0, u16::from_le_bytes);
    let area = u64::from(area) << 4;
    (area..area + 0x400).step_by(16).chain((0xe_0000..0x10_0000).step_by(16)).find(|at| is_root(p, *at))
}

/// Addresses of the tables: 5.2.8, and 5.2.7 where that is not there.
fn tables(p: &impl Physical, root: u64) -> Option<Vec<u64>> {
    let newer = if *p.bytes(root, 16)?.get(15)? >= 2 {
        long(p.bytes(root, 32)?, 24).and_then(|at| table(p, at)).filter(|table| table.starts_with(b"XSDT"))
    } else {
        None
    };
    let (table, each) = match newer {
        Some(newer) => (newer, 8),
        None => (table(p, p.word(root + 16)?.into()).filter(|table| table.starts_with(b"RSDT"))?, 4),
    };
    let address = |entry: &[u8]| long(entry, 0).or_else(|| number(entry, 0));
    Some(table.get(36..)?.chunks_exact(each).take(MOST_TABLES).filter_map(address).collect())
}

/// The table at `at`, header and all, if its bytes add up.
fn table(p: &impl Physical, at: u64) -> Option<&[u8]> {
    let length = usize::try_from(p.word(at.checked_add(4)?)?).ok()?;
    if !(36..=LONGEST).contains(&length) {
        return None;
    }
    p.bytes(at, length).filter(|table| is_sum(table))
}

/// The first two numbers of the package \_S5 (7.4.2.6): what state "soft off" is called.
fn soft_off(dsdt: &[u8]) -> Option<(u8, u8)> {
    const NAME: u8 = 0x08;
    const PACKAGE: u8 = 0x12;
    let mut at = 36;
    loop {
        at += dsdt.get(at..)?.windows(4).position(|name| name == b"_S5_")?;
        // A name is given, perhaps by a path from the root.
        let named =
            dsdt.get(at - 1) == Some(&NAME) || (dsdt.get(at - 1), dsdt.get(at - 2)) == (Some(&b'\\'), Some(&NAME));
        at += 4;
        let rest = dsdt.get(at..)?;
        if let (true, [PACKAGE, length, ..]) = (named, rest) {
            // Bits 7:6: how many more bytes the length has. Then the number of elements.
            let elements = rest.get(3 + usize::from(length >> 6)..)?;
            let (a, elements) = byte(elements)?;
            let (b, _) = byte(elements).unwrap_or((a, &[]));
            return Some((a & 7, b & 7));
        }
    }
}

/// A number in AML (20.2.3) and what follows. Larger ones than a byte are read as far as a byte goes.
fn byte(aml: &[u8]) -> Option<(u8, &[u8])> {
    match *aml {
        [0, ref rest @ ..] => Some((0, rest)),
        [1, ref rest @ ..] => Some((1, rest)),
        [0x0a, value, ref rest @ ..] | [0x0b, value, _, ref rest @ ..] | [0x0c, value, _, _, _, ref rest @ ..] => {
            Some((value, rest))
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "acpi_tests.rs"]
mod tests;
