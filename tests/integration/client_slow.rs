//! What is slow: the commands that took longest, services and kinds of command in `dump`
//! and `top`, and servers that do not know these levels.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::thread;

use crate::client::{printed, run};
use crate::dovecot::{available, Dovecot};
use crate::harness::{text, Daemon, TempDir};
use crate::records::{self, Mail};
use crate::screen::Terminal;

/// Stats of a command: how long it took and what it used, in microseconds, and what it
/// read, in bytes.
fn took(clock: i64, cpu: i64, read: u64) -> String {
    let split = |usecs: i64| (usecs / 1_000_000, usecs % 1_000_000);
    let mail = Mail {
        times: [split(cpu), (0, 0), split(clock)],
        bytes: [read, 0],
        ..Mail::default()
    };
    mail.field()
}

/// Two sessions with commands of known times: of 100 FETCH of anna's two are slow.
fn feed(daemon: &Daemon) {
    let mut all = vec![
        records::connect("s1", "anna@example.org", "imap", 11, "10.0.0.1"),
        records::connect("s2", "bob@example.com", "pop3", 12, "10.0.0.2"),
    ];
    for number in 1..=100 {
        let clock = if number > 98 { 1_300_000 } else { 5000 };
        let stats = took(clock, 1000, 10);
        let args = format!("{number}:* (FLAGS)");
        all.push(records::command("s1", number, "d", "FETCH", &args, &stats));
    }
    let search = took(2_500_000, 2_000_000, 4096);
    all.push(records::command(
        "s1",
        101,
        "d",
        "uid search",
        "BODY x",
        &search,
    ));
    let stats = took(40_000, 30_000, 1 << 20);
    all.push(records::command("s2", 1, "d", "RETR", "1", &stats));
    daemon.feed(&all);
}

/// `dovestat -s SOCKET` with more arguments.
fn client(socket: &str, args: &[&str]) -> String {
    printed(&[&["-s", socket], args].concat())
}

/// The lines behind the header.
fn rows(table: &str) -> Vec<&str> {
    table.lines().skip(1).collect()
}

#[test]
fn the_slowest_commands_come_first_and_filters_hold() {
    let daemon = Daemon::start("slow-list");
    feed(&daemon);
    let socket = daemon.socket();
    let slow = |args: &[&str]| client(&socket, &[&["slow"], args].concat());
    let table = slow(&[]);
    let titles = [
        "TIME",
        "TOOK",
        "CPU",
        "DISK",
        "I/O",
        "USER",
        "SERVICE",
        "COMMAND",
        "SESSION",
        "ARGUMENTS",
    ];
    let header: Vec<&str> = table
        .lines()
        .next()
        .expect("a header")
        .split_whitespace()
        .collect();
    assert_eq!(header, titles);
    let first: Vec<&str> = rows(&table)[0].split_whitespace().skip(2).collect();
    let expected = "2.50s 2.00s - 4.00k anna@example.org imap uid search s1 BODY x";
    assert_eq!(first.join(" ").to_lowercase(), expected.to_lowercase());
    assert!(rows(&table)[1].contains(" 1.30s "), "{table}");
    assert!(rows(&table)[3].contains(" 40ms "), "{table}");
    assert_eq!(rows(&table).len(), 20, "{table}");

    let names = |args: &[&str]| {
        let args = [args, &["-f", "tab", "--fields", "cmd,args", "--limit", "2"]].concat();
        rows(&slow(&args))
            .join(" | ")
            .replace('\t', " ")
            .to_lowercase()
    };
    assert_eq!(names(&["user=bob@*"]), "retr 1");
    assert_eq!(names(&["service=pop3"]), "retr 1");
    assert_eq!(names(&["cmd=Uid*"]), "uid search body x");
    assert_eq!(
        names(&["cmd=fetch", "since=5m"]).matches("fetch").count(),
        2
    );
    assert_eq!(names(&["since=2099-01-01"]), "");
    assert_eq!(names(&["--sort", "cpu"]), "uid search body x | retr 1");
    assert_eq!(names(&["--sort", "io"]), "retr 1 | uid search body x");
    assert_eq!(names(&["--sort", "TOOK-", "cmd=RETR"]), "retr 1");

    let row = slow(&["-f", "ndjson", "--limit", "1", "session=s2"]);
    for part in [
        "\"clock_time\":0.040000",
        "\"cpu\":0.030000",
        "\"io\":1048576",
        "\"user\":\"bob@example.com\"",
        "\"service\":\"pop3\"",
        "\"cmd\":\"RETR\"",
    ] {
        assert!(row.contains(part), "{part} in {row}");
    }
    let csv = slow(&["-f", "csv", "--limit", "3"]);
    assert!(csv.starts_with("last_update,clock_time,cpu,disk,io,user,service,cmd,session,args"));
    assert_eq!(csv.lines().count(), 4, "{csv}");
    let wrong = run(&["-s", &socket, "slow", "user"]);
    assert_eq!(wrong.status.code(), Some(64), "{wrong:?}");
}

