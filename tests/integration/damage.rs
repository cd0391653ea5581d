//! The FIFO side when things go wrong: records that must leave nothing behind,
//! lines too long or torn, writers that come and go; and texts that would break
//! a reply if they were not escaped; totals that shrink or wrap.

use crate::attack::{Class, Tally};
use crate::harness::{wait_until, Daemon};
use crate::protocol::{assert_counts, ALICE};
use crate::records::{
    add_user, base64, carry_on, command, connect, escape, fields, update, Auth, Mail,
};

#[test]
fn every_output_field_is_escaped() {
    let mut tally = Tally::of(Class::Output);
    tally.tries(7);
    let daemon = Daemon::start("escapes");
    let nasty = "a\tb\x01c\rd\ne";
    let user = format!("{nasty}@{nasty}");
    daemon.feed(&[
        connect(nasty, &user, nasty, 1, ""),
        command(nasty, 1, "", nasty, nasty, ""),
    ]);
    let wire = String::from_utf8(escape(nasty.as_bytes())).expect("ASCII");
    let client = &mut daemon.client();
    let sessions = client.export("session");
    for (name, value) in [
        ("session", wire.clone()),
        ("user", format!("{wire}@{wire}")),
    ] {
        assert_eq!(sessions.only().get(name), value, "{name} of the session");
    }
    assert_eq!(sessions.only().get("service"), wire, "service");
    let commands = client.export("command");
    for name in ["cmd", "args", "session"] {
        assert_eq!(commands.only().get(name), wire, "{name} of the command");
    }
    assert_eq!(client.export("domain").only().get("domain"), wire, "domain");
    let named = client.export(&format!("session\tsession={wire}"));
    assert_eq!(named.rows.len(), 1, "an escaped filter finds it");
    tally.survived();
}

#[test]
fn wrong_records_leave_nothing_behind() {
    let mut tally = Tally::of(Class::WrongRecords);
    let daemon = Daemon::start("wrong");
    let good = Mail::sample().field();
    let truncated = base64(&Mail::sample().item()[..100]);
    let mut negative = Mail::sample();
    negative.times[1] = (-1, 0);
    daemon.feed(&[connect("s1", ALICE, "imap", 1, "10.0.0.1")]);
    let image = |d: &Daemon| {
        ["command", "session", "user", "domain", "ip", "global"].map(|l| d.client().export(l))
    };
    let before = image(&daemon);
    let wrong: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"\t\t\t".to_vec(),
        b"NONSENSE\ts1".to_vec(),
        b"connect\ts2\tu\timap\t1".to_vec(),
        b"CONNECT".to_vec(),
        b"CONNECT\ts2\tu\timap".to_vec(),
        b"CONNECT\ts2\tu\timap\tx".to_vec(),
        b"CONNECT\ts2\tu\timap\t-1".to_vec(),
        b"CONNECT\ts2\tu\timap\t2147483648".to_vec(),
        b"CONNECT\ts2\tu\timap\t99999999999999999999".to_vec(),
        b"UPDATE-SESSION".to_vec(),
        b"UPDATE-SESSION\ts1".to_vec(),
        update("s1", "!!!!"),
        update("s1", &good[..good.len() - 1]),
        update("s1", &truncated),
        update("s1", &base64(b"mail")),
        update("s1", &base64(b"what\0abc")),
        update(
            "s1",
            &base64(&[Mail::sample().item(), b"x".to_vec()].concat()),
        ),
        update("s1", &negative.field()),
        update("unknown", "!!!!"),
        command("s1", 0, "", "A", "", &good),
        command("s1", 1, "x", "A", "", &good),
        command("s1", 1, "", "A", "", "!!!!"),
        command("s1", 1, "", "A", "", &truncated),
        command("unknown", 1, "", "A", "", "!!!!"),
        b"UPDATE-CMD\ts1\t4294967296\t\tA\t\t".to_vec(),
        b"UPDATE-CMD\ts1\t-1\t\tA\t\t".to_vec(),
        b"UPDATE-CMD\ts1\t\t\tA\t\t".to_vec(),
        b"UPDATE-CMD\ts1\t1\t\tA".to_vec(),
        b"UPDATE-CMD\ts1\t1".to_vec(),
        b"ADD-USER\tnew@dom\timap".to_vec(),
        add_user("new@dom", "imap", "!!!!"),
        add_user("new@dom", "imap", &truncated),
        b"DISCONNECT".to_vec(),
    ];
    tally.tries(wrong.len());
    for record in &wrong {
        daemon.feed(&[record]);
        let after = image(&daemon);
        assert_eq!(after, before, "after {:?}", crate::link::latin1(record));
    }
    daemon.feed(&[update("s1", &good)]);
    assert_eq!(
        daemon.client().export("user").only().num("read_count"),
        10,
        "and it goes on"
    );
    tally.survived();
}

