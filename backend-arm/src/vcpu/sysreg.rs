//! Names of system registers, as a trapped access reports them (DDI 0487, D24.2.40, ISS of EC 0x18).

/// Which way an access went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// MRS: the register goes to a general one.
    Read,
    /// MSR: a general register goes to it.
    Write,
}

/// A system register's name: op0, op1, CRn, CRm, op2 where the syndrome has them, so that no bit has to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SysReg(u32);

impl SysReg {
    /// ISS bits that are not the name: Rt (9:5) and the direction (0).
    const NAME: u32 = 0x003f_fc1e;

    /// The register with these numbers. Each is cut to the width that it has.
    #[must_use]
    pub const fn new(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> Self {
        Self((op0 & 3) << 20 | (op2 & 7) << 17 | (op1 & 7) << 14 | (crn & 15) << 10 | (crm & 15) << 1)
    }

    /// op0.
    #[must_use]
    pub const fn op0(self) -> u32 {
        self.0 >> 20 & 3
    }

    /// op1.
    #[must_use]
    pub const fn op1(self) -> u32 {
        self.0 >> 14 & 7
    }

    /// CRn.
    #[must_use]
    pub const fn crn(self) -> u32 {
        self.0 >> 10 & 15
    }

    /// CRm.
    #[must_use]
    pub const fn crm(self) -> u32 {
        self.0 >> 1 & 15
    }

    /// op2.
    #[must_use]
    pub const fn op2(self) -> u32 {
        self.0 >> 17 & 7
    }
}

/// One trapped access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SysRegAccess {
    /// The register.
    pub register: SysReg,
    /// The general register; 31 is XZR.
    pub rt: u8,
    /// Which way.
    pub direction: Direction,
}

impl SysRegAccess {
    /// The access with this instruction-specific syndrome.
    #[must_use]
    #[inline]
    pub const fn of(iss: u32) -> Self {
        Self {
            register: SysReg(iss & SysReg::NAME),
            rt: (iss >> 5 & 31) as u8,
            direction: if iss & 1 != 0 { Direction::Read } else { Direction::Write },
        }
    }

    /// True if it sends a message to other vCPUs, the one access that is frequent.
    #[must_use]
    #[inline]
    pub fn is_message(&self) -> bool {
        self.register == ICC_SGI1R_EL1 && self.direction == Direction::Write
    }
}

/// ICC_SGI1R_EL1: sends a software-generated interrupt of group 1.
pub const ICC_SGI1R_EL1: SysReg = SysReg::new(3, 0, 12, 11, 5);
/// ICC_ASGI1R_EL1: the same for the other security state's group 1.
pub const ICC_ASGI1R_EL1: SysReg = SysReg::new(3, 0, 12, 11, 6);
/// ICC_SGI0R_EL1: the same for group 0.
pub const ICC_SGI0R_EL1: SysReg = SysReg::new(3, 0, 12, 11, 7);
/// ICC_DIR_EL1: deactivates an interrupt.
pub const ICC_DIR_EL1: SysReg = SysReg::new(3, 0, 12, 11, 1);
/// ACTLR_EL1: auxiliary control.
pub const ACTLR_EL1: SysReg = SysReg::new(3, 0, 1, 0, 1);
/// MDRAR_EL1: where the debug ROM is.
pub const MDRAR_EL1: SysReg = SysReg::new(2, 0, 1, 0, 0);
/// OSLAR_EL1: takes and opens the OS lock.
pub const OSLAR_EL1: SysReg = SysReg::new(2, 0, 1, 0, 4);
/// OSLSR_EL1: the OS lock's state.
pub const OSLSR_EL1: SysReg = SysReg::new(2, 0, 1, 1, 4);
/// OSDLR_EL1: the double lock.
pub const OSDLR_EL1: SysReg = SysReg::new(2, 0, 1, 3, 4);
/// DBGPRCR_EL1: power control for a debugger.
pub const DBGPRCR_EL1: SysReg = SysReg::new(2, 0, 1, 4, 4);

/// True for a register of self-hosted debug: op0 is 2, and op1 is not that of trace units (1).
#[must_use]
pub const fn is_debug(register: SysReg) -> bool {
    register.op0() == 2 && register.op1() != 1
}

#[cfg(test)]
mod tests {
    use super::{Direction, ICC_SGI1R_EL1, SysReg, SysRegAccess};

    #[test]
    fn an_access_is_named_from_its_syndrome() {
        // mrs x5, ID_AA64PFR0_EL1 (3, 0, 0, 4, 0) and msr ICC_SGI1R_EL1, x0, as EC 0x18 reports them.
        let read = SysRegAccess::of(0x0030_00a9);
        assert_eq!(read.register, SysReg::new(3, 0, 0, 4, 0));
        assert_eq!((read.rt, read.direction), (5, Direction::Read));
        let write = SysRegAccess::of(0x003a_3016);
        assert_eq!(write.register, ICC_SGI1R_EL1);
        assert_eq!((write.rt, write.direction), (0, Direction::Write));
    }

    #[test]
    fn every_number_of_a_name_can_be_had_back() {
        let name = SysReg::new(2, 5, 11, 6, 3);
        assert_eq!((name.op0(), name.op1(), name.crn(), name.crm(), name.op2()), (2, 5, 11, 6, 3));
        assert_eq!(SysReg::new(3, 7, 15, 15, 7), SysReg::new(u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX));
    }
}
