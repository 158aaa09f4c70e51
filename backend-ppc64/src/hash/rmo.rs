//! A guest's real mode area in one piece: an offset for accesses with translation off, no entries (RMO; POWER8 and before).
//!
//! Source: Power ISA v2.07B, Book III-S 5.7.3 (RMOR, LPCR\[RMLS\]).

use hv_core::addr::{PAGE_SHIFT, Pfn};

use super::first_run::{Failed, Registers};

/// LPCR: the offset's limit.
const RMLS_SHIFT: u32 = 26;

/// Frames that a VM's memory begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rmo {
    /// The first.
    pub first: Pfn,
    /// How many.
    pub pages: u64,
}

/// LPCR and RMOR for an RMO.
pub(super) fn offset(rmo: &Rmo) -> Result<Registers, Failed> {
    let code = rmls(rmo.pages << PAGE_SHIFT).ok_or(Failed::NotEncodable)?;
    let base = rmo.first.0 << PAGE_SHIFT;
    // The offset is put into the address, not added to it.
    if rmo.first.0 & (rmo.pages - 1) != 0 {
        return Err(Failed::NotEncodable);
    }
    Ok(Registers { lpcr: code << RMLS_SHIFT, rmor: base })
}

/// `LPCR[RMLS]` for so many bytes (POWER7, POWER8).
#[must_use]
pub const fn rmls(bytes: u64) -> Option<u64> {
    Some(match bytes >> 20 {
        _ if bytes & 0xf_ffff != 0 => return None,
        0x20 => 8,
        0x40 => 3,
        0x80 => 7,
        0x100 => 4,
        0x400 => 2,
        0x4000 => 1,
        0x4_0000 => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Failed, Rmo, offset, rmls};
    use hv_core::addr::Pfn;

    /// POWER8's encodings, as in the processor's manual.
    #[test]
    fn only_some_sizes_have_an_encoding() {
        let codes = [(32, 8), (64, 3), (128, 7), (256, 4), (1024, 2), (16 << 10, 1), (256 << 10, 0)];
        assert!(codes.iter().all(|(mib, code)| rmls(mib << 20) == Some(*code)));
        for bytes in [0, 1, 16 << 20, 96 << 20, 512 << 20, (64 << 20) + 4096, u64::MAX] {
            assert_eq!(rmls(bytes), None, "{bytes:#x}");
        }
    }

    #[test]
    fn an_offset_is_a_multiple_of_its_size() {
        let run = |first, pages| offset(&Rmo { first: Pfn(first), pages });
        assert_eq!(run(0x8000, 0x4000).map(|r| (r.lpcr, r.rmor)), Ok((3 << 26, 0x800_0000)));
        assert_eq!(run(0x6000, 0x4000), Err(Failed::NotEncodable), "half a size off");
        assert_eq!(run(0x8000, 0x4001), Err(Failed::NotEncodable));
    }
}
