//! Counters in as few bytes as their values need.
//!
//! Most statistics of most entries are small or zero, so an entry keeps its
//! counters packed: two bytes of widths, then five groups of counters that
//! tend to be of one size. All counters of a group take as many bytes as its
//! largest needs, least significant byte first. All zero packs to two bytes, the
//! widest to 234. An event is counted in place, without unpacking.
//!
//! It costs 15 to 17% of all instructions of a record, and stays because it saves memory:
//! a typical entry would take about twice the bytes without it.
//!
//! Must not: know where the bytes are stored.

use crate::stats::{Item, Report, Unit, FIELDS, FIELD_COUNT};
use crate::store::counters::{Counters, Difference, Event, COUNTERS, MAX_SUM};

/// Beside the indexes of [`FIELDS`], those of the other counters.
const NUM_CMDS: usize = FIELD_COUNT;
const NUM_LOGINS: usize = FIELD_COUNT + 1;

/// The group of a counter: 0 for amounts (microseconds and bytes), 1 for events that
/// every session has, 2 for events of reading mail, 3 for logins, well or failed, 4 for
/// what only some writers report.
const fn group_of(index: usize) -> usize {
    if index >= FIELD_COUNT {
        return 1;
    }
    let field = &FIELDS[index];
    match (field.item, field.unit) {
        (Item::Mail, Unit::Time | Unit::Bytes) => 0,
        (Item::Mail, Unit::Count) => match field.name.as_bytes() {
            [b'm', b'a', b'i', b'l', b'_', ..] => 2,
            _ => 1,
        },
        (Item::Auth, _) => 3,
        (Item::Net, _) => 4,
    }
}

/// Counters of each group.
const GROUPS: [usize; 5] = {
    let (mut sizes, mut index) = ([0; 5], 0);
    while index < COUNTERS {
        sizes[group_of(index)] += 1;
        index += 1;
    }
    sizes
};

/// The counters of a group, all `N` of them: [`NUM_CMDS`] and [`NUM_LOGINS`] first.
const fn members<const N: usize>(group: usize) -> [usize; N] {
    let (mut members, mut size, mut index) = ([0; N], 0, 0);
    while index < COUNTERS {
        let counter = (NUM_CMDS + index) % COUNTERS;
        if group_of(counter) == group {
            members[size] = counter;
            size += 1;
        }
        index += 1;
    }
    members
}

const AMOUNTS: [usize; GROUPS[0]] = members(0);
const EVENTS: [usize; GROUPS[1]] = members(1);
const MAIL: [usize; GROUPS[2]] = members(2);
const AUTH: [usize; GROUPS[3]] = members(3);
const NET: [usize; GROUPS[4]] = members(4);

/// Bytes of the widths, three bits for each group.
const WIDTHS_BYTES: usize = 2;

/// Room for any packed counters.
pub(crate) const MAX_PACKED_BYTES: usize = WIDTHS_BYTES + COUNTERS * 8;

/// The width of a group's counters in bytes, by the three bits.
const WIDTHS: [usize; 8] = [0, 1, 2, 3, 4, 6, 8, 8];

/// The bits of such a counter.
const MASKS: [u64; 8] = {
    let mut masks = [u64::MAX; 8];
    let mut index = 0;
    while index < 6 {
        masks[index] = (1 << (WIDTHS[index] * 8)) - 1;
        index += 1;
    }
    masks
};

/// The widths of the groups, three bits each: an index of [`WIDTHS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Widths(u16);

impl Widths {
    /// All zero.
    pub(crate) const NONE: Widths = Widths::of([0; 5]);

    /// A few commands and logins, well or failed: 16 bytes, one slot's size, which is
    /// what it takes without the failed ones as well.
    pub(crate) const EVENTS: Widths = Widths::of([0, 1, 0, 1, 0]);

    /// What most sessions come to: some megabytes and seconds.
    pub(crate) const SESSION: Widths = Widths::of([3, 2, 1, 0, 0]);

    /// Of groups of these widths, in bytes; at most four.
    const fn of([amounts, events, mail, auth, net]: [u16; 5]) -> Widths {
        Widths(amounts | events << 3 | mail << 6 | auth << 9 | net << 12)
    }

    /// Of each group the wider one.
    pub(crate) fn or(self, other: Widths) -> Widths {
        let group = |group: usize| (self.0 & 7 << (3 * group)).max(other.0 & 7 << (3 * group));
        Widths(group(0) | group(1) | group(2) | group(3) | group(4))
    }

