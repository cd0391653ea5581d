//! What a client of HTTP sends, and its path as a name in the metrics.

use super::input::{at, limits};
use dovestat::stats::Report;
use dovestat::store::{CommandUpdate, Filter, Level, Opening, Progress, Record, Store};
use dovestat::wire::http::{
    write_head, Framing, Head, HeadReader, Response, Status, Version, MAX_HEAD_BYTES,
    MAX_REQUEST_LINE_BYTES, TEXT_TYPE,
};
use dovestat::wire::metrics::{family_count, write_end, Format, LevelFamily};
use std::num::NonZeroU32;

/// More than a head may have.
const MOST_BYTES: usize = MAX_HEAD_BYTES + MAX_REQUEST_LINE_BYTES;

/// Whatever has come, what was decided of less stays so.
fn check_pieces(input: &[u8]) {
    let stride = 1 + input.len() / 64;
    let mut decided = None;
    let mut reader = HeadReader::default();
    for length in (0..input.len()).step_by(stride).chain([input.len()]) {
        let head = HeadReader::default().read(&input[..length]);
        assert_eq!(reader.read(&input[..length]), head, "{length} bytes");
        if let Head::Whole(_, whole) = head {
            assert!(whole > 0 && whole <= length);
        }
        match decided {
            Some(before) => assert_eq!(head, before, "{length} bytes"),
            None if head != Head::Partial => decided = Some(head),
            None => {}
        }
    }
    assert!(
        decided.is_some() || input.len() <= MOST_BYTES,
        "a head ends"
    );
}

/// The head of a response is lines of printable characters.
fn check_response(bytes: usize, version: Version, keep_alive: bool) {
    let response = Response {
        status: Status::Ok,
        content_type: TEXT_TYPE,
        framing: Framing::Length(bytes),
        version,
        keep_alive,
    };
    let mut out = Vec::new();
    write_head(&mut out, &response, bytes as u32);
    let text = String::from_utf8(out).expect("a head is text");
    let lines = text
        .strip_suffix("\r\n\r\n")
        .expect("an empty line ends it");
    for line in lines.split("\r\n") {
        assert!(
            line.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{line:?}"
        );
    }
}

/// A sample is `NAME VALUE` or `NAME{LABEL="TEXT",...} VALUE`.
fn check_sample(line: &str) {
    let (name, value) = match line.split_once('{') {
        None => line.split_once(' ').expect("a value"),
        Some((name, mut labels)) => loop {
            let (label, rest) = labels.split_once("=\"").expect("a label");
            let known = ["user", "domain", "ip", "service", "cmd", "le"];
            assert!(known.contains(&label), "{line}");
            let mut end = None;
            let mut bytes = rest.bytes().enumerate();
            while let Some((at, byte)) = bytes.next() {
                match byte {
                    b'"' => {
                        end = Some(at);
                        break;
                    }
                    b'\\' => {
                        let (_, escaped) = bytes.next().expect("an escape is whole");
                        assert!(b"\\\"n".contains(&escaped), "{line}");
                    }
                    _ => {}
                }
            }
            let rest = &rest[end.expect("the end of a label") + 1..];
            match rest.strip_prefix(',') {
                Some(rest) => labels = rest,
                None => break (name, rest.strip_prefix("} ").expect("a value")),
            }
        },
    };
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    assert!(name.bytes().all(is_name), "{line}");
    assert!(value.parse::<f64>().is_ok(), "{line}");
}

/// All metrics about a user of that name, whose session has a service and a command of it.
fn check_metrics(name: &[u8]) {
    let mut store = Store::new(&limits(256 << 10), at(0)).expect("the limit is large enough");
    let report = &Report::default();
    store.apply(
        &Record::AddUser {
            user: name,
            service: b"imap",
            ip: None,
            report,
        },
        at(1),
    );
    let begins = Some((name, &b""[..]));
    for record in [
        Record::Connect {
            session: b"s",
            user: name,
            service: name,
            pid: 1,
            ip: None,
        },
        Record::UpdateCommand {
            session: b"s",
            update: CommandUpdate {
                number: NonZeroU32::MIN,
                begins,
                done: true,
                report,
            },
        },
    ] {
        store.apply(&record, at(2));
    }
    for (format, level) in [
        (Format::Text, Level::Service),
        (Format::OpenMetrics, Level::Cmd),
        (Format::Text, Level::User),
        (Format::OpenMetrics, Level::Domain),
    ] {
        let mut out = Vec::new();
        for index in 0..family_count(level) {
            let family = LevelFamily::new(level, index);
            family.write(&mut out, format);
            let Opening::Rows(cursor) = store.open(level, Filter::default()) else {
                return;
            };
            while store.read(&cursor, &mut 100, |row| {
                family.write_row(&mut out, row);
                true
            }) == Progress::More
            {}
            store.close(cursor);
        }
        write_end(&mut out, format);
        let text = String::from_utf8(out).expect("metrics are text");
        for line in text.strip_suffix('\n').unwrap_or(&text).split('\n') {
            assert!(!line.contains(char::is_control), "{line:?}");
            if !line.starts_with("# ") {
                check_sample(line);
            }
        }
    }
}

/// Requests, one behind the other.
pub fn run(bytes: &[u8]) {
    let mut rest = bytes;
    for _ in 0..4 {
        check_pieces(rest);
        let Head::Whole(request, length) = HeadReader::default().read(rest) else {
            break;
        };
        assert!(!request.path.contains(&b' '));
        check_response(rest.len() * 1000, request.version, request.keep_alive);
        rest = &rest[length..];
    }
    check_metrics(&bytes[..bytes.len().min(500)]);
}
