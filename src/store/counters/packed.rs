//! Counters in as few bytes as their values need.
//!
//! Most statistics of most entries are small or zero, so an entry keeps its
//! counters packed: two bytes of width codes, then four groups of counters that
//! tend to be of one size. All counters of a group take as many bytes as its
//! largest needs, least significant byte first. All zero packs to two bytes, the
//! widest to 210.
//!
//! What changes with nearly every record, the counters of a large domain, lies there
//! plainly ([`Widths::PLAIN`]), a word for each lane in their order: then an addition is one
//! loop over words, where otherwise all is unpacked, added and packed again. An event
//! is counted where it lies, however it is packed.
//!
//! Must not: know where the bytes are kept.

use crate::stats::{place, Report};
use crate::store::counters::{Difference, Event, Lanes, COUNTERS, MAX_SUM, NUM_CMDS, NUM_LOGINS};

/// The lanes of amounts: microseconds and bytes.
const AMOUNTS: [usize; 8] = [
    place::user_cpu,
    place::sys_cpu,
    place::clock_time,
    place::disk_input,
    place::disk_output,
    place::read_bytes,
    place::write_bytes,
    place::mail_read_bytes,
];

/// The lanes of events that every session has.
const EVENTS: [usize; 8] = [
    NUM_CMDS,
    NUM_LOGINS,
    place::min_faults,
    place::maj_faults,
    place::vol_cs,
    place::invol_cs,
    place::read_count,
    place::write_count,
];

/// The lanes of events of reading mail.
const MAIL: [usize; 4] = [
    place::mail_lookup_path,
    place::mail_lookup_attr,
    place::mail_read_count,
    place::mail_cache_hits,
];

/// The lanes of logging in.
const AUTH: [usize; 6] = [
    place::auth_successes,
    place::auth_master_successes,
    place::auth_failures,
    place::auth_db_tempfails,
    place::auth_cache_hits,
    place::auth_cache_misses,
];

/// Lanes of each group.
const GROUPS: [usize; 4] = [AMOUNTS.len(), EVENTS.len(), MAIL.len(), AUTH.len()];

/// Bytes of the width codes, three bits for each group.
const CODE_BYTES: usize = 2;

/// Room for any packed counters.
pub const MAX_PACKED_BYTES: usize = CODE_BYTES + COUNTERS * 8;

/// The width of a group's counters in bytes, by code.
const WIDTHS: [usize; 8] = [0, 1, 2, 3, 4, 6, 8, 8];

/// The bits of such a counter.
const MASKS: [u64; 8] = {
    let mut masks = [u64::MAX; 8];
    let mut code = 0;
    while code < 6 {
        masks[code] = (1 << (WIDTHS[code] * 8)) - 1;
        code += 1;
    }
    masks
};

/// The groups' width codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths(u16);

impl Widths {
    /// Eight bytes for each counter, in the order of lanes.
    pub const PLAIN: Widths = Widths(0o7777);

    /// Nothing but zeros.
    pub const NONE: Widths = Widths::of([0; 4]);

    /// A few commands and logins, well or failed: 16 bytes, one slot's size, which is
    /// what it takes without the failed ones as well.
    pub const EVENTS: Widths = Widths::of([0, 1, 0, 1]);

    /// What most sessions come to: some megabytes and seconds.
    pub const SESSION: Widths = Widths::of([3, 2, 1, 0]);

    /// Of groups of these widths, in bytes; at most four.
    const fn of([amounts, events, mail, auth]: [u16; 4]) -> Widths {
        Widths(amounts | events << 3 | mail << 6 | auth << 9)
    }

    /// Of each group the wider one.
    pub fn or(self, other: Widths) -> Widths {
        let group = |group: usize| (self.0 & 7 << (3 * group)).max(other.0 & 7 << (3 * group));
        Widths(group(0) | group(1) | group(2) | group(3))
    }

    /// The narrowest for these values.
    pub fn narrowest(lanes: &Lanes) -> Widths {
        const WIDTHS: [u16; 9] = [0, 1, 2, 3, 4, 5, 5, 6, 6];
        let code = |bits: u64| WIDTHS[8 - bits.leading_zeros() as usize / 8];
        Widths(
            code(bits(lanes, AMOUNTS))
                | code(bits(lanes, EVENTS)) << 3
                | code(bits(lanes, MAIL)) << 6
                | code(bits(lanes, AUTH)) << 9,
        )
    }

