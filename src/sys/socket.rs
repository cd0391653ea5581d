//! Listeners, and connections to others.
//!
//! Owns: the way to a listening socket, and to one that must not be waited for.
//! The sockets themselves are std's.
//!
//! Invariants: every socket is nonblocking and close-on-exec. A UNIX socket
//! appears at its path listening, with its mode and owner, in one step, and
//! never in place of something alive, not ours, or that came meanwhile.
//!
//! Must not: accept connections.
//!
//! A UNIX socket is made under a name of its own beside, the name with a dot
//! in front, and link(2)ed to its path, which unlike rename(2) overwrites
//! nothing. Tools like ss(8) go on to show the name it was bound to.

use std::fs;
use std::io;
use std::mem;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::cerr;
use super::place::{c_path, give, look, Access, Kind, Place, PlaceError};

/// Connections the kernel keeps for us until they are accepted; cut to the
/// system's own limit (Linux: net.core.somaxconn).
const BACKLOG: libc::c_int = 1024;

/// How long the path of a UNIX socket may be: what a socket address holds
/// (Linux: 108 bytes) without its final NUL and the dot of the name beside.
pub const MAX_PATH_BYTES: usize =
    mem::size_of::<libc::sockaddr_un>() - mem::offset_of!(libc::sockaddr_un, sun_path) - 2;

/// Listens at `path`; the place is for removing the socket on a clean
/// shutdown.
pub fn bind_unix(path: &Path, access: Access) -> Result<(UnixListener, Place), PlaceError> {
    let len_bytes = path.as_os_str().len();
    if len_bytes > MAX_PATH_BYTES {
        return Err(PlaceError::TooLong {
            len_bytes,
            max_bytes: MAX_PATH_BYTES,
        });
    }
    clear(path, access)?;
    let beside = name_beside(path).map_err(PlaceError::during("create socket"))?;
    clear(&beside, access)?;
    let socket = open_socket(libc::AF_UNIX).map_err(PlaceError::during("create socket"))?;
    let address = unix_address(&beside).map_err(PlaceError::during("create socket"))?;
    bind_to(&socket, &address).map_err(PlaceError::during("create socket"))?;
    let result = publish(&socket, &beside, path, access);
    // Whether that worked or not, the name beside has had its day.
    let _ = fs::remove_file(&beside);
    Ok((UnixListener::from(socket), result?))
}

/// Gives the socket bound at `beside` its owner and mode, makes it listen and
/// links it to `path`.
fn publish(
    socket: &OwnedFd,
    beside: &Path,
    path: &Path,
    access: Access,
) -> Result<Place, PlaceError> {
    give(beside, access)?;
    listen(socket).map_err(PlaceError::during("listen"))?;
    fs::hard_link(beside, path).map_err(|error| match error.kind() {
        // It was not there a moment ago: somebody else is starting.
        io::ErrorKind::AlreadyExists => PlaceError::InUse,
        _ => PlaceError::Io {
            step: "link socket",
            error,
        },
    })?;
    match look(path).map_err(PlaceError::during("look at socket"))? {
        Some(found) => Ok(Place {
            path: path.into(),
            inode: found.inode,
        }),
        None => Err(PlaceError::Io {
            step: "look at socket",
            error: io::ErrorKind::NotFound.into(),
        }),
    }
}

/// Removes a dead socket of ours from `path`, or says what is in the way.
fn clear(path: &Path, access: Access) -> Result<(), PlaceError> {
    let Some(found) = look(path).map_err(PlaceError::during("look at socket"))? else {
        return Ok(());
    };
    if found.kind != Kind::Socket {
        return Err(PlaceError::WrongKind(found.kind));
    }
    match is_alive(path) {
        Ok(true) => return Err(PlaceError::InUse),
        // Of another user's, "permission denied" would tell less.
        _ if !access.is_ours(found.uid) => {
            return Err(PlaceError::Foreign {
                kind: found.kind,
                uid: found.uid,
            })
        }
        Ok(false) => {}
        Err(error) => {
            return Err(PlaceError::Io {
                step: "probe socket",
                error,
            })
        }
    }
    Place {
        path: path.into(),
        inode: found.inode,
    }
    .remove()
    .map_err(PlaceError::during("remove dead socket"))?;
    Ok(())
}

