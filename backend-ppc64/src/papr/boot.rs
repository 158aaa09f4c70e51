//! How a guest begins: what the loader puts beside its kernel, and the registers of its first vCPU.
//!
//! The entry is that of a kernel started by another one: r3 the flattened tree, r4 the kernel's own address, r5 0 (which
//! says that there is no Open Firmware to ask), translation off, in the kernel's byte order.

use hv_core::guest::loader::ByteOrder;
use hv_core::isa::{Firmware, Shape};
use hv_core::vcpu::services::StartAt;

use super::fdt::{self, Host, RTAS_REGION, TreeConfig, TreeError};
use super::rtas_blob;

/// Room for the tree, in bytes: enough for more vCPUs than a VM may have.
pub const TREE_ROOM: u64 = 0x1_0000;
/// Room for run-time firmware, in bytes: all that the guest is told to leave alone.
pub const CODE_ROOM: u64 = RTAS_REGION;

/// Builds what the guest finds in place of firmware.
///
/// # Errors
/// [`TreeError`] if the plan or the machine does not allow it.
pub fn firmware(host: Host, shape: &Shape<'_>) -> Result<Firmware, TreeError> {
    let initrd = shape.plan.initrd;
    let tree = fdt::build(&TreeConfig {
        host,
        name: shape.name,
        vcpus: shape.vcpus,
        memory: shape.ram,
        bootargs: shape.cmdline,
        initrd: (initrd.start < initrd.end).then_some(initrd.start..initrd.end),
        rtas: shape.plan.firmware.start,
    })?;
    let start = StartAt {
        entry: shape.entry,
        args: [shape.plan.tree.start.0, shape.entry.0, 0, 0],
        big_endian: shape.order == ByteOrder::Big,
    };
    Ok(Firmware { tree, code: rtas_blob().to_vec(), start })
}

#[cfg(test)]
mod tests {
    use super::{CODE_ROOM, TREE_ROOM, firmware};
    use crate::papr::fdt::{Host, Random};
    use hv_core::addr::Gpa;
    use hv_core::guest::loader::{ByteOrder, Plan, Span};
    use hv_core::isa::Shape;

    const HOST: Host = Host { pvr: 0x0080_0200, timebase_hz: 512_000_000, random: Random::Absent, seed: Some([1; 32]) };

    fn shape(vcpus: u16) -> Shape<'static> {
        let span = |start, len| Span { start: Gpa(start), end: Gpa(start + len) };
        Shape {
            name: "a",
            vcpus,
            ram: 64 << 20,
            entry: Gpa(0x100),
            order: ByteOrder::Little,
            cmdline: "quiet",
            plan: Plan {
                initrd: span(0x100_0000, 0),
                tree: span(0x101_0000, TREE_ROOM),
                firmware: span(0x102_0000, CODE_ROOM),
            },
        }
    }

    #[test]
    fn the_first_vcpu_begins_as_if_another_kernel_had_started_it() {
        let made = firmware(HOST, &shape(1)).unwrap();
        assert_eq!((made.start.entry, made.start.args), (Gpa(0x100), [0x101_0000, 0x100, 0, 0]));
        assert!(!made.start.big_endian);
        assert_eq!(made.code, crate::papr::rtas_blob());
    }

    #[test]
    fn everything_fits_its_room() {
        let made = firmware(HOST, &shape(64)).unwrap();
        assert!(made.tree.len() as u64 <= TREE_ROOM && made.code.len() as u64 <= CODE_ROOM);
    }
}
