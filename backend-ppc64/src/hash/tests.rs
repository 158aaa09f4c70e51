//! The bits, against the architecture's own tables.

use hv_core::addr::{Gfn, Order, Pfn};
use hv_core::radix::format::{Leaf, Prot, Rc};
use hv_core::vcpu::exit::Access;

use super::Config;
use super::place::{Segment, VRMA, moved, tlbie_operand};
use super::words::{
    C, LARGE, LARGE_PAGE, Layout, MEDIUM_PAGE, N, PP0, PageSize, R, SECONDARY, SMALL_PAGE, allows, first_gfn,
    is_memory, prot, real,
};

/// Addresses and descriptors as seen on POWER9 (QEMU 7.2): the ASDR of a real-mode access.
#[test]
fn the_virtual_real_mode_area_is_the_one_that_hardware_reports() {
    assert_eq!(VRMA, 0x4001_ffff_ff00_0000);
    let (small, medium) = (Segment::new(VRMA).unwrap(), Segment::new(VRMA | 0x110).unwrap());
    assert_eq!((small.base, medium.base), (SMALL_PAGE, MEDIUM_PAGE));
    for wrong in [VRMA | 0x120, VRMA | 0x130, 2 << 62, 3 << 62] {
        assert_eq!(Segment::new(wrong), None, "{wrong:#x}");
    }
}

#[test]
fn places_are_where_the_architecture_hashes_to() {
    let groups = 1 << 11;
    // 256 MiB, VSID 0x123: hash = VSID ^ page; AVPN = virtual address >> 23.
    let place = Segment::new(0x123 << 12).unwrap().place(0x0abc_d000, groups);
    assert_eq!(place.group, (0x123 ^ 0xabcd) & 0x7ff);
    assert_eq!(place.v, (0x123_u64 << 28 | 0x0abc_d000) >> 23 << 7);
    let other = place.secondary(groups);
    assert_eq!((other.group, other.v), (!place.group & 0x7ff, place.v | SECONDARY));
    // 1 TiB: the VSID again, 25 bits up.
    let place = Segment::new(1 << 62 | 0x5 << 24).unwrap().place(0xff_1234_5678, 1 << 30);
    assert_eq!(place.group, (0x5 ^ 0x5 << 25 ^ 0xff_1234_5678 >> 12) & 0x3fff_ffff);
    assert_eq!(place.v, 1 << 62 | (0x5_u64 << 40 | 0xff_1234_5678) >> 23 << 7);
    // 16 MiB pages: a bit of the AVPN belongs to the offset, and the entry says that it is large.
    let place = Segment::new(0x123 << 12 | 0x100).unwrap().place(0x0abc_d000, groups);
    assert_eq!(place.group, (0x123 ^ 0xa) & 0x7ff);
    assert_eq!(place.v, (0x123_u64 << 28 | 0x0abc_d000) >> 24 << 8 | LARGE);
}

/// In every table each entry belongs where a search from its address looks, and its address is known.
#[test]
fn an_entry_moves_to_where_its_address_hashes_to() {
    let sizes = [1_u64 << 11, 1 << 12, 1 << 18];
    // Descriptor of the segment's size and pages, r's encoding of them, log2 of the base page.
    let kinds = [(0, 0, 12), (0x110, 1 << 12, 16), (0x100, 0, 24)];
    for ((pages, low, shift), terabyte) in kinds.into_iter().flat_map(|kind| [(kind, 0), (kind, 1_u64)]) {
        for n in 0..200_u64 {
            let bits = [28, 40][terabyte as usize];
            let vsid = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
            let segment = Segment::new(terabyte << 62 | vsid << (bits - 16) | pages).unwrap();
            let offset = n.wrapping_mul(0xd134_2543_de82_ef95) >> (64 - bits);
            for (from, to) in sizes.into_iter().flat_map(|from| sizes.map(|to| (from, to))) {
                let (old, new) = (segment.place(offset, from), segment.place(offset, to));
                for (old, new) in [(old, new), (old.secondary(from), new.secondary(to))] {
                    assert_eq!(moved(old.v, low, old.group, to), Some(new.group), "{vsid:x} {offset:x} {from} {to}");
                    let rb = tlbie_operand(old.v, low, old.group).unwrap();
                    let page = (vsid << bits | offset) >> shift << shift;
                    assert_eq!(rb & !((1 << shift) - 1), page, "AVA: {vsid:x} {offset:x} {from}");
                    assert_eq!(rb >> 8 & 3, terabyte, "B");
                }
            }
        }
    }
    assert_eq!(moved(LARGE, 2 << 12, 0, 1 << 11), None, "no size");
    assert_eq!(moved(2 << 62, 0, 0, 1 << 11), None, "no segment");
}

