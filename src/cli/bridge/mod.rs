//! `dovestat bridge`: Dovecot 2.4's events, its list of connections and its processes,
//! reported as Dovecot 2.3's plugins reported.
//!
//! | module | what it is |
//! |---|---|
//! | `listen` | the socket that Dovecot writes its events to |
//! | `http` | the same by HTTP; pure |
//! | [`events`] | a line of it taken apart; pure |
//! | `asker` | anvil, asked now and then and soon after logins |
//! | [`anvil`] | a line of its reply taken apart; pure |
//! | `join` | which connection is which session; pure |
//! | `sockets` | whom processes are connected to, where order does not decide |
//! | `processes` | what processes use, shared among the sessions they serve |
//! | `sessions` | the sessions from their first event to their last |
//! | `apply` | what an event changes |
//! | `resume` | the sessions that the daemon has from an earlier run |
//!
//! The way of the data: a line comes from `listen`, `events` takes it apart, `apply`
//! finds its session in `sessions`, looks at the process in `processes`, and the session
//! is reported by [`crate::report`]. Between events, the loop here looks at processes
//! that are due, at most [`MAX_LOOKS`] in a turn.
//!
//! Invariants: one thread, one poll(2). A turn closes the FIFO if its reader has left, as what
//! events change is not for that one, and then reads events before it does anything else: a
//! slow reader would cost events, if not logins. Where many events come they rest, by the rule
//! of the daemon's FIFOs and by what the socket holds. What a turn changed is reported at its
//! end. Memory is bounded by the number of sessions.
//!
//! Must not: write to Dovecot, or keep it waiting.

pub mod anvil;
mod apply;
mod asker;
pub mod events;
mod http;
mod join;
mod listen;
mod processes;
mod resume;
mod sessions;
mod sockets;

use super::run::fifo;
use super::server::{usual, Address};
use crate::cli::warn;
use crate::config::{table, Fatal};
use crate::daemon::Rest;
use crate::report::{FifoWriter, Look, Sample};
use crate::sys::fd::poll::{Interest, PollSet};
use crate::sys::proc::process::{ticks_per_sec, uptime_usecs};
use crate::sys::proc::signal::Signals;
use anvil::{guid_usecs, Row};
use apply::{How, LOGIN_SERVICES};
use asker::{Answer, Asker};
use events::{service_name, Event};
use join::{key, Connection};
use listen::Listener;
use processes::Figures;
use sessions::{KnownSessions, Sessions};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Most processes that are looked at before events are read again.
const MAX_LOOKS: usize = 64;

/// Most places of tables that are visited before events are read again.
const MAX_VISITS: usize = 4096;

/// What the socket of events holds, at least, in bytes of lines: Linux counts each event
/// as 1280 bytes of the 212,992 that a sender may have under way.
const SOCKET_BYTES: usize = 25_600;

/// How often what peers did wrong, and with -v what came, is logged.
const LOG_MS: u64 = 60_000;

/// The pause when the system has no memory even for poll(2).
const BACKOFF: Duration = Duration::from_millis(100);

/// What `bridge` was asked for.
#[derive(Clone, Debug)]
pub(super) struct BridgeOptions {
    /// `-s`: the daemon, for the sessions of an earlier run.
    pub server: Option<Address>,
    /// `-e`: where Dovecot writes its events.
    pub events: PathBuf,
    /// `-a`: anvil's socket.
    pub anvil: PathBuf,
    /// `--http`: where events come by HTTP.
    pub http: Option<SocketAddr>,
    /// `-i`: how often processes at work are looked at.
    pub every: Duration,
    /// `--fifo`: where to report.
    pub fifo: Option<PathBuf>,
    pub is_events_only: bool,
    /// `--args`: arguments of commands instead of tags.
    pub has_args: bool,
    pub is_verbose: bool,
    pub max_sessions: usize,
}

impl Default for BridgeOptions {
    fn default() -> BridgeOptions {
        BridgeOptions {
            server: None,
            events: Path::new(table::SYSTEM_BASE_DIR).join("events"),
            anvil: "/run/dovecot/anvil".into(),
            http: None,
            every: Duration::from_secs(1),
            fifo: None,
            is_events_only: false,
            has_args: false,
            is_verbose: false,
            max_sessions: 100_000,
        }
    }
}

