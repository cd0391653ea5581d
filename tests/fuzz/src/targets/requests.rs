//! The bytes of a client against a small store, and the replies read by our client.

use super::input::{at, limits};
use super::naive;
use dovestat::cli::server::{Event, ReplyParser};
use dovestat::stats::Report;
use dovestat::store::{CommandUpdate, Level, Opening, Progress, Record, Store};
use dovestat::wire::{parse_request, write_header, write_row, ColumnOrder, Columns, Request};
use std::num::NonZeroU32;

/// Sessions, users and addresses with all that makes names hard to print.
const SESSIONS: [(&[u8], &[u8], &str); 8] = [
    (b"s1", b"alice@example.org", "10.0.0.1"),
    (b"s2", b"alice@example.org", "2001:db8::1"),
    (b"s\t3\n", b"bob@example.org", "10.0.0.2"),
    (b"s4", b"carol@example.com", "::ffff:10.0.0.1"),
    (b"s5", b"\x00\x01\t\r\n\xff@\x01", ""),
    (b"s6", b"a*?b@", "10.0.0.1"),
    (b"", b"", "::"),
    (b"s8", b"@@", "0.0.0.0"),
];

/// A store that has them, half of them disconnected, with a command each.
fn store() -> Store {
    let mut store = Store::new(&limits(256 << 10), at(0)).expect("the limit is large enough");
    for (number, (session, user, ip)) in (1u32..).zip(SESSIONS) {
        let now = at(number);
        let connect = Record::Connect {
            session,
            user,
            service: b"imap",
            pid: number,
            ip: ip.parse().ok(),
        };
        store.apply(&connect, now);
        let update = CommandUpdate {
            number: NonZeroU32::MIN,
            begins: Some((b"FETCH", session)),
            done: number % 3 == 0,
            report: &Report::default(),
        };
        store.apply(&Record::UpdateCommand { session, update }, now);
        if number % 2 == 0 {
            store.apply(&Record::Disconnect { session }, now);
        }
    }
    store
}

/// The reply to EXPORT, as our client takes it apart.
fn check_reply(reply: &[u8], rows: usize) {
    let mut parser = ReplyParser::default();
    parser.feed(reply);
    let (mut columns, mut found) = (None, 0);
    loop {
        match parser
            .next()
            .expect("a reply is sound")
            .expect("a reply is whole")
        {
            Event::Header(names) => columns = Some(names.len()),
            Event::Row(row) => {
                assert_eq!(Some(row.fields().count()), columns);
                found += 1;
            }
            Event::End => break,
            Event::Nothing => panic!("a header was written"),
        }
    }
    assert!(parser.is_between_replies());
    assert_eq!(found, rows);
}

/// Lines of a client.
pub fn run(bytes: &[u8]) {
    let mut store = store();
    for line in bytes.split(|&byte| byte == b'\n').take(16) {
        match parse_request(&mut line.to_vec()) {
            Ok(Request::Reset) => store.reset(at(100)),
            Ok(Request::Status) => {}
            Ok(Request::Export {
                level,
                filter,
                more,
                histogram,
            }) => {
                let steps = 1 + line.len() % 7;
                let says_all = !filter.connected && filter.ip.is_none();
                let are_entries = (level as usize) < Level::Global as usize;
                if are_entries && filter.cmd.is_none() && (says_all || level != Level::Command) {
                    let expected = naive::expected(&mut store, level, &filter);
                    let found = naive::listed(&mut store, level, filter.clone(), steps);
                    assert_eq!(found, expected, "{level:?} {filter:?}");
                }
                let columns = Columns {
                    order: match line.len() % 2 {
                        0 => ColumnOrder::V2_2,
                        _ => ColumnOrder::V2_3,
                    },
                    more,
                    histogram,
                };
                let Opening::Rows(cursor) = store.open(level, filter) else {
                    continue;
                };
                let (mut reply, mut rows) = (Vec::new(), 0);
                write_header(&mut reply, level, columns);
                while store.read(&cursor, &mut steps.clone(), |row| {
                    write_row(&mut reply, row, columns);
                    rows += 1;
                    rows % 3 > 0
                }) == Progress::More
                {}
                store.close(cursor);
                reply.push(b'\n');
                check_reply(&reply, rows);
            }
            Err(_) => {}
        }
    }
    store.check();
}
