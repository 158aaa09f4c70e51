use hv_core::addr::{Order, Pfn};
use hv_core::isa::RadixFormat;
use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef, Transition};

use super::{Entries, Forced, Hardware, Kind, Trap};

fn leaf(pfn: u64, prot: Prot, rc: Rc) -> Pte {
    Pte::Leaf(Leaf { pfn: Pfn(pfn), prot, rc })
}

/// Both ways.
fn means<K: Kind>(word: u64, level: u8, pte: Pte) {
    assert_eq!(Entries::<K>::decode(word.to_le(), level), pte, "{word:#x} at {level}");
    assert_eq!(u64::from_le(Entries::<K>::encode(pte, level)), word, "{pte:?} at {level}");
}

#[test]
fn words_of_the_architecture_mean_what_it_says() {
    let (all, used) = (Prot::all(), Rc::all());
    // Inner shareable, accessed, read, write, write-back; DBM where hardware notes the store.
    means::<Trap>(0x0080_0000_4000_07ff, 0, leaf(0x40000, all, used));
    means::<Hardware>(0x0008_0000_4000_07ff, 0, leaf(0x40000, all, used));
    means::<Forced>(0x0008_0000_4000_07db, 0, leaf(0x40000, all, used));
    // A clean page that may be stored to: DBM without write.
    means::<Forced>(0x0008_0000_4000_075b, 0, leaf(0x40000, all, Rc::REFERENCED));
    means::<Forced>(0x0048_0000_4000_035b, 0, leaf(0x40000, Prot::READ | Prot::WRITE, Rc::empty()));
    // Blocks: bit 1 is clear.
    means::<Trap>(0x0040_0000_4020_077d, 1, leaf(0x40200, Prot::READ, Rc::REFERENCED));
    means::<Trap>(0x0000_0000_4000_077d, 2, leaf(0x40000, Prot::READ | Prot::EXEC, Rc::REFERENCED));
    let table = Pte::Table { table: TableRef::new(Pfn(0x12345), Order::PAGE), bits: 9 };
    means::<Forced>(0x1234_5003, 2, table);
    means::<Trap>(0x1234_5003, 1, table);
}

/// `words` are unknown to all kinds, at the level beside each.
#[test]
fn r3_hostile_words_are_unknown() {
    fn of<K: Kind>() {
        let good = u64::from_le(Entries::<K>::encode(leaf(0x40000, Prot::all(), Rc::all()), 0));
        let block = good & !2;
        assert_ne!(Entries::<K>::decode(block.to_le(), 2), Pte::Transition(Transition::Unknown));
        for (word, level, why) in [
            (good & !2, 0, "a block among pages"),
            (block | 0x1000, 1, "a 2 MiB block off its alignment"),
            (block | 0x20_0000, 2, "a 1 GiB block off its alignment"),
            (block, 3, "a level above the root"),
            (good | 1 << 52, 0, "a contiguous run"),
            (block | 1 << 52, 1, "a contiguous run of blocks"),
            (block | 1 << 16, 1, "nT, of break-before-make level 1"),
            (good | 1 << 53, 0, "execution at EL0 only"),
            (good | 1 << 11, 0, "FnXS"),
            (good | 1 << 48, 0, "a frame beyond 48 bits"),
            (good | 1 << 63, 0, "a bit of stage 1"),
            (good & !(3 << 8), 0, "not shareable"),
            (good & !(0xf << 2), 0, "device memory"),
            (good & !1, 0, "all but valid"),
            (1, 0, "nothing but valid"),
            (3, 0, "a table among pages"),
            (8, 0, "a transition that nobody defined"),
            (0x1234_5403, 1, "a table's entry with an access flag"),
            (0x8000_0000_1234_5003, 1, "a table's entry with a bit of stage 1"),
        ] {
            let meaning = Entries::<K>::decode(word.to_le(), level);
            assert_eq!(meaning, Pte::Transition(Transition::Unknown), "{why}");
        }
    }
    of::<Forced>();
    of::<Hardware>();
    of::<Trap>();
}

#[test]
fn r14_write_without_dbm_is_permission_that_nobody_gave() {
    let unknown = Pte::Transition(Transition::Unknown);
    assert_eq!(Entries::<Forced>::decode(0x4000_07db_u64.to_le(), 0), unknown);
    // Both places of the mark: it was never written so.
    assert_eq!(Entries::<Forced>::decode(0x0088_0000_4000_07db_u64.to_le(), 0), unknown);
    // No leaf without the permission may ever let hardware store.
    for rc in (0..4).map(Rc::from_bits_truncate) {
        let prot = Prot::READ | Prot::EXEC;
        let (marks, trap) =
            (Entries::<Forced>::encode(leaf(1, prot, rc), 0), Entries::<Trap>::encode(leaf(1, prot, rc), 0));
        assert_eq!(u64::from_le(marks) & (1 << 7 | 1 << 51), 0, "{rc:?}");
        assert_eq!(u64::from_le(trap) & 1 << 7, 0, "{rc:?}");
    }
}

/// The default way, which decodes.
struct ByTheBook<K>(core::marker::PhantomData<K>);

impl<K: Kind> RadixFormat for ByTheBook<K> {
    const BITS: &'static [u8] = Entries::<K>::BITS;
    fn decode(raw: u64, level: u8) -> Pte {
        Entries::<K>::decode(raw, level)
    }
    fn encode(pte: Pte, level: u8) -> u64 {
        Entries::<K>::encode(pte, level)
    }
}

#[test]
fn r4_the_short_way_to_protect_a_leaf_is_that_of_the_book() {
    fn of<K: Kind>() {
        let highs = (0..32_u64).map(|n| (n & 7) << 53 | (n >> 3 & 1) << 51 | (n >> 4 & 1) << 63);
        let words = highs.flat_map(|high| (0..0x1000_u64).map(move |low| high | low));
        for word in words.flat_map(|word| [word, word | 0x4000_0000, word | 0x4020_0000, word | 0x1000]) {
            for (level, along) in
                [(0, Rc::empty()), (0, Rc::all()), (1, Rc::CHANGED), (2, Rc::REFERENCED), (3, Rc::CHANGED)]
            {
                let book = ByTheBook::<K>::protected(word.to_le(), level, along);
                assert_eq!(Entries::<K>::protected(word.to_le(), level, along), book, "{word:#x} at {level}");
            }
        }
    }
    of::<Forced>();
    of::<Hardware>();
    of::<Trap>();
}

#[test]
fn r3_transitions_are_invalid_to_hardware() {
    for kind in [Transition::Busy, Transition::Splitting, Transition::Frozen] {
        let raw = Entries::<Forced>::encode(Pte::Transition(kind), 0);
        assert_eq!(u64::from_le(raw) & 1, 0);
        assert_eq!(Entries::<Forced>::decode(raw, 0), Pte::Transition(kind));
    }
}

#[test]
fn h4_the_root_is_two_tables_side_by_side() {
    let root = *Entries::<Trap>::BITS.last().unwrap();
    assert_eq!(TableRef::order_of(root), Order::new(1), "1,024 entries, taken and given back as one block");
    assert_eq!(u32::from(Entries::<Trap>::BITS.iter().sum::<u8>()) + 12, 40);
}
