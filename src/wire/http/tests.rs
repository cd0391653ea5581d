//! Heads of requests and responses.

use super::*;
use crate::store::testing::Random;

const PLAIN: HttpRequest = HttpRequest {
    method: Method::Get,
    path: b"/metrics",
    version: Version::V1_1,
    keep_alive: true,
    has_content: false,
    wants_openmetrics: false,
    host: None,
};

/// Reads what has come by now at once.
fn parse_head(input: &[u8]) -> Head<'_> {
    HeadReader::default().read(input)
}

/// Reads a whole request.
#[track_caller]
fn whole(head: &str) -> HttpRequest<'_> {
    match parse_head(head.as_bytes()) {
        Head::Whole(request, length) => {
            assert_eq!(length, head.len(), "{head:?}");
            request
        }
        other => panic!("{head:?}: {other:?}"),
    }
}

/// Reads a request with this line.
#[track_caller]
fn with(line: &str) -> Head<'static> {
    let head = format!("GET /metrics HTTP/1.1\r\n{line}\r\n\r\n");
    parse_head(head.leak().as_bytes())
}

#[test]
fn a_server_is_meant_by_address_and_its_own_names_alone() {
    let names = "mail.example.org stats";
    for host in [
        "",
        "127.0.0.1",
        "127.0.0.1:9166",
        "192.0.2.1",
        "[::1]",
        "[::1]:9166",
        "[fe80::1%25eth0]",
        "localhost",
        "LocalHost:80",
        "localhost.",
        "mail.example.org",
        "Mail.Example.ORG.:9166",
        "stats",
    ] {
        assert!(is_meant(host.as_bytes(), names), "{host}");
    }
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "evil.example:9166",
        "localhost.evil.example",
        "evillocalhost",
        "mail.example.org.evil.example",
        "amail.example.org",
        "127.0.0.1evil",
        "1.2.3",
        "127.1",
        "0x7f.0.0.1",
        "256.1.1.1",
        "::1",
        ":80",
        ".",
        "..",
        "localhost..",
        "evil.example@127.0.0.1",
        "127.0.0.1@evil.example",
        "localhost,evil.example",
        "x y",
    ] {
        assert!(!is_meant(host.as_bytes(), names), "{host}");
    }
    assert!(!is_meant(b"\xff", names));
    assert!(!is_meant(b"mail.example.org", ""));
}

/// Why a head is refused.
#[track_caller]
fn refusal(head: &[u8]) -> Status {
    match parse_head(head) {
        Head::Refused(status) => status,
        other => panic!("{:?}: {other:?}", String::from_utf8_lossy(head)),
    }
}

#[test]
fn requests_are_read() {
    let named = |host: &'static [u8]| HttpRequest {
        host: Some(host),
        ..PLAIN
    };
    assert_eq!(
        whole("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
        named(b"x")
    );
    assert_eq!(
        whole("\r\n\n\r\nGET /metrics HTTP/1.9\nHost:\n\n"),
        named(b"")
    );
    assert_eq!(whole("GET /metrics HTTP/1.1\r\n\r\n"), PLAIN);
    assert_eq!(
        with("Host: x\r\nhost: x"),
        Head::Refused(Status::BadRequest)
    );
    let old = HttpRequest {
        version: Version::V1_0,
        keep_alive: false,
        ..PLAIN
    };
    assert_eq!(whole("GET /metrics HTTP/1.0\r\n\r\n"), old);
    for (method, expected) in [
        ("HEAD", Method::Head),
        ("POST", Method::Other),
        ("get", Method::Other),
        ("PROPFIND", Method::Other),
    ] {
        let head = format!("{method} /metrics HTTP/1.1\r\n\r\n");
        assert_eq!(whole(&head).method, expected, "{method}");
    }
    // What follows stays.
    let two = b"GET / HTTP/1.1\r\n\r\nGET";
    assert!(matches!(parse_head(two), Head::Whole(_, 18)));
}

