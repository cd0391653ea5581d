//! Commands that took longer than the administrator allows.
//!
//! A few are noted until the owner of the store takes them, which it does after each batch of
//! records; more are only counted. Long texts are cut, so what is noted is bounded.
//!
//! Must not: keep arguments that are not wanted, which are private.

use crate::stats::Stats;
use crate::store::time::WallTime;
use std::net::IpAddr;

/// The most commands that are noted.
const MOST_NOTED: usize = 16;

/// The longest text that is kept of one, in bytes.
const MAX_TEXT_BYTES: usize = 512;

/// Which commands are noted, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowLimit {
    /// Those that took longer, in microseconds.
    pub usecs: u64,
    /// Whether their arguments are noted.
    pub with_args: bool,
}

/// A command that took long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowCommand {
    /// When its last record came.
    pub last_update: WallTime,
    pub user: Vec<u8>,
    /// The id of its session.
    pub session: Vec<u8>,
    pub ip: Option<IpAddr>,
    pub service: Vec<u8>,
    pub name: Vec<u8>,
    /// `None` where they are not wanted.
    pub args: Option<Vec<u8>>,
    pub stats: Stats,
}

/// What is noted.
#[derive(Debug, Default)]
pub(crate) struct SlowLog {
    limit: Option<SlowLimit>,
    noted: Vec<SlowCommand>,
    /// How many more there were.
    left_out: u64,
}

impl SlowLog {
    pub(crate) fn set_limit(&mut self, limit: Option<SlowLimit>) {
        self.limit = limit;
    }

    /// The limit, if a command that took so long passes it.
    #[inline(always)]
    pub(crate) fn passed(&self, usecs: u64) -> Option<SlowLimit> {
        self.limit.filter(|limit| usecs > limit.usecs)
    }

    /// Notes a command that `make` describes.
    #[cold]
    pub(crate) fn note(&mut self, make: impl FnOnce() -> SlowCommand) {
        match self.noted.len() < MOST_NOTED {
            true => self.noted.push(make()),
            false => self.left_out += 1,
        }
    }

    /// Takes what is noted, and how many more there were.
    pub(crate) fn take(&mut self) -> (Vec<SlowCommand>, u64) {
        let left_out = std::mem::take(&mut self.left_out);
        (std::mem::take(&mut self.noted), left_out)
    }
}

/// What is kept of a text.
pub(crate) fn cut(text: &[u8]) -> Vec<u8> {
    text[..text.len().min(MAX_TEXT_BYTES)].to_vec()
}
