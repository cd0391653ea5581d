//! What Dovecot 2.4 sends: lines of its event exporter, and replies of its anvil. The
//! first byte of the input chooses.

use dovestat::cli::bridge::anvil::{guid_pid, guid_usecs, Line, Reply};
use dovestat::cli::bridge::events::{Event, Kind};
use dovestat::wire::push_escaped;

/// An event is made of pieces of its line, and says the same when it is written again.
fn check_event(line: &[u8]) {
    let mut bytes = line.to_vec();
    let Ok(event) = Event::parse(&mut bytes) else {
        return;
    };
    assert!(line.starts_with(b"event:"));
    let known = [b"user".as_slice(), b"session", b"remote_ip", b"cmd_name"];
    for name in known {
        if let Some(value) = event.get(name) {
            let mut escaped = Vec::new();
            push_escaped(&mut escaped, value);
            assert!(value.len() <= line.len());
            assert!(!escaped.contains(&b'\t') && !escaped.contains(&b'\n'));
        }
    }
    let (kind, number, ip) = (event.kind, event.number("duration"), event.ip());
    let (service, start_usecs) = (event.service().to_vec(), event.start_usecs);
    // A torn line never becomes part of its successor, wherever it is torn.
    for cut in [
        1,
        line.len() / 3,
        line.len() / 2,
        line.len() - 1,
        line.len(),
    ] {
        let mut torn = [&line[..cut], line].concat();
        assert!(cut == 0 || Event::parse(&mut torn).is_err(), "{torn:?}");
    }
    let mut again = line.to_vec();
    let same = Event::parse(&mut again).expect("the same line");
    assert_eq!(
        (same.kind, same.number("duration"), same.ip()),
        (kind, number, ip)
    );
    assert_eq!((same.service(), same.start_usecs), (&*service, start_usecs));
    assert!(kind != Kind::Command || !service.is_empty());
}

/// A reply has an end, or none; its rows are whole.
fn check_reply(input: &[u8]) {
    let mut reply = Reply::default();
    for (number, line) in input.split(|&byte| byte == b'\n').enumerate() {
        match reply.take(&mut line.to_vec()) {
            Line::Foreign => {
                assert_eq!(number, 0);
                return;
            }
            Line::End => {
                assert!(number >= 2 && line.is_empty());
                return;
            }
            Line::Head => assert!(number < 2),
            Line::Refused => assert!(number >= 2 && !line.is_empty()),
            Line::Row(row) => {
                assert!(number >= 2 && row.pid > 0 && row.pid < 1 << 31);
                assert!(row.user.len() + row.service.len() + row.ip.len() < line.len());
                let _ = (guid_pid(&row.guid), guid_usecs(&row.guid));
            }
        }
    }
}

pub fn run(input: &[u8]) {
    match input.split_first() {
        Some((b'a', reply)) => check_reply(reply),
        Some((_, lines)) => lines.split(|&byte| byte == b'\n').for_each(check_event),
        None => {}
    }
}
