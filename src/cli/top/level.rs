//! What `top` knows of the levels: one row for each.

use crate::store::Level;

#[derive(Debug)]
pub(super) struct LevelRow {
    pub level: Level,
    /// What it is called, long and short.
    pub title: (&'static str, &'static str),
    /// The texts of its entries, by their names in the protocol.
    pub texts: &'static [&'static str],
    /// How many of them make an entry's key.
    pub key_texts: usize,
    /// The columns with texts: title, which text, the least and the most columns of the
    /// terminal.
    pub text_columns: &'static [(&'static str, usize, usize, usize)],
    /// The first columns with numbers that are shown unless the user chose others.
    pub columns: &'static [&'static str],
    /// The filter of the server for a word that is typed; `None`: it has none.
    pub filter: Option<&'static str>,
    /// The level of what an entry is made of, and the filter for the entry's first text,
    /// if that is one's; `None`: there is none below.
    pub below: Option<(Level, Option<&'static str>)>,
}

/// In the order of their keys, 1 to 6.
pub(super) static LEVELS: [LevelRow; 6] = [
    LevelRow {
        level: Level::Domain,
        title: ("Domains", "dom"),
        texts: &["domain"],
        key_texts: 1,
        text_columns: &[("DOMAIN", 0, 16, 60)],
        columns: WIDE,
        filter: Some("domain"),
        below: Some((Level::User, Some("domain"))),
    },
    LevelRow {
        level: Level::User,
        title: ("Users", "user"),
        texts: &["user"],
        key_texts: 1,
        text_columns: &[("USER", 0, 16, 60)],
        columns: &[
            "disk",
            "cpu",
            "num_cmds",
            "num_logins",
            "num_connected_sessions",
            "disk_input",
            "disk_output",
            "last_update",
        ],
        filter: Some("user"),
        below: Some((Level::Session, Some("user"))),
    },
    LevelRow {
        level: Level::Session,
        title: ("Sessions", "sess"),
        texts: &["session", "user", "service", "ip", "pid"],
        key_texts: 1,
        text_columns: &[
            ("USER", 1, 12, 50),
            ("SERVICE", 2, 7, 12),
            ("IP", 3, 9, 39),
            ("PID", 4, 5, 10),
            ("SESSION", 0, 8, 32),
        ],
        columns: &[
            "disk",
            "cpu",
            "num_cmds",
            "last_update",
            "disk_input",
            "disk_output",
        ],
        filter: Some("user"),
        below: Some((Level::Command, Some("session"))),
    },
    LevelRow {
        level: Level::Command,
        title: ("Commands", "cmd"),
        texts: &["session", "cmd", "args", "user", "service"],
        key_texts: 3,
        text_columns: &[("COMMAND", 1, 8, 16), ("USER", 3, 12, 40)],
        columns: &["disk", "cpu", "last_update", "disk_input", "disk_output"],
        filter: Some("user"),
        below: None,
    },
    LevelRow {
        level: Level::Ip,
        title: ("IPs", "ip"),
        texts: &["ip"],
        key_texts: 1,
        text_columns: &[("ADDRESS", 0, 15, 39)],
        columns: &[
            "num_connected_sessions",
            "disk",
            "cpu",
            "num_cmds",
            "num_logins",
            "auth_successes",
            "auth_failures",
            "last_update",
        ],
        // It has none for parts of addresses.
        filter: None,
        below: Some((Level::Session, Some("ip"))),
    },
    LevelRow {
        level: Level::Global,
        title: ("Servers", "all"),
        texts: &[],
        key_texts: 0,
        text_columns: &[],
        columns: WIDE,
        filter: None,
        below: Some((Level::Domain, None)),
    },
];

/// The columns of levels with many sessions in an entry.
const WIDE: &[&str] = &[
    "num_connected_sessions",
    "disk",
    "cpu",
    "num_cmds",
    "num_logins",
    "last_update",
    "disk_input",
    "disk_output",
];

/// The row of a level.
pub(super) fn level_row(level: Level) -> &'static LevelRow {
    let found = LEVELS.iter().find(|row| row.level == level);
    found.expect("each level has a row")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_has_a_row_whose_texts_are_there() {
        for level in Level::ALL {
            let row = level_row(level);
            assert!(row.key_texts <= row.texts.len(), "{level:?}");
            let mut columns = row.text_columns.iter();
            assert!(
                columns.all(|&(_, text, least, most)| text < row.texts.len() && least <= most),
                "{level:?}"
            );
        }
    }
}
