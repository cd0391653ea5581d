//! Metrics over HTTP: every way to ask and to be refused, what is told, and what
//! bad clients cost.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{free_port, holds_within, lacking, text, wait_until, Daemon, Setup};
use crate::http::{self, answer, ask, client, daemon, get, Answer, GET};
use crate::link::{latin1, Client};
use crate::records::{connect, seed, update, Mail, Random};
use crate::requests::populate;

/// All that there may be beside the global level.
const ALL_LEVELS: &str = "stats_metrics_levels = domain user ip";

/// A setup with lines outside sections.
fn with(lines: &str) -> Setup {
    let mut setup = Setup::new();
    setup.lines.push(lines.to_string());
    setup
}

/// Connects `count` users of a domain each; later ones used more.
fn fill(daemon: &Daemon, count: usize) {
    let mut writer = daemon.writer();
    for n in 0..count {
        let mut mail = Mail::sample();
        mail.times[0] = (n as i64, 0);
        let id = format!("fill{n}");
        let user = format!("user{n}@domain{n}.example");
        writer.send_waiting(&connect(&id, &user, "imap", 1, ""));
        writer.send_waiting(&update(&id, &mail.field()));
    }
    daemon.settle(&writer);
}

/// The names and labels of all samples.
fn names(answer: &Answer) -> Vec<&str> {
    answer.samples().into_keys().collect()
}

#[test]
fn every_request_has_its_status() {
    let (daemon, port) = daemon("status", Setup::new(), "");
    let long_line = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(4096));
    let long_head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(8192));
    for (request, status, stays_open) in [
        (GET, 200, true),
        ("GET /metrics?name[]=x HTTP/1.1\r\n\r\n", 200, true),
        ("GET http://x:9/metrics HTTP/1.1\r\n\r\n", 200, true),
        ("\r\nGET /metrics HTTP/1.1\nhOST:x\n\n", 200, true),
        (
            "GET /metrics HTTP/1.1\r\nConnection: Close\r\n\r\n",
            200,
            false,
        ),
        ("GET /metrics HTTP/1.0\r\n\r\n", 200, false),
        (
            "GET /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            200,
            true,
        ),
        ("HEAD /metrics HTTP/1.1\r\n\r\n", 200, true),
        ("HEAD /metrics HTTP/1.0\r\n\r\n", 200, false),
        ("GET / HTTP/1.1\r\n\r\n", 200, true),
        ("HEAD / HTTP/1.1\r\n\r\n", 200, true),
        ("GET /metrics/ HTTP/1.1\r\n\r\n", 404, true),
        ("HEAD /favicon.ico HTTP/1.1\r\n\r\n", 404, true),
        ("POST /x HTTP/1.0\r\n\r\n", 404, false),
        ("OPTIONS * HTTP/1.1\r\n\r\n", 404, true),
        ("POST /metrics HTTP/1.1\r\n\r\n", 405, true),
        ("DELETE / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405, true),
        (
            "PUT /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            405,
            false,
        ),
        (
            "GET /metrics HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
            413,
            false,
        ),
        (
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            413,
            false,
        ),
        ("GET /metrics\r\n", 400, false),
        ("EXPORT\tglobal\n", 400, false),
        ("RESET\n", 400, false),
        ("GET / HTTP/1.1\r\n folded\r\n\r\n", 400, false),
        ("\x16\x03\x01", 400, false),
        (&long_line, 414, false),
        (&long_head, 431, false),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, false),
    ] {
        let mut client = client(port);
        let answer = ask(&mut client, request);
        let shown = &request[..request.len().min(60)];
        assert_eq!(answer.status, status, "{shown:?}");
        assert_eq!(answer.stays_open(), stays_open, "{shown:?}");
        let allow = (status == 405).then_some("GET, HEAD");
        assert_eq!(answer.field("allow"), allow, "{shown:?}");
        match stays_open {
            true => assert_eq!(ask(&mut client, GET).status, 200, "{shown:?}"),
            false => assert_eq!(latin1(&client.rest()), "", "{shown:?}"),
        }
    }
    let answer = get(port);
    let samples = answer.samples();
    assert_eq!(
        samples["dovestat_faults_total{reason=\"http_refused\"}"],
        "8"
    );
    assert!(
        daemon.log().contains("400 Bad Request: \"RESET\""),
        "{}",
        daemon.log()
    );
}

#[test]
fn bytes_may_come_one_by_one() {
    let (_daemon, port) = daemon("bytewise", Setup::new(), "");
    let mut client = client(port);
    for byte in GET.bytes() {
        client.send([byte]);
    }
    assert_eq!(answer(&mut client, false).status, 200);
}

#[test]
fn a_connection_is_asked_a_thousand_times() {
    let (daemon, port) = daemon("metricsmany", Setup::new(), "");
    populate(&daemon);
    let mut client = client(port);
    for round in 0..1000 {
        let answer = ask(&mut client, GET);
        assert_eq!(
            answer.samples()["dovestat_global_logins_total"],
            "4",
            "{round}"
        );
    }
    let mut polite = http::client(port);
    let request = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    for _ in 0..100 {
        assert!(ask(&mut polite, request).stays_open());
    }
}

