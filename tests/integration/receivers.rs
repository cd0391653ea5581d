//! Real receivers of Debian's packages get the number that `dump global` gives:
//! carbon-cache (into whisper files), carbon-c-relay, VictoriaMetrics and
//! Prometheus.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::harness::{
    free_port, lacking, local, text, wait_until, Daemon, Setup, TempDir, DEADLINE,
};
use crate::http;
use crate::records::{update, Mail};
use crate::requests::populate;

/// A program that ends with its value.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a receiver and waits until it listens; none, with a line that says so,
/// when it is not installed.
fn start(test: &str, program: &str, args: &[&str], dir: &TempDir, port: u16) -> Option<Running> {
    let log = std::fs::File::create(dir.at("log")).expect("create the log");
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("dup the log"))
        .stderr(log)
        .spawn();
    let Ok(child) = child else {
        lacking(test, program);
        return None;
    };
    let running = Running(child);
    wait_until(&format!("{program} listening"), || {
        TcpStream::connect(local(port)).is_ok()
    });
    Some(running)
}

/// A populated daemon that sends to `port` every second.
fn sender(name: &str, port: u16) -> Daemon {
    let mut setup = Setup::new();
    setup.lines.push(format!(
        "stats_carbon_server = localhost:{port}\nstats_carbon_name = mx\n\
         stats_carbon_interval = 1 s\nstats_carbon_levels = global domain user"
    ));
    let daemon = Daemon::with(name, &setup);
    populate(&daemon);
    daemon
}

/// What is to arrive.
fn logins(daemon: &Daemon) -> u64 {
    daemon.client().export("global").only().num("num_logins")
}

#[test]
fn a_whisper_file_has_the_number() {
    let (dir, port, query) = (TempDir::new("whisper"), free_port(), free_port());
    let home = dir.path().display();
    let conf = dir.write(
        "carbon.conf",
        &format!(
            "[cache]\nSTORAGE_DIR = {home}\nLOCAL_DATA_DIR = {home}/whisper\nCONF_DIR = {home}\n\
             LOG_DIR = {home}\nPID_DIR = {home}\nLINE_RECEIVER_INTERFACE = 127.0.0.1\n\
             LINE_RECEIVER_PORT = {port}\nPICKLE_RECEIVER_PORT = 0\nENABLE_TAGS = False\n\
             CACHE_QUERY_INTERFACE = 127.0.0.1\nCACHE_QUERY_PORT = {query}\n\
             MAX_CREATES_PER_MINUTE = inf\n"
        ),
    );
    dir.write(
        "storage-schemas.conf",
        "[all]\npattern = .*\nretentions = 1s:1h\n",
    );
    let config = format!("--config={conf}");
    let args = [config.as_str(), "--nodaemon", "start"];
    let test = "a_whisper_file_has_the_number";
    let Some(_cache) = start(test, "carbon-cache", &args, &dir, port) else {
        return;
    };
    let daemon = sender("whispersender", port);
    let expected = format!("\t{}.000000", logins(&daemon));
    for path in ["global", "user/dave", "domain/example_org"] {
        let file = dir.at(&format!("whisper/dovecot/mx/{path}/logins.wsp"));
        wait_until(&format!("logins in the whisper file of {path}"), || {
            let output = Command::new("whisper-fetch")
                .args(["--drop=nulls", &file])
                .output();
            let shown = text(&output.expect("run whisper-fetch").stdout);
            match path {
                "global" => shown.contains(&expected),
                _ => shown.contains('\t'),
            }
        });
    }
    assert!(!daemon.log().contains("carbon"), "{}", daemon.log());
}

