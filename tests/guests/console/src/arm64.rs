//! The console's interrupt on Arm: an SPI of the PL011, which is up while there is something to read.

use crate::gic::{self, Gic};
use crate::machine::{Tree, fail, load, now, store, typed};

/// The UART's registers: flags, control, which interrupts it raises.
const FLAGS: u64 = 0x18;
const CONTROL: u64 = 0x30;
const MASK: u64 = 0x38;
const EMPTY: u32 = 1 << 4;
/// Enabled, in both directions.
const ON: u32 = 0x301;
/// Something was received, or has waited for a while.
const RECEIVED: u32 = 1 << 4 | 1 << 6;

/// The console's interrupt, as it is to be presented.
pub struct Line {
    uart: u64,
    id: u32,
}

impl Line {
    /// Sets it up; interrupts are off.
    pub fn new(tree: &Tree) -> Self {
        let [uart, _] = tree.device("arm,pl011");
        let id = tree.spi("arm,pl011");
        let gic = Gic::new(tree);
        gic.enable(id);
        store(uart + CONTROL, ON);
        store(uart + MASK, RECEIVED);
        Self { uart, id }
    }

    /// Passes time with interrupts off.
    pub fn spin(ticks: u64) {
        let until = now() + ticks;
        while now() < until {}
    }

    /// Whether it waits. Asking makes the hypervisor look.
    pub fn waits(&self) -> bool {
        load(self.uart + FLAGS) & EMPTY == 0
    }

    /// Turns interrupts on until it was taken, for `most` ticks; the ticks until the vector's first instructions.
    pub fn open(&self, most: u64) -> Option<u64> {
        gic::rearm();
        let begun = now();
        gic::open(begun + most).map(|taken| taken - begun)
    }

    /// Sleeps in WFI until it was taken.
    pub fn sleep(&self) {
        while !gic::wait() {}
    }

    /// Takes the interrupt and the character, and makes sure that there are no others.
    pub fn take(&self, key: u8) {
        let id = gic::acknowledge();
        if id != self.id {
            fail(format_args!("the interrupt acknowledged is {id}, not {}", self.id));
        }
        let typed = [typed(), typed()];
        if typed != [Some(key), None] {
            fail(format_args!("{typed:x?} in place of {}", char::from(key)));
        }
        gic::end(id);
        let rest = gic::waiting();
        if rest != gic::NONE {
            fail(format_args!("after the end of the interrupt {rest} is left"));
        }
    }
}
