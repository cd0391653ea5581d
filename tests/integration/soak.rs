//! A soak: hours by the clock that the store is given, in which a million sessions
//! come and go through a small memory. `DOVESTAT_SOAK_SESSIONS` makes it longer.
//!
//! Most users, and all names that nobody has, come once in a while and are freed to
//! make room. A few are never without a session, each in one of the domains and at an
//! address of its own: what is held is not freed, so their sums, and those of all
//! domains and of everything, have to be exact at the end.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::process::{self, Command, Stdio};

use dovestat::stats::{place, Report};
use dovestat::store::{
    CommandUpdate, Filter, Key, Level, Limits, Note, Now, Opening, Pattern, Progress, Record, Row,
    Store, Totals, WallTime, SILENCE_SECS,
};

use crate::harness::rss_bytes;
use crate::records::Random;

/// All that statistics may take.
const LIMIT_BYTES: usize = 4 << 20;

/// Sessions of a run of all tests.
const SESSIONS: u32 = 1_000_000;

/// Sessions that begin in a second of the simulated time.
const SESSIONS_A_SECOND: u32 = 80;

/// The longest a session lasts, in seconds.
const LONGEST_SECS: u32 = 60;

/// Domains; each has one user who is never without a session.
const DOMAINS: u32 = 40;

/// Users who come and go.
const USERS: u64 = 100_000;

/// Addresses that they come from.
const IPS: u64 = 50_000;

/// By how much the process may grow after its warm-up, in bytes.
const GROWTH_BYTES: u64 = 256 << 10;

/// Says to the test that it is the process that is measured.
const ALONE: &str = "DOVESTAT_SOAK_ALONE";

/// What is counted of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    usecs: u64,
    logins: u64,
    cmds: u64,
    auth_failures: u64,
}

impl Sum {
    fn of(totals: &Totals) -> Sum {
        let counters = &totals.counters;
        Sum {
            usecs: counters.stats.values[place::user_cpu],
            logins: counters.num_logins,
            cmds: counters.num_cmds,
            auth_failures: counters.stats.values[place::auth_failures],
        }
    }

    fn add(&mut self, other: Sum) {
        self.usecs += other.usecs;
        self.logins += other.logins;
        self.cmds += other.cmds;
        self.auth_failures += other.auth_failures;
    }
}

/// Everything about a session follows from its number.
struct Session {
    id: String,
    user: String,
    domain: u32,
    ip: IpAddr,
    /// Whether the user is one who stays.
    stays: bool,
    /// How long it lasts.
    secs: u32,
    /// Its total in its middle and at its end, in microseconds.
    usecs: [u64; 2],
    /// Whether its process dies without a word.
    dies: bool,
}

impl Session {
    fn of(number: u32) -> Session {
        let mut random = Random::new(number.into());
        let domain = random.below(DOMAINS.into()) as u32;
        let stays = random.one_in(8);
        let (user, ip) = match stays {
            true => (staying(domain), staying_ip(domain)),
            false => {
                let user = format!("user{}@domain{domain}", random.below(USERS));
                let ip = Ipv4Addr::from((10 << 24) + random.below(IPS) as u32);
                (user, ip.into())
            }
        };
        let half = random.below(1 << 20);
        Session {
            id: format!("session/{number:08x}"),
            user,
            domain,
            ip,
            stays,
            secs: 2 + random.below(LONGEST_SECS as u64 - 1) as u32,
            usecs: [half, half + random.below(1 << 33)],
            dies: random.one_in(500),
        }
    }
}

/// The user of a domain who is never without a session.
fn staying(domain: u32) -> String {
    format!("stays@domain{domain}")
}

/// The address of that user.
fn staying_ip(domain: u32) -> IpAddr {
    Ipv4Addr::from((192 << 24) + domain).into()
}

/// The store and what it should have counted.
struct Soak {
    store: Store,
    secs: u32,
    everything: Sum,
    domains: Vec<Sum>,
    staying: Vec<Sum>,
    /// Sessions that are connected.
    connected: u64,
}

impl Soak {
    fn new() -> Soak {
        let limits = Limits {
            memory_bytes: LIMIT_BYTES,
            min_time_secs: [60, 900, 3600, 43_200, 43_200],
        };
        Soak {
            store: Store::new(&limits, at(0)).expect("4 MiB are enough"),
            secs: 0,
            everything: Sum::default(),
            domains: vec![Sum::default(); DOMAINS as usize],
            staying: vec![Sum::default(); DOMAINS as usize],
            connected: 0,
        }
    }

