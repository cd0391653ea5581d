//! The FIFO side, from the specification: what each record changes, at which
//! levels, and what wrong records do not change.

use crate::harness::Daemon;
use crate::link::Table;
use crate::records::{
    add_user, base64, carry_on, command, connect, disconnect, update, Auth, Mail,
};

/// The statistics columns, in order.
pub const STATS: &str = "user_cpu sys_cpu clock_time min_faults maj_faults vol_cs invol_cs \
    disk_input disk_output read_count read_bytes write_count write_bytes mail_lookup_path \
    mail_lookup_attr mail_read_count mail_read_bytes mail_cache_hits auth_successes \
    auth_master_successes auth_failures auth_db_tempfails auth_cache_hits auth_cache_misses";

/// What the statistics columns of `Mail::sample()` print.
const SAMPLE: &str =
    "1.000001 2.000002 3.000003 4 5 6 7 8 9 10 12 11 13 14 15 16 17 18 0 0 0 0 0 0";

const NOTHING: &str = "0.000000 0.000000 0.000000 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";

pub const ALICE: &str = "alice@example.org";

/// The statistics of one row, joined by blanks.
#[track_caller]
fn stats(table: &Table, key: &str, value: &str) -> String {
    let row = table.row(key, value);
    STATS
        .split_whitespace()
        .map(|name| row.get(name))
        .collect::<Vec<_>>()
        .join(" ")
}

#[track_caller]
pub fn assert_counts(
    daemon: &Daemon,
    level: &str,
    key: &str,
    logins: u64,
    cmds: u64,
    connected: u64,
) {
    let table = daemon.client().export(level);
    let row = if key.is_empty() {
        table.only()
    } else {
        table.row(level, key)
    };
    assert_eq!(row.num("num_logins"), logins, "num_logins at {level} {key}");
    assert_eq!(row.num("num_cmds"), cmds, "num_cmds at {level} {key}");
    if level != "user" {
        assert_eq!(
            row.num("num_connected_sessions"),
            connected,
            "connected at {level} {key}"
        );
    }
}

#[test]
fn a_session_is_counted_at_every_level() {
    let daemon = Daemon::start("levels");
    daemon.feed(&[
        connect("s1", ALICE, "imap", 4711, "10.1.2.3"),
        update("s1", &Mail::sample().field()),
        command("s1", 1, "", "SELECT", "INBOX", &Mail::sample().field()),
    ]);
    let mut client = daemon.client();
    let sessions = client.export("session");
    let row = sessions.only();
    for (name, value) in [
        ("session", "s1"),
        ("user", ALICE),
        ("ip", "10.1.2.3"),
        ("service", "imap"),
        ("pid", "4711"),
        ("connected", "1"),
        ("num_cmds", "1"),
    ] {
        assert_eq!(row.get(name), value, "{name} of the session");
    }
    let commands = client.export("command");
    for (name, value) in [
        ("cmd", "SELECT"),
        ("args", "INBOX"),
        ("session", "s1"),
        ("user", ALICE),
    ] {
        assert_eq!(commands.only().get(name), value, "{name} of the command");
    }
    for (level, key) in [
        ("session", "s1"),
        ("user", ALICE),
        ("domain", "example.org"),
        ("ip", "10.1.2.3"),
    ] {
        assert_eq!(
            stats(&client.export(level), level, key),
            SAMPLE,
            "statistics at {level}"
        );
    }
    assert_eq!(
        stats(&commands, "cmd", "SELECT"),
        SAMPLE,
        "statistics of the command"
    );
    let global = client.export("global");
    let reset = global.only().get("reset_timestamp").to_string();
    assert_eq!(
        stats(&global, "reset_timestamp", &reset),
        SAMPLE,
        "statistics globally"
    );
    for (level, key) in [
        ("user", ALICE),
        ("domain", "example.org"),
        ("ip", "10.1.2.3"),
        ("global", ""),
    ] {
        assert_counts(&daemon, level, key, 1, 1, 1);
    }
}

