//! The tags of each CPU's translation caches ([`crate::tags`]).

use alloc::vec::Vec;
use core::num::NonZeroU16;

use hv_core::heap::list;
use hv_core::machine::CpuId;
use hv_core::sync::Mutex;

use crate::features::{Extension, Features};
use crate::tags::{Flush, Held, Pool};

/// One CPU's, in its own cache line. Nobody else takes the lock but for statistics.
#[derive(Debug)]
#[repr(align(128))]
struct Own(Mutex<Pool>);

/// The pools of all CPUs.
#[derive(Debug)]
pub struct Tagged(Vec<Own>);

/// How many tags a processor has: ASIDs but the host's, or VPIDs but 0.
fn last(features: &Features) -> NonZeroU16 {
    let last = match features.extension {
        Extension::Svm { asids, .. } => asids.saturating_sub(1),
        Extension::Vmx { .. } => u16::MAX.into(),
    };
    NonZeroU16::new(u16::try_from(last).unwrap_or(u16::MAX)).unwrap_or(NonZeroU16::MIN)
}

impl Tagged {
    /// Those of so many processors with these features. `None` if there is no heap for them.
    #[must_use]
    pub fn new(cpus: usize, features: &Features) -> Option<Self> {
        let last = last(features);
        list(cpus, |n| Some(Own(Mutex::new(Pool::new(CpuId(n as u16), last))))).map(Self)
    }

    /// The tag of the vCPU that holds `held` on CPU `cpu`, the caller; and what to flush before it is used.
    #[inline]
    pub fn hold(&self, cpu: CpuId, held: &mut Option<Held>) -> (Held, Flush) {
        // Only CPUs that there are have a number.
        self.0[usize::from(cpu.0)].0.lock().hold(held)
    }

    /// [`hv_core::machine::Machine::tags`].
    #[must_use]
    pub fn count(&self) -> [u64; 2] {
        self.0.iter().fold([0, 0], |[_, given], own| {
            let pool = own.0.lock();
            [pool.size(), given + pool.given()]
        })
    }
}

#[cfg(test)]
mod tests {
    use hv_core::machine::CpuId;

    use super::{Tagged, last};
    use crate::features::{Cpuid, msr};
    use crate::features::{EptVpid, Extension, Features, Svm};
    use crate::tags::Flush;

    fn svm(asids: u32) -> Features {
        let id =
            Cpuid { extended1_ecx: 1 << 2, extended1_edx: 1 << 20, svm_ebx: asids, svm_edx: 1, ..Cpuid::default() };
        Features::of(&id, |_| 0).unwrap()
    }

    #[test]
    fn tags_are_as_many_as_the_processor_has_without_the_hosts() {
        assert_eq!((last(&svm(2)).get(), last(&svm(16)).get()), (1, 15));
        assert_eq!((last(&svm(0x8000)).get(), last(&svm(u32::MAX)).get()), (0x7fff, u16::MAX));
        let id = Cpuid { leaf1_ecx: 1 << 5, extended1_edx: 1 << 20, ..Cpuid::default() };
        let all = |register| if register == msr::FEATURE_CONTROL { 5 } else { u64::MAX };
        let vmx = Features::of(&id, all).unwrap();
        assert!(matches!(vmx.extension, Extension::Vmx { has, .. } if has.contains(EptVpid::INVVPID)));
        assert_eq!(last(&vmx).get(), u16::MAX);
        assert!(matches!(svm(2).extension, Extension::Svm { has: Svm::NESTED_PAGING, .. }));
    }

    #[test]
    fn each_cpu_has_its_own() {
        let tagged = Tagged::new(2, &svm(16)).unwrap();
        let mut held = None;
        let (first, flush) = tagged.hold(CpuId(0), &mut held);
        assert_eq!((first.tag(), flush), (1, Flush::All));
        assert_eq!(tagged.hold(CpuId(0), &mut held), (first, Flush::Nothing));
        assert_eq!(tagged.count(), [15, 1]);
        assert_eq!(tagged.hold(CpuId(1), &mut held).1, Flush::All);
        assert_eq!(tagged.count(), [15, 2]);
    }
}
