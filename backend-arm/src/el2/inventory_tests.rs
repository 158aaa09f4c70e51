use super::{Conduit, Gic, Inventory, InventoryError, Timers, Uart};
use hv_core::flat::{Writer, tree};
use std::vec::Vec;

/// The nodes that matter, and some that must not, as QEMU's `-M virt,virtualization=on,gic-version=3` has them.
fn qemu(root: &mut Writer, cpus: u32) {
    root.cell("#size-cells", 2);
    root.cell("#address-cells", 2);
    root.text("compatible", "linux,dummy-virt");
    root.node(&"psci", |psci| {
        psci.text("method", "smc");
        psci.texts("compatible", &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]);
    });
    root.node(&"memory@40000000", |memory| {
        memory.wide("reg", &[0x4000_0000, 0x4000_0000]);
        memory.text("device_type", "memory");
    });
    root.node(&"platform-bus@c000000", |bus| bus.texts("compatible", &["qemu,platform", "simple-bus"]));
    root.node(&"pl031@9010000", |rtc| {
        rtc.cells("interrupts", &[0, 2, 4]);
        rtc.wide("reg", &[0x901_0000, 0x1000]);
        rtc.texts("compatible", &["arm,pl031", "arm,primecell"]);
    });
    root.node(&"pl011@9040000", |secure| {
        secure.texts("compatible", &["arm,pl011", "arm,primecell"]);
        secure.wide("reg", &[0x904_0000, 0x1000]);
        secure.text("status", "disabled");
    });
    root.node(&"pl011@9000000", |uart| {
        uart.cells("interrupts", &[0, 1, 4]);
        uart.wide("reg", &[0x900_0000, 0x1000]);
        uart.texts("compatible", &["arm,pl011", "arm,primecell"]);
    });
    root.node(&"intc@8000000", |intc| {
        intc.cells("interrupts", &[1, 9, 4]);
        intc.wide("reg", &[0x800_0000, 0x1_0000, 0x80a_0000, 0xf6_0000]);
        intc.cell("#redistributor-regions", 1);
        intc.text("compatible", "arm,gic-v3");
        intc.node(&"its@8080000", |its| its.text("compatible", "arm,gic-v3-its"));
    });
    root.node(&"cpus", |node| {
        node.cell("#size-cells", 0);
        node.cell("#address-cells", 1);
        node.node(&"cpu-map", |map| map.node(&"socket0", |_| ()));
        for n in 0..cpus {
            node.node(&format_args!("cpu@{n:x}"), |cpu| {
                cpu.cell("reg", n);
                cpu.text("enable-method", "psci");
                cpu.text("device_type", "cpu");
            });
        }
    });
    root.node(&"timer", |timer| {
        timer.cells("interrupts", &[1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4]);
        timer.texts("compatible", &["arm,armv8-timer", "arm,armv7-timer"]);
    });
    root.node(&"chosen", |chosen| {
        chosen.cell("linux,initrd-start", 0x4800_0000);
        chosen.cell("linux,initrd-end", 0x4812_3456);
    });
}

fn read(boot: u64, write: impl FnOnce(&mut Writer)) -> Result<Inventory, InventoryError> {
    Inventory::read(&tree(&[(0x7fff_0000, 0x1_0000)], write).unwrap(), boot)
}

#[test]
fn qemus_virt_is_described_as_it_is() {
    let found = read(0x8000_0000, |root| qemu(root, 3)).unwrap();
    assert_eq!(found.memory, [const { 0x4000_0000..0x8000_0000 }]);
    assert_eq!((&found.cpus[..], found.bundle), (&[0, 1, 2][..], Some(0x4800_0000..0x4812_3456)));
    let redistributors = core::iter::once(0x80a_0000..0x900_0000).collect();
    assert_eq!(found.gic, Gic { distributor: 0x800_0000..0x801_0000, redistributors, maintenance: Some(25) });
    assert_eq!(found.timers, Timers::USUAL);
    assert_eq!(found.uart, Some(Uart { base: 0x900_0000, irq: Some(33) }), "the other one is disabled");
    assert_eq!((found.rtc, found.conduit), (Some(0x901_0000), Conduit::Smc));
    assert_eq!(found.reserved, [const { 0x7fff_0000..0x8000_0000 }]);
}

#[test]
fn the_boot_cpu_is_the_first_whichever_it_is() {
    let found = read(0x8000_0102, |root| qemu(root, 3));
    assert_eq!(found, Err(InventoryError::Missing("the boot CPU")), "an affinity that no node has");
    assert_eq!(read(0xc000_0002, |root| qemu(root, 3)).unwrap().cpus, [2, 1, 0]);
}

#[test]
fn wide_affinities_and_kept_memory_are_read_by_their_own_cells() {
    let found = read(1 << 32, |root| {
        qemu(root, 0);
        root.node(&"reserved-memory", |kept| {
            kept.cell("#address-cells", 1);
            kept.cell("#size-cells", 1);
            kept.node(&"a@50000000", |a| a.cells("reg", &[0x5000_0000, 0x1000, 0x6000_0000, 0x2000]));
        });
        root.node(&"cpus", |cpus| {
            cpus.cell("#address-cells", 2);
            for affinity in [0, 1 << 32] {
                cpus.node(&"cpu", |cpu| {
                    cpu.text("device_type", "cpu");
                    cpu.wide("reg", &[affinity]);
                });
            }
        });
    });
    let found = found.unwrap();
    assert_eq!(found.cpus, [1 << 32, 0]);
    assert_eq!(found.reserved[..2], [0x5000_0000..0x5000_1000, 0x6000_0000..0x6000_2000]);
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(Inventory::read(b"no tree", 0), Err(InventoryError::NotATree));
    let cpu = |root: &mut Writer| {
        root.node(&"cpus", |cpus| {
            cpus.cell("#address-cells", 1);
            cpus.node(&"cpu@0", |cpu| {
                cpu.text("device_type", "cpu");
                cpu.cell("reg", 0);
            });
        });
    };
    assert_eq!(read(0, cpu), Err(InventoryError::Missing("/memory")));
    let overflow = |root: &mut Writer| {
        cpu(root);
        root.node(&"memory@0", |memory| {
            memory.text("device_type", "memory");
            memory.cells("reg", &[u32::MAX, u32::MAX, u32::MAX]);
        });
    };
    assert_eq!(read(0, overflow), Err(InventoryError::Missing("/memory")), "it ends beyond the address space");
}

/// R26: whatever a tree says is read to its end without a panic.
#[test]
fn r26_cells_of_any_length_are_survived() {
    for cells in 0..5_u32 {
        for length in 0..40 {
            let value: Vec<u8> = (0..length).collect();
            let found = read(0, |root| {
                root.cell("#address-cells", cells);
                root.cell("#size-cells", cells / 2);
                root.node(&"memory@0", |memory| {
                    memory.text("device_type", "memory");
                    memory.bytes("reg", &value);
                });
                root.node(&"intc", |intc| {
                    intc.text("compatible", "arm,gic-v3");
                    intc.bytes("reg", &value);
                    intc.bytes("interrupts", &value);
                });
                root.node(&"cpus", |cpus| cpus.node(&"cpu", |cpu| cpu.bytes("reg", &value)));
            });
            assert!(found.is_err());
        }
    }
}