/// A moment: milliseconds since this program's start, and microseconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Now {
    pub ms: u64,
    pub usecs: u64,
}

impl Now {
    fn since(start: Instant) -> Now {
        Now {
            ms: start.elapsed().as_millis() as u64,
            usecs: wall_usecs(),
        }
    }
}

fn wall_usecs() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_micros() as u64
}

/// /proc.
struct Proc;

impl Figures for Proc {
    fn look(&mut self, pid: u32, sample: &mut Sample) -> Look {
        sample.look(pid)
    }

    fn started_usecs(&mut self, sample: &Sample) -> u64 {
        let booted_usecs = wall_usecs().saturating_sub(uptime_usecs().unwrap_or(0));
        booted_usecs + sample.start_ticks * (1_000_000 / ticks_per_sec())
    }

    fn peers(&mut self, pids: &[u32]) -> Vec<(u32, SocketAddr)> {
        sockets::peers(pids)
    }
}

/// What came, for the log.
#[derive(Debug, Default)]
struct Counts {
    events: u64,
    refused: u64,
    /// Why the last was refused.
    why: &'static str,
    /// What was logged of these.
    logged_refused: u64,
    logged_lost: u64,
}

struct Bridge {
    options: BridgeOptions,
    started_usecs: u64,
    fifo: Arc<FifoWriter>,
    /// The FIFO's write end, to be watched, and its generation.
    watched: Option<OwnedFd>,
    generation: u64,
    sessions: Sessions,
    asker: Option<Asker>,
    /// The answer of anvil that was logged last, if it was a failure.
    failure: Option<String>,
    has_logged_io: bool,
    has_logged_silence: bool,
    counts: Counts,
    /// Processes and then sessions still to be visited in this round.
    sweep: Option<u32>,
    next_sweep_ms: u64,
    next_log_ms: u64,
}

/// Runs until a signal ends it.
pub(super) fn run(options: &BridgeOptions) -> Result<(), Fatal> {
    let signals = Signals::install().map_err(Fatal::io("signal handlers"))?;
    let fifo = Arc::new(fifo(options.fifo.as_ref()));
    fifo.gather();
    let server = options.server.clone();
    let server = server.unwrap_or_else(|| Address::Usual(usual::file("stats")));
    let known = resume::known_sessions(&server, options.max_sessions);
    let known = known.unwrap_or_else(|error| {
        warn(&format!(
            "bridge: {server}: {}: sessions that an earlier run reported will be new ones",
            crate::sys::reason(&error)
        ));
        KnownSessions::default()
    });
    let started_usecs = wall_usecs();
    let mut listener = Listener::bind(&options.events, options.http)?;
    if options.is_events_only {
        warn(
            "bridge: events only: no live figures, and no vol_cs, invol_cs, disk_input and \
             disk_output; read_ and write_ columns of LMTP only",
        );
    }
    if let Err(error) = fifo.probe() {
        warn(&format!(
            "bridge: {}: {}: reported as soon as a daemon reads it",
            fifo.path().display(),
            crate::sys::reason(&error)
        ));
    }
    let every_ms = options.every.as_millis() as u64;
    let (max, figures) = (options.max_sessions, Box::new(Proc));
    let asks = !options.is_events_only;
    let mut bridge = Bridge {
        options: options.clone(),
        started_usecs,
        sessions: Sessions::new(Arc::clone(&fifo), known, figures, max, every_ms),
        fifo,
        watched: None,
        generation: 0,
        asker: asks.then(|| Asker::new(options.anvil.clone())),
        failure: None,
        has_logged_io: false,
        has_logged_silence: false,
        counts: Counts::default(),
        sweep: None,
        next_sweep_ms: 0,
        next_log_ms: LOG_MS,
    };
    bridge.serve(&signals, &mut listener);
    listener.remove();
    bridge.sessions.leave();
    Ok(())
}

