//! The conformance column `host-radix`: the table on the fake with a radix second stage, and the codecs of every format
//! there is. See `backend_fake::column`.

use std::process::ExitCode;

use backend_arm::stage2::format::{Entries, Forced, Hardware, Trap};
use backend_fake::{FakeRadix, Skewed, column};
use backend_ppc64::radix::PartitionScoped;
use backend_x86::stage2::format::{Entries as X86Entries, EptMarks, EptTrap, Npt};
use conformance::rig::Codec;

const CODECS: &[Codec] = &[
    Codec::of::<Skewed>("skewed"),
    Codec::of::<PartitionScoped>("ppc64 partition-scoped"),
    Codec::of::<Entries<Forced>>("arm64 stage 2, marks and forced write-back"),
    Codec::of::<Entries<Hardware>>("arm64 stage 2, marks"),
    Codec::of::<Entries<Trap>>("arm64 stage 2, no marks"),
    Codec::of::<X86Entries<EptMarks>>("x86 EPT, marks"),
    Codec::of::<X86Entries<EptTrap>>("x86 EPT, no marks"),
    Codec::of::<X86Entries<Npt>>("x86 nested pages"),
];

fn main() -> ExitCode {
    column::table::<FakeRadix>(CODECS)
}
