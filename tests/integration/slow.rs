//! The slow log: a line for each command that took longer than the settings say. And what
//! real commands took, as it is seen from every side.

use std::fs;
use std::process::Command;

use crate::client::printed;
use crate::dovecot::{available, Dovecot, MAIL_USER};
use crate::harness::{free_port, program, wait_until, Daemon, Setup, TempDir};
use crate::http::with;
use crate::link::{micros, Client, Table, Writer};
use crate::mail::Imap;
use crate::receivers::{prometheus, queried};
use crate::records::{carry_on, command, connect, disconnect, seed, Mail, Random};

/// A command that took so many microseconds.
fn took(usecs: i64) -> String {
    let mut mail = Mail::sample();
    mail.times[2] = (usecs / 1_000_000, usecs % 1_000_000);
    mail.field()
}

/// The lines of slow commands, without what stands before them.
fn slow_lines(daemon: &Daemon) -> Vec<String> {
    let log = daemon.log();
    let lines = log
        .lines()
        .filter_map(|line| line.split_once("slow command: "));
    lines.map(|(_, line)| line.to_owned()).collect()
}

#[test]
fn commands_are_logged_when_they_are_over() {
    let daemon = Daemon::with(
        "slow-over",
        &with("old_stats_slow_command_time = 500 msecs"),
    );
    daemon.feed(&[
        connect("ab12", "alice@example.org", "imap", 1, "192.0.2.7"),
        command("ab12", 1, "", "FETCH", "1:* (FLAGS)", &took(6_204_000)),
        command("ab12", 2, "d", "NOOP", "", &took(500_000)),
    ]);
    let lines = slow_lines(&daemon);
    assert_eq!(
        lines.len(),
        1,
        "500 msecs are not longer than that: {lines:?}"
    );
    let (front, figures) = lines[0].split_once(" last_update=").expect("a time");
    assert_eq!(
        front,
        "imap FETCH 6.204 s: user=alice@example.org session=ab12 ip=192.0.2.7"
    );
    let (_, figures) = figures.split_once(' ').expect("figures");
    assert_eq!(
        figures,
        "user_cpu=1.000001 sys_cpu=2.000002 clock_time=6.204000 min_faults=4 maj_faults=5 \
         vol_cs=6 invol_cs=7 disk_input=8 disk_output=9 read_count=10 read_bytes=12 \
         write_count=11 write_bytes=13 mail_lookup_path=14 mail_lookup_attr=15 \
         mail_read_count=16 mail_read_bytes=17 mail_cache_hits=18"
    );
    // By its last record, by the end of its session, and not before.
    daemon.feed(&[command("ab12", 3, "", "UID SEARCH", "", &took(400_000))]);
    daemon.feed(&[carry_on("ab12", 3, "c", &took(700_000))]);
    assert_eq!(slow_lines(&daemon).len(), 1);
    daemon.feed(&[carry_on("ab12", 3, "cd", &took(800_000))]);
    assert!(slow_lines(&daemon)[1].starts_with("imap \"UID SEARCH\" 0.800 s: "));
    daemon.feed(&[
        command("ab12", 4, "", "LIST", "", &took(900_000)),
        disconnect("ab12"),
    ]);
    assert!(slow_lines(&daemon)[2].starts_with("imap LIST 0.900 s: "));
    assert!(!daemon.log().contains("FLAGS"), "arguments are private");
}

