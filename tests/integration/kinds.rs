//! The levels service and cmd: what is listed, counted, kept and sent of them.

use std::io::Read as _;
use std::net::TcpListener;

use crate::harness::{wait_until, Daemon, Setup};
use crate::http::{get, with};
use crate::link::{latin1, Table};
use crate::protocol::STATS;
use crate::records::{
    add_user, carry_on, command, connect, disconnect, update, Auth, Mail, Net, Random,
};

/// A command that took so many microseconds.
fn took(usecs: i64) -> String {
    let mut mail = Mail::sample();
    mail.times[2] = (usecs / 1_000_000, usecs % 1_000_000);
    mail.field()
}

/// The names of columns, by TABs.
fn header(keys: &str, further: &str) -> String {
    let words = [keys, STATS, further].map(|text| text.split_whitespace().collect::<Vec<_>>());
    words.concat().join("\t")
}

const SERVICE_KEYS: &str =
    "service reset_timestamp last_update num_logins num_cmds num_connected_sessions";
const CMD_KEYS: &str = "service cmd reset_timestamp last_update num_cmds";
const TIMES: &str = "time_p50 time_p90 time_p99 time_max";
const NET: &str = "net_in_bytes net_out_bytes lock_wait";

#[test]
fn headers_and_rows_are_exact() {
    let daemon = Daemon::start("kinds-exact");
    daemon.feed(&[
        connect("s1", "alice@example.org", "imap", 1, "10.0.0.1"),
        command("s1", 1, "d", "FETCH", "1:*", &took(3_000_003)),
        command("s1", 2, "d", "Fetch", "1", &took(200_000)),
        command("s1", 3, "", "UID SEARCH", "ALL", &took(7_000_000)),
        update("s1", &Net([1234, 5678, 2_000_009]).field()),
    ]);
    let mut client = daemon.client();
    let services = client.export("service");
    let created = services.only().get("reset_timestamp").to_owned();
    let now = services.only().get("last_update").to_owned();
    let none = "0.000000\t0.000000\t0.000000".to_owned() + &"\t0".repeat(21);
    let sample = |clock: &str, times: u64| {
        let numbers: Vec<String> = [4, 5, 6, 7, 8, 9, 10, 12, 11, 13, 14, 15, 16, 17, 18]
            .map(|number: u64| (number * times).to_string())
            .into();
        let cpu = [1_000_001 * times, 2_000_002 * times];
        let [user, sys] =
            cpu.map(|usecs| format!("{}.{:06}", usecs / 1_000_000, usecs % 1_000_000));
        format!(
            "{user}\t{sys}\t{clock}\t{}{}",
            numbers.join("\t"),
            "\t0".repeat(6)
        )
    };
    let (fetch, search) = (sample("3.200003", 2), sample("7.000000", 1));
    let times = "0.200000\t3.000003\t3.000003\t3.000003";
    let no_times = "0.000000\t0.000000\t0.000000\t0.000000";
    // 200 ms is the 34th bound, 3.15 s the 46th.
    let histogram = format!("{}1{}1", "0,".repeat(33), ",0".repeat(11) + ",");
    let net = "1234\t5678\t2.000009";
    let service = format!("imap\t{created}\t{now}\t1\t3\t1\t{none}");
    let cmd = |name: &str, count: u64, stats: &str, times: &str| {
        format!("imap\t{name}\t{created}\t{now}\t{count}\t{stats}\t{times}")
    };
    let fetch = cmd("FETCH", 2, &fetch, times);
    let search = cmd("UID SEARCH", 1, &search, no_times);
    let zeros = "0\t0\t0.000000";
    for (request, header, rows) in [
        ("service", header(SERVICE_KEYS, ""), vec![service.clone()]),
        (
            "service\tmore",
            header(SERVICE_KEYS, &format!("{NET} {TIMES}")),
            vec![format!("{service}\t{net}\t{times}")],
        ),
        (
            "service\thistogram",
            header(SERVICE_KEYS, "time_histogram"),
            vec![format!("{service}\t{histogram}")],
        ),
        (
            "cmd",
            header(CMD_KEYS, TIMES),
            vec![fetch.clone(), search.clone()],
        ),
        (
            "cmd\tmore\thistogram",
            header(CMD_KEYS, &format!("{TIMES} {NET} time_histogram")),
            vec![
                format!("{fetch}\t{zeros}\t{histogram}"),
                format!("{search}\t{zeros}\t"),
            ],
        ),
        ("cmd\tcmd=*search", header(CMD_KEYS, TIMES), vec![search]),
        (
            "cmd\tcmd=fetch\tservice=im?p",
            header(CMD_KEYS, TIMES),
            vec![fetch],
        ),
        ("cmd\tservice=pop3", header(CMD_KEYS, TIMES), vec![]),
    ] {
        let mut expected = header;
        for row in rows {
            expected += &format!("\n{row}");
        }
        let reply = latin1(&client.export_raw(request));
        // A list of nothing has no header.
        if request.ends_with("pop3") {
            assert!(
                reply == "\n" || reply == expected.clone() + "\n\n",
                "{reply}"
            );
            continue;
        }
        assert_eq!(reply, expected + "\n\n", "{request:?}");
    }
    let global = client.export("global\tmore\thistogram");
    for (column, value) in TIMES.split(' ').zip(times.split('\t')) {
        assert_eq!(global.only().get(column), value);
    }
    assert_eq!(global.only().get("time_histogram"), histogram);
}