#[test]
fn services_and_kinds_are_dumped() {
    let (one, two) = (Daemon::start("slow-one"), Daemon::start("slow-two"));
    feed(&one);
    two.feed(&[records::connect("x", "zoe@x", "imap", 1, "")]);
    let socket = one.socket();
    let dump = |args: &[&str]| client(&socket, &[&["dump"], args].concat());
    let fields = [
        "--fields",
        "service,cmd,num_cmds,P99,time_max",
        "--sort",
        "time_p99",
    ];
    assert_eq!(
        dump(&[&["cmds"], &fields[..]].concat()),
        "service\tcmd\tnum_cmds\ttime_p99\ttime_max\n\
         imap\tUID SEARCH\t1\t2.500000\t2.500000\n\
         imap\tFETCH\t100\t1.300000\t1.300000\n\
         pop3\tRETR\t1\t0.040000\t0.040000\n"
    );
    assert_eq!(rows(&dump(&["cmd", "cmd=uid*", "service=im*"])).len(), 1);
    let fields = ["--fields", "service,cmd,time_p50,time_histogram"];
    let json = [
        &["-f", "ndjson", "cmd", "histogram", "cmd=retr"],
        &fields[..],
    ]
    .concat();
    let row = dump(&json);
    let start =
        "{\"service\":\"pop3\",\"cmd\":\"RETR\",\"time_p50\":0.040000,\"time_histogram\":[0,";
    assert!(row.starts_with(start) && row.ends_with(",0,1]}\n"), "{row}");
    for format in ["tab", "table", "flow", "pager", "json", "csv", "ndjson"] {
        let kinds = dump(&["-f", format, "cmd", "histogram"]);
        assert_eq!(kinds.matches("UID SEARCH").count(), 1, "{format}: {kinds}");
    }
    let fields = ["--fields", "service,num_connected_sessions,time_p50"];
    let services = dump(&[&["services", "more", "--sort", "service"], &fields[..]].concat());
    assert_eq!(rows(&services), ["imap\t1\t0.005000", "pop3\t1\t0.040000"]);

    // Of several servers each row has its host, and a diff finds it again by both names.
    let servers = ["-s", &socket, "-s", &two.socket()];
    let both = printed(
        &[
            &servers[..],
            &["dump", "service", "--fields", "host,service"],
        ]
        .concat(),
    );
    let (first, second) = (format!("{socket}\timap"), format!("{}\timap", two.socket()));
    assert!(both.contains(&first) && both.contains(&second), "{both}");
    let saved = one.dir.write("saved", &dump(&["cmd"]));
    one.feed(&[records::command(
        "s2",
        2,
        "d",
        "RETR",
        "2",
        &took(1000, 0, 0),
    )]);
    let changed = dump(&[
        "cmd",
        "--diff",
        &saved,
        "--fields",
        "change,service,cmd,num_cmds",
    ]);
    assert!(changed.contains("kept\tpop3\tRETR\t1\n"), "{changed}");
    assert!(changed.contains("kept\timap\tFETCH\t0\n"), "{changed}");

    // What changes nothing is not left out without a word.
    for (args, told) in [
        (
            &["cmd", "user=x"][..],
            "the totals of cmds are of everybody: user= changes nothing",
        ),
        (
            &["service", "cmd=x", "ip=::1"],
            "of everybody: ip= cmd= changes nothing there",
        ),
        (
            &["user", "histogram"],
            "histogram changes nothing at the level user",
        ),
        (&["global", "since=5m"], "no filter changes them"),
    ] {
        let output = run(&[&["-s", &socket, "dump"], args].concat());
        let stderr = text(&output.stderr);
        assert!(
            output.status.success() && stderr.contains(told),
            "{told}: {stderr}"
        );
    }
    for args in [
        &["cmd", "cmd=x", "since=5m"][..],
        &["global", "more", "histogram"],
    ] {
        let output = run(&[&["-s", &socket, "dump"], args].concat());
        assert_eq!(text(&output.stderr), "", "{args:?}");
    }
}

