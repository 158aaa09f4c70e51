use hv_core::addr::{Gpa, Order};
use hv_core::guest::loader::{ByteOrder, Plan, Span};
use hv_core::isa::{Firmware, Shape};
use iced_x86::{Code, Decoder, DecoderOptions, Register};
use proptest::prelude::any;
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::{BootConfig, CODE_ROOM, CODE_SELECTOR, DATA_SELECTOR, GDT, TREE_ROOM, build, firmware};

const TREE: u64 = 0x300_0000;
const CODE: u64 = 0x301_0000;

fn span(start: u64, bytes: u64) -> Span {
    Span { start: Gpa(start), end: Gpa(start + bytes) }
}

fn config() -> BootConfig<'static> {
    BootConfig {
        vcpus: 4,
        ram: 512 << 20,
        shared: None,
        cmdline: "console=ttyS0 quiet",
        initrd: span(0x1_2345_6000, 0x1_0000_0003),
        tree: span(TREE, TREE_ROOM),
        code: span(CODE, CODE_ROOM),
        header: None,
        entry: Gpa(0x100_0000),
        seed: Some([0x5a; 32]),
    }
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The physical address that long mode gives a linear one, with the code's tables.
fn translate(boot: &Firmware, linear: u64) -> Option<u64> {
    let mut table = boot.start.args[2];
    for shift in [39, 30, 21] {
        let at = table - CODE + (linear >> shift & 511) * 8;
        let entry = number(&boot.code, at as usize, 8);
        if entry & 3 != 3 {
            return None;
        }
        if entry & 1 << 7 != 0 {
            return Some((entry & !0xfff) + (linear & ((1 << shift) - 1)));
        }
        table = entry & !0xfff;
    }
    None
}

#[test]
fn the_zero_page_says_where_everything_is() {
    let boot = build(&config()).unwrap();
    let tree = &boot.tree;
    assert_eq!((boot.start.entry, boot.start.args), (Gpa(CODE + GDT + 32), [0, TREE, CODE, 0x100_0000]));
    assert_eq!((number(tree, 0x1fe, 2), &tree[0x202..0x206], number(tree, 0x206, 2)), (0xaa55, &b"HdrS"[..], 0x20f));
    assert_eq!((tree[0x210], tree[0x211], tree[0x1ef]), (0xff, 1, 0));
    assert_eq!((number(tree, 0x218, 4), number(tree, 0xc0, 4)), (0x2345_6000, 1));
    assert_eq!((number(tree, 0x21c, 4), number(tree, 0xc4, 4)), (3, 1));
    let cmdline = (number(tree, 0x228, 4) - TREE) as usize;
    assert_eq!(&tree[cmdline..=cmdline + 19], b"console=ttyS0 quiet\0");
    let rsdp = (number(tree, 0x70, 8) - TREE) as usize;
    assert_eq!(&tree[rsdp..rsdp + 8], b"RSD PTR ");
    let seed = (number(tree, 0x250, 8) - TREE) as usize;
    assert_eq!([(0, 8), (8, 4), (12, 4)].map(|(at, len)| number(tree, seed + at, len)), [0, 9, 32]);
    assert_eq!(tree[seed + 16..seed + 48], [0x5a; 32]);
    // The tables' pages are marked as theirs.
    let entries: Vec<[u64; 3]> = (0..usize::from(tree[0x1e8]))
        .map(|n| [(0, 8), (8, 8), (16, 4)].map(|(at, len)| number(tree, 0x2d0 + 20 * n + at, len)))
        .collect();
    assert!(entries.contains(&[TREE + rsdp as u64, TREE_ROOM - rsdp as u64, 3]));
    assert_eq!(entries.iter().map(|entry| entry[1]).sum::<u64>(), 512 << 20);
}

#[test]
fn without_disk_and_seed_there_is_none() {
    let boot = build(&BootConfig { initrd: span(0x310_0000, 0), seed: None, ..config() }).unwrap();
    assert_eq!((number(&boot.tree, 0x218, 8), number(&boot.tree, 0x250, 8)), (0, 0));
}

#[test]
fn a_kernels_own_header_is_handed_back_with_the_loaders_fields() {
    let header = [0x77; 0x9f];
    let boot = build(&BootConfig { header: Some(&header), seed: None, ..config() }).unwrap();
    let tree = &boot.tree;
    assert_eq!(
        (number(tree, 0x1f1, 1), number(tree, 0x230, 4), number(tree, 0x260, 4)),
        (0x77, 0x7777_7777, 0x7777_7777)
    );
    assert_eq!((tree[0x210], number(tree, 0x218, 4), number(tree, 0x250, 8)), (0xff, 0x2345_6000, 0));
    assert_eq!((number(tree, 0x2d0, 8), tree[0x28f], tree[0x290]), (0, 0x77, 0));
}

