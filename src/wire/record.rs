//! A line that a mail process wrote to a FIFO.
//!
//! A record is read as a whole before anything is done about it. Fields beyond
//! those of its kind are ignored, as by Dovecot's service.

use super::encoding::base64;
use super::{parse_number, take_field};
use crate::stats::{Report, StatsError};
use crate::store::{CommandUpdate, Record};
use crate::sys::mem::bytes::find_last;
use crate::wire::encoding::escape::{find_tab_or_escape, unescape};
use std::net::IpAddr;
use std::num::NonZeroU32;

/// Why a line is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The first field is no kind of record.
    UnknownKind,
    /// A field is missing.
    MissingField,
    /// The pid is not a number from 0 to 2^31 - 1.
    BadPid,
    /// The command-id is not a number from 1 to 2^32 - 1.
    BadCommandId,
    /// A flag other than `c` and `d`.
    BadFlags,
    /// The stats field is not base64.
    BadBase64,
    /// The stats field is base64 of something else.
    BadStats(StatsError),
}

/// The most bytes that a stats field may decode to: thrice what both items take.
/// A longer one is taken for no base64 at all.
pub(super) const MAX_STATS_BYTES: usize = 512;

/// Room for a stats field as it is decoded from base64, reused for each record.
#[derive(Debug)]
pub struct StatsRoom([u8; MAX_STATS_BYTES]);

impl Default for StatsRoom {
    fn default() -> StatsRoom {
        StatsRoom([0; MAX_STATS_BYTES])
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Connect,
    UpdateSession,
    UpdateCommand,
    AddUser,
    Disconnect,
}

impl Kind {
    /// The kind in the first field of a line, and where its next field begins: behind the
    /// line's end if there is none.
    #[inline(always)]
    fn of(line: &[u8]) -> Option<(Kind, usize)> {
        macro_rules! first_of {
            ($($name:literal => $kind:ident,)*) => {$(
                // By arrays, which are compared without a call.
                if line.first_chunk() == Some($name) && matches!(line.get($name.len()), None | Some(b'\t')) {
                    return Some((Kind::$kind, $name.len() + 1));
                }
            )*};
        }
        first_of! {
            b"UPDATE-SESSION" => UpdateSession,
            b"UPDATE-CMD" => UpdateCommand,
            b"CONNECT" => Connect,
            b"DISCONNECT" => Disconnect,
            b"ADD-USER" => AddUser,
        }
        None
    }
}

/// Reads a record from a line without its LF, to where it is to lie: told to make programs
/// small, the compiler would copy it by a slow instruction. Escapes are undone within
/// `line`; the numbers of the record, if it has any, are put into `report`.
///
/// # Errors
/// The first thing that is wrong with it.
#[inline]
pub(crate) fn read_record<'a>(
    line: &'a mut [u8],
    room: &mut StatsRoom,
    report: &'a mut Report,
    record: &mut Record<'a>,
) -> Result<(), Refusal> {
    let (kind, begin) = Kind::of(line).ok_or(Refusal::UnknownKind)?;
    let mut rest = line.get_mut(begin..);
    let subject = first_text(&mut rest)?;
    match kind {
        Kind::Connect => *record = connect(subject, rest)?,
        Kind::Disconnect => *record = Record::Disconnect { session: subject },
        Kind::UpdateSession => {
            *record = Record::UpdateSession {
                session: subject,
                report: room.read(&mut rest, report)?,
            };
        }
        Kind::UpdateCommand => {
            *record = Record::UpdateCommand {
                session: subject,
                update: command(rest, room, report)?,
            };
        }
        Kind::AddUser => {
            let service = text(&mut rest)?;
            let report = room.read(&mut rest, report)?;
            *record = Record::AddUser {
                user: subject,
                service,
                // Dovecot's own writers send nothing more.
                ip: rest.and_then(|rest| remote_address(Some(rest))),
                report,
            };
        }
    }
    Ok(())
}

