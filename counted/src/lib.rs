//! A pointer that counts its handles, like `alloc::sync::Arc`, but made with an answer when the heap is empty: the value
//! comes back, and whoever wanted to share it can give back what it owns. Arc's own constructor that may fail is not stable,
//! drops the value, and `Box`'s is not stable either.
//!
//! This is the one place outside of backends and boards with unsafe code, because hv-core has none and memory runs out in a
//! hypervisor too. It has no weak handles, no unsized values, and nothing else that hv-core does not use.
//!
//! The count's orders are Arc's. A new handle is made from a handle, so counting up orders nothing. Counting down releases
//! what was done through the handle; who counts down to 0 acquires all of it before the value is dropped or taken out.
#![no_std]
#![expect(unsafe_code, reason = "a shared allocation with a count in it; hv-core, which needs one, has no unsafe code")]

extern crate alloc;
#[cfg(test)]
extern crate std;

use alloc::boxed::Box;
use core::alloc::Layout;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering, fence};

/// A value on the heap with several owners.
pub struct Counted<T> {
    at: NonNull<Inner<T>>,
    /// The last handle drops the value.
    owns: PhantomData<Inner<T>>,
}

struct Inner<T> {
    /// Handles. A handle takes memory or, if it was forgotten, the time to make it: 64 bits never overflow.
    count: AtomicUsize,
    value: T,
}

const _: () = assert!(usize::BITS >= 64, "a count of 32 bits could overflow");

// SAFETY: handles give out `&T` on any CPU (Sync), and the last of them the value itself (Send).
unsafe impl<T: Send + Sync> Send for Counted<T> {}
// SAFETY: as above; a `&Counted` can be cloned.
unsafe impl<T: Send + Sync> Sync for Counted<T> {}

impl<T> Counted<T> {
    /// The first handle.
    ///
    /// # Errors
    /// The value comes back if there is no heap for it.
    pub fn new(value: T) -> Result<Self, T> {
        match Self::room() {
            Some(room) => Ok(room.put(value)),
            None => Err(value),
        }
    }

    /// Room for a value that is large, or that is better not made where it cannot be kept; `None` if there is no heap for it.
    #[must_use]
    pub fn room() -> Option<Room<T>> {
        allocate().map(Room)
    }

    /// True if both are handles of one value.
    #[must_use]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        this.at == other.at
    }

    /// How many handles there are. Other CPUs may make and drop some at any time, unless the caller has the only one.
    #[must_use]
    pub fn handles(this: &Self) -> usize {
        this.inner().count.load(Ordering::Relaxed)
    }

    /// Gives the handle up; the value comes back to who had the last.
    #[must_use]
    pub fn into_inner(this: Self) -> Option<T> {
        let at = core::mem::ManuallyDrop::new(this).at;
        // SAFETY: the handle counts, and is not used nor dropped after this.
        unsafe { leave(at) }.map(|inner| inner.value)
    }

    /// The value, if this is its only handle.
    ///
    /// # Errors
    /// The handle comes back if there are others.
    pub fn try_unwrap(this: Self) -> Result<T, Self> {
        // From 1 to 0 at once: of two CPUs that try with the last two handles, neither may give up both.
        if this.inner().count.compare_exchange(1, 0, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return Err(this);
        }
        fence(Ordering::Acquire);
        let at = core::mem::ManuallyDrop::new(this).at;
        // SAFETY: the count is 0 and this was the last handle; `allocate` gave memory as a box has it.
        Ok(unsafe { Box::from_raw(at.as_ptr()) }.value)
    }

    fn inner(&self) -> &Inner<T> {
        // SAFETY: the value lives while a handle does, and nobody has it mutably.
        unsafe { self.at.as_ref() }
    }
}

/// Heap for a value that there is no handle on yet. Given back if it is dropped.
pub struct Room<T>(NonNull<Inner<T>>);

impl<T> Room<T> {
    /// Puts the value there. The first handle on it.
    #[inline]
    pub fn put(self, value: T) -> Counted<T> {
        let at = core::mem::ManuallyDrop::new(self).0;
        // SAFETY: memory for it that nobody else has.
        unsafe { at.write(Inner { count: AtomicUsize::new(1), value }) };
        Counted { at, owns: PhantomData }
    }
}

impl<T> Drop for Room<T> {
    fn drop(&mut self) {
        // SAFETY: `allocate` gave it for this type, and `put` keeps what it has filled from this.
        unsafe { alloc::alloc::dealloc(self.0.as_ptr().cast(), Layout::new::<Inner<T>>()) };
    }
}

/// Counts a handle down. The allocation comes back to the last.
///
/// # Safety
/// `at` is that of a handle which is counted, and which is neither used nor dropped any more.
unsafe fn leave<T>(at: NonNull<Inner<T>>) -> Option<Box<Inner<T>>> {
    // SAFETY: the handle counts until here, so the allocation lives.
    if unsafe { at.as_ref() }.count.fetch_sub(1, Ordering::Release) != 1 {
        return None;
    }
    fence(Ordering::Acquire);
    // SAFETY: nobody else has a handle, nor can get one; `allocate` gave memory as a box has it.
    Some(unsafe { Box::from_raw(at.as_ptr()) })
}

impl<T> Clone for Counted<T> {
    fn clone(&self) -> Self {
        self.inner().count.fetch_add(1, Ordering::Relaxed);
        Self { at: self.at, owns: PhantomData }
    }
}

