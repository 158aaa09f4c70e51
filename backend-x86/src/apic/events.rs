//! What reaches a vCPU beside interrupts: INIT, start-up, NMI. One atomic word, so that senders take no lock.
//!
//! ```text
//!                    INIT                     start-up with a vector
//!   running  ------------------>  waiting  -------------------------->  running, in real mode at the vector's page
//!      ^                             |  every other start-up is lost, and so is an NMI while waiting
//! ```
//!
//! Both orders of a race end well. A start-up is latched if the vCPU waits *or has an INIT that it has not looked at*, so the
//! usual pair INIT, start-up is never torn; an INIT wipes out a start-up that came before it. The vCPU takes everything with
//! one exchange ([`Events::take`]) and waits by halting, not by stopping: whoever latches something wakes it, and a halt does
//! not begin while something is latched.

use hv_core::sync::{AtomicU32, Ordering};

/// The vCPU waits for a start-up message.
const WAITING: u32 = 1 << 0;
/// INIT has been received and not looked at.
const INIT: u32 = 1 << 1;
/// A start-up message has been received and not looked at; its vector is in [`VECTOR`].
const STARTUP: u32 = 1 << 2;
/// An NMI waits.
const NMI: u32 = 1 << 3;
/// This is the boot processor. Never changes.
const BOOT: u32 = 1 << 4;
const VECTOR_SHIFT: u32 = 8;
const VECTOR: u32 = 0xff << VECTOR_SHIFT;

/// Which of a VM's processors one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Begins by itself (IA32_APIC_BASE.BSP).
    Boot,
    /// Begins when another one says so.
    Application,
}

/// What a vCPU has to do before it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Reset itself and its local APIC, then wait.
    Init,
    /// Begin in real mode at CS:IP = vector << 8 : 0, after a reset of itself and its local APIC.
    Start(u8),
    /// The boot processor was told to reset itself. There is no firmware to go to: the VM begins anew.
    Restart,
}

/// The word.
#[derive(Debug)]
pub struct Events(AtomicU32);

impl Events {
    /// Nothing has been received; all but the boot processor wait.
    pub fn new(role: Role) -> Self {
        Self(AtomicU32::new(match role {
            Role::Boot => BOOT,
            Role::Application => WAITING,
        }))
    }

    /// Changes the word; returns it as it was.
    fn update(&self, change: impl Fn(u32) -> u32) -> u32 {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            match self.0.compare_exchange_weak(word, change(word), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(before) => return before,
                Err(found) => word = found,
            }
        }
    }

    /// An INIT arrives.
    pub fn init(&self) {
        self.update(|word| word & !(STARTUP | VECTOR) | INIT);
    }

    /// A start-up arrives. It counts if the vCPU waits for one, or is about to, and is the first.
    pub fn start_up(&self, vector: u8) {
        self.update(|word| {
            let expected = word & (WAITING | INIT) != 0 && word & STARTUP == 0;
            if expected { word | STARTUP | u32::from(vector) << VECTOR_SHIFT } else { word }
        });
    }

    /// An NMI arrives.
    pub fn nmi(&self) {
        self.update(|word| if word & (WAITING | INIT) == 0 { word | NMI } else { word });
    }

    /// True if there is something to take.
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Acquire) & (INIT | STARTUP | NMI) != 0
    }

    /// The vector of a start-up that waits to be looked at: a vCPU that has never run has to be started for it.
    pub fn starting(&self) -> Option<u8> {
        let word = self.0.load(Ordering::Acquire);
        (word & STARTUP != 0).then_some((word >> VECTOR_SHIFT) as u8)
    }

    /// True if the vCPU may not run: it waits for a start-up.
    pub fn waiting(&self) -> bool {
        self.0.load(Ordering::Relaxed) & (WAITING | STARTUP) == WAITING
    }

    /// The vCPU has been made to run without a message, and waits for none. What is latched stays.
    pub fn begun(&self) {
        self.update(|word| word & !WAITING);
    }

    /// Takes INIT and start-up. Called by the vCPU itself.
    pub fn take(&self) -> Option<Event> {
        if self.0.load(Ordering::Acquire) & (INIT | STARTUP) == 0 {
            return None;
        }
        let before = self.update(|word| {
            let rest = word & BOOT;
            if word & STARTUP != 0 || word & BOOT != 0 { rest } else { rest | WAITING }
        });
        Some(if before & BOOT != 0 {
            Event::Restart
        } else if before & STARTUP != 0 {
            Event::Start((before >> VECTOR_SHIFT) as u8)
        } else {
            Event::Init
        })
    }

    /// Takes an NMI, which the caller injects. Called by the vCPU itself.
    pub fn take_nmi(&self) -> bool {
        self.0.load(Ordering::Relaxed) & NMI != 0 && self.0.fetch_and(!NMI, Ordering::AcqRel) & NMI != 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Events, Role};

    #[test]
    fn init_then_start_up_is_one_step_however_late_the_look() {
        let events = Events::new(Role::Application);
        events.start_up(0x9a);
        assert!(events.starting() == Some(0x9a) && !events.waiting());
        assert_eq!(events.take(), Some(Event::Start(0x9a)));
        // It runs: a second start-up, as every system sends it, is lost.
        events.start_up(0x9b);
        assert!(!events.any() && !events.waiting());
        events.init();
        events.start_up(0x10);
        events.start_up(0x11);
        assert_eq!(events.take(), Some(Event::Start(0x10)));
        assert_eq!(events.take(), None);
    }

    #[test]
    fn init_wipes_out_what_came_before_it() {
        let events = Events::new(Role::Application);
        events.start_up(7);
        events.init();
        assert_eq!(events.take(), Some(Event::Init));
        assert!(events.waiting());
        events.nmi();
        assert!(!events.take_nmi(), "no NMI reaches one that waits");
        events.start_up(8);
        assert_eq!(events.take(), Some(Event::Start(8)));
        events.nmi();
        events.init();
        assert_eq!(events.take(), Some(Event::Init));
        assert!(!events.take_nmi());
    }

    #[test]
    fn the_boot_processor_does_not_wait() {
        let events = Events::new(Role::Boot);
        events.start_up(1);
        assert_eq!(events.take(), None);
        events.nmi();
        assert!(events.any() && events.take_nmi() && !events.take_nmi());
        events.init();
        assert_eq!((events.take(), events.waiting()), (Some(Event::Restart), false));
        assert_eq!(events.take(), None);
    }
}
