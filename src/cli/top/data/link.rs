//! The servers: one lasting connection each, asked again and again.
//!
//! Owns: connecting (in a thread of its own, because a name may take long to be
//! found), the questions that wait for their answer, and the two tables that
//! answers go to: the totals, and the level shown.
//!
//! Invariants: a server that is dead, slow or silent costs the others nothing.
//! It is tried again by itself, after a second, then two, at most
//! [`MAX_BACKOFF`]. An answer to a question that is no longer of interest is
//! read and dropped. Must not: know the screen, or wait.

use super::model::{Look, Table};
use crate::cli::args::filter::{self, must_know_service, OwnTerm};
use crate::cli::server::{
    export_request, foreign, is_ours, reason, silence, split, Address, Connection, Event,
    ReplyParser, LEVEL_UNKNOWN, READ_TIMEOUT, SERVICE_UNKNOWN,
};
use crate::store::Level;
use crate::sys;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connecting that takes no longer, after no failure, is no trouble: it is not told, so that
/// the picture does not move when rows come.
const USUAL_CONNECT_TIME: Duration = Duration::from_secs(1);
/// The longest pause between two attempts to connect.
const MAX_BACKOFF: Duration = Duration::from_secs(8);
/// Questions that may wait for an answer; when more do, none is added.
const MAX_WAITING: usize = 16;
/// Sessions that may be counted with every sample. Of more, so many samples are left
/// out that no more are counted on average.
const COUNTED_AT_ONCE: usize = 5000;

/// The most memory for what all servers have sent: more than a million sessions that
/// are all busy.
const MAX_KEPT_BYTES: usize = 3 << 29;
/// What a user takes whose sessions are counted, beside the name.
const COUNT_BYTES: usize = 100;

/// What is asked of every server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub level: Level,
    /// What its entries must fit.
    pub filters: Vec<Vec<u8>>,
    /// Whether the sessions of its users are to be counted where the server does not.
    pub counts_sessions: bool,
}

impl Question {
    fn needs_service(&self) -> bool {
        must_know_service(self.level, &self.filters)
    }

    /// A table for its answers.
    fn table(&self) -> Table {
        Table::new(self.level, OwnTerm::of(self.level, &self.filters))
    }
}

/// What a request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Global,
    /// The level, of the question with that number.
    Level(u64),
    /// The count of sessions, likewise.
    Sessions(u64),
}

#[derive(Debug, Default)]
struct Count {
    /// Where the user is in a row.
    user: usize,
    /// Sessions of each user so far.
    users: HashMap<Box<[u8]>, u64>,
    /// Memory of `users`, and of the count before.
    kept_bytes: [usize; 2],
    rows: usize,
    /// Where the fields of a row are.
    spans: Vec<(usize, usize)>,
    left_out: usize,
}

impl Count {
    fn row(&mut self, line: &mut [u8]) {
        let user = split(line, &mut self.spans).get(self.user);
        match self.users.get_mut(user) {
            Some(count) => *count += 1,
            None => {
                self.kept_bytes[0] += COUNT_BYTES + user.len();
                self.users.insert(user.into(), 1);
            }
        }
        self.rows += 1;
    }

    fn end(&mut self) -> HashMap<Box<[u8]>, u64> {
        self.left_out = self.rows / COUNTED_AT_ONCE;
        self.rows = 0;
        self.kept_bytes = [0, self.kept_bytes[0]];
        std::mem::take(&mut self.users)
    }
}

/// How a server is doing.
#[derive(Debug)]
enum LinkState {
    /// Why the last attempt failed; empty if it did not.
    Connecting(String),
    Up(Connection, Box<ReplyParser>),
    /// To be tried again; why it is not connected.
    Down(Instant, String),
}

#[derive(Debug)]
pub(crate) struct Server {
    address: Address,
    /// What it is called on the screen.
    pub name: String,
    state: LinkState,
    /// The pause before the next attempt.
    backoff: Duration,
    waiting: VecDeque<Asked>,
    /// Whether it was found to know `service=`.
    knows_service: bool,
    count: Count,
    /// When something last came, or was asked after an answer, or connecting began.
    heard: Instant,
    /// When the answer that is being read began.
    answered: Instant,
    pub global: Table,
    pub table: Table,
}

