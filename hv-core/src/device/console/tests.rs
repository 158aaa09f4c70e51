//! The consoles against a port that is two queues.

use super::{Consoles, write_panic, write_refusal};
use crate::addr::GfnRange;
use crate::guest::lifecycle::Refused;
use crate::host::{Reclaimed, Survey};
use crate::link::{CommandResult, Decoder, Event, Frame, Item, LinkMode, MAX_PAYLOAD, Outcome, Stream, VmEnd, frames};
use crate::machine::{Console, Verdict};
use crate::monitor::{DirtyOrder, LINE_MAX, MemoryInfo, Operator, PageUse, VmInfo};
use crate::vcpu::exit::End;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use proptest::prelude::{any, prop_assert_eq, proptest};
use std::sync::Mutex;

#[derive(Default)]
struct Port {
    sent: Mutex<Vec<u8>>,
    typed: Mutex<Vec<u8>>,
}

impl Console for Port {
    fn write(&self, bytes: &[u8]) {
        self.sent.lock().unwrap().extend_from_slice(bytes);
    }
    fn read(&self, into: &mut [u8]) -> usize {
        let mut typed = self.typed.lock().unwrap();
        let len = typed.len().min(into.len());
        into[..len].copy_from_slice(&typed[..len]);
        typed.drain(..len);
        len
    }
}

impl Port {
    /// What was sent since the last call.
    fn sent(&self) -> Vec<u8> {
        core::mem::take(&mut self.sent.lock().unwrap())
    }
    fn text(&self) -> String {
        String::from_utf8(self.sent()).unwrap()
    }
    /// The payloads of what was sent, by stream, neighbours joined.
    fn streams(&self) -> Vec<(Option<Stream>, Vec<u8>)> {
        let mut seen: Vec<(Option<Stream>, Vec<u8>)> = Vec::new();
        let mut decoder = Decoder::new();
        let mut sink = |item: Item<'_>| {
            let (stream, bytes) = match item {
                Item::Raw(bytes) => (None, bytes),
                Item::Frame(stream, bytes) => (Some(stream), bytes),
            };
            match seen.last_mut() {
                Some((last, all)) if *last == stream => all.extend_from_slice(bytes),
                _ => seen.push((stream, bytes.to_vec())),
            }
        };
        decoder.feed(&self.sent(), &mut sink);
        decoder.finish(&mut sink);
        seen
    }
    fn type_in(&self, bytes: &[u8]) {
        self.typed.lock().unwrap().extend_from_slice(bytes);
    }
    fn frame_in(&self, stream: Stream, bytes: &[u8]) {
        frames(stream, bytes).for_each(|frame| self.type_in(frame.as_bytes()));
    }
}

fn make(mode: LinkMode) -> (&'static Port, Consoles) {
    let port: &'static Port = Box::leak(Box::default());
    (port, Consoles::new(port, mode, ["a", "b", "c"]))
}

fn input(consoles: &Consoles, vm: usize) -> Vec<u8> {
    let mut into = [0; 8192];
    let len = consoles.read(vm, &mut into);
    into[..len].to_vec()
}

/// Polls; the VMs that got input, and whether an order waits.
fn poll(consoles: &Consoles) -> (Vec<usize>, bool) {
    let mut woken = Vec::new();
    let order = consoles.poll(|vm| woken.push(vm));
    (woken, order)
}

/// Serves and polls until nothing is wanted any more; the results of all orders.
fn serve_all(consoles: &Consoles) -> Vec<CommandResult> {
    core::iter::from_fn(|| {
        consoles.poll(|_| ());
        consoles.serve(&Fake(consoles))
    })
    .collect()
}

/// VMs that do nothing, but one of which can be given the terminal.
struct Fake<'c>(&'c Consoles);

impl Operator for Fake<'_> {
    fn vms(&self) -> usize {
        3
    }
    fn vm_info(&self, _: usize) -> Option<VmInfo<'_>> {
        None
    }
    fn pages(&self, _: usize) -> Option<PageUse> {
        None
    }
    fn survey(&self, _: usize, _: GfnRange) -> Option<Survey> {
        None
    }
    fn memory(&self) -> MemoryInfo {
        MemoryInfo::default()
    }
    fn dirty(&self, _: usize, _: DirtyOrder, _: &mut dyn FnMut(GfnRange)) -> Result<u64, Refused> {
        Err(Refused::NotRunning)
    }
    fn reclaim(&self, _: usize, _: u64) -> Result<Reclaimed, Refused> {
        Err(Refused::NotRunning)
    }
    fn ticks_per_second(&self) -> u64 {
        1
    }
    fn stop(&self, _: usize) -> Result<(), Refused> {
        Err(Refused::Ended)
    }
    fn start(&self, _: usize) -> Result<(), Refused> {
        Ok(())
    }
    fn focus(&self, vm: usize) -> Result<(), Refused> {
        self.0.focus(vm)
    }
    fn power_off(&self) {}
}

