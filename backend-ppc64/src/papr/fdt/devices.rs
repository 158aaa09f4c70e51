//! The tree's firmware, interrupt controller and virtual devices.

use dtoolkit::model::DeviceTreeNode;

use super::{RTAS_REGION, TreeConfig, mark, new, set};
use crate::papr::rtas::token;
use crate::papr::{VTY_SOURCE, VTY_UNIT};

/// The console.
pub const VTY_PATH: &str = "/vdevice/vty@71000000";

/// The interrupt controller's handle.
const INTERRUPT_CONTROLLER: u32 = 1;

/// The groups of hypervisor calls that are there. Kernels use a group only if it is named here; that there is a list at
/// all is how they know that they are partitions.
const HYPERTAS: [&str; 4] = ["hcall-term", "hcall-interrupt", "hcall-splpar", "hcall-set-mode"];

/// `/rtas`: run-time firmware, already in memory.
pub fn rtas(c: &TreeConfig<'_>) -> DeviceTreeNode {
    let mut node = new("rtas");
    // The check of the configuration made sure that both fit.
    let base = c.rtas.0 as u32;
    set(&mut node, "rtas-size", RTAS_REGION as u32);
    set(&mut node, "linux,rtas-base", base);
    set(&mut node, "linux,rtas-entry", base);
    set(&mut node, "rtas-version", 1_u32);
    set(&mut node, "rtas-error-log-max", 2048_u32);
    // Scans a minute; there is never anything to find.
    set(&mut node, "rtas-event-scan-rate", 1_u32);
    // ibm,os-term is safe to call: it does what it says.
    mark(&mut node, "ibm,extended-os-term");
    set(&mut node, "ibm,hypertas-functions", &HYPERTAS[..]);
    for token in token::ALL {
        set(&mut node, token.name(), token as u32);
    }
    node
}

/// The interrupt presentation controllers, which are reached by hypervisor calls.
pub fn interrupt_controller(c: &TreeConfig<'_>) -> DeviceTreeNode {
    let mut node = new("interrupt-controller");
    set(&mut node, "device_type", "PowerPC-External-Interrupt-Presentation");
    set(&mut node, "compatible", "IBM,ppc-xicp");
    set(&mut node, "ibm,interrupt-server-ranges", &[0, u32::from(c.vcpus)][..]);
    mark(&mut node, "interrupt-controller");
    set(&mut node, "#interrupt-cells", 2_u32);
    set(&mut node, "phandle", INTERRUPT_CONTROLLER);
    set(&mut node, "linux,phandle", INTERRUPT_CONTROLLER);
    node
}

/// `/vdevice`: virtual devices, whose interrupt sources belong to the node itself.
pub fn vdevice() -> DeviceTreeNode {
    let mut node = new("vdevice");
    set(&mut node, "device_type", "vdevice");
    set(&mut node, "compatible", "IBM,vdevice");
    set(&mut node, "#address-cells", 1_u32);
    set(&mut node, "#size-cells", 0_u32);
    mark(&mut node, "interrupt-controller");
    set(&mut node, "#interrupt-cells", 2_u32);
    node.add_child(vty());
    node
}

fn vty() -> DeviceTreeNode {
    let mut node = new("vty@71000000");
    set(&mut node, "device_type", "serial");
    set(&mut node, "compatible", "hvterm1");
    set(&mut node, "reg", VTY_UNIT);
    // The second cell says that it is edge-triggered.
    set(&mut node, "interrupts", &[VTY_SOURCE, 0][..]);
    node
}

/// Facilities without a device: random numbers by H_RANDOM.
pub fn platform_facilities() -> DeviceTreeNode {
    let mut random = new("ibm,random-v1");
    set(&mut random, "device_type", "ibm,random-v1");
    set(&mut random, "compatible", "ibm,random");
    let mut node = new("ibm,platform-facilities");
    set(&mut node, "device_type", "ibm,platform-facilities");
    node.add_child(random);
    node
}
