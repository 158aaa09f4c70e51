//! Writes a flattened tree, front to back.

use alloc::vec::Vec;
use core::fmt::{self, Display, Write as _};

use super::{BEGIN_NODE, END, END_NODE, HEADER, MAGIC, PROPERTY};

const VERSION: u32 = 17;
const LAST_COMPATIBLE: u32 = 16;

/// There is no heap for the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHeap;

/// A tree while it is written: properties and nodes belong to the node whose closure runs, properties first.
pub struct Writer {
    blob: Vec<u8>,
    names: Vec<u8>,
    /// Some bytes found no heap. Said once, at the end.
    short: bool,
}

/// Writes a tree with these reservations (address and size); `root` fills its root. The boot processor is 0.
pub fn tree(reserved: &[(u64, u64)], root: impl FnOnce(&mut Writer)) -> Result<Vec<u8>, NoHeap> {
    let mut tree = Writer { blob: Vec::new(), names: Vec::new(), short: false };
    tree.put(&[0; HEADER]);
    for (at, bytes) in reserved.iter().copied().chain([(0, 0)]) {
        tree.put(&at.to_be_bytes());
        tree.put(&bytes.to_be_bytes());
    }
    let structure = tree.blob.len();
    tree.node(&"", root);
    tree.token(END);
    let strings = tree.blob.len();
    let names = core::mem::take(&mut tree.names);
    tree.put(&names);
    let cells = [
        MAGIC as usize,
        tree.blob.len(),
        structure,
        strings,
        HEADER,
        VERSION as usize,
        LAST_COMPATIBLE as usize,
        0,
        names.len(),
        strings - structure,
    ];
    for (into, cell) in tree.blob.chunks_exact_mut(4).zip(cells) {
        into.copy_from_slice(&(cell as u32).to_be_bytes());
    }
    if tree.short { Err(NoHeap) } else { Ok(tree.blob) }
}

impl Writer {
    /// A node; `fill` gives it what it has.
    pub fn node<R>(&mut self, name: &dyn Display, fill: impl FnOnce(&mut Self) -> R) -> R {
        self.token(BEGIN_NODE);
        // Writing to heap fails only by `short`.
        let _ = write!(Text(self), "{name}");
        self.put(&[0]);
        self.align();
        let filled = fill(self);
        self.token(END_NODE);
        filled
    }

    /// A property of these bytes. Of none: its presence is all it says.
    pub fn bytes(&mut self, name: &str, value: &[u8]) {
        self.property(name, value.len());
        self.put(value);
        self.align();
    }

    /// A property of one cell.
    pub fn cell(&mut self, name: &str, value: u32) {
        self.cells(name, &[value]);
    }

    /// A property of cells.
    pub fn cells(&mut self, name: &str, values: &[u32]) {
        self.property(name, 4 * values.len());
        values.iter().for_each(|value| self.token(*value));
    }

    /// A property of numbers of two cells each.
    pub fn wide(&mut self, name: &str, values: &[u64]) {
        self.property(name, 8 * values.len());
        values.iter().for_each(|value| self.put(&value.to_be_bytes()));
    }

    /// A property of one text.
    pub fn text(&mut self, name: &str, value: &str) {
        self.texts(name, &[value]);
    }

    /// A property of texts.
    pub fn texts(&mut self, name: &str, values: &[&str]) {
        self.property(name, values.iter().map(|text| text.len() + 1).sum());
        for text in values {
            self.put(text.as_bytes());
            self.put(&[0]);
        }
        self.align();
    }

    /// A property's head: so many bytes follow it.
    fn property(&mut self, name: &str, length: usize) {
        let name = self.name(name);
        [PROPERTY, length as u32, name as u32].into_iter().for_each(|cell| self.token(cell));
    }

    /// Where the name stands among the names, each of which stands there once.
    fn name(&mut self, name: &str) -> usize {
        let mut at = 0;
        for known in self.names.split(|&b| b == 0) {
            if known == name.as_bytes() {
                return at;
            }
            at += known.len() + 1;
        }
        let at = self.names.len();
        self.short |= append(&mut self.names, name.as_bytes()).and_then(|()| append(&mut self.names, &[0])).is_err();
        at
    }

    fn token(&mut self, cell: u32) {
        self.put(&cell.to_be_bytes());
    }

    fn align(&mut self) {
        while !self.blob.len().is_multiple_of(4) && !self.short {
            self.put(&[0]);
        }
    }

    #[inline(never)]
    fn put(&mut self, bytes: &[u8]) {
        self.short |= append(&mut self.blob, bytes).is_err();
    }
}

/// The guest's number of vCPUs decides how long a tree is: no heap for it is an error of that VM's.
fn append(to: &mut Vec<u8>, bytes: &[u8]) -> Result<(), NoHeap> {
    to.try_reserve(bytes.len()).map_err(|_| NoHeap)?;
    to.extend_from_slice(bytes);
    Ok(())
}

struct Text<'a>(&'a mut Writer);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.put(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::tree;
    use dtoolkit::fdt::Fdt;
    use dtoolkit::{Node, Property};

    #[test]
    fn what_is_written_is_read_back_by_an_independent_reader() {
        let blob = tree(&[(0x1000, 0x20)], |root| {
            root.text("model", "a");
            root.bytes("mark", &[]);
            root.node(&format_args!("n@{:x}", 31), |node| {
                node.cells("cells", &[1, 0x1234_5678]);
                node.node(&"deep", |deep| deep.texts("model", &["xyz", ""]));
            });
            root.node(&"m", |node| node.wide("wide", &[0x1_0000_0002]));
        })
        .unwrap();
        let fdt = Fdt::new(&blob).unwrap();
        let value = |path: &str, name: &str| fdt.find_node(path).unwrap().property(name).unwrap().value().to_vec();
        assert_eq!((value("/", "model"), value("/", "mark")), (b"a\0".to_vec(), vec![]));
        assert_eq!(value("/n@1f", "cells"), [0, 0, 0, 1, 0x12, 0x34, 0x56, 0x78]);
        assert_eq!(value("/n@1f/deep", "model"), b"xyz\0\0");
        assert_eq!(value("/m", "wide"), [0, 0, 0, 1, 0, 0, 0, 2]);
        let reserved: Vec<_> = fdt.memory_reservations().map(|area| (area.address(), area.size())).collect();
        assert_eq!(reserved, [(0x1000, 0x20)]);
        assert_eq!(blob.windows(6).filter(|bytes| bytes == b"model\0").count(), 1, "a name is stored once");
        assert_eq!((fdt.root().children().count(), blob.len() % 4), (2, 2), "names end the blob");
    }
}
