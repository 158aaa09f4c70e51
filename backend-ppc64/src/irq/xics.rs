//! XICS as a guest's hypervisor presents it: one presentation controller per interrupt server (= vCPU), and a few
//! edge-triggered sources (PAPR, External Interrupt option; the H_* calls are in `papr/presentation.rs`, the `ibm,*-xive`
//! firmware calls in `papr/rtas/`).
//!
//! Hardware keeps a presented interrupt in the presentation controller and takes it back by a reject-and-resend
//! dialogue with the source. Here nothing is presented until the guest asks: the most favoured candidate of a server is
//! *computed* from what is latched, so a change of CPPR, MFRR, route or mask needs no dialogue and can lose nothing.
//! What a guest can observe is the same.
//!
//! One lock per VM guards the controller; it is a leaf: nothing is called while it is held. Each server's current
//! candidate is also published in an atomic word, written under the lock, so that vCPU entry asks
//! [`Xics::pending`] with one load. Raising: latch, publish (release), then the caller wakes the server named by the
//! answer; a vCPU that halts publishes that it sleeps before it looks at [`Xics::pending`] again, so one of the two sees
//! the other.

use alloc::vec::Vec;

use hv_core::heap::list;
use hv_core::sync::{AtomicU32, Mutex, Ordering};

/// The interrupt number by which inter-processor interrupts are presented.
pub const IPI: u32 = 2;
/// The number of the first source. Those below belong to the architecture.
pub const FIRST_SOURCE: u32 = 0x1000;
/// The least favoured priority: as CPPR it lets everything through, as a source's priority or MFRR it is off.
pub const LEAST_FAVOURED: u8 = 0xff;

/// Nothing is presented.
const NONE: u32 = 0;

/// One source's route and latch.
#[derive(Clone, Copy, Debug)]
struct Source {
    server: u16,
    priority: u8,
    /// What `ibm,int-on` brings back.
    saved: u8,
    latched: bool,
}

/// One server's registers.
#[derive(Clone, Copy, Debug)]
struct Server {
    /// Current processor priority: only what is more favoured (lower) is presented.
    cppr: u8,
    /// Priority of the request for an inter-processor interrupt.
    mfrr: u8,
}

#[derive(Debug)]
struct State {
    servers: Vec<Server>,
    sources: Vec<Source>,
}

/// The most favoured interrupt that a server would take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    number: u32,
    priority: u8,
}

/// A source's route, as `ibm,get-xive` reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The server that is to take it.
    pub server: u16,
    /// Its priority; [`LEAST_FAVOURED`] if masked.
    pub priority: u8,
}

/// What a server's presentation controller shows, as H_IPOLL reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// CPPR in the top byte, the candidate's number (0 if none) below.
    pub xirr: u32,
    /// The request for an inter-processor interrupt.
    pub mfrr: u8,
}

/// The guest named a server or a source that its VM does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

/// The interrupt controller of one VM. All methods may be called from any CPU.
#[derive(Debug)]
pub struct Xics {
    state: Mutex<State>,
    /// Per server: the number of its candidate, or [`NONE`].
    shown: Vec<AtomicU32>,
}

impl State {
    fn candidate(&self, server: u16) -> Option<Candidate> {
        let regs = self.servers.get(usize::from(server))?;
        let ipi = Candidate { number: IPI, priority: regs.mfrr };
        let latched = (FIRST_SOURCE..).zip(self.sources.iter()).filter(|(_, s)| s.latched && s.server == server);
        latched
            .map(|(number, s)| Candidate { number, priority: s.priority })
            .fold(ipi, |best, c| if c.priority < best.priority { c } else { best })
            .within(regs.cppr)
    }

    fn source(&mut self, number: u32) -> Result<&mut Source, Unknown> {
        let index = number.checked_sub(FIRST_SOURCE).and_then(|i| usize::try_from(i).ok()).ok_or(Unknown)?;
        self.sources.get_mut(index).ok_or(Unknown)
    }

    fn server(&mut self, server: u16) -> Result<&mut Server, Unknown> {
        self.servers.get_mut(usize::from(server)).ok_or(Unknown)
    }
}

impl Candidate {
    fn within(self, cppr: u8) -> Option<Self> {
        (self.priority < cppr).then_some(self)
    }
}

impl Xics {
    /// A controller with `servers` servers and `sources` sources, everything masked; `None` if there is no heap for them.
    #[must_use]
    pub fn new(servers: u16, sources: u16) -> Option<Self> {
        let server = |_| Some(Server { cppr: 0, mfrr: LEAST_FAVOURED });
        let masked = Source { server: 0, priority: LEAST_FAVOURED, saved: LEAST_FAVOURED, latched: false };
        let state = State { servers: list(servers.into(), server)?, sources: list(sources.into(), |_| Some(masked))? };
        Some(Self { state: Mutex::new(state), shown: list(servers.into(), |_| Some(AtomicU32::new(NONE)))? })
    }

