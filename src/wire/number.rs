//! Numbers as all formats print them.

use crate::stats::{Unit, FIELDS};

/// The digits of 0 to 99, two each.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
        number += 1;
    }
    pairs
};

/// At least `width` decimal digits, at most 20.
pub fn push_digits(out: &mut Vec<u8>, mut number: u64, width: usize) {
    if width == 1 && number < 10 {
        return out.push(b'0' + number as u8);
    }
    let count = (number.checked_ilog10().unwrap_or(0) as usize + 1).max(width);
    // Room of a fixed length, then less of it: cheaper than room as needed.
    let begin = out.len();
    out.extend_from_slice(&[b'0'; 20]);
    out.truncate(begin + count);
    let digits = &mut out[begin..];
    let mut end = count;
    while number >= 100 {
        digits[end - 2..end].copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
        end -= 2;
    }
    if number >= 10 {
        digits[end - 2..end].copy_from_slice(&PAIRS[number as usize]);
    } else {
        digits[end - 1] = b'0' + number as u8;
    }
}

/// Seconds, a dot and six digits of microseconds. Dovecot forgets the zeros in
/// front of the microseconds.
pub fn push_secs(out: &mut Vec<u8>, secs: u64, usecs: u64) {
    push_digits(out, secs, 1);
    out.push(b'.');
    push_digits(out, usecs, 6);
}

/// The value of the statistics field of this index.
pub fn push_stat(out: &mut Vec<u8>, index: usize, value: u64) {
    match FIELDS[index].unit {
        Unit::Time => push_secs(out, value / 1_000_000, value % 1_000_000),
        Unit::Count | Unit::Bytes => push_digits(out, value, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_standard_library() {
        let edges = (0..20).flat_map(|power| {
            let power = 10u64.pow(power);
            [power - 1, power, power + 1, power.saturating_mul(7)]
        });
        for number in edges.chain([0, 99, 100, 12_345_678, u64::MAX]) {
            for width in [1, 2, 6, 20] {
                let mut out = b"before".to_vec();
                push_digits(&mut out, number, width);
                let expected = format!("before{number:0width$}");
                assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }
    }
}
