//! Guest memory as the guest addresses it: through its own tables, piece by piece. Everything found there may change at any
//! moment, and is believed once.

use hv_core::addr::{Gpa, PAGE_SIZE};
use hv_core::vcpu::exit::Access;
use hv_core::vcpu::services::Services;

use crate::decode;
use crate::paging::{Entry, NotTranslated, Paging, Privilege};

/// Whose addresses, and on whose behalf.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The registers that say how addresses are translated.
    pub paging: Paging,
    /// Who asks.
    pub privilege: Privilege,
}

/// Bytes of an instruction.
pub type Bytes = heapless::Vec<u8, { decode::MAX }>;

impl View {
    /// The guest physical address of `linear`.
    pub fn translate(&self, linear: u64, access: Access, s: &dyn Services) -> Result<Gpa, NotTranslated> {
        self.paging.translate(linear, access, self.privilege, |at, entry| match entry {
            Entry::Four => {
                let mut word = [0; 4];
                s.read(at, &mut word).ok().map(|()| u32::from_le_bytes(word).into())
            }
            Entry::Eight => {
                let mut word = [0; 8];
                s.read(at, &mut word).ok().map(|()| u64::from_le_bytes(word))
            }
        })
    }

    /// The instruction at `linear`, as `decode` has it of its bytes. Those of the next page are asked for only if the first
    /// page's are not all. `Err(None)`: its bytes are not what `decode` expects.
    pub fn instruction<T>(
        &self,
        linear: u64,
        decode: impl Fn(&[u8]) -> Result<T, decode::Error>,
        s: &dyn Services,
    ) -> Result<T, Option<NotTranslated>> {
        let mut bytes = Bytes::new();
        let here = left(linear).min(decode::MAX);
        self.fetch(linear, here, &mut bytes, s)?;
        match decode(&bytes) {
            Err(decode::Error::Short) if here < decode::MAX => {
                let next = linear.wrapping_add(here as u64);
                self.fetch(next, decode::MAX - here, &mut bytes, s)?;
                decode(&bytes).map_err(|_| None)
            }
            other => other.map_err(|_| None),
        }
    }

    /// Appends so many bytes of one page.
    fn fetch(&self, linear: u64, count: usize, into: &mut Bytes, s: &dyn Services) -> Result<(), NotTranslated> {
        let at = self.translate(linear, Access::Fetch, s)?;
        let from = into.len();
        into.resize_default(from + count).map_err(|_| NotTranslated::NoMemory(at))?;
        s.read(at, &mut into[from..]).map_err(|_| NotTranslated::NoMemory(at))
    }
}

/// Bytes from `linear` to the end of its page.
#[must_use]
pub const fn left(linear: u64) -> usize {
    PAGE_SIZE - (linear as usize & (PAGE_SIZE - 1))
}

#[cfg(test)]
mod tests {
    use hv_core::addr::Gpa;
    use hv_core::vcpu::exit::Access;
    use services_double::Double;

    use super::{View, left};
    use crate::decode::{Mode, Trapped, length};
    use crate::paging::{NotTranslated, Paging, Privilege};

    /// Long mode, tables from 0x1000 on; of the pages at linear 0x7000 and 0x8000 the first is at 0x5000, the second at `second`.
    fn tables(second: u64) -> (Double, View) {
        let s = Double::new(1);
        for (at, entry) in [(0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x4003), (0x4038, 0x5003), (0x4040, second)] {
            s.poke(at, &u64::to_le_bytes(entry));
        }
        let paging = Paging { cr0: 1 << 31 | 1, cr3: 0x1000, cr4: 1 << 5, efer: 0x500, address_bits: 40 };
        (s, View { paging, privilege: Privilege::Supervisor })
    }

    fn cpuid(bytes: &[u8]) -> Result<u8, crate::decode::Error> {
        length(bytes, Mode::Bits64, Trapped::Cpuid)
    }

    #[test]
    fn an_instruction_is_read_through_the_guests_tables() {
        let (s, view) = tables(0);
        assert_eq!(view.translate(0x7123, Access::Read, &s), Ok(Gpa(0x5123)));
        s.poke(0x5123, &[0x66, 0x0f, 0xa2]);
        assert_eq!(view.instruction(0x7123, cpuid, &s), Ok(3));
        s.poke(0x5123, &[0x66, 0x0f, 0x0b]);
        assert_eq!(view.instruction(0x7123, cpuid, &s), Err(None), "another one by now");
        assert_eq!(view.instruction(0x8000, cpuid, &s), Err(Some(NotTranslated::PageFault(0))));
    }

    #[test]
    fn the_next_page_is_asked_for_only_by_who_goes_on_there() {
        let (s, view) = tables(0);
        s.poke(0x5ffe, &[0x0f, 0xa2]);
        assert_eq!(view.instruction(0x7ffe, cpuid, &s), Ok(2), "it ends with its page");
        s.poke(0x5fff, &[0x0f]);
        assert_eq!(view.instruction(0x7fff, cpuid, &s), Err(Some(NotTranslated::PageFault(0))));
        let (s, view) = tables(0x9003);
        s.poke(0x5fff, &[0x0f]);
        s.poke(0x9000, &[0xa2]);
        assert_eq!(view.instruction(0x7fff, cpuid, &s), Ok(2), "its second byte is elsewhere");
    }

    #[test]
    fn r26_tables_where_no_memory_is_are_an_error() {
        let (s, view) = tables(0x7fff_f003);
        assert_eq!(view.instruction(0x8000, cpuid, &s), Err(Some(NotTranslated::NoMemory(Gpa(0x7fff_f000)))));
        s.poke(0x2000, &0x7fff_f003_u64.to_le_bytes());
        assert_eq!(view.translate(0x7000, Access::Read, &s), Err(NotTranslated::NoMemory(Gpa(0x7fff_f000))));
        assert_eq!((left(0x7000), left(0x7fff)), (4096, 1));
    }
}
