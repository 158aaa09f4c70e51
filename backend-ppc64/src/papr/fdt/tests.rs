//! What a kernel looks for in its tree: each property is read back as the kernel reads it.

use super::{Processor, RTAS_REGION, Random, Table, TreeConfig, TreeError, build};
use crate::papr::rtas::token::{ALL, Token};
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};
use hv_core::addr::{Gpa, Order};

fn config() -> TreeConfig<'static> {
    TreeConfig {
        name: "a",
        pvr: 0x004e_1202,
        vcpus: 8,
        memory: 512 << 20,
        shared: Some(Gpa(1 << 30)..Gpa((1 << 30) + (64 << 20))),
        timebase_hz: 512_000_000,
        bootargs: "console=hvc0 quiet",
        initrd: Some(Gpa(0x800_0000)..Gpa(0x880_1234)),
        rtas: Gpa(0x1000_0000),
        table: Table::Radix,
        random: Random::Offered,
        seed: Some([7; 32]),
    }
}

/// Without dtoolkit's check of names: it holds to the 31 characters of the Devicetree Specification.
fn parse(blob: &[u8]) -> Fdt<'_> {
    Fdt::new_unchecked(blob)
}

fn bytes(node: &FdtNode<'_>, name: &str) -> Vec<u8> {
    node.property(name).unwrap_or_else(|| panic!("no {name}")).value().to_vec()
}

fn cell(node: &FdtNode<'_>, name: &str) -> u32 {
    u32::from_be_bytes(bytes(node, name).try_into().unwrap())
}

fn has_string(list: &[u8], wanted: &str) -> bool {
    list.split(|&b| b == 0).any(|s| s == wanted.as_bytes())
}

#[test]
fn the_root_says_that_this_is_a_partition() {
    let blob = build(&config()).unwrap();
    let fdt = parse(&blob);
    let root = fdt.find_node("/").unwrap();
    assert_eq!(bytes(&root, "device_type"), b"chrp\0");
    assert_eq!((cell(&root, "#address-cells"), cell(&root, "#size-cells")), (2, 2));
    let rtas = fdt.find_node("/rtas").unwrap();
    let calls = &bytes(&rtas, "ibm,hypertas-functions");
    assert!(has_string(calls, "hcall-splpar") && has_string(calls, "hcall-set-mode"));
    assert_eq!(blob[28..32], [0; 4], "boot processor");
}

#[test]
fn the_negotiation_came_out_as_radix_with_own_invalidations_and_xics() {
    let blob = build(&config()).unwrap();
    let fdt = parse(&blob);
    let vector = bytes(&fdt.find_node("/chosen").unwrap(), "ibm,architecture-vec-5");
    assert_eq!((vector[0x18] & 0xc0, vector[0x1a] & 0x40, vector[0x17] & 0xc0), (0x40, 0x40, 0));
    assert_eq!(usize::from(vector[0]) + 2, vector.len());
    let cpu = fdt.find_node("/cpus/PowerPC,POWER9@0").unwrap();
    let features = bytes(&cpu, "ibm,pa-features");
    assert_eq!((usize::from(features[0]), features[1]), (features.len() - 2, 0));
    assert_eq!((features[2 + 40] & 0x80, features[2 + 22] & 0x80, features[2 + 64] & 0x80), (0x80, 0, 0));
    assert!(cpu.property("ibm,dec-bits").is_none(), "the decrementer has 32 bits");
}

#[test]
fn every_vcpu_has_its_node_and_number() {
    for (pvr, name, logical) in [(0x004e_1202, "POWER9", 0x0f00_0005), (0x0080_0200, "POWER10", 0x0f00_0006)] {
        let blob = build(&TreeConfig { pvr, ..config() }).unwrap();
        let fdt = parse(&blob);
        assert_eq!(fdt.find_node("/cpus").unwrap().children().count(), 8);
        for n in 0..8 {
            let cpu = fdt.find_node(&format!("/cpus/PowerPC,{name}@{n}")).unwrap();
            assert_eq!((cell(&cpu, "reg"), cell(&cpu, "ibm,ppc-interrupt-server#s")), (n, n));
            assert_eq!((cell(&cpu, "cpu-version"), cell(&cpu, "timebase-frequency")), (logical, 512_000_000));
            assert_eq!(bytes(&cpu, "device_type"), b"cpu\0");
        }
    }
    assert_eq!(Processor::from_pvr(0x004d_0200), Some(Processor::Power8));
    assert_eq!(Processor::from_pvr(0x003f_0201), None, "POWER7");
}

