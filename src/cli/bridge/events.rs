//! A line of Dovecot's event exporter, taken apart.
//!
//! A line is TAB-separated: `event:NAME`, `start_time:T`, `end_time:T`, `field:K=V`...;
//! where the exporter includes all, `hostname:` comes before the times and `category:`
//! behind them. A value has the
//! escapes of the FIFO protocol. Dovecot writes a line by one nonblocking write: when
//! the bridge was stopped for long, the last line that fits may be torn, and the next
//! one follows it without an LF in between.
//!
//! Invariant: a line is taken as a whole or refused. A torn line always shows: its
//! successor begins with `event:` and `start_time:` again; what may precede these has no
//! colon. `event:` inside a value means
//! nothing, as users can write it.
//!
//! Must not: know what an event means to a session.

use crate::sys::mem::bytes::find;
use crate::wire::{parse_number, unescape};
use std::net::{IpAddr, SocketAddr};

/// The most fields of a line; Dovecot's events have about 30.
const MAX_FIELDS: usize = 64;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An authentication, with or without success.
    Auth,
    /// A lookup in a database of passwords.
    Passdb,
    /// A lookup in a database of users.
    Userdb,
    /// A command of IMAP, POP3 or ManageSieve.
    Command,
    /// A command of LMTP or submission.
    SmtpCommand,
    /// A mail delivered to one recipient.
    Delivery,
    Hibernated,
    Unhibernated,
    /// A mail was opened.
    MailOpened,
    /// Which process serves a session: from the script of mail_lua.
    Session,
    /// A session ended; its final figures.
    Finished,
    /// An event that the bridge has no use for.
    Other,
}

/// Why a line was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub &'static str);

/// An event. Texts are without escapes.
#[derive(Debug)]
pub struct Event<'a> {
    pub kind: Kind,
    /// When it began, in microseconds since 1970.
    pub start_usecs: u64,
    /// The service that the event's name implies.
    implied_service: &'static [u8],
    fields: [(&'a [u8], &'a [u8]); MAX_FIELDS],
    count: usize,
}

impl<'a> Event<'a> {
    /// Takes a line without its LF apart, in place.
    pub fn parse(line: &'a mut [u8]) -> Result<Event<'a>, Refused> {
        let mut event = Event {
            kind: Kind::Other,
            start_usecs: 0,
            implied_service: b"",
            fields: [(b"", b""); MAX_FIELDS],
            count: 0,
        };
        let mut rest = Some(line);
        let mut pieces = std::iter::from_fn(|| next_piece(&mut rest));
        let first = pieces
            .next()
            .and_then(|first| first.strip_prefix(b"event:"));
        let name = first.ok_or(Refused("does not begin with event:"))?;
        (event.kind, event.implied_service) = kind(name)?;
        let (mut has_start, mut has_end) = (false, false);
        for piece in pieces {
            let colon = find(b':', piece).ok_or(Refused("a piece has no key"))?;
            let (key, value) = piece.split_at_mut(colon);
            let value = &mut value[1..];
            match &*key {
                b"start_time" if !has_start => {
                    has_start = true;
                    event.start_usecs = usecs(value)?;
                }
                b"end_time" if !has_end => {
                    has_end = true;
                    usecs(value)?;
                }
                b"field" if has_end => event.push(value)?,
                b"category" if has_end => {}
                b"hostname" if !has_start && !value.contains(&b':') => {}
                b"start_time" | b"end_time" => return Err(Refused("a time is repeated")),
                _ => return Err(Refused("a key is unknown, or not in its place")),
            }
        }
        match has_start && has_end {
            true => Ok(event),
            false => Err(Refused("a time is missing")),
        }
    }

    fn push(&mut self, field: &'a mut [u8]) -> Result<(), Refused> {
        let equals = find(b'=', field).ok_or(Refused("a field has no value"))?;
        let (name, value) = field.split_at_mut(equals);
        let (name, value) = (&*name, unescape(&mut value[1..]));
        if self.get(name).is_some() {
            return Err(Refused("a field is repeated"));
        }
        let place = self.fields.get_mut(self.count);
        *place.ok_or(Refused("too many fields"))? = (name, value);
        self.count += 1;
        Ok(())
    }

    /// The value of a field.
    pub fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        let mut known = self.fields[..self.count].iter();
        known.find(|field| field.0 == name).map(|field| field.1)
    }

