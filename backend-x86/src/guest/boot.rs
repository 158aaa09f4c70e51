//! What a guest finds in place of firmware, and how its first vCPU begins: Linux's 64-bit boot protocol
//! (Documentation/arch/x86/boot.rst and zero-page.rst), which hands over a processor in long mode with paging on.
//!
//! Two pieces beside the kernel. The *tree*, as hv-core calls it, is data: the zero page, the command line, a seed of random
//! numbers, the ACPI tables. The *code* is what the processor starts with: page tables that map the first 4 GiB to themselves,
//! segment descriptors, and a few instructions before the kernel's first. These write a few others to where firmware would
//! take over again: a system that restarts its machine by going there, as a processor does after a reset, ends there.

use alloc::vec::Vec;
use core::ops::Range;

use hv_core::addr::Gpa;
use hv_core::guest::loader::Span;
use hv_core::isa::{Firmware, Shape};
use hv_core::vcpu::services::StartAt;

use super::blob::Blob;
use super::layout::{self, HOLE, LEGACY, power};
use super::{acpi, kernel, memory_map};

const PAGE: usize = 0x1000;
/// Offsets in the tree.
const CMDLINE: usize = PAGE;
const SEED: usize = PAGE + 0x800;
const TABLES: usize = 2 * PAGE;
/// Room for the tree: the tables are in pages of their own.
pub const TREE_ROOM: u64 = 4 * PAGE as u64;

/// Page tables in the code: the root, one of the next level, four of 2 MiB pages; then the descriptors.
const DIRECTORIES: usize = 2 * PAGE;
/// Offset of the global descriptor table from the root page table.
pub const GDT: u64 = 6 * PAGE as u64;
/// Offset of the first instructions.
const ENTRY: u64 = GDT + size_of::<[u64; 4]>() as u64;
/// Room for the code.
pub const CODE_ROOM: u64 = 7 * PAGE as u64;
/// Selectors of code and data (`__BOOT_CS`, `__BOOT_DS`), and the descriptors that belong there.
pub const CODE_SELECTOR: u16 = 0x10;
/// The same for data and stack.
pub const DATA_SELECTOR: u16 = 0x18;
/// The table's descriptors: two that are none, flat 64-bit code, flat data. Accessed already.
pub const DESCRIPTORS: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// Where a processor begins after a reset, F000:FFF0, is RAM here. In real mode, from there: MOV DX, [`power::RESET`]; MOV AL,
/// [`power::RESET_VALUE`]; OUT DX, AL; JMP $.
const RESET_VECTOR: u32 = 0xf_fff0;
const RESET: [u8; 8] = {
    let [low, high] = power::RESET.to_le_bytes();
    [0xba, low, high, 0xb0, power::RESET_VALUE, 0xee, 0xeb, 0xfe]
};
/// In long mode: MOV RAX, these 8 bytes; MOV [`RESET_VECTOR`], RAX; JMP RCX, which is the kernel's first instruction.
#[rustfmt::skip] // one instruction a line
const FIRST: [u8; 20] = {
    let ([a, b, c, d, e, f, g, h], [i, j, k, l]) = (RESET, RESET_VECTOR.to_le_bytes());
    [
        0x48, 0xb8, a, b, c, d, e, f, g, h,
        0x48, 0x89, 0x04, 0x25, i, j, k, l,
        0xff, 0xe1,
    ]
};

/// Fields of the zero page.
mod zero_page {
    pub const ACPI_RSDP: usize = 0x070;
    pub const EXT_RAMDISK_IMAGE: usize = 0x0c0;
    pub const EXT_RAMDISK_SIZE: usize = 0x0c4;
    pub const EXT_CMDLINE: usize = 0x0c8;
    pub const E820_ENTRIES: usize = 0x1e8;
    pub const SETUP_HEADER: usize = 0x1f1;
    pub const BOOT_FLAG: usize = 0x1fe;
    pub const HEADER: usize = 0x202;
    pub const VERSION: usize = 0x206;
    pub const LOADER_TYPE: usize = 0x210;
    pub const LOAD_FLAGS: usize = 0x211;
    pub const RAMDISK_IMAGE: usize = 0x218;
    pub const RAMDISK_SIZE: usize = 0x21c;
    pub const CMDLINE: usize = 0x228;
    pub const CMDLINE_SIZE: usize = 0x238;
    pub const SETUP_DATA: usize = 0x250;
    pub const E820_TABLE: usize = 0x2d0;
    /// Bytes of an entry: address, length, type.
    pub const E820_ENTRY: usize = 20;

