//! The socket side, from the specification: requests, filters, exact replies,
//! and RESET.

use crate::harness::{wait_until, Daemon};
use crate::link::{latin1, Client, Table};
use crate::protocol::STATS;
use crate::records::{add_user, command, connect, disconnect, Auth, Mail};

/// The levels that Dovecot's own service has as well.
pub const LEVELS: [&str; 6] = ["command", "session", "user", "domain", "ip", "global"];

/// All levels.
pub const ALL_LEVELS: [&str; 8] = [
    "command", "session", "user", "domain", "ip", "global", "service", "cmd",
];

/// The header of a level, byte for byte with its LF.
pub fn header(level: &str) -> String {
    let keys = match level {
        "command" => "cmd args session user last_update",
        "session" => "session user ip service pid connected last_update num_cmds",
        "user" => "user reset_timestamp last_update num_logins num_cmds",
        "domain" => "domain reset_timestamp last_update num_logins num_cmds num_connected_sessions",
        "ip" => "ip reset_timestamp last_update num_logins num_cmds num_connected_sessions",
        _ => "reset_timestamp last_update num_logins num_cmds num_connected_sessions",
    };
    let names: Vec<&str> = keys
        .split_whitespace()
        .chain(STATS.split_whitespace())
        .collect();
    names.join("\t") + "\n"
}

/// A small population: three users of two domains, four sessions, one dead.
pub fn populate(daemon: &Daemon) {
    daemon.feed(&[
        connect("s1", "alice@example.org", "imap", 1, "10.0.0.1"),
        connect("s2", "bob@example.org", "imap", 2, "10.0.1.2"),
        connect("s3", "carol@example.com", "pop3", 3, "2001:db8::7"),
        connect("s4", "alice@example.org", "lmtp", 4, ""),
        command("s1", 1, "", "FETCH", "1:*", &Mail::sample().field()),
        command("s3", 1, "d", "RETR", "1", ""),
        disconnect("s3"),
        add_user("dave", "imap", &Auth([1, 0, 0, 0, 0, 0]).field()),
    ]);
}

/// Asserts what one request lists: the values of the level's key column.
#[track_caller]
fn assert_lists(client: &mut Client, request: &str, expected: &[&str]) {
    let table = client.export(request);
    let level = request.split('\t').next().expect("a level");
    let key = if level == "command" { "cmd" } else { level };
    assert!(!table.names.is_empty(), "EXPORT {request:?} has a header");
    assert_eq!(table.values(key), expected, "EXPORT {request:?}");
}

#[test]
fn headers_are_exact() {
    let daemon = Daemon::start("headers");
    populate(&daemon);
    let mut client = daemon.client();
    for level in LEVELS {
        let reply = latin1(&client.export_raw(level));
        assert!(
            reply.starts_with(&header(level)),
            "header of {level}: {reply:?}"
        );
        assert!(reply.ends_with("\n\n"), "end of {level}: {reply:?}");
    }
}

#[test]
fn rows_are_exact() {
    let daemon = Daemon::start("rows");
    daemon.feed(&[
        connect("s1", "alice@example.org", "imap", 4711, "10.0.0.1"),
        command("s1", 1, "", "FETCH", "1:* (FLAGS)", &Mail::sample().field()),
    ]);
    let mut client = daemon.client();
    let zeros = "0.000000\t0.000000\t0.000000".to_string() + &"\t0".repeat(21);
    let sample = "1.000001 2.000002 3.000003 4 5 6 7 8 9 10 12 11 13 14 15 16 17 18 0 0 0 0 0 0";
    let sample = sample.replace(' ', "\t");
    let now = client
        .export("session")
        .only()
        .get("last_update")
        .to_string();
    let (secs, usecs) = now.split_once('.').expect("a dot in last_update");
    assert_eq!(usecs.len(), 6, "six digits in {now}");
    let unix = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock");
    let age = unix.as_secs() - secs.parse::<u64>().expect("seconds");
    assert!(age < 60, "last_update {now} is now");
    let expected = [
        (
            "command",
            format!("FETCH\t1:* (FLAGS)\ts1\talice@example.org\t{now}\t{sample}"),
        ),
        (
            "session",
            format!("s1\talice@example.org\t10.0.0.1\timap\t4711\t1\t{now}\t1\t{zeros}"),
        ),
        (
            "user",
            format!("alice@example.org\tCREATED\t{now}\t1\t1\t{zeros}"),
        ),
        (
            "domain",
            format!("example.org\tCREATED\t{now}\t1\t1\t1\t{zeros}"),
        ),
        ("ip", format!("10.0.0.1\tCREATED\t{now}\t1\t1\t1\t{zeros}")),
        ("global", format!("CREATED\t{now}\t1\t1\t1\t{zeros}")),
    ];
    for (level, row) in expected {
        let reply = latin1(&client.export_raw(level));
        let row = match client.export(level) {
            table if table.names.iter().any(|n| n == "reset_timestamp") => {
                let created = table.only().get("reset_timestamp").to_string();
                assert!(created.parse::<u64>().is_ok(), "whole seconds: {created:?}");
                row.replace("CREATED", &created)
            }
            _ => row,
        };
        assert_eq!(
            reply,
            format!("{}{row}\n\n", header(level)),
            "reply at {level}"
        );
    }
}

