//! Sessions ended by `doveadm kick`, after a question that shows the command.
//!
//! Owns: which command ends the sessions of a row, and the thread that waits for it.
//! Names are not to be trusted: one that doveadm would take for more than itself, or
//! something else (a pattern, an address, an option), is refused.
//!
//! Must not: run anything that was not shown and agreed to, or a shell; wait.

use super::data::model::Entry;
use crate::cli::width::visible;
use crate::store::Level;
use crate::sys::reason;
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

const PROGRAM: &str = "doveadm";

/// A command that was shown, or is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kick {
    args: Vec<OsString>,
    pub what: String,
}

impl Kick {
    /// The command for a row of a level.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn of(level: Level, entry: &Entry, is_local: bool) -> Result<Kick, String> {
        let (user, ip) = match level {
            Level::User => (entry.text(0), &b""[..]),
            Level::Session => (entry.text(1), entry.text(3)),
            Level::Ip => (&b""[..], entry.text(0)),
            _ => return Err("K is for a user, a session or an address".to_owned()),
        };
        if !is_local {
            return Err("doveadm kick reaches its own machine only, not this server".to_owned());
        }
        if level != Level::Ip {
            judge_user(user)?;
        }
        let ip = String::from_utf8_lossy(ip).into_owned();
        let needs_ip = level == Level::Ip || !ip.is_empty();
        if needs_ip && ip.parse::<IpAddr>().is_err() {
            return Err("this is not an address".to_owned());
        }
        let user = OsString::from_vec(user.to_vec());
        let shown = visible(user.as_bytes(), true);
        let what = match (user.is_empty(), ip.is_empty()) {
            (false, true) => format!("all sessions of {shown}"),
            (false, false) => format!("all sessions of {shown} from {ip}"),
            _ => format!("all sessions from {ip}"),
        };
        let all = [OsString::from("kick"), user, ip.into()];
        Ok(Kick {
            args: all.into_iter().filter(|arg| !arg.is_empty()).collect(),
            what,
        })
    }

    /// The command as it could be typed, made visible.
    pub(super) fn shown(&self) -> String {
        let mut text = PROGRAM.to_owned();
        for arg in &self.args {
            let word = visible(arg.as_bytes(), true);
            let plain = |c: char| c.is_alphanumeric() || "@.-_+:/=".contains(c);
            text += &match word.chars().all(plain) {
                true => format!(" {word}"),
                false => format!(" '{}'", word.replace('\'', "'\\''")),
            };
        }
        text
    }

    fn run(&self) -> Vec<String> {
        let mut command = Command::new(PROGRAM);
        command.args(&self.args).stdin(Stdio::null());
        let mut lines = vec![self.shown(), String::new()];
        match command.output() {
            Ok(output) => {
                for text in [output.stdout, output.stderr] {
                    let pieces = text.split(|&byte| byte == b'\n');
                    let pieces = pieces.filter(|line| !line.is_empty());
                    lines.extend(pieces.map(|line| visible(line, true)));
                }
                lines.push(match output.status.code() {
                    Some(0) => "done".to_owned(),
                    _ => output.status.to_string(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                lines.push("there is no program doveadm in PATH".to_owned());
            }
            Err(error) => lines.push(reason(&error)),
        }
        lines
    }
}

/// Refuses a name that doveadm would not take for just this user, with the reason.
fn judge_user(user: &[u8]) -> Result<(), String> {
    let why = match user {
        [] => "nothing: this session has no user",
        _ if user.iter().any(|byte| b"*?".contains(byte)) => "a pattern",
        [b'-', ..] => "an option",
        _ if is_address(user) => "an address",
        _ => return Ok(()),
    };
    Err(format!("doveadm would take this name for {why}"))
}

/// Whether doveadm takes a name for an address or a network: its IPv4 addresses are
/// those of inet_aton(3), up to four numbers of C, and its IPv6 ones may have brackets.
fn is_address(name: &[u8]) -> bool {
    let text = String::from_utf8_lossy(name);
    let address = text.split('/').next().unwrap_or_default();
    let is_number = |part: &str| {
        let hex = part.strip_prefix("0x").or(part.strip_prefix("0X"));
        let digits = hex.unwrap_or(part);
        let radix = if hex.is_some() { 16 } else { 10 };
        !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix))
    };
    let parts = address.split('.');
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok() || parts.clone().count() <= 4 && parts.clone().all(is_number)
}

