//! Dovecot's own files: how they are recognised, and what is taken from them.
//!
//! A whole `dovecot.conf`, or what doveconf(1) prints, can be read as it is. Of
//! such a file only the statistics are ours: the settings `stats_...` and
//! `old_stats_...` and the section `service stats` or `service old-stats`. All else,
//! `base_dir` and `log_path` included, is Dovecot's and left aside.
//!
//! A file is Dovecot's own if it has, outside sections, a setting or section that
//! only Dovecot has ([`is_dovecots`]); so is what it includes, and what the same
//! `!include conf.d/*.conf` names: one of these may have nothing but a `log_path`. If
//! that pattern is relative, the file with the line is Dovecot's as well, where
//! ours names Dovecot's by an absolute path or one by one.
//!
//! [`OUR_FILE`](crate::config::OUR_FILE) never is Dovecot's, whatever was put into it.
//!
//! The settings that instructions for the statistics add ([`FROM_INSTRUCTIONS`]) prove
//! nothing: they are easily put into the wrong file, ours, and are a mistake there.

use crate::config::text::{Included, Item, Text, What};

/// Settings outside sections that only Dovecot has.
const SETTINGS: &[&str] = &[
    "deliver_log_format",
    "disable_plaintext_auth",
    "first_valid_gid",
    "first_valid_uid",
    "last_valid_gid",
    "last_valid_uid",
    "libexec_dir",
    "lock_method",
    "mbox_write_locks",
    "mmap_disable",
    "postmaster_address",
    "protocols",
    "quota_full_tempfail",
    "recipient_delimiter",
    "rejection_reason",
    "sendmail_path",
    "shutdown_clients",
    "submission_host",
    "verbose_proctitle",
    "verbose_ssl",
];

const FAMILIES: &[&str] = &[
    "auth_",
    "dict_",
    "director_",
    "doveadm_",
    "imap_",
    "imapc_",
    "lda_",
    "lmtp_",
    "login_",
    "mail_",
    "mailbox_",
    "maildir_",
    "managesieve_",
    "mdbox_",
    "pop3_",
    "pop3c_",
    "replication_",
    "ssl_",
    "submission_",
];

/// Sections outside others that only Dovecot has.
const SECTIONS: &[&str] = &[
    "dict",
    "event_exporter",
    "local",
    "local_name",
    "metric",
    "namespace",
    "passdb",
    "remote",
    "userdb",
];

/// Its services beside the statistics.
const SERVICES: &[&str] = &[
    "anvil",
    "auth",
    "auth-worker",
    "config",
    "dict",
    "dict-async",
    "dns_client",
    "doveadm",
    "imap",
    "imap-hibernate",
    "imap-login",
    "indexer-worker",
    "lmtp",
    "log",
    "managesieve-login",
    "pop3",
    "pop3-login",
    "replicator",
    "submission-login",
];

/// Settings and sections that Dovecot's manual and others add to Dovecot's own
/// configuration for the statistics.
pub(super) const FROM_INSTRUCTIONS: &[&str] = &[
    "auth_stats",
    "mail_access_groups",
    "mail_plugins",
    "plugin",
    "protocol",
];

/// Sections that came with the new statistics of Dovecot 2.3, whose `service stats`
/// is another than that of 2.2.
const NEW_STATISTICS: &[&str] = &["event_exporter", "metric"];

/// Listeners of the new statistics of Dovecot 2.3. If they were opened by another
/// program, Dovecot would refuse to start.
const NEW_LISTENERS: &[&str] = &["stats-reader", "stats-writer"];

/// Whether a `unix_listener` of this name is one of the new statistics.
pub(super) fn is_new_listener(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    NEW_LISTENERS.contains(&last)
}

/// What is known of the files of a configuration.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// Whether each is Dovecot's own.
    dovecots: Vec<bool>,
    /// Whether these have the new statistics beside the old ones.
    pub has_new_statistics: bool,
}

