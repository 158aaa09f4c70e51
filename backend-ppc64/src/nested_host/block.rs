//! The two blocks of `H_ENTER_NESTED` as bytes of L1's memory: by version, in the caller's byte order. In the processor's own
//! they are what [`crate::vcpu::layout`] has.

use zerocopy::IntoBytes;

use crate::vcpu::layout::{HvGuestState, Registers};

/// Bytes of the larger state block.
pub const STATE: usize = 248;
/// Bytes of the smaller one.
pub const STATE_1: usize = 232;
/// Bytes of the block of general registers that are the interface's; some callers' are longer.
pub const REGISTERS: usize = 352;

/// The caller's byte order: MSR\[LE\] at the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// Big-endian.
    Big,
    /// Little-endian.
    Little,
}

impl ByteOrder {
    /// That of machine state `msr`.
    #[must_use]
    pub const fn of(msr: u64) -> Self {
        if msr & crate::vcpu::msr::LE == 0 { Self::Big } else { Self::Little }
    }
}

/// This processor's.
const OWN: ByteOrder = if cfg!(target_endian = "big") { ByteOrder::Big } else { ByteOrder::Little };

/// Bytes of the state block of this version; `None` for one that nobody has defined.
#[must_use]
pub const fn state_size(version: u64) -> Option<usize> {
    match version {
        1 => Some(STATE_1),
        2 => Some(STATE),
        _ => None,
    }
}

impl HvGuestState {
    /// From the caller's byte order to this processor's, or the other way.
    pub fn turn(&mut self, order: ByteOrder) {
        if order != OWN {
            let words: &mut [u64; STATE / 8] = zerocopy::transmute_mut!(self);
            turn(words);
            // Two fields share a doubleword, which has been turned as a whole.
            core::mem::swap(&mut self.lpid, &mut self.vcpu_token);
        }
    }

    /// The block's first `size` bytes.
    #[must_use]
    pub fn bytes(&self, size: usize) -> &[u8] {
        self.as_bytes().get(..size).unwrap_or_default()
    }

    /// The same, to be read into.
    #[must_use]
    pub fn bytes_mut(&mut self, size: usize) -> &mut [u8] {
        self.as_mut_bytes().get_mut(..size).unwrap_or_default()
    }

    /// Without the fields that blocks of its version have not; `None` if there is no such version, or if it has more than `size`
    /// bytes.
    #[must_use]
    pub fn of_its_version(self, size: usize) -> Option<Self> {
        match state_size(self.version).filter(|has| *has <= size)? {
            STATE => Some(self),
            _ => Some(Self { dawr1: 0, dawrx1: 0, ..self }),
        }
    }
}

impl Registers {
    /// From the caller's byte order to this processor's, or the other way.
    pub fn turn(&mut self, order: ByteOrder) {
        if order != OWN {
            let words: &mut [u64; REGISTERS / 8] = zerocopy::transmute_mut!(self);
            turn(words);
        }
    }
}

