//! Counters in as few bytes as their values need.
//!
//! Most statistics of most entries are small or zero, so an entry keeps its
//! counters packed: two bytes of widths, then five groups of counters that
//! tend to be of one size. All counters of a group take as many bytes as its
//! largest needs, least significant byte first. All zero packs to two bytes, the
//! widest to 234. Whatever fits is counted in place ([`change`]), without unpacking.
//!
//! It costs 8 to 18% of all instructions of a record, and stays because it saves memory:
//! a typical entry would take about twice the bytes without it.
//!
//! Must not: know where the bytes are stored.

use crate::stats::{place, Item, Stats, Unit, FIELDS, FIELD_COUNT};
use crate::store::counters::{Counters, COUNTERS, MAX_SUM};

/// Beside the indexes of [`FIELDS`], those of the other counters.
const NUM_CMDS: usize = FIELD_COUNT;
const NUM_LOGINS: usize = FIELD_COUNT + 1;

/// Microseconds and bytes.
const AMOUNTS: usize = 0;
/// Events that every session has.
const EVENTS: usize = 1;
/// Events of reading mail.
const MAIL: usize = 2;
/// Logins, well or failed.
const AUTH: usize = 3;
/// What only some writers report.
const NET: usize = 4;

/// The group of a counter.
const fn group_of(index: usize) -> usize {
    if index >= FIELD_COUNT {
        return EVENTS;
    }
    let field = &FIELDS[index];
    match (field.item, field.unit) {
        (Item::Mail, Unit::Time | Unit::Bytes) => AMOUNTS,
        (Item::Mail, Unit::Count) => match field.name.as_bytes() {
            [b'm', b'a', b'i', b'l', b'_', ..] => MAIL,
            _ => EVENTS,
        },
        (Item::Auth, _) => AUTH,
        (Item::Net, _) => NET,
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

/// The most counters of a group.
const MOST: usize = 8;

/// The counters of each group: [`NUM_CMDS`] and [`NUM_LOGINS`] before the others.
const MEMBERS: [[usize; MOST]; 5] = {
    let (mut members, mut sizes, mut index) = ([[0; MOST]; 5], [0; 5], 0);
    while index < COUNTERS {
        let counter = (NUM_CMDS + index) % COUNTERS;
        let group = group_of(counter);
        members[group][sizes[group]] = counter;
        sizes[group] += 1;
        index += 1;
    }
    members
};

/// Does something with each counter of a group, its place there and its index. Written
/// out instead of in a loop: the compiler is told to make programs small and would not
/// unroll it, and a record would cost 20 to 40% more instructions.
macro_rules! for_each {
    ($group:ident, $place:ident, $index:ident => $body:expr) => {
        for_each!($group, $place, $index => $body, 0 1 2 3 4 5 6 7)
    };
    ($group:ident, $place:ident, $index:ident => $body:expr, $($number:literal)*) => {$(
        if $number < GROUPS[$group] {
            let ($place, $index) = ($number, const { MEMBERS[$group][$number] });
            $body;
        }
    )*};
}

/// Bytes of the widths, three bits for each group.
const WIDTHS_BYTES: usize = 2;

/// Room for any packed counters.
pub(crate) const MAX_PACKED_BYTES: usize = WIDTHS_BYTES + COUNTERS * 8;

/// The width of a group's counters in bytes, by the three bits.
const WIDTHS: [usize; 8] = [0, 1, 2, 3, 4, 6, 8, 8];

/// The bits of such a counter.
const MASKS: [u64; 8] = {
    let (mut masks, mut index) = ([0; 8], 0);
    while index < 8 {
        masks[index] = mask(WIDTHS[index]);
        index += 1;
    }
    masks
};

/// The largest value of so many bytes.
const fn mask(width: usize) -> u64 {
    match width {
        8 => MAX_SUM,
        _ => (1 << (8 * width)) - 1,
    }
}

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
    pub(crate) fn narrowest(counters: &impl Values) -> Widths {
        // By the number of leading bytes that are zero.
        const WIDTHS: [u16; 9] = [6, 6, 5, 5, 4, 3, 2, 1, 0];
        let least = |bits: u64| WIDTHS[bits.leading_zeros() as usize / 8];
        Widths(
            least(bits::<AMOUNTS>(counters))
                | least(bits::<EVENTS>(counters)) << 3
                | least(bits::<MAIL>(counters)) << 6
                | least(bits::<AUTH>(counters)) << 9
                | least(bits::<NET>(counters)) << 12,
        )
    }

    /// What counters of these widths take in bytes.
    #[inline(always)]
    pub(crate) fn packed_bytes(self) -> usize {
        let bytes = |group: usize| GROUPS[group] * self.width(group);
        let rare = match self.has_rare() {
            true => bytes(AUTH) + bytes(NET),
            false => 0,
        };
        WIDTHS_BYTES + bytes(AMOUNTS) + bytes(EVENTS) + bytes(MAIL) + rare
    }

    /// The bits of values that these widths have no bytes for.
    #[inline(always)]
    fn surplus(self, values: &impl Values) -> u64 {
        self.mail_surplus(values)
            | (bits::<AUTH>(values) & !self.mask(AUTH))
            | (bits::<NET>(values) & !self.mask(NET))
    }

    /// [`Widths::surplus`] of the first three groups.
    #[inline(always)]
    fn mail_surplus(self, values: &impl Values) -> u64 {
        (bits::<AMOUNTS>(values) & !self.mask(AMOUNTS))
            | (bits::<EVENTS>(values) & !self.mask(EVENTS))
            | (bits::<MAIL>(values) & !self.mask(MAIL))
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

/// Where counters are taken from.
pub(crate) trait Values {
    /// A counter by its index.
    fn value(&self, index: usize) -> u64;
}

impl Values for Counters {
    #[inline(always)]
    fn value(&self, index: usize) -> u64 {
        match index {
            NUM_CMDS => self.num_cmds,
            NUM_LOGINS => self.num_logins,
            field => self.stats.values[field],
        }
    }
}

impl Values for Stats {
    #[inline(always)]
    fn value(&self, index: usize) -> u64 {
        match index {
            NUM_CMDS | NUM_LOGINS => 0,
            field => self.values[field],
        }
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

/// The bits that the values of a group have together.
#[inline(always)]
fn bits<const GROUP: usize>(values: &impl Values) -> u64 {
    let mut bits = 0;
    for_each!(GROUP, _place, index => bits |= values.value(index));
    bits
}

/// The value at a place of a group with `WIDTH` bytes for each.
#[inline(always)]
fn read<const WIDTH: usize>(group: &[u8], place: usize) -> u64 {
    let begin = place * WIDTH;
    let mut word = [0; 8];
    // A whole word is read where one is there, and cut: cheaper than three or six bytes
    // put together.
    if (WIDTH == 3 || WIDTH == 6) && begin + 8 <= group.len() {
        word.copy_from_slice(&group[begin..begin + 8]);
        return u64::from_le_bytes(word) & mask(WIDTH);
    }
    word[..WIDTH].copy_from_slice(&group[begin..begin + WIDTH]);
    u64::from_le_bytes(word)
}

/// Sets the value at a place of a group with `WIDTH` bytes for each.
#[inline(always)]
fn write<const WIDTH: usize>(group: &mut [u8], place: usize, value: u64) {
    group[place * WIDTH..][..WIDTH].copy_from_slice(&value.to_le_bytes()[..WIDTH]);
}

/// Reads a group with `WIDTH` bytes for each counter and returns what is behind it.
#[inline(always)]
fn read_group<'a, const GROUP: usize, const WIDTH: usize>(
    packed: &'a [u8],
    counters: &mut Counters,
) -> &'a [u8] {
    let (group, rest) = packed.split_at(GROUPS[GROUP] * WIDTH);
    for_each!(GROUP, place, index => {
        *value_mut(counters, index) = read::<WIDTH>(group, place);
    });
    rest
}

/// Writes a group with `WIDTH` bytes for each counter and returns what is behind it.
#[inline(always)]
fn write_group<'a, const GROUP: usize, const WIDTH: usize>(
    packed: &'a mut [u8],
    counters: &impl Values,
) -> &'a mut [u8] {
    let (group, rest) = packed.split_at_mut(GROUPS[GROUP] * WIDTH);
    for_each!(GROUP, place, index => write::<WIDTH>(group, place, counters.value(index)));
    rest
}

/// Calls a function for a group with the width that its three bits tell.
macro_rules! by_width {
    ($bits:expr, $function:ident::<$group:ident>($packed:expr, $more:expr)) => {
        match $bits {
            0 => $packed,
            1 => $function::<$group, 1>($packed, $more),
            2 => $function::<$group, 2>($packed, $more),
            3 => $function::<$group, 3>($packed, $more),
            4 => $function::<$group, 4>($packed, $more),
            5 => $function::<$group, 6>($packed, $more),
            _ => $function::<$group, 8>($packed, $more),
        }
    };
}

/// Calls a function for each group of packed counters.
macro_rules! for_each_group {
    ($widths:expr, $function:ident($packed:expr, $more:expr)) => {
        let widths = $widths;
        let packed = by_width!(widths.bits(AMOUNTS), $function::<AMOUNTS>($packed, $more));
        let packed = by_width!(widths.bits(EVENTS), $function::<EVENTS>(packed, $more));
        let packed = by_width!(widths.bits(MAIL), $function::<MAIL>(packed, $more));
        if widths.has_rare() {
            let packed = by_width!(widths.bits(AUTH), $function::<AUTH>(packed, $more));
            by_width!(widths.bits(NET), $function::<NET>(packed, $more));
        }
    };
}

// Behind the macros that it uses.
mod change;

pub(crate) use change::{count, step};

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
pub(crate) fn unpack_to(packed: &[u8], counters: &mut Counters) {
    if let Some((widths, groups)) = Widths::split(packed) {
        for_each_group!(widths, read_group(groups, counters));
    }
}

/// The place of clock_time in its group.
const CLOCK_PLACE: usize = {
    let mut place = 0;
    while MEMBERS[AMOUNTS][place] != place::clock_time {
        place += 1;
    }
    place
};

/// Reads clock_time, in microseconds, of its group.
#[inline(always)]
fn read_clock<'a, const GROUP: usize, const WIDTH: usize>(
    packed: &'a [u8],
    usecs: &mut u64,
) -> &'a [u8] {
    *usecs = read::<WIDTH>(packed, CLOCK_PLACE);
    packed
}

