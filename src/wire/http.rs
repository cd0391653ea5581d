//! Heads of HTTP/1.0 and 1.1, as much of it as answering GET takes (RFC 9110,
//! RFC 9112).
//!
//! A request is read from whatever has come of it: line by line, and what is
//! wrong first is refused first, as soon as it is seen. So the result does not
//! depend on how the bytes arrive, a client that never ends its head is bounded
//! by [`MAX_HEAD_BYTES`], and one that speaks TLS is refused by its first bytes.
//!
//! Strict where requests could be misunderstood (blanks, control characters,
//! lengths that contradict each other), tolerant where nothing depends on it: LF
//! ends a line as CR LF does, empty lines before a request are skipped, Host may be
//! missing. Browsers always send it, and whom they mean by it is checked: [`is_meant`].

use crate::sys::mem::bytes::find;
use std::net::Ipv4Addr;

/// The longest request line, without its end.
pub const MAX_REQUEST_LINE_BYTES: usize = 4096;

/// The longest head: all that comes before the empty line at its end.
pub const MAX_HEAD_BYTES: usize = 8192;

/// What carries metrics as text for Prometheus since its beginnings.
pub const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What carries them as OpenMetrics.
pub const OPENMETRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a response says of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok = 200,
    /// Not a request.
    BadRequest = 400,
    /// Nothing is there.
    NotFound = 404,
    /// Something is there that only GET and HEAD do something with.
    MethodNotAllowed = 405,
    /// The request has content.
    ContentTooLarge = 413,
    /// Its first line is longer than [`MAX_REQUEST_LINE_BYTES`].
    UriTooLong = 414,
    /// It is for another server.
    Misdirected = 421,
    /// Its head is longer than [`MAX_HEAD_BYTES`].
    HeadTooLarge = 431,
    /// Neither 1.0 nor 1.1.
    VersionNotSupported = 505,
}

impl Status {
    /// The number and what it is called.
    pub fn text(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::ContentTooLarge => "413 Content Too Large",
            Status::UriTooLong => "414 URI Too Long",
            Status::Misdirected => "421 Misdirected Request",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// What a request wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A response.
    Get,
    /// The head of it.
    Head,
    /// Something else.
    Other,
}

/// What the peer understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: knows no chunks.
    V1_0,
    /// HTTP/1.1 or a later 1.x.
    V1_1,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpRequest<'a> {
    /// What is to be done.
    pub method: Method,
    /// With what: the target's path without its query.
    pub path: &'a [u8],
    /// What the peer understands.
    pub version: Version,
    /// Whether the connection is to stay open.
    pub keep_alive: bool,
    /// Whether content follows the head.
    pub has_content: bool,
    /// Whether OpenMetrics is liked at least as much as plain text.
    pub wants_openmetrics: bool,
    /// Whom the peer means, perhaps with a port.
    pub host: Option<&'a [u8]>,
}

/// Whether a request for `host` is for a server that has these names, with blanks in
/// between: it gives one of them, an address, or localhost. A page that has its own name lead to the server
/// (DNS rebinding), to have a browser read it that can reach it, cannot choose what
/// the browser gives: its name.
pub fn is_meant(host: &[u8], names: &str) -> bool {
    // An IPv6 address: no name begins so.
    if host.is_empty() || host.starts_with(b"[") {
        return true;
    }
    let name = &host[..find(b':', host).unwrap_or(host.len())];
    let is = |known: &[u8]| {
        let [name, known] = [name, known].map(|name| name.strip_suffix(b".").unwrap_or(name));
        !known.is_empty() && name.eq_ignore_ascii_case(known)
    };
    let is_address = |name: &str| name.parse::<Ipv4Addr>().is_ok();
    is(b"localhost")
        || names.as_bytes().split(|&byte| byte == b' ').any(is)
        || std::str::from_utf8(name).is_ok_and(is_address)
}

/// What the bytes from a client come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head<'a> {
    /// More have to come.
    Partial,
    /// A request, of so many bytes.
    Whole(HttpRequest<'a>, usize),
    /// Nothing that can be answered, nor can what follows.
    Refused(Status),
}

/// Reads the first head of `input`.
pub fn parse_head(input: &[u8]) -> Head<'_> {
    match read_lines(input) {
        Ok(Some((request, length))) => Head::Whole(request, length),
        Ok(None) => Head::Partial,
        Err(status) => Head::Refused(status),
    }
}

