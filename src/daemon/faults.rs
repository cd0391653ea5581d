//! What peers do wrong or unexpectedly: counted by kind, logged at a limited rate.
//!
//! Each kind has a rate of log lines ([`SOME`], [`EACH`], [`ONCE`]). Faults beyond it are
//! counted, and the next line of the kind contains their number. So a flood of one kind
//! costs a few lines and hides no other kind.

use super::log::{Log, Severity};
use crate::stats::StatsError;
use crate::store::Note;
use crate::wire::{Refusal, RequestError};

/// How many lines of one kind may be logged in how many seconds.
struct Rate {
    lines: u32,
    window_secs: u32,
}

/// For faults whose details differ.
const SOME: Rate = Rate {
    lines: 5,
    window_secs: 60,
};

/// For what is logged each time, within reason.
const EACH: Rate = Rate {
    lines: 1000,
    window_secs: 60,
};

/// For a lasting condition.
const ONCE: Rate = Rate {
    lines: 1,
    window_secs: 3600,
};

/// What is fixed about a kind of fault.
struct FaultKind {
    /// Its name in metrics and in the reply to STATUS. Others rely on it.
    name: &'static str,
    severity: Severity,
    rate: Rate,
    /// The beginning of its lines in the log.
    about: &'static str,
}

macro_rules! faults {
    ($($kind:ident $name:literal $severity:ident $rate:ident $about:literal;)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            $(#[doc = $about] $kind,)*
        }

        /// All kinds, in the order of [`Fault`].
        const KINDS: &[FaultKind] = &[$(FaultKind {
            name: $name,
            severity: Severity::$severity,
            rate: $rate,
            about: $about,
        },)*];
    };
}

faults! {
    LineTooLong "line_too_long" Warning SOME "line of more than 8192 bytes dropped";
    UnknownKind "unknown_kind" Warning SOME "line dropped: not a kind of record";
    MissingField "missing_field" Warning SOME "record refused: a field is missing";
    BadPid "bad_pid" Warning SOME "record refused: the pid is not a number from 0 to 2147483647";
    BadCommandId "bad_command_id" Warning SOME "record refused: the command-id is not a number from 1 to 4294967295";
    BadFlags "bad_flags" Warning SOME "record refused: flags other than c and d";
    BadBase64 "bad_base64" Warning SOME "record refused: the stats field is not base64";
    BadStats "bad_stats" Warning SOME "record refused: the stats field is not whole items named mail or auth";
    ForeignStats "foreign_stats" Warning SOME "record refused: the stats field was not made for this machine";
    InsaneStats "insane_stats" Warning SOME "record refused: a statistic is negative or larger than 2^53";
    DuplicateSession "duplicate_session" Warning SOME "CONNECT refused: the session is connected already";
    DuplicateCommand "duplicate_command" Warning SOME "UPDATE-CMD refused: a command of that id is not over";
    TooLong "too_long" Warning SOME "record refused: a text is longer than 8192 bytes";
    Disconnected "disconnected" Warning SOME "record ignored: its session is disconnected";
    UnknownSession "unknown_session" Warning SOME "DISCONNECT ignored: its session is not known";
    Untracked "untracked" Warning ONCE "session not tracked for want of memory: its commands count, what it uses does not";
    UnknownCommand "unknown_command" Info SOME "UPDATE-CMD goes on with a command that is not known";
    Shrank "shrank" Info SOME "totals shrank and are the base of what follows";
    Placeholder "placeholder" Info SOME "UPDATE of a session that was not announced, as after a restart: placeholder made";
    NoRoom "no_room" Warning ONCE "nothing can be freed under stats_memory_limit: not listed, only counted at the levels above";
    SilentSession "silent_session" Info EACH "session sent nothing for 15 minutes: disconnected";
    UnknownCommandWord "unknown_command_word" Warning SOME "connection closed: not a request";
    BadLevel "bad_level" Warning SOME "connection closed: EXPORT of no known level";
    BadNetwork "bad_network" Warning SOME "connection closed: ip= is not an address or network";
    BadTime "bad_time" Warning SOME "connection closed: since= is not a number of seconds";
    RequestTooLong "request_too_long" Warning SOME "connection closed: request of more than 4096 bytes";
    ResetRefused "reset_refused" Warning SOME "connection closed: RESET is not allowed on this listener";
    HttpRefused "http_refused" Warning SOME "connection closed: HTTP request refused";
    NotAllowed "not_allowed" Warning SOME "connection closed: the client may not come from there";
    ClientLimit "client_limit" Warning ONCE "connection closed: client_limit reached";
    StuckClient "stuck_client" Warning SOME "connection closed: no progress for 60 seconds";
    OutOfMemory "out_of_memory" Error SOME "the system gave no more memory";
    ReadFailed "read_failed" Error SOME "FIFO not read";
    PollFailed "poll_failed" Error SOME "nothing could be waited for; trying again";
    AcceptFailed "accept_failed" Warning SOME "connection not accepted";
    CarbonFailed "carbon_failed" Warning SOME "no whole report to carbon";
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        match refusal {
            Refusal::UnknownKind => Fault::UnknownKind,
            Refusal::MissingField => Fault::MissingField,
            Refusal::BadPid => Fault::BadPid,
            Refusal::BadCommandId => Fault::BadCommandId,
            Refusal::BadFlags => Fault::BadFlags,
            Refusal::BadBase64 => Fault::BadBase64,
            Refusal::BadStats(StatsError::Foreign(_)) => Fault::ForeignStats,
            Refusal::BadStats(StatsError::Insane(_)) => Fault::InsaneStats,
            Refusal::BadStats(StatsError::Truncated | StatsError::UnknownItem) => Fault::BadStats,
        }
    }
}

