use super::super::join::Connection;
use super::super::processes::Figures;
use super::super::sessions::{known_key, Known, KnownSessions};
use super::*;
use crate::report::{FifoWriter, Look, Sample};
use crate::stats::Report;
use crate::store::Record;
use crate::sys::fs::created::Access;
use crate::sys::fs::fifo::Fifo;
use crate::sys::scratch::Scratch;
use crate::wire::{parse_record, StatsRoom};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Processes that are not there.
struct Nothing;

impl Figures for Nothing {
    fn look(&mut self, _pid: u32, _sample: &mut Sample) -> Look {
        Look::Gone
    }

    fn started_usecs(&mut self, _sample: &Sample) -> u64 {
        0
    }

    fn peers(&mut self, _pids: &[u32]) -> Vec<(u32, SocketAddr)> {
        Vec::new()
    }
}

/// Processes of numbers below 1000 that have used as many page faults as their number.
struct Numbered;

impl Figures for Numbered {
    fn look(&mut self, pid: u32, sample: &mut Sample) -> Look {
        if pid >= 1000 {
            return Look::Gone;
        }
        sample.start_ticks = 1;
        sample.stats.values[place::min_faults] = pid.into();
        Look::Changed
    }

    fn started_usecs(&mut self, _sample: &Sample) -> u64 {
        1_000_000_000_000
    }

    /// Of the port with the process's number.
    fn peers(&mut self, pids: &[u32]) -> Vec<(u32, SocketAddr)> {
        let peer = |pid: u32| (pid, SocketAddr::from(([127, 0, 0, 1], pid as u16)));
        pids.iter().map(|&pid| peer(pid)).collect()
    }
}

/// The bridge between events and a FIFO that the test reads.
struct Scene {
    _dir: Scratch,
    fifo: Fifo,
    sessions: Sessions,
    /// Records so far, without their stats field; and the totals of sessions.
    records: Vec<String>,
    totals: BTreeMap<String, Stats>,
    adds: Stats,
    how: How,
    now: Now,
}

impl Scene {
    fn new(name: &str, known: KnownSessions, figures: Box<dyn Figures>, max: usize) -> Scene {
        let dir = Scratch::new(name);
        let path = dir.join("fifo");
        let access = Access {
            mode: 0o600,
            uid: None,
            gid: None,
        };
        let fifo = Fifo::create(&path, None, access).unwrap();
        let writer = Arc::new(FifoWriter::new(&path));
        writer.probe().unwrap();
        Scene {
            _dir: dir,
            fifo,
            sessions: Sessions::new(writer, known, figures, max, 1000),
            records: Vec::new(),
            totals: BTreeMap::new(),
            adds: Stats::default(),
            how: How::default(),
            now: Now {
                ms: 1,
                usecs: 1_795_770_993_000_000,
            },
        }
    }

    fn plain(name: &str) -> Scene {
        Scene::new(name, KnownSessions::default(), Box::new(Nothing), 1000)
    }

    fn line(&mut self, line: &str) {
        let mut line = line.as_bytes().to_vec();
        if let Ok(event) = Event::parse(&mut line) {
            self.sessions.apply(&event, self.how, self.now);
        }
        self.sessions.flush();
    }

    fn send(&mut self, name: &str, fields: &str) {
        let mut line = format!("event:{name}\tstart_time:1.000000\tend_time:1.000000");
        for field in fields.split_whitespace() {
            line += &format!("\tfield:{field}");
        }
        self.line(&line);
        self.read();
    }

    /// Visits all sessions after so many milliseconds.
    fn pass(&mut self, ms: u64) {
        self.now.ms += ms;
        self.now.usecs += ms * 1000;
        for at in 0..self.sessions.places() {
            self.sessions.visit(at, self.now);
        }
        self.read();
    }

    /// Reads the FIFO until nothing is left to be delivered.
    fn read(&mut self) {
        loop {
            let mut bytes = vec![0; 1 << 20];
            self.sessions.flush();
            let count = self.fifo.read(&mut bytes).unwrap_or(0);
            for line in bytes[..count].split_mut(|&byte| byte == b'\n') {
                if !line.is_empty() {
                    self.take(line);
                }
            }
            if count == 0 && !self.sessions.is_behind {
                break;
            }
            self.sessions.catch_up();
        }
    }

