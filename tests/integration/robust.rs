//! Unlucky and hostile peers: nothing they send or fail to read ends the
//! daemon, stalls it, makes it spin or grow.

use std::time::{Duration, Instant};

use crate::attack::{Class, Tally};
use crate::harness::{free_port, holds_within, local, wait_until, Daemon, Setup};
use crate::link::{latin1, Client};
use crate::records::{command, connect, seed, update, Mail, Random};
use crate::streams::{mutate, Stream};

const MIB: u64 = 1024 * 1024;

/// Fills the daemon with sessions `0..n`, a user each.
fn fill(daemon: &Daemon, n: usize) {
    let mut writer = daemon.writer();
    let stats = Mail::sample().field();
    for i in 0..n {
        let (id, user) = (format!("fill{i}"), format!("user{i}@domain{}.org", i % 97));
        writer.send_waiting(&connect(
            &id,
            &user,
            "imap",
            1,
            &format!("10.0.{}.{}", i / 250, i % 250),
        ));
        writer.send_waiting(&update(&id, &stats));
        writer.send_waiting(&command(&id, 1, "d", "FETCH", "1:* (FLAGS)", &stats));
    }
    daemon.settle(&writer);
}

#[test]
fn a_client_that_never_reads_costs_little_and_hurts_nobody() {
    let mut tally = Tally::of(Class::Clients);
    tally.tries(20);
    let mut daemon = Daemon::start("deaf");
    fill(&daemon, 2000);
    let before = daemon.rss_bytes();
    let mut deaf: Vec<Client> = (0..20).map(|_| daemon.client()).collect();
    for client in &mut deaf {
        // Some hundred MB of replies for each, if anybody made them.
        client.send_while_taken(
            &b"EXPORT\tsession\n".repeat(1000),
            Duration::from_millis(100),
        );
    }
    let started = Instant::now();
    let table = daemon.client().export("session");
    assert_eq!(table.rows.len(), 2000, "a patient client's whole reply");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "served in {:?}",
        started.elapsed()
    );
    daemon.feed(&[connect("beside", "u", "imap", 1, "")]);
    let grown = daemon.rss_bytes().saturating_sub(before);
    assert!(grown < 16 * MIB, "20 deaf clients cost {grown} bytes");
    // They are not spun for either.
    let used = daemon.cpu();
    let busy = !holds_within(Duration::from_millis(600), || false);
    let used = daemon.cpu() - used;
    assert!(
        busy && used < Duration::from_millis(200),
        "idle, yet {used:?} of processor time"
    );
    drop(deaf);
    daemon.assert_alive();
    tally.check(&mut daemon);
}

#[test]
fn an_export_lists_what_existed_when_it_was_asked_for() {
    let mut tally = Tally::of(Class::Cursors);
    tally.tries(1);
    let daemon = Daemon::start("slow");
    fill(&daemon, 3000);
    let mut slow = daemon.client();
    slow.send("EXPORT\tsession\n");
    let first = slow.read_some().expect("a part");
    let mut writer = daemon.writer();
    for i in 0..500 {
        writer.send_waiting(&connect(&format!("later{i}"), "later", "imap", 1, ""));
        writer.send_waiting(format!("DISCONNECT\tfill{i}").as_bytes());
    }
    daemon.settle(&writer);
    let mut reply = first;
    while !reply.ends_with(b"\n\n") {
        let part = slow.read_some().expect("more");
        assert!(!part.is_empty(), "the reply was cut short");
        reply.extend(part);
    }
    let table = crate::link::Table::parse(&reply);
    assert_eq!(table.rows.len(), 3000, "rows");
    assert!(
        table.find("session", "fill2999").is_some(),
        "the newest of then"
    );
    assert!(
        table.find("session", "later0").is_none(),
        "nothing of later"
    );
    tally.survived();
}

#[test]
fn clients_that_vanish_or_sit_there_do_no_harm() {
    let mut tally = Tally::of(Class::Clients);
    tally.tries(150);
    let port = free_port();
    let mut daemon = Daemon::with("vanish", &Setup::new().inet(port, ""));
    fill(&daemon, 500);
    for round in 0..50 {
        let mut client = if round % 2 == 0 {
            daemon.client()
        } else {
            Client::tcp(local(port))
        };
        match round % 5 {
            0 => client.send("EXPORT\tsession\n".repeat(50)),
            1 => client.send("EXPORT\tsess"),
            2 => {
                client.send("EXPORT\tcommand\n");
                client.read_some().expect("a part");
            }
            3 => client.half_close(),
            _ => {}
        }
    }
    let idle: Vec<Client> = (0..100).map(|_| daemon.client()).collect();
    daemon.assert_alive();
    drop(idle);
    tally.check(&mut daemon);
}

