//! Rows: an entry as it is listed, with the names of what it belongs to.

use super::{Level, Store};
use crate::store::counters::packed::unpack_to;
use crate::store::counters::Counters;
use crate::store::entries::entry::{with_link, Flag, Node, Parent, Tally};
use crate::store::entries::table::key;
use crate::store::filter::{Filter, Pattern};
use crate::store::kinds::latency::Latency;
use crate::store::kinds::{Count, ServiceId};
use crate::store::time::WallTime;
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What rows of the levels above session have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// When counting began, in seconds since 1970.
    pub reset_secs: u32,
    /// When a record last reached the entry.
    pub last_update: WallTime,
    pub counters: Counters,
    /// The number of connected sessions.
    pub connected: u64,
}

/// What an entry of a level with totals is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    Name(&'a [u8]),
    Address(IpAddr),
}

impl<'a> Key<'a> {
    /// The key of an entry, of the bytes that it is stored as.
    pub(super) fn of(level: Level, bytes: &'a [u8]) -> Key<'a> {
        match level {
            Level::Ip => Key::Address(address(bytes)),
            _ => Key::Name(bytes),
        }
    }

    /// A name is as it is, an address in digits.
    pub fn text(&self) -> Cow<'a, [u8]> {
        match self {
            Key::Name(name) => Cow::Borrowed(name),
            Key::Address(ip) => Cow::Owned(ip.to_string().into_bytes()),
        }
    }
}

/// One row of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row<'a> {
    Command {
        name: &'a [u8],
        args: &'a [u8],
        /// The id of its session.
        session: &'a [u8],
        user: &'a [u8],
        last_update: WallTime,
        /// Without logins and commands.
        counters: &'a Counters,
        /// That of its session.
        service: &'a [u8],
        /// Whether its writer reported that it is done, or another followed, or its
        /// session ended.
        is_over: bool,
    },
    Session {
        session: &'a [u8],
        user: &'a [u8],
        ip: Option<IpAddr>,
        /// `imap`, `pop3`, `lmtp`...
        service: &'a [u8],
        /// 0 when unknown.
        pid: u32,
        connected: bool,
        last_update: WallTime,
        /// Without logins.
        counters: &'a Counters,
        /// When its first record came, in seconds since 1970; 0 when unknown.
        connect_secs: u32,
    },
    Parent(Level, Key<'a>, &'a Totals),
    Global(&'a Totals, &'a Latency),
    /// A service by its name. Its latency is that of its commands.
    Service(&'a [u8], &'a Totals, &'a Latency),
    /// The commands of a name.
    Cmd {
        service: &'a [u8],
        /// In upper case, or `other`.
        name: &'a [u8],
        /// Without logins and sessions.
        totals: &'a Totals,
        latency: &'a Latency,
    },
}

impl Row<'_> {
    /// The totals of a row above session.
    pub fn totals(&self) -> Option<&Totals> {
        match self {
            Row::Parent(.., totals)
            | Row::Global(totals, _)
            | Row::Service(_, totals, _)
            | Row::Cmd { totals, .. } => Some(totals),
            Row::Command { .. } | Row::Session { .. } => None,
        }
    }

    /// How long commands took, where that is kept.
    pub fn latency(&self) -> Option<&Latency> {
        match self {
            Row::Global(_, latency) | Row::Service(.., latency) | Row::Cmd { latency, .. } => {
                Some(latency)
            }
            Row::Parent(..) | Row::Command { .. } | Row::Session { .. } => None,
        }
    }
}

/// The row of an entry with totals.
fn row_of<'a, P: Parent>(_: &P, key: &'a [u8], totals: &'a Totals) -> Row<'a> {
    Row::Parent(P::LEVEL, Key::of(P::LEVEL, key), totals)
}

