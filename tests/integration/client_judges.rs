//! The client says yes or says why: filters, values, names, and sockets that are
//! not those of a statistics service.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{dovestat, printed, run, serve};
use crate::dovecot::{available, Dovecot};
use crate::harness::{free_port, holds_within, text, works, Daemon, Setup, TempDir, DEADLINE};
use crate::link::Writer;
use crate::records::{add_user, connect, update, Mail};

/// Asserts an exit code, nothing on standard output, and a text in the message; gives
/// the message.
#[track_caller]
fn assert_refused(output: &Output, code: i32, text_of: &str) -> String {
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert_eq!(text(&output.stdout), "", "{told}");
    assert!(told.contains(text_of), "{text_of:?} in {told:?}");
    told
}

/// Three sessions of two services, and a user without one.
fn populate(send: &mut dyn FnMut(&[u8])) {
    let mut mail = Mail::sample();
    mail.disk = [9_994_240, 0];
    send(&connect("s1", "anna@x", "imap", 11, "10.0.0.10"));
    send(&update("s1", &mail.field()));
    mail.disk = [99_655_680, 0];
    send(&connect("s2", "bob@y", "pop3", 12, "10.0.0.9"));
    send(&update("s2", &mail.field()));
    send(&connect("s3", "eve@x", "imap", 13, "2001:db8::1"));
    send(&add_user("dave", "auth", ""));
}

fn daemon(name: &str) -> Daemon {
    let daemon = Daemon::start(name);
    let mut records = Vec::new();
    populate(&mut |record| records.push(record.to_vec()));
    daemon.feed(&records);
    daemon
}

#[test]
fn filters_and_values_are_judged_before_a_server_sees_them() {
    let daemon = daemon("judge");
    let socket = daemon.socket();
    for (what, told) in [
        (
            "servic=pop3",
            "unknown filter \"servic=pop3\"; there are: user= domain= ip= session= service= \
             cmd= since= connected more histogram",
        ),
        ("conected", "unknown filter \"conected\""),
        (
            "ip=10.0.0.0/33",
            "ip=10.0.0.0/33: an IPv4 network has 0 to 32 bits",
        ),
        ("ip=10.0.0", "ip=10.0.0: not an address or network"),
        ("since=someday", "since=someday: not a time, as 5m,"),
    ] {
        for args in [&["dump", "session", what][..], &["top", "-B", "-n1", what]] {
            if args[0] == "top" && !what.contains('=') {
                continue;
            }
            assert_refused(&run(&[&["-s", &socket], args].concat()), 64, told);
        }
    }
    let sessions = |filter: &str| {
        let rows = printed(&[
            "-s", &socket, "dump", "session", filter, "--fields", "session",
        ]);
        rows.lines().skip(1).collect::<Vec<_>>().join(" ")
    };
    for (filter, expected) in [
        ("service=imap", "s3 s1"),
        ("service=po*", "s2"),
        ("since=5m", "s3 s2 s1"),
        ("since=yesterday", "s3 s2 s1"),
        ("since=2026-01-01", "s3 s2 s1"),
        ("since=2099-01-01 12:00", ""),
        ("service=imap\tuser=eve*", "s3"),
    ] {
        assert_eq!(sessions(filter), expected, "{filter}");
    }
    assert_refused(
        &run(&["dump", "people"]),
        64,
        "there are: command session user",
    );
    assert_refused(&run(&["dump"]), 64, "dump of which level: command session");
    assert_refused(&run(&["top", "-l", "all"]), 64, "unknown level \"all\"");
    let all = run(&["-s", &socket, "dump", "global", "user=x"]);
    assert_eq!(all.status.code(), Some(0));
    assert!(text(&all.stderr).contains("no filter changes them"));
}

#[test]
fn levels_and_columns_have_the_names_that_people_use() {
    let daemon = daemon("names");
    let socket = daemon.socket();
    let dump = |args: &[&str]| printed(&[&["-s", &socket, "dump"], args].concat());
    for (many, one) in [("Users", "user"), ("ips", "ip"), ("sessions", "session")] {
        assert_eq!(dump(&[many]), dump(&[one]));
    }
    assert_eq!(
        dump(&[
            "sessions",
            "--fields",
            "Session,DISK,FAIL,Cmds",
            "--sort",
            "Disk"
        ]),
        "session\tdisk\tauth_failures\tnum_cmds\n\
         s2\t99655680\t0\t0\ns1\t9994240\t0\t0\ns3\t0\t0\t0\n"
    );
    assert_eq!(
        dump(&["sessions", "--fields", "CPU%,session", "session=s1"]),
        "cpu\tsession\n3.000003\ts1\n"
    );
    assert_eq!(
        dump(&["ips", "--fields", "ADDRESS", "--sort", "ip"]),
        "ip\n10.0.0.9\n10.0.0.10\n2001:db8::1\n"
    );
    let told = run(&["-s", &socket, "dump", "user", "--sort", "nothing"]);
    assert_refused(
        &told,
        64,
        "no column \"nothing\"; there are: user reset_timestamp",
    );
    let told = run(&["-s", &socket, "top", "-B", "nothing"]);
    assert_refused(
        &told,
        64,
        "cannot sort user by \"nothing\"; there are: name disk cpu",
    );
    // doveadm's configuration is of no use here.
    assert_eq!(dump(&["-c", "/nonexistent", "user"]), dump(&["user"]));
    let frame = printed(&["-s", &socket, "top", "-B", "-n1", "-d0.1", "FAIL"]);
    assert!(frame.contains("anna@x"), "{frame}");
}

