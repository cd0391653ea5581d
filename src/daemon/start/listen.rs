//! The FIFOs and sockets of the settings: opened, or found among those that the
//! service manager passed.
//!
//! A listener of the settings whose path or address the manager has opened
//! already is served by that descriptor, with the options of its section; its
//! file is the manager's, mode, owner and removal included. What the manager
//! passed and no section names is served with the defaults of its kind: the socket
//! unit was written for that. A descriptor that is neither a FIFO nor
//! a listening stream is refused.
//!
//! Invariants: files that the daemon made are removed when [`Opened::files`] is dropped,
//! those of passed descriptors are not.

use crate::config::{Address, Fatal, FileListener, ListenerOptions, Settings};
use crate::daemon::files::{make_fifo, End, ListenerFile};
use crate::daemon::input::fifo::FifoInput;
use crate::daemon::log::Log;
use crate::daemon::serve::listener::{Listener, Section, Socket};
use crate::daemon::start::identity::{find_gid, find_user};
use crate::daemon::start::sd_notify::PassedFd;
use crate::sys::fs::created::{Access, CreateError, CreatedFile};
use crate::sys::fs::dir::Owner;
use crate::sys::fs::fifo::Fifo;
use crate::sys::fs::lookup::{look, Inode};
use crate::sys::fs::passed::{covers, Passed};
use crate::sys::fs::socket::{bind_tcp, bind_unix};
use crate::sys::reason;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::rc::Rc;

/// Everything the daemon listens on.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// Where records come from.
    pub fifos: Vec<FifoInput>,
    /// Where clients come from.
    pub listeners: Vec<Listener>,
    pub files: Vec<ListenerFile>,
}

/// What the manager passed and is not served yet, with the manager's names.
#[derive(Default)]
struct Unserved {
    fifos: Vec<(String, Fifo, Inode)>,
    unix: Vec<(String, UnixListener)>,
    tcp: Vec<(String, TcpListener)>,
}

impl Unserved {
    /// All that was passed.
    fn new(passed: Vec<PassedFd>) -> Result<Unserved, Fatal> {
        let mut all = Unserved::default();
        for PassedFd { name, what } in passed {
            let what = what.map_err(|error| {
                Fatal::Setting(format!(
                    "descriptor {name:?} passed by the service manager: {}; \
                     only FIFOs and listening stream sockets can be served",
                    reason(&error)
                ))
            })?;
            match what {
                Passed::Fifo(fifo, inode) => all.fifos.push((name, fifo, inode)),
                Passed::Unix(socket) => all.unix.push((name, socket)),
                Passed::Tcp(socket) => all.tcp.push((name, socket)),
            }
        }
        Ok(all)
    }

    /// The FIFO at a path.
    fn fifo(&mut self, path: &Path) -> Option<(Fifo, Inode)> {
        let there = fs::metadata(path).ok()?;
        let is_it = |inode: &Inode| (inode.dev, inode.ino) == (there.dev(), there.ino());
        let at = self.fifos.iter().position(|(_, _, inode)| is_it(inode))?;
        let (_, fifo, inode) = self.fifos.remove(at);
        Some((fifo, inode))
    }

    /// The UNIX socket at a path, by whatever symlinks.
    fn unix(&mut self, path: &Path) -> Option<UnixListener> {
        let same = |bound: &Path| {
            bound == path
                || matches!((bound.canonicalize(), path.canonicalize()), (Ok(a), Ok(b)) if a == b)
        };
        let at = self.unix.iter().position(|(_, socket)| {
            let address = socket.local_addr();
            address.is_ok_and(|address| address.as_pathname().is_some_and(same))
        })?;
        Some(self.unix.remove(at).1)
    }

    /// The TCP socket that takes the connections to an address.
    fn tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let sockets = &self.tcp;
        let at = sockets
            .iter()
            .position(|(_, socket)| covers(socket, address))?;
        Some(self.tcp.remove(at).1)
    }
}