#[test]
fn a_disconnected_session_stays_listed() {
    let daemon = Daemon::start("disconnect");
    daemon.feed(&[connect("s1", ALICE, "imap", 1, "10.1.2.3")]);
    let before = daemon
        .client()
        .export("session")
        .only()
        .get("last_update")
        .to_string();
    daemon.feed(&[disconnect("s1")]);
    let table = daemon.client().export("session");
    assert_eq!(
        table.only().get("connected"),
        "0",
        "connected after DISCONNECT"
    );
    assert_eq!(
        table.only().get("last_update"),
        before,
        "DISCONNECT does not move last_update"
    );
    for (level, key) in [
        ("domain", "example.org"),
        ("ip", "10.1.2.3"),
        ("global", ""),
    ] {
        assert_counts(&daemon, level, key, 1, 0, 0);
    }
    daemon.feed(&[
        disconnect("s1"),
        update("s1", &Mail::sample().field()),
        disconnect("never"),
    ]);
    assert_eq!(
        daemon.client().export("session"),
        table,
        "records of a dead session"
    );
    assert_counts(&daemon, "global", "", 1, 0, 0);
}

#[test]
fn an_update_adds_the_difference_only() {
    let daemon = Daemon::start("difference");
    let mut later = Mail::sample();
    later.counts = [30, 31];
    later.times[0] = (2, 5);
    daemon.feed(&[
        connect("s1", ALICE, "imap", 1, ""),
        connect("s2", ALICE, "imap", 2, ""),
        update("s1", &Mail::sample().field()),
        update("s2", &Mail::sample().field()),
        update("s1", &later.field()),
        update("s1", &later.field()),
    ]);
    let user = daemon.client().export("user");
    assert_eq!(user.only().num("read_count"), 40, "read_count");
    assert_eq!(user.only().get("user_cpu"), "3.000006", "user_cpu");
    assert_eq!(user.only().get("sys_cpu"), "4.000004", "sys_cpu");
}

#[test]
fn microseconds_carry_and_have_six_digits() {
    let daemon = Daemon::start("carry");
    let with = |times| {
        Mail {
            times,
            ..Mail::default()
        }
        .field()
    };
    daemon.feed(&[
        connect("s1", "u", "imap", 1, ""),
        connect("s2", "u", "imap", 2, ""),
        update("s1", &with([(0, 600_000), (1, 999_999), (0, 7442)])),
        update("s2", &with([(0, 400_000), (1, 999_999), (0, 7)])),
    ]);
    let table = daemon.client().export("user");
    let row = table.only();
    assert_eq!(
        row.get("user_cpu"),
        "1.000000",
        "a sum of exactly one million"
    );
    assert_eq!(row.get("sys_cpu"), "3.999998", "a carry");
    assert_eq!(row.get("clock_time"), "0.007449", "padding");
}

#[test]
fn commands_are_new_continued_and_done() {
    let daemon = Daemon::start("commands");
    let mut more = Mail::sample();
    more.counts[0] = 99;
    daemon.feed(&[
        connect("s1", ALICE, "imap", 1, ""),
        command(
            "s1",
            1,
            "",
            "APPEND",
            "INBOX <1214 byte literal>",
            &Mail::sample().field(),
        ),
        carry_on("s1", 1, "c", &more.field()),
        command("s1", 2, "d", "NOOP", "", ""),
        carry_on("s1", 1, "cd", &more.field()),
        // What comes after the end still counts, whichever way round the flags were.
        carry_on(
            "s1",
            1,
            "c",
            &Mail {
                counts: [500, 11],
                ..more
            }
            .field(),
        ),
        command("s1", 3, "", "IDLE", "", ""),
        carry_on("s1", 3, "dc", ""),
        carry_on("s1", 3, "c", &more.field()),
        // A number may be used again once its command is over, not before.
        command("s1", 3, "", "CHECK", "", ""),
        command("s1", 3, "", "EXPUNGE", "", ""),
        command("s1", 4, "", "CLOSE", "", ""),
        command("s1", 3, "", "LOGOUT", "", ""),
    ]);
    let table = daemon.client().export("command");
    assert_eq!(
        table.values("cmd"),
        ["APPEND", "NOOP", "IDLE", "CHECK", "CLOSE", "LOGOUT"],
        "oldest first"
    );
    assert_eq!(
        table.row("cmd", "APPEND").num("read_count"),
        500,
        "the continued total"
    );
    assert_eq!(
        table.row("cmd", "IDLE").num("read_count"),
        99,
        "after its end"
    );
    let session = daemon.client().export("session");
    assert_eq!(
        session.only().num("num_cmds"),
        6,
        "num_cmds counts new ones"
    );
    assert_eq!(
        stats(&session, "session", "s1"),
        NOTHING,
        "command statistics stay in commands"
    );
    assert_counts(&daemon, "global", "", 1, 6, 1);
}

