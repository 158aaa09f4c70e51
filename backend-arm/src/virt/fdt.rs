//! The device tree that a guest is entered with (Devicetree Specification 0.4, and the bindings named at each node).
//!
//! Made once, when the VM starts; everything in it comes from the VM's configuration and from the machine, nothing from
//! the guest.

use alloc::vec::Vec;
use core::ops::Range;

use hv_core::addr::Gpa;
use hv_core::flat::{NoHeap, Writer, tree};

use super::layout::{self, GICD, GICD_BYTES, GICR, GICR_BYTES, UART, UART_BYTES, UART_INTID};
use crate::vgic::{FIRST_SPI, TimerLines};

/// What a guest's tree is made from.
#[derive(Clone, Debug)]
pub struct TreeConfig<'a> {
    /// The VM's name.
    pub name: &'a str,
    /// Number of vCPUs.
    pub vcpus: u16,
    /// Bytes of memory, from 0.
    pub memory: u64,
    /// Where memory that is shared with other VMs lies, if there is any.
    pub shared: Option<Range<Gpa>>,
    /// The kernel's command line.
    pub bootargs: &'a str,
    /// Where the initial RAM disk lies.
    pub initrd: Option<Range<Gpa>>,
    /// For the guest's random number generator and for where it puts itself. Not the same for two guests.
    pub seed: Option<Seed>,
}

/// Random numbers for a guest.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// For its generator.
    pub generator: [u8; 32],
    /// For the place of its kernel.
    pub place: u64,
}

const GIC_HANDLE: u32 = 1;
const CLOCK_HANDLE: u32 = 2;
/// Interrupt specifiers of the GIC's binding: kind, number within the kind, flags.
const SPI: u32 = 0;
const PPI: u32 = 1;
const LEVEL_HIGH: u32 = 4;
/// First PPI's INTID.
const FIRST_PPI: u32 = 16;
/// PPIs of the timers that guests do not have, but the binding's order wants to be named: secure, and EL2's.
const SECURE_TIMER: u32 = 29;
const EL2_TIMER: u32 = 26;
/// The UART's clock in Hz. Baud rates are of no effect.
const UART_HZ: u32 = 24_000_000;

/// Makes the flattened tree, to lie at a multiple of 8.
pub fn build(c: &TreeConfig<'_>) -> Result<Vec<u8>, NoHeap> {
    tree(&[], |root| {
        root.text("model", "Trivet virtual machine");
        root.text("compatible", "trivet,virt");
        root.text("trivet,name", c.name);
        root.cell("#address-cells", 2);
        root.cell("#size-cells", 2);
        root.cell("interrupt-parent", GIC_HANDLE);
        chosen(root, c);
        root.node(&"memory@0", |node| {
            node.text("device_type", "memory");
            node.wide("reg", &[0, c.memory]);
        });
        cpus(root, c.vcpus);
        psci(root);
        timer(root);
        interrupt_controller(root, c.vcpus);
        uart(root);
        if let Some(at) = &c.shared {
            shared(root, at);
        }
    })
}

fn chosen(root: &mut Writer, c: &TreeConfig<'_>) {
    root.node(&"chosen", |node| {
        node.text("bootargs", c.bootargs);
        if let Some(initrd) = &c.initrd {
            node.wide("linux,initrd-start", &[initrd.start.0]);
            node.wide("linux,initrd-end", &[initrd.end.0]);
        }
        // A path has to be written out; the node's name is made from the same address below.
        node.text("stdout-path", UART_PATH);
        if let Some(seed) = &c.seed {
            node.bytes("rng-seed", &seed.generator);
            node.wide("kaslr-seed", &[seed.place]);
        }
    });
}

