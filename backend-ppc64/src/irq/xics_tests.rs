//! What a guest may rely on of the interrupt controller.

use super::{FIRST_SOURCE, IPI, LEAST_FAVOURED, Route, Unknown, Xics};

const VTY: u32 = FIRST_SOURCE;

/// Two servers open for everything; the first source goes to server 1 at priority 5.
fn open() -> Xics {
    let xics = Xics::new(2, 2).unwrap();
    for server in 0..2 {
        xics.set_cppr(server, LEAST_FAVOURED).unwrap();
    }
    xics.set_route(VTY, Route { server: 1, priority: 5 }).unwrap();
    xics
}

#[test]
fn an_edge_is_presented_once_and_only_to_its_server() {
    let xics = open();
    assert_eq!(xics.raise(VTY), Ok(Some(1)));
    assert!(xics.pending(1) && !xics.pending(0));
    assert_eq!(xics.accept(0), Ok(0xff00_0000));
    assert_eq!(xics.accept(1), Ok(0xff00_0000 | VTY));
    assert!(!xics.pending(1));
    // Spurious: the CPPR is now that of the interrupt in service.
    assert_eq!(xics.accept(1), Ok(0x0500_0000));
}

#[test]
fn an_edge_during_service_comes_back_at_the_end_of_interrupt() {
    let xics = open();
    xics.raise(VTY).unwrap();
    xics.accept(1).unwrap();
    assert_eq!(xics.raise(VTY), Ok(None));
    assert!(!xics.pending(1));
    xics.set_cppr(1, LEAST_FAVOURED).unwrap();
    assert!(xics.pending(1));
    assert_eq!(xics.accept(1), Ok(0xff00_0000 | VTY));
}

#[test]
fn an_edge_while_masked_is_kept_until_unmasked() {
    let xics = open();
    xics.mask(VTY).unwrap();
    xics.mask(VTY).unwrap();
    assert_eq!(xics.route(VTY), Ok(Route { server: 1, priority: LEAST_FAVOURED }));
    assert_eq!(xics.raise(VTY), Ok(None));
    assert_eq!(xics.unmask(VTY), Ok(Some(1)));
    assert_eq!(xics.route(VTY), Ok(Route { server: 1, priority: 5 }));
    assert_eq!(xics.accept(1), Ok(0xff00_0000 | VTY));
}

#[test]
fn masking_withdraws_what_was_not_yet_taken() {
    let xics = open();
    xics.raise(VTY).unwrap();
    xics.mask(VTY).unwrap();
    assert!(!xics.pending(1));
    assert_eq!(xics.accept(1), Ok(0xff00_0000));
}

#[test]
fn what_is_latched_follows_a_change_of_route() {
    let xics = open();
    xics.raise(VTY).unwrap();
    assert_eq!(xics.set_route(VTY, Route { server: 0, priority: 6 }), Ok(Some(0)));
    assert!(xics.pending(0) && !xics.pending(1));
    assert_eq!(xics.accept(0), Ok(0xff00_0000 | VTY));
}

#[test]
fn the_more_favoured_goes_first_and_shuts_out_the_rest() {
    let xics = open();
    xics.raise(VTY).unwrap();
    assert_eq!(xics.set_mfrr(1, 4), Ok(Some(1)));
    assert_eq!(xics.accept(1), Ok(0xff00_0000 | IPI));
    // The inter-processor interrupt is still requested, but neither it nor the source is above CPPR 4.
    assert!(!xics.pending(1));
    assert_eq!(xics.set_mfrr(1, LEAST_FAVOURED), Ok(None));
    xics.set_cppr(1, LEAST_FAVOURED).unwrap();
    assert_eq!(xics.accept(1), Ok(0xff00_0000 | VTY));
}

