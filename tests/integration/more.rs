//! Our further columns: the item `net`, and what `more` in a request lists.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::client::run;
use crate::dovecot::{self, Dovecot};
use crate::harness::{text, wait_until, Daemon, Setup};
use crate::link::{latin1, Client, Writer};
use crate::protocol::ALICE;
use crate::records::{add_user, base64, carry_on, command, connect, disconnect, update, Mail, Net};
use crate::requests::{header, populate, LEVELS};

/// Our columns of a level, a TAB before each.
fn ours(level: &str) -> String {
    let own = match level {
        "command" => "\tservice\tover",
        "session" => "\tconnect_time",
        "user" => "\tnum_connected_sessions",
        _ => "",
    };
    let times = match level {
        "global" => "\ttime_p50\ttime_p90\ttime_p99\ttime_max",
        _ => "",
    };
    format!("{own}\tnet_in_bytes\tnet_out_bytes\tlock_wait{times}")
}

fn unix_secs() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("the clock is past 1970").as_secs()
}

#[test]
fn further_columns_follow_the_known_ones_byte_for_byte() {
    for options in ["", "column_order = 2.2"] {
        let before = unix_secs();
        let daemon = Daemon::with("more-bytes", &Setup::new().unix(options));
        let both = [Mail::sample().item(), Net([1234, 5678, 2_000_009]).item()].concat();
        daemon.feed(&[
            connect("s1", ALICE, "imap", 4711, "10.1.2.3"),
            command("s1", 1, "", "SELECT", "INBOX", &Net([3, 4, 5]).field()),
            command("s1", 2, "", "FETCH", "1:*", &Mail::sample().field()),
            update("s1", &base64(&both)),
        ]);
        let mut client = daemon.client();
        let sessions = client.export("session\tmore");
        let connect_time = sessions.only().num("connect_time");
        assert!((before..=unix_secs()).contains(&connect_time));
        let connected = format!("\t{connect_time}\t1234\t5678\t2.000009");
        for (level, rows) in [
            (
                "command",
                &["\timap\t1\t3\t4\t0.000005", "\timap\t0\t0\t0\t0.000000"][..],
            ),
            ("session", &[&*connected]),
            ("user", &["\t1\t1234\t5678\t2.000009"]),
            ("domain", &["\t1234\t5678\t2.000009"]),
            ("ip", &["\t1234\t5678\t2.000009"]),
            // SELECT is over and took nothing.
            (
                "global",
                &["\t1234\t5678\t2.000009\t0.000000\t0.000000\t0.000000\t0.000000"],
            ),
        ] {
            let plain = latin1(&client.export_raw(level));
            let more = latin1(&client.export_raw(&format!("{level}\tmore")));
            let mut expected = String::new();
            let header = ours(level);
            let further = [&*header].into_iter().chain(rows.iter().copied());
            for (line, further) in plain.trim_end().lines().zip(further) {
                expected += &format!("{line}{further}\n");
            }
            assert_eq!(more, expected + "\n", "{level} {options}");
            // Nothing is kept of an earlier request.
            assert_eq!(latin1(&client.export_raw(level)), plain, "{level}");
        }
    }
}

#[test]
fn a_header_alone_has_them_too() {
    let daemon = Daemon::with("more-header", &Setup::new().unix("header_always = yes"));
    let mut client = daemon.client();
    for level in LEVELS.into_iter().filter(|level| *level != "global") {
        let known = header(level);
        assert_eq!(latin1(&client.export_raw(level)), format!("{known}\n"));
        let more = latin1(&client.export_raw(&format!("{level}\tmore")));
        assert_eq!(more, format!("{}{}\n\n", known.trim_end(), ours(level)));
    }
}

#[test]
fn net_is_counted_like_the_other_items() {
    let daemon = Daemon::start("more-net");
    let net = |values| Net(values).field();
    daemon.feed(&[
        connect("s1", ALICE, "imap", 1, "10.1.2.3"),
        connect("s2", "bob@example.org", "pop3", 2, "10.1.2.3"),
        update("s1", &net([100, 10, 1])),
        update("s2", &net([1000, 0, 0])),
        update("s1", &net([150, 10, 1])),
        // Without the item its totals stay.
        update("s1", &Mail::sample().field()),
        update("s1", ""),
        // A difference, of a user of no session.
        add_user("carol@example.org", "lmtp", &net([7, 7, 7])),
    ]);
    let mut client = daemon.client();
    let mut in_bytes = |request: &str| client.export(request).only().num("net_in_bytes");
    assert_eq!(in_bytes("session\tsession=s1\tmore"), 150);
    assert_eq!(in_bytes(&format!("user\tuser={ALICE}\tmore")), 150);
    assert_eq!(in_bytes("user\tuser=carol@example.org\tmore"), 7);
    assert_eq!(in_bytes("domain\tmore"), 1157);
    assert_eq!(in_bytes("ip\tmore"), 1150);
    assert_eq!(in_bytes("global\tmore"), 1157);
    // What shrinks becomes the new base; what is insane is refused as a whole.
    daemon.feed(&[update("s1", &net([20, 10, 1]))]);
    daemon.feed(&[update("s1", &net([30, 10, 1 + (1 << 53)]))]);
    daemon.feed(&[update("s1", &net([25, 10, 1]))]);
    assert_eq!(in_bytes("session\tsession=s1\tmore"), 25);
    assert_eq!(in_bytes("global\tmore"), 1162);
    daemon.feed(&[update("s2", &net([1 << 53, 0, 0]))]);
    assert_eq!(in_bytes("session\tsession=s2\tmore"), 1 << 53);
    let log = daemon.log();
    assert!(
        log.contains("lock_wait is negative or larger than 2^53"),
        "{log}"
    );
}

