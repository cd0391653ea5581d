//! The sockets that Dovecot writes its events to: a UNIX socket, and one for HTTP if
//! asked for.
//!
//! Owns: the listeners, the file of the first, and the connections of Dovecot's stats
//! processes, at most [`MAX_PEERS`].
//!
//! Invariants: the socket appears at its path listening, and is removed at the end: with
//! a file that nothing listens at, each login would wait for 400 ms. Only root, this
//! program's own user and Dovecot's, or members of the socket's group, are listened to. A
//! line without its LF at the end of a connection is dropped.
//!
//! Must not: wait, or know what a line means.

use super::http::{Part, Requests, TAKEN};
use crate::cli::warn;
use crate::config::Fatal;
use crate::sys::fd::poll::{Interest, PollSet};
use crate::sys::fs::created::{Access, CreatedFile};
use crate::sys::fs::socket::{bind_tcp, bind_unix, peer};
use crate::sys::proc::user::{effective_uid, find_group, User};
use crate::wire::{LineBuffer, LineReader};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Dovecot's own user and group, which its stats process has.
const DOVECOT: &str = "dovecot";

/// Most connections: one of each Dovecot's stats process, and an old one's at a reload.
const MAX_PEERS: usize = 16;

const READ_BYTES: usize = 65_536;

/// Bytes that are read at once of a connection of HTTP.
const HTTP_BYTES: usize = 16_384;

/// Most bytes that are read of a connection before the next one has its turn.
const TURN_BYTES: usize = 4 * READ_BYTES;

pub(super) struct Listener {
    socket: UnixListener,
    file: CreatedFile,
    http: Option<TcpListener>,
    uid: Option<u32>,
    gid: Option<u32>,
    peers: Vec<Peer>,
}

struct Peer {
    stream: Stream,
    lines: LineBuffer,
    /// Its slot in this turn's poll set; `None` while it rests.
    slot: Option<usize>,
}

/// The two kinds of connections.
enum Stream {
    Unix(UnixStream),
    Http(TcpStream, Requests),
}

/// Hands out lines one by one; `None` for one that is too long.
struct Each<'a>(&'a mut dyn FnMut(Option<&mut [u8]>));

impl LineReader<16> for Each<'_> {
    fn take(&mut self, lines: &mut [&mut [u8]]) {
        lines.iter_mut().for_each(|line| (self.0)(Some(line)));
    }

    fn too_long(&mut self, _beginning: &[u8]) {
        (self.0)(None);
    }
}

impl Listener {
    /// Listens at `path`, and for HTTP at `http`.
    pub(super) fn bind(path: &Path, http: Option<SocketAddr>) -> Result<Listener, Fatal> {
        let http = http
            .map(|address| bind_tcp(address).map_err(Fatal::io(format!("listen at {address}"))));
        let http = http.transpose()?;
        let failed = |error: &dyn std::fmt::Display| {
            Fatal::Unavailable(format!("listen at {}: {error}", path.display()))
        };
        let gid = find_group(DOVECOT).ok().flatten();
        if gid.is_none() {
            warn(&format!(
                "bridge: there is no group {DOVECOT}: only this user and root can write to {}",
                path.display()
            ));
        }
        let uid = User::find(DOVECOT).ok().flatten().map(|user| user.uid);
        // The directory is the daemon's, and root has given it to the daemon's user.
        let dir = path.parent().unwrap_or(Path::new("/"));
        let owner = std::fs::metadata(dir).map_err(|error| failed(&error))?;
        let owner = (effective_uid() == 0).then_some((owner.uid(), owner.gid()));
        let access = Access {
            mode: 0o660,
            uid: None,
            gid,
        };
        let (socket, file) = bind_unix(path, owner, access).map_err(|error| failed(&error))?;
        Ok(Listener {
            socket,
            file,
            http,
            uid,
            gid,
            peers: Vec::new(),
        })
    }

    /// Adds what is waited for, connections if they do not rest; returns the listeners'
    /// slots.
    pub(super) fn push(&mut self, set: &mut PollSet, is_resting: bool) -> [Option<usize>; 2] {
        for peer in &mut self.peers {
            let fd = match &peer.stream {
                Stream::Unix(stream) => stream.as_fd(),
                Stream::Http(stream, _) => stream.as_fd(),
            };
            peer.slot = (!is_resting).then(|| set.push(fd, Interest::READ));
        }
        let unix = set.push(self.socket.as_fd(), Interest::READ);
        let http = self.http.as_ref();
        [
            Some(unix),
            http.map(|http| set.push(http.as_fd(), Interest::READ)),
        ]
    }

