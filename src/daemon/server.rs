//! The loop: one turn after the other, until a signal ends it.
//!
//! A turn rebuilds the poll set, waits until something is ready or due, reads the clocks
//! once, and then works in one fixed order: FIFOs, signals, the watchdog, sessions that fell
//! silent, slow commands, carbon, clients, new connections, the state, files that vanished,
//! memory that ran out. FIFOs come first, and last in the poll set: so all else is done with
//! the records that were written before it was asked for. When they are read is for [`Rest`].
//! Work in a turn is bounded: one read(2) of each FIFO, or of one that rested what its pipe
//! holds, so many steps for all clients together ([`Clients`]) and for carbon,
//! [`ACCEPTS_A_TURN`] for each listener, [`SILENCES_A_TURN`]. So none starves the others; if
//! work is left, the next turn does not wait.

use super::clocks::Clocks;
use super::faults::{Fault, Faults};
use super::files::{BaseDir, Files};
use super::log::{size, visible, Log};
use super::options::Options;
use crate::config::{Fatal, Service, Settings};
use crate::daemon::input::fifo::FifoInput;
use crate::daemon::input::records::{Decoded, Records};
use crate::daemon::input::rest::Rest;
use crate::daemon::input::slow::{limit_of, SlowCommands};
use crate::daemon::input::waiting::Waiting;
use crate::daemon::master::Master;
use crate::daemon::push::carbon::Carbon;
use crate::daemon::serve::client::Client;
use crate::daemon::serve::clients::{most_client_bytes, most_clients, Clients};
use crate::daemon::serve::context::Context;
use crate::daemon::serve::listener::Listener;
use crate::daemon::snapshot::{Mark, State};
use crate::daemon::start::listen::Opened;
use crate::daemon::start::sd_notify::Manager;
use crate::store::{Level, Limits, Now, Store, LEVELS};
use crate::sys::fd::poll::{Interest, PollSet};
use crate::sys::mem::reserve;
use crate::sys::mem::resident::Unneeded;
use crate::sys::proc::process::raise_descriptor_limit;
use crate::sys::proc::signal::Signals;
use crate::sys::reason;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Connections that a listener may accept in one turn.
const ACCEPTS_A_TURN: usize = 16;

/// Sessions that may be found silent in one turn.
const SILENCES_A_TURN: usize = 256;

/// The most bytes read of a FIFO at the end: more than any pipe holds, but bounded for
/// writers that never stop.
const LAST_BYTES: usize = 4 << 20;

/// Descriptors needed beside those of clients.
const SPARE_DESCRIPTORS: u64 = 64;

/// How long a listener is not polled after accept(2) failed, as it does while there are
/// no descriptors left, and how long the loop sleeps after poll(2) failed.
const BACKOFF: Duration = Duration::from_millis(200);

/// The shortest wait that memory is given back for, and how often that is done: once in
/// this time.
const IDLE: Duration = Duration::from_secs(1);

/// How many times in a row it is done sooner, after a time without: a daemon that is asked
/// once or twice is as small again as before.
const IDLE_AT_ONCE: u32 = 10;

/// Slots of the poll set. FIFOs, clients and listeners keep theirs in themselves.
struct Slots {
    signals: usize,
    carbon: Option<usize>,
    state: Option<usize>,
}

/// The limits of the store.
pub(super) fn store_limits(settings: &Settings) -> Limits {
    Limits {
        memory_bytes: usize::try_from(settings.stats_memory_limit_bytes).unwrap_or(usize::MAX),
        min_time_secs: settings.stats_min_time_secs,
    }
}

/// Raises the limit of descriptors to what the clients may need, as far as the system
/// allows.
pub(super) fn make_room_for_clients(service: &Service, listeners: usize, log: &mut Log) {
    let client_limit = service.client_limit;
    let wanted = most_clients(client_limit, listeners) + SPARE_DESCRIPTORS;
    match raise_descriptor_limit(wanted) {
        Ok(got) if got >= wanted => {}
        Ok(got) => log.warning(&format!(
            "client_limit {client_limit} needs {wanted} descriptors, the system allows {got}; \
             raise the limit (under systemd by LimitNOFILE=) or lower client_limit"
        )),
        Err(error) => log.warning(&format!("raise the descriptor limit: {}", reason(&error))),
    }
}