impl Server {
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, LinkState::Up(..))
    }

    /// Whether it is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        !matches!(self.address, Address::Tcp(..))
    }

    /// What is wrong with it, if anything.
    pub(crate) fn trouble(&self, now: Instant) -> Option<String> {
        match &self.state {
            LinkState::Up(..) if !self.waiting.is_empty() => {
                let silent = now.saturating_duration_since(self.heard).as_secs();
                (silent >= 3).then(|| format!("no answer for {silent}s"))
            }
            LinkState::Up(..) => None,
            LinkState::Connecting(why) if why.is_empty() => {
                let waited = now.saturating_duration_since(self.heard);
                (waited >= USUAL_CONNECT_TIME).then(|| "connecting".to_owned())
            }
            LinkState::Connecting(why) => Some(format!("{why}, trying again")),
            LinkState::Down(until, why) => {
                let left = until.saturating_duration_since(now);
                let secs = left.as_millis().div_ceil(1000);
                Some(format!("{why}, again in {secs}s"))
            }
        }
    }

    /// When it will have been silent for too long, if it owes an answer.
    fn silent_at(&self) -> Option<Instant> {
        let owes = self.is_up() && !self.waiting.is_empty();
        owes.then(|| self.heard + READ_TIMEOUT)
    }

    /// Whether it does not have the level of the question; `None` before its totals have
    /// come, which show that: Dovecot's own server closes the connection when it is asked
    /// for one that it does not know.
    pub(crate) fn lacks_level(&self) -> Option<bool> {
        if !is_ours(self.table.level()) {
            return Some(false);
        }
        let sampled = self.global.sampled();
        sampled.map(|_| !self.global.has_column("time_p99"))
    }

    /// Whether rows of it may come.
    pub(crate) fn has_rows(&self) -> bool {
        self.is_up() && self.lacks_level() != Some(true)
    }

    /// Why it has no rows, once that is known: it is not connected, or lacks the level.
    pub(crate) fn failure(&self) -> Option<&str> {
        match &self.state {
            LinkState::Down(_, why) => Some(why),
            LinkState::Up(..) if self.lacks_level() == Some(true) => Some(LEVEL_UNKNOWN),
            _ => None,
        }
    }

    /// Memory for what it has sent.
    fn kept_bytes(&self) -> usize {
        let counts: usize = self.count.kept_bytes.iter().sum();
        self.global.kept_bytes() + self.table.kept_bytes() + counts
    }

    fn lose(&mut self, why: String, now: Instant) {
        self.state = LinkState::Down(now + self.backoff, why);
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
        self.waiting.clear();
        self.global.interrupt();
        self.table.interrupt();
    }

    /// Sends a request, noting what is to come back.
    fn send(&mut self, what: Asked, level: Level, filters: &[Vec<u8>], now: Instant) {
        let LinkState::Up(connection, _) = &mut self.state else {
            return;
        };
        if self.waiting.is_empty() {
            self.heard = now;
        }
        // Dovecot's own server ignores it.
        let filters = [filters, &[filter::MORE.into()]].concat();
        match connection.send(&export_request(level, &filters)) {
            Ok(()) => self.waiting.push_back(what),
            Err(error) => self.lose(reason(&error), now),
        }
    }

    /// Reads once. True when the level's sample has become whole.
    fn read(&mut self, number: u64, window: Duration, now: Instant) -> bool {
        match self.take(number, window, now) {
            Ok(whole) => whole,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                self.lose(reason(&error), now);
                false
            }
        }
    }

    /// What [`Server::read`] does while nothing fails.
    fn take(&mut self, number: u64, window: Duration, now: Instant) -> io::Result<bool> {
        let LinkState::Up(connection, parser) = &mut self.state else {
            return Ok(false);
        };
        if connection.fill(parser)? == 0 {
            return Err(io::Error::other("server has closed the connection"));
        }
        self.heard = now;
        let mut whole = false;
        while let Some(event) = parser.next_line()? {
            let Some(&what) = self.waiting.front() else {
                return Err(io::Error::other("answer to nothing that was asked"));
            };
            if let Event::Header(names) = &event {
                let level = match what {
                    Asked::Global => Some(Level::Global),
                    Asked::Level(asked) => (asked == number).then_some(self.table.level()),
                    Asked::Sessions(_) => Some(Level::Session),
                };
                if let Some(why) = level.and_then(|level| foreign(level, names)) {
                    return Err(io::Error::other(why));
                }
            }
            let is_end = matches!(event, Event::End | Event::Nothing);
            let table = match what {
                Asked::Global => Some(&mut self.global),
                Asked::Level(asked) => (asked == number).then_some(&mut self.table),
                Asked::Sessions(_) => None,
            };
            match (event, table) {
                (Event::Header(names), Some(table)) => {
                    self.answered = now;
                    table.begin(&names);
                }
                (Event::Row(line), Some(table)) => table.row(line, self.answered),
                (Event::End, Some(table)) => table.end(self.answered, window),
                (Event::Nothing, Some(table)) => {
                    table.begin(&[]);
                    table.end(now, window);
                }
                (event, None) if what == Asked::Sessions(number) => match event {
                    Event::Header(names) => {
                        let user = names.iter().position(|name| name == "user");
                        self.count.user = user.unwrap_or(usize::MAX);
                    }
                    Event::Row(line) => self.count.row(line),
                    _ => self.table.count_sessions(self.count.end()),
                },
                _ => {}
            }
            whole |= is_end && what == Asked::Level(number);
            if is_end {
                self.waiting.pop_front();
            }
        }
        if whole {
            self.backoff = Duration::from_secs(1);
        }
        Ok(whole)
    }
}