#[test]
fn an_ipi_stays_until_its_request_is_reset() {
    let xics = open();
    assert_eq!(xics.set_mfrr(0, 4), Ok(Some(0)));
    xics.accept(0).unwrap();
    xics.set_cppr(0, LEAST_FAVOURED).unwrap();
    assert!(xics.pending(0));
    xics.set_mfrr(0, LEAST_FAVOURED).unwrap();
    assert!(!xics.pending(0));
}

#[test]
fn cppr_is_a_strict_bound() {
    let xics = open();
    for (cppr, taken) in [(4, false), (5, false), (6, true)] {
        xics.raise(VTY).unwrap();
        xics.set_cppr(1, cppr).unwrap();
        assert_eq!(xics.pending(1), taken, "cppr {cppr}");
    }
    let poll = xics.poll(1).unwrap();
    assert_eq!((poll.xirr, poll.mfrr), (0x0600_0000 | VTY, LEAST_FAVOURED));
    assert!(xics.pending(1), "polling takes nothing");
}

#[test]
fn a_new_controller_interrupts_nobody() {
    let xics = Xics::new(1, 1).unwrap();
    assert_eq!(xics.raise(VTY), Ok(None));
    assert_eq!(xics.set_mfrr(0, 0), Ok(None));
    assert!(!xics.pending(0));
}

#[test]
fn r26_unknown_servers_and_sources_change_nothing() {
    let xics = open();
    for number in [0, 1, IPI, FIRST_SOURCE - 1, FIRST_SOURCE + 2, u32::MAX] {
        assert_eq!(xics.raise(number), Err(Unknown));
        assert_eq!(xics.route(number), Err(Unknown));
        assert_eq!(xics.mask(number), Err(Unknown));
        assert_eq!(xics.unmask(number), Err(Unknown));
        assert_eq!(xics.set_route(number, Route { server: 0, priority: 1 }), Err(Unknown));
    }
    for server in [2, u16::MAX] {
        assert_eq!(xics.accept(server), Err(Unknown));
        assert_eq!(xics.set_cppr(server, 0), Err(Unknown));
        assert_eq!(xics.set_mfrr(server, 0), Err(Unknown));
        assert_eq!(xics.poll(server), Err(Unknown));
        assert_eq!(xics.set_route(VTY, Route { server, priority: 1 }), Err(Unknown));
        assert!(!xics.pending(server));
    }
    assert_eq!(xics.route(VTY), Ok(Route { server: 1, priority: 5 }));
}

/// No edge is lost and none is invented, whatever servers do meanwhile: each raise is followed by exactly one accept
/// unless another raise came first.
#[test]
fn edges_are_neither_lost_nor_invented_by_many_cpus() {
    extern crate std;
    use hv_core::sync::{AtomicU32, Ordering};

    let xics = open();
    let (raised, taken) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..2000_u16 {
                // Waits for the last one to be taken, so that the counts must agree.
                while raised.load(Ordering::SeqCst) != taken.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                raised.fetch_add(1, Ordering::SeqCst);
                xics.raise(VTY).unwrap();
                xics.set_route(VTY, Route { server: round % 2, priority: 5 }).unwrap();
                xics.set_mfrr(round % 2, 4).unwrap();
            }
        });
        for server in 0..2 {
            let (xics, raised, taken) = (&xics, &raised, &taken);
            scope.spawn(move || {
                while taken.load(Ordering::SeqCst) < 2000 {
                    let xirr = xics.accept(server).unwrap();
                    match xirr & 0x00ff_ffff {
                        0 => std::thread::yield_now(),
                        IPI => {
                            xics.set_mfrr(server, LEAST_FAVOURED).unwrap();
                        }
                        number => {
                            assert_eq!(number, VTY);
                            let before = taken.fetch_add(1, Ordering::SeqCst);
                            assert!(before < raised.load(Ordering::SeqCst), "invented");
                        }
                    }
                    xics.set_cppr(server, (xirr >> 24) as u8).unwrap();
                }
            });
        }
    });
    assert_eq!(raised.into_inner(), taken.into_inner());
}
