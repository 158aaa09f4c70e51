//! The tree's firmware, interrupt controller and virtual devices.

use super::{RTAS_REGION, Table, TreeConfig};
use crate::papr::rtas::token;
use crate::papr::{VTY_SOURCE, VTY_UNIT};
use hv_core::flat::Writer;

/// The console.
pub const VTY_PATH: &str = "/vdevice/vty@71000000";

/// The interrupt controller's handle.
const INTERRUPT_CONTROLLER: u32 = 1;

/// The groups of hypervisor calls that are there. Kernels use a group only if it is named here; that there is a list at
/// all is how they know that they are partitions.
const HYPERTAS: [&str; 4] = ["hcall-term", "hcall-interrupt", "hcall-splpar", "hcall-set-mode"];
/// The same, with the groups for a hashed table.
const HYPERTAS_HASHED: [&str; 7] =
    ["hcall-term", "hcall-interrupt", "hcall-splpar", "hcall-set-mode", "hcall-pft", "hcall-bulk", "hcall-hpt-resize"];

/// `/rtas`: run-time firmware, already in memory.
pub fn rtas(root: &mut Writer, c: &TreeConfig<'_>) {
    root.node(&"rtas", |node| {
        // The check of the configuration made sure that both fit.
        let base = c.rtas.0 as u32;
        node.cell("rtas-size", RTAS_REGION as u32);
        node.cell("linux,rtas-base", base);
        node.cell("linux,rtas-entry", base);
        node.cell("rtas-version", 1);
        node.cell("rtas-error-log-max", 2048);
        // Scans a minute; there is never anything to find.
        node.cell("rtas-event-scan-rate", 1);
        // ibm,os-term is safe to call: it does what it says.
        node.bytes("ibm,extended-os-term", &[]);
        match c.table {
            Table::Radix => node.texts("ibm,hypertas-functions", &HYPERTAS),
            Table::Hashed { .. } => node.texts("ibm,hypertas-functions", &HYPERTAS_HASHED),
        }
        for token in token::ALL {
            node.cell(token.name(), token as u32);
        }
    });
}

/// The interrupt presentation controllers, which are reached by hypervisor calls.
pub fn interrupt_controller(root: &mut Writer, c: &TreeConfig<'_>) {
    root.node(&"interrupt-controller", |node| {
        node.text("device_type", "PowerPC-External-Interrupt-Presentation");
        node.text("compatible", "IBM,ppc-xicp");
        node.cells("ibm,interrupt-server-ranges", &[0, u32::from(c.vcpus)]);
        node.bytes("interrupt-controller", &[]);
        node.cell("#interrupt-cells", 2);
        node.cell("phandle", INTERRUPT_CONTROLLER);
        node.cell("linux,phandle", INTERRUPT_CONTROLLER);
    });
}

/// `/vdevice`: virtual devices, whose interrupt sources belong to the node itself.
pub fn vdevice(root: &mut Writer) {
    root.node(&"vdevice", |node| {
        node.text("device_type", "vdevice");
        node.text("compatible", "IBM,vdevice");
        node.cell("#address-cells", 1);
        node.cell("#size-cells", 0);
        node.bytes("interrupt-controller", &[]);
        node.cell("#interrupt-cells", 2);
        node.node(&"vty@71000000", |vty| {
            vty.text("device_type", "serial");
            vty.text("compatible", "hvterm1");
            vty.cell("reg", VTY_UNIT);
            // The second cell says that it is edge-triggered.
            vty.cells("interrupts", &[VTY_SOURCE, 0]);
        });
    });
}

/// Facilities without a device: random numbers by H_RANDOM.
pub fn platform_facilities(root: &mut Writer) {
    root.node(&"ibm,platform-facilities", |node| {
        node.text("device_type", "ibm,platform-facilities");
        node.node(&"ibm,random-v1", |random| {
            random.text("device_type", "ibm,random-v1");
            random.text("compatible", "ibm,random");
        });
    });
}
