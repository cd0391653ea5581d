//! A record as the line that a mail process writes to a FIFO.
//!
//! A line is written by one write(2) of at most [`MAX_RECORD_BYTES`], so that
//! records of different writers never mix. The arguments of a command are cut where the
//! line would be longer, as by Dovecot's plugin.

use super::encoding::base64;
use super::encoding::escape::max_escaped_bytes;
use super::push_escaped;
use super::record::MAX_STATS_BYTES;
use crate::stats::Report;
use crate::store::{CommandUpdate, Record};
use std::net::IpAddr;

/// The longest record with its LF: what a pipe takes whole or not at all.
pub(super) const MAX_RECORD_BYTES: usize = libc::PIPE_BUF;

/// A record is longer than [`MAX_RECORD_BYTES`], even without arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Replaces `line` by a record with its LF.
///
/// # Errors
/// [`TooLong`] when cutting arguments is not enough; `line` is empty then.
pub fn write_record(line: &mut Vec<u8>, record: &Record<'_>) -> Result<(), TooLong> {
    line.clear();
    match record {
        Record::Connect {
            session,
            user,
            service,
            pid,
            ip,
        } => {
            line.extend_from_slice(b"CONNECT");
            push_fields(line, &[session, user, service, pid.to_string().as_bytes()]);
            push_address(line, *ip);
        }
        Record::UpdateSession { session, report } => {
            line.extend_from_slice(b"UPDATE-SESSION");
            push_fields(line, &[session]);
            push_report(line, report);
        }
        Record::UpdateCommand { session, update } => push_command(line, session, update),
        Record::AddUser {
            user,
            service,
            ip,
            report,
        } => {
            line.extend_from_slice(b"ADD-USER");
            push_fields(line, &[user, service]);
            push_report(line, report);
            push_address(line, *ip);
        }
        Record::Disconnect { session } => {
            line.extend_from_slice(b"DISCONNECT");
            push_fields(line, &[session]);
        }
    }
    line.push(b'\n');
    if line.len() > MAX_RECORD_BYTES {
        line.clear();
        return Err(TooLong);
    }
    Ok(())
}

/// Appends fields, each behind a TAB.
fn push_fields(line: &mut Vec<u8>, fields: &[&[u8]]) {
    for field in fields {
        line.push(b'\t');
        push_escaped(line, field);
    }
}

/// Appends the client's address behind a TAB, if there is one.
fn push_address(line: &mut Vec<u8>, ip: Option<IpAddr>) {
    if let Some(ip) = ip {
        push_fields(line, &[format!("rip={ip}").as_bytes()]);
    }
}

/// Appends a stats field behind a TAB.
fn push_report(line: &mut Vec<u8>, report: &Report) {
    let mut bytes = Vec::with_capacity(MAX_STATS_BYTES);
    report.encode(&mut bytes);
    line.push(b'\t');
    base64::push_encoded(line, &bytes);
}

/// Appends an UPDATE-CMD without its LF, its arguments as long as there is room.
fn push_command(line: &mut Vec<u8>, session: &[u8], update: &CommandUpdate<'_>) {
    let flags: &[u8] = match (update.begins.is_some(), update.done) {
        (true, false) => b"",
        (true, true) => b"d",
        (false, false) => b"c",
        (false, true) => b"cd",
    };
    line.extend_from_slice(b"UPDATE-CMD");
    let number = update.number.to_string();
    push_fields(line, &[session, number.as_bytes(), flags]);
    let mut stats = Vec::with_capacity(MAX_STATS_BYTES);
    push_report(&mut stats, update.report);
    if let Some((name, args)) = update.begins {
        push_fields(line, &[name]);
        line.push(b'\t');
        let room = MAX_RECORD_BYTES.saturating_sub(line.len() + stats.len() + 1);
        push_cut(line, args, room);
    }
    line.extend_from_slice(&stats);
}

