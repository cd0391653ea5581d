//! Kinds of work: what each service did, and the commands of one name of a service.
//!
//! Each record counts at one service, that of its session. So nothing is counted twice: the
//! totals of everything are those of all services, and what came before there were any. What
//! has no row of its own counts at [`ServiceId::OTHER`]: placeholders, commands of sessions
//! that have no room, services beyond [`MOST_SERVICES`] and those without room.
//!
//! Kinds are few and are never freed. Each is charged to the budget when it is created;
//! together they take at most an eighth of the limit ([`SHARE`]), and what has no row of its
//! own a few rows more.
//!
//! Invariants: a service has at most one row, and a command name one below its service; rows
//! keep their places, so that a place is an id; `connected` is the number of the connected
//! sessions of a service.
//!
//! Must not: know sessions or users.

pub(crate) mod latency;
pub(crate) mod slow;

use crate::stats::Stats;
use crate::store::counters::{Counters, Difference};
use crate::store::mem::budget::{Budget, Charge, Full, Purpose};
use crate::store::mem::index::Chain;
use crate::store::time::{Now, WallTime};
use latency::Latency;

/// The most services with a row of their own, that of all others included.
pub(crate) const MOST_SERVICES: usize = 64;

/// The most command names with a row of their own.
pub(crate) const MOST_CMDS: usize = 512;

/// The share of the limit that services, or command names with a row of their own, take at
/// most.
const SHARE: usize = 16;

/// The longest name of a kind in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 32;

/// Rows that are charged together.
const TOGETHER: usize = 8;

/// How many command names are found without a search: with one of 5,000 names in turn, a
/// record costs 1.5 us instead of 0.4.
const RECENT: usize = 128;

/// The name of what has no row of its own.
const OTHER: &[u8] = b"other";

/// The place of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServiceId(pub(crate) u8);

impl ServiceId {
    /// Of all services without a row of their own.
    pub(crate) const OTHER: ServiceId = ServiceId(0);
}

/// The place of a command name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CmdId(pub(crate) u16);

impl CmdId {
    /// A command's place in an index, which has no index, with the place of its name.
    pub(crate) fn chain<T>(id: Option<CmdId>) -> Chain<T> {
        Chain::numbered(id.map_or(u32::MAX, |id| id.0.into()))
    }

    pub(crate) fn of_chain<T>(chain: &Chain<T>) -> Option<CmdId> {
        u16::try_from(chain.hash()).ok().map(CmdId)
    }
}

/// A name of at most [`MAX_NAME_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    len: u8,
    bytes: [u8; MAX_NAME_BYTES],
}

impl Name {
    /// `None` for one that is too long.
    fn of(text: &[u8]) -> Option<Name> {
        let mut bytes = [0; MAX_NAME_BYTES];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Name {
            len: text.len() as u8,
            bytes,
        })
    }

    fn upper(mut self) -> Name {
        self.bytes.make_ascii_uppercase();
        self
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// What a kind has counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub(crate) counters: Counters,
    /// When a record last added to it; zero if none did.
    pub(crate) last_update: WallTime,
    /// When counting began, in seconds since 1970.
    pub(crate) reset_secs: u32,
}

impl Count {
    fn new(now: Now) -> Count {
        Count {
            counters: Counters::default(),
            last_update: WallTime::default(),
            reset_secs: now.wall.secs,
        }
    }

    /// Adds what a state has: of several kinds where there is no room for each.
    pub(crate) fn restore(&mut self, saved: &Count) {
        self.counters.add(&saved.counters);
        self.last_update = self.last_update.max(saved.last_update);
        self.reset_secs = self.reset_secs.min(saved.reset_secs);
    }
}

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: Name,
    pub(crate) count: Count,
    pub(crate) connected: u64,
}

/// The commands of one name.
#[derive(Debug)]
pub(crate) struct Cmd {
    pub(crate) service: ServiceId,
    /// In upper case, or `other`.
    pub(crate) name: Name,
    pub(crate) count: Count,
    pub(crate) latency: Latency,
}

/// All kinds. See the module.
#[derive(Debug)]
pub(crate) struct Kinds {
    pub(crate) services: Vec<Service>,
    pub(crate) cmds: Vec<Cmd>,
    /// Where a command name was found last, by a hash of it.
    recent: [CmdId; RECENT],
    charge: Charge,
}

impl Kinds {
    /// With [`ServiceId::OTHER`] alone.
    ///
    /// # Errors
    /// [`Full`] when the budget has no room for that.
    pub(crate) fn new(budget: &mut Budget, now: Now) -> Result<Kinds, Full> {
        let mut kinds = Kinds {
            services: Vec::new(),
            cmds: Vec::new(),
            recent: [CmdId(0); RECENT],
            charge: budget.charge_blocks(0, 2, Purpose::Create)?,
        };
        kinds.service(budget, OTHER, now);
        match kinds.services.is_empty() {
            true => Err(Full),
            false => Ok(kinds),
        }
    }

