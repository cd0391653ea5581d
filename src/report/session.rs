//! What the daemon is to know of a session, and whether it does.
//!
//! Owns: the session's totals, its commands that are running or not yet delivered,
//! and for each of these what was delivered in the present generation of the
//! FIFO. Each call changes the state first and then delivers as much as the FIFO has room
//! for; the next call delivers what is left.
//!
//! Invariants: in each generation CONNECT comes first and once; a command begins
//! before it goes on. At most [`MAX_UNDELIVERED`] ended commands wait to be delivered.

use super::fifo_writer::{Delivery, FifoWriter, OpenFifo};
use super::session_id::SessionId;
use crate::stats::{Item, Report, Stats};
use crate::store::{CommandUpdate, Record};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The longest user and service that are sent; the rest is cut off, so that even
/// a CONNECT full of escapes fits.
const MAX_NAME_BYTES: usize = if libc::PIPE_BUF < 4096 { 100 } else { 900 };

const MAX_COMMAND_BYTES: usize = 64;

/// The longest arguments that are kept; a record has no room for more.
const MAX_ARGS_BYTES: usize = libc::PIPE_BUF;

/// Most ended commands that wait to be delivered; past that the oldest is dropped.
const MAX_UNDELIVERED: usize = 64;

/// The user, service and address of a session.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The user; the domain is what follows the first `@`. At most 900 bytes are
    /// sent.
    pub user: &'a [u8],
    /// The kind of service: `imap`, `pop3`, `smtp`... Likewise.
    pub service: &'a [u8],
    /// The process that serves.
    pub pid: u32,
    /// The client's address.
    pub ip: Option<IpAddr>,
}

/// The number of a command within its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandId(NonZeroU32);

/// A session that reports itself. Dropping it disconnects it.
#[derive(Debug)]
pub struct Session {
    fifo: Arc<FifoWriter>,
    id: SessionId,
    user: Vec<u8>,
    service: Vec<u8>,
    /// The process that serves it.
    pid: u32,
    ip: Option<IpAddr>,
    total: Stats,
    /// Whether `total` is delivered.
    is_delivered: bool,
    /// Nothing is delivered before [`Session::release`].
    is_held: bool,
    /// DISCONNECT was delivered.
    is_over: bool,
    /// The generation in which CONNECT was delivered; 0 for none.
    connected_in: u64,
    /// Commands that are running or not delivered.
    commands: Vec<Command>,
    /// The number of the last command.
    last_command: u32,
}

/// A command that the daemon is to know of.
#[derive(Debug)]
struct Command {
    number: NonZeroU32,
    name: Vec<u8>,
    /// What it is to do.
    args: Vec<u8>,
    total: Stats,
    is_done: bool,
    /// Whether its present state is delivered.
    is_delivered: bool,
    /// The generation in which its beginning was delivered; 0 for none.
    begun_in: u64,
}

impl Session {
    /// A session that begins now.
    pub fn connect(fifo: &Arc<FifoWriter>, login: Login<'_>) -> Session {
        let mut session = Session::held(fifo, SessionId::new(), login);
        session.release(login.pid);
        session.deliver();
        session
    }

    /// A session of another program, by the id that it has there. Nothing is delivered
    /// before [`Session::release`].
    pub(crate) fn held(fifo: &Arc<FifoWriter>, id: SessionId, login: Login<'_>) -> Session {
        let cut = |name: &[u8]| name[..name.len().min(MAX_NAME_BYTES)].to_vec();
        Session {
            fifo: Arc::clone(fifo),
            id,
            user: cut(login.user),
            service: cut(login.service),
            pid: login.pid & i32::MAX as u32,
            ip: login.ip,
            total: Stats::default(),
            is_delivered: true,
            is_held: true,
            is_over: false,
            connected_in: 0,
            commands: Vec::new(),
            last_command: 0,
        }
    }

    /// The process that serves it is known now, or never will be (0): the next call
    /// delivers. Changes nothing later.
    pub(crate) fn release(&mut self, pid: u32) {
        if std::mem::take(&mut self.is_held) {
            self.pid = pid & i32::MAX as u32;
        }
    }

    /// The user is known only now; for a session that is held.
    pub(crate) fn set_user(&mut self, user: &[u8]) {
        self.user = user[..user.len().min(MAX_NAME_BYTES)].to_vec();
    }

    /// The present reader knows the session, with this total and commands up to this
    /// number, from an earlier run of this program.
    pub(crate) fn resume(&mut self, total: &Stats, last_command: u32) {
        self.total = *total;
        self.last_command = last_command;
        if self.fifo.probe().is_ok() {
            self.connected_in = self.fifo.generation();
        }
    }

