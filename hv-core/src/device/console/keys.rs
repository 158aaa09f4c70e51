//! The escape key of the operator's terminal. Ctrl-A as in `screen` and in QEMU.

/// Ctrl-A.
const ESCAPE: u8 = 0x01;

/// What a key of the terminal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is for whoever has the terminal.
    Typed(u8),
    /// The first half of a command.
    Escape,
    /// Show the monitor.
    Monitor,
    /// Show the VM with this number, beginning with 0.
    Vm(usize),
    /// Show the next VM.
    Next,
    /// Switch the machine off.
    PowerOff,
    /// Show what the keys are.
    Help,
    /// No command.
    Unknown,
}

/// What [`Meaning::Help`] shows.
pub(super) const HELP: &str = "\
Ctrl-A m       monitor
Ctrl-A 1..9    VM of that number
Ctrl-A n       next VM
Ctrl-A x       switch the machine off
Ctrl-A Ctrl-A  send Ctrl-A
Ctrl-A ?       this help
";

/// Remembers whether the last key was the escape key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Escape {
    /// It was not.
    #[default]
    Idle,
    /// It was: the next key is a command.
    Pending,
}

impl Escape {
    /// Takes one key.
    pub(super) fn key(&mut self, key: u8) -> Meaning {
        match (core::mem::take(self), key) {
            (Self::Idle, ESCAPE) => {
                *self = Self::Pending;
                Meaning::Escape
            }
            (Self::Idle, key) => Meaning::Typed(key),
            // `a` as in screen.
            (Self::Pending, ESCAPE | b'a') => Meaning::Typed(ESCAPE),
            // Control held down for the second key as well means the same.
            (Self::Pending, b'm' | b'c' | 0x0d) => Meaning::Monitor,
            (Self::Pending, b'n' | b' ' | 0x0e) => Meaning::Next,
            (Self::Pending, b'x' | 0x18) => Meaning::PowerOff,
            (Self::Pending, b'?' | b'h') => Meaning::Help,
            (Self::Pending, digit @ b'1'..=b'9') => Meaning::Vm(usize::from(digit.wrapping_sub(b'1'))),
            (Self::Pending, _) => Meaning::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Escape, Meaning};
    use alloc::vec::Vec;

    fn meanings(keys: &[u8]) -> Vec<Meaning> {
        let mut escape = Escape::default();
        keys.iter().map(|key| escape.key(*key)).filter(|meaning| *meaning != Meaning::Escape).collect()
    }

    #[test]
    fn the_escape_key_makes_the_next_key_a_command_and_only_that() {
        let want = [Meaning::Typed(b'm'), Meaning::Monitor, Meaning::Typed(b'm')];
        assert_eq!(meanings(b"m\x01mm"), want);
        assert_eq!(meanings(b"\x011\x019\x01n\x01?"), [Meaning::Vm(0), Meaning::Vm(8), Meaning::Next, Meaning::Help]);
        assert_eq!(meanings(b"\x010x\x01x"), [Meaning::Unknown, Meaning::Typed(b'x'), Meaning::PowerOff]);
    }

    #[test]
    fn the_escape_key_twice_is_itself_once() {
        assert_eq!(meanings(b"\x01\x01\x01\x01x"), [Meaning::Typed(1), Meaning::Typed(1), Meaning::Typed(b'x')]);
    }

    /// No key is swallowed for good: every key but the escape key means something by itself.
    #[test]
    fn every_other_byte_is_typed_as_it_is() {
        for key in (0..=255).filter(|key| *key != 1) {
            assert_eq!(meanings(&[key]), [Meaning::Typed(key)]);
        }
    }
}