/// Binding arm/cpus: named by affinity, started by firmware.
fn cpus(root: &mut Writer, vcpus: u16) {
    root.node(&"cpus", |cpus| {
        cpus.cell("#address-cells", 1);
        cpus.cell("#size-cells", 0);
        for number in 0..vcpus {
            // With at most a few dozen vCPUs the levels above 1 are zero.
            let affinity = layout::affinity(number) as u32;
            cpus.node(&format_args!("cpu@{affinity:x}"), |node| {
                node.text("device_type", "cpu");
                node.text("compatible", "arm,armv8");
                node.text("enable-method", "psci");
                node.cell("reg", affinity);
            });
        }
    });
}

/// Binding arm/psci.
fn psci(root: &mut Writer) {
    root.node(&"psci", |node| {
        node.texts("compatible", &["arm,psci-1.0", "arm,psci-0.2"]);
        node.text("method", "hvc");
    });
}

/// Binding timer/arm,arch_timer. The guest's timers wake it from every state it can be in.
fn timer(root: &mut Writer) {
    root.node(&"timer", |node| {
        node.text("compatible", "arm,armv8-timer");
        let ppis = [SECURE_TIMER, TimerLines::PHYSICAL_TIMER, TimerLines::VIRTUAL_TIMER, EL2_TIMER];
        let [a, b, c, d] = ppis.map(|id| id - FIRST_PPI);
        node.cells("interrupts", &[PPI, a, LEVEL_HIGH, PPI, b, LEVEL_HIGH, PPI, c, LEVEL_HIGH, PPI, d, LEVEL_HIGH]);
        node.bytes("always-on", &[]);
    });
}

/// Binding interrupt-controller/arm,gic-v3.
fn interrupt_controller(root: &mut Writer, vcpus: u16) {
    root.node(&format_args!("intc@{:x}", GICD.0), |node| {
        node.text("compatible", "arm,gic-v3");
        node.bytes("interrupt-controller", &[]);
        node.cell("#interrupt-cells", 3);
        node.cell("#redistributor-regions", 1);
        node.wide("reg", &[GICD.0, GICD_BYTES, GICR.0, GICR_BYTES * u64::from(vcpus)]);
        node.cell("phandle", GIC_HANDLE);
    });
}

/// The console's path: [`UART`], as text.
const UART_PATH: &str = "/pl011@8001000000";

/// Bindings serial/pl011 and clock/fixed-clock.
fn uart(root: &mut Writer) {
    root.node(&"apb-pclk", |node| {
        node.text("compatible", "fixed-clock");
        node.cell("#clock-cells", 0);
        node.cell("clock-frequency", UART_HZ);
        node.text("clock-output-names", "apb_pclk");
        node.cell("phandle", CLOCK_HANDLE);
    });
    root.node(&format_args!("pl011@{:x}", UART.0), |node| {
        node.texts("compatible", &["arm,pl011", "arm,primecell"]);
        node.wide("reg", &[UART.0, UART_BYTES]);
        node.cells("interrupts", &[SPI, UART_INTID - FIRST_SPI, LEVEL_HIGH]);
        node.cells("clocks", &[CLOCK_HANDLE, CLOCK_HANDLE]);
        node.texts("clock-names", &["uartclk", "apb_pclk"]);
    });
}

/// Memory that is no RAM of the guest's: it finds it here, and maps it as a device's.
fn shared(root: &mut Writer, at: &Range<Gpa>) {
    root.node(&format_args!("shared-memory@{:x}", at.start.0), |node| {
        node.text("compatible", "trivet,shared-memory");
        node.wide("reg", &[at.start.0, at.end.0.saturating_sub(at.start.0)]);
    });
}

#[cfg(test)]
mod tests {
    use super::{Seed, TreeConfig, build};
    use alloc::format;
    use alloc::vec::Vec;
    use dtoolkit::fdt::Fdt;
    use dtoolkit::{Node, Property};
    use hv_core::addr::Gpa;

