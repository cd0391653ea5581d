//! A line of a reply: its hash, and the numbers in its fields.

/// A hash of a line; without the seed, no two lines with one hash can be constructed.
pub(super) fn hash_line(line: &[u8], seed: u64) -> u64 {
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * u128::from(seed);
        (product as u64) ^ (product >> 64) as u64
    };
    let words = line.chunks_exact(8);
    let rest = words.remainder();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    let hash = words.fold(line.len() as u64, |hash, bytes| mix(hash, word(bytes)));
    mix(mix(hash, word(&last)), seed)
}

/// A number as a server writes it; what is none counts as far as it is one.
pub(super) fn digits(field: &[u8]) -> u64 {
    // As many as always fit.
    const FEW: usize = 18;
    if field.len() <= FEW && field.iter().all(u8::is_ascii_digit) {
        return field
            .iter()
            .fold(0, |number, &byte| number * 10 + u64::from(byte - b'0'));
    }
    let digits = field.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u64, |number, &byte| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(byte - b'0'))
    })
}

/// `seconds.microseconds` in microseconds, read as two whole numbers. Dovecot
/// 2.3 and before print 7442 microseconds as `0.7442`.
pub(super) fn micros(field: &[u8]) -> u64 {
    let dot = field.iter().position(|&byte| byte == b'.');
    let (secs, usecs) = field.split_at(dot.unwrap_or(field.len()));
    digits(secs)
        .saturating_mul(1_000_000)
        .saturating_add(digits(usecs.get(1..).unwrap_or_default()))
}
