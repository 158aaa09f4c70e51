//! CPUID as a guest sees it (SDM volume 2, "CPUID"; APM volume 3, appendix E).
//!
//! Of a leaf in [`RULES`] the bits `keep` are the processor's, the bits `set` are 1. Then [`answer`] fills in what is about
//! the vCPU itself. Not shown for now, though processors have it:
//! - XSAVE, and with it AVX and protection keys: the switch saves what FXSAVE does;
//! - performance counters, debug stores, monitor/mwait: nobody emulates them;
//! - speculation controls: their registers are not switched;
//! - VMX and SVM: no nesting.
//!
//! Machine checks are shown, because systems call a processor without them broken; there is no bank that one could come from
//! ([`super::msr`]).

use crate::guest::told;

/// EAX, EBX, ECX, EDX.
pub type Registers = [u32; 4];

/// Whom it is about.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The vCPU, whose number is its APIC ID.
    pub vcpu: u16,
    /// How many there are.
    pub vcpus: u16,
    /// Ticks of the time-stamp counter, and of the APIC timer, in a second.
    pub ticks_per_second: u64,
}

/// The last basic leaf: the rate of the time-stamp counter.
const LAST_BASIC: u32 = 0x15;
/// Leaves for guests of hypervisors.
const HYPERVISOR: u32 = 0x4000_0000;
/// The last of them: timing.
const LAST_HYPERVISOR: u32 = 0x4000_0010;
/// The last extended leaf: address sizes.
const LAST_EXTENDED: u32 = 0x8000_0008;

/// The signature of KVM's guest interface, of which the clock is offered. It is what makes Linux use the x2APIC without
/// interrupt remapping, so that the end of an interrupt is one trapped register instead of an instruction to decode.
const SIGNATURE: [u32; 3] = [0x4b4d_564b, 0x564b_4d56, 0x0000_004d];

struct Rule {
    leaf: u32,
    keep: Registers,
    set: Registers,
}

const NONE: Registers = [0; 4];
const ALL: Registers = [u32::MAX; 4];

const fn bits<const N: usize>(list: [u32; N]) -> u32 {
    let (mut word, mut n) = (0, 0);
    while n < N {
        word |= 1 << list[n];
        n += 1;
    }
    word
}

/// Leaf 1, ECX: SSE3, PCLMULQDQ, SSSE3, CMPXCHG16B, PCID, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, RDRAND.
const L1_ECX: u32 = bits([0, 1, 9, 13, 17, 19, 20, 22, 23, 25, 30]);
/// x2APIC, TSC deadline, running under a hypervisor.
const L1_ECX_SET: u32 = bits([21, 24, 31]);
/// Leaf 1, EDX: FPU, VME, DE, PSE, TSC, MSR, PAE, MCE, CX8, SEP, PGE, MCA, CMOV, PAT, PSE36, CLFSH, MMX, FXSR, SSE, SSE2, SS.
const L1_EDX: u32 = bits([0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26, 27]);
/// APIC, MTRR.
const L1_EDX_SET: u32 = bits([9, 12]);
/// Leaf 7, EBX: FSGSBASE, BMI1, SMEP, BMI2, ERMS, INVPCID, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, SHA.
const L7_EBX: u32 = bits([0, 3, 7, 8, 9, 10, 18, 19, 20, 23, 24, 29]);
/// UMIP; fast short REP MOV.
const L7_ECX: u32 = bits([2]);
const L7_EDX: u32 = bits([4]);
/// Leaf 0x8000_0001, ECX: LAHF, ABM, SSE4A, PREFETCHW.
const E1_ECX: u32 = bits([0, 5, 6, 8]);
/// EDX: SYSCALL, NX, MMXEXT, 1 GiB pages, RDTSCP, long mode; and what AMD repeats there of leaf 1.
const E1_EDX: u32 = bits([11, 20, 22, 26, 27, 29]) | L1_EDX & 0x0183_f3ff & !bits([11]);