/// Whether some process has the socket at `path` open.
///
/// Asked with a datagram socket: connecting it never blocks and takes no
/// connection away from the listener. A live socket of another type, listening
/// or not, answers EPROTOTYPE, a dead one of whatever type ECONNREFUSED.
fn is_alive(path: &Path) -> io::Result<bool> {
    match UnixDatagram::unbound()?.connect(path) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::EPROTOTYPE) => Ok(true),
            Some(libc::ECONNREFUSED | libc::ENOENT) => Ok(false),
            _ => Err(error),
        },
    }
}

/// The name a socket is made under: a dot in front of its own.
fn name_beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    Ok(path.with_file_name(beside))
}

/// Listens at a TCP address. One of IPv6 is for IPv6 alone, so that
/// `0.0.0.0` and `::` can both be bound.
pub fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(address) => {
            let socket = open_socket(libc::AF_INET)?;
            set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
            bind_to(&socket, &sockaddr_v4(address))?;
            socket
        }
        SocketAddr::V6(address) => {
            let socket = open_socket(libc::AF_INET6)?;
            set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
            set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)?;
            bind_to(&socket, &sockaddr_v6(address))?;
            socket
        }
    };
    listen(&socket)?;
    Ok(TcpListener::from(socket))
}

/// Connects to the UNIX socket at `path` without waiting: `WouldBlock` when the
/// listener's queue is full. The stream is nonblocking.
pub fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().len() > MAX_PATH_BYTES + 1 {
        let text = "path of the socket is too long";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let socket = open_socket(libc::AF_UNIX)?;
    connect_to(&socket, &unix_address(path)?)?;
    Ok(UnixStream::from(socket))
}

/// A stream socket, nonblocking and close-on-exec.
fn open_socket(domain: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    let fd = cerr(unsafe { libc::socket(domain, kind, 0) })?;
    // SAFETY: the descriptor is new and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Switches an option on.
fn set_option(socket: &OwnedFd, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len_bytes = mem::size_of_val(&on) as libc::socklen_t;
    let value = (&raw const on).cast();
    // SAFETY: pointer and length are those of `on`, which outlives the call.
    cerr(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, len_bytes) })?;
    Ok(())
}

/// A path as a socket address; its length was checked.
fn unix_address(path: &Path) -> io::Result<libc::sockaddr_un> {
    // SAFETY: plain integers and bytes, for which zero is a value.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let name = c_path(path)?;
    for (to, from) in address.sun_path.iter_mut().zip(name.to_bytes()) {
        *to = *from as libc::c_char;
    }
    Ok(address)
}

/// Begins to connect to a TCP address, without waiting. Once the socket is
/// writable, `take_error` tells whether it is connected.
pub fn start_connect(to: SocketAddr) -> io::Result<TcpStream> {
    let (socket, result) = match to {
        SocketAddr::V4(to) => {
            let socket = open_socket(libc::AF_INET)?;
            let result = connect_to(&socket, &sockaddr_v4(to));
            (socket, result)
        }
        SocketAddr::V6(to) => {
            let socket = open_socket(libc::AF_INET6)?;
            let result = connect_to(&socket, &sockaddr_v6(to));
            (socket, result)
        }
    };
    match result {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from(socket)),
    }
}

/// A socket address in the kernel's layout.
trait SocketAddress {}

impl SocketAddress for libc::sockaddr_un {}
impl SocketAddress for libc::sockaddr_in {}
impl SocketAddress for libc::sockaddr_in6 {}

/// bind(2).
fn bind_to<A: SocketAddress>(socket: &OwnedFd, address: &A) -> io::Result<()> {
    let len_bytes = mem::size_of::<A>() as libc::socklen_t;
    let pointer = (&raw const *address).cast();
    // SAFETY: pointer and length are those of `address`, a socket address that is
    // borrowed for the call.
    cerr(unsafe { libc::bind(socket.as_raw_fd(), pointer, len_bytes) })?;
    Ok(())
}

