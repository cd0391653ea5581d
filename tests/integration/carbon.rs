//! What a carbon receiver gets, and what bad receivers cost: nothing but a line
//! of the log.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use crate::attack::{Class, Tally};
use crate::dovecot::{available, Dovecot};
use crate::harness::{
    free_port, holds_within, is_root, local, skipped, wait_until, Daemon, Setup, TempDir, DEADLINE,
};
use crate::http;
use crate::link::{latin1, Writer};
use crate::records::{connect, update, Mail};
use crate::requests::populate;

/// A receiver and the setup of a daemon that sends to it every second.
fn receiver(address: &str, host: &str, lines: &str) -> (TcpListener, Setup) {
    let listener = TcpListener::bind((address, 0)).expect("bind a receiver");
    let port = listener.local_addr().expect("its address").port();
    let mut setup = Setup::new();
    setup.lines.push(format!(
        "stats_carbon_server = {host}:{port}\nstats_carbon_interval = 1 s\n{lines}"
    ));
    (listener, setup)
}

/// The next connection; it and its reads are waited for until the deadline.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).expect("nonblocking");
    let mut accepted = None;
    wait_until("a connection", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.expect("a connection");
    stream.set_nonblocking(false).expect("blocking");
    stream.set_read_timeout(Some(DEADLINE)).expect("timeout");
    stream
}

/// All that the next connection brings.
fn next_batch(listener: &TcpListener) -> String {
    let mut bytes = Vec::new();
    accept(listener).read_to_end(&mut bytes).expect("a batch");
    latin1(&bytes)
}

/// Path and value of each line; all lines have the same time.
fn values(batch: &str) -> Vec<(&str, &str)> {
    let lines: Vec<&str> = batch.split_terminator("\r\n").collect();
    let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_string).collect() };
    let time = words(lines[0])[2].clone();
    lines
        .iter()
        .map(|line| {
            assert_eq!(words(line).len(), 3, "{line:?}");
            assert_eq!(words(line)[2], time, "{line:?}");
            let (path, rest) = line.split_once(' ').expect("a path");
            (path, rest.split_once(' ').expect("a value").0)
        })
        .collect()
}

/// The value at a path.
#[track_caller]
fn value<'a>(values: &[(&str, &'a str)], path: &str) -> &'a str {
    let mut found = values.iter().filter(|(known, _)| *known == path);
    let (_, value) = found
        .next()
        .unwrap_or_else(|| panic!("no {path} in {values:?}"));
    assert_eq!(found.count(), 0, "{path} once");
    value
}

/// How often the log tells of a report that failed.
fn failures(daemon: &Daemon) -> usize {
    daemon.log().matches("no whole report to carbon").count()
}

#[test]
fn the_global_level_is_what_export_says() {
    for (address, host) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        ("::1", "[::1]"),
    ] {
        if host == "localhost" && Command::new("getent").arg("--version").output().is_err() {
            continue;
        }
        if TcpListener::bind((address, 0)).is_err() {
            skipped("the_global_level_is_what_export_says", "no IPv6 here");
            continue;
        }
        let (listener, setup) = receiver(address, host, "stats_carbon_name = mx 1.example/x");
        let daemon = Daemon::with("carbon", &setup);
        populate(&daemon);
        let table = daemon.client().export("global");
        let batch = next_batch(&listener);
        let values = values(&batch);
        let columns = table.names.iter().filter(|name| *name != "last_update");
        let paths: Vec<&str> = values.iter().map(|(path, _)| *path).collect();
        let expected: Vec<String> = ["logins", "cmds", "connected_sessions", "last_reset"]
            .into_iter()
            .chain(columns.skip(4).map(String::as_str))
            .map(|name| format!("dovecot.mx_1_example_x.global.{name}"))
            .collect();
        assert_eq!(paths, expected, "to {host}");
        for (path, value) in values {
            let column = match path.rsplit('.').next().expect("a name") {
                "logins" => "num_logins",
                "cmds" => "num_cmds",
                "connected_sessions" => "num_connected_sessions",
                "last_reset" => "reset_timestamp",
                name => name,
            };
            assert_eq!(value, table.only().get(column), "{path} to {host}");
        }
        assert_eq!(failures(&daemon), 0, "{}", daemon.log());
    }
}