/// Power ISA v3.0B, Book III, `tlbie`: AP for small segments, L, LP by the actual size, and AVAL for others.
#[test]
fn tlbie_is_told_the_page_and_both_of_its_sizes() {
    let operand = |descriptor: u64, address: u64, low: u64, large: u64| {
        let place = Segment::new(descriptor | 0x123 << 12).unwrap().place(address, 1 << 11);
        tlbie_operand(place.v | large, low << 12, place.group).unwrap()
    };
    let base = 0x123 << 28;
    assert_eq!(operand(0, 0x0abc_d000, 0, 0), base | 0x0abc_d000, "4 KiB");
    assert_eq!(operand(0, 0x0abc_d000, 7, LARGE), base | 0x0abc_d000 | 5 << 5, "64 KiB among pages of 4 KiB");
    assert_eq!(operand(0, 0x0abc_d000, 0x38, LARGE), base | 0x0abc_d000 | 4 << 5, "16 MiB among pages of 4 KiB");
    // AVAL is the address from its bit 13 on.
    assert_eq!(operand(0x110, 0x0abc_d000, 1, 0), base | 0x0abc_0000 | 1 << 12 | 0xc0 | 1, "64 KiB");
    assert_eq!(
        operand(0x110, 0x0abc_d000, 8, 0),
        base | 0x0a00_0000 | 8 << 12 | 0xc0 | 1,
        "16 MiB among pages of 64 KiB"
    );
    assert_eq!(operand(0x100, 0x0abc_d000, 0, 0), base | 0x0a00_0000 | 1, "16 MiB");
    let terabyte = Segment::new(1 << 62 | 5 << 24).unwrap().place(0xff_1234_5678, 1 << 11);
    assert_eq!(tlbie_operand(terabyte.v, 0, terabyte.group), Some(5 << 40 | 0xff_1234_5000 | 1 << 8), "1 TiB");
}

#[test]
fn an_entry_is_another_segments_if_its_base_page_size_is() {
    let place = Segment::new(0x123 << 12).unwrap().place(0x1_0000, 1 << 11);
    assert!(place.is(place.v | 0x11, 0), "states and software bits are not compared");
    assert!(place.is(place.v | LARGE, 7 << 12), "64 KiB in a segment of 4 KiB");
    assert!(!place.is(place.v | LARGE, 1 << 12), "64 KiB in a segment of 64 KiB");
    assert!(!place.is(place.v | SECONDARY, 0));
    assert!(!place.is(place.v ^ 1 << 7, 0));
}

#[test]
fn page_sizes_are_those_of_the_table_of_encodings() {
    let of = |v, low: u64| PageSize::of(v, low << 12).map(|size| (size.base.get(), size.actual.get()));
    assert_eq!(of(0, 0xff), Some((0, 0)), "not large: these are frame bits");
    assert_eq!(of(LARGE, 0x00), Some((12, 12)));
    assert_eq!(of(LARGE, 0x41), Some((4, 4)), "bits above are frame bits");
    assert_eq!(of(LARGE, 0x07), Some((0, 4)));
    assert_eq!(of(LARGE, 0x08), Some((4, 12)));
    assert_eq!(of(LARGE, 0x38), Some((0, 12)));
    for wrong in [0x02, 0x03, 0x04, 0x05, 0x06, 0x09, 0x0f, 0x10, 0x18, 0x28] {
        assert_eq!(of(LARGE, wrong), None, "{wrong:#x}");
    }
}

