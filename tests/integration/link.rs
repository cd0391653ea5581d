//! The two sides of the service as its peers see them: `Client` asks over a
//! UNIX or TCP socket and reads `Table`s, `Writer` writes records to a FIFO the
//! way mail processes do.
//!
//! Bytes become text one to one (Latin-1), so that nothing is lost or merged.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::harness::DEADLINE;

/// Bytes as text, one character for each byte.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

/// One reply to EXPORT, taken apart. The fields are as on the wire: escaped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// The header's names; none when the reply was a single empty line.
    pub names: Vec<String>,
    /// The data lines.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Takes a complete reply apart; rows must be as long as the header.
    #[track_caller]
    pub fn parse(reply: &[u8]) -> Table {
        let body = reply
            .strip_suffix(b"\n")
            .unwrap_or_else(|| panic!("no end in {:?}", latin1(reply)));
        if body.is_empty() {
            return Table::default();
        }
        let body = body
            .strip_suffix(b"\n")
            .unwrap_or_else(|| panic!("no empty line at the end"));
        let mut lines = body
            .split(|&b| b == b'\n')
            .map(|line| line.split(|&b| b == b'\t').map(latin1).collect::<Vec<_>>());
        let names = lines.next().expect("a header");
        let rows: Vec<Vec<String>> = lines.collect();
        for row in &rows {
            assert_eq!(
                row.len(),
                names.len(),
                "fields of row {row:?} under header {names:?}"
            );
        }
        Table { names, rows }
    }

    /// The column's place.
    #[track_caller]
    pub fn column(&self, name: &str) -> usize {
        let at = self.names.iter().position(|n| n == name);
        at.unwrap_or_else(|| panic!("no column {name:?} in {:?}", self.names))
    }

    /// All values of one column.
    #[track_caller]
    pub fn values(&self, name: &str) -> Vec<&str> {
        if self.names.is_empty() {
            return Vec::new();
        }
        let column = self.column(name);
        self.rows.iter().map(|row| row[column].as_str()).collect()
    }

    /// The first row whose column `name` is `value`, if any.
    pub fn find(&self, name: &str, value: &str) -> Option<Row<'_>> {
        let at = self.values(name).iter().position(|v| *v == value)?;
        Some(Row { table: self, at })
    }

    /// As [`Table::find`], for a row that must be there.
    #[track_caller]
    pub fn row(&self, name: &str, value: &str) -> Row<'_> {
        self.find(name, value)
            .unwrap_or_else(|| panic!("no row with {name}={value:?} in {self:?}"))
    }

    /// The only row.
    #[track_caller]
    pub fn only(&self) -> Row<'_> {
        assert_eq!(self.rows.len(), 1, "rows in {self:?}");
        Row { table: self, at: 0 }
    }
}

/// One data line of a [`Table`].
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    table: &'a Table,
    at: usize,
}

impl<'a> Row<'a> {
    /// A field by its column's name.
    #[track_caller]
    pub fn get(&self, name: &str) -> &'a str {
        &self.table.rows[self.at][self.table.column(name)]
    }

    /// A field as a whole number.
    #[track_caller]
    pub fn num(&self, name: &str) -> u64 {
        let field = self.get(name);
        field
            .parse()
            .unwrap_or_else(|_| panic!("{name}={field:?} is not a number in {self:?}"))
    }

    /// A field `seconds.microseconds` in microseconds; both parts are whole
    /// numbers, so the original's unpadded `0.7442` is 7442.
    #[track_caller]
    pub fn micros(&self, name: &str) -> u64 {
        let field = self.get(name);
        micros(field).unwrap_or_else(|| panic!("{name}={field:?} is no time in {self:?}"))
    }
}