#[test]
fn numbers_are_numbers_where_a_program_reads_them() {
    let daemon = daemon("numbers");
    let socket = daemon.socket();
    let dump = |format: &str| {
        let fields = [
            "--fields",
            "session,disk_input,user_cpu,connected",
            "user=*b*",
        ];
        printed(
            &[
                &["-s", &socket, "-f", format, "dump", "session"],
                &fields[..],
            ]
            .concat(),
        )
    };
    assert_eq!(
        dump("ndjson"),
        "{\"session\":\"s2\",\"disk_input\":99655680,\"user_cpu\":1.000001,\"connected\":1}\n"
    );
    assert!(
        dump("json").contains("\"disk_input\":\"99655680\""),
        "as doveadm's"
    );
    let table = printed(&[
        "-s",
        &socket,
        "-f",
        "table",
        "dump",
        "session",
        "--fields",
        "user,disk_input",
    ]);
    assert_eq!(
        table,
        "user   disk_input\neve@x           0\nbob@y    99655680\nanna@x    9994240\n"
    );
    for format in ["json", "ndjson"] {
        let frame = printed(&[
            "-s", &socket, "-f", format, "top", "-n1", "-d0.1", "-l", "session",
        ]);
        for (name, text) in [
            ("num_cmds", false),
            ("time", false),
            ("disk", false),
            ("pid", false),
            ("session", true),
        ] {
            let value = frame.split(&format!("\"{name}\":")).nth(1).expect(name);
            assert_eq!(value.starts_with('"'), text, "{name} in {frame}");
        }
    }
    // What the largest is depends on whether jq sees numbers.
    let name = "numbers_are_numbers_where_a_program_reads_them";
    if !works(name, &["jq", "--version"]) {
        return;
    }
    let rows = printed(&["-s", &socket, "-f", "ndjson", "dump", "session"]);
    let file = daemon.dir.write("rows", &rows);
    let jq = std::process::Command::new("jq")
        .args(["-rs", "sort_by(.disk_input) | .[].session", &file])
        .output()
        .expect("run jq");
    assert_eq!(text(&jq.stdout), "s3\ns1\ns2\n", "{jq:?}");
}

#[test]
fn dovecots_own_service_is_filtered_by_service_here() {
    let name = "dovecots_own_service_is_filtered_by_service_here";
    if !available(name) {
        return;
    }
    let original = Dovecot::original("client-service");
    let socket = original.stats_socket();
    let mut writer = Writer::open(&original.stats_fifo());
    populate(&mut |record| writer.send_waiting(record));
    let sessions = |filters: &[&str]| {
        let args = ["-s", &socket, "dump", "session", "--fields", "session"];
        printed(&[&args[..], filters].concat())
    };
    assert!(holds_within(DEADLINE, || sessions(&[]) == "session\ns3\ns2\ns1\n"));
    assert_eq!(sessions(&["service=pop3"]), "session\ns2\n");
    assert_eq!(sessions(&["service=im*", "user=a*"]), "session\ns1\n");
    for level in ["command", "user", "domain", "ip"] {
        let output = run(&["-s", &socket, "dump", level, "service=pop3"]);
        assert_refused(&output, 75, "does not know the filter service=");
    }
}

#[test]
fn a_socket_of_something_else_is_named_and_nothing_printed() {
    let dir = TempDir::new("foreign");
    for (name, answer, told) in [
        (
            "stats-reader",
            "VERSION\tstats-reader-server\t2\t0\n",
            "this is a socket of Dovecot's protocol stats-reader-server,",
        ),
        (
            "http",
            "HTTP/1.1 400 Bad Request\r\n\r\n",
            "this is an HTTP server",
        ),
        (
            "ok",
            "OK\n",
            "not a statistics service: its answer begins with \"OK\"",
        ),
        (
            "level",
            "user\tnum_cmds\njoe\t1\n\n",
            "its answer begins with \"user\\tnum_cmds\"",
        ),
        (
            "crlf",
            "session\tuser\r\ns\tu\r\n\r\n",
            "its lines end in CR LF",
        ),
    ] {
        let socket = dir.at(name);
        serve(&socket, answer.into());
        for format in ["tab", "json", "table"] {
            let output = run(&["-s", &socket, "-f", format, "dump", "session"]);
            assert_refused(&output, 75, told);
        }
        let output = run(&["-s", &socket, "top", "-B", "-n1", "-l", "session"]);
        // The totals are asked for first, and answered the same.
        let told = if name == "level" || name == "crlf" {
            "its answer begins"
        } else {
            told
        };
        assert_refused(&output, 75, told);
    }
    if !available("a_socket_of_something_else_is_named_and_nothing_printed") {
        return;
    }
    let original = Dovecot::original("foreign-real");
    let socket = original.dir.at("run/stats-reader");
    let output = run(&["-s", &socket, "dump", "user"]);
    assert_refused(&output, 75, "Dovecot's protocol stats-reader-server");
}