    /// Reads what has come, also of connections that rest, and accepts connections. `each`
    /// gets a line, and whether it may be of another host. Returns the bytes that came.
    pub(super) fn read(
        &mut self,
        set: &PollSet,
        [unix, http]: [Option<usize>; 2],
        mut each: impl FnMut(Option<&mut [u8]>, bool),
    ) -> usize {
        let mut came = 0;
        self.peers.retain_mut(|peer| {
            let is_ready = peer.slot.is_none_or(|slot| set.ready(slot).readable);
            !is_ready || peer.read(&mut each, &mut came)
        });
        let is_ready = |slot: Option<usize>| slot.is_some_and(|slot| set.ready(slot).readable);
        while is_ready(unix) {
            match self.socket.accept() {
                Ok((stream, _)) => self.accept(stream),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        while let Some(listener) = self.http.as_ref().filter(|_| is_ready(http)) {
            match listener.accept() {
                Ok((stream, _)) if stream.set_nonblocking(true).is_ok() => {
                    self.add(Stream::Http(stream, Requests::default()));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        came
    }

    fn accept(&mut self, stream: UnixStream) {
        let refuse = |why: &str| {
            warn(&format!(
                "bridge: connection to the events socket refused: {why}"
            ))
        };
        match peer(&stream) {
            Ok((uid, gid)) => {
                let is_ours = uid == 0 || uid == effective_uid() || Some(uid) == self.uid;
                if !is_ours && Some(gid) != self.gid {
                    return refuse(&format!("its user {uid} is not Dovecot's"));
                }
            }
            Err(error) => return refuse(&error.to_string()),
        }
        if stream.set_nonblocking(true).is_ok() {
            self.add(Stream::Unix(stream));
        }
    }

    /// Keeps a connection, in place of the oldest if there are too many.
    fn add(&mut self, stream: Stream) {
        if self.peers.len() >= MAX_PEERS {
            self.peers.remove(0);
        }
        self.peers.push(Peer {
            stream,
            lines: LineBuffer::new(READ_BYTES),
            slot: None,
        });
    }

    /// Removes the socket.
    pub(super) fn remove(&self) {
        let _ = self.file.remove();
    }
}

impl Peer {
    /// Reads what has come, and counts it; false at the end of the connection.
    fn read(&mut self, each: &mut dyn FnMut(Option<&mut [u8]>, bool), came: &mut usize) -> bool {
        let mut left = TURN_BYTES;
        while left > 0 {
            let result = match &mut self.stream {
                Stream::Unix(stream) => {
                    let result = stream.read(self.lines.room());
                    if let Ok(count @ 1..) = result {
                        let each = &mut |line: Option<&mut [u8]>| each(line, false);
                        self.lines.filled(count, &mut Each(each));
                    }
                    result
                }
                Stream::Http(stream, requests) => {
                    let mut bytes = [0; HTTP_BYTES];
                    let result = stream.read(&mut bytes);
                    let content = &bytes[..*result.as_ref().unwrap_or(&0)];
                    let is_over = !answer(stream, requests, &mut self.lines, content, each);
                    if is_over {
                        return false;
                    }
                    result
                }
            };
            match result {
                Ok(0) => return false,
                Ok(count) => {
                    *came += count;
                    left = left.saturating_sub(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }
}

/// Takes what came by HTTP, and answers complete requests; false at the end of the
/// connection. Answers are so short that the socket has room for them, unless the peer
/// reads none.
fn answer(
    stream: &mut TcpStream,
    requests: &mut Requests,
    lines: &mut LineBuffer,
    mut came: &[u8],
    each: &mut dyn FnMut(Option<&mut [u8]>, bool),
) -> bool {
    while let Some(part) = requests.next(&mut came) {
        // What the last line of a content may lack is its LF.
        let content = match part {
            Part::Content(content) => content,
            Part::End => b"\n",
            Part::Refused(status) => {
                let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n");
                let _ = stream.write_all(head.as_bytes());
                return false;
            }
        };
        lines.room()[..content.len()].copy_from_slice(content);
        let each = &mut |line: Option<&mut [u8]>| {
            if line.as_ref().is_none_or(|line| !line.is_empty()) {
                each(line, true);
            }
        };
        lines.filled(content.len(), &mut Each(each));
        if part == Part::End && stream.write_all(TAKEN).is_err() {
            return false;
        }
    }
    true
}