    /// What counters of these widths take in bytes.
    pub fn packed_bytes(self) -> usize {
        if self == Widths::PLAIN {
            return MAX_PACKED_BYTES;
        }
        let groups = GROUPS.iter().enumerate();
        CODE_BYTES
            + groups
                .map(|(group, lanes)| lanes * self.width(group))
                .sum::<usize>()
    }

    /// Those of packed counters.
    pub fn of_packed(packed: &[u8]) -> Widths {
        Widths::split(packed).map_or(Widths::NONE, |(widths, _)| widths)
    }

    /// Those in front of packed counters, and what is behind them.
    #[inline(always)]
    fn split(packed: &[u8]) -> Option<(Widths, &[u8])> {
        let (widths, rest) = packed.split_first_chunk::<CODE_BYTES>()?;
        Some((Widths(u16::from_le_bytes(*widths)), rest))
    }

    /// A group's code.
    #[inline(always)]
    fn code(self, group: usize) -> usize {
        usize::from(self.0 >> (3 * group)) & 7
    }

    /// The width of a group's counters in bytes.
    #[inline(always)]
    fn width(self, group: usize) -> usize {
        WIDTHS[self.code(group)]
    }

    /// The bits that a group's counters may have.
    #[inline(always)]
    fn mask(self, group: usize) -> u64 {
        MASKS[self.code(group)]
    }
}

/// The bits that the lanes of a group have together.
#[inline(always)]
fn bits<const N: usize>(lanes: &Lanes, group: [usize; N]) -> u64 {
    let values = lanes.values();
    group.iter().fold(0, |bits, &lane| bits | values[lane])
}

/// Reads a group of `W` bytes for each lane and returns what is behind it.
#[inline(always)]
fn read<'a, const W: usize, const N: usize>(
    packed: &'a [u8],
    lanes: &mut Lanes,
    group: [usize; N],
) -> &'a [u8] {
    let values = lanes.values_mut();
    let (bytes, rest) = packed.split_at(W * N);
    // A whole word is read where one is there, and cut: cheaper than three or six
    // bytes put together.
    match packed.get(..W * N + 8 - W) {
        Some(packed) if W == 3 || W == 6 => {
            for (index, lane) in group.into_iter().enumerate() {
                let word = word(&packed[index * W..index * W + 8]);
                values[lane] = word & (u64::MAX >> (64 - 8 * W));
            }
        }
        _ => {
            for (lane, bytes) in group.into_iter().zip(bytes.chunks_exact(W)) {
                values[lane] = word(bytes);
            }
        }
    }
    rest
}

/// Writes a group of `W` bytes for each lane and returns what is behind it.
#[inline(always)]
fn write<'a, const W: usize, const N: usize>(
    packed: &'a mut [u8],
    lanes: &Lanes,
    group: [usize; N],
) -> &'a mut [u8] {
    let values = lanes.values();
    let (packed, rest) = packed.split_at_mut(W * N);
    for (lane, bytes) in group.into_iter().zip(packed.chunks_exact_mut(W)) {
        bytes.copy_from_slice(&values[lane].to_le_bytes()[..W]);
    }
    rest
}

/// Reads a group, whose lanes were zero, and returns what is behind it.
#[inline(always)]
fn read_group<'a, const N: usize>(
    code: usize,
    packed: &'a [u8],
    lanes: &mut Lanes,
    group: [usize; N],
) -> &'a [u8] {
    match code {
        0 => packed,
        1 => read::<1, N>(packed, lanes, group),
        2 => read::<2, N>(packed, lanes, group),
        3 => read::<3, N>(packed, lanes, group),
        4 => read::<4, N>(packed, lanes, group),
        5 => read::<6, N>(packed, lanes, group),
        _ => read::<8, N>(packed, lanes, group),
    }
}