impl Store {
    /// Hands the row of an entry to `show`, and returns what that does. The row is lent,
    /// because counters are too large to be moved often.
    pub(super) fn show(&self, node: Node, show: &mut dyn FnMut(&Row) -> bool) -> bool {
        let heap = &self.memory.heap;
        let mut counters = Counters::default();
        let totals;
        show(&match node {
            Node::Command(link) => {
                let command = &self.commands.arena[link];
                let session = &self.sessions.arena[command.session];
                let (name, args, packed) = command.common.contents.parts(heap);
                unpack_to(packed, &mut counters);
                let (id, service, _) = session.common.contents.parts(heap);
                Row::Command {
                    name,
                    args,
                    session: id,
                    user: key(heap, &self.users.arena[session.user()]),
                    last_update: command.common.stamp.wall(),
                    counters: &counters,
                    service,
                    is_over: self.is_over(link),
                }
            }
            Node::Session(link) => {
                let session = &self.sessions.arena[link];
                let (id, service, packed) = session.common.contents.parts(heap);
                unpack_to(packed, &mut counters);
                Row::Session {
                    session: id,
                    user: key(heap, &self.users.arena[session.user()]),
                    ip: session
                        .above
                        .ip
                        .map(|ip| address(key(heap, &self.ips.arena[ip]))),
                    service,
                    pid: session.pid,
                    connected: session.has(Flag::Connected),
                    last_update: session.common.stamp.wall(),
                    counters: &counters,
                    connect_secs: session.created_secs,
                }
            }
            parent => with_link!(parent, link => {
                let entry = self.entry(link);
                totals = self.gathered_totals(entry);
                row_of(entry, key(heap, entry), &totals)
            }, else _other => unreachable!("the others have rows of their own")),
        })
    }

    /// The totals of a user, domain or ip, with those of sessions that it defers.
    fn gathered_totals<P: Parent>(&self, entry: &P) -> Totals {
        let Tally {
            created_secs,
            connected,
            ..
        } = *entry.tally();
        Totals {
            reset_secs: created_secs,
            last_update: self.last_update(entry),
            counters: self.gathered(entry),
            connected: connected.into(),
        }
    }

    /// The totals of all services, and what none of them has.
    pub fn totals_of_everything(&self) -> Totals {
        let mut counters = self.global.counters;
        for service in &self.kinds.services {
            counters.add(&service.count.counters);
        }
        Totals {
            reset_secs: self.global.reset_secs,
            last_update: self.global.last_update,
            counters,
            connected: self.global.connected,
        }
    }

    /// How many rows a level has whose rows are not entries.
    pub(super) fn kind_rows(&self, level: Level) -> usize {
        match level {
            Level::Global => 1,
            Level::Service => self.kinds.services.len(),
            Level::Cmd => self.kinds.cmds.len(),
            _ => 0,
        }
    }

    /// Hands the row of such a level to `show`, and returns what that does: true for one that
    /// does not fit the filter or has not counted anything.
    pub(super) fn show_kind(
        &self,
        (level, filter): (Level, &Filter),
        place: usize,
        show: &mut dyn FnMut(&Row) -> bool,
    ) -> bool {
        let kinds = &self.kinds;
        let totals_of = |count: &Count, connected| Totals {
            reset_secs: count.reset_secs,
            last_update: count.last_update,
            counters: count.counters,
            connected,
        };
        let fits = |pattern: &Option<Pattern>, name: &[u8]| {
            let pattern = pattern.as_ref();
            pattern.is_none_or(|pattern| pattern.matches(name, &mut 0))
        };
        let is_since = |totals: &Totals| u64::from(totals.last_update.secs) >= filter.since_secs;
        // After a RESET it may be but the end of a command that began before.
        let has_counted = |totals: &Totals, latency: &Latency| {
            totals.counters != Counters::default() || latency.count() > 0
        };
        match level {
            Level::Service => {
                let service = &kinds.services[place];
                let totals = totals_of(&service.count, service.connected);
                let latency = kinds.latency(Some(ServiceId(place as u8)));
                let is_used = totals.connected > 0 || has_counted(&totals, &latency);
                if !is_used
                    || !fits(&filter.service, service.name.as_slice())
                    || !is_since(&totals)
                    || (filter.connected && totals.connected == 0)
                {
                    return true;
                }
                show(&Row::Service(service.name.as_slice(), &totals, &latency))
            }
            Level::Cmd => {
                let cmd = &kinds.cmds[place];
                let service = &kinds.services[usize::from(cmd.service.0)];
                let totals = totals_of(&cmd.count, 0);
                if !has_counted(&totals, &cmd.latency)
                    || !fits(&filter.service, service.name.as_slice())
                    || !fits(&filter.cmd, cmd.name.as_slice())
                    || !is_since(&totals)
                {
                    return true;
                }
                show(&Row::Cmd {
                    service: service.name.as_slice(),
                    name: cmd.name.as_slice(),
                    totals: &totals,
                    latency: &cmd.latency,
                })
            }
            _ => show(&Row::Global(
                &self.totals_of_everything(),
                &kinds.latency(None),
            )),
        }
    }
}

/// The address of 4 or 16 bytes.
pub(crate) fn address(octets: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(octets) {
        Ok(octets) => Ipv4Addr::from(octets).into(),
        Err(_) => {
            let octets = <[u8; 16]>::try_from(octets).expect("an address has 4 or 16 bytes");
            Ipv6Addr::from(octets).into()
        }
    }
}
