//! What an entry counts: the statistics, logins and commands.
//!
//! Invariants: no counter of an entry is larger than [`MAX_SUM`], so the sum of two never
//! wraps.
//!
//! Must not: know how entries store them; that is for [`packed`].

pub(crate) mod packed;

use crate::stats::{Item, Stats, FIELD_COUNT, MAX_TOTAL};

/// The statistics fields, num_cmds and num_logins.
pub(crate) const COUNTERS: usize = FIELD_COUNT + 2;

/// Fields that are added at once: all of them are, in steps of as many.
const AT_ONCE: usize = 9;

/// How many times that are the fields of [`Item::Mail`], which come first.
const MAIL_CHUNKS: usize = Item::Mail.fields().end / AT_ONCE;

const _: () = assert!(FIELD_COUNT % AT_ONCE == 0 && Item::Mail.fields().end % AT_ONCE == 0);

/// What a sum saturates at.
pub(crate) const MAX_SUM: u64 = MAX_TOTAL;

/// What an entry of any level counts, or a difference to add to that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub stats: Stats,
    /// CONNECTs.
    pub num_logins: u64,
    /// Commands begun.
    pub num_cmds: u64,
}

/// What is counted one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Login,
    Command,
}

/// What a record adds to an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Difference<'a> {
    Nothing,
    One(Event),
    Of(&'a Counters),
}

impl Counters {
    #[inline(always)]
    pub(crate) fn of_stats(stats: &Stats) -> Counters {
        Counters {
            stats: *stats,
            ..Counters::default()
        }
    }

    /// Adds; sums saturate at [`MAX_SUM`].
    #[inline]
    pub(crate) fn add(&mut self, difference: &Counters) {
        self.num_logins += difference.num_logins;
        self.num_cmds += difference.num_cmds;
        if self.num_logins | self.num_cmds > MAX_SUM {
            self.saturate();
        }
        self.add_stats(&difference.stats);
    }

    /// Adds statistics; sums saturate at [`MAX_SUM`].
    #[inline(never)]
    pub(crate) fn add_stats(&mut self, stats: &Stats) {
        // Nine at once: the compiler, which makes programs small, unrolls no loop. Not two by
        // a vector: it would wait for differences that were just written one by one.
        macro_rules! nine {
            ($macro:ident) => {
                $macro!(0 1 2 3 4 5 6 7 8)
            };
        }
        let mut bits = 0;
        let sums = self.stats.values.chunks_exact_mut(AT_ONCE);
        for (place, (sums, values)) in sums.zip(stats.values.chunks_exact(AT_ONCE)).enumerate() {
            macro_rules! any {
                ($($at:literal)*) => {$(values[$at])|*};
            }
            macro_rules! add {
                ($($at:literal)*) => {$(
                    sums[$at] += values[$at];
                    bits |= sums[$at];
                )*};
            }
            // Most records have none of those behind the mail item's.
            if place < MAIL_CHUNKS || nine!(any) > 0 {
                nine!(add);
            }
        }
        if bits > MAX_SUM {
            self.saturate();
        }
    }

    /// Adds what a record adds.
    #[inline]
    pub(crate) fn count(&mut self, difference: Difference) {
        let sum = match difference {
            Difference::Nothing => return,
            Difference::One(Event::Login) => &mut self.num_logins,
            Difference::One(Event::Command) => &mut self.num_cmds,
            Difference::Of(counters) => return self.add(counters),
        };
        *sum = (*sum + 1).min(MAX_SUM);
    }

    /// Subtracts; where less was counted, zero stays.
    pub(crate) fn take_off(&mut self, other: &Counters) {
        self.num_logins = self.num_logins.saturating_sub(other.num_logins);
        self.num_cmds = self.num_cmds.saturating_sub(other.num_cmds);
        self.stats = self.stats.since(&other.stats);
    }