/// POWER8 has no radix trees, and its kernels know attributes up to transactional memory's.
#[test]
fn power8_gets_hashed_tables_and_the_attributes_of_its_time() {
    let c = TreeConfig { pvr: 0x004d_0200, table: Table::Hashed { log2: 22, pages: &[] }, ..config() };
    let blob = build(&c).unwrap();
    let cpu = parse(&blob).find_node("/cpus/PowerPC,POWER8@0").unwrap();
    let features = bytes(&cpu, "ibm,pa-features");
    assert_eq!((features.len(), features[0], features[2 + 6], features[2 + 22]), (26, 24, 0x80, 0));
    assert_eq!(cell(&cpu, "cpu-version"), 0x0f00_0004);
    assert_eq!(build(&TreeConfig { table: Table::Radix, ..c }).unwrap_err(), TreeError::UnknownProcessor(0x004d_0200));
}

/// A kernel that is not told maps nothing larger than 64 KiB, and one that is told wrong invalidates the wrong entries.
#[test]
fn radix_page_sizes_come_with_their_encodings() {
    let blob = build(&config()).unwrap();
    let cpu = parse(&blob).find_node("/cpus/PowerPC,POWER9@0").unwrap();
    let sizes: Vec<_> = bytes(&cpu, "ibm,processor-radix-AP-encodings")
        .as_chunks::<4>()
        .0
        .iter()
        .map(|c| u32::from_be_bytes(*c))
        .map(|c| (c & 0x1fff_ffff, c >> 29))
        .collect();
    assert_eq!(sizes, [(12, 0), (16, 5), (21, 1), (30, 2)]);
}

#[test]
fn memory_initrd_and_command_line_are_as_configured() {
    let blob = build(&config()).unwrap();
    let fdt = parse(&blob);
    let memory = fdt.find_node("/memory@0").unwrap();
    assert_eq!(bytes(&memory, "reg"), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0]);
    let chosen = fdt.find_node("/chosen").unwrap();
    assert_eq!(bytes(&chosen, "linux,initrd-start"), 0x800_0000_u64.to_be_bytes());
    assert_eq!(bytes(&chosen, "linux,initrd-end"), 0x880_1234_u64.to_be_bytes());
    assert_eq!(bytes(&chosen, "bootargs"), b"console=hvc0 quiet\0");
    assert_eq!(bytes(&chosen, "rng-seed"), [7; 32]);
    let bare = TreeConfig { initrd: None, seed: None, table: Table::Radix, random: Random::Absent, ..config() };
    let blob = build(&bare).unwrap();
    let fdt = parse(&blob);
    let chosen = fdt.find_node("/chosen").unwrap();
    assert!(chosen.property("linux,initrd-start").is_none() && chosen.property("rng-seed").is_none());
    assert!(fdt.find_node("/ibm,platform-facilities").is_none());
}

#[test]
fn firmware_is_where_the_loader_puts_it_and_reserved() {
    let blob = build(&config()).unwrap();
    let fdt = parse(&blob);
    let rtas = fdt.find_node("/rtas").unwrap();
    assert_eq!((cell(&rtas, "linux,rtas-base"), cell(&rtas, "linux,rtas-entry")), (0x1000_0000, 0x1000_0000));
    assert_eq!(u64::from(cell(&rtas, "rtas-size")), RTAS_REGION);
    let reserved: Vec<_> = fdt.memory_reservations().map(|r| (r.address(), r.size())).collect();
    assert_eq!(reserved, [(0x1000_0000, RTAS_REGION)]);
    for token in ALL {
        assert_eq!(cell(&rtas, token.name()), token as u32);
    }
    assert!(rtas.property("ibm,extended-os-term").is_some(), "or kernels never call ibm,os-term");
    assert_eq!(cell(&rtas, "display-character"), Token::DisplayCharacter as u32);
}

#[test]
fn the_console_is_found_and_has_its_interrupt() {
    let blob = build(&config()).unwrap();
    let fdt = parse(&blob);
    let chosen = fdt.find_node("/chosen").unwrap();
    let path = bytes(&chosen, "linux,stdout-path");
    let vty = fdt.find_node(core::str::from_utf8(&path[..path.len() - 1]).unwrap()).unwrap();
    assert_eq!((bytes(&vty, "compatible"), cell(&vty, "reg")), (b"hvterm1\0".to_vec(), 0x7100_0000));
    assert_eq!(bytes(&vty, "interrupts"), [0, 0, 0x10, 0, 0, 0, 0, 0]);
    assert!(fdt.find_node("/vdevice").unwrap().property("interrupt-controller").is_some());
    let controller = fdt.find_node("/interrupt-controller").unwrap();
    assert!(bytes(&controller, "compatible").eq_ignore_ascii_case(b"ibm,ppc-xicp\0"));
}

