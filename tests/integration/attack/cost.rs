//! Costs: four times as much of anything costs about four times as much processor
//! time, whatever ids, names and numbers are chosen. Only ratios are looked at, and
//! the best of a few attempts, as the machine may be busy with other things.

use std::fs;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::attack::{still_works, Class, Tally};
use crate::harness::{cpu, Daemon, Setup};
use crate::link::{Client, Table};
use crate::records::{add_user, carry_on, command, connect, disconnect, update, Mail};

/// What is compared: so many, and four times as many.
const FEW: u64 = 2500;

/// The most that four times as much may cost: four, and as much again for caches
/// and noise. What is quadratic costs sixteen.
const MOST_FOR_FOURFOLD: f64 = 8.0;

/// Attempts, the best of which counts.
const ATTEMPTS: usize = 4;

/// The processor time that `act` costs the daemon.
fn cost(daemon: &Daemon, act: impl FnOnce()) -> Duration {
    // Nanoseconds where the kernel counts them.
    let used = || {
        let path = format!("/proc/{}/schedstat", daemon.pid());
        let nanos = fs::read_to_string(path).ok();
        let nanos = nanos.and_then(|text| text.split(' ').next()?.parse().ok());
        nanos.map_or_else(|| cpu(daemon.pid()), Duration::from_nanos)
    };
    let before = used();
    act();
    used() - before
}

/// Asserts that some attempt costs at most `most` times as much for `many` as for
/// `few`, which each begin anew.
#[track_caller]
fn assert_ratio(what: &str, most: f64, attempt: impl Fn(bool) -> Duration) {
    let mut ratios = Vec::new();
    for _ in 0..ATTEMPTS {
        let (few, many) = (attempt(false), attempt(true));
        let ratio = many.as_secs_f64() / few.as_secs_f64().max(1e-4);
        println!("{what}: {few:?} and {many:?}, {ratio:.2} times as much");
        ratios.push(ratio);
        if ratio <= most {
            return;
        }
    }
    panic!("{what}: {ratios:.2?} times as much, at most {most} expected");
}

/// The n-th step of a workload.
type Step = fn(u64, &mut dyn FnMut(Vec<u8>));

fn ip4(n: u64) -> String {
    std::net::Ipv4Addr::from((n as u32).to_be_bytes()).to_string()
}

/// What is tried: ids, numbers and names that hash badly where hashing is naive, and
/// lists that are walked where they should not be.
const WORKLOADS: [(&str, Step); 12] = [
    ("sessions in a row", |n, send| {
        send(connect(&format!("{n}"), "u@d", "imap", 1, ""));
        send(update(&format!("{n}"), ""));
    }),
    ("ids that differ in their first bytes", |n, send| {
        send(connect(
            &format!("{n:08}{}", "x".repeat(300)),
            "u@d",
            "imap",
            1,
            "",
        ));
    }),
    ("ids that differ in one bit of a long text", |n, send| {
        let mut id = vec![b'A'; 300];
        (0..12)
            .filter(|bit| n >> bit & 1 == 1)
            .for_each(|bit| id[bit * 20] = b'a');
        let id = String::from_utf8(id).expect("ASCII");
        send(update(&format!("{}{id}", n >> 12), ""));
    }),
    ("ids that are multiples", |n, send| {
        let id = format!("{:016x}", n << 40);
        send(connect(&id, "u@d", "imap", 1, ""));
    }),
    ("users of one domain", |n, send| {
        send(add_user(&format!("{n}@d"), "imap", ""));
    }),
    ("domains of one user each", |n, send| {
        send(add_user(&format!("u@{n}"), "imap", ""));
    }),
    ("addresses whose last bytes are equal", |n, send| {
        send(connect(&format!("{n}"), "u", "imap", 1, &ip4(n << 8)));
    }),
    ("addresses of as many networks", |n, send| {
        send(connect(
            &format!("{n}"),
            "u",
            "imap",
            1,
            &format!("2001:db8:{n:x}::1"),
        ));
    }),
    ("running commands of one session", |n, send| {
        // Numbers that are equal in their lower half.
        let number = (n as u32 + 1).reverse_bits();
        send(command("one", number, "", "IDLE", "", ""));
        send(carry_on("one", number, "c", ""));
    }),
    ("commands begun and ended, oldest last", |n, send| {
        send(command("one", 1 + n as u32, "", "IDLE", "", ""));
        if n >= 700 {
            send(carry_on("one", n as u32 - 690, "cd", ""));
        }
    }),
    ("sessions of one user that come and go", |n, send| {
        send(connect(&format!("{n}"), "u@d", "imap", 1, "10.0.0.1"));
        if n >= 500 {
            send(disconnect(&format!("{}", n - 250)));
        }
    }),
    ("one id again and again", |n, send| {
        send(connect("same", "u@d", "imap", n as u32, "10.0.0.1"));
        send(disconnect("same"));
    }),
];

