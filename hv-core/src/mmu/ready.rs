//! Whether what vCPUs run on is there: built once, run on by many, taken apart once.
//!
//! ```text
//!   Empty --build--> Building --ready--> Ready --drain--> Draining --the last one out--> Dismantling --> Empty
//!                       |  +--drain--> Draining --ready refused: the builder is the last one out--^
//!                       +--dropped (it failed)--> Empty
//! ```
//!
//! Two words, because one is looked at all the time and the other changes with every permit: the state, and the count of
//! those who run on it. They are ordered as in Dekker's algorithm, so that of two who pass each other one sees the other:
//!
//! ```text
//!   run:   count up   | full fence | state: Ready? else count down again        (N3)
//!   drain: state to Draining | full fence | count: 0? then nobody is inside
//!   leave: count down | full fence | state: Draining, and the count still 0?
//! ```
//!
//! - Without the fence in `run`, or with the state read before the count goes up, a drain fits in between, finds nobody,
//!   and takes apart what the runner then runs on (A7, D4).
//! - Without the fence in `leave` the last one out and the drainer each believe that the other one is inside still, and
//!   nobody takes it apart.
//! - `leave` and `drain` may both find nobody inside: who moves the state on by compare-and-swap is the one.
//! - Who comes to the door while the state changes is counted apart (a knock), so that being turned away is nobody's last
//!   leaving. Knocks are short; whoever counts waits for them.
//! - The state carries the number of its round: a CPU that was delayed on its way out of one round cannot claim the next.
//!
//! What was built is visible to every permit (A6, R19): the builder's release of Ready pairs with the acquire in `run`.
//!
//! The builder fails as a whole (N5): it holds [`Building`], whose drop goes back to Empty, and becomes Ready by one step at
//! its end. So an error on the way leaves nothing that another CPU could have run on.
//!
//! Who edits what the builder owns holds a permit for as long as it does. A CPU that was told to leave and has not yet is
//! therefore waited for, wherever it is, a fault's second half included; a second look at a flag there (D3) is not needed,
//! and kicking alone would not be enough. Nothing here takes a lock (D7).
//!
//! Rules: R19, R20, R21. May be called with any lock held and inside walk guards, except [`Readiness::drain`] and
//! [`Permit::leave`], whose caller must be able to take apart what is returned to it.

use alloc::sync::Arc;

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence, spin_loop};

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is there.
    Empty,
    /// One CPU is building.
    Building,
    /// It may be run on.
    Ready,
    /// Those who run on it are to leave; nobody else gets in.
    Draining,
    /// Nobody is inside; one CPU takes it apart.
    Dismantling,
}

/// The state's bits in its word; above them is the number of the round.
const STATE_BITS: u32 = 3;
/// One at the door; below it are those inside.
const KNOCK: u64 = 1 << 32;

/// A state with the round it belongs to. A round begins with [`Readiness::build`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u32);

impl Word {
    fn state(self) -> State {
        match self.0 & ((1 << STATE_BITS) - 1) {
            0 => State::Empty,
            1 => State::Building,
            2 => State::Ready,
            3 => State::Draining,
            _ => State::Dismantling,
        }
    }

    fn with(self, state: State) -> Self {
        Self(self.0 >> STATE_BITS << STATE_BITS | state as u32)
    }

    fn next_round(self) -> Self {
        Self(self.0.wrapping_add(1 << STATE_BITS))
    }
}

/// The state and the count of those inside. Shared by all who may come.
#[derive(Debug)]
pub struct Readiness {
    word: AtomicU32,
    inside: AtomicU64,
}

/// What was asked for cannot be had in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotNow(pub State);

/// The right to build, held by one CPU. Dropping it without [`Building::ready`] says that it failed and left nothing.
#[derive(Debug)]
#[must_use = "dropped, it says that building failed"]
pub struct Building(Permit);

/// The right to run on what was built: it stays while this lives. Dropping one is leaving.
#[derive(Debug)]
#[must_use = "dropped, it is given back"]
pub struct Permit {
    of: Arc<Readiness>,
    /// What the word will be when its round is drained.
    draining: Word,
    /// The word of its round while it builds.
    builds: Option<Word>,
    left: bool,
}