/// A server that answers and then says nothing for as long as it is asked.
fn serve_open(path: &str, reply: &'static [u8]) {
    let listener = UnixListener::bind(path).expect("bind");
    thread::spawn(move || {
        let mut streams = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("accept");
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(reply);
            streams.push(stream);
        }
    });
}

#[test]
fn a_reply_without_an_end_is_over_after_seconds() {
    let dir = TempDir::new("endless");
    thread::scope(|scope| {
        for (name, reply, printed, told) in [
            (
                "rows",
                &b"user\tn\njoe\t1\n"[..],
                "user\tn\njoe\t1\n",
                "its reply has no end",
            ),
            ("silent", b"", "", "no answer for 5 s"),
            ("crlf", b"user\tn\r\njoe\t1\r\n\r\n", "", "end in CR LF"),
        ] {
            let socket = dir.at(name);
            serve_open(&socket, reply);
            scope.spawn(move || {
                let begun = Instant::now();
                let output = run(&["-s", &socket, "dump", "user"]);
                assert!(begun.elapsed() < Duration::from_secs(15), "{name}");
                assert_eq!(output.status.code(), Some(75), "{name}");
                assert_eq!(text(&output.stdout), printed, "{name}");
                assert!(text(&output.stderr).contains(told), "{output:?}");
                let begun = Instant::now();
                let frames = run(&["-s", &socket, "top", "-B", "-n", "1"]);
                assert!(begun.elapsed() < Duration::from_secs(15), "{name}");
                assert_refused(&frames, 75, "");
            });
        }
    });
}

#[test]
fn a_reset_that_is_refused_says_by_what() {
    let port = free_port();
    let daemon = Daemon::with("reset-inet", &Setup::new().inet(port, ""));
    let output = run(&["-s", &format!("127.0.0.1:{port}"), "reset"]);
    let told = assert_refused(&output, 75, "the listener there has reset = no");
    assert!(told.contains("dovestatd.conf(5)"), "{told}");
    let output = run(&["-s", &daemon.fifo(), "reset"]);
    assert_refused(
        &output,
        75,
        "this is no socket; the daemon's is named stats",
    );
    drop(daemon);
    let output = run(&["-s", &format!("127.0.0.1:{port}"), "reset"]);
    assert_refused(&output, 75, "is dovestatd running?");
}

#[test]
fn every_command_explains_itself() {
    let bare = run(&[]);
    assert_eq!((bare.status.code(), bare.stdout.len()), (Some(64), 0));
    assert_eq!(text(&bare.stderr).lines().count(), 5);
    let help = printed(&["dump", "--help"]);
    for part in [
        "usage: dovestat ",
        "Levels: command ",
        "since=",
        "--diff FILE",
        "Example:",
    ] {
        assert!(help.contains(part), "{part} in {help}");
    }
    assert_eq!(printed(&["help", "dump"]), help);
    assert!(printed(&["version"]).starts_with("dovestat "));
    assert!(printed(&["run", "--help"]).contains("-u USER"));
    assert_refused(
        &run(&["who"]),
        64,
        "unknown command \"who\"; there are: dump top",
    );
}

#[test]
fn without_a_server_all_that_were_tried_are_listed() {
    let dir = TempDir::new("candidates");
    let own = |command: &mut std::process::Command| {
        command.env("XDG_RUNTIME_DIR", dir.path());
        command.output().expect("run dovestat")
    };
    for args in [&["dump", "user"][..], &["reset"], &["top", "-B"], &["top"]] {
        let output = own(&mut dovestat(args));
        let told = text(&output.stderr);
        if output.status.code() == Some(0) || told.contains("stats reset") {
            // A service of this machine has answered.
            return;
        }
        assert_refused(&output, 75, "no statistics service was found; tried:\n");
        for path in [
            "/run/dovestat/stats: ",
            "/run/dovecot/old-stats: ",
            "/run/dovecot/stats: ",
        ] {
            assert!(told.contains(&format!("dovestat:   {path}")), "{told}");
        }
        assert!(told.contains("is dovestatd running?"), "{told}");
    }
}
