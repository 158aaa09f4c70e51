use std::collections::BTreeMap;

use hv_core::addr::Gpa;
use hv_core::vcpu::exit::Access::{Fetch, Read, Write};

use super::{Entry, NotTranslated, Paging, Privilege};
use Privilege::{Supervisor, SupervisorWithAc, User};

const LONG: Paging =
    Paging { cr0: 1 << 31 | 1 << 16, cr3: 0x1000, cr4: 1 << 5, efer: 1 << 10 | 1 << 11, address_bits: 40 };
const PAE: Paging = Paging { cr3: 0x1020, efer: 1 << 11, ..LONG };
const PLAIN: Paging = Paging { cr4: 1 << 4, efer: 0, ..LONG };

/// Guest memory: entries at their addresses.
struct Tables(BTreeMap<u64, u64>);

impl Tables {
    fn of<const N: usize>(entries: [(u64, u64); N]) -> Self {
        Self(entries.into())
    }

    fn walk(
        &self,
        paging: &Paging,
        linear: u64,
        access: hv_core::vcpu::exit::Access,
        privilege: Privilege,
    ) -> Result<u64, NotTranslated> {
        let mut asked = Vec::new();
        let read = |at: Gpa, entry: Entry| {
            assert!(!asked.contains(&at), "{at:?} was read twice");
            asked.push(at);
            let entry_mask = if entry == Entry::Four { 0xffff_ffff } else { u64::MAX };
            if at.0 >= 1 << 40 { None } else { Some(self.0.get(&at.0).copied().unwrap_or(0) & entry_mask) }
        };
        paging.translate(linear, access, privilege, read).map(|gpa| gpa.0)
    }
}

/// 4 KiB, 2 MiB and 1 GiB pages, for everybody; a page without rights beside each.
fn long() -> Tables {
    Tables::of([
        (0x1ff8, 0x2007),
        (0x2ff0, 0x3007),
        (0x2ff8, 0xc000_0087),
        (0x3000, 0x4007),
        (0x3008, 0x8020_0087),
        (0x4018, 0x1234_5007),
        (0x4020, 0x8000_0000_1234_6003),
        (0x4028, 0x1234_7005),
    ])
}

#[test]
fn every_kind_of_table_is_walked() {
    let base = 0xffff_ffff_8000_0000;
    let tables = long();
    assert_eq!(tables.walk(&LONG, base + 0x3abc, Read, Supervisor), Ok(0x1234_5abc));
    assert_eq!(tables.walk(&LONG, base + 0x23_4567, Read, Supervisor), Ok(0x8023_4567));
    assert_eq!(tables.walk(&LONG, 0xffff_ffff_cabc_def0, Read, Supervisor), Ok(0xcabc_def0));
    let five = Paging { cr4: 1 << 5 | 1 << 12, cr3: 0x9000, ..LONG };
    let mut tables = long();
    tables.0.insert(0x9ff8, 0x1007);
    assert_eq!(tables.walk(&five, base + 0x3abc, Read, Supervisor), Ok(0x1234_5abc));
    // PAE: the first table is 32 bytes, anywhere.
    let tables = Tables::of([(0x1020 + 8, 0x2001), (0x2ff8, 0x3003), (0x3000, 0xff_8765_4003), (0x2ff0, 0x20_0083)]);
    assert_eq!(tables.walk(&PAE, 0x7fe0_0123, Write, Supervisor), Ok(0xff_8765_4123));
    assert_eq!(tables.walk(&PAE, 0x7fd2_3456, Write, Supervisor), Ok(0x32_3456));
    // Two levels, and a page of 4 MiB above 4 GiB.
    let tables = Tables::of([(0x1ffc, 0x2003), (0x2ffc, 0x7654_3003), (0x1004, 0x40_6083)]);
    assert_eq!(tables.walk(&PLAIN, 0xffff_f123, Write, Supervisor), Ok(0x7654_3123));
    assert_eq!(tables.walk(&PLAIN, 0x7f_ffff, Read, Supervisor), Ok(0x3_007f_ffff));
    let unpaged = Paging { cr0: 1, ..PLAIN };
    assert_eq!(tables.walk(&unpaged, 0x1_2345_6789, Fetch, Supervisor), Ok(0x2345_6789));
}

