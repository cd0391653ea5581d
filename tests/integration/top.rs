//! `dovestat top`: in a terminal of its own, with keys, sizes, lost servers and
//! signals; and its frames of text.

use std::process::{Command, Output, Stdio};

use crate::attack::{Class, Tally};
use crate::dovecot::{self, Dovecot};
use crate::harness::{send_signal, text, wait_until, Daemon, Setup, TempDir};
use crate::link::Writer;
use crate::records::{self, Auth, Mail, Net};
use crate::screen::Terminal;

/// The client with what it takes of the environment.
fn client(servers: &[&str], args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovestat"));
    for server in servers {
        command.args(["-s", server]);
    }
    command.arg("top").args(args);
    command.env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
    command.env_remove("NO_COLOR");
    // What another one looked like at its end is not remembered.
    command.env("XDG_STATE_HOME", "/dev/null");
    command
}

/// `top` in a terminal of 24 rows and 80 columns, twice as fast as people want.
fn top(daemon: &Daemon, args: &[&str]) -> Terminal {
    let socket = daemon.socket();
    let mut command = client(&[&socket], &["-d", "0.2"]);
    Terminal::start(command.args(args), 24, 80)
}

/// Stats with so much disk input, and a hundredth of a second of processor time
/// for each byte.
fn disk(input: u64) -> String {
    let mail = Mail {
        times: [(0, input as i64 * 10), (0, 0), (0, 0)],
        disk: [input, 0],
        ..Mail::default()
    };
    mail.field()
}

/// Three users in two domains, bob the busiest, with two commands.
fn feed(daemon: &Daemon) {
    daemon.feed(&[
        records::connect("s1", "anna@example.org", "imap", 11, "10.0.0.1"),
        records::connect("s2", "bob@example.com", "imap", 12, "10.0.0.2"),
        records::connect("s3", "eve@example.com", "pop3", 13, "10.0.0.3"),
        records::update("s1", &disk(1000)),
        records::update("s2", &disk(9000)),
        records::update("s3", &disk(50)),
        records::command("s2", 1, "d", "SELECT", "INBOX", &disk(300)),
        records::command("s2", 2, "", "FETCH", "1:* (FLAGS)", &disk(700)),
    ]);
}

/// The names in the table, from its first row on.
fn names(screen: &str) -> Vec<String> {
    let rows = screen.lines().skip_while(|line| !line.contains("DISK "));
    let rows = rows.skip(1).take_while(|line| !line.trim().is_empty());
    let name = |line: &str| line[1..].split(' ').next().unwrap_or_default().to_owned();
    rows.map(name).collect()
}

#[test]
fn levels_drilling_and_coming_back() {
    let daemon = Daemon::start("top-levels");
    feed(&daemon);
    let mut top = top(&daemon, &[]);
    top.keys("t");
    let users = ["bob@example.com", "anna@example.org", "eve@example.com"];
    top.wait("users, the biggest first", |screen| names(screen) == users);
    top.wait_text("Sessions 3 ");
    top.keys("1");
    top.wait("domains", |s| names(s) == ["example.com", "example.org"]);
    top.keys("j");
    top.keys("\r");
    top.wait_text("example.org ›  2 Users");
    top.wait("its users", |s| names(s) == ["anna@example.org"]);
    top.keys("\x7f");
    top.wait("domains again", |s| {
        names(s) == ["example.com", "example.org"]
    });
    top.keys("g\r");
    top.wait_text("example.com ›  2 Users");
    top.wait_text("bob@");
    top.keys("\r");
    top.wait_text("bob@example.com ›  3 Sessions");
    top.wait_text("10.0.0.2");
    top.keys("\r");
    top.wait_text("s2 ›  4 Commands");
    // At the commands t has made rates of totals.
    top.keys("t");
    top.wait("commands", |s| names(s) == ["FETCH", "SELECT"]);
    top.wait_text("1:* (FLAGS)");
    top.keys("hhh");
    top.wait_text("2 rows");
    top.keys("\x1b[Z");
    top.wait_text("COMMAND");
    top.keys("\x1b[Z\x1b[Z");
    top.wait_text("SERVER");
    top.keys("\t\t\t");
    top.wait_text("DOMAIN");
    top.keys("\x1b[15~");
    top.wait_text("ADDRESS");
    top.wait_text("10.0.0.3");
    top.keys("q");
    assert!(top.wait_end().success());
    top.assert_restored();
}

