use super::*;
use crate::cli::server::{Event, ReplyParser};
use crate::cli::top::column::{COMMANDS, LOGINS};

const SECOND: Duration = Duration::from_secs(1);

/// A table and the time of its samples.
struct Bench {
    table: Table,
    now: Instant,
    window: Duration,
}

impl Bench {
    fn new(level: Zoom, window: Duration) -> Bench {
        let (table, now) = (Table::new(level), Instant::now());
        Bench { table, now, window }
    }

    /// A sample some time after the last.
    fn sample(&mut self, later: Duration, reply: &str) {
        self.now += later;
        let mut parser = ReplyParser::default();
        parser.feed(format!("{reply}\n").as_bytes());
        while let Some(event) = parser.next().unwrap() {
            match event {
                Event::Header(names) => self.table.begin(&names),
                Event::Row(row) => self.table.row(row, self.now),
                Event::End => self.table.end(self.now, self.window),
                Event::Nothing => {
                    self.table.begin(&[]);
                    self.table.end(self.now, self.window);
                }
            }
        }
    }

    fn users(&mut self, later: Duration, rows: &[(&str, u64, u64)]) {
        let mut reply = "user\treset_timestamp\tnum_cmds\n".to_owned();
        for (user, reset, commands) in rows {
            reply += &format!("{user}\t{reset}\t{commands}\n");
        }
        self.sample(later, &reply);
    }

    /// The rate of a user's commands; `None`: unknown.
    fn rate(&self, user: &str) -> Option<f64> {
        let entry = self.entry(user)?;
        let figures = self.table.figures(entry, Look::Rates(self.window));
        (!figures.is_unknown()).then(|| figures.number(COMMANDS))
    }

    fn entry(&self, user: &str) -> Option<&Entry> {
        let mut entries = self.table.entries();
        let found = entries.find(|(_, entry)| *entry.texts[0] == *user.as_bytes());
        found.map(|(_, entry)| entry)
    }
}

#[test]
fn a_rate_is_the_difference_over_the_time() {
    let mut bench = Bench::new(Zoom::User, SECOND);
    bench.users(SECOND, &[("joe", 1, 100)]);
    assert_eq!(bench.rate("joe"), None, "it takes two samples");
    bench.users(SECOND * 2, &[("joe", 1, 130)]);
    assert_eq!(bench.rate("joe"), Some(15.0));
    bench.users(SECOND * 2, &[("joe", 1, 130)]);
    assert_eq!(bench.rate("joe"), Some(0.0));
    let entry = bench.entry("joe").unwrap();
    let totals = bench.table.figures(entry, Look::Totals);
    assert_eq!((totals.number(COMMANDS), totals.is_total()), (130.0, true));
}

#[test]
fn no_rate_is_negative() {
    let mut bench = Bench::new(Zoom::User, SECOND);
    bench.users(SECOND, &[("joe", 1, 100)]);
    bench.users(SECOND, &[("joe", 2, 7)]);
    assert_eq!(bench.rate("joe"), Some(7.0), "all since the reset is new");
    bench.users(SECOND, &[("joe", 2, 3)]);
    assert_eq!(bench.rate("joe"), Some(0.0), "shrunk without a reset");
    bench.users(SECOND, &[("joe", 2, 5)]);
    assert_eq!(bench.rate("joe"), Some(2.0));
    bench.users(SECOND, &[("joe", 9, u64::MAX)]);
    bench.users(SECOND, &[("joe", 10, u64::MAX)]);
    assert!(bench.rate("joe").unwrap() >= 0.0, "sums stop at the end");
}

#[test]
fn what_is_new_counts_from_zero_only_if_it_was_not_there() {
    let mut bench = Bench::new(Zoom::User, SECOND);
    bench.users(SECOND, &[("joe", 1, 100)]);
    bench.users(SECOND, &[("joe", 1, 100), ("ann", 2, 8)]);
    assert_eq!(bench.rate("ann"), Some(8.0));
    assert!(bench.entry("ann").unwrap().new_since.is_some());
    bench.table.interrupt();
    bench.users(SECOND, &[("joe", 1, 110), ("old", 1, 5000)]);
    assert_eq!(bench.rate("old"), None, "it may have been there");
    assert_eq!(bench.rate("joe"), Some(10.0));
    bench.users(SECOND, &[("old", 1, 5001)]);
    assert_eq!(bench.rate("old"), Some(1.0));
}