#[test]
fn rights_are_those_of_all_levels() {
    let at = |page: u64| 0xffff_ffff_8000_0000 + (page << 12);
    let fault = |code| Err(NotTranslated::PageFault(code));
    let tables = long();
    assert_eq!(tables.walk(&LONG, at(3), Fetch, User), Ok(0x1234_5000));
    assert_eq!(tables.walk(&LONG, at(4), Read, User), fault(0x5), "a supervisor's page");
    assert_eq!(tables.walk(&LONG, at(4), Fetch, Supervisor), fault(0x11), "execution is disabled");
    assert_eq!(tables.walk(&LONG, at(5), Write, User), fault(0x7), "read-only");
    assert_eq!(tables.walk(&LONG, at(5), Write, Supervisor), fault(0x3), "to all, by CR0.WP");
    let without = Paging { cr0: 1 << 31, ..LONG };
    assert_eq!(tables.walk(&without, at(5), Write, Supervisor), Ok(0x1234_7000));
    assert_eq!(tables.walk(&LONG, at(6), Write, User), fault(0x6), "nothing there");
    let strict = Paging { cr4: 1 << 5 | 1 << 20 | 1 << 21, ..LONG };
    assert_eq!(tables.walk(&strict, at(3), Fetch, Supervisor), fault(0x11), "SMEP");
    assert_eq!(tables.walk(&strict, at(3), Read, Supervisor), fault(0x1), "SMAP");
    assert_eq!(tables.walk(&strict, at(3), Read, SupervisorWithAc), Ok(0x1234_5000));
    assert_eq!(tables.walk(&strict, at(4), Read, Supervisor), Ok(0x1234_6000));
    // What an upper level denies no lower one gives.
    let mut denied = long();
    denied.0.insert(0x3000, 0x8000_0000_0000_4001);
    assert_eq!(denied.walk(&LONG, at(3), Read, User), fault(0x5));
    assert_eq!(denied.walk(&LONG, at(3), Write, Supervisor), fault(0x3));
    assert_eq!(denied.walk(&LONG, at(3), Fetch, Supervisor), fault(0x11));
}

#[test]
fn reserved_bits_and_addresses_that_are_none_are_faults() {
    let at = 0xffff_ffff_8000_3000;
    let with = |slot: u64, entry: u64, paging: &Paging, linear: u64| {
        let mut tables = long();
        tables.0.insert(slot, entry);
        tables.walk(paging, linear, Read, Supervisor)
    };
    let reserved = Err(NotTranslated::PageFault(0x9));
    assert_eq!(with(0x4018, 1 << 40 | 7, &LONG, at), reserved, "beyond the guest's memory");
    assert_eq!(with(0x3000, 0x4087 | 1 << 13, &LONG, at), reserved, "2 MiB off its alignment");
    assert_eq!(with(0x3000, 0x20_1087, &LONG, at), Ok(0x20_3000), "bit 12 is a memory type");
    assert_eq!(with(0x1ff8, 0x2087, &LONG, at), reserved, "no large page is that large");
    assert_eq!(with(0x4018, 1 << 63 | 7, &Paging { efer: 1 << 10, ..LONG }, at), reserved, "no NXE");
    assert_eq!(with(0x4018, 1 << 55 | 7, &LONG, at), Ok(0), "software's bits");
    assert_eq!(with(0x4018, 7, &LONG, 0x7fff_8000_3000 | 1 << 47 | 1 << 62), Err(NotTranslated::NotCanonical));
    let pae = Tables::of([(0x1028, 0x2003)]);
    assert_eq!(pae.walk(&PAE, 0x7fe0_0123, Read, Supervisor), reserved, "rights in PAE's upper level");
    let lost = Paging { cr3: 1 << 40, address_bits: 52, ..LONG };
    assert_eq!(long().walk(&lost, at, Read, Supervisor), Err(NotTranslated::NoMemory(Gpa(1 << 40 | 0xff8))));
}

#[test]
fn no_tables_and_no_registers_lead_astray() {
    let mut x = 5_u64;
    let mut number = move || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        x ^ x >> 32
    };
    for _ in 0..100_000 {
        let [cr0, cr3, cr4, efer] = [number(), number(), number(), number()];
        let paging = Paging { cr0, cr3, cr4, efer, address_bits: number() as u8 };
        let mut reads = 0;
        let walked = paging.translate(number(), Write, User, |at, entry| {
            reads += 1;
            assert!(at.0 % entry.bytes() == 0 && at.0 < 1 << 52);
            // Mostly present, so that walks go deep.
            Some(number() & number() & 0x00ff_ffff_ffff_ff7f | 7)
        });
        assert!(reads <= 5);
        assert!(walked.is_err() || walked.unwrap().0 < 1 << 52);
    }
}
