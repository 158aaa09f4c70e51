//! The conformance column `host-hpt`: the table on the fake with POWER's hashed table, the shipped source, and the cases
//! of a guest's calls on it. See
//! `backend_fake::column`.

use std::process::ExitCode;

use backend_fake::{FakeHpt, column};

fn main() -> ExitCode {
    column::table_with::<FakeHpt>(&[], conformance_hash::table())
}