/// The names and the sums of columns that add up.
fn sums(table: &Table) -> Vec<(String, u64)> {
    let names = table.names.iter().enumerate();
    let names = names.filter(|(_, name)| {
        let not = ["service", "cmd", "reset_timestamp", "last_update"];
        !not.contains(&name.as_str()) && !name.starts_with("time_")
    });
    let value = |text: &str| crate::link::micros(text).or_else(|| text.parse().ok());
    names
        .map(|(at, name)| {
            let values = table
                .rows
                .iter()
                .map(|row| value(&row[at]).expect("a number"));
            (name.clone(), values.sum())
        })
        .collect()
}

/// Records of many services and commands, in any order.
fn mixture(random: &mut Random, count: usize) -> Vec<Vec<u8>> {
    let services = ["imap", "pop3", "lmtp", "managesieve", ""];
    let names = ["FETCH", "fetch", "UID FETCH", "SEARCH", "", "NOOP"];
    let mut records = Vec::new();
    for n in 0..count {
        let (id, number) = (format!("s{}", random.below(40)), n as u32 + 1);
        let (service, name) = (*random.pick(&services), *random.pick(&names));
        records.push(match random.below(8) {
            0 => {
                let user = format!("u{}@d{}", random.below(9), random.below(3));
                connect(&id, &user, service, 1, "10.0.0.1")
            }
            1 => disconnect(&id),
            2 => add_user("joe@d1", service, &Auth([1, 2, 3, 4, 5, 6]).field()),
            3 => update(&id, &took(n as i64 * 1000)),
            4 => carry_on(&id, number - 1, "cd", &took(random.below(9_000_000) as i64)),
            _ => {
                let flags = if random.one_in(2) { "d" } else { "" };
                let time = took(random.below(9_000_000) as i64);
                command(&id, number, flags, name, "", &time)
            }
        });
    }
    records
}

#[test]
fn services_add_up_to_everything_and_outlive_a_restart() {
    let setup = Setup::new();
    let daemon = Daemon::with("kinds-sums", &setup);
    let mut random = Random::new(crate::records::seed("kinds_sums", 26));
    daemon.feed(&mixture(&mut random, 3000));
    let lists = |daemon: &Daemon| {
        ["global", "service", "cmd"]
            .map(|level| daemon.client().export(&format!("{level}\tmore\thistogram")))
    };
    let [global, services, cmds] = lists(&daemon);
    assert_eq!(sums(&services), sums(&global));
    let count = |table: &Table| {
        sums(table)
            .iter()
            .find(|(name, _)| name == "num_cmds")
            .cloned()
    };
    assert_eq!(count(&cmds), count(&global), "each command is of one name");
    let others = services.values("service");
    assert!(
        others.contains(&"other") && others.contains(&"lmtp"),
        "{others:?}"
    );
    let names = cmds.rows.iter().map(|row| row[1].as_str());
    assert!(names
        .clone()
        .all(|name| name == "other" || name == name.to_ascii_uppercase()));
    assert!(names.clone().any(|name| name == "other"), "{:?}", cmds.rows);
    // Histograms add up as well.
    let counts = |table: &Table| -> u64 {
        let histograms = table.values("time_histogram");
        let numbers = histograms.iter().flat_map(|text| text.split(','));
        numbers
            .filter_map(|number| number.parse::<u64>().ok())
            .sum()
    };
    assert!(counts(&cmds) > 100);
    assert_eq!(counts(&cmds), counts(&global));
    assert_eq!(counts(&services), counts(&global));
    // Filters of sessions mean nothing here, as at global.
    let mut client = daemon.client();
    for filter in ["user=nobody", "domain=none", "session=none", "ip=192.0.2.1"] {
        for level in ["service", "cmd"] {
            let listed = client.export_raw(&format!("{level}\t{filter}"));
            assert_eq!(listed, client.export_raw(level), "{level} {filter}");
        }
    }
    assert!(client.export("service\tsince=4000000000").rows.is_empty());
    assert!(client.export("cmd\tsince=4000000000").rows.is_empty());
    let connected = client.export("service\tconnected");
    let all = services.values("num_connected_sessions");
    let wanted: Vec<&str> = all.into_iter().filter(|count| *count != "0").collect();
    assert_eq!(connected.values("num_connected_sessions"), wanted);
    let before = lists(&daemon);
    let daemon = Daemon::in_dir(daemon.stop(), &setup);
    let after = lists(&daemon);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before.names, &before.rows), (&after.names, &after.rows));
    }
    daemon.feed(&mixture(&mut random, 1000));
    let [global, services, _] = lists(&daemon);
    assert_eq!(sums(&services), sums(&global), "after a restart");
    daemon.client().reset();
    let [global, services, cmds] = lists(&daemon);
    assert_eq!(sums(&services), sums(&global), "after RESET");
    assert!(cmds.rows.is_empty(), "{:?}", cmds.rows);
}