#[test]
fn nothing_to_list_has_two_forms() {
    let daemon = Daemon::start("nothing");
    let mut client = daemon.client();
    for level in ["command", "session", "user", "domain", "ip"] {
        assert_eq!(
            latin1(&client.export_raw(level)),
            "\n",
            "an empty {level} level"
        );
        assert_eq!(
            latin1(&client.export_raw(&format!("{level}\tconnected"))),
            "\n",
            "{level}"
        );
    }
    let global = client.export("global");
    assert_eq!(
        global.only().get("last_update"),
        "0.000000",
        "global has its row"
    );
    populate(&daemon);
    for request in [
        "session\tuser=nobody",
        "user\tuser=nobody",
        "user\tdomain=nowhere",
        "domain\tdomain=nowhere",
        "session\tip=10.9.9.9",
        "ip\tip=10.9.9.9",
        "ip\tip=10.9.9.9/32",
        "session\tip=2001:db8::8",
        "ip\tip=2001:db8::8/128",
        "session\tuser=nobody\tconnected",
    ] {
        assert_eq!(
            latin1(&client.export_raw(request)),
            "\n",
            "EXPORT {request:?}"
        );
    }
    for request in [
        "session\tuser=nob*",
        "user\tuser=nob?dy",
        "user\tdomain=nowh*",
        "session\tip=10.9.0.0/16",
        "session\tsession=nope",
        "command\tsession=s2",
        "user\tsince=99999999999",
        "domain\tdomain=n?where",
    ] {
        let level = request.split('\t').next().expect("a level");
        let expected = header(level) + "\n";
        assert_eq!(
            latin1(&client.export_raw(request)),
            expected,
            "EXPORT {request:?}"
        );
    }
}

