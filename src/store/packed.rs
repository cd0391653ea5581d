//! Counters in as few bytes as their values need.
//!
//! Most statistics of most entries are small or zero, so an entry keeps its
//! counters packed: ten bytes with a width code of three bits for each of the
//! [`COUNTERS`], then the values without their leading zero bytes, least
//! significant byte first. All zero packs to ten bytes, the widest to 218.
//!
//! What a record adds rarely changes a width, so a [`Difference`] is added in
//! place where it fits; else the counters are unpacked, added to, and packed
//! anew. Adding passes over all counters up to the last that changes, without a
//! branch for any: values are read as words of eight bytes whatever their width,
//! and written as such one behind the other, so that each overwrites the surplus
//! of the one before. They are written to another buffer because reading what
//! overlaps a write just made would cost more than all the rest.
//!
//! Must not: know where the bytes are kept.

use crate::stats::{Stats, FIELD_COUNT};

/// num_cmds and num_logins, and the statistics fields behind them: a record that
/// counts a command or a login changes the first of all.
const COUNTERS: usize = FIELD_COUNT + 2;

/// Bytes of the width codes.
const CODE_BYTES: usize = 10;

/// How many codes are taken from the first word; the next one begins a byte.
const FIRST_CODES: usize = 16;

/// Room for any packed counters.
pub const MAX_PACKED_BYTES: usize = CODE_BYTES + COUNTERS * 8;

/// Room behind a value that is packed as if it had eight bytes.
const SPARE_BYTES: usize = 8;

/// The width of a value in bytes, by code. Seven is left out: a value that
/// needs it is rare enough to take eight.
const WIDTHS: [usize; 8] = [0, 1, 2, 3, 4, 5, 6, 8];

/// The bits of a value, by the code of its width.
const MASKS: [u64; 8] = {
    let mut masks = [u64::MAX; 8];
    let mut code = 0;
    while code < 7 {
        masks[code] = (1 << (WIDTHS[code] * 8)) - 1;
        code += 1;
    }
    masks
};

/// The code of the narrowest width for a value.
fn code_for(value: u64) -> usize {
    (8 - value.leading_zeros() as usize / 8).min(7)
}

/// Eight bytes as a word.
fn word_at(bytes: &Buffer, at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Packed counters on their way out, lane by lane.
struct Lanes {
    /// The counters, and zeros behind them.
    bytes: Buffer,
    /// Width codes still to come, the next one lowest.
    codes: u64,
    /// Where the next value is.
    at: usize,
}

impl Lanes {
    /// Of a slot, which may be longer than what is packed in it.
    fn of(packed: &[u8]) -> Lanes {
        let mut bytes = BUFFER;
        let length = packed.len().min(MAX_PACKED_BYTES);
        bytes[..length].copy_from_slice(&packed[..length]);
        Lanes {
            codes: word_at(&bytes, 0),
            bytes,
            at: CODE_BYTES,
        }
    }

    /// The value that is the `index`-th one taken, and the bits it may have.
    #[inline(always)]
    fn take(&mut self, index: usize) -> (u64, u64) {
        if index == FIRST_CODES {
            self.codes = word_at(&self.bytes, FIRST_CODES * 3 / 8);
        }
        let code = self.codes as usize & 7;
        self.codes >>= 3;
        let (mask, width) = (MASKS[code], WIDTHS[code]);
        let value = word_at(&self.bytes, self.at) & mask;
        self.at += width;
        (value, mask)
    }
}

/// A buffer for packed counters.
pub type Buffer = [u8; MAX_PACKED_BYTES + SPARE_BYTES];

/// An empty buffer.
pub const BUFFER: Buffer = [0; MAX_PACKED_BYTES + SPARE_BYTES];

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
        values[0] = self.num_cmds;
        values[1] = self.num_logins;
        values[2..].copy_from_slice(&self.stats.values);
        values
    }

    /// Packs the counters into the front of a buffer and tells how many bytes
    /// they took.
    pub fn pack(&self, bytes: &mut Buffer) -> usize {
        let mut codes = 0u128;
        let mut end = CODE_BYTES;
        for (index, value) in self.to_array().into_iter().enumerate() {
            if value != 0 {
                let code = code_for(value);
                codes |= (code as u128) << (index * 3);
                bytes[end..end + 8].copy_from_slice(&value.to_le_bytes());
                end += WIDTHS[code];
            }
        }
        bytes[..CODE_BYTES].copy_from_slice(&codes.to_le_bytes()[..CODE_BYTES]);
        end
    }

    /// Reads packed counters from the front of `packed`.
    pub fn unpack(packed: &[u8]) -> Counters {
        let mut lanes = Lanes::of(packed);
        let mut counters = Counters::default();
        (counters.num_cmds, _) = lanes.take(0);
        (counters.num_logins, _) = lanes.take(1);
        for (index, value) in counters.stats.values.iter_mut().enumerate() {
            (*value, _) = lanes.take(2 + index);
        }
        counters
    }
}

