//! The processes that serve sessions, and how what they use is shared.
//!
//! Owns: for each process its last sample, what is known of it so far (`seen`) and which
//! sessions it serves now. `seen` is the larger of what was sampled and what a final
//! event implies: the process's figures when the session began, and the event's own.
//!
//! Invariants: `seen` never shrinks, and each growth of it is shared once among the
//! sessions served at that moment, so that their sums are the process's. With several
//! sessions the shares are in proportion to the time their commands ran since the last
//! share; while none ran, nothing is shared until one of them ends.
//!
//! A process without a number stands for one that cannot be looked at: the sessions of
//! one LMTP connection share its final events.
//!
//! Must not: know events or records.

use super::join::SessionAt;
use crate::report::{Look, Sample};
use crate::stats::{place, Stats};
use std::collections::HashMap;
use std::net::SocketAddr;

/// A process that changed nothing is looked at less and less often, up to so seldom.
const MAX_WAIT_MS: u64 = 30_000;

/// The least time between looks at the ends of short commands. A look costs ten times
/// what an event does: of such commands that follow each other faster, one has what all
/// used.
const LEAST_WAIT_MS: u64 = 20;

/// A command that ran for less is short.
const SHORT_USECS: u64 = 1000;

/// A process without sessions is remembered for so long: what it uses until its next
/// session begins is that session's.
const IDLE_MS: u64 = 10_000;

/// The time between a process's start and its first connection that counts as one.
const FRESH_USECS: u64 = 1_000_000;

pub(super) type ProcessAt = u32;

/// Where figures come from: /proc, or a test.
pub(super) trait Figures {
    /// Looks at a process again.
    fn look(&mut self, pid: u32, sample: &mut Sample) -> Look;
    /// When the process of a sample started, in microseconds since 1970.
    fn started_usecs(&mut self, sample: &Sample) -> u64;
    /// The addresses at the other ends of the processes' sockets, as far as they have any.
    fn peers(&mut self, pids: &[u32]) -> Vec<(u32, SocketAddr)>;
}

/// A session's part of what its process used.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) session: SessionAt,
    /// How long its commands ran since the last share.
    pub(super) ran_usecs: u64,
}

#[derive(Debug)]
struct Process {
    pid: Option<u32>,
    name: Vec<u8>,
    sample: Sample,
    seen: Stats,
    members: Vec<Member>,
    looked_ms: u64,
    due_ms: u64,
    wait_ms: u64,
    /// When its last session ended.
    idle_since_ms: u64,
}

fn cpu(stats: &Stats) -> u64 {
    stats.values[place::user_cpu] + stats.values[place::sys_cpu]
}

/// What is used by now beyond what was seen. Of processor time only the sum is exact: the
/// two may divide it in other ways.
pub(super) fn growth(now: &Stats, seen: &Stats) -> Stats {
    let mut more = now.since(seen);
    let sum = cpu(now).saturating_sub(cpu(seen));
    let user = more.values[place::user_cpu].min(sum);
    more.values[place::user_cpu] = user;
    more.values[place::sys_cpu] = sum - user;
    more
}

/// Hands a session its share.
pub(super) type Share<'a> = &'a mut dyn FnMut(SessionAt, &Stats);

#[derive(Default)]
pub(super) struct Processes {
    all: Vec<Option<Process>>,
    free: Vec<ProcessAt>,
    by_name: HashMap<Vec<u8>, ProcessAt>,
    /// How often a process at work is looked at.
    every_ms: u64,
    /// Whether a process was seen whose reads and writes could not be.
    pub(super) lacks_io: bool,
}

impl Processes {
    pub(super) fn new(every_ms: u64) -> Processes {
        Processes {
            every_ms,
            ..Processes::default()
        }
    }

    /// A process serves a connection whose session is not known yet: what it used is
    /// looked at before it may be gone. `fresh_for` is when the process got the
    /// connection, if it may be the first that it serves.
    pub(super) fn sight(
        &mut self,
        pid: u32,
        fresh_for: Option<u64>,
        figures: &mut dyn Figures,
        now_ms: u64,
    ) -> Option<ProcessAt> {
        let name = pid.to_ne_bytes();
        if let Some(&at) = self.by_name.get(&name[..]) {
            // Others are looked at anyway, and their growth is shared.
            let is_idle = self.served(at).is_empty();
            if !is_idle || self.look(at, figures, now_ms, false, &mut |_, _| {}) != Look::Gone {
                return Some(at);
            }
        }
        let mut sample = Sample::default();
        if figures.look(pid, &mut sample) == Look::Gone {
            return None;
        }
        self.lacks_io |= !sample.has_io;
        let started = figures.started_usecs(&sample);
        let is_fresh = fresh_for.is_some_and(|usecs| usecs < started + FRESH_USECS);
        let seen = match is_fresh {
            true => Stats::default(),
            false => sample.stats,
        };
        Some(self.insert(&name, Some(pid), sample, seen, now_ms))
    }

