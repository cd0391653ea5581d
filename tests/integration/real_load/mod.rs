//! Real servers under load: Dovecot with many clients at once writes into a FIFO of the
//! test, and from there every record goes to the original service, to three daemons with
//! little, some and enough memory, and to the model. At rest, every few seconds, all of
//! them are held against each other.
//!
//! `DOVESTAT_REAL_LOAD_SECS` sets how long the load lasts (60), `DOVESTAT_SEED` what the
//! clients do. A run of an hour:
//!
//! ```text
//! DOVESTAT_REAL_LOAD_SECS=3600 cargo test --test integration real_load -- --nocapture
//! ```

mod clients;
mod tee;

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use crate::compare::{against_model, assert_none};
use crate::dovecot::{available, Dovecot};
use crate::harness::{wait_until, TempDir, DEADLINE};
use crate::link::{Client, Table, Writer};
use crate::model::{Expected, Model};
use crate::original::{Case, OPEN, RECORDS};
use crate::reading::Record;
use crate::records::seed;

use clients::{Clients, Done, Site, AWAKE};
use tee::{Ours, Tap};

/// How long the load lasts unless the environment says otherwise.
const LENGTH_SECS: u64 = 60;

/// How often all are compared.
const CHECK_EVERY: Duration = Duration::from_secs(4);

/// The shortest time that records are waited for.
const SHORTLY: Duration = Duration::from_millis(100);

/// How many of the newest sessions must be listed first, and of the newest commands last.
const NEWEST: usize = 50;

/// Commands that the models keep: a bound for long runs, beyond all that is compared.
const KEPT_COMMANDS: usize = 100_000;

/// The name of the original service.
const ORIGINAL: &str = "original";

/// The request for the connected sessions.
const CONNECTED: &str = "session\tconnected";

/// The newest sessions, connected or not, and the newest commands.
const SESSIONS: &str = "newest session";
const COMMANDS: &str = "newest command";

/// What is compared at any time.
const AT_ANY_TIME: [&str; 4] = ["global", CONNECTED, SESSIONS, COMMANDS];

/// The memory limits of our daemons. Commands and dead sessions make room in all of them,
/// so that all users, domains and addresses are still there at the end.
const LIMITS: [(&str, u64); 3] = [("256 K", 256 << 10), ("1 M", 1 << 20), ("16 M", 16 << 20)];

/// What a daemon may have resident beyond its limit and what it has when idle, in bytes:
/// what restoring a state leaves behind, buffers of clients.
const BASE_BYTES: u64 = 1 << 20;

/// A load so long that the largest limit holds all its sessions and commands.
const HELD: Duration = Duration::from_secs(120);

/// What the test adds to Dovecot's configuration: clients behind proxies that are
/// trusted, and hibernation, but not for those at 203.0.113.0/24.
const DOVECOT: &str = "\
login_trusted_networks = 127.0.0.0/8
mail_max_userip_connections = 0
imap_hibernate_timeout = 1s
remote 203.0.113.0/24 {
  imap_hibernate_timeout = 0
}
service imap {
  unix_listener imap-master {
    user = $default_internal_user
  }
}
service imap-hibernate {
  unix_listener imap-hibernate {
    mode = 0666
  }
}
service imap-login {
  service_count = 0
}
service pop3-login {
  service_count = 0
}
";

/// All that gets the records.
struct Load {
    original: Dovecot,
    original_writer: Writer,
    /// What the original must list.
    strict: Model,
    ours: [Ours; LIMITS.len()],
    /// What ours must list.
    model: Model,
    records: u64,
    /// Ids of all sessions.
    ids: HashSet<Vec<u8>>,
    /// Sessions that connected again, woken from hibernation: their addresses.
    woken: Vec<String>,
    /// Records kept from the original, by the exception's name.
    withheld: HashMap<&'static str, u64>,
    /// Values compared.
    compared: u64,
    /// Differences.
    found: Vec<String>,
    /// The most sessions connected at a comparison.
    most_connected: usize,
}

impl Load {
    fn start() -> Load {
        let original = Dovecot::original("load-original");
        Load {
            original_writer: Writer::open(&original.stats_fifo()),
            original,
            strict: Model::default(),
            ours: LIMITS.map(|(limit, bytes)| Ours::start(limit, bytes)),
            model: Model::default(),
            records: 0,
            ids: HashSet::new(),
            woken: Vec::new(),
            withheld: HashMap::new(),
            compared: 0,
            found: Vec::new(),
            most_connected: 0,
        }
    }

