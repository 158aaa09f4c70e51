//! Entry formats: what every codec must do. Pure.

use hv_core::addr::{Order, Pfn};
use hv_core::host::HostFormat;
use hv_core::isa::Isa;
use hv_core::radix::format::{Leaf, Place, Prot, Pte, Rc, TableRef, Transition};

use super::{Case, case};
use crate::rig::{Bench, Codec};
use crate::verdict::{Run, Stop, check};

/// What host tables have and no second stage.
const KEPT: [u64; 4] = [0, 1, 0x5555_5555_5555, (1 << Place::BITS) - 1];
const HOST: Codec = Codec::of::<HostFormat>("host");
const TRANSITIONS: [Transition; 3] = [Transition::Busy, Transition::Splitting, Transition::Frozen];

pub(super) fn cases<I: Isa>() -> [Case<I>; 7] {
    [
        case!("codec-zero-is-a-hole", "R1", zero_is_a_hole),
        case!("codec-leaves-round-trip", "R1", leaves_round_trip),
        case!("codec-tables-round-trip", "R1", tables_round_trip),
        case!("codec-transitions-are-distinct", "R3", transitions_are_distinct),
        case!("codec-kept-pages-are-the-host-tables", "R3", kept_pages),
        case!("codec-any-word-is-total-and-stable", "R1", any_word),
        case!("codec-a-leaf-names-its-own-level", "G3", misaligned_leaves),
    ]
}

fn each<I: Isa>(b: &Bench<'_, I>, f: impl Fn(&Codec, u8) -> Run) -> Run {
    for codec in b.rig.codecs().iter().chain([&HOST]) {
        for level in 0..codec.bits.len() as u8 {
            f(codec, level)?;
        }
    }
    Ok(())
}

/// The order of a leaf at `level`.
fn order(codec: &Codec, level: u8) -> Order {
    Order::new(codec.bits.iter().take(usize::from(level)).sum()).unwrap_or(Order::MAX)
}

/// Whether the format has leaves at `level` at all: then one at frame 0 is one.
fn has_leaves(codec: &Codec, level: u8) -> bool {
    let leaf = Pte::Leaf(Leaf { pfn: Pfn(0), prot: Prot::READ, rc: Rc::empty() });
    (codec.decode)((codec.encode)(leaf, level), level) == leaf
}

fn zero_is_a_hole<I: Isa>(b: &Bench<'_, I>) -> Run {
    each(b, |c, level| {
        check((c.decode)(0, level) == Pte::Hole, "a zeroed table is not empty")?;
        check((c.encode)(Pte::Hole, level) == 0, "a hole is not zero")
    })
}

fn leaves_round_trip<I: Isa>(b: &Bench<'_, I>) -> Run {
    each(b, |c, level| {
        check(level != 0 || has_leaves(c, 0), "the format has no leaves at level 0")?;
        if !has_leaves(c, level) {
            return Ok(());
        }
        for block in [0, 1, 2, 0x155, 0xfff] {
            for prot in (0..8).map(Prot::from_bits_truncate) {
                for rc in (0..4).map(Rc::from_bits_truncate) {
                    let pfn = Pfn(block << order(c, level).get());
                    let leaf = Pte::Leaf(Leaf { pfn, prot, rc });
                    check((c.decode)((c.encode)(leaf, level), level) == leaf, "a leaf comes back changed")?;
                }
            }
        }
        Ok(())
    })
}

fn tables_round_trip<I: Isa>(b: &Bench<'_, I>) -> Run {
    each(b, |c, level| {
        let Some(&bits) = level.checked_sub(1).and_then(|below| c.bits.get(usize::from(below))) else {
            return Ok(());
        };
        for n in [1_u64, 0x123, 0xff_ffff] {
            let table = TableRef::new(Pfn(n), TableRef::order_of(bits).unwrap_or(Order::PAGE));
            let entry = Pte::Table { table, bits };
            check((c.decode)((c.encode)(entry, level), level) == entry, "a table entry comes back changed")?;
        }
        Ok(())
    })
}

fn transitions_are_distinct<I: Isa>(b: &Bench<'_, I>) -> Run {
    each(b, |c, level| {
        for kind in TRANSITIONS {
            let raw = (c.encode)(Pte::Transition(kind), level);
            check((c.decode)(raw, level) == Pte::Transition(kind), "a transition reads as something else")?;
        }
        Ok(())
    })
}

fn kept_pages<I: Isa>(b: &Bench<'_, I>) -> Run {
    for place in KEPT.into_iter().filter_map(Place::new) {
        for pte in [Pte::Swapped(place), Pte::Transition(Transition::Arriving(place))] {
            check((HOST.decode)((HOST.encode)(pte, 0), 0) == pte, "a kept page comes back as another")?;
            for level in 1..HOST.bits.len() as u8 {
                let read = (HOST.decode)((HOST.encode)(pte, 0), level);
                check(read == Pte::Transition(Transition::Unknown), "a kept page is believed above the leaf level")?;
            }
            for c in b.rig.codecs() {
                let read = (c.decode)((c.encode)(pte, 0), 0);
                check(read == Pte::Transition(Transition::Busy), "hardware could take a kept page for something")?;
            }
        }
    }
    Ok(())
}

fn any_word<I: Isa>(b: &Bench<'_, I>) -> Run {
    each(b, |c, level| {
        let mut x = 0x9e37_79b9_7f4a_7c15_u64;
        for n in 0..4096_u32 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Words with few bits set or cleared are where formats err.
            let word = match n % 4 {
                0 => x,
                1 => 1 << (x >> 58),
                2 => !(1 << (x >> 58)),
                _ => x & (x << 7) & (x >> 9),
            };
            let meaning = (c.decode)(word, level);
            if meaning != Pte::Transition(Transition::Unknown) {
                let again = (c.decode)((c.encode)(meaning, level), level);
                check(again == meaning, "a word means something else once written back")?;
            }
        }
        Ok(())
    })
}

fn misaligned_leaves<I: Isa>(b: &Bench<'_, I>) -> Run {
    if b.rig.codecs().is_empty() {
        return Err(Stop::Skip("a hashed table's entries have no level"));
    }
    for c in b.rig.codecs() {
        for level in (1..c.bits.len() as u8).filter(|level| has_leaves(c, *level)) {
            let off = Pte::Leaf(Leaf { pfn: Pfn(1), prot: Prot::READ, rc: Rc::empty() });
            let read = (c.decode)((c.encode)(off, level), level);
            check(!matches!(read, Pte::Leaf(_)), "a leaf off its alignment is believed")?;
        }
    }
    Ok(())
}
