//! Instructions that hardware leaves to us: what they do to a device's memory, and how long they are.
//!
//! An emulated SVM says neither where the next instruction is nor what the one that faulted was; VMX gives lengths, but
//! not what a load from a device is for. The bytes come from guest memory, which other vCPUs write to while we look:
//! they are hostile. Nothing here reads memory or panics; no instruction is ever longer than [`MAX`] bytes nor than
//! what it was decoded from.
//!
//! - [`mmio()`]: one access to a device, as an [`Instruction`]; [`Instruction::run`] does the rest of it.
//! - [`length`]: how long one of the instructions is that end a guest's run by themselves; [`to_cr8`]: the same of one that has
//!   an operand.
//!
//! **Why not a library.** Those that decode everything are large or need a heap: of what an image holds in 256 KiB,
//! measured for size, one took 170 KiB of text, another 24 KiB and 80 KiB of tables that it builds in a heap when first
//! used; and what an instruction does would be ours all the same. What guests do to devices is a handful of forms. The
//! second of those libraries judges this one in tests, over all that it accepts.

mod bytes;
mod instruction;
mod mmio;
mod operand;
mod run;
mod trapped;

pub use bytes::{Error, MAX, Mode, Segment};
pub use instruction::{Alu, Extend, Instruction, Operation, Register, Source};
pub use mmio::mmio;
pub use run::{Flow, Registers, Step};
pub use trapped::{Trapped, length, to_cr8};

#[cfg(test)]
mod tests;