/// Writes a group and returns what is behind it.
#[inline(always)]
fn write_group<'a, const N: usize>(
    code: usize,
    packed: &'a mut [u8],
    lanes: &Lanes,
    group: [usize; N],
) -> &'a mut [u8] {
    match code {
        0 => packed,
        1 => write::<1, N>(packed, lanes, group),
        2 => write::<2, N>(packed, lanes, group),
        3 => write::<3, N>(packed, lanes, group),
        4 => write::<4, N>(packed, lanes, group),
        5 => write::<6, N>(packed, lanes, group),
        _ => write::<8, N>(packed, lanes, group),
    }
}

/// Reads packed counters from the front of a slot.
#[inline(always)]
pub fn unpack(packed: &[u8]) -> Lanes {
    let mut lanes = Lanes::default();
    unpack_to(packed, &mut lanes);
    lanes
}

/// The same, to where they are wanted, which is zero: a copy of words just written would
/// wait for all of them.
#[inline(never)]
fn unpack_to(packed: &[u8], lanes: &mut Lanes) {
    let Some((widths, groups)) = Widths::split(packed) else {
        return;
    };
    if widths == Widths::PLAIN {
        let words = packed[CODE_BYTES..].chunks_exact(8);
        for (value, bytes) in lanes.values_mut().iter_mut().zip(words) {
            *value = word(bytes);
        }
    } else {
        let packed = read_group(widths.code(0), groups, lanes, AMOUNTS);
        let packed = read_group(widths.code(1), packed, lanes, EVENTS);
        let packed = read_group(widths.code(2), packed, lanes, MAIL);
        read_group(widths.code(3), packed, lanes, AUTH);
    }
}

/// Packs with these widths, which are wide enough, into the front of a slot.
#[inline]
pub fn pack(lanes: &Lanes, widths: Widths, packed: &mut [u8]) {
    let head = widths.0.to_le_bytes();
    packed[..CODE_BYTES].copy_from_slice(&head);
    if widths == Widths::PLAIN {
        let words = packed[CODE_BYTES..].chunks_exact_mut(8);
        for (value, bytes) in lanes.values().iter().zip(words) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    } else {
        let groups = &mut packed[CODE_BYTES..];
        let packed = write_group(widths.code(0), groups, lanes, AMOUNTS);
        let packed = write_group(widths.code(1), packed, lanes, EVENTS);
        let packed = write_group(widths.code(2), packed, lanes, MAIL);
        write_group(widths.code(3), packed, lanes, AUTH);
    }
}

/// Replaces what is packed in a slot, with the widths it has. False, and nothing
/// changed, when a value needs more bytes.
#[inline]
#[must_use]
pub fn replace(packed: &mut [u8], lanes: &Lanes) -> bool {
    let Some((widths, _)) = Widths::split(packed) else {
        return false;
    };
    let surplus = (bits(lanes, AMOUNTS) & !widths.mask(0))
        | (bits(lanes, EVENTS) & !widths.mask(1))
        | (bits(lanes, MAIL) & !widths.mask(2))
        | (bits(lanes, AUTH) & !widths.mask(3));
    if surplus == 0 {
        pack(lanes, widths, packed);
    }
    surplus == 0
}

/// What came of [`step`].
pub enum Step {
    /// The total and the difference are those of the report.
    Taken,
    /// The same, but the total needs more bytes; nothing changed where it is packed.
    Wider,
    /// It is not so simple; nothing changed, and total and difference are of no use.
    Refused,
}

/// Takes a report as the new total of what is packed in a slot, as
/// [`Lanes::step`] does. `total` and `difference` are zero before.
#[inline]
#[must_use]
pub fn step(packed: &mut [u8], report: &Report, total: &mut Lanes, difference: &mut Lanes) -> Step {
    let Some((widths, _)) = Widths::split(packed) else {
        return Step::Refused;
    };
    // No 32-bit counter can have wrapped where none has more than 32 bits.
    if widths.width(1) > 4 || widths.width(2) > 4 {
        return Step::Refused;
    }
    unpack_to(packed, total);
    if !total.step(report, difference) {
        Step::Refused
    } else if !replace(packed, total) {
        Step::Wider
    } else {
        Step::Taken
    }
}

/// Whether counters lie there plainly.
pub fn is_plain(packed: &[u8]) -> bool {
    Widths::split(packed).is_some_and(|(widths, _)| widths == Widths::PLAIN)
}

