//! Counters in as few bytes as their values need.
//!
//! Most statistics of most entries are small or zero, so an entry keeps its
//! counters packed: two bytes of width codes, then four groups of counters that
//! tend to be of one size. All counters of a group take as many bytes as its
//! largest needs, least significant byte first. All zero packs to two bytes, the
//! widest to 210.
//!
//! Unpacked they are [`Lanes`], a word for each in the order of the groups. As a
//! group has one width, reading, adding and writing back are a few loops of fixed
//! length over plain arrays, which the compiler makes vector instructions of: an
//! addition takes a quarter of the instructions that it takes with a width for
//! each counter.
//!
//! Must not: know where the bytes are kept.

use crate::stats::{place, Report, Stats, FIELD_COUNT};

/// num_cmds and num_logins, and the statistics fields.
const LANES: usize = FIELD_COUNT + 2;

/// Bytes of the width codes, three bits for each group.
const CODE_BYTES: usize = 2;

/// Room for any packed counters.
pub const MAX_PACKED_BYTES: usize = CODE_BYTES + LANES * 8;

/// A buffer for packed counters.
pub type Buffer = [u8; MAX_PACKED_BYTES];

/// An empty buffer.
pub const BUFFER: Buffer = [0; MAX_PACKED_BYTES];

/// The lane of num_cmds.
const NUM_CMDS: usize = 8;

/// The lane of num_logins.
const NUM_LOGINS: usize = 9;

/// A lane that is no statistics field.
const NONE: usize = FIELD_COUNT;

/// The statistics field of each lane.
const FIELDS_OF_LANES: [usize; LANES] = [
    // Amounts: microseconds and bytes.
    place::user_cpu,
    place::sys_cpu,
    place::clock_time,
    place::disk_input,
    place::disk_output,
    place::read_bytes,
    place::write_bytes,
    place::mail_read_bytes,
    // Events that every session has.
    NONE,
    NONE,
    place::min_faults,
    place::maj_faults,
    place::vol_cs,
    place::invol_cs,
    place::read_count,
    place::write_count,
    // Events of reading mail.
    place::mail_lookup_path,
    place::mail_lookup_attr,
    place::mail_read_count,
    place::mail_cache_hits,
    // Events of logging in.
    place::auth_successes,
    place::auth_master_successes,
    place::auth_failures,
    place::auth_db_tempfails,
    place::auth_cache_hits,
    place::auth_cache_misses,
];

/// The first lane behind the amounts.
const EVENTS: usize = 8;

/// The first lane of logging in, and of the `auth` item.
const AUTH: usize = 20;

/// The largest sum: what a signed 64-bit number holds.
const MAX_SUM: u64 = i64::MAX as u64;

/// The width of a group's counters in bytes, by code.
const WIDTHS: [usize; 8] = [0, 1, 2, 3, 4, 6, 8, 8];

/// Lanes of each group.
const GROUPS: [usize; 4] = [8, 8, 4, 6];

/// The bits that the values of a group may have.
fn mask(codes: u16, index: usize) -> u64 {
    const MASKS: [u64; 8] = {
        let mut masks = [u64::MAX; 8];
        let mut code = 0;
        while code < 6 {
            masks[code] = (1 << (WIDTHS[code] * 8)) - 1;
            code += 1;
        }
        masks
    };
    MASKS[code(codes, index)]
}

/// The code of the narrowest width for a group whose values have these bits.
fn code_for(bits: u64) -> usize {
    const CODES: [u8; 9] = [0, 1, 2, 3, 4, 5, 5, 6, 6];
    CODES[8 - bits.leading_zeros() as usize / 8].into()
}

/// The `index`-th of the width codes.
fn code(codes: u16, index: usize) -> usize {
    usize::from(codes >> (3 * index)) & 7
}

/// Reads values of `W` bytes each and returns what is behind them.
fn read<'a, const W: usize>(packed: &'a [u8], values: &mut [u64]) -> &'a [u8] {
    let (packed, rest) = packed.split_at(W * values.len());
    for (value, bytes) in values.iter_mut().zip(packed.chunks_exact(W)) {
        let mut word = [0; 8];
        word[..W].copy_from_slice(bytes);
        *value = u64::from_le_bytes(word);
    }
    rest
}

/// Writes values of `W` bytes each and returns what is behind them.
fn write<'a, const W: usize>(packed: &'a mut [u8], values: &[u64]) -> &'a mut [u8] {
    let (packed, rest) = packed.split_at_mut(W * values.len());
    for (value, bytes) in values.iter().zip(packed.chunks_exact_mut(W)) {
        bytes.copy_from_slice(&value.to_le_bytes()[..W]);
    }
    rest
}

