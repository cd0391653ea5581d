//! Packed counters changed in place: the totals of a report taken, a difference added.
//!
//! Each counter is read, changed and written with the width that its group has. What does not
//! fit is known at the end, and then undone: most often it does.
//!
//! Must not: make a group wider; who calls does that, with other bytes.

use super::{
    mask, read, value_mut, write, Values, Widths, AMOUNTS, AUTH, EVENTS, GROUPS, MAIL, MEMBERS,
    NET, WIDTHS_BYTES,
};
use crate::stats::{Item, Report, Stats};
use crate::store::counters::{Counters, Difference, Event, COUNTERS, MAX_SUM};

/// The fields of [`Item::Mail`], which come first.
const MAIL_FIELDS: usize = Item::Mail.fields().end;

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

/// Adds what differs, as far as it fits.
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