impl Bridge {
    fn serve(&mut self, signals: &Signals, listener: &mut Listener) {
        let start = Instant::now();
        let mut set = PollSet::new();
        let mut rest = Rest::new(start);
        loop {
            set.clear();
            let signal_slot = set.push(signals.as_fd(), Interest::READ);
            let rests_until = rest.until();
            let event_slots = listener.push(&mut set, rests_until.is_some());
            let asked = self.asker.as_ref().and_then(Asker::waiting);
            let anvil_slot = asked.map(|fd| set.push(fd, Interest::READ));
            let interest = Interest {
                read: false,
                write: self.sessions.is_behind,
            };
            let fifo_slot = self
                .watched
                .as_ref()
                .map(|fd| set.push(fd.as_fd(), interest));
            let mut timeout = self.timeout(Now::since(start));
            if let Some(until) = rests_until {
                timeout = timeout.min(until.saturating_duration_since(Instant::now()));
            }
            if listener.has_backlog() {
                timeout = Duration::ZERO;
            }
            if set.wait(Some(timeout)).is_err() {
                std::thread::sleep(BACKOFF);
            }
            let now = Now::since(start);
            if set.ready(signal_slot).readable {
                let pending = signals.take();
                if pending.term || pending.int {
                    return;
                }
            }
            let fifo = fifo_slot.map(|slot| set.ready(slot));
            let has_left = fifo.is_some_and(|fifo| fifo.readable);
            if has_left {
                self.watched = None;
                self.fifo.close();
            }
            let instant = Instant::now();
            let mut taken = rest.begin(instant);
            let bytes = listener.read(&set, event_slots, |line, is_remote| {
                self.take(line, is_remote, now);
            });
            if std::mem::take(&mut listener.has_accepted) {
                self.sessions.processes.hurry_all(now.ms);
            }
            if bytes > 0 || rests_until.is_some() {
                taken.add(bytes, SOCKET_BYTES, false);
                rest.end(&taken, instant);
            }
            if anvil_slot.is_some_and(|slot| set.ready(slot).readable) {
                self.read_anvil(now);
            }
            if !has_left && fifo.is_some_and(|fifo| fifo.writable) {
                self.sessions.catch_up();
            }
            self.ask_anvil(now);
            self.sweep(now);
            self.sessions.flush();
            self.log(now);
        }
    }

    fn timeout(&self, now: Now) -> Duration {
        if self.sweep.is_some() {
            return Duration::ZERO;
        }
        let asker_ms = self.asker.as_ref().map_or(u64::MAX, Asker::due_ms);
        let due_ms = self.next_sweep_ms.min(asker_ms);
        Duration::from_millis(due_ms.saturating_sub(now.ms))
    }

    /// Takes a line of events; `None` stands for one that is too long.
    fn take(&mut self, line: Option<&mut [u8]>, is_remote: bool, now: Now) {
        let event = match line {
            Some(line) => Event::parse(line).map_err(|refused| refused.0),
            None => Err("it is too long"),
        };
        match event {
            Ok(event) => {
                self.counts.events += 1;
                let how = How {
                    has_args: self.options.has_args,
                    is_remote,
                };
                let is_login = self.sessions.apply(&event, how, now);
                if let Some(asker) = self.asker.as_mut().filter(|_| is_login) {
                    asker.hurry(now);
                }
            }
            Err(why) => {
                self.counts.refused += 1;
                self.counts.why = why;
            }
        }
    }

    fn ask_anvil(&mut self, now: Now) {
        let Some(asker) = &mut self.asker else {
            return;
        };
        let number = asker.number;
        let answer = asker.ask(now);
        if asker.number != number {
            self.sessions.begin_reply();
        }
        self.answered(answer, now);
    }

