//! Ids that no other session has: 32 hexadecimal digits, as Dovecot's GUIDs.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The id of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(String);

impl SessionId {
    /// A new one: the time in nanoseconds, then a hash, with a random key, of the
    /// process and of how many there were before.
    pub fn new() -> SessionId {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanos = since.unwrap_or_default().as_nanos() as u64;
        // The pid, because a copy of this process has the same keys.
        let place = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let hash = RandomState::new().hash_one(place);
        SessionId(format!("{nanos:016x}{hash:016x}"))
    }

    /// An id that another program gave to its session.
    pub(crate) fn given(id: &[u8]) -> SessionId {
        SessionId(String::from_utf8_lossy(id).into_owned())
    }

    /// The 32 digits, or the id that another program gave.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Default for SessionId {
    fn default() -> SessionId {
        SessionId::new()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_32_digits_and_all_differ() {
        let ids: HashSet<SessionId> = (0..10_000).map(|_| SessionId::new()).collect();
        assert_eq!(ids.len(), 10_000);
        let digits =
            |id: &SessionId| id.0.len() == 32 && id.0.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(ids.iter().all(digits));
    }
}