#[test]
fn carbon_c_relay_passes_every_line_on() {
    let (dir, port) = (TempDir::new("relay"), free_port());
    let behind = TcpListener::bind("127.0.0.1:0").expect("bind");
    let next = behind.local_addr().expect("its address").port();
    let conf = dir.write(
        "relay.conf",
        &format!(
            "cluster next forward 127.0.0.1:{next};\nmatch * send to next;\n\
             listen type linemode 127.0.0.1:{port} proto tcp;\n"
        ),
    );
    let args = ["-s", "-f", &conf];
    let test = "carbon_c_relay_passes_every_line_on";
    let Some(_relay) = start(test, "carbon-c-relay", &args, &dir, port) else {
        return;
    };
    let daemon = sender("relaysender", port);
    let expected = format!("dovecot.mx.global.logins {} ", logins(&daemon));
    behind.set_nonblocking(true).expect("nonblocking");
    let mut accepted = None;
    wait_until("the relay connecting", || {
        accepted = behind.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.expect("a connection");
    stream.set_nonblocking(false).expect("blocking");
    stream.set_read_timeout(Some(DEADLINE)).expect("timeout");
    let mut lines = BufReader::new(stream)
        .lines()
        .map(|line| line.expect("a line"));
    assert!(lines.any(|line| line.starts_with(&expected)), "{expected}");
    assert!(lines.any(|line| line.starts_with("dovecot.mx.user.dave.logins ")));
    assert!(!daemon.log().contains("carbon"), "{}", daemon.log());
}

/// The body of an HTTP answer.
fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(local(port)).expect("connect");
    stream.set_read_timeout(Some(DEADLINE)).expect("timeout");
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("ask");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    text(&answer)
}

#[test]
fn victoria_metrics_has_the_number() {
    let (dir, port, http) = (TempDir::new("victoria"), free_port(), free_port());
    let args = [
        format!("-graphiteListenAddr=127.0.0.1:{port}"),
        format!("-httpListenAddr=127.0.0.1:{http}"),
        format!("-storageDataPath={}", dir.at("data")),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let test = "victoria_metrics_has_the_number";
    let Some(_victoria) = start(test, "victoria-metrics", &args, &dir, port) else {
        return;
    };
    let daemon = sender("victoriasender", port);
    let path = "/api/v1/export?match[]=dovecot.mx.global.logins";
    let expected = logins(&daemon).to_string();
    wait_until("logins in VictoriaMetrics", || {
        let answer = get(http, path);
        let values = answer.split("\"values\":[").nth(1).unwrap_or_default();
        let values = values.split(']').next().unwrap_or_default();
        values.split(',').any(|value| value == expected)
    });
    assert!(!daemon.log().contains("carbon"), "{}", daemon.log());
}

/// The value of an instant query, once there is one.
pub fn queried(port: u16, query: &str) -> Option<String> {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let answer = get(port, &format!("/api/v1/query?query={encoded}"));
    let value = answer.split("\"value\":[").nth(1)?.split(']').next()?;
    value.split('"').nth(1).map(str::to_owned)
}

/// A Prometheus that has asked the daemon at `port` and answers at `api`; none where it is not
/// installed.
pub fn prometheus(test: &str, dir: &TempDir, port: u16, api: u16) -> Option<Running> {
    let config = dir.write(
        "prometheus.yml",
        &format!(
            "scrape_configs:\n- job_name: dovestat\n  scrape_interval: 1s\n  \
             scrape_timeout: 1s\n  static_configs:\n  - targets: ['127.0.0.1:{port}']\n"
        ),
    );
    let args = [
        format!("--config.file={config}"),
        format!("--storage.tsdb.path={}", dir.at("data")),
        format!("--web.listen-address=127.0.0.1:{api}"),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let running = start(test, "prometheus", &args, dir, api)?;
    wait_until("a scrape", || queried(api, "up").as_deref() == Some("1"));
    Some(running)
}

#[test]
fn prometheus_has_the_numbers() {
    let (dir, api) = (TempDir::new("prometheus"), free_port());
    let mut setup = Setup::new();
    let levels = "stats_metrics_levels = domain user ip";
    setup.lines.push(levels.to_owned());
    let (daemon, port) = http::daemon("scraped", setup, "");
    populate(&daemon);
    daemon.feed(&[
        update("s1", &Mail::sample().field()),
        b"ADD-USER\tq\"\\\xff\x01n@x\timap\t".to_vec(),
    ]);
    let Some(_prometheus) = prometheus("prometheus_has_the_numbers", &dir, port, api) else {
        return;
    };
    let dump = |column: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_dovestat"))
            .args([
                "-s",
                &daemon.socket(),
                "-f",
                "json",
                "dump",
                "global",
                "--fields",
                column,
            ])
            .output()
            .expect("run dovestat");
        let printed = text(&output.stdout);
        let value = printed.rsplit(':').next().unwrap_or_default();
        value.trim_matches(|c: char| !c.is_ascii_digit()).to_owned()
    };
    for (query, column) in [
        ("dovestat_global_logins_total", "num_logins"),
        ("dovestat_global_user_cpu_seconds_total", "user_cpu"),
        ("dovestat_global_sys_cpu_seconds_total", "sys_cpu"),
        ("dovestat_global_disk_input_bytes_total", "disk_input"),
        (
            "dovestat_global_connected_sessions",
            "num_connected_sessions",
        ),
        ("dovestat_global_auth_successes_total", "auth_successes"),
    ] {
        let dumped = dump(column);
        assert!(!dumped.is_empty(), "dump of {column}");
        let dumped: f64 = dumped
            .parse()
            .unwrap_or_else(|_| panic!("{column}={dumped:?}"));
        wait_until(&format!("{query} being {dumped}"), || {
            queried(api, query).is_some_and(|value| value.parse() == Ok(dumped))
        });
    }
    // Any name is a label, and comes back as it was shown.
    for (query, value) in [
        (
            "dovestat_user_logins_total{user=\"alice@example.org\"}",
            "2",
        ),
        ("count(dovestat_user_logins_total)", "5"),
        (
            "dovestat_user_logins_total{user='q\"\\\\\\\\xff\\n@x'}",
            "0",
        ),
        (
            "dovestat_domain_connected_sessions{domain='example.org'}",
            "3",
        ),
        ("dovestat_ip_logins_total{ip='2001:db8::7'}", "1"),
        ("count(dovestat_faults_total) > bool 20", "1"),
    ] {
        let found = queried(api, query);
        assert_eq!(found.as_deref(), Some(value), "{query}");
    }
    // It asked for OpenMetrics: units come no other way.
    let metadata = get(
        api,
        "/api/v1/targets/metadata?metric=dovestat_global_user_cpu_seconds",
    );
    assert!(metadata.contains("\"unit\":\"seconds\""), "{metadata}");
    // A change is there a second later, RESET included.
    daemon.client().reset();
    wait_until("logins being reset", || {
        queried(api, "dovestat_global_logins_total").as_deref() == Some("0")
    });
    let resets = queried(api, "resets(dovestat_global_logins_total[1m])");
    assert_eq!(resets.as_deref(), Some("1"), "rate() sees a new beginning");
    assert!(!daemon.log().contains("warning"), "{}", daemon.log());
}
