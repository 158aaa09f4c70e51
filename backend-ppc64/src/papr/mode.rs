//! Calls that set how the guest's interrupts and translation work: H_SET_MODE and H_REGISTER_PROC_TBL.

use hv_core::sync::Ordering;
use hv_core::vcpu::services::{Services, VcpuState};

use super::hcall::Args;
use super::status::Status;
use super::{LPCR_AIL, LPCR_ILE, Papr};

/// H_SET_MODE's resource for where interrupts are taken with translation on.
const RESOURCE_ADDRESS_TRANSLATION: u64 = 3;
/// H_SET_MODE's resource for the byte order of interrupts.
const RESOURCE_ENDIAN: u64 = 4;

/// Partition table entry, doubleword 1: the guest is a radix guest (Power ISA v3.0B, Book III, partition table entry).
const PATE1_GR: u64 = 1 << 63;
/// Doubleword 1 as long as no process table is registered.
pub const NO_PROCESS_TABLE: u64 = PATE1_GR;
/// Doubleword 1 of a guest whose table is a hashed one.
pub const NEVER_A_PROCESS_TABLE: u64 = 0;
/// Largest size code of a process table: 2^(12 + 24) bytes.
const MAX_TABLE_SIZE: u64 = 24;

/// What H_REGISTER_PROC_TBL is to do with the registration: flag bits 4 and 3.
const ACTION: u64 = 0x18;
const ACTION_MAINTAIN: u64 = 0x00;
const ACTION_DEREGISTER: u64 = 0x10;
const ACTION_REGISTER: u64 = 0x18;
/// H_REGISTER_PROC_TBL flag: radix translation.
const RADIX: u64 = 0x04;
/// H_REGISTER_PROC_TBL flag: the guest invalidates translations itself.
const GTSE: u64 = 0x01;

/// H_SET_MODE(flags, resource, value1, value2).
///
/// Of the resources, the byte order of interrupts and the place where they are taken with translation on are there.
/// Both hold for the whole VM.
pub fn set_mode(p: &Papr, args: &Args<'_>, s: &dyn Services) -> Result<Status, Status> {
    let (flags, resource) = (args.param::<1>(), args.param::<2>());
    let (mask, value) = match resource {
        RESOURCE_ENDIAN => (LPCR_ILE, ile(flags)),
        RESOURCE_ADDRESS_TRANSLATION => (LPCR_AIL, ail(flags)),
        _ => return Err(Status::P2),
    };
    if args.param::<3>() != 0 {
        return Err(Status::P3);
    }
    if args.param::<4>() != 0 {
        return Err(Status::P4);
    }
    let value = value.ok_or(Status::UnsupportedFlag)?;
    let set = |lpcr| Some((lpcr & !mask) | value);
    // The closure never refuses.
    let _ = p.lpcr.fetch_update(Ordering::Relaxed, Ordering::Relaxed, set);
    for vcpu in (0..s.vcpus()).filter(|&v| v != args.vcpu && s.vcpu_state(v) == Some(VcpuState::Started)) {
        s.wake(vcpu);
    }
    Ok(Status::Success)
}

const fn ile(flags: u64) -> Option<u64> {
    match flags {
        0 => Some(0),
        1 => Some(LPCR_ILE),
        _ => None,
    }
}

/// Only "in real mode" (0) and "at 0xc000_0000_0000_4000" (3) exist on every processor that runs radix guests.
const fn ail(flags: u64) -> Option<u64> {
    match flags {
        0 => Some(0),
        3 => Some(LPCR_AIL),
        _ => None,
    }
}

/// H_REGISTER_PROC_TBL(flags, address, page size, table size).
///
/// A guest gets the translation that its tree offered; one that asks for the other is refused (PARAMETER, because the flag
/// says so), and one with a hashed table has nothing to register. Whether the
/// guest invalidates translations itself is not ours to turn off on a nested machine, so either value is taken.
pub fn register_process_table(p: &Papr, args: &Args<'_>) -> Result<Status, Status> {
    let flags = args.param::<1>();
    if flags & !(ACTION | RADIX | GTSE) != 0 {
        return Err(Status::Parameter);
    }
    if p.process_table() == NEVER_A_PROCESS_TABLE {
        return if flags == ACTION_MAINTAIN { Ok(Status::Success) } else { Err(Status::Parameter) };
    }
    let entry = match flags & ACTION {
        // The radix flag need not be right to give a table up.
        ACTION_DEREGISTER => NO_PROCESS_TABLE,
        _ if flags & RADIX == 0 => return Err(Status::Parameter),
        ACTION_MAINTAIN => return Ok(Status::Success),
        ACTION_REGISTER => radix_entry(args.param::<2>(), args.param::<3>(), args.param::<4>())?,
        _ => return Err(Status::Parameter),
    };
    p.process_table.store(entry, Ordering::Release);
    Ok(Status::Success)
}

