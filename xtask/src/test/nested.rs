//! Guests of guests, on the board whose guests may have some.

use anyhow::Result;

use super::Depth;
use super::boots::{self, Boot, UNAME, Usual};
use crate::board::Board;

/// Guests that have guests: Trivet in Trivet, and Linux's own KVM in Trivet.
const NESTED: &[Boot] = &[
    Boot {
        name: "Trivet in Trivet",
        usual: Usual::Everywhere,
        args: &["--guests", "boards/powernv/nested.toml", "--exec", "uname -m", "--exec", "nproc"],
        status: 0,
        stdout: &[UNAME, "2"],
        error: "",
    },
    Boot {
        name: "Linux as a hypervisor",
        usual: Usual::Everywhere,
        args: &[
            "--guests",
            "boards/powernv/kvm.toml",
            "--exec",
            "modprobe kvm_hv",
            "--exec",
            "test -c /dev/kvm && echo device",
            "--exec",
            "kvm",
            "--exec",
            "! dmesg | grep -iE 'kvm|nest|hcall|lpid'",
        ],
        status: 0,
        stdout: &["device", "hypercalls 3", "pages 64", "device loads 1"],
        error: "",
    },
];

/// Boots them; deeper, on POWER10 as well.
pub fn run(depth: Depth) -> Result<()> {
    let board = Board::named("powernv")?;
    boots::all(std::slice::from_ref(&board), depth, NESTED, &[])?;
    match depth {
        Depth::Usual => Ok(()),
        Depth::Deep => boots::all(&[board], depth, NESTED, &["--machine", "10"]),
    }
}