/// What a connecting thread reports: which server, its connection, and whether it was
/// found to know `service=`.
type Connected = (usize, io::Result<(Connection, bool)>);

#[derive(Debug)]
pub(crate) struct Link {
    pub servers: Vec<Server>,
    question: Question,
    /// Changes of the question so far.
    number: u64,
    /// Connections that threads have made and this one has not taken.
    connected: Arc<Mutex<Vec<Connected>>>,
    /// Readable when a thread has added to `connected`.
    wake: UnixStream,
    waker: UnixStream,
}

impl Link {
    /// Begins connecting to all of them.
    pub(crate) fn new(addresses: &[Address], question: Question, now: Instant) -> io::Result<Link> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let server = |address: &Address| Server {
            address: address.clone(),
            name: address.to_string(),
            state: LinkState::Down(now, String::new()),
            backoff: Duration::from_secs(1),
            waiting: VecDeque::new(),
            heard: now,
            answered: now,
            knows_service: false,
            count: Count::default(),
            global: Table::new(Level::Global, None),
            table: question.table(),
        };
        let mut link = Link {
            servers: addresses.iter().map(server).collect(),
            question,
            number: 0,
            connected: Arc::default(),
            wake,
            waker,
        };
        link.connect(now);
        Ok(link)
    }

    /// Connects to servers whose backoff is over.
    pub(crate) fn connect(&mut self, now: Instant) {
        for (index, server) in self.servers.iter_mut().enumerate() {
            let LinkState::Down(until, why) = &mut server.state else {
                continue;
            };
            if *until > now {
                continue;
            }
            server.state = LinkState::Connecting(std::mem::take(why));
            server.heard = now;
            server.count = Count::default();
            let needs_service = self.question.needs_service();
            let (address, connected) = (server.address.clone(), Arc::clone(&self.connected));
            let waker = self.waker.try_clone();
            let connect = move || {
                let connection = address.connect(CONNECT_TIMEOUT).and_then(|connection| {
                    if needs_service && !address.knows_service()? {
                        return Err(io::Error::other(SERVICE_UNKNOWN));
                    }
                    connection.set_nonblocking(true)?;
                    Ok((connection, needs_service))
                });
                let connection = connection.map_err(|error| io::Error::other(reason(&error)));
                // Never poisoned: no thread panics while it has the lock.
                if let Ok(mut made) = connected.lock() {
                    made.push((index, connection));
                }
                // Fails when the program is ending.
                let _ = waker.and_then(|mut waker| waker.write(b"x"));
            };
            if let Err(error) = thread::Builder::new().spawn(connect) {
                server.lose(sys::reason(&error), now);
            }
        }
    }

    /// Changes the question, and drops the tables of the last one.
    pub(crate) fn change(&mut self, question: Question, now: Instant) {
        self.question = question;
        self.number += 1;
        for index in 0..self.servers.len() {
            let server = &mut self.servers[index];
            server.table = self.question.table();
            server.count = Count::default();
            let is_refused =
                matches!(&server.state, LinkState::Down(_, why) if why == SERVICE_UNKNOWN);
            let is_unsure = self.question.needs_service() && !server.knows_service;
            if is_refused || is_unsure && server.is_up() {
                // Connected to anew, which finds that out.
                server.lose(String::new(), now);
                server.state = LinkState::Down(now, String::new());
                server.backoff = Duration::from_secs(1);
            }
            self.ask_one(index, now);
        }
        self.connect(now);
    }

    /// Whether the sessions of users are to be counted from now on: that depends on the
    /// columns that are shown.
    pub(crate) fn count_sessions(&mut self, on: bool) {
        self.question.counts_sessions = on;
    }

    /// Asks the servers that have answered everything.
    pub(crate) fn ask(&mut self, now: Instant) {
        for index in 0..self.servers.len() {
            let server = &mut self.servers[index];
            if server.waiting.is_empty() {
                self.ask_one(index, now);
            }
        }
    }

    /// Gives up servers that owe an answer and have been silent for too long; for when
    /// what has come has been read.
    pub(crate) fn give_up_silent(&mut self, now: Instant) {
        for server in &mut self.servers {
            if server.silent_at().is_none_or(|at| at > now) {
                continue;
            }
            let is_within_reply =
                matches!(&server.state, LinkState::Up(_, parser) if !parser.is_between_replies());
            server.lose(silence(is_within_reply), now);
        }
    }

    /// Asks one server for the totals and for the level.
    fn ask_one(&mut self, index: usize, now: Instant) {
        let server = &mut self.servers[index];
        if server.waiting.len() < MAX_WAITING {
            server.send(Asked::Global, Level::Global, &[], now);
            let Question { level, filters, .. } = &self.question;
            if self.question.counts_sessions && !server.global.has_column("net_in_bytes") {
                match server.count.left_out.checked_sub(1) {
                    Some(left) => server.count.left_out = left,
                    None => {
                        // A session may have been silent for longer than its user.
                        let mut filters = filters.clone();
                        filters.retain(|filter| !filter.starts_with(b"since="));
                        filters.push(b"connected".to_vec());
                        let what = Asked::Sessions(self.number);
                        server.send(what, Level::Session, &filters, now);
                    }
                }
            }
            if server.lacks_level() == Some(false) {
                server.send(Asked::Level(self.number), *level, filters, now);
            }
        }
    }

    /// Takes the connections that threads have made, and asks there.
    pub(crate) fn take_connections(&mut self, now: Instant) {
        while matches!(self.wake.read(&mut [0; 64]), Ok(count) if count > 0) {}
        let made = self
            .connected
            .lock()
            .map(|mut made| std::mem::take(&mut *made));
        for (index, connection) in made.unwrap_or_default() {
            let server = &mut self.servers[index];
            match connection {
                Ok((connection, knows_service)) => {
                    server.knows_service |= knows_service;
                    server.state = LinkState::Up(connection, Box::default());
                    self.ask_one(index, now);
                }
                Err(error) => server.lose(error.to_string(), now),
            }
        }
    }

    /// Reads from a server that is ready. True when its level's sample has
    /// become whole.
    pub(crate) fn read(&mut self, index: usize, window: Duration, now: Instant) -> bool {
        let was_known = self.servers[index].lacks_level().is_some();
        let is_whole = self.servers[index].read(self.number, window, now);
        if !was_known && self.servers[index].lacks_level() == Some(false) {
            self.ask_one(index, now);
        }
        let kept_bytes: usize = self.servers.iter().map(Server::kept_bytes).sum();
        if kept_bytes <= MAX_KEPT_BYTES {
            return is_whole;
        }
        let server = &mut self.servers[index];
        server.global = Table::new(Level::Global, None);
        server.table = self.question.table();
        server.count = Count::default();
        let why = "its rows take more than 1.5 GiB: choose a filter or another level";
        server.lose(why.to_owned(), now);
        false
    }

    /// Adds a point to all sparklines of a server.
    pub(crate) fn spark(&mut self, index: usize, look: Look, column: &super::column::Column) {
        self.servers[index]
            .table
            .spark(look, |figures| column.number(figures));
    }

    /// For a thread to write to when it has a result.
    pub(crate) fn waker(&self) -> io::Result<UnixStream> {
        self.waker.try_clone()
    }

    /// The descriptor that is readable when a thread has connected.
    pub(crate) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// The connections there are, by server.
    pub(crate) fn connections(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        let servers = self.servers.iter().enumerate();
        servers.filter_map(|(index, server)| match &server.state {
            LinkState::Up(connection, _) => Some((index, connection.as_fd())),
            _ => None,
        })
    }

    /// When the next attempt to connect is due, or a server is given up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let servers = self.servers.iter();
        let attempts = servers.filter_map(|server| match server.state {
            LinkState::Down(until, _) => Some(until),
            _ => None,
        });
        attempts.chain(self.silence_deadline()).min()
    }

    /// When a server is given up.
    pub(crate) fn silence_deadline(&self) -> Option<Instant> {
        self.servers.iter().filter_map(Server::silent_at).min()
    }
}
