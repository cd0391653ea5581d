//! Clients: requests of every size in every piece, and peers that pipeline, stall,
//! half-close, vanish, come in numbers or use up the descriptors.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::attack::{Class, Tally};
use crate::harness::{free_port, local, wait_until, Daemon, Setup, DEADLINE};
use crate::link::{latin1, Client};
use crate::records::{connect, seed, Random};
use crate::requests::{populate, ALL_LEVELS};

/// The longest request taken, without its LF.
const MOST: usize = 4096;

/// How many descriptors a daemon has.
fn descriptors(daemon: &Daemon) -> usize {
    let all = fs::read_dir(format!("/proc/{}/fd", daemon.pid()));
    all.expect("/proc/PID/fd").count()
}

/// Enough sessions for replies that fill every buffer on the way.
fn fill(daemon: &Daemon) {
    let records: Vec<Vec<u8>> = (0..3000)
        .map(|n| {
            connect(
                &format!("fill{n}"),
                &format!("user{n}@d"),
                "imap",
                1,
                "10.0.0.1",
            )
        })
        .collect();
    daemon.feed(&records);
}

#[test]
fn requests_are_taken_up_to_their_limit() {
    let mut tally = Tally::of(Class::Clients);
    let port = free_port();
    let mut daemon = Daemon::with("requestsizes", &Setup::new().inet(port, ""));
    populate(&daemon);
    let expected = daemon.client().export_raw("global");
    let request = |bytes: usize| {
        let front = "EXPORT\tglobal\tunknown=";
        front.to_owned() + &"x".repeat(bytes - front.len())
    };
    for end in ["\n", "\r\n"] {
        for bytes in [
            100,
            MOST - 2,
            MOST - 1,
            MOST,
            MOST + 1,
            MOST + 2,
            2 * MOST,
            100_000,
        ] {
            // The CR counts.
            let is_taken = bytes + end.len() - 1 <= MOST;
            for pieces in [1, 2, 7, 4095, 4096, 4097, usize::MAX] {
                for mut client in [daemon.client(), Client::tcp(local(port))] {
                    if pieces < 4095 && bytes != MOST && bytes != MOST + 1 {
                        continue;
                    }
                    tally.tries(1);
                    let text = request(bytes) + end;
                    for piece in text.as_bytes().chunks(pieces.min(text.len())) {
                        // It may have heard enough.
                        client.send_while_taken(piece, Duration::from_secs(1));
                    }
                    match is_taken {
                        true => assert_eq!(client.reply(), expected, "{bytes} bytes"),
                        false => client.assert_closed(&format!("{bytes} bytes")),
                    }
                }
            }
        }
    }
    tally.check(&mut daemon);
}

#[test]
fn replies_are_the_same_however_requests_are_cut() {
    let mut tally = Tally::of(Class::Clients);
    let mut daemon = Daemon::start("cutrequests");
    populate(&daemon);
    let mut random = Random::new(seed("cutrequests", 51));
    let mut client = daemon.client();
    for _ in 0..300 {
        tally.tries(1);
        let levels: Vec<&str> = (0..12).map(|_| *random.pick(&ALL_LEVELS)).collect();
        let mut text = String::new();
        for level in &levels {
            text += &format!(
                "EXPORT\t{level}{}",
                if random.one_in(2) { "\r\n" } else { "\n" }
            );
        }
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((1 + random.index(40)).min(rest.len()));
            client.send(piece);
            rest = behind;
        }
        for level in levels {
            assert_eq!(client.reply(), daemon.client().export_raw(level));
        }
    }
    tally.check(&mut daemon);
}

/// What a client does before it goes away, by a number.
fn misbehave<S: std::io::Read + std::io::Write>(stream: &mut S, way: usize, random: &mut Random) {
    let ask = b"EXPORT\tsession\n";
    let read = |stream: &mut S, bytes: usize| stream.read(&mut vec![0; bytes]).map_or(0, |n| n);
    // It may close first.
    let send = |stream: &mut S, bytes: &[u8]| drop(stream.write(bytes));
    match way {
        0 => {}
        1 => send(stream, &ask[..1 + random.index(ask.len() - 1)]),
        2 => send(stream, ask),
        3 => send(stream, &ask.repeat(100)),
        4 => {
            send(stream, ask);
            read(stream, 1 + random.index(100_000));
        }
        5 => {
            send(stream, &ask.repeat(3));
            for _ in 0..20 {
                read(stream, 1);
            }
        }
        6 => send(stream, b"\n\nEXPORT\tglobal\n"),
        7 => send(stream, &vec![b'x'; 6000]),
        8 => {
            let noise: Vec<u8> = (0..2000).map(|_| random.next() as u8).collect();
            send(stream, &noise);
        }
        9 => {
            send(stream, b"EXPORT\tglobal\nRESET");
            read(stream, 1 << 20);
        }
        _ => {
            send(stream, ask);
            send(stream, b"nonsense\n");
            read(stream, 1 << 20);
        }
    }
}