/// Nobody is inside nor gets in, and the holder takes it apart. Empty again when this is dropped.
#[derive(Debug)]
#[must_use = "who gets it takes apart what was built"]
pub struct Drained {
    of: Arc<Readiness>,
    word: Word,
}

/// What leaving came to.
#[derive(Debug)]
#[must_use]
pub enum Left {
    /// Others are inside, or somebody else takes it apart.
    Others,
    /// Nobody is inside; it is ready for the next.
    Nobody,
    /// The last one out of something that was being drained: the caller takes it apart.
    Last(Drained),
}

impl Readiness {
    /// Nothing is there.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { word: AtomicU32::new(0), inside: AtomicU64::new(0) })
    }

    /// The right to build it, if nothing is there. Of several who ask at once one gets it.
    pub fn build(self: &Arc<Self>) -> Result<Building, NotNow> {
        // Inside before the state says so, or a drain of the first moment would find nobody.
        self.inside.fetch_add(KNOCK, Ordering::Relaxed);
        let seen = self.look(Ordering::Relaxed);
        let next = seen.next_round().with(State::Building);
        if seen.state() != State::Empty || !self.swap(seen, next) {
            self.inside.fetch_sub(KNOCK, Ordering::Relaxed);
            return Err(NotNow(seen.state()));
        }
        let mut permit = self.come_in(next);
        permit.builds = Some(next);
        Ok(Building(permit))
    }

    /// The right to run on it, if it is ready.
    pub fn run(self: &Arc<Self>) -> Result<Permit, NotNow> {
        // Turns most callers away without a knock, which a drainer would wait for. Proves nothing.
        let early = self.state();
        if early != State::Ready {
            return Err(NotNow(early));
        }
        self.inside.fetch_add(KNOCK, Ordering::Relaxed);
        // Pairs with the one in `claim`.
        fence(Ordering::SeqCst);
        let seen = self.look(Ordering::Acquire);
        if seen.state() != State::Ready {
            self.inside.fetch_sub(KNOCK, Ordering::Relaxed);
            return Err(NotNow(seen.state()));
        }
        Ok(self.come_in(seen))
    }

    /// Lets nobody else in. If nobody is inside the caller takes it apart; otherwise the last one out will, and is to be
    /// told to leave. Nothing happens if nothing is there or it has been called before.
    pub fn drain(self: &Arc<Self>) -> Option<Drained> {
        loop {
            let seen = self.look(Ordering::Relaxed);
            match seen.state() {
                State::Empty | State::Draining | State::Dismantling => return None,
                State::Building | State::Ready => {}
            }
            let draining = seen.with(State::Draining);
            if self.swap(seen, draining) {
                return self.claim(draining);
            }
        }
    }

    /// How far it is. The answer may be out of date at once, unless a permit or another of these values is held.
    #[must_use]
    pub fn state(&self) -> State {
        self.look(Ordering::Acquire).state()
    }

    fn look(&self, order: Ordering) -> Word {
        Word(self.word.load(order))
    }

    fn swap(&self, from: Word, to: Word) -> bool {
        self.word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// A knock becomes a permit of the round of `word`.
    fn come_in(self: &Arc<Self>, word: Word) -> Permit {
        self.inside.fetch_sub(KNOCK.wrapping_sub(1), Ordering::Relaxed);
        Permit { of: Arc::clone(self), draining: word.with(State::Draining), builds: None, left: false }
    }

    /// Takes it apart, if that round is draining, nobody is inside, and nobody else does it.
    fn claim(self: &Arc<Self>, draining: Word) -> Option<Drained> {
        if self.look(Ordering::Acquire) != draining {
            return None;
        }
        // Whoever saw Ready before this has its knock or its permit seen below.
        fence(Ordering::SeqCst);
        loop {
            // Acquire: what those who left did is done.
            let inside = self.inside.load(Ordering::Acquire);
            if !inside.is_multiple_of(KNOCK) {
                return None;
            }
            if inside == 0 {
                break;
            }
            spin_loop();
        }
        let word = draining.with(State::Dismantling);
        self.swap(draining, word).then(|| Drained { of: Arc::clone(self), word })
    }
}

