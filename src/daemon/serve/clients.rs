//! All connections: which are kept, which may use memory, which is served first.
//!
//! Slots. At most `client_limit` clients are served at a time. When there are as
//! many, a new one replaces the client that has been idle longest, or else the one
//! that has read nothing of its reply for longest, if that is [`STUCK_SECS`] or
//! more. Each listener has a few slots of its own ([`own_slots`]): its clients
//! there are replaced only by clients of the same listener, and while it has fewer,
//! a new client of it need not wait for another to be idle for a second. When all
//! others are busy it is served beyond `client_limit`. So clients of one listener
//! cannot lock out those of another.
//!
//! Memory. All clients together hold at most [`most_client_bytes`] for requests
//! and replies, and beyond that one reply and [`OWN_BYTES`] for each listener. A
//! client for which there is no memory waits, unread, until others have read their
//! replies; those that read nothing for [`STUCK_SECS`] are closed.

use crate::daemon::faults::Fault;
use crate::daemon::serve::client::{Client, Standing};
use crate::daemon::serve::context::Context;
use crate::store::Store;
use crate::sys::fd::poll::PollSet;
use std::collections::BinaryHeap;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

/// Nodes that cursors may look at in one turn, for all clients together.
const STEPS_A_TURN: usize = 1024;

/// How long a client may read nothing of its reply before it may be closed for
/// another.
const STUCK_SECS: u32 = 60;

/// What the clients of each listener may hold in any case, in bytes: a reply of the
/// statistics protocol on its way.
const OWN_BYTES: usize = 65536;

/// The least that all clients together may hold, in bytes, however small the limit
/// of the statistics is: enough for sixty large replies at a time.
const LEAST_BYTES: usize = 4 << 20;

/// How often is looked for memory while a client waits for some.
const RETRY: Duration = Duration::from_secs(1);

/// The most bytes that clients may hold together beside a limit of the statistics.
pub(crate) fn most_client_bytes(memory_limit_bytes: usize) -> usize {
    (memory_limit_bytes / 4).max(LEAST_BYTES)
}

/// The most clients that there may be at a time: beside `client_limit` of one listener
/// those in the own slots of the others.
pub(crate) fn most_clients(client_limit: u32, listeners: usize) -> u64 {
    let own = own_slots(client_limit as usize) as u64;
    u64::from(client_limit) + own * (listeners as u64).saturating_sub(1)
}

/// The slots that each listener has of its own.
fn own_slots(client_limit: usize) -> usize {
    (client_limit / 8).clamp(1, 16)
}

/// A slot for a new client.
#[derive(Debug, PartialEq, Eq)]
enum Slot {
    /// Beside the clients that are there.
    Free,
    /// That of the client with this index.
    Of(usize),
    None,
}

/// Finds a slot for a new client of `listener`.
fn find_slot(all: &[Standing], listener: usize, client_limit: usize, now_secs: u32) -> Slot {
    if all.len() < client_limit {
        return Slot::Free;
    }
    let own = own_slots(client_limit);
    let listeners = all.iter().map(|client| client.listener + 1).max();
    let mut counts = vec![0; listeners.unwrap_or_default().max(listener + 1)];
    all.iter().for_each(|client| counts[client.listener] += 1);
    let has_own = counts[listener] < own;
    let replaceable = || {
        let all = all.iter().enumerate();
        all.filter(|(_, client)| client.listener == listener || counts[client.listener] > own)
    };
    // The request of a client that just came may not have been read yet.
    let is_idle = |since_secs: &u32| has_own || *since_secs < now_secs;
    let idle = replaceable()
        .filter_map(|(index, client)| Some((client.idle_since_secs.filter(is_idle)?, index)))
        .min();
    let stuck = || {
        replaceable()
            .filter_map(|(index, client)| Some((client.unread_since_secs?, index)))
            .min()
            .filter(|&(since_secs, _)| is_stuck(since_secs, now_secs))
    };
    match idle.or_else(stuck) {
        Some((_, index)) => Slot::Of(index),
        None if has_own => Slot::Free,
        None => Slot::None,
    }
}

