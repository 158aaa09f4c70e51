//! Reads a flattened tree in place. Whatever is not as it should be ends what is being read (R26): firmware wrote it, and
//! what is missing then is said by whoever looks for it.

use super::{BEGIN_NODE, END_NODE, HEADER, MAGIC, NOTHING, PROPERTY};

/// A flattened tree.
#[derive(Clone, Copy)]
pub struct Tree<'a> {
    structure: &'a [u8],
    names: &'a [u8],
    reservations: &'a [u8],
}

/// A node of one.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    tree: Tree<'a>,
    /// Its name, with its unit address.
    pub name: &'a str,
    /// Where its properties begin, in the structure.
    at: usize,
}

/// A piece of the structure.
enum Piece<'a> {
    Begin(&'a str),
    Property(&'a str, &'a [u8]),
    End,
}

impl<'a> Tree<'a> {
    /// Finds its parts; `None` if it is no tree.
    pub fn new(blob: &'a [u8]) -> Option<Self> {
        if blob.len() < HEADER || cell(blob, 0)? != MAGIC {
            return None;
        }
        let from = |at| blob.get(cell(blob, at)? as usize..);
        let part = |at, length| from(at)?.get(..cell(blob, length)? as usize);
        Some(Self { structure: part(8, 36)?, names: part(12, 32)?, reservations: from(16)? })
    }

    /// The root.
    pub fn root(self) -> Option<Node<'a>> {
        match self.piece(0)? {
            (Piece::Begin(name), at) => Some(Node { tree: self, name, at }),
            (Piece::Property(..) | Piece::End, _) => None,
        }
    }

    /// Memory that whoever made the tree keeps: address and size in bytes.
    pub fn reservations(self) -> impl Iterator<Item = (u64, u64)> {
        let wide = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
        let pairs = self.reservations.chunks_exact(16);
        pairs
            .map_while(move |pair| Some((wide(pair.get(..8)?)?, wide(pair.get(8..)?)?)))
            .take_while(|pair| *pair != (0, 0))
    }

    /// What stands at `at`, and where the next piece does.
    fn piece(self, mut at: usize) -> Option<(Piece<'a>, usize)> {
        loop {
            let kind = cell(self.structure, at)?;
            at += 4;
            return match kind {
                BEGIN_NODE => {
                    let name = text(self.structure, at)?;
                    Some((Piece::Begin(name), (at + name.len() + 1).next_multiple_of(4)))
                }
                PROPERTY => {
                    let length = cell(self.structure, at)? as usize;
                    let name = text(self.names, cell(self.structure, at + 4)? as usize)?;
                    let value = self.structure.get(at + 8..)?.get(..length)?;
                    Some((Piece::Property(name, value), (at + 8 + length).next_multiple_of(4)))
                }
                END_NODE => Some((Piece::End, at)),
                NOTHING => continue,
                // The end of the tree, or none of this specification.
                _ => None,
            };
        }
    }
}

impl<'a> Node<'a> {
    /// A property's bytes.
    pub fn property(&self, wanted: &str) -> Option<&'a [u8]> {
        let mut at = self.at;
        loop {
            match self.tree.piece(at)? {
                (Piece::Property(name, value), _) if name == wanted => return Some(value),
                (Piece::Property(..), next) => at = next,
                // Properties come before nodes.
                (Piece::Begin(_) | Piece::End, _) => return None,
            }
        }
    }

    /// The nodes right below it.
    pub fn children(&self) -> impl Iterator<Item = Node<'a>> {
        let (tree, mut at, mut depth) = (self.tree, self.at, 0_u32);
        core::iter::from_fn(move || {
            loop {
                let (piece, next) = tree.piece(at)?;
                match piece {
                    Piece::Property(..) => {}
                    Piece::End => depth = depth.checked_sub(1)?,
                    Piece::Begin(name) => {
                        depth += 1;
                        if depth == 1 {
                            at = next;
                            return Some(Node { tree, name, at });
                        }
                    }
                }
                at = next;
            }
        })
    }

    /// The node of this name, unit address apart, right below it.
    pub fn child(&self, wanted: &str) -> Option<Node<'a>> {
        self.children().find(|node| node.kind() == wanted)
    }

    /// Its name without its unit address.
    pub fn kind(&self) -> &'a str {
        let end = self.name.bytes().position(|b| b == b'@');
        end.and_then(|end| self.name.get(..end)).unwrap_or(self.name)
    }
}

fn cell(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The text up to the next zero.
fn text(bytes: &[u8], at: usize) -> Option<&str> {
    let rest = bytes.get(at..)?;
    core::str::from_utf8(rest.get(..rest.iter().position(|b| *b == 0)?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::Tree;
    use crate::flat::tree;
    use proptest::prelude::{any, proptest};

    fn small() -> Vec<u8> {
        let reserved = [(0x1000, 0x20), (5, 6)];
        tree(&reserved, |root| {
            root.cell("a", 7);
            root.node(&"n@1", |node| {
                node.text("b", "xyz");
                node.node(&"deep", |deep| deep.cell("a", 8));
            });
            root.node(&"n@2", |node| node.bytes("none", &[]));
        })
        .unwrap()
    }

    #[test]
    fn nodes_properties_and_reservations_are_found_at_their_depth() {
        let blob = small();
        let tree = Tree::new(&blob).unwrap();
        let root = tree.root().unwrap();
        assert_eq!(root.property("a"), Some(&[0, 0, 0, 7][..]));
        assert_eq!(root.property("b"), None, "a child's");
        assert_eq!(root.children().map(|node| node.name).collect::<Vec<_>>(), ["n@1", "n@2"]);
        let first = root.child("n").unwrap();
        assert_eq!((first.name, first.property("b")), ("n@1", Some(&b"xyz\0"[..])));
        assert_eq!(first.child("deep").unwrap().property("a"), Some(&[0, 0, 0, 8][..]));
        assert!(root.child("deep").is_none() && first.children().count() == 1);
        assert_eq!(tree.reservations().collect::<Vec<_>>(), [(0x1000, 0x20), (5, 6)]);
    }

    proptest! {
        /// R26: nothing that firmware hands over makes the reader panic or go on for ever.
        #[test]
        fn r26_a_damaged_tree_is_read_as_far_as_it_goes(changes in proptest::collection::vec((0_usize..256, any::<u8>()), 1..6)) {
            let mut blob = small();
            for (at, byte) in changes {
                let len = blob.len();
                blob[at % len] = byte;
            }
            if let Some(tree) = Tree::new(&blob) {
                let found = tree.root().map_or(0, |root| root.children().map(|node| node.children().count()).sum());
                assert!(found <= blob.len() && tree.reservations().count() <= blob.len());
            }
        }
    }
}