/// Reads a record as [`read_record`] does.
///
/// # Errors
/// The first thing that is wrong with it.
#[cfg(any(test, feature = "internals"))]
pub fn parse_record<'a>(
    line: &'a mut [u8],
    room: &mut StatsRoom,
    report: &'a mut Report,
) -> Result<Record<'a>, Refusal> {
    let mut record = Record::Disconnect { session: b"" };
    read_record(line, room, report, &mut record)?;
    Ok(record)
}

/// The next field, without its escapes.
#[inline(always)]
fn text<'a>(rest: &mut Option<&'a mut [u8]>) -> Result<&'a [u8], Refusal> {
    first_text(rest)
}

/// The next field, without its escapes; most often it has none.
#[inline(always)]
fn first_text<'a>(rest: &mut Option<&'a mut [u8]>) -> Result<&'a [u8], Refusal> {
    let bytes = rest.take().ok_or(Refusal::MissingField)?;
    let at = find_tab_or_escape(bytes);
    match bytes.get(at) {
        None => Ok(bytes),
        Some(b'\t') => {
            let (field, behind) = bytes.split_at_mut(at);
            *rest = Some(&mut behind[1..]);
            Ok(field)
        }
        Some(_) => {
            *rest = Some(bytes);
            escaped_text(rest)
        }
    }
}

/// The next field, which may have escapes, without them.
#[cold]
#[inline(never)]
fn escaped_text<'a>(rest: &mut Option<&'a mut [u8]>) -> Result<&'a [u8], Refusal> {
    take_field(rest).map(unescape).ok_or(Refusal::MissingField)
}

/// The next field as a number, which most often has a few digits and no escapes.
fn number(rest: &mut Option<&mut [u8]>) -> Result<Option<u32>, Refusal> {
    let (mut value, mut digits) = (0, 0);
    let bytes = rest.as_deref().unwrap_or_default();
    while let (Some(digit @ b'0'..=b'9'), 0..9) = (bytes.get(digits), digits) {
        value = value * 10 + u32::from(digit - b'0');
        digits += 1;
    }
    if let (1.., Some(b'\t')) = (digits, bytes.get(digits)) {
        *rest = rest.take().and_then(|bytes| bytes.get_mut(digits + 1..));
        return Ok(Some(value));
    }
    text(rest).map(parse_number)
}

impl StatsRoom {
    /// The next field as a stats field. It most often is the last and has no escapes, as
    /// base64 has none: what ends it and escapes are looked for only where what is left
    /// is no base64 as it stands.
    #[inline(always)]
    fn read<'a>(
        &mut self,
        rest: &mut Option<&mut [u8]>,
        report: &'a mut Report,
    ) -> Result<&'a Report, Refusal> {
        let field = rest.as_deref().ok_or(Refusal::MissingField)?;
        let length = match base64::decode(field, &mut self.0) {
            Some(length) => {
                *rest = None;
                length
            }
            None => base64::decode(text(rest)?, &mut self.0).ok_or(Refusal::BadBase64)?,
        };
        self.report(length, report)
    }

    /// The arguments of a command, and the length of the stats field behind them, which is
    /// decoded.
    ///
    /// Dovecot 2.3's IMAP plugin does not escape TABs of the arguments: all fields before
    /// the last one are arguments. Most often there is one, without escapes: then what
    /// follows it is base64 to the end.
    fn read_args<'a>(&mut self, fields: &'a mut [u8]) -> Result<(&'a [u8], usize), Refusal> {
        let at = find_tab_or_escape(fields);
        if let Some([b'\t', stats @ ..]) = fields.get(at..) {
            if let Some(length) = base64::decode(stats, &mut self.0) {
                return Ok((&fields[..at], length));
            }
        }
        let at = find_last(b'\t', fields).ok_or(Refusal::MissingField)?;
        let (args, stats) = fields.split_at_mut(at);
        let length = base64::decode(unescape(&mut stats[1..]), &mut self.0);
        Ok((unescape(args), length.ok_or(Refusal::BadBase64)?))
    }

    /// The report in the first bytes of the room.
    #[inline(never)]
    fn report<'a>(&self, length: usize, report: &'a mut Report) -> Result<&'a Report, Refusal> {
        let decoded = report.decode(&self.0[..length]);
        decoded.map(|()| &*report).map_err(Refusal::BadStats)
    }
}

