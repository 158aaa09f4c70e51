use super::{Inventory, Line, MOST_CPUS, cpus};
use crate::host::fake::{Fake, longs, words};

const AT: u64 = 0x6000;

fn machine(low: u64, bundle: u64) -> Fake {
    let mut memory = Fake::default();
    let info = [words(&[0x336e_c578, 1, 0, 1]), longs(&[0x8000, 0, 0, 0x7000]), words(&[2, 0])];
    memory.put(AT, &info.concat());
    memory.put(0x7000, &[longs(&[0, low]), words(&[1, 0]), longs(&[0x10_0000, 0x700_0000]), words(&[1, 0])].concat());
    memory.put(0x8000, &longs(&[bundle, 0x2000, 0, 0]));
    memory
}

#[test]
fn a_machine_without_tables_has_one_cpu_and_the_usual_lines() {
    let found = Inventory::read(&machine(0x9_fc00, 0x60_0000), 0, AT, 3).unwrap();
    assert_eq!((found.cpus, found.bundle), (vec![3], Some(0x60_0000..0x60_2000)));
    assert_eq!(found.console, Line { input: 4, low: false, level: false });
    assert!(found.io_apics.is_empty() && found.power_off.is_none() && found.timer.is_none());
}

#[test]
fn cpus_start_in_memory_that_nobody_uses() {
    let page = |low, bundle| Inventory::read(&machine(low, bundle), 0, AT, 0).unwrap().start_page;
    assert_eq!(page(0x9_fc00, 0x60_0000), Some(0x8f), "below what a BIOS may have moved its data to");
    assert_eq!(page(0x4_0800, 0x60_0000), Some(0x3f));
    assert_eq!(page(0x9_fc00, 0x8_f800), Some(0x8e), "the bundle's first page is the last");
    assert_eq!(page(0x8000, 0x60_0000), None);
}

#[test]
fn each_cpu_is_there_once_and_the_boot_cpu_is_the_first() {
    assert_eq!(cpus(2, &[0, 1, 2, 3, 1, 0]), [2, 0, 1, 3]);
    let many: Vec<u32> = (0..1000).collect();
    assert_eq!(cpus(5, &many).len(), MOST_CPUS);
}
