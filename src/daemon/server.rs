//! The loop: one turn after the other, until a signal ends it.
//!
//! A turn rebuilds the poll set from what there is, waits until something is
//! ready or due, reads the clocks once, and then works in one fixed order:
//! signals, sessions that fell silent, FIFOs, carbon, clients, new connections, the
//! state, files that vanished, memory that ran out. Work in
//! a turn is bounded for everyone ([`READ_BYTES`](crate::daemon::input::fifo) a FIFO,
//! as many steps for all clients together, [`ACCEPTS_A_TURN`] a listener), so
//! nobody starves the others; who is not finished is polled without waiting.

use super::fatal::Fatal;
use super::faults::{Fault, Faults};
use super::files::{BaseDir, Files};
use super::log::{size, visible, Log};
use super::options::Options;
use crate::config::{Service, Settings};
use crate::daemon::input::fifo::FifoInput;
use crate::daemon::input::records::Records;
use crate::daemon::input::waiting::Waiting;
use crate::daemon::push::carbon::Carbon;
use crate::daemon::serve::client::Client;
use crate::daemon::serve::clients::{most_client_bytes, most_clients, Clients};
use crate::daemon::serve::context::Context;
use crate::daemon::serve::listener::Listener;
use crate::daemon::snapshot::{Mark, State};
use crate::daemon::start::listen::Opened;
use crate::daemon::start::sd_notify::Manager;
use crate::store::{Limits, Now, Store, WallTime};
use crate::sys::fd::poll::{Interest, PollSet};
use crate::sys::mem::reserve;
use crate::sys::proc::process::raise_descriptor_limit;
use crate::sys::proc::signal::Signals;
use crate::sys::reason;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Connections that a listener may accept in one turn.
const ACCEPTS_A_TURN: usize = 16;

/// Sessions that may be found silent in one turn.
const SILENCES_A_TURN: usize = 256;

/// How often a FIFO is read at the end while there is something in it: more
/// than any pipe holds, and an end for writers that never stop.
const LAST_READS: usize = 64;

/// The second at which the daemon starts by its monotonic clock: what it
/// restores is older, by 34 years at most.
const START_SECS: u32 = 1 << 30;

/// Descriptors needed beside those of clients.
const SPARE_DESCRIPTORS: u64 = 64;

/// How long a listener rests after accept(2) failed, as it does while there are
/// no descriptors left, and everything after poll(2) did.
const REST: Duration = Duration::from_millis(200);

/// Both clocks.
#[derive(Debug)]
struct Clocks {
    /// When the daemon started.
    started: Instant,
}

impl Clocks {
    /// Reads them.
    fn read(&self) -> (Instant, Now) {
        let instant = Instant::now();
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = Now {
            uptime_secs: START_SECS + (instant - self.started).as_secs() as u32,
            wall: WallTime {
                secs: u32::try_from(wall.as_secs()).unwrap_or(u32::MAX),
                usecs: wall.subsec_micros(),
            },
        };
        (instant, now)
    }

    /// The instant of a second by [`Now::uptime_secs`]; that of the start for
    /// those before.
    fn instant(&self, uptime_secs: u32) -> Instant {
        self.started + Duration::from_secs(uptime_secs.saturating_sub(START_SECS).into())
    }
}

/// Where the poll set has what.
struct Slots {
    /// The connection to carbon.
    carbon: Option<usize>,
    /// The writer of the state.
    state: Option<usize>,
    /// The first FIFO.
    fifos: usize,
    /// The first client; listeners that do not rest follow.
    clients: usize,
}

/// What the store is to keep to.
pub fn store_limits(settings: &Settings) -> Limits {
    Limits {
        memory_bytes: usize::try_from(settings.stats_memory_limit_bytes).unwrap_or(usize::MAX),
        command_min_time_secs: settings.stats_command_min_time_secs,
        session_min_time_secs: settings.stats_session_min_time_secs,
        user_min_time_secs: settings.stats_user_min_time_secs,
        domain_min_time_secs: settings.stats_domain_min_time_secs,
        ip_min_time_secs: settings.stats_ip_min_time_secs,
    }
}

