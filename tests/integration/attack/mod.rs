//! The suite that attacks the running daemon, a module for each neighbourhood.
//!
//! Each test says by a [`Tally`] which class of attack it belongs to, how many
//! cases it tried, and that they were survived; tests elsewhere that are such
//! attacks do so too. `tests/run` adds them up to a table.
//!
//! Surviving means [`still_works`]: the very daemon that was attacked counts known
//! records exactly, at every level, as the model recounts them. A [`Victim`] has a
//! model of all that it was ever told, and is compared with that as a whole.

mod access;
mod carbon;
mod class;
mod clients;
mod clocks;
mod content;
mod cost;
mod disks;
mod fifos;
mod filters;
mod http;
mod lines;
mod logs;
mod order;
mod places;
mod planted;
mod pressure;
mod servers;
mod signals;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

pub use class::Class;

use crate::compare::{against_model, assert_none};
use crate::harness::{Daemon, Setup};
use crate::link::{micros, Table};
use crate::model::Model;
use crate::original::{Case, OPEN};
use crate::records::{add_user, carry_on, command, connect, disconnect, update, Auth, Mail};
use crate::requests::LEVELS;

/// Counts the cases of a test. Told when dropped, those of a failed test too.
pub struct Tally {
    class: Class,
    cases: usize,
    survived: usize,
}

impl Tally {
    /// None so far.
    pub fn of(class: Class) -> Tally {
        Tally {
            class,
            cases: 0,
            survived: 0,
        }
    }

    /// So many more are tried.
    pub fn tries(&mut self, cases: usize) {
        self.cases += cases;
    }

    /// What was tried so far did no harm.
    pub fn survived(&mut self) {
        self.survived = self.cases;
    }

    /// The same, once the daemon has shown that it still works.
    #[track_caller]
    pub fn check(&mut self, daemon: &mut Daemon) {
        still_works(daemon);
        self.survived();
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let (cases, survived) = (self.cases, self.survived);
        let line = format!("{}\t{cases}\t{survived}\n", self.class.text());
        print!("attack: {line}");
        // A line in one write each, as tests run side by side.
        if let Some(path) = std::env::var_os("DOVESTAT_ATTACKS") {
            let file = OpenOptions::new().append(true).create(true).open(&path);
            file.and_then(|mut file| file.write_all(line.as_bytes()))
                .unwrap_or_else(|e| panic!("write {path:?}: {e}"));
        }
    }
}

/// The numbers of a row: times in microseconds.
fn numbers<S: AsRef<str>>(fields: &[S]) -> Vec<u64> {
    let number = |field: &str| field.parse().ok().or_else(|| micros(field));
    fields
        .iter()
        .map(|field| number(field.as_ref()).expect("a number"))
        .collect()
}

/// The numbers of the global level that add up: all but its two times.
fn global_numbers(daemon: &Daemon) -> Vec<u64> {
    let table = daemon.client().export("global");
    assert_eq!(table.rows.len(), 1, "global has its one row");
    numbers(&table.rows[0][2..])
}