#[test]
fn requests_may_be_pipelined() {
    let (daemon, port) = daemon("metricspipe", with(ALL_LEVELS), "");
    fill(&daemon, 60);
    let mut client = client(port);
    client.send(GET.repeat(50) + "GET /x HTTP/1.1\r\n\r\n" + GET);
    client.half_close();
    for _ in 0..50 {
        assert_eq!(answer(&mut client, false).status, 200);
    }
    assert_eq!(answer(&mut client, false).status, 404);
    assert_eq!(answer(&mut client, false).status, 200);
    assert_eq!(latin1(&client.rest()), "", "then it is closed");
}

#[test]
fn close_after_reply_closes() {
    let (_daemon, port) = daemon("metricsclose", Setup::new(), "close_after_reply = yes");
    let mut client = client(port);
    assert!(!ask(&mut client, GET).stays_open());
    client.assert_closed("behind the first answer");
}

#[test]
fn a_unix_listener_may_speak_http() {
    let daemon = Daemon::with(
        "metricsunix",
        &Setup::new().service("unix_listener metrics {\nprotocol = http\n}"),
    );
    let mut client = Client::unix(&daemon.dir.at("run/metrics"));
    assert_eq!(ask(&mut client, GET).status, 200);
}

#[test]
fn long_answers_come_in_chunks_or_end_by_closing() {
    let (daemon, port) = daemon("metricslong", with(ALL_LEVELS), "");
    fill(&daemon, 100);
    let chunked = get(port);
    assert_eq!(chunked.field("transfer-encoding"), Some("chunked"));
    assert_eq!(chunked.field("content-length"), None);
    let old = "GET /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let closed = ask(&mut client(port), old);
    assert!(!closed.stays_open());
    assert_eq!(closed.field("transfer-encoding"), None);
    assert_eq!(names(&chunked), names(&closed));
    let names = names(&chunked);
    let users = names
        .iter()
        .filter(|name| name.starts_with("dovestat_user_logins_total{"));
    assert_eq!(users.count(), 100);
    // What fits a slice has a length.
    let (_small, port) = http::daemon("metricsshort", Setup::new(), "");
    let answer = get(port);
    let length = answer.body.len().to_string();
    assert_eq!(answer.field("content-length"), Some(length.as_str()));
}

#[test]
fn a_small_answer_is_one_write_however_far_its_walk_goes() {
    let lines = "stats_metrics_levels = domain\nstats_metrics_limit = 1";
    let (daemon, port) = daemon("metricsonewrite", with(lines), "");
    // To find the biggest of them takes several turns of the loop.
    fill(&daemon, 5000);
    let mut client = client(port);
    for _ in 0..10 {
        client.send(GET);
        let whole = latin1(&client.read_some().expect("an answer"));
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\n"), "{whole}");
        assert!(whole.contains("\r\nContent-Length: "), "{whole}");
        assert!(
            whole.contains("{domain=\"domain4999.example\"} 1\n"),
            "{whole}"
        );
        assert!(whole.contains("\ndovestat_connected_clients "), "{whole}");
    }
}

