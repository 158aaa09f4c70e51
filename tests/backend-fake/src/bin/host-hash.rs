//! The conformance column `host-hash`: the table on the fake with a hashed second stage, which has no radix format. See
//! `backend_fake::column`.

use std::process::ExitCode;

use backend_fake::{FakeHash, column};

fn main() -> ExitCode {
    column::table::<FakeHash>(&[])
}
