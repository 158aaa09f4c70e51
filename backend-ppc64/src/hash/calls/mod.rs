//! The guest's half: its calls on the table (LoPAPR 14.5.4; numbers and flags as in 14.5.4.1 to 14.5.4.3).
//!
//! A call is carried out in the context that it is given: [`Context::Real`], where nothing is waited for beyond a few
//! tries, or [`Context::Virtual`]. What real mode cannot finish is [`Called::Defer`]: **nothing has been changed**,
//! neither registers nor memory (R21, N2), and the same call is to be made again in virtual mode, from its beginning.
//! The guest sees its answer only. What guests ask for all the time is first tried by `at_once.rs`, which answers if nothing at
//! all is in the way. Registers are written on success, and r3 in any case; H_BULK_REMOVE answers in its
//! requests.
//!
//! Every value is the guest's and hostile: entries are numbered within the table, sizes decoded, addresses looked up
//! (R26).

mod at_once;
mod change;
mod enter;
mod page_init;
mod remove;
mod resize;

pub use at_once::at_once;
use hv_core::addr::Gpa;
use hv_core::context::Atomic;
use hv_core::epoch::{Cpu, Domain, WalkGuard};
use hv_core::isa::Isa;
use hv_core::mmu::GuestMemory;
use hv_core::vcpu::exit::Access;

use super::claim::Hashed;
use super::entry::{Locked, Patience};
use super::stage2::HashStage2;
use super::table::Processor;
use crate::papr::status::Status;

/// MSR: translation of instruction and of data addresses.
const MSR_TRANSLATION: u64 = 0x30;

/// Flags that calls share. PAPR counts bits from the left.
const AVPN: u64 = 1 << (63 - 32);
const ANDCOND: u64 = 1 << (63 - 33);

/// The calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum TableCall {
    /// H_REMOVE(flags, index, AVPN)
    Remove = 0x04,
    /// H_ENTER(flags, index, v, r)
    Enter = 0x08,
    /// H_READ(flags, index)
    Read = 0x0c,
    /// H_CLEAR_MOD(flags, index)
    ClearMod = 0x10,
    /// H_CLEAR_REF(flags, index)
    ClearRef = 0x14,
    /// H_PROTECT(flags, index, AVPN)
    Protect = 0x18,
    /// H_PAGE_INIT(flags, destination, source)
    PageInit = 0x2c,
    /// H_BULK_REMOVE(four pairs)
    BulkRemove = 0x124,
    /// H_RESIZE_HPT_PREPARE(flags, size)
    ResizePrepare = 0x36c,
    /// H_RESIZE_HPT_COMMIT(flags, size)
    ResizeCommit = 0x370,
}

impl TableCall {
    /// Every call.
    pub const ALL: [Self; 10] = [
        Self::Remove,
        Self::Enter,
        Self::Read,
        Self::ClearMod,
        Self::ClearRef,
        Self::Protect,
        Self::PageInit,
        Self::BulkRemove,
        Self::ResizePrepare,
        Self::ResizeCommit,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Remove => "H_REMOVE",
            Self::Enter => "H_ENTER",
            Self::Read => "H_READ",
            Self::ClearMod => "H_CLEAR_MOD",
            Self::ClearRef => "H_CLEAR_REF",
            Self::Protect => "H_PROTECT",
            Self::PageInit => "H_PAGE_INIT",
            Self::BulkRemove => "H_BULK_REMOVE",
            Self::ResizePrepare => "H_RESIZE_HPT_PREPARE",
            Self::ResizeCommit => "H_RESIZE_HPT_COMMIT",
        }
    }

    /// The call with this number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|call| *call as u64 == number)
    }

    /// Its place in [`TableCall::ALL`].
    const fn place(self) -> usize {
        let mut place = 0;
        while Self::ALL[place] as u64 != self as u64 {
            place += 1;
        }
        place
    }
}

/// Real mode: translation is off, the guest's is still loaded, and nothing may sleep, be waited for, or take a frame.
#[derive(Clone, Copy, Debug)]
pub struct RealMode<'a>(Atomic<'a>);