    fn take(&mut self, line: &mut [u8]) {
        let shown = String::from_utf8_lossy(line).into_owned();
        let (room, mut report) = (&mut StatsRoom::default(), Report::default());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let record = parse_record(line, room, &mut report);
        let record = record.unwrap_or_else(|error| panic!("{shown}: {error:?}"));
        let subject = text(record.subject());
        self.records.push(match record {
            Record::Connect {
                user, service, pid, ..
            } => format!("CONNECT {subject} {} {} {pid}", text(user), text(service)),
            Record::UpdateSession { report, .. } => {
                self.totals.insert(subject, report.stats);
                return;
            }
            Record::UpdateCommand { update, .. } => {
                let (name, args) = update.begins.unwrap_or_default();
                assert!(update.done);
                format!("{subject} {} {}", text(name), text(args))
            }
            Record::AddUser { report, .. } => {
                self.adds.add(&report.stats);
                return;
            }
            Record::Disconnect { .. } => format!("DISCONNECT {subject}"),
        });
    }

    /// The records of a kind.
    fn of(&self, kind: &str) -> Vec<&str> {
        let records = self.records.iter().map(String::as_str);
        records.filter(|record| record.starts_with(kind)).collect()
    }

    fn total(&self, session: &str, place: usize) -> u64 {
        self.totals[session].values[place]
    }
}

macro_rules! data {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/integration/data/", $name))
    };
}

#[test]
fn a_recording_of_all_services_becomes_records() {
    let mut scene = Scene::plain("bridge-recording");
    data!("dovecot-2.4.1/events-one-metric.txt")
        .lines()
        .for_each(|line| scene.line(line));
    scene.read();
    // The auth session is this program's.
    let mut connects = scene.of("CONNECT");
    assert!(connects[0].contains(" auth@dovestat auth "), "{connects:?}");
    connects.remove(0);
    assert_eq!(
        connects,
        [
            "CONNECT KgwrhD5hTuB/AAAB u1@example.org imap 0",
            "CONNECT AB8thD5hYrB/AAAB u2@example.org pop3 0",
            "CONNECT nx49KnFKCWuuPQAAg+zDdQ u3@example.com lmtp 0",
            "CONNECT nx49KnFKCWuuPQAAg+zDdQ:R2 u4@example.com lmtp 0",
            "CONNECT fOgthD5hYOl/AAAB u5@example.net submission 0",
            "CONNECT iEIuhD5hjst/AAAB u1@example.org sieve 0",
        ]
    );
    assert_eq!(scene.of("DISCONNECT").len(), 6, "{:?}", scene.records);
    let commands = |session: &str| -> Vec<&str> {
        let of_session = scene.of(session).into_iter();
        of_session
            .map(|record| record.split(' ').nth(1).unwrap())
            .collect()
    };
    assert_eq!(
        commands("AB8thD5hYrB/AAAB"),
        ["STAT", "UIDL", "RETR", "TOP", "DELE", "QUIT"]
    );
    assert_eq!(
        commands("fOgthD5hYOl/AAAB"),
        ["MAIL", "RCPT", "DATA", "QUIT"]
    );
    assert_eq!(commands("iEIuhD5hjst/AAAB"), ["LISTSCRIPTS", "PUTSCRIPT"]);
    assert_eq!(
        commands("nx49KnFKCWuuPQAAg+zDdQ "),
        ["LHLO", "MAIL", "RCPT", "RCPT", "DATA", "QUIT"]
    );
    // The second recipient's session lies within the first's: counted once.
    let faults = ["nx49KnFKCWuuPQAAg+zDdQ", "nx49KnFKCWuuPQAAg+zDdQ:R2"]
        .map(|session| scene.total(session, place::min_faults));
    assert_eq!(faults.iter().sum::<u64>(), 304);
    assert!(faults.iter().all(|&faults| faults > 0), "{faults:?}");
    let imap = "KgwrhD5hTuB/AAAB";
    assert_eq!(scene.total(imap, place::min_faults), 575);
    assert_eq!(
        scene.total(imap, place::user_cpu),
        3 * 1_000_000 / ticks_per_sec()
    );
    assert_eq!(scene.total(imap, place::net_in_bytes), 369);
    assert_eq!(scene.total(imap, place::net_out_bytes), 43_945);
    assert_eq!(scene.adds.values[place::auth_successes], 4);
    assert_eq!(scene.adds.values[place::auth_failures], 1);
    assert_eq!(
        scene.of(&connects_id(&scene)).len(),
        4,
        "a time for each success"
    );
}

