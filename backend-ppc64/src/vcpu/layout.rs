//! The two blocks of memory through which a nested guest is entered, version 2 of the nested HV interface.
//!
//! Offsets are ABI (Linux `hvcall.h`, QEMU `spapr_nested`); the assertions below hold them. Both blocks are in the
//! hypervisor's own byte order.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What `H_ENTER_NESTED` reads into and writes back from the guest's privileged state.
#[repr(C)]
#[derive(Clone, Default, FromBytes, Immutable, IntoBytes)]
pub struct HvGuestState {
    /// Version of this layout: [`VERSION`].
    pub version: u64,
    /// Partition of the guest, never 0.
    pub lpid: u32,
    /// Names the vCPU, for the platform's own translation caches.
    pub vcpu_token: u32,
    /// Of it, the platform takes DPFD, ILE, AIL, LD and MER.
    pub lpcr: u64,
    /// Processor compatibility.
    pub pcr: u64,
    /// Authority mask override.
    pub amor: u64,
    /// Doorbell state.
    pub dpdes: u64,
    /// Facilities that the guest may use.
    pub hfscr: u64,
    /// Added to the timebase, signed.
    pub tb_offset: i64,
    /// Data watchpoint.
    pub dawr0: u64,
    /// Its control.
    pub dawrx0: u64,
    /// Instruction breakpoint.
    pub ciabr: u64,
    /// Timebase value at which the guest is left.
    pub hdec_expiry: u64,
    /// Processor utilisation.
    pub purr: u64,
    /// Scaled utilisation.
    pub spurr: u64,
    /// Instruction count.
    pub ic: u64,
    /// Virtual timebase.
    pub vtb: u64,
    /// Data address of a storage exit.
    pub hdar: u64,
    /// Its cause.
    pub hdsisr: u64,
    /// Instruction image of an emulation exit.
    pub heir: u64,
    /// Guest real address of a storage exit, for a radix guest.
    pub asdr: u64,
    /// Save/restore registers of the guest.
    pub srr0: u64,
    /// See `srr0`.
    pub srr1: u64,
    /// Software registers of the guest.
    pub sprg: [u64; 4],
    /// Process of the guest.
    pub pidr: u64,
    /// Come-from address.
    pub cfar: u64,
    /// Program priority.
    pub ppr: u64,
    /// Second data watchpoint (version 2).
    pub dawr1: u64,
    /// Its control.
    pub dawrx1: u64,
}

/// Version of [`HvGuestState`].
pub const VERSION: u64 = 2;

/// The guest's general state.
#[repr(C)]
#[derive(Clone, Default, FromBytes, Immutable, IntoBytes)]
pub struct Registers {
    /// General registers.
    pub gpr: [u64; 32],
    /// Next instruction.
    pub nip: u64,
    /// Machine state.
    pub msr: u64,
    /// Not used by the interface.
    pub orig_gpr3: u64,
    /// Count register.
    pub ctr: u64,
    /// Link register.
    pub link: u64,
    /// Fixed-point exceptions.
    pub xer: u64,
    /// Condition register.
    pub ccr: u64,
    /// Not used by the interface, like what follows.
    pub softe: u64,
    /// See `softe`.
    pub trap: u64,
    /// See `softe`.
    pub dar: u64,
    /// See `softe`.
    pub dsisr: u64,
    /// See `softe`.
    pub result: u64,
}

const _: () = {
    assert!(core::mem::size_of::<HvGuestState>() == 248);
    assert!(core::mem::offset_of!(HvGuestState, tb_offset) == 56);
    assert!(core::mem::offset_of!(HvGuestState, hdec_expiry) == 88);
    assert!(core::mem::offset_of!(HvGuestState, hdar) == 128);
    assert!(core::mem::offset_of!(HvGuestState, asdr) == 152);
    assert!(core::mem::offset_of!(HvGuestState, sprg) == 176);
    assert!(core::mem::offset_of!(HvGuestState, ppr) == 224);
    assert!(core::mem::size_of::<Registers>() == 352);
    assert!(core::mem::offset_of!(Registers, nip) == 256);
    assert!(core::mem::offset_of!(Registers, ccr) == 304);
};