/// Opens all FIFOs and sockets of the settings that the manager has not, and
/// takes over those that it has.
///
/// # Errors
/// What is taken, in the way, not permitted or does not exist.
pub(crate) fn open_listeners(
    settings: &Settings,
    owner: Owner,
    passed: Vec<PassedFd>,
    log: &mut Log,
) -> Result<Opened, Fatal> {
    let mut unserved = Unserved::new(passed)?;
    let mut opened = Opened::default();
    const KIND: &str = "fifo_listener";
    for listener in settings.enabled_fifos() {
        let path = listener.path_in(&settings.base_dir);
        let end = End::Fifo(opened.fifos.len());
        let (fifo, held) = match unserved.fifo(&path) {
            Some((fifo, inode)) => {
                opened.files.extend(passed_file(KIND, end, &path));
                (fifo, Some(inode))
            }
            None => {
                let access = access(KIND, listener)?;
                let name = name_of(KIND, &path);
                let fifo = make_fifo(&name, (&path, owner), access, (&settings.base_dir, log))
                    .map_err(occupied(name))?;
                let file = |place| ListenerFile::new(KIND, end, place, Some(access));
                opened.files.extend(fifo.file().cloned().map(file));
                (fifo, None)
            }
        };
        opened
            .fifos
            .push(FifoInput::new(fifo, &listener.name, held));
    }
    open_unix(settings, owner, &mut unserved, &mut opened)?;
    open_inet(settings, &mut unserved, &mut opened, log)?;
    serve_unnamed(unserved, &mut opened, log);
    Ok(opened)
}

fn open_unix(
    settings: &Settings,
    owner: Owner,
    unserved: &mut Unserved,
    opened: &mut Opened,
) -> Result<(), Fatal> {
    const KIND: &str = "unix_listener";
    for (index, listener) in settings.unix_listeners.iter().enumerate() {
        if !listener.file.is_enabled() {
            continue;
        }
        let path = listener.file.path_in(&settings.base_dir);
        let end = End::Listener(opened.listeners.len());
        let socket = match unserved.unix(&path) {
            Some(socket) => {
                opened.files.extend(passed_file(KIND, end, &path));
                socket
            }
            None => {
                let access = access(KIND, &listener.file)?;
                let (socket, place) =
                    bind_unix(&path, owner, access).map_err(occupied(name_of(KIND, &path)))?;
                let file = ListenerFile::new(KIND, end, place, Some(access));
                opened.files.push(file);
                socket
            }
        };
        opened.listeners.push(Listener::new(
            Socket::Unix(socket),
            Section::Unix(index),
            &listener.options,
            &listener.file.name,
        ));
    }
    Ok(())
}

/// The file of a FIFO or socket that the service manager made.
fn passed_file(kind: &str, end: End, path: &Path) -> Option<ListenerFile> {
    let inode = look(path).ok()??.inode;
    let (path, owner) = (path.to_owned(), None);
    let place = CreatedFile { path, owner, inode };
    Some(ListenerFile::new(kind, end, place, None))
}

