//! Flattened device trees (Devicetree Specification 0.4, chapter 5): the machine's is read, the guests' are written, and
//! Open Firmware's is written down to be read.
//!
//! All of them are known in the order in which they are stored, so nothing is modelled. A library that does, and checks what
//! the specification asks of names (of which PAPR's are not all), takes 20 KiB of an image of 256; the tests have it as the
//! other opinion.

mod reader;
mod writer;

pub use reader::{Node, Tree};
pub use writer::{Writer, tree};

const MAGIC: u32 = 0xd00d_feed;
/// Ten cells: magic, length of the blob, where structure, strings and reservations begin, version, last version that it is
/// compatible with, boot processor, lengths of strings and of structure.
const HEADER: usize = 40;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOTHING: u32 = 4;
const END: u32 = 9;