#[test]
fn numbers_are_those_of_export() {
    let (daemon, port) = daemon("metricsnumbers", with(ALL_LEVELS), "");
    populate(&daemon);
    daemon.feed(&[update("s1", &Mail::sample().field())]);
    let answer = get(port);
    let samples = answer.samples();
    let mut compared = 0;
    for level in ["global", "domain", "user", "ip"] {
        let table = daemon.client().export(level);
        for row in &table.rows {
            for (name, value) in table.names.iter().zip(row) {
                let stem = match name.as_str() {
                    key if key == level => continue,
                    "num_logins" => "logins_total".to_string(),
                    "num_cmds" => "cmds_total".to_string(),
                    "num_connected_sessions" => "connected_sessions".to_string(),
                    "reset_timestamp" => "reset_timestamp_seconds".to_string(),
                    "last_update" => "last_update_timestamp_seconds".to_string(),
                    "user_cpu" | "sys_cpu" | "clock_time" => format!("{name}_seconds_total"),
                    "disk_input" | "disk_output" => format!("{name}_bytes_total"),
                    name => format!("{name}_total"),
                };
                let label = match level {
                    "global" => String::new(),
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
    assert_eq!(compared, 29 * (1 + 3 + 3) + 28 * 4, "all of them");
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
    assert!((1..262_144).contains(&number("dovestat_memory_used_bytes")));
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

#[test]
fn a_slow_reader_pins_nothing_and_gets_an_end() {
    let lines = "stats_metrics_levels = user\nstats_metrics_limit = 10000\n\
                 stats_memory_limit = 1M\nstats_user_min_time = 1 s";
    let (daemon, port) = daemon("metricsslow", with(lines), "");
    let add = |from: usize, to: usize| {
        let mut writer = daemon.writer();
        for n in from..to {
            writer.send_waiting(format!("ADD-USER\tuser{n}@example.org\timap\t").as_bytes());
        }
        daemon.settle(&writer);
    };
    add(0, 3000);
    let before = daemon.rss_bytes();
    let mut slow = client(port);
    slow.send(GET);
    slow.bytes(1000);
    daemon.client().reset();
    // Every user of then is freed, and more memory is not used.
    add(3000, 20_000);
    let evicted = daemon.client().export("user\tuser=user17@example.org");
    assert!(evicted.rows.is_empty(), "user17 is gone");
    let grown = daemon.rss_bytes().saturating_sub(before);
    assert!(grown < 2 << 20, "{grown} bytes");
    slow.send("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
    let rest = latin1(&slow.rest());
    let (metrics, index) = rest.split_once("\r\n0\r\n\r\n").expect("the last chunk");
    assert!(metrics.contains("dovestat_connected_clients "), "its end");
    assert!(index.starts_with("HTTP/1.1 200 OK\r\n"), "{index}");
}

#[test]
fn deaf_clients_cost_little_and_hurt_nobody() {
    let (mut daemon, port) = daemon("metricsdeaf", with(ALL_LEVELS), "");
    fill(&daemon, 500);
    let before = daemon.rss_bytes();
    let mut deaf: Vec<Client> = (0..20).map(|_| client(port)).collect();
    for client in &mut deaf {
        client.send_while_taken(GET.repeat(2000).as_bytes(), Duration::from_millis(100));
    }
    assert_eq!(get(port).status, 200, "others are served");
    daemon.feed(&[connect("beside", "u", "imap", 1, "")]);
    // The kernel takes some MB for each; then it is quiet.
    wait_until("the daemon coming to rest", || {
        let used = daemon.cpu();
        let _ = holds_within(Duration::from_millis(300), || false);
        daemon.cpu() == used
    });
    let grown = daemon.rss_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "20 deaf clients cost {grown} bytes");
    drop(deaf);
    daemon.assert_alive();
}

#[test]
fn noise_is_survived() {
    let (mut daemon, port) = daemon("metricsnoise", with(ALL_LEVELS), "");
    fill(&daemon, 50);
    let mut random = Random::new(seed("noise_is_survived", 5));
    for _ in 0..300 {
        let mut bytes = GET.repeat(random.index(4)).into_bytes();
        for _ in 0..random.index(20) {
            let at = random.index(bytes.len() + 1);
            bytes.insert(at, random.next() as u8);
        }
        bytes.truncate(random.index(bytes.len() + 1));
        let mut client = client(port);
        client.send_while_taken(&bytes, Duration::from_millis(50));
        if random.one_in(2) {
            client.half_close();
            let rest = latin1(&client.rest());
            assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 "), "{rest}");
        }
    }
    assert_eq!(get(port).status, 200);
    daemon.assert_alive();
}

#[test]
fn scrapes_starve_nobody() {
    let lines = "stats_metrics_levels = domain user\nstats_metrics_limit = 10000";
    let (daemon, port) = daemon("metricsflood", with(lines), "");
    fill(&daemon, 2000);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = client(port);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_eq!(ask(&mut client, GET).status, 200);
                }
            });
        }
        // New connections of both kinds are accepted and answered all the while.
        let mut asked = 0;
        for _ in 0..20 {
            asked += daemon.client().export("global").rows.len();
            let mut other = client(port);
            asked += usize::from(ask(&mut other, "GET / HTTP/1.1\r\n\r\n").status == 200);
        }
        daemon.feed(&[connect("beside", "u", "imap", 1, "")]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(asked, 40);
    });
}

#[test]
fn requests_that_never_end_do_not_keep_others_out() {
    let setup = Setup::new().service("client_limit = 3");
    let (daemon, port) = daemon("metricsloris", setup, "");
    let mut slow: Vec<Client> = (0..3).map(|_| client(port)).collect();
    for client in &mut slow {
        client.send("GET /met");
    }
    wait_until("one of them making room", || {
        let mut other = daemon.client();
        other.try_export("global").is_some()
    });
}

#[test]
fn the_client_limit_holds_for_all_listeners_together() {
    let port = free_port();
    let setup = Setup::new()
        .service("client_limit = 3")
        .inet(port, "protocol = http");
    let daemon = Daemon::with("metricsmax", &setup);
    let mut clients: Vec<Client> = (0..3).map(|_| client(port)).collect();
    for client in &mut clients {
        assert_eq!(ask(client, GET).status, 200);
    }
    // One that has been idle for a second makes room.
    wait_until("a fourth being served", || {
        let mut fourth = daemon.client();
        fourth.try_export("global").is_some()
    });
    let alive = clients
        .iter_mut()
        .filter_map(|client| {
            client.send_while_taken(GET.as_bytes(), Duration::from_millis(100));
            client.try_line()
        })
        .count();
    assert!((1..=2).contains(&alive), "{alive} of 3 left");
}
