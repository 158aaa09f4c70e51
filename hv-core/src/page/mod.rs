//! Physical frames.

mod bitmap;
mod buddy;
mod frame;
pub mod zeroed;

pub use buddy::{Counts, Frames, FramesError, MAX_ORDER, MAX_ZONES};
pub use frame::{Content, Frame, GuestFrame, Zeroed};
