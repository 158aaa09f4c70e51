//! Tests of the configuration's form and limits.

use super::{Backing, Config, Granule, Huge, MAGIC, ManifestError, OutOfMemory, Shared, Sum, Sums, VmConfig};
use crate::addr::{Gfn, GfnRange};
use crate::link::LinkMode;
use alloc::{vec, vec::Vec};
use proptest::prelude::{any, proptest};

fn vm(name: &str) -> VmConfig {
    VmConfig {
        name: name.into(),
        vcpus: 2,
        memory: 1 << 30,
        backing: Backing::Anon,
        huge: Huge::Always,
        granule: Granule::Page,
        shared: None,
        swap: true,
        out_of_memory: OutOfMemory::Stop,
        dirty_log: false,
        nested: false,
        kernel: "kernel-0".into(),
        initrd: Some("initrd-0".into()),
        cmdline: "quiet".into(),
    }
}

fn config(vms: Vec<VmConfig>) -> Config {
    Config { link: LinkMode::Split, vms }
}

/// One VM that `change` has spoilt.
fn spoilt(change: impl FnOnce(&mut VmConfig)) -> Result<(), ManifestError> {
    let mut vm = vm("a");
    change(&mut vm);
    config(vec![vm]).validate()
}

#[test]
fn what_is_encoded_comes_back() {
    let granule = Granule::Mib16;
    let other = VmConfig { swap: false, out_of_memory: OutOfMemory::Restart, dirty_log: true, granule, ..vm("b") };
    let config = config(vec![vm("a"), other]);
    assert_eq!(config.validate(), Ok(()));
    let bytes = config.encode().unwrap_or_default();
    assert_eq!(Config::decode(&bytes), Ok(config));
}

#[test]
fn names_are_unique_and_well_formed() {
    assert_eq!(config(vec![vm("a"), vm("a")]).validate(), Err(ManifestError::DuplicateName("a".into())));
    for bad in ["", "A", "-a", "1a", "a b", "ä", "a\n", "a234567890123456789012345678901x"] {
        assert_eq!(config(vec![vm(bad)]).validate(), Err(ManifestError::Name(bad.into())), "{bad:?}");
    }
    assert_eq!(config(vec![vm("a-1")]).validate(), Ok(()));
}

#[test]
fn counts_and_sizes_have_limits() {
    assert_eq!(config(vec![]).validate(), Err(ManifestError::NoVms));
    let many = (0..17u8).map(|i| vm(core::str::from_utf8(&[b'a' + i]).unwrap_or(""))).collect();
    assert_eq!(config(many).validate(), Err(ManifestError::TooManyVms(17)));
    for vcpus in [0, 33, u16::MAX] {
        assert_eq!(spoilt(|vm| vm.vcpus = vcpus), Err(ManifestError::Vcpus("a".into(), vcpus)));
    }
    for memory in [0, 62 << 20, (64 << 20) + 4096, (1 << 40) + (2 << 20), u64::MAX] {
        assert_eq!(spoilt(|vm| vm.memory = memory), Err(ManifestError::Memory("a".into(), memory)));
    }
    assert_eq!(spoilt(|vm| vm.cmdline = "x".repeat(1025)), Err(ManifestError::Cmdline("a".into())));
    assert_eq!(spoilt(|vm| vm.cmdline = "a\0b".into()), Err(ManifestError::Cmdline("a".into())));
}

#[test]
fn memory_with_a_granule_consists_of_runs_of_it() {
    let refused = Err(ManifestError::Granule("a".into()));
    let with = |granule, change: fn(&mut VmConfig)| {
        spoilt(|vm| {
            vm.granule = granule;
            change(vm);
        })
    };
    for granule in [Granule::Kib64, Granule::Mib16] {
        assert_eq!(with(granule, |_| {}), Ok(()));
        assert_eq!(with(granule, |vm| vm.backing = Backing::Tmpfs), refused);
        assert_eq!(with(granule, |vm| vm.backing = Backing::Named("b".into())), refused);
        assert_eq!(with(granule, |vm| vm.shared = Some(Shared { object: "w".into(), size: 16 << 20 })), refused);
    }
    assert_eq!(with(Granule::Kib64, |vm| vm.memory = 66 << 20), Ok(()));
    assert_eq!(with(Granule::Mib16, |vm| vm.memory = 66 << 20), refused);
    assert_eq!(with(Granule::Page, |vm| vm.backing = Backing::Tmpfs), Ok(()));
}

