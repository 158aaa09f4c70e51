//! L1: its tables in its own memory, its calls, and what its guest does.

use backend_ppc64::nested_host::children::{Nest, Partitions};
use core::cell::RefCell;

use backend_ppc64::nested_host::fault::{Answer, Tables};
use backend_ppc64::nested_host::stage2::{MayNest, NestStage2};
use backend_ppc64::nested_host::tlbie::{Reach, reach};
use backend_ppc64::nested_host::walk::{Near, Partition, PartitionTable};
use conformance::rig::Bench;
use conformance::verdict::{Run, Stop, check};
use hv_core::addr::{Gfn, GfnRange, Gpa, Order, Pfn};
use hv_core::host::HugePolicy;
use hv_core::isa::{Isa, Stage2, VmTag};
use hv_core::machine::Machine;
use hv_core::mmu::{GuestMemory, MemoryConfig, Outcome};
use hv_core::radix::format::{Leaf, Prot, Pte};
use hv_core::vcpu::exit::{Access, Fault};
use hv_core::vcpu::services::MemError;

/// Pages of L1's RAM: two large blocks.
pub const PAGES: u64 = 1024;
/// The second of them, which L1 gives its guest as a whole in some cases.
pub const BLOCK: u64 = 512;
/// L1's number of its guest.
pub const LPID: u32 = 7;
/// The page of L1's that most cases are about, and where L2 has it.
pub const PAGE: u64 = 300;
/// See [`PAGE`].
pub const AT: u64 = 5;

/// An entry's bits: valid, a leaf; R and C; read, write, execute.
const VALID: u64 = 1 << 63;
const LEAF: u64 = 1 << 62;
/// See [`VALID`].
pub const R: u64 = 0x100;
/// See [`VALID`].
pub const C: u64 = 0x80;
/// See [`VALID`].
pub const READ: u64 = 4;
/// See [`VALID`].
pub const WRITE: u64 = 2;
/// See [`VALID`].
pub const EXEC: u64 = 1;
/// All of them.
pub const ALL: u64 = R | C | READ | WRITE | EXEC;

/// Where L1's tables are: 256 partitions, then the tree from its root (64 KiB) to its leaves.
pub const TABLE: u64 = 0x1_0000;
const ROOT: u64 = 0x2_0000;
const SECOND: u64 = 0x3_0000;
const THIRD: u64 = 0x3_1000;
/// See [`TABLE`].
pub const LEAVES: u64 = 0x3_2000;
/// Another root, empty.
pub const OTHER_ROOT: u64 = 0x4_0000;
/// The tree of 52 bits at `root`, as doubleword 0 of a partition.
#[must_use]
pub const fn tree(root: u64) -> u64 {
    VALID | 2 << 61 | 5 << 5 | root | 13
}
/// Doubleword 1: a process table of one page.
pub const PROCESSES: u64 = 1 << 63 | 0x6_0000;

/// The guest that has a guest, and the vCPU of it that runs that.
pub struct L1<'a, I: Isa>
where
    I::Stage2: MayNest,
{
    /// The bench.
    pub b: &'a Bench<'a, I>,
    /// Its memory.
    pub memory: &'a GuestMemory<I>,
    /// Its second stage.
    pub stage2: &'a NestStage2<<I::Stage2 as MayNest>::Format>,
    /// Its guests.
    pub nest: &'a Nest<<I::Stage2 as MayNest>::Format>,
    /// The L2 that it is in.
    pub held: VmTag,
    /// Where its vCPU's last walk ended.
    pub near: &'a RefCell<Near>,
}

/// Runs a case on a new VM.
pub fn with<I>(b: &Bench<'_, I>, huge: HugePolicy, run: fn(&mut L1<'_, I>) -> Run) -> Run
where
    I: Isa,
    I::Machine: Partitions,
    I::Stage2: MayNest,
{
    let config = MemoryConfig { huge, ..MemoryConfig::from(PAGES << 12) };
    b.with_config(config, |memory| {
        let none = Stop::Skip("this VM may have no guests");
        let stage2 = memory.stage2().nest().ok_or(none)?;
        let nest = stage2.guests().ok_or(none)?;
        let mut l1 = L1 { b, memory, stage2, nest, held: memory.tag(), near: &RefCell::default() };
        l1.write(TABLE + 16 * u64::from(LPID), tree(ROOT))?;
        l1.write(TABLE + 16 * u64::from(LPID) + 8, PROCESSES)?;
        l1.write(ROOT, VALID | SECOND | 9)?;
        l1.write(SECOND, VALID | THIRD | 9)?;
        l1.write(THIRD, VALID | LEAVES | 9)?;
        nest.set_table(PartitionTable::new(TABLE));
        l1.held = l1.enter(LPID, 0)?;
        run(&mut l1)?;
        l1.is_a_subset()
    })
}

