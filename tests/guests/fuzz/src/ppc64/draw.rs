//! What is drawn on POWER: hypervisor calls, entries of the hashed table, firmware calls.

use crate::random::Random;

/// What this program lies in, with its tree and its stacks: nothing may be stored here.
pub const OWN: u64 = 2 << 20;
/// Calls on the table.
pub const REMOVE: u64 = 0x04;
pub const ENTER: u64 = 0x08;
const READ: u64 = 0x0c;
const CLEAR_MOD: u64 = 0x10;
const CLEAR_REF: u64 = 0x14;
const PROTECT: u64 = 0x18;
const PAGE_INIT: u64 = 0x2c;
const BULK_REMOVE: u64 = 0x124;
/// Others, of which not everything may be drawn.
const PUT_TERM_CHAR: u64 = 0x58;
const REGISTER_VPA: u64 = 0xdc;
const CEDE: u64 = 0xe0;
const SET_MODE: u64 = 0x31c;
const RTAS: u64 = 0xf000;
/// H_SET_MODE's resource that must stay as it is: the byte order of interrupts.
const ENDIAN: u64 = 4;
/// Everything else that there is, or that others have.
const OTHERS: [u64; 17] =
    [0x54, 0x64, 0x68, 0x6c, 0x70, 0x74, 0xe4, 0xe8, 0x1c8, 0x2fc, 0x300, 0x328, 0x37c, 0x448, 0xf800, 0xf804, 0xf80c];
/// r: real page number.
const RPN: u64 = 0x0fff_ffff_ffff_f000;
/// Entries of a group, and groups of the smallest table.
const GROUP: u64 = 8;
pub const FEWEST: u64 = 1 << 11;
/// Pages that this program's own addresses are in: so many groups at either end of the table are theirs.
const OWN_GROUPS: u64 = OWN >> 12;
/// Firmware calls that end the VM, or begin or end a vCPU, by their number above 0x2000.
const ENDS: u32 = 0b110_0000_1111;

/// VSIDs whose pages below [`PAGES`] are in no group of the program's own, in a table of any size.
pub const SEGMENTS: [u64; 4] = [0x400, 0x500, 0x1400, 0x1500];
/// Pages of a segment that entries are put for.
pub const PAGES: u64 = 256;

/// A call with up to nine parameters, `groups` being the table's.
pub fn call(random: &mut Random, groups: u64, memory: u64) -> [u64; 10] {
    loop {
        let mut drawn = match random.below(16) {
            0..6 => enter(random, groups, memory),
            6..12 => on_an_entry(random, groups),
            12 => [PAGE_INIT, flags(random), address(random, memory), address(random, memory), 0, 0, 0, 0, 0, 0],
            13 => other(random, memory),
            14 => {
                let number = if random.one_in(2) { 4 * random.below(0x140) } else { random.value() };
                core::array::from_fn(|n| if n == 0 { number } else { argument(random, memory) })
            }
            _ => {
                let mut bulk = [BULK_REMOVE; 10];
                bulk[1..].fill_with(|| {
                    let what = [1, 1, 1, 3, 0, 2][random.below(6) as usize] << 62 | random.below(4) << 56;
                    what | index(random, groups)
                });
                bulk
            }
        };
        if drawn[0] < PAGE_INIT && random.one_in(10) {
            drawn[1 + random.below(4) as usize] = random.value();
        }
        if is_safe(&drawn) {
            return drawn;
        }
    }
}

/// An entry for a page of a segment, where it belongs.
fn enter(random: &mut Random, groups: u64, memory: u64) -> [u64; 10] {
    let (segment, page) = (SEGMENTS[random.below(4) as usize], random.below(PAGES));
    let secondary = random.one_in(8);
    let group = if secondary { !(segment ^ page) } else { segment ^ page } & (groups - 1);
    let large = random.one_in(8);
    let v = (segment << 5 | page >> 11) << 7 | u64::from(large) << 2 | u64::from(secondary) << 1;
    let v = v | [1, 1, 1, 0x11, 0x61, 0, 1 << 63][random.below(7) as usize];
    let size = if large { [1, 7, 0, 8, 0x38, 3][random.below(6) as usize] << 12 } else { 0 };
    let r = address(random, memory) & !if large { 0xffff } else { 0xfff } | size;
    let attributes = [0x12, 0x12, 0x12, 0x13, 0x10, 0x192, 0x16, 0x72, 0x32][random.below(9) as usize];
    [ENTER, flags(random), group * GROUP + random.below(GROUP), v, r | attributes, 0, 0, 0, 0, 0]
}