/// Appends as much of an escaped text as fits into `room` bytes: no half of an
/// escape, and of UTF-8 no part of a character.
fn push_cut(line: &mut Vec<u8>, text: &[u8], room: usize) {
    if max_escaped_bytes(text.len()) <= room {
        return push_escaped(line, text);
    }
    let start = line.len();
    for chunk in text.utf8_chunks() {
        let characters = chunk.valid().split_inclusive(|_| true).map(str::as_bytes);
        for piece in characters.chain(chunk.invalid().chunks(1)) {
            let before = line.len();
            push_escaped(line, piece);
            if line.len() - start > room {
                line.truncate(before);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Stats;
    use crate::store::testing::Random;
    use crate::wire::{parse_record, StatsRoom};
    use std::num::NonZeroU32;

    fn report(random: &mut Random) -> Report {
        let mut stats = Stats::default();
        let (has_mail, has_auth) = (random.below(4) > 0, random.below(4) > 0);
        let has_net = random.below(4) > 0;
        for (value, field) in stats.values.iter_mut().zip(&crate::stats::FIELDS) {
            let has = match field.item {
                crate::stats::Item::Mail => has_mail,
                crate::stats::Item::Auth => has_auth,
                crate::stats::Item::Net => has_net,
            };
            *value = if has { random.below(1 << 32) } else { 0 };
        }
        Report {
            stats,
            has_mail,
            has_auth,
            has_net,
        }
    }

    fn text(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
        let length = random.below(12);
        (0..length)
            .map(|_| bytes[random.below(bytes.len() as u64) as usize])
            .collect()
    }

    #[test]
    fn every_record_is_read_as_it_was_written() {
        let mut random = Random::seeded("every_record_is_read_as_it_was_written");
        let mut line = Vec::new();
        for _ in 0..20_000 {
            let odd = b"ab@.\t\n\r\0\x01\xc3\xa9";
            let (session, user, name) = (
                text(&mut random, b"abc/="),
                text(&mut random, odd),
                text(&mut random, odd),
            );
            let report = &report(&mut random);
            let ips = [None, "192.0.2.1".parse().ok(), "2001:db8::1".parse().ok()];
            let record = match random.below(5) {
                0 => Record::Connect {
                    session: &session,
                    user: &user,
                    service: &name,
                    pid: random.below(1 << 31) as u32,
                    ip: ips[random.below(3) as usize],
                },
                1 => Record::UpdateSession {
                    session: &session,
                    report,
                },
                2 => Record::UpdateCommand {
                    session: &session,
                    update: CommandUpdate {
                        number: NonZeroU32::new(random.below(1 << 32) as u32)
                            .unwrap_or(NonZeroU32::MIN),
                        begins: (random.below(2) > 0).then_some((b"FETCH", &user)),
                        done: random.below(2) > 0,
                        report,
                    },
                },
                3 => Record::AddUser {
                    user: &user,
                    service: b"auth",
                    ip: None,
                    report,
                },
                _ => Record::Disconnect { session: &session },
            };
            write_record(&mut line, &record).unwrap();
            assert_eq!(line.pop(), Some(b'\n'));
            assert!(!line.contains(&b'\n'));
            let (room, read) = (&mut StatsRoom::default(), &mut Report::default());
            assert_eq!(parse_record(&mut line, room, read), Ok(record));
        }
    }

    /// A new command with these arguments; its arguments as they are read.
    fn args_of(args: &[u8]) -> (usize, Vec<u8>) {
        let update = CommandUpdate {
            number: NonZeroU32::MIN,
            begins: Some((b"FETCH", args)),
            done: true,
            report: &Report::default(),
        };
        let mut line = Vec::new();
        let session = b"id";
        write_record(&mut line, &Record::UpdateCommand { session, update }).unwrap();
        let length = line.len();
        line.pop();
        let (room, report) = (&mut StatsRoom::default(), &mut Report::default());
        match parse_record(&mut line, room, report) {
            Ok(Record::UpdateCommand { update, .. }) => (length, update.begins.unwrap().1.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn arguments_are_cut_at_the_limit_between_characters() {
        let room = MAX_RECORD_BYTES - args_of(b"").0;
        for length in [room - 1, room] {
            let (line, args) = args_of(&vec![b'x'; length]);
            assert_eq!(line, MAX_RECORD_BYTES - room + length);
            assert_eq!(args.len(), length);
        }
        let (line, args) = args_of(&vec![b'x'; room + 1]);
        assert_eq!((line, args.len()), (MAX_RECORD_BYTES, room));
        for (odd, whole) in [("\u{e9}", 1), ("\t", 1), ("\u{1f600}", 1)] {
            let mut text = "x".repeat(room - 1);
            text += odd;
            let (line, args) = args_of(text.as_bytes());
            assert_eq!((line, args.len()), (MAX_RECORD_BYTES - whole, room - 1));
        }
        let (line, args) = args_of(&vec![0xff; room + 5]);
        assert_eq!((line, args.len()), (MAX_RECORD_BYTES, room));
    }

    #[test]
    fn what_cannot_be_cut_is_too_long() {
        let mut line = Vec::new();
        for (length, fits) in [(-1, true), (0, true), (1, false)] {
            let name = vec![b'u'; (MAX_RECORD_BYTES as i64 - 12 + length) as usize];
            let record = Record::Disconnect { session: &name };
            assert_eq!(write_record(&mut line, &record).is_ok(), fits);
            assert_eq!(line.is_empty(), !fits);
        }
    }
}
