//! Copies that are none: what the call does not take, and what is not there. Then nothing is copied.

use backend_ppc64::nested_host::copy::{MOST, Refused, Request};
use conformance::verdict::{Stop, check};
use hv_core::vcpu::exit::Access;

use crate::copy::{BELOW, BUFFER, NEXT, ROOTS, TABLE, VIRTUAL, home, process};
use crate::l1::{ALL, AT, C, L1, LPID, PAGE, PAGES, R, READ, WRITE};
use crate::{cases, on_l1};

cases! { 13:
    "nest-copy-lengths-are-bounded", "R26", Never, bounded;
    "nest-copy-all-or-nothing", "R26", Never, all_or_nothing;
    "nest-copy-process-outside-of-the-table", "R26", Never, no_process;
    "nest-copy-of-an-unknown-guest", "R26", Never, unknown;
    "nest-copy-by-the-process-rights", "R15", Never, own_rights;
    "nest-copy-by-the-guests-rights", "R15", Never, guests_rights;
    "nest-copy-marks-nothing", "R15", Never, marks;
    "nest-copy-hole-in-either-tree", "R26", Never, holes;
    "nest-copy-malformed-trees", "R26", Never, malformed;
    "nest-copy-trees-outside-of-memory", "R26", Never, outside;
    "nest-copy-buffer-outside-of-memory", "R26", Never, no_buffer;
    "nest-copy-address-beyond-every-tree", "R26", Never, beyond;
    "nest-copy-after-the-guest-unmapped", "G1", Never, unmapped;
}

on_l1! {
fn bounded(l1) {
    l1.furnish()?;
    check(l1.copies(0, 0, Access::Read, MOST) == Ok(()), "a page is refused")?;
    for length in [MOST + 1, 1 << 32 | 8, u64::MAX] {
        let request = Request::new([LPID.into(), 0, VIRTUAL << 12, BUFFER, 0, length]);
        check(request.is_none(), "a length without bound is taken")?;
    }
    for (to, from) in [(0, 0), (BUFFER, BUFFER)] {
        check(Request::new([LPID.into(), 0, VIRTUAL << 12, to, from, 8]).is_none(), "a copy that has no direction")?;
    }
    Ok(())
}

fn all_or_nothing(l1) {
    l1.furnish()?;
    l1.give(0, VIRTUAL + 1, NEXT.0, 0)?;
    l1.write((PAGE << 12) + 0xff8, 0x1111)?;
    l1.write(BUFFER, 0x3333)?;
    for access in [Access::Read, Access::Write] {
        check(l1.copies(0, 0xff8, access, 16) == Err(Refused::NotFound), "a page that is not there was found")?;
        check(l1.read((PAGE << 12) + 0xff8)? == 0x1111 && l1.read(BUFFER)? == 0x3333, "half of it was copied")?;
    }
    check(l1.copies(0, 0xff8, Access::Read, 8) == Ok(()), "the page before is refused")
}

fn no_process(l1) {
    l1.furnish()?;
    // Of the process table's page, and behind it: there are 256 entries.
    for pid in [1, 255, 256, 0x1_0000, u32::MAX] {
        let refused = l1.copies(pid, 0, Access::Read, 8);
        check(refused == Err(Refused::NotFound), "a process that there is not was found")?;
    }
    // The entry behind the table is none, even if it looks like one.
    l1.map(TABLE + 1, home(TABLE), ALL)?;
    check(l1.copies(256 + 5, 0, Access::Read, 8) == Err(Refused::NotFound), "the table is larger than its size")
}

fn unknown(l1) {
    l1.furnish()?;
    let ask = |lpid| l1.copies_at((lpid, 0), VIRTUAL << 12, BUFFER, Access::Read, 8);
    for lpid in [0, LPID + 1, 255, 256, u32::MAX] {
        check(ask(lpid) == Err(Refused::NoGuest), "a guest that there is not was found")?;
    }
    // One that has never been entered, or is not known any more, is one nevertheless.
    let entry = crate::l1::TABLE + 16 * u64::from(LPID);
    l1.write(entry + 16, l1.read(entry)?)?;
    l1.write(entry + 24, l1.read(entry + 8)?)?;
    check(ask(LPID + 1) == Ok(()), "a guest that was not entered yet is refused")
}

fn own_rights(l1) {
    l1.furnish()?;
    for (bits, load, store) in [
        (R | C | READ, true, false),
        (R | C | READ | WRITE, true, true),
        (R | C | WRITE, true, true),
        (R | READ | WRITE, true, false),
        (C | READ | WRITE, false, false),
        // A kernel's page is L1's as well.
        (R | C | READ | WRITE | 8, true, true),
        (R | C, false, false),
    ] {
        l1.give(0, VIRTUAL, AT, bits)?;
        let is = |access| l1.copies(0, 0, access, 8) == Ok(());
        check((is(Access::Read), is(Access::Write)) == (load, store), "the process's tree is not what counts")?;
    }
    Ok(())
}

fn guests_rights(l1) {
    l1.furnish()?;
    for (bits, load, store) in [
        (R | C | READ, true, false),
        (R | C | READ | WRITE, true, true),
        (R | READ | WRITE, true, false),
        (C | READ | WRITE, false, false),
        (R | C, false, false),
    ] {
        l1.map(AT, PAGE, bits)?;
        let is = |access| l1.copies(0, 0, access, 8) == Ok(());
        check((is(Access::Read), is(Access::Write)) == (load, store), "L1's tree is not what counts")?;
    }
    l1.map(AT, PAGE, ALL)?;
    // Tables have to be readable themselves, in each place.
    for page in [TABLE, ROOTS[0]].into_iter().chain(BELOW[0]) {
        for bits in [R | C | WRITE, C | READ | WRITE] {
            l1.map(page, home(page), bits)?;
            check(l1.copies(0, 0, Access::Read, 8) == Err(Refused::NotFound), "a table is read that L2 may not read")?;
        }
        l1.map(page, home(page), R | READ)?;
    }
    check(l1.copies(0, 0, Access::Write, 8) == Ok(()), "to read tables takes more than to read")
}

fn marks(l1) {
    l1.furnish()?;
    let words = |l1: &L1<'_, I>| -> Result<[u64; 2], Stop> {
        Ok([l1.table_word(BELOW[0][2], VIRTUAL)?, l1.entry(AT)?])
    };
    l1.give(0, VIRTUAL, AT, R | READ | WRITE)?;
    l1.map(AT, PAGE, R | READ | WRITE)?;
    let before = words(l1)?;
    check(l1.copies(0, 0, Access::Read, 8) == Ok(()), "a load is refused")?;
    check(l1.copies(0, 0, Access::Write, 8) == Err(Refused::NotFound), "a store without a mark was made")?;
    check(words(l1)? == before && l1.leaf(AT).is_none(), "an entry has been changed")
}