#[test]
fn targets_are_paths() {
    for (target, expected) in [
        ("/", "/"),
        ("/metrics?a=b/c?d", "/metrics"),
        ("/metrics#x", "/metrics"),
        ("/a%20b:c", "/a%20b:c"),
        ("http://host:9166/metrics?x", "/metrics"),
        ("HTTPS://host/", "/"),
        ("http://host", "/"),
        ("http://host?x", "/"),
        ("*", "*"),
        ("//metrics", "//metrics"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\n\r\n");
        assert_eq!(whole(&head).path, expected.as_bytes(), "{target}");
    }
    for target in ["", "metrics", "host:80", "ftp://host/", "http://", "/a\tb"] {
        let head = format!("GET {target} HTTP/1.1\r\n\r\n");
        assert_eq!(refusal(head.as_bytes()), Status::BadRequest, "{target:?}");
    }
}

#[test]
fn what_is_no_request_is_refused() {
    for head in [
        &b"GET /metrics\r\n"[..],
        b"GET  /metrics HTTP/1.1\r\n",
        b"GET /metrics HTTP/1.1 \r\n",
        b" GET /metrics HTTP/1.1\r\n",
        b"GE(T /metrics HTTP/1.1\r\n",
        b" / HTTP/1.1\r\n",
        b"GET /metrics http/1.1\r\n",
        b"GET /metrics HTTP/1.10\r\n",
        b"GET /metrics ICAP/1.0\r\n",
        b"EXPORT\tglobal\n",
        b"GET / HTTP/1.1\r\nno colon\r\n",
        b"GET / HTTP/1.1\r\n: empty\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n",
        b"GET / HTTP/1.1\r\nHost: x\ry\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n",
        b"GET / HTTP/1.1\r\nContent-Length:\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 1\r\n",
        // Seen before a line is whole: NUL, TLS.
        b"GET /\0",
        b"\x16\x03\x01",
    ] {
        let shown = String::from_utf8_lossy(head);
        assert_eq!(refusal(head), Status::BadRequest, "{shown:?}");
    }
    for version in ["0.9", "2.0", "3.1"] {
        let head = format!("GET / HTTP/{version}\r\n");
        assert_eq!(refusal(head.as_bytes()), Status::VersionNotSupported);
    }
}

#[test]
fn lengths_are_limited_to_the_byte() {
    let line = |bytes: usize| {
        let target = "x".repeat(bytes - "GET / HTTP/1.1".len());
        format!("GET /{target} HTTP/1.1")
    };
    let head = |bytes: usize| {
        let begin = "GET / HTTP/1.1\r\nX: ";
        format!("{begin}{}\r\n", "y".repeat(bytes - begin.len() - 2))
    };
    for bytes in [MAX_REQUEST_LINE_BYTES - 1, MAX_REQUEST_LINE_BYTES] {
        whole(&(line(bytes) + "\r\n\r\n"));
        whole(&(line(bytes) + "\n\n"));
    }
    for end in ["", "\r", "\n", "\r\n\r\n"] {
        let long = line(MAX_REQUEST_LINE_BYTES + 1) + end;
        assert_eq!(refusal(long.as_bytes()), Status::UriTooLong, "{end:?}");
    }
    for bytes in [MAX_HEAD_BYTES - 1, MAX_HEAD_BYTES] {
        assert_eq!(head(bytes).len(), bytes);
        whole(&(head(bytes) + "\r\n"));
    }
    let long = head(MAX_HEAD_BYTES + 1);
    assert_eq!(refusal(long.as_bytes()), Status::HeadTooLarge);
    let endless = "\r\n".repeat(MAX_HEAD_BYTES / 2 + 1);
    assert_eq!(refusal(endless.as_bytes()), Status::HeadTooLarge);
}

#[test]
fn connections_stay_open_as_asked() {
    for (version, line, stays) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "CONNECTION:upgrade , CLOSE\r\n", false),
        ("1.0", "", false),
        ("1.0", "connection: Keep-Alive\r\n", true),
        (
            "1.0",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
        ("1.0", "Connection: keep-alive-not\r\n", false),
    ] {
        let head = format!("GET / HTTP/{version}\r\n{line}\r\n");
        assert_eq!(whole(&head).keep_alive, stays, "{head:?}");
    }
}