    /// Ends without a DISCONNECT: another run of this program goes on with it.
    pub(crate) fn leave(mut self) {
        self.connected_in = 0;
    }

    /// Whether something waits to be delivered in this generation.
    pub(crate) fn is_pending(&self, generation: u64) -> bool {
        let is_known = self.connected_in == generation && self.is_delivered;
        let has_more = !is_known || !self.commands.is_empty();
        !self.is_held && has_more
    }

    /// A command that began and ended; delivered by the next [`Session::update`].
    pub(crate) fn record_command(&mut self, name: &[u8], args: &[u8], total: &Stats) {
        let number = self.push_command(name, args);
        self.end_undelivered(number, total, true);
        self.drop_oldest();
    }

    /// How many commands run, or wait to be delivered.
    pub(crate) fn pending_commands(&self) -> usize {
        self.commands.len()
    }

    /// Disconnects; false when the FIFO has no room or no reader now, and this is to be
    /// called again. What was delivered is not delivered again.
    pub(crate) fn finish(&mut self) -> bool {
        self.is_over = self.is_over || (self.deliver() && self.end());
        self.is_over
    }

    /// The session's id, as sent to the daemon.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Reports the totals so far, even if they are the same as before: the daemon then
    /// knows that the session is alive. True when everything was delivered.
    pub fn update(&mut self, total: &Stats) -> bool {
        self.total = *total;
        self.is_delivered = false;
        self.deliver()
    }

    /// A command begins.
    pub fn begin_command(&mut self, name: &[u8], args: &[u8]) -> CommandId {
        let number = self.push_command(name, args);
        self.deliver();
        number
    }

    fn push_command(&mut self, name: &[u8], args: &[u8]) -> CommandId {
        let number = NonZeroU32::new(self.last_command.wrapping_add(1)).unwrap_or(NonZeroU32::MIN);
        self.last_command = number.get();
        self.commands.push(Command {
            number,
            name: name[..name.len().min(MAX_COMMAND_BYTES)].to_vec(),
            args: args[..args.len().min(MAX_ARGS_BYTES)].to_vec(),
            total: Stats::default(),
            is_done: false,
            is_delivered: false,
            begun_in: 0,
        });
        CommandId(number)
    }

    /// Reports a command's own totals so far. True when everything was delivered.
    pub fn update_command(&mut self, id: CommandId, total: &Stats) -> bool {
        self.change_command(id, total, false)
    }

    /// A command ends, with these totals. True when everything was delivered.
    pub fn end_command(&mut self, id: CommandId, total: &Stats) -> bool {
        self.change_command(id, total, true)
    }

    /// The session ends. True when that was delivered; if not, the daemon finds out by
    /// itself after 15 minutes.
    pub fn disconnect(mut self) -> bool {
        self.end()
    }

    /// Changes a command and reports it.
    fn change_command(&mut self, id: CommandId, total: &Stats, is_done: bool) -> bool {
        self.end_undelivered(id, total, is_done);
        let delivered = self.deliver();
        self.drop_oldest();
        delivered
    }

    /// Changes a command.
    fn end_undelivered(&mut self, id: CommandId, total: &Stats, is_done: bool) {
        let mut all = self.commands.iter_mut();
        if let Some(command) = all.find(|command| command.number == id.0 && !command.is_done) {
            command.total = *total;
            command.is_done = is_done;
            command.is_delivered = false;
        }
    }

    /// Keeps at most [`MAX_UNDELIVERED`] commands that ended.
    fn drop_oldest(&mut self) {
        let done = |command: &Command| command.is_done;
        if self.commands.iter().filter(|command| done(command)).count() > MAX_UNDELIVERED {
            let oldest = self.commands.iter().position(done);
            oldest.map(|at| self.commands.remove(at));
        }
    }

    /// Delivers what is pending. True when nothing is left.
    fn deliver(&mut self) -> bool {
        self.deliver_all() == Delivery::Written
    }

    fn deliver_all(&mut self) -> Delivery {
        if self.is_held {
            return Delivery::Full;
        }
        let fifo = Arc::clone(&self.fifo);
        // Again once: the reader may have been replaced since the last record.
        for _ in 0..2 {
            let Some(mut opened) = fifo.open() else {
                break;
            };
            match self.deliver_through(&mut opened) {
                Delivery::Absent => {}
                delivery => return delivery,
            }
        }
        Delivery::Absent
    }