/// connect(2).
fn connect_to<A: SocketAddress>(socket: &OwnedFd, address: &A) -> io::Result<()> {
    let len_bytes = mem::size_of::<A>() as libc::socklen_t;
    let pointer = (&raw const *address).cast();
    // SAFETY: pointer and length are those of `address`, a socket address that is
    // borrowed for the call.
    cerr(unsafe { libc::connect(socket.as_raw_fd(), pointer, len_bytes) })?;
    Ok(())
}

/// An IPv4 address as the kernel takes it.
fn sockaddr_v4(from: SocketAddrV4) -> libc::sockaddr_in {
    // SAFETY: plain integers, for which zero is a value.
    let mut address: libc::sockaddr_in = unsafe { mem::zeroed() };
    address.sin_family = libc::AF_INET as libc::sa_family_t;
    address.sin_port = from.port().to_be();
    address.sin_addr.s_addr = u32::from(*from.ip()).to_be();
    address
}

/// An IPv6 address as the kernel takes it.
fn sockaddr_v6(from: SocketAddrV6) -> libc::sockaddr_in6 {
    // SAFETY: plain integers, for which zero is a value.
    let mut address: libc::sockaddr_in6 = unsafe { mem::zeroed() };
    address.sin6_family = libc::AF_INET6 as libc::sa_family_t;
    address.sin6_port = from.port().to_be();
    address.sin6_addr.s6_addr = from.ip().octets();
    address.sin6_scope_id = from.scope_id();
    address
}

