//! The build machine's own processor, on what operations do to flags.
#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "asks the processor")]

use core::arch::asm;

use super::super::{Alu, Registers};
use super::Numbers;
use crate::bus::Width;

/// What of the flags an operation sets. AF is undefined after logical ones.
const SET: u64 = 0x8c5;
const ADJUST: u64 = 1 << 4;

macro_rules! on_processor {
    ($a:ident, $b:ident, $carry:ident, $reg:literal, $($alu:pat => $op:literal),*) => {
        |alu: Alu| {
            let (mut result, flags): (u64, u64);
            result = $a;
            match alu {
                $($alu => {
                    // SAFETY: arithmetic on two registers, and what the stack gets it gives back. BT sets the carry alone.
                    unsafe {
                        asm!("bt {c}, 0", concat!($op, " {r:", $reg, "}, {b:", $reg, "}"), "pushfq", "pop {f}",
                            r = inout(reg) result, b = in(reg) $b, c = in(reg) $carry, f = out(reg) flags);
                    }
                })*
            }
            (result, flags)
        }
    };
}

#[rustfmt::skip]
macro_rules! each_alu {
    ($a:ident, $b:ident, $c:ident, $reg:literal) => {
        on_processor!($a, $b, $c, $reg, Alu::Add => "add", Alu::Or => "or", Alu::Adc => "adc", Alu::Sbb => "sbb",
            Alu::And => "and", Alu::Sub => "sub", Alu::Xor => "xor", Alu::Cmp => "cmp", Alu::Test => "test")
    };
}

const ALL: [Alu; 9] = [Alu::Add, Alu::Or, Alu::Adc, Alu::Sbb, Alu::And, Alu::Sub, Alu::Xor, Alu::Cmp, Alu::Test];

#[test]
fn flags_are_the_processors() {
    let mut numbers = Numbers(3);
    for _ in 0..20_000 {
        let edges = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, u64::MAX, 1 << 63];
        let mut operand = || {
            let choice = [numbers.of(&edges), numbers.next() << 31 ^ numbers.next()];
            numbers.of(&choice)
        };
        let (a, b) = (operand(), operand());
        let carry = numbers.next() & 1;
        for alu in ALL {
            let stored = !matches!(alu, Alu::Cmp | Alu::Test);
            let defined =
                if matches!(alu, Alu::Add | Alu::Adc | Alu::Sub | Alu::Sbb | Alu::Cmp) { SET | ADJUST } else { SET };
            for (width, (result, flags)) in [
                (Width::Word, each_alu!(a, b, carry, "x")(alu)),
                (Width::Double, each_alu!(a, b, carry, "e")(alu)),
                (Width::Quad, each_alu!(a, b, carry, "r")(alu)),
            ] {
                let mut r = Registers { flags: carry | 0x202, ..Registers::default() };
                let ours = r.alu(alu, a, b, width);
                let say = format!("{alu:?} {width:?} {a:#x} {b:#x} {carry}");
                assert_eq!(r.flags & defined, flags & defined, "{say}");
                assert_eq!(r.flags & !0x8d5, 0x202, "{say}: others stay");
                assert!(!stored || ours == result & width.mask(), "{say}");
            }
        }
    }
}
