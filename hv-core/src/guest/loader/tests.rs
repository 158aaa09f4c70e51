//! Tests of the loader, on ELF files written here by hand.

use super::{ByteOrder, Kernel, LoadError, MAX_SEGMENTS, copy};
use crate::addr::{Gpa, PAGE_SIZE};
use crate::vcpu::services::MemError;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};

const PPC64: u16 = 21;
const HEADER: usize = 64;
const ENTRY: usize = 56;

/// A segment to load: virtual, physical address, bytes, size in memory.
#[derive(Clone)]
struct Seg(u64, u64, Vec<u8>, u64);

/// Writes words in the file's byte order.
struct Out(Vec<u8>, ByteOrder);

impl Out {
    fn put<const N: usize>(&mut self, little: [u8; N]) {
        match self.1 {
            ByteOrder::Little => self.0.extend(little),
            ByteOrder::Big => self.0.extend(little.into_iter().rev()),
        }
    }
}

fn elf(order: ByteOrder, entry: u64, segs: &[Seg]) -> Vec<u8> {
    let data = if order == ByteOrder::Big { 2 } else { 1 };
    let mut out = Out(vec![0x7f, b'E', b'L', b'F', 2, data, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], order);
    out.put(2_u16.to_le_bytes());
    out.put(PPC64.to_le_bytes());
    out.put(1_u32.to_le_bytes());
    for word in [entry, HEADER as u64, 0] {
        out.put(word.to_le_bytes());
    }
    out.put(0_u32.to_le_bytes());
    for half in [HEADER as u16, ENTRY as u16, segs.len() as u16, 64, 0, 0] {
        out.put(half.to_le_bytes());
    }
    let mut offset = HEADER + ENTRY * segs.len();
    for Seg(vaddr, paddr, bytes, memsz) in segs {
        out.put(1_u32.to_le_bytes());
        out.put(7_u32.to_le_bytes());
        for word in [offset as u64, *vaddr, *paddr, bytes.len() as u64, *memsz, 0x1_0000] {
            out.put(word.to_le_bytes());
        }
        offset += bytes.len();
    }
    for Seg(_, _, bytes, _) in segs {
        out.0.extend_from_slice(bytes);
    }
    out.0
}

const HIGH: u64 = 0xc000_0000_0000_0000;

fn kernel_file(order: ByteOrder) -> Vec<u8> {
    let mut text = vec![0x11; 3 * PAGE_SIZE];
    text[PAGE_SIZE..2 * PAGE_SIZE].fill(0);
    elf(order, HIGH + 0x20, &[Seg(HIGH, 0, text, 0x4000), Seg(HIGH + 0x1_0800, 0x1_0800, vec![0x22; 0x900], 0x5000)])
}

fn refused(segs: &[Seg]) -> LoadError {
    Kernel::parse(&elf(ByteOrder::Little, HIGH, segs), PPC64).unwrap_err()
}

#[test]
fn segments_go_to_their_physical_addresses_and_zeros_nowhere() {
    for order in [ByteOrder::Little, ByteOrder::Big] {
        let file = kernel_file(order);
        let kernel = Kernel::parse(&file, PPC64).unwrap();
        assert_eq!((kernel.entry, kernel.end, kernel.order), (Gpa(0x20), Gpa(0x1_5800), order));
        let mut memory = BTreeMap::new();
        let write = |at: Gpa, bytes: &[u8]| {
            assert!(at.offset() + bytes.len() <= PAGE_SIZE, "one page a write");
            memory.insert(at.0, (bytes[0], bytes.len()));
            Ok(())
        };
        kernel.load(write).unwrap();
        let want =
            [(0, (0x11, 0x1000)), (0x2000, (0x11, 0x1000)), (0x1_0800, (0x22, 0x800)), (0x1_1000, (0x22, 0x100))];
        assert_eq!(memory, BTreeMap::from(want));
    }
}

