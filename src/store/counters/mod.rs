//! What an entry counts, as a word for each counter.
//!
//! [`Counters`] are what is shown. [`Lanes`] are the same values side by side, so
//! that adding and comparing them are loops of fixed length over one array, which
//! the compiler makes vector instructions of.
//!
//! Invariants: no lane is larger than [`MAX_SUM`], so the sum of two never wraps.
//!
//! Must not: know how entries keep them; that is for [`packed`].

pub(crate) mod packed;

use crate::stats::{Report, Stats, FIELD_COUNT, MAIL_FIELDS};

/// The statistics fields in column order, then num_cmds and num_logins.
pub const COUNTERS: usize = FIELD_COUNT + 2;

/// The lane of num_cmds.
pub const NUM_CMDS: usize = FIELD_COUNT;

/// The lane of num_logins.
pub const NUM_LOGINS: usize = FIELD_COUNT + 1;

/// The largest sum: what a signed 64-bit number holds.
pub const MAX_SUM: u64 = i64::MAX as u64;

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

/// What is counted one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A CONNECT.
    Login,
    /// A command that began.
    Command,
}

impl Event {
    /// Where it is counted.
    pub fn lane(self) -> usize {
        match self {
            Event::Login => NUM_LOGINS,
            Event::Command => NUM_CMDS,
        }
    }
}

/// What a record adds to an entry.
#[derive(Clone, Copy, Debug)]
pub enum Difference<'a> {
    /// Nothing.
    Nothing,
    /// One event.
    One(Event),
    /// Any statistics.
    Of(&'a Lanes),
}

/// Counters side by side, or a difference to add to such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// The values.
    values: [u64; COUNTERS],
}

impl Lanes {
    /// Of these counters.
    pub fn of(counters: &Counters) -> Lanes {
        let mut lanes = Lanes::of_stats(&counters.stats);
        lanes.values[NUM_CMDS] = counters.num_cmds;
        lanes.values[NUM_LOGINS] = counters.num_logins;
        lanes.saturate();
        lanes
    }

    /// Of statistics alone, as small as peers' are.
    #[inline(always)]
    pub fn of_stats(stats: &Stats) -> Lanes {
        let mut lanes = Lanes::default();
        lanes.set_stats(stats);
        lanes
    }

    /// Sets the statistics.
    #[inline(always)]
    pub fn set_stats(&mut self, stats: &Stats) {
        self.values[..FIELD_COUNT].copy_from_slice(&stats.values);
    }

    /// As counters.
    #[inline(always)]
    pub fn counters(&self) -> Counters {
        let mut counters = Counters {
            num_cmds: self.values[NUM_CMDS],
            num_logins: self.values[NUM_LOGINS],
            ..Counters::default()
        };
        let stats = &mut counters.stats.values;
        stats.copy_from_slice(&self.values[..FIELD_COUNT]);
        counters
    }

    /// All lanes.
    #[inline(always)]
    pub fn values(&self) -> &[u64; COUNTERS] {
        &self.values
    }

    /// All lanes, to be changed.
    #[inline(always)]
    pub fn values_mut(&mut self) -> &mut [u64; COUNTERS] {
        &mut self.values
    }

    /// Adds; sums stop at [`MAX_SUM`].
    #[inline]
    pub fn add(&mut self, difference: &Lanes) {
        let mut sums = 0;
        for (sum, value) in self.values.iter_mut().zip(difference.values) {
            *sum += value;
            sums |= *sum;
        }
        if sums > MAX_SUM {
            self.saturate();
        }
    }

    /// Adds what a record adds.
    #[inline]
    pub fn count(&mut self, difference: Difference) {
        match difference {
            Difference::Nothing => {}
            Difference::One(event) => {
                let sum = &mut self.values[event.lane()];
                *sum = (*sum + 1).min(MAX_SUM);
            }
            Difference::Of(lanes) => self.add(lanes),
        }
    }

    /// Makes larger values the largest.
    #[cold]
    #[inline(never)]
    fn saturate(&mut self) {
        for value in &mut self.values {
            *value = (*value).min(MAX_SUM);
        }
    }

    /// Takes a report of a mail process as the new total and sets the lanes of its
    /// item in `difference`, which are the only ones that differ. False, and both are of
    /// no use, when something shrank, and for any other report. The 32-bit counters in
    /// `self` have never wrapped.
    #[inline(always)]
    #[must_use]
    pub fn step(&mut self, report: &Report, difference: &mut Lanes) -> bool {
        if !report.has_mail || report.has_auth {
            return false;
        }
        let mut bits = 0;
        for lane in 0..MAIL_FIELDS {
            let (old, new) = (self.values[lane], report.stats.values[lane]);
            // One that shrank wraps, and has the uppermost bit.
            let more = new.wrapping_sub(old);
            difference.values[lane] = more;
            self.values[lane] = new;
            bits |= more;
        }
        bits <= MAX_SUM
    }

    /// Takes a report as the new total, as [`Report::advance`] does, and returns
    /// the difference and whether anything shrank.
    pub fn advance(&mut self, report: &Report) -> (Lanes, bool) {
        let mut total = self.counters();
        let (difference, shrank) = report.advance(&mut total.stats);
        *self = Lanes::of(&total);
        (Lanes::of_stats(&difference), shrank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{some_counters, Random};

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
    fn sums_are_those_of_each_counter_and_stop_at_the_largest() {
        let mut random = Random::seeded("sums of lanes");
        let mut stopped = 0;
        for _ in 0..20_000 {
            let bits = 60 + random.below(4);
            let (a, b) = (
                some_counters(&mut random, bits),
                some_counters(&mut random, bits),
            );
            let mut lanes = Lanes::of(&a);
            lanes.add(&Lanes::of(&b));
            assert_eq!(lanes.counters(), sum(&a, &b));
            let mut one_more = lanes;
            one_more.count(Difference::One(Event::Login));
            let login = Counters {
                num_logins: 1,
                ..Counters::default()
            };
            assert_eq!(one_more.counters(), sum(&lanes.counters(), &login));
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
            let before = some_counters(&mut random, bits);
            let mut report = Report {
                has_mail: random.below(8) != 0,
                has_auth: random.below(8) == 0,
                ..Report::default()
            };
            let careless = random.below(3) == 0;
            for (index, value) in report.stats.values.iter_mut().enumerate() {
                let present = match index < MAIL_FIELDS {
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
            let mut difference = Lanes::default();
            if bits < 30 && lanes.step(&report, &mut difference) {
                assert!(!shrank);
                assert_eq!(difference, Lanes::of_stats(&stats), "{before:?} {report:?}");
                assert_eq!(lanes.counters(), total);
                plain += 1;
            }
            let mut lanes = Lanes::of(&before);
            let expected = (Lanes::of_stats(&stats), shrank);
            assert_eq!(lanes.advance(&report), expected, "{before:?} {report:?}");
            assert_eq!(lanes.counters(), total);
            special += usize::from(shrank);
        }
        assert!(plain > 1000 && special > 1000, "{plain} {special}");
    }
}
