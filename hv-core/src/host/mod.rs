//! The host table: the truth about a VM's memory. One per VM: hva -> frame, or nothing yet, or in transition.
//!
//! Stage 2 is derived from it and may be dropped at any time; only changes here fire the notifier.
//!
//! ```text
//!   region.rs     what the space is made of, and the policy      fixed when the VM is built
//!   populate.rs   hole -> leaf, small or huge                    any CPU, no lock
//!   run.rs          the same for memory that comes in runs         host lock
//!   discard.rs    leaf -> hole, splitting at the edges           host lock, bracket over every leaf it touches
//!   detach.rs       leaf tables with all that they hold          the same
//!   collapse.rs   table of small leaves -> one large leaf        host lock, bracket over the block
//!   shared.rs     the same three for pages of shared objects       their extent's lock as well
//!   swap.rs       leaf -> swapped -> leaf                        out: host lock, bracket; in: any CPU, no lock
//!   reclaim.rs    looks for pages that are not used              the machine's one reclaimer
//!   scan.rs       looks for blocks to collapse                   a CPU between turns, one block a step
//!   survey.rs     what the pages of a range are                 any CPU, no lock
//! ```

mod collapse;
mod counts;
mod detach;
mod discard;
mod format;
mod populate;
mod reclaim;
mod region;
mod run;
mod scan;
pub(crate) mod shared;
mod space;
mod survey;
mod swap;

pub use collapse::{Collapsed, ENOUGH, NotCollapsed};
pub use counts::HostStats;
pub(crate) use discard::discard;
pub use format::HostFormat;
pub(crate) use reclaim::MOST_REFUSED;
pub use reclaim::Reclaimed;
pub(crate) use reclaim::reclaim;
pub use region::{Backing, HugePolicy, MAX_REGIONS, NotHuge, Region, RegionError, Regions};
pub(crate) use scan::scan;
pub use scan::{ScanCursor, Scanned};
pub use space::{HostPage, HostSpace, Pages, Peek, Populate};
pub use survey::Survey;

use crate::addr::Order;
use crate::isa::RadixFormat;

/// The size of a huge leaf: 2 MiB; two pages under a model checker.
pub const HUGE: Order = order_of_levels(1);
/// The size of a giant leaf: 1 GiB. Under a model checker the table has no level for it.
pub const GIANT: Order = order_of_levels(2);

const fn order_of_levels(levels: usize) -> Order {
    let mut bits = 0;
    let mut n = 0;
    while n < levels && n < HostFormat::BITS.len() {
        bits += HostFormat::BITS[n];
        n += 1;
    }
    match Order::new(bits) {
        Some(order) => order,
        None => Order::MAX,
    }
}
