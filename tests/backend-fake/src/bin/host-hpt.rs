//! The conformance column `host-hpt`: the table on the fake with POWER's hashed table, the shipped source. See
//! `backend_fake::column`.

use std::process::ExitCode;

use backend_fake::{FakeHpt, column};

fn main() -> ExitCode {
    column::table::<FakeHpt>(&[])
}