    /// Delivers what is pending, up to the first record that is not taken.
    fn deliver_through(&mut self, opened: &mut OpenFifo<'_>) -> Delivery {
        let generation = opened.generation();
        if self.connected_in != generation {
            let delivery = self.write_connect(opened);
            if delivery != Delivery::Written {
                return delivery;
            }
            self.connected_in = generation;
            // The reader knows nothing but what is delivered now.
            self.is_delivered = self.total.is_zero();
            for command in &mut self.commands {
                command.is_delivered = false;
            }
        }
        if !self.is_delivered {
            let session = self.id.as_bytes();
            let report = &report(&self.total);
            let record = Record::UpdateSession { session, report };
            let delivery = opened.write_record(&record);
            if delivery != Delivery::Written {
                return delivery;
            }
            self.is_delivered = true;
        }
        for command in self
            .commands
            .iter_mut()
            .filter(|command| !command.is_delivered)
        {
            let is_new = command.begun_in != generation;
            let update = CommandUpdate {
                number: command.number,
                begins: is_new.then_some((&command.name, &command.args)),
                done: command.is_done,
                report: &report(&command.total),
            };
            let session = self.id.as_bytes();
            let record = Record::UpdateCommand { session, update };
            let delivery = opened.write_record(&record);
            if delivery != Delivery::Written {
                return delivery;
            }
            command.begun_in = generation;
            command.is_delivered = true;
        }
        self.commands
            .retain(|command| !command.is_done || !command.is_delivered);
        Delivery::Written
    }

    fn write_connect(&mut self, opened: &mut OpenFifo<'_>) -> Delivery {
        let record = Record::Connect {
            session: self.id.as_bytes(),
            user: &self.user,
            service: &self.service,
            pid: self.pid,
            ip: self.ip,
        };
        opened.write_record(&record)
    }

    /// Disconnects, if there is anything to disconnect. True when nothing is left.
    fn end(&mut self) -> bool {
        let delivered = self.deliver();
        let generation = std::mem::take(&mut self.connected_in);
        let Some(mut opened) = self.fifo.open() else {
            return false;
        };
        if generation == 0 || opened.generation() != generation {
            return false;
        }
        let session = self.id.as_bytes();
        let record = Record::Disconnect { session };
        let delivery = opened.write_record(&record);
        if delivery == Delivery::Full {
            self.connected_in = generation;
        }
        delivered && delivery == Delivery::Written
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.connected_in != 0 {
            self.end();
        }
    }
}

/// Totals of a mail process; what passed over the net where it is known.
fn report(total: &Stats) -> Report {
    Report {
        stats: *total,
        has_mail: true,
        has_net: total.values[Item::Net.fields()]
            .iter()
            .any(|&value| value != 0),
        ..Report::default()
    }
}

