//! How long commands took: a histogram with the bounds of the Renard series R10, ten to a
//! decade, from 100 microseconds to 100 seconds.
//!
//! A count is of commands that took at most a bound and longer than the one before; the last
//! is of those that took longer than all bounds. So histograms of different entries add up,
//! and a quantile is shown at most 28 % too large.
//!
//! Must not: know which commands they were.

/// The preferred numbers of a decade, in hundredths (ISO 3).
const R10: [u64; 10] = [100, 125, 160, 200, 250, 315, 400, 500, 630, 800];

/// How many bounds there are.
pub(crate) const BOUNDS: usize = 61;

/// The bounds in microseconds, ascending.
pub const BOUNDS_USECS: [u64; BOUNDS] = {
    let (mut bounds, mut index, mut decade) = ([0; BOUNDS], 0, 1);
    while index < BOUNDS {
        bounds[index] = R10[index % 10] * decade;
        index += 1;
        if index % 10 == 0 {
            decade *= 10;
        }
    }
    bounds
};

/// For each number of bits, the first bound that a time of so many may not pass.
const FIRST: [u8; 65] = {
    let (mut first, mut bits) = ([0; 65], 1);
    while bits < 65 {
        let mut place = first[bits - 1] as usize;
        while place < BOUNDS && BOUNDS_USECS[place] < 1 << (bits - 1) {
            place += 1;
        }
        first[bits] = place as u8;
        bits += 1;
    }
    first
};

/// The place of the first bound that a time does not pass.
#[inline(always)]
fn place_of(usecs: u64) -> usize {
    let mut place = usize::from(FIRST[64 - usecs.leading_zeros() as usize]);
    while BOUNDS_USECS.get(place).is_some_and(|&bound| bound < usecs) {
        place += 1;
    }
    place
}

/// The quantiles that are shown, in percent.
pub const QUANTILES: [u64; 3] = [50, 90, 99];

/// How long some commands took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// How many were at most the bound of the same place; with the last, longer than all.
    pub counts: [u64; BOUNDS + 1],
    /// All times together, in microseconds.
    pub sum_usecs: u64,
    /// The longest time in microseconds.
    pub max_usecs: u64,
}

impl Latency {
    /// Of no commands.
    pub const NONE: Latency = Latency {
        counts: [0; BOUNDS + 1],
        sum_usecs: 0,
        max_usecs: 0,
    };

    /// Counts a command.
    #[inline(always)]
    pub(crate) fn add(&mut self, usecs: u64) {
        self.counts[place_of(usecs)] += 1;
        self.sum_usecs = self.sum_usecs.saturating_add(usecs);
        self.max_usecs = self.max_usecs.max(usecs);
    }

    /// Counts what another one counted.
    pub(crate) fn merge(&mut self, other: &Latency) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
        self.sum_usecs = self.sum_usecs.saturating_add(other.sum_usecs);
        self.max_usecs = self.max_usecs.max(other.max_usecs);
    }

    /// How many commands it counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().copied().fold(0, u64::saturating_add)
    }

    /// The time in microseconds that `percent` of the commands did not pass: the bound above
    /// it, or the longest time where that is less. 0 without commands.
    pub fn quantile_usecs(&self, percent: u64) -> u64 {
        let wanted = u128::from(self.count()) * u128::from(percent);
        let mut sum = 0;
        let place = self.counts.iter().position(|&count| {
            sum += u128::from(count) * 100;
            sum > 0 && sum >= wanted
        });
        let bound = place.and_then(|place| BOUNDS_USECS.get(place));
        bound.map_or(self.max_usecs, |&bound| bound.min(self.max_usecs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Random;

    #[test]
    fn bounds_are_the_preferred_numbers() {
        assert_eq!(BOUNDS_USECS[..4], [100, 125, 160, 200]);
        assert_eq!(BOUNDS_USECS[5], 315);
        assert_eq!(BOUNDS_USECS[10], 1000);
        assert_eq!(BOUNDS_USECS[40], 1_000_000);
        assert_eq!(BOUNDS_USECS[60], 100_000_000);
    }

    #[test]
    fn a_time_is_counted_at_the_first_bound_that_it_does_not_pass() {
        for (usecs, place) in [
            (0, 0),
            (100, 0),
            (101, 1),
            (125, 1),
            (99_999_999, 60),
            (100_000_000, 60),
            (100_000_001, 61),
            (u64::MAX, 61),
        ] {
            let mut latency = Latency::NONE;
            latency.add(usecs);
            assert_eq!(latency.counts[place], 1, "{usecs}");
            assert_eq!((latency.count(), latency.max_usecs), (1, usecs));
            assert_eq!(latency.quantile_usecs(99), usecs, "the longest is exact");
        }
    }

    #[test]
    fn quantiles_are_within_a_bucket_of_the_true_ones() {
        let mut random = Random::seeded("quantiles");
        for _ in 0..200 {
            let mut times = vec![0; 1 + random.below(300) as usize];
            for time in &mut times {
                let bits = 5 + random.below(23);
                *time = random.below(1 << bits);
            }
            let (mut latency, mut other) = (Latency::NONE, Latency::NONE);
            for (index, &time) in times.iter().enumerate() {
                [&mut latency, &mut other][index % 2].add(time);
            }
            latency.merge(&other);
            times.sort_unstable();
            assert_eq!(latency.sum_usecs, times.iter().sum());
            for percent in QUANTILES {
                let rank = (times.len() * percent as usize).div_ceil(100);
                let true_usecs = times[rank.max(1) - 1];
                let place = |usecs| BOUNDS_USECS.partition_point(|&bound| bound < usecs);
                assert_eq!(place(true_usecs), place_of(true_usecs));
                let shown = latency.quantile_usecs(percent);
                assert!(shown >= true_usecs, "{percent}: {shown} {true_usecs}");
                assert_eq!(place(shown), place(true_usecs), "{percent}");
            }
        }
        assert_eq!(Latency::NONE.quantile_usecs(99), 0);
    }
}