    /// The value of a field that is text; empty without.
    pub fn text(&self, name: &str) -> &'a [u8] {
        self.get(name.as_bytes()).unwrap_or_default()
    }

    /// The value of a field that is a number; 0 without.
    pub fn number(&self, name: &str) -> u64 {
        parse_number(self.text(name)).unwrap_or(0)
    }

    /// The client's address.
    pub fn ip(&self) -> Option<IpAddr> {
        std::str::from_utf8(self.text("remote_ip"))
            .ok()?
            .parse()
            .ok()
    }

    /// What the server's socket is connected to: with a proxy, that.
    pub fn peer(&self) -> Option<SocketAddr> {
        let text = |name: &str| std::str::from_utf8(self.text(name)).ok();
        let peer = |ip: &str, port: &str| {
            let ip: IpAddr = text(ip)?.parse().ok()?;
            Some(SocketAddr::new(
                ip.to_canonical(),
                text(port)?.parse().ok()?,
            ))
        };
        peer("real_remote_ip", "real_remote_port").or_else(|| peer("remote_ip", "remote_port"))
    }

    /// The kind of server, as Dovecot 2.2 and 2.3 named it: `imap`, `pop3`, `lmtp`...
    /// Events of auth have it as `protocol`, those of 2.3 as `service`.
    pub fn service(&self) -> &'a [u8] {
        let given = self.get(b"service").or(self.get(b"protocol"));
        service_name(given.unwrap_or(self.implied_service))
    }
}

/// Takes what comes before the next TAB, or all, and that TAB.
fn next_piece<'a>(rest: &mut Option<&'a mut [u8]>) -> Option<&'a mut [u8]> {
    let line = rest.take()?;
    let Some(tab) = find(b'\t', line) else {
        return Some(line);
    };
    let (piece, behind) = line.split_at_mut(tab);
    *rest = Some(&mut behind[1..]);
    Some(piece)
}

/// The name of a service in statistics.
pub fn service_name(name: &[u8]) -> &[u8] {
    match name {
        b"managesieve" => b"sieve",
        name => name,
    }
}

/// What an event is, and the service that its name implies.
fn kind(name: &[u8]) -> Result<(Kind, &'static [u8]), Refused> {
    let is_plain = |byte: &u8| byte.is_ascii_lowercase() || b"_0123456789".contains(byte);
    Ok(match name {
        b"auth_request_finished" => (Kind::Auth, b""),
        b"auth_passdb_request_finished" => (Kind::Passdb, b""),
        b"auth_userdb_request_finished" => (Kind::Userdb, b""),
        b"imap_command_finished" => (Kind::Command, b"imap"),
        b"pop3_command_finished" => (Kind::Command, b"pop3"),
        b"managesieve_command_finished" => (Kind::Command, b"sieve"),
        b"smtp_server_command_finished" => (Kind::SmtpCommand, b""),
        b"mail_delivery_finished" => (Kind::Delivery, b"lmtp"),
        b"imap_client_hibernated" => (Kind::Hibernated, b"imap"),
        b"imap_client_unhibernated" => (Kind::Unhibernated, b"imap"),
        b"mail_opened" => (Kind::MailOpened, b""),
        b"dovestat_session" => (Kind::Session, b""),
        b"mail_user_session_finished" => (Kind::Finished, b""),
        name if name.iter().all(is_plain) && !name.is_empty() => (Kind::Other, b""),
        _ => return Err(Refused("the event's name is none")),
    })
}

/// `seconds.microseconds`, six digits.
fn usecs(time: &[u8]) -> Result<u64, Refused> {
    let parse = || {
        let dot = time.iter().position(|&byte| byte == b'.')?;
        let (secs, part) = (parse_number::<u32>(&time[..dot])?, &time[dot + 1..]);
        let part: u64 = parse_number(part).filter(|_| part.len() == 6)?;
        Some(u64::from(secs) * 1_000_000 + part)
    };
    parse().ok_or(Refused("a time is none"))
}

#[cfg(test)]
mod tests;
