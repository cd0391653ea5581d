//! Asking anvil, now and then and soon after logins.
//!
//! Owns: the connection of the question that is being answered, and when the next one
//! is asked.
//!
//! Invariants: one question at a time; it never waits. Questions take at most a thirtieth
//! of anvil's time: each connection that it lists costs it 0.7 us.
//!
//! Must not: know what rows mean to sessions.

use super::anvil::{Line, Reply, Row, REQUEST};
use super::Now;
use crate::sys::fs::socket::connect_unix;
use crate::sys::reason;
use crate::wire::{LineBuffer, LineReader};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// How long after a login anvil knows of it.
const LOGIN_MS: u64 = 30;

/// How often anvil is asked when nothing logs in.
const USUAL_MS: u64 = 5000;

/// The wait after the first of several failures; doubled after each.
const FAILED_MS: u64 = 50;

/// How long anvil may fail, as while Dovecot is restarted, before that is a failure.
const ABSENCE_MS: u64 = 1500;

/// How long a reply may take.
const REPLY_MS: u64 = 5000;

/// How many connections in a reply put the next question off by a millisecond.
const ROWS_A_MS: u64 = 48;

/// 50 connections: each that is new costs a look at its process, while events wait.
const READ_BYTES: usize = 4096;

pub(super) struct Asker {
    path: PathBuf,
    asked: Option<Asked>,
    /// How many replies were begun.
    pub(super) number: u64,
    next_ms: u64,
    /// Not before, whatever happens.
    earliest_ms: u64,
    /// The wait while logins have not found their connections; grows.
    wait_ms: u64,
    /// Failures since the last reply, and when the first of them was.
    failures: u32,
    failing_since_ms: u64,
}

struct Asked {
    stream: UnixStream,
    lines: LineBuffer,
    reply: Reply,
    rows: u64,
    since_ms: u64,
}

/// How far a reply has come.
pub(super) enum Answer {
    /// There is more to come.
    Waiting,
    Complete,
    /// There is none, and why.
    Failed(String),
}

impl Asker {
    pub(super) fn new(path: PathBuf) -> Asker {
        Asker {
            path,
            asked: None,
            number: 0,
            next_ms: 0,
            earliest_ms: 0,
            wait_ms: LOGIN_MS,
            failures: 0,
            failing_since_ms: 0,
        }
    }

    /// A session logged in.
    pub(super) fn hurry(&mut self, now: Now) {
        self.wait_ms = LOGIN_MS;
        self.next_ms = self.next_ms.min(now.ms + LOGIN_MS).max(self.earliest_ms);
    }

    /// When it has something to do.
    pub(super) fn due_ms(&self) -> u64 {
        match &self.asked {
            Some(asked) => asked.since_ms + REPLY_MS,
            None => self.next_ms,
        }
    }

    pub(super) fn waiting(&self) -> Option<BorrowedFd<'_>> {
        self.asked.as_ref().map(|asked| asked.stream.as_fd())
    }

    /// Asks if it is time to; gives up a reply that takes too long.
    pub(super) fn ask(&mut self, now: Now) -> Answer {
        if now.ms < self.due_ms() {
            return Answer::Waiting;
        }
        if self.asked.is_some() {
            return self.fail("no answer", now);
        }
        let stream = connect_unix(&self.path).and_then(|stream| {
            (&stream).write_all(REQUEST)?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => {
                self.number += 1;
                self.asked = Some(Asked {
                    stream,
                    lines: LineBuffer::new(READ_BYTES),
                    reply: Reply::default(),
                    rows: 0,
                    since_ms: now.ms,
                });
                Answer::Waiting
            }
            Err(error) => self.fail(&reason(&error), now),
        }
    }

    /// Reads what has come of the reply.
    pub(super) fn read(&mut self, now: Now, mut each: impl FnMut(Row<'_>)) -> Answer {
        let Some(asked) = &mut self.asked else {
            return Answer::Waiting;
        };
        let mut rows = Rows {
            reply: &mut asked.reply,
            rows: &mut asked.rows,
            each: &mut each,
            end: None,
        };
        match (&asked.stream).read(asked.lines.room()) {
            Ok(0) => rows.end = Some(false),
            Ok(count) => {
                asked.lines.filled(count, &mut rows);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return self.fail(&reason(&error), now),
        }
        match rows.end {
            None => Answer::Waiting,
            Some(true) => {
                self.earliest_ms = now.ms + asked.rows / ROWS_A_MS;
                self.asked = None;
                self.failures = 0;
                self.next_ms = (now.ms + USUAL_MS).max(self.earliest_ms);
                Answer::Complete
            }
            Some(false) => self.fail("what answers is not anvil of Dovecot 2.4", now),
        }
    }

    /// Logins have not found their connections yet.
    pub(super) fn again(&mut self, now: Now) {
        let next_ms = now.ms + self.wait_ms;
        self.wait_ms = (self.wait_ms * 3 / 2).min(USUAL_MS);
        self.next_ms = self.next_ms.min(next_ms).max(self.earliest_ms);
    }

    fn fail(&mut self, why: &str, now: Now) -> Answer {
        self.asked = None;
        if self.failures == 0 {
            self.failing_since_ms = now.ms;
        }
        let wait_ms = (FAILED_MS << self.failures.min(10)).min(USUAL_MS);
        self.failures += 1;
        self.next_ms = now.ms + wait_ms;
        self.earliest_ms = self.next_ms;
        match now.ms >= self.failing_since_ms + ABSENCE_MS {
            true => Answer::Failed(format!("{}: {why}", self.path.display())),
            false => Answer::Waiting,
        }
    }
}

/// Takes the lines of a reply.
struct Rows<'a> {
    reply: &'a mut Reply,
    rows: &'a mut u64,
    each: &'a mut dyn FnMut(Row<'_>),
    /// Whether the reply was one of anvil, at its end.
    end: Option<bool>,
}

impl LineReader<16> for Rows<'_> {
    fn take(&mut self, lines: &mut [&mut [u8]]) {
        for line in lines {
            match self.reply.take(line) {
                _ if self.end.is_some() => {}
                Line::Row(row) => {
                    *self.rows += 1;
                    (self.each)(row);
                }
                Line::Head | Line::Refused => {}
                Line::End => self.end = Some(true),
                Line::Foreign => self.end = Some(false),
            }
        }
    }

    fn too_long(&mut self, _beginning: &[u8]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_asked_again_soon_and_then_seldom() {
        let mut asker = Asker::new("/nonexistent/anvil".into());
        let at = |ms: u64| Now { ms, usecs: 0 };
        let mut times = Vec::new();
        for ms in 0..30_000 {
            if ms >= asker.due_ms() {
                let is_failure = matches!(asker.ask(at(ms)), Answer::Failed(_));
                times.push((ms, is_failure));
            }
            asker.hurry(at(ms));
        }
        let expected = [
            (0, false),
            (50, false),
            (150, false),
            (350, false),
            (750, false),
            (1550, true),
            (3150, true),
            (6350, true),
            (11_350, true),
        ];
        assert_eq!(times[..9], expected);
    }
}
