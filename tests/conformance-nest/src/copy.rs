//! L1 copies from and to an address of a process of its guest's.
//!
//! L2's process table, and the trees of processes 0 and 5, are in L2's memory, for which L1 has pages from [`HOME`] on.

use backend_ppc64::nested_host::children::Partitions;
use backend_ppc64::nested_host::copy::{Refused, Request};
use backend_ppc64::nested_host::stage2::MayNest;
use conformance::verdict::{Run, Stop, check};
use hv_core::addr::{Gfn, Gpa};
use hv_core::isa::Isa;
use hv_core::vcpu::exit::Access;

use crate::l1::{ALL, AT, L1, LPID, PAGE, PAGES, PROCESSES, tree};
use crate::{cases, on_l1};

cases! { 7:
    "nest-copy-from-a-process", "R26", Never, load;
    "nest-copy-to-a-process", "R26", Never, store;
    "nest-copy-all-lengths", "R26", Never, lengths;
    "nest-copy-across-pages", "R26", Never, across;
    "nest-copy-by-the-process", "R26", Never, processes;
    "nest-copy-large-page-of-the-process", "R11", Never, large;
    "nest-copy-is-a-store-to-the-dirty-log", "G4", Never, logged;
}

/// L1's page for the first of these pages of L2: process table, and for each of two trees a root, two tables and leaves.
const HOME: u64 = 400;
/// Where the process table is in L2.
pub const TABLE: u64 = (PROCESSES & 0xf_f000) >> 12;
/// Roots are aligned as they are large, 64 KiB, but only their first page is used.
pub const ROOTS: [u64; 2] = [0x80, 0x90];
/// L2's pages of the tables below: second level, third, leaves.
pub const BELOW: [[u64; 3]; 2] = [[0xa0, 0xa1, 0xa2], [0xa3, 0xa4, 0xa5]];
/// The processes that have them.
const PIDS: [u32; 2] = [0, 5];
/// A page of the processes' that is [`AT`] in L2 and [`PAGE`] in L1, and the next, which are neighbours nowhere else.
pub const VIRTUAL: u64 = 9;
pub const NEXT: (u64, u64) = (AT + 7, PAGE + 3);
/// L1's buffer, at the end of a page.
pub const BUFFER: u64 = (PAGES - 200) << 12 | 0xff0;

/// L1's page for a page of L2's tables.
pub fn home(page: u64) -> u64 {
    let all = [TABLE, ROOTS[0], ROOTS[1]].into_iter().chain(BELOW.into_iter().flatten());
    HOME + all.take_while(|at| *at != page).count() as u64
}

/// Doubleword 0 of a process whose root is there.
pub const fn process(root: u64) -> u64 {
    tree(root << 12) & !(1 << 63)
}

impl<I> L1<'_, I>
where
    I: Isa,
    I::Machine: Partitions,
    I::Stage2: MayNest,
{
    /// Writes a doubleword of L2's tables.
    pub fn table_entry(&self, page: u64, index: u64, word: u64) -> Run {
        self.write((home(page) << 12) + index * 8, word)
    }

    /// Reads one.
    pub fn table_word(&self, page: u64, index: u64) -> Result<u64, Stop> {
        self.read((home(page) << 12) + index * 8)
    }

    /// A page of process number `which`'s: L2's page, and its bits.
    pub fn give(&self, which: usize, at: u64, page: u64, bits: u64) -> Run {
        self.table_entry(BELOW[which][2], at, 3 << 62 | page << 12 | bits)
    }

    /// Both processes have the two pages, all allowed.
    pub fn furnish(&self) -> Run {
        for page in [TABLE].into_iter().chain(ROOTS).chain(BELOW.into_iter().flatten()) {
            self.map(page, home(page), ALL)?;
        }
        for (which, (pid, root)) in PIDS.into_iter().zip(ROOTS).enumerate() {
            self.table_entry(TABLE, u64::from(pid) * 2, process(root))?;
            let [second, third, leaves] = BELOW[which];
            for (page, below) in [(root, second), (second, third), (third, leaves)] {
                self.table_entry(page, 0, 1 << 63 | below << 12 | 9)?;
            }
            self.give(which, VIRTUAL, AT, ALL)?;
            self.give(which, VIRTUAL + 1, NEXT.0, ALL)?;
        }
        self.map(AT, PAGE, ALL)?;
        self.map(NEXT.0, NEXT.1, ALL)
    }

    /// A call about so many bytes of process `pid`'s, at the offset in [`VIRTUAL`].
    pub fn copies(&self, pid: u32, offset: u64, access: Access, length: u64) -> Result<(), Refused> {
        self.copies_at((LPID, pid), (VIRTUAL << 12) + offset, BUFFER, access, length)
    }

    /// A call as L1 makes it.
    pub fn copies_at(
        &self,
        (lpid, pid): (u32, u32),
        at: u64,
        buffer: u64,
        access: Access,
        length: u64,
    ) -> Result<(), Refused> {
        let (to, from) = if access == Access::Read { (buffer, 0) } else { (0, buffer) };
        let request = Request::new([lpid.into(), pid.into(), at, to, from, length]).ok_or(Refused::NoGuest)?;
        let read = |at: Gpa, into: &mut [u8]| self.memory.read(self.b.cpu, self.b.m, at, into);
        let write = |at: Gpa, from: &[u8]| self.memory.write(self.b.cpu, self.b.m, at, from);
        self.nest().copy(&read, &write, &request, |lpid| Ok(self.partition(lpid).ok()))
    }

    /// So many bytes of L1's memory.
    fn bytes<const N: usize>(&self, from: u64) -> Result<[u8; N], Stop> {
        let mut bytes = [0; N];
        let done = self.memory.read(self.b.cpu, self.b.m, Gpa(from), &mut bytes);
        done.map(|()| bytes).map_err(|_| Stop::Fail("RAM cannot be read"))
    }

    /// Fills 512 bytes of L1's memory: with another seed no two are the same.
    fn fill(&self, from: u64, seed: u8) -> Run {
        let mut bytes = [0; 512];
        bytes.iter_mut().zip((0..=u8::MAX).cycle()).for_each(|(byte, n)| *byte = n ^ seed);
        check(self.memory.write(self.b.cpu, self.b.m, Gpa(from), &bytes).is_ok(), "RAM cannot be written")
    }
}

