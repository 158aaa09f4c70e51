//! Turns arguments into a checked plan: everything that can be refused is refused before anything is built or booted.

use std::path::{Path, PathBuf};

use anyhow::Result;
use hv_core::guest::manifest::{Backing, Config, Granule, Huge, MAX_VCPUS, OutOfMemory, VmConfig};
use hv_core::link::LinkMode;

use super::kernel;
use crate::board::{Board, Machine};
use crate::bundle::{Image, pack};
use crate::error::refuse;
use crate::guests::{self, Guest};
use crate::image::{self, Profile, Variant};
use crate::manifest::{self, Source, Vm};
use crate::progress::step;
use crate::units::Size;
use crate::workspace;

/// Most memory a machine may have.
const MAX_MACHINE: Size = Size(1 << 40);
/// Memory of the default guest.
const DEFAULT_GUEST: u64 = 512 << 20;

/// What is asked for beside the board.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The manifest.
    pub guests: Option<PathBuf>,
    /// A kernel in place of the default one.
    pub kernel: Option<PathBuf>,
    /// A RAM disk in place of the default one.
    pub initrd: Option<PathBuf>,
    /// Physical CPUs.
    pub cpus: Option<u16>,
    /// Machine memory.
    pub memory: Option<Size>,
}

/// What will be booted.
pub struct Plan {
    /// Physical CPUs.
    pub cpus: u16,
    /// Machine memory.
    pub memory: Size,
    /// What Trivet is told; validated.
    pub config: Config,
    /// The images it names.
    pub images: Vec<Image>,
}

impl Plan {
    /// The VMs' names in their order.
    pub fn names(&self) -> Vec<String> {
        self.config.vms.iter().map(|vm| vm.name.clone()).collect()
    }

    /// Checks the wish and finds the images, fetching the default guest if it is used.
    pub fn new(board: &Board, machine: &Machine, wish: &Wish, link: LinkMode) -> Result<Self> {
        let (cpus, most) = (wish.cpus.unwrap_or(board.cpus(machine)), board.max_cpus(machine));
        if cpus == 0 || cpus > most {
            let whose = format!("machine {} of board {}", machine.name, board.name);
            return Err(refuse(format!("--cpus {cpus}: {whose} has 1 to {most} CPUs")));
        }
        let memory = wish.memory.unwrap_or(board.memory);
        let Size(step) = board.memory_step;
        let most = machine.max_memory.unwrap_or(MAX_MACHINE);
        if memory < Size(step) || memory > most || !memory.0.is_multiple_of(step) {
            let what = format!("--memory {memory}: multiples of {} up to {most} are possible", board.memory_step);
            return Err(refuse(what));
        }
        let mut vms = match &wish.guests {
            Some(file) => manifest::read(file)?,
            None => vec![default_vm(cpus)],
        };
        for vm in &mut vms {
            for (source, given) in [(&mut vm.kernel, &wish.kernel), (&mut vm.initrd, &wish.initrd)] {
                if let (Source::Default, Some(file)) = (&*source, given) {
                    *source = Source::File(file.clone());
                }
            }
        }
        let mut images = Images { board, machine, fetched: None, taken: Vec::new() };
        // The user's own files first: a wrong one is refused before anything is fetched.
        for vm in &mut vms {
            for source in [&vm.kernel, &vm.initrd] {
                if let Source::File(file) = source {
                    check_file(file)?;
                }
            }
            if let Source::File(file) = &mut vm.kernel {
                *file = kernel::bootable(file, &board.guest)?;
            }
            if let Source::Trivet(name) = &vm.kernel
                && Board::named(name)?.guest.architecture != board.guest.architecture
            {
                let what = format!("VM {:?}: board {name} is of another architecture than {}", vm.name, board.name);
                return Err(refuse(what));
            }
        }
        let vms = vms.into_iter().map(|vm| images.config(vm)).collect::<Result<Vec<_>>>()?;
        let config = Config { link, vms };
        config.validate().map_err(|error| refuse(error.to_string()))?;
        Ok(Self { cpus, memory, config, images: images.taken })
    }
}

fn default_vm(cpus: u16) -> Vm {
    Vm {
        name: "linux".to_owned(),
        vcpus: cpus.min(MAX_VCPUS),
        memory: DEFAULT_GUEST,
        backing: Backing::Anon,
        huge: Huge::Always,
        granule: Granule::Page,
        shared: None,
        swap: true,
        out_of_memory: OutOfMemory::Stop,
        dirty_log: false,
        nested: false,
        kernel: Source::Default,
        initrd: Source::Default,
        cmdline: String::new(),
    }
}

/// The bundle of a Trivet that is a guest itself: its board's default guest, whose console is all of that Trivet's.
fn inner_bundle(name: &str) -> Result<PathBuf> {
    let board = Board::named(name)?;
    let inner = Plan::new(&board, board.machine(None)?, &Wish::default(), LinkMode::Plain)?;
    let file = workspace::target_dir().join("inner").join(format!("{name}.tar"));
    step("packing the guest's guests", || workspace::write_file(&file, &pack(&inner.config, &inner.images)?))?;
    Ok(file)
}

