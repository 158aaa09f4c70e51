//! The conformance column `host-nest`: the table on the fake with a second stage whose guests may have guests, the shipped
//! source, and the cases of those. See `backend_fake::column`.

use std::process::ExitCode;

use backend_fake::{FakeNest, column};

fn main() -> ExitCode {
    column::table_with::<FakeNest>(&[], conformance_nest::table())
}
