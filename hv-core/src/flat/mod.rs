//! Flattened device trees (Devicetree Specification 0.4, chapter 5): backends read the machine's and write the guests', and
//! one that firmware shows by calls only is written down to be read. Pure.
//!
//! All of them are known in the order in which they are stored, so nothing is modelled. A library that does, and checks what
//! the specification asks of names (to which not all firmware keeps), takes 20 KiB of an image of 256; the tests have it as
//! the other opinion.

mod reader;
mod writer;

pub use reader::{Node, Tree};
pub use writer::{NoHeap, Writer, tree};

const MAGIC: u32 = 0xd00d_feed;
/// Ten cells: magic, length of the blob, where structure, strings and reservations begin, version, last version that it is
/// compatible with, boot processor, lengths of strings and of structure.
const HEADER: usize = 40;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOTHING: u32 = 4;
const END: u32 = 9;