/// Reads a group, whose values were zero, and returns what is behind it.
#[inline(always)]
fn read_group<'a, const N: usize>(
    code: usize,
    packed: &'a [u8],
    values: &mut [u64; N],
) -> &'a [u8] {
    match code {
        0 => packed,
        1 => read::<1>(packed, values),
        2 => read::<2>(packed, values),
        3 => read::<3>(packed, values),
        4 => read::<4>(packed, values),
        5 => read::<6>(packed, values),
        _ => read::<8>(packed, values),
    }
}

/// Writes a group and returns what is behind it.
#[inline(always)]
fn write_group<'a, const N: usize>(
    code: usize,
    packed: &'a mut [u8],
    values: &[u64; N],
) -> &'a mut [u8] {
    match code {
        0 => packed,
        1 => write::<1>(packed, values),
        2 => write::<2>(packed, values),
        3 => write::<3>(packed, values),
        4 => write::<4>(packed, values),
        5 => write::<6>(packed, values),
        _ => write::<8>(packed, values),
    }
}

/// The bits that values have together.
fn bits(values: &[u64]) -> u64 {
    values.iter().fold(0, |bits, value| bits | value)
}

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

/// Counters in the order they are packed in, or a difference to add to such. None
/// is larger than [`MAX_SUM`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// The values.
    values: [u64; LANES],
}

impl Lanes {
    /// Of these counters.
    pub fn of(counters: &Counters) -> Lanes {
        let mut lanes = Lanes::of_stats(&counters.stats);
        lanes.values[NUM_CMDS] = counters.num_cmds;
        lanes.values[NUM_LOGINS] = counters.num_logins;
        lanes.stop_at_the_largest();
        lanes
    }

    /// Of statistics alone, as small as peers' are.
    pub fn of_stats(stats: &Stats) -> Lanes {
        let mut lanes = Lanes::default();
        for (value, field) in lanes.values.iter_mut().zip(FIELDS_OF_LANES) {
            if field != NONE {
                *value = stats.values[field];
            }
        }
        lanes
    }

    /// One CONNECT.
    pub fn login() -> Lanes {
        let mut lanes = Lanes::default();
        lanes.values[NUM_LOGINS] = 1;
        lanes
    }

    /// One command.
    pub fn command() -> Lanes {
        let mut lanes = Lanes::default();
        lanes.values[NUM_CMDS] = 1;
        lanes
    }

    /// As counters.
    pub fn counters(&self) -> Counters {
        let mut counters = Counters {
            num_cmds: self.values[NUM_CMDS],
            num_logins: self.values[NUM_LOGINS],
            ..Counters::default()
        };
        for (value, field) in self.values.into_iter().zip(FIELDS_OF_LANES) {
            if field != NONE {
                counters.stats.values[field] = value;
            }
        }
        counters
    }

    /// Whether all are zero.
    pub fn is_zero(&self) -> bool {
        bits(&self.values) == 0
    }

    /// Adds; sums stop at [`MAX_SUM`].
    pub fn add(&mut self, difference: &Lanes) {
        let mut sums = 0;
        for (sum, value) in self.values.iter_mut().zip(difference.values) {
            // Neither has the uppermost bit, so this does not wrap.
            *sum += value;
            sums |= *sum;
        }
        if sums > MAX_SUM {
            self.stop_at_the_largest();
        }
    }

    /// Makes larger values the largest.
    fn stop_at_the_largest(&mut self) {
        for value in &mut self.values {
            *value = (*value).min(MAX_SUM);
        }
    }

    /// Takes a report as the new total, as [`Report::advance`] does, and returns
    /// the difference and whether anything shrank.
    pub fn advance(&mut self, report: &Report) -> (Lanes, bool) {
        if report.has_mail {
            let mut new = Lanes::of_stats(&report.stats);
            new.values[NUM_CMDS] = self.values[NUM_CMDS];
            new.values[NUM_LOGINS] = self.values[NUM_LOGINS];
            if !report.has_auth {
                new.values[AUTH..].copy_from_slice(&self.values[AUTH..]);
            }
            let mut difference = new;
            for (value, old) in difference.values.iter_mut().zip(self.values) {
                *value = value.wrapping_sub(old);
            }
            // Nothing shrank, and no 32-bit counter has ever wrapped.
            if bits(&difference.values) <= MAX_SUM && bits(&self.values[EVENTS..]) >> 32 == 0 {
                *self = new;
                return (difference, false);
            }
        }
        let mut total = self.counters();
        let (difference, shrank) = report.advance(&mut total.stats);
        *self = Lanes::of(&total);
        (Lanes::of_stats(&difference), shrank)
    }