#[test]
fn both_layouts_give_back_what_they_hold() {
    // ISA 3.0 as the manual draws it: the segment size at 59:58 of the second doubleword.
    let (v, r) = (1 << 62 | 0x000f_0000_1234_5681, 0x0000_0123_4567_8192);
    assert_eq!(Layout::Isa300.split(v, r), (0x000f_0000_1234_5681, 1 << 58 | 0x0000_0123_4567_8192));
    for layout in [Layout::Isa207, Layout::Isa300] {
        let (first, second) = layout.split(v, r);
        assert_eq!(layout.join(first, second), (v, r));
        assert!(layout.holds(v, r));
    }
    assert!(Layout::Isa207.holds(v | 1 << 60, r | 1 << 59));
    assert!(!Layout::Isa300.holds(v | 1 << 60, r), "an AVPN of more than 78 bits of address");
    assert!(!Layout::Isa300.holds(v, r | 1 << 59), "a real address of more than 57 bits");
}

/// Power ISA, storage protection: what PP allows by key. Rows: PP0 and PP; columns: key 0 reads, stores; key 1 reads, stores.
#[test]
fn protection_is_that_of_the_table() {
    for (pp, want) in [
        (0, [true, true, false, false]),
        (1, [true, true, true, false]),
        (2, [true, true, true, true]),
        (3, [true, false, true, false]),
        (PP0 | 2, [true, false, false, false]),
        // Not in the table.
        (PP0, [false; 4]),
        (PP0 | 1, [false; 4]),
        (PP0 | 3, [false; 4]),
    ] {
        let is = |key, access| allows(pp, key, access);
        let got = [is(false, Access::Read), is(false, Access::Write), is(true, Access::Read), is(true, Access::Write)];
        assert_eq!(got, want, "PP {pp:#x}");
        assert!(!allows(pp | N, false, Access::Fetch));
        assert_eq!(allows(pp, true, Access::Fetch), want[2], "a fetch is a read of what may be executed");
    }
}

#[test]
fn r11_hardware_gets_no_more_than_either_side_allows() {
    let leaf = |prot, rc| Leaf { pfn: Pfn(0x7_7777), prot, rc };
    for (view, writable) in [(0, true), (1, true), (2, true), (3, false), (PP0 | 2, false)] {
        let all = real(view | 0x5000, &leaf(Prot::all(), Rc::empty()), SMALL_PAGE);
        assert_eq!((all, prot(all).contains(Prot::WRITE)), (view | 0x7777_7000, writable));
        let less = real(view | 0x5000, &leaf(Prot::READ, Rc::all()), SMALL_PAGE);
        assert_eq!(prot(less), Prot::READ);
        assert_eq!(less & (R | C), R | C);
        for key in [false, true] {
            assert!(!allows(less, key, Access::Write), "PP {view:#x}");
            assert_eq!(
                allows(less, key, Access::Read),
                allows(view, key, Access::Read),
                "PP {view:#x}: loads as before"
            );
        }
    }
    // The size stays where it is, the frame goes above it.
    let medium =
        real(0x2_0000 | 1 << 12 | 2, &Leaf { pfn: Pfn(0x12340), ..leaf(Prot::all(), Rc::empty()) }, MEDIUM_PAGE);
    assert_eq!(medium, 0x1234_0000 | 1 << 12 | 2);
    assert_eq!(first_gfn(0x123_4567_8000, LARGE_PAGE), Gfn(0x123_4567_8000 >> 24 << 12));
}

#[test]
fn memory_is_cached_and_coherent() {
    let memory = (0..16_u64).filter(|wimg| is_memory(wimg << 3)).collect::<Vec<_>>();
    assert_eq!(memory, [0b0010, 0b1110]);
}

#[test]
fn a_table_has_two_entries_for_each_page() {
    let size = |bytes| Config::for_ram(bytes, Order::PAGE).size.get();
    assert_eq!(size(1 << 30), 11, "8 MiB for 1 GiB");
    assert_eq!(size((1 << 30) + 4096), 12);
    assert_eq!((size(1), size(0), size(1 << 20)), (6, 6, 6), "never less than 256 KiB");
    assert_eq!(size(u64::MAX), 20, "never more than 4 GiB");
}
