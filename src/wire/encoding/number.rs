//! Numbers as all formats print them.

use crate::stats::{Unit, FIELDS};

/// Room for a value, in bytes: digits are written eight at a time; what follows
/// overwrites those that are too many.
pub(crate) const NUMBER_ROOM_BYTES: usize = 24;

/// One more than the largest number of eight digits.
const EIGHT_DIGITS: u64 = 100_000_000;

/// A byte of `0` for each digit.
const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);

/// Eight digits, a byte each from 0 to 9, the first one in the lowest byte. The word is
/// split into two, four and eight parts at once, without a branch.
#[inline(always)]
fn eight_digits(number: u32) -> u64 {
    let number = u64::from(number);
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    // That is x / 100 for every x below 10,000, and the next x / 10 below 100.
    let hundreds = ((fours * 10_486) >> 20) & 0x7f_0000_007f;
    let pairs = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((pairs - tens * 10) << 8)
}

/// [`eight_digits`] of a number that has at most four, as most have: of rows of commands, 5%
/// less processor time.
#[inline(always)]
fn four_digits(number: u32) -> u32 {
    let hundreds = (number * 10_486) >> 20;
    let pairs = hundreds | ((number - hundreds * 100) << 16);
    let tens = ((pairs * 103) >> 10) & 0x000f_000f;
    tens | ((pairs - tens * 10) << 8)
}

/// Writes decimal digits to the front of `room`; returns how many, at most 20.
#[inline(always)]
pub(crate) fn write_digits(room: &mut [u8; NUMBER_ROOM_BYTES], number: u64) -> usize {
    if number < 10 {
        room[0] = b'0' + number as u8;
        1
    } else if number < 10_000 {
        let digits = four_digits(number as u32);
        let zeros = digits.trailing_zeros() / 8;
        let shown = (digits | ZEROS as u32) >> (8 * zeros);
        room[..4].copy_from_slice(&shown.to_le_bytes());
        4 - zeros as usize
    } else if number < EIGHT_DIGITS {
        let digits = eight_digits(number as u32);
        let zeros = digits.trailing_zeros() / 8;
        let shown = (digits | ZEROS) >> (8 * zeros);
        room[..8].copy_from_slice(&shown.to_le_bytes());
        8 - zeros as usize
    } else {
        write_many_digits(room, number)
    }
}

/// [`write_digits`] of a number that has more than eight.
#[inline(never)]
fn write_many_digits(room: &mut [u8; NUMBER_ROOM_BYTES], number: u64) -> usize {
    let count = write_digits(room, number / EIGHT_DIGITS);
    let last = eight_digits((number % EIGHT_DIGITS) as u32) | ZEROS;
    room[count..count + 8].copy_from_slice(&last.to_le_bytes());
    count + 8
}

/// Writes seconds, of at most 14 digits, a dot and six digits of microseconds to the
/// front of `room`; returns the bytes written. Dovecot 2.3 omits the zeros in front of the
/// microseconds.
#[inline(always)]
pub(crate) fn write_secs(room: &mut [u8; NUMBER_ROOM_BYTES], secs: u64, usecs: u32) -> usize {
    let digits = write_digits(room, secs);
    // The dot takes the place of the second zero of eight digits.
    let mut rest = (eight_digits(usecs) | ZEROS).to_le_bytes();
    rest[1] = b'.';
    room[digits..digits + 7].copy_from_slice(&rest[1..]);
    digits + 7
}

/// Writes a value of this unit to the front of `room`; returns the bytes written.
#[inline(always)]
pub(crate) fn write_value(room: &mut [u8; NUMBER_ROOM_BYTES], unit: Unit, value: u64) -> usize {
    match unit {
        Unit::Time => write_secs(room, value / 1_000_000, (value % 1_000_000) as u32),
        Unit::Count | Unit::Bytes => write_digits(room, value),
    }
}

/// Appends what `write` writes to its room.
#[inline(always)]
fn push(out: &mut Vec<u8>, write: impl FnOnce(&mut [u8; NUMBER_ROOM_BYTES]) -> usize) {
    let mut room = [0; NUMBER_ROOM_BYTES];
    let length = write(&mut room);
    out.extend_from_slice(&room[..length]);
}

pub(crate) fn push_digits(out: &mut Vec<u8>, number: u64) {
    push(out, |room| write_digits(room, number));
}

/// Appends seconds, of at most 14 digits, a dot and six digits of microseconds.
pub(crate) fn push_secs(out: &mut Vec<u8>, secs: u64, usecs: u32) {
    push(out, |room| write_secs(room, secs, usecs));
}

/// Appends the value of the statistics field of this index.
pub(crate) fn push_stat(out: &mut Vec<u8>, index: usize, value: u64) {
    match FIELDS[index].unit {
        Unit::Time => push_usecs(out, value),
        Unit::Count | Unit::Bytes => push_digits(out, value),
    }
}

/// Appends microseconds as seconds.
pub(crate) fn push_usecs(out: &mut Vec<u8>, usecs: u64) {
    push_secs(out, usecs / 1_000_000, (usecs % 1_000_000) as u32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Random;

    #[test]
    fn digits_are_those_of_the_standard_library() {
        let edges = (0..20).flat_map(|power| {
            let power = 10u64.pow(power);
            [power - 1, power, power + 1, power.saturating_mul(7)]
        });
        let mut random = Random::seeded("digits");
        let some: Vec<_> = (0..100_000)
            .map(|_| random.bits() >> random.below(64))
            .collect();
        let all = edges.chain(some);
        for number in all.chain([0, 99, 100, 12_345_678, u64::MAX]) {
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
