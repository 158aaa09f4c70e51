//! `start-cpu`, `stop-self`, `query-cpu-stopped-state`.

use hv_core::addr::Gpa;
use hv_core::vcpu::exit::Next;
use hv_core::vcpu::services::{Services, StartAt, StartError, VcpuState};

use super::{Block, End, Outcome, Papr};

/// `query-cpu-stopped-state`: the processor may be started.
const STOPPED: u32 = 0;
/// `query-cpu-stopped-state`: the processor runs.
const NOT_STOPPED: u32 = 2;

/// `start-cpu`: processor, address, value for r3. It begins there in real mode, big-endian.
pub fn start(p: &Papr, block: &Block, s: &dyn Services) -> Outcome {
    let [processor, address, r3, ..] = block.args;
    let Some(vcpu) = p.named(processor.into()) else {
        return Outcome::ParameterError;
    };
    let at = StartAt { entry: Gpa(address.into()), args: [r3.into(), 0, 0, 0], big_endian: true };
    match s.start_vcpu(vcpu, at) {
        Ok(()) => Outcome::Success,
        Err(StartError::NotStopped) => Outcome::HardwareError,
        Err(StartError::NoSuchVcpu) => Outcome::ParameterError,
    }
}

/// `stop-self`: does not return.
pub const fn stop_self() -> End {
    End::Never(Next::StopSelf)
}

/// `query-cpu-stopped-state`: processor; state.
pub fn query(p: &Papr, block: &mut Block, s: &dyn Services) -> Outcome {
    let state = p.named(block.args[0].into()).and_then(|vcpu| s.vcpu_state(vcpu));
    block.values[0] = match state {
        None => return Outcome::ParameterError,
        Some(VcpuState::Stopped) => STOPPED,
        Some(VcpuState::Started) => NOT_STOPPED,
    };
    Outcome::Success
}
