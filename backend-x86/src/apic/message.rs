//! Interrupt messages and whom they are for (SDM volume 3, chapter 11, "Local APIC", sections on the ICR and on determining
//! the destination; APM volume 2, chapter 16).

/// What a message does at its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Its vector becomes pending at every destination.
    Fixed,
    /// Its vector becomes pending at one of the destinations.
    Lowest,
    /// System management, reserved, or from a PIC: there is none of them, and nothing happens.
    None,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Start-up; the vector names a page.
    StartUp,
}

impl Delivery {
    /// From bits 10:8 of the interrupt command register, or of an I/O APIC's redirection entry.
    #[must_use]
    pub const fn from_bits(command: u32) -> Self {
        match command >> 8 & 7 {
            0 => Self::Fixed,
            1 => Self::Lowest,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            _ => Self::None,
        }
    }
}

/// Whether the end of an interrupt matters to who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// It does not.
    Edge,
    /// The I/O APIC is told of it.
    Level,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it does.
    pub delivery: Delivery,
    /// With which vector.
    pub vector: u8,
    /// Whether its end matters.
    pub trigger: Trigger,
}

impl Message {
    /// The lowest vector that an interrupt can have; those below are for exceptions.
    pub const FIRST_VECTOR: u8 = 16;

    /// True if it is an interrupt with a vector that none can have.
    #[must_use]
    pub const fn is_illegal(self) -> bool {
        matches!(self.delivery, Delivery::Fixed | Delivery::Lowest) && self.vector < Self::FIRST_VECTOR
    }
}

/// How a destination is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// By APIC ID, 8 bits of it: from an xAPIC or the I/O APIC. 0xff is everybody.
    Physical8(u8),
    /// By APIC ID, 32 bits: from an x2APIC. 0xffff_ffff is everybody.
    Physical32(u32),
    /// By logical destination registers, 8 bits.
    Logical8(u8),
    /// By logical destination registers, 32 bits. 0xffff_ffff is everybody.
    Logical32(u32),
    /// The sender.
    Itself,
    /// Everybody.
    All,
    /// Everybody but the sender.
    Others,
}

/// How a local APIC can be reached, as senders see it: one word, read and written whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub u64);

impl Address {
    /// The logical destination register: as the x2APIC has it, or bits 31:24 of the xAPIC's.
    const LDR: u64 = 0xffff_ffff;
    /// The x2APIC's logical ID is meant.
    const X2APIC: u64 = 1 << 32;
    /// The xAPIC's cluster model (DFR = 0).
    const CLUSTER: u64 = 1 << 33;
    /// Not switched off in IA32_APIC_BASE.
    const ENABLED: u64 = 1 << 34;
    /// Not switched off in the spurious-interrupt vector register.
    const SOFTWARE_ENABLED: u64 = 1 << 35;

    /// Switched off in IA32_APIC_BASE: only INIT and start-up arrive.
    pub const OFF: Self = Self(0);

    /// Of an xAPIC; `ldr` and `dfr` as the registers have them.
    #[must_use]
    pub const fn xapic(ldr: u32, dfr: u32, svr: u32) -> Self {
        let model = if dfr >> 28 == 0 { Self::CLUSTER } else { 0 };
        Self((ldr >> 24) as u64 | model | Self::ENABLED | Self::software(svr))
    }

    /// Of an x2APIC.
    #[must_use]
    pub const fn x2apic(ldr: u32, svr: u32) -> Self {
        Self(ldr as u64 | Self::X2APIC | Self::ENABLED | Self::software(svr))
    }

    const fn software(svr: u32) -> u64 {
        if svr & 1 << 8 != 0 { Self::SOFTWARE_ENABLED } else { 0 }
    }

    /// Whether a message of this kind gets in.
    #[must_use]
    pub const fn accepts(self, delivery: Delivery) -> bool {
        match delivery {
            Delivery::Fixed | Delivery::Lowest => self.0 & Self::SOFTWARE_ENABLED != 0,
            Delivery::Nmi => self.0 & Self::ENABLED != 0,
            Delivery::Init | Delivery::StartUp => true,
            Delivery::None => false,
        }
    }

    /// Whether `to`, from vCPU `from`, names vCPU `number`, which is reached like this.
    #[must_use]
    pub fn is_named(self, number: u16, from: Option<u16>, to: Destination) -> bool {
        match to {
            Destination::Physical8(id) => id == u8::MAX || u16::from(id) == number,
            Destination::Physical32(id) => id == u32::MAX || id == u32::from(number),
            Destination::Logical8(id) => self.is_logical(id.into()),
            Destination::Logical32(u32::MAX) | Destination::All => true,
            Destination::Logical32(id) => self.is_logical(id),
            Destination::Itself => from == Some(number),
            Destination::Others => from != Some(number),
        }
    }