    /// Subtracts; `None` when one of the counters is less than that.
    pub(crate) fn checked_sub(mut self, other: &Counters) -> Option<Counters> {
        self.num_logins = self.num_logins.checked_sub(other.num_logins)?;
        self.num_cmds = self.num_cmds.checked_sub(other.num_cmds)?;
        for (value, other) in self.stats.values.iter_mut().zip(other.stats.values) {
            *value = value.checked_sub(other)?;
        }
        Some(self)
    }

    /// Limits each counter to [`MAX_SUM`].
    #[cold]
    #[inline(never)]
    pub(crate) fn saturate(&mut self) {
        let others = [&mut self.num_logins, &mut self.num_cmds];
        for value in self.stats.values.iter_mut().chain(others) {
            *value = (*value).min(MAX_SUM);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::packed::{pack, step, unpack, Widths};
    use super::*;
    use crate::stats::{Report, Unit, FIELDS};
    use crate::store::testing::{some_counters, Random};

    /// The expected sum.
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
    fn sums_are_those_of_each_counter_and_saturate() {
        let mut random = Random::seeded("sums of counters");
        let mut saturated = 0;
        for _ in 0..20_000 {
            let bits = 60 + random.below(4);
            let (a, b) = (
                some_counters(&mut random, bits),
                some_counters(&mut random, bits),
            );
            let mut both = a;
            both.add(&b);
            assert_eq!(both, sum(&a, &b));
            let mut one_more = both;
            one_more.count(Difference::One(Event::Login));
            let login = Counters {
                num_logins: 1,
                ..Counters::default()
            };
            assert_eq!(one_more, sum(&both, &login));
            saturated += usize::from(both.stats.values.contains(&MAX_SUM));
        }
        assert!(saturated > 1000, "{saturated}");
    }

    #[test]
    fn advancing_is_what_a_report_does() {
        let mut random = Random::seeded("advancing counters");
        let (mut simple, mut special) = (0, 0);
        for _ in 0..20_000 {
            let bits = 4 + random.below(30);
            let before = some_counters(&mut random, bits);
            let mut report = Report {
                has_mail: random.below(8) != 0,
                has_auth: random.below(8) == 0,
                has_net: random.below(3) == 0,
                ..Report::default()
            };
            let careless = random.below(3) == 0;
            for (index, value) in report.stats.values.iter_mut().enumerate() {
                let present = match FIELDS[index].item {
                    Item::Mail => report.has_mail,
                    Item::Auth => report.has_auth,
                    Item::Net => report.has_net,
                };
                let more = random.bits() >> (40 + random.below(24));
                *value = match (present, careless) {
                    (false, _) => 0,
                    (true, false) => before.stats.values[index] + more,
                    (true, true) => more & 0xffff_ffff,
                };
                if FIELDS[index].unit == Unit::Count {
                    // Most of them have no more than 32 bits in a report.
                    *value &= 0xffff_ffff;
                }
            }
            let mut total = before;
            let mut stats = Stats::default();
            let shrank = report.advance(&mut total.stats, &mut stats);
            let mut widths = Widths::narrowest(&before);
            if random.below(4) != 0 {
                widths = widths.or(Widths::narrowest(&total));
            }
            let mut packed = vec![0x55; widths.packed_bytes() + 3];
            pack(&before, widths, &mut packed);
            let untouched = packed.clone();
            let mut difference = Counters::default();
            if step(&mut packed, &report, &mut difference) {
                assert!(!shrank);
                let expected = Counters::of_stats(&stats);
                assert_eq!(difference, expected, "{before:?} {report:?}");
                assert_eq!(unpack(&packed), total);
                assert!(packed.ends_with(&[0x55; 3]), "a slot's slack is left alone");
                simple += 1;
            } else {
                assert_eq!(packed, untouched, "{before:?} {report:?}");
            }
            special += usize::from(shrank);
        }
        assert!(simple > 1000 && special > 1000, "{simple} {special}");
    }
}
