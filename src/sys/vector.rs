//! Loops that are compiled for the processor that is there.
//!
//! Programs are built for any processor of a family, so the compiler uses vector
//! instructions of the first of them only. The one loop that gains much by newer
//! ones, decoding base64, is here for those that have AVX2 (x86-64 since 2013).
//!
//! The value of a character is what its range adds to it, found by comparing with
//! all five ranges, for 32 characters at once.
//!
//! Must not: give another result than the plain loop that serves the others.

/// Characters of a block of base64.
#[cfg(target_arch = "x86_64")]
const BLOCK: usize = 32;

/// Bytes that a block decodes to.
#[cfg(target_arch = "x86_64")]
const BLOCK_BYTES: usize = BLOCK / 4 * 3;

/// Decodes as many blocks of base64 characters as this processor is fast at,
/// from the front of `text` to the front of `out`, and returns how many
/// characters that were; their bytes are three for each four. `None` when one of
/// them is not in the alphabet. `out` holds at least three bytes for each four
/// characters.
pub fn decode_base64(text: &[u8], out: &mut [u8]) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the instructions that the function is
        // compiled for.
        return unsafe { with_avx2(text, out) };
    }
    let _ = (text, out);
    Some(0)
}

/// What a character of the alphabet has to be added to be its value, zero for
/// any other byte; none of the five is zero.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn offset(character: u8) -> u8 {
    let within = |first: u8, last: u8, offset: u8| match first <= character && character <= last {
        true => offset,
        false => 0,
    };
    within(b'A', b'Z', 0u8.wrapping_sub(b'A'))
        | within(b'a', b'z', 26u8.wrapping_sub(b'a'))
        | within(b'0', b'9', 52 - b'0')
        | within(b'+', b'+', 62 - b'+')
        | within(b'/', b'/', 63 - b'/')
}

/// As [`decode_base64`].
// From Rust 1.87 on these intrinsics are safe where their feature is enabled.
#[allow(unused_unsafe)]
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn with_avx2(text: &[u8], out: &mut [u8]) -> Option<usize> {
    use std::arch::x86_64 as arch;
    // How four values of six bits become one of 24: by weights for neighbours, and
    // then for pairs.
    // SAFETY: needs AVX2 only.
    let of_neighbours = unsafe { arch::_mm256_set1_epi16(0x0140) };
    // SAFETY: needs AVX2 only.
    let of_pairs = unsafe { arch::_mm256_set1_epi32(0x0001_1000) };
    let mut foreign = [0; BLOCK];
    let blocks = text.chunks_exact(BLOCK);
    let done = blocks.len() * BLOCK;
    for (block, out) in blocks.zip(out.chunks_exact_mut(BLOCK_BYTES)) {
        let mut values = [0; BLOCK];
        for ((value, &character), foreign) in values.iter_mut().zip(block).zip(&mut foreign) {
            let offset = offset(character);
            *foreign |= u8::from(offset == 0);
            *value = character.wrapping_add(offset);
        }
        // SAFETY: reads 32 bytes from an array of as many.
        let values = unsafe { arch::_mm256_loadu_si256(values.as_ptr().cast()) };
        // SAFETY: needs AVX2 only.
        let pairs = unsafe { arch::_mm256_maddubs_epi16(values, of_neighbours) };
        // SAFETY: needs AVX2 only.
        let groups = unsafe { arch::_mm256_madd_epi16(pairs, of_pairs) };
        let mut words = [0u32; BLOCK / 4];
        // SAFETY: writes 32 bytes to an array of as many.
        unsafe { arch::_mm256_storeu_si256(words.as_mut_ptr().cast(), groups) };
        for (groups, out) in words.chunks_exact(2).zip(out.chunks_exact_mut(6)) {
            let both = u64::from(groups[0]) << 40 | u64::from(groups[1]) << 16;
            out.copy_from_slice(&both.to_be_bytes()[..6]);
        }
    }
    (foreign == [0; BLOCK]).then_some(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_whole_blocks_and_leaves_the_rest() {
        let text = b"Zm9v".repeat(25);
        let mut out = [0; 75];
        let done = decode_base64(&text, &mut out).unwrap();
        assert!(done == 0 || done == 96);
        assert_eq!(out[..done / 4 * 3], b"foo".repeat(24)[..done / 4 * 3]);
    }
}
