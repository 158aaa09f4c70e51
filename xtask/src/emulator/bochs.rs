//! Bochs, for what QEMU does not emulate: Intel's VMX, and AMD's SVM a second time.
//!
//! It boots an ISO image that GRUB's tools make: the image by multiboot2, the bundle as its module. The console is a
//! socket, its clock counts instructions, and its exit status is always the same: the verdict is on the console. Each
//! run has a folder of its own, with Bochs's log in it; the folder goes with the run.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{Endianness, elf};

use super::{Launch, Started, spawn};
use crate::setup::Tool;
use crate::units::Size;
use crate::{process, workspace};

/// How long it may take to open the console.
const CONNECT: Duration = Duration::from_secs(60);
/// How many lines of the log are shown of a run that has failed.
const SHOWN: usize = 30;
/// Modules of GRUB that the image needs; with all of them it would be ten times as large.
const MODULES: &str = "multiboot2 normal serial terminal iso9660 biosdisk part_msdos part_gpt";
/// What GRUB is told. Its own messages, if anything is wrong, go where Trivet's go.
const GRUB: &str =
    "set timeout=0\nserial --unit=0 --speed=115200\nterminal_output serial\nmultiboot2 /boot/trivet.elf\n";

/// What running it takes.
pub fn tools() -> Vec<Tool> {
    vec![
        Tool::new("emulator", "bochs", "bochs"),
        Tool::new("screen of the emulator", &screen(), "bochs-term"),
        Tool::new("firmware of the emulator", "/usr/share/bochs/BIOS-bochs-latest", "bochsbios"),
        Tool::new("video firmware of the emulator", "/usr/share/bochs/VGABIOS-lgpl-latest", "vgabios"),
        Tool::new("makes boot images", "grub-mkrescue", "grub-common"),
        Tool::new("boot loader", "/usr/lib/grub/i386-pc/multiboot2.mod", "grub-pc-bin"),
        Tool::new("writes boot images", "xorriso", "xorriso"),
        Tool::new("fills boot images", "mformat", "mtools"),
    ]
}

/// Of the screens that Bochs can have, the one that listens on no port: it draws to standard output. In Debian's folder for
/// programs of this one's architecture.
fn screen() -> String {
    format!("/usr/lib/{}-linux-gnu/bochs/plugins/libbx_term_gui.so", std::env::consts::ARCH)
}

/// Starts it as a machine with this model of a processor.
pub fn start(launch: &Launch<'_>, model: &str, kernel: &Path) -> Result<Started> {
    let folder = Folder::new()?;
    folder.make_iso(kernel, launch.bundle)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot open a socket for the console")?;
    let port = listener.local_addr().context("a socket has an address")?.port();
    workspace::write_file(&folder.0.join("bochsrc"), settings(model, launch.memory, port).as_bytes())?;
    // Debian's is a debugger, which waits at its prompt.
    workspace::write_file(&folder.0.join("continue"), b"c\n")?;
    let mut command = process::outlived("bochs");
    command.current_dir(&folder.0).args(["-q", "-f", "bochsrc", "-rc", "continue"]).env("TERM", "dumb");
    let (mut child, command) = spawn(&mut command, Stdio::null(), Stdio::null())?;
    let console = match connected(&listener, &mut child) {
        Ok(console) => console,
        Err(why) => {
            let _killed = child.kill();
            // Of a wrong setting it speaks before there is a log.
            let said = child.wait_with_output().map(|out| out.stderr).unwrap_or_default();
            bail!("{why}\n{}{}", String::from_utf8_lossy(&said), folder.complaints());
        }
    };
    let output = console.try_clone().context("cannot double a socket")?;
    Ok(Started { child, command, input: Box::new(console), output: Box::new(output), bochs: Some(folder) })
}

