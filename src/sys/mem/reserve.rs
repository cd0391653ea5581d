//! Memory for when there is none left.
//!
//! Owns: the allocator of the programs, which is the system's, and a block that is
//! allocated ahead. When an allocation fails, the block is given back and the
//! allocation tried again, so that it does not abort the process. The daemon then
//! frees what it can and fills the reserve again, before it goes on to use more than
//! the block's size.
//!
//! Invariants: without a reserve the allocator is the system's in everything. The
//! block is never written to, so it is not resident.
//!
//! Must not: allocate.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

const BLOCK: Layout = match Layout::from_size_align(1 << 20, 16) {
    Ok(layout) => layout,
    Err(_) => panic!("16 is a power of two"),
};

/// The block, or null.
static RESERVE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// Whether a block was given back since [`was_used`] was asked.
static WAS_USED: AtomicBool = AtomicBool::new(false);

/// Allocates the reserve if it is not there. Whether it is there now.
pub(crate) fn fill() -> bool {
    if RESERVE.load(Ordering::Relaxed).is_null() {
        // SAFETY: the size of the layout is not zero.
        let block = unsafe { System.alloc(BLOCK) };
        give_back(RESERVE.swap(block, Ordering::Relaxed));
    }
    !RESERVE.load(Ordering::Relaxed).is_null()
}

/// Whether the reserve was used since this was last asked.
pub(crate) fn was_used() -> bool {
    WAS_USED.swap(false, Ordering::Relaxed)
}

/// Frees a block that was the reserve; null is none.
fn give_back(block: *mut u8) {
    if !block.is_null() {
        // SAFETY: it was allocated by `fill` with this layout, and the caller that
        // swapped it out of the reserve is its only owner.
        unsafe { System.dealloc(block, BLOCK) };
    }
}

/// The system's allocator with the reserve behind it.
struct Reserved;

#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: Reserved = Reserved;

impl Reserved {
    /// Gives back what the allocator gave, or what it gives once the reserve is
    /// freed.
    #[inline]
    fn insist(allocate: impl Fn() -> *mut u8) -> *mut u8 {
        let block = allocate();
        match block.is_null() {
            true => Reserved::retry(&allocate),
            false => block,
        }
    }

    /// Allocates again, without the reserve.
    #[cold]
    fn retry(allocate: &dyn Fn() -> *mut u8) -> *mut u8 {
        let reserve = RESERVE.swap(ptr::null_mut(), Ordering::Relaxed);
        if reserve.is_null() {
            return reserve;
        }
        give_back(reserve);
        WAS_USED.store(true, Ordering::Relaxed);
        allocate()
    }
}

// Not inlined: the programs allocate in thousands of places.
// SAFETY: every block is the system's, and is handed back to it as it was given.
unsafe impl GlobalAlloc for Reserved {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the system's.
        Reserved::insist(|| unsafe { System.alloc(layout) })
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the system's.
        Reserved::insist(|| unsafe { System.alloc_zeroed(layout) })
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promises are the system's; a block whose
        // reallocation failed is as it was.
        Reserved::insist(|| unsafe { System.realloc(block, layout, size) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the system's.
        unsafe { System.dealloc(block, layout) }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::sys::cerr;
    use crate::sys::mem::limits::in_use;
    use crate::sys::scratch::alone;

    /// A block that is there until the process ends.
    fn allocate(bytes: usize) -> bool {
        let layout = Layout::from_size_align(bytes, 16).unwrap();
        // SAFETY: the size of the layout is not zero.
        let block = unsafe { Reserved.alloc(layout) };
        // Or the compiler leaves the allocation out.
        !std::hint::black_box(block).is_null()
    }

    #[test]
    fn an_allocation_that_fails_is_made_of_the_reserve() {
        alone(
            module_path!(),
            "an_allocation_that_fails_is_made_of_the_reserve",
            || {
                assert!(fill() && !was_used());
                let limit = libc::rlimit {
                    rlim_cur: in_use().address_space as libc::rlim_t,
                    rlim_max: libc::RLIM_INFINITY,
                };
                // SAFETY: the pointer is to `limit`, which outlives the call.
                cerr(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }).unwrap();
                // Until the allocator has used up what it has of its own.
                while !was_used() {
                    assert!(allocate(200_000));
                }
                assert!(!was_used());
                while allocate(200_000) {}
                assert!(!fill() && !was_used(), "nothing is left");
                let limit = libc::rlimit {
                    rlim_cur: libc::RLIM_INFINITY,
                    rlim_max: libc::RLIM_INFINITY,
                };
                // SAFETY: the pointer is to `limit`, which outlives the call.
                cerr(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }).unwrap();
                assert!(fill() && !was_used());
            },
        );
    }
}