impl<'a> RealMode<'a> {
    /// On the calling CPU, whose machine state register this is; `None` if translation is on.
    #[inline]
    #[must_use]
    pub fn on(cpu: &'a Cpu, msr: u64) -> Option<Self> {
        (msr & MSR_TRANSLATION == 0).then(|| Self(Atomic::on(cpu)))
    }
}

/// Where a call is carried out.
#[derive(Clone, Copy, Debug)]
pub enum Context<'a> {
    /// Nothing may be waited for.
    Real(RealMode<'a>),
    /// Anything may, in the order of locks.
    Virtual(&'a Cpu),
}

/// Not in this context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defer;

impl<'a> Context<'a> {
    fn walk(self, domain: &'a Domain) -> WalkGuard<'a> {
        match self {
            Self::Real(RealMode(atomic)) => atomic.enter(domain),
            Self::Virtual(cpu) => domain.enter(cpu),
        }
    }

    fn atomic(self) -> Atomic<'a> {
        match self {
            Self::Real(RealMode(atomic)) => atomic,
            Self::Virtual(cpu) => Atomic::on(cpu),
        }
    }

    fn patience(self) -> Patience {
        match self {
            Self::Real(_) => Patience::Some,
            Self::Virtual(_) => Patience::Endless,
        }
    }

    /// The CPU, for what may wait.
    fn cpu(self) -> Result<&'a Cpu, Defer> {
        match self {
            Self::Real(_) => Err(Defer),
            Self::Virtual(cpu) => Ok(cpu),
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a deferral is to be taken to virtual mode"]
pub enum Called {
    /// It is none of these calls.
    NotOurs,
    /// It is answered.
    Done,
    /// Nothing has been changed: make it again in virtual mode.
    Defer,
    /// Virtual mode only, and no register has been changed: the machine has no frame for this page. It is to be asked
    /// for by a fault without a claim, and the call made again.
    Need(Gpa, Access),
}

/// How many calls of one kind were answered before they came to hv-core's loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EarlyCalls {
    /// In real mode, where nothing may be waited for.
    pub at_once: u32,
    /// Not there: deferred to virtual mode, where it may.
    pub deferred: u32,
    /// Of the deferred ones, those about memory that had to be brought first.
    pub absent: u32,
    /// Of the deferred ones, those that have been answered. The others are under way.
    pub finished: u32,
}

/// What became of one call, tried once or twice, for statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Its place in [`TableCall::ALL`].
    pub kind: usize,
    /// Where it was answered.
    pub calls: EarlyCalls,
}

impl Counts {
    /// Of a call that [`at_once()`] has answered.
    #[inline]
    #[must_use]
    pub fn at_once(kind: usize) -> Self {
        Self { kind, calls: EarlyCalls { at_once: 1, ..EarlyCalls::default() } }
    }
}

/// Why a call was not answered with success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Status(Status),
    Defer,
    /// The same, for a page that the store has.
    Stored,
    Need(Gpa, Access),
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<Defer> for Stop {
    fn from(Defer: Defer) -> Self {
        Self::Defer
    }
}

/// What a call works on.
struct Vm<'a, I: Isa> {
    ctx: Context<'a>,
    m: &'a I::Machine,
    memory: &'a GuestMemory<I>,
    table: &'a HashStage2,
}

/// Carries out the call whose number is in r3, if it is one of these. The caller has seen that the guest's kernel makes
/// it.
#[inline]
pub fn call<I: Isa>(
    ctx: Context<'_>,
    m: &I::Machine,
    memory: &GuestMemory<I>,
    table: &HashStage2,
    gpr: &mut [u64; 32],
    counts: &mut Counts,
) -> Called
where
    I::Machine: Processor,
    I::Claim: Hashed,
{
    if let Context::Real(real) = ctx
        && let Some(kind) = at_once(real, m, memory, table, gpr)
    {
        counts.kind = kind;
        counts.calls.at_once += 1;
        return Called::Done;
    }
    any(ctx, m, memory, table, gpr, counts)
}