/// `seconds.microseconds` in microseconds, both parts read as whole numbers.
pub fn micros(field: &str) -> Option<u64> {
    let (secs, usecs) = field.split_once('.')?;
    let secs: u64 = secs.parse().ok()?;
    secs.checked_mul(1_000_000)?
        .checked_add(usecs.parse().ok()?)
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A client of one connection.
pub struct Client {
    stream: Stream,
    /// Bytes received and not yet used.
    pending: Vec<u8>,
    /// Why no more came, for who is told so.
    why: String,
}

impl Client {
    /// Connects to a UNIX socket.
    #[track_caller]
    pub fn unix(path: &str) -> Client {
        Client::try_unix(path).unwrap_or_else(|| panic!("cannot connect to {path}"))
    }

    /// Connects to a UNIX socket if somebody listens there.
    pub fn try_unix(path: &str) -> Option<Client> {
        let stream = UnixStream::connect(path).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        stream.set_write_timeout(Some(DEADLINE)).ok()?;
        Some(Client {
            stream: Stream::Unix(stream),
            pending: Vec::new(),
            why: String::new(),
        })
    }

    /// Connects over TCP.
    #[track_caller]
    pub fn tcp(address: SocketAddr) -> Client {
        let stream =
            TcpStream::connect(address).unwrap_or_else(|e| panic!("connect {address}: {e}"));
        stream
            .set_read_timeout(Some(DEADLINE))
            .expect("read timeout");
        stream
            .set_write_timeout(Some(DEADLINE))
            .expect("write timeout");
        Client {
            stream: Stream::Tcp(stream),
            pending: Vec::new(),
            why: String::new(),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.stream {
            Stream::Unix(s) => s.write_all(bytes),
            Stream::Tcp(s) => s.write_all(bytes),
        }
    }

    /// One read(2): what is there, at most 64 KiB; empty at the end.
    pub fn read_some(&mut self) -> std::io::Result<Vec<u8>> {
        let mut buffer = vec![0; 65536];
        let n = match &mut self.stream {
            Stream::Unix(s) => s.read(&mut buffer)?,
            Stream::Tcp(s) => s.read(&mut buffer)?,
        };
        buffer.truncate(n);
        Ok(buffer)
    }

    /// Whether so many lines came by now; none of them is taken, so the daemon sees no
    /// reader.
    pub fn has_lines(&self, count: usize) -> bool {
        let fd = match &self.stream {
            Stream::Unix(s) => s.as_raw_fd(),
            Stream::Tcp(s) => s.as_raw_fd(),
        };
        let mut bytes = [0u8; 4096];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: the pointer and length are those of `bytes`, alive during the call.
        let n = unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), flags) };
        let came = &bytes[..n.try_into().unwrap_or(0)];
        came.iter().filter(|&&byte| byte == b'\n').count() >= count
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.write_all(bytes.as_ref())
            .unwrap_or_else(|e| panic!("send to the daemon: {e}"));
    }

    /// Sends what the peer takes within `time` without reading anything; gives
    /// how much that was.
    pub fn send_while_taken(&mut self, bytes: &[u8], time: Duration) -> usize {
        self.set_nonblocking(true);
        let end = Instant::now() + time;
        let mut sent = 0;
        while sent < bytes.len() && Instant::now() < end {
            let part = &bytes[sent..(sent + 65536).min(bytes.len())];
            let result = match &mut self.stream {
                Stream::Unix(s) => s.write(part),
                Stream::Tcp(s) => s.write(part),
            };
            match result {
                Ok(n) => sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(_) => break,
            }
        }
        self.set_nonblocking(false);
        sent
    }

    fn set_nonblocking(&self, on: bool) {
        match &self.stream {
            Stream::Unix(s) => s.set_nonblocking(on),
            Stream::Tcp(s) => s.set_nonblocking(on),
        }
        .expect("set_nonblocking");
    }

    /// Closes the sending side only, if the peer has not closed all of it.
    pub fn half_close(&self) {
        let result = match &self.stream {
            Stream::Unix(s) => s.shutdown(Shutdown::Write),
            Stream::Tcp(s) => s.shutdown(Shutdown::Write),
        };
        match result {
            Err(e) if e.kind() == ErrorKind::NotConnected => {}
            result => result.expect("shutdown"),
        }
    }

    /// The next line with its LF; None at the end or after [`DEADLINE`].
    pub fn try_line(&mut self) -> Option<Vec<u8>> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.pending[seen..].iter().position(|&b| b == b'\n') {
                let rest = self.pending.split_off(seen + at + 1);
                return Some(std::mem::replace(&mut self.pending, rest));
            }
            seen = self.pending.len();
            match self.read_some() {
                Ok(part) if !part.is_empty() => self.pending.extend(part),
                end => {
                    self.why = end.map_or_else(|e| e.to_string(), |_| "closed".to_owned());
                    return None;
                }
            }
        }
    }

    /// The next `count` bytes.
    #[track_caller]
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.pending.len() < count {
            let part = self.read_some().expect("more bytes");
            assert!(!part.is_empty(), "the end before {count} bytes");
            self.pending.extend(part);
        }
        let rest = self.pending.split_off(count);
        std::mem::replace(&mut self.pending, rest)
    }

    /// The next line with its LF.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let line = self.try_line();
        latin1(&line.unwrap_or_else(|| panic!("no line; pending {:?}", latin1(&self.pending))))
    }

    /// The next reply to an EXPORT up to its end; None if it never came.
    pub fn try_reply(&mut self) -> Option<Vec<u8>> {
        let mut reply = self.try_line()?;
        if reply == b"\n" {
            return Some(reply);
        }
        loop {
            let line = self.try_line()?;
            reply.extend_from_slice(&line);
            if line == b"\n" {
                return Some(reply);
            }
        }
    }

    /// The next reply to an EXPORT up to its end.
    #[track_caller]
    pub fn reply(&mut self) -> Vec<u8> {
        let reply = self.try_reply();
        reply.unwrap_or_else(|| panic!("no whole reply; pending {:?}", latin1(&self.pending)))
    }

    /// Asks `EXPORT` with what follows it (`"session\tconnected"`).
    #[track_caller]
    pub fn export(&mut self, what: &str) -> Table {
        Table::parse(&self.export_raw(what))
    }

    /// As [`Client::export`], the bytes of the reply.
    #[track_caller]
    pub fn export_raw(&mut self, what: &str) -> Vec<u8> {
        let request: Vec<u8> = format!("EXPORT\t{what}\n")
            .chars()
            .map(|c| c as u8)
            .collect();
        self.send(request);
        let reply = self.try_reply();
        reply.unwrap_or_else(|| panic!("no reply to EXPORT {what:?}: {}", self.why))
    }

    /// As [`Client::export`], None when there is no answer.
    pub fn try_export(&mut self, what: &str) -> Option<Table> {
        self.write_all(format!("EXPORT\t{what}\n").as_bytes())
            .ok()?;
        self.try_reply().map(|reply| Table::parse(&reply))
    }

    /// Sends RESET, which must be answered by `OK`.
    #[track_caller]
    pub fn reset(&mut self) {
        self.send("RESET\n");
        assert_eq!(self.line(), "OK\n", "the answer to RESET");
    }

    /// Everything up to the peer's closing; panics if it does not close.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.pending);
        loop {
            match self.read_some() {
                Ok(part) if part.is_empty() => return all,
                Ok(part) => all.extend(part),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return all,
                Err(e) => panic!("the daemon did not close: {e}; got {:?}", latin1(&all)),
            }
        }
    }

    /// Asserts that the daemon closes without sending anything.
    #[track_caller]
    pub fn assert_closed(&mut self, why: &str) {
        let rest = self.rest();
        assert!(
            rest.is_empty(),
            "{why}: expected a silent close, got {:?}",
            latin1(&rest)
        );
    }
}

