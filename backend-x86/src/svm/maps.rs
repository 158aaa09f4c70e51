//! The permission maps: which ports and model-specific registers end a guest's run (AMD APM vol. 2, 15.10.1 and 15.11). All
//! guests share them: made once, never changed, never given back.
#![expect(unsafe_code, reason = "makes what is too large for a stack")]

use alloc::alloc::alloc;
use core::alloc::Layout;

use hv_core::sync::Mutex;

use crate::msr_map;

/// The maps, as they lie in memory.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Maps {
    /// Ports: one bit each, and some that are none. Every port ends the run.
    ports: [u8; 0x3000],
    /// Registers.
    registers: [u8; msr_map::SVM_BYTES],
}

static MAPS: Mutex<Option<&'static Maps>> = Mutex::new(None);

/// The maps; `None` if there is no memory for them.
pub fn get() -> Option<&'static Maps> {
    let mut maps = MAPS.lock();
    if maps.is_none() {
        let layout = Layout::new::<Maps>();
        // SAFETY: the type is not empty.
        let new = unsafe { alloc(layout) };
        if new.is_null() {
            return None;
        }
        // SAFETY: memory of that size and alignment, which nobody else has; every pattern of bits is a map, and this one it
        // has from here on.
        let new = unsafe {
            new.write_bytes(0xff, layout.size());
            &mut *new.cast::<Maps>()
        };
        msr_map::svm(&mut new.registers);
        *maps = Some(new);
    }
    *maps
}

impl Maps {
    /// Physical addresses: of the map of ports, of that of registers. Memory is mapped at its own addresses.
    #[must_use]
    pub fn addresses(&self) -> (u64, u64) {
        let address = |first: &u8| core::ptr::from_ref(first).expose_provenance() as u64;
        (address(&self.ports[0]), address(&self.registers[0]))
    }
}
