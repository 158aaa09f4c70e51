//! What the machine is made of, read from its flattened device tree (Devicetree Specification 0.4; the bindings that each
//! part cites).

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use hv_core::flat::{Node, Tree};

/// The machine, as far as Trivet uses it. All addresses are physical addresses in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// RAM.
    pub memory: Vec<Range<u64>>,
    /// Parts of RAM that firmware keeps.
    pub reserved: Vec<Range<u64>>,
    /// Affinity of each CPU (MPIDR_EL1 without its flags), boot CPU first.
    pub cpus: Vec<u64>,
    /// Where the loader put the bundle.
    pub bundle: Option<Range<u64>>,
    /// The interrupt controller.
    pub gic: Gic,
    /// Interrupts of the CPU's own timers.
    pub timers: Timers,
    /// The console.
    pub uart: Option<Uart>,
    /// A PL031 calendar clock's registers.
    pub rtc: Option<u64>,
    /// The instruction that calls firmware.
    pub conduit: Conduit,
}

/// A GICv3 ("arm,gic-v3").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gic {
    /// The distributor's registers.
    pub distributor: Range<u64>,
    /// The redistributors', in one region or several.
    pub redistributors: Vec<Range<u64>>,
    /// The maintenance interrupt of the virtual CPU interface.
    pub maintenance: Option<u32>,
}

/// Interrupt numbers of the generic timer ("arm,armv8-timer").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timers {
    /// EL1's physical timer, the guest's.
    pub physical: u32,
    /// EL1's virtual timer, the guest's.
    pub virt: u32,
    /// EL2's physical timer, Trivet's own.
    pub own: u32,
}

impl Timers {
    /// The numbers of the Base System Architecture (DEN 0094, 3.8), which Trivet's code has, and its guests' trees.
    pub const USUAL: Self = Self { physical: 30, virt: 27, own: 26 };
}

/// A PL011 ("arm,pl011").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uart {
    /// Its registers.
    pub base: u64,
    /// Its interrupt, if it has one.
    pub irq: Option<u32>,
}

/// The instruction that calls firmware (PSCI, DEN 0022, 5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conduit {
    /// SMC, to EL3 or to an emulator in its place.
    #[default]
    Smc,
    /// HVC, to EL2. Trivet is not there then.
    Hvc,
}

/// The tree does not describe a machine that Trivet could run on.
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
            Self::NotATree => f.write_str("the machine's device tree cannot be read"),
            Self::Missing(what) => write!(f, "the machine's device tree lacks {what}"),
        }
    }
}

/// The bits of MPIDR_EL1 that name a CPU: Aff3, Aff2, Aff1, Aff0.
pub const AFFINITY: u64 = 0xff_00ff_ffff;

impl Inventory {
    /// Reads a flattened tree on the CPU whose MPIDR_EL1 is `boot`.
    pub fn read(blob: &[u8], boot: u64) -> Result<Self, InventoryError> {
        let tree = Tree::new(blob).ok_or(InventoryError::NotATree)?;
        let root = tree.root().ok_or(InventoryError::NotATree)?;
        let cells = Cells::of(&root);
        let mut found = Self::default();
        for node in root.children().filter(enabled) {
            match node.kind() {
                "cpus" => found.take_cpus(&node),
                "chosen" => found.bundle = bundle(&node),
                "reserved-memory" => {
                    let cells = Cells::of(&node);
                    node.children().for_each(|kept| found.reserved.extend(cells.reg(&kept)));
                }
                "psci" if node.property("method") == Some(b"hvc\0") => found.conduit = Conduit::Hvc,
                _ if is(&node, "device_type", "memory") => found.memory.extend(cells.reg(&node)),
                _ => found.take_device(&node, cells),
            }
        }
        found.reserved.extend(tree.reservations().map(|(at, size)| at..at.saturating_add(size)));
        let place = found.cpus.iter().position(|cpu| *cpu == boot & AFFINITY);
        found.cpus.swap(0, place.ok_or(InventoryError::Missing("the boot CPU"))?);
        found.checked()
    }

    fn checked(self) -> Result<Self, InventoryError> {
        let needed = [
            ("/memory", !self.memory.is_empty()),
            ("an interrupt controller (arm,gic-v3)", !self.gic.redistributors.is_empty()),
            ("a timer (arm,armv8-timer) with interrupts 26, 27 and 30", self.timers == Timers::USUAL),
        ];
        match needed.into_iter().find(|(_, there)| !there) {
            Some((what, _)) => Err(InventoryError::Missing(what)),
            None => Ok(self),
        }
    }

