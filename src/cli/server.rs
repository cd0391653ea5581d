//! A server: where it is, the connection to it, and its replies taken apart.
//!
//! Owns: [`Address`], [`Connection`] and [`ReplyParser`], which is pure: bytes
//! in, [`Event`]s out.
//!
//! Invariants: a reply is never held as a whole: the parser keeps what was
//! read last and the line that is being completed, which may have
//! [`MAX_LINE_BYTES`] at most. Whatever the server sends, nothing panics; a row
//! may have more or fewer fields than the header, and says so.
//!
//! Must not: print, or know what rows mean.
//!
//! One round of asking, blocking:
//!
//! ```no_run
//! # use dovestat::cli::server::*;
//! # use std::time::Duration;
//! # fn main() -> std::io::Result<()> {
//! let mut connection = Address::default().connect(Duration::from_secs(5))?;
//! connection.send(&export_request(dovestat::store::Zoom::User, &[]))?;
//! let mut parser = ReplyParser::default();
//! 'reply: loop {
//!     while let Some(event) = parser.next()? {
//!         match event {
//!             Event::Header(_names) => {}
//!             Event::Row(row) => println!("{} fields", row.len()),
//!             Event::End | Event::Nothing => break 'reply,
//!         }
//!     }
//!     if connection.fill(&mut parser)? == 0 {
//!         break; // the server closed in the middle
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! With [`Connection::set_nonblocking`] the same works in a poll(2) loop: `fill`
//! then fails with `WouldBlock` when there is nothing to read.

use crate::config::Defaults;
use crate::store::Zoom;
use crate::sys;
use crate::wire::{push_escaped, unescape};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest line of a reply. The daemon keeps texts of at most a FIFO's
/// record (8 KiB, doubled by escapes), the original's are no longer.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// How long a server may take to accept a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a server may take to send more of a reply.
pub const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// How much one [`ReplyParser::fill`] reads at most.
const READ_BYTES: usize = 64 << 10;

/// How long to wait before a full UNIX listener is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A UNIX socket.
    Unix(PathBuf),
    /// A host name or numeric address, and a port.
    Tcp(String, u16),
}

impl Address {
    /// Reads `host:port`, `[v6]:port` or the path of a socket; what has a slash
    /// in it, or no port at its end, is a path.
    pub fn parse(text: &str) -> Address {
        let tcp = || {
            let (host, port) = text.rsplit_once(':')?;
            let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
            let inner = inner.filter(|h| h.contains(':') && !h.contains('/'));
            let plain = !host.is_empty() && !host.contains([':', '/']);
            let host = inner.or(plain.then_some(host))?;
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|_| digits)?;
            Some(Address::Tcp(host.to_owned(), port))
        };
        tcp().unwrap_or_else(|| Address::Unix(PathBuf::from(text)))
    }

    /// Connects within `timeout`, which is also the longest that a later read
    /// or write on the (blocking) connection waits.
    ///
    /// # Errors
    /// As the system says, with nothing about the address in it.
    pub fn connect(&self, timeout: Duration) -> io::Result<Connection> {
        let end = Instant::now() + timeout;
        let stream = match self {
            Address::Unix(path) => Stream::Unix(connect_unix(path, end)?),
            Address::Tcp(host, port) => Stream::Tcp(connect_tcp(host, *port, end)?),
        };
        let connection = Connection { stream };
        connection.set_nonblocking(false)?;
        connection.set_timeout(timeout)?;
        Ok(connection)
    }
}

/// The first that exists of the sockets that this daemon, Dovecot 2.3, Dovecot
/// 2.2 and an ordinary user's own daemon make; the first of all if none does.
impl Default for Address {
    fn default() -> Address {
        let own = Defaults::ours().base_dir.join("stats");
        let all = [
            Path::new("/run/dovestat/stats"),
            Path::new("/run/dovecot/old-stats"),
            Path::new("/run/dovecot/stats"),
            &own,
        ];
        let found = all.into_iter().find(|path| path.exists());
        Address::Unix(found.unwrap_or(all[0]).to_path_buf())
    }
}

/// As it is written on the command line.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => path.display().fmt(f),
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// Connects to a UNIX socket; one whose queue is full is tried until `end`.
fn connect_unix(path: &Path, end: Instant) -> io::Result<UnixStream> {
    loop {
        match sys::socket::connect_unix(path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::sleep(RETRY);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            result => return result,
        }
    }
}

