//! Numbers as all formats print them.

use crate::stats::{Unit, FIELDS};

/// At least `width` decimal digits, at most 20.
pub fn push_digits(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut begin = digits.len();
    while number > 0 {
        begin -= 1;
        digits[begin] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits[begin.min(digits.len() - width)..]);
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