#[test]
fn arguments_are_logged_where_asked_and_hup_changes_all() {
    let setup = with("stats_slow_command_time = 1 secs\nstats_slow_command_args = yes");
    let daemon = Daemon::with("slow-args", &setup);
    let hang_up = |lines: &str, count: usize| {
        let config = with(lines).config(&daemon.dir);
        daemon.dir.write("dovestatd.conf", &config);
        daemon.signal(libc::SIGHUP);
        wait_until("the settings being read", || {
            daemon.log().matches("settings read again").count() == count
        });
    };
    let run = |number: u32, usecs: i64| {
        let args = "TEXT \"a\tb\"\u{1b}";
        daemon.feed(&[command("s1", number, "d", "SEARCH", args, &took(usecs))]);
    };
    daemon.feed(&[connect("s1", "joe", "imap", 1, "")]);
    run(1, 2_000_000);
    let lines = slow_lines(&daemon);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("imap SEARCH 2.000 s: user=joe session=s1 ip= last_update="));
    assert!(
        lines[0].ends_with(" args=\"TEXT \\\"a\\tb\\\"\\x1b\""),
        "{lines:?}"
    );
    hang_up("stats_slow_command_time = 1500 ms", 1);
    run(2, 1_500_000);
    run(3, 1_500_001);
    let lines = slow_lines(&daemon);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(!lines[1].contains("args="), "{lines:?}");
    hang_up("", 2);
    run(4, 100_000_000);
    assert_eq!(slow_lines(&daemon).len(), 2, "0 is none");
    hang_up("stats_slow_command_time = soon", 2);
    wait_until("the mistake being told", || {
        daemon.log().contains("the settings stay as they were")
    });
    let log = daemon.log();
    assert!(
        log.contains("stats_slow_command_time: \"soon\" is not a time"),
        "{log}"
    );
    assert!(!log.contains("restart"), "{log}");
}

#[test]
fn a_storm_of_them_costs_so_many_lines_and_is_counted() {
    let daemon = Daemon::with("slow-storm", &with("stats_slow_command_time = 1 ms"));
    daemon.feed(&[connect("s1", "joe", "imap", 1, "")]);
    let time = took(1001);
    let records: Vec<_> = (1..=2000)
        .map(|n| command("s1", n, "d", "NOOP", "", &time))
        .collect();
    daemon.feed(&records);
    let dir = daemon.stop();
    let log = fs::read_to_string(dir.at("log")).expect("the log");
    let lines = log.matches("slow command: imap NOOP 0.001 s: ").count();
    assert_eq!(lines, 100, "{log}");
    let rest = log.lines().find_map(|line| {
        let (front, _) = line.split_once(" more slow commands in the last 60 secs")?;
        front.rsplit(' ').next()?.parse::<usize>().ok()
    });
    assert_eq!(rest, Some(1900), "{log}");
}

#[test]
fn dovecots_log_process_writes_them() {
    if !available("dovecots_log_process_writes_them") {
        return;
    }
    let program = program();
    let service = format!(
        "service old-stats {{\n  executable = {program} -o stats_slow_command_time=1secs\n}}\n"
    );
    let dovecot = Dovecot::service(TempDir::new("slow-master"), &service);
    let answers = |mut client: Client| client.try_export("global").is_some();
    wait_until("the service answering", || {
        Client::try_unix(&dovecot.stats_socket()).is_some_and(answers)
    });
    let mut writer = Writer::open(&dovecot.stats_fifo());
    writer.send_waiting(&connect("s1", "joe@example.org", "imap", 1, ""));
    writer.send_waiting(&command("s1", 1, "d", "FETCH", "", &took(2_000_000)));
    wait_until("the line", || {
        let log = dovecot.log();
        log.contains("Info: slow command: imap FETCH 2.000 s: user=joe@example.org session=s1 ")
    });
}

/// The bucket of a time by its bounds, which are in microseconds.
fn bucket(bounds: &[u64], usecs: f64) -> usize {
    bounds.partition_point(|&bound| (bound as f64) < usecs)
}

/// The times in microseconds of commands of a name that are over, in order.
fn raw(table: &Table, name: &str) -> Vec<u64> {
    let [cmd, over, clock] = ["cmd", "over", "clock_time"].map(|column| table.column(column));
    let meant = |row: &&Vec<String>| row[cmd] == name && row[over] == "1";
    let mut times: Vec<u64> = table
        .rows
        .iter()
        .filter(meant)
        .map(|row| micros(&row[clock]).expect("a time"))
        .collect();
    times.sort_unstable();
    times
}