/// `top` in a terminal of 24 rows and so many columns.
fn top(servers: &[&str], args: &[&str], columns: usize) -> Terminal {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovestat"));
    for server in servers {
        command.args(["-s", server]);
    }
    command.args(["top", "-d", "0.2"]).args(args);
    command.env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
    command.env("XDG_STATE_HOME", "/dev/null");
    Terminal::start(&mut command, 24, columns)
}

/// The cells of the row that has all of these texts.
fn cells(screen: &str, texts: &[&str]) -> Option<String> {
    let fits = |line: &&str| texts.iter().all(|text| line.contains(text));
    let line = screen.lines().find(fits)?;
    Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn kinds_of_command_show_their_times_and_open_into_commands() {
    let daemon = Daemon::start("slow-top");
    feed(&daemon);
    let mut top = top(&[&daemon.socket()], &[], 80);
    top.wait_text("anna@");
    top.keys("8");
    top.wait("the times of FETCH", |s| {
        cells(s, &["imap", "FETCH"])
            .is_some_and(|row| row.starts_with("imap FETCH - 5.0ms 5.0ms 1.30s 1.30s"))
    });
    top.wait_text("P99");
    top.keys("P");
    top.wait("the slowest kind first", |s| {
        let at = |name: &str| s.find(name);
        s.contains("▼P99") && at("UID SEARCH") < at("FETCH") && at("FETCH") < at("RETR")
    });
    // To the commands of a name, and from one to its session.
    top.keys("j\r");
    top.wait("its commands", |s| {
        s.contains("imap FETCH ›  4 Commands")
            && s.contains("100 rows")
            && s.contains("(FLAGS)")
            && s.contains("▼CLOCK")
            && s.contains("1.30s")
    });
    top.keys("\r");
    top.wait("the session of one", |s| {
        s.contains("s1 ›  3 Sessions") && s.contains("anna@example.org") && s.contains("1 row")
    });
    // Its commands are the end of the way: Enter shows everything about one.
    top.keys("\r");
    top.wait_text("s1 › s1 ›  4 Commands");
    top.wait_text("uid search");
    top.keys("\r");
    top.wait_text("Details");
    top.keys("qhhh");
    top.wait("back to the kinds", |s| {
        s.contains("UID SEARCH") && s.contains("RETR")
    });
    // From a service down.
    top.keys("\x1b[18~");
    top.wait("services with their sessions", |s| {
        cells(s, &["pop3"]).is_some_and(|row| row.starts_with("pop3 - 1 40ms 40ms 40ms 40ms"))
    });
    top.keys("/pop3\r\r");
    top.wait("its kinds", |s| {
        s.contains("pop3 ›  8 Kinds") && s.contains("RETR") && !s.contains("FETCH")
    });
    top.keys("\r");
    top.wait_text("pop3 › RETR ›  4 Commands");
    top.wait_text("bob@");
    // A filter that means nothing here is not left out without a word.
    top.keys("8\\user=x\r");
    top.wait_text("are of everybody: user= changes nothing there");
    top.keys("\x1b\\fet\r");
    top.wait("a part of the name", |s| {
        s.contains("FETCH") && !s.contains("RETR")
    });
    top.resize(24, 40);
    top.wait("on a narrow screen", |s| {
        cells(s, &["imap", "FETCH"]).is_some() && s.contains("P99")
    });
    top.keys("q");
    assert!(top.wait_end().success());
    let socket = daemon.socket();
    let frame = client(
        &socket,
        &[
            "top",
            "-B",
            "-n1",
            "-d",
            ".1",
            "-f",
            "ndjson",
            "-l",
            "cmd",
            "cmd=FETCH",
        ],
    );
    assert!(frame.contains("\"cmd\":\"FETCH\"") && frame.contains("\"time_p99\":1.300000"));
    let frame = run(&[
        "-s", &socket, "top", "-B", "-n1", "-d", ".1", "-l", "cmd", "ip=::1",
    ]);
    assert!(text(&frame.stderr).contains("ip= changes nothing there"));
}

/// A server that knows the old levels and closes the connection for any other.
fn old_server(path: &str) {
    let answer = |mut stream: UnixStream| -> std::io::Result<()> {
        for line in BufReader::new(stream.try_clone()?).lines() {
            let line = line?;
            let reply = match line.split('\t').nth(1) {
                Some("global") => {
                    "reset_timestamp\tlast_update\tnum_logins\tnum_cmds\tnum_connected_sessions\n\
                     1\t2.000000\t3\t4\t5\n\n"
                }
                // Counted for the users.
                Some("session") => "session\tuser\ns\told@x\n\n",
                Some("user") => "user\tnum_cmds\nold@x\t7\n\n",
                Some("command") => {
                    "cmd\targs\tsession\tuser\tlast_update\tuser_cpu\tsys_cpu\tclock_time\t\
                     disk_input\tdisk_output\tread_bytes\twrite_bytes\n\
                     NOOP\t\ts\told@x\t5.000000\t0.7442\t0.0\t0.1000\t0\t0\t0\t0\n\
                     FETCH\t1:*\ts\told@x\t5.000000\t0.0\t0.0\t2.5\t0\t0\t0\t0\n\n"
                }
                _ => return Ok(()),
            };
            stream.write_all(reply.as_bytes())?;
        }
        Ok(())
    };
    let listener = UnixListener::bind(path).expect("bind");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("accept");
            // A client may have gone.
            thread::spawn(move || answer(stream).is_ok());
        }
    });
}

