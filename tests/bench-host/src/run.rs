//! Rounds: every competitor does every operation once a round, in the same process, on the same CPU.

#![expect(unsafe_code, reason = "a system call")]

use crate::subject::{self, FIRST_KEY, FIRST_PFN, PAGES, Subject};
use crate::vm;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// One page mapped, every table above it there.
    Map,
    /// One page looked up; the next one's number is known before.
    Independent,
    /// One page looked up; the result says which is next.
    Dependent,
    /// One page unmapped.
    Unmap,
    /// A page of a range of 1 GiB mapped by 4 KiB leaves.
    MapRange,
    /// A page of such a range unmapped.
    UnmapRange,
    /// One walk guard, opened and closed.
    Guard,
    /// One commit section: sample, enter, test, leave.
    Section,
    /// A fault on a page that nobody has touched: a frame, zeroed; an entry in each of the two tables.
    FaultFresh,
    /// A fault on a page that is there.
    FaultPresent,
    /// A store that faults because the dirty log wants to know: the page is there, and mapped for loads.
    DirtyFault,
    /// A page of a harvest that finds 64 MiB of them.
    Harvest,
    /// A page of a range of 512 published in one section.
    InstallEach,
    /// A page of 64 MiB given back: translation, host entry, frame.
    Discard,
    /// One leaf of 2 MiB split into a table of 512.
    Split,
}

impl Op {
    /// What every competitor does, in this order.
    pub const TABLES: [Self; 6] =
        [Self::Map, Self::Independent, Self::Dependent, Self::Unmap, Self::MapRange, Self::UnmapRange];
    /// What only Trivet does.
    pub const VM: [Self; 9] = [
        Self::Guard,
        Self::Section,
        Self::FaultPresent,
        Self::FaultFresh,
        Self::DirtyFault,
        Self::Harvest,
        Self::InstallEach,
        Self::Discard,
        Self::Split,
    ];

    /// How often one round does it.
    pub fn times(self) -> u64 {
        match self {
            Self::Map | Self::Independent | Self::Dependent | Self::Unmap | Self::MapRange | Self::UnmapRange => PAGES,
            Self::Guard | Self::Section => vm::TIMES,
            Self::FaultFresh | Self::FaultPresent | Self::DirtyFault | Self::Harvest => vm::PAGES,
            Self::InstallEach | Self::Discard => vm::PAGES,
            Self::Split => vm::LEAVES,
        }
    }

    /// Its name in lines and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::Independent => "lookup",
            Self::Dependent => "lookup-dependent",
            Self::Unmap => "unmap",
            Self::MapRange => "map-range",
            Self::UnmapRange => "unmap-range",
            Self::Guard => "guard",
            Self::Section => "section",
            Self::FaultFresh => "fault-fresh",
            Self::FaultPresent => "fault-present",
            Self::DirtyFault => "dirty-fault",
            Self::Harvest => "harvest",
            Self::InstallEach => "install-each",
            Self::Discard => "discard",
            Self::Split => "split",
        }
    }
}

/// One competitor, whatever its type.
pub trait Competitor {
    /// Does every operation once, each through `measure`.
    fn round(&mut self, measure: &mut dyn FnMut(Op, &mut dyn FnMut()));
}

/// A competitor made of a table.
pub struct Table<S>(pub S);

impl<S: Subject> Competitor for Table<S> {
    fn round(&mut self, measure: &mut dyn FnMut(Op, &mut dyn FnMut())) {
        let s = &mut self.0;
        subject::prepare(s);
        measure(Op::Map, &mut || subject::map(s));
        measure(Op::Independent, &mut || subject::independent(s));
        measure(Op::Dependent, &mut || subject::dependent(s));
        measure(Op::Unmap, &mut || subject::unmap(s));
        // Once unmeasured, so that leaf tables are there for those that keep them and not for those that do not.
        s.map_range(FIRST_KEY, FIRST_PFN, PAGES);
        s.unmap_range(FIRST_KEY, PAGES);
        measure(Op::MapRange, &mut || s.map_range(FIRST_KEY, FIRST_PFN, PAGES));
        assert_eq!(subject::Pages::look_up(&s.batch(), FIRST_KEY + PAGES / 3), FIRST_PFN + PAGES / 3);
        measure(Op::UnmapRange, &mut || s.unmap_range(FIRST_KEY, PAGES));
    }
}

/// How long `f` takes, in nanoseconds of this thread's own time: what other programs take meanwhile does not count.
pub fn timed(f: &mut dyn FnMut()) -> f64 {
    let begin = own_time();
    f();
    own_time() - begin
}

fn own_time() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to the value that is given, and nowhere else.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    assert_eq!(failed, 0, "this system has no clock for threads");
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

/// The middle one.
pub fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}