#[test]
fn plain_bytes_pass_unchanged_both_ways() {
    let (port, consoles) = make(LinkMode::Plain);
    let all: Vec<u8> = (0..=255).collect();
    consoles.write(0, &all);
    assert_eq!(port.sent(), all);
    port.type_in(&all.iter().copied().filter(|key| *key != 1).collect::<Vec<_>>());
    assert_eq!(poll(&consoles), (vec![0], false));
    assert!(consoles.has_input(0) && !consoles.has_input(1));
    assert_eq!(input(&consoles, 0).len(), 255);
    assert!(!consoles.has_input(0));
    consoles.log(b"log");
    consoles.event(&Event::VmStarted(0));
    assert_eq!(port.sent(), b"", "neither log nor events disturb a bare terminal");
}

#[test]
fn one_vm_has_the_screen_and_the_others_wait_their_turn() {
    let (port, consoles) = make(LinkMode::Plain);
    consoles.write(1, b"from b\r\n");
    consoles.write(0, b"login: ");
    assert_eq!(port.text(), "login: ");
    port.type_in(b"x\x012y");
    assert_eq!(poll(&consoles), (vec![0, 1], false));
    assert_eq!((input(&consoles, 0), input(&consoles, 1)), (b"x".to_vec(), b"y".to_vec()));
    assert_eq!(port.text(), "\r\n[trivet] VM 2 b\r\nfrom b\r\n");
    consoles.write(1, b"more");
    assert_eq!(port.text(), "more");
    port.type_in(b"\x01n\x01n\x019\x01z\x01\x01");
    assert_eq!(poll(&consoles), (vec![0], false));
    let want = "\r\n[trivet] VM 3 c\r\n[trivet] VM 1 a\r\n[trivet] there is no VM 9\r\n\
                [trivet] no such key; Ctrl-A ? lists them\r\n";
    assert_eq!(port.text(), want);
    assert_eq!(input(&consoles, 0), b"\x01");
}

#[test]
fn the_newest_4_kib_of_a_hidden_vm_are_kept_in_order() {
    let (port, consoles) = make(LinkMode::Plain);
    let text: Vec<u8> = (0..10_000).map(|n| b'a' + (n % 23) as u8).collect();
    text.chunks(97).for_each(|part| consoles.write(1, part));
    assert_eq!(consoles.focus(1), Ok(()));
    let shown = port.text();
    let rest = shown.strip_prefix("[trivet] VM 2 b\r\n[trivet] 5904 bytes skipped\r\n").unwrap();
    assert_eq!(rest.as_bytes(), &text[5904..]);
    assert_eq!(consoles.focus(3), Err(Refused::NoSuchVm));
}

#[test]
fn the_monitor_at_a_terminal() {
    let (port, consoles) = make(LinkMode::Plain);
    consoles.write(0, b"# ");
    port.type_in(b"\x01mstop b\rfocus 2\rzz");
    assert_eq!(poll(&consoles), (vec![], true));
    let intro = "\r\n[trivet] monitor; \"help\" lists the commands, Ctrl-D leads back\r\ntrivet> stop b\r\n";
    assert_eq!(port.text(), ["# ", intro].concat());
    consoles.write(0, b"hidden");
    assert_eq!(poll(&consoles), (vec![], true), "and nothing behind it before it was served");
    assert_eq!(consoles.serve(&Fake(&consoles)), Some(CommandResult::Failed));
    assert_eq!(port.text(), "no VM \"b\"; \"list\" shows them\r\ntrivet> ");
    assert_eq!(consoles.serve(&Fake(&consoles)), None);
    consoles.say(format_args!("news"));
    assert_eq!(port.text(), "\r\n[trivet] news\r\ntrivet> ", "the prompt comes back");

    assert_eq!(poll(&consoles), (vec![], true));
    assert_eq!(consoles.serve(&Fake(&consoles)), Some(CommandResult::Done));
    assert_eq!(port.text(), "focus 2\r\n[trivet] VM 2 b\r\n", "no prompt: b has the terminal");
    assert_eq!(poll(&consoles), (vec![1], false));
    assert_eq!(input(&consoles, 1), b"zz", "typed after the command, so for whom it chose");

    port.type_in(b"\x01m\r\x03li\x01?\x04\x7f\x7f\x04\x011");
    assert_eq!(poll(&consoles), (vec![], false));
    let shown = port.text();
    assert!(shown.contains("Ctrl-A x       switch the machine off\r\n"), "{shown}");
    assert!(shown.ends_with("trivet> li\x08 \x08\x08 \x08\r\n[trivet] VM 2 b\r\n[trivet] VM 1 a\r\nhidden"), "{shown}");
    port.type_in(b"\x01x");
    assert_eq!(serve_all(&consoles), [CommandResult::Done]);
    assert_eq!(port.text(), "switching off\r\n");
}

