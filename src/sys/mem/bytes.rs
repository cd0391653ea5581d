//! Byte search as fast as the C library's, and prefetch.
//!
//! std does not export its own search; a loop of ours takes a nanosecond for a byte
//! where memchr(3) and memrchr(3) look at 32 of them.
//!
//! What [`prefetch`] is worth: without the instruction the daemon takes 1.19 times the
//! CPU on a mixture of records of 10,000 sessions, 1.25 times on 100,000, 1.35 times on
//! updates of 300,000 sessions.

/// Where a byte first is.
pub(crate) fn find(byte: u8, bytes: &[u8]) -> Option<usize> {
    let start = bytes.as_ptr();
    // SAFETY: pointer and length are those of `bytes`, borrowed for the call.
    let found = unsafe { libc::memchr(start.cast(), byte.into(), bytes.len()) };
    (!found.is_null()).then(|| found as usize - start as usize)
}

/// Where a byte last is.
pub(crate) fn find_last(byte: u8, bytes: &[u8]) -> Option<usize> {
    let start = bytes.as_ptr();
    // SAFETY: pointer and length are those of `bytes`, borrowed for the call.
    let found = unsafe { libc::memrchr(start.cast(), byte.into(), bytes.len()) };
    (!found.is_null()).then(|| found as usize - start as usize)
}

/// Lets the processor fetch a value into its cache without waiting for it, on
/// processors with such an instruction.
#[inline(always)]
pub(crate) fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        const LINE_BYTES: usize = 64;
        let begin = std::ptr::from_ref(value).cast::<i8>();
        let fetch = |at| {
            // Rust 1.85 calls it unsafe, later ones do not.
            #[allow(unused_unsafe)]
            // SAFETY: SSE, which has it, is part of x86-64, and it reads nothing for
            // the program, whatever the address.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(begin.wrapping_add(at))
            };
        };
        // As many for every place of values of one size, so that the processor foresees
        // their number.
        let bytes = size_of_val(value);
        let mut at = 0;
        while at < bytes {
            fetch(at);
            at += LINE_BYTES;
        }
        fetch(bytes.saturating_sub(1));
    }
    let _ = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_and_the_last_or_none() {
        let bytes = b"a\tb\tc";
        assert_eq!(find(b'\t', bytes), Some(1));
        assert_eq!(find(b'a', bytes), Some(0));
        assert_eq!(find(b'c', bytes), Some(4));
        assert_eq!(find(b'x', bytes), None);
        assert_eq!(find(b'x', b""), None);
        assert_eq!(find_last(b'\t', bytes), Some(3));
        assert_eq!(find_last(b'a', bytes), Some(0));
        assert_eq!(find_last(b'x', bytes), None);
        assert_eq!(find_last(b'x', b""), None);
    }
}
