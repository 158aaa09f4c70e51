//! Packs configuration and images into the archive that the firmware loads beside Trivet. Its form is described in
//! hv-core's `guest::manifest`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hv_core::guest::manifest::{CONFIG_MEMBER, Config, SUM_MEMBER, Sum, Sums};

use crate::workspace;

/// An image, and its name in the archive.
pub struct Image {
    /// The member's name.
    pub member: String,
    /// The file that is packed.
    pub file: PathBuf,
}

/// The archive's bytes. The configuration has been validated.
pub fn pack(config: &Config, images: &[Image]) -> Result<Vec<u8>> {
    let encoded = config.encode()?;
    let mut contents = Vec::new();
    for image in images {
        let bytes = std::fs::read(&image.file).with_context(|| format!("cannot read {}", image.file.display()))?;
        contents.push((image.member.as_str(), bytes));
    }
    let mut members = vec![Sum::of(CONFIG_MEMBER, &encoded)];
    members.extend(contents.iter().map(|(name, bytes)| Sum::of(name, bytes)));
    let sums = Sums { members }.encode()?;
    let mut archive = tar::Builder::new(Vec::new());
    add(&mut archive, CONFIG_MEMBER, &encoded)?;
    add(&mut archive, SUM_MEMBER, &sums)?;
    for (name, bytes) in &contents {
        add(&mut archive, name, bytes)?;
    }
    archive.into_inner().context("cannot finish the bundle")
}

fn add(archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(bytes.len().try_into()?);
    archive.append_data(&mut header, name, bytes).with_context(|| format!("cannot pack {name}"))
}

/// A file that is removed when the run is over.
pub struct Temporary(PathBuf);

impl Temporary {
    /// Writes `bytes` to a file of this process's own.
    pub fn write(name: &str, bytes: &[u8]) -> Result<Self> {
        let file = workspace::target_dir().join("run").join(format!("{}-{name}", std::process::id()));
        let temporary = Self(file);
        workspace::write_file(temporary.path(), bytes)?;
        Ok(temporary)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing is lost if the build folder keeps it.
        let _removed = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Image, Temporary, pack};
    use hv_core::guest::manifest::{Backing, Config, Granule, Huge, OutOfMemory, Sum, Sums, VmConfig};
    use hv_core::link::LinkMode;
    use std::io::Read as _;

    #[test]
    fn the_archive_holds_what_its_sums_say() {
        let image = Temporary::write("bundle-test", b"kernel bytes").unwrap();
        let vm = VmConfig {
            name: "a".into(),
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
            kernel: "k".into(),
            initrd: None,
            cmdline: String::new(),
        };
        let config = Config { link: LinkMode::Split, vms: vec![vm] };
        let bytes = pack(&config, &[Image { member: "k".into(), file: image.path().into() }]).unwrap();
        let mut members = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            members.push((entry.path().unwrap().display().to_string(), content));
        }
        let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["trivet.config", "trivet.sum", "k"]);
        assert_eq!(Config::decode(&members[0].1).unwrap(), config);
        let sums = Sums::decode(&members[1].1).unwrap();
        assert_eq!(sums.members, [Sum::of("trivet.config", &members[0].1), Sum::of("k", b"kernel bytes")]);
    }
}