#[test]
fn terminal_mode_is_the_same_in_frames() {
    let (port, consoles) = make(LinkMode::Terminal);
    consoles.write(0, &[7; 500]);
    consoles.log(b"\x01\x00");
    consoles.event(&Event::PoweringOff(Outcome::Success));
    port.frame_in(Stream::Terminal, b"ab");
    port.frame_in(Stream::Monitor, b"list\n");
    port.frame_in(Stream::Console(1), b"no");
    port.type_in(b"raw");
    assert_eq!(poll(&consoles), (vec![0], false));
    assert_eq!(input(&consoles, 0), b"abraw");
    let streams = port.streams();
    assert_eq!(streams[0], (Some(Stream::Terminal), vec![7; 500]));
    assert_eq!(streams[1], (Some(Stream::Log), b"\x01\x00".to_vec()));
    assert_eq!(Event::decode(&streams[2].1), Some(Event::PoweringOff(Outcome::Success)));
}

#[test]
fn split_mode_keeps_every_vm_apart_and_reports_commands() {
    let (port, consoles) = make(LinkMode::Split);
    consoles.write(0, b"one");
    consoles.write(2, b"two");
    consoles.write(0, b"three");
    consoles.say(format_args!("hello"));
    let want = [
        (Some(Stream::Console(0)), b"one".to_vec()),
        (Some(Stream::Console(2)), b"two".to_vec()),
        (Some(Stream::Console(0)), b"three".to_vec()),
        (Some(Stream::Terminal), b"[trivet] hello\r\n".to_vec()),
    ];
    assert_eq!(port.streams(), want);

    port.frame_in(Stream::Console(2), b"\x01m for c");
    port.frame_in(Stream::Console(9), b"for nobody");
    port.frame_in(Stream::Monitor, b"stop x\nli");
    port.frame_in(Stream::Monitor, b"st\n");
    port.type_in(b"noise\xff");
    assert_eq!(poll(&consoles), (vec![2], true));
    assert_eq!(input(&consoles, 2), b"\x01m for c", "no escape key in a stream of its own");
    assert_eq!(consoles.serve(&Fake(&consoles)), Some(CommandResult::Failed));
    let streams = port.streams();
    assert_eq!(streams[0], (Some(Stream::Monitor), b"no VM \"x\"; \"list\" shows them\n".to_vec()));
    assert_eq!(Event::decode(&streams[1].1), Some(Event::MonitorDone(CommandResult::Failed)));
    assert_eq!(serve_all(&consoles), [CommandResult::Done], "the command that came in two frames");
    assert_eq!(poll(&consoles), (vec![], false));
}

#[test]
fn many_commands_in_one_frame_and_one_too_long() {
    let (port, consoles) = make(LinkMode::Split);
    let lines = "list\n".repeat(MAX_PAYLOAD / 5 * 3);
    port.frame_in(Stream::Monitor, lines.as_bytes());
    port.frame_in(Stream::Monitor, "x".repeat(LINE_MAX + 1).as_bytes());
    port.frame_in(Stream::Monitor, b"\nhelp\n");
    let mut want = vec![CommandResult::Done; MAX_PAYLOAD / 5 * 3];
    want.extend([CommandResult::Failed, CommandResult::Done]);
    assert_eq!(serve_all(&consoles), want);
    let printed = port.streams().into_iter().filter(|(stream, _)| *stream == Some(Stream::Monitor));
    let printed: Vec<String> = printed.map(|(_, bytes)| String::from_utf8(bytes).unwrap()).collect();
    assert_eq!(printed[want.len() - 2], format!("the line is longer than {LINE_MAX} bytes\n"));
}

#[test]
fn unread_input_is_bounded_and_counted() {
    let (port, consoles) = make(LinkMode::Split);
    for _ in 0..30 {
        port.frame_in(Stream::Console(0), &[b'k'; 200]);
        poll(&consoles);
    }
    assert_eq!((input(&consoles, 0).len(), consoles.dropped(0)), (4096, 1904));
    port.frame_in(Stream::Console(0), b"stale");
    poll(&consoles);
    consoles.forget_input(0);
    assert!(!consoles.has_input(0) && input(&consoles, 0).is_empty());
}

