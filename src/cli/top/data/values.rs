//! The numbers of a reading: three counters of the level, then the statistics in their
//! own order.

use crate::stats::{Unit, FIELDS, FIELD_COUNT};

/// Numbers of a reading.
pub(crate) const VALUES: usize = 3 + FIELD_COUNT;
/// Where num_logins is in it.
pub(crate) const LOGINS: usize = 0;
/// Where num_cmds is in it.
pub(crate) const COMMANDS: usize = 1;
/// Where num_connected_sessions is in it.
pub(crate) const SESSIONS: usize = 2;

/// The columns of a reply that are numbers, by their names in the protocol.
const COUNTERS: [&str; 3] = ["num_logins", "num_cmds", "num_connected_sessions"];

/// Where a reply's column is in a reading, if it is a number to be kept.
pub(crate) fn value_index(name: &str) -> Option<usize> {
    let counter = COUNTERS.iter().position(|&counter| counter == name);
    counter.or_else(|| Some(3 + FIELDS.iter().position(|field| field.name == name)?))
}

/// Whether a number of a reading is a time in microseconds.
pub(crate) fn is_time(value: usize) -> bool {
    value >= 3 && FIELDS[value - 3].unit == Unit::Time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_a_reply_has_a_place() {
        for (at, name) in COUNTERS.iter().enumerate() {
            assert_eq!(value_index(name), Some(at));
        }
        assert_eq!(value_index("user_cpu"), Some(3));
        assert!(is_time(3) && !is_time(LOGINS));
        assert_eq!(value_index("lock_wait"), Some(VALUES - 1));
        assert_eq!(value_index("pid"), None);
    }
}
