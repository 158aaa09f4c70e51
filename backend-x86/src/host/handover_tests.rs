use super::{Handover, MULTIBOOT2, NoHandover};
use crate::host::fake::{Fake, longs, spoil, words};

const AT: u64 = 0x6000;
const MAP: u64 = 0x7000;
const MODULES: u64 = 0x8000;

fn entry(start: u64, size: u64, kind: u32) -> Vec<u8> {
    [longs(&[start, size]), words(&[kind, 0])].concat()
}

fn pvh(modules: u32, version: u32) -> Fake {
    let mut memory = Fake::default();
    let info = [words(&[0x336e_c578, version, 0, modules]), longs(&[MODULES, 0, 0xf_5ad0, MAP]), words(&[4, 0])];
    memory.put(AT, &info.concat());
    let map =
        [entry(0, 0x9_fc00, 1), entry(0x9_fc00, 0x400, 2), entry(0x10_0000, 0x1fee_0000, 1), entry(8, u64::MAX, 1)];
    memory.put(MAP, &map.concat());
    memory.put(MODULES, &longs(&[0x1f00_0000, 0x1234, 0, 0, 0x1e00_0000, 1, 0, 0]));
    memory
}

/// Information as GRUB gives it: a command line first, two modules, and tags that do not end on a boundary of eight.
fn grub() -> Fake {
    let tag = |kind: u32, body: &[u8]| {
        let mut tag = [words(&[kind, 8 + body.len() as u32]), body.to_vec()].concat();
        tag.resize(tag.len().next_multiple_of(8), 0);
        tag
    };
    let map = [words(&[24, 0]), entry(0, 0x9_f000, 1), entry(0xe_0000, 0x2_0000, 2), entry(0x10_0000, 0xfef_0000, 1)];
    let tags = [
        tag(1, b"quiet\0"),
        tag(3, &[words(&[0x20_0000, 0x20_1234]), b"guests\0".to_vec()].concat()),
        tag(3, &[words(&[0x30_0000, 0x30_0001]), b"\0".to_vec()].concat()),
        tag(6, &map.concat()),
        tag(14, b"RSD PTR ............"),
        tag(0, &[]),
    ];
    let tags = tags.concat();
    let mut memory = Fake::default();
    memory.put(AT, &[words(&[8 + tags.len() as u32, 0]), tags].concat());
    memory
}

#[test]
fn pvh_tells_of_memory_and_its_first_module() {
    let found = Handover::read(&pvh(2, 1), 0, AT).unwrap();
    assert_eq!(found.memory, [0..0x9_fc00, 0x10_0000..0x1ffe_0000], "what is past all addresses is left out");
    assert_eq!((found.bundle, found.rsdp), (Some(0x1f00_0000..0x1f00_1234), Some(0xf_5ad0)));
    assert_eq!(Handover::read(&pvh(0, 1), 0, AT).unwrap().bundle, None);
}

#[test]
fn multiboot2_tells_of_memory_and_its_first_module() {
    let memory = grub();
    let found = Handover::read(&memory, MULTIBOOT2, AT).unwrap();
    assert_eq!(found.memory, [0..0x9_f000, 0x10_0000..0xfff_0000]);
    assert_eq!(found.bundle, Some(0x20_0000..0x20_1234));
    use crate::host::physical::Physical as _;
    assert_eq!(memory.bytes(found.rsdp.unwrap(), 8), Some(&b"RSD PTR "[..]));
}

#[test]
fn other_loaders_are_refused() {
    assert_eq!(Handover::read(&grub(), 0, AT), Err(NoHandover::Unknown));
    assert_eq!(Handover::read(&pvh(1, 1), 0x2bad_b002, 0x10), Err(NoHandover::Unknown));
    assert_eq!(Handover::read(&pvh(1, 0), 0, AT), Err(NoHandover::Broken), "the version without a memory map");
    let mut none = pvh(1, 1);
    none.put(MAP, &[0; 96]);
    assert_eq!(Handover::read(&none, 0, AT), Err(NoHandover::Broken));
}

#[test]
fn whatever_the_loader_says_reading_it_ends() {
    spoil(&pvh(2, 1), |memory| drop(Handover::read(memory, 0, AT)));
    spoil(&grub(), |memory| drop(Handover::read(memory, MULTIBOOT2, AT)));
}
