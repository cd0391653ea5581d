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

/// The most bytes that a value takes.
pub const MAX_NUMBER_BYTES: usize = 21;

/// Writes decimal digits, at most 20, to the front of `room`; how many.
#[inline(always)]
fn write_digits(room: &mut [u8; MAX_NUMBER_BYTES], mut number: u64) -> usize {
    if number < 10 {
        room[0] = b'0' + number as u8;
        return 1;
    }
    let count = number.ilog10() as usize + 1;
    let mut end = count;
    while number >= 100 {
        room[end - 2..end].copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
        end -= 2;
    }
    match number >= 10 {
        true => room[..2].copy_from_slice(&PAIRS[number as usize]),
        false => room[0] = b'0' + number as u8,
    }
    count
}

/// Writes a dot and six digits of microseconds to the front of `room`.
#[inline(always)]
fn write_usecs(room: &mut [u8], usecs: u32) -> usize {
    let pair = |number: u32| PAIRS[(number % 100) as usize];
    room[0] = b'.';
    room[1..3].copy_from_slice(&pair(usecs / 10_000));
    room[3..5].copy_from_slice(&pair(usecs / 100));
    room[5..7].copy_from_slice(&pair(usecs));
    7
}

/// Writes seconds, a dot and six digits of microseconds to the front of `room`; how
/// many bytes that took. Seconds have at most 14 digits. Dovecot forgets the zeros in
/// front of the microseconds.
#[inline(always)]
fn write_secs(room: &mut [u8; MAX_NUMBER_BYTES], secs: u64, usecs: u32) -> usize {
    let digits = write_digits(room, secs);
    digits + write_usecs(&mut room[digits..], usecs)
}

/// Writes the value of the statistics field of this index to the front of `room`; how
/// many bytes that took.
#[inline(always)]
pub fn write_stat(room: &mut [u8; MAX_NUMBER_BYTES], index: usize, value: u64) -> usize {
    match FIELDS[index].unit {
        Unit::Time if value == 0 => {
            room[..8].copy_from_slice(b"0.000000");
            8
        }
        Unit::Time => write_secs(room, value / 1_000_000, (value % 1_000_000) as u32),
        Unit::Count | Unit::Bytes => write_digits(room, value),
    }
}

/// Appends what `write` writes to the room that it is given.
#[inline(always)]
fn push(out: &mut Vec<u8>, write: impl FnOnce(&mut [u8; MAX_NUMBER_BYTES]) -> usize) {
    let mut room = [0; MAX_NUMBER_BYTES];
    let length = write(&mut room);
    out.extend_from_slice(&room[..length]);
}

/// Decimal digits.
pub fn push_digits(out: &mut Vec<u8>, number: u64) {
    push(out, |room| write_digits(room, number));
}

/// Seconds, of at most 14 digits, a dot and six digits of microseconds.
pub fn push_secs(out: &mut Vec<u8>, secs: u64, usecs: u32) {
    push(out, |room| write_secs(room, secs, usecs));
}

/// The value of the statistics field of this index.
pub fn push_stat(out: &mut Vec<u8>, index: usize, value: u64) {
    push(out, |room| write_stat(room, index, value));
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
            let mut out = b"before".to_vec();
            push_digits(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), format!("before{number}"));
        }
    }

    #[test]
    fn times_have_six_digits_of_microseconds() {
        let times = [0, 1, 7442, 999_999, 1_000_000, 61_000_060, i64::MAX as u64];
        let index = FIELDS.iter().position(|field| field.unit == Unit::Time);
        for usecs in times {
            let mut out = Vec::new();
            push_stat(&mut out, index.unwrap(), usecs);
            let expected = format!("{}.{:06}", usecs / 1_000_000, usecs % 1_000_000);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
