//! The probe: the smallest guest, which does single accesses on command.
//!
//! Every column has one: the fake's is a script, a board's is a few dozen instructions of its own architecture. All
//! speak this protocol, through a mailbox in guest memory, one per vCPU, of little-endian 64-bit words:
//!
//! | offset | field   | written by | meaning |
//! |--------|---------|------------|---------|
//! | 0      | number  | host, last | a new number is a new command |
//! | 8      | op      | host       | [`Op`] |
//! | 16     | address | host       | guest physical address, a multiple of 8 |
//! | 24     | value   | host       | what to store |
//! | 32     | done    | probe, last| the number of the command last finished |
//! | 40     | result  | probe      | what was loaded; stores made so far (spin) |
//! | 48     | status  | probe      | [`STATUS_DONE`], or [`STATUS_EXCEPTION`] if the access raised one |
//! | 56     | stop    | host       | the number of the spin command that is to end |
//!
//! The probe starts with the mailbox's address as its first argument, translation and interrupts off, and then, for ever:
//! load `number`; if it is the one done last, call the hypervisor (any call); else carry out the command, store status,
//! result, done, and call the hypervisor. A call made with a command undone is carried out, which may cost the probe whatever
//! calls cost; it keeps the mailbox's address. A [`Op::Spin`] turn is: store `value + result` to `address`; add 1 to the
//! result; load `stop`; store `result`; end if `stop` is the command's number.

use hv_core::addr::Gpa;

/// The code is loaded at guest physical address 0 and ends before [`MAILBOXES`].
pub const CODE: Gpa = Gpa(0);
/// Where the mailboxes are.
pub const MAILBOXES: Gpa = Gpa(0x8000);
/// One mailbox's size in bytes.
pub const MAILBOX_SIZE: u64 = 128;
/// The first guest frame that a case may use as it likes.
pub const FREE: u64 = 16;
/// Guest RAM in pages.
pub const RAM_PAGES: u64 = 256;

/// The command ran to its end.
pub const STATUS_DONE: u64 = 1;
/// Its access raised an exception.
pub const STATUS_EXCEPTION: u64 = 2;

/// A probe for one architecture.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// Loaded at [`CODE`].
    pub code: &'static [u8],
    /// Its first instruction.
    pub entry: Gpa,
    /// What an access becomes where nothing is.
    pub nowhere: Nowhere,
    /// The instruction that returns to whoever called the place where it is, for [`Op::Fetch`]; `None` if the probe cannot
    /// execute what it did not bring.
    pub returns: Option<u64>,
}

/// What an access becomes where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nowhere {
    /// An exception.
    Exception,
    /// A load of ones; a store is lost.
    Ones,
}

/// The mailbox of vCPU `index`.
#[must_use]
pub const fn mailbox(index: u16) -> Gpa {
    Gpa(MAILBOXES.0 + MAILBOX_SIZE * index as u64)
}

/// A word of the mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Number of the command.
    Number = 0,
    /// What to do.
    Op = 8,
    /// Where.
    Address = 16,
    /// With what.
    Value = 24,
    /// Number of the command last finished.
    Done = 32,
    /// What came out.
    Result = 40,
    /// How it ended.
    Status = 48,
    /// Number of the spin that is to end.
    Stop = 56,
}

impl Field {
    /// Its address.
    #[must_use]
    pub const fn at(self, mailbox: Gpa) -> Gpa {
        Gpa(mailbox.0 + self as u64)
    }
}

/// What the probe can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Nothing.
    Null = 0,
    /// Load a word from `address`.
    Read = 1,
    /// Store `value` to `address`.
    Write = 2,
    /// Store to `address` until told to stop.
    Spin = 3,
    /// Call the code at `address`, which returns.
    Fetch = 4,
}

impl Op {
    /// The operation that a word names.
    #[must_use]
    pub const fn from_word(word: u64) -> Option<Self> {
        match word {
            0 => Some(Self::Null),
            1 => Some(Self::Read),
            2 => Some(Self::Write),
            3 => Some(Self::Spin),
            4 => Some(Self::Fetch),
            _ => None,
        }
    }
}