    /// Applies a record, which finds room.
    fn apply(&mut self, record: &Record) -> Option<Note> {
        let note = self.store.apply(record, at(self.secs));
        assert!(
            !matches!(note, Some(Note::NoRoom | Note::Untracked)),
            "{note:?} at {record:?}"
        );
        let usage = self.store.usage();
        assert!(usage.used_bytes <= usage.limit_bytes, "{usage:?}");
        note
    }

    fn count(&mut self, domain: u32, stays: bool, sum: Sum) {
        self.everything.add(sum);
        self.domains[domain as usize].add(sum);
        if stays {
            self.staying[domain as usize].add(sum);
        }
    }

    fn begin(&mut self, session: &Session) {
        let note = self.apply(&Record::Connect {
            session: session.id.as_bytes(),
            user: session.user.as_bytes(),
            service: b"imap",
            pid: 1,
            ip: Some(session.ip),
        });
        assert_eq!(note, None);
        self.connected += 1;
        let note = self.apply(&Record::UpdateCommand {
            session: session.id.as_bytes(),
            update: CommandUpdate {
                number: NonZeroU32::MIN,
                begins: Some((b"FETCH", b"1:* (FLAGS)")),
                done: session.secs % 2 == 0,
                report: &report(0),
            },
        });
        assert_eq!(note, None);
        let sum = Sum {
            logins: 1,
            cmds: 1,
            ..Sum::default()
        };
        self.count(session.domain, session.stays, sum);
    }

    /// A session tells a new total, `usecs` more than the last.
    fn update(&mut self, session: &Session, total: u64, usecs: u64) {
        let note = self.apply(&Record::UpdateSession {
            session: session.id.as_bytes(),
            report: &report(total),
        });
        assert_eq!(note, None);
        let sum = Sum {
            usecs,
            ..Sum::default()
        };
        self.count(session.domain, session.stays, sum);
    }

    /// A login fails under a name that nobody else has.
    fn fail(&mut self, number: u32) {
        let domain = number % DOMAINS;
        let mut failed = Report {
            has_auth: true,
            ..Report::default()
        };
        failed.stats.values[place::auth_failures] = 1;
        let user = format!("guess{number}@domain{domain}");
        self.apply(&Record::AddUser {
            user: user.as_bytes(),
            service: b"imap",
            ip: None,
            report: &failed,
        });
        let sum = Sum {
            auth_failures: 1,
            ..Sum::default()
        };
        self.count(domain, false, sum);
    }

    /// Lets a second pass. Who died is noticed after a while, to the second.
    fn pass(&mut self) {
        self.secs += 1;
        let mut silent = 0;
        while self
            .store
            .disconnect_silent(at(self.secs), |_, _| silent += 1)
        {}
        self.connected -= silent;
    }

    /// What an entry of this name has.
    fn listed(&mut self, level: Level, name: &str) -> Sum {
        let pattern = Some(Pattern::new(name.as_bytes()));
        let filter = match level {
            Level::User => Filter {
                user: pattern,
                ..Filter::default()
            },
            _ => Filter {
                domain: pattern,
                ..Filter::default()
            },
        };
        let Opening::Rows(cursor) = self.store.open(level, filter) else {
            panic!("{name} is known");
        };
        let mut sum = None;
        while self.store.read(&cursor, &mut 100, |row| {
            sum = row.totals().map(Sum::of);
            true
        }) == Progress::More
        {}
        self.store.close(cursor);
        sum.unwrap_or_else(|| panic!("{name} is listed"))
    }

    /// What an address has.
    fn listed_ips(&mut self) -> Vec<(IpAddr, Sum)> {
        let mut sums = Vec::new();
        let Opening::Rows(cursor) = self.store.open(Level::Ip, Filter::default()) else {
            panic!("there are addresses");
        };
        while self.store.read(&cursor, &mut 1000, |row| {
            if let Row::Parent(_, Key::Address(ip), totals) = row {
                sums.push((*ip, Sum::of(totals)));
            }
            true
        }) == Progress::More
        {}
        self.store.close(cursor);
        sums
    }

    /// Compares all that is exact.
    fn check(&mut self) {
        self.store.check();
        let totals = self.store.totals_of_everything();
        assert_eq!(totals.connected, self.connected);
        assert_eq!(Sum::of(&totals), self.everything);
        let ips = self.listed_ips();
        for domain in 0..DOMAINS {
            let expected = self.staying[domain as usize];
            let found = self.listed(Level::User, &staying(domain));
            assert_eq!(found, expected, "the user of domain {domain}");
            let ip = staying_ip(domain);
            let found = ips.iter().find(|(listed, _)| *listed == ip);
            assert_eq!(found, Some(&(ip, expected)), "its address");
            let found = self.listed(Level::Domain, &format!("domain{domain}"));
            assert_eq!(found, self.domains[domain as usize], "domain {domain}");
        }
    }
}

