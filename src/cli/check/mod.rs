//! Why records do not arrive: looks at everything between a mail process and the daemon,
//! in the order in which a record passes it; each finding comes with what to do.
//!
//! | module | what it is |
//! |---|---|
//! | `daemon` | the daemon, by its reply to STATUS |
//! | `fifo` | its FIFOs, and which users can open them |
//! | `writers` | the users of mail processes |
//! | `dovecot` | Dovecot's configuration, by doveconf(1) |
//! | `bridge` | how Dovecot 2.4 reports to `dovestat bridge` |
//! | `denials` | what AppArmor and SELinux refused, by the system's logs |
//!
//! Must not: change anything. A FIFO is opened for a moment, and nothing written.

mod bridge;
mod daemon;
mod denials;
mod dovecot;
mod fifo;
mod writers;

use super::server::usual;
use super::server::Address;
use crate::config::table;
use crate::config::Fatal;
use daemon::Daemon;
use dovecot::Dovecot;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `check` was asked for.
#[derive(Clone, Debug)]
pub(super) struct CheckOptions {
    /// The daemon's socket; `None`: the default.
    pub server: Option<Address>,
    /// Dovecot's configuration; `None`: doveconf's default.
    pub dovecot: Option<PathBuf>,
}

/// Looks at everything and prints what it finds.
///
/// # Errors
/// Writing to standard output failed.
pub(super) fn run(options: &CheckOptions) -> Result<ExitCode, Fatal> {
    let mut findings = Findings::default();
    let mut of_dovecot = Findings::default();
    let dovecot = dovecot::read(options.dovecot.as_deref(), &mut of_dovecot);
    let service = dovecot.as_ref().and_then(Dovecot::service_socket);
    let server = options.server.clone().or(service.map(Address::Unix));
    let daemon = daemon::look(server.as_ref(), &mut findings);
    let mut fifos: Vec<PathBuf> = match &daemon {
        Some(daemon) => daemon.fifos.iter().map(|fifo| fifo.path.clone()).collect(),
        None => default_fifos(),
    };
    findings.0.append(&mut of_dovecot.0);
    for path in &fifos {
        fifo::look(path, daemon.is_some(), &mut findings);
    }
    match dovecot.as_ref().filter(|dovecot| !dovecot.has_statistics()) {
        // Its processes write to the bridge's socket.
        Some(dovecot) => fifos.extend(bridge::look(dovecot, &mut findings)),
        None => {
            writers::look(&fifos, dovecot.as_ref(), &mut findings);
            if let Some(dovecot) = &dovecot {
                dovecot::look(dovecot, &fifos, &mut findings);
            }
        }
    }
    let last_record_secs = daemon.as_ref().map_or(0, Daemon::last_record_secs);
    denials::look(&fifos, last_record_secs, &mut findings);
    findings.print()
}

/// The default FIFOs, for when no daemon answers.
fn default_fifos() -> Vec<PathBuf> {
    let mut fifos = table::FIFO_NAMES.map(usual::file).to_vec();
    fifos.retain(|fifo| usual::believe(fifo).is_ok());
    fifos
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Note,
    /// A reason why something does not arrive.
    Wrong,
    /// It could not be looked at.
    Unknown,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<(Verdict, String, Option<String>)>);

impl Findings {
    /// Something is as it should be.
    fn good(&mut self, text: impl Into<String>) {
        self.0.push((Verdict::Good, text.into(), None));
    }

    fn note(&mut self, text: impl Into<String>) {
        self.0.push((Verdict::Note, text.into(), None));
    }

    /// Something could not be looked at.
    fn unknown(&mut self, text: impl Into<String>) {
        self.0.push((Verdict::Unknown, text.into(), None));
    }

    /// Something is a reason why records do not arrive; `todo` mends it.
    fn wrong(&mut self, text: impl Into<String>, todo: impl Into<String>) {
        self.0
            .push((Verdict::Wrong, text.into(), Some(todo.into())));
    }

    /// One line for each finding, and one for its remedy.
    fn text(&self) -> String {
        let mut out = String::new();
        for (verdict, text, todo) in &self.0 {
            let label = match verdict {
                Verdict::Good => "ok",
                Verdict::Note => "note",
                Verdict::Wrong => "WRONG",
                Verdict::Unknown => "unknown",
            };
            out += &format!("{:<8} {}\n", format!("{label}:"), harmless(text));
            if let Some(todo) = todo {
                out += &format!("{:<8} -> {}\n", "", harmless(todo));
            }
        }
        let count = |wanted| self.0.iter().filter(|found| found.0 == wanted).count();
        out += &match (count(Verdict::Wrong), count(Verdict::Unknown)) {
            (0, 0) => "\nnothing is wrong\n".to_owned(),
            (0, unknown) => {
                format!("\nnothing is wrong in what could be seen; unknown: {unknown}\n")
            }
            (wrong, _) => format!("\nwrong: {wrong}\n"),
        };
        out
    }

    /// Prints the findings; the exit code is 1 if something is wrong.
    fn print(&self) -> Result<ExitCode, Fatal> {
        let text = self.text();
        io::stdout()
            .write_all(text.as_bytes())
            .map_err(Fatal::output)?;
        let is_wrong = self.0.iter().any(|found| found.0 == Verdict::Wrong);
        Ok(ExitCode::from(u8::from(is_wrong)))
    }
}

/// Replaces control characters: names of files and lines of logs are foreign.
fn harmless(text: &str) -> String {
    let visible = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(visible).collect()
}

/// What identifies the file that a path leads to.
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Which of the FIFOs a path leads to.
fn leads_to<'a>(path: &Path, fifos: &'a [PathBuf]) -> Option<&'a Path> {
    let there = identity(path)?;
    let is_it = |fifo: &&PathBuf| identity(fifo) == Some(there);
    fifos.iter().find(is_it).map(PathBuf::as_path)
}

/// The FIFO for mail processes, and that for auth.
fn mail_and_user(fifos: &[PathBuf]) -> [Option<&Path>; 2] {
    ["stats-mail", "stats-user"].map(|wanted| {
        let is_it = |fifo: &&PathBuf| {
            let name = fifo.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name == wanted || name.strip_prefix("old-") == Some(wanted))
        };
        fifos.iter().find(is_it).map(PathBuf::as_path)
    })
}
