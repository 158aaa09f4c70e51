//! Firmware calls as a guest makes them: through the block in its memory.

use hv_core::vcpu::exit::{End, Next};

use super::token::{ALL, Token};
use crate::papr::double::{Calls as _, Double, MEMORY};
use crate::papr::hcall::Hcall;
use crate::papr::{Papr, VTY_SOURCE};

const AT: u64 = 0x4000;

fn vm() -> (Papr, Double) {
    (Papr::new(3).unwrap(), Double::new(3))
}

fn raw(p: &Papr, s: &Double, token: u32, nret: u32, args: &[u32]) -> (Vec<i32>, Next) {
    let header = [token, args.len() as u32, nret];
    let cells: Vec<u8> = header.iter().chain(args).flat_map(|c| c.to_be_bytes()).collect();
    s.poke(AT, &cells);
    let rets = AT + cells.len() as u64;
    s.poke(rets, &[0xee; 80]);
    let (r, next) = s.call(p, 0, Hcall::Rtas as u64, &[AT]);
    assert_eq!(r[3], 0);
    let after: [u8; 80] = s.peek(rets);
    assert!(after[4 * nret as usize..].iter().all(|&b| b == 0xee), "wrote more results than asked for");
    let results = after.as_chunks::<4>().0[..nret as usize].iter().map(|c| i32::from_be_bytes(*c));
    (results.collect(), next)
}

fn call(p: &Papr, s: &Double, token: Token, args: &[u32]) -> (Vec<i32>, Next) {
    raw(p, s, token as u32, token.cells().1 as u32, args)
}

#[test]
fn unknown_tokens_and_wrong_arity_are_parameter_errors() {
    let (p, s) = vm();
    for token in [0, 1, 0x1fff, Token::IntOff as u32 + 1, u32::MAX] {
        assert_eq!(raw(&p, &s, token, 2, &[1, 2]), (vec![-3, 0], Next::Resume));
    }
    for token in ALL {
        let (nargs, nret) = token.cells();
        assert_eq!(raw(&p, &s, token as u32, nret as u32 + 1, &vec![0; nargs]).0[0], -3, "{token:?}");
        assert_eq!(raw(&p, &s, token as u32, nret as u32, &vec![0; nargs + 1]).0[0], -3, "{token:?}");
        assert_eq!(raw(&p, &s, token as u32, 0, &vec![0; nargs]).1, Next::Resume);
    }
    assert!(s.printed().is_empty() && s.starts().is_empty());
}

#[test]
fn r26_blocks_that_cannot_be_are_refused() {
    let (p, s) = vm();
    let end = MEMORY as u64;
    let refused = |at: u64| s.call(&p, 0, Hcall::Rtas as u64, &[at]).0[3] as i64;
    for at in [end, end - 8, u64::MAX, u64::MAX >> 4, 1 << 59] {
        assert_eq!(refused(at), -4, "{at:#x}");
    }
    for (nargs, nret) in [(17_u32, 1_u32), (0, 17), (u32::MAX, u32::MAX), (0x4000_0000, 0)] {
        s.poke(AT + 4, &nargs.to_be_bytes());
        s.poke(AT + 8, &nret.to_be_bytes());
        assert_eq!(refused(AT), -4);
    }
    // Readable to the last byte, but there is no room for the result.
    s.poke(end - 12, &(Token::EventScan as u32).to_be_bytes());
    s.poke(end - 4, &1_u32.to_be_bytes());
    assert_eq!(refused(end - 12), -4);
}

#[test]
fn the_top_of_the_address_is_not_part_of_it() {
    let (p, s) = vm();
    s.poke(AT, &(Token::SystemReboot as u32).to_be_bytes());
    s.poke(AT + 8, &1_u32.to_be_bytes());
    let (r, next) = s.call(&p, 0, Hcall::Rtas as u64, &[0xf << 60 | AT]);
    assert_eq!((r[3], next), (0, Next::End(End::Reboot)));
}

#[test]
fn the_machine_ends_as_asked() {
    let (p, s) = vm();
    assert_eq!(call(&p, &s, Token::PowerOff, &[!0, !0]), (vec![0], Next::End(End::PowerOff)));
    assert_eq!(call(&p, &s, Token::PowerOffUps, &[]), (vec![0], Next::End(End::PowerOff)));
    assert_eq!(call(&p, &s, Token::SystemReboot, &[]), (vec![0], Next::End(End::Reboot)));
}

#[test]
fn last_words_are_kept_up_to_their_end_or_the_end_of_memory() {
    let (p, s) = vm();
    s.poke(0x2ffd, b"panic: no init\0after");
    assert_eq!(call(&p, &s, Token::OsTerm, &[0x2ffd]), (vec![0], Next::End(End::GuestPanic)));
    assert_eq!(s.last_words_said(), b"panic: no init");
    let s = Double::new(3);
    s.poke(0x7000, &[b'x'; 0x1000]);
    call(&p, &s, Token::OsTerm, &[0x7000]);
    assert_eq!(s.last_words_said(), [b'x'; 512]);
    let s = Double::new(3);
    s.poke(MEMORY as u64 - 5, b"Linux");
    call(&p, &s, Token::OsTerm, &[MEMORY as u32 - 5]);
    assert_eq!(s.last_words_said(), b"Linux");
    assert_eq!(call(&p, &s, Token::OsTerm, &[u32::MAX]).1, Next::End(End::GuestPanic));
}

