//! The guest of the cases: one segment as wide as its memory, and calls in either mode.

use alloc::sync::Arc;

use backend_ppc64::hash::calls::{Called, Context, Counts, RealMode, TableCall, call};
use backend_ppc64::hash::entry::Patience;
use backend_ppc64::hash::fault::{Found, Missed, State};
use backend_ppc64::hash::place::{Place, Segment, VRMA};
use backend_ppc64::hash::table::GROUP;
use backend_ppc64::hash::{HashStage2, Hashed, MayBeHashed, Processor, Words};
use conformance::rig::Bench;
use conformance::verdict::{Run, Stop, check};
use hv_core::addr::{Gfn, Gpa, Order};
use hv_core::host::HugePolicy;
use hv_core::isa::{Isa, Stage2};
use hv_core::machine::Machine;
use hv_core::mmu::{GuestMemory, MemoryConfig, Outcome};
use hv_core::page::Packed;
use hv_core::radix::format::{Leaf, Pte};
use hv_core::sync::Ordering;
use hv_core::vcpu::exit::{Access, Fault};

/// Pages of RAM: two large blocks.
pub const PAGES: u64 = 1024;
/// The page that most cases are about.
pub const PAGE: u64 = 5;
/// r: cached memory that anybody may store to.
pub const RW: u64 = 0x12;
/// Flags, by their bits from the left.
pub const EXACT: u64 = 1 << (63 - 24);
/// See [`EXACT`].
pub const AVPN: u64 = 1 << (63 - 32);
/// See [`EXACT`].
pub const ANDCOND: u64 = 1 << (63 - 33);
/// Statuses.
pub const SUCCESS: i64 = 0;
/// See [`SUCCESS`].
pub const PARAMETER: i64 = -4;
/// See [`SUCCESS`].
pub const FULL: i64 = -6;
/// See [`SUCCESS`].
pub const NOT_FOUND: i64 = -7;

/// In which mode calls are tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real mode, and virtual mode if it defers.
    Real,
    /// Virtual mode at once.
    Virtual,
}

/// One VM and its guest.
pub struct Guest<'a, I: Isa> {
    /// The bench.
    pub b: &'a Bench<'a, I>,
    /// Its memory.
    pub memory: &'a GuestMemory<I>,
    /// Its table.
    pub table: &'a HashStage2,
    /// How it calls.
    pub mode: Mode,
}

/// A call's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// r3.
    pub status: i64,
    /// r4 and on.
    pub r: [u64; 8],
}

impl Answer {
    /// Ends the case unless the status is this.
    pub fn is(&self, status: i64, otherwise: &'static str) -> Run {
        check(self.status == status, otherwise)
    }
}

/// Runs a case in real mode and, on a new VM, in virtual mode.
pub fn both_modes<I>(b: &Bench<'_, I>, huge: HugePolicy, run: fn(&Guest<'_, I>) -> Run) -> Run
where
    I: Isa,
    I::Machine: Processor,
    I::Claim: Hashed,
    I::Stage2: MayBeHashed,
{
    modes(b, || MemoryConfig { huge, ..MemoryConfig::from(PAGES << 12) }, run)
}

/// The same with two runs of this size as memory, at least, none of which is there.
pub fn in_runs<I>(b: &Bench<'_, I>, granule: Order, run: fn(&Guest<'_, I>) -> Run) -> Run
where
    I: Isa,
    I::Machine: Processor,
    I::Claim: Hashed,
    I::Stage2: MayBeHashed,
{
    let pages = PAGES.max(2 * granule.pages());
    modes(b, || MemoryConfig { granule, huge: HugePolicy::Never, ..MemoryConfig::from(pages << 12) }, run)
}

fn modes<I>(b: &Bench<'_, I>, config: impl Fn() -> MemoryConfig<I>, run: fn(&Guest<'_, I>) -> Run) -> Run
where
    I: Isa,
    I::Machine: Processor,
    I::Claim: Hashed,
    I::Stage2: MayBeHashed,
{
    [Mode::Real, Mode::Virtual].into_iter().try_for_each(|mode| {
        let store = Packed::new().ok_or(Stop::Fail("no heap for a store"))?;
        b.with_config(config().swap(b.own(|| Arc::new(store))?), |memory| {
            let table = memory.stage2().hashed().ok_or(Stop::Skip("this VM's table is not hashed"))?;
            let run = run(&Guest { b, memory, table, mode });
            let epoch = b.m.epoch();
            // Not as the case's result: a VM cannot be taken apart by who is in a walk.
            assert!(epoch.passed(epoch.stamp()), "R27: a call came back inside its walk");
            run
        })
    })
}