/// Sees to it that there are descriptors for as many clients as there may be, as
/// far as the system lets us.
pub fn make_room_for_clients(service: &Service, listeners: usize, log: &mut Log) {
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

/// What the service manager shows: numbers of entries.
fn short_status(store: &Store) -> String {
    let [_, sessions, users, domains, ips] = store.usage().entries;
    let connected = store.totals_of_everything().connected;
    format!(
        "serving; {connected} sessions connected, {sessions} kept; \
         {users} users, {domains} domains, {ips} addresses"
    )
}

/// The running daemon.
pub struct Daemon {
    /// The command line, for reading the settings again.
    pub(super) options: Options,
    /// The settings in force.
    pub(super) settings: Settings,
    /// The statistics.
    pub(super) store: Store,
    /// The log.
    pub(super) log: Log,
    /// What peers did wrong.
    faults: Faults,
    /// Where records come from.
    fifos: Vec<FifoInput>,
    /// Where clients come from.
    pub(super) listeners: Vec<Listener>,
    /// The files of both.
    files: Files,
    /// Who is connected.
    clients: Clients,
    /// Reports to carbon.
    pub(super) carbon: Carbon,
    /// The signals.
    signals: Signals,
    /// Who looks after us.
    manager: Manager,
    /// What outlives us.
    pub(super) state: Option<State>,
    /// The clocks.
    clocks: Clocks,
    /// Until a record comes.
    waiting: Waiting,
    /// When the daemon started, in seconds since 1970.
    start_secs: u32,
}

impl Daemon {
    /// A daemon that has everything it needs.
    ///
    /// # Errors
    /// When the memory limit does not hold an empty store.
    pub fn new(
        options: &Options,
        (settings, limits): (Settings, Limits),
        mut log: Log,
        (mut opened, base_dir): (Opened, BaseDir),
        signals: Signals,
        manager: Manager,
        mut state: Option<State>,
    ) -> Result<Daemon, Fatal> {
        let clocks = Clocks {
            started: Instant::now(),
        };
        let (_, now) = clocks.read();
        if let Some(state) = &mut state {
            state.probe(&mut log);
        }
        let restored = state
            .as_mut()
            .and_then(|state| state.restore(&limits, now, &mut opened.fifos, &mut log));
        let store = match restored {
            Some(store) => store,
            None => Store::new(&limits, now).map_err(|_| {
                Fatal::Setting("stats_memory_limit is too small for anything".to_owned())
            })?,
        };
        let carbon = Carbon::new(&settings, clocks.started);
        let in_chroot = settings.service.chroot_in(&settings.base_dir).is_some();
        let mut daemon = Daemon {
            options: options.clone(),
            settings,
            store,
            log,
            faults: Faults::new(),
            fifos: opened.fifos,
            listeners: opened.listeners,
            files: Files::new(base_dir, opened.files, in_chroot),
            clients: Clients::new(most_client_bytes(limits.memory_bytes)),
            carbon,
            signals,
            manager,
            state,
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
    fn line_count(&self) -> u64 {
        let current = self.fifos.iter().filter(|input| input.is_current());
        current.map(FifoInput::line_count).sum()
    }

    /// What tells whether there is something to save.
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
    pub fn run(&mut self) -> Result<(), Fatal> {
        let mut poll = PollSet::new();
        loop {
            let slots = self.fill_poll_set(&mut poll);
            let timeout = self.timeout();
            let waited = poll.wait(timeout);
            let (instant, now) = self.clocks.read();
            match waited {
                Ok(()) => {}
                // The system is short of memory, not we of a reason to go on.
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                    let report = || reason(&error);
                    self.faults
                        .report(&mut self.log, Fault::PollFailed, now.uptime_secs, report);
                    std::thread::sleep(REST);
                }
                Err(error) => return Err(Fatal::Io("poll".to_owned(), error)),
            }
            let is_ready = |slot: Option<usize>| {
                let ready = slot.map(|slot| poll.ready(slot));
                ready.is_some_and(|ready| ready.readable || ready.writable)
            };
            if !self.handle_signals(instant) {
                return Ok(());
            }
            self.manager.watch(instant, || short_status(&self.store));
            self.disconnect_silent(now);
            for index in 0..self.fifos.len() {
                if poll.ready(slots.fifos + index).readable {
                    self.read_fifo(index, now);
                }
            }
            let lines = self.line_count();
            self.waiting.serve(lines, now.uptime_secs, &mut self.log);
            self.serve_carbon(instant, now, is_ready(slots.carbon));
            let mut slot = slots.clients + self.clients.len();
            let (mut context, clients, _) = self.parts(now);
            clients.serve(&mut context, |index| is_ready(Some(slots.clients + index)));
            for index in 0..self.listeners.len() {
                let listener = &mut self.listeners[index];
                if let Some(until) = listener.rests_until {
                    if until <= instant {
                        listener.rests_until = None;
                    }
                    continue;
                }
                if poll.ready(slot).readable {
                    self.accept(index, instant, now);
                }
                slot += 1;
            }
            self.serve_state(instant, now, is_ready(slots.state));
            self.fifos.retain(|input| !input.has_ended());
            let (fifos, listeners) = (&mut self.fifos, &mut self.listeners);
            self.files.serve(instant, fifos, listeners, &mut self.log);
            self.find_memory(now);
        }
    }

    /// Closes a client if an allocation failed since the last turn, so that there is
    /// memory for the next one that would.
    fn find_memory(&mut self, now: Now) {
        const REMEDY: &str = "lower stats_memory_limit, or let dovestatd have more memory";
        if reserve::was_used() {
            let closed = self.clients.close_largest(&mut self.store);
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

    /// Logs what it waits for if no record comes to these FIFOs for long.
    pub fn wait_for_records(&mut self, fifos: Vec<String>) {
        self.waiting = Waiting::new(self.clocks.read().1.uptime_secs, fifos);
    }

    /// Logs what is worth knowing about the start.
    pub fn log_info(&mut self, message: &str) {
        self.log.info(message);
    }

    /// Tells the service manager that clients and writers are served.
    pub fn announce(&mut self) {
        self.manager.ready(&short_status(&self.store));
    }

    /// Ends: nobody finds the FIFOs and sockets any more, what is still in the
    /// FIFOs counts, and all is saved.
    pub fn finish(&mut self, result: &Result<(), Fatal>) {
        self.manager.stopping("ending");
        self.files.remove();
        let (_, now) = self.clocks.read();
        for index in 0..self.fifos.len() {
            // What is left in one that is held is for the next daemon.
            let mut reads = if self.fifos[index].is_held() {
                0
            } else {
                LAST_READS
            };
            while reads > 0 && self.read_fifo(index, now) > 0 {
                reads -= 1;
            }
        }
        if let Some(state) = &mut self.state {
            state.finish(&self.store, now, &self.fifos, &mut self.log);
        }
        if let Err(fatal) = result {
            self.log.error(&fatal.to_string());
        }
        self.log_status("shutting down");
    }

    /// Everything that is waited for: signals, carbon, FIFOs, clients, and the listeners
    /// that do not rest.
    fn fill_poll_set(&self, poll: &mut PollSet) -> Slots {
        poll.clear();
        poll.push(self.signals.as_fd(), Interest::READ);
        let carbon = self.carbon.waits_for();
        let carbon = carbon.map(|(fd, interest)| poll.push(fd, interest));
        let state = self.state.as_ref().and_then(State::waits_for);
        let state = state.map(|fd| poll.push(fd, Interest::READ));
        let fifos = 1 + usize::from(carbon.is_some()) + usize::from(state.is_some());
        for input in &self.fifos {
            poll.push(input.fifo.as_fd(), Interest::READ);
        }
        self.clients.fill_poll_set(poll);
        for listener in &self.listeners {
            if listener.rests_until.is_none() {
                poll.push(listener.as_fd(), Interest::READ);
            }
        }
        Slots {
            carbon,
            state,
            fifos,
            clients: fifos + self.fifos.len(),
        }
    }

    /// How long nothing has to be done by itself.
    fn timeout(&self) -> Option<Duration> {
        let clients = self.clients.timeout();
        if self.carbon.can_go_on() || clients == Some(Duration::ZERO) {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let silence = self.store.next_silence_secs();
        let due_secs = silence.into_iter().chain(self.waiting.wakes_at_secs());
        let silence = due_secs
            .min()
            .map(|due_secs| self.clocks.instant(due_secs).saturating_duration_since(now));
        let wakes = self
            .listeners
            .iter()
            .filter_map(|listener| listener.rests_until)
            .chain(self.carbon.wakes_at())
            .chain(self.manager.wakes_at())
            .chain(self.files.wakes_at())
            .chain(self.state.as_ref().and_then(State::wakes_at))
            .map(|until| until.saturating_duration_since(now));
        wakes.chain(silence).chain(clients).min()
    }

    /// Does what signals ask for. False when that is to end.
    fn handle_signals(&mut self, instant: Instant) -> bool {
        let pending = self.signals.take();
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
        !(pending.term || pending.int)
    }

    /// Logs numbers about the daemon itself.
    fn log_status(&mut self, title: &str) {
        let usage = self.store.usage();
        let by_level = |[commands, sessions, users, domains, ips]: [u64; 5]| {
            format!(
                "{commands} commands, {sessions} sessions, {users} users, {domains} domains, {ips} ips"
            )
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

    /// Reads a FIFO once, applies the records, and tells how many bytes there
    /// were.
    fn read_fifo(&mut self, index: usize, now: Now) -> usize {
        let Daemon {
            fifos,
            store,
            log,
            faults,
            ..
        } = self;
        let name = Rc::clone(fifos[index].name());
        let mut records = Records::new(&name, store, (log, faults), now);
        let result = fifos[index].read(&mut records, now.wall.secs);
        result.unwrap_or_else(|error| {
            let report = || format!("{name}: {}", reason(&error));
            faults.report(log, Fault::ReadFailed, now.uptime_secs, report);
            0
        })
    }

    /// What serving peers takes, beside those who are served.
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
                        self.listeners[index].rests_until = Some(instant + REST);
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