#[test]
fn prometheus_gets_histograms_whatever_the_levels() {
    let lines = "stats_metrics_levels = cmd\nstats_metrics_limit = 1";
    let (daemon, port) = crate::http::daemon("kinds-metrics", with(lines), "");
    let empty = get(port);
    assert!(!empty.body.contains("dovestat_cmd_"), "{}", empty.body);
    daemon.feed(&[
        connect("s1", "alice@example.org", "imap", 1, ""),
        connect("s2", "bob@example.org", "pop3", 2, ""),
        command("s1", 1, "d", "fetch", "", &took(100_000)),
        command("s1", 2, "d", "FETCH", "", &took(100_001)),
        command("s2", 1, "d", "RETR", "", &took(120_000_000)),
        command("s1", 3, "", "SEARCH", "", &took(5)),
    ]);
    let answer = get(port);
    let samples = answer.samples();
    let fetch = "{service=\"imap\",cmd=\"FETCH\"";
    for (sample, value) in [
        (format!("bucket{fetch},le=\"0.05\"}}"), "0"),
        (format!("bucket{fetch},le=\"0.1\"}}"), "1"),
        (format!("bucket{fetch},le=\"0.25\"}}"), "2"),
        (format!("bucket{fetch},le=\"+Inf\"}}"), "2"),
        (format!("sum{fetch}}}"), "0.200001"),
        (format!("count{fetch}}}"), "2"),
        (
            "bucket{service=\"pop3\",cmd=\"RETR\",le=\"100.0\"}".to_owned(),
            "0",
        ),
        ("count{service=\"pop3\",cmd=\"RETR\"}".to_owned(), "1"),
        ("count{service=\"imap\",cmd=\"SEARCH\"}".to_owned(), "0"),
    ] {
        let sample = format!("dovestat_cmd_duration_seconds_{sample}");
        assert_eq!(samples.get(&*sample), Some(&value), "{sample}");
    }
    for (sample, value) in [
        (
            "dovestat_cmd_cmds_total{service=\"imap\",cmd=\"FETCH\"}",
            "2",
        ),
        ("dovestat_service_logins_total{service=\"pop3\"}", "1"),
        ("dovestat_service_connected_sessions{service=\"imap\"}", "1"),
    ] {
        assert_eq!(samples.get(sample), Some(&value), "{sample}");
    }
    assert!(!answer.body.contains("dovestat_cmd_logins"));
    assert!(!answer.body.contains("dovestat_cmd_connected"));
    assert!(!daemon.log().contains("warning"), "{}", daemon.log());
}

#[test]
fn carbon_gets_both_levels_where_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind a receiver");
    let port = listener.local_addr().expect("its address").port();
    let setup = with(&format!(
        "stats_carbon_server = 127.0.0.1:{port}\nstats_carbon_interval = 1 s\n\
         stats_carbon_name = mx\nstats_carbon_levels = service cmd\nstats_carbon_limit = 1"
    ));
    let daemon = Daemon::with("kinds-carbon", &setup);
    daemon.feed(&[
        connect("s1", "alice@example.org", "imap", 1, ""),
        connect("s2", "bob@example.org", "pop3", 2, ""),
        command("s1", 1, "d", "UID FETCH", "", &took(3_000_003)),
        command("s1", 2, "d", "UID.FETCH", "", &took(200_000)),
    ]);
    let mut batch = String::new();
    wait_until("a report with all of it", || {
        let (mut stream, _) = listener.accept().expect("a connection");
        batch.clear();
        stream.read_to_string(&mut batch).expect("a batch");
        batch.contains("UID_FETCH-")
    });
    let has = |line: &str| batch.contains(&format!("dovecot.mx.{line} "));
    for line in [
        "service.imap.logins 1",
        "service.pop3.connected_sessions 1",
        "service.imap.time_p99 3.000003",
        "cmd.imap.UID_FETCH.cmds 1",
        "cmd.imap.UID_FETCH.clock_time 3.000003",
        "cmd.imap.UID_FETCH.time_p50 3.000003",
        "cmd.imap.UID_FETCH.time_max 3.000003",
    ] {
        assert!(has(line), "{line} in {batch}");
    }
    assert!(!batch.contains("global") && !batch.contains("cmd.imap.UID_FETCH.logins"));
    let mut paths: Vec<&str> = batch
        .lines()
        .map(|line| line.split(' ').next().expect("a path"))
        .collect();
    let count = paths.len();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), count, "no path comes twice");
}
