//! The store that packs: what it takes it gives back, whatever the sizes.

use hv_core::addr::{Order, PAGE_SIZE};
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::page::{Frame, Kept, NotKept, Packed, Store, Token};

use super::swap::{empty, packed, stats};
use super::swap_short::random;
use super::{Case, case};
use crate::rig::Bench;
use crate::verdict::{Run, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 2] {
    [case!("store-gives-back-what-it-took", "G2", every_size), case!("store-uses-room-again", "R24", again)]
}

/// A page of which `noise` bytes do not pack.
fn content(seed: u64, noise: usize) -> [u8; PAGE_SIZE] {
    let mut bytes = [0; PAGE_SIZE];
    let from = random(seed);
    bytes.iter_mut().zip(from).take(noise).for_each(|(byte, other)| *byte = other);
    bytes
}

/// Has the store keep `bytes`. `None` if it would not, they are zeros, or there is no frame to have them in: who asks may
/// have tokens in hand, and goes on.
fn keep<I: Isa>(b: &Bench<'_, I>, store: &Packed, bytes: &[u8]) -> Option<Token> {
    let frame = b.m.frames().alloc(b.cpu, Order::PAGE)?.zero(b.m);
    b.m.write(frame.pfn(), 0, bytes);
    let kept = store.keep(b.cpu, b.m, frame.pfn());
    b.m.frames().free(b.cpu, frame.into_frame());
    match kept {
        Ok(Kept::As(token)) => Some(token),
        Ok(Kept::Zeros) | Err(NotKept::Full | NotKept::Unpackable) => None,
    }
}

/// What the store gives back; `None` if there is no frame for it.
fn bring<I: Isa>(b: &Bench<'_, I>, store: &Packed, token: &Token) -> Option<[u8; PAGE_SIZE]> {
    let page = b.m.frames().alloc(b.cpu, Order::PAGE).map(|frame: Frame| frame.zero(b.m))?;
    store.bring(b.cpu, b.m, token, &page);
    let mut bytes = [0; PAGE_SIZE];
    b.m.read(page.pfn(), 0, &mut bytes);
    b.m.frames().free(b.cpu, page.into_frame());
    Some(bytes)
}

/// Tokens that a case has, each with what it stands for.
type Held = heapless::Vec<(Token, u64, usize), 256>;

fn every_size<I: Isa>(b: &Bench<'_, I>) -> Run {
    let (store, mut held) = (packed(b)?, Held::new());
    let mut run = Ok(());
    for n in 0..200_usize {
        // Some pages of every size, the last of them just too large.
        let (seed, noise) = (n as u64 + 1, n * 11 + 1);
        match keep(b, &store, &content(seed, noise)) {
            Some(token) => _ = held.push((token, seed, noise)),
            None => run = run.and(check(noise > 1900, "a page that packs was refused")),
        }
    }
    let now = stats::<I>(&store);
    run = run.and(check(now.pages == held.len() as u64 && now.refused + now.pages == 200, "pages are miscounted"));
    // From first to last, and back: the same each time.
    for (token, seed, noise) in held.iter().chain(held.iter().rev()) {
        let same = bring(b, &store, token) == Some(content(*seed, *noise));
        run = run.and(check(same, "a page came back as another"));
    }
    // Every other one goes; the others stay what they are.
    let mut kept = Held::new();
    for (n, (token, seed, noise)) in held.into_iter().enumerate() {
        if n % 2 == 0 {
            store.forget(b.cpu, b.m, token);
        } else {
            let same = bring(b, &store, &token) == Some(content(seed, noise));
            run = run.and(check(same, "what was forgotten took something along"));
            _ = kept.push((token, seed, noise));
        }
    }
    for (token, ..) in kept {
        store.forget(b.cpu, b.m, token);
    }
    run.and_then(|()| empty::<I>(&store))
}

fn again<I: Isa>(b: &Bench<'_, I>) -> Run {
    let (store, mut held) = (packed(b)?, Held::new());
    let before = b.free();
    let mut run = Ok(());
    for n in 0..200 {
        if let Some(token) = keep(b, &store, &content(n + 1, 300)) {
            _ = held.push((token, n + 1, 300));
        }
    }
    let full = stats::<I>(&store).frames;
    run = run.and(check(full > 10 && b.free() + full == before, "frames are miscounted"));
    for round in 1..5 {
        // Holes in every frame, filled again: no frame more.
        for n in (0..held.len()).rev().filter(|n| n % 3 != 0) {
            store.forget(b.cpu, b.m, held.swap_remove(n).0);
        }
        while held.len() < 200 {
            let seed = round * 1000 + held.len() as u64;
            match keep(b, &store, &content(seed, 300)) {
                Some(token) => _ = held.push((token, seed, 300)),
                None => break,
            }
        }
        run = run.and(check(stats::<I>(&store).frames <= full, "room that was given back is not used"));
        for (token, seed, noise) in &held {
            let same = bring(b, &store, token) == Some(content(*seed, *noise));
            run = run.and(check(same, "a page came back as another"));
        }
    }
    for (token, ..) in held {
        store.forget(b.cpu, b.m, token);
    }
    run.and_then(|()| empty::<I>(&store)).and(check(b.free() == before, "an empty store holds frames"))
}