#[test]
fn rates_are_right_and_never_negative() {
    let daemon = Daemon::start("top-rates");
    feed(&daemon);
    let mut top = top(&daemon, &["-l", "session", "cpu"]);
    top.wait_text("▼CPU%");
    top.wait("rates known", |s| s.contains("Commands 0/s"));
    daemon.feed(&[records::update("s3", &disk(200_050))]);
    // 200000 bytes in a window of one second, give or take a sample.
    let rate = |s: &str| {
        let line = s.lines().find(|line| line.contains("eve@"));
        let cells: Vec<&str> = line?.split_whitespace().collect();
        let bytes = cells.iter().find(|cell| cell.ends_with('k'))?;
        bytes.trim_end_matches('k').parse::<f64>().ok()
    };
    top.wait("eve's rate", |s| {
        rate(s).is_some_and(|kib| (140.0..230.0).contains(&kib))
    });
    top.wait("eve first", |s| {
        s.lines().nth(5).is_some_and(|l| l.contains("eve@"))
    });
    top.wait("and nothing later", |s| rate(s).is_none());
    daemon.client().reset();
    top.wait_text("Sessions 3 ");
    top.keys("t");
    top.wait_text("totals");
    top.keys("t");
    top.wait("no rate after the reset", |s| s.contains("Commands 0/s"));
    assert!(!top.text().contains("-0") && !top.text().contains("--"));
    daemon.feed(&[
        records::connect("s4", "new@example.com", "imap", 14, ""),
        records::disconnect("s1"),
    ]);
    top.wait("new and gone rows are marked", |s| {
        let has = |start| s.lines().any(|line: &str| line.starts_with(start));
        has("+new@example") && has("-anna@exampl")
    });
    top.wait("the gone row goes", |s| !s.contains("anna@"));
}

#[test]
fn searching_filtering_sorting_and_choosing() {
    let daemon = Daemon::start("top-find");
    feed(&daemon);
    let mut top = top(&daemon, &[]);
    top.keys("t");
    top.wait_text("bob@");
    top.keys("U");
    let users = ["anna@example.org", "bob@example.com", "eve@example.com"];
    top.wait("sorted by name", |s| s.contains("USER▼"));
    top.keys("D");
    top.keys("r");
    let smallest_first = ["eve@example.com", "anna@example.org", "bob@example.com"];
    top.wait("reversed", |s| {
        s.contains("▲DISK") && names(s) == smallest_first
    });
    top.keys("r/AN?A");
    top.wait_text("1 found");
    top.keys("\r");
    top.keys("\r");
    top.wait_text("anna@example.org ›  3 Sessions");
    top.keys("h\\*.com\r");
    top.wait("filtered by the server", |s| {
        s.contains("\\*.com") && names(s) == ["bob@example.com", "eve@example.com"]
    });
    top.keys("\\ ip=nonsense\r");
    top.wait_text("ip=nonsense: not an address");
    top.keys("\x1b");
    top.wait("not asked", |s| s.contains("q quit"));
    top.keys("h");
    top.wait("the filter dropped", |s| names(s).len() == users.len());
    top.keys("s");
    top.wait_text("Sort by");
    top.keys("jj\r");
    top.wait_text("▼CMDS");
    top.keys("c");
    top.wait_text("Columns");
    top.keys("Gk \x1b");
    top.wait_text("NETOUT");
    top.keys("?");
    top.wait_text("Help");
    top.keys("q");
    top.keys("i");
    top.wait_text("Details");
    top.wait_text("processor time");
    top.keys("qp");
    top.wait_text("PAUSED");
    top.keys("p-w");
    top.wait_text("every 0.5s");
    top.keys("a");
    top.wait_text("active only");
}

#[test]
fn every_size_has_its_screen() {
    let daemon = Daemon::start("top-size");
    feed(&daemon);
    let mut top = top(&daemon, &[]);
    top.keys("t");
    top.wait_text("bob@");
    top.resize(10, 40);
    top.wait("the small header", |s| {
        s.lines().nth(2).is_some_and(|l| l.starts_with(" USER")) && s.contains("bob@")
    });
    top.resize(50, 200);
    top.wait("the share of all", |s| {
        s.contains("SHARE") && s.contains("90% █")
    });
    for (rows, columns) in [(1, 1), (2, 5), (3, 300), (5, 20), (200, 12)] {
        top.resize(rows, columns);
        top.keys("?j");
        top.keys("q");
    }
    top.resize(24, 80);
    top.wait_text("6 all");
    top.wait_text("bob@");
}

