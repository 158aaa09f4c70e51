//! What PAPR and Linux rely on of H_REGISTER_VPA and of what it registers.

use hv_core::addr::Gpa;

use crate::papr::Papr;
use crate::papr::double::{Calls as _, Double, MEMORY};
use crate::papr::hcall::Hcall;

const VPA: u64 = 0x1000;
const LOG: u64 = 0x2000;
const SLB: u64 = 0x3000;

fn vm() -> (Papr, Double) {
    let s = Double::new(2);
    s.poke(VPA + 4, &640_u16.to_be_bytes());
    s.poke(LOG + 4, &96_u32.to_be_bytes());
    s.poke(SLB + 4, &48_u32.to_be_bytes());
    (Papr::new(2).unwrap(), s)
}

fn register(p: &Papr, s: &Double, function: u64, vcpu: u64, address: u64) -> i64 {
    s.call(p, 0, Hcall::RegisterVpa as u64, &[function << 45, vcpu, address]).0[3] as i64
}

fn count(s: &Double) -> u32 {
    u32::from_be_bytes(s.peek(VPA + 0x100))
}

#[test]
fn the_area_says_that_processors_are_shared_and_whether_this_one_runs() {
    let (p, s) = vm();
    s.poke(VPA + 0x100, &[9; 4]);
    assert_eq!(register(&p, &s, 1, 0, VPA), 0);
    assert_eq!((s.peek::<1>(VPA + 9)[0], count(&s)), (2, 0));
    p.preempted(0, &s);
    assert_eq!(count(&s), 1);
    p.preempted(0, &s);
    assert_eq!(count(&s), 1, "odd means off, and it has not been on");
    p.dispatched(0, &s);
    p.dispatched(0, &s);
    assert_eq!(count(&s), 2);
}

#[test]
fn time_waited_counts_only_when_it_was_against_the_guests_will() {
    let (p, s) = vm();
    register(&p, &s, 1, 0, VPA);
    let off = |from: u64, to: u64| {
        s.set_now(from);
        p.preempted(0, &s);
        s.set_now(to);
        p.dispatched(0, &s);
        u64::from_be_bytes(s.peek(VPA + 0x158))
    };
    assert_eq!(off(100, 130), 30);
    s.call(&p, 0, Hcall::Cede as u64, &[]);
    assert_eq!(off(200, 900), 30);
    assert_eq!(off(1000, 1005), 35);
    assert_eq!(off(2000, 1990), 35, "a clock that goes back is no time");
}

#[test]
fn the_area_of_the_named_vcpu_is_kept_in_mind_until_it_is_given_up() {
    let (p, s) = vm();
    register(&p, &s, 1, 1, VPA);
    assert_eq!((s.kept(0), s.kept(1)), (None, Some(Gpa(VPA))));
    register(&p, &s, 2, 1, LOG);
    assert_eq!(register(&p, &s, 5, 1, 0), -16, "the log needs it");
    assert_eq!(s.kept(1), Some(Gpa(VPA)));
    register(&p, &s, 6, 1, 0);
    assert_eq!(register(&p, &s, 5, 1, 0), 0);
    assert_eq!(s.kept(1), None);
}

#[test]
fn nothing_is_written_once_the_area_is_given_up() {
    let (p, s) = vm();
    register(&p, &s, 1, 0, VPA);
    assert_eq!(register(&p, &s, 5, 0, 0), 0);
    p.preempted(0, &s);
    assert_eq!(count(&s), 0);
    register(&p, &s, 1, 0, VPA);
    assert_eq!(count(&s), 1, "it went on counting");
}

#[test]
fn wrong_areas_are_refused_and_not_used() {
    let (p, s) = vm();
    let end = MEMORY as u64;
    s.poke(0xf00 + 4, &640_u16.to_be_bytes());
    s.poke(0x5000 + 4, &639_u16.to_be_bytes());
    for address in [0, 0x1040, 0x1001, 0xf00, 0x5000, 0x6000, end, end - 64, u64::MAX - 127, 1 << 63] {
        assert_eq!(register(&p, &s, 1, 0, address), -4, "{address:#x}");
    }
    for (function, vcpu) in [(0, 0), (4, 0), (8, 0), (1, 2), (1, 0x10000), (1, u64::MAX)] {
        assert_eq!(register(&p, &s, function, vcpu, VPA), -4);
    }
    assert_eq!(s.call(&p, 0, Hcall::RegisterVpa as u64, &[1 << 45 | 1, 0, VPA]).0[3] as i64, -4);
    p.preempted(0, &s);
    assert_eq!(s.peek::<{ MEMORY - 8 }>(0)[9], 0);
    assert_eq!((count(&s), s.peek::<1>(VPA + 9)), (0, [0]));
}

#[test]
fn the_other_areas_need_the_first_and_keep_it() {
    let (p, s) = vm();
    assert_eq!(register(&p, &s, 2, 0, LOG), -16);
    assert_eq!(register(&p, &s, 3, 0, SLB), -16);
    register(&p, &s, 1, 0, VPA);
    for (area, address) in [(2, LOG), (3, SLB)] {
        assert_eq!(register(&p, &s, area, 0, address + 8), -4);
        assert_eq!(register(&p, &s, area, 0, 0x7000), -4, "its size is 0");
        assert_eq!(register(&p, &s, area, 0, MEMORY as u64), -4);
        assert_eq!(register(&p, &s, area, 0, address), 0);
        assert_eq!(register(&p, &s, 5, 0, 0), -16, "still in use");
        assert_eq!(register(&p, &s, area + 4, 0, 0), 0);
    }
    assert_eq!(register(&p, &s, 5, 0, 0), 0);
}

#[test]
fn the_trace_log_gets_the_entries_that_its_mask_asks_for() {
    let (p, s) = vm();
    register(&p, &s, 1, 0, VPA);
    register(&p, &s, 2, 0, LOG);
    let off_and_on = |from: u64| {
        s.set_now(from);
        p.preempted(0, &s);
        s.set_now(from + 7);
        p.dispatched(0, &s);
        u64::from_be_bytes(s.peek(VPA + 0x218))
    };
    assert_eq!(off_and_on(10), 0, "nothing is asked for");
    s.poke(VPA + 0xb8, &[2]);
    assert_eq!(off_and_on(20), 1);
    s.call(&p, 0, Hcall::Cede as u64, &[]);
    assert_eq!(off_and_on(30), 1, "cedes are not asked for");
    assert_eq!(off_and_on(40), 2);
    let entry: [u8; 48] = s.peek(LOG + 48);
    assert_eq!((entry[1], entry[7], entry[23]), (2, 7, 47));
    // The ring has two entries: the third is the first again.
    assert_eq!(off_and_on(50), 3);
    assert_eq!(s.peek::<1>(LOG + 23), [57]);
    assert_eq!(s.peek::<4>(LOG + 96), [0; 4]);
}

#[test]
fn r26_a_trace_log_that_lies_about_its_size_is_survived() {
    let (p, s) = vm();
    register(&p, &s, 1, 0, VPA);
    s.poke(VPA + 0xb8, &[3]);
    let at = MEMORY as u64 - 128;
    s.poke(at + 4, &u32::MAX.to_be_bytes());
    assert_eq!(register(&p, &s, 2, 0, at), 0);
    for _ in 0..5 {
        p.preempted(0, &s);
        p.dispatched(0, &s);
    }
    assert_eq!(u64::from_be_bytes(s.peek(VPA + 0x218)), 2, "what fits is written, the rest dropped");
}