#[test]
fn an_unescaped_tab_in_args_is_kept() {
    let daemon = Daemon::start("tab");
    let stats = Mail::sample().field();
    let record = format!("UPDATE-CMD\ts1\t1\td\tSEARCH\tTEXT \"a\tb\"\t{stats}");
    daemon.feed(&[connect("s1", ALICE, "imap", 1, ""), record.into_bytes()]);
    let table = daemon.client().export("command");
    assert_eq!(
        table.only().get("args"),
        "TEXT \"a\x01tb\"",
        "args with a TAB"
    );
    assert_eq!(table.only().num("read_count"), 10, "its statistics");
}

#[test]
fn both_items_fit_in_one_stats_field() {
    let daemon = Daemon::start("items");
    let both = [Mail::sample().item(), Auth([1, 2, 3, 4, 5, 6]).item()].concat();
    daemon.feed(&[
        connect("s1", ALICE, "imap", 1, ""),
        update("s1", &base64(&both)),
        update("s1", &Auth([2, 2, 3, 4, 5, 6]).field()),
        update("s1", ""),
    ]);
    let expected = SAMPLE.replace(" 0 0 0 0 0 0", " 2 2 3 4 5 6");
    assert_eq!(
        stats(&daemon.client().export("session"), "session", "s1"),
        expected
    );
}

#[test]
fn add_user_adds_a_difference_and_is_no_login() {
    let daemon = Daemon::start("adduser");
    daemon.feed(&[
        add_user("bob@example.net", "imap", &Auth([1, 0, 2, 0, 0, 3]).field()),
        add_user("bob@example.net", "imap", &Auth([1, 0, 2, 0, 0, 3]).field()),
        add_user("", "imap", &Mail::sample().field()),
    ]);
    let users = daemon.client().export("user");
    assert_eq!(
        users.values("user"),
        ["", "bob@example.net"],
        "newest first"
    );
    assert_eq!(
        users.row("user", "bob@example.net").num("auth_failures"),
        4,
        "added twice"
    );
    assert_eq!(
        stats(&users, "user", ""),
        SAMPLE,
        "mail statistics of an unnamed user"
    );
    for (level, key) in [
        ("user", "bob@example.net"),
        ("domain", "example.net"),
        ("global", ""),
    ] {
        assert_counts(&daemon, level, key, 0, 0, 0);
    }
    let client = &mut daemon.client();
    assert_eq!(
        client.export("global").only().num("auth_failures"),
        4,
        "globally"
    );
    assert_eq!(client.export_raw("session"), b"\n", "no session");
    assert_eq!(client.export_raw("ip"), b"\n", "no address");
}

#[test]
fn a_domain_follows_the_first_at_sign() {
    let daemon = Daemon::start("domains");
    daemon.feed(&[
        connect("s1", "a@b@c", "imap", 1, ""),
        connect("s2", "plain", "imap", 1, ""),
        connect("s3", "x@", "imap", 1, ""),
        connect("s4", "", "imap", 1, ""),
    ]);
    let client = &mut daemon.client();
    assert_eq!(
        client.export("domain").values("domain"),
        ["", "b@c"],
        "domains"
    );
    assert_eq!(
        client.export("user").values("user"),
        ["", "x@", "plain", "a@b@c"],
        "users"
    );
}