#[test]
fn a_lost_server_is_shown_and_comes_back() {
    let daemon = Daemon::start("top-lost");
    feed(&daemon);
    let mut top = top(&daemon, &[]);
    top.wait_text("bob@");
    let dir = daemon.stop();
    top.wait_text("again");
    top.wait("its rows are marked", |s| s.contains("!bob@"));
    let daemon = Daemon::in_dir(dir, &Setup::new().option("state_dir="));
    daemon.feed(&[records::connect("s9", "zoe@example.com", "imap", 19, "")]);
    top.wait("the new rows", |s| {
        s.contains("zoe@") && !s.contains("again")
    });
    top.wait("the old ones go", |s| !s.contains("bob@"));
    drop(daemon);
    top.wait_text("✗");
    top.keys("q");
    assert!(top.wait_end().success());
    top.assert_restored();
}

#[test]
fn several_servers_add_up_and_a_dead_one_is_no_end() {
    let (one, two) = (Daemon::start("top-one"), Daemon::start("top-two"));
    feed(&one);
    feed(&two);
    let dir = TempDir::new("top-dead");
    let servers = [one.socket(), two.socket(), dir.at("dead")];
    let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
    let mut top = Terminal::start(&mut client(&servers, &["-d", "0.2"]), 40, 160);
    top.wait_text("2 of 3 servers");
    top.wait_text("Sessions 6 ");
    // The end of the line may be cut: paths of tests differ in length.
    top.wait_text("No such file");
    top.keys("6");
    top.wait("a row for each", |s| {
        let row = |name: &str| s.lines().any(|l| l.starts_with(&format!(" {name}")));
        row(servers[0]) && row(servers[1])
    });
}

#[test]
fn the_terminal_is_given_back_whatever_ends_it() {
    let daemon = Daemon::start("top-ends");
    feed(&daemon);
    type End = fn(&mut Terminal);
    let ends: [(&str, End); 6] = [
        ("q", |top| top.keys("q")),
        ("^C", |top| top.keys("\x03")),
        ("^\\", |top| top.keys("\x1c")),
        ("TERM", |top| send_signal(top.pid(), libc::SIGTERM)),
        ("HUP", |top| send_signal(top.pid(), libc::SIGHUP)),
        ("frames", |_| ()),
    ];
    for (name, end) in ends {
        let args: &[&str] = if name == "frames" { &["-n", "3"] } else { &[] };
        let mut top = top(&daemon, args);
        if name != "frames" {
            top.wait_text("bob@");
            assert!(top.is_raw() && top.is_full(), "{name}");
        }
        end(&mut top);
        assert_eq!(top.wait_end().code(), Some(0), "{name}");
        top.assert_restored();
    }
}

#[test]
fn stopped_and_continued_by_a_shell() {
    let daemon = Daemon::start("top-stop");
    feed(&daemon);
    // A shell with job control: top stops, a line is read, top goes on.
    let script = format!(
        "{} -s {} top -d 0.2; read line; fg >/dev/null",
        env!("CARGO_BIN_EXE_dovestat"),
        daemon.socket()
    );
    let mut shell = Command::new("sh");
    shell.args(["-m", "-c", &script]);
    shell.env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
    shell.env("XDG_STATE_HOME", "/dev/null");
    let mut shell = Terminal::start(&mut shell, 24, 80);
    shell.wait_text("bob@");
    shell.keys("\x1a");
    wait_until("top stopping", || !shell.is_full());
    shell.assert_restored();
    shell.keys("\n");
    shell.wait("it goes on", |s| s.contains("bob@") && s.contains("q quit"));
    assert!(shell.is_full() && shell.is_raw());
    shell.keys("q");
    shell.wait_end();
    shell.assert_restored();
}

