//! The guests of a guest, on threads: what no case of one CPU can see.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use backend_ppc64::nested_host::children::{Limits, Nest};
use backend_ppc64::nested_host::copy::{Refused, Request};
use backend_ppc64::nested_host::tlbie::Reach;
use hv_core::machine::Machine;

use super::{ONE, on_machine};
use crate::Trapping;

/// L1 may use a page for something else when an invalidation of it has returned; no copy by the old tables may come then.
#[test]
fn g1_an_invalidation_waits_for_a_copy() {
    on_machine(|m, _| {
        let nest = Nest::<Trapping>::new(Limits { vcpus: 1, pages: 1024 }).expect("heap");
        let (copying, invalidated) = (AtomicBool::new(false), AtomicBool::new(false));
        scope(|threads| {
            threads.spawn(|| {
                let cpu = m.epoch().cpu(ONE).expect("nobody is there");
                while !copying.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                nest.invalidate(&cpu, m, Reach::All, |_| Ok(None)).expect("nothing to read");
                invalidated.store(true, Ordering::Release);
            });
            let request = Request::new([7, 0, 0, 0x1000, 0, 8]).expect("a request");
            let none = |_, _: &mut [u8]| panic!("there is nothing to read");
            let copied = nest.copy(&none, &|_, _| panic!("nor to write"), &request, |_| {
                copying.store(true, Ordering::Release);
                sleep(Duration::from_millis(50));
                assert!(!invalidated.load(Ordering::Acquire), "the invalidation did not wait");
                Ok(None)
            });
            assert_eq!(copied, Err(Refused::NoGuest));
        });
        assert!(invalidated.into_inner());
    });
}