/// The id of the session of authentications.
fn connects_id(scene: &Scene) -> String {
    let auth = scene.of("CONNECT")[0].split(' ').nth(1).unwrap();
    format!("{auth} AUTH")
}

#[test]
fn every_recording_becomes_records_that_the_daemon_takes() {
    for (name, text) in [
        (
            "all",
            data!("dovecot-2.4.1/events-all-services-all-fields.txt"),
        ),
        ("torn", data!("dovecot-2.4.1/torn.txt")),
        ("esc", data!("dovecot-2.4.1/esc.txt")),
        ("cache", data!("dovecot-2.4.1/cache.txt")),
        ("unix", data!("dovecot-2.4.1/unix.txt")),
        ("lua", data!("dovecot-2.4.1/lua-event.txt")),
        ("dropprivs", data!("dovecot-2.4.1/dropprivs.txt")),
        ("http", data!("dovecot-2.3.19-http-post.txt")),
    ] {
        let mut scene = Scene::plain(&format!("bridge-{name}"));
        text.lines().for_each(|line| scene.line(line));
        scene.pass(0);
        let connects = scene.of("CONNECT").len();
        assert!(connects > 1, "{name}: {:?}", scene.records);
        // Each session is told of once.
        let mut ids: Vec<&str> = scene.of("CONNECT");
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), connects, "{name}");
    }
}