/// The bytes that clients hold.
#[derive(Debug, Default)]
struct Held {
    all: usize,
    /// Those of each listener.
    by_listener: Vec<usize>,
}

impl Held {
    /// Counts what all clients hold now.
    fn count(&mut self, clients: &[Client]) {
        self.all = 0;
        self.by_listener.fill(0);
        for client in clients {
            self.change(client.listener(), 0, client.held_bytes());
        }
    }

    /// A client of `listener` holds `now` bytes where it held `before`.
    fn change(&mut self, listener: usize, before: usize, now: usize) {
        if self.by_listener.len() <= listener {
            self.by_listener.resize(listener + 1, 0);
        }
        for sum in [&mut self.all, &mut self.by_listener[listener]] {
            *sum = *sum + now - before;
        }
    }
}

pub(crate) struct Clients {
    /// In no particular order.
    all: Vec<Client>,
    /// The index of the one that is served first in the next turn.
    first: usize,
    /// The most bytes that all clients may hold together; the module says what may
    /// exceed it.
    most_bytes: usize,
    /// Counted anew in each turn.
    held: Held,
    /// When to look for memory again, while a client waits for some.
    retry: Option<Duration>,
}

impl Clients {
    /// `most_bytes` is what all clients may hold together.
    pub(crate) fn new(most_bytes: usize) -> Clients {
        Clients {
            all: Vec::new(),
            first: 0,
            most_bytes,
            held: Held::default(),
            retry: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether one of them waits for a reply.
    pub(crate) fn are_busy(&self) -> bool {
        let is_busy = |client: &Client| client.standing().idle_since_secs.is_none();
        self.all.iter().any(is_busy)
    }

    /// Adds all of them to the poll set.
    pub(crate) fn fill_poll_set(&mut self, poll: &mut PollSet) {
        for client in &mut self.all {
            client.slot = Some(poll.push(client.as_fd(), client.interest()));
        }
    }

    /// How long there is nothing to do without input; `None`: for ever.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        match self.all.iter().any(Client::can_go_on) {
            true => Some(Duration::ZERO),
            false => self.retry,
        }
    }

    /// Admits a client that was just accepted, by closing another if need be. Closes the
    /// new one when there is no slot for it.
    pub(crate) fn admit(&mut self, client: Client, context: &mut Context) {
        let limit = context.settings.service.client_limit as usize;
        let now_secs = context.now.uptime_secs;
        let mut all: Vec<Standing> = self.all.iter().map(Client::standing).collect();
        loop {
            match find_slot(&all, client.listener(), limit, now_secs) {
                Slot::Free => return self.all.push(client),
                // More than one where the limit was lowered.
                Slot::Of(index) => {
                    let is_stuck = all.swap_remove(index).unread_since_secs.is_some();
                    let replaced = self.all.swap_remove(index);
                    if is_stuck {
                        let name = replaced.listener_name();
                        context.report(Fault::StuckClient, || format!("{name}: for a new client"));
                    }
                    replaced.end(context.store);
                }
                Slot::None => {
                    let name = client.listener_name();
                    let busy = self.all.len();
                    let report = || format!("{name}: {busy} clients are busy; raise client_limit");
                    context.report(Fault::ClientLimit, report);
                    return client.end(context.store);
                }
            }
        }
    }