    /// Protocol 2.15; a loader without a number of its own; the kernel was loaded high.
    pub const PROTOCOL: u16 = 0x020f;
    pub const UNKNOWN_LOADER: u8 = 0xff;
    pub const LOADED_HIGH: u8 = 1;
    /// Setup data: random numbers.
    pub const SETUP_RNG_SEED: u32 = 9;
}

/// What the guest is to be told.
#[derive(Clone, Debug)]
pub struct BootConfig<'a> {
    /// Virtual CPUs.
    pub vcpus: u16,
    /// RAM in bytes.
    pub ram: u64,
    /// Memory that is shared with other VMs.
    pub shared: Option<Range<Gpa>>,
    /// The command line.
    pub cmdline: &'a str,
    /// Where the initial RAM disk is; may be empty.
    pub initrd: Span,
    /// Where the tree goes.
    pub tree: Span,
    /// Where the code goes.
    pub code: Span,
    /// The kernel's own setup header, if it has one ([`super::kernel::setup_header`]).
    pub header: Option<&'a [u8]>,
    /// The kernel's first instruction.
    pub entry: Gpa,
    /// Random numbers, if there is a source of them.
    pub seed: Option<[u8; 32]>,
}

/// What a VM of this shape finds; `seed` is random numbers for it. `None` if it does not fit.
#[must_use]
pub fn firmware(shape: &Shape<'_>, seed: Option<[u8; 32]>) -> Option<Firmware> {
    let in_hole = |range: &Range<Gpa>| range.start < HOLE.end && HOLE.start < range.end;
    if shape.shared.as_ref().is_some_and(in_hole) {
        return None;
    }
    build(&BootConfig {
        vcpus: shape.vcpus,
        ram: shape.ram,
        shared: shape.shared.clone(),
        cmdline: shape.cmdline,
        initrd: shape.plan.initrd,
        tree: shape.plan.tree,
        code: shape.plan.firmware,
        header: kernel::setup_header(shape.kernel),
        entry: shape.entry,
        seed,
    })
}

/// Makes the pieces; `None` if one does not fit its place, lies where the processor cannot reach it yet, or there is no heap.
///
/// The first vCPU's arguments are RDI, RSI (the zero page), RDX and RCX, but RDX is the root page table: what CR3 has to be, and
/// [`GDT`] bytes before the descriptors; RCX is the kernel's first instruction.
#[must_use]
pub fn build(config: &BootConfig<'_>) -> Option<Firmware> {
    let low = |span: Span, room: u64| span.len() >= room && span.end.0 <= HOLE.start.0;
    if !low(config.tree, TREE_ROOM) || !low(config.code, CODE_ROOM) || config.cmdline.len() >= SEED - CMDLINE {
        return None;
    }
    let (tree, root) = (config.tree.start.0, config.code.start.0);
    let start = StartAt { entry: Gpa(root + ENTRY), args: [0, tree, root, config.entry.0], big_endian: false };
    Some(Firmware { tree: data(config, tree)?, code: tables(root)?, start })
}

