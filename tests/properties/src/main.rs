//! `properties [--ops N] [--seed N]`: guest memory against a model, one operation after the other.
//!
//! A sequence of operations of a guest, of its hypervisor and of the machine around them is drawn at random, carried out
//! on two VMs of the fake machine and, in the model, on plain pages; every answer has to be the model's. The guest stores
//! and loads through the fake's hardware, which uses whatever any CPU has cached until a flush names it. After each
//! sequence both VMs are checked at rest and taken apart, and every frame has to be back.
//!
//! Nothing here races: that is the models' part. What is looked for is what hundreds of operations come to, one upon the
//! other: sizes, windows, stores, shortage.
//!
//! ```text
//!   PROPERTY ok host-radix ops=1000123 sequences=3344 ms=9876 seed=1
//!   PROPERTY FAIL host-radix seed=1 -- WHY
//!     SETUP
//!     OP ...                          the shortest sequence found that ends so
//! ```
//!
//! The same seed and number of operations draw the same sequences. Status: 0 all answers were right, 1 one was wrong.

mod bed;
mod model;
mod op;
mod world;

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::time::Instant;

use backend_fake::{FakeHash, FakeHpt, FakeRadix};
use clap::Parser;
use proptest::collection::vec;
use proptest::prelude::{Strategy as _, any};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use bed::{Bed, Kind, Setup};
use op::Op;
use world::{Found, World};

/// Operations of a sequence at most.
const LONGEST: usize = 1000;

/// Guest memory against a model.
#[derive(Debug, Parser)]
struct Args {
    /// Operations to try on each kind of second stage, at least.
    #[arg(long, default_value_t = 100_000)]
    ops: u64,
    /// Where random choices begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let fine = std::thread::scope(|scope| {
        let hash = scope.spawn(|| explore::<FakeHash>("host-hash", &args));
        let hpt = scope.spawn(|| explore::<FakeHpt>("host-hpt", &args));
        let others = [hash, hpt];
        let radix = explore::<FakeRadix>("host-radix", &args);
        others.into_iter().fold(radix, |fine, other| fine & other.join().is_ok_and(|fine| fine))
    });
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tries sequences until there were enough operations. False if one was answered wrongly.
fn explore<I: Kind>(name: &str, args: &Args) -> bool {
    let (begun, done, sequences) = (Instant::now(), Cell::new(0), Cell::new(0_u64));
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&args.seed.to_le_bytes());
    let config = Config { cases: u32::MAX, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    let strategy = (any::<u8>().prop_map(Setup::drawn), vec(any::<u64>().prop_map(Op::drawn), 1..=LONGEST));
    let bed = RefCell::new(None);
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    while done.get() < args.ops {
        let drawn = strategy.new_tree(&mut runner).expect("nothing is rejected");
        let once = |(setup, ops): (Setup, Vec<Op>)| {
            let mut used = bed.take().unwrap_or_else(Bed::new);
            done.set(done.get() + ops.len() as u64);
            sequence::<I>(&mut used, setup, &ops).map_err(TestCaseError::fail)?;
            // A machine on which something went wrong is of no more use.
            bed.replace(Some(used));
            Ok(())
        };
        sequences.set(sequences.get() + 1);
        match runner.run_one(drawn, once) {
            Ok(_) => {}
            Err(TestError::Fail(why, (setup, ops))) => {
                println!("PROPERTY FAIL {name} seed={} -- {why}\n  {setup:?}", args.seed);
                ops.iter().for_each(|op| println!("  {op:?}"));
                return false;
            }
            Err(TestError::Abort(why)) => {
                println!("PROPERTY FAIL {name} seed={} -- {why}", args.seed);
                return false;
            }
        }
    }
    let ms = begun.elapsed().as_millis();
    println!("PROPERTY ok {name} ops={} sequences={} ms={ms} seed={}", done.get(), sequences.get(), args.seed);
    true
}

fn sequence<I: Kind>(bed: &mut Bed, setup: Setup, ops: &[Op]) -> Found {
    let mut world = World::<I>::new(bed, setup);
    for (n, op) in ops.iter().enumerate() {
        if let Err(why) = world.step(*op) {
            // Its frames are as lost as its machine; nothing may be dropped.
            std::mem::forget(world);
            return Err(format!("operation {n}: {why}"));
        }
    }
    world.end()
}