/// [`call`], without [`at_once()`].
pub fn any<I: Isa>(
    ctx: Context<'_>,
    m: &I::Machine,
    memory: &GuestMemory<I>,
    table: &HashStage2,
    gpr: &mut [u64; 32],
    counts: &mut Counts,
) -> Called
where
    I::Machine: Processor,
    I::Claim: Hashed,
{
    let Some(kind) = TableCall::ALL.into_iter().position(|call| call as u64 == gpr[3]) else {
        return Called::NotOurs;
    };
    counts.kind = kind;
    let calls = &mut counts.calls;
    let vm = Vm { ctx, m, memory, table };
    let done = match TableCall::ALL[kind] {
        TableCall::Remove => vm.remove(gpr),
        TableCall::Enter => vm.enter(gpr),
        TableCall::Read => vm.read(gpr),
        TableCall::ClearMod => vm.clear_mod(gpr),
        TableCall::ClearRef => vm.clear_ref(gpr),
        TableCall::Protect => vm.protect(gpr),
        TableCall::PageInit => vm.page_init(gpr),
        TableCall::BulkRemove => vm.bulk_remove(gpr),
        TableCall::ResizePrepare => vm.resize_prepare(gpr),
        TableCall::ResizeCommit => vm.resize_commit(gpr),
    };
    let status = match done {
        Ok(()) => Status::Success,
        Err(Stop::Status(status)) => status,
        Err(why @ (Stop::Defer | Stop::Stored)) => {
            calls.deferred += 1;
            calls.absent += u32::from(why == Stop::Stored);
            return Called::Defer;
        }
        Err(Stop::Need(at, access)) => return Called::Need(at, access),
    };
    match ctx {
        Context::Real(_) => calls.at_once += 1,
        Context::Virtual(_) => calls.finished += 1,
    }
    gpr[3] = status as i64 as u64;
    Called::Done
}

impl<'a, I: Isa> Vm<'a, I>
where
    I::Machine: Processor,
    I::Claim: Hashed,
{
    fn walk(&self) -> WalkGuard<'a> {
        self.ctx.walk(hv_core::machine::Machine::epoch(self.m))
    }

    /// The number of an entry that the guest names.
    fn index(&self, number: u64) -> Result<u64, Stop> {
        if number < self.table.parts().entries() { Ok(number) } else { Err(Status::Parameter.into()) }
    }

    /// Locks an entry.
    fn lock<'g>(&self, g: &'g WalkGuard<'_>, index: u64) -> Result<Locked<'g>, Defer>
    where
        'a: 'g,
    {
        self.table.lock(self.m, g, index, self.ctx.patience()).ok_or(Defer)
    }

    /// Locks an entry that is in use, and that the flags' condition on the AVPN does not exclude.
    fn lock_used<'g>(&self, g: &'g WalkGuard<'_>, index: u64, flags: u64, avpn: u64) -> Result<Locked<'g>, Stop>
    where
        'a: 'g,
    {
        let entry = self.lock(g, index)?;
        if wanted(&entry, flags, avpn) { Ok(entry) } else { Err(Status::NotFound.into()) }
    }

    /// Has hardware forget an entry, which is locked: it is absent afterwards, linked if it was, and its R and C are
    /// final.
    fn quiesce(&self, entry: &mut Locked<'_>) {
        if entry.words().is_valid() {
            entry.make_absent();
        } else if !entry.is_stale() {
            return;
        }
        self.m.flush_entries(self.table.tag(), &[entry.gone()]);
        entry.harvest();
    }
}

/// True of an entry that is in use, and that the flags' condition on the AVPN does not exclude.
#[inline]
fn wanted(entry: &Locked<'_>, flags: u64, avpn: u64) -> bool {
    let v = entry.words().shown();
    let other = flags & AVPN != 0 && v & super::words::MATCH != avpn || flags & ANDCOND != 0 && v & avpn != 0;
    !(entry.words().is_free() || other)
}