#[test]
fn each_kind_of_nonsense_is_named() {
    let good = kernel_file(ByteOrder::Little);
    let parse = |file: &[u8]| Kernel::parse(file, PPC64).map(|_| ()).unwrap_err();
    assert_eq!(parse(b""), LoadError::NotElf);
    assert_eq!(parse(b"#!/bin/sh"), LoadError::NotElf);
    assert_eq!(Kernel::parse(&good, 62).unwrap_err(), LoadError::Machine { found: PPC64, want: 62 });
    let mut object = good.clone();
    object[16] = 1;
    assert_eq!(parse(&object), LoadError::NotExecutable);
    assert_eq!(parse(&good[..good.len() - 1]), LoadError::Segment(1));

    let seg = |at: u64, len: usize, memsz| Seg(HIGH + at, at, vec![1; len], memsz);
    assert_eq!(refused(&[]), LoadError::Segments(0));
    assert_eq!(refused(&vec![seg(0, 0, 0); 3]), LoadError::Segments(3), "nothing in memory");
    assert_eq!(refused(&vec![seg(0, 1, 1); MAX_SEGMENTS + 1]), LoadError::Segments(MAX_SEGMENTS + 1));
    assert_eq!(refused(&[seg(0, 9, 8)]), LoadError::Segment(0));
    assert_eq!(refused(&[seg(0, 8, 8), Seg(0, u64::MAX, vec![1], 2)]), LoadError::Segment(1));
    assert_eq!(refused(&[seg(0, 8, 0x1000), seg(0x2000, 8, 8), seg(0xfff, 8, 8)]), LoadError::Overlap(0, 2));
    assert_eq!(refused(&[seg(0x1000, 8, 0x1000)]), LoadError::Entry(HIGH));
    let none = "the kernel's entry 0xc000000000000000 lies in none of its segments";
    assert_eq!(alloc::format!("{}", LoadError::Entry(HIGH)), none);
}

#[test]
fn an_entry_is_virtual_if_any_segment_has_it_and_physical_otherwise() {
    // One segment high, and one that is addressed from 0 on but lies elsewhere.
    let segs = [Seg(HIGH, 0x100_0000, vec![1; 8], 0x1000), Seg(0, 0x180_0000, vec![2; 8], 0x3_0000)];
    let entry = |entry| Kernel::parse(&elf(ByteOrder::Little, entry, &segs), PPC64).map(|kernel| kernel.entry);
    assert_eq!(entry(0x100_0010), Ok(Gpa(0x100_0010)));
    assert_eq!(entry(0x10), Ok(Gpa(0x180_0010)));
    assert_eq!(entry(HIGH + 0x10), Ok(Gpa(0x100_0010)));
    assert_eq!(entry(0x100_1000), Err(LoadError::Entry(0x100_1000)), "just behind");
}

#[test]
fn a_flat_kernel_goes_to_one_place_and_its_memory_is_kept_free() {
    let mut file = vec![0x33; 2 * PAGE_SIZE + 5];
    file[..PAGE_SIZE].fill(0);
    let kernel = Kernel::flat(&file, Gpa(0x20_0000), 0x9000, ByteOrder::Little).unwrap();
    assert_eq!((kernel.entry, kernel.end), (Gpa(0x20_0000), Gpa(0x20_9000)));
    let mut written = Vec::new();
    kernel
        .load(|at, bytes| {
            written.push((at.0, bytes.len()));
            Ok(())
        })
        .unwrap();
    assert_eq!(written, [(0x20_1000, PAGE_SIZE), (0x20_2000, 5)], "pages of zeros cost nothing");
    let refused = |file: &[u8], at, memory| Kernel::flat(file, Gpa(at), memory, ByteOrder::Little).unwrap_err();
    assert_eq!(refused(&file, 0, 2 * PAGE_SIZE as u64 + 4), LoadError::Segment(0), "memory smaller than the file");
    assert_eq!(refused(&file, u64::MAX - 9, 0x9000), LoadError::Segment(0));
    assert_eq!(refused(&[], 0, 1), LoadError::Segment(0));
}

#[test]
fn what_memory_refuses_is_passed_on() {
    let file = kernel_file(ByteOrder::Little);
    let kernel = Kernel::parse(&file, PPC64).unwrap();
    let result = kernel.load(|at, _| if at.0 < 0x1_0000 { Ok(()) } else { Err(MemError::NoMemory) });
    assert_eq!(result, Err(LoadError::Memory(MemError::NoMemory)));
    assert_eq!(copy(Gpa(u64::MAX), &[1, 2], |_, _| Ok(())), Err(LoadError::Memory(MemError::BadAddress)));
    assert_eq!(copy(Gpa(u64::MAX), &[1], |_, _| Ok(())), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// R26: a kernel that parses writes only below the end it states, however its headers were changed.
    #[test]
    fn hostile_headers_never_panic_nor_write_beyond_the_end(
        changes in proptest::collection::vec((0_usize..HEADER + 2 * ENTRY, any::<u8>()), 1..12), cut in 0_usize..0x5000,
    ) {
        let mut file = kernel_file(ByteOrder::Little);
        for (at, byte) in changes {
            file[at] = byte;
        }
        file.truncate(file.len().max(cut) - cut / 8);
        if let Ok(kernel) = Kernel::parse(&file, PPC64) {
            let mut furthest = 0;
            kernel.load(|at, bytes| {
                furthest = furthest.max(at.0 + bytes.len() as u64);
                Ok(())
            }).unwrap();
            prop_assert!(furthest <= kernel.end.0 && kernel.entry < kernel.end);
        }
    }
}
