//! What can be asked of guest memory, drawn from a number.

use hv_core::host::HUGE;

/// Pages of a large block.
pub const BLOCK: u64 = HUGE.pages();
/// Pages of RAM that a VM has.
pub const RAM: u64 = 3 * BLOCK;
/// Pages of the object that both VMs map.
pub const OBJECT: u64 = 2 * BLOCK;
/// Where a VM sees the object.
pub const OBJECT_AT: u64 = 8 * BLOCK;
/// Where a VM may see its RAM a second time, or instead.
pub const ALIAS_AT: u64 = 16 * BLOCK;
/// Sets of windows to choose from.
pub const LAYOUTS: u64 = 5;
/// CPUs whose hardware runs the guests.
pub const CPUS: u64 = 3;

/// Pages of a block that are worth a look: where blocks and batches end.
const EDGES: [u64; 8] = [0, 1, 2, 255, 256, 300, BLOCK - 2, BLOCK - 1];
const OFFSETS: [u64; 4] = [0, 8, 2040, 4088];
const LENGTHS: [u64; 7] = [1, 2, 7, BLOCK - 1, BLOCK, BLOCK + 1, RAM];
const BYTES: [usize; 5] = [1, 8, 100, 4096, 8192];

/// One operation. Addresses are guest frames; `vm` is 0 or 1.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// The guest stores a word.
    Store { vm: usize, cpu: u16, gfn: u64, offset: u64, value: u64 },
    /// The guest loads a word.
    Load { vm: usize, cpu: u16, gfn: u64, offset: u64 },
    /// The hypervisor writes for the guest, from one byte of a page on.
    Write { vm: usize, gfn: u64, offset: u64, len: usize, value: u8 },
    /// The hypervisor reads.
    Read { vm: usize, gfn: u64, offset: u64, len: usize },
    /// The hypervisor writes or reads a word of the page that it keeps in mind.
    Cached { vm: usize, offset: u64, value: Option<u64> },
    /// Pages are populated and mapped before the guest asks.
    MapRange { vm: usize, gfn: u64, pages: u64 },
    /// The guest gives pages back.
    Discard { vm: usize, gfn: u64, pages: u64 },
    /// Pages are worth large blocks.
    Advise { vm: usize, gfn: u64, pages: u64 },
    /// Some steps of the search for blocks to collapse.
    Scan { vm: usize, steps: u64 },
    /// Other windows.
    Rewindow { vm: usize, layout: u64 },
    /// Pages go to the store.
    Reclaim { vm: usize, want: u64 },
    /// Pages of the object are given back, whoever maps them.
    Punch { page: u64, pages: u64 },
    /// What the object's teams keep ready is given back.
    Shrink { want: u64 },
    /// An extent of the object goes to the store.
    SwapOut { page: u64 },
    /// The dirty log is turned on.
    LogStart { vm: usize },
    /// It tells what was stored to.
    LogHarvest { vm: usize },
    /// It is turned off.
    LogStop { vm: usize },
    /// Nearly all of the machine's memory is taken.
    Squeeze { left: usize },
    /// It comes back.
    Relax,
    /// Everything that is checked of a VM at rest.
    Check,
}

/// A number, used up digit by digit.
struct Digits(u64);

impl Digits {
    fn below(&mut self, n: u64) -> u64 {
        let digit = self.0 % n;
        self.0 /= n;
        digit
    }

    fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn vm(&mut self) -> usize {
        self.below(2) as usize
    }

    /// A guest frame: in RAM as often as in all other places, and now and then where nothing is.
    fn gfn(&mut self) -> u64 {
        let block = match self.below(12) {
            n @ 0..6 => n % 3 * BLOCK,
            n @ 6..9 => OBJECT_AT + n % 2 * BLOCK,
            n @ 9..11 => ALIAS_AT + n % 2 * BLOCK,
            _ => RAM,
        };
        block + self.of(&EDGES)
    }

    fn pages(&mut self) -> u64 {
        self.of(&LENGTHS)
    }

    fn page(&mut self) -> u64 {
        self.below(2) * BLOCK + self.of(&EDGES)
    }
}

impl Op {
    /// The operation that a number means. Small numbers mean simple ones.
    pub fn drawn(number: u64) -> Self {
        let mut d = Digits(number);
        let (kind, vm) = (d.below(128), d.vm());
        match kind {
            0..38 => {
                let (cpu, gfn, offset) = (d.below(CPUS) as u16, d.gfn(), d.of(&OFFSETS));
                Self::Store { vm, cpu, gfn, offset, value: d.below(1 << 16) }
            }
            38..62 => Self::Load { vm, cpu: d.below(CPUS) as u16, gfn: d.gfn(), offset: d.of(&OFFSETS) },
            62..64 => match d.below(4) {
                0 => Self::LogStart { vm },
                1 if d.below(4) == 0 => Self::LogStop { vm },
                _ => Self::LogHarvest { vm },
            },
            64..76 => {
                let (gfn, offset, len) = (d.gfn(), d.of(&OFFSETS) + d.below(2), d.of(&BYTES));
                Self::Write { vm, gfn, offset, len, value: d.below(256) as u8 }
            }
            76..84 => Self::Read { vm, gfn: d.gfn(), offset: d.of(&OFFSETS) + d.below(2), len: d.of(&BYTES) },
            84..92 => {
                let offset = d.of(&OFFSETS);
                Self::Cached { vm, offset, value: (d.below(2) == 0).then(|| d.below(1 << 16)) }
            }
            92..94 => Self::MapRange { vm, gfn: d.gfn(), pages: d.pages() },
            94..106 => Self::Discard { vm, gfn: d.gfn(), pages: d.pages() },
            106..108 => Self::Advise { vm, gfn: d.gfn(), pages: d.pages() },
            108..113 => Self::Scan { vm, steps: 1 + d.below(5) },
            113..115 => Self::Rewindow { vm, layout: d.below(LAYOUTS) },
            115..118 => Self::Reclaim { vm, want: 1 << d.below(9) },
            118..120 => Self::Punch { page: d.page(), pages: d.pages() },
            120 => Self::Shrink { want: 1 << d.below(10) },
            121..123 => Self::SwapOut { page: d.page() },
            123 => Self::Squeeze { left: d.below(12) as usize },
            // Dear, and done at the end of each sequence.
            124 if d.below(8) == 0 => Self::Check,
            _ => Self::Relax,
        }
    }
}
