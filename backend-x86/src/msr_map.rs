//! Which model-specific registers a guest reaches without an exit: the permission maps of both vendors (AMD APM vol. 2,
//! 15.11; Intel SDM vol. 3C, "MSR-Bitmap Address"). A set bit ends the guest's run. Everything is set but for registers
//! whose values the world switch changes with the vCPU, and of which hardware itself refuses what may not be written.

/// SYSENTER_CS, _ESP, _EIP; STAR, LSTAR, CSTAR, FMASK; FS base, GS base, kernel GS base. Beside them the policy has
/// registers that are switched, too, but are checked by Trivet or written once (EFER, PAT, TSC_AUX).
const DIRECT: [u32; 10] =
    [0x174, 0x175, 0x176, 0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084, 0xc000_0100, 0xc000_0101, 0xc000_0102];

/// Bytes of SVM's map.
pub const SVM_BYTES: usize = 0x2000;
/// Bytes of VMX's map.
pub const VMX_BYTES: usize = 0x1000;

/// Registers in a range of a map.
const RANGE: u32 = 0x2000;
/// First registers of the ranges that VMX's map has.
const VMX_RANGES: [u32; 2] = [0, 0xc000_0000];
/// Of those that SVM's has.
const SVM_RANGES: [u32; 3] = [0, 0xc000_0000, 0xc001_0000];

/// Which range of so many, and the place in it.
fn place(ranges: &[u32], msr: u32) -> Option<(usize, usize)> {
    let range = ranges.iter().position(|first| msr.wrapping_sub(*first) < RANGE)?;
    Some((range, (msr - ranges[range]) as usize))
}

/// The bits of `msr` in SVM's map: for reads, for writes. `None` of a register that always ends the run.
fn svm_bits(msr: u32) -> Option<[usize; 2]> {
    let (range, at) = place(&SVM_RANGES, msr)?;
    let read = range * 0x800 * 8 + 2 * at;
    Some([read, read + 1])
}

/// The same in VMX's.
fn vmx_bits(msr: u32) -> Option<[usize; 2]> {
    let (range, at) = place(&VMX_RANGES, msr)?;
    let read = range * 0x400 * 8 + at;
    Some([read, read + 0x800 * 8])
}

fn fill(map: &mut [u8], bits: fn(u32) -> Option<[usize; 2]>) {
    map.fill(0xff);
    for msr in &DIRECT {
        for bit in bits(*msr).iter().flatten() {
            map[bit / 8] &= !(1 << (bit % 8));
        }
    }
}

/// Fills SVM's map, which all guests share.
pub fn svm(map: &mut [u8; SVM_BYTES]) {
    fill(map, svm_bits);
}

/// Fills VMX's map, which all guests share.
pub fn vmx(map: &mut [u8; VMX_BYTES]) {
    fill(map, vmx_bits);
}

#[cfg(test)]
mod tests {
    use super::{DIRECT, SVM_BYTES, VMX_BYTES, svm, vmx};
    use crate::policy::msr::{Owner, owner};

    #[test]
    fn nothing_is_reached_that_is_not_switched_with_the_vcpu() {
        assert!(DIRECT.iter().all(|msr| owner(*msr) == Owner::Switched));
    }

    #[test]
    fn every_other_bit_of_the_maps_is_set() {
        let (mut amd, mut intel) = ([0; SVM_BYTES], [0; VMX_BYTES]);
        svm(&mut amd);
        vmx(&mut intel);
        let clear = |map: &[u8]| map.iter().map(|byte| byte.count_zeros() as usize).sum::<usize>();
        assert_eq!((clear(&amd), clear(&intel)), (2 * DIRECT.len(), 2 * DIRECT.len()));
        // Places from the manuals' formulas: two bits a register in three ranges; one in two, reads before writes.
        assert_eq!(amd[0x174 / 4], 0b1100_0000);
        assert_eq!(amd[0x800 + 0x80 / 4], 0b11, "EFER is looked at");
        assert_eq!(amd[0x800 + 0x84 / 4], 0b1111_1100);
        assert_eq!(intel[0x174 / 8], 0b1000_1111);
        assert_eq!(intel[0x800 + 0x174 / 8], 0b1000_1111);
        assert_eq!(intel[0x400 + 0x100 / 8], 0b1111_1000);
        assert_eq!(intel[0xc00 + 0x80 / 8], 0b1110_0001);
    }
}
