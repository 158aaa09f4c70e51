//! The virtual machine control block (AMD APM vol. 2, appendix B: table B-1 the control area, table B-2 the state save
//! area).
//!
//! One page for each vCPU. VMRUN reads both areas and writes the state, the exit and what of the control area says so;
//! the world switch owns it while the guest runs. Offsets are tested against the tables.

use core::mem::{offset_of, size_of};

use bitflags::bitflags;

bitflags! {
    /// Bytes 00Ch and 010h: what else ends the guest's run. The low half is the word at 00Ch.
    #[repr(transparent)]
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Intercepts: u64 {
        /// A physical interrupt.
        const INTR = 1 << 0;
        /// A physical NMI.
        const NMI = 1 << 1;
        /// A system management interrupt.
        const SMI = 1 << 2;
        /// INIT.
        const INIT = 1 << 3;
        /// The guest can take a virtual interrupt.
        const VINTR = 1 << 4;
        /// RDPMC.
        const RDPMC = 1 << 15;
        /// CPUID.
        const CPUID = 1 << 18;
        /// IRET.
        const IRET = 1 << 20;
        /// INVD.
        const INVD = 1 << 22;
        /// HLT.
        const HLT = 1 << 24;
        /// INVLPGA.
        const INVLPGA = 1 << 26;
        /// IN and OUT, where the permission map says so.
        const IOIO = 1 << 27;
        /// RDMSR and WRMSR, where the permission map says so.
        const MSR = 1 << 28;
        /// FERR.
        const FERR_FREEZE = 1 << 30;
        /// A shutdown: a triple fault.
        const SHUTDOWN = 1 << 31;
        /// VMRUN. VMRUN fails if this is clear (15.5.1).
        const VMRUN = 1 << 32;
        /// VMMCALL.
        const VMMCALL = 1 << 33;
        /// VMLOAD.
        const VMLOAD = 1 << 34;
        /// VMSAVE.
        const VMSAVE = 1 << 35;
        /// STGI.
        const STGI = 1 << 36;
        /// CLGI.
        const CLGI = 1 << 37;
        /// SKINIT.
        const SKINIT = 1 << 38;
        /// RDTSCP.
        const RDTSCP = 1 << 39;
        /// ICEBP.
        const ICEBP = 1 << 40;
        /// WBINVD.
        const WBINVD = 1 << 41;
        /// MONITOR.
        const MONITOR = 1 << 42;
        /// MWAIT.
        const MWAIT = 1 << 43;
        /// MWAIT with the monitor armed.
        const MWAIT_ARMED = 1 << 44;
        /// XSETBV.
        const XSETBV = 1 << 45;
    }
}

/// EFER of the guest: VMRUN fails if this is clear (15.5.1).
pub const EFER_SVME: u64 = 1 << 12;

/// Byte 05Ch, TLB_CONTROL: what VMRUN flushes.
pub mod tlb {
    /// Nothing.
    pub const NOTHING: u8 = 0;
    /// Everything of every ASID, whatever else there is.
    pub const ALL: u8 = 1;
    /// The guest's ASID ([`crate::features::Svm::FLUSH_BY_ASID`]).
    pub const ASID: u8 = 3;
}

bitflags! {
    /// Bytes 060h to 067h.
    #[repr(transparent)]
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct VirtualInterrupt: u64 {
        /// One is pending.
        const PENDING = 1 << 8;
        /// The guest's GIF, where there is one.
        const GIF = 1 << 9;
        /// It is delivered whatever the guest's TPR.
        const IGNORE_TPR = 1 << 20;
        /// EFLAGS.IF of the host holds physical interrupts back, not that of the guest.
        const MASKING = 1 << 24;
        /// The guest has a GIF of its own.
        const GIF_ENABLE = 1 << 25;
        /// V_INTR_PRIO.
        const PRIORITY = 15 << 16;
        /// V_INTR_VECTOR.
        const VECTOR = 0xff << 32;
        /// V_TPR, V_INTR_PRIO and V_INTR_VECTOR.
        const VALUES = 0xff_000f_00ff;
    }
}

impl VirtualInterrupt {
    /// V_INTR_PRIO.
    #[must_use]
    pub const fn priority(class: u8) -> Self {
        Self::from_bits_retain(((class & 15) as u64) << 16)
    }

    /// V_INTR_VECTOR.
    #[must_use]
    pub const fn vector(vector: u8) -> Self {
        Self::from_bits_retain((vector as u64) << 32)
    }
}

/// A segment register (B-2). `attributes` is the descriptor's byte 5 and the upper half of byte 6, side by side.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Type, S, DPL and P in 7:0; AVL, L, D and G in 11:8.
    pub attributes: u16,
    /// Limit in bytes.
    pub limit: u32,
    /// Base.
    pub base: u64,
}

