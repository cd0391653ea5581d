//! Counters in as few bytes as their values need.
//!
//! Most statistics of most entries are small or zero, so an entry keeps its
//! counters packed: ten bytes with a width code of three bits for each of the
//! [`COUNTERS`], then the values without their leading zero bytes, least
//! significant byte first. All zero packs to ten bytes, the widest to 218.
//!
//! What a record adds rarely changes a width, so a [`Difference`] is added in
//! place where it fits; else the counters are unpacked, added to, and packed
//! anew. Values are read and written as eight bytes whatever their width, which
//! is why buffers are [`SPARE_BYTES`] longer than what is in them.
//!
//! Must not: know where the bytes are kept.

use crate::stats::{Stats, FIELD_COUNT};

/// The statistics fields, num_logins and num_cmds.
const COUNTERS: usize = FIELD_COUNT + 2;

/// How many width codes the first of two words holds; the second has the rest.
const FIRST_CODES: usize = 21;

/// Bytes of the width codes: a word of eight and one of two.
const CODE_BYTES: usize = 10;

/// Room for any packed counters.
pub const MAX_PACKED_BYTES: usize = CODE_BYTES + COUNTERS * 8;

/// Room behind a value that is written as if it had eight bytes.
const SPARE_BYTES: usize = 8;

/// The width of a value in bytes, by code. Seven is left out: a value that
/// needs it is rare enough to take eight.
const WIDTHS: [usize; 8] = [0, 1, 2, 3, 4, 5, 6, 8];

/// The bits of a value of so many bytes.
const fn mask(width: usize) -> u64 {
    match width {
        0 => 0,
        width => u64::MAX >> (64 - width * 8),
    }
}

/// The code of the narrowest width for a value.
fn code_for(value: u64) -> usize {
    (8 - value.leading_zeros() as usize / 8).min(7)
}

/// The width codes of packed counters.
#[derive(Clone, Copy, Default)]
struct Codes {
    /// Those of the first [`FIRST_CODES`] counters.
    first: u64,
    /// Those of the others.
    second: u64,
}

impl Codes {
    /// Reads them from the front of packed counters.
    fn read(bytes: &[u8]) -> Codes {
        let mut first = [0; 8];
        let mut second = [0; 8];
        first.copy_from_slice(&bytes[..8]);
        second[..2].copy_from_slice(&bytes[8..CODE_BYTES]);
        Codes {
            first: u64::from_le_bytes(first),
            second: u64::from_le_bytes(second),
        }
    }

    /// Writes them to the front of packed counters.
    fn write(self, bytes: &mut [u8]) {
        bytes[..8].copy_from_slice(&self.first.to_le_bytes());
        bytes[8..CODE_BYTES].copy_from_slice(&self.second.to_le_bytes()[..2]);
    }

    /// The code of one counter.
    fn get(self, index: usize) -> usize {
        let word = match index < FIRST_CODES {
            true => self.first >> (index * 3),
            false => self.second >> ((index - FIRST_CODES) * 3),
        };
        word as usize & 7
    }

    /// Sets the code of one counter, which was zero.
    fn set(&mut self, index: usize, code: usize) {
        match index < FIRST_CODES {
            true => self.first |= (code as u64) << (index * 3),
            false => self.second |= (code as u64) << ((index - FIRST_CODES) * 3),
        }
    }
}

/// Reads eight bytes.
fn read_word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
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

    /// Packs the counters into the front of a buffer and tells how many bytes
    /// they took.
    pub fn pack(&self, bytes: &mut Buffer) -> usize {
        let mut codes = Codes::default();
        let mut end = CODE_BYTES;
        for (index, value) in self.to_array().into_iter().enumerate() {
            if value != 0 {
                let code = code_for(value);
                codes.set(index, code);
                bytes[end..end + 8].copy_from_slice(&value.to_le_bytes());
                end += WIDTHS[code];
            }
        }
        codes.write(bytes);
        end
    }

    /// Reads packed counters from the front of `packed`.
    pub fn unpack(packed: &[u8]) -> Counters {
        let bytes = buffered(packed);
        let codes = Codes::read(&bytes);
        let mut values = [0; COUNTERS];
        let mut at = CODE_BYTES;
        for (index, value) in values.iter_mut().enumerate() {
            let width = WIDTHS[codes.get(index)];
            *value = read_word(&bytes, at) & mask(width);
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

/// A slot's bytes with room behind them. A slot may be longer than anything
/// packed.
fn buffered(packed: &[u8]) -> Buffer {
    let mut bytes = BUFFER;
    let length = packed.len().min(MAX_PACKED_BYTES);
    bytes[..length].copy_from_slice(&packed[..length]);
    bytes
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
    pub fn of(counters: &Counters) -> Difference {
        let values = counters.to_array();
        let mut changed = 0;
        for (index, &value) in values.iter().enumerate() {
            changed |= u32::from(value != 0) << index;
        }
        Difference { values, changed }
    }

    /// Whether there is nothing to add.
    pub fn is_zero(&self) -> bool {
        self.changed == 0
    }

    /// The counters.
    pub fn counters(&self) -> Counters {
        let mut counters = Counters {
            num_logins: self.values[FIELD_COUNT],
            num_cmds: self.values[FIELD_COUNT + 1],
            ..Counters::default()
        };
        let stats = &self.values[..FIELD_COUNT];
        counters.stats.values.copy_from_slice(stats);
        counters
    }

    /// Adds to packed counters where they are. False, and nothing changed, when
    /// a sum needs more bytes than its counter has.
    #[must_use]
    pub fn add_in_place(&self, packed: &mut [u8]) -> bool {
        let mut bytes = buffered(packed);
        let codes = Codes::read(&bytes);
        let mut changed = self.changed;
        let mut at = CODE_BYTES;
        for index in 0..COUNTERS {
            if changed == 0 {
                break;
            }
            let width = WIDTHS[codes.get(index)];
            if changed & 1 != 0 {
                let word = read_word(&bytes, at);
                let mask = mask(width);
                let Some(sum) = (word & mask).checked_add(self.values[index]) else {
                    return false;
                };
                if sum & !mask != 0 {
                    return false;
                }
                let word = (word & !mask) | sum;
                bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
            at += width;
            changed >>= 1;
        }
        let length = packed.len().min(MAX_PACKED_BYTES);
        packed[..length].copy_from_slice(&bytes[..length]);
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
            sum.add(&added);
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