/// Connects to the first address of `host` that answers.
fn connect_tcp(host: &str, port: u16, end: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "host has no address");
    for address in (host, port).to_socket_addrs()? {
        let left = end.saturating_duration_since(Instant::now());
        // A timeout of zero is refused as an argument.
        match TcpStream::connect_timeout(&address, left.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// A request for the entries of a level that pass all `filters`
/// (`user=*@example.org`, `connected`, ...).
pub fn export_request(level: Zoom, filters: &[Vec<u8>]) -> Vec<u8> {
    let mut line = b"EXPORT\t".to_vec();
    line.extend_from_slice(level.name().as_bytes());
    for filter in filters {
        line.push(b'\t');
        push_escaped(&mut line, filter);
    }
    line.push(b'\n');
    line
}

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    /// Its socket.
    stream: Stream,
}

/// The two kinds of sockets.
#[derive(Debug)]
enum Stream {
    /// A UNIX socket.
    Unix(UnixStream),
    /// A TCP socket.
    Tcp(TcpStream),
}

/// Does the same to either kind of socket.
macro_rules! either {
    ($connection:expr, $stream:ident => $action:expr) => {
        match &$connection.stream {
            Stream::Unix($stream) => $action,
            Stream::Tcp($stream) => $action,
        }
    };
}

impl Connection {
    /// Writes a request, whole if the connection is blocking. Requests are so
    /// small that a nonblocking one takes a first one whole, too.
    pub fn send(&mut self, request: &[u8]) -> io::Result<()> {
        either!(self, stream => (&mut &*stream).write_all(request))
    }

    /// Reads once, into the parser; 0 says that the server closed.
    pub fn fill(&mut self, parser: &mut ReplyParser) -> io::Result<usize> {
        either!(self, stream => parser.fill(stream))
    }

    /// Reads once, a little at most, for answers that are no rows; 0 says that
    /// the server closed.
    pub fn read(&mut self, answer: &mut Vec<u8>) -> io::Result<usize> {
        let mut bytes = [0; 64];
        let count = either!(self, stream => (&mut &*stream).read(&mut bytes))?;
        answer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// Makes reads and writes wait or not.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        either!(self, stream => stream.set_nonblocking(on))
    }

    /// How long a blocking read or write waits before it fails.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        either!(self, stream => {
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))
        })
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, stream => stream.as_fd())
    }
}

/// What comes next in the replies to EXPORT.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A reply begins: the names of its columns.
    Header(Vec<String>),
    /// One row.
    Row(Row<'a>),
    /// The reply that had a header has ended.
    End,
    /// A whole reply: an empty first line, there are no such statistics.
    Nothing,
}

/// The fields of one row, unescaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// The line they lie in.
    line: &'a [u8],
    /// Where each begins and ends there.
    spans: &'a [(usize, usize)],
}

impl<'a> Row<'a> {
    /// How many fields there are; the header may have had another number.
    #[allow(clippy::len_without_is_empty, reason = "a row has at least one field")]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// A field; empty if the row is too short to have it.
    pub fn get(&self, column: usize) -> &'a [u8] {
        self.spans
            .get(column)
            .map_or(&[], |&(start, end)| &self.line[start..end])
    }

    /// All fields.
    pub fn fields(self) -> impl Iterator<Item = &'a [u8]> {
        self.spans
            .iter()
            .map(move |&(start, end)| &self.line[start..end])
    }
}

/// Replies from pieces of them. Several may follow each other.
#[derive(Debug, Default)]
pub struct ReplyParser {
    /// What was read: lines that were given out, up to `done`, then others.
    buffer: Vec<u8>,
    /// The end of the last line given out.
    done: usize,
    /// Up to here there is no LF behind `done`.
    searched: usize,
    /// Whether the header of the reply was given out.
    in_rows: bool,
    /// The fields of the last row.
    spans: Vec<(usize, usize)>,
}