#[test]
fn filters_hold_at_every_level() {
    let daemon = Daemon::start("filters");
    populate(&daemon);
    let client = &mut daemon.client();
    assert_lists(client, "session", &["s4", "s3", "s2", "s1"]);
    assert_lists(client, "session\tconnected", &["s4", "s2", "s1"]);
    assert_lists(client, "session\tuser=alice@example.org", &["s4", "s1"]);
    assert_lists(client, "session\tuser=*@example.org", &["s4", "s2", "s1"]);
    assert_lists(client, "session\tuser=?????@example.org", &["s4", "s1"]);
    assert_lists(client, "session\tuser=ALICE*", &[]);
    assert_lists(client, "session\tdomain=example.com", &["s3"]);
    assert_lists(client, "session\tdomain=*.org\tuser=b*", &["s2"]);
    assert_lists(client, "session\tsession=s2", &["s2"]);
    assert_lists(client, "session\tip=10.0.0.0/16", &["s2", "s1"]);
    assert_lists(client, "session\tip=::ffff:10.0.0.1", &["s1"]);
    assert_lists(client, "session\tip=2001:db8::/32", &["s3"]);
    assert_lists(client, "session\tip=0.0.0.0/0", &["s2", "s1"]);
    assert_lists(
        client,
        "user",
        &[
            "dave",
            "carol@example.com",
            "bob@example.org",
            "alice@example.org",
        ],
    );
    assert_lists(
        client,
        "user\tconnected",
        &["bob@example.org", "alice@example.org"],
    );
    assert_lists(client, "user\tsession=s3", &["carol@example.com"]);
    assert_lists(client, "user\tip=10.0.0.1", &["alice@example.org"]);
    assert_lists(
        client,
        "user\tdomain=example.org",
        &["bob@example.org", "alice@example.org"],
    );
    assert_lists(client, "domain", &["", "example.com", "example.org"]);
    assert_lists(client, "domain\tconnected", &["example.org"]);
    assert_lists(client, "domain\tsession=s3", &["example.com"]);
    assert_lists(client, "domain\tuser=c*", &["example.com"]);
    assert_lists(client, "ip", &["2001:db8::7", "10.0.1.2", "10.0.0.1"]);
    assert_lists(client, "ip\tconnected", &["10.0.1.2", "10.0.0.1"]);
    assert_lists(client, "ip\tuser=bob@*", &["10.0.1.2"]);
    assert_lists(client, "ip\tdomain=example.com", &["2001:db8::7"]);
    assert_lists(client, "ip\tsession=s1", &["10.0.0.1"]);
    assert_lists(client, "command", &["FETCH", "RETR"]);
    assert_lists(client, "command\tuser=alice@*", &["FETCH"]);
    assert_lists(client, "command\tsession=s3", &["RETR"]);
    assert_lists(client, "command\tconnected", &["FETCH"]);
    assert_lists(client, "command\tip=10.0.0.1", &["FETCH"]);
    assert_lists(client, "session\tservice=imap", &["s2", "s1"]);
    assert_lists(client, "session\tservice=IMAP", &[]);
    assert_lists(client, "session\tservice=?m*", &["s4", "s2", "s1"]);
    assert_lists(client, "session\tservice=imap\tuser=b*", &["s2"]);
    assert_lists(client, "command\tservice=pop3", &["RETR"]);
    assert_lists(client, "user\tservice=lmtp", &["alice@example.org"]);
    assert_lists(
        client,
        "user\tservice=imap",
        &["bob@example.org", "alice@example.org"],
    );
    assert_lists(client, "domain\tservice=pop3", &["example.com"]);
    assert_lists(client, "domain\tservice=imap", &["example.org"]);
    assert_lists(client, "ip\tservice=imap", &["10.0.1.2", "10.0.0.1"]);
    assert_lists(client, "ip\tservice=pop3", &["2001:db8::7"]);
    // The last one of a kind holds; unknown ones are ignored.
    assert_lists(client, "session\tsession=s1\tsession=s2", &["s2"]);
    assert_lists(client, "session\ttype=filter\tfoo\tsession=s2", &["s2"]);
    // One session must fit the whole of a filter.
    assert_lists(client, "user\tsession=s3\tconnected", &[]);
    assert_lists(client, "user\tservice=pop3\tconnected", &[]);
    assert_lists(client, "user\tservice=lmtp\tip=10.0.0.1", &[]);
    assert_lists(client, "domain\tservice=lmtp\tuser=bob*", &[]);
    assert_lists(client, "ip\tservice=imap\tuser=carol*", &[]);
    assert_lists(client, "domain\tip=10.0.1.2\tuser=alice*", &[]);
    let now = client.export("global").only().micros("last_update") / 1_000_000;
    assert_lists(
        client,
        &format!("session\tsince={now}\tsession=s1"),
        &["s1"],
    );
    assert_lists(client, &format!("session\tsince={}", now + 1000), &[]);
}

#[test]
fn wrong_requests_close_the_connection() {
    let daemon = Daemon::start("badrequests");
    populate(&daemon);
    for request in [
        "EXPORT\n",
        "EXPORT\tnonsense\n",
        "EXPORT\tSESSION\n",
        "EXPORT\tsession\tip=nonsense\n",
        "EXPORT\tsession\tip=10.0.0.1/33\n",
        "EXPORT\tsession\tip=::1/129\n",
        "EXPORT\tsession\tip=10.0.0.1/x\n",
        "EXPORT\tsession\tsince=yesterday\n",
        "EXPORT\tsession\tsince=\n",
        "export\tsession\n",
        "HELLO\n",
        "\n",
        "\r\n",
    ] {
        let before = daemon.log().len();
        let mut client = daemon.client();
        client.send(request);
        client.assert_closed(&format!("request {request:?}"));
        wait_until("a line in the log", || {
            daemon.log().len() > before || request.trim().is_empty()
        });
    }
    // What came before the wrong one is answered, what comes after it is not.
    let mut client = daemon.client();
    client.send("EXPORT\tglobal\n\nEXPORT\tglobal\n");
    let reply = latin1(&client.rest());
    assert!(
        reply.starts_with(&header("global")),
        "old Telegraf's request: {reply:?}"
    );
    assert_eq!(
        reply.matches("reset_timestamp").count(),
        1,
        "one answer in {reply:?}"
    );
    assert!(reply.ends_with("\n\n"), "a whole answer: {reply:?}");
}

