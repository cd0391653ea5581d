//! The one table of settings.
//!
//! Each setting is one row: its name, its default in configuration syntax, what
//! it is for, and how it gets into and out of the typed settings. The parser, the
//! defaults, the `-n` and `-a` listings, the sample file and the check of the
//! manual all go through these rows. There is one list of rows per kind of section.
//!
//! To add a setting: a field in `settings`, a row here, the manual dovestatd.conf(5) and the
//! sample configuration; a new kind of value also a pair of functions in `value`.
//!
//! Three defaults are not a row's: `base_dir` depends on who starts the daemon, `reset`
//! is `yes` on UNIX sockets, and `mode` is [`FIFO_MODE`] for FIFOs.
//!
//! Beside it stand the names that only a copied Dovecot configuration has.

use super::settings::{FileListener, InetListener, ListenerOptions, Service, Settings};
use super::value;
use crate::store::Level;
use std::path::PathBuf;

/// A setting of a section whose typed form is `T`.
pub struct Setting<T> {
    pub name: &'static str,
    /// The default in configuration syntax; `None`: every section must give it.
    pub default: Option<&'static str>,
    /// What it is for: a phrase for the sample file.
    pub about: &'static str,
    /// Whether a daemon that serves takes no new value.
    pub(super) needs_restart: bool,
    /// Reads a value, failing with what would be right.
    pub(super) set: fn(&mut T, &str) -> Result<(), String>,
    /// The value as text that `set` reads back.
    pub(super) get: fn(&T) -> String,
}

/// A kind of section, and which one of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Outside of any section.
    Top,
    /// `service stats`
    Service,
    /// The FIFO with this index.
    Fifo(usize),
    /// The UNIX socket with this index.
    Unix(usize),
    /// The TCP port with this index.
    Inet(usize),
    /// One that is not read.
    Unknown,
}

