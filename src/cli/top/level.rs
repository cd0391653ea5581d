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
    /// The level of what an entry is made of, and the filters for the entry's first texts;
    /// `None`: there is none below.
    pub below: Option<(Level, &'static [&'static str])>,
}

/// In the order of their keys, 1 to 8.
pub(super) static LEVELS: [LevelRow; 8] = [
    LevelRow {
        level: Level::Domain,
        title: ("Domains", "dom"),
        texts: &["domain"],
        key_texts: 1,
        text_columns: &[("DOMAIN", 0, 16, 60)],
        columns: WIDE,
        filter: Some("domain"),
        below: Some((Level::User, &["domain"])),
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
        below: Some((Level::Session, &["user"])),
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
        below: Some((Level::Command, &["session"])),
    },
    LevelRow {
        level: Level::Command,
        title: ("Commands", "cmd"),
        texts: &["session", "cmd", "args", "user", "service"],
        key_texts: 3,
        text_columns: &[("COMMAND", 1, 8, 16), ("USER", 3, 12, 40)],
        columns: &[
            "disk",
            "cpu",
            "clock_time",
            "last_update",
            "disk_input",
            "disk_output",
        ],
        filter: Some("user"),
        below: Some((Level::Session, &["session"])),
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
        below: Some((Level::Session, &["ip"])),
    },
    LevelRow {
        level: Level::Global,
        title: ("Servers", "all"),
        texts: &[],
        key_texts: 0,
        text_columns: &[],
        columns: &[
            "num_connected_sessions",
            "disk",
            "cpu",
            "num_cmds",
            "num_logins",
            "last_update",
            "time_p50",
            "time_p99",
            "disk_input",
            "disk_output",
        ],
        filter: None,
        below: Some((Level::Domain, &[])),
    },
    LevelRow {
        level: Level::Service,
        title: ("Services", "svc"),
        texts: &["service"],
        key_texts: 1,
        text_columns: &[("SERVICE", 0, 8, 32)],
        columns: &[
            "num_cmds",
            "num_connected_sessions",
            "time_p50",
            "time_p90",
            "time_p99",
            "time_max",
            "cpu",
            "disk",
            "num_logins",
            "last_update",
        ],
        filter: Some("service"),
        below: Some((Level::Cmd, &["service"])),
    },
    LevelRow {
        level: Level::Cmd,
        title: ("Kinds", "kind"),
        texts: &["service", "cmd"],
        key_texts: 2,
        text_columns: &[("SERVICE", 0, 8, 16), ("COMMAND", 1, 8, 24)],
        columns: &[
            "num_cmds",
            "time_p50",
            "time_p90",
            "time_p99",
            "time_max",
            "cpu",
            "disk",
            "last_update",
        ],
        filter: Some("cmd"),
        below: Some((Level::Command, &["service", "cmd"])),
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
            let (_, filters) = row.below.unwrap();
            assert!(filters
                .iter()
                .zip(row.texts)
                .all(|(filter, text)| filter == text));
        }
    }
}
