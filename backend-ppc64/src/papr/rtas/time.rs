//! `get-time-of-day` and `set-time-of-day`: the guest's clock is the machine's plus what the guest set, per VM.

use hv_core::calendar::Moment;
use hv_core::sync::Ordering;
use hv_core::vcpu::services::Services;

use super::{Block, Outcome, Papr};

/// `get-time-of-day`: year, month, day, hour, minute, second, nanosecond.
pub fn get(p: &Papr, block: &mut Block, s: &dyn Services) -> Outcome {
    let ahead = p.clock_ahead.load(Ordering::Relaxed);
    let Some(m) = Moment::from_seconds(s.wall_clock().wrapping_add(ahead)) else {
        return Outcome::HardwareError;
    };
    block.values[..7].copy_from_slice(&[m.year, m.month, m.day, m.hour, m.minute, m.second, 0]);
    Outcome::Success
}

/// `set-time-of-day`, in the same order.
pub fn set(p: &Papr, block: &Block, s: &dyn Services) -> Outcome {
    let [year, month, day, hour, minute, second, nanosecond, ..] = block.args;
    let moment = Moment { year, month, day, hour, minute, second };
    match moment.seconds() {
        Some(seconds) if nanosecond < 1_000_000_000 => {
            p.clock_ahead.store(seconds.wrapping_sub(s.wall_clock()), Ordering::Relaxed);
            Outcome::Success
        }
        _ => Outcome::ParameterError,
    }
}
