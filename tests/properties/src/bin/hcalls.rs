//! `hcalls [--calls N] [--seed N]`: a guest that makes random calls with random arguments on its hashed table.
//!
//! One VM of the fake machine, POWER's table, and the shipped handlers. Between calls the guest's hardware uses what it
//! finds, and the hypervisor takes pages away, ages them, logs stores, and moves the window. Entries are found locked now
//! and then, so that real mode has to defer. No handler may panic; and
//!
//! - every answer is one that the call can have, and a call that failed has changed no register but r3;
//! - **a deferral has changed nothing**: registers and every word of the table and its notes are as before (R21), and
//!   virtual mode then finishes the call;
//! - after each sequence no entry is locked, each valid one is recorded, everything agrees with the host table, and when the
//!   VM has gone every frame is back.
//!
//! ```text
//!   HCALLS ok calls=100000 real=91234 deferred=876 sequences=200 ms=1234 seed=1
//! ```
//!
//! A rule seen broken ends the program with the sequence's seed and the call. Status: 0 if nothing was found.

use std::num::NonZeroU16;
use std::process::ExitCode;
use std::time::Instant;

use backend_fake::{FakeHpt, FakeMachine};
use backend_ppc64::hash::HashStage2;
use backend_ppc64::hash::calls::{Called, Context, Counts, EarlyCalls, RealMode, TableCall, call};
use backend_ppc64::hash::entry::Patience;
use backend_ppc64::hash::place::{Segment, VRMA};
use backend_ppc64::hash::table::GROUP;
use clap::Parser;
use hv_core::addr::{Gfn, GfnRange, Gpa, HvnRange};
use hv_core::epoch::Cpu;
use hv_core::host::HugePolicy;
use hv_core::isa::VmTag;
use hv_core::machine::{CpuId, Machine};
use hv_core::memslot::Slot;
use hv_core::mmu::zap::rewindow;
use hv_core::mmu::{GuestMemory, MemoryConfig, age};
use hv_core::radix::format::Prot;

/// Calls on one VM.
const SEQUENCE: u64 = 500;
/// Pages of RAM: two large blocks.
const PAGES: u64 = 1024;
/// Frames of the machine.
const FRAMES: usize = 8192;
const TAG: VmTag = VmTag(NonZeroU16::MIN);

/// Random calls on a hashed table.
#[derive(Debug, Parser)]
struct Args {
    /// Calls to make, at least.
    #[arg(long, default_value_t = 100_000)]
    calls: u64,
    /// Where random choices begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// The calls that may also be told that the machine has no memory, or that nothing was prepared.
const RESIZES: [TableCall; 2] = [TableCall::ResizePrepare, TableCall::ResizeCommit];

/// One VM, and who draws.
struct World<'a> {
    m: &'a FakeMachine,
    cpu: &'a Cpu,
    memory: &'a GuestMemory<FakeHpt>,
    random: Random,
    /// Entries that were put, most of which are there still.
    put: Vec<u64>,
    counts: Counts,
}