#[test]
fn the_name_is_the_host_name_up_to_its_first_dot() {
    let (listener, setup) = receiver("127.0.0.1", "127.0.0.1", "");
    let _daemon = Daemon::with("carbonname", &setup);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("the host name");
    let host = host.trim_end().split('.').next().expect("a name");
    let batch = next_batch(&listener);
    assert!(
        batch.starts_with(&format!("dovecot.{host}.global.logins 0 ")),
        "{batch}"
    );
}

#[test]
fn other_levels_are_sent_where_asked_and_at_most_so_many() {
    let lines =
        "stats_carbon_name = mx\nstats_carbon_levels = user domain ip\nstats_carbon_limit = 3";
    let (listener, setup) = receiver("127.0.0.1", "127.0.0.1", lines);
    let daemon = Daemon::with("carbonlevels", &setup);
    for (number, user) in [
        "j.doe@example.org",
        "j_doe@example.org",
        "small@x",
        "b\u{f6}se/@y",
    ]
    .iter()
    .enumerate()
    {
        let mut mail = Mail::sample();
        mail.times[0] = (if *user == "small@x" { 0 } else { 5 }, number as i64);
        let id = format!("s{number}");
        daemon.feed(&[
            connect(&id, user, "imap", 1, &format!("10.0.0.{number}")),
            update(&id, &mail.field()),
        ]);
    }
    let mut batch = next_batch(&listener);
    while !batch.contains("b__se") {
        batch = next_batch(&listener);
    }
    let values = values(&batch);
    assert_eq!(values.len(), 3 * 3 * 28, "three rows of three levels");
    assert_eq!(
        value(&values, "dovecot.mx.user.j_doe_example_org.user_cpu"),
        "5.000000"
    );
    let twin: Vec<_> = values
        .iter()
        .filter(|(path, _)| {
            path.starts_with("dovecot.mx.user.j_doe_example_org-") && path.ends_with(".user_cpu")
        })
        .collect();
    assert_eq!(twin.len(), 1, "{values:?}");
    assert_eq!(twin[0].1, "5.000001");
    assert_eq!(value(&values, "dovecot.mx.domain.example_org.logins"), "2");
    assert_eq!(
        value(&values, "dovecot.mx.ip.10_0_0_0.connected_sessions"),
        "1"
    );
    assert!(!batch.contains("small"), "the smallest is left out");
}

#[test]
fn bad_receivers_cost_a_line_of_the_log_and_nothing_else() {
    let mut tally = Tally::of(Class::Carbon);
    let down = free_port();
    let full = TcpListener::bind("127.0.0.1:0").expect("bind");
    let full_port = full.local_addr().expect("its address").port();
    let resetting = TcpListener::bind("127.0.0.1:0").expect("bind");
    let resetting_port = resetting.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for stream in resetting.incoming().flatten() {
            // Closing with unread input resets.
            let _ = stream.peek(&mut [0; 1]);
        }
    });
    let bad = [
        ("down", format!("127.0.0.1:{down}"), "refused"),
        ("noroute", "[100::1]:2003".to_owned(), "nreachable"),
        (
            "notread",
            format!("127.0.0.1:{full_port}"),
            "neither read all of it nor closed",
        ),
        ("reset", format!("127.0.0.1:{resetting_port}"), "reset"),
        ("noname", "no-such-host.invalid".to_owned(), "no"),
    ];
    tally.tries(bad.len());
    let daemons: Vec<Daemon> = bad
        .iter()
        .map(|(name, host, _)| {
            let mut setup = Setup::new();
            setup.lines.push(format!(
                "stats_carbon_server = {host}\nstats_carbon_interval = 1 s"
            ));
            Daemon::with(name, &setup)
        })
        .collect();
    for ((name, _, what), mut daemon) in bad.into_iter().zip(daemons) {
        let mut client = daemon.client();
        let reported = holds_within(DEADLINE, || {
            // It answers meanwhile.
            client.export("global");
            failures(&daemon) >= 2
        });
        assert!(reported, "{name}: {}", daemon.log());
        if name != "noroute" {
            assert!(daemon.log().contains(what), "{name}: {}", daemon.log());
        }
        daemon.assert_alive();
        assert!(daemon.cpu().as_millis() < 300, "{name}: {:?}", daemon.cpu());
        let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
        wait_until("no child being left", || {
            std::fs::read_to_string(&children).is_ok_and(|children| children.is_empty())
        });
        daemon.stop();
    }
    tally.survived();
}

