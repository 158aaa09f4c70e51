//! The blocks of the interface as this processor reads and writes them.

use backend_ppc64::nested_host::block::{ByteOrder, STATE, state_size};
use backend_ppc64::nested_host::fit;
use backend_ppc64::nested_host::walk::PartitionTable;
use backend_ppc64::vcpu::layout::{HvGuestState, Registers};
use conformance::verdict::{Run, Stop, check};

use crate::l1::{L1, TABLE};
use crate::{cases, on_l1};

cases! { 8:
    "nest-block-version-1-big-endian", "R26", Never, old_big;
    "nest-block-version-1-little-endian", "R26", Never, old_little;
    "nest-block-version-2-big-endian", "R26", Never, new_big;
    "nest-block-version-2-little-endian", "R26", Never, new_little;
    "nest-block-of-no-known-version", "R26", Never, unknown;
    "nest-registers-in-both-orders", "R26", Never, registers;
    "nest-state-is-fitted", "R26", Never, fitted;
    "nest-partition-numbers-are-bounded", "R26", Never, bounded;
}

/// What is written into L1's memory in one order is read there again, in that order and in no other.
fn round<I>(l1: &L1<'_, I>, version: u64, order: ByteOrder) -> Run
where
    I: hv_core::isa::Isa,
    I::Machine: backend_ppc64::nested_host::children::Partitions,
    I::Stage2: backend_ppc64::nested_host::stage2::MayNest,
{
    let mut state =
        HvGuestState { version, lpid: 7, vcpu_token: 3, lpcr: 0x1122, dawrx1: 5, ..HvGuestState::default() };
    let size = state_size(version).unwrap_or(0);
    state.turn(order);
    let at = hv_core::addr::Gpa(0x8_0ff8);
    let mut read = HvGuestState::default();
    let done = l1.memory.write(l1.b.cpu, l1.b.m, at, state.bytes(size));
    let done = done.and_then(|()| l1.memory.read(l1.b.cpu, l1.b.m, at, read.bytes_mut(STATE)));
    check(done.is_ok(), "RAM cannot be used")?;
    let mut other = read.clone();
    read.turn(order);
    let read = read.of_its_version(STATE).ok_or(Stop::Fail("a version that is known was refused"))?;
    check((read.version, read.lpid, read.vcpu_token, read.lpcr) == (version, 7, 3, 0x1122), "the block was not read")?;
    check(read.dawrx1 == if version == 1 { 0 } else { 5 }, "a version has fields that it has not")?;
    other.turn(if order == ByteOrder::Big { ByteOrder::Little } else { ByteOrder::Big });
    check(other.version == version.swap_bytes(), "the order makes no difference")
}

on_l1! {
fn old_big(l1) {
    round(l1, 1, ByteOrder::Big)
}

fn old_little(l1) {
    round(l1, 1, ByteOrder::Little)
}

fn new_big(l1) {
    round(l1, 2, ByteOrder::Big)
}

fn new_little(l1) {
    round(l1, 2, ByteOrder::Little)
}

fn unknown(_l1) {
    let known = [0, 3, 4, 1 << 56, 2_u64.swap_bytes(), u64::MAX].map(state_size);
    check(known.iter().all(Option::is_none), "a version that nobody has defined")
}

fn registers(_l1) {
    let at = |order| {
        let mut registers = Registers { nip: 1, msr: 2, ccr: 3, ..Registers::default() };
        registers.turn(order);
        (registers.nip, registers.msr, registers.ccr)
    };
    check(at(ByteOrder::Big) == (1_u64.to_be(), 2_u64.to_be(), 3_u64.to_be()), "a block in another order")?;
    check(at(ByteOrder::Little) == (1_u64.to_le(), 2_u64.to_le(), 3_u64.to_le()), "a block in another order")
}

fn fitted(_l1) {
    let everything = HvGuestState { lpcr: u64::MAX, hfscr: u64::MAX, amor: 1, lpid: 77, ..HvGuestState::default() };
    let own = HvGuestState { hfscr: 1 << 7, amor: u64::MAX, ..HvGuestState::default() };
    let fitted = fit::state(&everything, &own, 200);
    check((fitted.lpid, fitted.hfscr, fitted.amor) == (200, 1 << 7, u64::MAX), "L2 has what its hypervisor has not")?;
    check(fit::machine_state(u64::MAX) & (1 << 60 | 1 << 22 | 3 << 33) == 0, "L2 is in a state that no guest may be in")
}

fn bounded(_l1) {
    let table = PartitionTable::new(TABLE);
    check(table.is_some_and(|table| table.at(0).is_none() && table.at(256).is_none()), "a number outside of the table")?;
    check(table.is_some_and(|table| table.at(255) == Some(table.last())), "the last number is not in the table")?;
    check(PartitionTable::new(TABLE | 5).is_none(), "a table of more than 4,096 partitions")
}
}