#[test]
fn windows_look_back_as_far_as_they_say() {
    for (window, rate) in [(1, 19.0), (5, 17.0), (60, 12.5)] {
        let mut bench = Bench::new(Zoom::User, SECOND * window);
        // Commands grow by 1, 2, 3 ... a second.
        let mut commands = 0;
        for second in 0..20 {
            commands += second;
            bench.users(SECOND, &[("joe", 1, commands)]);
        }
        let found = bench.rate("joe").unwrap();
        let least = if window == 60 { 10.0 } else { rate };
        assert!((least..=rate).contains(&found), "{window}: {found}");
    }
    let mut bench = Bench::new(Zoom::User, SECOND * 60);
    for second in 0..200 {
        bench.users(SECOND, &[("joe", 1, second * 3)]);
        let unknown = bench.rate("joe").is_none();
        assert!(unknown == (second == 0) && bench.rate("joe").is_none_or(|r| r == 3.0));
    }
}

#[test]
fn who_is_gone_fades_and_may_come_back() {
    let mut bench = Bench::new(Zoom::User, SECOND);
    bench.users(SECOND, &[("joe", 1, 1), ("ann", 1, 1)]);
    bench.users(SECOND, &[("joe", 1, 2)]);
    assert!(bench.entry("ann").unwrap().gone_since.is_some());
    assert_eq!(bench.rate("ann"), Some(0.0));
    bench.users(SECOND, &[("joe", 1, 3), ("ann", 1, 1)]);
    assert!(bench.entry("ann").unwrap().gone_since.is_none());
    bench.sample(SECOND, "");
    assert_eq!(bench.table.entries().count(), 2);
    bench.sample(FADING, "");
    assert_eq!(bench.table.entries().count(), 0);
}

#[test]
fn equal_commands_are_told_apart() {
    let mut bench = Bench::new(Zoom::Command, SECOND);
    let row = "NOOP\t\ts1\tjoe\t5\n";
    let reply = format!("cmd\targs\tsession\tuser\tdisk_input\n{}", row.repeat(4));
    bench.sample(SECOND, &reply);
    bench.sample(SECOND, &reply);
    assert_eq!(bench.table.entries().count(), 4);
    assert!(bench
        .table
        .entries()
        .all(|(_, e)| e.gone_since.is_none() && e.new_since.is_none()));
}

#[test]
fn times_are_two_whole_numbers() {
    for (text, expected) in [
        ("0.7442", 7442),
        ("0.007442", 7442),
        ("12.000001", 12_000_001),
        ("3", 3_000_000),
        ("", 0),
        ("x.y", 0),
        ("99999999999999999999.5", u64::MAX),
    ] {
        assert_eq!(micros(text.as_bytes()), expected, "{text}");
    }
    assert_eq!(digits(b"-5"), 0);
    let mut bench = Bench::new(Zoom::User, SECOND);
    bench.sample(
        SECOND,
        "user\tnum_logins\tnew_column\tlast_update\njoe\t3\n",
    );
    assert_eq!(bench.entry("joe").unwrap().values[LOGINS], 3, "a short row");
}

#[test]
fn sparklines_have_a_point_for_each_sample() {
    let mut bench = Bench::new(Zoom::User, SECOND);
    for commands in [0, 4, 4, 10] {
        bench.users(SECOND, &[("joe", 1, commands), ("idle", 1, 1)]);
        let look = Look::Rates(SECOND);
        bench.table.spark(look, |figures| figures.number(COMMANDS));
    }
    let points = |user| bench.table.points(bench.entry(user).unwrap(), 4);
    assert_eq!(points("joe"), [0.0, 4.0, 0.0, 6.0]);
    assert_eq!(points("idle"), [0.0; 4]);
    assert!(bench.entry("idle").unwrap().spark.is_empty());
    bench.table.forget_sparks();
    assert!(bench.entry("joe").unwrap().spark.is_empty());
}
