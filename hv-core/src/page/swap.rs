//! Where pages go that are swapped out.

use super::Zeroed;
use crate::addr::Pfn;
use crate::epoch::Cpu;
use crate::machine::Machine;

/// The store has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A store of pages of one object, by their index in it.
///
/// Called with the lock of the page's extent held: an implementation takes no ranked lock and touches no object.
pub trait Swap<M: Machine>: Send + Sync {
    /// Keeps what is in `frame`, which nobody writes meanwhile.
    fn keep(&self, cpu: &Cpu, m: &M, index: u64, frame: Pfn) -> Result<(), Full>;
    /// Writes what it keeps of page `index` to `page`, all of it but zeros, and forgets it.
    fn bring(&self, cpu: &Cpu, m: &M, index: u64, page: &Zeroed);
    /// Forgets page `index`.
    fn forget(&self, index: u64);
}
