//! The calls of the interface, made by L1 and answered where they arrive.

use hv_core::addr::Gpa;
use hv_core::heap::boxed;
use hv_core::vcpu::exit::Access;
use hv_core::vcpu::services::MemError;
use zerocopy::IntoBytes;

use super::block::{ByteOrder, STATE, STATE_1, state_size};
use super::children::Nest;
use super::copy::{Refused, Request};
use super::counts::Event;
use super::fit;
use super::seat::{Place, Seat};
use super::status;
use super::tlbie;
use super::walk::{Partition, PartitionTable};
use crate::bare::Ppc64Bare;
use crate::radix::PartitionScoped;
use crate::vcpu::cpu::State;
use crate::vcpu::layout::{HvGuestState, Registers};
use crate::vcpu::msr::LPCR_MER;
use crate::vcpu::power::{Host, Run};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// It is none of these.
    NotOurs,
    /// Its status is this.
    Done(i64),
    /// The vCPU is inside of an L2 now.
    Inside,
    /// This page of L1's is needed first.
    Need(Gpa, Access),
}

const SET_PARTITION_TABLE: u64 = 0xf800;
const ENTER_NESTED: u64 = 0xf804;
const TLB_INVALIDATE: u64 = 0xf808;
const COPY_TOFROM_GUEST: u64 = 0xf80c;
const CALLS: [u64; 4] = [SET_PARTITION_TABLE, ENTER_NESTED, TLB_INVALIDATE, COPY_TOFROM_GUEST];

/// What ended a call early.
enum Early {
    Status(i64),
    Need(Gpa, Access),
}

/// An answer to who reads L1's memory at this address.
fn unread((at, error): (Gpa, MemError)) -> Early {
    match error {
        MemError::BadAddress => Early::Status(status::PARAMETER),
        MemError::NoMemory => Early::Need(at, Access::Read),
    }
}

/// Makes the call in the vCPU's registers.
pub fn call(run: &Run<'_, Ppc64Bare>, nest: &Nest<PartitionScoped>, vcpu: &mut State) -> Called {
    let [number, a, b, c] = [3, 4, 5, 6].map(|n: usize| vcpu.registers.gpr[n]);
    if !CALLS.contains(&number) {
        return Called::NotOurs;
    }
    if vcpu.nested.is_none() {
        vcpu.nested = boxed(Seat::default()).ok();
    }
    let Some(seat) = &mut vcpu.nested else { return Called::Done(status::NO_MEM) };
    seat.place = Place::Own;
    let done = match number {
        SET_PARTITION_TABLE => set_table(run, nest, a).map(|()| Called::Done(status::SUCCESS)),
        ENTER_NESTED => enter(run, nest, vcpu, [Gpa(a), Gpa(b)]).map(|()| Called::Inside),
        COPY_TOFROM_GUEST => {
            let rest = [7, 8, 9].map(|n: usize| vcpu.registers.gpr[n]);
            copy(run, nest, [a, b, c, rest[0], rest[1], rest[2]]).map(|()| Called::Done(status::SUCCESS))
        }
        _ => invalidate(run, nest, [a, b, c]).map(|()| Called::Done(status::SUCCESS)),
    };
    match done {
        Ok(called) => called,
        Err(Early::Status(status)) => Called::Done(status),
        Err(Early::Need(at, access)) => {
            if let Some(seat) = &mut vcpu.nested {
                seat.place = Place::Again;
            }
            Called::Need(at, access)
        }
    }
}

/// 0 takes the table away again.
fn set_table(run: &Run<'_, Ppc64Bare>, nest: &Nest<PartitionScoped>, register: u64) -> Result<(), Early> {
    let table = match register {
        0 => None,
        _ => Some(PartitionTable::new(register).ok_or(Early::Status(status::PARAMETER))?),
    };
    if let Some(table) = table {
        entry(run, table.last()).map_err(unread)?;
    }
    nest.set_table(table);
    Ok(())
}

/// An entry of L1's partition table.
fn entry(run: &Run<'_, Ppc64Bare>, at: Gpa) -> Result<u128, (Gpa, MemError)> {
    let mut bytes = [0; 16];
    run.memory.read(run.cpu, run.m, at, &mut bytes).map_err(|error| (at, error))?;
    Ok(u128::from_be_bytes(bytes))
}