fn radix_entry(address: u64, page_size: u64, size: u64) -> Result<u64, Status> {
    if address & 0xfff != 0 || address >> 60 != 0 {
        return Err(Status::P2);
    }
    if page_size != 0 {
        return Err(Status::P3);
    }
    if size > MAX_TABLE_SIZE {
        return Err(Status::P4);
    }
    // Hardware joins base and index by OR.
    if address.trailing_zeros() < 64 && u64::from(address.trailing_zeros()) < 12 + size {
        return Err(Status::P2);
    }
    Ok(PATE1_GR | address | size)
}

#[cfg(test)]
mod tests {
    use super::NO_PROCESS_TABLE;
    use crate::papr::double::{Calls as _, Double};
    use crate::papr::fdt::Table;
    use crate::papr::hcall::Hcall;
    use crate::papr::{LPCR_AIL, LPCR_ILE, Papr};

    fn vm() -> (Papr, Double) {
        (Papr::new(3).unwrap(), Double::new(3))
    }

    #[test]
    fn interrupts_become_little_endian_and_relocated_for_the_whole_vm() {
        let (p, s) = vm();
        s.start(2);
        let set = |args: &[u64]| {
            let r = s.call(&p, 0, Hcall::SetMode as u64, args).0;
            (r[3] as i64, p.lpcr())
        };
        assert_eq!(set(&[1, 4, 0, 0]), (0, LPCR_ILE));
        assert!(s.woken(2) && !s.woken(1) && !s.woken(0), "running vCPUs must enter again");
        assert_eq!(set(&[3, 3, 0, 0]), (0, LPCR_ILE | LPCR_AIL));
        assert_eq!(set(&[0, 4, 0, 0]), (0, LPCR_AIL));
        assert_eq!(set(&[0, 3, 0, 0]), (0, 0));
    }

    #[test]
    fn wrong_modes_are_refused_by_parameter() {
        let (p, s) = vm();
        for (args, status) in [
            ([2, 4, 0, 0], -256),
            ([1, 3, 0, 0], -256),
            ([2, 3, 0, 0], -256),
            ([u64::MAX, 3, 0, 0], -256),
            ([0, 1, 0, 0], -55),
            ([0, 2, 0, 0], -55),
            ([0, 5, 0, 0], -55),
            ([1, 4, 1, 0], -56),
            ([1, 4, 0, 1], -57),
            ([3, 3, 1, 1], -56),
        ] {
            let r = s.call(&p, 0, Hcall::SetMode as u64, &args).0;
            assert_eq!((r[3] as i64, p.lpcr()), (status, 0), "{args:?}");
        }
    }

    #[test]
    fn a_radix_process_table_becomes_the_partition_table_entry() {
        let (p, s) = vm();
        let register = |args: &[u64]| {
            let r = s.call(&p, 0, Hcall::RegisterProcTbl as u64, args).0;
            (r[3] as i64, p.process_table())
        };
        let entry = 1 << 63 | 0x0100_0000 | 12;
        assert_eq!(register(&[0x1d, 0x0100_0000, 0, 12]), (0, entry));
        assert_eq!(register(&[0x05, 0, 0, 0]), (0, entry));
        assert_eq!(register(&[0x10, 0, 0, 0]), (0, NO_PROCESS_TABLE));
        assert_eq!(register(&[0x1c, 0, 0, 0]), (0, NO_PROCESS_TABLE));
    }

    #[test]
    fn a_guest_with_a_hashed_table_has_nothing_to_register() {
        let (p, s) = vm();
        p.set_table(Table::Hashed { log2: 18, pages: &[] });
        for (flags, status) in [(0, 0), (0x1d, -4), (0x18, -4), (0x10, -4), (0x04, -4)] {
            let r = s.call(&p, 0, Hcall::RegisterProcTbl as u64, &[flags, 0, 0, 0]).0;
            assert_eq!((r[3] as i64, p.process_table()), (status, 0), "{flags:x}");
        }
    }

    #[test]
    fn wrong_process_tables_are_refused_by_parameter() {
        let (p, s) = vm();
        for (args, status) in [
            ([0x3d, 0x10000, 0, 4], -4),
            ([0x18, 0x10000, 0, 4], -4),
            ([0x1e, 0x10000, 0, 4], -4),
            ([0x0d, 0x10000, 0, 4], -4),
            ([0x00, 0x10000, 0, 4], -4),
            ([0x1d, 0x10800, 0, 0], -55),
            ([0x1d, 1 << 60, 0, 0], -55),
            ([0x1d, 0x11000, 0, 4], -55),
            ([0x1d, 0x10000, 1, 4], -56),
            ([0x1d, 0x10000, 0, 25], -57),
            ([0x1d, 0x10000, 0, u64::MAX], -57),
        ] {
            let r = s.call(&p, 0, Hcall::RegisterProcTbl as u64, &args).0;
            assert_eq!((r[3] as i64, p.process_table()), (status, NO_PROCESS_TABLE), "{args:x?}");
        }
    }
}