/// listen(2) with our backlog.
fn listen(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: no pointers; the descriptor is borrowed for the call.
    cerr(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::set_umask;
    use crate::sys::scratch::{alone, is_root, Scratch};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::fs::MetadataExt;

    const PRIVATE: Access = Access {
        mode: 0o600,
        uid: None,
        gid: None,
    };

    /// Nonblocking and close-on-exec, as everything here is to be.
    fn assert_flags(fd: BorrowedFd<'_>) {
        // SAFETY: no pointers; the descriptor is borrowed for the call.
        let status = cerr(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) }).unwrap();
        // SAFETY: no pointers; the descriptor is borrowed for the call.
        let flags = cerr(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) }).unwrap();
        assert_ne!(status & libc::O_NONBLOCK, 0);
        assert_ne!(flags & libc::FD_CLOEXEC, 0);
    }

    #[test]
    fn a_listener_listens_and_is_removed() {
        let dir = Scratch::new("socket-listen");
        let path = dir.join("stats");
        let (listener, place) = bind_unix(&path, PRIVATE).unwrap();
        assert_flags(listener.as_fd());
        assert_eq!(
            listener.accept().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        let _client = UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "the name beside is gone"
        );
        assert_eq!(fs::symlink_metadata(&path).unwrap().nlink(), 1);
        assert!(place.remove().unwrap());
        assert!(!place.remove().unwrap());
    }

    #[test]
    fn connects_without_waiting() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(any) else {
                continue; // No IPv6 here.
            };
            let stream = start_connect(listener.local_addr().unwrap()).unwrap();
            assert_flags(stream.as_fd());
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(accepted.peer_addr().unwrap(), stream.local_addr().unwrap());
            assert!(stream.take_error().unwrap().is_none());
        }
    }

    #[test]
    fn a_living_one_is_refused_and_a_dead_one_replaced() {
        let dir = Scratch::new("socket-alive");
        let path = dir.join("stats");
        let (first, place) = bind_unix(&path, PRIVATE).unwrap();
        assert!(matches!(bind_unix(&path, PRIVATE), Err(PlaceError::InUse)));
        assert_eq!(
            first.accept().unwrap_err().kind(),
            io::ErrorKind::WouldBlock,
            "not even asked"
        );
        drop(first);
        assert!(path.exists());
        let (_second, _) = bind_unix(&path, PRIVATE).unwrap();
        UnixStream::connect(&path).unwrap();
        // Unless the number was used again, the old place is not ours now.
        if look(&path).unwrap().unwrap().inode != place.inode {
            assert!(!place.remove().unwrap());
        }
    }

    #[test]
    fn a_full_or_other_kind_of_living_socket_is_in_use() {
        let dir = Scratch::new("socket-full");
        let full = dir.join("full");
        let socket = open_socket(libc::AF_UNIX).unwrap();
        bind_to(&socket, &unix_address(&full).unwrap()).unwrap();
        assert!(
            matches!(bind_unix(&full, PRIVATE), Err(PlaceError::InUse)),
            "not listening yet"
        );
        // SAFETY: no pointers; the descriptor is owned by `socket`.
        cerr(unsafe { libc::listen(socket.as_raw_fd(), 0) }).unwrap();
        let _client = UnixStream::connect(&full).unwrap();
        assert!(matches!(bind_unix(&full, PRIVATE), Err(PlaceError::InUse)));

        let datagram = dir.join("datagram");
        let socket = UnixDatagram::bind(&datagram).unwrap();
        assert!(matches!(
            bind_unix(&datagram, PRIVATE),
            Err(PlaceError::InUse)
        ));
        drop(socket);
        bind_unix(&datagram, PRIVATE).unwrap();
    }

    #[test]
    fn connecting_does_not_wait() {
        let dir = Scratch::new("socket-connect");
        let path = dir.join("stats");
        let kind = |path: &Path| connect_unix(path).map(drop).map_err(|error| error.kind());
        assert_eq!(kind(&path), Err(io::ErrorKind::NotFound));
        let socket = open_socket(libc::AF_UNIX).unwrap();
        bind_to(&socket, &unix_address(&path).unwrap()).unwrap();
        assert_eq!(kind(&path), Err(io::ErrorKind::ConnectionRefused));
        // SAFETY: no pointers; the descriptor is owned by `socket`.
        cerr(unsafe { libc::listen(socket.as_raw_fd(), 0) }).unwrap();
        let client = connect_unix(&path).unwrap();
        assert_flags(client.as_fd());
        assert_eq!(
            kind(&path),
            Err(io::ErrorKind::WouldBlock),
            "its queue is full"
        );

        // One byte more than a listener's: there is no name beside.
        let room = MAX_PATH_BYTES + 1 - dir.join("").as_os_str().len();
        let longest = dir.join(&"x".repeat(room));
        let _listener = std::os::unix::net::UnixListener::bind(&longest).unwrap();
        assert_eq!(kind(&longest), Ok(()));
        let longer = dir.join(&"x".repeat(room + 1));
        assert_eq!(kind(&longer), Err(io::ErrorKind::InvalidInput));
    }

    #[test]
    fn a_dead_name_beside_is_no_obstacle() {
        let dir = Scratch::new("socket-beside");
        drop(UnixListener::bind(dir.join(".stats")).unwrap());
        bind_unix(&dir.join("stats"), PRIVATE).unwrap();
        fs::write(dir.join(".other"), "content").unwrap();
        assert!(matches!(
            bind_unix(&dir.join("other"), PRIVATE),
            Err(PlaceError::WrongKind(Kind::File))
        ));
        assert_eq!(fs::read(dir.join(".other")).unwrap(), b"content");
    }

    #[test]
    fn what_else_lies_there_stays() {
        let dir = Scratch::new("socket-others");
        fs::write(dir.join("file"), "content").unwrap();
        fs::create_dir(dir.join("directory")).unwrap();
        std::os::unix::fs::symlink("file", dir.join("link")).unwrap();
        for (name, kind) in [
            ("file", Kind::File),
            ("directory", Kind::Directory),
            ("link", Kind::Symlink),
        ] {
            match bind_unix(&dir.join(name), PRIVATE) {
                Err(PlaceError::WrongKind(found)) => assert_eq!(found, kind),
                result => panic!("{name}: {result:?}"),
            }
            assert_eq!(look(&dir.join(name)).unwrap().unwrap().kind, kind);
        }
        assert_eq!(fs::read(dir.join("file")).unwrap(), b"content");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_appears_meanwhile_stays() {
        let dir = Scratch::new("socket-race");
        let (path, beside) = (dir.join("stats"), dir.join(".stats"));
        let socket = open_socket(libc::AF_UNIX).unwrap();
        bind_to(&socket, &unix_address(&beside).unwrap()).unwrap();
        fs::write(&path, "content").unwrap();
        assert!(matches!(
            publish(&socket, &beside, &path, PRIVATE),
            Err(PlaceError::InUse)
        ));
        assert_eq!(fs::read(&path).unwrap(), b"content");
    }

    #[test]
    fn the_longest_path_is_known() {
        let dir = Scratch::new("socket-long");
        let room = MAX_PATH_BYTES - dir.join("").as_os_str().len();
        for len in [room - 1, room] {
            bind_unix(&dir.join(&"x".repeat(len)), PRIVATE).unwrap();
        }
        match bind_unix(&dir.join(&"x".repeat(room + 1)), PRIVATE) {
            Err(PlaceError::TooLong {
                len_bytes,
                max_bytes,
            }) => {
                assert_eq!((len_bytes, max_bytes), (MAX_PATH_BYTES + 1, MAX_PATH_BYTES));
            }
            result => panic!("{result:?}"),
        }
        assert!(matches!(
            bind_unix(Path::new("/"), PRIVATE),
            Err(PlaceError::WrongKind(_))
        ));
        assert!(matches!(
            bind_unix(Path::new(""), PRIVATE),
            Err(PlaceError::Io { .. })
        ));
    }

    #[test]
    fn owners_are_set_and_told_apart() {
        if !is_root() {
            return;
        }
        let dir = Scratch::new("socket-owner");
        let path = dir.join("stats");
        let access = Access {
            mode: 0o660,
            uid: Some(12345),
            gid: Some(12346),
        };
        drop(bind_unix(&path, access).unwrap());
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (12345, 12346));
        assert!(matches!(
            bind_unix(&path, PRIVATE),
            Err(PlaceError::Foreign {
                kind: Kind::Socket,
                uid: 12345
            })
        ));
        drop(bind_unix(&path, access).unwrap());
    }

    #[test]
    fn modes_are_exact() {
        alone(module_path!(), "modes_are_exact", || {
            let dir = Scratch::new("socket-mode");
            let path = dir.join("stats");
            for umask in [0, 0o022, 0o077] {
                set_umask(umask);
                for wanted in [0o600, 0o660, 0o666, 0] {
                    let (_, place) = bind_unix(
                        &path,
                        Access {
                            mode: wanted,
                            ..PRIVATE
                        },
                    )
                    .unwrap();
                    let mode = fs::symlink_metadata(&path).unwrap().mode() & 0o7777;
                    assert_eq!(mode, wanted, "umask {umask:o}");
                    place.remove().unwrap();
                }
            }
        });
    }

    /// How many connections a listener's queue holds.
    #[cfg(target_os = "linux")]
    fn backlog(listener: &TcpListener) -> u32 {
        // SAFETY: plain integers, for which zero is a value.
        let mut info: libc::tcp_info = unsafe { mem::zeroed() };
        let mut len_bytes = mem::size_of_val(&info) as libc::socklen_t;
        let (fd, pointer) = (listener.as_raw_fd(), (&raw mut info).cast());
        let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
        // SAFETY: pointer and length are those of `info`, borrowed for the call.
        let result = unsafe { libc::getsockopt(fd, level, option, pointer, &mut len_bytes) };
        cerr(result).unwrap();
        // Of a listener: the limit of its queue.
        info.tcpi_sacked
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn both_families_have_the_same_backlog() {
        let most = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let most: u32 = most.trim().parse().unwrap();
        for ip in [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ] {
            match bind_tcp((ip, 0).into()) {
                Ok(listener) => assert_eq!(backlog(&listener), most.min(BACKLOG as u32), "{ip}"),
                Err(error) => println!("skipped: {ip}: {error}"),
            }
        }
    }

    #[test]
    fn both_families_share_a_port() {
        let v6 = match bind_tcp((Ipv6Addr::UNSPECIFIED, 0).into()) {
            Ok(listener) => listener,
            Err(error) => return println!("skipped: no IPv6 here: {error}"),
        };
        assert_flags(v6.as_fd());
        let port = v6.local_addr().unwrap().port();
        let v4 = bind_tcp((Ipv4Addr::UNSPECIFIED, port).into()).unwrap();
        assert_flags(v4.as_fd());
        let again = bind_tcp((Ipv6Addr::UNSPECIFIED, port).into());
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let client = std::net::TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        let (_, peer) = v6.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    }
}