#[test]
fn a_command_is_over_when_the_protocol_says_so() {
    let daemon = Daemon::start("more-over");
    let over = |name: &str| {
        let table = daemon.client().export("command\tmore");
        table.row("cmd", name).get("over").to_owned()
    };
    daemon.feed(&[
        connect("s1", ALICE, "imap", 1, ""),
        command("s1", 1, "", "SELECT", "", ""),
    ]);
    assert_eq!(over("SELECT"), "0");
    daemon.feed(&[command("s1", 2, "", "FETCH", "", "")]);
    assert_eq!((over("SELECT"), over("FETCH")), ("1".into(), "0".into()));
    daemon.feed(&[carry_on("s1", 2, "cd", "")]);
    assert_eq!(over("FETCH"), "1");
    daemon.feed(&[command("s1", 3, "", "IDLE", "", "")]);
    assert_eq!(over("IDLE"), "0");
    daemon.feed(&[disconnect("s1")]);
    assert_eq!(over("IDLE"), "1");
    let table = daemon.client().export("command\tmore\tservice=imap");
    assert_eq!(table.values("service"), ["imap"; 3]);
}

#[test]
fn the_original_ignores_the_word() {
    if !dovecot::available("more::the_original_ignores_the_word") {
        return;
    }
    let original = Dovecot::original("more-original");
    let mut writer = Writer::open(&original.stats_fifo());
    writer.send_waiting(&connect("s1", ALICE, "imap", 12, "10.0.0.2"));
    writer.send_waiting(&command("s1", 1, "", "FETCH", "", &Mail::sample().field()));
    let socket = original.stats_socket();
    let mut client = Client::unix(&socket);
    wait_until("the command", || client.export("command").rows.len() == 1);
    for level in LEVELS {
        let plain = latin1(&client.export_raw(level));
        let more = latin1(&client.export_raw(&format!("{level}\tmore")));
        assert_eq!(more, plain, "{level}");
    }
    let plain = run(&["-s", &socket, "dump", "user"]);
    let more = run(&["-s", &socket, "dump", "user", "more"]);
    assert!(text(&more.stdout).contains("alice@example.org"), "{more:?}");
    assert_eq!(text(&more.stdout), text(&plain.stdout));
    original.stop();
}

#[test]
fn dump_asks_for_more_and_types_it() {
    let daemon = Daemon::start("more-dump");
    populate(&daemon);
    daemon.feed(&[update("s1", &Net([1234, 5678, 2_000_009]).field())]);
    let socket = daemon.socket();
    let dump = |words: &[&str]| {
        let output = run(&[&["-s", &socket][..], words].concat());
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
        text(&output.stdout)
    };
    for level in LEVELS {
        let table = dump(&["dump", level, "more"]);
        let header = table.lines().next().expect("a header");
        assert!(header.ends_with(&ours(level)), "{header}");
    }
    let fields = "service,over,net_in_bytes,lock_wait";
    let row = dump(&[
        "-f",
        "ndjson",
        "dump",
        "command",
        "more",
        "session=s1",
        "--fields",
        fields,
    ]);
    let expected = r#"{"service":"imap","over":0,"net_in_bytes":0,"lock_wait":0.000000}"#;
    assert_eq!(row.trim_end(), expected);
    let fields = "session,net_out_bytes,LOCK%";
    let row = dump(&[
        "-f",
        "ndjson",
        "dump",
        "session",
        "more",
        "--sort",
        "lock_wait",
        "--fields",
        fields,
        "--limit",
        "1",
    ]);
    let expected = r#"{"session":"s1","net_out_bytes":5678,"lock_wait":2.000009}"#;
    assert_eq!(row.trim_end(), expected);
    let users = "dump user more user=alice@example.org --fields num_connected_sessions";
    let users: Vec<&str> = users.split(' ').collect();
    assert_eq!(dump(&users), "num_connected_sessions\n2\n");
    let connected = dump(&["-f", "ndjson", "dump", "session", "more", "session=s1"]);
    let at = connected.find("\"connect_time\":").expect("connect_time");
    let number = &connected[at + "\"connect_time\":".len()..];
    assert!(
        number.starts_with(|c: char| c.is_ascii_digit()),
        "{connected}"
    );
}