#[test]
fn a_request_without_an_end_is_not_collected_for_ever() {
    let mut tally = Tally::of(Class::Clients);
    tally.tries(1);
    let mut daemon = Daemon::start("endless");
    let before = daemon.rss_bytes();
    let mut client = daemon.client();
    let endless = vec![b'x'; 32 * 1024 * 1024];
    client.send_while_taken(&endless, Duration::from_secs(2));
    daemon.assert_alive();
    let grown = daemon.rss_bytes().saturating_sub(before);
    assert!(grown < 4 * MIB, "an endless request cost {grown} bytes");
    tally.check(&mut daemon);
}

#[test]
fn binary_requests_are_survived() {
    let mut tally = Tally::of(Class::Input);
    let mut daemon = Daemon::start("binary");
    let mut random = Random::new(seed("binary_requests_are_survived", 11));
    for _ in 0..200 {
        tally.tries(1);
        let length = random.index(3000);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        if random.one_in(2) {
            bytes.splice(0..0, b"EXPORT\tuser\tuser=".iter().copied());
        }
        let mut client = daemon.client();
        client.send_while_taken(&bytes, Duration::from_millis(50));
    }
    for stars in ["*".repeat(500), "a*".repeat(300) + "b", "?*".repeat(400)] {
        tally.tries(1);
        let started = Instant::now();
        daemon.client().export(&format!("user\tuser={stars}"));
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "wildcards took {:?}",
            started.elapsed()
        );
    }
    daemon.assert_alive();
    tally.check(&mut daemon);
}

#[test]
fn the_client_limit_closes_the_ones_past_it() {
    let mut tally = Tally::of(Class::Clients);
    tally.tries(40);
    let daemon = Daemon::with("limit", &Setup::new().service("client_limit = 5"));
    let mut clients: Vec<Client> = Vec::new();
    let mut refused = 0;
    for _ in 0..40 {
        let mut client = daemon.client();
        match client.try_export("global") {
            Some(_) => clients.push(client),
            None => refused += 1,
        }
    }
    // Either the new one is refused or the oldest idle one makes room.
    let mut alive = 0;
    for client in &mut clients {
        alive += usize::from(client.try_export("global").is_some());
    }
    assert!(
        (1..=5).contains(&alive),
        "{alive} clients served at a limit of 5, {refused} refused"
    );
    // The FIFOs are read all the same.
    let mut writer = daemon.writer();
    writer.send_waiting(&connect("s1", "u", "imap", 1, ""));
    wait_until("the FIFO being read at the limit", || writer.unread() == 0);
    drop(clients);
    wait_until("a client served again", || {
        Client::try_unix(&daemon.socket())
            .and_then(|mut c| c.try_export("session"))
            .is_some_and(|t| t.rows.len() == 1)
    });
    tally.survived();
}

#[test]
fn hundreds_of_idle_clients_are_fine() {
    let mut tally = Tally::of(Class::Clients);
    tally.tries(400);
    let daemon = Daemon::start("idle");
    let mut clients: Vec<Client> = (0..400).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.send("EXPORT\tglobal\n");
    }
    for (n, client) in clients.iter_mut().enumerate() {
        assert!(client.try_reply().is_some(), "client {n} of 400");
    }
    let used = daemon.cpu();
    let _ = holds_within(Duration::from_millis(500), || false);
    let used = daemon.cpu() - used;
    assert!(
        used < Duration::from_millis(200),
        "idle, yet {used:?} of processor time"
    );
    tally.survived();
}

#[test]
fn memory_stays_under_its_limit() {
    let mut tally = Tally::of(Class::Memory);
    let limit = 4 * MIB;
    let mut daemon = Daemon::with("memory", &Setup::new().option("stats_memory_limit=4M"));
    let base = daemon.rss_bytes();
    let mut writer = daemon.writer();
    let stats = Mail::sample().field();
    let mut most = 0;
    let phases: [&dyn Fn(usize) -> Vec<u8>; 4] = [
        &|i| {
            connect(
                &format!("a{i}"),
                &format!("user{i}@d{i}.example.org"),
                "imap",
                1,
                "",
            )
        },
        &|i| {
            connect(
                &format!("b{i}"),
                "one",
                "imap",
                1,
                &format!("2001:db8::{:x}", i % 65536),
            )
        },
        &|i| {
            command(
                "a1",
                i as u32 + 1,
                "",
                "FETCH",
                &"long arguments ".repeat(20),
                &stats,
            )
        },
        &|i| update(&format!("c{i}"), &stats),
    ];
    tally.tries(phases.len());
    for (phase, record) in phases.iter().enumerate() {
        for i in 0..20_000 {
            writer.send_waiting(&record(i));
            if i % 2000 == 0 {
                most = most.max(daemon.rss_bytes());
            }
        }
        daemon.settle(&writer);
        most = most.max(daemon.rss_bytes());
        let grown = most.saturating_sub(base);
        assert!(
            grown < limit + 2 * MIB,
            "phase {phase}: {grown} bytes over the start, limit {limit}"
        );
    }
    assert_eq!(
        daemon.client().export("global").only().num("num_logins"),
        40_000,
        "counts above stay right when nothing may be freed"
    );
    daemon.assert_alive();
    tally.survived();
}