fn on_an_entry(random: &mut Random, groups: u64) -> [u64; 10] {
    let number = [REMOVE, REMOVE, READ, CLEAR_MOD, CLEAR_REF, PROTECT][random.below(6) as usize];
    let avpn = SEGMENTS[random.below(4) as usize] << 12;
    [number, flags(random), index(random, groups), avpn, 0, 0, 0, 0, 0, 0]
}

/// Where entries are put.
fn index(random: &mut Random, groups: u64) -> u64 {
    let group = (SEGMENTS[random.below(4) as usize] ^ random.below(PAGES)) & (groups - 1);
    group * GROUP + random.below(2)
}

/// By their bits from the left; most calls have none.
fn flags(random: &mut Random) -> u64 {
    let known =
        |random: &mut Random| 1 << (63 - [24, 26, 32, 33, 48, 49, 40, 41, 61, 62, 63, 55][random.below(12) as usize]);
    match random.below(12) {
        0 => random.value(),
        1 => known(random) | known(random),
        2..5 => known(random),
        _ => 0,
    }
}

fn other(random: &mut Random, memory: u64) -> [u64; 10] {
    let number = match random.below(12) {
        0 => REGISTER_VPA,
        1 => SET_MODE,
        _ => OTHERS[random.below(OTHERS.len() as u64) as usize],
    };
    let kind = random.below(8) << 45;
    core::array::from_fn(|n| match (n, number) {
        (0, _) => number,
        (1, REGISTER_VPA) => kind,
        (2, REGISTER_VPA) => random.below(2),
        _ => argument(random, memory),
    })
}

fn argument(random: &mut Random, memory: u64) -> u64 {
    match random.below(4) {
        0 => address(random, memory),
        1 => random.below(8),
        _ => random.value(),
    }
}

/// A page of memory, or one beyond it, at its beginning or not.
pub fn address(random: &mut Random, memory: u64) -> u64 {
    let page = match random.below(16) {
        0 => memory - 0x2000 + random.below(4) * 0x1000,
        1 => OWN + (random.next() >> random.below(40)) % (1 << 50),
        2..6 => memory / 2 + random.below(PAGES) * 0x1000,
        _ => OWN + random.below(memory - OWN),
    };
    if random.one_in(16) { page } else { page & !0xfff }
}

/// The same for loads and stores with translation off. The hypervisor puts an entry for each page of them, and a group that this
/// program has filled has no room for one, which ends the VM: so only pages whose groups are none of [`SEGMENTS`]'.
pub fn untranslated(random: &mut Random, memory: u64) -> u64 {
    let address = address(random, memory) & !(0x600 << 12);
    if address < OWN { address + (0x800 << 12) } else { address }
}

/// True for what leaves this program as it is: its memory, the entries that it runs by, the way in which it is interrupted; and
/// for what does not put it to sleep.
fn is_safe(drawn: &[u64; 10]) -> bool {
    let [number, _, second, third, fourth, ..] = *drawn;
    match number {
        ENTER => is_others(second) && fourth & RPN >= OWN,
        REMOVE | READ | CLEAR_MOD | CLEAR_REF | PROTECT => is_others(second),
        BULK_REMOVE => drawn[1..].iter().step_by(2).all(|word| is_others(word << 8 >> 8)),
        PAGE_INIT => second >= OWN,
        REGISTER_VPA => third >= OWN,
        SET_MODE => second != ENDIAN,
        CEDE | RTAS | PUT_TERM_CHAR => false,
        _ => true,
    }
}

/// True if the entry with this number is none that this program runs by, in a table of any size.
fn is_others(index: u64) -> bool {
    let sizes = [FEWEST, 2 * FEWEST, 4 * FEWEST];
    sizes.iter().all(|groups| (OWN_GROUPS..groups - OWN_GROUPS).contains(&(index / GROUP & (groups - 1))))
}

/// A firmware call: its token, how many arguments and results, arguments, none of which is an address of this program's own.
pub fn firmware(random: &mut Random, memory: u64) -> [u32; 16] {
    let token = loop {
        let number = random.below(0x14) as u32;
        if ENDS >> number & 1 == 0 {
            break 0x2000 + number;
        }
    };
    let counts = if random.one_in(4) {
        [random.value() as u32, random.value() as u32]
    } else {
        [random.below(8) as u32, random.below(9) as u32]
    };
    let argument = |random: &mut Random| match random.below(4) {
        0 => random.below(64) as u32,
        1 => 0xffff_ff00 | random.below(256) as u32,
        _ => address(random, memory) as u32 | OWN as u32,
    };
    core::array::from_fn(|n| match n {
        0 => token,
        1 | 2 => counts[n - 1],
        _ => argument(random),
    })
}