    fn take_cpus(&mut self, cpus: &Node<'_>) {
        let wide = Cells::of(cpus).address == 2;
        let cores = cpus.children().filter(|node| is(node, "device_type", "cpu") && enabled(node));
        let affinities = cores.filter_map(|node| {
            let reg = node.property("reg")?;
            if wide { number(reg.get(..8)?) } else { number(reg.get(..4)?) }
        });
        self.cpus.extend(affinities.map(|affinity| affinity & AFFINITY));
    }

    fn take_device(&mut self, node: &Node<'_>, cells: Cells) {
        if is(node, "compatible", "arm,gic-v3") {
            let mut areas = cells.reg(node);
            // GICD, then so many regions of redistributors; what follows them is GICv2's.
            let regions = node.property("#redistributor-regions").and_then(number).unwrap_or(1);
            if let Some(distributor) = areas.next() {
                let redistributors = areas.take(regions as usize).collect();
                self.gic = Gic { distributor, redistributors, maintenance: interrupt(node, 0) };
            }
        } else if is(node, "compatible", "arm,armv8-timer") {
            // Secure physical, physical, virtual, hypervisor physical.
            let line = |n| interrupt(node, n).unwrap_or(0);
            self.timers = Timers { physical: line(1), virt: line(2), own: line(3) };
        } else if is(node, "compatible", "arm,pl011") && self.uart.is_none() {
            self.uart = cells.reg(node).next().map(|area| Uart { base: area.start, irq: interrupt(node, 0) });
        } else if is(node, "compatible", "arm,pl031") && self.rtc.is_none() {
            self.rtc = cells.reg(node).next().map(|area| area.start);
        }
    }
}

/// Cells of an address and of a size below a node.
#[derive(Clone, Copy)]
struct Cells {
    address: usize,
    size: usize,
}

impl Cells {
    fn of(node: &Node<'_>) -> Self {
        let cells = |name, otherwise| node.property(name).and_then(number).map_or(otherwise, |n| n.min(2) as usize);
        Self { address: cells("#address-cells", 2), size: cells("#size-cells", 1) }
    }

    /// The areas of a child's `reg`. Empty ones, and those that end beyond the address space, are none.
    fn reg<'a>(self, child: &Node<'a>) -> impl Iterator<Item = Range<u64>> + use<'a> {
        let (address, size) = (4 * self.address, 4 * self.size);
        let pairs = child.property("reg").unwrap_or(&[]).chunks_exact((address + size).max(4));
        pairs.filter_map(move |pair| {
            let start = number(pair.get(..address)?)?;
            let end = start.checked_add(number(pair.get(address..)?)?)?;
            (start < end).then_some(start..end)
        })
    }
}

/// The n-th of a node's interrupts, as the GIC numbers them: three cells each, of which the first says SPI or PPI.
fn interrupt(node: &Node<'_>, n: usize) -> Option<u32> {
    let cells = node.property("interrupts")?.chunks_exact(12).nth(n)?;
    let line = u32::try_from(number(cells.get(4..8)?)?).ok()?;
    match number(cells.get(..4)?)? {
        0 if line < 988 => Some(line + 32),
        1 if line < 16 => Some(line + 16),
        _ => None,
    }
}

fn bundle(chosen: &Node<'_>) -> Option<Range<u64>> {
    let at = |name| chosen.property(name).and_then(number);
    let (start, end) = (at("linux,initrd-start")?, at("linux,initrd-end")?);
    (start < end).then_some(start..end)
}

/// True if one of a property's strings is `want`.
fn is(node: &Node<'_>, name: &str, want: &str) -> bool {
    node.property(name).is_some_and(|value| value.split(|&b| b == 0).any(|text| text == want.as_bytes()))
}

/// True unless the node says that it is not to be used.
fn enabled(node: &Node<'_>) -> bool {
    node.property("status").is_none_or(|status| matches!(status, b"okay\0" | b"ok\0"))
}

/// A number of one or two cells.
fn number(bytes: &[u8]) -> Option<u64> {
    match bytes.len() {
        4 => Some(u32::from_be_bytes(bytes.try_into().ok()?).into()),
        8 => Some(u64::from_be_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