/// Adds to what a user, and an address, did; false when the FIFO has no room or no reader
/// now.
pub(crate) fn add_user(
    fifo: &FifoWriter,
    user: &[u8],
    ip: Option<IpAddr>,
    difference: &Stats,
) -> bool {
    let user = &user[..user.len().min(MAX_NAME_BYTES)];
    let report = &Report {
        stats: *difference,
        has_auth: true,
        ..Report::default()
    };
    let record = Record::AddUser {
        user,
        service: b"auth",
        ip,
        report,
    };
    let mut delivery = Delivery::Absent;
    for _ in 0..2 {
        if let (Delivery::Absent, Some(mut opened)) = (delivery, fifo.open()) {
            delivery = opened.write_record(&record);
        }
    }
    delivery == Delivery::Written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::place;
    use crate::sys::fs::created::Access;
    use crate::sys::fs::fifo::Fifo;
    use crate::sys::scratch::Scratch;
    use std::path::Path;

    const ACCESS: Access = Access {
        mode: 0o600,
        uid: None,
        gid: None,
    };

    fn daemon(path: &Path) -> Fifo {
        Fifo::create(path, None, ACCESS).unwrap()
    }

    /// The records that a daemon got: their fields but for the id and the stats.
    fn records(fifo: &Fifo) -> Vec<String> {
        let mut bytes = vec![0; 1 << 20];
        let count = fifo.read(&mut bytes).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        let stats = |field: &&str| !field.starts_with("bWFpbA");
        text.lines()
            .map(|line| {
                let mut fields: Vec<&str> = line.split('\t').filter(stats).collect();
                assert_eq!(fields.remove(1).len(), 32, "{line}");
                fields.join(" ")
            })
            .collect()
    }

    fn login() -> Login<'static> {
        Login {
            user: b"bob@example.org",
            service: b"imap",
            pid: 7,
            ip: "192.0.2.1".parse().ok(),
        }
    }

    fn total(bytes: u64) -> Stats {
        let mut stats = Stats::default();
        stats.values[place::read_bytes] = bytes;
        stats
    }

    const CONNECT: &str = "CONNECT bob@example.org imap 7 rip=192.0.2.1";

    #[test]
    fn a_session_is_delivered_from_its_beginning_to_its_end() {
        let dir = Scratch::new("session-whole");
        let path = dir.join("fifo");
        let fifo = daemon(&path);
        let writer = Arc::new(FifoWriter::new(&path));
        let mut session = Session::connect(&writer, login());
        assert_eq!(records(&fifo), [CONNECT]);
        let first = session.begin_command(b"FETCH", b"1:*");
        assert!(session.update_command(first, &total(1)));
        let second = session.begin_command(b"NOOP", b"");
        assert!(session.end_command(first, &total(2)));
        assert!(session.update(&total(3)));
        assert!(
            session.end_command(first, &total(2)),
            "ended already: nothing"
        );
        assert!(session.end_command(second, &total(1)));
        assert!(session.disconnect());
        let expected = [
            "UPDATE-CMD 1  FETCH 1:*",
            "UPDATE-CMD 1 c",
            "UPDATE-CMD 2  NOOP ",
            "UPDATE-CMD 1 cd",
            "UPDATE-SESSION",
            "UPDATE-CMD 2 cd",
            "DISCONNECT",
        ];
        assert_eq!(records(&fifo), expected);
        drop(Session::connect(&writer, login()));
        assert_eq!(records(&fifo), [CONNECT, "DISCONNECT"]);
    }

    #[test]
    fn a_daemon_that_comes_back_is_delivered_everything_again() {
        let dir = Scratch::new("session-back");
        let path = dir.join("fifo");
        let writer = Arc::new(FifoWriter::new(&path));
        let mut session = Session::connect(&writer, login());
        assert!(!session.update(&total(1)));
        let running = session.begin_command(b"IDLE", b"");
        let ended = session.begin_command(b"NOOP", b"");
        assert!(!session.end_command(ended, &total(1)));
        let fifo = daemon(&path);
        assert!(session.update(&total(2)));
        let all = [CONNECT, "UPDATE-SESSION", "UPDATE-CMD 1  IDLE "];
        assert_eq!(
            records(&fifo),
            [&all[..], &["UPDATE-CMD 2 d NOOP "]].concat()
        );
        drop(fifo);
        assert!(!session.update(&total(3)));
        let fifo = daemon(&path);
        assert!(session.update_command(running, &total(3)));
        assert_eq!(records(&fifo), all);
        // Replaced on disk without a moment in between.
        std::fs::remove_file(&path).unwrap();
        let other = daemon(&path);
        assert!(session.end_command(running, &total(3)));
        assert!(records(&fifo).is_empty());
        let ended = [CONNECT, "UPDATE-SESSION", "UPDATE-CMD 1 d IDLE "];
        assert_eq!(records(&other), ended);
        // A daemon that never knew it need not hear of its end.
        drop(other);
        drop(session);
    }

    #[test]
    fn what_a_full_fifo_dropped_is_delivered_later() {
        let dir = Scratch::new("session-full");
        let path = dir.join("fifo");
        let fifo = daemon(&path);
        let writer = Arc::new(FifoWriter::new(&path));
        let mut session = Session::connect(&writer, login());
        let mut other = writer.open().unwrap();
        while other.write(&[b'x'; libc::PIPE_BUF]) == Delivery::Written {}
        drop(other);
        assert!(!session.update(&total(1)));
        for _ in 0..2 * MAX_UNDELIVERED {
            let command = session.begin_command(b"NOOP", b"");
            assert!(!session.end_command(command, &total(1)));
        }
        assert_eq!(session.commands.len(), MAX_UNDELIVERED, "bounded");
        let mut bytes = vec![0; 2 << 20];
        while fifo.read(&mut bytes).is_ok() {}
        assert!(session.update(&total(2)));
        let delivered = records(&fifo);
        assert_eq!(delivered[0], "UPDATE-SESSION");
        assert_eq!(delivered.len(), 1 + MAX_UNDELIVERED);
        assert!(session.commands.is_empty());
    }

    #[test]
    fn names_of_any_length_connect() {
        let dir = Scratch::new("session-long");
        let path = dir.join("fifo");
        let fifo = daemon(&path);
        let writer = Arc::new(FifoWriter::new(&path));
        let long = vec![b'\t'; 10_000];
        let session = Session::connect(
            &writer,
            Login {
                user: &long,
                service: &long,
                pid: u32::MAX,
                ip: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().ok(),
            },
        );
        assert!(session.disconnect());
        let delivered = records(&fifo);
        assert_eq!(delivered.len(), 2);
        assert!(delivered[0].starts_with("CONNECT \x01t\x01t"));
    }
}
