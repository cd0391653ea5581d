//! Base64 by vector instructions.
//!
//! Programs are built for any processor of a family, so the compiler uses vector
//! instructions of the first of them only. The one loop that gains much by newer
//! ones, decoding base64, is here for those that have AVX2 (x86-64 since 2013): 32
//! characters at once.
//!
//! What is in the alphabet follows from the two halves of a character: the upper
//! four bits determine which lower ones may come with them, and what has to be added to
//! be the character's value; `/` alone differs from the other one of its row.
//!
//! What it is worth: with the plain loop alone the daemon takes 1.36 times the CPU on a
//! mixture of records of 10,000 sessions, 1.22 times on 100,000, 1.20 times on updates of
//! 300,000 sessions.
//!
//! Must not: give another result than the plain loop that serves other processors.

/// Characters of a block of base64.
#[cfg(target_arch = "x86_64")]
const BLOCK: usize = 32;

/// Bytes behind those that a text decodes to which are written as well.
pub(crate) const SLACK_BYTES: usize = 8;

/// Decodes as much base64 as this processor is fast at, from the front of `text`, whole
/// groups of four characters without padding, to the front of `out`, and returns how
/// many characters that were; their bytes are three for each four. `None` when one
/// of them is not in the alphabet. `out` has room for three bytes for each four characters
/// of `text`, and [`SLACK_BYTES`] more.
///
/// # Panics
/// When `out` is shorter.
pub(crate) fn decode_base64(text: &[u8], out: &mut [u8]) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    if text.len() >= BLOCK && is_x86_feature_detected!("avx2") {
        assert!(out.len() >= text.len() / 4 * 3 + SLACK_BYTES && text.len() % 4 == 0);
        // SAFETY: the processor has the instructions that the function is compiled
        // for, and the lengths are as it demands.
        return unsafe { with_avx2(text, out) };
    }
    let _ = (text, out);
    Some(0)
}

/// What the halves of a character mean.
#[cfg(target_arch = "x86_64")]
mod halves {
    /// For each upper half a bit that stands for the lower halves it may have.
    pub(super) const ROWS: [u8; 16] = {
        let mut rows = [NOTHING; 16];
        rows[2] = SIGNS;
        rows[3] = DIGITS;
        (rows[4], rows[6]) = (LETTERS, LETTERS);
        (rows[5], rows[7]) = (LAST_LETTERS, LAST_LETTERS);
        rows
    };

    /// For each lower half the bits of the rows that do not have it.
    pub(super) const LACKS: [u8; 16] = {
        let mut lacks = [NOTHING; 16];
        let mut half = 0;
        while half < 16 {
            lacks[half] |= if half == 0xb || half == 0xf { 0 } else { SIGNS };
            lacks[half] |= if half <= 9 { 0 } else { DIGITS };
            lacks[half] |= if half >= 1 { 0 } else { LETTERS };
            lacks[half] |= if half <= 0xa { 0 } else { LAST_LETTERS };
            half += 1;
        }
        lacks
    };

    /// For each upper half what makes a character its value; at 1, which is no row,
    /// that of `/`.
    pub(super) const OFFSETS: [u8; 16] = {
        let mut offsets = [0; 16];
        offsets[1] = 63 - b'/';
        offsets[2] = 62 - b'+';
        offsets[3] = 52 - b'0';
        (offsets[4], offsets[5]) = (0u8.wrapping_sub(b'A'), 0u8.wrapping_sub(b'A'));
        (offsets[6], offsets[7]) = (26u8.wrapping_sub(b'a'), 26u8.wrapping_sub(b'a'));
        offsets
    };

    /// `+` and `/`.
    const SIGNS: u8 = 1;
    /// `0` to `9`.
    const DIGITS: u8 = 2;
    /// `A` to `O`, `a` to `o`.
    const LETTERS: u8 = 4;
    /// `P` to `Z`, `p` to `z`.
    const LAST_LETTERS: u8 = 8;
    /// No lower half at all: every one has this bit.
    const NOTHING: u8 = 16;
}

