//! Run-time firmware (PAPR, RTAS): what a guest calls through the few instructions of [`blob`].
//!
//! A call is a block of big-endian 32-bit cells in guest memory: token, number of arguments, number of results, the
//! arguments, the results. It is read once, into memory of ours, and only the results are written back (R26). The
//! first result is the status. A block that cannot be read or written, or that claims more cells than any call has, is
//! the only thing that the hypervisor call itself refuses.

pub mod blob;
mod interrupts;
mod processors;
mod system;
mod time;
pub mod token;

#[cfg(test)]
mod tests;

use hv_core::addr::Gpa;
use hv_core::vcpu::exit::Next;
use hv_core::vcpu::services::Services;

use super::Papr;
use super::hcall::Args;
use super::status::{Answer, Status};
use token::Token;

/// Arguments, or results, of the call that has most of them, and room to spare.
const MAX_CELLS: usize = 16;
/// Bytes of a cell.
const CELL: u64 = 4;
/// Cells before the arguments.
const HEADER: u64 = 3;

/// A firmware call's status, the first result. The values are PAPR's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
enum Outcome {
    Success = 0,
    /// `event-scan` and `check-exception`: there is nothing to report.
    NothingFound = 1,
    /// The hardware, or what stands for it, could not.
    HardwareError = -1,
    /// A parameter is wrong, or the call is not there.
    ParameterError = -3,
    /// `ibm,get-system-parameter`: the buffer is wrong.
    BufferError = -9999,
}

/// A firmware call, read from guest memory.
struct Block {
    args: [u32; MAX_CELLS],
    /// Results after the status.
    values: [u32; MAX_CELLS],
}

/// How a firmware call ends.
enum End {
    /// With a status, and then as the vCPU's next step says.
    Return(Outcome, Next),
    /// Not for the caller: nothing is written back.
    Never(Next),
}

impl From<Outcome> for End {
    fn from(outcome: Outcome) -> Self {
        Self::Return(outcome, Next::Resume)
    }
}

/// The private hypervisor call behind run-time firmware: r4 is the block's guest real address. Guests boot and end by it,
/// and no way that has to be fast leads here: it is compiled once, for size.
#[inline(never)]
pub fn call(p: &Papr, args: &Args<'_>, s: &dyn Services) -> Result<Answer, Status> {
    // The topmost four bits of a real address are not part of it.
    let at = args.param::<1>() & (u64::MAX >> 4);
    let [token, nargs, nret] = cells::<3>(at, s)?;
    let (nargs, nret) = (bounded(nargs)?, bounded(nret)?);
    let mut block = Block { args: [0; MAX_CELLS], values: [0; MAX_CELLS] };
    let mut raw = [0; MAX_CELLS * CELL as usize];
    let raw = raw.get_mut(..nargs * CELL as usize).ok_or(Status::Parameter)?;
    s.read(Gpa(at + HEADER * CELL), raw)?;
    for (arg, bytes) in block.args.iter_mut().zip(raw.as_chunks::<4>().0) {
        *arg = u32::from_be_bytes(*bytes);
    }
    let end = match Token::from_number(token) {
        Some(token) if token.cells() == (nargs, nret) => carry_out(p, token, &mut block, args.vcpu, s),
        _ => Outcome::ParameterError.into(),
    };
    let (outcome, next) = match end {
        End::Return(outcome, next) => (outcome, next),
        End::Never(next) => return Ok(Answer::then(next)),
    };
    let mut results = [0; MAX_CELLS * CELL as usize];
    let values = block.values.into_iter();
    for (slot, value) in
        results.as_chunks_mut::<4>().0.iter_mut().zip([outcome as i32 as u32].into_iter().chain(values))
    {
        *slot = value.to_be_bytes();
    }
    let results = results.get(..nret * CELL as usize).ok_or(Status::Parameter)?;
    s.write(Gpa(at + (HEADER + nargs as u64) * CELL), results)?;
    Ok(Answer::then(next))
}

fn carry_out(p: &Papr, token: Token, block: &mut Block, me: u16, s: &dyn Services) -> End {
    match token {
        Token::DisplayCharacter => system::display_character(block, s).into(),
        Token::PowerOff | Token::PowerOffUps => system::power_off(),
        Token::SystemReboot => system::reboot(),
        Token::OsTerm => system::os_term(block, s),
        Token::GetTimeOfDay => time::get(p, block, s).into(),
        Token::SetTimeOfDay => time::set(p, block, s).into(),
        Token::EventScan | Token::CheckException => Outcome::NothingFound.into(),
        Token::GetSystemParameter => system::get_parameter(block, s).into(),
        Token::StartCpu => processors::start(p, block, s).into(),
        Token::StopSelf => processors::stop_self(),
        Token::QueryCpuStoppedState => processors::query(p, block, s).into(),
        Token::SetXive => interrupts::set_xive(p, block, me, s).into(),
        Token::GetXive => interrupts::get_xive(p, block).into(),
        Token::IntOn => interrupts::int_on(p, block, me, s).into(),
        Token::IntOff => interrupts::int_off(p, block).into(),
    }
}

fn bounded(count: u32) -> Result<usize, Status> {
    usize::try_from(count).ok().filter(|&n| n <= MAX_CELLS).ok_or(Status::Parameter)
}

fn cells<const N: usize>(at: u64, s: &dyn Services) -> Result<[u32; N], Status> {
    let mut raw = [[0; 4]; N];
    s.read(Gpa(at), raw.as_flattened_mut())?;
    Ok(raw.map(u32::from_be_bytes))
}
