use hv_core::addr::{Order, Pfn};
use hv_core::isa::RadixFormat;
use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef, Transition};

use super::{Entries, EptMarks, EptTrap, Kind, Npt};

const UNKNOWN: Pte = Pte::Transition(Transition::Unknown);

fn leaf(pfn: u64, prot: Prot, rc: Rc) -> Pte {
    Pte::Leaf(Leaf { pfn: Pfn(pfn), prot, rc })
}

/// Both ways.
fn means<K: Kind>(word: u64, level: u8, pte: Pte) {
    assert_eq!(Entries::<K>::decode(word.to_le(), level), pte, "{word:#x} at {level}");
    assert_eq!(u64::from_le(Entries::<K>::encode(pte, level)), word, "{pte:?} at {level}");
}

#[test]
fn words_of_the_architectures_mean_what_they_say() {
    let (all, used) = (Prot::all(), Rc::all());
    means::<EptMarks>(0x4000_0377, 0, leaf(0x40000, all, used));
    means::<EptMarks>(0x4000_0073, 0, leaf(0x40000, Prot::READ | Prot::WRITE, Rc::empty()));
    means::<EptTrap>(0x4020_01f5, 1, leaf(0x40200, Prot::READ | Prot::EXEC, Rc::REFERENCED));
    means::<EptTrap>(0x4000_00f1, 2, leaf(0x40000, Prot::READ, Rc::empty()));
    means::<Npt>(0x4000_0067, 0, leaf(0x40000, all, used));
    means::<Npt>(0x8000_0000_4020_00a7, 1, leaf(0x40200, Prot::READ | Prot::WRITE, Rc::REFERENCED));
    means::<Npt>(0x8000_0000_4000_0085, 2, leaf(0x40000, Prot::READ, Rc::empty()));
    let table = Pte::Table { table: TableRef::new(Pfn(0x12345), Order::PAGE), bits: 9 };
    for level in 1..4 {
        means::<EptMarks>(0x1234_5107, level, table);
        means::<Npt>(0x1234_5027, level, table);
    }
    // A large leaf of a nested table and a table differ by one bit.
    means::<Npt>(0x4000_0027, 0, leaf(0x40000, all, Rc::REFERENCED));
}

/// `words` are unknown to the kind, at the level beside each.
#[test]
fn r3_hostile_words_are_unknown() {
    fn of<K: Kind>(more: &[(u64, u8, &str)]) {
        let good = u64::from_le(Entries::<K>::encode(leaf(0x40000, Prot::all(), Rc::all()), 0));
        let large = good | 1 << 7;
        assert_ne!(Entries::<K>::decode(large.to_le(), 2), UNKNOWN);
        let both = [
            (large, 0, "a large page among pages"),
            (large | 0x1000, 1, "2 MiB off its alignment, or a PAT bit"),
            (large | 0x20_0000, 2, "1 GiB off its alignment"),
            (large, 3, "a leaf in the root"),
            (large, 4, "a level above the root"),
            (good | 2 << 52, 0, "rights given and withheld"),
            (good | 1 << 59, 0, "a protection key, or a bit for guest paging"),
            (good | 1 << 11, 0, "software's bit"),
            (good & !1, 0, "stores without loads"),
            (0, 0, ""),
            (1, 0, "nothing but present"),
            (K::TABLE & !K::ACCESSED, 1, "a table's entry that hardware would write to"),
            (K::TABLE | 1 << 52, 1, "a table's entry with rights withheld"),
            (K::TABLE | 1 << 63, 1, "a table's entry without fetches"),
            (K::TABLE & !2, 1, "a table's entry without stores"),
            (K::LEAF | 1 << 52, 0, "reading withheld, which can be given"),
            (K::LEAF | 1 << 55 | 2 << 52, 0, "more withheld than there is"),
            (0x20, 0, "a transition that nobody defined"),
        ];
        for &(word, level, why) in both.iter().filter(|(word, ..)| *word != 0).chain(more) {
            assert_eq!(Entries::<K>::decode(word.to_le(), level), UNKNOWN, "{word:#x}: {why}");
        }
    }
    let ept = [
        (0x4000_0307, 0, "memory that is not cached"),
        (0x4000_0337, 0, "the guest's own memory type"),
        (0x4000_0374, 0, "fetches alone"),
        (0x4000_0777, 0, "fetches by user code"),
        (0x8000_0000_4000_0377, 0, "no #VE"),
        (0x4000_0387, 2, "a large page that is not cached"),
    ];
    of::<EptMarks>(&ept);
    of::<EptTrap>(&ept);
    let npt = [
        (0x4000_0063, 0, "the supervisor's"),
        (0x4000_006f, 0, "written through"),
        (0x4000_0077, 0, "not cached"),
        (0x4000_0167, 0, "global"),
        (0x8000_0000_4000_0004, 0, "fetches forbidden in what is not present"),
        (0x1234_5067, 1, "a table's entry that was stored to"),
    ];
    of::<Npt>(&npt);
}

/// What the SDM, "EPT Misconfigurations", calls one, on a processor with 46 bits of physical address and no entries
/// that allow fetches alone. Levels as here: 0 is the leaf level.
fn misconfigured(v: u64, level: u8) -> bool {
    let has = |bits: u64| v & bits != 0;
    if !has(7) {
        return false;
    }
    let large = level > 0 && has(1 << 7);
    let reserved = match level {
        0 => 0,
        1 if large => 0x1f_f000,
        2 if large => 0x3fff_f000,
        3 => 0xf8,
        _ => 0x78,
    };
    let rights = matches!(v & 7, 2 | 4 | 6);
    let memory = (level == 0 || large) && matches!(v >> 3 & 7, 2 | 3 | 7);
    rights || memory || has(reserved) || has(0x000f_c000_0000_0000)
}