fn holes(l1) {
    l1.furnish()?;
    let found = |l1: &L1<'_, I>| l1.copies(0, 0, Access::Read, 8) != Err(Refused::NotFound);
    for (page, index) in [(TABLE, 0), (ROOTS[0], 0), (BELOW[0][0], 0), (BELOW[0][1], 0), (BELOW[0][2], VIRTUAL)] {
        let before = l1.table_word(page, index)?;
        l1.table_entry(page, index, 0)?;
        check(!found(l1), "a hole of the process's was passed")?;
        l1.table_entry(page, index, before)?;
    }
    for page in [TABLE, ROOTS[0], AT].into_iter().chain(BELOW[0]) {
        let before = l1.entry(page)?;
        l1.put(page, 0)?;
        check(!found(l1), "a hole of L1's was passed")?;
        l1.put(page, before)?;
    }
    check(found(l1), "a tree that is whole again is refused")
}

fn malformed(l1) {
    l1.furnish()?;
    let good = process(ROOTS[0]);
    for word in [good & !0x1f, good | 0x1f, good & !(3 << 61), good | 0x1000, u64::MAX] {
        l1.table_entry(TABLE, 0, word)?;
        check(l1.copies(0, 0, Access::Read, 8) == Err(Refused::NotFound), "a tree of no known form was used")?;
    }
    l1.table_entry(TABLE, 0, good)?;
    for word in [1 << 63 | BELOW[0][0] << 12 | 8, 1 << 63 | 0x800 | BELOW[0][0] << 12 | 9, 3 << 62 | ALL, u64::MAX] {
        l1.table_entry(ROOTS[0], 0, word)?;
        check(l1.copies(0, 0, Access::Read, 8) == Err(Refused::NotFound), "an entry of no known form was used")?;
    }
    Ok(())
}

fn outside(l1) {
    l1.furnish()?;
    // The process's tables where L2 has no memory, then L2's memory where L1 has none.
    for page in [0x1ff, 1 << 30, 1 << 44] {
        l1.table_entry(ROOTS[0], 0, 1 << 63 | page << 12 | 9)?;
        check(l1.copies(0, 0, Access::Read, 8) == Err(Refused::NotFound), "a table outside of memory was read")?;
    }
    l1.table_entry(ROOTS[0], 0, 1 << 63 | BELOW[0][0] << 12 | 9)?;
    for page in [AT, BELOW[0][2], TABLE] {
        let before = l1.entry(page)?;
        for to in [PAGES, 1 << 40] {
            l1.map(page, to, ALL)?;
            for access in [Access::Read, Access::Write] {
                check(l1.copies(0, 0, access, 8) == Err(Refused::NotFound), "L2 has memory that L1 has not")?;
            }
        }
        l1.put(page, before)?;
    }
    Ok(())
}

fn no_buffer(l1) {
    l1.furnish()?;
    l1.write(PAGE << 12, 0x1111)?;
    for buffer in [(PAGES << 12) - 4, PAGES << 12, 1 << 60, u64::MAX - 3, u64::MAX] {
        for access in [Access::Read, Access::Write] {
            let refused = l1.copies_at((LPID, 0), VIRTUAL << 12, buffer, access, 8);
            check(refused == Err(Refused::NotFound), "there is a buffer outside of memory")?;
        }
    }
    check(l1.read(PAGE << 12)? == 0x1111, "L2 has something from outside of memory")
}

fn beyond(l1) {
    l1.furnish()?;
    for from in [1 << 40, (1 << 52) - 1, (1 << 52) - 4096] {
        let refused = l1.copies_at((LPID, 0), from, BUFFER, Access::Read, 8);
        check(refused == Err(Refused::NotFound), "there is something at the end of all addresses")?;
    }
    for from in [1 << 52, 3 << 62, u64::MAX] {
        check(Request::new([LPID.into(), 0, from, BUFFER, 0, 8]).is_none(), "an address of more than 52 bits")?;
    }
    Ok(())
}

fn unmapped(l1) {
    l1.furnish()?;
    check(l1.copies(0, 0, Access::Write, 8) == Ok(()), "L1 cannot store")?;
    l1.put(AT, 0)?;
    l1.invalidate(1 << 16, LPID.into(), AT << 12)?;
    l1.write(PAGE << 12, 0x7777)?;
    check(l1.copies(0, 0, Access::Write, 8) == Err(Refused::NotFound), "an entry that is gone was used")?;
    check(l1.read(PAGE << 12)? == 0x7777, "L1's page was written after L2 had lost it")
}
}