    const fn is_logical(self, id: u32) -> bool {
        let ldr = (self.0 & Self::LDR) as u32;
        if self.0 & Self::ENABLED == 0 {
            return false;
        }
        if self.0 & Self::X2APIC != 0 {
            return id >> 16 == ldr >> 16 && id & ldr & 0xffff != 0;
        }
        match (id, self.0 & Self::CLUSTER != 0) {
            (0x100.., _) => false,
            (0xff, _) => true,
            (_, true) => id >> 4 == ldr >> 4 && id & ldr & 15 != 0,
            (_, false) => id & ldr != 0,
        }
    }
}

/// The x2APIC's logical ID of a vCPU (SDM, "Logical Destination Mode in x2APIC Mode").
#[must_use]
pub const fn logical_id(number: u16) -> u32 {
    (number as u32 >> 4) << 16 | 1 << (number & 15)
}

#[cfg(test)]
mod tests {
    use super::{Address, Delivery, Destination, logical_id};

    const ON: u32 = 0x1ff;

    fn named(address: Address, number: u16, to: Destination) -> bool {
        address.is_named(number, Some(0), to)
    }

    #[test]
    fn physical_ids_are_numbers_and_all_ones_is_everybody() {
        let address = Address::xapic(0, u32::MAX, ON);
        assert!(named(address, 3, Destination::Physical8(3)) && named(address, 3, Destination::Physical8(0xff)));
        assert!(!named(address, 3, Destination::Physical8(4)));
        assert!(named(address, 3, Destination::Physical32(u32::MAX)));
        assert!(
            !named(address, 3, Destination::Physical32(0xff)) && !named(address, 3, Destination::Physical32(0x103))
        );
    }

    #[test]
    fn flat_names_bits_and_clusters_name_four() {
        let flat = Address::xapic(0x0400_0000, u32::MAX, ON);
        assert!(named(flat, 9, Destination::Logical8(0x06)) && !named(flat, 9, Destination::Logical8(0xfb)));
        let cluster = Address::xapic(0x2400_0000, 0x0fff_ffff, ON);
        assert!(named(cluster, 9, Destination::Logical8(0x2c)) && named(cluster, 9, Destination::Logical8(0xff)));
        assert!(!named(cluster, 9, Destination::Logical8(0x14)) && !named(cluster, 9, Destination::Logical8(0x2b)));
        assert!(!named(flat, 9, Destination::Logical32(0x104)), "an x2APIC's name for a cluster that is none here");
    }

    #[test]
    fn x2apic_names_sixteen_of_a_cluster() {
        assert_eq!((logical_id(0), logical_id(0x1f)), (1, 0x1_8000));
        let address = Address::x2apic(logical_id(0x12), ON);
        assert!(named(address, 0x12, Destination::Logical32(0x1_0006)));
        assert!(!named(address, 0x12, Destination::Logical32(0x1_0003)));
        assert!(!named(address, 0x12, Destination::Logical32(0x4)));
        assert!(named(address, 0x12, Destination::Logical32(u32::MAX)));
    }

    #[test]
    fn shorthands_know_the_sender() {
        let address = Address::xapic(0, u32::MAX, ON);
        let by = |from, to| [0, 1].map(|number| address.is_named(number, from, to));
        assert_eq!(by(Some(1), Destination::Itself), [false, true]);
        assert_eq!(by(Some(1), Destination::Others), [true, false]);
        assert_eq!(by(Some(1), Destination::All), [true, true]);
        assert_eq!(by(None, Destination::Itself), [false, false]);
    }

    #[test]
    fn what_is_switched_off_takes_no_interrupts() {
        let (off, soft) = (Address::OFF, Address::xapic(0, 0, 0xff));
        let all = [Delivery::Fixed, Delivery::Lowest, Delivery::Nmi, Delivery::Init, Delivery::StartUp, Delivery::None];
        assert_eq!(all.map(|d| off.accepts(d)), [false, false, false, true, true, false]);
        assert_eq!(all.map(|d| soft.accepts(d)), [false, false, true, true, true, false]);
        assert_eq!(all.map(|d| Address::x2apic(1, ON).accepts(d)), [true, true, true, true, true, false]);
    }
}