fn open_inet(
    settings: &Settings,
    unserved: &mut Unserved,
    opened: &mut Opened,
    log: &mut Log,
) -> Result<(), Fatal> {
    for (index, listener) in settings.inet_listeners.iter().enumerate() {
        if listener.port == 0 {
            continue;
        }
        let mut wanted = addresses(&listener.addresses, listener.port)?;
        while let Some(address) = wanted.first().copied() {
            let name = format!("inet_listener {address}");
            let socket = match unserved.tcp(address) {
                Some(socket) => socket,
                None => match bind_tcp(address) {
                    Ok(socket) => socket,
                    // No address was set, and the machine has no IPv6.
                    Err(error)
                        if listener.addresses.is_empty()
                            && address.is_ipv6()
                            && !is_taken(&error) =>
                    {
                        let why = reason(&error);
                        log.info(&format!("{name}: {why}; listening on IPv4 only"));
                        wanted.remove(0);
                        continue;
                    }
                    Err(error) if is_taken(&error) => {
                        let why = reason(&error);
                        return Err(Fatal::Unavailable(format!("{name}: {why}")));
                    }
                    Err(error) => return Err(Fatal::Io(name, error)),
                },
            };
            // A socket of the manager may stand for several of the addresses.
            wanted.retain(|&other| other != address && !covers(&socket, other));
            let mut new = Listener::new(
                Socket::Tcp(socket),
                Section::Inet(index),
                &listener.options,
                &name,
            );
            new.allow_nets.clone_from(&listener.allow_nets);
            new.server_names = Some(Rc::clone(&listener.server_names));
            opened.listeners.push(new);
        }
    }
    Ok(())
}

/// What the manager passed and no section names.
fn serve_unnamed(unserved: Unserved, opened: &mut Opened, log: &mut Log) {
    for (name, fifo, inode) in unserved.fifos {
        PassedFd::log_unnamed(&name, "a FIFO", log);
        opened.fifos.push(FifoInput::new(fifo, &name, Some(inode)));
    }
    let unix = unserved.unix.into_iter().map(|(name, socket)| {
        let options = ListenerOptions::of_unix();
        (name, "a UNIX socket", Socket::Unix(socket), options)
    });
    let tcp = unserved.tcp.into_iter().map(|(name, socket)| {
        let options = ListenerOptions::of_inet();
        (name, "a TCP socket", Socket::Tcp(socket), options)
    });
    for (name, what, socket, options) in unix.chain(tcp) {
        PassedFd::log_unnamed(&name, what, log);
        let listener = Listener::new(socket, Section::Unnamed, &options, &name);
        opened.listeners.push(listener);
    }
}

/// Whether another process listens there.
fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// Who may use a FIFO or UNIX socket.
fn access(kind: &str, listener: &FileListener) -> Result<Access, Fatal> {
    let setting = format!("{kind} {}", listener.name);
    let user = match &listener.user {
        Some(name) => Some(find_user(&setting, name)?),
        None => None,
    };
    let gid = match &listener.group {
        Some(name) => Some(find_gid(&setting, name)?),
        None => user.as_ref().and_then(|user| user.gid),
    };
    Ok(Access {
        mode: listener.mode,
        uid: user.map(|user| user.uid),
        gid,
    })
}

/// A listener's kind and path, for messages.
fn name_of(kind: &str, path: &Path) -> String {
    format!("{kind} {}", path.display())
}

/// For `map_err`: why a place cannot be taken.
fn occupied(name: String) -> impl FnOnce(CreateError) -> Fatal {
    move |error| match error {
        CreateError::InUse => Fatal::Unavailable(format!("{name}: {error}")),
        CreateError::WrongKind(_) | CreateError::Foreign { .. } => {
            Fatal::Permission(format!("{name}: {error}; not touched"))
        }
        CreateError::TooLong { .. } => Fatal::Setting(format!("{name}: {error}")),
        CreateError::Io { step, error } => Fatal::Io(format!("{name}: {step}"), error),
    }
}

/// The socket addresses of an inet_listener.
fn addresses(given: &[Address], port: u16) -> Result<Vec<SocketAddr>, Fatal> {
    if given.is_empty() {
        let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        return Ok(all.map(|ip| SocketAddr::new(ip, port)).into());
    }
    let mut found = Vec::new();
    for address in given {
        match address {
            Address::Ip(ip) => found.push(SocketAddr::new(*ip, port)),
            Address::Host(name) => {
                let resolved = (name.as_str(), port).to_socket_addrs();
                found
                    .extend(resolved.map_err(Fatal::io(format!("inet_listener: address {name}")))?);
            }
        }
    }
    Ok(found)
}