    /// The groups.
    fn groups(&self) -> (&[u64; 8], &[u64; 8], &[u64; 4], &[u64; 6]) {
        let (amounts, rest) = self.values.split_at(8);
        let (events, rest) = rest.split_at(8);
        let (mail, auth) = rest.split_at(4);
        let whole = "the groups are all lanes";
        (
            amounts.try_into().expect(whole),
            events.try_into().expect(whole),
            mail.try_into().expect(whole),
            auth.try_into().expect(whole),
        )
    }

    /// The groups, to be changed.
    fn groups_mut(&mut self) -> (&mut [u64; 8], &mut [u64; 8], &mut [u64; 4], &mut [u64; 6]) {
        let (amounts, rest) = self.values.split_at_mut(8);
        let (events, rest) = rest.split_at_mut(8);
        let (mail, auth) = rest.split_at_mut(4);
        let whole = "the groups are all lanes";
        (
            amounts.try_into().expect(whole),
            events.try_into().expect(whole),
            mail.try_into().expect(whole),
            auth.try_into().expect(whole),
        )
    }

    /// Reads packed counters from the front of a slot.
    pub fn unpack(packed: &[u8]) -> Lanes {
        let mut lanes = Lanes::default();
        let Some((codes, packed)) = packed.split_first_chunk::<CODE_BYTES>() else {
            return lanes;
        };
        let codes = u16::from_le_bytes(*codes);
        let (amounts, events, mail, auth) = lanes.groups_mut();
        let packed = read_group(code(codes, 0), packed, amounts);
        let packed = read_group(code(codes, 1), packed, events);
        let packed = read_group(code(codes, 2), packed, mail);
        read_group(code(codes, 3), packed, auth);
        lanes
    }

    /// The narrowest width codes.
    fn codes(&self) -> u16 {
        let (amounts, events, mail, auth) = self.groups();
        let codes = code_for(bits(amounts))
            | code_for(bits(events)) << 3
            | code_for(bits(mail)) << 6
            | code_for(bits(auth)) << 9;
        codes as u16
    }

    /// Writes width codes and values.
    fn write(&self, codes: u16, packed: &mut [u8]) {
        let (amounts, events, mail, auth) = self.groups();
        let (head, packed) = packed.split_at_mut(CODE_BYTES);
        head.copy_from_slice(&codes.to_le_bytes());
        let packed = write_group(code(codes, 0), packed, amounts);
        let packed = write_group(code(codes, 1), packed, events);
        let packed = write_group(code(codes, 2), packed, mail);
        write_group(code(codes, 3), packed, auth);
    }

    /// Packs into the front of a buffer and tells how many bytes that took.
    pub fn pack(&self, bytes: &mut Buffer) -> usize {
        let codes = self.codes();
        self.write(codes, bytes);
        let lengths = GROUPS.iter().enumerate();
        CODE_BYTES
            + lengths
                .map(|(index, lanes)| lanes * WIDTHS[code(codes, index)])
                .sum::<usize>()
    }

