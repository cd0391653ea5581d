//! What peers do wrong or unexpectedly: counted by kind, logged at a limited
//! rate.
//!
//! Each kind may log so many lines in a while ([`SOME`], [`EACH`], [`ONCE`]); further ones are
//! counted, and the next line of the kind tells how many it stands for. So a
//! flood of one kind costs a few lines and hides no other.

use super::log::{Log, Severity};
use crate::stats::StatsError;
use crate::store::Note;
use crate::wire::{Refusal, RequestError};

/// How many lines of one kind may be logged in how many seconds.
struct Rate {
    /// Lines.
    lines: u32,
    /// Seconds.
    window_secs: u32,
}

/// For what differs from case to case.
const SOME: Rate = Rate {
    lines: 5,
    window_secs: 60,
};

/// For what has to be told of each, within reason.
const EACH: Rate = Rate {
    lines: 1000,
    window_secs: 60,
};

/// For a state of affairs, which one line tells.
const ONCE: Rate = Rate {
    lines: 1,
    window_secs: 3600,
};

macro_rules! faults {
    ($($name:ident $severity:ident $rate:ident $text:literal;)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $(#[doc = $text] $name,)*
        }

        /// How grave each kind is, how often it is logged, and what is said of it.
        const KINDS: &[(Severity, Rate, &str)] = &[$((Severity::$severity, $rate, $text),)*];

        /// What each kind is called here.
        const NAMES: [&str; KINDS.len()] = [$(stringify!($name),)*];
    };
}

faults! {
    LineTooLong Warning SOME "line of more than 8192 bytes dropped";
    UnknownKind Warning SOME "line dropped: not a kind of record";
    MissingField Warning SOME "record refused: a field is missing";
    BadPid Warning SOME "record refused: the pid is not a number from 0 to 2147483647";
    BadCommandId Warning SOME "record refused: the command-id is not a number from 1 to 4294967295";
    BadFlags Warning SOME "record refused: flags other than c and d";
    BadBase64 Warning SOME "record refused: the stats field is not base64";
    BadStats Warning SOME "record refused: the stats field is not whole items named mail or auth";
    ForeignStats Warning SOME "record refused: the stats field was not made for this machine";
    InsaneStats Warning SOME "record refused: a statistic is negative or larger than 2^53";
    DuplicateSession Warning SOME "CONNECT refused: the session is connected already";
    DuplicateCommand Warning SOME "UPDATE-CMD refused: a command of that id is not over";
    TooLong Warning SOME "record refused: a text is longer than 8192 bytes";
    Disconnected Warning SOME "record ignored: its session is disconnected";
    UnknownSession Warning SOME "DISCONNECT ignored: its session is not known";
    Untracked Warning ONCE "session not tracked for want of memory: its commands count, what it uses does not";
    UnknownCommand Info SOME "UPDATE-CMD goes on with a command that is not known";
    Shrank Info SOME "totals shrank and are the base of what follows";
    Placeholder Info SOME "UPDATE of a session that was not announced, as after a restart: placeholder made";
    NoRoom Warning ONCE "nothing can be freed under stats_memory_limit: not listed, only counted at the levels above";
    SilentSession Info EACH "session sent nothing for 15 minutes: disconnected";
    UnknownCommandWord Warning SOME "connection closed: not a request";
    BadLevel Warning SOME "connection closed: EXPORT of no known level";
    BadNetwork Warning SOME "connection closed: ip= is not an address or network";
    BadTime Warning SOME "connection closed: since= is not a number of seconds";
    RequestTooLong Warning SOME "connection closed: request of more than 4096 bytes";
    ResetRefused Warning SOME "connection closed: RESET is not allowed on this listener";
    HttpRefused Warning SOME "connection closed: HTTP request refused";
    NotAllowed Warning SOME "connection closed: the client may not come from there";
    ClientLimit Warning ONCE "connection closed: client_limit reached";
    StuckClient Warning SOME "connection closed: no progress for 60 seconds";
    OutOfMemory Error SOME "the system gave no more memory";
    ReadFailed Error SOME "FIFO not read";
    PollFailed Error SOME "nothing could be waited for; trying again";
    AcceptFailed Warning SOME "connection not accepted";
    CarbonFailed Warning SOME "no whole report to carbon";
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
    /// Of a request that closes its connection; none for an empty line, by
    /// which some clients say that they are done.
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

/// How often a kind occurred and what was said of it.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// How often in all.
    count: u64,
    /// When it last did.
    last_secs: u32,
    /// How often since the last line.
    unsaid: u64,
    /// When the window began.
    window_secs: u32,
    /// Lines in it.
    lines: u32,
}

/// A kind that occurred.
pub(super) struct Occurred {
    /// The kind as a word with `_`.
    pub name: String,
    /// What it means.
    pub about: &'static str,
    /// How often it occurred.
    pub count: u64,
    /// When it last did, as [`Now::uptime_secs`](crate::store::Now::uptime_secs).
    pub last_secs: u32,
}

/// The tallies of all kinds.
#[derive(Debug)]
pub(super) struct Faults {
    /// In the order of [`KINDS`].
    tallies: [Tally; KINDS.len()],
}

impl Faults {
    /// Nothing happened yet.
    pub(super) fn new() -> Faults {
        Faults {
            tallies: [Tally::default(); KINDS.len()],
        }
    }

    /// Counts a fault, and logs it with what `detail` says if that is not too
    /// much by now. What peers sent must be [`visible`](super::log::visible).
    pub(super) fn report(
        &mut self,
        log: &mut Log,
        fault: Fault,
        uptime_secs: u32,
        detail: impl FnOnce() -> String,
    ) {
        if self.count(fault, uptime_secs) {
            self.tell(log, fault, &detail());
        }
    }

    /// Counts a fault; whether it is to be logged.
    #[inline(never)]
    fn count(&mut self, fault: Fault, uptime_secs: u32) -> bool {
        let (_, rate, _) = &KINDS[fault as usize];
        let tally = &mut self.tallies[fault as usize];
        tally.count += 1;
        tally.last_secs = uptime_secs;
        if uptime_secs.wrapping_sub(tally.window_secs) >= rate.window_secs {
            (tally.window_secs, tally.lines) = (uptime_secs, 0);
        }
        let is_told = tally.lines < rate.lines;
        tally.lines += u32::from(is_told);
        tally.unsaid += u64::from(!is_told);
        is_told
    }

    /// Logs a fault, and how many before it were not.
    fn tell(&mut self, log: &mut Log, fault: Fault, detail: &str) {
        let (severity, _, text) = &KINDS[fault as usize];
        let more = match std::mem::take(&mut self.tallies[fault as usize].unsaid) {
            0 => String::new(),
            count => format!(" ({count} more since the last such line)"),
        };
        log.write(*severity, &format!("{text}: {detail}{more}"));
    }

    /// All kinds as a word with `_`, and how often each occurred.
    pub(super) fn counts(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let counts = self.tallies.iter().map(|tally| tally.count);
        NAMES.iter().map(|name| snake_case(name)).zip(counts)
    }

    /// The kinds that occurred.
    pub(super) fn occurred(&self) -> impl Iterator<Item = Occurred> + '_ {
        let kinds = NAMES.iter().zip(KINDS).zip(&self.tallies);
        let kinds = kinds.filter(|(_, tally)| tally.count > 0);
        kinds.map(|((name, (_, _, about)), tally)| Occurred {
            name: snake_case(name),
            about,
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

/// `TwoWords` as `two_words`.
fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