/// As [`decode_base64`], but for `text` of at least one block; the second one may
/// overlap the first. So blocks end where the text does, and a stats field's words of
/// eight bytes, at its end, are each written by one block: the processor waits with a
/// value that two stores make up.
///
/// # Safety
/// The processor has AVX2; `text` is at least [`BLOCK`] long, a multiple of four;
/// `out` has room for three bytes for each four of its characters and [`SLACK_BYTES`] more.
// From Rust 1.87 on these intrinsics are safe where their feature is enabled.
#[allow(unused_unsafe)]
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn with_avx2(text: &[u8], out: &mut [u8]) -> Option<usize> {
    use std::arch::x86_64 as arch;
    macro_rules! avx2 {
        ($($call:tt)*) => {
            // SAFETY: no pointers, and the caller vouches for AVX2.
            unsafe { arch::$($call)* }
        };
    }
    let table = |table: [u8; 16]| {
        let table = u128::from_le_bytes(table);
        let (low, high) = (table as i64, (table >> 64) as i64);
        avx2!(_mm256_set_epi64x(high, low, high, low))
    };
    let (rows, lacks, offsets) = (
        table(halves::ROWS),
        table(halves::LACKS),
        table(halves::OFFSETS),
    );
    let lower_half = avx2!(_mm256_set1_epi8(0x0f));
    let slash = avx2!(_mm256_set1_epi8(b'/' as i8));
    // How four values of six bits become one of 24: by weights for neighbours, and
    // then for pairs; and how three bytes of each four are put in order.
    let of_neighbours = avx2!(_mm256_set1_epi16(0x0140));
    let of_pairs = avx2!(_mm256_set1_epi32(0x0001_1000));
    let of_groups = table([2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, 128, 128, 128, 128]);
    let of_halves = avx2!(_mm256_setr_epi32(0, 1, 2, 4, 5, 6, 7, 7));
    let mut foreign = avx2!(_mm256_setzero_si256());
    let last = text.len() - BLOCK;
    let (mut at, mut step) = (0, last % BLOCK);
    if step == 0 {
        step = BLOCK;
    }
    loop {
        // SAFETY: `at` is at most `last`, which leaves a block of the text.
        let block = unsafe { text.as_ptr().add(at) };
        // SAFETY: the 32 bytes of that block, in any alignment.
        let characters = unsafe { arch::_mm256_loadu_si256(block.cast()) };
        let shifted = avx2!(_mm256_srli_epi32::<4>(characters));
        let upper = avx2!(_mm256_and_si256(shifted, lower_half));
        let lower = avx2!(_mm256_and_si256(characters, lower_half));
        let row = avx2!(_mm256_shuffle_epi8(rows, upper));
        let lacking = avx2!(_mm256_shuffle_epi8(lacks, lower));
        let wrong = avx2!(_mm256_and_si256(row, lacking));
        foreign = avx2!(_mm256_or_si256(foreign, wrong));
        // All ones, which is -1, for a slash.
        let is_slash = avx2!(_mm256_cmpeq_epi8(characters, slash));
        let which = avx2!(_mm256_add_epi8(upper, is_slash));
        let offset = avx2!(_mm256_shuffle_epi8(offsets, which));
        let values = avx2!(_mm256_add_epi8(characters, offset));
        let pairs = avx2!(_mm256_maddubs_epi16(values, of_neighbours));
        let groups = avx2!(_mm256_madd_epi16(pairs, of_pairs));
        let halves = avx2!(_mm256_shuffle_epi8(groups, of_groups));
        let bytes = avx2!(_mm256_permutevar8x32_epi32(halves, of_halves));
        // SAFETY: `at` is a multiple of four, as is the text's length, so the block's
        // bytes begin at three for each four before it.
        let place = unsafe { out.as_mut_ptr().add(at / 4 * 3) };
        // SAFETY: the block's 24 bytes end within those of the text, and SLACK_BYTES
        // follow them.
        unsafe { arch::_mm256_storeu_si256(place.cast(), bytes) };
        if at == last {
            break;
        }
        at += std::mem::replace(&mut step, BLOCK);
    }
    let is_sound = avx2!(_mm256_testz_si256(foreign, foreign));
    (is_sound == 1).then_some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_all_or_leaves_all() {
        for groups in [8, 9, 15, 16, 25] {
            let text = b"Zm9v".repeat(groups);
            let mut out = vec![0; groups * 3 + SLACK_BYTES];
            let done = decode_base64(&text, &mut out).unwrap();
            assert!(done == 0 || done == text.len());
            assert_eq!(out[..done / 4 * 3], b"foo".repeat(done / 4));
        }
    }

    #[test]
    #[should_panic(expected = "out.len()")]
    fn needs_slack_behind_what_it_decodes() {
        if decode_base64(&[b'A'; 32], &mut [0; 24 + SLACK_BYTES]) == Some(0) {
            panic!("no AVX2, so no check of out.len()");
        }
        decode_base64(&[b'A'; 32], &mut [0; 24 + SLACK_BYTES - 1]);
    }
}
