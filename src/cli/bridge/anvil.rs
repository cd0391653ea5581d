//! What anvil says: which process serves which session.
//!
//! The reply to CONNECT-DUMP is `VERSION` TAB `anvil-server` TAB major TAB minor, a line
//! with the names of alternative user fields, a row for each connection, and an empty
//! line. A row is pid, user, service, ip (empty for none), conn_guid (32 digits),
//! dest_ip and the alternative users; TAB-separated with the escapes of the FIFO
//! protocol, so that no name can pass for another field.
//!
//! The guid contains when the mail process got the connection, and the process that
//! made it: little-endian 32-bit nanoseconds, seconds, pid, host.
//!
//! Must not: read or write anything.

use crate::wire::{parse_number, unescape};

/// Asks for all connections.
pub const REQUEST: &[u8] = b"VERSION\tanvil-client\t2\t0\n\nCONNECT-DUMP\n";

/// The id of a connection.
pub type Guid = [u8; 16];

/// A connection that a process serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    pub pid: u32,
    pub user: &'a [u8],
    pub service: &'a [u8],
    pub ip: &'a [u8],
    pub guid: Guid,
}

/// What a line of the reply is.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// One of those before the rows.
    Head,
    Row(Row<'a>),
    /// A row that is none. The rest of the reply may still be right.
    Refused,
    /// The reply is complete.
    End,
    /// What answers is no anvil of a version that is known; do not read on.
    Foreign,
}

/// How far a reply has come: the lines read so far.
#[derive(Debug, Default)]
pub struct Reply {
    lines: u64,
}

impl Reply {
    /// Takes the next line, without its LF, apart in place.
    pub fn take<'a>(&mut self, line: &'a mut [u8]) -> Line<'a> {
        self.lines += 1;
        match self.lines {
            1 if line.starts_with(b"VERSION\tanvil-server\t2\t") => Line::Head,
            1 => Line::Foreign,
            2 => Line::Head,
            _ if line.is_empty() => Line::End,
            _ => row(line).map_or(Line::Refused, Line::Row),
        }
    }
}

fn row(line: &mut [u8]) -> Option<Row<'_>> {
    let mut fields = line.split_mut(|&byte| byte == b'\t');
    let mut field = || fields.next().map(unescape);
    let pid = parse_number(field()?).filter(|&pid: &u32| (1..1 << 31).contains(&pid))?;
    let (user, service, ip, digits) = (field()?, field()?, field()?, field()?);
    let mut guid = [0; 16];
    if digits.len() != 2 * guid.len() {
        return None;
    }
    for (byte, pair) in guid.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(Row {
        pid,
        user,
        service,
        ip,
        guid,
    })
}

/// One of the four numbers of a guid.
fn part(guid: &Guid, at: usize) -> u32 {
    let bytes = guid[4 * at..].first_chunk();
    u32::from_le_bytes(*bytes.unwrap_or(&[0; 4]))
}

/// When the mail process got the connection, in microseconds since 1970.
pub fn guid_usecs(guid: &Guid) -> u64 {
    u64::from(part(guid, 1)) * 1_000_000 + u64::from(part(guid, 0) / 1000)
}

/// The process that made it.
pub fn guid_pid(guid: &Guid) -> u32 {
    part(guid, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str =
        include_str!("../../../tests/integration/data/dovecot-2.4.1/anvil-connect-dump.txt");

    fn lines(reply: &str) -> Vec<String> {
        let mut state = Reply::default();
        let line = |line: &str| format!("{:?}", state.take(&mut line.as_bytes().to_vec()));
        reply.split_terminator('\n').map(line).collect()
    }

    #[test]
    fn a_recorded_reply_is_read_whole() {
        // As cat -A shows it.
        let reply = SAMPLE.replace("^I", "\t").replace("$\n", "\n");
        let mut state = Reply::default();
        let mut services = Vec::new();
        let mut ends = 0;
        for line in reply.lines() {
            match state.take(&mut line.as_bytes().to_vec()) {
                Line::Head => {}
                Line::Row(row) => {
                    services.push(String::from_utf8_lossy(row.service).into_owned());
                    // Recorded in the last week of November 2026.
                    assert_eq!(guid_usecs(&row.guid) / 1_000_000_000_000, 1795);
                    if row.pid == 25274 {
                        assert_eq!(
                            (row.user, row.ip),
                            (&b"u2@example.org"[..], &b"127.0.0.1"[..])
                        );
                        assert_eq!(guid_pid(&row.guid), 25274);
                        assert_eq!(guid_usecs(&row.guid), 1_795_770_233_872_050);
                    }
                }
                Line::End => ends += 1,
                other => panic!("{line}: {other:?}"),
            }
        }
        services.sort();
        assert_eq!(
            services,
            [
                "imap",
                "imap",
                "imap",
                "imap",
                "lmtp",
                "managesieve",
                "pop3"
            ]
        );
        assert_eq!(ends, 1);
    }

    #[test]
    fn what_is_no_row_is_refused_and_what_is_no_anvil_not_read() {
        let guid = "df70fa337947096bba62000083ecc375";
        let good = format!("7\ta\x01tb\timap\t::1\t{guid}\t\talt");
        let bad = [
            format!("0\ta\timap\t\t{guid}\t"),
            format!("-1\ta\timap\t\t{guid}\t"),
            format!("2147483648\ta\timap\t\t{guid}\t"),
            format!("7\ta\timap\t\t{guid}0\t"),
            format!("7\ta\timap\t\t{}x\t", &guid[1..]),
            format!("7\ta\timap\t{guid}"),
            "7".to_owned(),
        ];
        let reply = format!(
            "VERSION\tanvil-server\t2\t0\n\n{good}\n{}\n\n",
            bad.join("\n")
        );
        let lines = lines(&reply);
        assert!(
            lines[2].starts_with("Row(Row { pid: 7, user: [97, 9, 98]"),
            "{lines:?}"
        );
        assert!(lines[3..3 + bad.len()].iter().all(|line| line == "Refused"));
        assert_eq!(lines.last().unwrap(), "End");
        for first in [
            "VERSION\tanvil-server\t3\t0",
            "VERSION\tconfig\t2\t0",
            "",
            "x",
        ] {
            assert_eq!(
                Reply::default().take(&mut first.as_bytes().to_vec()),
                Line::Foreign
            );
        }
    }
}