    /// The narrowest for these values.
    pub(crate) fn narrowest(counters: &Counters) -> Widths {
        const WIDTHS: [u16; 9] = [0, 1, 2, 3, 4, 5, 5, 6, 6];
        let least = |bits: u64| WIDTHS[8 - bits.leading_zeros() as usize / 8];
        Widths(
            least(bits(counters, AMOUNTS))
                | least(bits(counters, EVENTS)) << 3
                | least(bits(counters, MAIL)) << 6
                | match bits(counters, AUTH) | bits(counters, NET) {
                    0 => 0,
                    _ => least(bits(counters, AUTH)) << 9 | least(bits(counters, NET)) << 12,
                },
        )
    }

    /// What counters of these widths take in bytes.
    pub(crate) fn packed_bytes(self) -> usize {
        let bytes = |group: usize| GROUPS[group] * self.width(group);
        let rare = match self.has_rare() {
            true => bytes(3) + bytes(4),
            false => 0,
        };
        WIDTHS_BYTES + bytes(0) + bytes(1) + bytes(2) + rare
    }

    /// Those of packed counters.
    pub(crate) fn of_packed(packed: &[u8]) -> Widths {
        Widths::split(packed).map_or(Widths::NONE, |(widths, _)| widths)
    }

    /// Those in front of packed counters, and what is behind them.
    #[inline(always)]
    fn split(packed: &[u8]) -> Option<(Widths, &[u8])> {
        let (widths, rest) = packed.split_first_chunk::<WIDTHS_BYTES>()?;
        Some((Widths(u16::from_le_bytes(*widths)), rest))
    }

    /// Whether one of the last two groups, which most entries do not need, has any bytes.
    #[inline(always)]
    fn has_rare(self) -> bool {
        self.0 >= 1 << 9
    }

    /// The three bits of a group.
    #[inline(always)]
    fn bits(self, group: usize) -> usize {
        usize::from(self.0 >> (3 * group)) & 7
    }

    /// The width of a group's counters in bytes.
    #[inline(always)]
    fn width(self, group: usize) -> usize {
        WIDTHS[self.bits(group)]
    }

    /// The bits that a group's counters may have.
    #[inline(always)]
    fn mask(self, group: usize) -> u64 {
        MASKS[self.bits(group)]
    }
}

/// A counter by its index, which is a constant once the loop over a group is unrolled.
#[inline(always)]
fn value(counters: &Counters, index: usize) -> u64 {
    match index {
        NUM_CMDS => counters.num_cmds,
        NUM_LOGINS => counters.num_logins,
        field => counters.stats.values[field],
    }
}

/// A counter by its index, to be changed.
#[inline(always)]
fn value_mut(counters: &mut Counters, index: usize) -> &mut u64 {
    match index {
        NUM_CMDS => &mut counters.num_cmds,
        NUM_LOGINS => &mut counters.num_logins,
        field => &mut counters.stats.values[field],
    }
}

/// The bits that the counters of a group have together.
#[inline(always)]
fn bits<const N: usize>(counters: &Counters, group: [usize; N]) -> u64 {
    let values = group.iter().map(|&index| value(counters, index));
    values.fold(0, |bits, value| bits | value)
}

/// Reads a group of `W` bytes for each counter and returns what is behind it.
#[inline(always)]
fn read<'a, const W: usize, const N: usize>(
    packed: &'a [u8],
    counters: &mut Counters,
    group: [usize; N],
) -> &'a [u8] {
    let (bytes, rest) = packed.split_at(W * N);
    // A whole word is read where one is there, and cut: cheaper than three or six
    // bytes put together.
    match packed.get(..W * N + 8 - W) {
        Some(packed) if W == 3 || W == 6 => {
            for (place, index) in group.into_iter().enumerate() {
                let word = word(&packed[place * W..place * W + 8]);
                *value_mut(counters, index) = word & (u64::MAX >> (64 - 8 * W));
            }
        }
        _ => {
            for (index, bytes) in group.into_iter().zip(bytes.chunks_exact(W)) {
                *value_mut(counters, index) = word(bytes);
            }
        }
    }
    rest
}

/// Writes a group of `W` bytes for each counter and returns what is behind it.
#[inline(always)]
fn write<'a, const W: usize, const N: usize>(
    packed: &'a mut [u8],
    counters: &Counters,
    group: [usize; N],
) -> &'a mut [u8] {
    let (packed, rest) = packed.split_at_mut(W * N);
    for (index, bytes) in group.into_iter().zip(packed.chunks_exact_mut(W)) {
        bytes.copy_from_slice(&value(counters, index).to_le_bytes()[..W]);
    }
    rest
}