/// A mailbox of many messages, as if they had been delivered.
fn fill_mailbox(dovecot: &Dovecot, user: &str, count: usize) {
    let inbox = dovecot.dir.at(&format!("mail/example.org/{user}"));
    for name in ["cur", "new", "tmp"] {
        fs::create_dir_all(format!("{inbox}/{name}")).expect("mkdir a mailbox");
    }
    let body = "Words and more words, and none that is sought.\r\n".repeat(80);
    for n in 0..count {
        let text = format!("From: a@example.org\r\nSubject: number {n}\r\n\r\n{body}");
        fs::write(
            format!("{inbox}/cur/{}.M{n}.mx:2,S", 1_600_000_000 + n),
            text,
        )
        .expect("write a message");
    }
    let mail = dovecot.dir.at("mail");
    let status = Command::new("chown")
        .args(["-R", MAIL_USER, &mail])
        .status();
    assert!(status.expect("run chown").success());
}

/// The time in a column of a command's row, in milliseconds, as `top` shows it.
fn millis_in_frame(frame: &str, name: &str, column: &str) -> f64 {
    let mut rows = frame.lines().map(|line| line.split_whitespace());
    let mut header = rows
        .find(|row| row.clone().next() == Some("SERVICE"))
        .expect("a header");
    let place = header.position(|title| title == column).expect(column);
    let mut row = rows
        .find(|row| row.clone().nth(1) == Some(name))
        .expect(name);
    let text = row.nth(place).expect("a time");
    let (number, scale) = match text.strip_suffix("ms") {
        Some(number) => (number, 1.0),
        None => (text.strip_suffix('s').expect(text), 1000.0),
    };
    number.parse::<f64>().expect(text) * scale
}

