//! Where servers are, connecting to them, and why that failed.

use super::usual;
use super::{export_request, foreign, Connection, Event, ReplyParser, Stream};
use super::{CONNECT_TIMEOUT, READ_TIMEOUT};
use crate::cli::warn;
use crate::config::Fatal;
use crate::store::Level;
use crate::sys;
use crate::sys::proc::user::{shown_group, shown_user};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fmt, fs, io};

/// Pause before a full UNIX listener is tried again.
const RETRY: Duration = Duration::from_millis(20);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    /// A UNIX socket at a default path: see [`usual::believe`].
    Usual(PathBuf),
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
    /// The system's, with nothing about the address in it.
    pub(crate) fn connect(&self, timeout: Duration) -> io::Result<Connection> {
        let end = Instant::now() + timeout;
        let stream = match self {
            Address::Usual(path) => {
                usual::believe(path)?;
                Stream::Unix(connect_unix(path, end)?)
            }
            Address::Unix(path) => Stream::Unix(connect_unix(path, end)?),
            Address::Tcp(host, port) => Stream::Tcp(connect_tcp(host, *port, end)?),
        };
        let connection = Connection {
            stream,
            until: None,
        };
        connection.set_nonblocking(false)?;
        connection.set_timeout(timeout)?;
        Ok(connection)
    }

    /// Whether the service there filters by `service=` at every level. Ours does;
    /// Dovecot's is recognised by that it ignores `session=` of users (2.3.19,
    /// measured), so that it lists them all for an id that no session has.
    pub(crate) fn knows_service(&self) -> io::Result<bool> {
        let mut connection = self.connect(CONNECT_TIMEOUT)?;
        let filters = [b"session=\n".to_vec()];
        connection.ask(&export_request(Level::User, &filters))?;
        let mut parser = ReplyParser::default();
        loop {
            match parser.next()? {
                Some(Event::Header(names)) => {
                    if let Some(why) = foreign(Level::User, &names) {
                        return Err(io::Error::other(why));
                    }
                }
                Some(Event::Row(_)) => return Ok(false),
                Some(Event::End | Event::Nothing) => return Ok(true),
                None => {
                    if connection.fill(&mut parser)? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    /// Why it could not be asked, and what to do.
    pub(crate) fn explain(&self, error: &io::Error) -> String {
        let text = reason(error);
        let (Address::Unix(path) | Address::Usual(path)) = self else {
            return match error.kind() {
                io::ErrorKind::ConnectionRefused => format!("{text}; {RUNNING}"),
                _ => text,
            };
        };
        match error.kind() {
            io::ErrorKind::PermissionDenied => match allowed_users(path) {
                Some(who) => format!("{text}; it is for {who}"),
                None => format!("{text}: a directory above it is not for us"),
            },
            io::ErrorKind::NotFound => format!("{text}; {RUNNING}"),
            io::ErrorKind::ConnectionRefused => {
                let is_socket = |meta: fs::Metadata| meta.file_type().is_socket();
                match fs::metadata(path).is_ok_and(is_socket) {
                    true => format!("no process listens there; {RUNNING}"),
                    false => "this is no socket; the daemon's is named stats".to_owned(),
                }
            }
            _ => text,
        }
    }
}

/// Of a server that ignores a filter at a level where we cannot do it ourselves.
pub(crate) const SERVICE_UNKNOWN: &str = "does not know the filter service=, like Dovecot's own \
                                   service: it works for sessions only there";

/// Whether only our daemon has a level, and not before it kept kinds of work.
pub(crate) fn is_ours(level: Level) -> bool {
    matches!(level, Level::Service | Level::Cmd)
}

/// Of a server that does not have such a level.
pub(crate) const LEVEL_UNKNOWN: &str =
    "does not know this level, like Dovecot's own service and an older dovestatd";

/// What to look at when there is no server.
const RUNNING: &str = "is dovestatd running?";

/// The users that a socket's mode lets connect.
fn allowed_users(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    let (user, group) = (shown_user(meta.uid()), shown_group(meta.gid()));
    let mode = meta.mode() & 0o7777;
    Some(match mode & 0o060 {
        0 => format!("user {user} (mode {mode:04o})"),
        _ => format!("user {user} and group {group} (mode {mode:04o})"),
    })
}

/// What it means that a server has sent nothing for [`READ_TIMEOUT`], within a reply or
/// in place of one.
pub(crate) fn silence(is_within_reply: bool) -> String {
    let secs = READ_TIMEOUT.as_secs();
    match is_within_reply {
        true => format!("its reply has no end: no empty line came, nor anything else for {secs} s"),
        false => format!("no answer for {secs} s"),
    }
}

/// What a failure of a server means, in few words and without the system's number.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => "request refused, or disconnected".to_owned(),
        // A read that waited for too long.
        io::ErrorKind::WouldBlock => silence(false),
        _ => sys::reason(error),
    }
}

/// Where a service is when no server is named: the sockets of this daemon, of
/// Dovecot 2.3 and 2.2, and of an ordinary user's own daemon.
fn candidates() -> Vec<PathBuf> {
    let [system, own] = usual::dirs();
    let dovecots = ["/run/dovecot/old-stats", "/run/dovecot/stats"];
    let mut all = vec![system.join("stats")];
    all.extend(dovecots.map(PathBuf::from));
    if own != system {
        all.push(own.join("stats"));
    }
    all
}

/// The servers that are named, or the first of the usual sockets that accepts a
/// connection.
///
/// # Errors
/// `Fatal::Reported` when none does, after all that were tried have been listed.
pub(crate) fn choose(named: &[Address]) -> Result<Vec<Address>, Fatal> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    first_of(candidates())
        .map(|found| vec![found])
        .map_err(|failures| {
            warn("no statistics service was found; tried:");
            failures.iter().for_each(|failure| warn(failure));
            warn(&format!("{RUNNING} If it is elsewhere, name it: -s SERVER"));
            Fatal::Reported
        })
}

