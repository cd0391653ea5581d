//! Descriptors that the process was started with.
//!
//! Owns: the way from numbers of descriptors to owned files, what they are, and
//! the closing of those that nobody asked for.
//!
//! Invariants: what is handed out is close-on-exec and nonblocking. Only descriptors
//! that came through execve(2) are handed out or closed, each once: they alone are not
//! close-on-exec, which all are that this process opened, by std or by this room, and
//! those that were handed out.
//!
//! Must not: read the environment.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use crate::sys::cerr;
use crate::sys::fs::fifo::Fifo;
use crate::sys::fs::place::{Found, Inode, Kind};

/// The number of the first descriptor that a service manager passes
/// (sd_listen_fds(3)).
const FIRST: RawFd = 3;

/// What somebody opened for us.
#[derive(Debug)]
pub(crate) enum Passed {
    /// A FIFO and its identity.
    Fifo(Fifo, Inode),
    /// A UNIX socket that listens.
    Unix(UnixListener),
    /// A TCP socket that listens.
    Tcp(TcpListener),
}

/// Takes over the descriptors that the manager passed, closes the others that the
/// process was started with, but the three standard ones, and tells what they are.
pub(crate) fn take_descriptors(count: usize) -> Vec<io::Result<Passed>> {
    let end = FIRST.saturating_add(RawFd::try_from(count).unwrap_or(RawFd::MAX));
    let taken = (FIRST..end).map(|number| take(number).and_then(passed));
    let taken = taken.collect();
    for number in end..=last_descriptor() {
        drop(take(number));
    }
    taken
}

/// A descriptor that came through execve(2).
fn take(number: RawFd) -> io::Result<File> {
    // SAFETY: no pointers; an error when there is no such descriptor.
    let flags = cerr(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: no pointers.
    cerr(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the descriptor is open, and was not close-on-exec: nothing in this process
    // opened it or took it before.
    Ok(unsafe { File::from_raw_fd(number) })
}

/// What was passed as a file.
fn passed(file: File) -> io::Result<Passed> {
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
pub(crate) fn covers(listener: &TcpListener, wanted: SocketAddr) -> bool {
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
/// # Safety
/// What owns them there is never used or dropped; for the child of fork(2) that ends
/// with _exit(2).
pub(crate) unsafe fn close_all_but(keep: &[BorrowedFd<'_>]) {
    let mut first = FIRST;
    let numbers = || keep.iter().map(AsRawFd::as_raw_fd);
    while let Some(number) = numbers().filter(|&number| number >= first).min() {
        if first < number {
            // SAFETY: the caller's promise.
            unsafe { close_range(first, number - 1) };
        }
        first = number + 1;
    }
    // SAFETY: the caller's promise.
    unsafe { close_range(first, RawFd::MAX) };
}

/// Closes all descriptors within a range.
///
/// # Safety
/// What owns them is never used or dropped.
#[cfg(target_os = "linux")]
unsafe fn close_range(first: RawFd, last: RawFd) {
    // SAFETY: no pointers; the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == -1 {
        // A kernel before 5.9, or a filter of system calls.
        // SAFETY: the caller's promise.
        unsafe { close_each(first, last) };
    }
}

#[cfg(not(target_os = "linux"))]
use close_each as close_range;

/// Closes the descriptors of a range one by one, as many as there may be.
///
/// # Safety
/// As of `close_range`.
unsafe fn close_each(first: RawFd, last: RawFd) {
    for number in first..=last.min(last_descriptor()) {
        // SAFETY: no pointers; the caller's promise.
        unsafe { libc::close(number) };
    }
}

/// The highest number that a descriptor may have.
fn last_descriptor() -> RawFd {
    // SAFETY: no pointers.
    let most = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    // Where the limit is that high, nobody has opened so many.
    RawFd::try_from(most).map_or(65536, |most| most.clamp(FIRST, 65536))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::alone;

    /// Makes a descriptor as one that came through execve(2).
    fn inherited(file: &File, number: RawFd) {
        // SAFETY: no pointers; in this process nothing has that number.
        cerr(unsafe { libc::dup2(file.as_raw_fd(), number) }).unwrap();
    }

    #[test]
    fn what_this_process_opened_is_neither_taken_nor_closed() {
        let name = "what_this_process_opened_is_neither_taken_nor_closed";
        alone(module_path!(), name, || {
            let (mut near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
            let null = File::open("/dev/null").unwrap();
            // What the test program itself was started with.
            take_descriptors(0);
            let first = [near.as_raw_fd(), far.as_raw_fd(), null.as_raw_fd()];
            inherited(&null, 100);
            let count = 101 - FIRST as usize;
            for expected in [vec![100], vec![]] {
                let is_device =
                    |taken: io::Result<Passed>| taken.unwrap_err().to_string().contains("a device");
                let taken = (FIRST..).zip(take_descriptors(count));
                let taken = taken.filter_map(|(n, taken)| is_device(taken).then_some(n));
                assert_eq!(taken.collect::<Vec<_>>(), expected);
            }
            assert!(first.iter().all(|&number| number < 100), "{first:?}");
            // Behind what was passed it is closed, once.
            inherited(&null, 100);
            take_descriptors(0);
            // SAFETY: no pointers; an error when there is no such descriptor.
            assert!(cerr(unsafe { libc::fcntl(100, libc::F_GETFD) }).is_err());
            io::Write::write_all(&mut near, b"x").unwrap();
            io::Read::read_exact(&mut far, &mut [0]).unwrap();
            null.metadata().unwrap();
        });
    }
}