#[test]
fn the_clock_is_each_vms_own() {
    let ((p, s), other) = (vm(), Papr::new(1).unwrap());
    s.set_wall_clock(1_000_000_000);
    let now = |p: &Papr| call(p, &s, Token::GetTimeOfDay, &[]).0;
    assert_eq!(now(&p), [0, 2001, 9, 9, 1, 46, 40, 0]);
    assert_eq!(call(&p, &s, Token::SetTimeOfDay, &[1999, 12, 31, 23, 59, 58, 1]).0, [0]);
    s.set_wall_clock(1_000_000_003);
    assert_eq!(now(&p), [0, 2000, 1, 1, 0, 0, 1, 0]);
    assert_eq!(now(&other), [0, 2001, 9, 9, 1, 46, 43, 0]);
    assert_eq!(call(&p, &s, Token::SetTimeOfDay, &[2000, 2, 30, 0, 0, 0, 0]).0, [-3]);
    assert_eq!(call(&p, &s, Token::SetTimeOfDay, &[2000, 2, 1, 0, 0, 0, 1_000_000_000]).0, [-3]);
    assert_eq!(now(&p)[1], 2000);
    s.set_wall_clock(u64::MAX);
    assert_eq!(now(&other)[0], -1);
}

#[test]
fn processors_start_where_they_are_told_and_only_once() {
    let (p, s) = vm();
    let state = |n| call(&p, &s, Token::QueryCpuStoppedState, &[n]).0;
    assert_eq!((state(0), state(2), state(3)), (vec![0, 2], vec![0, 0], vec![-3, 0]));
    assert_eq!(call(&p, &s, Token::StartCpu, &[2, 0x60, 2]), (vec![0], Next::Resume));
    assert_eq!(call(&p, &s, Token::StartCpu, &[2, 0x60, 2]).0, [-1]);
    assert_eq!(call(&p, &s, Token::StartCpu, &[0x10001, 0x60, 2]).0, [-3]);
    assert_eq!(state(2), [0, 2]);
    let [(2, at)] = s.starts()[..] else { panic!("started the wrong one") };
    assert_eq!((at.entry.0, at.args, at.big_endian), (0x60, [2, 0, 0, 0], true));
}

#[test]
fn stop_self_returns_to_nobody() {
    let (p, s) = vm();
    s.poke(AT, &(Token::StopSelf as u32).to_be_bytes());
    s.poke(AT + 8, &[0, 0, 0, 1, 0xee, 0xee, 0xee, 0xee]);
    let (_, next) = s.call(&p, 1, Hcall::Rtas as u64, &[AT]);
    assert_eq!((next, s.peek(AT + 12)), (Next::StopSelf, [0xee; 4]));
}

#[test]
fn interrupt_sources_are_routed_masked_and_reported() {
    let (p, s) = vm();
    s.call(&p, 1, Hcall::Cppr as u64, &[0xff]);
    let set = |args: &[u32]| call(&p, &s, Token::SetXive, args).0;
    assert_eq!(set(&[VTY_SOURCE, 1, 5]), [0]);
    assert_eq!(call(&p, &s, Token::GetXive, &[VTY_SOURCE]).0, [0, 1, 5]);
    assert_eq!(call(&p, &s, Token::IntOff, &[VTY_SOURCE]).0, [0]);
    assert_eq!(call(&p, &s, Token::GetXive, &[VTY_SOURCE]).0, [0, 1, 255]);
    assert_eq!(p.xics.raise(VTY_SOURCE), Ok(None));
    assert_eq!(call(&p, &s, Token::IntOn, &[VTY_SOURCE]).0, [0]);
    assert!(s.woken(1) && p.interrupt(1), "what came while it was off must wake its server");
    for bad in [[VTY_SOURCE + 1, 1, 5], [2, 1, 5], [VTY_SOURCE, 3, 5], [VTY_SOURCE, 0x10001, 5], [VTY_SOURCE, 1, 256]] {
        assert_eq!(set(&bad), [-3], "{bad:?}");
    }
    for token in [Token::IntOn, Token::IntOff] {
        assert_eq!(call(&p, &s, token, &[2]).0, [-3]);
    }
    assert_eq!(call(&p, &s, Token::GetXive, &[0]).0, [-3, 0, 0]);
    assert_eq!(call(&p, &s, Token::GetXive, &[VTY_SOURCE]).0, [0, 1, 5]);
}

#[test]
fn nothing_ever_happens_to_this_hardware() {
    let (p, s) = vm();
    assert_eq!(call(&p, &s, Token::EventScan, &[!0, 0, 0x1000, 2048]).0, [1]);
    assert_eq!(call(&p, &s, Token::CheckException, &[0x500, 0, !0, 0, 0x1000, 2048]).0, [1]);
}

#[test]
fn the_operators_panel_is_the_console() {
    let (p, s) = vm();
    for c in "ok\r\n".bytes() {
        assert_eq!(call(&p, &s, Token::DisplayCharacter, &[c.into()]).0, [0]);
    }
    assert_eq!(s.printed(), b"ok\r\n");
}

#[test]
fn system_parameters_fit_the_buffer_or_are_cut() {
    let (p, s) = vm();
    let get = |parameter, at, len| call(&p, &s, Token::GetSystemParameter, &[parameter, at, len]).0[0];
    let text = b"MaxEntCap=3,DesProcs=3,MaxPlatProcs=3\0";
    assert_eq!(get(20, 0x1000, 4000), 0);
    assert_eq!((s.peek(0x1000), &s.peek::<38>(0x1002)), ([0, 38], text));
    assert_eq!(get(20, 0x2000, 5), 0);
    assert_eq!(s.peek(0x2000), [0, 38, b'M', b'a', b'x', 0]);
    assert_eq!(get(20, 0x1000, 1), -9999);
    assert_eq!(get(20, 0x1000, 0), -9999);
    assert_eq!(get(20, MEMORY as u32 - 10, 100), -9999);
    assert_eq!(get(44, 0x1000, 4000), -3);
}
