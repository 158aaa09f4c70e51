//! What the machine is made of, read from its flattened device tree (LoPAPR: "Open Firmware device tree").

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use dtoolkit::error::FdtErrorKind;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};

/// The machine, as far as Trivet uses it. All addresses are real addresses in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// RAM.
    pub memory: Vec<Range<u64>>,
    /// Parts of RAM that firmware keeps.
    pub reserved: Vec<Range<u64>>,
    /// Interrupt server number of each CPU, boot CPU first.
    pub cpus: Vec<u32>,
    /// Ticks of the timebase in a second.
    pub timebase_hz: u64,
    /// Where the platform put the bundle (`-initrd`).
    pub bundle: Option<Range<u64>>,
    /// The console.
    pub vty: Option<Vty>,
    /// Tokens of the firmware calls in use.
    pub rtas: RtasTokens,
}

/// A `hvterm1` console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vty {
    /// Its unit address, the terminal number of the console hypercalls.
    pub unit: u32,
    /// Its interrupt source, if it has one.
    pub irq: Option<u32>,
}

/// Tokens of RTAS calls, from `/rtas`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RtasTokens {
    /// `power-off`
    pub power_off: Option<u32>,
    /// `ibm,os-term`
    pub os_term: Option<u32>,
    /// `start-cpu`
    pub start_cpu: Option<u32>,
    /// `ibm,set-xive`
    pub set_xive: Option<u32>,
    /// `get-time-of-day`
    pub get_time_of_day: Option<u32>,
}

/// The tree does not describe a machine that Trivet can run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InventoryError {
    /// Not a flattened device tree.
    NotATree,
    /// No node, or no usable property, of this name.
    Missing(&'static str),
}

impl fmt::Display for InventoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATree => f.write_str("the firmware's device tree cannot be read"),
            Self::Missing(what) => write!(f, "the firmware's device tree lacks {what}"),
        }
    }
}

impl Inventory {
    /// Reads a flattened tree.
    pub fn read(blob: &[u8]) -> Result<Self, InventoryError> {
        let tree = match Fdt::new(blob) {
            Ok(tree) => tree,
            // The standard allows names of 31 characters, and PAPR has longer ones
            // (`ibm,processor-radix-AP-encodings`, which Trivet's own guests get). The rest has been checked up to there.
            Err(error) if error.kind == FdtErrorKind::InvalidPropertyName => Fdt::new_unchecked(blob),
            Err(_) => return Err(InventoryError::NotATree),
        };
        let mut found = Self::default();
        let root = tree.root();
        for node in root.children() {
            match node.name_without_address() {
                "cpus" => found.take_cpus(&node),
                "vdevice" => found.take_vty(&node),
                _ if says(&node, "device_type", "memory") => found.take_memory(&node),
                _ => {}
            }
        }
        if let Some(rtas) = root.child("rtas") {
            found.rtas = RtasTokens {
                power_off: cell(&rtas, "power-off"),
                os_term: cell(&rtas, "ibm,os-term"),
                start_cpu: cell(&rtas, "start-cpu"),
                set_xive: cell(&rtas, "ibm,set-xive"),
                get_time_of_day: cell(&rtas, "get-time-of-day"),
            };
            let size = cell(&rtas, "rtas-size").unwrap_or(0);
            if let Some(base) = cell(&rtas, "linux,rtas-base") {
                found.reserved.push(u64::from(base)..u64::from(base).saturating_add(size.into()));
            }
        }
        if let Some(chosen) = root.child("chosen") {
            let start = number(&chosen, "linux,initrd-start");
            let end = number(&chosen, "linux,initrd-end");
            if let (Some(start), Some(end)) = (start, end)
                && start < end
            {
                found.bundle = Some(start..end);
            }
        }
        for area in tree.memory_reservations() {
            found.reserved.push(area.address()..area.address().saturating_add(area.size()));
        }
        if found.memory.is_empty() {
            return Err(InventoryError::Missing("/memory"));
        }
        if found.cpus.is_empty() {
            return Err(InventoryError::Missing("/cpus"));
        }
        if found.timebase_hz == 0 {
            return Err(InventoryError::Missing("timebase-frequency"));
        }
        Ok(found)
    }

    /// `reg` of a memory node: two cells of address and two of size a pair on every PAPR platform.
    fn take_memory(&mut self, node: &FdtNode<'_>) {
        let Some(reg) = node.property("reg") else { return };
        for pair in reg.value().chunks_exact(16) {
            let (base, size) = pair.split_at(8);
            let (Some(base), Some(size)) = (wide(base), wide(size)) else { continue };
            if let Some(end) = base.checked_add(size)
                && size > 0
            {
                self.memory.push(base..end);
            }
        }
    }

    fn take_cpus(&mut self, cpus: &FdtNode<'_>) {
        for node in cpus.children() {
            if !says(&node, "device_type", "cpu") {
                continue;
            }
            if let Some(hz) = number(&node, "timebase-frequency") {
                self.timebase_hz = hz;
            }
            if let Some(servers) = node.property("ibm,ppc-interrupt-server#s") {
                self.cpus.extend(servers.value().chunks_exact(4).filter_map(narrow));
            } else if let Some(id) = cell(&node, "reg") {
                self.cpus.push(id);
            }
        }
    }

    fn take_vty(&mut self, vdevice: &FdtNode<'_>) {
        for node in vdevice.children() {
            if !says(&node, "compatible", "hvterm1") {
                continue;
            }
            let (Some(unit), irq) = (cell(&node, "reg"), cell(&node, "interrupts")) else { continue };
            // The lowest unit is the platform's default console.
            if self.vty.is_none_or(|best| unit < best.unit) {
                self.vty = Some(Vty { unit, irq });
            }
        }
    }
}

/// True if the first string of a property is `want`.
fn says(node: &FdtNode<'_>, name: &str, want: &str) -> bool {
    node.property(name).is_some_and(|p| p.value().split(|&b| b == 0).next() == Some(want.as_bytes()))
}

/// The first cell of a property.
fn cell(node: &FdtNode<'_>, name: &str) -> Option<u32> {
    narrow(node.property(name)?.value().get(..4)?)
}

/// A property of one or two cells.
fn number(node: &FdtNode<'_>, name: &str) -> Option<u64> {
    let property = node.property(name)?;
    let value = property.value();
    wide(value).or_else(|| narrow(value).map(u64::from))
}

fn narrow(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

fn wide(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}
