use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::{Aml, aml};

use super::{AML, DSDT, FADT, MADT as MADT_AT, OEM, OEM_TABLE, ROOM, XSDT, write};
use crate::guest::blob::Blob;

const BASE: u64 = 0x1234_5000;

fn tables(vcpus: u16) -> Vec<u8> {
    let mut blob = Blob::new(0x100 + ROOM).unwrap();
    assert_eq!(write(&mut blob, 0x100, BASE, vcpus), Some(BASE));
    blob.into_bytes().split_off(0x100)
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

fn table(bytes: &[u8], at: usize) -> &[u8] {
    let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
    &bytes[at..at + len as usize]
}

/// The library's table, with our header around its contents: creator and sums differ.
fn contents(of: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    of.to_aml_bytes(&mut bytes);
    bytes.split_off(36)
}

fn port(address: u64) -> GAS {
    GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, address)
}

#[test]
fn the_way_from_the_root_leads_to_every_table_and_every_sum_is_right() {
    let bytes = tables(3);
    assert_eq!((&bytes[..8], bytes[15]), (&b"RSD PTR "[..], 2));
    assert_eq!((sum(&bytes[..20]), sum(&bytes[..36])), (0, 0));
    let word = |at: usize| (u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) - BASE) as usize;
    assert_eq!((word(24), word(XSDT + 36), word(XSDT + 44), word(FADT + 140)), (XSDT, FADT, MADT_AT, DSDT));
    for (at, name) in [(XSDT, b"XSDT"), (FADT, b"FACP"), (DSDT, b"DSDT"), (MADT_AT, b"APIC")] {
        let table = table(&bytes, at);
        assert_eq!((&table[..4], sum(table)), (&name[..], 0));
        assert_eq!((&table[10..16], &table[16..24]), (&OEM[..], &OEM_TABLE[..]));
    }
    assert_eq!(table(&bytes, XSDT).len(), 52);
}

#[test]
fn the_fixed_description_is_the_librarys() {
    let mut builder = FADTBuilder::new(OEM, OEM_TABLE, 1).dsdt_64(BASE + DSDT as u64);
    let flags = [
        Flags::Wbinvd,
        Flags::ProcC1,
        Flags::PwrButton,
        Flags::SlpButton,
        Flags::ResetRegSup,
        Flags::Headless,
        Flags::HwReducedAcpi,
    ];
    for flag in flags {
        builder = builder.flag(flag);
    }
    builder.century = 0x32;
    builder.iapc_boot_arch = 0b1100.into();
    builder.reset_reg = port(0x602);
    builder.reset_value = 1;
    builder.pm_tmr_blk = 0x608.into();
    builder.pm_tmr_len = 4;
    builder.x_pm_tmr_blk = GAS::new(AddressSpace::SystemIo, 32, 0, AccessSize::DwordAccess, 0x608);
    builder.sleep_control_reg = port(0x600);
    builder.sleep_status_reg = port(0x601);
    assert_eq!(table(&tables(1), FADT)[36..], contents(&builder.finalize()));
}

#[test]
fn processors_and_the_io_apic_are_the_librarys() {
    for vcpus in [1, 4, 32] {
        let mut madt = MADT::new(OEM, OEM_TABLE, 1, LocalInterruptController::Address(0xfee0_0000));
        for vcpu in 0..vcpus as u8 {
            madt.add_structure(ProcessorLocalApic::new(vcpu, vcpu, EnabledStatus::Enabled));
        }
        madt.add_structure(IoApic::new(0, 0xfec0_0000, 0));
        assert_eq!(table(&tables(vcpus), MADT_AT)[36..], contents(&madt));
    }
}

#[test]
fn the_console_the_clock_and_soft_off_are_the_librarys() {
    let off = [5_u8, 0, 0, 0];
    let s5 = aml::Package::new(vec![&off[0], &aml::ZERO, &aml::ZERO, &aml::ZERO]);
    let (io, line) = (aml::IO::new(0x3f8, 0x3f8, 1, 8), aml::Interrupt::new(true, true, false, false, 4));
    let (hid, resources) = (aml::EISAName::new("PNP0501"), aml::ResourceTemplate::new(vec![&io, &line]));
    let names = [
        aml::Name::new("_HID".into(), &hid),
        aml::Name::new("_UID".into(), &aml::ZERO),
        aml::Name::new("_CRS".into(), &resources),
    ];
    let com1 = aml::Device::new("COM1".into(), names.iter().map(|name| name as &dyn Aml).collect());
    let ports = aml::IO::new(0x70, 0x70, 1, 2);
    let (hid, resources) = (aml::EISAName::new("PNP0B00"), aml::ResourceTemplate::new(vec![&ports]));
    let names = [
        aml::Name::new("_HID".into(), &hid),
        aml::Name::new("_UID".into(), &aml::ZERO),
        aml::Name::new("_CRS".into(), &resources),
    ];
    let clock = aml::Device::new("RTC0".into(), names.iter().map(|name| name as &dyn Aml).collect());
    let mut expected = Vec::new();
    aml::Name::new("_S5_".into(), &s5).to_aml_bytes(&mut expected);
    aml::Scope::new("_SB_".into(), vec![&com1, &clock]).to_aml_bytes(&mut expected);
    assert_eq!(AML[..], expected);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut blob = Blob::new(ROOM).unwrap();
    assert_eq!(write(&mut blob, 0, BASE, 33), None);
    assert_eq!(write(&mut blob, 0, u64::MAX, 1), None);
    assert_eq!(write(&mut blob, 1, BASE, 32), None, "one byte too few");
    assert_eq!(write(&mut blob, 0, BASE, 32), Some(BASE));
}