/// Feeds a workload's steps.
fn feed(daemon: &Daemon, step: Step, steps: Range<u64>) {
    let mut writer = daemon.writer();
    steps.for_each(|n| step(n, &mut |record| writer.send_waiting(&record)));
    daemon.settle(&writer);
}

#[test]
fn records_cost_the_same_whatever_is_kept() {
    let mut tally = Tally::of(Class::Costs);
    for (what, step) in WORKLOADS {
        tally.tries(1);
        assert_ratio(what, MOST_FOR_FOURFOLD, |many| {
            let mut daemon = Daemon::start("cost");
            let steps = if many { 4 * FEW } else { FEW };
            let cost = cost(&daemon, || feed(&daemon, step, 0..steps));
            still_works(&mut daemon);
            cost
        });
    }
    tally.survived();
}

#[test]
fn freeing_costs_the_same_however_much_there_is_to_free() {
    let mut tally = Tally::of(Class::Costs);
    for (what, step) in WORKLOADS {
        tally.tries(1);
        // Twice the smallest limit is full of either number.
        let setup = Setup::new().option("stats_memory_limit=512K");
        assert_ratio(
            &format!("{what}, in little memory"),
            MOST_FOR_FOURFOLD,
            |many| {
                let daemon = Daemon::with("cost", &setup);
                feed(&daemon, step, 0..FEW);
                let steps = if many { 4 * FEW } else { FEW };
                cost(&daemon, || feed(&daemon, step, FEW..FEW + steps))
            },
        );
    }
    tally.survived();
}

/// Requests that name what they want exactly.
const EXACT: [&str; 6] = [
    "session\tsession=s77",
    "command\tsession=s77",
    "user\tuser=u77@d77",
    "session\tuser=u77@d77",
    "domain\tdomain=d77",
    "ip\tip=10.0.0.77",
];

#[test]
fn who_is_named_exactly_is_found_without_looking_at_others() {
    let mut tally = Tally::of(Class::Costs);
    let filled = |entries: u64| {
        let daemon = Daemon::start("exact");
        feed(
            &daemon,
            |n, send| {
                let user = format!("u{n}@d{n}");
                send(connect(
                    &format!("s{n}"),
                    &user,
                    "imap",
                    1,
                    &ip4(0x0a00_0000 + n),
                ));
                send(command(&format!("s{n}"), 1, "", "IDLE", "", ""));
            },
            0..entries,
        );
        daemon
    };
    let mut daemons = [filled(FEW / 2), filled(8 * FEW)];
    for request in EXACT {
        tally.tries(1);
        assert_ratio(request, 2.5, |many| {
            let daemon = &daemons[usize::from(many)];
            let mut client = daemon.client();
            cost(daemon, || {
                // Together: what it costs to be woken for each depends on the processor
                // that the daemon happens to be on.
                client.send(format!("EXPORT\t{request}\n").repeat(300));
                for _ in 0..300 {
                    let table = Table::parse(&client.reply());
                    assert_eq!(table.rows.len(), 1, "{request:?}");
                }
            })
        });
    }
    daemons.iter_mut().for_each(|daemon| tally.check(daemon));
}