fn turn(words: &mut [u64]) {
    words.iter_mut().for_each(|word| *word = word.swap_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: [ByteOrder; 2] = [ByteOrder::Big, ByteOrder::Little];

    /// Doubleword n of a block in which each says its number.
    fn numbered(len: usize, order: ByteOrder) -> Vec<u8> {
        let word = |n: u64| if order == ByteOrder::Big { n.to_be_bytes() } else { n.to_le_bytes() };
        (0..len as u64 / 8).flat_map(|n| word(n << 32 | n)).collect()
    }

    fn state(bytes: &[u8], order: ByteOrder) -> HvGuestState {
        let mut s = HvGuestState::default();
        s.bytes_mut(bytes.len()).copy_from_slice(bytes);
        s.turn(order);
        s
    }

    fn registers(bytes: &[u8], order: ByteOrder) -> Registers {
        let mut r = Registers::default();
        r.as_mut_bytes().copy_from_slice(bytes);
        r.turn(order);
        r
    }

    #[test]
    fn fields_are_where_the_interface_has_them() {
        for order in ORDERS {
            let s = state(&numbered(STATE, order), order);
            let word = |offset: u64| (offset / 8) << 32 | (offset / 8);
            // Both halves of doubleword 1 say 1, in either byte order.
            assert_eq!((s.version, s.lpid, s.vcpu_token), (0, 1, 1));
            for (field, offset) in [
                (s.lpcr, 16),
                (s.pcr, 24),
                (s.dpdes, 40),
                (s.hfscr, 48),
                (s.tb_offset as u64, 56),
                (s.hdec_expiry, 88),
                (s.vtb, 120),
                (s.hdar, 128),
                (s.hdsisr, 136),
                (s.heir, 144),
                (s.asdr, 152),
                (s.srr0, 160),
                (s.srr1, 168),
                (s.sprg[3], 200),
                (s.pidr, 208),
                (s.ppr, 224),
                (s.dawr1, 232),
                (s.dawrx1, 240),
            ] {
                assert_eq!(field, word(offset), "{order:?}: offset {offset}");
            }
            let r = registers(&numbered(REGISTERS, order), order);
            for (field, offset) in
                [(r.gpr[31], 248), (r.nip, 256), (r.msr, 264), (r.ctr, 280), (r.link, 288), (r.xer, 296), (r.ccr, 304)]
            {
                assert_eq!(field, word(offset), "{order:?}: offset {offset}");
            }
        }
    }

    #[test]
    fn the_halves_of_a_doubleword_are_turned_each_by_itself() {
        let mut bytes = [0; STATE];
        bytes[8..16].copy_from_slice(&[0, 0, 0, 7, 0, 0, 1, 2]);
        let s = state(&bytes, ByteOrder::Big);
        assert_eq!((s.lpid, s.vcpu_token), (7, 0x102));
        bytes[8..16].copy_from_slice(&[7, 0, 0, 0, 2, 1, 0, 0]);
        let s = state(&bytes, ByteOrder::Little);
        assert_eq!((s.lpid, s.vcpu_token), (7, 0x102));
    }

    #[test]
    fn what_is_read_is_written_back_byte_for_byte() {
        for order in ORDERS {
            for version in [1, 2] {
                let len = state_size(version).unwrap();
                let bytes: Vec<u8> = (0..len).map(|n| (n * 37 + 11) as u8).collect();
                let mut s = state(&bytes, order);
                s.turn(order);
                assert_eq!(s.bytes(len), bytes, "{order:?}, version {version}");
            }
            let bytes: [u8; REGISTERS] = core::array::from_fn(|n| (n * 29 + 5) as u8);
            let mut r = registers(&bytes, order);
            r.turn(order);
            assert_eq!(r.as_bytes(), bytes, "{order:?}");
        }
    }

    #[test]
    fn a_block_has_what_its_version_has() {
        assert_eq!([0, 1, 2, 3, u64::MAX].map(state_size), [None, Some(232), Some(248), None, None]);
        let of = |version, size| HvGuestState { version, ..state(&[0xff; STATE], OWN) }.of_its_version(size);
        let seen = |s: HvGuestState| (s.ppr, s.dawr1, s.dawrx1);
        assert_eq!(of(1, STATE).map(seen), Some((u64::MAX, 0, 0)));
        assert_eq!(of(1, STATE_1).map(seen), Some((u64::MAX, 0, 0)));
        assert_eq!(of(2, STATE).map(seen), Some((u64::MAX, u64::MAX, u64::MAX)));
        assert!(of(2, STATE_1).is_none(), "a block that ends where memory does");
        assert!(of(0, STATE).is_none() && of(3, STATE).is_none());
    }

    #[test]
    fn the_order_is_that_of_the_callers_state() {
        assert_eq!([0, 1].map(ByteOrder::of), ORDERS);
    }
}