#[derive(Debug)]
pub(super) struct Job(Arc<Mutex<Option<Vec<String>>>>);

impl Job {
    /// Starts it; `waker` is written to when it has ended.
    pub(super) fn start(kick: Kick, waker: io::Result<UnixStream>) -> io::Result<Job> {
        let result = Arc::new(Mutex::new(None));
        let job = Job(Arc::clone(&result));
        thread::Builder::new().spawn(move || {
            let lines = kick.run();
            if let Ok(mut result) = result.lock() {
                *result = Some(lines);
            }
            // The program may be ending.
            let _ = waker.and_then(|mut waker| waker.write(b"x"));
        })?;
        Ok(job)
    }

    /// What came of it, once it has ended.
    pub(super) fn result(&self) -> Option<Vec<String>> {
        self.0.lock().ok()?.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::data::model::Table;
    use std::time::Instant;

    fn kick(level: Level, line: &str) -> Result<String, String> {
        let header = match level {
            Level::Session => "session\tuser\tservice\tip\tpid",
            level => level.name(),
        };
        let mut table = Table::new(level, None);
        let names: Vec<String> = header.split('\t').map(str::to_owned).collect();
        table.begin(&names);
        table.row(&mut line.as_bytes().to_vec(), Instant::now());
        let entry = table.entries().next().unwrap();
        Kick::of(level, entry, true).map(|kick| kick.shown())
    }

    #[test]
    fn a_row_has_its_command_and_nothing_more_is_hit() {
        let doveadm = |text: &str| Ok(text.to_owned());
        for (level, line, expected) in [
            (
                Level::User,
                "joe@example.org",
                doveadm("doveadm kick joe@example.org"),
            ),
            (
                Level::User,
                "o'neil x",
                doveadm("doveadm kick 'o'\\''neil x'"),
            ),
            (
                Level::Ip,
                "2001:db8::1",
                doveadm("doveadm kick 2001:db8::1"),
            ),
            (
                Level::Session,
                "s1\tjoe\timap\t192.0.2.1\t7",
                doveadm("doveadm kick joe 192.0.2.1"),
            ),
            (
                Level::Session,
                "s1\tjoe\timap\t\t7",
                doveadm("doveadm kick joe"),
            ),
            (Level::User, "1.2.3.4.5", doveadm("doveadm kick 1.2.3.4.5")),
            (Level::User, "7a", doveadm("doveadm kick 7a")),
        ] {
            assert_eq!(kick(level, line), expected);
        }
        for (level, line, why) in [
            (Level::User, "*", "a pattern"),
            (Level::User, "jo?", "a pattern"),
            (Level::User, "-a", "an option"),
            (Level::User, "10.0.0.0/8", "an address"),
            (Level::User, "12345", "an address"),
            (Level::User, "127.0x1", "an address"),
            (Level::User, "[::1]", "an address"),
            (Level::Ip, "", "not an address"),
            (Level::User, "", "no user"),
            (Level::Session, "s1\t\timap\t10.0.0.1\t7", "no user"),
            (Level::Domain, "example.org", "K is for"),
        ] {
            assert!(kick(level, line).unwrap_err().contains(why), "{line}");
        }
        let mut table = Table::new(Level::User, None);
        table.begin(&["user".to_owned()]);
        table.row(&mut b"joe".to_vec(), Instant::now());
        let entry = table.entries().next().unwrap();
        assert!(Kick::of(Level::User, entry, false)
            .unwrap_err()
            .contains("its own machine"));
    }
}
