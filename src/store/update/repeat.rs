//! Records that say again what is known.
//!
//! A writer that finds another reader at its FIFO cannot tell whether that one
//! remembers: it says everything again, beginnings, too. A store that was restored
//! does remember, and such a record is no mistake as long as it says the very
//! same. A beginning that says anything else stays refused.

use crate::store::entries::entry::Flag;
use crate::store::entries::level::{key, rest};
use crate::store::{CommandUpdate, Note, Now, Record, Store};
use std::net::IpAddr;

impl Store {
    /// Applies a record that [`Store::apply`] refused with `note`, if that was for
    /// beginning what has begun just so: a session stays as it is, a command goes
    /// on. The answer is what is remarkable then, if anything.
    pub fn apply_repeated(&mut self, record: &Record, note: Note, now: Now) -> Option<Note> {
        match (note, record) {
            (
                Note::DuplicateSession,
                &Record::Connect {
                    session,
                    user,
                    service,
                    pid,
                    ip,
                },
            ) if self.has_connected(session, (user, service), pid, ip) => None,
            (Note::DuplicateCommand, Record::UpdateCommand { session, update })
                if self.began_so(session, update) =>
            {
                let update = CommandUpdate {
                    begins: None,
                    ..*update
                };
                self.apply(&Record::UpdateCommand { session, update }, now)
            }
            _ => Some(note),
        }
    }

    /// Whether a session is connected, just so.
    fn has_connected(
        &mut self,
        id: &[u8],
        (user, service): (&[u8], &[u8]),
        pid: u32,
        ip: Option<IpAddr>,
    ) -> bool {
        let ip = ip.map(|ip| self.find_ip(ip));
        let Some(link) = self.find_session(id) else {
            return false;
        };
        let session = &self.sessions.arena[link];
        let heap = &self.memory.heap;
        session.has(Flag::Connected)
            && key(heap, &self.users.arena[session.user]) == user
            && (rest(heap, session), session.pid) == (service, pid)
            && session.ip.map(Some) == ip
    }

    /// Whether a command that was refused for its number began just so.
    fn began_so(&mut self, session: &[u8], update: &CommandUpdate) -> bool {
        let session = self.find_session(session);
        let known = session.and_then(|session| self.find_command(session, update.number));
        known.is_some_and(|link| {
            let command = &self.commands.arena[link];
            debug_assert!(!command.common.stamp.has(Flag::Done), "it was refused");
            let heap = &self.memory.heap;
            update.begins == Some((key(heap, command), rest(heap, command)))
        })
    }
}