#[test]
fn hibernation_is_no_second_login() {
    let mut scene = Scene::plain("bridge-hibernation");
    for line in data!("dovecot-2.4.1/hib.txt").lines() {
        scene.line(line);
        scene.pass(1000);
    }
    let of_session = |kind: &str| scene.of(&format!("{kind} xv3wjfJgDu1/AAAB")).len();
    assert_eq!((of_session("CONNECT"), of_session("DISCONNECT")), (1, 1));
    let session = "xv3wjfJgDu1/AAAB";
    assert_eq!(scene.total(session, place::min_faults), 131 + 107);
    assert_eq!(scene.total(session, place::net_out_bytes), 802 + 138);
    let commands = scene.of(&format!("{session} "));
    let names: Vec<&str> = commands
        .iter()
        .map(|record| record.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(names, ["SELECT", "IDLE", "NOOP", "LOGOUT"]);
}

#[test]
fn a_session_is_held_until_its_process_is_known_but_not_for_long() {
    let mut scene = Scene::plain("bridge-held");
    scene.sessions.has_anvil = true;
    let who = "protocol=imap user=u session=S remote_ip=::1 remote_port=7";
    scene.send("auth_userdb_request_finished", &format!("{who} result=ok"));
    scene.send(
        "imap_command_finished",
        &format!("{who} cmd_name=SELECT running_usecs=5"),
    );
    scene.pass(1999);
    assert!(scene.records.is_empty());
    scene.pass(1);
    assert_eq!(scene.records, ["CONNECT S u imap 0", "S SELECT "]);
    // It never shows in anvil, and nothing more comes.
    scene.pass(57_999);
    assert_eq!(scene.records.len(), 2);
    scene.pass(1);
    assert_eq!(scene.records[2..], ["DISCONNECT S"]);
}

#[test]
fn a_password_alone_begins_no_session() {
    let mut scene = Scene::plain("bridge-refused");
    let who = "protocol=imap user=u session=S remote_ip=::1 remote_port=7";
    scene.send("auth_request_finished", &format!("{who} success=yes"));
    scene.pass(60_000);
    scene.pass(3000);
    assert_eq!(scene.of("CONNECT").len(), 1, "that of auth");
    assert_eq!(scene.adds.values[place::auth_successes], 1);
    assert_eq!(scene.sessions.count(), 0);
    assert!(!scene.sessions.is_behind);
}

#[test]
fn events_of_a_session_that_is_over_begin_no_other() {
    let mut scene = Scene::plain("bridge-over");
    let who = "service=imap user=u session=S remote_ip=::1 remote_port=7";
    scene.send("auth_request_finished", &format!("{who} success=yes"));
    scene.send("mail_user_session_finished", who);
    // The lookup's event was overtaken.
    scene.send("auth_userdb_request_finished", &format!("{who} result=ok"));
    scene.send("imap_command_finished", &format!("{who} cmd_name=LOGOUT"));
    scene.pass(0);
    assert_eq!(scene.records[2..], ["CONNECT S u imap 0", "DISCONNECT S"]);
    assert_eq!(scene.of("CONNECT").len(), 2);
}

#[test]
fn no_more_sessions_are_followed_than_allowed_and_logins_count() {
    let known = KnownSessions::default();
    let mut scene = Scene::new("bridge-limit", known, Box::new(Nothing), 2);
    for id in ["A", "B", "C"] {
        let who = format!("protocol=imap user=u session={id} remote_ip=::1 remote_port=7");
        scene.send("auth_request_finished", &format!("{who} success=yes"));
    }
    scene.pass(0);
    assert_eq!((scene.sessions.count(), scene.sessions.refused), (2, 1));
    assert_eq!(scene.adds.values[place::auth_successes], 3);
    scene.send(
        "mail_user_session_finished",
        "service=imap user=u session=A",
    );
    scene.pass(4000);
    scene.send("imap_command_finished", "user=u session=C cmd_name=NOOP");
    assert_eq!((scene.sessions.count(), scene.sessions.refused), (2, 1));
}

#[test]
fn a_restart_goes_on_with_the_sessions_of_before() {
    let mut known = KnownSessions::default();
    let key = key(b"u", b"imap", b"::1");
    for (id, pid) in [("S", 70), ("T", 80)] {
        let mut total = Stats::default();
        total.values[place::min_faults] = 50;
        total.values[place::clock_time] = 9;
        known.by_connection.insert(known_key(&key, pid), id.into());
        let num_cmds = 4;
        known.by_id.insert(id.into(), Known { total, num_cmds });
    }
    let mut scene = Scene::new("bridge-resume", known, Box::new(Numbered), 1000);
    scene.sessions.has_anvil = true;
    // Before the bridge: known, and not known.
    let mut guid = [0; 16];
    guid[4..8].copy_from_slice(&1_000_000u32.to_le_bytes());
    for pid in [70u32, 90] {
        guid[8..12].copy_from_slice(&pid.to_le_bytes());
        let connection = Connection { guid, pid };
        scene
            .sessions
            .connection(&key, connection, 1, true, scene.now);
    }
    scene.sessions.settle(1, scene.now);
    scene.read();
    let nameless = "00000000".to_owned() + "40420f00" + "5a000000" + "00000000";
    assert_eq!(scene.records, [format!("CONNECT {nameless} u imap 90")]);
    assert_eq!(scene.total("S", place::min_faults), 70);
    assert_eq!(scene.total("S", place::clock_time), 9);
    assert_eq!(scene.total(&nameless, place::min_faults), 90);
    // An event names the one that was not known; the other is known by its id alone.
    let who = "user=u remote_ip=::1 remote_port=7 cmd_name=NOOP";
    scene.send("imap_command_finished", &format!("{who} session=N"));
    scene.send("imap_command_finished", &format!("{who} session=T"));
    scene.pass(60_000);
    let commands = [format!("{nameless} NOOP "), "T NOOP ".to_owned()];
    assert_eq!(scene.records[1..3], commands);
    assert_eq!(scene.of("CONNECT").len(), 1);
    assert_eq!(scene.total("T", place::min_faults), 50);
    // Both are listed no more: they ended while no event told.
    scene.sessions.settle(2, scene.now);
    scene.pass(5000);
    let gone = scene.of("DISCONNECT");
    assert!(gone.contains(&"DISCONNECT S") && gone.contains(&&*format!("DISCONNECT {nameless}")));
}

#[test]
fn a_full_fifo_loses_nothing() {
    let known = KnownSessions::default();
    let mut scene = Scene::new("bridge-full", known, Box::new(Nothing), 2000);
    for number in 0..2000 {
        let who = format!(
            "protocol=imap user=u{number} session=S{number} remote_ip=::1 remote_port={number}"
        );
        let begin = format!(
            "event:auth_request_finished\tstart_time:1.000000\tend_time:1.000000\tfield:{}",
            who.replace(' ', "\tfield:")
        );
        scene.line(&format!("{begin}\tfield:success=yes"));
        scene.line(&begin.replace("auth_request", "mail_user_session"));
    }
    assert!(scene.sessions.is_behind);
    scene.read();
    assert_eq!(scene.adds.values[place::auth_successes], 2000);
    assert_eq!(scene.of("CONNECT").len(), 2001);
    assert_eq!(scene.of("DISCONNECT").len(), 2000);
    scene.pass(4000);
    assert_eq!(scene.sessions.count(), 0);
    assert_eq!(scene.of("CONNECT").len(), 2001, "nothing twice");
}

#[test]
fn sessions_whose_processes_overtook_each_other_get_their_own() {
    let known = KnownSessions::default();
    let mut scene = Scene::new("bridge-overtaken", known, Box::new(Numbered), 1000);
    scene.sessions.has_anvil = true;
    let key = key(b"u", b"imap", b"192.0.2.1");
    // Behind a proxy, in the order of 20, 30, 40; their processes in another one. Another
    // login's event is late.
    for pid in [20, 30, 40] {
        let who = format!("protocol=imap user=u session=S{pid} result=ok remote_ip=192.0.2.1");
        let socket =
            format!("remote_port=9 real_remote_ip=::ffff:127.0.0.1 real_remote_port={pid}");
        scene.send("auth_userdb_request_finished", &format!("{who} {socket}"));
    }
    for (nanos, pid) in [(5u32, 10u32), (6, 40), (7, 20), (8, 30)] {
        let mut guid = [0; 16];
        guid[..4].copy_from_slice(&(nanos * 1_000_000).to_le_bytes());
        guid[4] = 1;
        guid[8..12].copy_from_slice(&pid.to_le_bytes());
        let connection = Connection { guid, pid };
        scene
            .sessions
            .connection(&key, connection, 1, false, scene.now);
    }
    scene.sessions.settle(1, scene.now);
    scene.read();
    let connects = scene.of("CONNECT");
    assert_eq!(connects.len(), 3, "{connects:?}");
    for pid in [20, 30, 40] {
        let own = format!("CONNECT S{pid} u imap {pid}");
        assert!(connects.contains(&&*own), "{connects:?}");
        assert_eq!(
            scene.totals[&format!("S{pid}")].values[place::min_faults],
            pid
        );
    }
}

#[test]
fn arguments_are_reported_on_request_and_passwords_never() {
    for (has_args, expected) in [(false, "A1"), (true, "INBOX")] {
        let mut scene = Scene::plain("bridge-args");
        scene.how.has_args = has_args;
        let who = "protocol=imap user=bob session=S remote_ip=192.0.2.1 remote_port=1";
        scene.send("auth_request_finished", &format!("{who} success=yes"));
        scene.send("auth_userdb_request_finished", &format!("{who} result=ok"));
        scene.pass(60_000);
        for (name, args) in [
            ("SELECT", "INBOX"),
            ("AUTHENTICATE", "PLAIN_secret"),
            ("login", "bob_secret"),
            ("AUTH", "PLAIN_secret"),
            ("PASS", "secret"),
            ("APOP", "bob_secret"),
        ] {
            let command = format!("cmd_name={name} cmd_tag=A1 cmd_human_args={args}");
            scene.send("imap_command_finished", &format!("{who} {command}"));
        }
        let shown = format!("S SELECT {expected}");
        let rest = ["AUTHENTICATE", "login", "AUTH", "PASS", "APOP"];
        let mut wanted = vec![shown];
        wanted.extend(rest.map(|name| format!("S {name} A1")));
        assert_eq!(scene.of("S "), wanted, "{:?}", scene.records);
    }
}
