//! What a service manager passed: FIFOs and listening sockets.
//!
//! Owns: what inherited descriptors are, and the closing of those that were not passed.
//!
//! Invariants: what is given out is close-on-exec and nonblocking.
//!
//! Must not: read the environment.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use crate::sys::cerr;
use crate::sys::fd::inherited::{last_descriptor, take, FIRST};
use crate::sys::fs::fifo::Fifo;
use crate::sys::fs::lookup::{FileKind, Found, Inode};

/// A passed descriptor, by what it is.
#[derive(Debug)]
pub(crate) enum Passed {
    /// A FIFO and its identity.
    Fifo(Fifo, Inode),
    /// A UNIX socket that listens.
    Unix(UnixListener),
    /// A TCP socket that listens.
    Tcp(TcpListener),
}

/// Takes over and returns the descriptors that the manager passed; closes the others
/// that the process was started with, but the three standard ones.
pub(crate) fn take_descriptors(count: usize) -> Vec<io::Result<Passed>> {
    let end = FIRST.saturating_add(RawFd::try_from(count).unwrap_or(RawFd::MAX));
    let taken = (FIRST..end).map(|number| take(number).and_then(passed));
    let taken = taken.collect();
    for number in end..=last_descriptor() {
        drop(take(number));
    }
    taken
}

/// What Dovecot's master passed.
#[derive(Debug)]
pub(crate) struct FromMaster {
    /// What is written here tells the master how many clients are welcome.
    pub status: File,
    /// Its reader is the master: an error of poll(2) is the request to end.
    pub dead: File,
    pub listeners: Vec<io::Result<Passed>>,
}

/// Takes over what Dovecot 2.2's and 2.3's master passes, with `count` listeners. Closes
/// the others, as [`take_descriptors`] does.
#[cold]
#[inline(never)]
pub(crate) fn take_from_master(count: usize) -> io::Result<FromMaster> {
    // lib-master/master-interface.h: MASTER_STATUS_FD, MASTER_DEAD_FD,
    // MASTER_LISTEN_FD_FIRST.
    const STATUS: RawFd = 5;
    const DEAD: RawFd = 6;
    const LISTEN: usize = 7;
    let status = take(STATUS)?;
    let dead = take(DEAD)?;
    let mut listeners = take_descriptors(count + LISTEN - FIRST as usize);
    listeners.drain(..LISTEN - FIRST as usize);
    Ok(FromMaster {
        status,
        dead,
        listeners,
    })
}

/// What was passed as a file.
#[cold]
#[inline(never)]
fn passed(file: File) -> io::Result<Passed> {
    let found = Found::from(&file.metadata()?);
    match found.kind {
        FileKind::Fifo => Ok(Passed::Fifo(Fifo::adopt(file)?, found.inode)),
        FileKind::Socket => take_socket(file.into()),
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
        // One at [::] takes those of IPv4 as well unless IPV6_V6ONLY is set.
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