#[test]
fn there_are_never_two_reports_at_once() {
    let (listener, setup) = receiver("127.0.0.1", "127.0.0.1", "");
    let daemon = Daemon::with("carbonone", &setup);
    let mut first = accept(&listener);
    wait_until("the first being given up", || failures(&daemon) == 1);
    let mut second = accept(&listener);
    let mut bytes = Vec::new();
    first.read_to_end(&mut bytes).expect("its end");
    assert!(bytes.ends_with(b"\r\n"), "what was written was whole lines");
    second
        .write_all(b"whatever\n")
        .expect("a talkative receiver");
    second.read_to_end(&mut bytes).expect("the second batch");
    drop(second);
    next_batch(&listener);
}

#[test]
fn a_receiver_that_sends_without_end_is_left() {
    let (listener, setup) = receiver("127.0.0.1", "127.0.0.1", "");
    let mut daemon = Daemon::with("carbonflood", &setup);
    let mut stream = accept(&listener);
    // Further reports come to nothing.
    drop(listener);
    let used = daemon.cpu();
    let sent = std::thread::spawn(move || {
        let mut sent = 0;
        while let Ok(count) = stream.write(&[b'x'; 65536]) {
            sent += count;
        }
        sent
    });
    wait_until("the connection being closed", || sent.is_finished());
    let used = daemon.cpu() - used;
    assert!(used < Duration::from_millis(200), "{used:?}");
    let sent = sent.join().expect("the receiver");
    assert!(sent < 32 << 20, "{sent} bytes were taken");
    let log = daemon.log();
    let said = "written, but the receiver sends data and does not close (";
    assert!(log.contains(said), "{log}");
    daemon.assert_alive();
}

#[test]
fn a_slow_receiver_gets_all_of_a_big_batch() {
    let lines = "stats_carbon_name = mx\nstats_carbon_levels = user global\nstats_carbon_limit = 10000\nstats_carbon_interval = 5 s";
    let (listener, setup) = receiver("127.0.0.1", "127.0.0.1", lines);
    let daemon = Daemon::with("carbonbig", &setup);
    let users = 4000;
    let records: Vec<Vec<u8>> = (0..users)
        .map(|n| connect(&format!("s{n}"), &format!("user{n}"), "imap", 1, ""))
        .collect();
    daemon.feed(&records);
    let before = daemon.rss_bytes();
    let mut stream = accept(&listener);
    let (mut bytes, mut part) = (Vec::new(), [0; 50_000]);
    let mut client = daemon.client();
    loop {
        let count = stream.read(&mut part).expect("a part");
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&part[..count]);
        if bytes.len() % 16 == 0 {
            client.export("global");
        }
    }
    let batch = latin1(&bytes);
    assert_eq!(values(&batch).len(), (users + 1) * 28);
    assert!(batch.contains(".user.user0.") && batch.contains(".user.user3999."));
    let grown = daemon.rss_bytes().saturating_sub(before);
    assert!(
        grown < 3 << 20,
        "{grown} bytes for a batch of {}",
        batch.len()
    );
    drop(stream);
    assert_eq!(failures(&daemon), 0, "{}", daemon.log());
}

#[test]
fn hup_takes_over_new_settings() {
    let (listener, setup) = receiver("127.0.0.1", "127.0.0.1", "stats_carbon_name = old");
    let daemon = Daemon::with("carbonhup", &setup);
    assert!(next_batch(&listener).starts_with("dovecot.old.global.logins"));
    let (other, mut setup) = receiver("127.0.0.1", "127.0.0.1", "stats_carbon_name = new");
    daemon
        .dir
        .write("dovestatd.conf", &setup.config(&daemon.dir));
    daemon.signal(libc::SIGHUP);
    assert!(next_batch(&other).starts_with("dovecot.new.global.logins"));
    assert!(!daemon.log().contains("restart"), "{}", daemon.log());
    setup.lines.clear();
    daemon
        .dir
        .write("dovestatd.conf", &setup.config(&daemon.dir));
    daemon.signal(libc::SIGHUP);
    wait_until("the settings being read", || {
        daemon.log().matches("settings read again").count() == 2
    });
    while other.accept().is_ok() {}
    let sent = holds_within(std::time::Duration::from_millis(1500), || {
        other.accept().is_ok()
    });
    assert!(!sent, "switched off");
}