impl World<'_> {
    fn table(&self) -> &HashStage2 {
        self.memory.stage2()
    }

    fn gfn(&mut self) -> u64 {
        match self.random.below(20) {
            0 => PAGES + self.random.below(4),
            1 => self.random.next() >> self.random.below(40),
            _ => self.random.below(24) + self.random.of(&[0, 0x100, 512]),
        }
    }

    /// An entry's number: one that was put, one of the table, or any.
    fn index(&mut self) -> u64 {
        let entries = self.table().parts().entries();
        match self.random.below(20) {
            0 => self.random.next(),
            1 => entries - 2 + self.random.below(4),
            2..6 => self.random.below(64),
            _ => match self.put.len() as u64 {
                0 => self.random.below(entries),
                put => self.put[self.random.below(put) as usize],
            },
        }
    }

    fn flags(&mut self) -> u64 {
        let known = [0, 24, 26, 32, 33, 48, 49, 40, 41, 61, 62, 63, 55, 54]
            .map(|bit| if bit == 0 { 0 } else { 1 << (63 - bit) });
        match self.random.below(12) {
            0 => self.random.next(),
            1 => self.random.of(&known) | self.random.of(&known),
            2..5 => self.random.of(&known),
            _ => 0,
        }
    }

    /// Arguments that mean something, each of them replaced by any number now and then.
    fn arguments(&mut self, number: TableCall) -> [u64; 8] {
        let (flags, index, gfn) = (self.flags(), self.index(), self.gfn());
        let groups = self.table().parts().groups();
        let place = Segment::new(VRMA).expect("a descriptor").place(gfn << 12, groups);
        let large = self.random.one_in(6);
        let size = if large { self.random.of(&[1, 7, 0, 8, 0x38, 3, 2]) << 12 } else { 0 };
        let v = place.v | if large { 4 } else { 0 } | self.random.of(&[1, 1, 0x11, 0x61, 1 << 63, 0]);
        let attributes = self.random.of(&[0x12, 0x12, 0x12, 0x13, 0x10, 0x192, 0x16, 0x72, 0x32]);
        let r = (gfn << 12 & 0x0fff_ffff_ffff_f000) & !if large { 0xf000 } else { 0 } | size | attributes;
        let mut args = match number {
            TableCall::Enter => [flags, place.group * GROUP + self.random.below(GROUP), v, r, 0, 0, 0, 0],
            TableCall::Remove | TableCall::Protect => [flags, index, place.v, 0, 0, 0, 0, 0],
            TableCall::Read | TableCall::ClearMod | TableCall::ClearRef => [flags, index, 0, 0, 0, 0, 0, 0],
            TableCall::ResizePrepare | TableCall::ResizeCommit => {
                let sizes = [18, 18, 19, 19, 20, 17, 0, 46, 47];
                [self.random.of(&[0, 0, 0, 0, 0, 0, 0, 1]), self.random.of(&sizes), 0, 0, 0, 0, 0, 0]
            }
            TableCall::PageInit => [flags, gfn << 12, self.gfn() << 12, 0, 0, 0, 0, 0],
            TableCall::BulkRemove => std::array::from_fn(|n| match n % 2 {
                0 => {
                    self.random.of(&[1, 1, 1, 1, 3, 0, 2]) << 62 | self.random.of(&[0, 0, 1, 2, 3]) << 56 | self.index()
                }
                _ => place.v,
            }),
        };
        if self.random.one_in(10) {
            args[self.random.below(8) as usize] = self.random.next() >> self.random.below(64);
        }
        args
    }

    /// Every word of the table and of the notes on it.
    fn words(&self) -> Vec<u64> {
        let parts = self.table().parts();
        [parts.table, parts.notes, parts.heads].into_iter().flat_map(|table| self.m.words(table)).collect()
    }

    /// One call, perhaps while an entry is locked.
    fn call(&mut self) -> Result<(), String> {
        let mut number = self.random.of(&TableCall::ALL);
        // One that succeeds looks at every entry there is, which takes as long as hundreds of others.
        if self.random.one_in(2) || RESIZES.contains(&number) && !self.random.one_in(8) {
            number = TableCall::Enter;
        }
        let args = self.arguments(number);
        let mut gpr = [7; 32];
        gpr[3] = number as u64;
        gpr[4..12].copy_from_slice(&args);
        let before = gpr;
        let why = |what: &str| format!("{what}: {number:?} {args:x?}");
        let mut done = Called::Defer;
        if !self.random.one_in(3)
            && let Some(real) = RealMode::on(self.cpu, 0)
        {
            let locked = self.random.one_in(20).then(|| self.index() % self.table().parts().entries());
            let walk = self.m.epoch().enter(self.cpu);
            let held = locked.and_then(|index| self.table().parts().entry(self.m, &walk, index).lock(Patience::Some));
            let seen = held.is_some().then(|| self.words());
            done = call(Context::Real(real), self.m, self.memory, self.memory.stage2(), &mut gpr, &mut self.counts);
            if done == Called::Defer && (gpr != before || seen.is_some_and(|seen| seen != self.words())) {
                return Err(why("R21: a deferral changed something"));
            }
        }
        if done == Called::Defer {
            let virt = Context::Virtual(self.cpu);
            done = call(virt, self.m, self.memory, self.memory.stage2(), &mut gpr, &mut self.counts);
        }
        match (done, gpr[3] as i64) {
            (Called::Done, 0) if number == TableCall::Enter => self.put.push(gpr[4]),
            (Called::Done, 0) => {}
            (Called::Done, -4 | -6 | -7) if gpr[4..] == before[4..] || number == TableCall::BulkRemove => {}
            (Called::Done, 2 | -9 | -16) if RESIZES.contains(&number) && gpr[4..] == before[4..] => {}
            (Called::Need(..), _) if gpr == before => {}
            (done, status) => return Err(why(&format!("{done:?} with {status}"))),
        }
        if gpr[..3] != before[..3] || gpr[12..] != before[12..] {
            return Err(why("a call changed a register that is none of its own"));
        }
        if self.put.len() > 64 {
            let old = self.random.below(64) as usize;
            self.put.swap_remove(old);
        }
        Ok(())
    }

    /// Something that is not a call: the guest's hardware, or the hypervisor.
    fn meanwhile(&mut self) {
        let (m, cpu, memory) = (self.m, self.cpu, self.memory);
        let (gfn, value) = (self.gfn() % PAGES, self.random.next());
        let pages = 1 + self.random.below(4);
        let range = GfnRange::new(Gfn(gfn), pages.min(PAGES - gfn)).expect("pages of RAM");
        match self.random.below(12) {
            0 => memory.discard(cpu, m, range),
            1 => {
                let slot = memory.space().slots.find(&m.epoch().enter(cpu), Gfn(0)).expect("a window");
                let range = slot.hvn(Gfn(0)).and_then(|first| HvnRange::new(first, PAGES)).expect("host pages");
                age(cpu, m, memory.space(), range, &mut |_, _| {});
            }
            2 => _ = memory.log_start(cpu, m),
            3 => _ = memory.log_harvest(cpu, m, &mut |_| {}),
            4 => memory.log_stop(cpu, m),
            5 if self.random.one_in(4) => {
                let slot = memory.space().slots.find(&m.epoch().enter(cpu), Gfn(0)).expect("a window");
                let prot = self.random.of(&[Prot::all(), Prot::all(), Prot::READ, Prot::READ | Prot::EXEC, Prot::EXEC]);
                let base = slot.hvn(Gfn(0)).expect("host pages");
                let slot = Slot::new(GfnRange::new(Gfn(0), PAGES).expect("pages"), base, prot).expect("a window");
                rewindow(cpu, m, memory.space(), &[slot]).expect("a window");
            }
            6 => _ = memory.write(cpu, m, Gpa(gfn << 12), &value.to_le_bytes()),
            _ => {
                let agent = m.agent(memory.stage2(), TAG);
                agent.step(CpuId(1 + (value % 2) as u16), &range, value >> 8);
            }
        }
    }
}