    /// True if `server` has an interrupt to take: its external interrupt line. One load; false for unknown servers.
    #[must_use]
    pub fn pending(&self, server: u16) -> bool {
        self.shown.get(usize::from(server)).is_some_and(|s| s.load(Ordering::Acquire) != NONE)
    }

    /// An edge on a source. Returns the server to wake, if one has something to take now.
    ///
    /// # Errors
    /// [`Unknown`] if there is no such source.
    pub fn raise(&self, number: u32) -> Result<Option<u16>, Unknown> {
        let mut state = self.state.lock();
        let source = state.source(number)?;
        source.latched = true;
        let server = source.server;
        Ok(self.publish(&state, server))
    }

    /// H_XIRR: takes the candidate. Returns the old CPPR in the top byte and the interrupt's number, or 0, below.
    ///
    /// # Errors
    /// [`Unknown`] if there is no such server.
    pub fn accept(&self, server: u16) -> Result<u32, Unknown> {
        let mut state = self.state.lock();
        let taken = state.candidate(server);
        let regs = state.server(server)?;
        let old = xirr(regs.cppr, taken);
        if let Some(c) = taken {
            regs.cppr = c.priority;
            // An inter-processor interrupt is a level: it goes when the guest resets MFRR.
            if let Ok(source) = state.source(c.number) {
                source.latched = false;
            }
        }
        self.publish(&state, server);
        Ok(old)
    }

    /// H_CPPR, and the part of H_EOI that matters for edge-triggered sources: sets the processor's priority.
    ///
    /// # Errors
    /// [`Unknown`] if there is no such server.
    pub fn set_cppr(&self, server: u16, cppr: u8) -> Result<(), Unknown> {
        let mut state = self.state.lock();
        state.server(server)?.cppr = cppr;
        self.publish(&state, server);
        Ok(())
    }

    /// H_IPI: sets the request for an inter-processor interrupt. Returns the server to wake, if it has something to take.
    ///
    /// # Errors
    /// [`Unknown`] if there is no such server.
    pub fn set_mfrr(&self, server: u16, mfrr: u8) -> Result<Option<u16>, Unknown> {
        let mut state = self.state.lock();
        state.server(server)?.mfrr = mfrr;
        Ok(self.publish(&state, server))
    }

    /// H_IPOLL: looks without taking.
    ///
    /// # Errors
    /// [`Unknown`] if there is no such server.
    pub fn poll(&self, server: u16) -> Result<Poll, Unknown> {
        let mut state = self.state.lock();
        let candidate = state.candidate(server);
        let regs = state.server(server)?;
        Ok(Poll { xirr: xirr(regs.cppr, candidate), mfrr: regs.mfrr })
    }

    /// `ibm,set-xive`: routes a source and sets its priority, masked or not before. What was latched follows it.
    /// Returns the server to wake, if one has something to take now.
    ///
    /// # Errors
    /// [`Unknown`] if there is no such source or server; nothing has changed.
    pub fn set_route(&self, number: u32, to: Route) -> Result<Option<u16>, Unknown> {
        let mut state = self.state.lock();
        state.server(to.server)?;
        let source = state.source(number)?;
        let from = source.server;
        *source = Source { server: to.server, priority: to.priority, saved: to.priority, latched: source.latched };
        self.publish(&state, from);
        Ok(self.publish(&state, to.server))
    }

    /// `ibm,get-xive`.
    ///
    /// # Errors
    /// [`Unknown`] if there is no such source.
    pub fn route(&self, number: u32) -> Result<Route, Unknown> {
        let mut state = self.state.lock();
        let source = state.source(number)?;
        Ok(Route { server: source.server, priority: source.priority })
    }

    /// `ibm,int-off`: masks a source and remembers its priority. What is latched stays.
    ///
    /// # Errors
    /// [`Unknown`] if there is no such source.
    pub fn mask(&self, number: u32) -> Result<(), Unknown> {
        let mut state = self.state.lock();
        let source = state.source(number)?;
        source.priority = LEAST_FAVOURED;
        let server = source.server;
        self.publish(&state, server);
        Ok(())
    }

    /// `ibm,int-on`: brings the priority back. Returns the server to wake, if one has something to take now.
    ///
    /// # Errors
    /// [`Unknown`] if there is no such source.
    pub fn unmask(&self, number: u32) -> Result<Option<u16>, Unknown> {
        let mut state = self.state.lock();
        let source = state.source(number)?;
        source.priority = source.saved;
        let server = source.server;
        Ok(self.publish(&state, server))
    }

    /// Makes `server`'s candidate visible to [`Xics::pending`]. Returns it as the one to wake if it has one.
    fn publish(&self, state: &State, server: u16) -> Option<u16> {
        let number = state.candidate(server).map_or(NONE, |c| c.number);
        self.shown.get(usize::from(server))?.store(number, Ordering::Release);
        (number != NONE).then_some(server)
    }
}

fn xirr(cppr: u8, candidate: Option<Candidate>) -> u32 {
    u32::from(cppr) << 24 | candidate.map_or(0, |c| c.number)
}

#[cfg(test)]
#[path = "xics_tests.rs"]
mod tests;
