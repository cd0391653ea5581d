//! Asking for metrics over HTTP: every way to ask and to be refused, how answers
//! travel, and what bad clients cost.

use std::time::Duration;

use crate::attack::{Class, Tally};
use crate::harness::{anonymous_bytes, free_port, holds_within, wait_until, Daemon, Setup};
use crate::http::{self, answer, ask, client, daemon, fill, get, names, with, ALL_LEVELS, GET};
use crate::link::{latin1, Client};
use crate::records::{connect, seed, Random};
use crate::requests::populate;

#[test]
fn every_request_has_its_status() {
    let mut tally = Tally::of(Class::Http);
    let (daemon, port) = daemon("status", Setup::new(), "");
    let long_line = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(4096));
    let long_head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(8192));
    for (request, status, stays_open) in [
        (GET, 200, true),
        ("GET /metrics?name[]=x HTTP/1.1\r\n\r\n", 200, true),
        ("GET http://x:9/metrics HTTP/1.1\r\n\r\n", 200, true),
        ("\r\nGET /metrics HTTP/1.1\nhOST:[::1]\n\n", 200, true),
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
        tally.tries(1);
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
    tally.survived();
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

/// The sizes of the chunks of an answer to [`GET`], and all of its content.
fn chunks(client: &mut Client) -> (Vec<usize>, String) {
    client.send(GET);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head += &client.line();
    }
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nTransfer-Encoding: chunked"), "{head}");
    let (mut sizes, mut content) = (Vec::new(), Vec::new());
    loop {
        let line = client.line();
        let size = usize::from_str_radix(line.trim_end(), 16).expect("a size");
        content.extend(client.bytes(size));
        client.line();
        match size {
            0 => return (sizes, latin1(&content)),
            size => sizes.push(size),
        }
    }
}

#[test]
fn slices_are_whole_however_far_a_walk_goes() {
    let lines = "stats_metrics_levels = domain\nstats_metrics_limit = 20";
    let (daemon, port) = daemon("metricsonewrite", with(lines), "");
    // To find the biggest of them takes several turns of the loop.
    fill(&daemon, 5000);
    let mut client = client(port);
    for _ in 0..10 {
        let (sizes, whole) = chunks(&mut client);
        let (_, full) = sizes.split_last().expect("some");
        assert!(
            full.iter().all(|size| (49_152..50_768).contains(size)),
            "{sizes:?}"
        );
        assert_eq!(sizes.len(), 2, "{sizes:?}");
        assert!(
            whole.contains("{domain=\"domain4999.example\"} 1\n"),
            "{whole}"
        );
        assert!(whole.contains("\ndovestat_connected_clients "), "{whole}");
    }
}

#[test]
fn a_slow_reader_pins_nothing_and_gets_an_end() {
    let mut tally = Tally::of(Class::Cursors);
    tally.tries(1);
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
    // Pages of the program, which it had given back, are not counted.
    let before = anonymous_bytes(daemon.pid());
    let mut slow = client(port);
    slow.send(GET);
    slow.bytes(1000);
    daemon.client().reset();
    // Every user of then is freed, and more memory is not used.
    add(3000, 20_000);
    let evicted = daemon.client().export("user\tuser=user17@example.org");
    assert!(evicted.rows.is_empty(), "user17 is gone");
    let grown = anonymous_bytes(daemon.pid()).saturating_sub(before);
    assert!(grown < 2 << 20, "{grown} bytes");
    slow.send("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
    let rest = latin1(&slow.rest());
    let (metrics, index) = rest.split_once("\r\n0\r\n\r\n").expect("the last chunk");
    assert!(metrics.contains("dovestat_connected_clients "), "its end");
    assert!(index.starts_with("HTTP/1.1 200 OK\r\n"), "{index}");
    tally.survived();
}

#[test]
fn deaf_clients_cost_little_and_hurt_nobody() {
    let mut tally = Tally::of(Class::Http);
    tally.tries(20);
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
    tally.check(&mut daemon);
}

#[test]
fn noise_is_survived() {
    let mut tally = Tally::of(Class::Http);
    let (mut daemon, port) = daemon("metricsnoise", with(ALL_LEVELS), "");
    fill(&daemon, 50);
    let mut random = Random::new(seed("noise_is_survived", 5));
    for _ in 0..300 {
        tally.tries(1);
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
    tally.check(&mut daemon);
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
    let mut tally = Tally::of(Class::Http);
    tally.tries(3);
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
    tally.survived();
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
