//! A store for worlds whose pages hold one word each. It is book-keeping: no checker sees it, so it orders nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use backend_fake::FakeMachine;
use hv_core::addr::Pfn;
use hv_core::epoch::Cpu;
use hv_core::machine::Machine;
use hv_core::page::{Kept, NotKept, Store, StoreStats, Token, Zeroed};
use hv_core::radix::format::Place;

/// The first word of each page, by its place. A place that is free is used again at once, as a store in memory does.
#[derive(Debug, Default)]
pub struct Words(Mutex<BTreeMap<u64, [u8; 8]>>);

impl Words {
    /// How many pages it keeps.
    pub fn kept(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Store<FakeMachine> for Words {
    fn keep(&self, _cpu: &Cpu, m: &FakeMachine, frame: Pfn) -> Result<Kept, NotKept> {
        let mut word = [0; 8];
        m.read(frame, 0, &mut word);
        if word == [0; 8] {
            return Ok(Kept::Zeros);
        }
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = (0..).find(|place| !pages.contains_key(place)).expect("places do not end");
        pages.insert(free, word);
        Ok(Kept::As(Token::issue(Place::new(free).expect("few pages are kept"))))
    }

    fn bring(&self, _cpu: &Cpu, m: &FakeMachine, token: &Token, page: &Zeroed) {
        let place = token.place().number();
        let word = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&place).copied();
        m.write(page.pfn(), 0, &word.expect("G2: the store does not have the page"));
    }

    fn forget(&self, _cpu: &Cpu, _m: &FakeMachine, token: Token) {
        let place = token.into_place().number();
        let word = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
        assert!(word.is_some(), "R24: a page is forgotten twice");
    }

    fn stats(&self) -> StoreStats {
        StoreStats { pages: self.kept() as u64, ..StoreStats::default() }
    }
}