impl<'a, I> L1<'a, I>
where
    I: Isa,
    I::Machine: Partitions,
    I::Stage2: MayNest,
{
    /// Its guests.
    #[must_use]
    pub fn nest(&self) -> &'a Nest<<I::Stage2 as MayNest>::Format> {
        self.nest
    }

    /// Writes a doubleword as the architecture's tables have them.
    pub fn write(&self, at: u64, word: u64) -> Run {
        let done = self.memory.write(self.b.cpu, self.b.m, Gpa(at), &word.to_be_bytes());
        check(done.is_ok(), "RAM cannot be written")
    }

    /// A doubleword of RAM, as [`L1::write`] writes it.
    pub fn read(&self, at: u64) -> Result<u64, Stop> {
        let mut bytes = [0; 8];
        let done = self.memory.read(self.b.cpu, self.b.m, Gpa(at), &mut bytes);
        done.map(|()| u64::from_be_bytes(bytes)).map_err(|_| Stop::Fail("RAM cannot be read"))
    }

    /// The entry of a partition.
    pub fn partition(&self, lpid: u32) -> Result<Partition, Stop> {
        let at = PartitionTable::new(TABLE).and_then(|table| table.at(lpid));
        let at = at.ok_or(Stop::Fail("no entry of the table"))?.0;
        let words = [self.read(at)?, self.read(at + 8)?];
        let entry = u128::from(words[0]) << 64 | u128::from(words[1]);
        Partition::new(entry).ok_or(Stop::Fail("the entry is none of a radix guest"))
    }

    /// Enters vCPU `token` of an L2.
    pub fn enter(&self, lpid: u32, token: u32) -> Result<VmTag, Stop> {
        let held = self.nest().hold(self.b.cpu, self.b.m, (lpid, token), self.partition(lpid)?);
        held.map_err(|_| Stop::Fail("an L2 was refused"))
    }

    /// L1 gives its guest its own page `to` at `at`, with these bits.
    pub fn map(&self, at: u64, to: u64, bits: u64) -> Run {
        self.write(LEAVES + at * 8, VALID | LEAF | to << 12 | bits)
    }

    /// The leaf entry's word.
    pub fn put(&self, at: u64, word: u64) -> Run {
        self.write(LEAVES + at * 8, word)
    }

    /// The leaf entry's word as it is.
    pub fn entry(&self, at: u64) -> Result<u64, Stop> {
        self.read(LEAVES + at * 8)
    }

    /// L1 gives its guest a block of 2 MiB of its own from page `to`, at page [`BLOCK`].
    pub fn map_block(&self, to: u64, bits: u64) -> Run {
        self.write(THIRD + 8, VALID | LEAF | to << 12 | bits)
    }

    /// The entry of the third level that is about the first 2 MiB: another table, for one.
    pub fn third(&self, word: u64) -> Run {
        self.write(THIRD, word)
    }

    /// The leaves' table as an entry of the third level, with so many index bits.
    #[must_use]
    pub const fn leaves(bits: u64) -> u64 {
        VALID | LEAVES | bits
    }

    /// L2's fault, taken to the hypervisor once. `between` runs when the last word of L1's tree has been read.
    pub fn ask(&self, page: u64, access: Access, between: &dyn Fn()) -> Answer {
        let read = |at: Gpa, into: &mut [u8]| -> Result<(), MemError> {
            self.memory.read(self.b.cpu, self.b.m, at, into)?;
            if at.0 & !0xfff == LEAVES {
                between();
            }
            Ok(())
        };
        let (cpu, m) = (self.b.cpu, self.b.m);
        let tables = Tables { read: &read, near: &mut self.near.borrow_mut() };
        self.nest().fault(cpu, m, self.stage2.own().table(), tables, self.held, (Gpa(page << 12), access))
    }

    /// L2's fault until it is answered by somebody else than L1's second stage.
    pub fn fault(&self, page: u64, access: Access) -> Answer {
        for _ in 0..8 {
            let answer = self.ask(page, access, &|| {});
            let Answer::Parent(gpa, access) = answer else { return answer };
            let claim = self.b.rig.claim(self.memory.stage2(), gpa, Order::PAGE);
            match self.memory.fault(self.b.cpu, self.b.m, &Fault { gpa, access, claim }) {
                Outcome::Mapped | Outcome::Retry => {}
                Outcome::NoSlot | Outcome::NoMemory => return answer,
            }
        }
        Answer::NoMemory
    }

    /// L1 stores to a page of its own: its second stage has it then.
    pub fn touches(&self, page: u64) -> Run {
        let (gpa, access) = (Gpa(page << 12), Access::Write);
        let claim = self.b.rig.claim(self.memory.stage2(), gpa, Order::PAGE);
        let done = self.memory.fault(self.b.cpu, self.b.m, &Fault { gpa, access, claim });
        check(done == Outcome::Mapped, "a store of L1's is not answered")
    }

    /// L2 loads from a page, and is not stopped.
    pub fn loads(&self, page: u64) -> Run {
        check(self.fault(page, Access::Read) == Answer::Enter, "a load of L2's is not answered")?;
        check(self.leaf(page).is_some_and(|(_, leaf)| leaf.prot.contains(Prot::READ)), "L2 cannot load")
    }

    /// L2's CPU stores to a page if the derived table lets it, as hardware does.
    pub fn store(&self, page: u64, value: u64) -> bool {
        let Some((order, leaf)) = self.leaf(page).filter(|(_, leaf)| leaf.prot.contains(Prot::WRITE)) else {
            return false;
        };
        let frame = Pfn(leaf.pfn.0 + page - order.align_down(page));
        self.b.m.write(frame, 0, &value.to_be_bytes());
        true
    }

    /// L2 stores to a page, with as many faults as that takes.
    pub fn stores(&self, page: u64, value: u64) -> Run {
        for _ in 0..4 {
            if self.store(page, value) {
                return Ok(());
            }
            check(self.fault(page, Access::Write) == Answer::Enter, "a store of L2's is not answered")?;
        }
        Err(Stop::Fail("L2 faults for ever"))
    }

    /// What the derived table has at a page of L2's.
    #[must_use]
    pub fn leaf(&self, page: u64) -> Option<(Order, Leaf)> {
        match self.nest().lookup(self.b.cpu, self.b.m, self.held, Gfn(page))? {
            (order, Pte::Leaf(leaf)) => Some((order, leaf)),
            _ => None,
        }
    }

    /// What L1's own second stage has at a page of L1's.
    #[must_use]
    pub fn parent(&self, page: u64) -> Option<Leaf> {
        match Stage2::<I>::lookup(self.memory.stage2(), self.b.cpu, self.b.m, Gfn(page)) {
            Pte::Leaf(leaf) => Some(leaf),
            Pte::Hole | Pte::Table { .. } | Pte::Swapped(_) | Pte::Transition(_) => None,
        }
    }

    /// G2, G5: whatever the derived table has, L1's second stage has: the frame, the rights, R and C.
    pub fn is_a_subset(&self) -> Run {
        let mut fine = true;
        self.nest().derived().records(self.b.cpu, |record| {
            if record.child != self.held {
                return;
            }
            let walk = self.b.m.epoch().enter(self.b.cpu);
            let seen = self.stage2.own().table().walk(self.b.m, &walk, record.from.0);
            let parent = seen.and_then(|seen| match seen.pte {
                Pte::Leaf(leaf) => Some((seen.order, leaf)),
                _ => None,
            });
            fine &= match (self.leaf(record.at.0), parent) {
                (Some((_, child)), Some((order, leaf))) => {
                    leaf.pfn.0 + record.from.0 - order.align_down(record.from.0) == child.pfn.0
                        && leaf.prot.contains(child.prot)
                        && leaf.rc.contains(child.rc)
                }
                _ => false,
            };
        });
        check(fine, "G2, G5: a derived entry has what its parent has not")
    }

    /// `H_TLB_INVALIDATE` with these operands.
    pub fn invalidate(&self, instruction: u64, rs: u64, rb: u64) -> Run {
        let reach = reach(instruction, rs, rb).ok_or(Stop::Fail("the operands were refused"))?;
        self.flush(reach)
    }

    /// The same, by what it reaches.
    pub fn flush(&self, reach: Reach) -> Run {
        let read = |lpid| Ok(self.partition(lpid).ok());
        let done = self.nest().invalidate(self.b.cpu, self.b.m, reach, read);
        check(done.is_ok(), "an invalidation was refused")
    }

    /// Some pages of L1's.
    pub fn pages(first: u64, count: u64) -> Result<GfnRange, Stop> {
        GfnRange::new(Gfn(first), count).ok_or(Stop::Fail("no range"))
    }
}
