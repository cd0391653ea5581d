//! A server: where it is, the connection to it, and its replies taken apart.
//!
//! | module | what it is |
//! |---|---|
//! | `address` | where a server is, connecting, and why that failed |
//! | `reply` | [`ReplyParser`], which is pure: bytes in, [`Event`]s out |
//!
//! Invariants: a reply is never held as a whole: the parser keeps what was
//! read last and the line that is being completed, which may have
//! `MAX_LINE_BYTES` at most, and a header of `MAX_COLUMNS`. Whatever the server
//! sends, nothing panics; a row may have more or fewer fields than the header.
//!
//! Must not: print, or know what rows mean.

mod address;
mod reply;
pub(super) mod usual;

pub use address::Address;
pub(crate) use address::{choose, is_ours, reason, silence, LEVEL_UNKNOWN, SERVICE_UNKNOWN};
pub(crate) use reply::{foreign, split};
pub use reply::{Event, ReplyParser};

use crate::store::Level;
use crate::wire::push_escaped;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a server may take to accept a connection.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a server may be silent before its reply is over.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A request for the entries of a level that pass all `filters`
/// (`user=*@example.org`, `connected`, ...).
pub(crate) fn export_request(level: Level, filters: &[Vec<u8>]) -> Vec<u8> {
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
pub(crate) struct Connection {
    stream: Stream,
    /// When a short answer must have come.
    until: Option<Instant>,
}

/// The two kinds of sockets.
#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
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
    pub(crate) fn send(&mut self, request: &[u8]) -> io::Result<()> {
        either!(self, stream => (&mut &*stream).write_all(request))
    }

    /// Sends a request whose answer is short and must have come in [`READ_TIMEOUT`],
    /// however little of it comes at a time.
    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        self.until = Some(Instant::now() + READ_TIMEOUT);
        self.send(request)
    }

    /// Reads once, into the parser; 0: the server has closed.
    pub(crate) fn fill(&mut self, parser: &mut ReplyParser) -> io::Result<usize> {
        if self.until.is_some_and(|until| until <= Instant::now()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        either!(self, stream => parser.fill(stream))
    }

    /// Makes reads and writes wait or not.
    pub(crate) fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        either!(self, stream => stream.set_nonblocking(on))
    }

    /// How long a blocking read or write waits before it fails.
    pub(crate) fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_escaped() {
        assert_eq!(export_request(Level::Global, &[]), b"EXPORT\tglobal\n");
        let filters = [b"user=a\tb".to_vec(), b"connected".to_vec()];
        assert_eq!(
            export_request(Level::Session, &filters),
            b"EXPORT\tsession\tuser=a\x01tb\tconnected\n"
        );
    }
}