    fn config() -> TreeConfig<'static> {
        TreeConfig {
            name: "a",
            vcpus: 2,
            memory: 512 << 20,
            shared: None,
            bootargs: "console=ttyAMA0",
            initrd: None,
            seed: None,
        }
    }

    fn cells(fdt: &Fdt<'_>, path: &str, name: &str) -> Vec<u32> {
        let value = fdt.find_node(path).unwrap_or_else(|| panic!("{path}")).property(name).unwrap();
        value.value().chunks(4).map(|cell| u32::from_be_bytes(cell.try_into().unwrap())).collect()
    }

    fn text(fdt: &Fdt<'_>, path: &str, name: &str) -> alloc::string::String {
        let value = fdt.find_node(path).unwrap().property(name).unwrap().value().to_vec();
        alloc::string::String::from_utf8(value).unwrap()
    }

    #[test]
    fn the_tree_says_what_linux_looks_for() {
        let blob = build(&config()).unwrap();
        let fdt = Fdt::new(&blob).unwrap();
        assert_eq!(cells(&fdt, "/memory@0", "reg"), [0, 0, 0, 512 << 20]);
        assert_eq!(text(&fdt, "/psci", "method"), "hvc\0");
        assert_eq!(text(&fdt, "/cpus/cpu@1", "enable-method"), "psci\0");
        assert_eq!(cells(&fdt, "/timer", "interrupts"), [1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4]);
        let gic = cells(&fdt, "/intc@8000000000", "reg");
        assert_eq!(gic, [0x80, 0, 0, 0x1_0000, 0x80, 0x10_0000, 0, 0x4_0000]);
        assert_eq!(cells(&fdt, "/", "interrupt-parent"), cells(&fdt, "/intc@8000000000", "phandle"));
        assert_eq!(text(&fdt, "/chosen", "bootargs"), "console=ttyAMA0\0");
        let console = text(&fdt, "/chosen", "stdout-path");
        let console = console.trim_end_matches('\0');
        assert_eq!(text(&fdt, console, "compatible"), "arm,pl011\0arm,primecell\0", "the path names the console");
        assert_eq!(cells(&fdt, console, "interrupts"), [0, 1, 4]);
        assert_eq!(cells(&fdt, console, "clocks")[0], cells(&fdt, "/apb-pclk", "phandle")[0]);
        assert!(fdt.find_node("/chosen").unwrap().property("rng-seed").is_none(), "no numbers, no seed");
    }

    #[test]
    fn processors_are_named_by_affinity() {
        let blob = build(&TreeConfig { vcpus: 32, ..config() }).unwrap();
        let fdt = Fdt::new(&blob).unwrap();
        for number in 0..32 {
            let affinity = ((number / 16) << 8) | (number % 16);
            assert_eq!(cells(&fdt, &format!("/cpus/cpu@{affinity:x}"), "reg"), [affinity]);
        }
        assert_eq!(fdt.find_node("/cpus").unwrap().children().count(), 32);
    }

    #[test]
    fn images_seeds_and_shared_memory_are_told() {
        let blob = build(&TreeConfig {
            initrd: Some(Gpa(0x400_0000)..Gpa(0x410_0000)),
            shared: Some(Gpa(0x4000_0000)..Gpa(0x4020_0000)),
            seed: Some(Seed { generator: [7; 32], place: 0x1122_3344_5566_7788 }),
            ..config()
        })
        .unwrap();
        let fdt = Fdt::new(&blob).unwrap();
        assert_eq!(cells(&fdt, "/chosen", "linux,initrd-start"), [0, 0x400_0000]);
        assert_eq!(cells(&fdt, "/chosen", "linux,initrd-end"), [0, 0x410_0000]);
        assert_eq!(cells(&fdt, "/chosen", "rng-seed"), [0x0707_0707; 8]);
        assert_eq!(cells(&fdt, "/chosen", "kaslr-seed"), [0x1122_3344, 0x5566_7788]);
        assert_eq!(cells(&fdt, "/shared-memory@40000000", "reg"), [0, 0x4000_0000, 0, 0x20_0000]);
    }
}