    fn read_anvil(&mut self, now: Now) {
        let Some(asker) = &mut self.asker else {
            return;
        };
        let number = asker.number;
        let (sessions, started_usecs) = (&mut self.sessions, self.started_usecs);
        let answer = asker.read(now, |row: Row<'_>| {
            let service = service_name(row.service);
            if service == b"imap-hibernate" {
                sessions.hibernated(key(row.user, b"imap", row.ip));
            } else if LOGIN_SERVICES.contains(&service) {
                let connection = Connection {
                    guid: row.guid,
                    pid: row.pid,
                };
                let is_old = guid_usecs(&row.guid) < started_usecs;
                let key = key(row.user, service, row.ip);
                sessions.connection(&key, connection, number, is_old, now);
            }
        });
        self.answered(answer, now);
    }

    fn answered(&mut self, answer: Answer, now: Now) {
        match answer {
            Answer::Waiting => {}
            Answer::Complete => {
                let Some(asker) = &mut self.asker else {
                    return;
                };
                self.failure = None;
                self.sessions.has_anvil = true;
                let unmatched = self.sessions.settle(asker.number, now);
                if self.sessions.join.is_waiting() {
                    asker.again(now);
                }
                let is_silent = self.counts.events + self.counts.refused == 0;
                if unmatched > 0 && is_silent && !self.has_logged_silence {
                    self.has_logged_silence = true;
                    warn(&format!(
                        "bridge: sessions begin, but Dovecot writes nothing to {}: copy \
                         99-dovestat.conf to its conf.d and reload it; its user must be able to \
                         write to that socket",
                        self.options.events.display()
                    ));
                }
            }
            Answer::Failed(why) => {
                self.sessions.has_anvil = false;
                if self.failure.as_ref() != Some(&why) {
                    warn(&format!(
                        "bridge: anvil: {why}: no live figures until it answers (it is root's)"
                    ));
                    self.failure = Some(why);
                }
            }
        }
    }

    /// Visits what may be due, in rounds.
    fn sweep(&mut self, now: Now) {
        let mut at = match self.sweep.take() {
            Some(at) => at,
            None if now.ms < self.next_sweep_ms => return,
            None => {
                self.next_sweep_ms = now.ms + self.options.every.as_millis() as u64;
                self.watch();
                self.sessions.refresh(now);
                0
            }
        };
        let (mut looks, processes) = (0, self.sessions.processes.places());
        let all = processes + self.sessions.places();
        for _ in 0..MAX_VISITS {
            if at >= all {
                return;
            }
            if at >= processes {
                self.sessions.visit(at - processes, now);
            } else if self.sessions.processes.visit(at, now.ms) {
                looks += 1;
                self.sessions.look(at, None, false, now);
            }
            at += 1;
            if looks == MAX_LOOKS {
                break;
            }
        }
        self.sweep = Some(at);
    }

    /// Opens the FIFO if it has a reader, and delivers everything to one that is new.
    fn watch(&mut self) {
        // What was gathered for the present one.
        self.fifo.flush();
        if self.fifo.probe().is_err() {
            return;
        }
        let generation = self.fifo.generation();
        if generation != self.generation || self.watched.is_none() {
            self.generation = generation;
            self.watched = self.fifo.watched();
            self.sessions.is_behind = true;
        }
    }

    fn log(&mut self, now: Now) {
        if self.sessions.processes.lacks_io && !self.has_logged_io {
            self.has_logged_io = true;
            warn(
                "bridge: /proc/PID/io cannot be read (root with CAP_SYS_PTRACE can): no \
                 disk_input, disk_output, read_ and write_ columns but for LMTP",
            );
        }
        if now.ms < self.next_log_ms {
            return;
        }
        self.next_log_ms = now.ms + LOG_MS;
        let (counts, sessions) = (&mut self.counts, &self.sessions);
        let lost = sessions.refused + sessions.lost_adds;
        if counts.refused != counts.logged_refused || lost != counts.logged_lost {
            (counts.logged_refused, counts.logged_lost) = (counts.refused, lost);
            warn(&format!(
                "bridge: lines refused: {} (the last: {}); sessions beyond --max-sessions={}: {}; \
                 results of authentication lost as the FIFO is full: {}",
                counts.refused, counts.why, sessions.max, sessions.refused, sessions.lost_adds
            ));
        }
        if self.options.is_verbose {
            warn(&format!(
                "bridge: events: {}; sessions followed: {}",
                counts.events,
                sessions.count()
            ));
        }
    }
}