/// The clock_time in packed counters, in microseconds.
pub(crate) fn clock_usecs(packed: &[u8]) -> u64 {
    let mut usecs = 0;
    if let Some((widths, amounts)) = Widths::split(packed) {
        by_width!(
            widths.bits(AMOUNTS),
            read_clock::<AMOUNTS>(amounts, &mut usecs)
        );
    }
    usecs
}

/// Packs with these widths, which are wide enough, into the front of a slot.
#[inline(never)]
pub(crate) fn pack(counters: &impl Values, widths: Widths, packed: &mut [u8]) {
    let (head, groups) = packed.split_at_mut(WIDTHS_BYTES);
    head.copy_from_slice(&widths.0.to_le_bytes());
    for_each_group!(widths, write_group(groups, counters));
}

/// Packs zeros with these widths into a slot.
#[inline(always)]
pub(crate) fn pack_zeros(widths: Widths, packed: &mut [u8]) {
    packed.fill(0);
    packed[..WIDTHS_BYTES].copy_from_slice(&widths.0.to_le_bytes());
}

/// Replaces what is packed in a slot, with the widths it has.
///
/// # Errors
/// The narrowest widths, and nothing changed, when a value needs more bytes.
pub(crate) fn replace(packed: &mut [u8], counters: &Counters) -> Result<(), Widths> {
    let (widths, needed) = (Widths::of_packed(packed), Widths::narrowest(counters));
    if packed.is_empty() || widths.or(needed) != widths {
        return Err(needed);
    }
    pack(counters, widths, packed);
    Ok(())
}

#[cfg(test)]
mod tests;
