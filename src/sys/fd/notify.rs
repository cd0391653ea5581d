//! Messages to the service manager, systemd or one that speaks its protocol.
//!
//! Owns: a datagram socket connected to the address that the manager gave, and
//! the clock that it compares with. Connected once, it works from inside a
//! chroot, too.
//!
//! Invariants: sending never blocks; a manager that does not read loses the
//! message.
//!
//! Must not: choose the messages.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::sys::cerr;

/// The way to the manager.
#[derive(Debug)]
pub(crate) struct Notify {
    /// Connected to the manager's.
    socket: UnixDatagram,
}

impl Notify {
    /// Connects to `$NOTIFY_SOCKET`: a path, or, behind a `@`, the name of an
    /// abstract socket.
    pub(crate) fn open(address: &OsStr) -> io::Result<Notify> {
        let socket = UnixDatagram::unbound()?;
        match address.as_bytes() {
            [b'/', ..] => socket.connect(Path::new(address))?,
            [b'@', name @ ..] => connect_abstract(&socket, name)?,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        socket.set_nonblocking(true)?;
        Ok(Notify { socket })
    }

    /// Sends assignments, one a line.
    pub(crate) fn send(&self, assignments: &str) -> io::Result<()> {
        self.socket.send(assignments.as_bytes()).map(drop)
    }
}

/// Connects to a name that is in no file system.
#[cfg(target_os = "linux")]
fn connect_abstract(socket: &UnixDatagram, name: &[u8]) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    socket.connect_addr(&SocketAddr::from_abstract_name(name)?)
}

/// Other systems have no such names.
#[cfg(not(target_os = "linux"))]
fn connect_abstract(_socket: &UnixDatagram, _name: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The clock of `MONOTONIC_USEC=`, in microseconds.
pub(crate) fn monotonic_usecs() -> io::Result<u64> {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is to `time`, borrowed for the call.
    cerr(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, time.as_mut_ptr()) })?;
    // SAFETY: the call succeeded and filled it in.
    let time = unsafe { time.assume_init() };
    Ok(time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::Scratch;

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn reaches_a_path_even_if_it_goes_away() {
        let dir = Scratch::new("notify");
        let path = dir.join("socket");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::open(path.as_os_str()).unwrap();
        std::fs::remove_file(&path).unwrap();
        notify.send("READY=1\nSTATUS=here").unwrap();
        assert_eq!(receive(&manager), "READY=1\nSTATUS=here");
        assert!(Notify::open(path.as_os_str()).is_err());
        assert!(Notify::open(OsStr::new("vsock:2:1234")).is_err());
        assert!(Notify::open(OsStr::new("")).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn reaches_an_abstract_name_and_never_waits() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("dovestat-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let notify = Notify::open(OsStr::new(&format!("@{name}"))).unwrap();
        let mut sent = 0;
        while notify.send("WATCHDOG=1").is_ok() {
            sent += 1;
        }
        assert!(sent > 0, "the queue filled up without a wait");
        assert_eq!(receive(&manager), "WATCHDOG=1");
    }

    #[test]
    fn the_clock_goes_on() {
        let before = monotonic_usecs().unwrap();
        assert!(before > 0 && monotonic_usecs().unwrap() >= before);
    }
}