/// Something to add to counters, made once for all entries that it is added to.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// The counters to add, in packing order.
    values: [u64; COUNTERS],
    /// One bit for each of them that is not zero.
    changed: u32,
}

impl Difference {
    /// Of these counters.
    fn of(counters: &Counters) -> Difference {
        let values = counters.to_array();
        let mut changed = 0;
        for (index, &value) in values.iter().enumerate() {
            changed |= u32::from(value != 0) << index;
        }
        Difference { values, changed }
    }

    /// Of these statistics.
    pub fn stats(stats: &Stats) -> Difference {
        Difference::of(&Counters {
            stats: *stats,
            ..Counters::default()
        })
    }

    /// One CONNECT.
    pub fn login() -> Difference {
        Difference::of(&Counters {
            num_logins: 1,
            ..Counters::default()
        })
    }

    /// One command.
    pub fn command() -> Difference {
        Difference::of(&Counters {
            num_cmds: 1,
            ..Counters::default()
        })
    }

    /// Whether there is nothing to add.
    pub fn is_zero(&self) -> bool {
        self.changed == 0
    }

    /// Adds to counters that are not packed; sums stop at 2^64 - 1.
    pub fn add_to(&self, counters: &mut Counters) {
        let [num_cmds, num_logins, stats @ ..] = &self.values;
        counters.num_cmds = counters.num_cmds.saturating_add(*num_cmds);
        counters.num_logins = counters.num_logins.saturating_add(*num_logins);
        for (sum, value) in counters.stats.values.iter_mut().zip(stats) {
            *sum = sum.saturating_add(*value);
        }
    }

    /// Adds to packed counters where they are. False, and nothing changed, when
    /// a sum needs more bytes than its counter has.
    #[must_use]
    pub fn add_in_place(&self, packed: &mut [u8]) -> bool {
        let mut lanes = Lanes::of(packed);
        let mut sums = BUFFER;
        let mut surplus = 0;
        let end = u32::BITS - self.changed.leading_zeros();
        for (index, &value) in self.values[..end as usize].iter().enumerate() {
            let at = lanes.at;
            let (before, mask) = lanes.take(index);
            let (sum, carry) = before.overflowing_add(value);
            surplus |= (sum & !mask) | u64::from(carry);
            sums[at..at + 8].copy_from_slice(&sum.to_le_bytes());
        }
        if surplus != 0 {
            return false;
        }
        packed[CODE_BYTES..lanes.at].copy_from_slice(&sums[CODE_BYTES..lanes.at]);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Random;

    #[test]
    fn zero_and_the_widest_take_the_bytes_the_module_says() {
        let mut bytes = BUFFER;
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
            let mut bytes = [0xaa; MAX_PACKED_BYTES + SPARE_BYTES];
            let length = counters.pack(&mut bytes);
            assert_eq!(Counters::unpack(&bytes[..length]), counters);
        }
    }

    #[test]
    fn adding_in_place_is_unpacking_adding_and_packing() {
        let mut random = Random::seeded("adding in place");
        let (mut in_place, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let (large, often) = (random.below(64), random.below(4));
            let mut value = || match random.below(often + 1) {
                0 => random.bits() >> random.below(large + 1).max(8),
                _ => 0,
            };
            let mut counters = [Counters::default(); 2];
            for counters in &mut counters {
                counters.stats.values = std::array::from_fn(|_| value());
                (counters.num_logins, counters.num_cmds) = (value(), value());
            }
            let [before, mut added] = counters;
            // What is added is most often smaller than what is there.
            for value in &mut added.stats.values {
                *value >>= random.below(24);
            }
            let mut bytes = BUFFER;
            let length = before.pack(&mut bytes);
            // A slot's slack keeps whatever is in it.
            let packed = &mut bytes[..length + 3];
            packed[length..].fill(0x55);
            let mut sum = before;
            Difference::of(&added).add_to(&mut sum);
            if Difference::of(&added).add_in_place(packed) {
                assert_eq!(Counters::unpack(packed), sum);
                assert_eq!(packed[length..], [0x55; 3]);
                in_place += 1;
            } else {
                assert_eq!(Counters::unpack(packed), before);
                refused += 1;
            }
        }
        assert!(in_place > 1000 && refused > 1000, "{in_place} {refused}");
    }
}
