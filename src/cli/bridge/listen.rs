//! The socket that Dovecot writes its events to.
//!
//! Owns: the listener, its file, and the connections of Dovecot's stats processes, at
//! most [`MAX_PEERS`].
//!
//! Invariants: the socket appears at its path listening, and is removed at the end: with
//! a file that nothing listens at, each login would wait for 400 ms. Only root, this
//! program's own user and Dovecot's, or members of the socket's group, are listened to. A
//! line without its LF at the end of a connection is dropped.
//!
//! Must not: wait, or know what a line means.

use crate::cli::warn;
use crate::config::Fatal;
use crate::sys::fd::poll::{Interest, PollSet};
use crate::sys::fs::created::{Access, CreatedFile};
use crate::sys::fs::socket::{bind_unix, peer};
use crate::sys::proc::user::{effective_uid, find_group, User};
use crate::wire::{LineBuffer, LineReader};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Dovecot's own user and group, which its stats process has.
const DOVECOT: &str = "dovecot";

/// Most connections: one of each Dovecot's stats process, and an old one's at a reload.
const MAX_PEERS: usize = 16;

const READ_BYTES: usize = 65_536;

/// Most bytes that are read of a connection before the next one has its turn.
const TURN_BYTES: usize = 4 * READ_BYTES;

pub(super) struct Listener {
    socket: UnixListener,
    file: CreatedFile,
    uid: Option<u32>,
    gid: Option<u32>,
    peers: Vec<Peer>,
    /// Connections so far.
    pub(super) accepted: u64,
}

struct Peer {
    stream: UnixStream,
    lines: LineBuffer,
    /// Its slot in this turn's poll set.
    slot: Option<usize>,
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
    /// Listens at `path`.
    pub(super) fn bind(path: &Path) -> Result<Listener, Fatal> {
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
            uid,
            gid,
            peers: Vec::new(),
            accepted: 0,
        })
    }

    /// Adds what is waited for; returns the listener's slot.
    pub(super) fn push(&mut self, set: &mut PollSet) -> usize {
        for peer in &mut self.peers {
            peer.slot = Some(set.push(peer.stream.as_fd(), Interest::READ));
        }
        set.push(self.socket.as_fd(), Interest::READ)
    }

    /// Reads what has come, and accepts connections.
    pub(super) fn read(
        &mut self,
        set: &PollSet,
        slot: usize,
        mut each: impl FnMut(Option<&mut [u8]>),
    ) {
        self.peers.retain_mut(|peer| {
            let is_ready = peer
                .slot
                .take()
                .is_some_and(|slot| set.ready(slot).readable);
            !is_ready || peer.read(&mut each)
        });
        while set.ready(slot).readable {
            match self.socket.accept() {
                Ok((stream, _)) => self.accept(stream),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    }

    fn accept(&mut self, stream: UnixStream) {
        let refuse = |why: &str| {
            warn(&format!(
                "bridge: connection to the events socket refused: {why}"
            ))
        };
        if self.peers.len() >= MAX_PEERS {
            return refuse("there are too many already");
        }
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
            self.accepted += 1;
            self.peers.push(Peer {
                stream,
                lines: LineBuffer::new(READ_BYTES),
                slot: None,
            });
        }
    }

    /// Removes the socket.
    pub(super) fn remove(&self) {
        let _ = self.file.remove();
    }
}

impl Peer {
    /// Reads what has come; false at the end of the connection.
    fn read(&mut self, each: &mut dyn FnMut(Option<&mut [u8]>)) -> bool {
        let mut left = TURN_BYTES;
        while left > 0 {
            match (&self.stream).read(self.lines.room()) {
                Ok(0) => return false,
                Ok(count) => {
                    self.lines.filled(count, &mut Each(each));
                    left = left.saturating_sub(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}
