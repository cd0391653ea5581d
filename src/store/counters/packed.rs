//! Counters in as few bytes as their values need.
//!
//! Most statistics of most entries are small or zero, so an entry keeps its
//! counters packed: two bytes of widths, then five groups of counters that
//! tend to be of one size. All counters of a group take as many bytes as its
//! largest needs, least significant byte first. All zero packs to two bytes, the
//! widest to 234. Whatever fits is counted in place, without unpacking.
//!
//! It costs 9 to 15% of all instructions of a record, and stays because it saves memory:
//! a typical entry would take about twice the bytes without it.
//!
//! Must not: know where the bytes are stored.

use crate::stats::{place, Item, Report, Stats, Unit, FIELDS, FIELD_COUNT};
use crate::store::counters::{Counters, Difference, Event, COUNTERS, MAX_SUM};

/// The fields of [`Item::Mail`], which come first.
const MAIL_FIELDS: usize = Item::Mail.fields().end;

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

/// The groups by name.
const AMOUNTS: usize = 0;
const EVENTS: usize = 1;
const MAIL: usize = 2;
const AUTH: usize = 3;
const NET: usize = 4;

/// Does something with each counter of a group, its place there and its index. Written
/// out instead of in a loop: the compiler is told to make programs small and would not
/// unroll it, and a record would cost a third more instructions.
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
    let mut masks = [MAX_SUM; 8];
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
            true => bytes(3) + bytes(4),
            false => 0,
        };
        WIDTHS_BYTES + bytes(0) + bytes(1) + bytes(2) + rare
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
trait Values {
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

/// The largest value of `WIDTH` bytes.
const fn mask(width: usize) -> u64 {
    match width {
        8 => MAX_SUM,
        _ => (1 << (8 * width)) - 1,
    }
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
    counters: &Counters,
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

/// The clock_time in packed counters, in microseconds.
pub(crate) fn clock_usecs(packed: &[u8]) -> u64 {
    const PLACE: usize = {
        let mut place = 0;
        while MEMBERS[AMOUNTS][place] != place::clock_time {
            place += 1;
        }
        place
    };
    let Some((widths, amounts)) = Widths::split(packed) else {
        return 0;
    };
    let amounts = &amounts[..GROUPS[AMOUNTS] * widths.width(AMOUNTS)];
    match widths.bits(AMOUNTS) {
        0 => 0,
        1 => read::<1>(amounts, PLACE),
        2 => read::<2>(amounts, PLACE),
        3 => read::<3>(amounts, PLACE),
        4 => read::<4>(amounts, PLACE),
        5 => read::<6>(amounts, PLACE),
        _ => read::<8>(amounts, PLACE),
    }
}

/// Packs with these widths, which are wide enough, into the front of a slot.
#[inline(never)]
pub(crate) fn pack(counters: &Counters, widths: Widths, packed: &mut [u8]) {
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

/// What becomes of a counter.
trait Change {
    /// Its next value, by its index, its value and the largest that fits.
    fn next(&mut self, index: usize, value: u64, most: u64) -> u64;
}

/// Changes a group with `WIDTH` bytes for each counter in place, and returns what is
/// behind it.
#[inline(always)]
fn change_group<'a, const GROUP: usize, const WIDTH: usize>(
    packed: &'a mut [u8],
    change: &mut impl Change,
) -> &'a mut [u8] {
    let (group, rest) = packed.split_at_mut(GROUPS[GROUP] * WIDTH);
    for_each!(GROUP, place, index => {
        let value = read::<WIDTH>(group, place);
        write::<WIDTH>(group, place, change.next(index, value, mask(WIDTH)));
    });
    rest
}

/// Changes all counters in place but those in groups without bytes.
#[inline(always)]
fn change_all(packed: &mut [u8], change: &mut impl Change) {
    if let Some((head, groups)) = packed.split_first_chunk_mut::<WIDTHS_BYTES>() {
        let widths = Widths(u16::from_le_bytes(*head));
        for_each_group!(widths, change_group(groups, change));
    }
}

/// Takes the totals of a report, which fit.
struct Take<'a> {
    totals: &'a Stats,
    has_net: bool,
    /// By how much they differ.
    difference: &'a mut Counters,
    /// The bits of all differences.
    bits: u64,
}