#[test]
fn real_commands_take_as_long_from_every_side() {
    let test = "real_commands_take_as_long_from_every_side";
    if !available(test) {
        return;
    }
    let (http, api) = (free_port(), free_port());
    let setup = Setup::new()
        .service(&format!(
            "fifo_listener stats-mail {{\nuser = {MAIL_USER}\nmode = 0200\n}}"
        ))
        .inet(http, "protocol = http")
        .option("stats_slow_command_time=20 ms")
        .option("stats_slow_command_args=yes");
    let daemon = Daemon::with("slow-real", &setup);
    let dovecot = Dovecot::mail(TempDir::new("slow-real-dovecot"), &daemon.fifo());
    fill_mailbox(&dovecot, "large", 4000);
    fill_mailbox(&dovecot, "small", 300);
    let mut random = Random::new(seed(test, 26));
    for round in 0..6 {
        let mut imap = Imap::login(dovecot.imap, "small@example.org");
        imap.ok("SELECT INBOX");
        for _ in 0..40 {
            let from = 1 + random.below(250);
            let to = from + random.below(50);
            match random.below(5) {
                0 => imap.ok(&format!("SEARCH {from}:{to} TEXT \"sought\"")),
                1 => imap.ok("SEARCH SUBJECT \"number 7\""),
                2 => imap.ok(&format!("FETCH {from}:{to} (FLAGS)")),
                3 => imap.ok(&format!("FETCH {from} BODY.PEEK[]")),
                _ => imap.ok(&format!("FETCH {from}:{to} (ENVELOPE RFC822.SIZE)")),
            }
        }
        if round == 3 {
            let mut large = Imap::login(dovecot.imap, "large@example.org");
            large.ok("SELECT INBOX");
            large.ok("SEARCH TEXT \"nowhere to be found\"");
            large.logout();
        }
        imap.logout();
    }
    let ended = |daemon: &Daemon| {
        let table = daemon.client().export("session");
        table.rows.len() == 7 && table.values("connected").iter().all(|value| *value == "0")
    };
    wait_until("the end of all sessions", || ended(&daemon));
    // A SEARCH over a large mailbox is in the slow log.
    let lines = slow_lines(&daemon);
    let is_meant = |line: &&String| {
        line.starts_with("imap SEARCH ") && line.contains(" user=large@example.org ")
    };
    let found = lines.iter().find(is_meant);
    let line = found.unwrap_or_else(|| panic!("no SEARCH in {lines:?}"));
    assert!(line.contains(" ip=127.0.0.1 "), "{line}");
    assert!(line.contains("nowhere to be found"), "{line}");
    println!("{line}");

    let commands = daemon.client().export("command\tmore");
    let global = daemon.client().export("global");
    assert_eq!(
        commands.rows.len() as u64,
        global.only().num("num_cmds"),
        "all are kept"
    );
    let cmds = daemon.client().export("cmd\thistogram");
    let bounds = dovestat::store::BOUNDS_USECS;
    let shown: Vec<u64> = (0..bounds.len())
        .filter(|n| [0, 4, 7].contains(&(n % 10)))
        .map(|n| bounds[n])
        .collect();
    let mut times = Vec::new();
    for name in ["FETCH", "SEARCH"] {
        let raw = raw(&commands, name);
        assert!(raw.len() > 50, "{name}: {}", raw.len());
        let row = cmds.row("cmd", name);
        let counted = row
            .get("time_histogram")
            .split(',')
            .map(|count| count.parse::<usize>());
        let counted: usize = counted.map(|count| count.expect("a number")).sum();
        assert_eq!(counted, raw.len(), "{name}: each once");
        assert_eq!(row.micros("time_max"), raw[raw.len() - 1]);
        for percent in [50, 90, 99] {
            let usecs = raw[(raw.len() * percent).div_ceil(100) - 1];
            let exported = row.micros(&format!("time_p{percent}"));
            println!("{name} p{percent}: {usecs} us, exported {exported} us");
            assert_eq!(
                bucket(&bounds, exported as f64),
                bucket(&bounds, usecs as f64)
            );
            assert!((usecs..=usecs.max(100) * 128 / 100).contains(&exported));
            times.push((name, percent, usecs, raw.len()));
        }
    }
    let socket = daemon.socket();
    let frame = printed(&["-s", &socket, "top", "-B", "-n", "1", "-l", "cmd"]);
    for &(name, percent, ..) in &times {
        let exported = cmds.row("cmd", name).micros(&format!("time_p{percent}"));
        let in_top = millis_in_frame(&frame, name, &format!("P{percent}")) * 1000.0;
        let difference = (in_top - exported as f64).abs();
        let rounding = f64::max(50.0, exported as f64 / 20.0);
        assert!(
            difference <= rounding,
            "{name} p{percent}: {exported}\n{frame}"
        );
    }
    let slow = printed(&["-s", &socket, "slow", "cmd=SEARCH", "user=large*"]);
    let is_listed = ["large@example.org", " SEARCH ", "nowhere to be found"];
    assert!(is_listed.iter().all(|text| slow.contains(text)), "{slow}");
    println!("{frame}\n{slow}");

    let dir = TempDir::new("slow-prometheus");
    let Some(_prometheus) = prometheus(test, &dir, http, api) else {
        return;
    };
    for (name, percent, usecs, count) in times {
        let duration = "dovestat_cmd_duration_seconds";
        let seen = queried(api, &format!("{duration}_count{{cmd='{name}'}}"));
        assert_eq!(seen, Some(count.to_string()), "{name}");
        let quantile = f64::from(percent as u32) / 100.0;
        let query = format!("histogram_quantile({quantile}, {duration}_bucket{{cmd='{name}'}})");
        let secs: f64 = queried(api, &query)
            .expect(&query)
            .parse()
            .expect("a number");
        println!("{name} p{percent} in Prometheus: {:.0} us", secs * 1e6);
        assert_eq!(
            bucket(&shown, secs * 1e6 - 1e-6),
            bucket(&shown, usecs as f64),
            "{query} = {secs}"
        );
    }
}