/// Asserts that a daemon counts known records exactly, at all six levels. What was
/// cut short in its FIFO before is ended first. Leaves no session connected.
#[track_caller]
pub fn still_works(daemon: &mut Daemon) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    daemon.assert_alive();
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let (a, b) = (format!("probe{n}-a"), format!("probe{n}-b"));
    let (user, other) = (format!("u@probe{n}.example"), format!("v@probe{n}.example"));
    let ip = format!("198.18.{}.{}", n / 250, n % 250);
    let mut more = Mail::sample();
    more.times[0].1 = 999_999;
    more.counts = [u32::MAX, 12];
    let (few, many) = (Mail::sample().field(), more.field());
    let records = [
        connect(&a, &user, "imap", 7, &ip),
        update(&a, &few),
        command(&a, 1, "", "FETCH", "1:* (FLAGS)", &few),
        carry_on(&a, 1, "c", &many),
        command(&a, 2, "d", "NOOP", "", ""),
        update(&a, &many),
        connect(&b, &user, "pop3", 8, &ip),
        update(&b, &many),
        disconnect(&b),
        add_user(&other, "auth", &Auth([1, 2, 3, 4, 5, 6]).field()),
    ];
    let mut model = Model::default();
    records.iter().for_each(|record| model.line(record));
    daemon.feed(&[b""]);
    let before = global_numbers(daemon);
    daemon.feed(&records);
    let after = global_numbers(daemon);
    let wanted = &model.export("global")[0].fields[2..];
    let counted: Vec<u64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    assert_eq!(counted, numbers(wanted), "the global sums");
    let mut client = daemon.client();
    for level in LEVELS.into_iter().filter(|level| *level != "global") {
        let filter = match level {
            "ip" => format!("ip\tip={ip}"),
            level => format!("{level}\tdomain=probe{n}.example"),
        };
        let table = client.export(&filter);
        let found = against_model("the daemon", level, &table, &model.export(level), true);
        assert_none(&found, &format!("after the attack, {filter:?}"));
    }
    daemon.feed(&[disconnect(&a)]);
}

/// Asserts that the sums of the levels agree; for a daemon that freed nothing and
/// was never told to RESET.
#[track_caller]
pub fn sums_agree(daemon: &Daemon) {
    let mut client = daemon.client();
    let mut sums = |level: &str| -> Vec<(String, u64)> {
        let Table { names, rows } = client.export(level);
        let columns = names.iter().enumerate().filter(|(_, name)| {
            let is_number = !["last_update", "reset_timestamp", level].contains(&name.as_str());
            is_number && *name != "num_connected_sessions"
        });
        columns
            .map(|(at, name)| {
                let values: Vec<&str> = rows.iter().map(|row| row[at].as_str()).collect();
                (name.clone(), numbers(&values).iter().sum())
            })
            .collect()
    };
    let global = sums("global");
    assert_eq!(sums("user"), global, "users and global");
    assert_eq!(sums("domain"), global, "domains and global");
    assert_eq!(sums("service"), global, "services and global");
    let mut client = daemon.client();
    let connected = client.export("session").values("connected").join("");
    let connected = connected.matches('1').count() as u64;
    let global = client.export("global");
    assert_eq!(global.only().num("num_connected_sessions"), connected);
}

/// Whether neither the protocol nor a ruling says what a line means.
pub fn is_open(line: &[u8]) -> bool {
    let model = Model::default();
    let case = Case::new(&model, line);
    OPEN.iter().any(|exception| (exception.applies)(&case))
}

/// A daemon, and the model of everything it was told.
pub struct Victim {
    /// It.
    pub daemon: Daemon,
    /// What it should say.
    pub model: Model,
}

impl Victim {
    /// One with room for everything.
    #[track_caller]
    pub fn start(name: &str) -> Victim {
        let setup = Setup::new().option("stats_memory_limit=2G");
        Victim {
            daemon: Daemon::with(name, &setup),
            model: Model::default(),
        }
    }

    /// Feeds both; a line without its LF each.
    #[track_caller]
    pub fn feed<L: AsRef<[u8]>>(&mut self, lines: &[L]) {
        for line in lines {
            self.model.line(line.as_ref());
        }
        self.daemon.feed(lines);
    }

    /// Asserts that both list the same, all of it.
    #[track_caller]
    pub fn assert_as_modelled(&mut self, what: &str) {
        let mut client = self.daemon.client();
        for level in LEVELS {
            let table = client.export(level);
            let expected = self.model.export(level);
            let found = against_model("the daemon", level, &table, &expected, true);
            assert_none(&found, &format!("{what}, {level}"));
        }
        sums_agree(&self.daemon);
    }

    /// Asserts the same, and that it still works; then the cases are survived.
    #[track_caller]
    pub fn check(mut self, tally: &mut Tally, what: &str) {
        self.assert_as_modelled(what);
        tally.check(&mut self.daemon);
        self.daemon.stop();
    }
}