/// The request at the beginning of `input` and its length, if it is whole.
fn read_lines(input: &[u8]) -> Result<Option<(HttpRequest<'_>, usize)>, Status> {
    let mut at = 0;
    let mut draft: Option<Draft> = None;
    loop {
        let room = MAX_HEAD_BYTES.checked_sub(at).ok_or(Status::HeadTooLarge)?;
        let (most, too_long) = match draft {
            None => (room.min(MAX_REQUEST_LINE_BYTES), Status::UriTooLong),
            Some(_) => (room, Status::HeadTooLarge),
        };
        let rest = &input[at..];
        let end = find(b'\n', rest);
        let line = &rest[..end.unwrap_or(rest.len())];
        // The CR of a line whose LF is still to come may be the last byte.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_control = |&byte: &u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
        if line.iter().take(most).any(is_control) {
            return Err(Status::BadRequest);
        }
        if line.len() > most {
            return Err(too_long);
        }
        let Some(end) = end else {
            return Ok(None);
        };
        at += end + 1;
        match &mut draft {
            None if line.is_empty() => {}
            None => draft = Some(Draft::of(line)?),
            Some(draft) if line.is_empty() => return Ok(Some((draft.finish(), at))),
            Some(draft) => draft.add(line)?,
        }
    }
}

/// A request whose head is being read.
struct Draft<'a> {
    /// What the first line said.
    request: HttpRequest<'a>,
    /// Connection has close.
    close: bool,
    /// Connection has keep-alive.
    keep_alive: bool,
    /// What Content-Length is.
    length: Option<&'a [u8]>,
    /// What is liked how much.
    accept: Accept,
}

impl<'a> Draft<'a> {
    /// By the first line.
    fn of(line: &'a [u8]) -> Result<Draft<'a>, Status> {
        let mut words = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Status::BadRequest);
        };
        let method = match method {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            other if is_token(other) => Method::Other,
            _ => return Err(Status::BadRequest),
        };
        let version = match version {
            b"HTTP/1.0" => Version::V1_0,
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Version::V1_1,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                return Err(Status::VersionNotSupported);
            }
            _ => return Err(Status::BadRequest),
        };
        Ok(Draft {
            request: HttpRequest {
                method,
                path: path(target).ok_or(Status::BadRequest)?,
                version,
                keep_alive: false,
                has_content: false,
                wants_openmetrics: false,
                host: None,
            },
            close: false,
            keep_alive: false,
            length: None,
            accept: Accept::default(),
        })
    }

    /// Takes a further line.
    fn add(&mut self, line: &'a [u8]) -> Result<(), Status> {
        let colon = find(b':', line).ok_or(Status::BadRequest)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if !is_token(name) {
            return Err(Status::BadRequest);
        }
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("connection") {
            self.close |= has_item(value, "close");
            self.keep_alive |= has_item(value, "keep-alive");
        } else if is("content-length") {
            let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            if !is_number || self.length.is_some_and(|length| length != value) {
                return Err(Status::BadRequest);
            }
            self.length = Some(value);
            self.request.has_content |= value.iter().any(|&digit| digit != b'0');
        } else if is("transfer-encoding") {
            self.request.has_content = true;
        } else if is("host") {
            if self.request.host.replace(value).is_some() {
                return Err(Status::BadRequest);
            }
        } else if is("accept") {
            self.accept.add(value);
        }
        Ok(())
    }

    /// What it came to.
    fn finish(&self) -> HttpRequest<'a> {
        HttpRequest {
            keep_alive: !self.close && (self.keep_alive || self.request.version == Version::V1_1),
            wants_openmetrics: self.accept.wants_openmetrics(),
            ..self.request
        }
    }
}

/// The path of a target: of `/path?query` or `http://host/path?query`.
fn path(target: &[u8]) -> Option<&[u8]> {
    let path = match find(b':', target) {
        _ if target.starts_with(b"/") => target,
        Some(colon) => {
            let scheme = &target[..colon];
            let is = |known: &str| scheme.eq_ignore_ascii_case(known.as_bytes());
            let behind = target[colon..].strip_prefix(b"://")?;
            if behind.is_empty() || !(is("http") || is("https")) {
                return None;
            }
            let begin = behind.iter().position(|byte| b"/?#".contains(byte));
            match &behind[begin.unwrap_or(behind.len())..] {
                path if path.starts_with(b"/") => path,
                _ => b"/",
            }
        }
        // What OPTIONS asks a whole server.
        None if target == b"*" => target,
        None => return None,
    };
    let end = path.iter().position(|byte| b"?#".contains(byte));
    let path = &path[..end.unwrap_or(path.len())];
    (!path.contains(&b'\t')).then_some(path)
}