/// The status for the service manager.
fn short_status(store: &Store) -> String {
    let [_, sessions, users, domains, ips, ..] = store.usage().entries;
    let connected = store.totals_of_everything().connected;
    format!(
        "serving; {connected} sessions connected, {sessions} kept; \
         {users} users, {domains} domains, {ips} addresses"
    )
}

pub(super) struct Daemon {
    /// The command line, for reading the settings again.
    pub(super) options: Options,
    /// The settings in force.
    pub(super) settings: Settings,
    pub(super) store: Store,
    pub(super) log: Log,
    faults: Faults,
    pub(super) fifos: Vec<FifoInput>,
    decoded: Option<Box<Decoded>>,
    rest: Rest,
    slow: SlowCommands,
    pub(super) listeners: Vec<Listener>,
    /// The files of FIFOs and listeners.
    files: Files,
    pub(super) clients: Clients,
    pub(super) carbon: Carbon,
    signals: Signals,
    /// Does nothing without NOTIFY_SOCKET.
    manager: Manager,
    /// The master of Dovecot, if this is a service of it.
    pub(super) master: Option<Master>,
    /// `None` without a usable state_dir.
    pub(super) state: Option<State>,
    clocks: Clocks,
    unneeded: Unneeded,
    /// When giving memory back is paid for, one time an [`IDLE`].
    idle_paid_at: Instant,
    /// The warning that no record came.
    waiting: Waiting,
    /// When the daemon started, in seconds since 1970.
    start_secs: u32,
}

impl Daemon {
    /// # Errors
    /// When the memory limit does not hold an empty store.
    pub(super) fn new(
        options: &Options,
        (settings, limits): (Settings, Limits),
        mut log: Log,
        (mut opened, base_dir): (Opened, Option<BaseDir>),
        signals: Signals,
        (manager, master): (Manager, Option<Master>),
        mut state: Option<State>,
    ) -> Result<Daemon, Fatal> {
        let clocks = Clocks::start();
        let (_, now) = clocks.read();
        if let Some(state) = &mut state {
            state.probe(&mut log);
        }
        let restored = state
            .as_mut()
            .and_then(|state| state.restore(&limits, now, &mut opened.fifos, &mut log));
        let mut store = match restored {
            Some(store) => store,
            None => Store::new(&limits, now).map_err(|_| {
                Fatal::Setting("stats_memory_limit is too small for anything".to_owned())
            })?,
        };
        store.set_slow_limit(limit_of(&settings));
        let carbon = Carbon::new(&settings, clocks.started());
        let in_chroot = settings.service.chroot_in(&settings.base_dir).is_some();
        let mut daemon = Daemon {
            options: options.clone(),
            settings,
            store,
            log,
            faults: Faults::new(),
            fifos: opened.fifos,
            decoded: None,
            rest: Rest::new(clocks.started()),
            slow: SlowCommands::default(),
            listeners: opened.listeners,
            files: Files::new(base_dir, opened.files, in_chroot),
            clients: Clients::new(most_client_bytes(limits.memory_bytes)),
            carbon,
            signals,
            manager,
            master,
            state,
            unneeded: Unneeded::but_for(PollSet::sleep as *const ()),
            idle_paid_at: clocks.started(),
            clocks,
            waiting: Waiting::default(),
            start_secs: now.wall.secs,
        };
        let mark = daemon.mark();
        if let Some(state) = &mut daemon.state {
            state.begin(mark);
        }
        Ok(daemon)
    }

    /// Lines read from FIFOs.
    pub(super) fn line_count(&self) -> u64 {
        let current = self.fifos.iter().filter(|input| input.is_current());
        current.map(FifoInput::line_count).sum()
    }

    /// Differs from the last one when there is something to save.
    fn mark(&self) -> Mark {
        let totals = self.store.totals_of_everything();
        Mark {
            lines: self.line_count(),
            connected: totals.connected,
            reset_secs: totals.reset_secs,
            last_update: totals.last_update,
        }
    }

