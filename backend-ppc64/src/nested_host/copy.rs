//! `H_COPY_TOFROM_GUEST`: L1 copies between its own memory and an address of its guest's, by the guest's process table and
//! tree, and then by its own. It takes the place of quadrants 1 and 2, which only a hypervisor on bare metal has.
//!
//! Nothing is marked on the way, neither R nor C, in L2's tree or L1's: whatever hardware would not do without a fault is
//! `H_NOT_FOUND`, upon which L1 looks for itself, as it would after the fault. The derived tables are not asked: they hold
//! less than what both trees say.

use core::cell::Cell;
use core::ops::Range;

use hv_core::addr::{Gpa, PAGE_SIZE};
use hv_core::radix::Stage2Format;
use hv_core::radix::format::{Prot, Rc};
use hv_core::vcpu::exit::Access;
use hv_core::vcpu::services::MemError;

use super::children::Nest;
use super::walk::{Missed, Partition, Read, needed, walk};

/// Writes L1's memory.
pub type Write<'a> = dyn Fn(Gpa, &[u8]) -> Result<(), MemError> + 'a;

/// Most bytes of one call. Linux asks for an instruction, or for what a load or store is about.
pub const MOST: u64 = PAGE_SIZE as u64;
/// Bytes that are copied at a time.
const STEP: usize = 128;
/// Address bits that are not translated: the quadrant, and what has to be zero behind it. L1 has taken the quadrant away.
const UNTRANSLATED: u64 = 0xfff << 52;

/// What r4 to r9 ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// L1's number of its guest.
    pub lpid: u32,
    /// The process. That of quadrant 3, the kernel's, is 0.
    pub pid: u32,
    /// The address in that process.
    pub at: Gpa,
    /// L1's buffer.
    pub buffer: Gpa,
    /// [`Access::Read`]: from the process to the buffer; [`Access::Write`]: the other way.
    pub access: Access,
    /// How many bytes.
    pub length: usize,
}

/// Why nothing, or not all, was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// L1 has no such guest.
    NoGuest,
    /// Something on the way has no translation, or not this access, or not its marks; or L1 has no memory there.
    NotFound,
    /// This page of L1's is needed first.
    Memory(Gpa, Access),
}

impl Request {
    /// Reads r4 to r9: guest, process, address, buffer to be written, buffer to be read, length. `None` if a number is none that
    /// there can be, if not one of the two buffers is 0, or for more than [`MOST`] bytes.
    #[must_use]
    pub fn new([lpid, pid, at, to, from, length]: [u64; 6]) -> Option<Self> {
        let (buffer, access) = match (to, from) {
            (0, 0) => return None,
            (to, 0) => (Gpa(to), Access::Read),
            (0, from) => (Gpa(from), Access::Write),
            _ => return None,
        };
        if at & UNTRANSLATED != 0 || length > MOST {
            return None;
        }
        let [lpid, pid] = [lpid, pid].map(|number| u32::try_from(number).ok());
        Some(Self { lpid: lpid?, pid: pid?, at: Gpa(at), buffer, access, length: length as usize })
    }

    /// The bytes by page of the address, of which there are two at most.
    fn parts(&self) -> [Range<usize>; 2] {
        let first = PAGE_SIZE.saturating_sub(self.at.offset()).min(self.length);
        [0..first, first..self.length]
    }
}

impl<F: Stage2Format> Nest<F> {
    /// Copies. `partition` reads the guest's entry of L1's partition table. No byte is copied unless all of the address is there.
    ///
    /// An invalidation that has returned to L1 is after every copy that went by what it is about.
    pub fn copy(
        &self,
        read: &Read<'_>,
        write: &Write<'_>,
        request: &Request,
        partition: impl FnOnce(u32) -> Result<Option<Partition>, (Gpa, MemError)>,
    ) -> Result<(), Refused> {
        let _alone = self.copying.lock();
        let partition = partition(request.lpid).map_err(|(at, error)| refused(at, Access::Read, error))?;
        let partition = partition.ok_or(Refused::NoGuest)?;
        let parts = request.parts();
        let mut places = [Gpa(0); 2];
        for (place, part) in places.iter_mut().zip(&parts).filter(|(_, part)| !part.is_empty()) {
            let at = Gpa(request.at.0.saturating_add(part.start as u64));
            let real = translate(read, partition, request.pid, at, request.access)?;
            *place = l1(read, partition, real, request.access)?;
        }
        for (place, part) in places.into_iter().zip(parts) {
            transfer(read, write, request, place, part)?;
        }
        Ok(())
    }
}

fn refused(at: Gpa, access: Access, error: MemError) -> Refused {
    match error {
        MemError::BadAddress => Refused::NotFound,
        MemError::NoMemory => Refused::Memory(at, access),
    }
}

