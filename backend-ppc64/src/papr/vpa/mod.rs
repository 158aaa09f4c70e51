//! The areas of guest memory that a vCPU shares with its hypervisor: virtual processor area, SLB shadow buffer, dispatch
//! trace log (PAPR, H_REGISTER_VPA).
//!
//! The virtual processor area holds the *dispatch count*: even while the vCPU is on a CPU, odd while it is not. A guest's
//! locks look at it to see whether the holder runs, and confer to it by H_CONFER if it does not. It also holds the time
//! that the vCPU waited for a CPU, which the guest reports as stolen.
//!
//! Each vCPU's areas are behind a lock that is held while they are written, so that after an area has been given up
//! nothing is written to it any more. The lock is a leaf but for guest memory: whoever holds it calls [`Services::read`]
//! and [`Services::write`], and nothing else.

mod trace;

use hv_core::addr::Gpa;
use hv_core::machine::Instant;
use hv_core::sync::Ordering;
use hv_core::vcpu::services::Services;

use super::hcall::Args;
use super::status::Status;
use super::{Papr, Seat};
use trace::TraceLog;

/// Least size of a virtual processor area, in bytes.
const VPA_SIZE: u64 = 640;
/// Alignment of every area, in bytes: a cache line.
const ALIGN: u64 = 128;
/// No area but the trace log may cross a multiple of this.
const BLOCK: u64 = 4096;
/// Least size of an SLB shadow buffer, in bytes: its header.
const SLB_SHADOW_SIZE: u64 = 8;

// Offsets in a virtual processor area. Everything is big-endian.
const VPA_SIZE_AT: u64 = 4;
const VPA_STATUS_AT: u64 = 9;
const VPA_DISPATCHES_AT: u64 = 0x100;
const VPA_WAITED_AT: u64 = 0x158;

/// Status bit: this vCPU shares CPUs with others, so that its dispatch count means something.
const STATUS_SHARED: u8 = 0x02;

/// What H_REGISTER_VPA's flags select: bits 16 to 18 of the register, in PAPR's numbering.
const FUNCTION_SHIFT: u32 = 45;

/// One vCPU's areas.
#[derive(Debug, Default)]
pub struct Areas {
    vpa: Option<Gpa>,
    slb_shadow: bool,
    trace: Option<TraceLog>,
    /// The vCPU sleeps of its own will.
    ceded: bool,
    /// Since when the vCPU has been waiting for a CPU against its will.
    waiting: Option<Instant>,
    /// Ticks that it has waited so far.
    waited: u64,
}

/// H_REGISTER_VPA(function, vCPU, address).
#[inline(never)] // once in a vCPU's life
pub fn register(p: &Papr, args: &Args<'_>, s: &dyn Services) -> Result<Status, Status> {
    let (flags, address) = (args.param::<1>(), args.param::<3>());
    let vcpu = p.named(args.param::<2>()).ok_or(Status::Parameter)?;
    let seat = p.seat(vcpu).ok_or(Status::Parameter)?;
    let mut areas = seat.areas.lock();
    if flags & !(7 << FUNCTION_SHIFT) != 0 {
        return Err(Status::Parameter);
    }
    match flags >> FUNCTION_SHIFT {
        1 => {
            areas.register_vpa(address, seat.dispatches.load(Ordering::Relaxed), s)?;
            // Written twice each time the vCPU comes to a CPU, and once when it leaves.
            s.keep(vcpu, Some(Gpa(address)));
        }
        2 => {
            areas.needs_vpa()?;
            aligned(address)?;
            areas.trace = Some(TraceLog::new(Gpa(address), word(address, 4, s)?).ok_or(Status::Parameter)?);
        }
        3 => {
            areas.needs_vpa()?;
            aligned(address)?;
            fits(address, word(address, 4, s)?.into(), SLB_SHADOW_SIZE)?;
            // Radix guests have no segments: the buffer is accepted, and there is nothing to take from it.
            areas.slb_shadow = true;
        }
        5 if areas.slb_shadow || areas.trace.is_some() => return Err(Status::Resource),
        5 => {
            areas.vpa = None;
            s.keep(vcpu, None);
        }
        6 => areas.trace = None,
        7 => areas.slb_shadow = false,
        _ => return Err(Status::Parameter),
    }
    Ok(Status::Success)
}

