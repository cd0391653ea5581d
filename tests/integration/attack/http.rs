//! Clients of HTTP that do not mean well; what they get is a whole answer or an end.

use std::io::Read as _;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::attack::{Class, Tally};
use crate::harness::{local, DEADLINE};
use crate::http::{self, ask, client, get, with, ALL_LEVELS, GET};
use crate::link::latin1;
use crate::records::{connect, seed, Random};
use crate::requests::populate;

/// What is refused, or answered as if it were harmless.
fn requests() -> Vec<Vec<u8>> {
    let text = |text: &str| text.as_bytes().to_vec();
    let long = |bytes: usize| "x".repeat(bytes);
    let mut all = vec![
        // Two requests that somebody between could see as one, or one as two.
        text("GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\nGET /x HTTP/1.1\r\n\r\n"),
        text("GET / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        text("GET / HTTP/1.1\r\nContent-Length: +0\r\n\r\n"),
        text("GET / HTTP/1.1\r\nContent-Length: 0x0\r\n\r\n"),
        text("GET / HTTP/1.1\r\nContent-Length: 0, 0\r\n\r\n"),
        text("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
        text("GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
        text("GET / HTTP/1.1\r\nContent-Length : 0\r\n\r\n"),
        text("GET / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        text("GET / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        text("GET / HTTP/1.1\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n"),
        text("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"),
        text("GET / HTTP/1.1\rHost: x\r\r"),
        text("GET / HTTP/1.1\r\nA: b\rB: c\r\n\r\n"),
        text("GET / HTTP/1.1\r\nA\r\n\r\n"),
        text("GET / HTTP/1.1\r\n: b\r\n\r\n"),
        text("GET / HTTP/1.1\r\nA B: c\r\n\r\n"),
        text("GET  /  HTTP/1.1\r\n\r\n"),
        text("GET\t/\tHTTP/1.1\r\n\r\n"),
        text("GET / HTTP/1.1 \r\n\r\n"),
        text(" GET / HTTP/1.1\r\n\r\n"),
        text("GET / HTTP/1.\r\n\r\n"),
        text("GET / HTTP/11\r\n\r\n"),
        text("GET / HTTP/1.1x\r\n\r\n"),
        text("GET / http/1.1\r\n\r\n"),
        text("GET / HTTP/0.9\r\n\r\n"),
        text("GET /\r\n\r\n"),
        text("GET\r\n\r\n"),
        text("get / HTTP/1.1\r\n\r\n"),
        text("GET /../../etc/passwd HTTP/1.1\r\n\r\n"),
        text("GET /metrics%00 HTTP/1.1\r\n\r\n"),
        text("GET //metrics HTTP/1.1\r\n\r\n"),
        text("GET http://user:pass@/metrics HTTP/1.1\r\n\r\n"),
        text("GET /metrics#x HTTP/1.1\r\n\r\n"),
        text("CONNECT 127.0.0.1:25 HTTP/1.1\r\n\r\n"),
        text("TRACE / HTTP/1.1\r\nX: <script>\r\n\r\n"),
        text("POST /metrics HTTP/1.1\r\nContent-Length: 6\r\n\r\nRESET\n"),
        text("RESET / HTTP/1.1\r\n\r\n"),
        text("RESET\n"),
        text("EXPORT\tglobal\n"),
        text("GET /metrics HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"),
        text("GET /metrics HTTP/1.1\r\nExpect: 100-continue\r\n\r\n"),
        text("GET /metrics HTTP/1.1\r\nRange: bytes=0-1\r\n\r\n"),
        text("GET /metrics HTTP/1.1\r\nAccept: */*;q=2, a/b;q=-1;q=nan\r\n\r\n"),
        text(&format!("GET /metrics HTTP/1.1\r\nAccept: {}\r\n\r\n", "a/b,".repeat(2000))),
        text(&format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A:\r\n".repeat(1900))),
        text(&format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A:\r\n".repeat(3000))),
        text(&format!("GET /{} HTTP/1.1\r\n\r\n", long(4095 - 14))),
        text(&format!("GET /{} HTTP/1.1\r\n\r\n", long(4096 - 14))),
        text(&format!("GET /{} HTTP/1.1\r\n\r\n", long(4097 - 14))),
        text(&format!("{} / HTTP/1.1\r\n\r\n", long(4000))),
        text(&format!("GET / HTTP/1.1\r\n{}: x\r\n\r\n", long(8000))),
        text(&"\r\n".repeat(5000)),
        b"GET /\x00 HTTP/1.1\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nX: \xff\x80\r\n\r\n".to_vec(),
        b"GET /\xc3\xa4 HTTP/1.1\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\x00".to_vec(),
    ];
    for size in 8188..8196 {
        let front = "GET / HTTP/1.1\r\nX: ";
        all.push(text(&format!(
            "{front}{}\r\n\r\n",
            long(size - front.len())
        )));
    }
    all
}

/// The statuses in what a connection gave, which must be nothing but answers.
#[track_caller]
fn statuses(bytes: &[u8], what: &str) -> Vec<u16> {
    let text = latin1(bytes);
    let mut rest = text.as_str();
    let mut statuses = Vec::new();
    while !rest.is_empty() {
        let line = rest
            .strip_prefix("HTTP/1.1 ")
            .unwrap_or_else(|| panic!("{what}: {rest:?}"));
        statuses.push(line[..3].parse().expect("a status"));
        let (head, behind) = rest.split_once("\r\n\r\n").expect("the end of a head");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = match length {
            Some(length) => length.parse().expect("a length"),
            None => return statuses,
        };
        rest = &behind[length..];
    }
    statuses
}

#[test]
fn requests_of_every_wrong_kind_get_an_answer_or_an_end() {
    let mut tally = Tally::of(Class::Http);
    let (mut daemon, port) = http::daemon("wrongheads", with(ALL_LEVELS), "");
    populate(&daemon);
    let before = daemon.client().export_raw("global");
    for request in requests() {
        for piece in [1, 5, usize::MAX] {
            if piece == 1 && request.len() > 500 {
                continue;
            }
            tally.tries(1);
            let mut client = client(port);
            for part in request.chunks(piece.min(request.len())) {
                client.send_while_taken(part, Duration::from_secs(1));
            }
            client.send_while_taken(GET.as_bytes(), Duration::from_secs(1));
            client.half_close();
            let shown = latin1(&request[..request.len().min(80)]);
            let statuses = statuses(&client.rest(), &shown);
            assert!(!statuses.is_empty(), "{shown:?}: no answer at all");
            assert!(statuses.len() <= 2, "{shown:?}: {statuses:?}");
        }
    }
    assert_eq!(
        daemon.client().export_raw("global"),
        before,
        "nothing was reset"
    );
    tally.check(&mut daemon);
}

#[test]
fn pages_that_lead_their_name_here_are_told_nothing() {
    let mut tally = Tally::of(Class::Http);
    let lines = "server_names = mail.example.org stats";
    let (mut daemon, port) = http::daemon("rebinding", with(ALL_LEVELS), lines);
    populate(&daemon);
    let secret = daemon.client().export("user").rows[0][0].clone();
    let ask_as = |host: &str, path: &str, method: &str, version: &str| {
        let request = format!("{method} {path} HTTP/{version}\r\nHost: {host}\r\n\r\n");
        ask(&mut client(port), &request)
    };
    for host in [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        format!("127.0.0.1.evil.example:{port}"),
        "localhost.evil.example".to_owned(),
        "mail.example.org.evil.example".to_owned(),
        "xstats".to_owned(),
        "stats.example".to_owned(),
        "0x7f000001".to_owned(),
        "127.1".to_owned(),
        "evil.example\t".to_owned(),
        "127.0.0.1@evil.example".to_owned(),
        "*".to_owned(),
    ] {
        for path in ["/metrics", "/", "/none", "http://127.0.0.1/metrics"] {
            for (method, version) in [("GET", "1.1"), ("GET", "1.0"), ("HEAD", "1.1")] {
                tally.tries(1);
                let answer = ask_as(&host, path, method, version);
                assert_eq!(answer.status, 421, "{host} {path}");
                assert!(!answer.stays_open());
                assert!(!answer.body.contains("dovestat_"), "{}", answer.body);
                assert!(!answer.body.contains(&secret), "{}", answer.body);
                let says = answer.body.contains("server_names of its inet_listener");
                assert_eq!(says, method == "GET", "{}", answer.body);
            }
        }
    }
    // Twice is neither.
    tally.tries(1);
    let twice = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
    assert_eq!(ask(&mut client(port), twice).status, 400);
    for host in [
        "127.0.0.1",
        "[::1]:9166",
        "localhost",
        "Mail.example.ORG:80",
        "stats.",
    ] {
        assert_eq!(ask_as(host, "/metrics", "GET", "1.1").status, 200, "{host}");
    }
    for version in ["1.0", "1.1"] {
        let request = format!("GET /metrics HTTP/{version}\r\n\r\n");
        assert_eq!(ask(&mut client(port), &request).status, 200, "no Host");
    }
    let logged =
        format!("inet_listener 127.0.0.1:{port}: 421 Misdirected Request: \"evil.example\"");
    assert!(daemon.log().contains(&logged), "{}", daemon.log());
    // The names hold from HUP on.
    let file = daemon.dir.at("dovestatd.conf");
    let config = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(
        &file,
        config.replace("= mail.example.org stats", "= new.example"),
    )
    .expect("write");
    daemon.signal(libc::SIGHUP);
    crate::harness::wait_until("the new name", || {
        ask_as("new.example", "/metrics", "GET", "1.1").status == 200
    });
    assert_eq!(ask_as("stats", "/metrics", "GET", "1.1").status, 421);
    tally.check(&mut daemon);
}

#[test]
fn scrapers_that_vanish_at_any_byte_leave_nothing() {
    let mut tally = Tally::of(Class::Http);
    let (mut daemon, port) = http::daemon("vanishers", with(ALL_LEVELS), "");
    http::fill(&daemon, 400);
    let connected = || get(port).samples()["dovestat_connected_clients"].to_owned();
    let used = || get(port).samples()["dovestat_memory_used_bytes"].to_owned();
    let before = used();
    let whole = get(port).body.len();
    let mut random = Random::new(seed("vanishers", 101));
    for n in 0..400 {
        tally.tries(1);
        let mut stream = TcpStream::connect(local(port)).expect("connect");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let text = GET.repeat(1 + n % 3);
        let sent = match n % 4 {
            0 => random.index(text.len()),
            _ => text.len(),
        };
        // It may have been refused meanwhile.
        let _ = std::io::Write::write_all(&mut stream, &text.as_bytes()[..sent]);
        match n % 4 {
            1 => {
                let mut some = vec![0; 1 + random.index(whole)];
                stream.read_exact(&mut some).expect("a part of an answer");
            }
            2 => stream.shutdown(Shutdown::Write).expect("shutdown"),
            3 => stream.shutdown(Shutdown::Read).expect("shutdown"),
            _ => {}
        }
    }
    crate::harness::wait_until("all of them being gone", || connected() == "1");
    assert_eq!(used(), before, "nothing of the store is held for them");
    tally.check(&mut daemon);
}

#[test]
fn sums_of_a_scrape_are_those_of_export_whatever_is_scraped_beside() {
    let mut tally = Tally::of(Class::Http);
    let (mut daemon, port) = http::daemon("beside", with(ALL_LEVELS), "");
    populate(&daemon);
    let mut slow: Vec<_> = (0..20).map(|_| client(port)).collect();
    for client in &mut slow {
        tally.tries(1);
        client.send_while_taken(GET.repeat(300).as_bytes(), Duration::from_millis(50));
    }
    daemon.feed(&[connect("late", "late@d", "imap", 1, "10.0.0.9")]);
    let answer = ask(&mut client(port), GET);
    let samples = answer.samples();
    let global = daemon.client().export("global");
    for (name, column) in [("logins", "num_logins"), ("cmds", "num_cmds")] {
        let sample = samples[format!("dovestat_global_{name}_total").as_str()];
        assert_eq!(sample, global.only().get(column), "{name}");
    }
    drop(slow);
    tally.check(&mut daemon);
}