#[test]
fn the_end_of_a_vm_is_told_to_person_and_program() {
    let (port, consoles) = make(LinkMode::Terminal);
    consoles.started(1);
    consoles.ended(1, End::GuestPanic, "Oops: 1");
    consoles.ended(0, End::Stopped, "");
    consoles.notice(2, "slow");
    consoles.powering_off(Verdict::Failure);
    let streams = port.streams();
    let events = streams.iter().filter(|(s, _)| *s == Some(Stream::Event));
    let events: Vec<_> = events.filter_map(|(_, bytes)| Event::decode(bytes)).collect();
    // The first two frames are neighbours, and joined here.
    assert_eq!(events, [Event::VmStarted(1), Event::VmEnded(0, VmEnd::Stopped), Event::PoweringOff(Outcome::Failure)]);
    let shown = streams.iter().filter(|(s, _)| *s == Some(Stream::Terminal)).flat_map(|(_, bytes)| bytes.clone());
    let want = "[trivet] VM b has ended: its operating system failed: Oops: 1\r\n\
                [trivet] VM a has ended: stopped by the operator\r\n[trivet] VM c: slow\r\n";
    assert_eq!(String::from_utf8(shown.collect()).unwrap(), want);
    assert!(consoles.has_operator() && !make(LinkMode::Split).1.has_operator());
}

/// A panic may come while this very CPU is sending.
#[test]
fn a_panic_waits_for_no_lock_and_is_understood() {
    for mode in [LinkMode::Plain, LinkMode::Terminal, LinkMode::Split] {
        let (port, consoles) = make(mode);
        let frame = Frame::new(Stream::Log, b"some log").unwrap();
        let held = consoles.desk.lock();
        let keys = consoles.keys.lock();
        if mode != LinkMode::Plain {
            port.write(&frame.as_bytes()[..5]);
        }
        consoles.panic(&format_args!("at x.rs:1\nlong {}", "y".repeat(500)));
        drop((held, keys));
        let streams = port.streams();
        let raw: Vec<u8> = streams.iter().filter(|(s, _)| s.is_none()).flat_map(|(_, bytes)| bytes.clone()).collect();
        assert!(String::from_utf8_lossy(&raw).contains("\nTRIVET PANIC: at x.rs:1\r\nlong yyy"), "{mode:?}");
        let events: Vec<_> = streams.iter().filter(|(s, _)| *s == Some(Stream::Event)).collect();
        assert_eq!(events.len(), usize::from(mode != LinkMode::Plain));
        for (_, event) in events {
            assert!(matches!(Event::decode(event), Some(Event::Panic(text)) if text.len() == Event::MAX_TEXT));
        }
    }
}

#[test]
fn a_refusal_reaches_a_person_and_xtask_when_nobody_knows_which_is_there() {
    let port: &'static Port = Box::leak(Box::default());
    write_refusal(port, None, &"the bundle is bad");
    let streams = port.streams();
    assert_eq!(streams[0], (None, b"\r\nTRIVET REFUSES: the bundle is bad\r\n".to_vec()));
    assert_eq!(Event::decode(&streams[1].1), Some(Event::Refused("the bundle is bad")));
    write_panic(port, Some(LinkMode::Plain), &"early");
    assert_eq!(port.text(), "\r\nTRIVET PANIC: early\r\n");
}

proptest! {
    /// R26: no bytes from the wire may panic, and what is typed for a VM arrives as it was sent.
    #[test]
    fn any_bytes_from_the_port_are_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000), mode in 0..3,
        keys in proptest::collection::vec(2_u8..255, 1..200),
    ) {
        let mode = [LinkMode::Plain, LinkMode::Terminal, LinkMode::Split][mode as usize];
        let (port, consoles) = make(mode);
        port.type_in(&bytes);
        // Ends whatever frame the bytes have begun, and whatever escape.
        port.type_in(&[0]);
        port.frame_in(Stream::Terminal, b"z");
        port.type_in(b"z");
        serve_all(&consoles);
        (0..3).for_each(|vm| consoles.forget_input(vm));
        let vm = match mode {
            LinkMode::Plain => {
                port.type_in(b"\x012");
                port.type_in(&keys);
                1
            }
            LinkMode::Terminal => {
                port.frame_in(Stream::Terminal, b"\x013");
                port.frame_in(Stream::Terminal, &keys);
                2
            }
            LinkMode::Split => {
                port.frame_in(Stream::Console(0), &keys);
                0
            }
        };
        serve_all(&consoles);
        prop_assert_eq!(input(&consoles, vm), keys);
    }
}
