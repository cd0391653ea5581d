//! The daemon: whether it runs, since when, and what came from its FIFOs and
//! what was refused, by its reply to STATUS.

use super::Findings;
use crate::cli::server::usual;
use crate::cli::server::{Address, Event, ReplyParser, CONNECT_TIMEOUT};
use crate::sys::local_time::LocalTime;
use crate::sys::reason;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

/// The most of an answer that is read: each row counts for its bytes and a KiB.
const MAX_BYTES: usize = 1 << 20;

/// The daemon, as it answered STATUS.
#[derive(Debug, Default)]
pub(super) struct Daemon {
    version: String,
    pid: String,
    /// When it started, in seconds since 1970.
    start_secs: u64,
    pub fifos: Vec<Fifo>,
    /// What peers did wrong: what it means, how often, when last.
    faults: Vec<(String, String, u64, u64)>,
}

#[derive(Debug)]
pub(super) struct Fifo {
    pub path: PathBuf,
    /// Lines that came from it.
    lines: u64,
    /// When the last did, in seconds since 1970; 0: never.
    last_secs: u64,
}

/// Why there is no answer.
enum Silence {
    Unreachable(io::Error),
    /// Another service closed the connection or replied something else: what it is.
    Foreign(&'static str),
}

const OTHER: Silence = Silence::Foreign("perhaps Dovecot's own service");

/// Asks the daemon and notes its reply; `None` if none answers.
pub(super) fn look(server: Option<&Address>, findings: &mut Findings) -> Option<Daemon> {
    let default = || Address::Usual(usual::file("stats"));
    let address = server.cloned().unwrap_or_else(default);
    match ask(&address) {
        Ok(daemon) => {
            daemon.note(&address, findings);
            Some(daemon)
        }
        Err(Silence::Foreign(what)) => {
            findings.wrong(
                format!("what answers at {address} is not dovestatd: {what}"),
                "name dovestatd's socket by -s, or start dovestatd",
            );
            None
        }
        Err(Silence::Unreachable(error)) => {
            let why = reason(&error);
            let todo = match error.kind() {
                io::ErrorKind::Other => "remove that directory, or name the daemon's socket by -s",
                io::ErrorKind::PermissionDenied => "run this as root, or as the socket's owner",
                _ => {
                    "start it: \"systemctl start dovestatd\", or \"dovestatd -F\" to see what it \
                     logs; if it runs elsewhere, name its socket by -s"
                }
            };
            findings.wrong(format!("no dovestatd answers at {address}: {why}"), todo);
            None
        }
    }
}

fn ask(address: &Address) -> Result<Daemon, Silence> {
    let mut connection = address
        .connect(CONNECT_TIMEOUT)
        .map_err(Silence::Unreachable)?;
    let foreign = |_| OTHER;
    connection.ask(b"STATUS\n").map_err(foreign)?;
    let mut parser = ReplyParser::default();
    let mut daemon = Daemon::default();
    let mut left_bytes = MAX_BYTES;
    loop {
        match parser.next().map_err(foreign)? {
            Some(Event::Header(names)) if names.starts_with(&["kind".into(), "name".into()]) => {}
            Some(Event::Header(_) | Event::Nothing) => return Err(OTHER),
            Some(Event::Row(row)) => {
                let row_bytes = 1024 + row.fields().map(<[u8]>::len).sum::<usize>();
                left_bytes = left_bytes
                    .checked_sub(row_bytes)
                    .ok_or(Silence::Foreign("its status is longer than 1 MiB"))?;
                let text = |at: usize| String::from_utf8_lossy(row.get(at)).into_owned();
                daemon.take([0, 1, 2, 3, 4].map(text));
            }
            Some(Event::End) => return Ok(daemon),
            None => {
                if connection.fill(&mut parser).map_err(foreign)? == 0 {
                    return Err(OTHER);
                }
            }
        }
    }
}

impl Daemon {
    /// Takes a row of the answer. Kinds and names that are not known are a newer
    /// daemon's.
    fn take(&mut self, [kind, name, value, last, about]: [String; 5]) {
        let number = value.parse().unwrap_or_default();
        let last_secs = last.parse().unwrap_or_default();
        match (&*kind, &*name) {
            ("daemon", "version") => self.version = value,
            ("daemon", "pid") => self.pid = value,
            ("daemon", "start_time") => self.start_secs = number,
            ("fifo", _) => self.fifos.push(Fifo {
                path: name.into(),
                lines: number,
                last_secs,
            }),
            ("fault", _) => self.faults.push((name, about, number, last_secs)),
            _ => {}
        }
    }

