//! The small heap behind `alloc`: descriptions of VMs, trees, vCPUs. Never page frames.

use spin::Mutex;
use talc::TalcLock;
use talc::source::Claim;

/// Its size in bytes, part of the image's `.bss`.
pub const SIZE: u64 = 768 << 10;

static mut ARENA: [u8; SIZE as usize] = [0; SIZE as usize];

// SAFETY: the arena is named nowhere else.
#[global_allocator]
static HEAP: TalcLock<Mutex<()>, Claim> = TalcLock::new(unsafe { Claim::array(&raw mut ARENA) });