    /// The service of a name, created if there is room for it.
    pub(crate) fn service(&mut self, budget: &mut Budget, name: &[u8], now: Now) -> ServiceId {
        let found = self
            .services
            .iter()
            .position(|it| it.name.as_slice() == name);
        if let Some(place) = found {
            return ServiceId(place as u8);
        }
        let place = self.services.len();
        let most = most_rows(budget, size_of::<Service>(), MOST_SERVICES);
        let name = Name::of(name).filter(|name| name.len > 0 && place < most.max(1));
        let Some(name) = name else {
            return ServiceId::OTHER;
        };
        if !has_room(&mut self.services, &mut self.charge, budget) {
            return ServiceId::OTHER;
        }
        self.services.push(Service {
            name,
            count: Count::new(now),
            connected: 0,
        });
        ServiceId(place as u8)
    }

    /// The commands of a name, in any case, of a service, created if there is room for them;
    /// else those of all other names of the service. `None` without room for these either.
    #[inline(always)]
    pub(crate) fn cmd(
        &mut self,
        budget: &mut Budget,
        service: ServiceId,
        name: &[u8],
        now: Now,
    ) -> Option<CmdId> {
        let recent = self.recent[place_of(service, name)];
        let found = self.cmds.get(usize::from(recent.0));
        match found.is_some_and(|cmd| cmd.service == service && cmd.name.as_slice() == name) {
            true => Some(recent),
            false => self.search_cmd(budget, service, name, now),
        }
    }

    /// [`Kinds::cmd`] of a name that is not among the recent ones.
    #[inline(never)]
    fn search_cmd(
        &mut self,
        budget: &mut Budget,
        service: ServiceId,
        name: &[u8],
        now: Now,
    ) -> Option<CmdId> {
        let is_named = !name.is_empty() && name != OTHER;
        let upper = Name::of(name).filter(|_| is_named).map(Name::upper);
        let named = upper.and_then(|upper| self.find_or_add_cmd(budget, service, upper, now));
        let Some(id) = named else {
            let other = Name::of(OTHER).expect("it is short");
            return self.find_or_add_cmd(budget, service, other, now);
        };
        self.recent[place_of(service, name)] = id;
        Some(id)
    }

    fn find_or_add_cmd(
        &mut self,
        budget: &mut Budget,
        service: ServiceId,
        name: Name,
        now: Now,
    ) -> Option<CmdId> {
        let same = |cmd: &Cmd| cmd.service == service && cmd.name == name;
        if let Some(place) = self.cmds.iter().position(same) {
            return Some(CmdId(place as u16));
        }
        let place = self.cmds.len();
        // The last rows are for what has none.
        let most = match name.as_slice() == OTHER {
            true => MOST_CMDS,
            false => most_rows(budget, size_of::<Cmd>(), MOST_CMDS - MOST_SERVICES),
        };
        if place >= most || !has_room(&mut self.cmds, &mut self.charge, budget) {
            return None;
        }
        self.cmds.push(Cmd {
            service,
            name,
            count: Count::new(now),
            latency: Latency::NONE,
        });
        Some(CmdId(place as u16))
    }

    /// Adds what a record counts to a service.
    #[inline(always)]
    pub(crate) fn count(&mut self, service: ServiceId, difference: Difference, now: Now) {
        let count = &mut self.services[usize::from(service.0)].count;
        count.last_update = now.wall;
        count.counters.count(difference);
    }

    /// Adds connected sessions to a service.
    pub(crate) fn connected(&mut self, service: ServiceId, more: i64) {
        let service = &mut self.services[usize::from(service.0)];
        service.connected = service.connected.wrapping_add_signed(more);
    }

    /// Adds what a command's record reports beside what it reported before, and the command
    /// itself by its first record.
    #[inline]
    pub(crate) fn count_cmd(&mut self, id: CmdId, stats: &Stats, is_new: bool, now: Now) {
        let count = &mut self.cmds[usize::from(id.0)].count;
        count.last_update = now.wall;
        count.counters.add_stats(stats);
        count.counters.num_cmds += u64::from(is_new);
    }

    /// Begins to count anew.
    pub(crate) fn reset(&mut self, now: Now) {
        for service in &mut self.services {
            service.count = Count::new(now);
        }
        for cmd in &mut self.cmds {
            cmd.count = Count::new(now);
            cmd.latency = Latency::NONE;
        }
    }

    /// The latency of a service's commands, or of all.
    pub(crate) fn latency(&self, service: Option<ServiceId>) -> Latency {
        let mut sum = Latency::NONE;
        let is_meant = |cmd: &&Cmd| service.is_none_or(|service| cmd.service == service);
        for cmd in self.cmds.iter().filter(is_meant) {
            sum.merge(&cmd.latency);
        }
        sum
    }
}