impl Change for Take<'_> {
    #[inline(always)]
    fn next(&mut self, index: usize, value: u64, _most: u64) -> u64 {
        if index >= MAIL_FIELDS && !(self.has_net && Item::Net.fields().contains(&index)) {
            return value;
        }
        let new = self.totals.values[index];
        // One that shrank, or had wrapped at 32 bits, has the uppermost bit.
        let more = new.wrapping_sub(value);
        self.difference.stats.values[index] = more;
        self.bits |= more;
        new
    }
}

/// Takes totals, which fit, in place: those of a mail process, and of `net` if there are
/// any. Sets in `difference` by how much they differ. True when none of them shrank.
#[inline(never)]
fn step_all(packed: &mut [u8], totals: &Stats, has_net: bool, difference: &mut Counters) -> bool {
    let mut take = Take {
        totals,
        has_net,
        difference,
        bits: 0,
    };
    change_all(packed, &mut take);
    take.bits <= MAX_SUM
}

/// Takes a report as the new total of what is packed in a slot, as [`Report::advance`]
/// does, and sets the difference, which is zero before. False, and nothing changed there,
/// when a value needs more bytes, something shrank or wrapped, or the report is not of a
/// mail process; then the difference is of no use.
#[inline]
#[must_use]
pub(crate) fn step(packed: &mut [u8], report: &Report, difference: &mut Counters) -> bool {
    let widths = Widths::of_packed(packed);
    let surplus = match report.has_net {
        true => widths.surplus(&report.stats),
        false => widths.mail_surplus(&report.stats),
    };
    if !report.has_mail || report.has_auth || surplus > 0 {
        return false;
    }
    let is_taken = step_all(packed, &report.stats, report.has_net, difference);
    if !is_taken {
        step_back(packed, report, difference);
    }
    is_taken
}

/// Undoes [`step_all`] of a report, which made a difference.
#[cold]
#[inline(never)]
fn step_back(packed: &mut [u8], report: &Report, difference: &Counters) {
    let mut before = report.stats;
    for (value, more) in before.values.iter_mut().zip(difference.stats.values) {
        *value = value.wrapping_sub(more);
    }
    let _ = step_all(packed, &before, report.has_net, &mut Counters::default());
}

/// Adds a difference.
struct Add<'a> {
    difference: &'a Counters,
    /// The bits of sums that have no bytes.
    surplus: u64,
}

impl Change for Add<'_> {
    #[inline(always)]
    fn next(&mut self, index: usize, value: u64, most: u64) -> u64 {
        let sum = value.wrapping_add(self.difference.value(index));
        self.surplus |= sum & !most;
        sum
    }
}

/// Adds in place, whatever fits. The bits that did not fit.
#[inline(never)]
fn add_all(packed: &mut [u8], difference: &Counters) -> u64 {
    let mut add = Add {
        difference,
        surplus: 0,
    };
    change_all(packed, &mut add);
    add.surplus
}

/// Adds in place. False, and nothing changed, when a sum needs more bytes.
#[inline(never)]
fn add(packed: &mut [u8], difference: &Counters) -> bool {
    // Most often a group without bytes is what does not fit, or the difference alone.
    if Widths::of_packed(packed).surplus(difference) > 0 {
        return false;
    }
    let is_added = add_all(packed, difference) == 0;
    if !is_added {
        subtract_all(packed, *difference);
    }
    is_added
}

/// Undoes [`add_all`]: what is cut off above does not change what is below.
#[cold]
#[inline(never)]
fn subtract_all(packed: &mut [u8], mut difference: Counters) {
    for index in 0..COUNTERS {
        let value = value_mut(&mut difference, index);
        *value = value.wrapping_neg();
    }
    add_all(packed, &difference);
}

/// Adds to what is packed in a slot, with the widths it has. False, and nothing changed,
/// when a value needs more bytes.
#[inline]
#[must_use]
pub(crate) fn count(packed: &mut [u8], difference: Difference) -> bool {
    match difference {
        Difference::Nothing => true,
        Difference::One(event) => count_one_packed(packed, event),
        Difference::Of(counters) => add(packed, counters),
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
    let width = widths.width(EVENTS);
    let index = match event {
        Event::Command => 0,
        Event::Login => 1,
    };
    let begin = WIDTHS_BYTES + GROUPS[AMOUNTS] * widths.width(AMOUNTS) + index * width;
    count_one(&mut packed[begin..][..width])
}

#[cfg(test)]
mod tests;
