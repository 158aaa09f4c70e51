//! How long instructions were that ended a guest's run before, where hardware does not say it: to read them again each time
//! would take longer than all the rest.
//!
//! What is kept is what was found there, by address, address space and kind. A guest that has written another form of the same
//! instruction to the same place goes on at a wrong place in its own code, once; processors with caches of decoded
//! instructions promise it more, but nobody writes such code.

use crate::decode::Trapped;

/// Places, a power of two.
const PLACES: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    rip: u64,
    root: u64,
    what: Trapped,
    length: u8,
}

/// What is known.
#[derive(Clone, Debug)]
pub struct Lengths([Option<Known>; PLACES]);

impl Lengths {
    /// Nothing.
    pub const NONE: Self = Self([None; PLACES]);

    /// The length of `what` at linear address `rip` in the address space with this root (CR3).
    #[must_use]
    #[inline]
    pub fn get(&self, rip: u64, root: u64, what: Trapped) -> Option<u8> {
        let known = self.0[place(rip)].as_ref()?;
        (known.rip == rip && known.root == root && known.what == what).then_some(known.length)
    }

    /// It is this.
    pub fn set(&mut self, rip: u64, root: u64, what: Trapped, length: u8) {
        self.0[place(rip)] = Some(Known { rip, root, what, length });
    }
}

/// Instructions of a loop lie near each other.
const fn place(rip: u64) -> usize {
    (rip ^ rip >> 4) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::Lengths;
    use crate::decode::Trapped;

    #[test]
    fn a_length_is_known_where_it_was_met_and_nowhere_else() {
        let mut lengths = Lengths::NONE;
        assert_eq!(lengths.get(0x1000, 0x5000, Trapped::Cpuid), None);
        lengths.set(0x1000, 0x5000, Trapped::Cpuid, 3);
        assert_eq!(lengths.get(0x1000, 0x5000, Trapped::Cpuid), Some(3));
        assert_eq!(lengths.get(0x1000, 0x6000, Trapped::Cpuid), None, "another address space");
        assert_eq!(lengths.get(0x1000, 0x5000, Trapped::Wrmsr), None, "another instruction");
        // The same place of the table.
        assert_eq!(lengths.get(0x1_0000_1000, 0x5000, Trapped::Cpuid), None);
        lengths.set(0x1_0000_1000, 0x5000, Trapped::Hlt, 1);
        assert_eq!(lengths.get(0x1000, 0x5000, Trapped::Cpuid), None, "nothing is mixed up");
    }
}
