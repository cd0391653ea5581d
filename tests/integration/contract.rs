//! What readers in the wild rely on, one test for each promise; `listeners` has
//! those that a listener's settings change.

use std::fs;
use std::process::{Command, Stdio};

use crate::harness::{free_port, local, send_signal, skipped, wait_until, Daemon, Setup};
use crate::link::{latin1, Client};
use crate::records::connect;
use crate::requests::{populate, LEVELS};

/// Clients of both kinds of listener.
fn both(daemon: &Daemon, port: u16) -> [Client; 2] {
    [daemon.client(), Client::tcp(local(port))]
}

/// A populated daemon that listens on both.
fn daemon(name: &str) -> (Daemon, u16) {
    let port = free_port();
    let daemon = Daemon::with(name, &Setup::new().inet(port, ""));
    populate(&daemon);
    (daemon, port)
}

/// Monitoring agents take what their first read(2) brings for the whole reply.
#[test]
fn a_small_reply_is_one_write() {
    let test = "a_small_reply_is_one_write";
    let (daemon, port) = daemon("onewrite2");
    let mut clients = both(&daemon, port);
    let trace = daemon.dir.at("trace");
    let calls = "trace=write,writev,sendto,sendmsg";
    let strace = Command::new("strace")
        .args(["-f", "-e", calls, "-s", "8192", "-o", &trace, "-p"])
        .arg(daemon.pid().to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut refused = strace.is_err();
    let mut strace = strace.ok();
    let status = format!("/proc/{}/status", daemon.pid());
    if let Some(strace) = &mut strace {
        wait_until("strace watching or giving up", || {
            refused = strace.try_wait().expect("its end").is_some();
            let status = fs::read_to_string(&status).expect("status");
            refused || !status.contains("TracerPid:\t0\n")
        });
    }
    if refused {
        let required = std::env::var("DOVESTAT_PEERS").is_ok_and(|v| v == "required");
        assert!(!required, "{test}: no strace, but DOVESTAT_PEERS=required");
        return skipped(test, "strace is not installed or may not trace");
    }
    let mut strace = strace.expect("strace");
    let mut asked = 0;
    for client in &mut clients {
        for request in LEVELS
            .iter()
            .chain(&["session\tconnected", "user\tuser=nobody"])
        {
            client.export(request);
            asked += 1;
        }
        client.send("EXPORT\tglobal\nEXPORT\tuser\n");
        client.reply();
        client.reply();
    }
    send_signal(strace.id(), libc::SIGINT);
    strace.wait().expect("the end of strace");
    let trace = fs::read_to_string(&trace).expect("the trace");
    let ends: Vec<&str> = trace
        .lines()
        .filter(|line| line.contains("write(") || line.contains("sendto("))
        .collect();
    // Two requests that come together may be answered together.
    assert!((asked + 2..=asked + 4).contains(&ends.len()), "{trace}");
    for line in ends {
        assert!(line.contains("\\n\"") && line.contains(" = "), "{line}");
        let is_whole = line.contains("\\n\\n\"") || line.contains(" \"\\n\"");
        assert!(is_whole, "header, rows and empty line: {line}");
    }
}

#[test]
fn requests_may_end_with_cr_lf() {
    let (daemon, port) = daemon("crlf");
    for mut client in both(&daemon, port) {
        for level in LEVELS {
            let expected = client.export_raw(level);
            client.send(format!("EXPORT\t{level}\r\n"));
            assert_eq!(client.reply(), expected, "{level}");
        }
    }
}

/// `doveadm oldstats top`, and agents that keep their connection for ever.
#[test]
fn a_connection_is_asked_a_thousand_times() {
    let (daemon, port) = daemon("thousand");
    for mut client in both(&daemon, port) {
        let expected = client.export_raw("session\tconnected");
        for round in 0..1000 {
            let reply = client.export_raw("session\tconnected");
            assert_eq!(reply, expected, "round {round}");
        }
    }
}

/// Telegraf 0.10 to 0.12 ends its round by an empty line and reads to the end.
#[test]
fn an_empty_line_closes_behind_the_replies() {
    let (daemon, port) = daemon("emptyline");
    let expected = daemon.client().export_raw("domain");
    for end in ["\n", "\r\n"] {
        for mut client in both(&daemon, port) {
            client.send(format!("EXPORT\tdomain{end}{end}EXPORT\tuser{end}"));
            assert_eq!(client.rest(), expected, "one reply, then the end");
        }
    }
    assert!(
        !daemon.log().contains("connection closed"),
        "{}",
        daemon.log()
    );
}

/// The exporter of kumina leaves its sockets open until they are collected.
#[test]
fn hundreds_of_idle_connections_stay_open() {
    let (daemon, port) = daemon("hundreds");
    let mut clients: Vec<Client> = (0..300).flat_map(|_| both(&daemon, port)).collect();
    let expected = daemon.client().export_raw("global");
    for client in &mut clients {
        assert_eq!(client.export_raw("global"), expected);
    }
    let before = daemon.cpu();
    for client in clients.iter_mut().rev() {
        // Nothing came unasked: the next bytes are this reply's.
        assert_eq!(client.export_raw("global"), expected);
    }
    let used = daemon.cpu() - before;
    assert!(
        used.as_millis() < 1000,
        "{used:?} for {} clients",
        clients.len()
    );
}

/// Exporters make metrics of columns and panic at rows longer than the header.
#[test]
fn columns_are_metrics() {
    let (daemon, _) = daemon("metricnames");
    let mut client = daemon.client();
    for level in ["user", "domain", "ip", "global"] {
        let table = client.export(level);
        for name in &table.names {
            let mut bytes = name.bytes();
            assert!(bytes.all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        }
        let keys = usize::from(level != "global");
        for row in &table.rows {
            let numbers = &row[keys..];
            assert!(numbers.iter().all(|v| v.parse::<f64>().is_ok()), "{row:?}");
        }
        if keys == 1 {
            let mut keys = table.values(level);
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), table.rows.len(), "unique keys of {level}");
        }
    }
    let reply = latin1(&client.export_raw("user\tuser=nobody@nowhere"));
    assert_eq!(reply, "\n", "an empty first line means none");
}

#[test]
fn a_small_reply_is_one_write_however_far_its_walk_goes() {
    let daemon = Daemon::start("contract-far");
    let records: Vec<Vec<u8>> = (0..5000)
        .map(|n| {
            connect(
                &format!("far{n}"),
                &format!("u{n}@d.example"),
                "imap",
                1,
                "",
            )
        })
        .collect();
    daemon.feed(&records);
    let mut client = daemon.client();
    // Looking at all of them takes several turns of the loop.
    client.send("EXPORT\tsession\tuser=u*0@d.exampl?\tip=192.0.2.0/24\n");
    let none = client.read_some().expect("a reply");
    assert!(none.ends_with(b"\n\n"), "{}", latin1(&none));
    client.send("EXPORT\tuser\tuser=u*4999@d.exampl?\n");
    let one = client.read_some().expect("a reply");
    assert!(one.ends_with(b"\n\n"), "{}", latin1(&one));
    assert_eq!(one.iter().filter(|&&byte| byte == b'\n').count(), 3);
    daemon.stop();
}