#[test]
fn last_update_moves_at_every_level_a_record_reaches() {
    let daemon = Daemon::start("lastupdate");
    daemon.feed(&[connect("s1", ALICE, "imap", 1, "10.0.0.1")]);
    let times = |d: &Daemon| {
        ["session", "user", "domain", "ip", "global"]
            .map(|level| d.client().export(level).only().micros("last_update"))
    };
    for record in [
        update("s1", ""),
        update("s1", &Mail::sample().field()),
        update("s1", &Mail::sample().field()),
        command("s1", 1, "", "NOOP", "", ""),
        carry_on("s1", 1, "cd", ""),
    ] {
        let before = times(&daemon);
        daemon.feed(std::slice::from_ref(&record));
        let after = times(&daemon);
        let what = crate::link::latin1(&record);
        assert!(
            before.iter().zip(&after).all(|(b, a)| a > b),
            "{what}: {before:?} {after:?}"
        );
        assert!(
            after.iter().all(|a| *a == after[4]),
            "one instant for all of {what}: {after:?}"
        );
    }
    let before = times(&daemon);
    daemon.feed(&[add_user(ALICE, "imap", "")]);
    let after = times(&daemon);
    assert_eq!(
        (after[0], after[3]),
        (before[0], before[3]),
        "ADD-USER: not session and ip"
    );
    assert!(
        after[1] > before[1] && after[2] > before[2] && after[4] > before[4],
        "ADD-USER"
    );
}

#[test]
fn lines_are_dropped_only_when_too_long() {
    let mut tally = Tally::of(Class::Lines);
    let mut daemon = Daemon::start("long");
    let mut writer = daemon.writer();
    let line = |id: &str, bytes: usize| {
        let mut record = format!("CONNECT\t{id}\t").into_bytes();
        let tail = b"\timap\t1";
        record.resize(bytes - tail.len(), b'u');
        record.extend(tail);
        record
    };
    let sizes = [
        100, 4096, 8191, 8192, 8193, 8194, 20_000, 100_000, 1_000_000,
    ];
    tally.tries(2 * sizes.len());
    for bytes in sizes {
        writer.send_waiting(&line(&format!("l{bytes}"), bytes));
        writer.send_waiting(&connect(&format!("after{bytes}"), "ok", "imap", 1, ""));
    }
    daemon.settle(&writer);
    let table = daemon.client().export("session");
    for bytes in sizes {
        let listed = table.find("session", &format!("l{bytes}")).is_some();
        assert_eq!(
            listed,
            bytes <= 8192,
            "a line of {bytes} bytes before its LF is taken"
        );
        assert!(
            table.find("session", &format!("after{bytes}")).is_some(),
            "next after {bytes}"
        );
    }
    daemon.assert_alive();
    tally.check(&mut daemon);
}

#[test]
fn a_torn_line_costs_at_most_the_next_one() {
    let mut tally = Tally::of(Class::Lines);
    tally.tries(1);
    let daemon = Daemon::start("torn");
    let mut dying = daemon.writer();
    dying.send_raw(b"CONNECT\ttorn\tus");
    drop(dying);
    daemon.feed(&[
        connect("eaten", "u", "imap", 1, ""),
        connect("whole", "u", "imap", 2, ""),
    ]);
    wait_until("the line after the torn one", || {
        daemon
            .client()
            .export("session")
            .find("session", "whole")
            .is_some()
    });
    assert_counts(&daemon, "user", "u", 1, 0, 1);
    tally.survived();
}

