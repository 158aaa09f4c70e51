//! What memory is: pages of bytes behind windows, and which of them were stored to. No frames, no tables, no sizes, no
//! stores.

use std::collections::{BTreeMap, BTreeSet};

use hv_core::addr::{Gfn, GfnRange, Hvn, HvnRange, PAGE_SIZE};
use hv_core::memslot::Slot;
use hv_core::radix::format::Prot;

use crate::op::{ALIAS_AT, BLOCK, OBJECT, OBJECT_AT, RAM};

/// Pages that hold anything but zeros, perhaps.
type Pages = BTreeMap<u64, Box<[u8; PAGE_SIZE]>>;

/// Where a page is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A VM's own RAM.
    Ram(usize, u64),
    /// The object that both map.
    Object(u64),
}

/// What a VM's dirty log knows.
#[derive(Default)]
struct Log {
    /// Stored to since it was last told.
    stored: BTreeSet<Place>,
    /// Perhaps stored to: made ready for it.
    ready: BTreeSet<Place>,
}

/// All memory of two VMs.
pub struct Model {
    ram: [Pages; 2],
    object: Pages,
    windows: [Vec<Slot>; 2],
    /// By how many pages the object lies off its own alignment in a VM's host space.
    shifts: [u64; 2],
    logs: [Option<Log>; 2],
}

/// The host page of guest frame 0: RAM begins at 16 TiB.
const BASE: u64 = 1 << 32;

fn slot(gfn: u64, pages: u64, hvn: u64, prot: Prot) -> Slot {
    let gfns = GfnRange::new(Gfn(gfn), pages).expect("a window is not empty");
    Slot::new(gfns, Hvn(hvn), prot).expect("a window lies in the address space")
}

/// A set of windows.
pub fn layout(number: u64, shift: u64) -> Vec<Slot> {
    let (all, read) = (Prot::all(), Prot::READ.union(Prot::EXEC));
    let ram = |at, pages, prot| slot(at, pages, BASE, prot);
    // Begins and ends inside of blocks.
    let middle = slot(BLOCK / 2, BLOCK, BASE + BLOCK / 2, all);
    let object = |prot| slot(OBJECT_AT, OBJECT, BASE + OBJECT_AT + shift, prot);
    match number {
        0 => vec![ram(0, RAM, all), object(all)],
        1 => vec![ram(0, RAM, read), object(all)],
        2 => vec![middle, object(read)],
        3 => vec![ram(ALIAS_AT, RAM, all), object(all)],
        _ => vec![ram(0, RAM, all), ram(ALIAS_AT + 1, RAM - 1, all)],
    }
}

impl Model {
    /// Nothing has been written, and all windows are open.
    pub fn new(shifts: [u64; 2]) -> Self {
        let windows = shifts.map(|shift| layout(0, shift));
        Self { ram: Default::default(), object: Pages::new(), windows, shifts, logs: [None, None] }
    }

    /// Replaces the windows of a VM. They are returned.
    pub fn rewindow(&mut self, vm: usize, number: u64) -> &[Slot] {
        self.windows[vm] = layout(number, self.shifts[vm]);
        &self.windows[vm]
    }

    fn place(&self, vm: usize, page: Hvn) -> Place {
        let n = page.0 - BASE;
        if n < RAM { Place::Ram(vm, n) } else { Place::Object(n - OBJECT_AT - self.shifts[vm]) }
    }

    /// What a guest frame shows, and what may be done there.
    pub fn at(&self, vm: usize, gfn: u64) -> Option<(Place, Prot)> {
        let slot = self.windows[vm].iter().find(|slot| slot.gfns().contains(Gfn(gfn)))?;
        Some((self.place(vm, slot.hvn(Gfn(gfn))?), slot.prot()))
    }

    /// The place, if it may be used so.
    pub fn usable(&self, vm: usize, gfn: u64, need: Prot) -> Option<Place> {
        self.at(vm, gfn).filter(|(_, prot)| prot.contains(need)).map(|(place, _)| place)
    }

    fn pages_of(&mut self, place: Place) -> (&mut Pages, u64) {
        match place {
            Place::Ram(vm, n) => (&mut self.ram[vm], n),
            Place::Object(n) => (&mut self.object, n),
        }
    }

