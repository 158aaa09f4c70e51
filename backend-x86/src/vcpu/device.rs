//! Accesses to devices' memory, and strings to and from ports: the guest's instruction is read and carried out here.
//!
//! What belongs to an instruction happens once: everything that may fail (reading it, translating where else it goes) comes
//! before the device is touched. Segment limits are not looked at: hardware did that for the access which ended the run, and
//! the other end of a string is translated as flat segments are.

use hv_core::addr::Gpa;
use hv_core::vcpu::exit::{Access, Next};
use hv_core::vcpu::services::{MemError, Services};

use super::cpu::X86Vcpu;
use super::hardware::WorldSwitch as _;
use super::memory::{View, left};
use crate::bus::Width;
use crate::decode::{Flow, Instruction, Mode, Operation, Registers, Segment, mmio};
use crate::event::Exception;
use crate::exit::{Direction, PortAccess};
use crate::guest::layout::HOLE;
use crate::guest::pc::Pc;
use crate::paging::{NotTranslated, Paging, Privilege};

/// RFLAGS.AC.
const FLAGS_AC: u64 = 1 << 18;
const RDX: usize = 2;
const RSP: usize = 4;
const RSI: usize = 6;
const RDI: usize = 7;
/// The level of programs.
const USER: u8 = 3;

/// The guest does not go on after its instruction, but for this reason.
enum Stop {
    /// It takes this exception, about this address if it is a page fault.
    Raise(Exception, u64),
    /// It is to try again: memory is short, or it has changed its tables meanwhile.
    Again,
}

impl X86Vcpu {
    /// The guest accessed a device, or memory that it does not have.
    #[inline(never)]
    pub(super) fn device(&mut self, gpa: Gpa, access: Access, p: &Pc, s: &dyn Services) {
        let done = match access {
            // Nothing answers with ones: FFh FFh is no instruction.
            Access::Fetch => Err(Stop::Raise(Exception::InvalidOpcode, 0)),
            Access::Read | Access::Write => self.access(gpa, access, p, s),
        };
        self.end(done);
    }

    fn end(&mut self, done: Result<(), Stop>) {
        match done {
            Ok(()) | Err(Stop::Again) => {}
            Err(Stop::Raise(exception, address)) => {
                if let Exception::PageFault(_) = exception {
                    self.hardware.set_cr2(address);
                }
                self.raise(exception);
            }
        }
    }

    fn access(&mut self, gpa: Gpa, access: Access, p: &Pc, s: &dyn Services) -> Result<(), Stop> {
        let instruction = self.instruction(s)?;
        let (mut registers, width) = (self.registers(), instruction.width);
        if instruction.operation == Operation::MoveString {
            return self.move_string(&instruction, gpa, access, p, s);
        }
        let loaded = if instruction.operation.reads() { p.read(&mut self.local, gpa, width, s) } else { 0 };
        let step = instruction.run(&mut registers, loaded);
        if let Some(value) = step.stored {
            p.write(&mut self.local, gpa, width, value, s);
        }
        self.finish(&instruction, &registers, step.flow);
        Ok(())
    }

    /// MOVS, one end of which is at `gpa`.
    fn move_string(
        &mut self,
        instruction: &Instruction,
        gpa: Gpa,
        access: Access,
        p: &Pc,
        s: &dyn Services,
    ) -> Result<(), Stop> {
        let (mut registers, width) = (self.registers(), instruction.width);
        let loaded = if access == Access::Read {
            // The other end first: once the device is read there is no way back.
            self.ends(self.linear(instruction.destination(registers.general[RDI])), Access::Write, width, s)?;
            p.read(&mut self.local, gpa, width, s)
        } else {
            self.load(self.linear(instruction.source(registers.general[RSI])), width, p, s)?
        };
        let to = self.linear(instruction.destination(registers.general[RDI]));
        let step = instruction.run(&mut registers, loaded);
        match (step.stored, access) {
            (Some(value), Access::Read) => self.store(to, value, width, p, s)?,
            (Some(value), _) => p.write(&mut self.local, gpa, width, value, s),
            (None, _) => {}
        }
        self.finish(instruction, &registers, step.flow);
        Ok(())
    }

    /// INS or OUTS, once: if it is repeated the guest comes back for the next.
    #[inline(never)]
    pub(super) fn string(&mut self, access: &PortAccess, p: &Pc, s: &dyn Services) -> Next {
        match self.port_string(access, p, s) {
            Ok(next) => next,
            Err(stop) => {
                self.end(Err(stop));
                Next::Resume
            }
        }
    }

    fn port_string(&mut self, access: &PortAccess, p: &Pc, s: &dyn Services) -> Result<Next, Stop> {
        let instruction = self.instruction(s)?;
        let expected = match access.direction {
            Direction::In => Operation::InString,
            Direction::Out => Operation::OutString,
        };
        if instruction.operation != expected {
            // The guest has written over it since.
            return Err(Stop::Again);
        }
        let (mut registers, width) = (self.registers(), instruction.width);
        let (port, number) = (registers.general[RDX] as u16, self.local.number());
        let mut next = Next::Resume;
        let flow = if instruction.is_idle(&registers) {
            Flow::Next
        } else if access.direction == Direction::In {
            let to = self.linear(instruction.destination(registers.general[RDI]));
            self.ends(to, Access::Write, width, s)?;
            let value = p.input(number, port, width, s);
            let step = instruction.run(&mut registers, value.into());
            self.store(to, value.into(), width, p, s)?;
            step.flow
        } else {
            let value = self.load(self.linear(instruction.source(registers.general[RSI])), width, p, s)?;
            let step = instruction.run(&mut registers, value);
            next = p.output(number, port, width, value as u32, s);
            step.flow
        };
        self.finish(&instruction, &registers, flow);
        Ok(next)
    }

