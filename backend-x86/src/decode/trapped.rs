//! How long instructions are that end a guest's run by themselves, where hardware does not say it.

use super::bytes::{Bytes, Error, Mode, Prefixes};

/// An instruction that ended a guest's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trapped {
    /// CPUID.
    Cpuid,
    /// HLT.
    Hlt,
    /// INVD.
    Invd,
    /// PAUSE.
    Pause,
    /// RDMSR.
    Rdmsr,
    /// VMMCALL.
    Vmmcall,
    /// WBINVD, or WBNOINVD, which is that with a prefix.
    Wbinvd,
    /// WRMSR.
    Wrmsr,
    /// XSETBV.
    Xsetbv,
}

/// The second byte of INVD.
const INVD: u8 = 0x08;

impl Trapped {
    /// Its opcode, without prefixes.
    const fn opcode(self) -> (u8, &'static [u8]) {
        match self {
            Self::Cpuid => (0x0f, &[0xa2]),
            Self::Hlt => (0xf4, &[]),
            Self::Invd => (0x0f, &[INVD]),
            Self::Pause => (0x90, &[]),
            Self::Rdmsr => (0x0f, &[0x32]),
            Self::Vmmcall => (0x0f, &[0x01, 0xd9]),
            Self::Wbinvd => (0x0f, &[0x09]),
            Self::Wrmsr => (0x0f, &[0x30]),
            Self::Xsetbv => (0x0f, &[0x01, 0xd1]),
        }
    }
}

/// The length of a MOV to CR8 at the beginning of `bytes`, and the number of the general register that it reads.
/// [`Error::Unknown`] if it is none.
pub fn to_cr8(bytes: &[u8], mode: Mode) -> Result<(u8, u8), Error> {
    let mut bytes = Bytes::new(bytes);
    let (prefixes, first) = Prefixes::read(&mut bytes, mode)?;
    let (second, operands) = (bytes.next()?, bytes.next()?);
    // Both are registers whatever the byte says. LOCK names CR8 outside of long mode (AMD APM vol. 3, "MOV CRn").
    let control = operands >> 3 & 7 | prefixes.register() | u8::from(prefixes.lock) << 3;
    if (first, second, control) != (0x0f, 0x22, 8) {
        return Err(Error::Unknown);
    }
    Ok((bytes.read(), operands & 7 | prefixes.base()))
}

/// The length of the instruction at the beginning of `bytes`, which hardware says is `what`. [`Error::Unknown`] if it
/// is not: the guest has written over it since, and is to run what is there now.
pub fn length(bytes: &[u8], mode: Mode, what: Trapped) -> Result<u8, Error> {
    let mut bytes = Bytes::new(bytes);
    let (_, mut found) = Prefixes::read(&mut bytes, mode)?;
    let (mut expected, rest) = what.opcode();
    for &next in rest {
        if found != expected {
            return Err(Error::Unknown);
        }
        (found, expected) = (bytes.next()?, next);
    }
    // QEMU's SVM calls INVD a WBINVD.
    let alike = what == Trapped::Wbinvd && found == INVD;
    if found == expected || alike { Ok(bytes.read()) } else { Err(Error::Unknown) }
}
