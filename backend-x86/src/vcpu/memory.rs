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
    pub fn translate<S: Services>(&self, linear: u64, access: Access, s: &S) -> Result<Gpa, NotTranslated> {
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
    pub fn instruction<S: Services, T>(
        &self,
        linear: u64,
        decode: impl Fn(&[u8]) -> Result<T, decode::Error>,
        s: &S,
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
    fn fetch<S: Services>(&self, linear: u64, count: usize, into: &mut Bytes, s: &S) -> Result<(), NotTranslated> {
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
