//! The dispatch trace log: a ring of entries in guest memory, one for each time that the vCPU got a CPU.

use hv_core::addr::Gpa;
use hv_core::machine::Instant;
use hv_core::vcpu::services::Services;

/// Bytes of an entry.
const ENTRY: u32 = 48;

// Offsets in the virtual processor area.
const VPA_MASK_AT: u64 = 0xb8;
const VPA_INDEX_AT: u64 = 0x218;

/// What the guest wants logged: dispatches after it ceded.
const LOG_CEDE: u8 = 0x01;
/// What the guest wants logged: dispatches after it was preempted.
const LOG_PREEMPT: u8 = 0x02;

/// Reasons in an entry. PAPR leaves the numbers of these two to the platform.
const REASON_CEDED: u8 = 1;
const REASON_PREEMPTED: u8 = 2;

/// A registered log.
#[derive(Debug)]
pub struct TraceLog {
    at: Gpa,
    entries: u64,
    /// Entries written since it was registered.
    written: u64,
}

impl TraceLog {
    /// A log of `size` bytes; `None` if not one entry fits, or if it wraps around the end of the address space.
    pub fn new(at: Gpa, size: u32) -> Option<Self> {
        at.checked_add(size.into())?;
        let entries = u64::from(size / ENTRY);
        (entries > 0).then_some(Self { at, entries, written: 0 })
    }

    /// The vCPU whose virtual processor area is at `vpa` got a CPU at `now`, `delay` ticks after it wanted one. An entry
    /// whose memory cannot be written is dropped: the guest then sees that the index stands still.
    pub fn dispatched<S: Services>(&mut self, vpa: Gpa, ceded: bool, now: Instant, delay: u64, s: &S) {
        let mut mask = [0];
        let wanted = if ceded { LOG_CEDE } else { LOG_PREEMPT };
        if s.read(Gpa(vpa.0.saturating_add(VPA_MASK_AT)), &mut mask).is_err() || mask[0] & wanted == 0 {
            return;
        }
        let mut entry = [0; ENTRY as usize];
        entry[1] = if ceded { REASON_CEDED } else { REASON_PREEMPTED };
        entry[4..8].copy_from_slice(&u32::try_from(delay).unwrap_or(u32::MAX).to_be_bytes());
        entry[16..24].copy_from_slice(&now.0.to_be_bytes());
        let slot = (self.written % self.entries) * u64::from(ENTRY);
        if s.write(Gpa(self.at.0.saturating_add(slot)), &entry).is_ok() {
            self.written = self.written.wrapping_add(1);
            // The index follows the entry, so that who sees it sees the entry.
            let _ = s.write(Gpa(vpa.0.saturating_add(VPA_INDEX_AT)), &self.written.to_be_bytes());
        }
    }
}
