//! What a request lists, found by looking at everything.

use dovestat::store::{Filter, Key, Level, Opening, Pattern, Progress, Row, Store};
use std::net::IpAddr;

/// What tells a row from others, and what filters ask of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// User, domain, session or command; empty for an address.
    pub name: Vec<u8>,
    /// Whose, of a session or command.
    pub user: Vec<u8>,
    /// Where from, of a session or address.
    pub ip: Option<IpAddr>,
    /// Of a command, its session.
    pub session: Vec<u8>,
    /// Of a session.
    pub service: Vec<u8>,
    /// Whether anything of it is connected.
    pub connected: bool,
    /// When it was last updated, in seconds since 1970.
    pub updated_secs: u64,
}

/// A row as an entry; none of the global one.
fn entry(row: &Row) -> Option<Entry> {
    let mut entry = Entry {
        name: Vec::new(),
        user: Vec::new(),
        ip: None,
        session: Vec::new(),
        service: Vec::new(),
        connected: row.totals().is_some_and(|totals| totals.connected > 0),
        updated_secs: row
            .totals()
            .map_or(0, |totals| totals.last_update.secs.into()),
    };
    match *row {
        Row::Command {
            name,
            session,
            user,
            last_update,
            ..
        } => {
            entry.name = name.to_vec();
            entry.session = session.to_vec();
            entry.user = user.to_vec();
            entry.updated_secs = last_update.secs.into();
        }
        Row::Session {
            session,
            user,
            ip,
            service,
            connected,
            last_update,
            ..
        } => {
            entry.name = session.to_vec();
            entry.user = user.to_vec();
            entry.ip = ip;
            entry.service = service.to_vec();
            entry.connected = connected;
            entry.updated_secs = last_update.secs.into();
        }
        Row::Parent(_, Key::Name(name), _) => entry.name = name.to_vec(),
        Row::Parent(_, Key::Address(ip), _) => entry.ip = Some(ip),
        Row::Service(..) | Row::Cmd { .. } | Row::Global(..) => return None,
    }
    Some(entry)
}

/// What a walk lists, in slices of `steps`.
pub fn listed(store: &mut Store, level: Level, filter: Filter, steps: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    let Opening::Rows(cursor) = store.open(level, filter) else {
        return entries;
    };
    loop {
        let progress = store.read(&cursor, &mut steps.clone(), |row| {
            entries.extend(entry(row));
            true
        });
        if progress == Progress::Done {
            break;
        }
    }
    store.close(cursor);
    entries
}

/// The domain of a user.
pub fn domain_of(user: &[u8]) -> &[u8] {
    let at = user.iter().position(|&byte| byte == b'@');
    at.map_or(&[], |at| &user[at + 1..])
}

/// Whether a name fits, if it has to.
fn fits(pattern: &Option<Pattern>, name: &[u8]) -> bool {
    pattern
        .as_ref()
        .is_none_or(|pattern| pattern.matches(name, &mut 0))
}

/// Whether an address fits, if it has to.
fn ip_fits(filter: &Filter, ip: Option<IpAddr>) -> bool {
    let Some(network) = filter.ip else {
        return true;
    };
    match ip.map(|ip| ip.to_canonical()) {
        Some(IpAddr::V4(ip)) => network.contains(&ip.octets()),
        Some(IpAddr::V6(ip)) => network.contains(&ip.octets()),
        None => false,
    }
}

/// Whether a session fits all but the time.
fn session_fits(filter: &Filter, session: &Entry) -> bool {
    (!filter.connected || session.connected)
        && filter.session.as_ref().is_none_or(|id| *id == session.name)
        && ip_fits(filter, session.ip)
        && fits(&filter.service, &session.service)
        && fits(&filter.user, &session.user)
        && fits(&filter.domain, domain_of(&session.user))
}

/// What a request should list. Not for commands by `connected`, `ip=` or `service=`,
/// of which their rows say nothing.
pub fn expected(store: &mut Store, level: Level, filter: &Filter) -> Vec<Entry> {
    let mut all = |level| listed(store, level, Filter::default(), 1000);
    let (sessions, users) = (all(Level::Session), all(Level::User));
    let mut entries = all(level);
    let one_of = |is_parent: &dyn Fn(&Entry) -> bool| {
        let mut below = sessions.iter().filter(|session| is_parent(session));
        below.any(|session| session_fits(filter, session))
    };
    let by_session = filter.session.is_some() || filter.service.is_some() || filter.ip.is_some();
    entries.retain(|entry| {
        let name = &entry.name;
        let in_time = entry.updated_secs >= filter.since_secs;
        let is_connected = !filter.connected || entry.connected;
        in_time
            && match level {
                Level::Session => session_fits(filter, entry),
                Level::Command => {
                    filter
                        .session
                        .as_ref()
                        .is_none_or(|id| *id == entry.session)
                        && fits(&filter.user, &entry.user)
                        && fits(&filter.domain, domain_of(&entry.user))
                }
                Level::User => {
                    is_connected
                        && fits(&filter.user, name)
                        && fits(&filter.domain, domain_of(name))
                        && (!by_session || one_of(&|session| session.user == *name))
                }
                Level::Domain => {
                    let in_domain = |user: &[u8]| domain_of(user) == name;
                    is_connected
                        && fits(&filter.domain, name)
                        && (!by_session || one_of(&|session| in_domain(&session.user)))
                        && (filter.user.is_none()
                            || users.iter().any(|user| {
                                in_domain(&user.name)
                                    && (!filter.connected || user.connected)
                                    && fits(&filter.user, &user.name)
                            }))
                }
                Level::Ip => {
                    let by_other = filter.session.is_some()
                        || filter.service.is_some()
                        || filter.user.is_some()
                        || filter.domain.is_some();
                    is_connected
                        && ip_fits(filter, entry.ip)
                        && (!by_other || one_of(&|session| session.ip == entry.ip))
                }
                Level::Global | Level::Service | Level::Cmd => true,
            }
    });
    entries
}