#[test]
fn hostile_names_cannot_touch_the_terminal() {
    let mut tally = Tally::of(Class::Terminals);
    tally.tries(4);
    let daemon = Daemon::start("top-hostile");
    daemon.feed(&[
        records::connect("h1", "\x1b[2J\x1b]0;x\x07\u{9b}evil", "imap", 1, ""),
        records::connect("h2", "日本\u{202e}@例え.example", "imap", 2, ""),
        records::connect("h3", "", "\x1b[31m", 3, ""),
        [b"CONNECT\th4\t\xff\xfe\xc3\timap\t4".as_slice()].concat(),
    ]);
    let mut top = top(&daemon, &[]);
    top.wait_text("^[[2J^[]0;x^G");
    top.wait_text("日本<202e>@例え");
    top.wait_text("\\xff\\xfe\\xc3");
    top.wait_text("(none)");
    let rows: Vec<String> = top
        .text()
        .lines()
        .skip(5)
        .take(4)
        .map(str::to_owned)
        .collect();
    let title = top.row(4);
    assert!(title.contains("▼DISK"), "{title}");
    for key in ["3", "4", "i", "q", "2", "\r", "i"] {
        top.keys(key);
    }
    top.wait_text("Details");
    assert_eq!(rows.len(), 4);
    tally.survived();
}

#[test]
fn plain_terminals_are_served() {
    let daemon = Daemon::start("top-plain");
    feed(&daemon);
    let socket = daemon.socket();
    let mut command = client(&[&socket], &["-d", "0.2"]);
    command.env("NO_COLOR", "1").env("LC_ALL", "C");
    let mut top = Terminal::start(&mut command, 24, 80);
    top.wait_text("vDISK");
    top.wait_text("bob@");
    assert!(top.text().is_ascii() && !top.has_colors());
    let mut command = client(&[&socket], &["-d", "0.1", "-n", "2"]);
    let mut dumb = Terminal::start(command.env("TERM", "dumb"), 24, 80);
    assert!(dumb.wait_end().success());
    assert!(!dumb.is_full());
    assert!(dumb.text().contains("bob@"));
}

#[test]
fn our_columns_can_be_chosen_and_are_not_shown_before() {
    let daemon = Daemon::start("top-more");
    feed(&daemon);
    daemon.feed(&[
        records::update("s1", &Net([3 << 20, 5 << 10, 2_500_000]).field()),
        records::connect("s4", "anna@example.org", "imap", 14, "10.0.0.4"),
    ]);
    let mut top = top(&daemon, &["-l", "session", "NETIN"]);
    top.keys("t");
    top.wait("what clients sent", |s| {
        let row = s.lines().find(|line| line.contains("anna@example.org"));
        s.contains("▼NETIN") && row.is_some_and(|row| row.contains(" 3.00M "))
    });
    top.wait("nothing else of ours", |s| {
        !s.contains("NETOUT") && !s.contains("SINCE")
    });
    // The last column of the picker, and the one before.
    top.keys("cG k \x1b");
    top.wait("both chosen", |s| s.contains("SINCE") && s.contains("LOCK"));
    top.keys("2");
    // Of users the server counts the sessions.
    top.wait("two sessions", |s| {
        let row = s.lines().find(|line| line.contains("anna@example.org"));
        s.contains("SESS") && row.is_some_and(|row| row.contains(" 2 "))
    });
    top.keys("4");
    top.wait_text("FETCH");
    top.keys("i");
    top.wait("the service of a command", |s| {
        s.lines()
            .any(|line| line.contains("service") && line.contains("imap"))
    });
    top.keys("q");
    top.keys("q");
    assert!(top.wait_end().success());
}