impl<T> Drop for Counted<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: a handle is dropped once; `into_inner` and `try_unwrap` keep theirs from it.
        if let Some(last) = unsafe { leave(self.at) } {
            end(last);
        }
    }
}

/// Not where handles are dropped: what a value owns can be much, and they are dropped in many places.
#[inline(never)]
fn end<T>(last: Box<Inner<T>>) {
    drop(last);
}

impl<T> Deref for Counted<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T: fmt::Debug> fmt::Debug for Counted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A box around `value`.
///
/// # Errors
/// The value comes back if there is no heap for it.
pub fn boxed<T>(value: T) -> Result<Box<T>, T> {
    let Some(at) = allocate::<T>() else { return Err(value) };
    // SAFETY: memory for a T that nobody else has, of the allocator and the layout that a box has its memory of.
    Ok(unsafe {
        at.write(value);
        Box::from_raw(at.as_ptr())
    })
}

/// Memory for a T, with nothing in it.
fn allocate<T>() -> Option<NonNull<T>> {
    const { assert!(size_of::<T>() != 0, "nothing needs no heap") };
    // SAFETY: the layout's size is not 0.
    NonNull::new(unsafe { alloc::alloc::alloc(Layout::new::<T>()) }).map(NonNull::cast)
}

#[cfg(test)]
mod tests {
    use super::{Counted, boxed};
    use alloc::boxed::Box;
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::{panic, ptr, thread, thread_local};

    /// Counts how often it is dropped.
    struct Dropped<'a>(&'a AtomicUsize);

    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_last_handle_drops_the_value_once() {
        let drops = AtomicUsize::new(0);
        let Ok(first) = Counted::new(Dropped(&drops)) else { panic!("there is heap") };
        let second = first.clone();
        assert!(Counted::ptr_eq(&first, &second) && Counted::handles(&first) == 2);
        drop(first);
        assert_eq!(drops.load(Ordering::Relaxed), 0);
        drop(second);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_value_comes_out_of_the_last_handle_only() {
        let drops = AtomicUsize::new(0);
        let Ok(first) = Counted::new(Dropped(&drops)) else { panic!("there is heap") };
        let second = first.clone();
        let Err(first) = Counted::try_unwrap(first) else { panic!("another handle lives") };
        assert!(Counted::into_inner(first).is_none());
        let Ok(value) = Counted::try_unwrap(second) else { panic!("it was the last") };
        assert_eq!(drops.load(Ordering::Relaxed), 0, "a value that was taken out is not dropped");
        drop(value);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        let Ok(alone) = Counted::new(Dropped(&drops)) else { panic!("there is heap") };
        assert!(Counted::into_inner(alone).is_some());
        assert_eq!(drops.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn handles_of_many_threads_are_all_counted() {
        let drops = AtomicUsize::new(0);
        for _ in 0..if cfg!(miri) { 8 } else { 1000 } {
            let Ok(first) = Counted::new((AtomicUsize::new(0), Dropped(&drops))) else { panic!("there is heap") };
            let out = AtomicUsize::new(0);
            thread::scope(|scope| {
                for _ in 0..3 {
                    let handle = first.clone();
                    let out = &out;
                    scope.spawn(move || {
                        handle.clone().0.fetch_add(1, Ordering::Relaxed);
                        if let Some((sum, _)) = Counted::into_inner(handle) {
                            // Unordered increments of others are seen by who takes the value out.
                            out.store(sum.into_inner(), Ordering::Relaxed);
                        }
                    });
                }
                drop(first);
            });
            assert!(matches!(out.into_inner(), 0 | 3), "the value came out before the last handle was given up");
        }
        assert_eq!(drops.into_inner(), if cfg!(miri) { 8 } else { 1000 });
    }

    #[test]
    fn a_value_comes_back_where_there_is_no_heap() {
        let drops = AtomicUsize::new(0);
        let refused = refusing(|| (Counted::new(Dropped(&drops)).err(), boxed(Dropped(&drops)).err()));
        assert_eq!(drops.load(Ordering::Relaxed), 0, "it was dropped instead");
        assert!(matches!(refused, (Some(_), Some(_))), "it was made of nothing");
        assert!(refusing(Counted::<u64>::room).is_none());
        // What is not filled is given back as it is: a leak is seen by Miri, a value dropped there by everybody.
        drop(Counted::<Box<u64>>::room());
        let mut it = boxed([7_u64; 4]).unwrap_or_else(|_| panic!("there is heap"));
        it[1] = 8;
        assert_eq!(*it, [7, 8, 7, 7]);
    }

    /// The heap as a thread sees it that wants to be refused.
    struct Heap;

    thread_local! {
        static EMPTY: Cell<bool> = const { Cell::new(false) };
    }

    #[global_allocator]
    static HEAP: Heap = Heap;

    // SAFETY: the system's allocator, or an answer that an allocator may give at any time.
    unsafe impl GlobalAlloc for Heap {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller's promise is System's.
            if EMPTY.get() { ptr::null_mut() } else { unsafe { System.alloc(layout) } }
        }
        unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
            // SAFETY: as above; all memory is System's.
            unsafe { System.dealloc(at, layout) }
        }
    }

    fn refusing<R>(work: impl FnOnce() -> R) -> R {
        EMPTY.set(true);
        let done = work();
        EMPTY.set(false);
        done
    }
}