    /// The instruction that ended the run.
    fn instruction(&self, s: &dyn Services) -> Result<Instruction, Stop> {
        let mode = self.hardware.mode();
        match self.code().instruction(self.linear_rip(), |bytes| mmio(bytes, mode), s) {
            Ok(instruction) => Ok(instruction),
            // What fails now did not fail for the processor: the guest is changing its tables.
            Err(Some(_)) => Err(Stop::Again),
            // One that devices are not accessed with here.
            Err(None) => Err(Stop::Raise(Exception::InvalidOpcode, 0)),
        }
    }

    /// The registers as an instruction sees them.
    fn registers(&self) -> Registers {
        let mut general = self.general;
        general[RSP] = self.hardware.rsp();
        Registers { general, flags: self.hardware.rflags() }
    }

    /// The instruction has been carried out.
    fn finish(&mut self, instruction: &Instruction, registers: &Registers, flow: Flow) {
        self.general = registers.general;
        self.hardware.set_rsp(registers.general[RSP]);
        self.hardware.set_rflags(registers.flags);
        if flow == Flow::Next {
            self.hardware.set_rip(self.hardware.rip().wrapping_add(instruction.length.into()));
        }
        // The guest's timer may have been set.
        self.attention |= super::cpu::Attention::DEADLINE;
    }

    /// How the guest's tables translate.
    pub(super) fn paging(&self) -> Paging {
        self.hardware.paging(self.address_bits)
    }

    /// Memory as the guest fetches instructions from it.
    pub(super) fn code(&self) -> View {
        let privilege = if self.hardware.privilege() == USER { Privilege::User } else { Privilege::Supervisor };
        View { paging: self.paging(), privilege }
    }

    /// Memory as the guest's program loads and stores.
    fn data(&self) -> View {
        let privilege = match (self.hardware.privilege(), self.hardware.rflags() & FLAGS_AC) {
            (USER, _) => Privilege::User,
            (_, 0) => Privilege::Supervisor,
            _ => Privilege::SupervisorWithAc,
        };
        View { paging: self.paging(), privilege }
    }

    /// The linear address of the instruction that ended the run.
    pub(super) fn linear_rip(&self) -> u64 {
        self.linear((Segment::Cs, self.hardware.rip()))
    }

    fn linear(&self, (segment, offset): (Segment, u64)) -> u64 {
        let long = self.hardware.mode() == Mode::Bits64;
        match segment {
            Segment::Fs | Segment::Gs if long => self.hardware.base(segment).wrapping_add(offset),
            _ if long => offset,
            _ => self.hardware.base(segment).wrapping_add(offset) & 0xffff_ffff,
        }
    }

    /// Where `width` bytes at `linear` are: the first of them, and the first that is in the next page.
    fn ends(&self, linear: u64, access: Access, width: Width, s: &dyn Services) -> Result<[Gpa; 2], Stop> {
        let view = self.data();
        let at = |linear| {
            view.translate(linear, access, s).map_err(|error| match error {
                NotTranslated::PageFault(code) => Stop::Raise(Exception::PageFault(code), linear),
                NotTranslated::NotCanonical | NotTranslated::NoMemory(_) => {
                    Stop::Raise(Exception::GeneralProtection(0), 0)
                }
            })
        };
        let (first, here) = (at(linear)?, left(linear) as u64);
        let second = if here < width.bytes() { at(linear.wrapping_add(here))? } else { first };
        Ok([first, second])
    }

    /// Loads from the other end of a string.
    fn load(&mut self, linear: u64, width: Width, p: &Pc, s: &dyn Services) -> Result<u64, Stop> {
        let [first, second] = self.ends(linear, Access::Read, width, s)?;
        if HOLE.contains(&first) {
            return Ok(p.read(&mut self.local, first, width, s));
        }
        let mut bytes = [0; 8];
        let (whole, _) = bytes.split_at_mut(width.bytes() as usize);
        let (here, beyond) = whole.split_at_mut(left(linear).min(width.bytes() as usize));
        for (at, part) in [(first, here), (second, beyond)] {
            match s.read(at, part) {
                Ok(()) => {}
                Err(MemError::BadAddress) => part.fill(0xff),
                Err(MemError::NoMemory) => return Err(Stop::Again),
            }
        }
        Ok(u64::from_le_bytes(bytes))
    }

    /// Stores to the other end of a string.
    fn store(&mut self, linear: u64, value: u64, width: Width, p: &Pc, s: &dyn Services) -> Result<(), Stop> {
        let [first, second] = self.ends(linear, Access::Write, width, s)?;
        if HOLE.contains(&first) {
            p.write(&mut self.local, first, width, value, s);
            return Ok(());
        }
        let bytes = value.to_le_bytes();
        let (whole, _) = bytes.split_at(width.bytes() as usize);
        let (here, beyond) = whole.split_at(left(linear).min(width.bytes() as usize));
        for (at, part) in [(first, here), (second, beyond)] {
            // Where nothing is, what is written is lost.
            if s.write(at, part) == Err(MemError::NoMemory) {
                return Err(Stop::Again);
            }
        }
        Ok(())
    }
}