/// What is known of a name.
pub(super) enum Known {
    /// A setting, and what it is for.
    Setting(&'static str),
    /// It exists to be referred to.
    Variable,
    /// It may only be `no`.
    OnlyNo,
    /// It has no meaning here.
    Ignored,
}

/// The user the daemon runs as by default.
pub const DEFAULT_USER: &str = "dovestat";
/// The directory of the FIFOs and sockets of the system's daemon.
pub const SYSTEM_BASE_DIR: &str = "/run/dovestat";
/// Where the statistics of that daemon outlive a restart.
pub const SYSTEM_STATE_DIR: &str = "/var/lib/dovestat";
pub const FIFO_NAMES: [&str; 2] = ["stats-mail", "stats-user"];
/// The mode of FIFOs by default: a reader of one takes the records of others.
pub const FIFO_MODE: u32 = 0o200;
/// The default UNIX sockets.
pub const UNIX_NAMES: [&str; 1] = ["stats"];
/// A `chroot` that is made if it is missing, as Dovecot has one with nothing in it.
pub const CHROOT_MADE: &str = "empty";
pub const MEMORY_LIMIT_MIN_BYTES: u64 = 256 * 1024;
pub const CARBON_PORT: u16 = 2003;
/// What `client_limit = 0` means, in Dovecot and here.
const DEFAULT_CLIENT_LIMIT: u32 = 1000;

/// The row of the min_time of a level.
const fn min_time<const LEVEL: usize>(
    name: &'static str,
    default: &'static str,
    about: &'static str,
) -> Setting<Settings> {
    Setting {
        name,
        default: Some(default),
        about,
        needs_restart: false,
        set: |s, v| put(&mut s.stats_min_time_secs[LEVEL], value::time(v, 0)),
        get: |s| value::show_time(s.stats_min_time_secs[LEVEL]),
    }
}

pub const TOP: &[Setting<Settings>] = &[
    Setting {
        name: "base_dir",
        default: Some(SYSTEM_BASE_DIR),
        about: "directory of the FIFOs and sockets; an ordinary user has another default",
        needs_restart: true,
        set: |s, v| put(&mut s.base_dir, value::absolute_path(v)),
        get: |s| s.base_dir.to_string_lossy().into_owned(),
    },
    Setting {
        name: "log_path",
        default: Some("syslog"),
        about: "syslog, stderr or a file",
        needs_restart: true,
        set: |s, v| put(&mut s.log_path, value::log_path(v)),
        get: |s| value::show_log_path(&s.log_path),
    },
    Setting {
        name: "pidfile",
        default: Some(""),
        about: "file for the number of the daemon's process; empty: none",
        needs_restart: true,
        set: |s, v| put(&mut s.pidfile, value::optional_path(v)),
        get: |s| value::show_optional_path(&s.pidfile),
    },
    Setting {
        name: "state_dir",
        default: Some("auto"),
        about: "directory where statistics outlive a restart; empty: none; auto: \
                /var/lib/dovestat with the default base_dir, else base_dir",
        needs_restart: true,
        set: |s, v| put(&mut s.state_dir, value::state_dir(v)),
        get: |s| value::show_state_dir(&s.state_dir),
    },
    Setting {
        name: "stats_state_interval",
        default: Some("5 mins"),
        about: "time between two writes of the statistics to state_dir; 0: at the end only",
        needs_restart: false,
        set: |s, v| put(&mut s.stats_state_interval_secs, value::time(v, 0)),
        get: |s| value::show_time(s.stats_state_interval_secs),
    },
    Setting {
        name: "stats_memory_limit",
        default: Some("16 M"),
        about: "most memory used for statistics, at least 256 K",
        needs_restart: true,
        set: |s, v| {
            let bytes = value::size(v, MEMORY_LIMIT_MIN_BYTES);
            put(&mut s.stats_memory_limit_bytes, bytes)
        },
        get: |s| value::show_size(s.stats_memory_limit_bytes),
    },
    min_time::<{ Level::Command as usize }>(
        "stats_command_min_time",
        "1 mins",
        "how long a command is kept after its last record, memory permitting",
    ),
    min_time::<{ Level::Session as usize }>(
        "stats_session_min_time",
        "15 mins",
        "how long a disconnected session is kept, memory permitting",
    ),
    min_time::<{ Level::User as usize }>(
        "stats_user_min_time",
        "1 hours",
        "how long a user without sessions is kept, memory permitting",
    ),
    min_time::<{ Level::Domain as usize }>(
        "stats_domain_min_time",
        "12 hours",
        "how long a domain without users is kept, memory permitting",
    ),
    min_time::<{ Level::Ip as usize }>(
        "stats_ip_min_time",
        "12 hours",
        "how long an IP address without sessions is kept, memory permitting",
    ),
    Setting {
        name: "stats_slow_command_time",
        default: Some("0"),
        about: "log each command that took longer, as 5 secs or 500 msecs; 0: none",
        needs_restart: false,
        set: |s, v| put(&mut s.stats_slow_command_msecs, value::time_msecs(v)),
        get: |s| value::show_time_msecs(s.stats_slow_command_msecs),
    },
    Setting {
        name: "stats_slow_command_args",
        default: Some("no"),
        about: "whether their arguments are logged as well, which are private",
        needs_restart: false,
        set: |s, v| put(&mut s.stats_slow_command_args, value::boolean(v)),
        get: |s| value::show_boolean(s.stats_slow_command_args),
    },
    Setting {
        name: "stats_carbon_server",
        default: Some(""),
        about: "carbon receiver: host, host:port or [ipv6]:port (port 2003); empty: off",
        needs_restart: false,
        set: |s, v| put(&mut s.carbon_server, value::host_port(v, CARBON_PORT)),
        get: |s| {
            let server = s.carbon_server.as_ref();
            server.map_or(String::new(), ToString::to_string)
        },
    },
    Setting {
        name: "stats_carbon_name",
        default: Some(""),
        about: "this host's name in carbon; empty: the host name up to its first dot",
        needs_restart: false,
        set: |s, v| put(&mut s.carbon_name, Ok(v.to_owned())),
        get: |s| s.carbon_name.clone(),
    },
    Setting {
        name: "stats_carbon_interval",
        default: Some("30 secs"),
        about: "time between two carbon reports, at least 1 secs",
        needs_restart: false,
        set: |s, v| put(&mut s.carbon_interval_secs, value::time(v, 1)),
        get: |s| value::show_time(s.carbon_interval_secs),
    },
    Setting {
        name: "stats_carbon_levels",
        default: Some("global"),
        about: "levels sent to carbon: global, service, cmd, domain, user, ip",
        needs_restart: false,
        set: |s, v| put(&mut s.carbon_levels, value::levels(v)),
        get: |s| value::show_levels(&s.carbon_levels),
    },
    Setting {
        name: "stats_carbon_limit",
        default: Some("100"),
        about: "most entries of a level sent to carbon, the biggest by CPU and disk; 1 to 10000",
        needs_restart: false,
        set: |s, v| put(&mut s.carbon_limit, value::entry_limit(v)),
        get: |s| s.carbon_limit.to_string(),
    },
    Setting {
        name: "stats_metrics_levels",
        default: Some("global"),
        about: "levels shown to Prometheus beside global, service and cmd: domain, user, ip",
        needs_restart: false,
        set: |s, v| put(&mut s.metrics_levels, value::levels(v)),
        get: |s| value::show_levels(&s.metrics_levels),
    },
    Setting {
        name: "stats_metrics_limit",
        default: Some("100"),
        about:
            "most entries of a level shown to Prometheus, the biggest by CPU and disk; 1 to 10000",
        needs_restart: false,
        set: |s, v| put(&mut s.metrics_limit, value::entry_limit(v)),
        get: |s| s.metrics_limit.to_string(),
    },
];

pub const SERVICE: &[Setting<Service>] = &[
    Setting {
        name: "user",
        default: Some(DEFAULT_USER),
        about: "user to run as",
        needs_restart: true,
        set: |s, v| {
            let user = if v.is_empty() { DEFAULT_USER } else { v };
            put(&mut s.user, Ok(user.to_owned()))
        },
        get: |s| s.user.clone(),
    },
    Setting {
        name: "group",
        default: Some(""),
        about: "group to run as; empty: the user's group",
        needs_restart: true,
        set: |s, v| put(&mut s.group, Ok(value::optional(v))),
        get: |s| s.group.clone().unwrap_or_default(),
    },
    Setting {
        name: "chroot",
        default: Some(""),
        about: "directory to be confined to, relative to base_dir; empty: none",
        needs_restart: true,
        set: |s, v| put(&mut s.chroot, Ok(value::optional(v).map(PathBuf::from))),
        get: |s| value::show_optional_path(&s.chroot),
    },
    Setting {
        name: "client_limit",
        default: Some("1000"),
        about: "most clients at a time; 0: 1000",
        needs_restart: false,
        set: |s, v| {
            let limit = value::number(v, u32::MAX).map(|limit| match limit {
                0 => DEFAULT_CLIENT_LIMIT,
                limit => limit,
            });
            put(&mut s.client_limit, limit)
        },
        get: |s| s.client_limit.to_string(),
    },
];

/// Settings of `fifo_listener` and `unix_listener`.
pub const FILE: &[Setting<FileListener>] = &[
    Setting {
        name: "user",
        default: Some(""),
        about: "owner of the file; empty: the user who starts the daemon",
        needs_restart: true,
        set: |l, v| put(&mut l.user, Ok(value::optional(v))),
        get: |l| l.user.clone().unwrap_or_default(),
    },
    Setting {
        name: "group",
        default: Some(""),
        about: "group of the file; empty: its owner's group",
        needs_restart: true,
        set: |l, v| put(&mut l.group, Ok(value::optional(v))),
        get: |l| l.group.clone().unwrap_or_default(),
    },
    Setting {
        name: "mode",
        default: Some("0600"),
        about: "permissions of the file; 0: no such listener; the default is 0200 in a \
                fifo_listener",
        needs_restart: true,
        set: |l, v| put(&mut l.mode, value::mode(v)),
        get: |l| value::show_mode(l.mode),
    },
];

pub const INET: &[Setting<InetListener>] = &[
    Setting {
        name: "address",
        default: Some(""),
        about: "addresses to listen on, * is all IPv4, :: all IPv6; empty: both",
        needs_restart: true,
        set: |l, v| put(&mut l.addresses, value::addresses(v)),
        get: |l| value::show_list(&l.addresses),
    },
    Setting {
        name: "port",
        default: None,
        about: "port to listen on; 0: no such listener",
        needs_restart: true,
        set: |l, v| put(&mut l.port, value::port(v)),
        get: |l| l.port.to_string(),
    },
    Setting {
        name: "allow_nets",
        default: Some(""),
        about: "networks that clients may come from, as 192.0.2.0/24; empty: all",
        needs_restart: false,
        set: |l, v| put(&mut l.allow_nets, value::networks(v)),
        get: |l| value::show_list(&l.allow_nets),
    },
    Setting {
        name: "server_names",
        default: Some(""),
        about: "names by which clients of http may ask, beside addresses and localhost",
        needs_restart: false,
        set: |l, v| {
            let names = value::addresses(v).map(|names| value::show_list(&names).into());
            put(&mut l.server_names, names)
        },
        get: |l| l.server_names.to_string(),
    },
];

/// Further settings of `unix_listener` and `inet_listener`.
pub const OPTIONS: &[Setting<ListenerOptions>] = &[
    Setting {
        name: "protocol",
        default: Some("stats"),
        about: "what clients speak: stats, or http for Prometheus",
        needs_restart: false,
        set: |l, v| put(&mut l.protocol, value::protocol(v)),
        get: |l| value::show_protocol(l.protocol),
    },
    Setting {
        name: "reset",
        default: Some("no"),
        about: "whether clients may RESET; the default is yes in a unix_listener",
        needs_restart: false,
        set: |l, v| put(&mut l.reset, value::boolean(v)),
        get: |l| value::show_boolean(l.reset),
    },
    Setting {
        name: "close_after_reply",
        default: Some("no"),
        about: "whether the connection is closed after each reply",
        needs_restart: false,
        set: |l, v| put(&mut l.close_after_reply, value::boolean(v)),
        get: |l| value::show_boolean(l.close_after_reply),
    },
    Setting {
        name: "column_order",
        default: Some("2.3"),
        about: "order of the columns: that of Dovecot 2.2 or 2.3",
        needs_restart: false,
        set: |l, v| put(&mut l.column_order, value::column_order(v)),
        get: |l| value::show_column_order(l.column_order),
    },
    Setting {
        name: "header_always",
        default: Some("no"),
        about: "whether a list of nothing has a header, too",
        needs_restart: false,
        set: |l, v| put(&mut l.header_always, value::boolean(v)),
        get: |l| value::show_boolean(l.header_always),
    },
];

/// Settings whose value may be the content of a file, `<file`: texts that other
/// programs have in files of their own, as /etc/mailname.
pub const FROM_FILE: &[&str] = &["stats_carbon_name", "stats_carbon_server"];

/// Settings of a copied `service` section that have no meaning for one process
/// with one job.
pub const SERVICE_IGNORED: &[&str] = &[
    "drop_priv_before_exec",
    "executable",
    "extra_groups",
    "idle_kill",
    "privileged_group",
    "process_limit",
    "process_min_avail",
    "protocol",
    "service_count",
    "type",
    "vsz_limit",
];

/// Settings of a copied `inet_listener` that have no meaning here.
pub const INET_IGNORED: &[&str] = &["reuse_port"];

/// Settings of a copied `inet_listener` that may only be `no`: ignoring their
/// `yes` would be a promise of encryption, or of true addresses, not kept.
pub const INET_ONLY_NO: &[&str] = &["haproxy", "ssl"];

/// Dovecot's settings that copied listeners refer to as `$name`, with Dovecot's
/// defaults; they may be set outside sections and do nothing else.
pub const VARIABLES: [(&str, &str); 3] = [
    ("default_internal_group", "dovecot"),
    ("default_internal_user", "dovecot"),
    ("default_login_user", "dovenull"),
];

/// Stores a value that was read.
fn put<V>(field: &mut V, value: Result<V, String>) -> Result<(), String> {
    *field = value?;
    Ok(())
}

/// `section` with the defaults of `rows`.
pub(super) fn with_defaults<T>(mut section: T, rows: &[Setting<T>]) -> T {
    for row in rows {
        if let Some(text) = row.default {
            (row.set)(&mut section, text).expect("the table's defaults are valid");
        }
    }
    section
}

/// Gives `section` the values of `new` that need no restart. The names of those that
/// differ and do.
pub(super) fn follow<T>(rows: &[Setting<T>], section: &mut T, new: &T) -> Vec<&'static str> {
    let mut kept = Vec::new();
    for row in rows {
        let value = (row.get)(new);
        if value == (row.get)(section) {
            continue;
        }
        match row.needs_restart {
            true => kept.push(row.name),
            false => (row.set)(section, &value).expect("`set` reads what `get` gave"),
        }
    }
    kept
}

