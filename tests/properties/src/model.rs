//! What memory is: pages of bytes behind windows, and nothing else. No frames, no tables, no sizes, no stores.

use std::collections::BTreeMap;

use hv_core::addr::{Gfn, GfnRange, Hvn, PAGE_SIZE};
use hv_core::memslot::Slot;
use hv_core::radix::format::Prot;

use crate::op::{ALIAS_AT, BLOCK, OBJECT, OBJECT_AT, RAM};

/// Pages that hold anything but zeros, perhaps.
type Pages = BTreeMap<u64, Box<[u8; PAGE_SIZE]>>;

/// Where a page is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A VM's own RAM.
    Ram(usize, u64),
    /// The object that both map.
    Object(u64),
}

/// All memory of two VMs.
pub struct Model {
    ram: [Pages; 2],
    object: Pages,
    windows: [Vec<Slot>; 2],
    /// By how many pages the object lies off its own alignment in a VM's host space.
    shifts: [u64; 2],
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
    let object = |prot| slot(OBJECT_AT, OBJECT, BASE + OBJECT_AT + shift, prot);
    match number {
        0 => vec![ram(0, RAM, all), object(all)],
        1 => vec![ram(0, RAM, read), object(all)],
        2 => vec![ram(0, BLOCK + BLOCK / 2, all), object(read)],
        3 => vec![ram(ALIAS_AT, RAM, all), object(all)],
        _ => vec![ram(0, RAM, all), ram(ALIAS_AT + 1, RAM - 1, all)],
    }
}

impl Model {
    /// Nothing has been written, and all windows are open.
    pub fn new(shifts: [u64; 2]) -> Self {
        let windows = shifts.map(|shift| layout(0, shift));
        Self { ram: Default::default(), object: Pages::new(), windows, shifts }
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

    /// Writes bytes of one page.
    pub fn write(&mut self, place: Place, offset: usize, from: &[u8]) {
        let (pages, n) = self.pages_of(place);
        let page = pages.entry(n).or_insert_with(|| Box::new([0; PAGE_SIZE]));
        page[offset..offset + from.len()].copy_from_slice(from);
    }

    /// What is discarded reads as zeros.
    pub fn discard(&mut self, vm: usize, gfn: u64, pages: u64) {
        let shown: Vec<Place> = (gfn..gfn + pages).filter_map(|gfn| Some(self.at(vm, gfn)?.0)).collect();
        for place in shown {
            let (pages, n) = self.pages_of(place);
            pages.remove(&n);
        }
    }

    /// The same of the object.
    pub fn punch(&mut self, from: u64, to: u64) {
        self.object.retain(|n, _| !(from..to).contains(n));
    }

    /// Every page that was ever written and not given back, as a VM sees it with all windows open.
    pub fn written(&self, vm: usize) -> Vec<(u64, Place)> {
        let ram = self.ram[vm].keys().map(|n| (*n, Place::Ram(vm, *n)));
        ram.chain(self.object.keys().map(|n| (OBJECT_AT + n, Place::Object(*n)))).collect()
    }
}