/// The table.
const RULES: [Rule; 17] = [
    Rule { leaf: 0x0, keep: [0, !0, !0, !0], set: [LAST_BASIC, 0, 0, 0] },
    Rule { leaf: 0x1, keep: [!0, 0xff00, L1_ECX, L1_EDX], set: [0, 0, L1_ECX_SET, L1_EDX_SET] },
    Rule { leaf: 0x2, keep: ALL, set: NONE },
    // Caches: type, level, flags and sizes; not who shares them.
    Rule { leaf: 0x4, keep: [0x3ff, !0, !0, 0x7], set: NONE },
    // The APIC timer runs in every state of sleep.
    Rule { leaf: 0x6, keep: NONE, set: [1 << 2, 0, 0, 0] },
    Rule { leaf: 0x7, keep: [0, L7_EBX, L7_ECX, L7_EDX], set: NONE },
    Rule { leaf: HYPERVISOR, keep: NONE, set: [LAST_HYPERVISOR, SIGNATURE[0], SIGNATURE[1], SIGNATURE[2]] },
    Rule { leaf: HYPERVISOR + 1, keep: NONE, set: [told::FEATURES, 0, 0, 0] },
    Rule { leaf: 0x8000_0000, keep: [0, !0, !0, !0], set: [LAST_EXTENDED, 0, 0, 0] },
    Rule { leaf: 0x8000_0001, keep: [!0, 0, E1_ECX, E1_EDX], set: NONE },
    Rule { leaf: 0x8000_0002, keep: ALL, set: NONE },
    Rule { leaf: 0x8000_0003, keep: ALL, set: NONE },
    Rule { leaf: 0x8000_0004, keep: ALL, set: NONE },
    Rule { leaf: 0x8000_0005, keep: ALL, set: NONE },
    Rule { leaf: 0x8000_0006, keep: ALL, set: NONE },
    // The time-stamp counter is the machine's clock, so it is invariant.
    Rule { leaf: 0x8000_0007, keep: NONE, set: [0, 0, 0, 1 << 8] },
    Rule { leaf: LAST_EXTENDED, keep: [0xffff, 0, 0, 0], set: NONE },
];

/// The first subleaf only, where the processor has more.
const FIRST_ONLY: [u32; 1] = [0x7];

/// What CPUID answers to the guest; `host` is the instruction itself. Total: every leaf has an answer.
pub fn answer(host: impl Fn(u32, u32) -> Registers, leaf: u32, subleaf: u32, who: &Identity) -> Registers {
    let mut r = NONE;
    if let Some(rule) = RULES.iter().find(|rule| rule.leaf == leaf && (subleaf == 0 || !FIRST_ONLY.contains(&leaf))) {
        let found = host(leaf, subleaf);
        // The processor may not have the leaf, and may then answer with another's.
        let there = leaf & 0x7fff_ffff <= host(leaf & 0x8000_0000, 0)[0] & 0x7fff_ffff;
        r = core::array::from_fn(|n| rule.set[n] | if there { found[n] & rule.keep[n] } else { 0 });
    }
    let (id, count) = (u32::from(who.vcpu), u32::from(who.vcpus));
    match (leaf, subleaf) {
        (0x1, _) => {
            r[1] |= id << 24 | (count & 0xff) << 16;
            r[3] |= if count > 1 { 1 << 28 } else { 0 };
        }
        // One package of so many cores.
        (0x4, _) if r[0] != 0 => r[0] |= (count.saturating_sub(1) & 0x3f) << 26,
        (0xb, 0) => r = [0, 1, 1 << 8, id],
        (0xb, 1) => r = [width(count), count, 1 | 2 << 8, id],
        (0xb, _) => r = [0, 0, subleaf & 0xff, id],
        // Counter and crystal are the same. What does not fit is not told, and the guest measures it.
        (LAST_BASIC, _) => {
            let rate = u32::try_from(who.ticks_per_second).unwrap_or(0);
            r = if rate == 0 { NONE } else { [1, 1, rate, 0] };
        }
        (LAST_HYPERVISOR, _) => {
            let kilohertz = u32::try_from(who.ticks_per_second / 1000).unwrap_or(0);
            r = [kilohertz, kilohertz, 0, 0];
        }
        (LAST_EXTENDED, _) => r[2] = count.saturating_sub(1) & 0xff | width(count) << 12,
        _ => {}
    }
    r
}

