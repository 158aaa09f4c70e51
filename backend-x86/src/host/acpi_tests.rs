use super::{Acpi, IoApic, Line, PowerOff, Register, is_root};
use crate::host::fake::{Fake, longs, spoil, words};

const ROOT: u64 = 0xf_5ad0;
const RSDT: u64 = 0x1ffe_1000;
const XSDT: u64 = 0x1ffe_1800;
const MADT: u64 = 0x1ffe_2000;
const FADT: u64 = 0x1ffe_3000;
const DSDT: u64 = 0x1ffe_4000;

/// Makes the byte at `at` such that all of them add up to 0.
fn sum(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] = 0;
    bytes[at] = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
    bytes
}

fn table(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut table =
        [name.to_vec(), words(&[36 + body.len() as u32]), vec![1, 0], vec![b'T'; 26], body.to_vec()].concat();
    table[9] = 0;
    sum(table, 9)
}

fn madt() -> Vec<u8> {
    let entries: [&[u8]; 9] = [
        &[0, 8, 0, 0, 1, 0, 0, 0],
        &[0, 8, 1, 2, 1, 0, 0, 0],
        &[0, 8, 2, 4, 0, 0, 0, 0],
        &[9, 16, 0, 0, 0x34, 1, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0],
        &[9, 16, 0, 0, 0x35, 1, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0],
        &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
        &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
        &[2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0],
        &[2, 10, 0, 11, 11, 0, 0, 0, 0xf, 0],
    ];
    table(b"APIC", &[words(&[0xfee0_0000, 1]), entries.concat()].concat())
}

/// The fields that are read, at their places.
fn fadt(flags: u32, sleep: (u8, u64)) -> Vec<u8> {
    let mut body = vec![0; 268 - 36];
    let mut put = |at: usize, bytes: &[u8]| body[at - 36..at - 36 + bytes.len()].copy_from_slice(bytes);
    put(40, &words(&[DSDT as u32]));
    put(64, &words(&[0x604]));
    put(76, &words(&[0x608]));
    put(112, &words(&[flags]));
    put(140, &longs(&[DSDT]));
    put(244, &[sleep.0]);
    put(248, &longs(&[sleep.1]));
    table(b"FACP", &body)
}

/// Some AML, a mention of the name that is none, and the package: 5 and 4, and two that nobody uses.
fn dsdt(package: &[u8]) -> Vec<u8> {
    table(b"DSDT", &[b"\x10\x05ABCD_S5_....\x08_S5_".as_slice(), package].concat())
}

const PACKAGE: &[u8] = &[0x12, 0x08, 0x04, 0x0a, 5, 0x0a, 4, 0, 0];

fn machine(newer: bool) -> Fake {
    let mut memory = Fake::default();
    let mut root = [b"RSD PTR \0BOCHS ".as_slice(), &[if newer { 2 } else { 0 }]].concat();
    root.extend(words(&[RSDT as u32]));
    root = sum(root, 8);
    root.extend(words(&[36]));
    root.extend(longs(&[XSDT]));
    root.extend([0; 4]);
    memory.put(ROOT, &root);
    memory.put(RSDT, &table(b"RSDT", &words(&[FADT as u32, MADT as u32])));
    if newer {
        memory.put(XSDT, &table(b"XSDT", &longs(&[MADT, FADT])));
        memory.put(RSDT, &[]);
    }
    memory.put(MADT, &madt());
    memory.put(FADT, &fadt(0, (0, 0)));
    memory.put(DSDT, &dsdt(PACKAGE));
    memory
}

#[test]
fn the_tables_tell_of_cpus_interrupts_and_power() {
    for newer in [false, true] {
        let found = Acpi::read(&machine(newer), Some(ROOT)).unwrap();
        assert_eq!(found.cpus, [0, 2, 0x134], "two may not be used");
        assert_eq!(found.io_apics, [IoApic { base: 0xfec0_0000, first: 0 }]);
        assert_eq!(found.line(4), Line { input: 4, low: false, level: false });
        assert_eq!(found.line(0).input, 2);
        assert_eq!(found.line(9), Line { input: 9, low: false, level: true });
        assert_eq!(found.line(11), Line { input: 11, low: true, level: true });
        assert_eq!(found.timer, Some(0x608));
        assert_eq!(found.power_off, Some(PowerOff::Fixed { a: (0x604, 0x3400), b: None }));
    }
}

