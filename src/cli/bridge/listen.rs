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
//! A UNIX socket holds some 170 events, and Dovecot drops what it does not take. So it is
//! emptied before any event is taken, and again after [`SLICE`]; what came waits in memory,
//! up to [`MAX_BACKLOG_BYTES`] for a connection.
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
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// Dovecot's own user and group, which its stats process has.
const DOVECOT: &str = "dovecot";

/// Most connections: one of each Dovecot's stats process, and an old one's at a reload.
const MAX_PEERS: usize = 16;

/// Bytes that are read at once.
const READ_BYTES: usize = 65_536;

/// Most bytes that wait to be taken.
const MAX_BACKLOG_BYTES: usize = 1 << 20;

/// Bytes of lines that are taken without a look at the clock: 8 events.
const CHUNK_BYTES: usize = 4096;

/// How long events are taken before the sockets are emptied again.
const SLICE: Duration = Duration::from_micros(500);

pub(super) struct Listener {
    socket: UnixListener,
    file: CreatedFile,
    http: Option<TcpListener>,
    uid: Option<u32>,
    gid: Option<u32>,
    peers: Vec<Peer>,
    /// What is read is read to here.
    room: Box<[u8]>,
    /// A process of Dovecot has connected, perhaps after events were lost.
    pub(super) has_accepted: bool,
}

struct Peer {
    stream: Stream,
    /// What came and is not taken yet.
    backlog: VecDeque<u8>,
    has_ended: bool,
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
            room: vec![0; READ_BYTES].into(),
            has_accepted: false,
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

    /// Whether lines wait to be taken by [`Listener::read`].
    pub(super) fn has_backlog(&self) -> bool {
        self.peers.iter().any(|peer| !peer.backlog.is_empty())
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
        for peer in &mut self.peers {
            if peer.slot.is_none_or(|slot| set.ready(slot).readable) {
                came += peer.read(&mut self.room, &mut each);
            }
        }
        let until = Instant::now() + SLICE;
        for peer in &mut self.peers {
            peer.take(until, &mut each);
        }
        self.peers
            .retain(|peer| !peer.has_ended || !peer.backlog.is_empty());
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
            self.has_accepted = true;
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
            backlog: VecDeque::new(),
            has_ended: false,
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
    /// Reads what has come, and returns how much. That of HTTP is taken at once: who
    /// posts waits for the answer.
    fn read(&mut self, room: &mut [u8], each: &mut dyn FnMut(Option<&mut [u8]>, bool)) -> usize {
        let mut came = 0;
        while self.backlog.len() < MAX_BACKLOG_BYTES && came < MAX_BACKLOG_BYTES {
            let result = match &mut self.stream {
                Stream::Unix(stream) => stream.read(room),
                Stream::Http(stream, _) => stream.read(room),
            };
            let count = match result {
                Ok(count @ 1..) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => {
                    self.has_ended = true;
                    break;
                }
            };
            came += count;
            match &mut self.stream {
                Stream::Unix(_) => self.backlog.extend(&room[..count]),
                Stream::Http(stream, requests) => {
                    let is_open = answer(stream, requests, &mut self.lines, &room[..count], each);
                    self.has_ended |= !is_open;
                }
            }
            if count < room.len() || self.has_ended {
                break;
            }
        }
        came
    }

    /// Takes lines until that moment, or all.
    fn take(&mut self, until: Instant, each: &mut dyn FnMut(Option<&mut [u8]>, bool)) {
        let each = &mut |line: Option<&mut [u8]>| each(line, false);
        while !self.backlog.is_empty() {
            let (front, _) = self.backlog.as_slices();
            let count = front.len().min(CHUNK_BYTES);
            self.lines.room()[..count].copy_from_slice(&front[..count]);
            self.backlog.drain(..count);
            self.lines.filled(count, &mut Each(each));
            if Instant::now() >= until {
                break;
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::Scratch;

    #[test]
    fn the_socket_is_emptied_while_lines_wait() {
        let dir = Scratch::new("bridge-backlog");
        let path = dir.join("events");
        let mut listener = Listener::bind(&path, None).unwrap();
        let mut writer = UnixStream::connect(&path).unwrap();
        writer.set_nonblocking(true).unwrap();
        let mut set = PollSet::new();
        let mut taken: Vec<u64> = Vec::new();
        // Each line takes longer than a slice.
        let mut turn = |listener: &mut Listener, taken: &mut Vec<u64>| {
            set.clear();
            let slots = listener.push(&mut set, false);
            set.wait(Some(Duration::ZERO)).unwrap();
            listener.read(&set, slots, |line, is_remote| {
                assert!(!is_remote);
                let line = String::from_utf8(line.unwrap().to_vec()).unwrap();
                taken.push(line.parse().unwrap());
                std::thread::sleep(SLICE);
            })
        };
        assert_eq!(turn(&mut listener, &mut taken), 0);
        assert!(std::mem::take(&mut listener.has_accepted));
        let mut sent: u64 = 0;
        let mut fill = |sent: &mut u64| {
            let before = *sent;
            while writer
                .write_all(format!("{sent:0>499}\n").as_bytes())
                .is_ok()
            {
                *sent += 1;
            }
            *sent - before
        };
        let room = fill(&mut sent);
        // As much again, though few lines were taken.
        turn(&mut listener, &mut taken);
        assert!(listener.has_backlog());
        assert!(taken.len() <= CHUNK_BYTES / 500 + 1, "{}", taken.len());
        assert!(fill(&mut sent) >= room, "{room}");
        drop(writer);
        while turn(&mut listener, &mut taken) > 0 || listener.has_backlog() {}
        assert_eq!(taken, (0..sent).collect::<Vec<u64>>());
        assert!(listener.peers.is_empty());
        listener.remove();
    }
}