#[test]
fn requests_may_be_split_pipelined_and_end_in_cr_lf() {
    let daemon = Daemon::start("pipelining");
    populate(&daemon);
    let mut client = daemon.client();
    client.send("EXPORT\tsession\tconnected\r\nEXPORT\tnon");
    assert_eq!(
        client.reply(),
        daemon.client().export_raw("session\tconnected"),
        "CR LF"
    );
    let mut client = daemon.client();
    for part in ["EXP", "ORT\tu", "ser", "\n"] {
        client.send(part);
    }
    assert_eq!(
        client.reply(),
        daemon.client().export_raw("user"),
        "a request in parts"
    );
    let mut client = daemon.client();
    client.send("EXPORT\tglobal\nRESET\nEXPORT\tglobal\nEXPORT\tuser\nRESET\nEXPORT\tdomain\n");
    assert!(
        latin1(&client.reply()).contains("\t4\t2\t3\t"),
        "global before RESET"
    );
    assert_eq!(client.line(), "OK\n", "RESET");
    assert!(
        latin1(&client.reply()).contains("\t0.000000\t0\t0\t"),
        "global after RESET"
    );
    assert!(latin1(&client.reply()).starts_with("user\t"), "user");
    assert_eq!(client.line(), "OK\n", "the second RESET");
    assert!(latin1(&client.reply()).starts_with("domain\t"), "domain");
    let many = 500;
    client.send("EXPORT\tuser\n".repeat(many));
    let first = client.reply();
    for n in 1..many {
        assert_eq!(client.reply(), first, "reply {n}");
    }
}

#[test]
fn reset_clears_the_global_totals_only() {
    let daemon = Daemon::start("reset");
    populate(&daemon);
    let mut client = daemon.client();
    let users = client.export("user");
    let domains = client.export("domain");
    client.reset();
    let table = client.export("global");
    let row = table.only();
    for name in ["num_logins", "num_cmds", "auth_successes"] {
        assert_eq!(row.num(name), 0, "{name} after RESET");
    }
    assert_eq!(
        row.get("last_update"),
        "0.000000",
        "last_update after RESET"
    );
    assert_eq!(client.export("user"), users, "users stay");
    assert_eq!(client.export("domain"), domains, "domains stay");
    daemon.feed(&[
        connect("s9", "x", "imap", 1, ""),
        disconnect("s1"),
        disconnect("s2"),
    ]);
    let table = client.export("global");
    assert_eq!(table.only().num("num_logins"), 1, "counting goes on");
    let connected = table.only().num("num_connected_sessions");
    assert!(
        connected <= 5,
        "no negative number of sessions: {connected}"
    );
}

/// What `dovestat check` asks: the daemon, its FIFOs, and what was wrong.
#[test]
fn status_tells_of_the_daemon_its_fifos_and_faults() {
    let unix_time = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.expect("a time after 1970").as_secs()
    };
    let began = unix_time();
    let daemon = Daemon::start("status");
    let status = |daemon: &Daemon| {
        let mut client = daemon.client();
        client.send("STATUS\r\n");
        let table = Table::parse(&client.reply());
        // The connection stays open.
        assert_eq!(client.export("global").rows.len(), 1);
        table
    };
    let fresh = status(&daemon);
    assert_eq!(
        fresh.names,
        ["kind", "name", "value", "last_update", "about"]
    );
    assert_eq!(
        fresh.row("name", "version").get("value"),
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(
        fresh.row("name", "pid").num("value"),
        u64::from(daemon.pid())
    );
    let started = fresh.row("name", "start_time").num("value");
    assert!((began..=unix_time()).contains(&started), "{started}");
    let mail = daemon.fifo();
    let row = fresh.row("name", &mail);
    assert_eq!(
        (row.get("kind"), row.num("value"), row.num("last_update")),
        ("fifo", 0, 0)
    );
    assert_eq!(fresh.rows.len(), 5);

    daemon.feed(&["CONNECT\tid1\tuser\timap\t1", "nonsense", "nonsense"]);
    let later = status(&daemon);
    let row = later.row("name", &mail);
    assert_eq!(row.num("value"), 3);
    assert!((started..=unix_time()).contains(&row.num("last_update")));
    let fault = later.row("kind", "fault");
    assert_eq!((fault.get("name"), fault.num("value")), ("unknown_kind", 2));
    assert_eq!(fault.get("about"), "line dropped: not a kind of record");
    assert!((started..=unix_time()).contains(&fault.num("last_update")));
    assert_eq!(later.rows.len(), 6);
}
