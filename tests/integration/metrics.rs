//! Metrics: what is told, under which names, in both formats.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::harness::{lacking, text, wait_until, Daemon, Setup};
use crate::http::{ask, client, daemon, fill, get, names, with, ALL_LEVELS};
use crate::records::{base64, connect, update, Mail, Net};
use crate::requests::populate;

#[test]
fn numbers_are_those_of_export() {
    let (daemon, port) = daemon("metricsnumbers", with(ALL_LEVELS), "");
    populate(&daemon);
    let items = [Mail::sample().item(), Net([3, 4, 5]).item()].concat();
    daemon.feed(&[update("s1", &base64(&items))]);
    let answer = get(port);
    let samples = answer.samples();
    let mut compared = 0;
    for level in ["global", "domain", "user", "ip", "service", "cmd"] {
        let table = daemon.client().export(&format!("{level}\tmore"));
        for row in &table.rows {
            for (name, value) in table.names.iter().zip(row) {
                let stem = match name.as_str() {
                    key if key == level => continue,
                    time if time.starts_with("time_") => continue,
                    "service" => continue,
                    "reset_timestamp" | "last_update" if level == "cmd" => continue,
                    "num_logins" => "logins_total".to_string(),
                    "num_cmds" => "cmds_total".to_string(),
                    "num_connected_sessions" => "connected_sessions".to_string(),
                    "reset_timestamp" => "reset_timestamp_seconds".to_string(),
                    "last_update" => "last_update_timestamp_seconds".to_string(),
                    "user_cpu" | "sys_cpu" | "clock_time" | "lock_wait" => {
                        format!("{name}_seconds_total")
                    }
                    "disk_input" | "disk_output" => format!("{name}_bytes_total"),
                    name => format!("{name}_total"),
                };
                let label = match level {
                    "global" => String::new(),
                    "cmd" => format!("{{service=\"{}\",cmd=\"{}\"}}", row[0], row[1]),
                    level => format!("{{{level}=\"{}\"}}", row[0]),
                };
                let sample = format!("dovestat_{level}_{stem}{label}");
                assert_eq!(
                    samples.get(sample.as_str()),
                    Some(&value.as_str()),
                    "{sample}"
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 32 * (1 + 3 + 3 + 4 + 3) + 28 * 2, "all of them");
    assert_eq!(samples["dovestat_global_net_in_bytes_total"], "3");
    assert_eq!(
        samples["dovestat_global_lock_wait_seconds_total"],
        "0.000005"
    );
}

#[test]
fn the_daemon_tells_about_itself() {
    let setup = Setup::new().option("stats_memory_limit=256K");
    let (daemon, port) = daemon("metricshealth", setup, "");
    let records = [
        b"NONSENSE".to_vec(),
        b"CONNECT\tonly-an-id".to_vec(),
        b"DISCONNECT\tnobody".to_vec(),
        connect("s1", "u@d", "imap", 1, ""),
    ];
    daemon.feed(&records);
    let answer = get(port);
    let samples = answer.samples();
    let sent: usize = records.iter().map(|record| record.len() + 1).sum();
    for (sample, value) in [
        ("dovestat_fifo_records_total{fifo=\"stats-mail\"}", "4"),
        ("dovestat_fifo_records_total{fifo=\"stats-user\"}", "0"),
        (
            "dovestat_fifo_read_bytes_total{fifo=\"stats-mail\"}",
            &sent.to_string(),
        ),
        ("dovestat_faults_total{reason=\"unknown_kind\"}", "1"),
        ("dovestat_faults_total{reason=\"missing_field\"}", "1"),
        ("dovestat_faults_total{reason=\"unknown_session\"}", "1"),
        ("dovestat_faults_total{reason=\"bad_base64\"}", "0"),
        ("dovestat_entries{level=\"session\"}", "1"),
        ("dovestat_evictions_total{level=\"user\"}", "0"),
        ("dovestat_memory_limit_bytes", "262144"),
        ("dovestat_build_info{version=\"0.1.0\"}", "1"),
    ] {
        assert_eq!(samples.get(sample), Some(&value), "{sample}");
    }
    let number = |sample: &str| samples[sample].parse::<u64>().expect("a number");
    let used = number("dovestat_memory_used_bytes");
    assert!((1..262_144).contains(&used));
    assert!((used..=262_144).contains(&number("dovestat_memory_resident_bytes")));
    assert!((1..used).contains(&number("dovestat_memory_lost_bytes")));
    assert!(number("dovestat_connected_clients") >= 1);
    let start = number("process_start_time_seconds");
    assert_eq!(
        samples["dovestat_global_reset_timestamp_seconds"],
        start.to_string()
    );
    // It makes room when it has to, and tells.
    let mut writer = daemon.writer();
    for n in 0..3000 {
        writer.send_waiting(format!("ADD-USER\tuser{n}@d\timap\t").as_bytes());
    }
    daemon.settle(&writer);
    let answer = get(port);
    let evicted = answer.samples()["dovestat_evictions_total{level=\"user\"}"];
    assert!(evicted.parse::<u64>().expect("a number") > 0);
}

#[test]
fn reset_shows_as_a_new_beginning() {
    let (daemon, port) = daemon("metricsreset", Setup::new(), "");
    populate(&daemon);
    let before = get(port);
    wait_until("a later second", || {
        daemon.client().reset();
        let after = get(port);
        let began = "dovestat_global_reset_timestamp_seconds";
        assert_eq!(after.samples()["dovestat_global_logins_total"], "0");
        after.samples()[began] > before.samples()[began]
    });
    assert_eq!(before.samples()["dovestat_global_logins_total"], "4");
}

#[test]
fn only_the_biggest_of_a_level_are_told() {
    let lines = "stats_metrics_levels = user domain\nstats_metrics_limit = 3";
    let (daemon, port) = daemon("metricslimit", with(lines), "");
    fill(&daemon, 3000);
    let answer = get(port);
    let samples = answer.samples();
    for level in ["user", "domain"] {
        let prefix = format!("dovestat_{level}_logins_total{{");
        let found: Vec<_> = samples
            .keys()
            .filter(|name| name.starts_with(&prefix))
            .collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().all(|name| name.contains("299")), "{found:?}");
    }
    assert!(answer.body.len() < 60_000, "{} bytes", answer.body.len());
    let lines = "stats_metrics_levels = ip";
    let setup = with(lines);
    let config = setup.inet(port, "protocol = http").config(&daemon.dir);
    daemon.dir.write("dovestatd.conf", &config);
    daemon.signal(libc::SIGHUP);
    wait_until("the settings being read", || {
        daemon.log().contains("settings read again")
    });
    assert!(!daemon.log().contains("restart"), "{}", daemon.log());
    assert!(
        !get(port).body.contains("dovestat_user_"),
        "HUP takes levels over"
    );
}

/// Names as nobody should have them, all different.
const HOSTILE: [&[u8]; 12] = [
    b"quote\"d",
    b"back\\slash",
    b"back\\\\slash",
    b"\\x41",
    b"line\nbreak",
    b"line\\nbreak",
    b"tab\there",
    b"nul\0",
    b"\xff\xfe",
    b"\\xff\\xfe",
    b"{user=\"x\"} 1",
    "\u{e4}\u{85}\u{202e}".as_bytes(),
];

/// Gives a daemon users with these names.
fn add_hostile(daemon: &Daemon) {
    let mut writer = daemon.writer();
    for name in HOSTILE {
        let mut record = b"ADD-USER\t".to_vec();
        for &byte in name {
            match byte {
                0 => record.extend(b"\x010"),
                b'\t' => record.extend(b"\x01t"),
                b'\n' => record.extend(b"\x01n"),
                byte => record.push(byte),
            }
        }
        record.extend(b"\timap\t");
        writer.send_waiting(&record);
    }
    daemon.settle(&writer);
}

#[test]
fn hostile_names_are_labels_of_their_own() {
    let (daemon, port) = daemon("metricshostile", with("stats_metrics_levels = user"), "");
    add_hostile(&daemon);
    let answer = get(port);
    let samples = answer.samples();
    let users: Vec<_> = samples
        .keys()
        .filter(|name| name.starts_with("dovestat_user_logins_total{"))
        .collect();
    assert_eq!(users.len(), HOSTILE.len(), "{users:?}");
    let is_plain = |c: char| !c.is_control() || c == '\n';
    assert!(answer.body.chars().all(is_plain), "{}", answer.body);
}

/// What promtool has to say.
fn promtool(body: &str) -> Option<String> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(body.as_bytes()).expect("to be read");
    drop(stdin);
    let output = child.wait_with_output().expect("its end");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{said}");
    Some(said)
}

#[test]
fn promtool_finds_nothing_to_say() {
    let (daemon, port) = daemon("promtool", with(ALL_LEVELS), "");
    for is_busy in [false, true] {
        if is_busy {
            populate(&daemon);
            add_hostile(&daemon);
            fill(&daemon, 50);
        }
        let Some(said) = promtool(&get(port).body) else {
            return lacking("promtool_finds_nothing_to_say", "promtool");
        };
        assert_eq!(said, "", "busy: {is_busy}");
    }
}

#[test]
fn openmetrics_is_sent_to_who_asks_for_it() {
    let (daemon, port) = daemon("openmetrics", with(ALL_LEVELS), "");
    populate(&daemon);
    let request = "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0,\
                   text/plain;q=0.5\r\n\r\n";
    let answer = ask(&mut client(port), request);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.field("content-type"), Some(kind));
    assert!(answer.body.ends_with("\n# EOF\n"), "{}", answer.body);
    assert_eq!(answer.body.matches("# EOF").count(), 1);
    for line in [
        "# TYPE dovestat_global_user_cpu_seconds counter",
        "# UNIT dovestat_global_user_cpu_seconds seconds",
        "# TYPE dovestat_build info",
        "dovestat_build_info{version=\"0.1.0\"} 1",
        "dovestat_global_logins_total 4",
    ] {
        assert!(answer.body.lines().any(|known| known == line), "{line}");
    }
    let plain = get(port);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(plain.field("content-type"), Some(kind));
    assert!(!plain.body.contains("# EOF") && !plain.body.contains("# UNIT"));
    assert_eq!(names(&plain), names(&answer), "the same samples");
}