/// What makes a nested walk fault with RSV set (APM vol. 2, 5.3.3 to 5.3.5): the same processor, with NX and pages of 1
/// GiB.
fn reserved(v: u64, level: u8) -> bool {
    let large = v & 1 << 7 != 0;
    let bits = match level {
        1 if large => 0x1f_e000,
        2 if large => 0x3fff_e000,
        3 => 1 << 7,
        _ => 0,
    };
    v & 1 != 0 && v & (bits | 0x000f_c000_0000_0000) != 0
}

/// Everything that can be asked of `encode`, right or wrong.
fn all_entries() -> impl Iterator<Item = Pte> {
    let pfns = [0, 1, 2, 0x1ff, 0x200, 0x201, 0x3_ffff, 0x4_0000, 0x4_0200, 0x3_ffff_ffff, 1 << 40, 1 << 52, u64::MAX];
    let leaves = pfns.into_iter().flat_map(|pfn| {
        (0..32_u8).map(move |n| leaf(pfn, Prot::from_bits_truncate(n & 7), Rc::from_bits_truncate(n >> 3)))
    });
    let tables = [1, 0x12345, 0x3_ffff_ffff].map(|pfn| TableRef::new(Pfn(pfn), Order::PAGE));
    let tables = tables.into_iter().map(|table| Pte::Table { table, bits: 9 });
    let kinds = [Transition::Busy, Transition::Splitting, Transition::Frozen, Transition::Unknown];
    leaves.chain(tables).chain(kinds.map(Pte::Transition)).chain([Pte::Hole])
}

#[test]
fn no_entry_that_can_be_written_is_a_misconfiguration() {
    assert!(misconfigured(0x4000_0076, 0) && misconfigured(0x4000_10f7, 1) && misconfigured(0x4000_00f7, 3));
    assert!(misconfigured(0x4000_001f, 0) && misconfigured(0x1234_5177, 1) && misconfigured(1 << 50 | 0x77, 0));
    assert!(reserved(0x1234_50a7, 3) && reserved(0x4000_20a7, 1) && reserved(1 << 50 | 7, 0));
    for level in 0..4 {
        for pte in all_entries() {
            // No entry of the leaf level is a table's: nobody may write one.
            if level == 0 && matches!(pte, Pte::Table { .. }) {
                continue;
            }
            for word in [Entries::<EptMarks>::encode(pte, level), Entries::<EptTrap>::encode(pte, level)] {
                assert!(!misconfigured(u64::from_le(word), level), "{pte:?} at {level}: {word:#x}");
            }
            let word = u64::from_le(Entries::<Npt>::encode(pte, level));
            assert!(!reserved(word, level), "{pte:?} at {level}: {word:#x}");
        }
    }
}

/// Nor does weakening one make it a misconfiguration, and what a leaf does not allow hardware never does.
#[test]
fn hardware_allows_no_more_than_the_leaf() {
    fn of<K: Kind>(exec: fn(u64) -> bool) {
        for (level, pfn) in [(0, 0x123), (1, 0x200), (2, 0x4_0000)] {
            for n in 0..32_u8 {
                let (prot, rc) = (Prot::from_bits_truncate(n & 7), Rc::from_bits_truncate(n >> 3));
                let raw = Entries::<K>::encode(leaf(pfn, prot, rc), level);
                let protected = Entries::<K>::protected(raw, level, Rc::CHANGED);
                assert_eq!(protected.is_some(), prot.contains(Prot::WRITE), "{prot:?}");
                let weaker = protected.map(|weaker| (weaker, prot.difference(Prot::WRITE)));
                for (raw, prot) in [(raw, prot)].into_iter().chain(weaker) {
                    let v = u64::from_le(raw);
                    let given = prot.contains(Prot::READ);
                    assert_eq!(v & K::PRESENT != 0, given, "{prot:?}");
                    assert_eq!(v & 3 == 3, given && prot.contains(Prot::WRITE), "{prot:?}");
                    assert_eq!(given && exec(v), given && prot.contains(Prot::EXEC), "{prot:?}");
                    assert!(!misconfigured(v, level) || !matches!(K::EXEC, 4), "{v:#x}");
                }
            }
        }
    }
    of::<EptMarks>(|v| v & 4 != 0);
    of::<EptTrap>(|v| v & 4 != 0);
    of::<Npt>(|v| v >> 63 == 0);
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
        let highs = (0..32_u64).map(|n| (n & 15) << 52 | (n >> 4) << 63);
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
    of::<EptMarks>();
    of::<Npt>();
}

#[test]
fn r3_transitions_are_not_present_to_hardware() {
    for kind in [Transition::Busy, Transition::Splitting, Transition::Frozen] {
        let (ept, npt) =
            (Entries::<EptMarks>::encode(Pte::Transition(kind), 0), Entries::<Npt>::encode(Pte::Transition(kind), 0));
        assert_eq!((u64::from_le(ept) & 7, u64::from_le(npt) & 1), (0, 0));
        assert_eq!(Entries::<EptMarks>::decode(ept, 0), Pte::Transition(kind));
        assert_eq!(Entries::<Npt>::decode(npt, 0), Pte::Transition(kind));
    }
}
