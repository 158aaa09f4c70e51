//! The conformance column `host-trap`: the table on the fake with a radix second stage of which hardware notes nothing. See
//! `backend_fake::column`.

use std::process::ExitCode;

use backend_fake::{FakeTrap, column};

fn main() -> ExitCode {
    column::table::<FakeTrap>(&[])
}