on_l1! {
fn load(l1) {
    l1.furnish()?;
    l1.write(PAGE << 12 | 0x128, 0x0123_4567_89ab_cdef)?;
    check(l1.copies(0, 0x128, Access::Read, 8) == Ok(()), "L1 cannot load")?;
    check(l1.read(BUFFER)? == 0x0123_4567_89ab_cdef, "L1 has loaded something else")
}

fn store(l1) {
    l1.furnish()?;
    l1.write(BUFFER, 0x0123_4567_89ab_cdef)?;
    check(l1.copies(0, 0x128, Access::Write, 8) == Ok(()), "L1 cannot store")?;
    check(l1.read(PAGE << 12 | 0x128)? == 0x0123_4567_89ab_cdef, "something else has been stored")
}

fn lengths(l1) {
    l1.furnish()?;
    l1.fill(PAGE << 12, 0)?;
    for length in [0, 1, 4, 127, 128, 129, 255, 256, 300] {
        l1.fill(BUFFER, 0xff)?;
        check(l1.copies(0, 0, Access::Read, length) == Ok(()), "a length is refused")?;
        let (from, to): ([u8; 400], [u8; 400]) = (l1.bytes(PAGE << 12)?, l1.bytes(BUFFER)?);
        let same = from.iter().zip(&to).take_while(|(from, to)| from == to).count() as u64;
        check(same == length, "not as many bytes were copied as asked for")?;
    }
    Ok(())
}

fn across(l1) {
    l1.furnish()?;
    for access in [Access::Read, Access::Write] {
        l1.write((PAGE << 12) + 0xff8, 0x1111)?;
        l1.write(NEXT.1 << 12, 0x2222)?;
        l1.write(BUFFER, 0x3333)?;
        l1.write(BUFFER + 8, 0x4444)?;
        l1.write(BUFFER + 16, 0x5555)?;
        check(l1.copies(0, 0xff8, access, 16) == Ok(()), "two pages are refused")?;
        let (first, second) = (l1.read((PAGE << 12) + 0xff8)?, l1.read(NEXT.1 << 12)?);
        check((first, second) == (l1.read(BUFFER)?, l1.read(BUFFER + 8)?), "the second page is another")?;
        let wanted = if access == Access::Read { (0x1111, 0x2222) } else { (0x3333, 0x4444) };
        check((first, second) == wanted && l1.read(BUFFER + 16)? == 0x5555, "it was copied the wrong way")?;
    }
    Ok(())
}

fn processes(l1) {
    l1.furnish()?;
    l1.give(1, VIRTUAL, NEXT.0, ALL)?;
    l1.write(PAGE << 12, 0x1111)?;
    l1.write(NEXT.1 << 12, 0x2222)?;
    for (pid, value) in [(0, 0x1111), (5, 0x2222)] {
        check(l1.copies(pid, 0, Access::Read, 8) == Ok(()), "a process is refused")?;
        check(l1.read(BUFFER)? == value, "another process was read")?;
    }
    Ok(())
}

fn large(l1) {
    l1.furnish()?;
    // A leaf of 2 MiB in the place of the process's leaves: its pages are L2's own, by their numbers.
    l1.table_entry(BELOW[0][1], 0, 3 << 62 | ALL)?;
    l1.write(PAGE << 12, 0x1111)?;
    let done = l1.copies_at((LPID, 0), AT << 12, BUFFER, Access::Read, 8);
    check(done == Ok(()) && l1.read(BUFFER)? == 0x1111, "a large page lies elsewhere")
}

fn logged(l1) {
    l1.furnish()?;
    check(l1.memory.log_start(l1.b.cpu, l1.b.m).is_ok(), "the dirty log does not start")?;
    let told = |l1: &L1<'_, I>, page: u64| {
        let mut told = false;
        l1.memory.log_harvest(l1.b.cpu, l1.b.m, &mut |pages| told |= pages.contains(Gfn(page)));
        told
    };
    let _before = told(l1, 0);
    check(l1.copies(0, 0, Access::Read, 8) == Ok(()), "L1 cannot load")?;
    check(!told(l1, PAGE), "a load was told as a store")?;
    check(l1.copies(0, 0, Access::Write, 8) == Ok(()), "L1 cannot store")?;
    check(told(l1, PAGE) && !told(l1, PAGE), "a store was not told, or told twice")
}
}