    /// A session begins to be served by a process; gives the process, and its figures
    /// at that moment. `None` if there is no such process, nor was when it was looked
    /// at last.
    pub(super) fn attach(
        &mut self,
        pid: u32,
        session: SessionAt,
        fresh_for: Option<u64>,
        figures: &mut dyn Figures,
        now_ms: u64,
        share: Share<'_>,
    ) -> Option<(ProcessAt, Stats)> {
        let known = self.by_name.get(&pid.to_ne_bytes()[..]).copied();
        if let Some(at) = known {
            // What it used until now belongs to those that it served until now.
            self.look(at, figures, now_ms, true, share);
        }
        let at = self.sight(pid, fresh_for, figures, now_ms).or(known)?;
        let process = self.all[at as usize].as_mut()?;
        process.members.push(Member {
            session,
            ran_usecs: 0,
        });
        (process.wait_ms, process.due_ms) = (self.every_ms, now_ms + self.every_ms);
        let base = process.seen;
        if process.members.len() == 1 {
            self.raise(at, &self.sampled(at), false, share);
        }
        Some((at, base))
    }

    /// A session begins to be served by the process that stands for a connection.
    pub(super) fn attach_unseen(
        &mut self,
        name: &[u8],
        session: SessionAt,
        now_ms: u64,
    ) -> ProcessAt {
        // No process's number is as long.
        let name = [b"connection ", name].concat();
        let at = match self.by_name.get(&name) {
            Some(&at) => at,
            None => {
                let (sample, seen) = (Sample::default(), Stats::default());
                self.insert(&name, None, sample, seen, now_ms)
            }
        };
        if let Some(process) = &mut self.all[at as usize] {
            process.members.push(Member {
                session,
                ran_usecs: 0,
            });
        }
        at
    }

    fn sampled(&self, at: ProcessAt) -> Stats {
        let process = self.all[at as usize].as_ref();
        process.map_or(Stats::default(), |process| process.sample.stats)
    }

    fn insert(
        &mut self,
        name: &[u8],
        pid: Option<u32>,
        sample: Sample,
        seen: Stats,
        now_ms: u64,
    ) -> ProcessAt {
        let at = self.free.pop().unwrap_or(self.all.len() as ProcessAt);
        if at as usize == self.all.len() {
            self.all.push(None);
        }
        self.all[at as usize] = Some(Process {
            pid,
            name: name.to_vec(),
            sample,
            seen,
            members: Vec::new(),
            looked_ms: now_ms,
            due_ms: now_ms + self.every_ms,
            wait_ms: self.every_ms,
            idle_since_ms: now_ms,
        });
        self.by_name.insert(name.to_vec(), at);
        at
    }

    /// A command of a session ran for so long.
    pub(super) fn ran(&mut self, at: ProcessAt, session: SessionAt, usecs: u64) {
        if let Some(process) = &mut self.all[at as usize] {
            let mut members = process.members.iter_mut();
            if let Some(member) = members.find(|member| member.session == session) {
                member.ran_usecs = member.ran_usecs.saturating_add(usecs);
            }
        }
    }

    /// Looks at a process now and shares what it used. One that is gone serves nothing
    /// any more: its number may come again.
    pub(super) fn look(
        &mut self,
        at: ProcessAt,
        figures: &mut dyn Figures,
        now_ms: u64,
        is_ending: bool,
        share: Share<'_>,
    ) -> Look {
        let Some(process) = &mut self.all[at as usize] else {
            return Look::Gone;
        };
        let Some(pid) = process.pid else {
            return Look::Same;
        };
        let look = figures.look(pid, &mut process.sample);
        process.wait_ms = match look {
            Look::Changed => self.every_ms,
            _ => (2 * process.wait_ms).min(MAX_WAIT_MS.max(self.every_ms)),
        };
        process.due_ms = now_ms + process.wait_ms;
        process.looked_ms = now_ms;
        if look == Look::Gone {
            process.pid = None;
            let name = std::mem::take(&mut process.name);
            self.by_name.remove(&name);
            return look;
        }
        self.raise(at, &self.sampled(at), is_ending, share);
        look
    }