#[test]
fn hostile_records_are_survived() {
    let mut tally = Tally::of(Class::Input);
    let seed = seed("hostile_records_are_survived", 7);
    let mut random = Random::new(seed);
    let mut stream = Stream::new(seed);
    let mut daemon = Daemon::with("hostile", &Setup::new().option("stats_memory_limit=2M"));
    let mut writer = daemon.writer();
    let mut client = daemon.client();
    for round in 0..30_000 {
        tally.tries(1);
        let record = stream.next_record();
        let record = if random.one_in(2) {
            mutate(&mut random, &record)
        } else {
            record
        };
        if random.one_in(20) {
            // Raw bytes, line breaks and NULs included.
            let n = random.index(600);
            let noise: Vec<u8> = (0..n).map(|_| random.next() as u8).collect();
            writer.send_raw(&noise);
        }
        writer.send_waiting(&record);
        if round % 500 == 0 {
            for level in ["command", "session", "user", "domain", "ip", "global"] {
                client.export(level);
            }
        }
    }
    writer.send_waiting(b"");
    writer.send_waiting(&connect("the-last-one", "last", "imap", 1, ""));
    daemon.settle(&writer);
    let table = daemon.client().export("session\tsession=the-last-one");
    assert_eq!(table.only().get("user"), "last", "still counting");
    daemon.assert_alive();
    tally.check(&mut daemon);
}

#[test]
fn errors_are_logged_at_a_limited_rate_and_made_visible() {
    let mut tally = Tally::of(Class::Logs);
    tally.tries(20_001);
    let daemon = Daemon::start("errors");
    let mut writer = daemon.writer();
    writer.send_waiting(b"NONSENSE\t\x1b[31mred\x1b[0m\x07\r");
    for _ in 0..20_000 {
        writer.send_waiting(b"CONNECT\tonly-an-id\x1b[2J");
    }
    daemon.settle(&writer);
    let log = daemon.log();
    assert!(
        log.lines().count() < 500,
        "{} lines for 20,000 errors",
        log.lines().count()
    );
    assert!(!log.is_empty(), "but not silent");
    let raw = log
        .bytes()
        .any(|b| b < 0x20 && b != b'\n' && b != b'\t' || b == 0x7f);
    assert!(
        !raw,
        "control characters in the log: {:?}",
        latin1(log.as_bytes())
    );
    tally.survived();
}

#[test]
fn a_flooded_fifo_does_not_starve_clients() {
    let mut tally = Tally::of(Class::Input);
    tally.tries(50);
    let daemon = Daemon::start("flood");
    let mut writer = daemon.writer();
    let stats = Mail::sample().field();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            writer.send_waiting(&connect("s1", "u", "imap", 1, ""));
            let record = update("s1", &stats);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                writer.send_waiting(&record);
            }
        });
        let mut client = daemon.client();
        let slowest = (0..50)
            .map(|_| {
                let started = Instant::now();
                client.export("global");
                started.elapsed()
            })
            .max();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        flood.join().expect("the flood");
        assert!(
            slowest < Some(Duration::from_secs(1)),
            "slowest answer {slowest:?}"
        );
    });
    tally.survived();
}

#[test]
fn real_writers_drop_little_while_the_daemon_keeps_up() {
    let daemon = Daemon::start("keepsup");
    let mut writer = daemon.writer();
    let mut sent = 0;
    writer.send_waiting(&connect("s1", "u", "imap", 1, ""));
    for n in 0..20_000 {
        // One write each, never waiting: a full pipe costs the record.
        sent += u64::from(writer.send(&command("s1", n + 1, "d", "NOOP", "", "")));
    }
    daemon.settle(&writer);
    let counted = daemon.client().export("global").only().num("num_cmds");
    assert_eq!(counted, sent, "what the pipe took is counted");
    assert!(
        sent > 500,
        "a pipe of 64 KiB and a reader take more than {sent} records"
    );
}