    /// Serves until TERM or INT.
    ///
    /// # Errors
    /// When poll(2) fails for another reason than a signal.
    pub(super) fn run(&mut self) -> Result<(), Fatal> {
        let mut poll = PollSet::new();
        let mut instant = self.clocks.started();
        loop {
            let slots = self.fill_poll_set(&mut poll);
            let timeout = self.timeout();
            let waited = match self.may_sleep(timeout, instant) {
                true => {
                    self.fifos.iter_mut().for_each(FifoInput::give_up_buffer);
                    self.decoded = None;
                    poll.sleep(timeout, &self.unneeded)
                }
                false => poll.wait(timeout),
            };
            let now;
            (instant, now) = self.clocks.read();
            match waited {
                Ok(()) => {}
                // The system is short of memory: that passes.
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                    let report = || reason(&error);
                    self.faults
                        .report(&mut self.log, Fault::PollFailed, now.uptime_secs, report);
                    std::thread::sleep(BACKOFF);
                }
                Err(error) => return Err(Fatal::Io("poll".to_owned(), error)),
            }
            let is_ready = |slot: Option<usize>| {
                let ready = slot.map(|slot| poll.ready(slot));
                ready.is_some_and(|ready| ready.readable || ready.writable)
            };
            self.read_fifos(instant, now, is_ready);
            if is_ready(Some(slots.signals)) && !self.handle_signals(instant) {
                return Ok(());
            }
            self.manager.watch(instant, || short_status(&self.store));
            self.disconnect_silent(now);
            let uptime_secs = now.uptime_secs;
            self.slow.serve(&mut self.store, uptime_secs, &mut self.log);
            let lines = self.line_count();
            self.waiting.serve(lines, now.uptime_secs, &mut self.log);
            self.serve_carbon(instant, now, is_ready(slots.carbon));
            let (mut context, clients, _) = self.parts(now);
            clients.serve(&mut context, is_ready);
            for index in 0..self.listeners.len() {
                let listener = &mut self.listeners[index];
                listener.retry_at.take_if(|retry_at| *retry_at <= instant);
                if is_ready(listener.slot) {
                    self.accept(index, instant, now);
                }
            }
            self.serve_state(instant, now, is_ready(slots.state));
            if !self.serve_master(instant, is_ready) {
                return Ok(());
            }
            self.fifos
                .retain(|input| !input.has_ended() || input.is_current());
            let (fifos, listeners) = (&mut self.fifos, &mut self.listeners);
            self.files.serve(instant, fifos, listeners, &mut self.log);
            self.find_memory(now);
        }
    }

    /// Closes clients if an allocation failed since the last turn, until there is a reserve
    /// again: without one, the next allocation that fails ends the process.
    fn find_memory(&mut self, now: Now) {
        const REMEDY: &str = "lower stats_memory_limit, or let dovestatd have more memory";
        let mut is_short = reserve::was_used();
        while is_short {
            let closed = self.clients.close_largest(&mut self.store);
            is_short = closed.is_some() && !reserve::fill();
            let report = || match closed {
                Some((name, bytes)) => {
                    let held = size(bytes as u64);
                    format!("a client of {name} that held {held} was closed; {REMEDY}")
                }
                None => format!("there is no client to close; {REMEDY}"),
            };
            self.faults
                .report(&mut self.log, Fault::OutOfMemory, now.uptime_secs, report);
        }
        reserve::fill();
    }

    /// Saves what changed, when it is time.
    fn serve_state(&mut self, instant: Instant, now: Now, is_done: bool) {
        let mark = self.mark();
        if let Some(state) = &mut self.state {
            state.note(mark, instant);
            let what = (&self.store, mark, &mut self.log);
            state.serve(what, (instant, now), is_done);
        }
    }

    /// Has a warning logged if no record comes to these FIFOs for long.
    pub(super) fn wait_for_records(&mut self, fifos: Vec<String>) {
        self.waiting = Waiting::new(self.clocks.read().1.uptime_secs, fifos);
    }

    pub(super) fn log_info(&mut self, message: &str) {
        self.log.info(message);
    }

    /// Reports to the service manager that clients and writers are served.
    pub(super) fn announce(&mut self) {
        self.manager.ready(&short_status(&self.store));
    }

    /// Ends: removes the FIFOs and sockets, applies what is still in the FIFOs, and saves
    /// everything.
    pub(super) fn finish(&mut self, result: &Result<(), Fatal>) {
        self.manager.stopping("ending");
        self.files.remove();
        let (_, now) = self.clocks.read();
        self.empty_fifos(now);
        self.slow.end(&mut self.log);
        if let Some(state) = &mut self.state {
            state.finish(&self.store, now, &self.fifos, &mut self.log);
        }
        self.hand_over();
        if let Err(fatal) = result {
            self.log.error(&fatal.to_string());
        }
        self.log_status("shutting down");
    }

    /// Rebuilds the poll set, and keeps each slot beside what was pushed.
    fn fill_poll_set(&mut self, poll: &mut PollSet) -> Slots {
        poll.clear();
        let signals = poll.push(self.signals.as_fd(), Interest::READ);
        let carbon = self.carbon.waits_for();
        let carbon = carbon.map(|(fd, interest)| poll.push(fd, interest));
        let state = self.state.as_ref().and_then(State::waits_for);
        let state = state.map(|fd| poll.push(fd, Interest::READ));
        if let Some(master) = &mut self.master {
            master.fill_poll_set(poll);
        }
        self.clients.fill_poll_set(poll);
        for listener in &mut self.listeners {
            listener.slot = match listener.retry_at {
                None => Some(poll.push(listener.as_fd(), Interest::READ)),
                Some(_) => None,
            };
        }
        for input in &mut self.fifos {
            input.slot = match self.rest.until() {
                None if !input.has_ended() => Some(poll.push(input.fifo.as_fd(), Interest::READ)),
                _ => None,
            };
        }
        Slots {
            signals,
            carbon,
            state,
        }
    }

    /// The time until something is due; `None`: nothing is.
    fn timeout(&self) -> Option<Duration> {
        let clients = self.clients.timeout();
        if self.carbon.can_go_on() || clients == Some(Duration::ZERO) {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let silence = self.store.next_silence_secs();
        let logs = [self.waiting.wakes_at_secs(), self.slow.wakes_at_secs()];
        let due_secs = silence.into_iter().chain(logs.into_iter().flatten());
        let silence = due_secs
            .min()
            .map(|due_secs| self.clocks.instant(due_secs).saturating_duration_since(now));
        let wakes = self
            .listeners
            .iter()
            .filter_map(|listener| listener.retry_at)
            .chain(self.rest.until())
            .chain(self.carbon.wakes_at())
            .chain(self.manager.wakes_at())
            .chain(self.files.wakes_at())
            .chain(self.state.as_ref().and_then(State::wakes_at))
            .chain(self.master.as_ref().and_then(Master::wakes_at))
            .map(|until| until.saturating_duration_since(now));
        wakes.chain(silence).chain(clients).min()
    }

    /// Whether memory is to be given back for a wait.
    fn may_sleep(&mut self, timeout: Option<Duration>, instant: Instant) -> bool {
        let is_long = timeout.is_none_or(|timeout| timeout >= IDLE);
        let is_due = is_long && self.idle_paid_at < instant + IDLE * IDLE_AT_ONCE;
        if is_due {
            self.idle_paid_at = self.idle_paid_at.max(instant) + IDLE;
        }
        is_due
    }

    /// Handles signals. Returns whether the daemon goes on.
    fn handle_signals(&mut self, instant: Instant) -> bool {
        let mut pending = self.signals.take();
        if let Some(master) = &self.master {
            if std::mem::take(&mut pending.int) {
                // It asks an idle process to end, which this one never is.
                master.report_status();
            }
            // Its settings and its log are the master's.
            pending.hup = false;
        }
        if pending.hup {
            self.manager.reloading();
            self.reload(instant);
            self.files.look_soon(instant);
            self.announce();
        }
        if pending.usr1 {
            self.manager.status(&short_status(&self.store));
            self.log_status("status");
            let faults = self.faults.summary();
            self.log.info(&format!("faults of peers so far: {faults}"));
        }
        !(pending.term || pending.int || pending.quit)
    }

    /// Logs numbers about the daemon itself.
    fn log_status(&mut self, title: &str) {
        let usage = self.store.usage();
        let by_level = |counts: [u64; LEVELS]| {
            let mut text = String::new();
            for (count, level) in counts.iter().zip(Level::ALL) {
                let comma = if text.is_empty() { "" } else { ", " };
                text += &format!("{comma}{count} {}s", level.name());
            }
            text
        };
        self.log.info(&format!(
            "{title}: {} of {} of memory used, {} resident, {} lost to holes; kept: {}; \
             freed to make room: {}; {} lines read; {} clients connected",
            size(usage.used_bytes as u64),
            size(usage.limit_bytes as u64),
            size(usage.resident_bytes as u64),
            size(usage.lost_bytes as u64),
            by_level(usage.entries.map(|count| count as u64)),
            by_level(usage.evictions),
            self.line_count(),
            self.clients.len(),
        ));
    }

    /// Disconnects sessions whose processes seem to be gone.
    fn disconnect_silent(&mut self, now: Now) {
        let (faults, log) = (&mut self.faults, &mut self.log);
        for _ in 0..SILENCES_A_TURN {
            let found = self.store.disconnect_silent(now, |session, user| {
                faults.report(log, Fault::SilentSession, now.uptime_secs, || {
                    format!("session {} of user {}", visible(session), visible(user))
                });
            });
            if !found {
                break;
            }
        }
    }

    /// Reads the FIFOs that are ready, or, while they rest, all that came.
    fn read_fifos(&mut self, instant: Instant, now: Now, is_ready: impl Fn(Option<usize>) -> bool) {
        let is_resting = self.rest.until().is_some();
        let mut taken = self.rest.begin(instant);
        let mut was_read = false;
        for index in 0..self.fifos.len() {
            let FifoInput { fifo, slot, .. } = &self.fifos[index];
            if is_resting || is_ready(*slot) {
                let capacity = fifo.capacity_bytes();
                let least_bytes = if is_resting { capacity } else { 1 };
                let (bytes, has_more) = self.read_fifo(index, least_bytes, now);
                taken.add(bytes, capacity, has_more);
                was_read = true;
            }
        }
        if was_read {
            self.rest.end(&taken, instant);
        }
    }

    /// Reads all that is in the FIFOs, but for those that the service manager keeps, or that
    /// pass on to the next process: what is left there is for the next daemon.
    fn empty_fifos(&mut self, now: Now) {
        for index in 0..self.fifos.len() {
            let input = &self.fifos[index];
            let is_left = match &self.master {
                Some(master) => master.passes_on(input),
                None => input.is_kept(),
            };
            if !is_left {
                self.read_fifo(index, LAST_BYTES, now);
            }
        }
    }

    /// Reads a FIFO and applies the records, as [`FifoInput::read`] does.
    // Not inlined: a loop that sleeps need not have room for it on the stack.
    #[inline(never)]
    fn read_fifo(&mut self, index: usize, least_bytes: usize, now: Now) -> (usize, bool) {
        let Daemon {
            fifos,
            decoded,
            store,
            log,
            faults,
            slow,
            ..
        } = self;
        let name = Rc::clone(fifos[index].name());
        let decoded = decoded.get_or_insert_default();
        let mut records = Records::new(&name, decoded, (store, slow), (log, faults), now);
        let result = fifos[index].read(&mut records, least_bytes, now.wall.secs);
        result.unwrap_or_else(|error| {
            let report = || format!("{name}: {}", reason(&error));
            faults.report(log, Fault::ReadFailed, now.uptime_secs, report);
            (0, false)
        })
    }

    /// Splits the daemon into what serving needs and what is served.
    fn parts(&mut self, now: Now) -> (Context<'_>, &mut Clients, &mut Carbon) {
        let context = Context {
            store: &mut self.store,
            faults: &mut self.faults,
            log: &mut self.log,
            settings: &self.settings,
            fifos: &self.fifos,
            client_count: self.clients.len(),
            start_secs: self.start_secs,
            now,
        };
        (context, &mut self.clients, &mut self.carbon)
    }

    /// Reports to carbon, when it is time.
    fn serve_carbon(&mut self, instant: Instant, now: Now, is_ready: bool) {
        let (mut context, _, carbon) = self.parts(now);
        carbon.serve(&mut context, instant, is_ready);
    }

    /// Accepts connections that wait.
    fn accept(&mut self, index: usize, instant: Instant, now: Now) {
        for _ in 0..ACCEPTS_A_TURN {
            let listener = &self.listeners[index];
            let stream = match listener.accept() {
                Ok(stream) => stream,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    // The peer went away again.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::PermissionDenied => {
                        let report = || format!("{}: {}", listener.name, reason(&error));
                        let (faults, log) = (&mut self.faults, &mut self.log);
                        faults.report(log, Fault::NotAllowed, now.uptime_secs, report);
                        continue;
                    }
                    _ => {
                        let name = Rc::clone(&listener.name);
                        let report = || format!("{name}: {}", reason(&error));
                        self.faults.report(
                            &mut self.log,
                            Fault::AcceptFailed,
                            now.uptime_secs,
                            report,
                        );
                        self.listeners[index].retry_at = Some(instant + BACKOFF);
                        return;
                    }
                },
            };
            let client = Client::new(stream, listener, index, now);
            let (mut context, clients, _) = self.parts(now);
            clients.admit(client, &mut context);
        }
    }
}
