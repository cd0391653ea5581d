//! The sessions that the daemon has from an earlier run of this program.
//!
//! Asked for once, before the events socket exists, so that no login waits for it. A
//! daemon that does not answer has none, as far as this program knows.

use super::join::key;
use super::sessions::{known_key, Known, KnownSessions};
use crate::cli::server::{export_request, Address, Event, ReplyParser};
use crate::stats::{Stats, Unit, FIELDS};
use crate::store::Level;
use std::io;
use std::time::Duration;

/// How long a daemon may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks the daemon for its connected sessions, `max` at most.
pub(super) fn known_sessions(server: &Address, max: usize) -> io::Result<KnownSessions> {
    let mut connection = server.connect(TIMEOUT)?;
    connection.set_timeout(TIMEOUT)?;
    let filters = [b"connected".to_vec(), b"more".to_vec()];
    connection.send(&export_request(Level::Session, &filters))?;
    let mut parser = ReplyParser::default();
    let mut names = Vec::new();
    let mut known = KnownSessions::default();
    loop {
        match parser.next()? {
            Some(Event::Header(found)) => names = found,
            Some(Event::Row(row)) if known.by_id.len() < max => {
                let column = |name: &str| {
                    let place = names.iter().position(|known| known == name);
                    place.map_or(&b""[..], |place| row.get(place))
                };
                let text = |name: &str| std::str::from_utf8(column(name)).unwrap_or_default();
                let mut total = Stats::default();
                for (value, field) in total.values.iter_mut().zip(&FIELDS) {
                    *value = match field.unit {
                        Unit::Time => text(field.name).replace('.', ""),
                        _ => text(field.name).to_owned(),
                    }
                    .parse()
                    .unwrap_or(0);
                }
                let id = column("session").to_vec();
                if column("service") == b"auth" {
                    // That of another bridge goes on.
                    if !is_bridge(text("pid")) {
                        known.auth.push(id);
                    }
                    continue;
                }
                let key = key(column("user"), column("service"), column("ip"));
                let pid = text("pid").parse().unwrap_or(0);
                known.by_connection.insert(known_key(&key, pid), id.clone());
                let num_cmds = text("num_cmds").parse().unwrap_or(0);
                known.by_id.insert(id, Known { total, num_cmds });
            }
            Some(Event::Row(_)) => {}
            Some(Event::End | Event::Nothing) => return Ok(known),
            None => {
                if connection.fill(&mut parser)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}

fn is_bridge(pid: &str) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    name.is_ok_and(|name| name == "dovestat-bridge\n")
}