/// A VM, from its beginning to its end.
fn sequence(seed: u64, counts: &mut Counts) -> Result<(), String> {
    let m = FakeMachine::new(FRAMES);
    let cpu = m.epoch().cpu(CpuId(0)).expect("a new machine's CPUs are free");
    let before = m.frames().counts();
    let mut random = Random(seed);
    let huge = random.of(&[HugePolicy::Never, HugePolicy::Always]);
    let config = MemoryConfig { huge, ..MemoryConfig::from(PAGES << 12) };
    let memory = GuestMemory::<FakeHpt>::new(&cpu, &m, TAG, config).expect("memory for a VM");
    let mut world = World { m: &m, cpu: &cpu, memory: &memory, random, put: Vec::new(), counts: *counts };
    for n in 0..SEQUENCE {
        world.call().map_err(|what| format!("call {n}: {what}"))?;
        if world.random.one_in(3) {
            world.meanwhile();
        }
        if let Some(what) = m.violations().first() {
            return Err(format!("call {n}: {what}"));
        }
    }
    *counts = world.counts;
    memory.log_stop(&cpu, &m);
    m.check(&cpu, memory.space());
    memory.destroy(&cpu, &m);
    if let Some(what) = m.violations().first() {
        return Err(format!("at rest: {what}"));
    }
    if m.frames().counts() != before {
        return Err("R24: frames were lost, or freed twice".to_owned());
    }
    Ok(())
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (began, mut counts) = (Instant::now(), Counts::default());
    let sequences = args.calls.div_ceil(SEQUENCE);
    for n in 0..sequences {
        let seed = args.seed.wrapping_mul(0x0100_0000_01b3).wrapping_add(n);
        if let Err(why) = sequence(seed, &mut counts) {
            println!("HCALLS FAIL seed={} sequence={n} -- {why}", args.seed);
            return ExitCode::FAILURE;
        }
    }
    let EarlyCalls { at_once: real, deferred, finished, .. } = counts.calls;
    let (calls, ms) = (real + finished, began.elapsed().as_millis());
    println!(
        "HCALLS ok calls={calls} real={real} deferred={deferred} sequences={sequences} ms={ms} seed={}",
        args.seed
    );
    if u64::from(calls) != sequences * SEQUENCE {
        println!("HCALLS FAIL -- calls were answered twice, or not counted");
        return ExitCode::FAILURE;
    }
    if deferred == 0 || real == 0 {
        println!("HCALLS FAIL -- one of the two modes was never tried");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
