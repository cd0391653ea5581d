//! A listening socket, and how the clients that come by it are served.

use crate::config::ListenerOptions;
use crate::store::Network;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::time::Instant;

#[derive(Debug)]
pub(crate) enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// The section of the settings that a listener was opened for, by its place
/// among those of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Unix(usize),
    Inet(usize),
    /// No section names it: the service manager passed it.
    Unnamed,
}

/// A connection that it has accepted.
#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// read(2).
    pub(crate) fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(bytes),
            Stream::Tcp(stream) => stream.read(bytes),
        }
    }

    /// write(2).
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tcp(stream) => stream.write(bytes),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tcp(stream) => stream.as_fd(),
        }
    }
}

/// A listening socket and how its clients are served.
#[derive(Debug)]
pub(crate) struct Listener {
    pub socket: Socket,
    /// Where its options come from.
    pub section: Section,
    /// How its clients are served.
    pub options: Rc<ListenerOptions>,
    /// Networks that clients may come from; empty: all.
    pub allow_nets: Vec<Network>,
    /// The names of the server for clients of HTTP, beside its addresses and localhost;
    /// `None`: any, as no browser connects to a UNIX socket.
    pub server_names: Option<Rc<str>>,
    /// Its name, for the log.
    pub name: Rc<str>,
    /// Not polled before this instant: accept(2) failed.
    pub retry_at: Option<Instant>,
    /// Its slot in the poll set.
    pub slot: Option<usize>,
}

impl Listener {
    /// One that is ready to accept.
    pub(crate) fn new(
        socket: Socket,
        section: Section,
        options: &ListenerOptions,
        name: &str,
    ) -> Self {
        Listener {
            server_names: match socket {
                Socket::Unix(_) => None,
                Socket::Tcp(_) => Some(Rc::default()),
            },
            socket,
            section,
            options: Rc::new(options.clone()),
            allow_nets: Vec::new(),
            name: name.into(),
            retry_at: None,
            slot: None,
        }
    }

    /// Refuses a client whose address is not allowed.
    fn admit(&self, peer: SocketAddr) -> io::Result<()> {
        let ip = peer.ip().to_canonical();
        match self.allow_nets.is_empty() || self.allow_nets.iter().any(|net| net.contains_ip(ip)) {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{ip} is in none of allow_nets"),
            )),
        }
    }

    /// accept(2), nonblocking. A client that was refused is closed already, with an
    /// error of the kind `PermissionDenied`, as it is when a firewall refused it.
    pub(crate) fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Socket::Unix(socket) => {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Stream::Unix(stream))
            }
            Socket::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                self.admit(peer)?;
                stream.set_nonblocking(true)?;
                // Replies are whole writes: Nagle's delay gains nothing. Where that
                // cannot be set, little is lost.
                let _ = stream.set_nodelay(true);
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Unix(socket) => socket.as_fd(),
            Socket::Tcp(socket) => socket.as_fd(),
        }
    }
}