impl From<Note> for Fault {
    fn from(note: Note) -> Fault {
        match note {
            Note::DuplicateSession => Fault::DuplicateSession,
            Note::TooLong => Fault::TooLong,
            Note::DuplicateCommand => Fault::DuplicateCommand,
            Note::Disconnected => Fault::Disconnected,
            Note::UnknownSession => Fault::UnknownSession,
            Note::Untracked => Fault::Untracked,
            Note::UnknownCommand => Fault::UnknownCommand,
            Note::Shrank => Fault::Shrank,
            Note::Placeholder => Fault::Placeholder,
            Note::NoRoom => Fault::NoRoom,
        }
    }
}

impl Fault {
    /// Of a request that closes its connection; `None` for an empty line, by which some
    /// clients end.
    pub(super) fn of_request(error: RequestError) -> Option<Fault> {
        match error {
            RequestError::Empty => None,
            RequestError::UnknownCommand => Some(Fault::UnknownCommandWord),
            RequestError::BadLevel => Some(Fault::BadLevel),
            RequestError::BadNetwork => Some(Fault::BadNetwork),
            RequestError::BadTime => Some(Fault::BadTime),
        }
    }
}

/// How often a kind occurred and was logged. Times are
/// [`Now::uptime_secs`](crate::store::Now::uptime_secs).
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    count: u64,
    last_secs: u32,
    /// Faults since the last line that was logged.
    unlogged: u64,
    /// The beginning of the window of [`Rate`].
    window_secs: u32,
    /// Lines logged in that window.
    lines: u32,
}

/// A kind that occurred.
pub(super) struct Occurred {
    pub name: &'static str,
    pub about: &'static str,
    pub count: u64,
    /// When it last occurred, as [`Now::uptime_secs`](crate::store::Now::uptime_secs).
    pub last_secs: u32,
}

/// The tallies of all kinds.
#[derive(Debug)]
pub(super) struct Faults {
    /// In the order of [`KINDS`].
    tallies: [Tally; KINDS.len()],
}

impl Faults {
    pub(super) fn new() -> Faults {
        Faults {
            tallies: [Tally::default(); KINDS.len()],
        }
    }

    /// Counts a fault, and logs it with `detail` unless its rate is exceeded. Bytes of
    /// peers must be [`visible`](super::log::visible).
    pub(super) fn report(
        &mut self,
        log: &mut Log,
        fault: Fault,
        uptime_secs: u32,
        detail: impl FnOnce() -> String,
    ) {
        if self.count(fault, uptime_secs) {
            self.log(log, fault, &detail());
        }
    }

    /// Counts a fault. Returns whether it is to be logged.
    #[inline(never)]
    fn count(&mut self, fault: Fault, uptime_secs: u32) -> bool {
        let rate = &KINDS[fault as usize].rate;
        let tally = &mut self.tallies[fault as usize];
        tally.count += 1;
        tally.last_secs = uptime_secs;
        if uptime_secs.wrapping_sub(tally.window_secs) >= rate.window_secs {
            (tally.window_secs, tally.lines) = (uptime_secs, 0);
        }
        let is_logged = tally.lines < rate.lines;
        tally.lines += u32::from(is_logged);
        tally.unlogged += u64::from(!is_logged);
        is_logged
    }

    /// Logs a fault, and how many were not logged before it.
    fn log(&mut self, log: &mut Log, fault: Fault, detail: &str) {
        let FaultKind {
            severity, about, ..
        } = &KINDS[fault as usize];
        let more = match std::mem::take(&mut self.tallies[fault as usize].unlogged) {
            0 => String::new(),
            count => format!(" ({count} more since the last such line)"),
        };
        log.write(*severity, &format!("{about}: {detail}{more}"));
    }

    /// The names of all kinds, and how often each occurred.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let kinds = KINDS.iter().zip(&self.tallies);
        kinds.map(|(kind, tally)| (kind.name, tally.count))
    }

    /// The kinds that occurred.
    pub(crate) fn occurred(&self) -> impl Iterator<Item = Occurred> + '_ {
        let kinds = KINDS.iter().zip(&self.tallies);
        let kinds = kinds.filter(|(_, tally)| tally.count > 0);
        kinds.map(|(kind, tally)| Occurred {
            name: kind.name,
            about: kind.about,
            count: tally.count,
            last_secs: tally.last_secs,
        })
    }

    /// The kinds that occurred, and how often.
    pub(super) fn summary(&self) -> String {
        let occurred = self
            .occurred()
            .map(|kind| format!("{} times {}", kind.count, kind.about));
        let occurred: Vec<String> = occurred.collect();
        match occurred.is_empty() {
            true => "none".to_owned(),
            false => occurred.join("; "),
        }
    }
}
