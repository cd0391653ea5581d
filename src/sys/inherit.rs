//! Descriptors that the process was started with.
//!
//! Owns: the way from numbers of descriptors to owned files, what they are, and
//! the closing of those that nobody asked for.
//!
//! Invariants: what is handed out is close-on-exec and nonblocking; a number is
//! handed out once, because both functions that make something of numbers are
//! called once, before anything else is opened.
//!
//! Must not: read the environment.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use super::cerr;
use super::fifo::Fifo;
use super::place::{Found, Inode, Kind};

/// The number of the first descriptor that a service manager passes
/// (sd_listen_fds(3)).
const FIRST: RawFd = 3;

/// What somebody opened for us.
#[derive(Debug)]
pub enum Passed {
    /// A FIFO and its identity.
    Fifo(Fifo, Inode),
    /// A UNIX socket that listens.
    Unix(UnixListener),
    /// A TCP socket that listens.
    Tcp(TcpListener),
}

/// Takes over the descriptors that the manager passed, closes all behind them,
/// and tells what they are. To be called once, by the only thread, while the
/// process has no other descriptors but the three standard ones.
pub fn take_descriptors(count: usize) -> Vec<io::Result<Passed>> {
    let end = FIRST.saturating_add(RawFd::try_from(count).unwrap_or(RawFd::MAX));
    close_from(end);
    (FIRST..end).map(take).collect()
}

/// One descriptor.
fn take(number: RawFd) -> io::Result<Passed> {
    // SAFETY: no pointers; an error when there is no such descriptor.
    cerr(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the descriptor is open, and by the contract of
    // `take_descriptors` nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    let file = File::from(fd);
    let found = Found::from(&file.metadata()?);
    match found.kind {
        Kind::Fifo => Ok(Passed::Fifo(Fifo::adopt(file)?, found.inode)),
        Kind::Socket => take_socket(file.into()),
        kind => Err(io::Error::other(format!("a {kind}"))),
    }
}

/// A socket, which must be a listening stream.
fn take_socket(fd: OwnedFd) -> io::Result<Passed> {
    let is_stream = option(&fd, libc::SOL_SOCKET, libc::SO_TYPE)? == libc::SOCK_STREAM;
    if !is_stream || option(&fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? == 0 {
        return Err(io::Error::other("a socket that is no listening stream"));
    }
    let unix = UnixListener::from(fd);
    if unix.local_addr().is_ok() {
        unix.set_nonblocking(true)?;
        return Ok(Passed::Unix(unix));
    }
    let tcp = TcpListener::from(OwnedFd::from(unix));
    tcp.local_addr()?;
    tcp.set_nonblocking(true)?;
    Ok(Passed::Tcp(tcp))
}

/// Whether a TCP listener takes the connections that one at `wanted` would.
pub fn covers(listener: &TcpListener, wanted: SocketAddr) -> bool {
    match listener.local_addr() {
        Ok(address) if address == wanted => true,
        // One at [::] takes those of IPv4 as well unless told otherwise.
        Ok(SocketAddr::V6(all)) if all.ip().is_unspecified() && all.port() == wanted.port() => {
            wanted.is_ipv6()
                || option(listener, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)
                    .is_ok_and(|only| only == 0)
        }
        Ok(SocketAddr::V4(all)) if all.ip().is_unspecified() => {
            wanted.is_ipv4() && all.port() == wanted.port()
        }
        _ => false,
    }
}

/// An option of a socket that is an int.
fn option(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len_bytes = size_of_val(&value) as libc::socklen_t;
    let (pointer, fd) = ((&raw mut value).cast(), socket.as_raw_fd());
    // SAFETY: the pointers are to `value` and its length, borrowed for the call.
    cerr(unsafe { libc::getsockopt(fd, level, name, pointer, &mut len_bytes) })?;
    Ok(value)
}

/// Closes all descriptors in a copy of this process but the standard ones and
/// those to keep.
///
/// What owns them there must never be used or dropped; for the child of fork(2)
/// that ends with _exit(2).
pub(super) fn close_all_but(keep: &[BorrowedFd<'_>]) {
    let mut first = FIRST;
    let numbers = || keep.iter().map(AsRawFd::as_raw_fd);
    while let Some(number) = numbers().filter(|&number| number >= first).min() {
        if first < number {
            close_range(first, number - 1);
        }
        first = number + 1;
    }
    close_from(first);
}

/// Closes all descriptors from one on.
fn close_from(first: RawFd) {
    close_range(first, RawFd::MAX);
}

/// Closes all descriptors within a range.
#[cfg(target_os = "linux")]
fn close_range(first: RawFd, last: RawFd) {
    // SAFETY: no pointers; by the contracts of our callers nobody uses the
    // descriptors any more.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == -1 {
        // A kernel before 5.9, or a filter of system calls.
        close_each(first, last);
    }
}

/// Closes all descriptors within a range.
#[cfg(not(target_os = "linux"))]
fn close_range(first: RawFd, last: RawFd) {
    close_each(first, last);
}

/// Closes the descriptors of a range one by one, as many as there may be.
fn close_each(first: RawFd, last: RawFd) {
    // SAFETY: no pointers.
    let most = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    // Where there is no limit, nobody has opened so many.
    let most = RawFd::try_from(most).ok().filter(|&most| most > 0);
    for number in first..=last.min(most.unwrap_or(65536)) {
        // SAFETY: no pointers; as in `close_range`.
        unsafe { libc::close(number) };
    }
}
