//! Pages of memory, straight from the kernel.
//!
//! A [`Frame`] is a mapping of its own, so its size is exactly what is resident of
//! it, whatever else the process allocates; dropped, it is the kernel's again at
//! once. A [`Page`] is a frame in use: it contains plain elements of one type, all of
//! them values from the beginning. Bytes that may be padding are never read: a frame
//! that had elements with padding is zeroed before it becomes a page of bytes.
//!
//! Must not: be made without its bytes being charged somewhere; that is for its
//! maker.

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

/// A mapping whose bytes mean nothing yet.
#[derive(Debug)]
pub(crate) struct Frame {
    start: NonNull<u8>,
    bytes: usize,
    /// Each byte has a value: it was zeroed by the kernel, or written as an element
    /// without padding.
    is_written: bool,
}

/// Aligned as mappings are.
#[repr(align(4096))]
struct Aligned;

impl Frame {
    /// No memory, aligned for elements of any type all the same.
    const NONE: Frame = Frame {
        start: NonNull::<Aligned>::dangling().cast(),
        bytes: 0,
        is_written: true,
    };

    /// Maps `bytes`, a multiple of [`system_page_bytes`].
    ///
    /// # Errors
    /// When the kernel has no memory left, or no room for another mapping.
    pub(crate) fn map(bytes: NonZeroUsize) -> io::Result<Frame> {
        let bytes = bytes.get();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // All of it is written to at once: one call for all pages costs less than a
        // fault for each.
        #[cfg(target_os = "linux")]
        let flags = flags | libc::MAP_POPULATE;
        // SAFETY: a new private mapping at a place of the kernel's choice; the
        // length is not zero. It is owned by the frame that is made of it.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Frame {
            start,
            bytes,
            is_written: true,
        })
    }

    /// Copies its first bytes behind themselves, so that they are there `times`.
    #[inline(never)]
    fn repeat(&mut self, bytes: usize, times: usize) {
        let total = bytes * times;
        assert!(total <= self.bytes);
        // Padding is copied as it is.
        let start: NonNull<MaybeUninit<u8>> = self.start.cast();
        let mut written = bytes;
        while written < total {
            let count = written.min(total - written);
            // SAFETY: `written` is below the size of the mapping.
            let place = unsafe { start.add(written) };
            // SAFETY: as many bytes lie in front of `place`, and there is room for as many
            // from there on.
            unsafe { place.copy_from_nonoverlapping(start, count) };
            written += count;
        }
    }

    /// Whether [`Page::of_bytes`] need not write to it.
    pub(crate) fn is_written(&self) -> bool {
        self.is_written
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let start = self.start.as_ptr().cast();
        // SAFETY: start and length are those of the mapping, which nothing
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

/// Elements in a frame of their own, all of them written.
#[derive(Debug)]
pub(crate) struct Page<T: Copy> {
    frame: Frame,
    len: usize,
    elements: PhantomData<T>,
}

impl<const N: usize> Page<[u8; N]> {
    /// As many elements as fit into a frame, with the bytes that are there.
    pub(crate) fn of_bytes(mut frame: Frame) -> Page<[u8; N]> {
        if !frame.is_written {
            // SAFETY: start and length are those of the mapping.
            unsafe { frame.start.write_bytes(0, frame.bytes) };
            frame.is_written = true;
        }
        Page::new(frame)
    }
}

impl<T: Copy> Page<T> {
    /// A page without elements.
    pub(crate) const NONE: Page<T> = Page {
        frame: Frame::NONE,
        len: 0,
        elements: PhantomData,
    };

    /// A page of a frame that has elements, or is to get them.
    fn new(frame: Frame) -> Page<T> {
        // Mappings begin at a multiple of the system's page size.
        assert!(align_of::<T>() <= 4096 && size_of::<T>() > 0);
        let page = Page {
            len: frame.bytes / size_of::<T>(),
            frame,
            elements: PhantomData,
        };
        assert!(page.len > 0);
        page
    }

    /// Fills a frame with as many copies of `blank` as fit.
    pub(crate) fn filled(frame: Frame, blank: T) -> Page<T> {
        let mut page = Page::new(frame);
        // The elements may have padding.
        page.frame.is_written = false;
        // SAFETY: at least one element fits into the mapping, which is aligned for them
        // and owned by nothing else yet.
        unsafe { page.start().write(blank) };
        page.frame.repeat(size_of::<T>(), page.len);
        page
    }

    /// The frame, once the elements are no longer needed.
    pub(crate) fn into_frame(self) -> Frame {
        self.frame
    }

    #[inline(always)]
    fn start(&self) -> NonNull<T> {
        self.frame.start.cast()
    }
}

impl<T: Copy> Deref for Page<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements were written there, and the mapping lives as
        // long as the page.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.len) }
    }
}

impl<T: Copy> DerefMut for Page<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; the page is borrowed mutably, so nothing else has it.
        unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), self.len) }
    }
}

/// The size of the system's pages in bytes; sizes of pages are multiples.
pub(crate) fn system_page_bytes() -> usize {
    // SAFETY: no pointers.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_contains_what_is_written_to_it() {
        let bytes = NonZeroUsize::new(2 * system_page_bytes()).unwrap();
        let mut page = Page::filled(Frame::map(bytes).unwrap(), [7u32; 3]);
        assert_eq!(page.len, bytes.get() / 12);
        assert!(page.iter().all(|element| *element == [7; 3]));
        let last = page.len - 1;
        page[last] = [1, 2, 3];
        assert_eq!((page[0], page[last]), ([7; 3], [1, 2, 3]));
        let page = Page::filled(page.into_frame(), 9u64);
        assert_eq!(page.len, bytes.get() / 8);
        assert!(page.iter().all(|element| *element == 9));
        // Bytes where a struct had padding are values again.
        let page = Page::filled(page.into_frame(), (1u8, 2u32));
        let mut page = Page::<[u8; 8]>::of_bytes(page.into_frame());
        assert!(page.iter().all(|element| *element == [0; 8]));
        // Bytes stay as they are.
        page[last] = [4; 8];
        let page = Page::<[u8; 4]>::of_bytes(page.into_frame());
        assert_eq!(page[2 * last], [4; 4]);
    }

    #[test]
    fn a_page_without_elements_is_of_any_type() {
        assert!(Page::<u8>::NONE.is_empty() && Page::<u128>::NONE.is_empty());
        assert_eq!(Page::<u64>::NONE.into_frame().bytes(), 0);
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        let bytes = NonZeroUsize::new(usize::MAX / 4096 * 4096).unwrap();
        assert!(Frame::map(bytes).is_err());
    }
}