/// Reads a group, whose counters were zero, and returns what is behind it.
#[inline(always)]
fn read_group<'a, const N: usize>(
    width: usize,
    packed: &'a [u8],
    counters: &mut Counters,
    group: [usize; N],
) -> &'a [u8] {
    match width {
        0 => packed,
        1 => read::<1, N>(packed, counters, group),
        2 => read::<2, N>(packed, counters, group),
        3 => read::<3, N>(packed, counters, group),
        4 => read::<4, N>(packed, counters, group),
        5 => read::<6, N>(packed, counters, group),
        _ => read::<8, N>(packed, counters, group),
    }
}

/// Writes a group and returns what is behind it.
#[inline(always)]
fn write_group<'a, const N: usize>(
    width: usize,
    packed: &'a mut [u8],
    counters: &Counters,
    group: [usize; N],
) -> &'a mut [u8] {
    match width {
        0 => packed,
        1 => write::<1, N>(packed, counters, group),
        2 => write::<2, N>(packed, counters, group),
        3 => write::<3, N>(packed, counters, group),
        4 => write::<4, N>(packed, counters, group),
        5 => write::<6, N>(packed, counters, group),
        _ => write::<8, N>(packed, counters, group),
    }
}

/// Reads packed counters from the front of a slot.
#[inline(always)]
pub(crate) fn unpack(packed: &[u8]) -> Counters {
    let mut counters = Counters::default();
    unpack_to(packed, &mut counters);
    counters
}

/// Unpacks to where the counters are wanted, which are zero: a copy of words just written
/// would wait for all of them.
#[inline(never)]
fn unpack_to(packed: &[u8], counters: &mut Counters) {
    let Some((widths, groups)) = Widths::split(packed) else {
        return;
    };
    let packed = read_group(widths.bits(0), groups, counters, AMOUNTS);
    let packed = read_group(widths.bits(1), packed, counters, EVENTS);
    let packed = read_group(widths.bits(2), packed, counters, MAIL);
    if widths.has_rare() {
        let packed = read_group(widths.bits(3), packed, counters, AUTH);
        if widths.bits(4) != 0 {
            read_group(widths.bits(4), packed, counters, NET);
        }
    }
}

/// Packs with these widths, which are wide enough, into the front of a slot.
#[inline]
pub(crate) fn pack(counters: &Counters, widths: Widths, packed: &mut [u8]) {
    let (head, groups) = packed.split_at_mut(WIDTHS_BYTES);
    head.copy_from_slice(&widths.0.to_le_bytes());
    let packed = write_group(widths.bits(0), groups, counters, AMOUNTS);
    let packed = write_group(widths.bits(1), packed, counters, EVENTS);
    let packed = write_group(widths.bits(2), packed, counters, MAIL);
    if widths.has_rare() {
        let packed = write_group(widths.bits(3), packed, counters, AUTH);
        if widths.bits(4) != 0 {
            write_group(widths.bits(4), packed, counters, NET);
        }
    }
}

/// Packs zeros with these widths into the front of a slot.
#[inline]
pub(crate) fn pack_zeros(widths: Widths, packed: &mut [u8]) {
    let packed = &mut packed[..widths.packed_bytes()];
    packed.fill(0);
    packed[..WIDTHS_BYTES].copy_from_slice(&widths.0.to_le_bytes());
}

/// Replaces what is packed in a slot, with the widths it has. False, and nothing
/// changed, when a value needs more bytes.
#[inline]
#[must_use]
pub(crate) fn replace(packed: &mut [u8], counters: &Counters) -> bool {
    let Some((widths, _)) = Widths::split(packed) else {
        return false;
    };
    let surplus = (bits(counters, AMOUNTS) & !widths.mask(0))
        | (bits(counters, EVENTS) & !widths.mask(1))
        | (bits(counters, MAIL) & !widths.mask(2))
        | match widths.has_rare() {
            false => bits(counters, AUTH) | bits(counters, NET),
            true => {
                (bits(counters, AUTH) & !widths.mask(3)) | (bits(counters, NET) & !widths.mask(4))
            }
        };
    if surplus == 0 {
        pack(counters, widths, packed);
    }
    surplus == 0
}

/// What came of [`step`].
pub(crate) enum Step {
    /// The total and the difference are those of the report.
    Taken,
    /// As `Taken`, but the total needs more bytes; nothing changed where it is packed.
    Wider,
    /// It is not so simple; nothing changed, and total and difference are of no use.
    Refused,
}