#[test]
fn content_is_noticed() {
    for (line, has) in [
        ("Content-Length: 0", false),
        ("Content-Length: 000", false),
        ("content-length:1", true),
        ("Content-Length: 99999999999999999999999", true),
        ("Transfer-Encoding: chunked", true),
    ] {
        match with(line) {
            Head::Whole(request, _) => assert_eq!(request.has_content, has, "{line}"),
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn openmetrics_is_sent_to_who_prefers_it() {
    let prometheus = "application/openmetrics-text;version=1.0.0,\
        application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for (accept, wants) in [
        (prometheus, true),
        ("application/openmetrics-text", true),
        (
            "Application/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=0.001",
            true,
        ),
        ("application/openmetrics-text;q=0.5, text/plain;q=0.5", true),
        ("application/openmetrics-text;q=0.5, text/plain", false),
        ("text/plain, application/openmetrics-text;q=0.999", false),
        ("application/openmetrics-text;q=0", false),
        ("application/openmetrics-text;q=x", false),
        ("application/openmetrics-text;q=1.001", false),
        ("application/openmetrics-text;version=2.0.0", false),
        ("*/*", false),
        ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", false),
        (",;,;;q=,\u{fc}", false),
        ("", false),
    ] {
        match with(&format!("Accept: {accept}")) {
            Head::Whole(request, _) => assert_eq!(request.wants_openmetrics, wants, "{accept}"),
            other => panic!("{accept}: {other:?}"),
        }
    }
}

#[test]
fn the_way_bytes_arrive_makes_no_difference() {
    let mut random = Random::seeded("heads in pieces");
    let mut below = |limit: usize| random.below(limit as u64) as usize;
    let pieces: [&[u8]; 14] = [
        b"GET /metrics HTTP/1.1",
        b"HEAD / HTTP/1.0",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"Host: x",
        b"Connection: close",
        b"Content-Length: 1",
        b"Content-Length: 2",
        b" ",
        b"\0",
        b"x",
        b"Accept: application/openmetrics-text",
    ];
    for _ in 0..2000 {
        let mut input = Vec::new();
        for _ in 0..below(12) {
            let piece = pieces[below(pieces.len())];
            match below(400) {
                0 => input.extend(piece.repeat(below(MAX_HEAD_BYTES))),
                _ => input.extend_from_slice(piece),
            }
        }
        let at_once = parse_head(&input);
        let first = (0..=input.len())
            .map(|length| parse_head(&input[..length]))
            .find(|head| *head != Head::Partial)
            .unwrap_or(Head::Partial);
        let shown = String::from_utf8_lossy(&input);
        assert_eq!(first, at_once, "{shown:?}");
        let mut reader = HeadReader::default();
        let mut length = 0;
        while length < input.len() {
            length += 1 + below(input.len() - length);
            reader.read(&input[..length]);
        }
        assert_eq!(reader.read(&input), at_once, "in pieces: {shown:?}");
    }
}

#[test]
fn heads_of_responses_say_how_to_read_on() {
    let response = Response {
        status: Status::Ok,
        content_type: TEXT_TYPE,
        framing: Framing::Length(7),
        version: Version::V1_1,
        keep_alive: true,
    };
    let head = |response: &Response| {
        let mut out = Vec::new();
        write_head(&mut out, response, 784_111_777);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        head(&response),
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         Content-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: 7\r\n\r\n"
    );
    let refused = Response {
        status: Status::MethodNotAllowed,
        framing: Framing::Chunked,
        keep_alive: false,
        ..response
    };
    assert!(head(&refused)
        .ends_with("Transfer-Encoding: chunked\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\n"));
    let old = Response {
        version: Version::V1_0,
        framing: Framing::None,
        ..response
    };
    assert!(head(&old).ends_with("utf-8\r\nConnection: keep-alive\r\n\r\n"));
    let mut out = Vec::new();
    write_chunk_size(&mut out, 0x4000);
    assert_eq!(out, b"4000\r\n");
}

#[test]
fn dates_are_those_of_the_calendar() {
    for (secs, expected) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (68_255_999, "Tue, 29 Feb 1972 23:59:59 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (1_795_475_999, "Mon, 23 Nov 2026 23:19:59 GMT"),
        (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        (u32::MAX, "Sun, 07 Feb 2106 06:28:15 GMT"),
    ] {
        assert_eq!(date(secs), expected);
    }
}
