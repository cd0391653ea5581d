//! A line that a client sent.

use super::record::parse_address;
use super::{parse_number, take_field};
use crate::store::{Filter, Level, Network, Pattern};
use crate::wire::encoding::escape::unescape;

/// A request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// List the entries of a level that fit a filter.
    Export {
        level: Level,
        filter: Filter,
        /// With our columns behind those that Dovecot has as well.
        more: bool,
        /// With how many commands took how long, where that is kept.
        histogram: bool,
    },
    /// Clear the totals.
    Reset,
    /// Report the state of the daemon.
    Status,
}

/// Why a line is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// An empty line. Telegraf up to 0.12 ends its round by it.
    Empty,
    /// The first field is no kind of request.
    UnknownCommand,
    /// EXPORT without a level or of one that does not exist.
    BadLevel,
    /// `ip=` without an address, or with more bits than it has.
    BadNetwork,
    /// `since=` without a number.
    BadTime,
}

/// Reads a request from a line without its LF; a CR at its end is ignored.
/// Escapes are undone within `line`.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse_request(mut line: &mut [u8]) -> Result<Request, RequestError> {
    if let [before @ .., b'\r'] = line {
        line = before;
    }
    if line.is_empty() {
        return Err(RequestError::Empty);
    }
    let mut rest = Some(line);
    match &*take_field(&mut rest).unwrap_or_default() {
        b"EXPORT" => export(rest),
        b"RESET" => Ok(Request::Reset),
        b"STATUS" => Ok(Request::Status),
        _ => Err(RequestError::UnknownCommand),
    }
}

/// The fields of EXPORT.
fn export(mut rest: Option<&mut [u8]>) -> Result<Request, RequestError> {
    let level = take_field(&mut rest).unwrap_or_default();
    let level = Level::named(level).ok_or(RequestError::BadLevel)?;
    let mut filter = Filter::default();
    let (mut more, mut histogram) = (false, false);
    while let Some(field) = take_field(&mut rest) {
        let field = unescape(field);
        if field == b"connected" {
            filter.connected = true;
        } else if field == b"more" {
            more = true;
        } else if field == b"histogram" {
            histogram = true;
        } else if let Some(value) = field.strip_prefix(b"user=") {
            filter.user = Some(Pattern::new(value));
        } else if let Some(value) = field.strip_prefix(b"domain=") {
            filter.domain = Some(Pattern::new(value));
        } else if let Some(value) = field.strip_prefix(b"session=") {
            filter.session = Some(value.to_vec());
        } else if let Some(value) = field.strip_prefix(b"service=") {
            filter.service = Some(Pattern::new(value));
        } else if let Some(value) = field.strip_prefix(b"cmd=") {
            filter.cmd = Some(Pattern::new(&value.to_ascii_uppercase()));
        } else if let Some(value) = field.strip_prefix(b"ip=") {
            filter.ip = Some(parse_network(value).ok_or(RequestError::BadNetwork)?);
        } else if let Some(value) = field.strip_prefix(b"since=") {
            filter.since_secs = parse_number(value).ok_or(RequestError::BadTime)?;
        }
    }
    Ok(Request::Export {
        level,
        filter,
        more,
        histogram,
    })
}

/// `ADDR` or `ADDR/BITS`.
fn parse_network(text: &[u8]) -> Option<Network> {
    let slash = text.iter().position(|&byte| byte == b'/');
    let (address, bits) = match slash {
        Some(at) => (&text[..at], Some(parse_number(&text[at + 1..])?)),
        None => (text, None),
    };
    Network::new(parse_address(address)?, bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, RequestError> {
        parse_request(&mut line.as_bytes().to_vec())
    }

    fn filter(line: &str) -> Filter {
        match parse(line) {
            Ok(Request::Export { filter, .. }) => filter,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn requests_end_with_lf_or_cr_lf() {
        for (name, level) in [
            ("command", Level::Command),
            ("session", Level::Session),
            ("user", Level::User),
            ("domain", Level::Domain),
            ("ip", Level::Ip),
            ("global", Level::Global),
            ("service", Level::Service),
            ("cmd", Level::Cmd),
        ] {
            let request = |more| Request::Export {
                level,
                filter: Filter::default(),
                more,
                histogram: false,
            };
            assert_eq!(parse(&format!("EXPORT\t{name}")), Ok(request(false)));
            assert_eq!(parse(&format!("EXPORT\t{name}\r")), Ok(request(false)));
            assert_eq!(parse(&format!("EXPORT\t{name}\tmore\r")), Ok(request(true)));
            for other in ["more=1", "more=", "More", "mor", "moreover"] {
                let line = format!("EXPORT\t{name}\t{other}");
                assert_eq!(parse(&line), Ok(request(false)), "{other}");
            }
        }
        let wanted = Request::Export {
            level: Level::Cmd,
            filter: Filter::default(),
            more: false,
            histogram: true,
        };
        assert_eq!(parse("EXPORT\tcmd\thistogram"), Ok(wanted));
        assert_eq!(parse("RESET"), Ok(Request::Reset));
        assert_eq!(parse("RESET\r"), Ok(Request::Reset));
        assert_eq!(parse("STATUS"), Ok(Request::Status));
    }

    #[test]
    fn all_filters_are_read_and_others_ignored() {
        let all = "EXPORT\tsession\tuser=a*\tdomain=d?\tsession=i\x01td\tservice=imap\tcmd=Uid*\tip=10.0.0.0/8\tsince=12\tconnected\tconnected=\tnew=1\t";
        assert_eq!(
            filter(all),
            Filter {
                user: Some(Pattern::new(b"a*")),
                domain: Some(Pattern::new(b"d?")),
                session: Some(b"i\td".to_vec()),
                service: Some(Pattern::new(b"imap")),
                cmd: Some(Pattern::new(b"UID*")),
                ip: Network::new("10.0.0.0".parse().unwrap(), Some(8)),
                since_secs: 12,
                connected: true,
            }
        );
        assert_eq!(
            filter("EXPORT\tuser\tuser=a\tuser=b").user,
            Some(Pattern::new(b"b")),
            "the last one counts"
        );
    }

    #[test]
    fn wrong_requests_are_refused() {
        for (line, error) in [
            ("", RequestError::Empty),
            ("\r", RequestError::Empty),
            ("EXPORT", RequestError::BadLevel),
            ("EXPORT\t", RequestError::BadLevel),
            ("EXPORT\tsessions", RequestError::BadLevel),
            ("export\tsession", RequestError::UnknownCommand),
            ("\tEXPORT", RequestError::UnknownCommand),
            ("EXPORT\tip\tip=", RequestError::BadNetwork),
            ("EXPORT\tip\tip=10.0.0.0/", RequestError::BadNetwork),
            ("EXPORT\tip\tip=10.0.0.0/33", RequestError::BadNetwork),
            ("EXPORT\tip\tip=10.0.0.0/+8", RequestError::BadNetwork),
            ("EXPORT\tip\tip=10.0.0.0/300", RequestError::BadNetwork),
            ("EXPORT\tip\tsince=", RequestError::BadTime),
            ("EXPORT\tip\tsince=-1", RequestError::BadTime),
            ("EXPORT\tip\tsince=1.5", RequestError::BadTime),
            (
                "EXPORT\tip\tsince=99999999999999999999",
                RequestError::BadTime,
            ),
        ] {
            assert_eq!(parse(line), Err(error), "{line:?}");
        }
    }
}
