//! What the rules make of one line, simply: the reading half of `model`. It shares
//! nothing with the product.

use std::net::IpAddr;

use crate::records::{Mail, MAIL_BYTES};

/// The longest line taken, without its LF.
const LINE_BYTES: usize = 8192;

/// The largest stats field taken, decoded: more than all items that there are.
const STATS_BYTES: usize = 512;

/// The largest sane value.
const MOST: u64 = 1 << 53;

/// What a stats field brings; None for an item that is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Of a `mail` item: columns 0 to 17.
    pub mail: Option<[u64; 18]>,
    /// Of an `auth` item: columns 18 to 23.
    pub auth: Option<[u64; 6]>,
    /// Whether a time had a million microseconds or more.
    pub unnormal: bool,
}

impl Record {
    /// What the stats field brings, if the record has one.
    pub fn report(&self) -> Option<&Report> {
        match self {
            Record::Update { report, .. }
            | Record::Begin { report, .. }
            | Record::Continue { report, .. }
            | Record::AddUser { report, .. } => Some(report),
            Record::Connect { .. } | Record::Disconnect { .. } => None,
        }
    }
}

/// One sound record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Connect {
        id: Vec<u8>,
        user: Vec<u8>,
        service: Vec<u8>,
        pid: u32,
        ip: Option<IpAddr>,
    },
    Update {
        id: Vec<u8>,
        report: Report,
    },
    Begin {
        id: Vec<u8>,
        number: u32,
        done: bool,
        name: Vec<u8>,
        args: Vec<u8>,
        report: Report,
    },
    Continue {
        id: Vec<u8>,
        number: u32,
        done: bool,
        report: Report,
    },
    AddUser {
        user: Vec<u8>,
        ip: Option<IpAddr>,
        report: Report,
    },
    Disconnect {
        id: Vec<u8>,
    },
}

/// Why a record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// More than 8192 bytes before its LF.
    TooLong,
    /// Too few fields, an unknown word, a bad number or flag.
    Form,
    /// A stats field that is no base64 or has wrong items.
    Stats,
    /// A number out of any sane range.
    Insane,
}

/// Undoes the wire's escapes.
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = field.iter();
    while let Some(&byte) = bytes.next() {
        if byte != 1 {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'0') => out.push(0),
            Some(b'1') => out.push(1),
            Some(b't') => out.push(b'\t'),
            Some(b'r') => out.push(b'\r'),
            Some(b'n') => out.push(b'\n'),
            Some(&other) => out.push(other),
            None => {}
        }
    }
    out
}

fn number(field: &[u8], most: u64) -> Result<u32, Wrong> {
    if field.is_empty() || !field.iter().all(u8::is_ascii_digit) {
        return Err(Wrong::Form);
    }
    let text = std::str::from_utf8(field).expect("digits");
    let value: u64 = text.parse().map_err(|_| Wrong::Form)?;
    if value > most {
        Err(Wrong::Form)
    } else {
        Ok(value as u32)
    }
}

/// Decodes base64 with its padding; None if it is none.
pub fn unbase64(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() % 4 != 0 {
        return None;
    }
    let mut out = Vec::new();
    let groups = text.len() / 4;
    for (n, group) in text.chunks(4).enumerate() {
        let pads = group.iter().rev().take_while(|&&b| b == b'=').count();
        if pads > 2 || pads > 0 && n + 1 != groups {
            return None;
        }
        let mut word = 0u32;
        for &byte in &group[..4 - pads] {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            word = word << 6 | u32::from(digit);
        }
        word <<= 6 * pads as u32;
        out.extend(&word.to_be_bytes()[1..4 - pads]);
    }
    Some(out)
}

