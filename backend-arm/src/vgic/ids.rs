//! What distributor and redistributors say of themselves.

/// GICD_IIDR and GICR_IIDR: product `T`, revision 0, of no implementer that has a number.
pub const IIDR: u32 = 0x54 << 24;

/// The identification registers, 0xffd0 to 0xfffc of every frame: an implementation of GICv3 (PIDR2.ArchRev = 3).
pub const fn identification(offset: u64) -> u32 {
    match offset {
        0xffe8 => 0x30,
        0xfff0 => 0x0d,
        0xfff4 => 0xf0,
        0xfff8 => 0x05,
        0xfffc => 0xb1,
        _ => 0,
    }
}