/// Whether there is room for another row; [`TOGETHER`] of them are charged at once.
fn has_room<T>(rows: &mut Vec<T>, charge: &mut Charge, budget: &mut Budget) -> bool {
    let more = TOGETHER * size_of::<T>();
    let has_room =
        rows.len() < rows.capacity() || budget.extend(charge, more, Purpose::Grow).is_ok();
    if has_room && rows.len() == rows.capacity() {
        rows.reserve_exact(TOGETHER);
    }
    has_room
}

/// How many rows of a size there may be, at most `most`.
fn most_rows(budget: &Budget, row_bytes: usize, most: usize) -> usize {
    most.min(budget.limit_bytes() / SHARE / row_bytes)
}

/// The place of a name among the recent ones.
#[inline(always)]
fn place_of(service: ServiceId, name: &[u8]) -> usize {
    let (first, last) = (name.first().copied(), name.last().copied());
    let ends = usize::from(first.unwrap_or(0)) * 5 + usize::from(last.unwrap_or(0)) * 11;
    (ends + name.len() * 3 + usize::from(service.0) * 17) % RECENT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::mem::budget::BLOCK_OVERHEAD_BYTES;

    fn now() -> Now {
        Now {
            uptime_secs: 0,
            wall: WallTime { secs: 7, usecs: 0 },
        }
    }

    fn kinds(limit_bytes: usize) -> (Kinds, Budget) {
        let mut budget = Budget::new(limit_bytes);
        (Kinds::new(&mut budget, now()).unwrap(), budget)
    }

    #[test]
    fn names_are_found_in_any_case_and_shown_in_upper_case() {
        let (mut kinds, mut budget) = kinds(1 << 20);
        let imap = kinds.service(&mut budget, b"imap", now());
        let pop3 = kinds.service(&mut budget, b"pop3", now());
        assert_ne!(imap, pop3);
        assert_eq!(kinds.service(&mut budget, b"imap", now()), imap);
        let mut cmd = |service, name: &[u8]| kinds.cmd(&mut budget, service, name, now()).unwrap();
        let fetch = cmd(imap, b"UID FETCH");
        assert_eq!(cmd(imap, b"uid fetch"), fetch);
        assert_eq!(cmd(imap, b"UID FETCH"), fetch);
        assert_ne!(cmd(pop3, b"UID FETCH"), fetch);
        assert_ne!(cmd(imap, b"UID STORE"), fetch);
        assert_eq!(
            kinds.cmds[usize::from(fetch.0)].name.as_slice(),
            b"UID FETCH"
        );
    }

    #[test]
    fn what_is_too_many_or_too_long_counts_at_others() {
        let (mut kinds, mut budget) = kinds(64 << 20);
        let long = [b'x'; MAX_NAME_BYTES + 1];
        for name in [&b""[..], &long, b"other"] {
            let service = kinds.service(&mut budget, name, now());
            assert_eq!(service, ServiceId::OTHER);
        }
        let mut services = Vec::new();
        for n in 0..100 {
            let name = format!("service{n}");
            services.push(kinds.service(&mut budget, name.as_bytes(), now()));
        }
        assert_eq!(kinds.services.len(), MOST_SERVICES);
        assert_eq!(services[62], ServiceId(63));
        assert!(services[63..].iter().all(|it| *it == ServiceId::OTHER));
        let mut of = |service, name: &[u8]| kinds.cmd(&mut budget, service, name, now());
        for n in 0..1000 {
            of(services[n % 50], format!("cmd{n}").as_bytes()).unwrap();
        }
        let other = of(services[3], b"one more").unwrap();
        assert_eq!(of(services[3], &long), Some(other));
        assert_eq!(of(services[3], b""), Some(other));
        assert_ne!(of(services[4], b"one more"), Some(other));
        let named = kinds.cmds.iter().filter(|cmd| cmd.name.as_slice() != OTHER);
        assert_eq!(named.count(), MOST_CMDS - MOST_SERVICES);
        assert_eq!(kinds.cmds[usize::from(other.0)].service, services[3]);
        assert!(kinds.cmds.len() <= MOST_CMDS);
    }

    #[test]
    fn they_take_no_more_than_their_share_and_are_charged() {
        let (mut kinds, mut budget) = kinds(256 << 10);
        for n in 0..1000 {
            let service = format!("service{}", n % 10);
            let service = kinds.service(&mut budget, service.as_bytes(), now());
            kinds.cmd(&mut budget, service, format!("cmd{n}").as_bytes(), now());
        }
        let bytes = kinds.services.capacity() * size_of::<Service>()
            + kinds.cmds.capacity() * size_of::<Cmd>();
        let overhead = 2 * BLOCK_OVERHEAD_BYTES;
        assert_eq!(budget.used_bytes(), bytes + overhead);
        let of_others = 3 * TOGETHER * size_of::<Cmd>();
        assert!(bytes <= (256 << 10) / SHARE + of_others, "{bytes}");
        let named = kinds.cmds.iter().filter(|cmd| cmd.name.as_slice() != OTHER);
        assert_eq!(named.count(), (256 << 10) / SHARE / size_of::<Cmd>());
    }
}