impl Owners {
    /// Finds out whose files these are.
    pub(super) fn of(text: &Text) -> Owners {
        let mut dovecots = vec![false; text.files.len()];
        for item in outermost(&text.items) {
            if let (Some(file), true) = (item.file, is_dovecots(&item.what)) {
                dovecots[file] = !text.files[file].is_ours;
            }
        }
        // Until nothing follows from what is known any more.
        let mut known = 0;
        loop {
            let mut patterns = Vec::new();
            for (file, read) in text.files.iter().enumerate() {
                let Some(included) = read.included else {
                    continue;
                };
                dovecots[file] |= dovecots[included.by] && !read.is_ours;
                if dovecots[file] && included.is_pattern {
                    patterns.push(included.include);
                    let by = &text.files[included.by];
                    dovecots[included.by] |= included.is_relative && !by.is_ours;
                }
            }
            for (file, read) in text.files.iter().enumerate() {
                let is_beside = |included: Included| patterns.contains(&included.include);
                dovecots[file] |= read.included.is_some_and(is_beside) && !read.is_ours;
            }
            let count = dovecots.iter().filter(|is| **is).count();
            if count == std::mem::replace(&mut known, count) {
                break;
            }
        }
        let mut owners = Owners {
            dovecots,
            has_new_statistics: false,
        };
        owners.has_new_statistics = outermost(&text.items)
            .filter(|item| owners.is_dovecots(item.file))
            .any(|item| match &item.what {
                What::Open { kind, name, .. } => {
                    (kind == "service" && name.as_deref() == Some("old-stats"))
                        || NEW_STATISTICS.contains(&kind.as_str())
                }
                What::Set { key, .. } => key.starts_with("old_stats_"),
                _ => false,
            });
        owners
    }

    /// Whether a file is Dovecot's own; an override never is.
    pub(super) fn is_dovecots(&self, file: Option<usize>) -> bool {
        file.is_some_and(|file| self.dovecots.get(file) == Some(&true))
    }
}

/// The items outside sections, those that open one included.
fn outermost(items: &[Item]) -> impl Iterator<Item = &Item> {
    let mut depth = 0usize;
    items.iter().filter(move |item| match item.what {
        What::Open { .. } => {
            depth += 1;
            depth == 1
        }
        What::Close => {
            depth -= 1;
            false
        }
        _ => depth == 0,
    })
}

/// Whether an item outside sections proves that its file is Dovecot's.
fn is_dovecots(what: &What) -> bool {
    match what {
        What::Set { key, .. } => {
            let key = key.as_str();
            let is_of_family = |family: &&str| key.starts_with(*family);
            !FROM_INSTRUCTIONS.contains(&key)
                && (SETTINGS.contains(&key) || FAMILIES.iter().any(is_of_family))
        }
        What::Open { kind, name, .. } => {
            let name = name.as_deref().unwrap_or_default();
            SECTIONS.contains(&kind.as_str()) || (kind == "service" && SERVICES.contains(&name))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::text::FileRead;
    use crate::config::Location;
    use std::path::Path;

    /// The file that has the line, the number of the line, whether it is a pattern,
    /// whether it is relative.
    type Include = (usize, usize, bool, bool);

    /// Whether each file is Dovecot's. A file is given by the include that names it, by
    /// whether it is ours, and by whether it has a setting that only Dovecot has.
    fn owners(files: &[(Option<Include>, bool, bool)]) -> Vec<bool> {
        let mut text = Text::default();
        for (number, (included, is_ours, has_setting)) in files.iter().enumerate() {
            text.files.push(FileRead {
                dir: Path::new("").into(),
                is_ours: *is_ours,
                included: included.map(|(by, include, is_pattern, is_relative)| Included {
                    by,
                    include,
                    is_pattern,
                    is_relative,
                }),
            });
            let key = if *has_setting {
                "mail_location"
            } else {
                "base_dir"
            };
            text.items.push(Item {
                place: Location::whole("file"),
                file: Some(number),
                what: What::Set {
                    key: key.to_owned(),
                    value: String::new(),
                },
            });
        }
        Owners::of(&text).dovecots
    }

    #[test]
    fn a_tree_of_dovecots_files_is_dovecots() {
        let of = |main_is_ours, is_pattern, is_relative| {
            owners(&[
                (None, main_is_ours, false),
                (Some((0, 1, is_pattern, is_relative)), false, false),
                (Some((1, 2, false, false)), false, false),
                (Some((0, 1, is_pattern, is_relative)), false, true),
                (Some((0, 3, true, true)), false, false),
            ])
        };
        // conf.d/*.conf, /etc/dovecot/conf.d/*.conf, conf.d/10-mail.conf
        assert_eq!(of(false, true, true), [true; 5]);
        assert_eq!(of(false, true, false), [false, true, true, true, false]);
        assert_eq!(of(false, false, true), [false, false, false, true, false]);
        assert_eq!(of(true, true, true), [false, true, true, true, false]);
    }

    #[test]
    fn our_own_file_never_is() {
        assert_eq!(owners(&[(None, true, true)]), [false]);
        assert_eq!(owners(&[(None, false, true)]), [true]);
    }
}