    /// When the last record came, in seconds since 1970; 0: never.
    pub(super) fn last_record_secs(&self) -> u64 {
        let times = self.fifos.iter().map(|fifo| fifo.last_secs);
        times.max().unwrap_or(0)
    }

    fn note(&self, address: &Address, findings: &mut Findings) {
        let Daemon { version, pid, .. } = self;
        let since = time(self.start_secs);
        findings.good(format!(
            "dovestatd {version} serves at {address} since {since} (process {pid})"
        ));
        let sum = |sum: u64, count: u64| sum.saturating_add(count);
        let lines = self.fifos.iter().map(|fifo| fifo.lines).fold(0, sum);
        for fifo in self.fifos.iter().filter(|fifo| fifo.lines > 0) {
            let (path, last) = (fifo.path.display(), time(fifo.last_secs));
            findings.good(format!(
                "{} records from {path}, the last at {last}",
                fifo.lines
            ));
        }
        for fifo in self
            .fifos
            .iter()
            .filter(|fifo| fifo.lines == 0 && lines > 0)
        {
            let path = fifo.path.display();
            findings.note(format!("no record from {path} since the daemon started"));
        }
        let refused: Vec<_> = self
            .faults
            .iter()
            .filter(|fault| is_of_records(&fault.0))
            .collect();
        for (_, about, count, last_secs) in &refused {
            let last = time(*last_secs);
            findings.note(format!("{about} ({count} so far, the last at {last})"));
        }
        let refused = refused.iter().map(|fault| fault.2).fold(0, sum);
        if lines == 0 {
            findings.wrong(
                "no record came since then",
                "see what is wrong below; if nothing is, log in to the mail server once and look \
                 again",
            );
        } else if refused >= lines {
            findings.wrong(
                format!("none of the {lines} records was taken"),
                "the daemon's log names the sessions and why; writer and daemon must be of one \
                 architecture",
            );
        }
    }
}

/// Whether a fault is a record that was not taken. The names are those of dovestatd's
/// metrics.
fn is_of_records(name: &str) -> bool {
    matches!(
        name,
        "line_too_long"
            | "unknown_kind"
            | "missing_field"
            | "bad_pid"
            | "bad_command_id"
            | "bad_flags"
            | "bad_base64"
            | "bad_stats"
            | "foreign_stats"
            | "insane_stats"
            | "duplicate_session"
            | "untracked"
    )
}

/// An instant in local time; 1970 for one that no clock shows.
fn time(secs: u64) -> String {
    let instant = UNIX_EPOCH.checked_add(Duration::from_secs(secs));
    LocalTime::at(instant.unwrap_or(UNIX_EPOCH)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_a_server_is_too_large() {
        let largest = u64::MAX.to_string();
        let mut daemon = Daemon::default();
        for (kind, name) in [
            ("daemon", "start_time"),
            ("fifo", "/a"),
            ("fifo", "/b"),
            ("fault", "bad_pid"),
            ("fault", "bad_stats"),
        ] {
            let row = [kind, name, &largest, &largest, "about"];
            daemon.take(row.map(str::to_owned));
        }
        let mut findings = Findings::default();
        daemon.note(&Address::parse("/run/x"), &mut findings);
        let text = findings.text();
        assert!(text.contains("since 1970-01-01 "), "{text}");
        assert!(
            text.contains(&format!("none of the {largest} records")),
            "{text}"
        );
    }
}