    /// Passes lines on. Those that the original is known to take wrongly are kept from it.
    fn feed(&mut self, lines: &[Vec<u8>], site: &Site) {
        let (mut all, mut agreed) = (Vec::new(), Vec::new());
        for line in lines {
            let case = Case::new(&self.strict, line);
            if let Ok(Record::Connect {
                id, user, pid, ip, ..
            }) = &case.record
            {
                if !self.ids.insert(id.clone()) {
                    self.woken
                        .push(ip.map_or_else(String::new, |ip| ip.to_string()));
                }
                let user = String::from_utf8_lossy(user).into_owned();
                let mut processes = site.processes.lock().expect("unpoisoned");
                processes.insert(user, *pid);
            }
            match RECORDS.iter().chain(OPEN).find(|e| (e.applies)(&case)) {
                Some(exception) => *self.withheld.entry(exception.name).or_default() += 1,
                None => {
                    self.strict.line(line);
                    agreed.extend_from_slice(line);
                    agreed.push(b'\n');
                }
            }
            self.model.line(line);
            all.extend_from_slice(line);
            all.push(b'\n');
        }
        self.records += lines.len() as u64;
        self.model.keep_commands(KEPT_COMMANDS);
        self.strict.keep_commands(KEPT_COMMANDS);
        self.original_writer.send_raw(&agreed);
        for ours in &mut self.ours {
            ours.write(&all);
        }
    }

    /// Passes on what comes for some time.
    fn feed_for(&mut self, tap: &Tap, site: &Site, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.feed(&tap.lines(until), site);
        }
    }

    /// Holds the replies of a service to `requests` against a model; what differs is kept in
    /// `found`.
    fn compare(&mut self, service: &str, socket: &str, requests: &[&str]) {
        let original = service == ORIGINAL;
        let model = if original { &self.strict } else { &self.model };
        for request in requests {
            let expected = wanted(model, request);
            let table = listed(socket, request);
            let found = against_model(service, request, &table, &expected, !original);
            if !found.is_empty() {
                let (count, first) = (found.len(), &found[..found.len().min(3)]);
                let line = format!("{service}, {request}: {count} differences: {first:#?}");
                self.found.push(line);
            }
            self.compared += table.rows.iter().map(|row| row.len() as u64).sum::<u64>();
        }
    }

    /// Holds everything against the models that holds at any time, while nothing is sent.
    fn check(&mut self, when: &str) {
        self.most_connected = self.most_connected.max(self.model.connected().len());
        for n in 0..self.ours.len() {
            let ours = &mut self.ours[n];
            ours.settle();
            let (limit, socket, log) = (ours.limit, ours.socket(), ours.log());
            let over = ours.most_bytes.saturating_sub(ours.limit_bytes);
            if over > BASE_BYTES {
                self.found
                    .push(format!("{limit}: {over} bytes over the limit"));
            }
            self.compare(limit, &socket, &AT_ANY_TIME);
            for line in log
                .lines()
                .filter(|line| line.contains("stats_memory_limit"))
            {
                self.found.push(format!("{limit}: {line}"));
            }
        }
        let unread = || self.original_writer.unread();
        wait_until("the original taking all records", || unread() == 0);
        self.compare(ORIGINAL, &self.original.stats_socket(), &AT_ANY_TIME);
        assert_none(&std::mem::take(&mut self.found), when);
    }

    /// Holds whole levels against the models, after [`Load::check`].
    fn check_levels(&mut self, length: Duration) {
        let levels = ["domain", "ip", "user"];
        let [.., largest] = &self.ours;
        let (largest, original) = (largest.socket(), self.original.stats_socket());
        for (n, (limit, _)) in LIMITS.into_iter().enumerate() {
            self.compare(limit, &self.ours[n].socket(), &levels);
        }
        self.compare(ORIGINAL, &original, &levels);
        if length <= HELD {
            self.compare("the largest", &largest, &["session"]);
            self.compare(ORIGINAL, &original, &["session"]);
        }
        assert_none(&std::mem::take(&mut self.found), "whole levels at the end");
    }

    /// Holds the end against what the clients counted: no record was lost on its way, and
    /// connected are the sessions whose processes were killed.
    fn check_clients(&self, done: &Done) {
        let left = self.model.connected();
        let users = left.iter().map(|row| row.fields[1].as_str());
        let others: Vec<&str> = users.filter(|u| !u.starts_with("crash")).collect();
        let kills = Done::get(&done.kills);
        assert_eq!(
            (left.len() as u64, others),
            (kills, Vec::new()),
            "connected at the end"
        );
        assert!(!self.woken.is_empty(), "no session was hibernated");
        let awake = self.woken.iter().filter(|ip| *ip == AWAKE).count();
        assert_eq!(awake, 0, "sessions hibernated against the configuration");
        let table = listed(&self.ours[0].socket(), "global");
        let counted = |column| table.only().num(column);
        assert_eq!(
            counted("auth_failures"),
            Done::get(&done.failures),
            "wrong passwords"
        );
        let logins = Done::get(&done.logins) + self.woken.len() as u64;
        assert_eq!(
            counted("num_logins"),
            logins,
            "logins, with those after hibernation"
        );
        // A command that was interrupted may have been reported or not.
        let commands = Done::get(&done.commands);
        let counted = counted("num_cmds");
        assert!(
            (commands..=commands + kills + Done::get(&done.lost)).contains(&counted),
            "{counted} of {commands} commands"
        );
    }

    fn print(&self, done: &Done) {
        println!(
            "real_load: {} records, {} commands, {} sessions and {} woken ones, {} processes killed, \
             {} sessions ended by Dovecot, {} wrong passwords",
            self.records,
            Done::get(&done.commands),
            Done::get(&done.logins),
            self.woken.len(),
            Done::get(&done.kills),
            Done::get(&done.lost),
            Done::get(&done.failures),
        );
        println!(
            "real_load: {} values compared, no difference; at most {} sessions connected; records \
             kept from the original: {:?}",
            self.compared, self.most_connected, self.withheld
        );
        for ours in &self.ours {
            let (limit, kib) = (ours.limit, ours.most_bytes >> 10);
            println!("real_load: {limit}: at most {kib} KiB over idle");
        }
    }
}