/// The counters of a slot where they lie plainly.
#[inline(always)]
fn plain(packed: &mut [u8]) -> Option<&mut [u8; COUNTERS * 8]> {
    let (head, words) = packed.split_first_chunk_mut::<CODE_BYTES>()?;
    let is_plain = head[..CODE_BYTES] == Widths::PLAIN.0.to_le_bytes();
    words.first_chunk_mut().filter(|_| is_plain)
}

/// Adds to what is packed in a slot, with the widths it has. When a value needs more
/// bytes, nothing changes, and the answer is what there would be.
#[inline]
#[must_use]
pub fn count(packed: &mut [u8], difference: Difference) -> Option<Lanes> {
    if let Some(words) = plain(packed) {
        match difference {
            Difference::Nothing => {}
            Difference::One(event) => {
                count_one(&mut words[event.lane() * 8..][..8]);
            }
            Difference::Of(lanes) => add_plainly(words, lanes),
        }
        return None;
    }
    let is_counted = match difference {
        Difference::Nothing => true,
        Difference::One(event) => count_one_packed(packed, event),
        Difference::Of(_) => false,
    };
    if is_counted {
        return None;
    }
    let mut sums = Lanes::default();
    unpack_to(packed, &mut sums);
    sums.count(difference);
    match replace(packed, &sums) {
        true => None,
        false => Some(sums),
    }
}

/// Adds to counters that lie there plainly.
#[inline(always)]
fn add_plainly(words: &mut [u8; COUNTERS * 8], lanes: &Lanes) {
    let mut sums = [0; COUNTERS];
    let mut bits = 0;
    for ((sum, bytes), value) in sums
        .iter_mut()
        .zip(words.chunks_exact(8))
        .zip(lanes.values())
    {
        // Neither has the uppermost bit, so this does not wrap.
        *sum = word(bytes) + value;
        bits |= *sum;
    }
    for (bytes, sum) in words.chunks_exact_mut(8).zip(sums) {
        bytes.copy_from_slice(&sum.to_le_bytes());
    }
    if bits > MAX_SUM {
        saturate(words);
    }
}

/// The word of up to eight bytes.
#[inline(always)]
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// Makes larger values the largest.
#[cold]
#[inline(never)]
fn saturate(words: &mut [u8; COUNTERS * 8]) {
    for bytes in words.chunks_exact_mut(8) {
        bytes.copy_from_slice(&word(bytes).min(MAX_SUM).to_le_bytes());
    }
}

/// Adds one to a counter. False, and nothing changed, when that needs another byte.
#[inline(always)]
fn count_one(counter: &mut [u8]) -> bool {
    for index in 0..counter.len() {
        let carries;
        (counter[index], carries) = counter[index].overflowing_add(1);
        if !carries {
            if index == 7 && counter[index] > MAX_SUM.to_le_bytes()[7] {
                counter.copy_from_slice(&MAX_SUM.to_le_bytes());
            }
            return true;
        }
    }
    counter.fill(u8::MAX);
    false
}