/// Gives what needs no restart in `section` its default, so that sections differ in the
/// rest alone.
pub(super) fn keep_fixed<T>(rows: &[Setting<T>], section: &mut T) {
    for row in rows.iter().filter(|row| !row.needs_restart) {
        let text = row.default.unwrap_or_default();
        (row.set)(section, text).expect("the table's defaults are valid");
    }
}

/// Sets `name` in `section` if `rows` have it.
pub(super) fn set<T>(
    rows: &[Setting<T>],
    section: &mut T,
    name: &str,
    text: &str,
) -> Option<Result<(), String>> {
    let row = rows.iter().find(|row| row.name == name)?;
    Some((row.set)(section, text))
}

/// What is known of `name` in a section.
#[inline(never)]
pub(super) fn find(scope: Scope, name: &str) -> Option<Known> {
    fn about<T>(rows: &[Setting<T>], name: &str) -> Option<Known> {
        let row = rows.iter().find(|row| row.name == name)?;
        Some(Known::Setting(row.about))
    }
    let is_in = |names: &[&str], known| names.contains(&name).then_some(known);
    match scope {
        Scope::Top => about(TOP, name).or_else(|| {
            let is_variable = VARIABLES.iter().any(|(known, _)| *known == name);
            is_variable.then_some(Known::Variable)
        }),
        Scope::Service => about(SERVICE, name).or_else(|| is_in(SERVICE_IGNORED, Known::Ignored)),
        Scope::Fifo(_) => about(FILE, name),
        Scope::Unix(_) => about(FILE, name).or_else(|| about(OPTIONS, name)),
        Scope::Inet(_) => about(INET, name)
            .or_else(|| about(OPTIONS, name))
            .or_else(|| is_in(INET_ONLY_NO, Known::OnlyNo))
            .or_else(|| is_in(INET_IGNORED, Known::Ignored)),
        Scope::Unknown => None,
    }
}

pub(super) fn names<T>(rows: &[Setting<T>]) -> Vec<&'static str> {
    rows.iter().map(|row| row.name).collect()
}