/// The control area, 000h to 3FFh.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// 000h: reads of control registers (15:0) and writes (31:16) that are intercepted.
    pub control_registers: u32,
    /// 004h: of debug registers.
    pub debug_registers: u32,
    /// 008h: exceptions.
    pub exceptions: u32,
    /// 00Ch, in two halves: they lie on no boundary of eight bytes. See [`Control::intercept`].
    intercepts: [u32; 2],
    reserved_014: [u32; 10],
    /// 03Ch: pause filter threshold.
    pub pause_threshold: u16,
    /// 03Eh: pause filter count.
    pub pause_count: u16,
    /// 040h: physical address of the I/O permission map, 12 KiB.
    pub io_map: u64,
    /// 048h: physical address of the MSR permission map, 8 KiB.
    pub msr_map: u64,
    /// 050h: what is added to the TSC that a guest reads.
    pub tsc_offset: u64,
    /// 058h: the guest's ASID, never 0.
    pub asid: u32,
    /// 05Ch: see [`tlb`].
    pub tlb_control: u8,
    reserved_05d: [u8; 3],
    /// 060h.
    pub virtual_interrupt: VirtualInterrupt,
    /// 068h: bit 0, the guest is in an interrupt shadow; bit 1, its EFLAGS.IF.
    pub shadow: u64,
    /// 070h: see [`super::exits`].
    pub exit_code: u64,
    /// 078h.
    pub exit_info1: u64,
    /// 080h.
    pub exit_info2: u64,
    /// 088h: what was being delivered when the run ended, as [`Control::event_injection`] has it.
    pub exit_interrupt_info: u64,
    /// 090h: bit 0, nested paging.
    pub nested_control: u64,
    reserved_098: [u64; 2],
    /// 0A8h: what VMRUN delivers.
    pub event_injection: u64,
    /// 0B0h: see [`crate::stage2::nested_cr3`].
    pub nested_cr3: u64,
    /// 0B8h: LBR and VMLOAD virtualization.
    pub virtualization: u64,
    /// 0C0h: what of the block has not been changed since the last VMRUN; 31:0.
    pub clean: u64,
    /// 0C8h: the instruction after the one that was intercepted, where there is [`crate::features::Svm::NEXT_RIP`].
    pub next_rip: u64,
    /// 0D0h: how many bytes of the instruction were fetched, and they, where there are
    /// [`crate::features::Svm::DECODE_ASSISTS`].
    pub instruction: [u8; 16],
    reserved_0e0: [[u64; 10]; 10],
}

/// The state save area, 400h and on, without SEV-ES.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct State {
    /// ES, CS, SS, DS.
    pub es_cs_ss_ds: [Segment; 4],
    /// FS. Kept by VMLOAD and VMSAVE, not by VMRUN, as GS, LDTR and TR are.
    pub fs: Segment,
    /// GS.
    pub gs: Segment,
    /// GDTR: base and limit only.
    pub gdtr: Segment,
    /// LDTR.
    pub ldtr: Segment,
    /// IDTR: base and limit only.
    pub idtr: Segment,
    /// TR.
    pub tr: Segment,
    reserved_0a0: [u8; 32],
    reserved_0c0: [u8; 11],
    /// CB: the privilege level.
    pub cpl: u8,
    reserved_0cc: u32,
    /// D0.
    pub efer: u64,
    reserved_0d8: [u64; 14],
    /// 148.
    pub cr4: u64,
    /// 150.
    pub cr3: u64,
    /// 158.
    pub cr0: u64,
    /// 160.
    pub dr7: u64,
    /// 168.
    pub dr6: u64,
    /// 170.
    pub rflags: u64,
    /// 178.
    pub rip: u64,
    reserved_180: [u64; 11],
    /// 1D8.
    pub rsp: u64,
    reserved_1e0: [u64; 3],
    /// 1F8.
    pub rax: u64,
    /// 200. This one and those up to 238: VMLOAD and VMSAVE.
    pub star: u64,
    /// 208.
    pub lstar: u64,
    /// 210.
    pub cstar: u64,
    /// 218.
    pub sfmask: u64,
    /// 220.
    pub kernel_gs_base: u64,
    /// 228.
    pub sysenter_cs: u64,
    /// 230.
    pub sysenter_esp: u64,
    /// 238.
    pub sysenter_eip: u64,
    /// 240.
    pub cr2: u64,
    reserved_248: [u64; 4],
    /// 268: the guest's PAT, with nested paging.
    pub pat: u64,
    /// 270.
    pub debug_control: u64,
    reserved_278: [[u64; 16]; 19],
    reserved_bf8: u64,
}

/// A whole block. The default is one of zeros, with which making one begins: VMRUN refuses it.
#[repr(C, align(4096))]
#[derive(Clone, Debug, Default)]
pub struct Vmcb {
    /// 000h.
    pub control: Control,
    /// 400h.
    pub state: State,
}

const _: () = assert!(size_of::<Control>() == 0x400 && size_of::<Vmcb>() == 0x1000);
const _: () = assert!(offset_of!(Vmcb, state) == 0x400);

impl Control {
    /// What ends the guest's run.
    #[must_use]
    pub fn intercepts(&self) -> Intercepts {
        let [low, high] = self.intercepts;
        Intercepts::from_bits_retain(u64::from(high) << 32 | u64::from(low))
    }

    /// Has exactly these end the guest's run.
    pub fn intercept(&mut self, what: Intercepts) {
        self.intercepts = [what.bits() as u32, (what.bits() >> 32) as u32];
    }
}

#[cfg(test)]
#[path = "vmcb_tests.rs"]
mod tests;
