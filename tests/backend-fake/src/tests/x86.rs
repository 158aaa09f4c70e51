//! Tables of x86's formats, walked as the manuals say that hardware walks them: from the pointer that it is given, through words
//! and no decoder, setting accessed and dirty bits on the way.

use backend_x86::stage2::format::{Entries, EptMarks, EptTrap, Kind, Npt};
use backend_x86::stage2::{eptp, nested_cr3};
use hv_core::addr::{Order, Pfn};
use hv_core::epoch::Cpu;
use hv_core::isa::DirtyMethod;
use hv_core::machine::Machine;
use hv_core::radix::Radix;
use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef};
use hv_core::sync::Ordering;

use super::{broken, on_machine};
use crate::FakeMachine;

/// What of an architecture's entries the walk looks at.
struct Hardware {
    pointer: fn(TableRef) -> u64,
    /// Bits that have to be set for a load, a store, a fetch; and the bit that has to be clear for a fetch.
    needs: [u64; 3],
    forbids: u64,
    /// Accessed and dirty; none if hardware sets none.
    marks: [u64; 2],
}

const EPT: Hardware = Hardware {
    pointer: |root| eptp(root, DirtyMethod::HardwareBits),
    needs: [1, 2, 4],
    forbids: 0,
    marks: [1 << 8, 1 << 9],
};
const EPT_TRAP: Hardware = Hardware { pointer: |root| eptp(root, DirtyMethod::WriteProtect), marks: [0, 0], ..EPT };
// Present, and a user's.
const NPT: Hardware = Hardware { pointer: nested_cr3, needs: [5, 7, 5], forbids: 1 << 63, marks: [1 << 5, 1 << 6] };

impl Hardware {
    /// The physical address of a store to `gpa` (`access` 1), a load (0) or a fetch (2), if the tables allow it.
    fn access(&self, m: &FakeMachine, cpu: &Cpu, pointer: u64, gpa: u64, access: usize) -> Option<u64> {
        let guard = m.epoch().enter(cpu);
        let mut table = pointer & 0x000f_ffff_ffff_f000;
        for level in (0..4).rev() {
            let shift = 12 + 9 * level;
            let slot = (gpa >> shift & 0x1ff) as usize;
            let cell = m.pte(&guard, TableRef::new(Pfn(table >> 12), Order::PAGE), slot);
            let entry = u64::from_le(cell.load(Ordering::Acquire));
            let forbidden = access == 2 && entry & self.forbids != 0;
            if entry & self.needs[access] != self.needs[access] || forbidden {
                return None;
            }
            let leaf = level == 0 || entry & 1 << 7 != 0;
            let marks = self.marks[0] | if leaf && access == 1 { self.marks[1] } else { 0 };
            if !leaf {
                assert_eq!(entry & marks, marks, "hardware would have to write to a table's entry");
            }
            cell.fetch_or(marks.to_le(), Ordering::AcqRel);
            let frame = entry & 0x000f_ffff_ffff_f000;
            if leaf {
                let within = (1 << shift) - 1;
                return Some(frame & !within | gpa & within);
            }
            table = frame;
        }
        None
    }
}

fn walks<K: Kind>(hardware: &Hardware) {
    on_machine(|m, cpu| {
        let before = m.frames().counts();
        let table = Radix::<Entries<K>>::new(cpu, m).unwrap();
        let pointer = (hardware.pointer)(table.root());
        let read = |gpa: u64, access| hardware.access(m, cpu, pointer, gpa, access);
        // A page, a block, a gigabyte; the last below and the first above 4 GiB, and the last page that there can be.
        let all = [
            (0x5, 0x1_2345, Order::PAGE, Prot::all()),
            (0x4_0000, 0x8_0000, Order::GIB, Prot::READ | Prot::EXEC),
            (0xf_fe00, 0x200, Order::MIB2, Prot::READ | Prot::WRITE),
            (0x10_0000, 0x3_0000, Order::PAGE, Prot::READ),
            ((1 << 36) - 1, 0x7, Order::PAGE, Prot::all()),
        ];
        for (gfn, pfn, order, prot) in all {
            let leaf = Leaf { pfn: Pfn(pfn), prot, rc: Rc::empty() };
            table.map(m, &m.epoch().enter(cpu), gfn, order, leaf).unwrap();
        }
        for (gfn, pfn, order, prot) in all {
            for within in [0, 0xabc, order.bytes() - 1] {
                let (gpa, hpa) = ((gfn << 12) + within, (pfn << 12) + within);
                let allowed = [Prot::READ, Prot::WRITE, Prot::EXEC].map(|one| prot.contains(one));
                let found = [0, 1, 2].map(|access| read(gpa, access));
                assert_eq!(found, allowed.map(|allowed| allowed.then_some(hpa)), "{gpa:#x}");
            }
            let guard = m.epoch().enter(cpu);
            let Pte::Leaf(leaf) = table.walk(m, &guard, gfn).unwrap().pte else {
                panic!("{gfn:#x} is no leaf any more")
            };
            let mut noted = Rc::REFERENCED;
            noted.set(Rc::CHANGED, prot.contains(Prot::WRITE));
            let noted = if hardware.marks[0] == 0 { Rc::empty() } else { noted };
            assert_eq!(leaf, Leaf { pfn: Pfn(pfn), prot, rc: noted }, "what hardware sets is what we read");
        }
        assert_eq!(read(0x6000, 0), None);
        // Write-protected: loads go on, and the mark went along.
        table.protect(m, &m.epoch().enter(cpu), 0, 1 << 36, Rc::CHANGED, |_, _, _| {});
        assert_eq!((read(0x5000, 0), read(0x5000, 1), read(0xffe0_0000, 1)), (Some(0x1234_5000), None, None));
        let guard = m.epoch().enter(cpu);
        let Pte::Leaf(leaf) = table.walk(m, &guard, 0x5).unwrap().pte else { panic!("the leaf went with its right") };
        assert!(!leaf.rc.contains(Rc::CHANGED));
        drop(guard);
        // What only stores cannot be given: nothing at all is.
        let odd = Leaf { pfn: Pfn(9), prot: Prot::WRITE, rc: Rc::empty() };
        table.map(m, &m.epoch().enter(cpu), 0x6, Order::PAGE, odd).unwrap();
        assert_eq!([0, 1, 2].map(|access| read(0x6000, access)), [None; 3]);
        table.destroy(cpu, m, |_, _, _| {});
        assert_eq!(broken(m), Vec::<String>::new());
        assert_eq!(m.frames().counts(), before);
    });
}

#[test]
fn hardware_finds_in_x86_tables_what_was_put_there() {
    walks::<EptMarks>(&EPT);
    walks::<EptTrap>(&EPT_TRAP);
    walks::<Npt>(&NPT);
}