/// The first socket that accepts a connection, or why each does not.
fn first_of(paths: Vec<PathBuf>) -> Result<Address, Vec<String>> {
    let mut failures = Vec::new();
    for path in paths {
        let address = Address::Usual(path);
        match address.connect(CONNECT_TIMEOUT) {
            Ok(_) => return Ok(address),
            Err(error) => {
                let why = address.explain(&error);
                let why = why.strip_suffix(RUNNING).unwrap_or(&why);
                failures.push(format!("  {address}: {}", why.trim_end_matches("; ")));
            }
        }
    }
    Err(failures)
}

/// As it is written on the command line.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) | Address::Usual(path) => path.display().fmt(f),
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// Connects to a UNIX socket; one whose queue is full is tried until `end`.
fn connect_unix(path: &Path, end: Instant) -> io::Result<UnixStream> {
    loop {
        match sys::fs::socket::connect_unix(path) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::proc::user::{drop_privileges, User};
    use crate::sys::scratch::{alone, is_root, Scratch};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_socket_that_is_not_for_us_is_passed_over() {
        if !is_root() {
            return;
        }
        let name = "a_socket_that_is_not_for_us_is_passed_over";
        alone(module_path!(), name, || {
            let dir = Scratch::new(name);
            let path = |name: &str| dir.join(name);
            let listen = |name: &str, mode| {
                let listener = UnixListener::bind(path(name)).unwrap();
                fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
                listener
            };
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
            let _theirs = listen("theirs", 0o660);
            let _ours = listen("ours", 0o666);
            drop(listen("left", 0o666));
            let anybody = User {
                name: None,
                uid: 12345,
                gid: None,
            };
            // It is removed by its owner.
            std::os::unix::fs::chown(dir.path(), Some(12345), Some(12345)).unwrap();
            drop_privileges(&anybody, 12345, None).unwrap();
            let all = ["none", "left", "theirs", "ours"].map(path);
            assert_eq!(first_of(all.to_vec()), Ok(Address::Usual(path("ours"))));
            let failures = first_of(all[..3].to_vec()).unwrap_err();
            for (failure, why) in failures.iter().zip([
                "none: No such file or directory",
                "left: no process listens there",
                "theirs: Permission denied; it is for user root and group root (mode 0660)",
            ]) {
                assert!(failure.ends_with(why), "{failure}");
            }
        });
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
}
