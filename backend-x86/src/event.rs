//! What is delivered to a guest with an entry, and what was being delivered when its run ended. Both vendors write it
//! in one way (AMD APM vol. 2, 15.20: EVENTINJ and EXITINTINFO; Intel SDM vol. 3C, "VM-Entry Controls for Event
//! Injection" and "Information for VM Exits That Occur During Event Delivery"):
//!
//! ```text
//!   63:32 error code (SVM; a field of its own with VMX)   31 valid   11 there is an error code   10:8 type   7:0 vector
//! ```

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An interrupt of this vector, already acknowledged.
    Interrupt(u8),
    /// An NMI.
    Nmi,
    /// An exception.
    Exception(Exception),
}

/// An exception, with what its handler finds on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// #UD.
    InvalidOpcode,
    /// #GP, with this error code.
    GeneralProtection(u32),
    /// #PF, with this error code. CR2 is set apart.
    PageFault(u32),
    /// Another, which hardware was delivering.
    Other {
        /// Vector.
        vector: u8,
        /// Error code.
        error: Option<u32>,
    },
}

const VALID: u32 = 1 << 31;
const HAS_ERROR: u32 = 1 << 11;
const INTERRUPT: u32 = 0;
const NMI: u32 = 2;
const EXCEPTION: u32 = 3;
/// The vectors of INT3 and INTO.
const BREAKPOINT: u8 = 3;
const OVERFLOW: u8 = 4;

impl Exception {
    const fn parts(self) -> (u8, Option<u32>) {
        match self {
            Self::InvalidOpcode => (6, None),
            Self::GeneralProtection(error) => (13, Some(error)),
            Self::PageFault(error) => (14, Some(error)),
            Self::Other { vector, error } => (vector, error),
        }
    }

    const fn of(vector: u8, error: Option<u32>) -> Self {
        match (vector, error) {
            (6, None) => Self::InvalidOpcode,
            (13, Some(error)) => Self::GeneralProtection(error),
            (14, Some(error)) => Self::PageFault(error),
            (vector, error) => Self::Other { vector, error },
        }
    }
}

impl Event {
    /// The VMCS's entry fields: the event, and its error code.
    #[must_use]
    pub const fn vmx(self) -> (u32, u32) {
        let (vector, kind, error) = match self {
            Self::Interrupt(vector) => (vector, INTERRUPT, None),
            Self::Nmi => (2, NMI, None),
            Self::Exception(exception) => {
                let (vector, error) = exception.parts();
                (vector, EXCEPTION, error)
            }
        };
        let plain = VALID | kind << 8 | vector as u32;
        match error {
            Some(error) => (plain | HAS_ERROR, error),
            None => (plain, 0),
        }
    }

    /// EVENTINJ.
    #[must_use]
    pub const fn svm(self) -> u64 {
        let (event, error) = self.vmx();
        (error as u64) << 32 | event as u64
    }

    /// What has to be delivered again, from the VMCS's fields of what was being delivered. `None` too of what an
    /// instruction asked for: RIP still points at that, and it asks again.
    #[must_use]
    pub const fn delivered_vmx(event: u32, error: u32) -> Option<Self> {
        if event & VALID == 0 {
            return None;
        }
        let vector = event as u8;
        let error = if event & HAS_ERROR != 0 { Some(error) } else { None };
        match event >> 8 & 7 {
            INTERRUPT => Some(Self::Interrupt(vector)),
            NMI => Some(Self::Nmi),
            EXCEPTION => Some(Self::Exception(Exception::of(vector, error))),
            _ => None,
        }
    }

    /// The same from EXITINTINFO, in which INT3 and INTO pass for exceptions.
    #[must_use]
    pub const fn delivered_svm(info: u64) -> Option<Self> {
        match Self::delivered_vmx(info as u32, (info >> 32) as u32) {
            Some(Self::Exception(Exception::Other { vector: BREAKPOINT | OVERFLOW, .. })) => None,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Exception};

    #[test]
    fn events_are_written_as_the_manuals_draw_them() {
        assert_eq!(Event::Interrupt(0xec).svm(), 0x8000_00ec);
        assert_eq!(Event::Nmi.svm(), 0x8000_0202);
        assert_eq!(Event::Exception(Exception::InvalidOpcode).svm(), 0x8000_0306);
        assert_eq!(Event::Exception(Exception::GeneralProtection(0)).svm(), 0x8000_0b0d);
        assert_eq!(Event::Exception(Exception::PageFault(7)).svm(), 0x7_8000_0b0e);
        assert_eq!(Event::Exception(Exception::PageFault(7)).vmx(), (0x8000_0b0e, 7));
    }

    #[test]
    fn what_was_being_delivered_is_delivered_again() {
        let double = Exception::Other { vector: 8, error: Some(0) };
        for event in [
            Event::Interrupt(0x31),
            Event::Nmi,
            Event::Exception(Exception::PageFault(0x15)),
            Event::Exception(Exception::InvalidOpcode),
            Event::Exception(double),
        ] {
            assert_eq!(Event::delivered_svm(event.svm()), Some(event));
            let (info, error) = event.vmx();
            assert_eq!(Event::delivered_vmx(info, error), Some(event));
            // An emulator was seen to leave the rest behind and clear the valid bit only.
            assert_eq!(Event::delivered_svm(event.svm() & !(1 << 31)), None);
        }
    }

    #[test]
    fn what_an_instruction_asked_for_it_asks_for_again() {
        assert_eq!(Event::delivered_svm(0x8000_0480), None, "INT 80h");
        assert_eq!(Event::delivered_svm(0x8000_0303), None, "INT3, which SVM calls an exception");
        for info in [0x8000_0480, 0x8000_0501, 0x8000_0603] {
            assert_eq!(Event::delivered_vmx(info, 0), None, "INT, INT1, INT3");
        }
    }
}