#[test]
fn wildcards_and_long_requests_cost_what_they_are_long() {
    let mut tally = Tally::of(Class::Costs);
    let mut daemon = Daemon::start("wildcards");
    let name = "a".repeat(1500);
    feed_names(&daemon, &name);
    for (what, pattern) in [
        ("stars", "*a"),
        ("stars and marks", "*?"),
        ("stars alone", "**"),
        ("marks", "a?"),
        // Each place that the star may end at is tried to the last byte.
        ("one star before a long run", "a"),
    ] {
        tally.tries(1);
        assert_ratio(what, MOST_FOR_FOURFOLD, |many| {
            let pattern = pattern.repeat(if many { 480 } else { 120 });
            let request = format!("user\tuser=*{pattern}b");
            cost(&daemon, || {
                assert_eq!(daemon.client().export(&request).rows.len(), 0);
            })
        });
    }
    // Others are answered meanwhile.
    tally.tries(1);
    let worst = format!("EXPORT\tuser\tuser=*{}b\n", "a".repeat(750));
    let mut slow: Vec<Client> = (0..3).map(|_| daemon.client()).collect();
    slow.iter_mut()
        .for_each(|client| client.send(worst.repeat(4)));
    let mut client = daemon.client();
    for _ in 0..20 {
        let asked = Instant::now();
        client.export("global");
        let waited = asked.elapsed();
        assert!(waited < Duration::from_secs(3), "{waited:?} for an answer");
    }
    for client in &mut slow {
        (0..4).for_each(|_| assert!(client.try_reply().is_some()));
    }
    drop(slow);
    tally.check(&mut daemon);
}

fn feed_names(daemon: &Daemon, name: &str) {
    let records: Vec<Vec<u8>> = (0..200)
        .map(|n| add_user(&format!("{name}{n}"), "imap", ""))
        .collect();
    daemon.feed(&records);
}

/// A line of about so many bytes; made of stats items, if it likes.
type Line = fn(usize, &[u8]) -> Vec<u8>;

#[test]
fn lines_cost_what_they_are_long() {
    let mut tally = Tally::of(Class::Costs);
    let mut daemon = Daemon::start("longlines");
    let stats = Mail::sample().item();
    let lines: [(&str, Line); 6] = [
        ("tabs", |length, _| {
            [b"UPDATE-CMD\ts\t1\td\tA\t", &vec![b'\t'; length][..]].concat()
        }),
        ("escapes", |length, _| {
            [b"DISCONNECT\t", b"\x01t".repeat(length / 2).as_slice()].concat()
        }),
        ("keys", |length, _| {
            [
                b"CONNECT\ts\tu\ti\t1\t",
                b"rip=1\t".repeat(length / 6).as_slice(),
            ]
            .concat()
        }),
        ("at signs", |length, _| {
            [b"ADD-USER\t", "@".repeat(length).as_bytes(), b"\ti\t"].concat()
        }),
        ("items", |length, stats| {
            let items = stats.repeat(length * 3 / 4 / stats.len());
            update("s", &crate::records::base64(&items))
        }),
        ("nothing", |length, _| vec![b'x'; length]),
    ];
    for (what, line) in lines {
        tally.tries(1);
        assert_ratio(
            &format!("long lines of {what}"),
            MOST_FOR_FOURFOLD,
            |many| {
                let line = line(if many { 7600 } else { 1900 }, &stats);
                let lines: Vec<&[u8]> = (0..300).map(|_| line.as_slice()).collect();
                cost(&daemon, || daemon.feed(&lines))
            },
        );
    }
    tally.check(&mut daemon);
}

#[test]
fn requests_in_many_pieces_cost_what_they_are_long() {
    let mut tally = Tally::of(Class::Costs);
    let port = crate::harness::free_port();
    let mut daemon = Daemon::with("pieces", &Setup::new().inet(port, "protocol = http"));
    let head = |length: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(length));
    let lines = |length: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a:b\r\n".repeat(length / 5));
    let request = |length: usize| format!("EXPORT\tglobal\tx={}\n", "y".repeat(length));
    // What came of a head is read again with each piece, within the head's limit.
    let again = 1.5 * MOST_FOR_FOURFOLD;
    let kinds = [
        ("a head with a long line", again, head(900), head(3600)),
        ("a head with many lines", again, lines(900), lines(3600)),
        ("a request", MOST_FOR_FOURFOLD, request(900), request(3600)),
    ];
    for (what, most, short, long) in kinds {
        tally.tries(1);
        assert_ratio(&format!("{what}, byte by byte"), most, |many| {
            let text = if many { &long } else { &short };
            let is_http = text.starts_with("GET");
            cost(&daemon, || {
                let mut client = match is_http {
                    true => crate::http::client(port),
                    false => daemon.client(),
                };
                // Read one by one: each is waited for by another client's turn.
                let mut other = daemon.client();
                for byte in text.as_bytes() {
                    client.send([*byte]);
                    other.export("ip");
                }
                assert!(client.try_line().is_some(), "{what}: no answer");
            })
        });
    }
    tally.check(&mut daemon);
}