/// The operator's terminal does nothing that a bundle tells it to do.
#[test]
fn hostile_names_are_shown_and_not_obeyed() {
    let name = "a\x1b[2J\r\u{e9}\u{202e}\"".to_owned();
    let shown = [ManifestError::Name(name.clone()), ManifestError::Member("a".into(), name)].map(|e| e.to_string());
    assert!(shown.iter().all(|text| text.chars().all(|c| c == ' ' || c.is_ascii_graphic())), "{shown:?}");
    assert!(shown.iter().all(|text| text.contains(r#""a\x1b[2J\r\xc3\xa9\xe2\x80\xae\"""#)), "{shown:?}");
}

/// Without a hole, and with one from 3 to 4 GiB.
#[test]
fn the_shared_window_lies_behind_memory_and_hole() {
    let gib = 1 << 18;
    let window = |memory: u64, hole| {
        let shared = Some(Shared { object: "w".into(), size: 2 << 20 });
        VmConfig { memory, shared, ..vm("a") }.shared_window(hole)
    };
    let at = |start: u64| GfnRange::new(Gfn(start * gib), 512);
    let hole = GfnRange::new(Gfn(3 * gib), gib);
    for (mib, without, with) in [(64, 1, 1), (1024, 1, 1), (2048, 2, 2), (2050, 3, 4), (3072, 3, 4), (3074, 4, 5)] {
        assert_eq!(window(mib << 20, None), at(without), "{mib}");
        assert_eq!(window(mib << 20, hole), at(with), "{mib}");
    }
    let shared = Some(Shared { object: "w".into(), size: 2 << 30 });
    let large = VmConfig { memory: 2 << 30, shared, ..vm("a") };
    assert_eq!(large.shared_window(hole), GfnRange::new(Gfn(4 * gib), 2 * gib), "half of it would lie in the hole");
    assert_eq!(window(u64::MAX, None).map(|at| at.start()), Some(Gfn(1 << 52)));
    assert_eq!(vm("a").shared_window(hole), None);
}

#[test]
fn images_cannot_pose_as_the_configuration() {
    for bad in ["", "trivet.config", "trivet.sum", "a b", &"x".repeat(100)] {
        let want = Err(ManifestError::Member("a".into(), bad.into()));
        assert_eq!(spoilt(|vm| vm.kernel = bad.into()), want);
        assert_eq!(spoilt(|vm| vm.initrd = Some(bad.into())), want);
    }
}

#[test]
fn other_versions_and_damage_are_told_apart() {
    let bytes = config(vec![vm("a")]).encode().unwrap_or_default();
    assert_eq!(Config::decode(b"elf"), Err(ManifestError::NotTrivet));
    let mut other = bytes.clone();
    if let Some(version) = other.get_mut(MAGIC.len() - 1) {
        *version = 9;
    }
    assert_eq!(Config::decode(&other), Err(ManifestError::Version { found: 9, want: 4 }));
    for cut in MAGIC.len()..bytes.len() {
        let part = bytes.get(..cut).unwrap_or(&[]);
        assert_eq!(Config::decode(part), Err(ManifestError::Malformed(super::CONFIG_MEMBER)), "cut at {cut}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert_eq!(Config::decode(&longer), Err(ManifestError::Malformed(super::CONFIG_MEMBER)));
}

#[test]
fn sums_come_back_and_tell_members_apart() {
    let sums = Sums { members: vec![Sum::of("a", b"one"), Sum::of("b", b"")] };
    let bytes = sums.encode().unwrap_or_default();
    assert_eq!(Sums::decode(&bytes), Ok(sums));
    assert_ne!(Sum::of("a", b"one").xxh64, Sum::of("a", b"onf").xxh64);
    // XXH64 of nothing, from the specification of the algorithm: the form must not drift between versions.
    assert_eq!(Sum::of("b", b"").xxh64, 0xef46_db37_51d8_e999);
}

proptest! {
    /// R26: no bytes make the reader panic, and what it accepts and validates is within the limits.
    #[test]
    fn hostile_bytes_are_refused_or_valid(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(body);
        if let Ok(config) = Config::decode(&bytes) && config.validate().is_ok() {
            assert!((1..=super::MAX_VMS).contains(&config.vms.len()));
            assert!(config.vms.iter().all(|vm| vm.vcpus > 0 && vm.memory <= super::MAX_MEMORY));
        }
        let _: Result<Sums, ManifestError> = Sums::decode(&bytes);
    }
}