impl ReplyParser {
    /// Takes bytes as they came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.forget();
        self.buffer.extend_from_slice(bytes);
    }

    /// Reads once from `source`, at most 64 KiB; 0 says that it is at its end.
    pub fn fill(&mut self, mut source: impl Read) -> io::Result<usize> {
        self.forget();
        let end = self.buffer.len();
        self.buffer.resize(end + READ_BYTES, 0);
        let result = loop {
            match source.read(&mut self.buffer[end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(end + result.as_ref().unwrap_or(&0));
        result
    }

    /// The next event that is complete, `None` when more bytes are needed.
    ///
    /// # Errors
    /// `InvalidData` for a line of more than [`MAX_LINE_BYTES`]: the rest cannot
    /// be read.
    #[allow(clippy::should_implement_trait, reason = "rows borrow the parser")]
    pub fn next(&mut self) -> io::Result<Option<Event<'_>>> {
        let fresh = &self.buffer[self.searched..];
        let found = fresh.iter().position(|&byte| byte == b'\n');
        let end = self.searched + found.unwrap_or(fresh.len());
        if end - self.done > MAX_LINE_BYTES {
            let text = "line of a reply is too long";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.searched = end + usize::from(found.is_some());
        if found.is_none() {
            return Ok(None);
        }
        let start = std::mem::replace(&mut self.done, self.searched);
        let was_in_rows = self.in_rows;
        self.in_rows = start < end;
        if start == end {
            return Ok(Some(match was_in_rows {
                true => Event::End,
                false => Event::Nothing,
            }));
        }
        let row = split(&mut self.buffer[start..end], &mut self.spans);
        Ok(Some(match was_in_rows {
            true => Event::Row(row),
            false => Event::Header(
                row.fields()
                    .map(|name| String::from_utf8_lossy(name).into_owned())
                    .collect(),
            ),
        }))
    }

    /// Whether the bytes so far end between two replies.
    pub fn is_between_replies(&self) -> bool {
        !self.in_rows && self.done == self.buffer.len()
    }

    /// Lets go of the lines given out.
    fn forget(&mut self) {
        self.buffer.drain(..self.done);
        self.searched -= self.done;
        self.done = 0;
    }
}

/// Cuts a line without its LF into unescaped fields; `spans` is overwritten.
pub fn split<'a>(line: &'a mut [u8], spans: &'a mut Vec<(usize, usize)>) -> Row<'a> {
    spans.clear();
    let mut start = 0;
    loop {
        let rest = &mut line[start..];
        let tab = rest.iter().position(|&byte| byte == b'\t');
        let width = tab.unwrap_or(rest.len());
        spans.push((start, start + unescape(&mut rest[..width]).len()));
        if tab.is_none() {
            return Row { line, spans };
        }
        start += width + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events as text, from pieces of `step` bytes.
    fn events(bytes: &[u8], step: usize) -> Vec<String> {
        let mut parser = ReplyParser::default();
        let mut out = Vec::new();
        for piece in bytes.chunks(step) {
            parser.feed(piece);
            while let Some(event) = parser.next().unwrap() {
                out.push(match event {
                    Event::Header(names) => format!("header {}", names.join(",")),
                    Event::Row(row) => {
                        let texts = row.fields().map(|field| field.escape_ascii().to_string());
                        format!("row {}", texts.collect::<Vec<_>>().join(","))
                    }
                    Event::End => "end".to_owned(),
                    Event::Nothing => "nothing".to_owned(),
                });
            }
        }
        assert!(parser.is_between_replies());
        out
    }

    #[test]
    fn addresses_are_read_and_written() {
        let tcp = |host: &str, port| Address::Tcp(host.to_owned(), port);
        for (text, expected) in [
            ("localhost:2003", tcp("localhost", 2003)),
            ("127.0.0.1:1", tcp("127.0.0.1", 1)),
            ("[::1]:65535", tcp("::1", 65535)),
            ("[host]:1", tcp("[host]", 1)),
            ("[]:1", tcp("[]", 1)),
            ("[./x:y]:1", Address::Unix("[./x:y]:1".into())),
            ("/run/x:1", Address::Unix("/run/x:1".into())),
            ("./x:1", Address::Unix("./x:1".into())),
            ("stats", Address::Unix("stats".into())),
            (":24", Address::Unix(":24".into())),
            ("h:", Address::Unix("h:".into())),
            ("h:+1", Address::Unix("h:+1".into())),
            ("h:65536", Address::Unix("h:65536".into())),
            ("::1", Address::Unix("::1".into())),
        ] {
            assert_eq!(Address::parse(text), expected);
            assert_eq!(expected.to_string(), text);
        }
    }

    #[test]
    fn replies_may_be_cut_anywhere() {
        let bytes = b"\na\tb\nx\x01ty\t\n\x01\x01n\n1\t2\t3\n\nc\n\n\n";
        for step in 1..=bytes.len() {
            assert_eq!(
                events(bytes, step),
                [
                    "nothing",
                    "header a,b",
                    "row x\\ty,",
                    "row \\x01n",
                    "row 1,2,3",
                    "end",
                    "header c",
                    "end",
                    "nothing",
                ],
                "{step}"
            );
        }
    }

    #[test]
    fn fields_that_are_not_there_are_empty() {
        let mut parser = ReplyParser::default();
        parser.feed(b"a\tb\n1\n");
        assert!(matches!(parser.next(), Ok(Some(Event::Header(_)))));
        let Ok(Some(Event::Row(row))) = parser.next() else {
            panic!("no row");
        };
        assert_eq!(
            (row.len(), row.get(0), row.get(1)),
            (1, &b"1"[..], &b""[..])
        );
        assert!(!parser.is_between_replies());
    }

    #[test]
    fn the_longest_line_is_known() {
        for (len, fits) in [
            (MAX_LINE_BYTES - 1, true),
            (MAX_LINE_BYTES, true),
            (MAX_LINE_BYTES + 1, false),
        ] {
            for end in ["", "\n"] {
                let mut parser = ReplyParser::default();
                parser.feed("x".repeat(len).as_bytes());
                parser.feed(end.as_bytes());
                assert_eq!(parser.next().is_ok(), fits, "{len}");
            }
        }
    }

    #[test]
    fn requests_are_escaped() {
        assert_eq!(export_request(Zoom::Global, &[]), b"EXPORT\tglobal\n");
        let filters = [b"user=a\tb".to_vec(), b"connected".to_vec()];
        assert_eq!(
            export_request(Zoom::Session, &filters),
            b"EXPORT\tsession\tuser=a\x01tb\tconnected\n"
        );
    }
}