#[test]
fn the_root_is_searched_where_the_bios_has_it() {
    let found = Acpi::read(&machine(false), Some(ROOT));
    assert!(found.is_some());
    assert_eq!(Acpi::read(&machine(false), None), found);
    assert_eq!(Acpi::read(&machine(false), Some(0x1234)), found, "the loader was wrong");
    let mut extended = machine(false);
    let root = extended.block(ROOT).clone();
    extended.put(ROOT, &[]);
    assert_eq!(Acpi::read(&extended, None), None);
    extended.put(0x40e, &[0xc0, 0x9f]);
    extended.put(0x9_fc20, &root);
    assert_eq!(Acpi::read(&extended, None), found);
    assert!(!is_root(&extended, 0x9_fc21));
}

#[test]
fn a_machine_without_fixed_registers_sleeps_by_another() {
    let mut memory = machine(true);
    memory.put(FADT, &fadt(1 << 20, (0, 0xfea0_0000)));
    let off = |memory: &Fake| Acpi::read(memory, Some(ROOT)).unwrap().power_off;
    assert_eq!(off(&memory), Some(PowerOff::Reduced(Register::Memory(0xfea0_0000), 0x34)));
    memory.put(FADT, &fadt(1 << 20, (1, 0x4321)));
    assert_eq!(off(&memory), Some(PowerOff::Reduced(Register::Port(0x4321), 0x34)));
    memory.put(FADT, &fadt(1 << 20, (2, 0x4321)));
    assert_eq!(off(&memory), None, "a register of another kind");
}

#[test]
fn soft_off_is_read_however_aml_writes_it() {
    let off = |dsdt: Vec<u8>| {
        let mut memory = machine(false);
        memory.put(DSDT, &dsdt);
        Acpi::read(&memory, Some(ROOT)).unwrap().power_off
    };
    let fixed = |word| Some(PowerOff::Fixed { a: (0x604, word), b: None });
    assert_eq!(off(dsdt(&[0x12, 0x06, 0x04, 0, 0, 0, 0])), fixed(0x2000));
    assert_eq!(off(dsdt(&[0x12, 0x06, 0x04, 1, 1, 0, 0])), fixed(0x2400));
    assert_eq!(off(dsdt(&[0x12, 0x48, 0, 0x04, 0x0b, 7, 0, 0x0b, 7, 0])), fixed(0x3c00), "a length of two bytes");
    assert_eq!(off(dsdt(&[0x12, 0x0a, 0x02, 0x0c, 3, 0, 0, 0])), fixed(0x2c00), "one number only");
    assert_eq!(off(dsdt(&[0x13, 0x06, 0x04, 0, 0, 0, 0])), None, "no package");
    assert_eq!(off(table(b"DSDT", &[b"\x08\\_S5_".as_slice(), PACKAGE].concat())), fixed(0x3400));
    assert_eq!(off(table(b"DSDT", b"_S5_")), None);
}

#[test]
fn a_table_whose_bytes_do_not_add_up_is_not_there() {
    let mut memory = machine(false);
    memory.block(MADT)[50] ^= 1;
    let found = Acpi::read(&memory, Some(ROOT)).unwrap();
    assert!(found.cpus.is_empty() && found.power_off.is_some());
    memory.block(ROOT)[9] ^= 1;
    assert_eq!(Acpi::read(&memory, Some(ROOT)), None);
}

#[test]
fn an_entry_of_no_length_ends_the_table_sooner_or_later() {
    let mut memory = machine(false);
    memory.put(MADT, &table(b"APIC", &[0xee, 0, 0, 0, 0, 0, 0, 0, 0xee, 0, 0xee, 1, 9]));
    assert_eq!(Acpi::read(&memory, Some(ROOT)).unwrap().cpus, []);
}

/// Sums are made right again, or nothing behind them would ever be read.
#[test]
fn whatever_the_tables_say_reading_them_ends() {
    for newer in [false, true] {
        spoil(&machine(newer), |memory| {
            let mut memory = memory.clone();
            for start in memory.starts() {
                let block = memory.block(start);
                let (length, at) = if start == ROOT { (20, 8) } else { (block.len(), 9) };
                if at < length && length <= block.len() {
                    let mended = sum(block[..length].to_vec(), at);
                    block[..length].copy_from_slice(&mended);
                }
            }
            if let Some(found) = Acpi::read(&memory, Some(ROOT)) {
                let _ = found.line(4);
            }
        });
    }
}
