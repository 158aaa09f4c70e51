//! Tests of the bundle's reading side, against archives written here by hand.

use super::{Bundle, BundleError, What};
use crate::guest::manifest::{
    Backing, CONFIG_MEMBER, Config, Granule, Huge, ManifestError, OutOfMemory, SUM_MEMBER, Sum, Sums, VmConfig,
};
use crate::link::LinkMode;
use alloc::string::ToString;
use alloc::vec::Vec;
use alloc::{format, vec};
use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

type Member = (&'static str, Vec<u8>);

/// One ustar member: header, data, padding.
fn tar_member(name: &str, flag: u8, data: &[u8]) -> Vec<u8> {
    let mut block = vec![0_u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block.extend_from_slice(data);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

/// Sets a header's checksum.
fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..512].iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

fn tar(members: &[Member]) -> Vec<u8> {
    let mut bytes: Vec<u8> = members.iter().flat_map(|(name, data)| tar_member(name, b'0', data)).collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn vm(name: &str) -> VmConfig {
    VmConfig {
        name: name.into(),
        vcpus: 1,
        memory: 64 << 20,
        backing: Backing::Anon,
        huge: Huge::Always,
        granule: Granule::Page,
        shared: None,
        swap: true,
        out_of_memory: OutOfMemory::Stop,
        dirty_log: false,
        nested: false,
        kernel: "vmlinux".into(),
        initrd: Some("initrd".into()),
        cmdline: "quiet".into(),
    }
}

fn config() -> Config {
    Config { link: LinkMode::Plain, vms: vec![vm("a"), vm("b")] }
}

/// Members of a bundle with right sums for `config` and `images`.
fn members(config: &Config, images: &[Member]) -> Vec<Member> {
    let config = config.encode().unwrap();
    let mut sums = vec![Sum::of(CONFIG_MEMBER, &config)];
    sums.extend(images.iter().map(|(name, data)| Sum::of(name, data)));
    let sums = Sums { members: sums }.encode().unwrap();
    let mut all = vec![(CONFIG_MEMBER, config), (SUM_MEMBER, sums)];
    all.extend_from_slice(images);
    all
}

fn images() -> Vec<Member> {
    vec![("vmlinux", b"kernel bytes".repeat(60)), ("initrd", b"disk".to_vec())]
}

fn good() -> Vec<u8> {
    tar(&members(&config(), &images()))
}

fn refused(bytes: &[u8]) -> BundleError {
    Bundle::open(bytes).unwrap_err()
}

#[test]
fn a_good_bundle_opens_with_its_images() {
    let bytes = good();
    let bundle = Bundle::open(&bytes).unwrap();
    assert_eq!(bundle.config(), &config());
    let vm = &bundle.config().vms[1];
    assert_eq!(bundle.kernel(vm), Some(&*images()[0].1));
    assert_eq!(bundle.initrd(vm), Some(&b"disk"[..]));
    let padded = [&*bytes, &[0; 700]].concat();
    assert!(Bundle::open(&padded).is_ok(), "firmware may round the length up");
}

/// R26: whatever was cut off, the answer is an error or the very same bundle, never a panic.
#[test]
fn every_truncation_is_refused_or_harmless() {
    let bytes = good();
    assert_eq!(refused(&[]), BundleError::Missing);
    for len in 0..bytes.len() {
        assert!(Bundle::open(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
    let padded = [&*bytes, &[0; 9 * 512]].concat();
    for len in bytes.len()..padded.len() {
        assert_eq!(Bundle::open(&padded[..len]).map(|b| b.config().clone()), Ok(config()));
    }
}

/// A flipped bit, tried at every bit position and in every byte but a few, is found or touches nothing that is used.
#[test]
fn every_flipped_bit_is_refused_or_harmless() {
    let bytes = good();
    let want = Bundle::open(&bytes).unwrap();
    for at in (0..bytes.len() * 8).step_by(7) {
        let mut bad = bytes.clone();
        bad[at / 8] ^= 1 << (at % 8);
        if let Ok(bundle) = Bundle::open(&bad) {
            assert_eq!(bundle.config(), want.config(), "bit {at}");
            for vm in &want.config().vms {
                assert_eq!((bundle.kernel(vm), bundle.initrd(vm)), (want.kernel(vm), want.initrd(vm)), "bit {at}");
            }
        }
    }
}

#[test]
fn each_kind_of_nonsense_has_its_own_line() {
    let with = |config: &Config, images: &[Member]| refused(&tar(&members(config, images))).to_string();
    assert_eq!(with(&config(), &images()[..1]), "the bundle lacks the initrd of VM 0");
    assert_eq!(refused(&tar(&members(&config(), &images()[1..]))), BundleError::NoImage(0, What::Kernel));
    let twice = Config { vms: vec![vm("a"), vm("a")], ..config() };
    assert_eq!(with(&twice, &images()), "two VMs are named \"a\"");
    let empty = Config { vms: vec![], ..config() };
    assert_eq!(refused(&tar(&members(&empty, &images()))), BundleError::Manifest(ManifestError::NoVms));

    let mut order = members(&config(), &images());
    order.swap(0, 1);
    assert_eq!(refused(&tar(&order)), BundleError::Order(0, CONFIG_MEMBER));
    assert_eq!(refused(&tar(&order[..1])), BundleError::Order(0, CONFIG_MEMBER));
    assert_eq!(refused(&tar(&members(&config(), &images())[..1])), BundleError::Order(1, SUM_MEMBER));

    let mut extra = members(&config(), &images());
    extra.push(("more", vec![1]));
    assert_eq!(refused(&tar(&extra)), BundleError::Count { found: 4, listed: 3 });
    let mut swapped = members(&config(), &images());
    swapped.swap(2, 3);
    assert_eq!(refused(&tar(&swapped)), BundleError::Sum(1));
    let mut changed = members(&config(), &images());
    changed[3].1[0] ^= 1;
    assert_eq!(refused(&tar(&changed)).to_string(), "the bundle is damaged: member 2 is not what trivet.sum says");

    let linked = [tar_member("x", b'2', &[]), good()].concat();
    assert_eq!(refused(&linked), BundleError::NotAFile(0));
    assert!(matches!(refused(b"\x7fELF and no tar at all"), BundleError::Archive(_)));
    assert!(matches!(refused(&[0; 2048]), BundleError::Order(0, CONFIG_MEMBER)), "an empty archive");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// R26: arbitrary headers with right checksums get past the archive's own guard and must do no harm behind it.
    #[test]
    fn hostile_headers_never_panic(
        blocks in proptest::collection::vec(proptest::collection::vec((0_usize..512, any::<u8>()), 0..24), 1..5),
    ) {
        let mut bytes = good();
        for (block, changes) in bytes.chunks_exact_mut(512).step_by(2).zip(&blocks) {
            for (at, byte) in changes {
                block[*at] = *byte;
            }
            seal(block);
        }
        let again = Bundle::open(&bytes).map(|bundle| bundle.config().clone());
        prop_assert_eq!(again.clone().unwrap_or_else(|_| config()), config());
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        prop_assert_eq!(Bundle::open(&bytes).is_ok(), false);
    }
}
