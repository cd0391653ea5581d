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
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::sys::cerr;
use crate::sys::fs::created::{check_takeover, Access, CreateError, CreatedFile};
use crate::sys::fs::dir::{Dir, Owner};
use crate::sys::fs::lookup::{c_path, FileKind, Found, Inode};
use crate::sys::proc::user::effective_uid;

/// Connections the kernel keeps for us until they are accepted; cut to the
/// system's own limit (Linux: net.core.somaxconn).
const BACKLOG: libc::c_int = 1024;

/// How long the path of a UNIX socket may be: what fits into a socket address
/// (Linux: 108 bytes) without its final NUL and the dot of the name beside.
pub(crate) const MAX_PATH_BYTES: usize =
    mem::size_of::<libc::sockaddr_un>() - mem::offset_of!(libc::sockaddr_un, sun_path) - 2;

/// Listens at `path`; the place is for removing the socket on a clean
/// shutdown.
pub(crate) fn bind_unix(
    path: &Path,
    owner: Owner,
    access: Access,
) -> Result<(UnixListener, CreatedFile), CreateError> {
    let len_bytes = path.as_os_str().len();
    if len_bytes > MAX_PATH_BYTES {
        return Err(CreateError::TooLong {
            len_bytes,
            max_bytes: MAX_PATH_BYTES,
        });
    }
    let during = || CreateError::during("create socket");
    let (dir, name) = Dir::of(path, owner).map_err(during())?;
    clear(&dir, &name, access)?;
    let beside = format!(".{name}");
    clear(&dir, &beside, access)?;
    let socket = open_socket(libc::AF_UNIX).map_err(during())?;
    unix_address(&path_to(&dir, &beside))
        .and_then(|address| bind_to(&socket, &address))
        .map_err(during())?;
    let result = publish(&socket, &dir, &beside, &name, access);
    // Whether that worked or not, the name beside is no longer needed.
    let _ = dir.remove(&beside);
    let path = path.to_owned();
    let place = result.map(|inode| CreatedFile { path, owner, inode })?;
    Ok((UnixListener::from(socket), place))
}

/// A path to a socket that fits into an address.
fn path_to(dir: &Dir, name: &str) -> PathBuf {
    dir.path_to(name, MAX_PATH_BYTES + 1)
}

/// Gives the socket bound at `beside` its owner and mode, makes it listen and
/// links it to `name`.
fn publish(
    socket: &OwnedFd,
    dir: &Dir,
    beside: &str,
    name: &str,
    access: Access,
) -> Result<Inode, CreateError> {
    let inode = set_access(dir, beside, access)?;
    listen(socket).map_err(CreateError::during("listen"))?;
    dir.link(beside, name).map_err(|error| match error.kind() {
        // It was not there a moment ago: another daemon is starting.
        io::ErrorKind::AlreadyExists => CreateError::InUse,
        _ => CreateError::Io {
            step: "link socket",
            error,
        },
    })?;
    match dir.look(name) {
        Ok(Some(found)) if found.inode == inode => Ok(inode),
        found => Err(CreateError::Io {
            step: "look at socket",
            error: found.err().unwrap_or(io::ErrorKind::NotFound.into()),
        }),
    }
}

/// Gives the socket that was just made its owner and mode.
///
/// Root makes sockets in directories that are the service user's, who could put
/// something else in place meanwhile. So it is opened first, without using it,
/// and only what is a socket, ours, and has no other name is changed.
fn set_access(dir: &Dir, name: &str, access: Access) -> Result<Inode, CreateError> {
    let look = || CreateError::during("look at socket");
    let file = dir.open_at(name, libc::O_PATH, 0).map_err(look())?;
    let metadata = file.metadata().map_err(look())?;
    let found = Found::from(&metadata);
    // It was just made, so it is this process' user's.
    let as_made = Access {
        uid: None,
        ..access
    };
    check_takeover(&found, FileKind::Socket, as_made, || Ok(false))?;
    if metadata.nlink() != 1 {
        let (kind, uid) = (found.kind, found.uid);
        return Err(CreateError::Foreign { kind, uid });
    }
    let same = |id: Option<u32>| id.unwrap_or(libc::uid_t::MAX);
    let (fd, uid, gid) = (file.as_raw_fd(), same(access.uid), same(access.gid));
    // The owner first: a change of it may drop bits of the mode.
    if access.changes_owner(&metadata) {
        // SAFETY: the empty path is a NUL-terminated constant; the descriptor is
        // owned by `file`.
        cerr(unsafe { libc::fchownat(fd, c"".as_ptr(), uid, gid, libc::AT_EMPTY_PATH) })
            .map_err(CreateError::during("set owner"))?;
    }
    // The only way to a descriptor that is not open for anything.
    let itself = format!("/proc/self/fd/{fd}");
    let mode = fs::Permissions::from_mode(access.mode);
    match fs::set_permissions(itself, mode.clone()) {
        // No /proc here. An ordinary user cannot be led to give away what is root's.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                && (effective_uid() != 0 || !cfg!(target_os = "linux")) =>
        {
            fs::set_permissions(path_to(dir, name), mode)
        }
        result => result,
    }
    .map_err(CreateError::during("set mode by /proc"))?;
    Ok(found.inode)
}

/// Removes a dead socket of ours, or returns what is in the way.
fn clear(dir: &Dir, name: &str, access: Access) -> Result<(), CreateError> {
    let found = dir
        .look(name)
        .map_err(CreateError::during("look at socket"));
    let Some(found) = found? else {
        return Ok(());
    };
    let is_in_use = || is_alive(&path_to(dir, name));
    check_takeover(&found, FileKind::Socket, access, is_in_use)?;
    dir.remove_inode(name, found.inode)
        .map_err(CreateError::during("remove dead socket"))?;
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

/// Listens at a TCP address. One of IPv6 is for IPv6 alone, so that
/// `0.0.0.0` and `::` can both be bound.
pub(crate) fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
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
pub(crate) fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().len() > MAX_PATH_BYTES + 1 {
        let text = "path of the socket is too long";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let socket = open_socket(libc::AF_UNIX)?;
    connect_to(&socket, &unix_address(path)?)?;
    Ok(UnixStream::from(socket))
}

/// The user and group that a peer had when it connected.
#[cfg(target_os = "linux")]
pub(crate) fn peer(stream: &UnixStream) -> io::Result<(u32, u32)> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut len_bytes = mem::size_of_val(&peer) as libc::socklen_t;
    let value = (&raw mut peer).cast();
    let (fd, level, option) = (stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED);
    // SAFETY: pointer and length are those of `peer`, which outlives the call.
    cerr(unsafe { libc::getsockopt(fd, level, option, value, &mut len_bytes) })?;
    Ok((peer.uid, peer.gid))
}

/// Other systems report it otherwise.
#[cfg(not(target_os = "linux"))]
pub(crate) fn peer(_stream: &UnixStream) -> io::Result<(u32, u32)> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A stream socket, nonblocking and close-on-exec.
fn open_socket(domain: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    let fd = cerr(unsafe { libc::socket(domain, kind, 0) })?;
    // SAFETY: the descriptor is new and owned by nothing else.
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
/// writable, `take_error` returns whether it is connected.
pub(crate) fn start_connect(to: SocketAddr) -> io::Result<TcpStream> {
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
mod tests;