#[test]
fn a_tree_for_64_vcpus_fits_a_page_of_the_guests() {
    assert!(build(&TreeConfig { vcpus: 64, ..config() }).unwrap().len() <= 0x1_0000);
}

#[test]
fn configurations_that_contradict_themselves_are_refused() {
    let refused = |c: TreeConfig<'_>| build(&c).unwrap_err();
    let base = config;
    assert_eq!(refused(TreeConfig { pvr: 0x004d_0200, ..base() }), TreeError::UnknownProcessor(0x004d_0200));
    assert_eq!(refused(TreeConfig { vcpus: 0, ..base() }), TreeError::NoProcessors);
    for memory in [0, 1, 4095, (512 << 20) + 1] {
        assert_eq!(refused(TreeConfig { memory, ..base() }), TreeError::Memory(memory));
    }
    for rtas in [0x1000_1000, 0x2000_0000, 0x1fff_8000, 0x4000_0000, !0xffff, u64::MAX] {
        assert_eq!(refused(TreeConfig { rtas: Gpa(rtas), ..base() }), TreeError::Rtas(Gpa(rtas)));
    }
    for shared in [Gpa(0)..Gpa(1 << 20), Gpa(1 << 30)..Gpa(1 << 30)] {
        let start = shared.start;
        assert_eq!(refused(TreeConfig { shared: Some(shared), ..base() }), TreeError::Shared(start));
    }
    let large = TreeConfig { memory: 8 << 30, rtas: Gpa(0x4000_0000), ..base() };
    assert_eq!(refused(large), TreeError::Rtas(Gpa(0x4000_0000)));
    for (start, end) in [(0x1000, 0x1000), (0x2000, 0x1000), (0x1000, (512 << 20) + 1), (0, u64::MAX)] {
        let c = TreeConfig { initrd: Some(Gpa(start)..Gpa(end)), ..base() };
        assert_eq!(refused(c), TreeError::Initrd(Gpa(start)));
    }
    assert_eq!(refused(TreeConfig { bootargs: "a\0b", ..base() }), TreeError::ZeroByte);
    assert_eq!(refused(TreeConfig { name: "\0", ..base() }), TreeError::ZeroByte);
}

#[test]
fn shared_memory_is_no_ram() {
    let blob = build(&config()).unwrap();
    let node = parse(&blob).find_node("/shared-memory@40000000").unwrap();
    assert_eq!(bytes(&node, "compatible"), b"trivet,shared-memory\0");
    assert_eq!(bytes(&node, "reg"), [1_u64 << 30, 64 << 20].map(u64::to_be_bytes).as_flattened());
    assert!(node.property("device_type").is_none(), "the kernel takes every memory node for RAM");
    let without = build(&TreeConfig { shared: None, ..config() }).unwrap();
    assert!(parse(&without).find_node("/shared-memory@40000000").is_none());
}

/// What a kernel reads before it chooses: the outcome of the negotiation, the attribute, and the table's size.
#[test]
fn a_guest_with_a_hashed_table_is_offered_no_radix() {
    let table = Table::Hashed { log2: 22, pages: super::segment_page_sizes(Order::KIB64) };
    let blob = build(&TreeConfig { table, ..config() }).unwrap();
    let tree = parse(&blob);
    let vector = bytes(&tree.find_node("/chosen").unwrap(), "ibm,architecture-vec-5");
    assert_eq!((vector[24], vector[26]), (0, 0));
    let cpu = tree.find_node("/cpus/PowerPC,POWER9@0").unwrap();
    assert_eq!(bytes(&cpu, "ibm,pa-features")[2 + 40], 0);
    assert_eq!(bytes(&cpu, "ibm,pft-size"), [0, 0, 0, 0, 0, 0, 0, 22]);
    let pages = [12_u32, 0, 2, 12, 0, 16, 7, 16, 0x110, 1, 16, 1];
    assert_eq!(bytes(&cpu, "ibm,segment-page-sizes"), pages.map(u32::to_be_bytes).as_flattened());
    assert!(cpu.property("ibm,processor-radix-AP-encodings").is_none());
    let radix = build(&config()).unwrap();
    let radix = parse(&radix);
    assert!(radix.find_node("/cpus/PowerPC,POWER9@0").unwrap().property("ibm,pft-size").is_none());
    for call in ["hcall-pft", "hcall-bulk", "hcall-hpt-resize"] {
        let has =
            |tree: &Fdt<'_>| has_string(&bytes(&tree.find_node("/rtas").unwrap(), "ibm,hypertas-functions"), call);
        assert!(has(&tree) && !has(&radix), "{call}");
    }
}