/// The default guest's RAM disk with one of the programs of `tests/guests`.
fn disk_with(board: &Board, program: &str) -> Result<PathBuf> {
    let file = workspace::target_dir().join("inner").join(format!("{}-with-{program}.cpio", board.name));
    workspace::write_file(&file, &guests::initrd_with(board, program, &image::guest(board, program)?)?)?;
    Ok(file)
}

fn check_file(file: &Path) -> Result<()> {
    match std::fs::metadata(file) {
        Ok(data) if data.is_file() => Ok(()),
        Ok(_) => Err(refuse(format!("{} is no file", file.display()))),
        Err(error) => Err(refuse(format!("cannot read {}: {error}", file.display()))),
    }
}

/// The images that VMs use, each packed once.
struct Images<'a> {
    board: &'a Board,
    machine: &'a Machine,
    fetched: Option<Guest>,
    taken: Vec<Image>,
}

impl Images<'_> {
    fn config(&mut self, vm: Vm) -> Result<VmConfig> {
        let kernel = match &vm.kernel {
            Source::Trivet(name) => Some(image::build(&Board::named(name)?, Profile::Release, Variant::Guests)?),
            source => self.file(source, |guest| &guest.kernel)?,
        };
        let Some(kernel) = kernel else {
            return Err(refuse(format!("VM {:?} has no kernel", vm.name)));
        };
        let initrd = match &vm.initrd {
            Source::Trivet(name) => Some(inner_bundle(name)?),
            Source::With(name) => Some(disk_with(self.board, name)?),
            source => self.file(source, |guest| &guest.initrd)?,
        };
        let files = [Some(&kernel), initrd.as_ref()];
        let loaded: u64 = files.into_iter().flatten().filter_map(|file| Some(file.metadata().ok()?.len())).sum();
        // The RAM disk is unpacked beside itself, and the kernel has more than its file shows.
        if loaded > vm.memory / 2 {
            let what = format!("VM {:?}: its images of {loaded} bytes do not fit into {}", vm.name, Size(vm.memory));
            return Err(refuse(what));
        }
        let own = self.machine.guest_cmdline.as_deref();
        let words = [Some(&*self.board.guest.cmdline), own, Some(&vm.cmdline)];
        let cmdline = words.into_iter().flatten().filter(|words| !words.is_empty()).collect::<Vec<_>>().join(" ");
        Ok(VmConfig {
            name: vm.name,
            vcpus: vm.vcpus,
            memory: vm.memory,
            backing: vm.backing,
            huge: vm.huge,
            granule: vm.granule,
            shared: vm.shared,
            swap: vm.swap,
            out_of_memory: vm.out_of_memory,
            dirty_log: vm.dirty_log,
            nested: vm.nested,
            kernel: self.take(kernel, "kernel"),
            initrd: initrd.map(|file| self.take(file, "initrd")),
            cmdline: cmdline.trim().to_owned(),
        })
    }

    fn file(&mut self, source: &Source, default: impl Fn(&Guest) -> &PathBuf) -> Result<Option<PathBuf>> {
        match source {
            Source::None | Source::Trivet(_) | Source::With(_) => Ok(None),
            Source::File(file) => Ok(Some(file.clone())),
            Source::Default => {
                let guest = match self.fetched.take() {
                    Some(guest) => guest,
                    None => guests::default(self.board)?,
                };
                let file = default(&guest).clone();
                self.fetched = Some(guest);
                Ok(Some(file))
            }
        }
    }

    /// The member's name for `file`.
    fn take(&mut self, file: PathBuf, kind: &str) -> String {
        if let Some(image) = self.taken.iter().find(|image| image.file == file) {
            return image.member.clone();
        }
        let member = format!("{kind}-{}", self.taken.len());
        self.taken.push(Image { member: member.clone(), file });
        member
    }
}

#[cfg(test)]
mod tests {
    use super::{Plan, Wish};
    use crate::board::Board;
    use crate::error::Refused;
    use crate::units::Size;
    use hv_core::link::LinkMode;

    /// What is wrong is refused, with status 2, before anything is fetched.
    #[test]
    fn wrong_wishes_are_refused() {
        let board = Board::named("pseries").unwrap();
        let wish = Wish::default();
        for (wish, part) in [
            (Wish { cpus: Some(0), ..wish.clone() }, "1 to 8 CPUs"),
            (Wish { cpus: Some(9), ..wish.clone() }, "1 to 8 CPUs"),
            (Wish { memory: Some(Size(0)), ..wish.clone() }, "--memory"),
            (Wish { memory: Some(Size(300 << 20)), ..wish.clone() }, "multiples of 256 MiB"),
            (Wish { memory: Some(Size(1 << 50)), ..wish.clone() }, "--memory"),
            (Wish { kernel: Some("no/such".into()), ..wish.clone() }, "cannot read no/such"),
            (Wish { kernel: Some(std::env::current_exe().unwrap()), ..wish.clone() }, "another architecture"),
            (Wish { guests: Some("no/such.toml".into()), ..wish.clone() }, "cannot read no/such.toml"),
        ] {
            let error = Plan::new(&board, board.machine(None).unwrap(), &wish, LinkMode::Split).err().unwrap();
            assert!(error.is::<Refused>() && error.to_string().contains(part), "{error:#}");
        }
    }
}
