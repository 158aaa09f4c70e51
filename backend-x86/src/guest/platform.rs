//! What a guest finds in place of firmware, and the state of its first vCPU.

use hv_core::addr::{GfnRange, PAGE_SHIFT};
use hv_core::guest::loader::{Kernel, LoadError};
use hv_core::isa::{Firmware, Platform, Shape};
use hv_core::machine::Machine as _;
use hv_core::vcpu::services::Services;

use super::boot::{CODE_ROOM, TREE_ROOM, firmware};
use super::kernel::{EM_X86_64, kernel};
use super::layout::HOLE;
use super::pc::Pc;
use crate::isa::X86;
use crate::machine::X86Machine;

impl Platform<X86> for Pc {
    const ELF_MACHINE: u16 = EM_X86_64;
    /// The first vCPU begins with the first 4 GiB mapped, and devices are at the end of them.
    const CEILING: u64 = HOLE.start.0;
    const HOLE: Option<GfnRange> = GfnRange::new(HOLE.start.page(), (HOLE.end.0 - HOLE.start.0) >> PAGE_SHIFT);
    const TREE_ROOM: u64 = TREE_ROOM;
    const CODE_ROOM: u64 = CODE_ROOM;

    #[inline(never)] // for size, as below: what makes a VM has a frame of pages as it is
    fn kernel(file: &[u8]) -> Result<Kernel<'_>, LoadError> {
        kernel(file)
    }

    #[inline(never)]
    fn create(_: &X86Machine, vcpus: u16) -> Option<Self> {
        Self::new(vcpus)
    }

    #[inline(never)]
    fn firmware(&self, m: &X86Machine, shape: &Shape<'_>) -> Option<Firmware> {
        firmware(shape, seed(m))
    }

    fn unknown_calls(&self) -> u64 {
        Self::unknown_calls(self)
    }

    fn console_input(&self) -> impl IntoIterator<Item = u16> {
        self.typed().vcpus()
    }

    // A guest is told nothing of when it runs.
    fn dispatched<S: Services>(&self, _: u16, _: &S) {}
    fn preempted<S: Services>(&self, _: u16, _: &S) {}
}

/// Random numbers, if the machine has a source of them.
fn seed(m: &X86Machine) -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    for word in seed.as_chunks_mut::<8>().0 {
        *word = m.random()?.to_le_bytes();
    }
    Some(seed)
}
