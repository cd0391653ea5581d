//! When the FIFOs are read: for all that came meanwhile instead of for each record.
//!
//! A wake-up costs ten times what a record does, and mail processes write records one by
//! one. So FIFOs that were read rest: they are not in the poll set until a deadline, and
//! are then read for all that came. The rule:
//!
//! - FIFOs that do not rest are watched: the next record wakes the loop, which reads it at
//!   once. Those that nothing came from in a rest are watched again, so no timer is left
//!   and an idle daemon sleeps.
//! - All FIFOs rest together. Each wake-up for them is charged [`WINDOW`] of time, and the
//!   more is owed, the longer is the rest; so while records come there are 32 wake-ups in a
//!   second, 48 where one for a record and one for an empty pipe alternate, and
//!   [`MOST_OWED`] more after a quiet time. A record that comes alone costs one. A burst
//!   after a quiet time finds short rests, and is over before they grow.
//! - What a pipe holds bounds a rest: at most as much shorter as it is smaller than
//!   [`LARGE_BYTES`], and at the rate of what came last, an eighth of the pipe is to come;
//!   so a small pipe, or one that fills fast, is read more often.
//!   Where that leaves no [`LEAST`], as in a flood, the FIFOs are watched, and nothing is
//!   owed.
//! - Each turn of the loop that something else woke reads resting FIFOs as well: whatever
//!   it does, for a client, a timer or a signal, it does with all records that came.
//!
//! Records of one FIFO keep their order. Of those that come in the same rest, or in the
//! same turn, the FIFOs are read in the order of their sections.

use std::time::{Duration, Instant};

/// The usual rest, and what a wake-up is charged.
const WINDOW: Duration = Duration::from_millis(32);

const LONGEST: Duration = Duration::from_millis(42);

/// The most that is owed, in windows.
const MOST_OWED: u32 = 6;

/// The shortest rest that is worth a wake-up at its end.
const LEAST: Duration = Duration::from_millis(1);

/// The shortest time that a rate is computed of: two records may well come in less.
const LEAST_MEASURED: Duration = Duration::from_micros(250);

/// The size of pipe(7) that an ordinary user may have.
const LARGE_BYTES: u32 = 1 << 20;

/// What one turn of the loop read of the FIFOs.
#[derive(Debug)]
pub(crate) struct Taken {
    has_come: bool,
    /// A pipe was not read to its end.
    has_more: bool,
    /// The time since the last turn that read some.
    since: Duration,
    /// The longest rest by what the pipes hold.
    most: Duration,
}

impl Taken {
    /// Bytes of a FIFO whose pipe holds `capacity_bytes`; whether there are more.
    pub(crate) fn add(&mut self, bytes: usize, capacity_bytes: usize, has_more: bool) {
        self.has_come |= bytes > 0;
        self.has_more |= has_more;
        let bytes_32 = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let capacity = bytes_32(capacity_bytes).min(LARGE_BYTES);
        let filled = LONGEST * capacity / LARGE_BYTES;
        let by_rate = self.since * (capacity / 8) / bytes_32(bytes).max(1);
        self.most = self.most.min(filled).min(by_rate);
    }
}

#[derive(Debug)]
pub(crate) struct Rest {
    /// When the wake-ups so far are paid for.
    paid_at: Instant,
    /// When the FIFOs were read last.
    read_at: Instant,
    /// When they are read next; `None`: they are watched.
    until: Option<Instant>,
}

impl Rest {
    /// None yet.
    pub(crate) fn new(instant: Instant) -> Rest {
        Rest {
            paid_at: instant,
            read_at: instant,
            until: None,
        }
    }

    /// When the FIFOs are read next, whatever happens; `None`: they are watched.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Reading begins.
    pub(crate) fn begin(&self, instant: Instant) -> Taken {
        Taken {
            has_come: false,
            has_more: false,
            since: (instant - self.read_at).clamp(LEAST_MEASURED, LONGEST),
            most: LONGEST,
        }
    }

