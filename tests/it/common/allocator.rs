//! The allocator of this program, of the tests and of `benches/`: the system's, with a count of what
//! each thread does.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

static BYTES_OF_ALL: AtomicIsize = AtomicIsize::new(0);

fn count(layout: Layout) {
    // A thread that is ending counts no more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    hold(layout.size() as isize);
}

fn hold(more: isize) {
    let _ = BYTES.try_with(|bytes| bytes.set(bytes.get() + more));
    BYTES_OF_ALL.fetch_add(more, Ordering::Relaxed);
}

// SAFETY: all is passed on to the system's allocator as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        hold(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout);
        // SAFETY: as above. The system has zeroed memory without touching it, which the test with
        // 4 GiB needs.
        unsafe { System.alloc_zeroed(layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread allocated during `call`.
pub fn allocations<T>(call: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATIONS.get();
    let result = call();
    (ALLOCATIONS.get() - before, result)
}

/// How many bytes more this thread has allocated after `call` than before.
#[allow(dead_code, reason = "for the tests, which run at the same time")]
pub fn bytes_held<T>(call: impl FnOnce() -> T) -> (isize, T) {
    let before = BYTES.get();
    let result = call();
    (BYTES.get() - before, result)
}

/// How many bytes all threads have allocated.
#[allow(dead_code, reason = "for `benches/`")]
pub fn bytes_of_all() -> isize {
    BYTES_OF_ALL.load(Ordering::Relaxed)
}
