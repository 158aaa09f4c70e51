//! Tests of the console protocol.

use super::{Decoder, Event, Frame, Item, MAX_PAYLOAD, Outcome, Stream, VmEnd, frames};
use alloc::vec::Vec;
use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};

#[derive(Debug, PartialEq, Eq, Clone)]
enum Seen {
    Raw(Vec<u8>),
    Frame(Stream, Vec<u8>),
}

/// Decodes `bytes` in pieces of `piece`; neighbouring raw text is joined.
fn decode(bytes: &[u8], piece: usize) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    let mut decoder = Decoder::new();
    let mut sink = |item: Item<'_>| match (item, seen.last_mut()) {
        (Item::Raw(more), Some(Seen::Raw(text))) => text.extend_from_slice(more),
        (Item::Raw(text), _) => seen.push(Seen::Raw(text.to_vec())),
        (Item::Frame(stream, payload), _) => seen.push(Seen::Frame(stream, payload.to_vec())),
    };
    for part in bytes.chunks(piece.max(1)) {
        decoder.feed(part, &mut sink);
    }
    decoder.finish(&mut sink);
    seen
}

fn wire(stream: Stream, payload: &[u8]) -> Vec<u8> {
    Frame::new(stream, payload).map(|frame| frame.as_bytes().to_vec()).unwrap_or_default()
}

#[test]
fn stream_bytes_are_one_to_one() {
    for byte in 0..=255 {
        if let Some(stream) = Stream::from_byte(byte) {
            assert_eq!(stream.to_byte(), Some(byte));
        }
    }
    assert_eq!(Stream::Console(16).to_byte(), None);
}

#[test]
fn raw_text_before_between_and_after_frames_survives() {
    let mut bytes = b"SLOF\r\n".to_vec();
    bytes.extend(wire(Stream::Terminal, b"a\0b"));
    bytes.extend(b"text");
    bytes.extend(wire(Stream::Console(3), b"x"));
    bytes.extend(wire(Stream::Log, b"y"));
    bytes.extend(b"end");
    let want = [
        Seen::Raw(b"SLOF\r\n".to_vec()),
        Seen::Frame(Stream::Terminal, b"a\0b".to_vec()),
        Seen::Raw(b"text".to_vec()),
        Seen::Frame(Stream::Console(3), b"x".to_vec()),
        Seen::Frame(Stream::Log, b"y".to_vec()),
        Seen::Raw(b"end".to_vec()),
    ];
    for piece in 1..40 {
        assert_eq!(decode(&bytes, piece), want);
    }
}

#[test]
fn a_panic_in_the_middle_of_a_frame_is_shown() {
    let mut bytes = wire(Stream::Terminal, b"hello hello hello");
    bytes.truncate(8);
    bytes.extend(b"\r\nTRIVET PANIC at x.rs:1\r\n");
    let seen = decode(&bytes, 5);
    let [Seen::Raw(text)] = seen.as_slice() else { panic!("one piece of raw text: {seen:?}") };
    assert!(text.windows(12).any(|part| part == super::PANIC_MARK.as_bytes()));
}

#[test]
fn a_lost_delimiter_costs_one_frame() {
    for lost in [0, 9] {
        let mut bytes = wire(Stream::Terminal, b"first");
        let at = if lost == 0 { 0 } else { bytes.len() - 1 };
        bytes.remove(at);
        bytes.extend(wire(Stream::Monitor, b"second"));
        bytes.extend(wire(Stream::Monitor, b"third"));
        let seen = decode(&bytes, 7);
        assert_eq!(seen.last(), Some(&Seen::Frame(Stream::Monitor, b"third".to_vec())), "{seen:?}");
    }
}

#[test]
fn unframeable_payloads_are_refused() {
    assert!(Frame::new(Stream::Log, &[]).is_none());
    assert!(Frame::new(Stream::Log, &[1; MAX_PAYLOAD]).is_some());
    assert!(Frame::new(Stream::Log, &[1; MAX_PAYLOAD + 1]).is_none());
    assert!(Frame::new(Stream::Console(99), b"x").is_none());
}

#[test]
fn the_longest_event_fits_a_frame() {
    let long = "ä".repeat(500);
    let text = Event::fit(&long);
    assert_eq!(text.len(), Event::MAX_TEXT);
    for event in [
        Event::VmEnded(15, VmEnd::GuestPanic(text)),
        Event::Refused(text),
        Event::Panic(text),
        Event::Booted { cpus: u16::MAX, memory: u64::MAX, own: u64::MAX },
        Event::PoweringOff(Outcome::Failure),
    ] {
        let frame = Frame::event(&event).unwrap_or_else(|| panic!("{event:?}"));
        let seen = decode(frame.as_bytes(), 3);
        let [Seen::Frame(Stream::Event, payload)] = seen.as_slice() else { panic!("one event: {seen:?}") };
        assert_eq!(Event::decode(payload), Some(event));
    }
}

proptest! {
    /// What is framed comes back, in order, however the bytes are cut.
    #[test]
    fn streams_round_trip(
        parts in proptest::collection::vec((0u8..20).prop_flat_map(|s| (proptest::strategy::Just(s),
            proptest::collection::vec(any::<u8>(), 1..600))), 0..8),
        piece in 1usize..300,
    ) {
        let mut bytes = Vec::new();
        let mut want: Vec<(u8, Vec<u8>)> = Vec::new();
        for (number, payload) in &parts {
            let Some(stream) = Stream::from_byte(*number) else { continue };
            for frame in frames(stream, payload) {
                bytes.extend_from_slice(frame.as_bytes());
            }
            match want.last_mut() {
                Some((last, text)) if last == number => text.extend(payload),
                _ => want.push((*number, payload.clone())),
            }
        }
        let mut got: Vec<(u8, Vec<u8>)> = Vec::new();
        for seen in decode(&bytes, piece) {
            let Seen::Frame(stream, payload) = seen else { panic!("raw text from nowhere") };
            let number = stream.to_byte().unwrap_or(u8::MAX);
            match got.last_mut() {
                Some((last, text)) if *last == number => text.extend(payload),
                _ => got.push((number, payload)),
            }
        }
        prop_assert_eq!(got, want);
    }

    /// Hostile bytes: no panic, and a frame after two delimiters is still found.
    #[test]
    fn any_bytes_then_a_frame(noise in proptest::collection::vec(any::<u8>(), 0..900), piece in 1usize..300) {
        let mut bytes = noise;
        bytes.extend([0, 0]);
        bytes.extend(wire(Stream::Monitor, b"found"));
        let seen = decode(&bytes, piece);
        prop_assert_eq!(seen.last(), Some(&Seen::Frame(Stream::Monitor, b"found".to_vec())));
    }
}
