//! The tmpfs objects of the manifest: those that it names, which VMs share, and those that a VM has for itself.
//!
//! An object lives for as long as a VM that uses it is built: the first makes it, the last to be taken apart frees it,
//! with what was written to it. The list's lock is a leaf, held to find an object and to count its users, never while
//! one is used.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::addr::PAGE_SHIFT;
use crate::epoch::Cpu;
use crate::guest::manifest::{Backing, MAX_NAME, VmConfig};
use crate::heap::Counted;
use crate::isa::Isa;
use crate::page::tmpfs::Tmpfs;
use crate::page::{Grow, Store};
use crate::sync::Mutex;

/// Where their pages go.
type Pages<I> = Arc<dyn Store<<I as Isa>::Machine>>;

/// The objects that VMs have in common.
pub struct Objects<I: Isa>(Mutex<Vec<Named<I>>>);

struct Named<I: Isa> {
    name: heapless::String<MAX_NAME>,
    object: Counted<Tmpfs<I>>,
    users: u32,
}

/// A VM's use of the objects that its configuration asks for.
#[must_use = "objects are given back through Objects::release"]
pub struct Uses<I: Isa> {
    /// What its RAM is made of, if not of anonymous memory.
    pub ram: Option<Counted<Tmpfs<I>>>,
    /// What its shared window shows.
    pub window: Option<Counted<Tmpfs<I>>>,
}

impl<I: Isa> Default for Objects<I> {
    /// None yet.
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<I: Isa> Objects<I> {
    /// Finds or makes what `config` asks for; pages of it go to `store` when memory is short, but not those of an object that
    /// a VM has for itself and that is not to be swapped. `None` if there is no heap for it.
    pub fn acquire(&self, cpu: &Cpu, m: &I::Machine, config: &VmConfig, store: &Pages<I>) -> Option<Uses<I>> {
        let mut uses = Uses { ram: None, window: None };
        let made = (|| {
            uses.ram = match &config.backing {
                Backing::Anon => None,
                Backing::Tmpfs => {
                    let store = config.swap.then(|| Arc::clone(store));
                    Some(Tmpfs::with(config.memory >> PAGE_SHIFT, Grow::Teams, store)?)
                }
                Backing::Named(name) => Some(self.named(name, config.memory, store)?),
            };
            if let Some(shared) = &config.shared {
                uses.window = Some(self.named(&shared.object, shared.size, store)?);
            }
            Some(())
        })();
        if made.is_none() {
            self.release(cpu, m, uses);
            return None;
        }
        Some(uses)
    }

    /// The VM does not use them any more: its memory has been taken apart.
    pub fn release(&self, cpu: &Cpu, m: &I::Machine, uses: Uses<I>) {
        for object in [uses.ram, uses.window].into_iter().flatten() {
            let last = {
                let mut all = self.0.lock();
                match all.iter().position(|known| Counted::ptr_eq(&known.object, &object)) {
                    // The VM's own.
                    None => true,
                    Some(n) => {
                        let users = all.get_mut(n).map_or(0, |known| {
                            known.users = known.users.saturating_sub(1);
                            known.users
                        });
                        if users == 0 {
                            all.swap_remove(n);
                        }
                        users == 0
                    }
                }
            };
            if last {
                let closed = Tmpfs::close(object, cpu, m);
                debug_assert!(closed.is_ok(), "an object is still mapped when its last user has gone");
            }
        }
    }

    fn named(&self, name: &str, bytes: u64, store: &Pages<I>) -> Option<Counted<Tmpfs<I>>> {
        let mut all = self.0.lock();
        if let Some(known) = all.iter_mut().find(|known| known.name == name) {
            known.users = known.users.saturating_add(1);
            return Some(Counted::clone(&known.object));
        }
        let name = heapless::String::try_from(name).ok()?;
        all.try_reserve(1).ok()?;
        let object = Tmpfs::with(bytes >> PAGE_SHIFT, Grow::Teams, Some(Arc::clone(store)))?;
        all.push(Named { name, object: Counted::clone(&object), users: 1 });
        Some(object)
    }
}