#[test]
fn a_new_writer_may_come_when_the_last_one_left() {
    let daemon = Daemon::start("writers");
    for n in 0..20 {
        daemon.feed(&[connect(&format!("s{n}"), "u", "imap", 1, "")]);
    }
    assert_counts(&daemon, "global", "", 20, 0, 20);
    let mut users = crate::link::Writer::open(&daemon.dir.at("run/stats-user"));
    users.send_waiting(&add_user("u", "imap", &Auth([0, 0, 1, 0, 0, 0]).field()));
    wait_until("ADD-USER on stats-user", || {
        daemon.client().export("global").only().num("auth_failures") == 1
    });
}

#[test]
fn a_shrunk_total_becomes_the_base() {
    let mut tally = Tally::of(Class::Shrinking);
    tally.tries(2);
    let daemon = Daemon::start("shrunk");
    let with = |n| {
        Mail {
            bytes: [n, 0],
            ..Mail::default()
        }
        .field()
    };
    daemon.feed(&[connect("s1", "u", "imap", 1, ""), update("s1", &with(1000))]);
    let before = daemon
        .client()
        .export("session")
        .only()
        .micros("last_update");
    daemon.feed(&[update("s1", &with(10))]);
    let table = daemon.client().export("user");
    assert_eq!(table.only().num("read_bytes"), 1000, "nothing negative");
    let after = daemon
        .client()
        .export("session")
        .only()
        .micros("last_update");
    assert!(
        after > before,
        "the record refreshes its session: {before} {after}"
    );
    daemon.feed(&[update("s1", &with(15))]);
    assert_eq!(
        daemon.client().export("user").only().num("read_bytes"),
        1005,
        "counted on"
    );
    tally.survived();
}

#[test]
fn thirty_two_bits_wrap_and_are_counted_on() {
    let mut tally = Tally::of(Class::Numbers);
    tally.tries(3);
    let daemon = Daemon::start("wrap");
    let with = |n| {
        Mail {
            counts: [n, 0],
            ..Mail::default()
        }
        .field()
    };
    daemon.feed(&[
        connect("s1", "a@d", "imap", 1, ""),
        connect("s2", "b@d", "imap", 2, ""),
        update("s1", &with(u32::MAX - 5)),
        update("s2", &with(u32::MAX)),
        update("s1", &with(4)),
    ]);
    let client = &mut daemon.client();
    let sum = (1u64 << 32) + 4 + u64::from(u32::MAX);
    assert_eq!(
        client.export("user").row("user", "a@d").num("read_count"),
        (1 << 32) + 4
    );
    assert_eq!(
        client.export("domain").only().num("read_count"),
        sum,
        "sums never wrap"
    );
    assert_eq!(
        client.export("global").only().num("read_count"),
        sum,
        "sums never wrap"
    );
    tally.survived();
}

#[test]
fn a_refused_stats_field_names_session_user_and_field() {
    let daemon = Daemon::start("refusednames");
    let item = |name: &str, body: &[u8]| base64(&[name.as_bytes(), b"\0", body].concat());
    let mut insane = Mail::sample();
    insane.disk[1] = u64::MAX;
    let foreign = item("mail", &[0; 108]);
    daemon.feed(&[
        connect("s1", "bob@d", "imap", 1, ""),
        update("s1", &foreign),
        update("gone", &item("mail", &[1; 112])),
        update("s1", &insane.field()),
        fields(&[
            "UPDATE-CMD",
            "s1",
            "1",
            "d",
            "NOOP",
            "",
            &item("male", &[0; 24]),
        ]),
        fields(&["ADD-USER", "eve", "auth", &item("auth", &[0; 23])]),
    ]);
    let log = daemon.log();
    for text in [
        "the stats field was not made for this machine: stats-mail: session \"s1\", user \"bob@d\": \
         mail item of 108 bytes, not 136: writer of another architecture?",
        "session \"gone\", user not known: mail item of 112 bytes, not 136: writer",
        "session \"s1\", user \"bob@d\": disk_output is negative or larger than 2^53",
        "session \"s1\", user \"bob@d\": an item is neither mail nor auth nor net",
        "user \"eve\": an item is cut short",
    ] {
        assert!(log.contains(text), "{text}:\n{log}");
    }
    let bob = daemon.client().export("session\tsession=s1");
    assert_eq!(bob.only().num("disk_output"), 0, "nothing of it counts");
}
