//! Heads of HTTP/1.0 and 1.1, as much of it as answering GET takes (RFC 9110,
//! RFC 9112).
//!
//! A [`HeadReader`] reads a head line by line as its bytes arrive, and refuses it at the
//! first mistake, as soon as that has arrived. So the result does not depend on how the
//! bytes arrive, a client that never ends its head is bounded by [`MAX_HEAD_BYTES`], and
//! one that speaks TLS is refused by its first bytes.
//!
//! Strict where requests could be misunderstood (blanks, control characters, lengths that
//! contradict each other), tolerant where nothing depends on it: LF ends a line as CR LF
//! does, empty lines before a request are skipped, Host may be missing. Browsers always
//! send Host; [`is_meant`] checks it.

use crate::sys::mem::bytes::find;
use std::net::Ipv4Addr;
use std::ops::Range;

/// The longest request line, without its end.
pub const MAX_REQUEST_LINE_BYTES: usize = 4096;

/// The longest head: all that comes before the empty line at its end.
pub const MAX_HEAD_BYTES: usize = 8192;

/// The content type of Prometheus' own text format.
pub const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The content type of OpenMetrics.
pub const OPENMETRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The status of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok = 200,
    BadRequest = 400,
    NotFound = 404,
    /// Only GET and HEAD are allowed there.
    MethodNotAllowed = 405,
    /// The request has content.
    ContentTooLarge = 413,
    /// Its first line is longer than [`MAX_REQUEST_LINE_BYTES`].
    UriTooLong = 414,
    /// The request is for another server.
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

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    /// The head of it.
    Head,
    Other,
}

/// The version of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: knows no chunks.
    V1_0,
    /// HTTP/1.1 or a later 1.x.
    V1_1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpRequest<'a> {
    pub method: Method,
    /// The target's path without its query.
    pub path: &'a [u8],
    pub version: Version,
    /// Whether the connection is to stay open.
    pub keep_alive: bool,
    /// Whether content follows the head.
    pub has_content: bool,
    /// Whether OpenMetrics is preferred at least as much as plain text.
    pub wants_openmetrics: bool,
    /// The value of Host: the server that is meant, perhaps with a port.
    pub host: Option<&'a [u8]>,
}

/// Whether `host` names this server: by one of `names`, which blanks divide, by an
/// address, or as localhost. This is against DNS rebinding: a page whose own name leads
/// to this server makes a browser send that name, and cannot choose another.
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

/// The result of reading a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head<'a> {
    /// More bytes have to come.
    Partial,
    /// A request, and the bytes of its head.
    Whole(HttpRequest<'a>, usize),
    /// No request that can be answered; what follows cannot be read.
    Refused(Status),
}

/// Reads the first head of an input that grows. Each byte is looked at once.
#[derive(Debug, Default)]
pub struct HeadReader {
    /// Where the first line that is not whole begins.
    line_begin: usize,
    /// The bytes of that line that were checked.
    checked: usize,
    /// The whole lines; `None` before the request line.
    draft: Option<Draft>,
    /// The length of the whole head, or why it is refused.
    end: Option<Result<usize, Status>>,
}

impl HeadReader {
    /// Reads on. `input` begins with the bytes of the calls before.
    pub fn read<'a>(&mut self, input: &'a [u8]) -> Head<'a> {
        if self.end.is_none() {
            self.end = self.read_lines(input).transpose();
        }
        match (self.end, &self.draft) {
            (Some(Err(status)), _) => Head::Refused(status),
            (Some(Ok(length)), Some(draft)) => Head::Whole(draft.request(input), length),
            _ => Head::Partial,
        }
    }

    /// Reads the lines that became whole. Returns the length of the head at its end.
    fn read_lines(&mut self, input: &[u8]) -> Result<Option<usize>, Status> {
        loop {
            let begin = self.line_begin;
            let room = MAX_HEAD_BYTES.checked_sub(begin);
            let room = room.ok_or(Status::HeadTooLarge)?;
            let (most, too_long) = match self.draft {
                None => (room.min(MAX_REQUEST_LINE_BYTES), Status::UriTooLong),
                Some(_) => (room, Status::HeadTooLarge),
            };
            let rest = &input[begin..];
            let end = find(b'\n', &rest[self.checked..]).map(|at| self.checked + at);
            let line = &rest[..end.unwrap_or(rest.len())];
            // The CR of a line whose LF is still to come may be the last byte.
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let is_control = |&byte: &u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
            let mut unchecked = line.iter().take(most).skip(self.checked);
            if unchecked.any(is_control) {
                return Err(Status::BadRequest);
            }
            if line.len() > most {
                return Err(too_long);
            }
            let Some(end) = end else {
                self.checked = line.len();
                return Ok(None);
            };
            (self.line_begin, self.checked) = (begin + end + 1, 0);
            match &mut self.draft {
                None if line.is_empty() => {}
                None => self.draft = Some(Draft::of(line, begin)?),
                Some(_) if line.is_empty() => return Ok(Some(self.line_begin)),
                Some(draft) => draft.add(input, begin..begin + line.len())?,
            }
        }
    }
}