/// Where L1 has L2's real address, if its tree allows the access there.
fn l1(read: &Read<'_>, partition: Partition, at: Gpa, access: Access) -> Result<Gpa, Refused> {
    let (prot, marks) = needed(access);
    match walk(read, partition.tree, at) {
        Ok((found, _)) if found.prot.contains(prot) && found.rc.contains(marks) => Ok(found.from),
        Err(Missed::Memory(at, error)) => Err(refused(at, Access::Read, error)),
        Ok(_) | Err(Missed::Hole | Missed::Malformed) => Err(Refused::NotFound),
    }
}

/// L2's real address of an address of its process, if the process's tree allows the access there.
fn translate(read: &Read<'_>, partition: Partition, pid: u32, at: Gpa, access: Access) -> Result<Gpa, Refused> {
    // What reading L2's memory was refused for, in L1's terms.
    let why = Cell::new(Refused::NotFound);
    let l2 = |at: Gpa, into: &mut [u8]| {
        let from = l1(read, partition, at, Access::Read);
        let done = from.and_then(|from| read(from, into).map_err(|error| refused(from, Access::Read, error)));
        done.map_err(|refused| {
            why.set(refused);
            MemError::BadAddress
        })
    };
    let mut tree = [0; 8];
    l2(partition.process(pid).ok_or(Refused::NotFound)?, &mut tree).map_err(|_| why.get())?;
    let (found, _) = walk(&l2, u64::from_be_bytes(tree), at).map_err(|_| why.get())?;
    // Unlike in L1's tree, leave to store is leave to load. What is a hypervisor's may be privileged.
    let prot = if found.prot.contains(Prot::WRITE) { found.prot | Prot::READ } else { found.prot };
    let (need, marks): (Prot, Rc) = needed(access);
    if prot.contains(need) && found.rc.contains(marks) { Ok(found.from) } else { Err(Refused::NotFound) }
}

/// Copies the bytes `part` of the request, whose page's place in L1 is known.
fn transfer(
    read: &Read<'_>,
    write: &Write<'_>,
    request: &Request,
    place: Gpa,
    part: Range<usize>,
) -> Result<(), Refused> {
    let mut done = part.start;
    while done < part.end {
        let mut bytes = [0; STEP];
        let bytes = bytes.get_mut(..part.end.saturating_sub(done).min(STEP)).unwrap_or_default();
        let there = place.checked_add(done.saturating_sub(part.start) as u64).ok_or(Refused::NotFound)?;
        let here = request.buffer.checked_add(done as u64).ok_or(Refused::NotFound)?;
        let (from, to) = if request.access == Access::Read { (there, here) } else { (here, there) };
        read(from, bytes).map_err(|error| refused(from, Access::Read, error))?;
        write(to, bytes).map_err(|error| refused(to, Access::Write, error))?;
        done = done.saturating_add(bytes.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{MOST, Request};
    use hv_core::addr::Gpa;
    use hv_core::vcpu::exit::Access;

    #[test]
    fn one_buffer_says_which_way() {
        let request = Request::new([7, 3, 0x1234, 0x5000, 0, 8]).unwrap();
        assert_eq!((request.lpid, request.pid, request.at, request.length), (7, 3, Gpa(0x1234), 8));
        assert_eq!((request.buffer, request.access), (Gpa(0x5000), Access::Read));
        let request = Request::new([7, 3, 0x1234, 0, 0x6000, 8]).unwrap();
        assert_eq!((request.buffer, request.access), (Gpa(0x6000), Access::Write));
    }

    #[test]
    fn r26_what_cannot_be_meant_is_refused() {
        let good = [7, 3, 0, 0x5000, 0, MOST];
        assert!(Request::new(good).is_some());
        for (register, value) in [
            (0, 1 << 32),  // a guest
            (1, 1 << 32),  // a process
            (2, 1 << 52),  // an address that is too long
            (2, 3 << 62),  // a quadrant
            (3, 0),        // no buffer
            (4, 0x6000),   // two
            (5, MOST + 1), // more than there may be
            (5, u64::MAX), // more than there is
        ] {
            let mut wrong = good;
            wrong[register] = value;
            assert_eq!(Request::new(wrong), None, "{register} {value:#x}");
        }
    }

    #[test]
    fn a_request_is_of_two_pages_at_most() {
        for (at, length, parts) in [
            (0, 0, [0..0, 0..0]),
            (0, 4096, [0..4096, 4096..4096]),
            (0xfff, 1, [0..1, 1..1]),
            (0xfff, 4096, [0..1, 1..4096]),
            (0x800, 0x900, [0..0x800, 0x800..0x900]),
        ] {
            assert_eq!(Request::new([1, 0, at, 1, 0, length]).unwrap().parts(), parts);
        }
    }
}