/// Connections to a port of 127.0.0.1 that are being made.
fn connecting(port: u16) -> usize {
    const SYN_SENT: &str = "02";
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of connections");
    let peer = format!("0100007F:{port:04X}");
    let is = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(2) == Some(&peer.as_str()) && words.get(3) == Some(&SYN_SENT)
    };
    table.lines().filter(is).count()
}

#[test]
fn packets_that_vanish_cost_reports_and_few_lines() {
    let mut tally = Tally::of(Class::Carbon);
    tally.tries(1);
    let (listener, setup) = receiver("127.0.0.1", "127.0.0.1", "");
    let port = listener.local_addr().expect("its address").port();
    // SAFETY: listen takes two integers; the descriptor is the listener's.
    let rc = unsafe { libc::listen(listener.as_raw_fd(), 0) };
    assert_eq!(rc, 0, "a queue of one");
    let patience = Duration::from_millis(300);
    let connect = || TcpStream::connect_timeout(&local(port), patience);
    let mut queue = Vec::new();
    while let Ok(stream) = connect() {
        queue.push(stream);
        assert!(queue.len() < 10, "the queue is never full");
    }
    let (mut daemon, http) = http::daemon("carbonvanish", setup, "");
    let mut client = daemon.client();
    // The same line is logged five times in a minute; all reports are counted.
    let failed = "dovestat_faults_total{reason=\"carbon_failed\"}";
    wait_until("more reports being given up than are told of", || {
        client.export("global");
        assert!(connecting(port) <= 1, "never two at once");
        let answer = http::get(http);
        answer.samples()[failed].parse::<u64>().expect("a number") >= 7
    });
    assert_eq!(failures(&daemon), 5, "{}", daemon.log());
    assert!(
        daemon.log().contains("no answer (0 bytes"),
        "{}",
        daemon.log()
    );
    daemon.assert_alive();
    // When there is room again a report goes through.
    drop(queue);
    let mut batch = String::new();
    while !batch.contains("global.logins") {
        batch = next_batch(&listener);
    }
    tally.survived();
    daemon.stop();
}

#[test]
fn a_lookup_that_hangs_is_given_up() {
    let mut tally = Tally::of(Class::Carbon);
    tally.tries(1);
    let (listener, mut setup) = receiver("127.0.0.1", "carbon.example.org", "");
    let dir = TempDir::new("getent");
    let fake = dir.write("getent", "#!/bin/sh\nexec /bin/sleep 1000\n");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(fake, mode).expect("chmod");
    let path = dir.path().display().to_string();
    setup.environment.push(("PATH".to_owned(), path));
    let mut daemon = Daemon::with("carbonhang", &setup);
    let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
    let children = || std::fs::read_to_string(&children).expect("its children");
    let mut client = daemon.client();
    let mut most = 0;
    wait_until("two lookups being given up", || {
        client.export("global");
        most = most.max(children().split_whitespace().count());
        failures(&daemon) >= 2
    });
    assert_eq!(most, 1, "one lookup at a time");
    let why = "carbon.example.org:";
    let line = format!(
        "{why}{}",
        listener.local_addr().expect("its address").port()
    );
    let line = format!("{line}: no answer to the name's lookup (0 bytes were written)");
    assert!(daemon.log().contains(&line), "{}", daemon.log());
    assert!(daemon.cpu().as_millis() < 300, "{:?}", daemon.cpu());
    daemon.assert_alive();
    // One that is hanging while the daemon ends does not stay.
    wait_until("a lookup", || !children().is_empty());
    let child = children();
    let child = child.split_whitespace().next().expect("its number");
    let child = format!("/proc/{child}/cmdline");
    daemon.stop();
    wait_until("the end of the lookup", || {
        std::fs::read(&child).map_or(true, |line| line.is_empty())
    });
    tally.survived();
}