/// How many bits of an APIC ID tell so many apart.
const fn width(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::{Identity, LAST_EXTENDED, RULES, Registers, answer, bits};
    use proptest::prelude::any;
    use proptest::{prop_assert_eq, proptest};

    const WHO: Identity = Identity { vcpu: 5, vcpus: 6, ticks_per_second: 2_400_000_000 };

    /// A processor that has everything.
    fn full(leaf: u32, _: u32) -> Registers {
        if leaf & 0x7fff_ffff == 0 { [leaf | 0x20, !0, !0, !0] } else { [!0; 4] }
    }

    fn show(leaf: u32, subleaf: u32) -> Registers {
        answer(full, leaf, subleaf, &WHO)
    }

    #[test]
    fn what_is_not_switched_or_emulated_is_not_shown() {
        let hidden_1_ecx = bits([2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15, 18, 26, 27, 28, 29]);
        let hidden_1_edx = bits([18, 21, 22, 29, 31]);
        assert_eq!((show(1, 0)[2] & hidden_1_ecx, show(1, 0)[3] & hidden_1_edx), (0, 0));
        let hidden_7_ebx = bits([1, 2, 4, 5, 11, 14, 16, 17, 21, 25, 26, 27, 28, 30, 31]);
        assert_eq!((show(7, 0)[1] & hidden_7_ebx, show(7, 0)[2], show(7, 0)[3]), (0, 4, 16));
        assert_eq!((show(7, 1), show(0xd, 0), show(0xd, 1), show(0xa, 0)), ([0; 4], [0; 4], [0; 4], [0; 4]));
        assert_eq!(show(0x8000_0001, 0)[2] & bits([1, 2, 3, 4, 9, 10, 11, 12, 13, 15, 22, 23, 24]), 0);
        assert_eq!(show(0x8000_0001, 0)[3] & bits([25]), 0, "EFER.FFXSR is refused");
        assert_eq!((show(0x8000_0001, 0)[1], show(0x8000_000a, 0), show(0x8000_001f, 0)), (0, [0; 4], [0; 4]));
        assert_eq!((show(LAST_EXTENDED, 0)[1], show(LAST_EXTENDED, 0)[0]), (0, 0xffff));
    }

    #[test]
    fn machine_checks_are_shown_where_the_processor_has_them() {
        let both = bits([7, 14]);
        assert_eq!((show(1, 0)[3] & both, show(0x8000_0001, 0)[3] & both), (both, both));
        let without = |leaf, _| if leaf & 0x7fff_ffff == 0 { [leaf | 0x20, 0, 0, 0] } else { [0; 4] };
        let [basic, extended] = [1, 0x8000_0001].map(|leaf| answer(without, leaf, 0, &WHO)[3]);
        assert_eq!((basic & both, extended & both), (0, 0));
    }

    #[test]
    fn a_vcpu_knows_its_number_and_its_neighbours() {
        assert_eq!(show(1, 0)[1], 0x0506_ff00);
        assert_eq!((show(0xb, 0), show(0xb, 1), show(0xb, 2)), ([0, 1, 0x100, 5], [3, 6, 0x201, 5], [0, 0, 2, 5]));
        assert_eq!(show(LAST_EXTENDED, 0)[2], 0x3005);
        assert_eq!(show(4, 1)[0], 5 << 26 | 0x3ff);
        let alone = Identity { vcpu: 0, vcpus: 1, ..WHO };
        assert_eq!(answer(full, 1, 0, &alone)[3] & 1 << 28, 0);
        assert_eq!(answer(full, 0xb, 1, &alone), [0, 1, 0x201, 0]);
    }

    #[test]
    fn the_rate_is_told_where_it_fits() {
        assert_eq!(show(0x15, 0), [1, 1, 2_400_000_000, 0]);
        assert_eq!(show(0x4000_0010, 0), [2_400_000, 2_400_000, 0, 0]);
        let fast = Identity { ticks_per_second: 5_000_000_000, ..WHO };
        assert_eq!((answer(full, 0x15, 0, &fast), answer(full, 0x4000_0010, 0, &fast)[0]), ([0; 4], 5_000_000));
    }

    #[test]
    fn what_the_backend_gives_itself_needs_no_processor() {
        let poor =
            |leaf: u32, _| if leaf == 0x8000_0000 { [0x8000_0001, 0, 0, 0] } else { [u32::from(leaf == 0), 7, 7, 7] };
        let show = |leaf| answer(poor, leaf, 0, &WHO);
        assert_eq!((show(0)[0], show(1)[2], show(6)[0]), (0x15, bits([0, 1, 21, 24, 31]), 4));
        // Without the leaf a processor answers anything.
        assert_eq!((show(7), show(4), show(LAST_EXTENDED)[0]), ([0; 4], [0; 4], 0));
        let name: Vec<u8> = show(0x4000_0000)[1..].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(&name, b"KVMKVMKVM\0\0\0");
        assert_eq!(show(0x4000_0001), [1 << 3 | 1 << 24, 0, 0, 0], "of that interface its clock is offered");
    }

    proptest! {
        /// A bit of the processor's gets through only by the table.
        #[test]
        fn no_other_bit_gets_through(leaf in any::<u32>(), near in 0..RULES.len(), subleaf in 0..4_u32, own in any::<bool>()) {
            let leaf = if own { RULES[near].leaf } else { leaf };
            let nothing = |at: u32, _| if at & 0x7fff_ffff == 0 { [at | 0x20, 0, 0, 0] } else { [0; 4] };
            let (with, without) = (show(leaf, subleaf), answer(nothing, leaf, subleaf, &WHO));
            let rule = RULES.iter().find(|rule| rule.leaf == leaf);
            for n in 0..4 {
                let keep = rule.map_or(0, |rule| rule.keep[n]);
                prop_assert_eq!((with[n] ^ without[n]) & !keep & !(63 << 26), 0);
            }
        }
    }
}