/// Adds one to the counter of an event, packed with the widths it has.
#[inline]
fn count_one_packed(packed: &mut [u8], event: Event) -> bool {
    let Some((widths, _)) = Widths::split(packed) else {
        return false;
    };
    let width = widths.width(1);
    let index = match event {
        Event::Command => 0,
        Event::Login => 1,
    };
    let begin = CODE_BYTES + AMOUNTS.len() * widths.width(0) + index * width;
    count_one(&mut packed[begin..][..width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::counters::Counters;
    use crate::store::testing::{some_counters, Random};

    /// Counters packed as narrow as can be, behind them `slack` bytes more.
    fn packed(counters: &Counters, slack: usize) -> Vec<u8> {
        let lanes = Lanes::of(counters);
        let widths = Widths::narrowest(&lanes);
        let mut bytes = vec![0x55; widths.packed_bytes() + slack];
        pack(&lanes, widths, &mut bytes);
        assert!(bytes[widths.packed_bytes()..]
            .iter()
            .all(|&byte| byte == 0x55));
        bytes
    }

    #[test]
    fn every_lane_is_in_one_group() {
        let mut lanes = [&AMOUNTS[..], &EVENTS, &MAIL, &AUTH].concat();
        lanes.sort();
        assert_eq!(lanes, (0..COUNTERS).collect::<Vec<_>>());
        assert_eq!(EVENTS[..2], [Event::Command.lane(), Event::Login.lane()]);
    }

    #[test]
    fn zero_and_the_widest_take_the_bytes_the_module_says() {
        assert_eq!(packed(&Counters::default(), 0).len(), 2);
        let mut widest = Lanes::default();
        widest.values_mut().fill(MAX_SUM);
        let bytes = packed(&widest.counters(), 0);
        assert_eq!((bytes.len(), MAX_PACKED_BYTES), (210, 210));
        assert_eq!(unpack(&bytes), widest);
        assert_eq!(unpack(&[]), Lanes::default());
    }

    #[test]
    fn unpacks_what_was_packed() {
        let mut random = Random::seeded("packed counters");
        for _ in 0..20_000 {
            let bits = random.below(63) + 1;
            let counters = some_counters(&mut random, bits);
            let slack = random.below(9) as usize;
            assert_eq!(unpack(&packed(&counters, slack)).counters(), counters);
        }
    }

    #[test]
    fn replacing_keeps_the_widths_or_the_whole() {
        let mut random = Random::seeded("replacing packed counters");
        let (mut replaced, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let (wide, narrow) = (random.below(63) + 1, random.below(63) + 1);
            let before = some_counters(&mut random, wide);
            let after = some_counters(&mut random, narrow);
            let mut bytes = packed(&before, 3);
            let fits = replace(&mut bytes, &Lanes::of(&after));
            let expected = if fits { after } else { before };
            assert_eq!(unpack(&bytes).counters(), expected);
            assert!(bytes.ends_with(&[0x55; 3]), "a slot's slack is left alone");
            *(if fits { &mut replaced } else { &mut refused }) += 1;
        }
        assert!(replaced > 1000 && refused > 1000, "{replaced} {refused}");
    }

    #[test]
    fn counting_where_it_lies_is_counting_what_is_unpacked() {
        let mut random = Random::seeded("counting in packed counters");
        let (mut counted, mut refused) = (0, 0);
        let slack = [0x55; 3];
        for round in 0..40_000 {
            let (bits, more) = (random.below(63) + 1, random.below(63) + 1);
            let before = some_counters(&mut random, bits);
            let more = Lanes::of(&some_counters(&mut random, more));
            let difference = match random.below(4) {
                0 => Difference::Nothing,
                1 => Difference::One(Event::Login),
                2 => Difference::One(Event::Command),
                _ => Difference::Of(&more),
            };
            let mut bytes = packed(&before, 3);
            if round % 2 == 0 {
                bytes = vec![0x55; MAX_PACKED_BYTES + 3];
                pack(&Lanes::of(&before), Widths::PLAIN, &mut bytes);
            }
            let mut expected = Lanes::of(&before);
            expected.count(difference);
            let more = count(&mut bytes, difference);
            assert!(more.is_none_or(|sums| sums == expected));
            let fits = more.is_none();
            assert!(fits || round % 2 == 1, "a word holds everything");
            if !fits {
                expected = Lanes::of(&before);
            }
            assert_eq!(unpack(&bytes), expected, "{difference:?} to {before:?}");
            assert!(bytes.ends_with(&slack), "a slot's slack is left alone");
            *(if fits { &mut counted } else { &mut refused }) += 1;
        }
        assert!(counted > 1000 && refused > 1000, "{counted} {refused}");
    }

    #[test]
    fn an_event_that_needs_another_byte_is_refused() {
        for (value, fits) in [(254, true), (255, false), (65_534, true), (65_535, false)] {
            let counters = Counters {
                num_cmds: value,
                ..Counters::default()
            };
            let mut bytes = packed(&counters, 0);
            assert_eq!(
                count(&mut bytes, Difference::One(Event::Command)).is_none(),
                fits,
                "{value}"
            );
            let after = unpack(&bytes).counters();
            assert_eq!(after.num_cmds, value + u64::from(fits));
            assert_eq!(after.num_logins, 0);
        }
    }
}