#[test]
fn a_server_without_the_levels_says_so_in_their_place() {
    let dir = TempDir::new("slow-old");
    let old = dir.at("old");
    old_server(&old);
    for level in ["service", "cmd"] {
        let output = run(&["-s", &old, "dump", level]);
        assert_eq!(output.status.code(), Some(75));
        let told = text(&output.stderr);
        assert!(
            told.contains("does not know this level, like Dovecot's own"),
            "{told}"
        );
        let frame = run(&["-s", &old, "top", "-B", "-n1", "-d", ".1", "-l", level]);
        assert_eq!(frame.status.code(), Some(75), "{frame:?}");
        assert!(
            text(&frame.stderr).contains("does not know this level"),
            "{frame:?}"
        );
    }
    // What it has is listed, and filtered here.
    let slow = client(&old, &["slow", "cmd=fetch"]);
    assert!(rows(&slow).len() == 1 && slow.contains("FETCH"), "{slow}");
    assert!(!slow.contains("SERVICE"), "{slow}");
    // Two whole numbers around the dot, as the original writes them.
    let slow = client(&old, &["slow"]);
    assert!(rows(&slow)[0].contains(" 2.00s "), "{slow}");
    assert!(rows(&slow)[1].contains(" 1.0ms "), "{slow}");
    assert!(rows(&slow)[1].contains(" 7.4ms "), "{slow}");

    let mut alone = top(&[&old], &[], 100);
    alone.wait_text("old@x");
    alone.keys("7");
    alone.wait_text("this server does not know this level");
    alone.wait("its totals", |s| {
        s.contains("Sessions 5 ") && !s.contains("again")
    });
    alone.keys("8");
    alone.wait_text("this server does not know this level");
    alone.keys("2");
    alone.wait_text("old@x");

    let daemon = Daemon::start("slow-new");
    feed(&daemon);
    let mut both = top(&[&old, &daemon.socket()], &["-l", "service"], 160);
    both.wait("the rows of the other", |s| {
        s.contains("does not know this level") && s.contains("pop3") && s.contains("2 of 2")
    });
    fs::remove_file(&old).expect("remove");
}

#[test]
fn the_original_service_has_no_such_levels() {
    if !available("client_slow::the_original_service_has_no_such_levels") {
        return;
    }
    let original = Dovecot::original("slow-original");
    let socket = original.stats_socket();
    let output = run(&["-s", &socket, "dump", "service"]);
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    let told = text(&output.stderr);
    assert!(told.contains("does not know this level"), "{told}");
    let mut top = top(&[&socket], &["-l", "cmd"], 100);
    top.wait_text("this server does not know this level");
    top.keys("6");
    top.wait_text("1 row");
    top.keys("q");
    assert!(top.wait_end().success());
    original.stop();
}