/// The instant so many seconds after the start.
fn at(secs: u32) -> Now {
    Now {
        uptime_secs: secs,
        wall: WallTime {
            secs: 1_700_000_000 + secs,
            usecs: 0,
        },
    }
}

/// Totals of a process that used so much.
fn report(usecs: u64) -> Report {
    let mut report = Report {
        has_mail: true,
        ..Report::default()
    };
    report.stats.values[place::user_cpu] = usecs;
    report.stats.values[place::read_bytes] = usecs / 3;
    report
}

/// Does it, in a process that does nothing else; what it had at the end.
fn soak(sessions: u32) -> String {
    let mut soak = Soak::new();
    for domain in 0..DOMAINS {
        let id = format!("stays{domain}");
        soak.apply(&Record::Connect {
            session: id.as_bytes(),
            user: staying(domain).as_bytes(),
            service: b"imap",
            pid: 1,
            ip: Some(staying_ip(domain)),
        });
        soak.connected += 1;
        let login = Sum {
            logins: 1,
            ..Sum::default()
        };
        soak.count(domain, true, login);
    }
    let seconds = sessions / SESSIONS_A_SECOND;
    let warm_up = seconds / 5;
    // What is to come by seconds: a session's middle or end.
    let mut due: Vec<Vec<(u32, bool)>> = vec![Vec::new(); LONGEST_SECS as usize + 1];
    let mut peak_bytes = 0;
    let mut warm_bytes = 0;
    for second in 0..seconds {
        for number in second * SESSIONS_A_SECOND..(second + 1) * SESSIONS_A_SECOND {
            let session = Session::of(number);
            soak.begin(&session);
            for (after, is_end) in [(session.secs / 2, false), (session.secs, true)] {
                let slot = (second + after) as usize % due.len();
                due[slot].push((number, is_end));
            }
            if number % 4 == 0 {
                soak.fail(number);
            }
        }
        for domain in (0..DOMAINS).filter(|_| second % (SILENCE_SECS / 3) == 0) {
            let id = format!("stays{domain}");
            soak.apply(&Record::UpdateSession {
                session: id.as_bytes(),
                report: &Report::default(),
            });
        }
        soak.pass();
        let slot = (second + 1) as usize % due.len();
        let mut now_due = std::mem::take(&mut due[slot]);
        for (number, is_end) in now_due.drain(..) {
            let session = Session::of(number);
            let [half, whole] = session.usecs;
            match is_end {
                false => soak.update(&session, half, half),
                true if session.dies => {}
                true => {
                    soak.update(&session, whole, whole - half);
                    let id = session.id.as_bytes();
                    assert_eq!(soak.apply(&Record::Disconnect { session: id }), None);
                    soak.connected -= 1;
                }
            }
        }
        due[slot] = now_due;
        if second % (seconds / 20).max(1) == 0 {
            soak.check();
        }
        if second % 64 == 0 || second + 1 == seconds {
            let bytes = rss_bytes(process::id());
            match second < warm_up {
                true => warm_bytes = bytes.max(warm_bytes),
                false => peak_bytes = bytes.max(peak_bytes),
            }
        }
    }
    soak.check();
    let usage = soak.store.usage();
    let evictions: u64 = usage.evictions.iter().sum();
    let text = format!(
        "{sessions} sessions in {:.1} simulated hours; {evictions} entries freed; {} of {} bytes; \
         {warm_bytes} bytes resident after the warm-up, {peak_bytes} at most after that",
        f64::from(seconds) / 3600.0,
        usage.used_bytes,
        usage.limit_bytes,
    );
    assert!(evictions > u64::from(sessions), "memory was short: {text}");
    assert!(peak_bytes <= warm_bytes + GROWTH_BYTES, "it grew: {text}");
    text
}

#[test]
fn hours_of_sessions_leave_memory_flat_and_sums_exact() {
    let wanted = std::env::var("DOVESTAT_SOAK_SESSIONS").ok();
    let sessions = wanted.map_or(SESSIONS, |count| count.parse().expect("a number"));
    if std::env::var_os(ALONE).is_some() {
        println!("{}", soak(sessions));
        return;
    }
    // The other tests are in this process, and take memory as they like.
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "--nocapture",
            "soak::hours_of_sessions_leave_memory_flat_and_sums_exact",
        ])
        .env(ALONE, "yes")
        .stdin(Stdio::null())
        .output()
        .expect("this program runs again");
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(told.contains("simulated hours"), "it did something: {told}");
}