/// A request whose head is being read. Ranges are those of the input.
#[derive(Debug)]
struct Draft {
    method: Method,
    path: Range<usize>,
    version: Version,
    close: bool,
    keep_alive: bool,
    /// The value of Content-Length.
    length: Option<Range<usize>>,
    has_content: bool,
    accept: Accept,
    host: Option<Range<usize>>,
}

impl Draft {
    /// By the request line, which begins at `begin`.
    fn of(line: &[u8], begin: usize) -> Result<Draft, Status> {
        let mut words = line.split(|&byte| byte == b' ');
        let (Some(word), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Status::BadRequest);
        };
        let method = match word {
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
        let path = path(target).ok_or(Status::BadRequest)?;
        let target_begin = begin + word.len() + 1;
        Ok(Draft {
            method,
            path: target_begin + path.start..target_begin + path.end,
            version,
            close: false,
            keep_alive: false,
            length: None,
            has_content: false,
            accept: Accept::default(),
            host: None,
        })
    }

    /// Takes a further line.
    fn add(&mut self, input: &[u8], line: Range<usize>) -> Result<(), Status> {
        let colon = find(b':', &input[line.clone()]).ok_or(Status::BadRequest)?;
        let colon = line.start + colon;
        let name = &input[line.start..colon];
        let value = input[colon + 1..line.end].trim_ascii_start();
        let begin = line.end - value.len();
        let value = value.trim_ascii_end();
        let range = begin..begin + value.len();
        if !is_token(name) {
            return Err(Status::BadRequest);
        }
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("connection") {
            self.close |= has_item(value, "close");
            self.keep_alive |= has_item(value, "keep-alive");
        } else if is("content-length") {
            let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let before = self.length.replace(range);
            if !is_number || before.is_some_and(|before| input[before] != *value) {
                return Err(Status::BadRequest);
            }
            self.has_content |= value.iter().any(|&digit| digit != b'0');
        } else if is("transfer-encoding") {
            self.has_content = true;
        } else if is("host") {
            if self.host.replace(range).is_some() {
                return Err(Status::BadRequest);
            }
        } else if is("accept") {
            self.accept.add(value);
        }
        Ok(())
    }

    /// The request of a whole head in `input`.
    fn request<'a>(&self, input: &'a [u8]) -> HttpRequest<'a> {
        HttpRequest {
            method: self.method,
            path: &input[self.path.clone()],
            version: self.version,
            keep_alive: !self.close && (self.keep_alive || self.version == Version::V1_1),
            has_content: self.has_content,
            wants_openmetrics: self.accept.wants_openmetrics(),
            host: self.host.clone().map(|host| &input[host]),
        }
    }
}

/// Where the path of a target is: of `/path?query` or `http://host/path?query`.
fn path(target: &[u8]) -> Option<Range<usize>> {
    let begin = match find(b':', target) {
        _ if target.starts_with(b"/") => 0,
        Some(colon) => {
            let scheme = &target[..colon];
            let is = |known: &str| scheme.eq_ignore_ascii_case(known.as_bytes());
            let authority = target[colon..].strip_prefix(b"://")?;
            if authority.is_empty() || !(is("http") || is("https")) {
                return None;
            }
            match authority.iter().position(|byte| b"/?#".contains(byte)) {
                Some(end) if authority[end] == b'/' => colon + 3 + end,
                // No path means `/`, as the last byte of `://` is.
                _ => return Some(colon + 2..colon + 3),
            }
        }
        // OPTIONS of a whole server.
        None if target == b"*" => 0,
        None => return None,
    };
    let path = &target[begin..];
    let end = path.iter().position(|byte| b"?#".contains(byte));
    let path = &path[..end.unwrap_or(path.len())];
    (!path.contains(&b'\t')).then_some(begin..begin + path.len())
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

/// The weights of content types by the fields named Accept, in thousandths.
#[derive(Debug, Default)]
struct Accept {
    /// OpenMetrics 1.0.
    openmetrics: u16,
    text: u16,
}

impl Accept {
    /// Adds a field's value. What cannot be read has no weight.
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
            let best = match (kind.as_str(), version.as_deref()) {
                ("application/openmetrics-text", None | Some("1.0.0")) => &mut self.openmetrics,
                ("text/plain", None | Some("0.0.4")) => &mut self.text,
                _ => continue,
            };
            *best = weight.unwrap_or(0).max(*best);
        }
    }

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
    /// There is no content, and no field with its length.
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
    pub status: Status,
    pub content_type: &'static str,
    pub framing: Framing,
    pub version: Version,
    /// Whether the connection stays open.
    pub keep_alive: bool,
}

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

/// The end of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// The end of all chunks.
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