fn report(field: &[u8]) -> Result<Report, Wrong> {
    let bytes = unbase64(field).ok_or(Wrong::Stats)?;
    if bytes.len() > STATS_BYTES {
        return Err(Wrong::Stats);
    }
    let mut rest = bytes.as_slice();
    let mut report = Report::default();
    let mut insane = false;
    while !rest.is_empty() {
        let nul = rest.iter().position(|&b| b == 0).ok_or(Wrong::Stats)?;
        let (name, body) = (&rest[..nul], &rest[nul + 1..]);
        if name == b"mail" && body.len() >= MAIL_BYTES {
            let m = Mail::from_bytes(&body[..MAIL_BYTES]);
            let mut values = [0; 18];
            for (value, (secs, usecs)) in values.iter_mut().zip(m.times) {
                let whole = i128::from(secs) * 1_000_000 + i128::from(usecs);
                report.unnormal |= usecs >= 1_000_000;
                if secs < 0 || usecs < 0 || whole > i128::from(MOST) {
                    insane = true;
                } else {
                    *value = whole as u64;
                }
            }
            for i in 0..4 {
                values[3 + i] = u64::from(m.faults[i]);
            }
            for i in 0..2 {
                values[7 + i] = m.disk[i];
                values[9 + 2 * i] = u64::from(m.counts[i]);
                values[10 + 2 * i] = m.bytes[i];
                values[16 + i] = m.read[i];
            }
            for i in 0..3 {
                values[13 + i] = u64::from(m.lookups[i]);
            }
            insane |= values.iter().any(|&v| v > MOST);
            report.mail = Some(values);
            rest = &body[MAIL_BYTES..];
        } else if name == b"auth" && body.len() >= 24 {
            let mut values = [0; 6];
            for (value, bytes) in values.iter_mut().zip(body.chunks(4)) {
                *value = u64::from(u32::from_ne_bytes(bytes.try_into().expect("4 bytes")));
            }
            report.auth = Some(values);
            rest = &body[24..];
        } else {
            return Err(Wrong::Stats);
        }
    }
    if insane {
        Err(Wrong::Insane)
    } else {
        Ok(report)
    }
}

/// The client's address by the last key that tells it.
fn address(keys: &[&[u8]]) -> Option<IpAddr> {
    let mut ip = None;
    for key in keys {
        let key = unescape(key);
        if let Some(text) = key.strip_prefix(b"rip=") {
            let text = String::from_utf8_lossy(text).into_owned();
            ip = text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        }
    }
    ip
}

/// Takes one line (without its LF) apart.
pub fn parse(line: &[u8]) -> Result<Record, Wrong> {
    if line.len() > LINE_BYTES {
        return Err(Wrong::TooLong);
    }
    let raw: Vec<&[u8]> = line.split(|&b| b == b'\t').collect();
    let field = |at: usize| raw.get(at).map(|f| unescape(f)).ok_or(Wrong::Form);
    match raw[0] {
        b"CONNECT" => {
            let pid = number(&field(4)?, i32::MAX as u64)?;
            let ip = address(&raw[5..]);
            Ok(Record::Connect {
                id: field(1)?,
                user: field(2)?,
                service: field(3)?,
                pid,
                ip,
            })
        }
        b"UPDATE-SESSION" => Ok(Record::Update {
            id: field(1)?,
            report: report(&field(2)?)?,
        }),
        b"UPDATE-CMD" => {
            let id = field(1)?;
            let number = number(&field(2)?, u64::from(u32::MAX))?;
            let flags = field(3)?;
            if number == 0 || flags.iter().any(|f| !b"cd".contains(f)) {
                return Err(Wrong::Form);
            }
            let done = flags.contains(&b'd');
            if flags.contains(&b'c') {
                return Ok(Record::Continue {
                    id,
                    number,
                    done,
                    report: report(&field(4)?)?,
                });
            }
            field(6)?;
            let args: Vec<Vec<u8>> = raw[5..raw.len() - 1].iter().map(|f| unescape(f)).collect();
            let (name, args) = (field(4)?, args.join(&b'\t'));
            let last = unescape(raw[raw.len() - 1]);
            Ok(Record::Begin {
                id,
                number,
                done,
                name,
                args,
                report: report(&last)?,
            })
        }
        b"ADD-USER" => Ok(Record::AddUser {
            user: field(1)?,
            report: report(&field(3)?)?,
            ip: address(&raw[4..]),
        }),
        b"DISCONNECT" => Ok(Record::Disconnect { id: field(1)? }),
        _ => Err(Wrong::Form),
    }
}
