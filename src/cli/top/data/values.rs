//! The numbers of a reading: the level's counters and gauges, then the statistics in
//! their own order.

use crate::stats::{Unit, FIELDS, FIELD_COUNT};
use std::ops::Range;

/// Numbers of a reading.
pub(crate) const VALUES: usize = OWN.len() + FIELD_COUNT;
/// Where num_logins is in it.
pub(crate) const LOGINS: usize = 0;
/// Where num_cmds is in it.
pub(crate) const COMMANDS: usize = 1;
/// Where num_connected_sessions is in it.
pub(crate) const SESSIONS: usize = 2;

/// Those of the level, by their names in the protocol: two counters, then gauges.
const OWN: [&str; 7] = [
    "num_logins",
    "num_cmds",
    "num_connected_sessions",
    "time_p50",
    "time_p90",
    "time_p99",
    "time_max",
];

/// What is now: it does not move on as counters do.
pub(crate) const GAUGES: Range<usize> = SESSIONS..OWN.len();

/// Where a reply's column is in a reading, if it is a number to be kept.
pub(crate) fn value_index(name: &str) -> Option<usize> {
    let own = OWN.iter().position(|&own| own == name);
    own.or_else(|| Some(OWN.len() + FIELDS.iter().position(|field| field.name == name)?))
}

/// Whether a number of a reading is a time in microseconds.
pub(crate) fn is_time(value: usize) -> bool {
    match value.checked_sub(OWN.len()) {
        Some(field) => FIELDS[field].unit == Unit::Time,
        None => value > SESSIONS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_a_reply_has_a_place() {
        for (at, name) in OWN.iter().enumerate() {
            assert_eq!(value_index(name), Some(at));
            assert_eq!(is_time(at), name.starts_with("time_"));
        }
        assert_eq!(value_index("user_cpu"), Some(7));
        assert!(is_time(7) && !is_time(LOGINS));
        assert!(!GAUGES.contains(&COMMANDS) && !GAUGES.contains(&7));
        assert_eq!(value_index("lock_wait"), Some(VALUES - 1));
        assert_eq!(value_index("pid"), None);
    }
}