    /// Serves the clients that are ready or can go on by themselves, and ends
    /// those that are done. The first one that was not reached comes first in the
    /// next turn.
    pub(crate) fn serve(
        &mut self,
        context: &mut Context,
        is_ready: impl Fn(Option<usize>) -> bool,
    ) {
        let (begin, count) = (self.first, self.all.len());
        let mut steps = STEPS_A_TURN;
        let mut done = BinaryHeap::new();
        self.held.count(&self.all);
        for offset in 0..count {
            let index = (begin + offset) % count;
            let client = &mut self.all[index];
            let is_ready = is_ready(client.slot);
            if client.is_waiting() {
                // Only its peer's going away was polled for.
                if is_ready {
                    done.push(index);
                }
                continue;
            }
            if !is_ready && !client.can_go_on() {
                continue;
            }
            if steps == 0 {
                self.first = index;
                break;
            }
            let listener = client.listener();
            if client.wait_for_memory(!may_begin(&self.held, self.most_bytes, listener)) {
                continue;
            }
            let before = client.held_bytes();
            if !client.serve(context, &mut steps) {
                done.push(index);
            }
            self.held.change(listener, before, client.held_bytes());
        }
        // The last first.
        while let Some(index) = done.pop() {
            self.all.swap_remove(index).end(context.store);
        }
        self.retry = self.share_memory(context);
    }

    /// Closes the client that holds most memory, as the system has none left. Returns the
    /// name of its listener, and the bytes that it held.
    pub(crate) fn close_largest(&mut self, store: &mut Store) -> Option<(Rc<str>, usize)> {
        let all = self.all.iter().enumerate();
        let (bytes, index) = all
            .map(|(index, client)| (client.held_bytes(), index))
            .filter(|&(bytes, _)| bytes > 0)
            .max()?;
        let client = self.all.swap_remove(index);
        let name = client.listener_name();
        client.end(store);
        Some((name, bytes))
    }

    /// Lets the client go on that came last of those that wait for memory, if there is
    /// some, or closes one that holds memory and has moved nothing for long. Returns when
    /// to do so again; `None`: none waits.
    ///
    /// The last, because clients that never read have been there for longer.
    fn share_memory(&mut self, context: &mut Context) -> Option<Duration> {
        if !self.all.iter().any(Client::is_waiting) {
            return None;
        }
        self.held.count(&self.all);
        let (held, most_bytes) = (&self.held, self.most_bytes);
        let may_go_on = |client: &&mut Client| {
            client.is_waiting() && may_begin(held, most_bytes, client.listener())
        };
        let waiting = self.all.iter_mut().filter(may_go_on);
        if let Some(client) = waiting.max_by_key(|client| client.active_secs()) {
            client.wait_for_memory(false);
            return Some(Duration::ZERO);
        }
        let quiet_since_secs = |client: &Client| {
            let standing = client.standing();
            let since_secs = standing.unread_since_secs.or(standing.idle_since_secs);
            since_secs.filter(|_| client.held_bytes() > 0)
        };
        let all = self.all.iter().enumerate();
        let quiet = all
            .filter_map(|(index, client)| Some((quiet_since_secs(client)?, index)))
            .min()
            .filter(|&(since_secs, _)| is_stuck(since_secs, context.now.uptime_secs));
        let Some((_, index)) = quiet else {
            return Some(RETRY);
        };
        let client = self.all.swap_remove(index);
        let name = client.listener_name();
        context.report(Fault::StuckClient, || {
            format!("{name}: others wait for its memory")
        });
        client.end(context.store);
        Some(Duration::ZERO)
    }
}

/// Whether a client of `listener` may read or begin a reply.
fn may_begin(held: &Held, most_bytes: usize, listener: usize) -> bool {
    let own_bytes = held.by_listener.get(listener).copied().unwrap_or_default();
    held.all < most_bytes || own_bytes < OWN_BYTES
}

