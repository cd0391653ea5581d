//! Pages of memory, straight from the kernel.
//!
//! A page is a mapping of its own, so its size is exactly what is resident of
//! it, whatever else the process allocates; dropped, it is the kernel's again at
//! once. It holds plain elements of one type, all of them written when the page
//! is made.
//!
//! Must not: be made without its bytes being charged somewhere; that is for who
//! makes it.

use std::io;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

/// Elements in a mapping of their own.
#[derive(Debug)]
pub struct Page<T: Copy> {
    /// The first element.
    start: NonNull<T>,
    /// How many there are.
    len: usize,
    /// The size of the mapping.
    bytes: usize,
}

impl<T: Copy> Page<T> {
    /// Maps `bytes`, a multiple of [`system_page_bytes`], and fills them with
    /// as many copies of `blank` as fit.
    ///
    /// # Errors
    /// When the kernel has no memory left, or no room for another mapping.
    pub fn new(bytes: NonZeroUsize, blank: T) -> io::Result<Page<T>> {
        let bytes = bytes.get();
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new private mapping at a place of the kernel's choice; the
        // length is not zero. It is owned by the page that is made of it.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // Mappings begin at a multiple of the system's page size.
        assert!(align_of::<T>() <= 4096 && size_of::<T>() > 0);
        let len = bytes / size_of::<T>();
        for index in 0..len {
            // SAFETY: `index` is below the number of elements that fit into the
            // mapping, which is aligned for them.
            let place = unsafe { start.add(index) };
            // SAFETY: `place` is within the mapping, owned by nobody else yet.
            unsafe { place.write(blank) };
        }
        Ok(Page { start, len, bytes })
    }
}

impl<T: Copy> Deref for Page<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements were written there, and the mapping lives as
        // long as the page.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Copy> DerefMut for Page<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; the page is borrowed mutably, so nobody else has it.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Copy> Drop for Page<T> {
    fn drop(&mut self) {
        let start = self.start.as_ptr().cast();
        // SAFETY: start and length are those of the mapping, which nobody
        // borrows any more.
        let result = unsafe { libc::munmap(start, self.bytes) };
        if result == -1 {
            // Unmapping in the middle splits a mapping, and the kernel allows
            // only so many; the memory can be given back all the same.
            // SAFETY: as above.
            unsafe { libc::madvise(start, self.bytes, libc::MADV_DONTNEED) };
        }
    }
}

/// The size of the system's pages in bytes; sizes of pages are multiples.
pub fn system_page_bytes() -> usize {
    // SAFETY: no pointers.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_what_is_written_to_it() {
        let bytes = NonZeroUsize::new(2 * system_page_bytes()).unwrap();
        let mut page = Page::new(bytes, [7u32; 3]).unwrap();
        assert_eq!(page.len(), bytes.get() / 12);
        assert!(page.iter().all(|element| *element == [7; 3]));
        let last = page.len() - 1;
        page[last] = [1, 2, 3];
        assert_eq!((page[0], page[last]), ([7; 3], [1, 2, 3]));
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        let bytes = NonZeroUsize::new(usize::MAX / 2 / 4096 * 4096).unwrap();
        assert!(Page::new(bytes, 0u8).is_err());
    }
}