impl Building {
    /// It is built: from here on it may be run on, by the builder first. If it was drained meanwhile the builder takes it
    /// apart again, being the only one inside.
    pub fn ready(mut self) -> Result<Permit, Left> {
        let building = self.0.draining.with(State::Building);
        self.0.builds = None;
        if self.0.of.swap(building, building.with(State::Ready)) { Ok(self.0) } else { Err(self.0.leave()) }
    }
}

impl Permit {
    /// Gives it back. What the holder did on what was built is seen by who takes it apart.
    pub fn leave(mut self) -> Left {
        self.step_out()
    }

    fn step_out(&mut self) -> Left {
        self.left = true;
        if let Some(building) = self.builds {
            // Failed: nothing was left behind. Refused if it is being drained, which then ends here too.
            self.of.swap(building, building.with(State::Empty));
        }
        // Release: what was done here comes before taking it apart.
        if self.of.inside.fetch_sub(1, Ordering::Release) % KNOCK != 1 {
            return Left::Others;
        }
        // Pairs with the one in `claim`, here on the other side.
        fence(Ordering::SeqCst);
        match self.of.claim(self.draining) {
            Some(drained) => Left::Last(drained),
            None if self.of.state() == State::Ready => Left::Nobody,
            None => Left::Others,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.left {
            // Of what is drained through a dropped permit nothing needs to be taken apart.
            let _ = self.step_out();
        }
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let empty = self.of.swap(self.word, self.word.with(State::Empty));
        debug_assert!(empty, "two CPUs took one thing apart");
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Left, NotNow, Readiness, State};

    #[test]
    fn n3_the_round_from_empty_to_empty() {
        let r = Readiness::new();
        assert_eq!(r.run().unwrap_err(), NotNow(State::Empty));
        assert!(r.drain().is_none(), "nothing is there to be drained");
        let building = r.build().unwrap();
        assert_eq!(r.run().unwrap_err(), NotNow(State::Building), "R19: not before it is built");
        assert_eq!(r.build().unwrap_err(), NotNow(State::Building), "one builder");
        let first = building.ready().unwrap();
        let second = r.run().unwrap();
        assert!(r.drain().is_none(), "R20: two are inside");
        assert_eq!(r.run().unwrap_err(), NotNow(State::Draining));
        assert!(matches!(first.leave(), Left::Others));
        let Left::Last(drained) = second.leave() else { panic!("R20: the last one out takes it apart") };
        assert_eq!((r.state(), r.build().unwrap_err()), (State::Dismantling, NotNow(State::Dismantling)));
        drop(drained);
        assert_eq!(r.state(), State::Empty);
    }

    #[test]
    fn n3_everybody_may_leave_and_come_back_until_it_is_drained() {
        let r = Readiness::new();
        let permit = r.build().unwrap().ready().unwrap();
        assert!(matches!(permit.leave(), Left::Nobody));
        let again = r.run().unwrap();
        assert!(matches!(again.leave(), Left::Nobody));
        assert!(r.drain().is_some(), "nobody is inside: who drains takes it apart");
        assert_eq!(r.state(), State::Empty);
    }

    #[test]
    fn n5_failure_leaves_empty() {
        let r = Readiness::new();
        drop(r.build().unwrap());
        assert_eq!(r.state(), State::Empty);
        let permit = r.build().unwrap().ready().unwrap();
        assert!(r.drain().is_none());
        drop(permit);
        assert_eq!(r.state(), State::Empty);
    }

    #[test]
    fn n5_a_drain_meets_the_builder() {
        let r = Readiness::new();
        let building = r.build().unwrap();
        assert!(r.drain().is_none(), "the builder is inside");
        assert!(matches!(building.ready(), Err(Left::Last(_))), "the builder takes it apart");
        assert_eq!(r.state(), State::Empty);
        let building = r.build().unwrap();
        assert!(r.drain().is_none());
        drop(building);
        assert_eq!(r.state(), State::Empty, "a builder that failed has nothing to take apart");
    }

    #[test]
    fn r20_a_late_leaver_cannot_claim_the_next_round() {
        let r = Readiness::new();
        let old = r.build().unwrap().ready().unwrap();
        let draining = old.draining;
        assert!(matches!(old.leave(), Left::Nobody));
        drop(r.drain());
        let _next = r.build().unwrap().ready().unwrap();
        assert!(r.drain().is_none());
        assert!(r.claim(draining).is_none());
        assert_eq!(r.state(), State::Draining);
    }
}
