//! The code of the vectors by which guests leave, as words. Pure; `vectors.rs` writes it where it runs.

use core::ops::Range;

/// Where interrupts that keep translation on are taken, as an offset: the stubs' second place.
pub const RELOCATED: usize = 0x4000;
/// The trampoline: behind the vectors proper.
pub const TRAMPOLINE: usize = 0x1800;
/// The memory that the vectors and the trampoline take, and what is not used between.
pub const LOW: Range<u64> = 0..0x1_0000;

/// Vectors by which guests leave: external, hypervisor decrementer, hypercall, storage (data and instruction), emulation
/// assistance, maintenance, doorbell, virtualization, facility unavailable.
pub const EXIT: [usize; 10] = [0x500, 0x980, 0xc00, 0xe00, 0xe20, 0xe40, 0xe60, 0xe80, 0xea0, 0xf80];
/// Vectors that Trivet itself never takes, and guests take by themselves.
pub const TRAP: [usize; 14] =
    [0x100, 0x200, 0x300, 0x380, 0x400, 0x480, 0x600, 0x700, 0x800, 0x900, 0xd00, 0xf00, 0xf20, 0xf40];

const NOP: u32 = 0x6000_0000;

/// `mtspr HSPRG1,13; mfspr 13,HSPRG0; std 12,216(13); li 12,vector; b trampoline`, for a stub at `vector + base`.
#[must_use]
pub const fn exit_stub(base: usize, vector: usize) -> [u32; 8] {
    let branch = TRAMPOLINE.wrapping_sub(base + vector + 16) as u32 & 0x03ff_fffc;
    [0x7db1_4ba6, 0x7db0_4aa6, 0xf98d_00d8, 0x3980_0000 | vector as u32, 0x4800_0000 | branch, NOP, NOP, NOP]
}

/// `std 11,224(13); mfctr 11; std 11,240(13); std 10,232(13); mfmsr 11; li 10,IR|DR; andc 11,11,10; mtmsrd 11`, and
/// `lis 11,handler@h; ori 11,11,handler@l; mtctr 11; clrldi 13,13,4; bctr`.
#[must_use]
pub const fn trampoline(handler: u32) -> [[u32; 8]; 2] {
    let [high, low] = [handler >> 16, handler & 0xffff];
    [
        [0xf96d_00e0, 0x7d69_02a6, 0xf96d_00f0, 0xf94d_00e8, 0x7d60_00a6, 0x3940_0030, 0x7d6b_5078, 0x7d60_0164],
        [0x3d60_0000 | high, 0x616b_0000 | low, 0x7d69_03a6, 0x79ad_0100, 0x4e80_0420, NOP, NOP, NOP],
    ]
}

#[cfg(test)]
mod tests {
    use super::{EXIT, LOW, RELOCATED, TRAMPOLINE, TRAP, exit_stub, trampoline};

    /// Where the only branch of a piece of code goes, if the code is at `at`.
    fn target(code: &[u32], at: usize) -> usize {
        let number = code.iter().position(|word| word >> 26 == 18).unwrap();
        let offset = ((code[number] & 0x03ff_fffc) << 6) as i32 >> 6;
        (at + 4 * number).wrapping_add_signed(offset as isize)
    }

    #[test]
    fn a_guest_leaves_by_the_trampoline_from_either_place() {
        for base in [0, RELOCATED] {
            for vector in EXIT {
                let stub = exit_stub(base, vector);
                assert_eq!(target(&stub, base + vector), TRAMPOLINE, "{base:#x} {vector:#x}");
                // li 12, vector: the value is signed, and has to stay what it is.
                assert_eq!((stub[3], vector < 0x8000), (0x3980_0000 | vector as u32, true));
            }
        }
    }

    /// No two vectors share memory, nor does one reach into the trampoline.
    #[test]
    fn code_does_not_overlap() {
        let places = EXIT.iter().flat_map(|vector| [*vector, RELOCATED + vector]).chain(TRAP);
        let mut all: Vec<_> =
            places.map(|at| at..at + 32).chain(core::iter::once(TRAMPOLINE..TRAMPOLINE + 64)).collect();
        all.sort_by_key(|place| place.start);
        assert!(all.windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert!(all.iter().all(|place| place.start >= 0x100 && place.end <= LOW.end as usize));
    }

    /// enter.S saves and finds the same registers at the same places: its frame is read here.
    #[test]
    fn the_frame_is_the_assemblys() {
        let slot = |name: &str| {
            let line = include_str!("enter.S").lines().find(|line| line.contains(&format!("{name},"))).unwrap();
            line.split(',').nth(1).and_then(|rest| rest.split_whitespace().next()?.parse::<u32>().ok()).unwrap()
        };
        let std = |register: u32, slot: u32| 62 << 26 | register << 21 | 13 << 16 | slot;
        let [first, second] = trampoline(0x2001_2344);
        assert_eq!(exit_stub(0, 0xe00)[2], std(12, slot("F_R12")));
        assert_eq!(
            [first[0], first[2], first[3]],
            [std(11, slot("F_R11")), std(11, slot("F_CTR")), std(10, slot("F_R10"))]
        );
        assert_eq!([second[0] & 0xffff, second[1] & 0xffff], [0x2001, 0x2344]);
    }
}