/// The fields of CONNECT behind the id.
fn connect<'a>(session: &'a [u8], mut rest: Option<&'a mut [u8]>) -> Result<Record<'a>, Refusal> {
    let user = text(&mut rest)?;
    let service = text(&mut rest)?;
    let pid = number(&mut rest)?
        .filter(|&pid| pid <= i32::MAX as u32)
        .ok_or(Refusal::BadPid)?;
    Ok(Record::Connect {
        session,
        user,
        service,
        pid,
        ip: remote_address(rest),
    })
}

/// The client's address from the `key=value` fields that are left.
fn remote_address(mut rest: Option<&mut [u8]>) -> Option<IpAddr> {
    let mut ip = None;
    while let Ok(field) = text(&mut rest) {
        if let Some(address) = field.strip_prefix(b"rip=") {
            // Dovecot 2.3's LMTP sends an empty one for a client on a UNIX
            // socket: a session without address.
            ip = parse_address(address);
        }
    }
    ip
}

/// An address of either family.
pub(super) fn parse_address(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The fields of UPDATE-CMD behind the id.
fn command<'a>(
    mut rest: Option<&'a mut [u8]>,
    room: &mut StatsRoom,
    report: &'a mut Report,
) -> Result<CommandUpdate<'a>, Refusal> {
    let number = number(&mut rest)?.and_then(NonZeroU32::new);
    let number = number.ok_or(Refusal::BadCommandId)?;
    let (mut goes_on, mut done) = (false, false);
    for flag in text(&mut rest)? {
        match flag {
            b'c' => goes_on = true,
            b'd' => done = true,
            _ => return Err(Refusal::BadFlags),
        }
    }
    let (begins, report) = match goes_on {
        true => (None, room.read(&mut rest, report)?),
        false => {
            let name = text(&mut rest)?;
            let fields = rest.ok_or(Refusal::MissingField)?;
            let (args, length) = room.read_args(fields)?;
            (Some((name, args)), room.report(length, report)?)
        }
    };
    Ok(CommandUpdate {
        number,
        begins,
        done,
        report,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Record<'static>, Refusal> {
        let line = line.as_bytes().to_vec().leak();
        parse_record(line, &mut StatsRoom::default(), Box::leak(Box::default()))
    }

    #[test]
    fn reads_the_five_records() {
        assert_eq!(
            parse("CONNECT\tid\tu@d\timap\t24391\tlip=127.0.0.1\trip=::1\tother"),
            Ok(Record::Connect {
                session: b"id",
                user: b"u@d",
                service: b"imap",
                pid: 24391,
                ip: Some("::1".parse().unwrap()),
            })
        );
        assert_eq!(
            parse("UPDATE-SESSION\tid\t"),
            Ok(Record::UpdateSession {
                session: b"id",
                report: &Report::default(),
            })
        );
        assert_eq!(
            parse("ADD-USER\tu\tauth\t"),
            Ok(Record::AddUser {
                user: b"u",
                service: b"auth",
                ip: None,
                report: &Report::default(),
            })
        );
        assert_eq!(
            parse("DISCONNECT\tid"),
            Ok(Record::Disconnect { session: b"id" })
        );
    }

    #[test]
    fn a_session_may_have_no_address() {
        for rip in ["", "\trip=", "\trip=1.2.3", "\trip=::1\trip="] {
            match parse(&format!("CONNECT\tid\tu\tlmtp\t2147483647{rip}")) {
                Ok(Record::Connect { ip: None, .. }) => {}
                other => panic!("{rip:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn numbers_of_any_length_are_read_or_refused() {
        for (digits, value) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("12345678", Some(12_345_678)),
            ("123456789", Some(123_456_789)),
            ("1234567890", Some(1_234_567_890)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
            ("00000000042", Some(42)),
            ("", None),
            ("12a", None),
            ("-1", None),
        ] {
            for behind in ["", "\t", "\trest"] {
                let mut line = format!("{digits}{behind}").into_bytes();
                let mut rest = Some(&mut line[..]);
                assert_eq!(number(&mut rest), Ok(value), "{digits:?} before {behind:?}");
                let expected = behind.strip_prefix('\t').map(str::as_bytes);
                assert_eq!(rest.as_deref(), expected, "{digits:?} before {behind:?}");
            }
        }
    }

    fn command(line: &str) -> CommandUpdate<'static> {
        match parse(line) {
            Ok(Record::UpdateCommand { update, .. }) => update,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn reads_commands_with_every_combination_of_flags() {
        let update = command("UPDATE-CMD\tid\t7\t\tSELECT\tINBOX\t");
        assert_eq!(update.number.get(), 7);
        assert_eq!(
            (update.begins, update.done),
            (Some((&b"SELECT"[..], &b"INBOX"[..])), false)
        );
        assert!(command("UPDATE-CMD\tid\t7\td\tNOOP\t\t").done);
        for flags in ["c", "cd", "dc"] {
            let update = command(&format!("UPDATE-CMD\tid\t7\t{flags}\t"));
            assert_eq!((update.begins, update.done), (None, flags.len() == 2));
        }
    }

    #[test]
    fn takes_tabs_in_arguments_as_arguments() {
        let update = command("UPDATE-CMD\tid\t7\td\tSEARCH\tTEXT \"a\tb\"\tx\x01ty\t");
        assert_eq!(
            update.begins,
            Some((&b"SEARCH"[..], &b"TEXT \"a\tb\"\tx\ty"[..]))
        );
    }

    #[test]
    fn refuses_with_the_first_thing_that_is_wrong() {
        for (line, refusal) in [
            ("", Refusal::UnknownKind),
            ("connect\tid\tu\ti\t1", Refusal::UnknownKind),
            ("CONNECT", Refusal::MissingField),
            ("CONNECT\tid\tu\timap", Refusal::MissingField),
            ("CONNECT\tid\tu\timap\t", Refusal::BadPid),
            ("CONNECT\tid\tu\timap\t-1", Refusal::BadPid),
            ("CONNECT\tid\tu\timap\t2147483648", Refusal::BadPid),
            ("UPDATE-SESSION\tid", Refusal::MissingField),
            ("UPDATE-SESSION\tid\t!", Refusal::BadBase64),
            (
                "UPDATE-SESSION\tid\tAAAA",
                Refusal::BadStats(StatsError::UnknownItem),
            ),
            (
                "UPDATE-SESSION\tid\tbWFpbA==",
                Refusal::BadStats(StatsError::Truncated),
            ),
            ("UPDATE-CMD\tid\t0\tc\t", Refusal::BadCommandId),
            ("UPDATE-CMD\tid\t4294967296\tc\t", Refusal::BadCommandId),
            ("UPDATE-CMD\tid\t+1\tc\t", Refusal::BadCommandId),
            ("UPDATE-CMD\tid\t1\tx\t", Refusal::BadFlags),
            ("UPDATE-CMD\tid\t1\t\tNOOP", Refusal::MissingField),
            ("UPDATE-CMD\tid\t1\t\tNOOP\t", Refusal::MissingField),
            ("UPDATE-CMD\tid\t1\tc", Refusal::MissingField),
            ("ADD-USER\tu\t", Refusal::MissingField),
            ("DISCONNECT", Refusal::MissingField),
        ] {
            assert_eq!(parse(line), Err(refusal), "{line:?}");
        }
    }
}