#[test]
fn hup_during_a_report_gives_it_up_or_leaves_it_alone() {
    let mut tally = Tally::of(Class::Carbon);
    tally.tries(3);
    let lines = |name: &str| {
        format!(
            "stats_carbon_name = {name}\nstats_carbon_levels = user global\n\
             stats_carbon_limit = 10000\nstats_carbon_interval = 5 s"
        )
    };
    let (listener, mut setup) = receiver("127.0.0.1", "127.0.0.1", &lines("old"));
    let server = setup.lines[0]
        .lines()
        .next()
        .expect("the server")
        .to_owned();
    let daemon = Daemon::with("carbonhupnow", &setup);
    let records: Vec<Vec<u8>> = (0..8000)
        .map(|n| connect(&format!("s{n}"), &format!("user{n}"), "imap", 1, ""))
        .collect();
    daemon.feed(&records);
    let hup = |setup: &Setup, count: usize| {
        let config = setup.config(&daemon.dir);
        daemon.dir.write("dovestatd.conf", &config);
        daemon.signal(libc::SIGHUP);
        wait_until("the settings being read", || {
            daemon.log().matches("settings read again").count() == count
        });
    };
    // Nothing of it is taken: it has begun and cannot be done before the signals.
    let mut first = accept(&listener);
    let begun = first.peek(&mut [0]).expect("its beginning");
    assert_eq!(begun, 1);
    hup(&setup, 1);
    hup(&setup, 2);
    setup.lines = vec![format!(
        "{server}\nstats_carbon_interval = 1 s\nstats_carbon_name = new"
    )];
    hup(&setup, 3);
    let batch = next_batch(&listener);
    assert!(
        batch.starts_with("dovecot.new.global.logins 8000 "),
        "{batch}"
    );
    assert_eq!(values(&batch).len(), 28);
    let mut bytes = Vec::new();
    // It was let go of: closed, or reset.
    let _ = first.read_to_end(&mut bytes);
    assert!(bytes.starts_with(b"dovecot.old.user."), "{}", bytes.len());
    let batch = latin1(&bytes);
    assert!(!batch.contains(".global."), "it never came to its end");
    assert_eq!(failures(&daemon), 0, "{}", daemon.log());
    // What the report held was given back: all of it can be listed and freed.
    assert_eq!(daemon.client().export("user").rows.len(), 8000);
    tally.survived();
    daemon.stop();
}

/// A batch without its times, and with times of processors in microseconds.
fn comparable(batch: &str) -> Vec<String> {
    values(batch)
        .into_iter()
        .map(|(path, value)| match crate::link::micros(value) {
            Some(micros) => format!("{path} {micros}us"),
            None if path.ends_with(".last_reset") => path.to_owned(),
            None => format!("{path} {value}"),
        })
        .collect()
}

#[test]
fn batches_are_the_original_s() {
    if !is_root() || !available("batches_are_the_original_s") {
        return;
    }
    let records = [
        connect("s1", "alice@example.org", "imap", 1, "10.0.0.1"),
        update("s1", &Mail::sample().field()),
        connect("s2", "bob@example.org", "imap", 2, "10.0.0.2"),
    ];
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("its address").port();
    let original = Dovecot::original_with(
        "carbon-dovecot",
        &format!(
            "old_stats_carbon_server = 127.0.0.1:{port}\nold_stats_carbon_name = mx-1\n\
             old_stats_carbon_interval = 1 s\n"
        ),
    );
    let mut writer = Writer::open(&original.stats_fifo());
    records
        .iter()
        .for_each(|record| writer.send_waiting(record));
    let mut theirs = next_batch(&listener);
    while !theirs.contains(".logins 2 ") {
        theirs = next_batch(&listener);
    }
    drop(original);
    let (listener, setup) = receiver("127.0.0.1", "127.0.0.1", "old_stats_carbon_name = mx-1");
    let daemon = Daemon::with("carbonsame", &setup);
    daemon.feed(&records);
    let mut ours = next_batch(&listener);
    while !ours.contains(".logins 2 ") {
        ours = next_batch(&listener);
    }
    assert_eq!(comparable(&ours), comparable(&theirs));
    assert!(ours.ends_with("\r\n") && theirs.ends_with("\r\n"));
    // Byte for byte but for padding: times and clocks have the same length.
    let padded = |batch: &str| batch.matches(".0").count();
    assert!(padded(&ours) > padded(&theirs), "{theirs}");
    for (our, their) in ours.split("\r\n").zip(theirs.split("\r\n")) {
        let has_point = our
            .split(' ')
            .nth(1)
            .is_some_and(|value| value.contains('.'));
        assert!(
            has_point || our.len() == their.len(),
            "{our:?} and {their:?}"
        );
    }
}