/// Whether what has lasted since then lasts so long that a client may be closed.
fn is_stuck(since_secs: u32, now_secs: u32) -> bool {
    now_secs.saturating_sub(since_secs) >= STUCK_SECS
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 1000;

    fn idle(listener: usize, since_secs: u32) -> Standing {
        Standing {
            listener,
            idle_since_secs: Some(since_secs),
            unread_since_secs: None,
        }
    }

    fn unread(listener: usize, since_secs: u32) -> Standing {
        Standing {
            listener,
            idle_since_secs: None,
            unread_since_secs: Some(since_secs),
        }
    }

    fn busy(listener: usize) -> Standing {
        Standing {
            listener,
            idle_since_secs: None,
            unread_since_secs: None,
        }
    }

    #[test]
    fn there_is_a_slot_up_to_the_limit() {
        let all = [busy(0); 3];
        assert_eq!(find_slot(&all[..2], 0, 3, NOW), Slot::Free);
        assert_eq!(find_slot(&all, 0, 3, NOW), Slot::None);
        assert_eq!(find_slot(&all, 0, 4, NOW), Slot::Free);
    }

    #[test]
    fn the_client_idle_longest_is_replaced_first() {
        let all = [unread(0, 1), idle(0, NOW - 1), idle(0, NOW - 2)];
        assert_eq!(find_slot(&all, 0, 3, NOW), Slot::Of(2));
        let all = [busy(0), idle(0, NOW), idle(0, NOW)];
        assert_eq!(find_slot(&all, 0, 3, NOW), Slot::None, "just came");
    }

    #[test]
    fn a_client_that_reads_nothing_is_replaced_after_a_minute() {
        let all = [busy(0), unread(0, NOW - 59), unread(0, NOW - 58)];
        assert_eq!(find_slot(&all, 0, 3, NOW), Slot::None);
        assert_eq!(find_slot(&all, 0, 3, NOW + 1), Slot::Of(1));
        assert_eq!(find_slot(&all, 0, 3, NOW + 2), Slot::Of(1), "the longest");
    }

    #[test]
    fn each_listener_has_slots_of_its_own() {
        for (limit, own) in [(1, 1), (15, 1), (16, 2), (127, 15), (128, 16), (1000, 16)] {
            assert_eq!(own_slots(limit), own, "client_limit {limit}");
        }
        for (listeners, most) in [(0, 16), (1, 16), (2, 18), (10, 34)] {
            assert_eq!(most_clients(16, listeners), most, "{listeners} listeners");
        }
        let (all, limit) = ([busy(0); 16], 16);
        assert_eq!(find_slot(&all, 0, limit, NOW), Slot::None);
        assert_eq!(find_slot(&all, 1, limit, NOW), Slot::Free);
        let mut all = all.to_vec();
        all[7] = idle(0, NOW);
        assert_eq!(find_slot(&all, 0, limit, NOW), Slot::None);
        assert_eq!(find_slot(&all, 1, limit, NOW), Slot::Of(7));
        // Listener 1 has its two, which others cannot take.
        let all = [&[busy(0); 14][..], &[idle(1, 1); 2]].concat();
        assert_eq!(find_slot(&all, 0, limit, NOW), Slot::None);
        assert_eq!(find_slot(&all, 1, limit, NOW), Slot::Of(14));
        let all = [&[busy(0); 13][..], &[idle(1, 1); 3]].concat();
        assert_eq!(find_slot(&all, 0, limit, NOW), Slot::Of(13));
    }

    #[test]
    fn memory_is_for_all_and_a_little_for_each_listener() {
        let mut held = Held::default();
        assert!(may_begin(&held, LEAST_BYTES, 5));
        held.change(5, 0, LEAST_BYTES - 1);
        assert!(may_begin(&held, LEAST_BYTES, 5));
        held.change(5, 1, 2);
        assert!(!may_begin(&held, LEAST_BYTES, 5));
        held.change(1, 0, OWN_BYTES - 1);
        assert!(may_begin(&held, LEAST_BYTES, 1));
        held.change(1, OWN_BYTES - 1, OWN_BYTES);
        assert!(!may_begin(&held, LEAST_BYTES, 1));
        held.count(&[]);
        assert!(may_begin(&held, LEAST_BYTES, 1));
    }

    #[test]
    fn clients_may_hold_a_quarter_of_the_limit() {
        for (limit, most) in [(0, 4 << 20), (16 << 20, 4 << 20), (64 << 20, 16 << 20)] {
            assert_eq!(most_client_bytes(limit), most);
        }
    }
}
