//! Guest memory as the hypervisor itself reads and writes it.

use hv_core::addr::Gpa;
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::vcpu::exit::Access;
use hv_core::vcpu::services::MemError;

use super::{Case, case, fault, page};
use crate::hold::Hold;
use crate::probe::{FREE, RAM_PAGES};
use crate::rig::{Bench, SECOND};
use crate::verdict::{Run, check};

pub(super) fn cases<I: Isa>() -> [Case<I>; 8] {
    [
        case!("memory-untouched-reads-zero", "G1", untouched),
        case!("memory-written-comes-back", "R16", written),
        case!("memory-across-pages", "R26", across_pages),
        case!("memory-write-beyond-ram-stores-nothing", "R26", write_beyond),
        case!("memory-read-beyond-ram", "R26", read_beyond),
        case!("memory-runs-out-in-the-middle-of-a-write", "P8", runs_out),
        case!("memory-of-two-vms-is-apart", "G1", two_vms),
        case!("memory-used-frames-come-back-zeroed", "G1", recycled),
    ]
}

fn untouched<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        let mut bytes = [0xff; 64];
        check(memory.read(b.cpu, b.m, page(FREE), &mut bytes).is_ok(), "RAM cannot be read")?;
        check(bytes == [0; 64], "untouched memory is not zero")?;
        check(memory.stats().resident == 0, "reading untouched memory costs a frame")
    })
}

fn written<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        for (at, len) in [(0, 1), (1, 3), (7, 9), (4095, 1), (100, 64)] {
            let text = [0xa5; 64];
            let at = Gpa(page(FREE).0 + at);
            check(memory.write(b.cpu, b.m, at, &text[..len]).is_ok(), "RAM cannot be written")?;
            let mut bytes = [0; 64];
            check(memory.read(b.cpu, b.m, at, &mut bytes[..len]).is_ok(), "RAM cannot be read")?;
            check(bytes[..len] == text[..len], "what was written does not come back")?;
        }
        check(memory.write(b.cpu, b.m, page(RAM_PAGES), &[]).is_ok(), "writing nothing fails")
    })
}

fn across_pages<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        let at = Gpa(page(FREE).0 + 4096 - 100);
        let mut text = [0; 300];
        for (n, byte) in text.iter_mut().enumerate() {
            *byte = (n % 251) as u8 + 1;
        }
        check(memory.write(b.cpu, b.m, at, &text).is_ok(), "a write across pages fails")?;
        check(memory.stats().resident == 2, "a write across a boundary touches two pages")?;
        let mut bytes = [0; 302];
        check(memory.read(b.cpu, b.m, Gpa(at.0 - 1), &mut bytes).is_ok(), "a read across pages fails")?;
        check(bytes[1..301] == text && bytes[0] == 0 && bytes[301] == 0, "bytes moved at the boundary")
    })
}

fn write_beyond<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        let at = Gpa(page(RAM_PAGES).0 - 4);
        let refused = memory.write(b.cpu, b.m, at, &[0xff; 8]) == Err(MemError::BadAddress);
        check(refused, "a write beyond RAM was accepted")?;
        let mut bytes = [0xff; 4];
        check(
            memory.read(b.cpu, b.m, at, &mut bytes).is_ok() && bytes == [0; 4],
            "half of a refused write was stored",
        )?;
        let wrap = memory.write(b.cpu, b.m, Gpa(u64::MAX - 3), &[0; 8]);
        check(wrap == Err(MemError::BadAddress), "a write around the end of the address space was accepted")
    })
}

fn read_beyond<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        for at in [page(RAM_PAGES).0, page(RAM_PAGES).0 - 7, 1 << 63, u64::MAX - 3, u64::MAX] {
            let refused = memory.read(b.cpu, b.m, Gpa(at), &mut [0; 8]) == Err(MemError::BadAddress);
            check(refused, "a read beyond RAM was accepted")?;
        }
        Ok(())
    })
}

fn runs_out<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|memory| {
        // The tables and the first page are there; the second page is not to be had.
        check(memory.write(b.cpu, b.m, page(FREE), &[1; 8]).is_ok(), "RAM cannot be written")?;
        let at = Gpa(page(FREE).0 + 4096 - 8);
        let hold = Hold::everything(b.cpu, b.m.frames());
        let starved = memory.write(b.cpu, b.m, at, &[0xff; 16]);
        drop(hold);
        check(starved == Err(MemError::NoMemory), "a page out of nothing")?;
        let mut bytes = [0xff; 16];
        check(
            memory.read(b.cpu, b.m, at, &mut bytes).is_ok() && bytes == [0; 16],
            "half of a failed write was stored",
        )?;
        check(memory.write(b.cpu, b.m, at, &[0xff; 16]).is_ok(), "no recovery once there is memory")
    })
}

fn two_vms<I: Isa>(b: &Bench<'_, I>) -> Run {
    b.with_memory(|first| {
        let second = b.memory(SECOND)?;
        let write = |memory: &hv_core::mmu::GuestMemory<I>, with| memory.write(b.cpu, b.m, page(FREE), &[with; 64]);
        let written = write(first, 1).is_ok() && write(&second, 2).is_ok();
        let (mut one, mut two) = ([0; 64], [0; 64]);
        let read = first.read(b.cpu, b.m, page(FREE), &mut one).is_ok()
            && second.read(b.cpu, b.m, page(FREE), &mut two).is_ok();
        second.destroy(b.cpu, b.m);
        check(written && read, "memory cannot be used")?;
        check(one == [1; 64] && two == [2; 64], "one VM's bytes are in the other")
    })
}

fn recycled<I: Isa>(b: &Bench<'_, I>) -> Run {
    // Each VM gets the frames that the one before it left full.
    for round in 0..3 {
        b.with_memory(|memory| {
            for n in 0..16 {
                let mut bytes = [0xff; 64];
                check(fault(b, memory, page(FREE + n), Access::Read) == hv_core::mmu::Outcome::Mapped, "no page")?;
                check(memory.read(b.cpu, b.m, page(FREE + n), &mut bytes).is_ok(), "RAM cannot be read")?;
                check(bytes == [0; 64], "a VM finds what another left")?;
                check(memory.write(b.cpu, b.m, page(FREE + n), &[round + 1; 64]).is_ok(), "RAM cannot be written")?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