    /// Replaces what is packed in a slot, with the widths it has. False, and nothing
    /// changed, when a value needs more bytes.
    #[must_use]
    pub fn replace(&self, packed: &mut [u8]) -> bool {
        let Some(codes) = packed.first_chunk::<CODE_BYTES>() else {
            return false;
        };
        let codes = u16::from_le_bytes(*codes);
        let (amounts, events, mail, auth) = self.groups();
        let surplus = (bits(amounts) & !mask(codes, 0))
            | (bits(events) & !mask(codes, 1))
            | (bits(mail) & !mask(codes, 2))
            | (bits(auth) & !mask(codes, 3));
        if surplus == 0 {
            self.write(codes, packed);
        }
        surplus == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::FIELDS;
    use crate::store::testing::Random;

    /// Counters whose values have about so many bits, now and then zero.
    fn some(random: &mut Random, bits: u64) -> Counters {
        let mut value = || match random.below(4) {
            0 => 0,
            _ => random.bits() >> (64 - bits + random.below(bits.min(4))),
        };
        Counters {
            stats: Stats {
                values: std::array::from_fn(|_| value()),
            },
            num_logins: value(),
            num_cmds: value(),
        }
    }

    /// The sum as it is to be.
    fn sum(a: &Counters, b: &Counters) -> Counters {
        let add = |a: u64, b: u64| a.saturating_add(b).min(MAX_SUM);
        Counters {
            stats: Stats {
                values: std::array::from_fn(|i| add(a.stats.values[i], b.stats.values[i])),
            },
            num_logins: add(a.num_logins, b.num_logins),
            num_cmds: add(a.num_cmds, b.num_cmds),
        }
    }

    #[test]
    fn every_field_has_one_lane() {
        let mut fields: Vec<usize> = FIELDS_OF_LANES
            .into_iter()
            .filter(|&at| at != NONE)
            .collect();
        fields.sort();
        assert_eq!(fields, (0..FIELD_COUNT).collect::<Vec<_>>());
        assert_eq!(FIELDS_OF_LANES[NUM_CMDS], NONE);
        assert_eq!(FIELDS_OF_LANES[NUM_LOGINS], NONE);
        assert_eq!(GROUPS.iter().sum::<usize>(), LANES);
        assert_eq!(FIELDS[FIELDS_OF_LANES[AUTH]].name, "auth_successes");
        assert_eq!(FIELDS[FIELDS_OF_LANES[AUTH - 1]].name, "mail_cache_hits");
        assert_eq!(EVENTS, GROUPS[0]);
    }

    #[test]
    fn zero_and_the_widest_take_the_bytes_the_module_says() {
        let mut bytes = BUFFER;
        assert_eq!(Lanes::default().pack(&mut bytes), 2);
        let widest = Lanes {
            values: [MAX_SUM; LANES],
        };
        assert_eq!(widest.pack(&mut bytes), 210);
        assert_eq!(Lanes::unpack(&bytes), widest);
    }

    #[test]
    fn unpacks_what_was_packed() {
        let mut random = Random::seeded("packed counters");
        for _ in 0..20_000 {
            let bits = random.below(63) + 1;
            let counters = some(&mut random, bits);
            let mut bytes = [0xaa; MAX_PACKED_BYTES];
            let length = Lanes::of(&counters).pack(&mut bytes);
            assert_eq!(Lanes::unpack(&bytes[..length]).counters(), counters);
        }
    }

    #[test]
    fn replacing_keeps_the_widths_or_the_whole() {
        let mut random = Random::seeded("replacing packed counters");
        let (mut replaced, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let (wide, narrow) = (random.below(63) + 1, random.below(63) + 1);
            let (before, after) = (some(&mut random, wide), some(&mut random, narrow));
            let mut bytes = BUFFER;
            let length = Lanes::of(&before).pack(&mut bytes);
            // A slot's slack keeps whatever is in it.
            let packed = &mut bytes[..(length + 3).min(MAX_PACKED_BYTES)];
            packed[length..].fill(0x55);
            let slack = packed[length..].to_vec();
            let fits = Lanes::of(&after).replace(packed);
            let expected = if fits { after } else { before };
            assert_eq!(Lanes::unpack(packed).counters(), expected);
            assert_eq!(packed[length..], slack);
            *(if fits { &mut replaced } else { &mut refused }) += 1;
        }
        assert!(replaced > 1000 && refused > 1000, "{replaced} {refused}");
    }

    #[test]
    fn sums_are_those_of_each_counter_and_stop_at_the_largest() {
        let mut random = Random::seeded("sums of lanes");
        let mut stopped = 0;
        for _ in 0..20_000 {
            let bits = 60 + random.below(4);
            let (a, b) = (some(&mut random, bits), some(&mut random, bits));
            let mut lanes = Lanes::of(&a);
            lanes.add(&Lanes::of(&b));
            assert_eq!(lanes.counters(), sum(&a, &b));
            stopped += usize::from(lanes.values.contains(&MAX_SUM));
        }
        assert!(stopped > 1000, "{stopped}");
    }

    #[test]
    fn advancing_is_what_a_report_does() {
        let mut random = Random::seeded("advancing lanes");
        let (mut plain, mut special) = (0, 0);
        for _ in 0..20_000 {
            let bits = 4 + random.below(30);
            let before = some(&mut random, bits);
            let mut report = Report {
                has_mail: random.below(8) != 0,
                has_auth: random.below(8) == 0,
                ..Report::default()
            };
            let careless = random.below(3) == 0;
            for (index, value) in report.stats.values.iter_mut().enumerate() {
                let present = match index < place::auth_successes {
                    true => report.has_mail,
                    false => report.has_auth,
                };
                let more = random.bits() >> (40 + random.below(24));
                *value = match (present, careless) {
                    (false, _) => 0,
                    (true, false) => before.stats.values[index] + more,
                    (true, true) => more & 0xffff_ffff,
                };
            }
            let mut total = before;
            let (stats, shrank) = report.advance(&mut total.stats);
            let mut lanes = Lanes::of(&before);
            assert_eq!(
                lanes.advance(&report),
                (Lanes::of_stats(&stats), shrank),
                "{before:?} {report:?}"
            );
            assert_eq!(lanes.counters(), total);
            *(if shrank { &mut special } else { &mut plain }) += 1;
        }
        assert!(plain > 1000 && special > 1000, "{plain} {special}");
    }
}