/// Takes a report as the new total of what is packed in a slot, as
/// [`Counters::step`] does. `total` and `difference` are zero before.
#[inline]
#[must_use]
pub(crate) fn step(
    packed: &mut [u8],
    report: &Report,
    total: &mut Counters,
    difference: &mut Counters,
) -> Step {
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

/// Adds to what is packed in a slot, with the widths it has. When a value needs more
/// bytes, nothing changes, and the answer is what there would be.
#[inline]
#[must_use]
pub(crate) fn count(packed: &mut [u8], difference: Difference) -> Option<Counters> {
    let is_counted = match difference {
        Difference::Nothing => true,
        Difference::One(event) => count_one_packed(packed, event),
        Difference::Of(_) => false,
    };
    if is_counted {
        return None;
    }
    let mut sums = Counters::default();
    unpack_to(packed, &mut sums);
    sums.count(difference);
    match replace(packed, &sums) {
        true => None,
        false => Some(sums),
    }
}

/// The word of up to eight bytes.
#[inline(always)]
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
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
    let begin = WIDTHS_BYTES + AMOUNTS.len() * widths.width(0) + index * width;
    count_one(&mut packed[begin..][..width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{some_counters, widest, Random};

    /// Counters packed as narrow as can be, behind them `slack` bytes more.
    fn packed(counters: &Counters, slack: usize) -> Vec<u8> {
        let widths = Widths::narrowest(counters);
        let mut bytes = vec![0x55; widths.packed_bytes() + slack];
        pack(counters, widths, &mut bytes);
        assert!(bytes[widths.packed_bytes()..]
            .iter()
            .all(|&byte| byte == 0x55));
        bytes
    }

    #[test]
    fn every_counter_is_in_one_group() {
        let mut indexes = [&AMOUNTS[..], &EVENTS, &MAIL, &AUTH, &NET].concat();
        indexes.sort();
        assert_eq!(indexes, (0..COUNTERS).collect::<Vec<_>>());
        assert_eq!(EVENTS[..2], [NUM_CMDS, NUM_LOGINS]);
    }

    #[test]
    fn zero_and_the_widest_take_the_bytes_the_module_says() {
        assert_eq!(packed(&Counters::default(), 0).len(), 2);
        let widest = widest();
        let bytes = packed(&widest, 0);
        assert_eq!((bytes.len(), MAX_PACKED_BYTES), (234, 234));
        assert_eq!(unpack(&bytes), widest);
        assert_eq!(unpack(&[]), Counters::default());
        for widths in [Widths::NONE, Widths::EVENTS, Widths::SESSION] {
            let mut bytes = [0x55; MAX_PACKED_BYTES];
            pack_zeros(widths, &mut bytes);
            let mut expected = [0x55; MAX_PACKED_BYTES];
            pack(&Counters::default(), widths, &mut expected);
            assert_eq!(bytes, expected);
        }
    }

    #[test]
    fn unpacks_what_was_packed() {
        let mut random = Random::seeded("packed counters");
        for _ in 0..20_000 {
            let bits = random.below(63) + 1;
            let counters = some_counters(&mut random, bits);
            let slack = random.below(9) as usize;
            assert_eq!(unpack(&packed(&counters, slack)), counters);
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
            let fits = replace(&mut bytes, &after);
            let expected = if fits { after } else { before };
            assert_eq!(unpack(&bytes), expected);
            assert!(bytes.ends_with(&[0x55; 3]), "a slot's slack is left alone");
            *(if fits { &mut replaced } else { &mut refused }) += 1;
        }
        assert!(replaced > 1000 && refused > 1000, "{replaced} {refused}");
    }

    #[test]
    fn counting_in_place_is_counting_what_is_unpacked() {
        let mut random = Random::seeded("counting in packed counters");
        let (mut counted, mut refused) = (0, 0);
        let slack = [0x55; 3];
        for _ in 0..40_000 {
            let (bits, more) = (random.below(63) + 1, random.below(63) + 1);
            let before = some_counters(&mut random, bits);
            let more = some_counters(&mut random, more);
            let difference = match random.below(4) {
                0 => Difference::Nothing,
                1 => Difference::One(Event::Login),
                2 => Difference::One(Event::Command),
                _ => Difference::Of(&more),
            };
            let mut bytes = packed(&before, 3);
            let mut expected = before;
            expected.count(difference);
            let more = count(&mut bytes, difference);
            assert!(more.is_none_or(|sums| sums == expected));
            let fits = more.is_none();
            if !fits {
                expected = before;
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
            let after = unpack(&bytes);
            assert_eq!(after.num_cmds, value + u64::from(fits));
            assert_eq!(after.num_logins, 0);
        }
    }
}