    /// Whether a process is to be looked at when a command that ran for so long ended.
    pub(super) fn wants_look(&self, at: ProcessAt, ran_usecs: u64, now_ms: u64) -> bool {
        let process = self.all[at as usize].as_ref();
        let looked_ms = process.map_or(0, |process| process.looked_ms);
        ran_usecs >= SHORT_USECS || now_ms >= looked_ms + LEAST_WAIT_MS
    }

    /// A process is known to have used so much; shares what is new.
    pub(super) fn raise(
        &mut self,
        at: ProcessAt,
        known: &Stats,
        is_ending: bool,
        share: Share<'_>,
    ) {
        let Some(process) = &mut self.all[at as usize] else {
            return;
        };
        let difference = growth(known, &process.seen);
        if difference.is_zero() || process.members.is_empty() {
            return;
        }
        let mut weights: u64 = process.members.iter().map(|member| member.ran_usecs).sum();
        if process.members.len() == 1 || (weights == 0 && is_ending) {
            process
                .members
                .iter_mut()
                .for_each(|member| member.ran_usecs = 1);
            weights = process.members.len() as u64;
        }
        if weights == 0 {
            return;
        }
        process.seen.add(&difference);
        let mut left = difference;
        for member in &mut process.members {
            // Of what is left, so that nothing of it is.
            let ran_usecs = std::mem::take(&mut member.ran_usecs);
            let mut part = left;
            for value in &mut part.values {
                *value = (u128::from(*value) * u128::from(ran_usecs) / u128::from(weights.max(1)))
                    as u64;
            }
            weights -= ran_usecs;
            left = left.since(&part);
            share(member.session, &part);
        }
    }

    /// The final event of a session whose process had used `base` when it began.
    pub(super) fn finish(&mut self, at: ProcessAt, base: &Stats, last: &Stats, share: Share<'_>) {
        let Some(process) = &self.all[at as usize] else {
            return;
        };
        let mut known = *base;
        known.add(last);
        for (known, seen) in known.values.iter_mut().zip(process.seen.values) {
            *known = seen.max(*known);
        }
        // Of processor time, what is more as a whole: how it is divided is known in
        // ticks only.
        let (was, is) = (cpu(&process.seen), cpu(base) + cpu(last));
        let more = is.saturating_sub(was);
        let user = match cpu(last) {
            0 => 0,
            all => {
                (u128::from(more) * u128::from(last.values[place::user_cpu]) / u128::from(all))
                    as u64
            }
        };
        known.values[place::user_cpu] = process.seen.values[place::user_cpu] + user;
        known.values[place::sys_cpu] = process.seen.values[place::sys_cpu] + more - user;
        self.raise(at, &known, true, share);
    }

    /// A process serves a session no more.
    pub(super) fn detach(&mut self, at: ProcessAt, session: SessionAt, now_ms: u64) {
        let Some(process) = &mut self.all[at as usize] else {
            return;
        };
        process.members.retain(|member| member.session != session);
        process.idle_since_ms = now_ms;
        if process.members.is_empty() && process.name.is_empty() {
            self.remove(at);
        }
    }

    fn remove(&mut self, at: ProcessAt) {
        if let Some(process) = self.all[at as usize].take() {
            self.by_name.remove(&process.name);
            self.free.push(at);
        }
    }

    /// The sessions that a process serves.
    pub(super) fn served(&self, at: ProcessAt) -> Vec<SessionAt> {
        let process = self.all[at as usize].as_ref();
        let members = process.map_or(&[][..], |process| &process.members);
        members.iter().map(|member| member.session).collect()
    }

    /// The number of places that [`Processes::visit`] may be called for.
    pub(super) fn places(&self) -> ProcessAt {
        self.all.len() as ProcessAt
    }

    /// Whether a process is to be looked at now; removes one that serves nothing.
    pub(super) fn visit(&mut self, at: ProcessAt, now_ms: u64) -> bool {
        let Some(process) = &self.all[at as usize] else {
            return false;
        };
        if process.members.is_empty() {
            if now_ms >= process.idle_since_ms + IDLE_MS {
                self.remove(at);
            }
            return false;
        }
        process.pid.is_some() && now_ms >= process.due_ms
    }

    /// Events may have been lost: all processes are looked at soon.
    pub(super) fn hurry_all(&mut self, now_ms: u64) {
        for at in 0..self.places() {
            self.hurry(at, now_ms);
        }
    }

    /// An event named a session: its process is looked at soon again.
    pub(super) fn hurry(&mut self, at: ProcessAt, now_ms: u64) {
        if let Some(process) = &mut self.all[at as usize] {
            process.wait_ms = self.every_ms;
            process.due_ms = process.due_ms.min(now_ms + self.every_ms);
        }
    }
}

#[cfg(test)]
mod tests;