    /// Bytes of one page.
    pub fn read(&self, place: Place, offset: usize, into: &mut [u8]) {
        let page = match place {
            Place::Ram(vm, n) => self.ram[vm].get(&n),
            Place::Object(n) => self.object.get(&n),
        };
        match page {
            Some(page) => into.copy_from_slice(&page[offset..offset + into.len()]),
            None => into.fill(0),
        }
    }

    /// A word.
    pub fn word(&self, place: Place, offset: usize) -> u64 {
        let mut word = [0; 8];
        self.read(place, offset, &mut word);
        u64::from_le_bytes(word)
    }

    /// A VM, or its hypervisor, writes bytes of one page.
    pub fn write(&mut self, vm: usize, place: Place, offset: usize, from: &[u8]) {
        let (pages, n) = self.pages_of(place);
        let page = pages.entry(n).or_insert_with(|| Box::new([0; PAGE_SIZE]));
        page[offset..offset + from.len()].copy_from_slice(from);
        self.logs[vm].iter_mut().for_each(|log| _ = log.stored.insert(place));
    }

    /// A VM is about to write a page, and may not come to it.
    pub fn ready(&mut self, vm: usize, place: Place) {
        self.logs[vm].iter_mut().for_each(|log| _ = log.ready.insert(place));
    }

    /// What is discarded reads as zeros, and counts as stored to.
    pub fn discard(&mut self, vm: usize, gfn: u64, pages: u64) {
        let shown: Vec<Place> = (gfn..gfn + pages).filter_map(|gfn| Some(self.at(vm, gfn)?.0)).collect();
        for place in shown {
            let (pages, n) = self.pages_of(place);
            pages.remove(&n);
            self.logs[vm].iter_mut().for_each(|log| _ = log.stored.insert(place));
        }
    }

    /// The same of the object, by no VM.
    pub fn punch(&mut self, from: u64, to: u64) {
        self.object.retain(|n, _| !(from..to).contains(n));
    }

    /// The log is turned on, or off.
    pub fn log(&mut self, vm: usize, on: bool) {
        match (&mut self.logs[vm], on) {
            (Some(_), true) => {}
            (log, true) => *log = Some(Log::default()),
            (log, false) => *log = None,
        }
    }

    /// Is that what a harvest has to tell? What no window shows is for a later one.
    pub fn harvested(&mut self, vm: usize, told: &BTreeSet<u64>) -> Result<(), String> {
        let Some(log) = self.logs[vm].take() else {
            return if told.is_empty() { Ok(()) } else { Err(format!("a log that is off tells of {told:#x?}")) };
        };
        let shown =
            |place: &Place| self.windows[vm].iter().flat_map(|slot| self.seen(vm, slot, *place)).collect::<Vec<_>>();
        for place in &log.stored {
            if let Some(gfn) = shown(place).iter().find(|gfn| !told.contains(gfn)) {
                return Err(format!("G4: {place:?} was stored to, and the log does not tell of {gfn:#x}"));
            }
        }
        for gfn in told {
            let place = self.at(vm, *gfn).ok_or(format!("the log tells of {gfn:#x}, where nothing is"))?.0;
            if !log.stored.contains(&place) && !log.ready.contains(&place) {
                return Err(format!("the log tells of {place:?}, where nobody stored"));
            }
        }
        let hidden = |set: BTreeSet<Place>| set.into_iter().filter(|place| shown(place).is_empty()).collect();
        self.logs[vm] = Some(Log { stored: hidden(log.stored), ready: hidden(log.ready) });
        Ok(())
    }

    /// Through which guest frame a window shows a place.
    fn seen(&self, vm: usize, slot: &Slot, place: Place) -> Option<u64> {
        let n = match place {
            Place::Ram(_, n) => n,
            Place::Object(n) => OBJECT_AT + self.shifts[vm] + n,
        };
        let page = HvnRange::new(Hvn(BASE + n), 1)?;
        Some(slot.gfns_of(&page)?.start().0)
    }

    /// Every page that was ever written and not given back, as a VM sees it with all windows open.
    pub fn written(&self, vm: usize) -> Vec<(u64, Place)> {
        let ram = self.ram[vm].keys().map(|n| (*n, Place::Ram(vm, *n)));
        ram.chain(self.object.keys().map(|n| (OBJECT_AT + n, Place::Object(*n)))).collect()
    }
}
