//! The default guest's first file system: busybox, an `/init` that says when the shell is ready, and modules of the kernel.

use super::cpio::{Archive, Kind};
use super::modules::Modules;

/// The line that `/init` prints just before the first shell.
pub const READY: &str = "trivet-guest: ready";

/// What runs as the guest's first process.
///
/// - The kernel's messages go to the console until the shell is ready, then only alarms do, so that they are not taken
///   for a command's output.
/// - When the shell ends, so does the guest.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /root /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev || mdev -s
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
hostname guest
cd /root
dmesg -n 2
echo 'trivet-guest: ready'
setsid cttyhack sh
poweroff -f
"#;

/// The archive around this busybox and these modules.
pub fn archive(busybox: &[u8], modules: &Modules) -> Vec<u8> {
    let mut archive = Archive::default();
    archive.add("bin", &Kind::Folder);
    archive.add("bin/busybox", &Kind::Program(busybox));
    archive.add("dev", &Kind::Folder);
    archive.add("dev/console", &Kind::Device(5, 1));
    archive.add("init", &Kind::Program(INIT.as_bytes()));
    if !modules.files.is_empty() {
        let dir = format!("lib/modules/{}", modules.release);
        for folder in ["lib", "lib/modules", &dir] {
            archive.add(folder, &Kind::Folder);
        }
        for (name, bytes) in &modules.files {
            archive.add(&format!("{dir}/{name}"), &Kind::File(bytes));
        }
        archive.add(&format!("{dir}/modules.dep"), &Kind::File(modules.dependencies().as_bytes()));
    }
    archive.finish()
}

#[cfg(test)]
mod tests {
    use super::{INIT, READY};

    #[test]
    fn init_prints_the_line_that_run_waits_for() {
        assert!(INIT.lines().any(|line| line == format!("echo '{READY}'")));
    }
}