/// The console, once Bochs has opened it.
fn connected(listener: &TcpListener, child: &mut Child) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + CONNECT;
    loop {
        match listener.accept() {
            Ok((console, _)) => {
                console.set_nonblocking(false)?;
                console.set_nodelay(true)?;
                return Ok(console);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("cannot accept the console"),
        }
        if let Some(status) = child.try_wait()? {
            bail!("Bochs ended at once ({status})");
        }
        if Instant::now() > deadline {
            bail!("Bochs did not open the console within {} s", CONNECT.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The settings: nobody looks at the screen ([`screen`]), and the sound goes nowhere (without a driver named it may stop the
/// program). A triple fault ends the run; so does "Shutdown" on port 0x8900, which the plugin `unmapped` watches.
fn settings(model: &str, memory: Size, port: u16) -> String {
    let megs = memory.0 >> 20;
    format!(
        "megs: {megs}\n\
         cpu: model={model}, count=1, ips=50000000, reset_on_triple_fault=0\n\
         romimage: file=$BXSHARE/BIOS-bochs-latest, options=fastboot\n\
         vgaromimage: file=$BXSHARE/VGABIOS-lgpl-latest\n\
         ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
         ata0-master: type=cdrom, path=boot.iso, status=inserted\n\
         boot: cdrom\n\
         display_library: term\n\
         sound: driver=dummy, waveoutdrv=dummy\n\
         com1: enabled=1, mode=socket-client, dev=127.0.0.1:{port}\n\
         log: log\n\
         panic: action=fatal\n\
         error: action=report\n\
         info: action=report\n\
         clock: sync=none, time0=utc\n\
         plugin_ctrl: unmapped=1, biosdev=1, speaker=1, extfpuirq=1, parallel=0, serial=1\n"
    )
}

/// What one run needs and leaves behind. It is removed with this value.
pub struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-bochs-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = Self(workspace::target_dir().join("run").join(name));
        workspace::make_dir(&folder.0)?;
        Ok(folder)
    }

    /// Makes the image that is booted.
    fn make_iso(&self, kernel: &Path, bundle: Option<&Path>) -> Result<()> {
        let boot = self.0.join("iso/boot");
        let mut grub = GRUB.to_owned();
        let bytes = std::fs::read(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
        workspace::write_file(&boot.join("trivet.elf"), &loaded(bytes)?)?;
        if let Some(bundle) = bundle {
            std::fs::hard_link(bundle, boot.join("bundle.tar"))
                .or_else(|_| std::fs::copy(bundle, boot.join("bundle.tar")).map(drop))
                .with_context(|| format!("cannot copy {}", bundle.display()))?;
            grub += "module2 /boot/bundle.tar\n";
        }
        grub += "boot\n";
        workspace::write_file(&boot.join("grub/grub.cfg"), grub.as_bytes())?;
        let mut make = Command::new("grub-mkrescue");
        make.current_dir(&self.0).args(["-o", "boot.iso", "--directory=/usr/lib/grub/i386-pc"]);
        make.args([&format!("--install-modules={MODULES}"), "--locales=", "--themes=", "--fonts=", "iso"]);
        process::output(&mut make).map(drop)
    }

    fn log(&self) -> String {
        let bytes = std::fs::read(self.0.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of the log.
    pub fn complaints(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default().join("\n")
    }

    /// How many instructions the machine has carried out, or could have while it was halted.
    pub fn ticks(&self) -> Option<u64> {
        ticks(&self.log())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing is lost if the build folder keeps it.
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

/// The time of the last line of a log, which begins with it: `00056000000i[CPU0  ] ...`.
fn ticks(log: &str) -> Option<u64> {
    let number = |line: &str| line.get(..line.find(|c: char| !c.is_ascii_digit())?)?.parse().ok();
    log.lines().rev().find_map(number)
}

/// An ELF program without what is not loaded. GRUB would put the sections of the debugger into memory too.
fn loaded(mut program: Vec<u8>) -> Result<Vec<u8>> {
    let header = elf::FileHeader64::<Endianness>::parse(&*program).ok().context("the image is no ELF file")?;
    let endian = header.endian().ok().context("the image is of no known byte order")?;
    let segments = header.program_headers(endian, &*program).ok().context("the image has no segments")?;
    let ends = segments.iter().map(|s| s.p_offset(endian).saturating_add(s.p_filesz(endian)));
    let tables = header.e_phoff(endian).saturating_add(size_of_val(segments) as u64);
    let end = usize::try_from(ends.fold(tables, u64::max)).context("the image is spread out")?;
    program.truncate(end);
    // e_shoff, e_shnum and e_shstrndx.
    for range in [0x28..0x30, 0x3c..0x40] {
        program.get_mut(range).context("the image has no header")?.fill(0);
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::{loaded, ticks};
    use object::{Object as _, ObjectSegment as _};

    #[test]
    fn the_time_is_the_last_lines() {
        let log = "00000000000i[      ] BXSHARE not set\n00792198898i[CPU0  ] | EIP=0010006b\n(0).[792198898] odd\n";
        assert_eq!(ticks(log), Some(792_198_898));
        assert_eq!((ticks(""), ticks("no time\n")), (None, None));
    }

    #[test]
    fn what_is_not_loaded_is_cut_off_and_nothing_else() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let cut = loaded(own.clone()).unwrap();
        assert!(cut.len() < own.len());
        let (whole, part) = (object::File::parse(&*own).unwrap(), object::File::parse(&*cut).unwrap());
        assert_eq!(part.sections().count(), 0);
        assert_eq!(part.segments().count(), whole.segments().count());
        for (a, b) in whole.segments().zip(part.segments()) {
            // The header, which is changed, may lie in the first.
            let (a, b) = (a.data().unwrap(), b.data().unwrap());
            assert!(a.len() == b.len() && a.iter().skip(64).eq(b.iter().skip(64)));
        }
        assert!(loaded(b"no program".to_vec()).is_err());
    }
}