impl<I> Guest<'_, I>
where
    I: Isa,
    I::Machine: Processor,
    I::Claim: Hashed,
    I::Stage2: MayBeHashed,
{
    /// Makes a call in one context.
    pub fn call_in(&self, ctx: Context<'_>, number: TableCall, args: &[u64]) -> (Called, Answer) {
        let mut gpr = [0x7777; 32];
        gpr[3] = number as u64;
        gpr[4..4 + args.len()].copy_from_slice(args);
        let before = gpr;
        let done = call(ctx, self.b.m, self.memory, self.table, &mut gpr, &mut Counts::default());
        let mut r = [0; 8];
        r.copy_from_slice(&gpr[4..12]);
        // No call touches another register.
        let status = if gpr[12..] == before[12..] && gpr[..3] == before[..3] { gpr[3] as i64 } else { i64::MIN };
        (done, Answer { status, r })
    }

    /// Makes a call, in real mode first if that is the guest's.
    pub fn call(&self, number: TableCall, args: &[u64]) -> Answer {
        if self.mode == Mode::Real
            && let Some(real) = RealMode::on(self.b.cpu, 0)
            && let (Called::Done, answer) = self.call_in(Context::Real(real), number, args)
        {
            return answer;
        }
        match self.call_in(Context::Virtual(self.b.cpu), number, args) {
            (Called::Done, answer) => answer,
            (Called::NotOurs | Called::Defer | Called::Need(..), answer) => Answer { status: i64::MAX, ..answer },
        }
    }

    /// The guest's segment.
    pub fn segment(&self) -> Result<Segment, Stop> {
        Segment::new(VRMA).ok_or(Stop::Fail("the architecture's descriptor is not known"))
    }

    /// Where the entry for a page stands.
    pub fn place(&self, gfn: u64) -> Result<Place, Stop> {
        Ok(self.segment()?.place(gfn << 12, self.table.parts().groups()))
    }

    /// The first entry of the page's group.
    pub fn slot(&self, gfn: u64) -> Result<u64, Stop> {
        Ok(self.place(gfn)?.group * GROUP)
    }

    /// H_ENTER of a page of 4 KiB at its own number.
    pub fn enter(&self, gfn: u64, flags: u64, r: u64) -> Result<Answer, Stop> {
        let place = self.place(gfn)?;
        Ok(self.call(TableCall::Enter, &[flags, place.group * GROUP, place.v | 1, gfn << 12 | r]))
    }

    /// The same for [`PAGE`], which has been touched, so that its entry is valid at once. Returns its number.
    pub fn entered(&self, r: u64) -> Result<u64, Stop> {
        self.touch(PAGE)?;
        let done = self.enter(PAGE, 0, r)?;
        done.is(SUCCESS, "H_ENTER was refused")?;
        check(self.words(done.r[0])?.is_valid(), "the entry of a present page is not valid")?;
        Ok(done.r[0])
    }

    /// The host side has this page.
    pub fn touch(&self, gfn: u64) -> Run {
        let done = self.memory.write(self.b.cpu, self.b.m, Gpa(gfn << 12), &[0x5a; 8]);
        check(done.is_ok(), "RAM cannot be written")
    }

    /// What an entry says, by the hypervisor's own look.
    pub fn words(&self, index: u64) -> Result<Words, Stop> {
        let walk = self.b.m.epoch().enter(self.b.cpu);
        let entry = self.table.parts().entry(self.b.m, &walk, index).lock(Patience::Some);
        entry.map(|entry| *entry.words()).ok_or(Stop::Fail("an entry stayed locked"))
    }

    /// H_READ of one entry.
    pub fn read(&self, index: u64) -> Result<(u64, u64), Stop> {
        let read = self.call(TableCall::Read, &[0, index]);
        read.is(SUCCESS, "H_READ was refused")?;
        Ok((read.r[0], read.r[1]))
    }

    /// The translation of a page, as stage 2 has it.
    pub fn leaf(&self, gfn: u64) -> Option<Leaf> {
        match Stage2::<I>::lookup(self.memory.stage2(), self.b.cpu, self.b.m, Gfn(gfn)) {
            Pte::Leaf(leaf) => Some(leaf),
            Pte::Hole | Pte::Table { .. } | Pte::Swapped(_) | Pte::Transition(_) => None,
        }
    }

    /// Hardware sets marks of an entry.
    pub fn mark(&self, index: u64, marks: u64) {
        let walk = self.b.m.epoch().enter(self.b.cpu);
        let cell = self.b.m.pte(&walk, self.table.parts().table, 2 * index as usize + 1);
        cell.fetch_or(marks.to_be(), Ordering::AcqRel);
    }

    /// What a storage interrupt comes to.
    pub fn missed(&self, gfn: u64, access: Access, status: u64, state: State) -> Found {
        let missed = Missed { address: gfn << 12, segment: VRMA, status, access, state, keys: 0 };
        self.missed_so(&missed)
    }

    /// The same, told in full.
    pub fn missed_so(&self, missed: &Missed) -> Found {
        self.table.missed(self.b.m, &self.b.m.epoch().enter(self.b.cpu), missed)
    }

    /// Takes a fault to the hypervisor.
    pub fn fault(&self, found: Found) -> Result<Outcome, Stop> {
        let Found::Fault { gpa, access, claim } = found else { return Err(Stop::Fail("no fault where one was due")) };
        Ok(self.memory.fault(self.b.cpu, self.b.m, &Fault { gpa, access, claim: I::Claim::of(claim) }))
    }

    /// Every word of the table and of the notes on it, as one number: equal if nothing has changed.
    pub fn digest(&self) -> u64 {
        let walk = self.b.m.epoch().enter(self.b.cpu);
        let parts = self.table.parts();
        let mut sum = 0xcbf2_9ce4_8422_2325_u64;
        for table in [parts.table, parts.notes, parts.heads] {
            for slot in 0..table.order().bytes() as usize / 8 {
                let word = self.b.m.pte(&walk, table, slot).load(Ordering::Relaxed);
                sum = (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
            }
        }
        sum
    }
}