fn data(config: &BootConfig<'_>, base: u64) -> Option<Vec<u8>> {
    use zero_page as z;
    let mut blob = Blob::new(TREE_ROOM as usize)?;
    let (cmdline, seed) = (base + CMDLINE as u64, base + SEED as u64);
    let rsdp = acpi::write(&mut blob, TABLES, base + TABLES as u64, config.vcpus)?;
    let halves = |value: u64| [(value as u32).to_le_bytes(), ((value >> 32) as u32).to_le_bytes()];
    // First, because the loader's fields are in the middle of it.
    blob.put(z::SETUP_HEADER, config.header.unwrap_or(&[]))?;
    blob.put(z::ACPI_RSDP, &rsdp.to_le_bytes())?;
    for (value, field, ext) in [
        (config.initrd.start.0, z::RAMDISK_IMAGE, z::EXT_RAMDISK_IMAGE),
        (config.initrd.len(), z::RAMDISK_SIZE, z::EXT_RAMDISK_SIZE),
        (cmdline, z::CMDLINE, z::EXT_CMDLINE),
    ] {
        // No disk is no address either.
        let [low, high] = halves(if config.initrd.is_empty() && field != z::CMDLINE { 0 } else { value });
        blob.put(field, &low)?;
        blob.put(ext, &high)?;
    }
    if config.header.is_none() {
        blob.put(z::BOOT_FLAG, &0xaa55_u16.to_le_bytes())?;
        blob.put(z::HEADER, b"HdrS")?;
        blob.put(z::VERSION, &z::PROTOCOL.to_le_bytes())?;
        blob.put(z::CMDLINE_SIZE, &u32::try_from(config.cmdline.len()).ok()?.to_le_bytes())?;
    }
    blob.put(z::LOADER_TYPE, &[z::UNKNOWN_LOADER])?;
    blob.put(z::LOAD_FLAGS, &[z::LOADED_HIGH])?;
    blob.put(CMDLINE, config.cmdline.as_bytes())?;
    blob.put(z::SETUP_DATA, &config.seed.map_or(0, |_| seed).to_le_bytes())?;
    if let Some(random) = config.seed {
        blob.put(SEED + 8, &z::SETUP_RNG_SEED.to_le_bytes())?;
        blob.put(SEED + 12, &(random.len() as u32).to_le_bytes())?;
        blob.put(SEED + 16, &random)?;
    }
    let acpi = Gpa(base + TABLES as u64)..Gpa(base + TREE_ROOM);
    let map = memory_map::of(config.ram, &[LEGACY], acpi, config.shared.clone());
    for (n, entry) in map.iter().enumerate() {
        let at = z::E820_TABLE + n * z::E820_ENTRY;
        blob.put(at, &entry.range.start.0.to_le_bytes())?;
        blob.put(at + 8, &(entry.range.end.0 - entry.range.start.0).to_le_bytes())?;
        blob.put(at + 16, &(entry.kind as u32).to_le_bytes())?;
    }
    blob.put(z::E820_ENTRIES, &[u8::try_from(map.len()).ok()?])?;
    Some(blob.into_bytes())
}

/// Page tables at `root`, descriptors, the first instructions.
fn tables(root: u64) -> Option<Vec<u8>> {
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE: u64 = 1 << 7;
    let mut blob = Blob::new(CODE_ROOM as usize)?;
    let mut entry = |at: usize, value: u64| blob.put(at, &value.to_le_bytes());
    entry(0, (root + PAGE as u64) | PRESENT_WRITABLE)?;
    for n in 0..4 {
        entry(PAGE + 8 * n, (root + (DIRECTORIES + n * PAGE) as u64) | PRESENT_WRITABLE)?;
    }
    for n in 0..4 * 512 {
        entry(DIRECTORIES + 8 * n, (n as u64) << 21 | LARGE | PRESENT_WRITABLE)?;
    }
    for (n, descriptor) in DESCRIPTORS.into_iter().enumerate() {
        entry(GDT as usize + 8 * n, descriptor)?;
    }
    blob.put(ENTRY as usize, &FIRST)?;
    Some(blob.into_bytes())
}

const _: () = assert!(TABLES + acpi::ROOM <= TREE_ROOM as usize, "the ACPI tables of any VM fit");
const _: () = assert!(layout::HOLE.end.0 == 4 << 30, "what is mapped ends with the hole");

#[cfg(test)]
mod tests;