#[test]
fn addresses_are_normalised() {
    let daemon = Daemon::start("addresses");
    daemon.feed(&[
        connect("s1", "u", "imap", 1, "2001:DB8:0:0::1"),
        connect("s2", "u", "imap", 1, "::ffff:10.0.0.1"),
        connect("s3", "u", "imap", 1, "10.0.0.1"),
        connect("s4", "u", "imap", 1, "not-an-address"),
        // What lmtp sends for a client on a UNIX socket.
        b"CONNECT\ts5\tu\tlmtp\t1\tlip=\trip=".to_vec(),
    ]);
    let client = &mut daemon.client();
    assert_eq!(
        client.export("ip").values("ip"),
        ["10.0.0.1", "2001:db8::1"],
        "addresses"
    );
    assert_counts(&daemon, "ip", "10.0.0.1", 2, 0, 2);
    let session = daemon.client().export("session");
    assert_eq!(
        session.values("ip"),
        ["", "", "10.0.0.1", "10.0.0.1", "2001:db8::1"],
        "of sessions"
    );
}

#[test]
fn a_live_id_cannot_connect_again() {
    let daemon = Daemon::start("duplicate");
    daemon.feed(&[
        connect("s1", "a", "imap", 1, ""),
        connect("s1", "b", "pop3", 2, ""),
        connect("s1:R2", "c", "lmtp", 1, ""),
    ]);
    let client = &mut daemon.client();
    assert_eq!(
        client.export("session").values("user"),
        ["c", "a"],
        "one each"
    );
    assert_counts(&daemon, "global", "", 2, 0, 2);
    daemon.feed(&[disconnect("s1"), connect("s1", "d", "imap", 3, "")]);
    let table = daemon.client().export("session\tconnected");
    assert_eq!(
        table.values("user"),
        ["d", "c"],
        "a dead id may connect again"
    );
    assert_counts(&daemon, "global", "", 3, 0, 2);
}

#[test]
fn an_unknown_session_gets_a_placeholder_that_connect_fills() {
    let daemon = Daemon::start("placeholder");
    daemon.feed(&[
        update("lost", &Mail::sample().field()),
        command("lost", 7, "", "FETCH", "1:*", ""),
    ]);
    let client = &mut daemon.client();
    let table = client.export("session");
    for (name, value) in [
        ("user", ""),
        ("service", ""),
        ("pid", "0"),
        ("ip", ""),
        ("connected", "1"),
    ] {
        assert_eq!(table.only().get(name), value, "{name} of a placeholder");
    }
    assert_eq!(
        stats(&table, "session", "lost"),
        SAMPLE,
        "its first total is its base"
    );
    assert_eq!(
        client.export("command").only().get("cmd"),
        "FETCH",
        "its command"
    );
    assert_counts(&daemon, "global", "", 0, 1, 1);
    assert_eq!(
        client.export("global").only().num("read_count"),
        10,
        "counted upwards once"
    );

    let later = Mail {
        counts: [15, 11],
        ..Mail::sample()
    };
    daemon.feed(&[
        connect("lost", ALICE, "imap", 99, "10.0.0.9"),
        update("lost", &later.field()),
    ]);
    let table = client.export("session");
    assert_eq!(table.only().get("user"), ALICE, "the real user");
    assert_eq!(table.only().get("pid"), "99", "the real pid");
    assert_eq!(table.only().num("read_count"), 15, "the base is kept");
    assert_counts(&daemon, "global", "", 1, 1, 1);
    assert_eq!(
        client.export("global").only().num("read_count"),
        15,
        "nothing counted twice"
    );
    let users = client.export("user");
    assert_eq!(
        users.row("user", ALICE).num("read_count"),
        5,
        "the user gets what came since"
    );
}
