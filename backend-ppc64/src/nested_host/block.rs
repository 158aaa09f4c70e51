//! The two blocks of `H_ENTER_NESTED` as bytes of L1's memory: by version, in the caller's byte order.

use crate::vcpu::layout::{HvGuestState, Registers};

/// Bytes of the larger state block.
pub const STATE: usize = 248;
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

    /// A doubleword from memory.
    #[must_use]
    pub const fn wide(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Big => u64::from_be_bytes(bytes),
            Self::Little => u64::from_le_bytes(bytes),
        }
    }
}

/// Bytes of the state block of this version; `None` for one that nobody has defined.
#[must_use]
pub const fn state_size(version: u64) -> Option<usize> {
    match version {
        1 => Some(232),
        2 => Some(STATE),
        _ => None,
    }
}

/// Bytes from their beginning, or from where one has got to.
struct Words<B> {
    bytes: B,
    order: ByteOrder,
}

impl Words<&[u8]> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((first, rest)) = self.bytes.split_first_chunk::<N>() else { return [0; N] };
        self.bytes = rest;
        *first
    }

    fn wide(&mut self) -> u64 {
        self.order.wide(self.take())
    }

    fn half(&mut self) -> u32 {
        let bytes = self.take();
        match self.order {
            ByteOrder::Big => u32::from_be_bytes(bytes),
            ByteOrder::Little => u32::from_le_bytes(bytes),
        }
    }
}

impl Words<&mut [u8]> {
    fn put(&mut self, value: &[u8]) {
        let bytes = core::mem::take(&mut self.bytes);
        if let Some((first, rest)) = bytes.split_at_mut_checked(value.len()) {
            first.copy_from_slice(value);
            self.bytes = rest;
        }
    }

    fn wide(&mut self, value: u64) {
        match self.order {
            ByteOrder::Big => self.put(&value.to_be_bytes()),
            ByteOrder::Little => self.put(&value.to_le_bytes()),
        }
    }

    fn half(&mut self, value: u32) {
        match self.order {
            ByteOrder::Big => self.put(&value.to_be_bytes()),
            ByteOrder::Little => self.put(&value.to_le_bytes()),
        }
    }
}

/// Reads a state block. What `bytes` are too short for is zero, as version 1 is for the fields of version 2.
#[must_use]
pub fn read_state(bytes: &[u8], order: ByteOrder) -> HvGuestState {
    let mut w = Words { bytes, order };
    HvGuestState {
        version: w.wide(),
        lpid: w.half(),
        vcpu_token: w.half(),
        lpcr: w.wide(),
        pcr: w.wide(),
        amor: w.wide(),
        dpdes: w.wide(),
        hfscr: w.wide(),
        tb_offset: w.wide().cast_signed(),
        dawr0: w.wide(),
        dawrx0: w.wide(),
        ciabr: w.wide(),
        hdec_expiry: w.wide(),
        purr: w.wide(),
        spurr: w.wide(),
        ic: w.wide(),
        vtb: w.wide(),
        hdar: w.wide(),
        hdsisr: w.wide(),
        heir: w.wide(),
        asdr: w.wide(),
        srr0: w.wide(),
        srr1: w.wide(),
        sprg: core::array::from_fn(|_| w.wide()),
        pidr: w.wide(),
        cfar: w.wide(),
        ppr: w.wide(),
        dawr1: w.wide(),
        dawrx1: w.wide(),
    }
}

/// Writes a state block into as many bytes as its version has.
pub fn write_state(s: &HvGuestState, bytes: &mut [u8], order: ByteOrder) {
    let mut w = Words { bytes, order };
    w.wide(s.version);
    w.half(s.lpid);
    w.half(s.vcpu_token);
    let tb_offset = s.tb_offset.cast_unsigned();
    [s.lpcr, s.pcr, s.amor, s.dpdes, s.hfscr, tb_offset, s.dawr0, s.dawrx0].into_iter().for_each(|word| w.wide(word));
    [s.ciabr, s.hdec_expiry, s.purr, s.spurr, s.ic, s.vtb, s.hdar, s.hdsisr].into_iter().for_each(|word| w.wide(word));
    [s.heir, s.asdr, s.srr0, s.srr1].into_iter().for_each(|word| w.wide(word));
    s.sprg.into_iter().for_each(|word| w.wide(word));
    [s.pidr, s.cfar, s.ppr, s.dawr1, s.dawrx1].into_iter().for_each(|word| w.wide(word));
}

/// Reads a block of general registers.
#[must_use]
pub fn read_registers(bytes: &[u8; REGISTERS], order: ByteOrder) -> Registers {
    let mut w = Words { bytes: bytes.as_slice(), order };
    Registers {
        gpr: core::array::from_fn(|_| w.wide()),
        nip: w.wide(),
        msr: w.wide(),
        orig_gpr3: w.wide(),
        ctr: w.wide(),
        link: w.wide(),
        xer: w.wide(),
        ccr: w.wide(),
        softe: w.wide(),
        trap: w.wide(),
        dar: w.wide(),
        dsisr: w.wide(),
        result: w.wide(),
    }
}

/// Writes a block of general registers.
pub fn write_registers(r: &Registers, bytes: &mut [u8; REGISTERS], order: ByteOrder) {
    let mut w = Words { bytes: bytes.as_mut_slice(), order };
    r.gpr.into_iter().for_each(|word| w.wide(word));
    [r.nip, r.msr, r.orig_gpr3, r.ctr, r.link, r.xer, r.ccr].into_iter().for_each(|word| w.wide(word));
    [r.softe, r.trap, r.dar, r.dsisr, r.result].into_iter().for_each(|word| w.wide(word));
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

    #[test]
    fn fields_are_where_the_interface_has_them() {
        for order in ORDERS {
            let s = read_state(&numbered(STATE, order), order);
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
            let r = read_registers(&numbered(REGISTERS, order).try_into().unwrap(), order);
            for (field, offset) in
                [(r.gpr[31], 248), (r.nip, 256), (r.msr, 264), (r.ctr, 280), (r.link, 288), (r.xer, 296), (r.ccr, 304)]
            {
                assert_eq!(field, word(offset), "{order:?}: offset {offset}");
            }
        }
    }

    #[test]
    fn what_is_read_is_written_back_byte_for_byte() {
        for order in ORDERS {
            for version in [1, 2] {
                let len = state_size(version).unwrap();
                let bytes: Vec<u8> = (0..len).map(|n| (n * 37 + 11) as u8).collect();
                let mut back = vec![0; len];
                write_state(&read_state(&bytes, order), &mut back, order);
                assert_eq!(back, bytes, "{order:?}, version {version}");
            }
            let bytes: [u8; REGISTERS] = core::array::from_fn(|n| (n * 29 + 5) as u8);
            let mut back = [0; REGISTERS];
            write_registers(&read_registers(&bytes, order), &mut back, order);
            assert_eq!(back, bytes, "{order:?}");
        }
    }

    #[test]
    fn the_old_version_has_no_second_watchpoint() {
        assert_eq!([0, 1, 2, 3, u64::MAX].map(state_size), [None, Some(232), Some(248), None, None]);
        let s = read_state(&[0xff; 232], ByteOrder::Big);
        assert_eq!((s.ppr, s.dawr1, s.dawrx1), (u64::MAX, 0, 0));
    }

    #[test]
    fn the_order_is_that_of_the_callers_state() {
        assert_eq!([0, 1].map(ByteOrder::of), ORDERS);
    }
}