    /// Takes what a turn read of watched FIFOs that were ready, or of all that rest.
    pub(crate) fn end(&mut self, taken: &Taken, instant: Instant) {
        self.read_at = instant;
        if taken.has_more || taken.has_come && taken.most < LEAST {
            (self.until, self.paid_at) = (None, instant);
            return;
        }
        if let Some(until) = self.until.filter(|&until| until > instant) {
            self.until = Some(until.min(instant + taken.most));
            return;
        }
        let most_owed = instant + WINDOW * MOST_OWED;
        self.paid_at = (self.paid_at.max(instant) + WINDOW).min(most_owed);
        let owed = (self.paid_at - instant)
            .as_nanos()
            .div_ceil(WINDOW.as_nanos()) as u32;
        let rest = match owed {
            _ if !taken.has_come => None,
            0..=1 => None,
            2..MOST_OWED => Some(WINDOW / 4u32.pow(MOST_OWED - 1 - owed)),
            _ => Some(LONGEST),
        };
        self.until = rest.map(|rest| instant + rest.min(taken.most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    /// A record and its LF.
    const RECORD_BYTES: usize = 300;

    /// FIFOs and the loop that reads them, in a time of its own.
    struct Loop {
        rest: Rest,
        begin: Instant,
        now: Duration,
        capacity: usize,
        /// Bytes in the pipe.
        waiting: usize,
        wakeups: u32,
        /// The most that was in the pipe.
        fullest: usize,
        /// The longest that a record was in the pipe.
        oldest: Duration,
        /// When the loop wakes by itself.
        due: Option<Duration>,
        /// When the first record in the pipe came.
        since: Option<Duration>,
    }

    impl Loop {
        fn new(capacity: usize) -> Loop {
            let begin = Instant::now();
            Loop {
                rest: Rest::new(begin),
                begin,
                now: Duration::ZERO,
                capacity,
                waiting: 0,
                wakeups: 0,
                fullest: 0,
                oldest: Duration::ZERO,
                due: None,
                since: None,
            }
        }

        /// A turn of the loop; woken by the FIFOs or by something else.
        fn turn(&mut self) {
            let instant = self.begin + self.now;
            let mut taken = self.rest.begin(instant);
            taken.add(self.waiting, self.capacity, false);
            self.rest.end(&taken, instant);
            self.waiting = 0;
            let since = self.since.take().unwrap_or(self.now);
            self.oldest = self.oldest.max(self.now - since);
            self.due = self.rest.until().map(|until| {
                // poll(2) counts in whole milliseconds.
                let millis = (until - instant).as_nanos().div_ceil(1_000_000);
                self.now + Duration::from_millis(millis as u64)
            });
        }

        /// Waits until `time`, and then writes.
        fn write_at(&mut self, time: Duration, bytes: usize) {
            while let Some(due) = self.due.filter(|&due| due <= time) {
                self.now = due;
                self.wakeups += 1;
                self.turn();
            }
            self.now = time;
            self.waiting += bytes;
            self.fullest = self.fullest.max(self.waiting);
            self.since = self.since.or(Some(time));
            if self.rest.until().is_none() {
                self.wakeups += 1;
                self.turn();
            }
        }
    }

    #[test]
    fn a_record_that_comes_alone_is_read_at_once() {
        let mut fifos = Loop::new(MIB);
        for n in 1..=10 {
            fifos.write_at(Duration::from_millis(500) * n, RECORD_BYTES);
            assert_eq!((fifos.waiting, fifos.rest.until()), (0, None));
            assert_eq!(fifos.wakeups, n, "nothing else wakes the loop");
        }
    }

    #[test]
    fn there_are_55_wake_ups_in_a_second_at_most() {
        for micros in (50..2000)
            .step_by(50)
            .chain((2000..80_000).step_by(100))
            .chain((80_000..250_000).step_by(1000))
        {
            let mut fifos = Loop::new(MIB);
            let every = Duration::from_micros(micros);
            for second in 1..=10 {
                let end = Duration::from_secs(second);
                let before = fifos.wakeups;
                while fifos.now + every <= end {
                    fifos.write_at(fifos.now + every, RECORD_BYTES);
                }
                let woken = fifos.wakeups - before;
                assert!(woken <= 55, "{woken}, a record each {every:?}");
            }
            assert!(fifos.oldest <= LONGEST + Duration::from_millis(1));
        }
    }

    /// The worst for the rule: a record comes whenever the FIFOs are watched again.
    #[test]
    fn who_waits_for_the_rest_to_end_gains_nothing() {
        let mut fifos = Loop::new(MIB);
        for second in 1..=10 {
            let before = fifos.wakeups;
            while fifos.now < Duration::from_secs(second) {
                let time = fifos.due.unwrap_or(fifos.now) + Duration::from_micros(1);
                fifos.write_at(time, RECORD_BYTES);
            }
            let woken = fifos.wakeups - before;
            assert!(woken <= 55, "{woken}");
        }
    }

    #[test]
    fn a_busy_fifo_rests_for_the_usual_time() {
        let mut fifos = Loop::new(MIB);
        let every = Duration::from_micros(143);
        while fifos.now < Duration::from_secs(2) {
            fifos.write_at(fifos.now + every, RECORD_BYTES);
        }
        assert!((60..=72).contains(&fifos.wakeups), "{}", fifos.wakeups);
        assert!(fifos.oldest <= WINDOW + Duration::from_millis(1));
        assert!(fifos.fullest < MIB / 8);
    }

    #[test]
    fn a_steady_stream_fills_half_of_a_pipe_at_most() {
        for capacity in [4096, 16384, 65536, 262_144, MIB] {
            for micros in [5000, 1000, 500, 143, 50, 20, 10] {
                let mut fifos = Loop::new(capacity);
                let every = Duration::from_micros(micros);
                while fifos.now < Duration::from_secs(2) {
                    fifos.write_at(fifos.now + every, RECORD_BYTES);
                }
                let fullest = fifos.fullest;
                assert!(fullest <= capacity / 2, "{fullest} of {capacity}, {micros}");
            }
        }
    }

    #[test]
    fn a_burst_after_a_quiet_time_finds_short_rests() {
        for capacity in [65536, MIB] {
            let mut fifos = Loop::new(capacity);
            fifos.write_at(Duration::from_secs(1), RECORD_BYTES);
            for n in 1..4000 {
                let every = Duration::from_nanos(1250);
                fifos.write_at(Duration::from_secs(2) + every * n, RECORD_BYTES);
            }
            // A millisecond of poll(2)'s, and what comes in it.
            assert!(fifos.oldest <= Duration::from_millis(2));
        }
    }

    #[test]
    fn a_flood_is_read_without_rest_and_owes_nothing() {
        let mut fifos = Loop::new(MIB);
        while fifos.now < Duration::from_secs(1) {
            fifos.write_at(fifos.now + Duration::from_millis(1), RECORD_BYTES);
        }
        assert!(fifos.rest.until().is_some());
        let instant = fifos.begin + fifos.now;
        let mut taken = fifos.rest.begin(instant);
        taken.add(65536, MIB, true);
        fifos.rest.end(&taken, instant);
        assert_eq!(fifos.rest.until(), None, "there is more");
        for _ in 0..100 {
            // What a writer leaves that is a little slower than the daemon.
            fifos.write_at(fifos.now + Duration::from_micros(200), 50_000);
            assert_eq!(fifos.rest.until(), None);
        }
        fifos.now += WINDOW;
        fifos.write_at(fifos.now, RECORD_BYTES);
        assert_eq!(fifos.rest.until(), None, "nothing is owed");
    }

    #[test]
    fn what_wakes_the_loop_otherwise_reads_and_changes_no_rest() {
        let mut fifos = Loop::new(MIB);
        while fifos.now < Duration::from_secs(1) {
            fifos.write_at(fifos.now + Duration::from_millis(1), RECORD_BYTES);
        }
        let until = fifos.rest.until();
        assert!(until.is_some());
        for _ in 0..10 {
            fifos.now += Duration::from_micros(10);
            fifos.turn();
            assert_eq!(fifos.waiting, 0);
            assert_eq!(fifos.rest.until(), until);
        }
        fifos.now += Duration::from_micros(10);
        fifos.waiting = MIB;
        fifos.turn();
        assert_eq!(fifos.rest.until(), None, "a flood begins");
    }

    #[test]
    fn the_smallest_pipe_bounds_the_rest_of_all() {
        let begin = Instant::now();
        let mut rest = Rest::new(begin);
        for n in 1..100 {
            let instant = begin + Duration::from_micros(100) * n;
            let mut taken = rest.begin(instant);
            taken.add(RECORD_BYTES, MIB, false);
            taken.add(0, 65536, false);
            rest.end(&taken, instant);
            let until = rest.until().unwrap_or(instant);
            assert!(until - instant <= LONGEST / 16);
        }
        for capacity in [0, 1, usize::MAX] {
            let mut taken = rest.begin(begin + WINDOW);
            taken.add(usize::MAX, capacity, false);
            rest.end(&taken, begin + WINDOW);
            assert_eq!(rest.until(), None);
        }
    }
}