/// Whether it is a word as methods and names are.
fn is_token(word: &[u8]) -> bool {
    let is_char = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !word.is_empty() && word.iter().all(is_char)
}

/// Whether a list divided by commas has that item, in any case.
fn has_item(list: &[u8], item: &str) -> bool {
    list.split(|&byte| byte == b',')
        .any(|word| word.trim_ascii().eq_ignore_ascii_case(item.as_bytes()))
}

/// How much is liked what, by the fields named Accept; in thousandths.
#[derive(Default)]
struct Accept {
    /// OpenMetrics 1.0.
    openmetrics: u16,
    /// Plain text.
    text: u16,
}

impl Accept {
    /// Takes a field's value. What cannot be read asks for nothing.
    fn add(&mut self, value: &[u8]) {
        for range in value.split(|&byte| byte == b',') {
            let mut parts = range.split(|&byte| byte == b';').map(|part| {
                let part = part.trim_ascii().to_ascii_lowercase();
                String::from_utf8(part).unwrap_or_default()
            });
            let kind = parts.next().unwrap_or_default();
            let (mut weight, mut version) = (Some(1000), None);
            for part in parts {
                match part.split_once('=') {
                    Some(("q", value)) => weight = thousandths(value),
                    Some(("version", value)) => version = Some(value.trim_matches('"').to_owned()),
                    _ => {}
                }
            }
            let liked = match (kind.as_str(), version.as_deref()) {
                ("application/openmetrics-text", None | Some("1.0.0")) => &mut self.openmetrics,
                ("text/plain", None | Some("0.0.4")) => &mut self.text,
                _ => continue,
            };
            *liked = weight.unwrap_or(0).max(*liked);
        }
    }

    /// Which of the two it is to be.
    fn wants_openmetrics(&self) -> bool {
        self.openmetrics > 0 && self.openmetrics >= self.text
    }
}

/// A weight: `0`, `0.75`, `1.000`.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_part = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    let part: u16 = format!("{part:0<3}").parse().ok().filter(|_| is_part)?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(1000),
        _ => None,
    }
}

/// How a client finds the end of a response's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none, and its length is not told.
    None,
    /// By its length in bytes.
    Length(usize),
    /// By its last chunk.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// The head of a response.
#[derive(Clone, Copy, Debug)]
pub struct Response {
    /// How the request went.
    pub status: Status,
    /// What the content is.
    pub content_type: &'static str,
    /// Where it ends.
    pub framing: Framing,
    /// What the peer understands.
    pub version: Version,
    /// Whether the connection stays open.
    pub keep_alive: bool,
}

/// Appends a head.
pub fn write_head(out: &mut Vec<u8>, response: &Response, unix_secs: u32) {
    let mut line = |name: &str, value: &str| {
        out.extend_from_slice([name, value, "\r\n"].concat().as_bytes());
    };
    line("HTTP/1.1 ", response.status.text());
    line("Date: ", &date(unix_secs));
    line("Content-Type: ", response.content_type);
    match response.framing {
        Framing::None | Framing::Close => {}
        Framing::Length(bytes) => line("Content-Length: ", &bytes.to_string()),
        Framing::Chunked => line("Transfer-Encoding: ", "chunked"),
    }
    if response.status == Status::MethodNotAllowed {
        line("Allow: ", "GET, HEAD");
    }
    match (response.keep_alive, response.version) {
        (false, _) => line("Connection: ", "close"),
        (true, Version::V1_0) => line("Connection: ", "keep-alive"),
        (true, Version::V1_1) => {}
    }
    line("", "");
}

/// Appends what comes in front of a chunk of so many bytes, not zero.
pub fn write_chunk_size(out: &mut Vec<u8>, bytes: usize) {
    out.extend_from_slice(format!("{bytes:x}\r\n").as_bytes());
}

/// What comes behind a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// What comes behind all chunks.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A moment as HTTP has it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(unix_secs: u32) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (days, secs) = (unix_secs / 86400, unix_secs % 86400);
    // Until 2106 every fourth year but 2100 has a day more.
    let is_long = |year: u32| year % 4 == 0 && year != 2100;
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u32::from(is_long(year)) {
        day -= 365 + u32::from(is_long(year));
        year += 1;
    }
    let february = 28 + u32::from(is_long(year));
    let mut month = 0;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!(
        "{}, {:02} {} {year} {:02}:{:02}:{:02} GMT",
        DAYS[days as usize % 7],
        day + 1,
        MONTHS[month],
        secs / 3600,
        secs / 60 % 60,
        secs % 60,
    )
}

#[cfg(test)]
mod tests;