/// What a service has to list.
fn wanted(model: &Model, request: &str) -> Vec<Expected> {
    match request {
        COMMANDS => model.newest_commands(NEWEST),
        SESSIONS => model.newest_sessions(NEWEST),
        CONNECTED => model.connected(),
        level => model.export(level),
    }
}

/// What a service lists.
fn listed(socket: &str, request: &str) -> Table {
    let level = request.trim_start_matches("newest ");
    let reply = Client::unix(socket).export_raw(level);
    if level == request {
        return Table::parse(&reply);
    }
    let lines: Vec<&[u8]> = reply.split_inclusive(|&b| b == b'\n').collect();
    let (header, rows) = lines.split_at(1);
    let (rows, end) = rows.split_at(rows.len().saturating_sub(1));
    let newest = match request {
        COMMANDS => &rows[rows.len().saturating_sub(NEWEST)..],
        _ => &rows[..rows.len().min(NEWEST)],
    };
    Table::parse(&[header.concat(), newest.concat(), end.concat()].concat())
}

/// How long the load lasts.
fn length() -> Duration {
    let secs = std::env::var("DOVESTAT_REAL_LOAD_SECS").ok();
    let secs = secs.map(|s| s.parse().expect("DOVESTAT_REAL_LOAD_SECS: seconds"));
    Duration::from_secs(secs.unwrap_or(LENGTH_SECS))
}

#[test]
fn real_servers_under_load_are_counted_exactly_under_any_limit() {
    if !available("real_servers_under_load_are_counted_exactly_under_any_limit") {
        return;
    }
    let (seed, length) = (seed("real_load", 1), length());
    let tap = Tap::make();
    let mut load = Load::start();
    let dir = TempDir::new("load-dovecot");
    // Where the auth process writes.
    std::fs::create_dir(dir.at("run")).expect("mkdir Dovecot's base_dir");
    symlink(tap.path(), dir.at("run/old-stats-user")).expect("symlink");
    let dovecot = Dovecot::mail_with(dir, &tap.path(), DOVECOT);
    let clients = Clients::start(&dovecot, seed, length);
    let site = clients.site.clone();

    let begun = Instant::now();
    let mut restarted = false;
    while begun.elapsed() < length {
        load.feed_for(&tap, &site, CHECK_EVERY);
        assert_eq!(clients.failed(), None, "a client that failed");
        let when = format!("after {} s", begun.elapsed().as_secs());
        load.check(&when);
        if !restarted && begun.elapsed() >= length / 2 {
            load.ours.iter_mut().for_each(Ours::restart);
            load.check(&format!("{when}, restarted"));
            restarted = true;
        }
    }
    clients.end();
    while !clients.ended() {
        load.feed_for(&tap, &site, SHORTLY);
    }
    println!("real_load: {} clients for {length:?}", clients.count());
    clients.join();
    // A process that was killed sends no DISCONNECT; all others do.
    let kills = Done::get(&site.done.kills);
    let end = Instant::now() + DEADLINE;
    while load.model.connected().len() as u64 > kills && Instant::now() < end {
        load.feed_for(&tap, &site, SHORTLY);
    }
    dovecot.stop();
    load.feed(&tap.rest(), &site);
    load.check("at the end");
    load.check_levels(length);
    load.check_clients(&site.done);
    load.print(&site.done);
    load.ours.into_iter().for_each(Ours::stop);
    load.original.stop();
}