/// Writes records to a FIFO as mail processes do: opened without blocking, one
/// write(2) for each record.
pub struct Writer {
    file: File,
    path: String,
}

impl Writer {
    /// Opens the FIFO, which somebody must be reading.
    #[track_caller]
    pub fn open(path: &str) -> Writer {
        Writer::try_open(path).unwrap_or_else(|e| panic!("open {path} for writing: {e}"))
    }

    /// Opens the FIFO; ENXIO when nobody reads it.
    pub fn try_open(path: &str) -> std::io::Result<Writer> {
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        Ok(Writer {
            file,
            path: path.to_string(),
        })
    }

    /// Writes one record and its LF at once; false when the pipe was full and
    /// the record was dropped, as real writers do.
    pub fn send(&mut self, record: &[u8]) -> bool {
        let mut line = record.to_vec();
        line.push(b'\n');
        match self.file.write(&line) {
            Ok(n) => n == line.len(),
            Err(e) if e.kind() == ErrorKind::WouldBlock => false,
            Err(e) => panic!("write to {}: {e}", self.path),
        }
    }

    /// Writes one record and its LF, waiting for room.
    #[track_caller]
    pub fn send_waiting(&mut self, record: &[u8]) {
        let mut line = record.to_vec();
        line.push(b'\n');
        self.send_raw(&line);
    }

    /// Writes bytes as they are, waiting for room.
    #[track_caller]
    pub fn send_raw(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait_room(),
                Err(e) => panic!("write to {}: {e}", self.path),
            }
        }
    }

    #[track_caller]
    fn wait_room(&self) {
        let mut fd = libc::pollfd {
            fd: self.file.as_raw_fd(),
            events: libc::POLLOUT,
            revents: 0,
        };
        let ms = i32::try_from(DEADLINE.as_millis()).expect("a timeout");
        // SAFETY: one pollfd, owned by this frame for the whole call.
        let rc = unsafe { libc::poll(&mut fd, 1, ms) };
        assert!(
            rc == 1,
            "no room in {} for {DEADLINE:?}: nobody reads it",
            self.path
        );
    }

    /// How many bytes wait in the pipe.
    pub fn unread(&self) -> usize {
        let mut n: libc::c_int = 0;
        // SAFETY: FIONREAD stores one int, and n is one, alive during the call.
        let rc = unsafe { libc::ioctl(self.file.as_raw_fd(), libc::FIONREAD, &mut n) };
        assert_eq!(
            rc,
            0,
            "FIONREAD {}: {}",
            self.path,
            std::io::Error::last_os_error()
        );
        usize::try_from(n).expect("a count")
    }
}
