//! The heap of this program: of what a case's hypervisor asks of it, chosen requests are refused, and every byte that it
//! holds is counted. What the fake, the table and this program ask for themselves is neither.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Range;
use std::ptr;

use backend_fake::Own;

/// Room before each allocation for its mark; a larger alignment takes as much as it is.
const MARK: usize = 16;

/// What a thread asked for. No destructor and no first use that would take heap.
struct Asked {
    counting: Cell<bool>,
    number: Cell<u64>,
    from: Cell<u64>,
    to: Cell<u64>,
    held: Cell<i64>,
}

thread_local! {
    static ASKED: Asked = const {
        Asked {
            counting: Cell::new(false),
            number: Cell::new(0),
            from: Cell::new(0),
            to: Cell::new(0),
            held: Cell::new(0),
        }
    };
}

/// Runs `work`, and refuses these of its requests, counted from 0. Returns how many it made.
pub fn refusing<R>(numbers: Range<u64>, work: impl FnOnce() -> R) -> (R, u64) {
    ASKED.with(|asked| {
        asked.number.set(0);
        asked.from.set(numbers.start);
        asked.to.set(numbers.end);
        asked.counting.set(true);
    });
    let done = work();
    ASKED.with(|asked| {
        asked.counting.set(false);
        (done, asked.number.get())
    })
}

/// Bytes that were taken in [`refusing`] and have not been given back.
pub fn held() -> i64 {
    ASKED.with(|asked| asked.held.get())
}

struct Heap;

#[global_allocator]
static HEAP: Heap = Heap;

/// The layout of an allocation with its mark, and how far behind the mark's beginning it lies.
fn marked(layout: Layout) -> Option<(Layout, usize)> {
    let offset = layout.align().max(MARK);
    let whole = Layout::from_size_align(layout.size().checked_add(offset)?, offset).ok()?;
    Some((whole, offset))
}

// SAFETY: memory is System's, of a layout that is made of the caller's alone; what the caller gets lies behind the mark, as
// aligned as it asked, and only the mark is touched here.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let counted = !Own::now() && ASKED.with(|asked| asked.counting.get());
        if counted {
            let refused = ASKED.with(|asked| {
                let number = asked.number.replace(asked.number.get() + 1);
                (asked.from.get()..asked.to.get()).contains(&number)
            });
            if refused {
                return ptr::null_mut();
            }
        }
        let Some((whole, offset)) = marked(layout) else { return ptr::null_mut() };
        // SAFETY: its size is not 0; the mark lies within it, and so does what follows.
        unsafe {
            let at = System.alloc(whole);
            if at.is_null() {
                return at;
            }
            at.cast::<u64>().write(counted.into());
            if counted {
                ASKED.with(|asked| asked.held.set(asked.held.get() + layout.size() as i64));
            }
            at.add(offset)
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let Some((whole, offset)) = marked(layout) else { return };
        // SAFETY: `alloc` made it of the same layout, and put the mark before it.
        unsafe {
            let at = at.sub(offset);
            if at.cast::<u64>().read() != 0 {
                ASKED.with(|asked| asked.held.set(asked.held.get() - layout.size() as i64));
            }
            System.dealloc(at, whole);
        }
    }
}