#[test]
fn the_original_service_is_understood() {
    if !dovecot::available("top::the_original_service_is_understood") {
        return;
    }
    let original = Dovecot::original("top-original");
    let mut writer = Writer::open(&original.stats_fifo());
    let mail = Mail {
        times: [(0, 7442), (0, 0), (0, 0)],
        disk: [4096, 0],
        ..Mail::default()
    };
    for record in [
        records::connect("s1", "bob@example.com", "imap", 12, "10.0.0.2"),
        records::update("s1", &mail.field()),
        records::command("s1", 1, "", "FETCH", "1:*", &mail.field()),
    ] {
        writer.send_waiting(&record);
    }
    let mut command = client(&[&original.stats_socket()], &["-d", "0.2"]);
    let mut top = Terminal::start(&mut command, 24, 80);
    top.keys("t");
    // 7442 us, which the original prints as 0.7442.
    top.wait("its total", |s| {
        let row = s.lines().find(|line| line.contains("bob@example.com"));
        row.is_some_and(|row| row.contains(" 7.4ms ") && row.contains(" 4.00k "))
    });
    for (key, seen) in [
        ("1", " example.com "),
        ("5", " 10.0.0.2 "),
        ("3", " imap "),
        ("4", " FETCH "),
        ("6", "1 row"),
    ] {
        top.keys(key);
        top.wait_text(seen);
    }
    top.keys("2");
    top.wait_text("bob@example.com");
    top.keys("\r");
    top.wait_text("bob@example.com ›  3 Sessions");
    top.wait_text(" imap ");
    top.keys("q");
    assert!(top.wait_end().success());
    original.stop();
}

#[test]
fn begun_in_the_background_it_waits_for_its_turn() {
    let daemon = Daemon::start("top-background");
    feed(&daemon);
    let script = format!(
        "{} -s {} top -d 0.2 & echo pid=$! ; read line; fg >/dev/null",
        env!("CARGO_BIN_EXE_dovestat"),
        daemon.socket()
    );
    let mut shell = Command::new("sh");
    shell.args(["-m", "-c", &script]).env("TERM", "xterm");
    shell.env("XDG_STATE_HOME", "/dev/null");
    let mut shell = Terminal::start(&mut shell, 24, 80);
    shell.wait_text("pid=");
    // Started in the background it is stopped when it wants the terminal.
    shell.keys("\n");
    shell.wait_text("bob@");
    assert!(shell.is_full() && shell.is_raw());
    shell.keys("q");
    shell.wait_end();
    shell.assert_restored();
}

/// Frames of a client whose standard output is a pipe.
fn frames(servers: &[&str], args: &[&str]) -> Output {
    let mut command = client(servers, args);
    command.stdin(Stdio::null());
    command.output().expect("run dovestat")
}

#[test]
fn frames_of_text_for_scripts() {
    let daemon = Daemon::start("top-batch");
    feed(&daemon);
    daemon.feed(&[records::add_user(
        "bob@example.com",
        "auth",
        &Auth([3, 0, 1, 0, 0, 0]).field(),
    )]);
    let socket = daemon.socket();
    let run = |args: &[&str]| {
        let output = frames(&[&socket], &[&["-d", "0.1"], args].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let plain = run(&["-B", "-n", "2"]);
    assert_eq!(plain.matches("USER ").count(), 2, "{plain}");
    assert_eq!(plain.matches("\nbob@example.com ").count(), 2, "{plain}");
    assert_eq!(run(&["-n", "1"]).matches("\nbob@example.com ").count(), 1);
    let csv = run(&["-B", "-n", "2", "-f", "csv", "-l", "domain"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("time,host,domain,"), "{csv}");
    assert_eq!(lines.len(), 5, "one header, two frames of two rows: {csv}");
    let width = |line: &&str| line.split(',').count();
    assert!(lines.iter().all(|line| width(line) == width(&lines[0])));
    let ndjson = run(&["-B", "-n", "1", "-f", "ndjson", "-l", "command", "disk"]);
    assert_eq!(ndjson.lines().count(), 2, "{ndjson}");
    assert!(ndjson
        .lines()
        .next()
        .is_some_and(|l| l.contains("\"FETCH\"")));
    let json = run(&["-B", "-n", "2", "-f", "json"]);
    assert!(json
        .lines()
        .all(|l| l.starts_with("[{") && l.ends_with("}]")));
    assert_eq!(json.lines().count(), 2, "{json}");

    let none = frames(&["/nonexistent/stats"], &["-B"]);
    assert_eq!(none.status.code(), Some(75));
    assert!(text(&none.stderr).contains("/nonexistent/stats: "));
    let more = run(&["-B", "-n", "1", "-f", "csv", "-l", "session"]);
    let names: Vec<&str> = more.lines().next().expect("a header").split(',').collect();
    let ours = ["net_in_bytes", "net_out_bytes", "lock_wait", "connect_time"];
    assert!(names.ends_with(&ours), "{more}");

    let wrong = frames(&[&socket], &["-B", "nonsense"]);
    assert_eq!(wrong.status.code(), Some(64));
}
