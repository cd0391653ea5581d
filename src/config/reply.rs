//! What the configuration socket of Dovecot's master replies: the settings that differ
//! from Dovecot's defaults, `NAME=VALUE` a line, those of sections with slashes in their
//! names.
//!
//! The statistics' settings have the names that they have in a file of Dovecot. All else
//! is Dovecot's and left aside, but for the directories.

use super::build::canonical;
use super::table::{self, Known, Scope};
use super::text::lines::quote_value;
use std::path::PathBuf;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The statistics' settings, as `NAME=VALUE`.
    pub settings: Vec<String>,
    pub base_dir: Option<PathBuf>,
    pub state_dir: Option<PathBuf>,
}

impl Reply {
    pub(crate) fn parse(text: &str) -> Reply {
        let mut reply = Reply::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let path = || Some(PathBuf::from(value)).filter(|path| path.is_absolute());
            match name {
                "base_dir" => reply.base_dir = path(),
                "state_dir" => reply.state_dir = path(),
                _ => {}
            }
            let setting = canonical(name);
            let is_known = matches!(table::find(Scope::Top, setting), Some(Known::Setting(_)));
            if setting.starts_with("stats_") && is_known {
                reply
                    .settings
                    .push(format!("{name}={}", quote_value(value)));
            }
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{read, Defaults, HostPort, Source};

    #[test]
    fn the_statistics_settings_are_taken_and_others_left_aside() {
        let text = "\nbase_dir=/run/other\nstate_dir=/srv/state\nlog_path=/var/log/x\n\
                    plugin/old_stats_refresh=1 secs\nservice/old-stats/user=x\nstats_unheard_of=1\n\
                    old_stats_memory_limit=2 G\nstats_carbon_server=a.example\n\
                    old_stats_carbon_name=$mail <b \"c\"\n\n";
        let reply = Reply::parse(text);
        assert_eq!(reply.base_dir, Some("/run/other".into()));
        assert_eq!(reply.state_dir, Some("/srv/state".into()));
        let source = Source::Default("/nonexistent".into());
        let overrides = ["stats_carbon_server=b.example".to_owned()];
        let taken = read(&source, &reply.settings, &overrides, &Defaults::private());
        let settings = taken.unwrap().settings;
        assert_eq!(settings.stats_memory_limit_bytes, 2 << 30);
        assert_eq!(settings.carbon_name, "$mail <b \"c\"", "as it stands there");
        let server = HostPort {
            host: "b.example".to_owned(),
            port: 2003,
        };
        assert_eq!(settings.carbon_server, Some(server), "-o comes last");
        assert_eq!(settings.base_dir, Defaults::private().base_dir);
    }

    #[test]
    fn a_mistake_is_one_of_dovecots_configuration() {
        let reply = Reply::parse("\nold_stats_memory_limit=much\n\n");
        let source = Source::Default("/nonexistent".into());
        let mistakes = read(&source, &reply.settings, &[], &Defaults::private()).unwrap_err();
        let text = mistakes.to_string();
        assert!(
            text.starts_with("dovecot.conf: old_stats_memory_limit: "),
            "{text}"
        );
    }
}