fn enter(
    run: &Run<'_, Ppc64Bare>,
    nest: &Nest<PartitionScoped>,
    vcpu: &mut State,
    blocks: [Gpa; 2],
) -> Result<(), Early> {
    let wrong = || Early::Status(status::PARAMETER);
    let table = nest.table().ok_or(Early::Status(status::NOT_AVAILABLE))?;
    let order = ByteOrder::of(vcpu.registers.msr);
    let read = |at: Gpa, into: &mut [u8]| run.memory.read(run.cpu, run.m, at, into).map_err(|error| (at, error));
    let (mut given, mut registers) = (HvGuestState::default(), Registers::default());
    // Read once, before anybody knows its version: the smaller block may end where memory does.
    let size = match read(blocks[0], given.bytes_mut(STATE)) {
        Ok(()) => STATE,
        Err((_, MemError::BadAddress)) => {
            read(blocks[0], given.bytes_mut(STATE_1)).map_err(unread)?;
            STATE_1
        }
        Err(why) => return Err(unread(why)),
    };
    given.turn(order);
    let given = given.of_its_version(size).ok_or_else(wrong)?;
    read(blocks[1], registers.as_mut_bytes()).map_err(unread)?;
    registers.turn(order);
    fit::check(&given, &registers).map_err(Early::Status)?;
    let at = table.at(given.lpid).ok_or_else(wrong)?;
    let partition = Partition::new(entry(run, at).map_err(unread)?).ok_or_else(wrong)?;
    let Some(seat) = &mut vcpu.nested else { return Err(Early::Status(status::NO_MEM)) };
    let who = (given.lpid, given.vcpu_token);
    let held = nest.hold(run.cpu, run.m, who, partition).map_err(|_| Early::Status(status::NO_MEM))?;
    run.m.put(&mut vcpu.hv);
    registers.msr = fit::machine_state(registers.msr);
    let hv = fit::state(&given, &vcpu.hv, held.0.get().into());
    seat.hv = core::mem::replace(&mut vcpu.hv, hv);
    seat.registers = core::mem::replace(&mut vcpu.registers, registers);
    (seat.given, seat.blocks, seat.order) = (given, blocks, order);
    (seat.guest, seat.cpu, seat.place) = (Some(held), run.cpu.id(), Place::Inside);
    // Mediated: an interrupt waits that L1 has not enabled. It goes first.
    seat.wanted = seat.hv.lpcr & LPCR_MER != 0;
    seat.until = seat.hv.hdec_expiry;
    run.m.load(&vcpu.hv);
    Ok(())
}

/// L2 has left by `vector`: its state goes to L1's blocks, and the vCPU is L1's again. `Err`: a page of L1's is needed first;
/// call it again.
pub fn leave(
    run: &Run<'_, Ppc64Bare>,
    nest: &Nest<PartitionScoped>,
    vcpu: &mut State,
    vector: u64,
) -> Result<(), (Gpa, Access)> {
    let State { hv, registers, nested: Some(seat), .. } = vcpu else { return Ok(()) };
    seat.place = Place::Leaving(vector);
    run.m.put(hv);
    fit::report(&mut seat.given, hv, vector);
    registers.msr = fit::told(registers.msr, vector, hv.hdsisr);
    let status = match write_back(run, seat, registers) {
        Ok(()) => vector.cast_signed(),
        Err((_, MemError::BadAddress)) => status::AUTHORITY,
        Err((at, MemError::NoMemory)) => return Err((at, Access::Write)),
    };
    *hv = core::mem::take(&mut seat.hv);
    *registers = core::mem::take(&mut seat.registers);
    registers.gpr[3] = status.cast_unsigned();
    seat.place = Place::Own;
    if let Some(held) = seat.guest.take() {
        nest.put(held);
    }
    nest.counts().add(Event::Return);
    run.m.load(hv);
    Ok(())
}

/// Writes L2's state into L1's blocks, in L1's byte order. It is in this processor's afterwards.
fn write_back(run: &Run<'_, Ppc64Bare>, seat: &mut Seat, registers: &mut Registers) -> Result<(), (Gpa, MemError)> {
    let size = state_size(seat.given.version).unwrap_or(0);
    let write = |at, bytes: &[u8]| run.memory.write(run.cpu, run.m, at, bytes).map_err(|error| (at, error));
    seat.given.turn(seat.order);
    registers.turn(seat.order);
    let done = write(seat.blocks[0], seat.given.bytes(size)).and_then(|()| write(seat.blocks[1], registers.as_bytes()));
    seat.given.turn(seat.order);
    registers.turn(seat.order);
    done
}

/// Reads entries of L1's partition table; `None` for a number that it has none for.
fn partitions<'a>(
    run: &'a Run<'_, Ppc64Bare>,
    nest: &'a Nest<PartitionScoped>,
) -> impl Fn(u32) -> Result<Option<Partition>, (Gpa, MemError)> + 'a {
    move |lpid| {
        let Some(at) = nest.table().and_then(|table| table.at(lpid)) else { return Ok(None) };
        entry(run, at).map(Partition::new)
    }
}

fn invalidate(run: &Run<'_, Ppc64Bare>, nest: &Nest<PartitionScoped>, [a, b, c]: [u64; 3]) -> Result<(), Early> {
    let reach = tlbie::reach(a, b, c).ok_or(Early::Status(status::PARAMETER))?;
    nest.invalidate(run.cpu, run.m, reach, partitions(run, nest)).map_err(unread)
}

fn copy(run: &Run<'_, Ppc64Bare>, nest: &Nest<PartitionScoped>, registers: [u64; 6]) -> Result<(), Early> {
    let request = Request::new(registers).ok_or(Early::Status(status::PARAMETER))?;
    let read = |at: Gpa, into: &mut [u8]| run.memory.read(run.cpu, run.m, at, into);
    let write = |at: Gpa, from: &[u8]| run.memory.write(run.cpu, run.m, at, from);
    nest.copy(&read, &write, &request, partitions(run, nest)).map_err(|refused| match refused {
        Refused::NoGuest => Early::Status(status::PARAMETER),
        Refused::NotFound => Early::Status(status::NOT_FOUND),
        Refused::Memory(at, access) => Early::Need(at, access),
    })
}