#[test]
fn shared_memory_in_the_hole_is_refused() {
    let plan = Plan { initrd: span(0x310_0000, 0), tree: span(TREE, TREE_ROOM), firmware: span(CODE, CODE_ROOM) };
    let fits = |ram: u64, shared: Option<(u64, u64)>| {
        let shared = shared.map(|(start, end)| Gpa(start)..Gpa(end));
        let (cmdline, kernel, entry) = ("quiet", &b"\x7fELF"[..], Gpa(0x100_0000));
        let shape = Shape {
            name: "a",
            vcpus: 1,
            ram,
            granule: Order::PAGE,
            shared,
            kernel,
            entry,
            order: ByteOrder::Little,
            cmdline,
            plan,
        };
        firmware(&shape, None).is_some()
    };
    assert!(fits(3 << 30, None) && fits(5 << 30, Some((6 << 30, 7 << 30))), "it goes on behind the hole");
    assert!(fits(1 << 30, Some((1 << 30, 2 << 30))) && fits(1 << 30, Some((2 << 30, 3 << 30))));
    assert!(!fits(3 << 30, Some((3 << 30, (3 << 30) + 4096))) && !fits(1 << 30, Some((1 << 30, 4 << 30))));
    assert!(!fits(1 << 30, Some((1 << 30, 5 << 30))), "across it");
}

#[test]
fn the_descriptors_are_flat_and_where_their_selectors_say() {
    let boot = build(&config()).unwrap();
    let descriptor = |selector: u16| number(&boot.code, GDT as usize + usize::from(selector), 8);
    // Present, code: readable, long; data: writable; both from 0 to the end, accessed.
    assert_eq!((descriptor(0), descriptor(CODE_SELECTOR) >> 40, descriptor(DATA_SELECTOR) >> 40), (0, 0xaf9b, 0xcf93));
}

#[test]
fn what_begins_puts_a_restart_where_firmware_would_be_and_goes_to_the_kernel() {
    let boot = build(&config()).unwrap();
    let code = &boot.code[(boot.start.entry.0 - CODE) as usize..];
    let mut first = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let [number, store, jump] = [first.decode(), first.decode(), first.decode()];
    assert_eq!((number.code(), number.op0_register()), (Code::Mov_r64_imm64, Register::RAX));
    assert_eq!((store.code(), store.op1_register()), (Code::Mov_rm64_r64, Register::RAX));
    assert_eq!((store.memory_base(), store.memory_index()), (Register::None, Register::None));
    assert_eq!(store.memory_displacement64(), 0xf_fff0, "F000:FFF0");
    assert_eq!((jump.code(), jump.op0_register()), (Code::Jmp_rm64, Register::RCX));
    let vector = number.immediate64().to_le_bytes();
    let mut again = Decoder::with_ip(16, &vector, 0xfff0, DecoderOptions::NONE);
    let [port, value, out, stay] = [again.decode(), again.decode(), again.decode(), again.decode()];
    assert_eq!((port.op0_register(), port.immediate16()), (Register::DX, 0x602));
    assert_eq!((value.op0_register(), value.immediate8()), (Register::AL, 1));
    assert_eq!((out.code(), stay.near_branch_target()), (Code::Out_DX_AL, stay.ip()));
}

#[test]
fn what_does_not_fit_is_refused() {
    let long = "x".repeat(0x800);
    assert!(build(&BootConfig { cmdline: &long[1..], ..config() }).is_some());
    for bad in [
        BootConfig { cmdline: &long, ..config() },
        BootConfig { tree: span(TREE, TREE_ROOM - 1), ..config() },
        BootConfig { code: span(CODE, CODE_ROOM - 1), ..config() },
        BootConfig { code: span(0xbfff_f000, CODE_ROOM), ..config() },
        BootConfig { vcpus: 33, ..config() },
    ] {
        assert!(build(&bad).is_none());
    }
}

proptest! {
    /// The processor starts with the first 4 GiB where they are, and nothing else.
    #[test]
    fn every_low_address_is_its_own(linear in any::<u64>(), shift in 0..32_u32) {
        let boot = build(&config()).unwrap();
        let linear = linear >> 16 >> shift;
        prop_assert_eq!(translate(&boot, linear), (linear < 1 << 32).then_some(linear));
        prop_assert!(boot.code.len() as u64 <= CODE_ROOM);
    }
}
