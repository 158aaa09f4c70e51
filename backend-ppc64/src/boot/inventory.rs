//! What the machine is made of, read from its flattened device tree (LoPAPR: "Open Firmware device tree").

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use hv_core::flat::{Node, Tree};

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
        let tree = Tree::new(blob).ok_or(InventoryError::NotATree)?;
        let root = tree.root().ok_or(InventoryError::NotATree)?;
        let mut found = Self::default();
        for node in root.children() {
            match node.kind() {
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
        for (address, size) in tree.reservations() {
            found.reserved.push(address..address.saturating_add(size));
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
    fn take_memory(&mut self, node: &Node<'_>) {
        let Some(reg) = node.property("reg") else { return };
        for pair in reg.chunks_exact(16) {
            let (base, size) = pair.split_at(8);
            let (Some(base), Some(size)) = (wide(base), wide(size)) else { continue };
            if let Some(end) = base.checked_add(size)
                && size > 0
            {
                self.memory.push(base..end);
            }
        }
    }

    fn take_cpus(&mut self, cpus: &Node<'_>) {
        for node in cpus.children() {
            if !says(&node, "device_type", "cpu") {
                continue;
            }
            if let Some(hz) = number(&node, "timebase-frequency") {
                self.timebase_hz = hz;
            }
            if let Some(servers) = node.property("ibm,ppc-interrupt-server#s") {
                self.cpus.extend(servers.chunks_exact(4).filter_map(narrow));
            } else if let Some(id) = cell(&node, "reg") {
                self.cpus.push(id);
            }
        }
    }

    fn take_vty(&mut self, vdevice: &Node<'_>) {
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
fn says(node: &Node<'_>, name: &str, want: &str) -> bool {
    node.property(name).is_some_and(|value| value.split(|&b| b == 0).next() == Some(want.as_bytes()))
}

/// The first cell of a property.
fn cell(node: &Node<'_>, name: &str) -> Option<u32> {
    narrow(node.property(name)?.get(..4)?)
}

/// A property of one or two cells.
fn number(node: &Node<'_>, name: &str) -> Option<u64> {
    let value = node.property(name)?;
    wide(value).or_else(|| narrow(value).map(u64::from))
}

fn narrow(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

fn wide(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::{Inventory, InventoryError, Vty};
    use crate::papr::fdt::{RTAS_REGION, Random, Table, TreeConfig, build};
    use hv_core::addr::Gpa;
    use hv_core::flat::tree;

    /// What Trivet tells its guests is what it reads as one: it runs as its own guest.
    #[test]
    fn the_tree_of_a_guest_describes_a_machine() {
        let blob = build(&TreeConfig {
            name: "a",
            pvr: 0x004e_1202,
            vcpus: 3,
            memory: 512 << 20,
            shared: None,
            timebase_hz: 512_000_000,
            bootargs: "quiet",
            initrd: Some(Gpa(0x800_0000)..Gpa(0x880_1234)),
            rtas: Gpa(0x1000_0000),
            table: Table::Radix,
            random: Random::Absent,
            seed: None,
        })
        .unwrap();
        let found = Inventory::read(&blob).unwrap();
        assert_eq!((&found.memory[..], &found.cpus[..]), (core::slice::from_ref(&(0..512 << 20)), &[0, 1, 2][..]));
        assert_eq!((found.timebase_hz, found.bundle), (512_000_000, Some(0x800_0000..0x880_1234)));
        assert_eq!(found.vty, Some(Vty { unit: 0x7100_0000, irq: Some(0x1000) }));
        assert!(found.rtas.power_off.is_some() && found.rtas.start_cpu.is_some());
        assert!(found.reserved.contains(&(0x1000_0000..0x1000_0000 + RTAS_REGION)));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(Inventory::read(b"no tree"), Err(InventoryError::NotATree));
        let blob = tree(&[], |root| root.node(&"memory@0", |node| node.text("device_type", "memory"))).unwrap();
        assert_eq!(Inventory::read(&blob), Err(InventoryError::Missing("/memory")), "it has no reg");
        let blob = tree(&[], |root| {
            root.node(&"memory@0", |node| {
                node.text("device_type", "memory");
                node.wide("reg", &[0, 4096]);
            });
        });
        assert_eq!(Inventory::read(&blob.unwrap()), Err(InventoryError::Missing("/cpus")));
    }
}