#[test]
fn clients_that_vanish_at_any_moment_leave_nothing() {
    let mut tally = Tally::of(Class::Clients);
    let port = free_port();
    let mut daemon = Daemon::with("vanishing", &Setup::new().inet(port, ""));
    fill(&daemon);
    let mut random = Random::new(seed("vanishing", 61));
    let idle = || descriptors(&daemon);
    wait_until("no client left", || {
        daemon.log().contains("serving") && idle() > 4
    });
    let before = idle();
    let rss = daemon.rss_bytes();
    for round in 0..20 {
        for way in 0..11 {
            for half_close in [false, true] {
                tally.tries(2);
                let mut unix = UnixStream::connect(daemon.socket()).expect("connect");
                let mut tcp = TcpStream::connect(local(port)).expect("connect");
                for result in [
                    unix.set_read_timeout(Some(DEADLINE)),
                    tcp.set_read_timeout(Some(DEADLINE)),
                ] {
                    result.expect("a timeout");
                }
                if half_close && way % 2 == 0 {
                    misbehave(&mut unix, way, &mut random);
                    misbehave(&mut tcp, way, &mut random);
                    let _ = unix.shutdown(std::net::Shutdown::Write);
                    let _ = tcp.shutdown(std::net::Shutdown::Write);
                } else {
                    misbehave(&mut unix, way, &mut random);
                    // Closing with something unread resets.
                    misbehave(&mut tcp, way, &mut random);
                }
            }
        }
        if round % 5 == 0 {
            daemon.assert_alive();
        }
    }
    let descriptors = || descriptors(&daemon);
    wait_until("all of them being gone", || descriptors() <= before);
    let grown = daemon.rss_bytes().saturating_sub(rss);
    assert!(grown < 4 << 20, "{grown} bytes");
    tally.check(&mut daemon);
}

#[test]
fn a_reader_of_one_byte_at_a_time_gets_all_of_it() {
    let mut tally = Tally::of(Class::Clients);
    let mut daemon = Daemon::start("bytewise");
    fill(&daemon);
    let whole = daemon.client().export_raw("user");
    for half_closed in [false, true] {
        tally.tries(1);
        let mut slow = UnixStream::connect(daemon.socket()).expect("connect");
        slow.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        slow.write_all(b"EXPORT\tuser\n").expect("ask");
        if half_closed {
            slow.shutdown(std::net::Shutdown::Write).expect("shutdown");
        }
        let mut reply = Vec::new();
        let mut byte = [0];
        while reply.len() < 20_000 {
            slow.read_exact(&mut byte).expect("a byte");
            reply.push(byte[0]);
        }
        let mut piece = [0; 777];
        while !reply.ends_with(b"\n\n") {
            let count = slow.read(&mut piece).expect("a piece");
            assert_ne!(count, 0, "the end before the end");
            reply.extend(&piece[..count]);
        }
        assert!(reply == whole, "all of it");
    }
    tally.check(&mut daemon);
}

#[test]
fn a_flood_of_connections_is_closed_or_served() {
    let mut tally = Tally::of(Class::Clients);
    let port = free_port();
    let setup = Setup::new().inet(port, "").service("client_limit = 20");
    let mut daemon = Daemon::with("flood", &setup);
    populate(&daemon);
    let mut open = Vec::new();
    for n in 0..600 {
        tally.tries(1);
        let stream = TcpStream::connect(local(port)).expect("connect");
        if n % 3 != 0 {
            open.push(stream);
        }
    }
    // Records are taken all the while, and nothing is spun for.
    let mut writer = daemon.writer();
    for n in 0..2000 {
        writer.send_waiting(&connect(&format!("flood{n}"), "flood", "imap", 1, ""));
    }
    wait_until("the FIFO being read", || writer.unread() == 0);
    assert!(descriptors(&daemon) < 20 + 64, "{}", descriptors(&daemon));
    drop(open);
    wait_until("a client being served", || {
        let client = Client::try_unix(&daemon.socket());
        client.is_some_and(|mut client| client.try_export("global").is_some())
    });
    let flood = daemon.client().export("user\tuser=flood");
    assert_eq!(flood.only().num("num_logins"), 2000);
    tally.check(&mut daemon);
}

#[test]
fn descriptors_may_run_out() {
    let mut tally = Tally::of(Class::Descriptors);
    // With fewer the daemon would have none for its state.
    for allowed in [18, 20, 30] {
        let limit = format!("ulimit -n {allowed}; exec \"$@\"");
        // What needs descriptors besides: a copy that writes, a look-up of a name.
        let setup = Setup::new()
            .option("stats_state_interval=1s")
            .option("stats_carbon_server=localhost:1")
            .option("stats_carbon_interval=1s")
            .wrapped(&["sh", "-c", &limit, "sh"]);
        let mut daemon = Daemon::with("descriptors", &setup);
        populate(&daemon);
        let mut clients = Vec::new();
        for _ in 0..60 {
            tally.tries(1);
            clients.push(daemon.client());
        }
        clients
            .iter_mut()
            .for_each(|client| client.send("EXPORT\tglobal\n"));
        wait_until("descriptors running out", || {
            daemon.log().contains("connection not accepted")
        });
        let used = daemon.cpu();
        let mut writer = daemon.writer();
        for n in 0..500 {
            writer.send_waiting(&connect(&format!("full{n}"), "full", "imap", 1, ""));
        }
        wait_until("the FIFO being read", || writer.unread() == 0);
        daemon.signal(libc::SIGHUP);
        daemon.signal(libc::SIGUSR1);
        wait_until("a report of carbon, and HUP", || {
            let log = daemon.log();
            log.contains("settings stay as they were") && log.contains("status: ")
        });
        // Through two times of both intervals.
        std::thread::sleep(Duration::from_millis(1200));
        let used = daemon.cpu() - used;
        assert!(
            used < Duration::from_millis(600),
            "{used:?} of processor time"
        );
        drop(clients);
        wait_until("a client being served", || {
            let client = Client::try_unix(&daemon.socket());
            client.is_some_and(|mut client| client.try_export("global").is_some())
        });
        let full = daemon.client().export("user\tuser=full");
        assert_eq!(
            full.only().num("num_logins"),
            500,
            "{}",
            latin1(daemon.log().as_bytes())
        );
        tally.check(&mut daemon);
        daemon.stop();
    }
}
