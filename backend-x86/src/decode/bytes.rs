//! The bytes of an instruction, and its prefixes (AMD APM vol. 3, 1.2; Intel SDM vol. 2A, 2.1 and 2.2).

use crate::bus::Width;

/// Bytes of the longest instruction. A longer one is an error, whatever it would have been.
pub const MAX: usize = 15;

/// How the code segment has instructions read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Operands and addresses of 16 bits unless a prefix says otherwise: real mode, too.
    Bits16,
    /// Of 32 bits.
    Bits32,
    /// Long mode: addresses of 64 bits, operands of 32.
    Bits64,
}

/// Why an instruction was not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It goes on where the bytes end: there may be more of them in the next page.
    Short,
    /// It goes on past [`MAX`] bytes.
    Long,
    /// It is none of those that are known here, or none at all.
    Unknown,
}

/// A segment register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// ES.
    Es,
    /// CS.
    Cs,
    /// SS.
    Ss,
    /// DS.
    Ds,
    /// FS.
    Fs,
    /// GS.
    Gs,
}

/// Reads an instruction byte by byte.
#[derive(Clone, Debug)]
pub(super) struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many have been read.
    pub(super) const fn read(&self) -> u8 {
        self.at as u8
    }

    pub(super) fn next(&mut self) -> Result<u8, Error> {
        if self.at >= MAX {
            return Err(Error::Long);
        }
        let byte = *self.bytes.get(self.at).ok_or(Error::Short)?;
        self.at += 1;
        Ok(byte)
    }

    /// A little-endian number of so many bytes, sign-extended.
    pub(super) fn signed(&mut self, bytes: u64) -> Result<u64, Error> {
        let mut value = 0;
        for n in 0..bytes {
            value |= u64::from(self.next()?) << (8 * n);
        }
        let unused = 64 - 8 * bytes;
        Ok((((value << unused) as i64) >> unused) as u64)
    }
}

/// A repeat prefix: which of the two matters to comparisons only, and none of those is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    Once,
    Repeated,
}

/// What stands before an opcode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefixes {
    mode: Mode,
    operand: bool,
    address: bool,
    rex: u8,
    /// A REX byte was there, be it empty.
    pub(super) has_rex: bool,
    pub(super) lock: bool,
    pub(super) repeat: Repeat,
    pub(super) segment: Option<Segment>,
}

impl Prefixes {
    /// Reads them, and the opcode's first byte.
    pub(super) fn read(bytes: &mut Bytes<'_>, mode: Mode) -> Result<(Self, u8), Error> {
        let mut found = Self {
            mode,
            operand: false,
            address: false,
            rex: 0,
            has_rex: false,
            lock: false,
            repeat: Repeat::Once,
            segment: None,
        };
        loop {
            let byte = bytes.next()?;
            let rex = mode == Mode::Bits64 && byte & 0xf0 == 0x40;
            let segment = match byte {
                0x26 => Some(Segment::Es),
                0x2e => Some(Segment::Cs),
                0x36 => Some(Segment::Ss),
                0x3e => Some(Segment::Ds),
                0x64 => Some(Segment::Fs),
                0x65 => Some(Segment::Gs),
                _ => None,
            };
            match byte {
                _ if rex => {}
                // Long mode has no use for the first four, and does not forget FS or GS for them.
                _ if segment.is_some() => {
                    if mode != Mode::Bits64 || byte >= 0x64 {
                        found.segment = segment;
                    }
                }
                0x66 => found.operand = true,
                0x67 => found.address = true,
                0xf0 => found.lock = true,
                0xf2 | 0xf3 => found.repeat = Repeat::Repeated,
                opcode => return Ok((found, opcode)),
            }
            // A REX byte counts right before the opcode only.
            (found.rex, found.has_rex) = if rex { (byte & 15, true) } else { (0, false) };
        }
    }

    /// Width of operands that are not bytes.
    pub(super) const fn operand(&self) -> Width {
        match (self.mode, self.rex & 8 != 0, self.operand) {
            (_, true, _) => Width::Quad,
            (Mode::Bits16, _, false) | (Mode::Bits32 | Mode::Bits64, _, true) => Width::Word,
            _ => Width::Double,
        }
    }

    /// Width of addresses, and of the registers that strings use.
    pub(super) const fn address(&self) -> Width {
        match (self.mode, self.address) {
            (Mode::Bits64, false) => Width::Quad,
            (Mode::Bits64, true) | (Mode::Bits32, false) | (Mode::Bits16, true) => Width::Double,
            (Mode::Bits32, true) | (Mode::Bits16, false) => Width::Word,
        }
    }

    /// The mode that they were read in.
    pub(super) const fn mode(&self) -> Mode {
        self.mode
    }

    /// What REX adds to a ModRM byte's register.
    pub(super) const fn register(&self) -> u8 {
        (self.rex & 4) << 1
    }

    /// What it adds to that byte's other register.
    pub(super) const fn base(&self) -> u8 {
        (self.rex & 1) << 3
    }
}
