//! Tags in a CPU's translation caches (ASIDs, VPIDs), of which a vCPU gets one on each physical CPU that it runs on.
//!
//! A [`Pool`] is one physical CPU's: only that CPU takes tags from it, with a vCPU on it. Tags are given out in order. When
//! they are used up, everything that this CPU has cached is flushed, and a new generation begins: who holds a tag of an
//! older one, or of another CPU, does not hold any ([`Held`]). Generations are never reset nor used twice (exhibit F9):
//! they are 64 bits wide, and those of two CPUs are told apart by the CPU.
//!
//! A vCPU that has to lose all that was cached under its tag (a flush of the second stage where one tag cannot be
//! flushed) drops the tag and gets a fresh one: nothing was ever cached under that in its generation.

use core::num::NonZeroU16;

use hv_core::machine::CpuId;

/// One CPU's tags.
#[derive(Debug)]
pub struct Pool {
    cpu: CpuId,
    generation: u64,
    next: u32,
    last: NonZeroU16,
}

/// A vCPU's tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    cpu: CpuId,
    generation: u64,
    tag: u32,
}

impl Held {
    /// The tag, never 0: that is the host's.
    #[must_use]
    pub const fn tag(&self) -> u32 {
        self.tag
    }
}

/// What has to be flushed before a tag is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "with stale translations of the tag's last holder a guest reaches another's memory"]
pub enum Flush {
    /// Nothing.
    Nothing,
    /// Everything that this CPU has cached under any tag.
    All,
}

impl Pool {
    /// Tags 1 to `last` of physical CPU `cpu`.
    #[must_use]
    pub const fn new(cpu: CpuId, last: NonZeroU16) -> Self {
        // Nobody knows what was cached before Trivet: the first tag is past the last, and brings the first flush.
        Self { cpu, generation: 0, next: u32::MAX, last }
    }

    /// How many tags there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.last.get() as u64
    }

    /// How many were given out, in all generations.
    #[must_use]
    pub const fn given(&self) -> u64 {
        match self.generation.checked_sub(1) {
            Some(past) => past * self.size() + (self.next - 1) as u64,
            None => 0,
        }
    }

    /// The tag to enter a vCPU with that holds `held`, and what to flush before. To be called on the pool's CPU.
    pub fn hold(&mut self, held: &mut Option<Held>) -> (Held, Flush) {
        if let Some(held) = held.filter(|held| held.cpu == self.cpu && held.generation == self.generation) {
            return (held, Flush::Nothing);
        }
        let flush = if self.next > u32::from(self.last.get()) {
            self.generation += 1;
            self.next = 1;
            Flush::All
        } else {
            Flush::Nothing
        };
        let new = Held { cpu: self.cpu, generation: self.generation, tag: self.next };
        self.next += 1;
        *held = Some(new);
        (new, flush)
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU16;

    use hv_core::machine::CpuId;

    use super::{Flush, Pool};

    fn pool(cpu: u16, last: u16) -> Pool {
        Pool::new(CpuId(cpu), NonZeroU16::new(last).unwrap())
    }

    #[test]
    fn nothing_is_believed_of_what_was_cached_before() {
        let mut pool = pool(0, 15);
        let (mut a, mut b) = (None, None);
        assert_eq!(pool.hold(&mut a).1, Flush::All);
        assert_eq!(pool.hold(&mut b).1, Flush::Nothing);
        assert_ne!(a.unwrap().tag(), b.unwrap().tag());
        assert_eq!(pool.hold(&mut a), (a.unwrap(), Flush::Nothing), "it keeps its tag");
        assert_eq!((pool.size(), pool.given()), (15, 2));
    }

    #[test]
    fn f9_no_two_vcpus_ever_share_a_tag_between_flushes() {
        let mut pool = pool(0, 3);
        let mut vcpus = [None; 5];
        // Who has run under each tag since the last flush.
        let mut owners = [None; 4];
        let (mut x, mut given) = (1_u32, 0);
        for _ in 0..10_000 {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let n = (x >> 16) as usize % vcpus.len();
            if x >> 28 == 0 {
                vcpus[n] = None;
            }
            let (dropped, before) = (vcpus[n].is_none(), vcpus[n]);
            let (held, flush) = pool.hold(&mut vcpus[n]);
            if flush == Flush::All {
                owners = [None; 4];
            }
            let owner = owners[held.tag() as usize].replace(n);
            assert!(
                owner.is_none_or(|owner| owner == n && !dropped),
                "G1: a tag of another's, or one that was given up"
            );
            assert!((1..=3).contains(&held.tag()));
            given += u64::from(before != Some(held));
            assert_eq!(pool.given(), given);
        }
    }

    #[test]
    fn a_tag_of_another_cpu_is_none() {
        let (mut here, mut there) = (pool(0, 15), pool(1, 15));
        let mut held = None;
        let first = here.hold(&mut held).0;
        assert_eq!(there.hold(&mut held).1, Flush::All);
        // Back again: what is still cached here under the first tag is of before, and was not flushed with the vCPU
        // there.
        let (again, flush) = here.hold(&mut held);
        assert_ne!(again.tag(), first.tag());
        assert_eq!(flush, Flush::Nothing);
    }

    #[test]
    fn where_there_is_one_tag_each_change_flushes() {
        let mut pool = pool(0, 1);
        let (mut a, mut b) = (None, None);
        assert_eq!(pool.hold(&mut a).1, Flush::All);
        assert_eq!(pool.hold(&mut b).1, Flush::All);
        assert_eq!(pool.hold(&mut b).1, Flush::Nothing);
        assert_eq!(pool.hold(&mut a).1, Flush::All, "the same number, of an older generation");
    }
}
