use super::*;
use crate::cli::server::{Event, ReplyParser};
use crate::cli::top::data::values::{COMMANDS, LOGINS};

const SECOND: Duration = Duration::from_secs(1);

/// A table and the time of its samples.
struct Bench {
    table: Table,
    now: Instant,
    window: Duration,
}

impl Bench {
    fn new(level: Level, window: Duration) -> Bench {
        let (table, now) = (Table::new(level, None), Instant::now());
        Bench { table, now, window }
    }

    /// A sample some time after the last.
    fn sample(&mut self, later: Duration, reply: &str) {
        self.now += later;
        let mut parser = ReplyParser::default();
        parser.feed(format!("{reply}\n").as_bytes());
        while let Some(event) = parser.next_line().unwrap() {
            match event {
                Event::Header(names) => self.table.begin(&names),
                Event::Row(line) => self.table.row(line, self.now),
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
        let found = entries.find(|entry| entry.text(0) == user.as_bytes());
        found
    }
}

#[test]
fn a_rate_is_the_difference_over_the_time() {
    let mut bench = Bench::new(Level::User, SECOND);
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
    let mut bench = Bench::new(Level::User, SECOND);
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
    let mut bench = Bench::new(Level::User, SECOND);
    bench.users(SECOND, &[("joe", 1, 100)]);
    bench.users(SECOND, &[("joe", 1, 100), ("ann", 2, 8)]);
    assert_eq!(bench.rate("ann"), Some(8.0));
    assert!(matches!(bench.entry("ann").unwrap().phase, Phase::New(_)));
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
        let mut bench = Bench::new(Level::User, SECOND * window);
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
    let mut bench = Bench::new(Level::User, SECOND * 60);
    for second in 0..200 {
        bench.users(SECOND, &[("joe", 1, second * 3)]);
        let unknown = bench.rate("joe").is_none();
        assert!(unknown == (second == 0) && bench.rate("joe").is_none_or(|r| r == 3.0));
    }
}

#[test]
fn an_entry_that_is_gone_fades_and_may_come_back() {
    let mut bench = Bench::new(Level::User, SECOND);
    bench.users(SECOND, &[("joe", 1, 1), ("ann", 1, 1)]);
    bench.users(SECOND, &[("joe", 1, 2)]);
    assert!(matches!(bench.entry("ann").unwrap().phase, Phase::Gone(_)));
    assert_eq!(bench.rate("ann"), Some(0.0));
    bench.users(SECOND, &[("joe", 1, 3), ("ann", 1, 1)]);
    assert!(matches!(bench.entry("ann").unwrap().phase, Phase::New(_)));
    bench.sample(SECOND, "");
    assert_eq!(bench.table.entries().count(), 2);
    bench.sample(FADING, "");
    assert_eq!(bench.table.entries().count(), 0);
}

#[test]
fn equal_commands_are_distinguished() {
    let mut bench = Bench::new(Level::Command, SECOND);
    let row = "NOOP\t\ts1\tjoe\t5\n";
    let reply = format!("cmd\targs\tsession\tuser\tdisk_input\n{}", row.repeat(4));
    bench.sample(SECOND, &reply);
    bench.sample(SECOND, &reply);
    assert_eq!(bench.table.entries().count(), 4);
    assert!(bench.table.entries().all(|entry| entry.phase == Phase::Old));
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
    let mut bench = Bench::new(Level::User, SECOND);
    bench.sample(
        SECOND,
        "user\tnum_logins\tnew_column\tlast_update\njoe\t3\n",
    );
    assert_eq!(bench.entry("joe").unwrap().values[LOGINS], 3, "a short row");
}

#[test]
fn sparklines_have_a_point_for_each_sample() {
    let mut bench = Bench::new(Level::User, SECOND);
    for commands in [0, 4, 4, 10] {
        bench.users(SECOND, &[("joe", 1, commands), ("idle", 1, 1)]);
        let look = Look::Rates(SECOND);
        bench.table.spark(look, |figures| figures.number(COMMANDS));
    }
    let points = |user| bench.table.points(bench.entry(user).unwrap(), 4);
    assert_eq!(points("joe"), [0.0, 4.0, 0.0, 6.0]);
    assert_eq!(points("idle"), [0.0; 4]);
    assert!(bench.entry("idle").unwrap().spark.is_empty());
    bench.table.clear_sparks();
    assert!(bench.entry("joe").unwrap().spark.is_empty());
}

#[test]
fn the_work_of_a_sample_is_linear_whatever_its_rows_are() {
    let begun = Instant::now();
    let mut bench = Bench::new(Level::Command, SECOND);
    let reply = |by: u64| {
        let rows = (0..200_000).map(|row| format!("NOOP\t\ts1\tjoe\t{}\n", row % 3 + by));
        "cmd\targs\tsession\tuser\tdisk_input\n".to_owned() + &rows.collect::<String>()
    };
    for by in [0, 0, 1] {
        bench.sample(SECOND, &reply(by));
    }
    assert_eq!(bench.table.entries().count(), 200_000);
    let half = reply(1)
        .lines()
        .take(100_001)
        .map(|line| format!("{line}\n"))
        .collect::<String>();
    bench.sample(SECOND, &half);
    bench.sample(FADING, &half);
    assert_eq!(bench.table.entries().count(), 100_000);
    // With a step for each pair of twins it would be an hour.
    assert!(begun.elapsed() < SECOND * 20, "{:?}", begun.elapsed());
}

#[test]
fn samples_agree_with_a_naive_table() {
    use crate::store::testing::Random;
    let mut random = Random::seeded("table of top");
    let mut bench = Bench::new(Level::User, SECOND);
    // Name, when it was made, commands; what it had in the last sample.
    let mut users: Vec<(String, u64, u64)> = Vec::new();
    let mut before: std::collections::HashMap<String, (u64, u64)> = Default::default();
    let mut made = 0;
    for sample in 0..300u64 {
        for _ in 0..random.below(3) {
            made += 1;
            users.insert(0, (format!("user{}", made % 40), 1, random.below(5)));
        }
        users.sort_by(|a, b| a.0.cmp(&b.0));
        users.dedup_by(|a, b| a.0 == b.0);
        if random.below(2) == 0 && !users.is_empty() {
            users.remove(random.below(users.len() as u64) as usize);
        }
        for user in &mut users {
            match random.below(6) {
                0 => user.2 += random.below(100),
                1 => *user = (user.0.clone(), user.1 + 1, random.below(9)),
                _ => {}
            }
        }
        if random.below(8) == 0 {
            users.reverse();
        }
        let rows: Vec<(&str, u64, u64)> = users
            .iter()
            .map(|(name, reset, commands)| (name.as_str(), *reset, *commands))
            .collect();
        bench.users(SECOND * 4, &rows);
        let kept_bytes: usize = bench.table.entries().map(Entry::kept_bytes).sum();
        assert_eq!(bench.table.kept_bytes(), kept_bytes);
        let mut listed = Vec::new();
        for (name, reset, commands) in &users {
            let entry = bench.entry(name).unwrap();
            assert!(!matches!(entry.phase, Phase::Gone(_)));
            assert_eq!(
                entry.values[COMMANDS], *commands,
                "{name} in sample {sample}"
            );
            // An entry that left is gone by the next sample.
            let moved = match before.get(name) {
                Some((old_reset, old)) if old_reset == reset => commands.saturating_sub(*old),
                _ => *commands,
            };
            if sample > 0 {
                assert_eq!(
                    bench.rate(name),
                    Some(moved as f64 / 4.0),
                    "{name} {sample}"
                );
            }
            listed.push((entry.rank, name.clone()));
        }
        listed.sort();
        assert!(listed.windows(2).all(|pair| pair[0].1 < pair[1].1));
        let now = users
            .iter()
            .map(|(name, reset, n)| (name.clone(), (*reset, *n)));
        before = now.collect();
    }
}

#[test]
fn sessions_are_filtered_by_service_and_counted_for_users() {
    let mut bench = Bench::new(Level::Session, SECOND);
    let term = OwnTerm::of(Level::Session, &[b"service=im*".to_vec()]);
    bench.table = Table::new(Level::Session, term);
    let rows = "s1\tjoe\timap\ns2\tjoe\tpop3\ns3\tann\timap\n";
    bench.sample(SECOND, &format!("session\tuser\tservice\n{rows}"));
    assert_eq!(bench.table.entries().count(), 2);

    let mut bench = Bench::new(Level::User, SECOND);
    bench.users(SECOND, &[("joe", 1, 3), ("ann", 1, 4)]);
    let counted = [(b"joe".as_slice().into(), 2)];
    bench.table.count_sessions(HashMap::from(counted));
    let sessions = |bench: &Bench, user| bench.entry(user).unwrap().values[SESSIONS];
    assert_eq!((sessions(&bench, "joe"), sessions(&bench, "ann")), (2, 0));
    bench.users(SECOND, &[("joe", 1, 9), ("ann", 1, 4)]);
    assert_eq!(sessions(&bench, "joe"), 2, "until they are counted anew");
    assert_eq!(bench.rate("joe"), Some(6.0));
    let joe = bench.entry("joe").unwrap();
    assert!(bench.table.is_active(joe, SECOND));
    assert!(!bench.table.is_active(bench.entry("ann").unwrap(), SECOND));
}

#[test]
fn kinds_of_command_have_two_keys_and_times_that_do_not_add_up() {
    let mut bench = Bench::new(Level::Cmd, SECOND);
    let header = "service\tcmd\treset_timestamp\tnum_cmds\ttime_p99\n";
    let imap = |commands: u64, time: &str| format!("imap\tFETCH\t1\t{commands}\t{time}\n");
    let pop3 = "pop3\tFETCH\t1\t7\t0.000100\n";
    bench.sample(SECOND, &format!("{header}{}{pop3}", imap(3, "0.010000")));
    bench.sample(SECOND, &format!("{header}{}{pop3}", imap(5, "0.040000")));
    assert_eq!(bench.table.entries().count(), 2);
    let fetch = bench.entry("imap").unwrap();
    let p99 = value_index("time_p99").unwrap();
    let rates = bench.table.figures(fetch, Look::Rates(SECOND));
    assert_eq!(
        (fetch.text(1), rates.number(COMMANDS)),
        (&b"FETCH"[..], 2.0)
    );
    assert_eq!((rates.values[p99], rates.number(p99)), (40_000, 0.0));
    assert!(bench.table.has_column("time_p99") && !bench.table.has_column("time_max"));
}
