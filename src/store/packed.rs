//! Counters in as few bytes as their values need.
//!
//! Most statistics of most entries are small or zero, so an entry keeps its
//! counters packed: ten bytes with a width code of three bits for each of the
//! [`COUNTERS`], then the values without their leading zero bytes, least
//! significant byte first. All zero packs to ten bytes, the widest to 218.
//!
//! Must not: know where the bytes are kept.

use crate::stats::{Stats, FIELD_COUNT};

/// The statistics fields, num_logins and num_cmds.
const COUNTERS: usize = FIELD_COUNT + 2;

/// Bytes of the width codes.
const CODE_BYTES: usize = (COUNTERS * 3).div_ceil(8);

/// Room for any packed counters.
pub const MAX_PACKED_BYTES: usize = CODE_BYTES + COUNTERS * 8;

/// The width of a value in bytes, by code. Seven is left out: a value that
/// needs it is rare enough to take eight.
const WIDTHS: [usize; 8] = [0, 1, 2, 3, 4, 5, 6, 8];

/// What an entry of any level counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The statistics.
    pub stats: Stats,
    /// CONNECTs.
    pub num_logins: u64,
    /// Commands begun.
    pub num_cmds: u64,
}

impl Counters {
    /// All counters in packing order.
    fn to_array(self) -> [u64; COUNTERS] {
        let mut values = [0; COUNTERS];
        values[..FIELD_COUNT].copy_from_slice(&self.stats.values);
        values[FIELD_COUNT] = self.num_logins;
        values[FIELD_COUNT + 1] = self.num_cmds;
        values
    }

    /// Adds other counters; sums stop at 2^64 - 1.
    pub fn add(&mut self, other: &Counters) {
        self.stats.add(&other.stats);
        self.num_logins = self.num_logins.saturating_add(other.num_logins);
        self.num_cmds = self.num_cmds.saturating_add(other.num_cmds);
    }

    /// Packs the counters into the front of `bytes` and tells how many it took.
    pub fn pack(&self, bytes: &mut [u8; MAX_PACKED_BYTES]) -> usize {
        let mut codes = 0u128;
        let mut end = CODE_BYTES;
        for (index, value) in self.to_array().into_iter().enumerate() {
            let needed = 8 - value.leading_zeros() as usize / 8;
            let code = needed.min(7);
            codes |= (code as u128) << (index * 3);
            let width = WIDTHS[code];
            bytes[end..end + width].copy_from_slice(&value.to_le_bytes()[..width]);
            end += width;
        }
        bytes[..CODE_BYTES].copy_from_slice(&codes.to_le_bytes()[..CODE_BYTES]);
        end
    }

    /// Reads packed counters from the front of `bytes`.
    pub fn unpack(bytes: &[u8]) -> Counters {
        let mut codes = [0; 16];
        codes[..CODE_BYTES].copy_from_slice(&bytes[..CODE_BYTES]);
        let codes = u128::from_le_bytes(codes);
        let mut values = [0; COUNTERS];
        let mut at = CODE_BYTES;
        for (index, value) in values.iter_mut().enumerate() {
            let width = WIDTHS[(codes >> (index * 3)) as usize & 7];
            let mut wide = [0; 8];
            wide[..width].copy_from_slice(&bytes[at..at + width]);
            *value = u64::from_le_bytes(wide);
            at += width;
        }
        let mut counters = Counters {
            num_logins: values[FIELD_COUNT],
            num_cmds: values[FIELD_COUNT + 1],
            ..Counters::default()
        };
        counters
            .stats
            .values
            .copy_from_slice(&values[..FIELD_COUNT]);
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Random;

    #[test]
    fn zero_and_the_widest_take_the_bytes_the_module_says() {
        let mut bytes = [0; MAX_PACKED_BYTES];
        assert_eq!(Counters::default().pack(&mut bytes), 10);
        let widest = Counters {
            stats: Stats {
                values: [u64::MAX; FIELD_COUNT],
            },
            num_logins: u64::MAX,
            num_cmds: u64::MAX,
        };
        assert_eq!(widest.pack(&mut bytes), 218);
        assert_eq!(Counters::unpack(&bytes), widest);
    }

    #[test]
    fn unpacks_what_was_packed() {
        let mut random = Random::seeded("packed counters");
        for _ in 0..20_000 {
            let mut value = || random.bits() >> random.below(65).min(63);
            let counters = Counters {
                stats: Stats {
                    values: std::array::from_fn(|_| value()),
                },
                num_logins: value(),
                num_cmds: value(),
            };
            let mut bytes = [0xaa; MAX_PACKED_BYTES];
            let length = counters.pack(&mut bytes);
            assert_eq!(Counters::unpack(&bytes[..length]), counters);
        }
    }
}
