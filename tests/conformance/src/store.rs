//! A swap store on the heap, for cases.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hv_core::addr::{PAGE_SIZE, Pfn};
use hv_core::epoch::Cpu;
use hv_core::machine::Machine;
use hv_core::page::{Full, Swap, Zeroed};
use hv_core::sync::Mutex;

/// Pages by index, so many at most.
pub struct Store {
    room: usize,
    pages: Mutex<Vec<(u64, Vec<u8>)>>,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(room: usize) -> Arc<Self> {
        Arc::new(Self { room, pages: Mutex::new(Vec::new()) })
    }

    /// How many pages it keeps.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.pages.lock().len()
    }
}

impl<M: Machine> Swap<M> for Store {
    fn keep(&self, _cpu: &Cpu, m: &M, index: u64, frame: Pfn) -> Result<(), Full> {
        let mut pages = self.pages.lock();
        if pages.len() >= self.room {
            return Err(Full);
        }
        let mut bytes = alloc::vec![0; PAGE_SIZE];
        m.read(frame, 0, &mut bytes);
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(used);
        bytes.shrink_to_fit();
        pages.push((index, bytes));
        Ok(())
    }

    fn bring(&self, _cpu: &Cpu, m: &M, index: u64, page: &Zeroed) {
        let mut pages = self.pages.lock();
        if let Some(n) = pages.iter().position(|(kept, _)| *kept == index) {
            let (_, bytes) = pages.swap_remove(n);
            m.write(page.pfn(), 0, &bytes);
        }
    }

    fn forget(&self, index: u64) {
        self.pages.lock().retain(|(kept, _)| *kept != index);
    }
}
