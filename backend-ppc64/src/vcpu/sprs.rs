//! Registers that the nested interface does not switch, and that the guest may therefore change under our feet: saved
//! when a vCPU leaves a CPU, loaded when it comes to one. Trivet itself uses none of them.
#![expect(unsafe_code, reason = "special-purpose registers and the vector state routines")]

core::arch::global_asm!(include_str!("state.S"), options(raw));

unsafe extern "C" {
    fn __trivet_state_switch_save(area: *mut VectorState);
    fn __trivet_state_switch_load(area: *const VectorState);
}

/// Floating-point and vector registers, as `state.S` lays them out.
#[repr(C, align(16))]
#[derive(Clone)]
pub struct VectorState {
    vsr: [[u64; 2]; 64],
    fpscr: [u64; 2],
    vscr: [u64; 2],
    vrsave: [u64; 2],
}

/// Reads one special-purpose register.
macro_rules! mfspr {
    ($n:literal) => {{
        let value: u64;
        // SAFETY: reading this register has no effect on the hypervisor's own state.
        unsafe { core::arch::asm!(concat!("mfspr {0}, ", $n), out(reg) value, options(nomem, nostack)) };
        value
    }};
}
pub(crate) use mfspr;

/// Writes one special-purpose register.
macro_rules! mtspr {
    ($n:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: none of the registers named with it has an effect on the hypervisor's own code, which runs in real mode.
        unsafe { core::arch::asm!(concat!("mtspr ", $n, ", {0}"), in(reg) value, options(nomem, nostack)) };
    }};
}
pub(crate) use mtspr;

/// Declares the switched registers once: field, number for reading, number for writing, reset value.
macro_rules! switched {
    ($($(#[$doc:meta])* $field:ident: $read:literal, $write:literal, $reset:expr;)*) => {
        /// The switched special-purpose registers.
        #[derive(Clone)]
        struct Sprs { $($(#[$doc])* $field: u64,)* }
        impl Sprs {
            const RESET: Self = Self { $($field: $reset,)* };
            fn save(&mut self) { $(self.$field = mfspr!($read);)* }
            fn load(&self) { $(mtspr!($write, self.$field);)* }
        }
    };
}

switched! {
    /// Data address of the guest's latest storage interrupt.
    dar: 19, 19, 0;
    /// Its cause.
    dsisr: 18, 18, 0;
    /// Target address.
    tar: 815, 815, 0;
    /// Data stream control.
    dscr: 17, 17, 0;
    /// Authority mask.
    amr: 29, 29, 0;
    /// Instruction authority mask.
    iamr: 61, 61, 0;
    /// User authority mask override.
    uamor: 157, 157, 0;
    /// Facilities that the guest's kernel grants its user space.
    fscr: 153, 153, 0;
    /// Run latch.
    ctrl: 136, 152, 1;
    /// Event-based branches.
    bescr: 806, 806, 0;
    /// Their handler.
    ebbhr: 804, 804, 0;
    /// Their return address.
    ebbrr: 805, 805, 0;
    /// Performance monitor control; resets to "counters frozen".
    mmcr0: 795, 795, 0x8000_0000;
    /// See `mmcr0`.
    mmcr1: 798, 798, 0;
    /// See `mmcr0`.
    mmcr2: 785, 785, 0;
    /// See `mmcr0`.
    mmcra: 786, 786, 0;
    /// Performance counters.
    pmc1: 787, 787, 0;
    /// See `pmc1`.
    pmc2: 788, 788, 0;
    /// See `pmc1`.
    pmc3: 789, 789, 0;
    /// See `pmc1`.
    pmc4: 790, 790, 0;
    /// See `pmc1`.
    pmc5: 791, 791, 0;
    /// See `pmc1`.
    pmc6: 792, 792, 0;
    /// What the performance monitor sampled.
    sier: 784, 784, 0;
    /// See `sier`.
    siar: 796, 796, 0;
    /// See `sier`.
    sdar: 797, 797, 0;
    /// How long problem state may boost its priority.
    pspb: 159, 159, 0;
}

/// Processor version of POWER10, in the upper half of the version register.
const POWER10: u32 = 0x80;

/// True on processors that check hashes of return addresses (ISA 3.1B) and so have a key for them.
fn has_hash_key() -> bool {
    pvr() >> 16 == POWER10
}

/// All of it, for one vCPU.
#[derive(Clone)]
pub struct Unswitched {
    vector: VectorState,
    sprs: Sprs,
    /// The key of return-address hashes, where the processor has one.
    hash_key: u64,
}

impl Unswitched {
    /// The state after a reset.
    pub const RESET: Self = Self {
        vector: VectorState { vsr: [[0; 2]; 64], fpscr: [0; 2], vscr: [0; 2], vrsave: [0; 2] },
        sprs: Sprs::RESET,
        hash_key: 0,
    };

    /// Takes the registers of this CPU.
    pub fn save(&mut self) {
        self.sprs.save();
        if has_hash_key() {
            self.hash_key = mfspr!(468);
        }
        // SAFETY: the area has the layout and alignment that the routine writes.
        unsafe { __trivet_state_switch_save(&raw mut self.vector) };
    }

    /// Puts them onto this CPU.
    pub fn load(&self) {
        self.sprs.load();
        if has_hash_key() {
            mtspr!(468, self.hash_key);
        }
        // SAFETY: the area has the layout and alignment that the routine reads.
        unsafe { __trivet_state_switch_load(&raw const self.vector) };
    }
}

/// The timebase.
#[inline]
pub fn timebase() -> u64 {
    mfspr!(268)
}

/// The decrementer of this CPU, 32 bits.
pub fn decrementer() -> i32 {
    mfspr!(22) as u32 as i32
}

/// Sets it. Sign-extended, because the platform may have given this partition the large decrementer: with it
/// 0xffff_ffff is eight seconds ahead, not in the past.
pub fn set_decrementer(value: i32) {
    mtspr!(22, i64::from(value) as u64);
}

/// Processor version.
pub fn pvr() -> u32 {
    mfspr!(287) as u32
}

/// Tells the loaded guest why its data access failed, for the storage interrupt that it takes next.
pub fn set_data_fault(dar: u64, dsisr: u64) {
    mtspr!(19, dar);
    mtspr!(18, dsisr);
}

/// The loaded guest's authority mask: what its storage keys forbid.
pub fn authority_mask() -> u64 {
    mfspr!(29)
}

/// The hardware's number of the calling CPU.
pub fn this_thread() -> u32 {
    mfspr!(1023) as u32
}

/// The partition that is loaded (LPIDR).
pub fn partition() -> u64 {
    mfspr!(319)
}

/// Loads a partition: 0 is the hypervisor's own.
pub fn set_partition(partition: u64) {
    mtspr!(319, partition);
}

/// The machine state register.
pub fn machine_state() -> u64 {
    let state: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mfmsr {0}", out(reg) state, options(nomem, nostack)) };
    state
}