impl Areas {
    fn register_vpa(&mut self, address: u64, dispatches: u32, s: &dyn Services) -> Result<(), Status> {
        aligned(address)?;
        let size = word(address, VPA_SIZE_AT, s)? >> 16;
        fits(address, size.into(), VPA_SIZE)?;
        // The block is the guest's, because its size could be read from it: what follows cannot fail half-way.
        let mut status = [0];
        s.read(field(address, VPA_STATUS_AT), &mut status)?;
        s.write(field(address, VPA_STATUS_AT), &status.map(|b| b | STATUS_SHARED))?;
        s.write(field(address, VPA_DISPATCHES_AT), &dispatches.to_be_bytes())?;
        self.vpa = Some(Gpa(address));
        Ok(())
    }

    fn needs_vpa(&self) -> Result<(), Status> {
        if self.vpa.is_some() { Ok(()) } else { Err(Status::Resource) }
    }

    /// Writes a field of the virtual processor area. It has been checked when it was registered; should the machine be
    /// out of memory now, the guest's accounting is late by one dispatch, which harms nobody else.
    fn note<S: Services>(&self, at: u64, bytes: &[u8], s: &S) {
        if let Some(Gpa(vpa)) = self.vpa {
            let _ = s.write(field(vpa, at), bytes);
        }
    }
}

impl Seat {
    /// See [`Papr::dispatched`].
    pub fn dispatched<S: Services>(&self, s: &S) {
        let mut areas = self.areas.lock();
        let count = self.dispatches.load(Ordering::Relaxed);
        if count & 1 == 0 {
            return;
        }
        let now = s.now();
        let delay = areas.waiting.take().map_or(0, |since| now.0.saturating_sub(since.0));
        areas.waited = areas.waited.wrapping_add(delay);
        areas.note(VPA_WAITED_AT, &areas.waited.to_be_bytes(), s);
        if let (Some(vpa), Some(mut log)) = (areas.vpa, areas.trace.take()) {
            log.dispatched(vpa, core::mem::take(&mut areas.ceded), now, delay, s);
            areas.trace = Some(log);
        }
        areas.ceded = false;
        self.count(&areas, count, s);
    }

    /// See [`Papr::preempted`].
    pub fn preempted<S: Services>(&self, s: &S) {
        let mut areas = self.areas.lock();
        let count = self.dispatches.load(Ordering::Relaxed);
        if count & 1 == 1 {
            return;
        }
        areas.waiting = (!areas.ceded).then(|| s.now());
        self.count(&areas, count, s);
    }

    /// The vCPU halts of its own will.
    pub fn ceded(&self) {
        self.areas.lock().ceded = true;
    }

    fn count<S: Services>(&self, areas: &Areas, old: u32, s: &S) {
        let new = old.wrapping_add(1);
        self.dispatches.store(new, Ordering::Release);
        areas.note(VPA_DISPATCHES_AT, &new.to_be_bytes(), s);
    }
}

/// The address of a field of an area whose range has been checked, or of its header.
const fn field(area: u64, offset: u64) -> Gpa {
    Gpa(area.saturating_add(offset))
}

fn aligned(address: u64) -> Result<(), Status> {
    if address == 0 || !address.is_multiple_of(ALIGN) { Err(Status::Parameter) } else { Ok(()) }
}

fn fits(address: u64, size: u64, least: u64) -> Result<(), Status> {
    if size < least || size > BLOCK - address % BLOCK { Err(Status::Parameter) } else { Ok(()) }
}

fn word(area: u64, offset: u64, s: &dyn Services) -> Result<u32, Status> {
    let mut bytes = [0; 4];
    s.read(field(area, offset), &mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests;
