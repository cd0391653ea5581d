//! The settings as the rest of the daemon sees them: typed, checked, complete.
//!
//! Plain data and the few questions asked of it. Every field's meaning, default
//! and syntax is a row of [`super::table`]; names and addresses are kept as they
//! were given, and nothing here finds out whether users, hosts or paths exist.

use super::{table, Defaults};
use crate::store::{Level, Network, LEVELS};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Directory that relative names of listeners start from; absolute.
    pub base_dir: PathBuf,
    pub log_path: LogPath,
    /// The file for the number of the daemon's process; none: there is none.
    pub pidfile: Option<PathBuf>,
    /// Where statistics outlive a restart.
    pub state_dir: StateDir,
    /// Time between two writes of them; 0: at the end only.
    pub stats_state_interval_secs: u32,
    /// Most memory that statistics may use.
    pub stats_memory_limit_bytes: u64,
    /// How long an entry of each level is kept at least, memory permitting: a command after
    /// its last record, a session after its end, others after their last session. In the
    /// order of [`Level::ALL`].
    pub stats_min_time_secs: [u32; LEVELS],
    /// Commands that took longer are logged; 0: none.
    pub stats_slow_command_msecs: u64,
    /// Whether their arguments are logged as well.
    pub stats_slow_command_args: bool,
    /// The carbon receiver; none: nothing is sent.
    pub carbon_server: Option<HostPort>,
    /// This host's name in carbon paths; empty: the host name up to its first dot.
    pub carbon_name: String,
    /// Time between two carbon reports, at least 1.
    pub carbon_interval_secs: u32,
    /// What is sent to carbon; each level at most once.
    pub carbon_levels: Vec<Level>,
    /// Most entries of each of them, 1 to 10000; of services and cmds all are sent.
    pub carbon_limit: u32,
    /// What clients of HTTP are shown beside the levels global, service and cmd; each level
    /// at most once.
    pub metrics_levels: Vec<Level>,
    /// Most entries of each of them, 1 to 10000.
    pub metrics_limit: u32,
    /// The `service stats` section without its listeners.
    pub service: Service,
    /// FIFOs that records come from, the default ones first; switched off included.
    pub fifo_listeners: Vec<FileListener>,
    /// UNIX sockets that clients connect to, the default one first; switched off
    /// included.
    pub unix_listeners: Vec<UnixListener>,
    /// TCP ports that clients connect to; switched off included.
    pub inet_listeners: Vec<InetListener>,
}

impl Settings {
    /// The settings of an empty configuration.
    pub fn new(defaults: &Defaults) -> Settings {
        Settings {
            base_dir: defaults.base_dir.clone(),
            service: Service::new(),
            fifo_listeners: table::FIFO_NAMES.map(FileListener::fifo).into(),
            unix_listeners: table::UNIX_NAMES.map(UnixListener::new).into(),
            ..table::with_defaults(Settings::default(), table::TOP)
        }
    }

    /// The directory for the statistics that are to outlive a restart; none:
    /// they are not to. Daemons other than the system's never share one.
    pub fn state_path(&self) -> Option<&Path> {
        match &self.state_dir {
            StateDir::Off => None,
            StateDir::Named(dir) => Some(dir),
            StateDir::Auto if self.base_dir == Path::new(table::SYSTEM_BASE_DIR) => {
                Some(Path::new(table::SYSTEM_STATE_DIR))
            }
            StateDir::Auto => Some(&self.base_dir),
        }
    }

    /// Takes what may change while a daemon serves from `new`, but for its listeners. The
    /// names of settings outside them that differ and need a restart.
    pub(crate) fn follow(&mut self, new: &Settings) -> Vec<&'static str> {
        let mut kept = table::follow(table::TOP, self, new);
        kept.extend(table::follow(
            table::SERVICE,
            &mut self.service,
            &new.service,
        ));
        kept
    }

    /// The sections of listeners without what may change while a daemon serves.
    pub(crate) fn fixed_listeners(&self) -> (Vec<UnixListener>, Vec<InetListener>) {
        let mut unix = self.unix_listeners.clone();
        let mut inet = self.inet_listeners.clone();
        for listener in &mut unix {
            table::keep_fixed(table::OPTIONS, &mut listener.options);
        }
        for listener in &mut inet {
            table::keep_fixed(table::INET, listener);
            table::keep_fixed(table::OPTIONS, &mut listener.options);
        }
        (unix, inet)
    }

    pub fn enabled_fifos(&self) -> impl Iterator<Item = &FileListener> {
        self.fifo_listeners.iter().filter(|fifo| fifo.is_enabled())
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LogPath {
    #[default]
    Syslog,
    Stderr,
    /// The log process of the Dovecot that this is a service of; no setting says so.
    Dovecot,
    /// Lines appended to a file; an absolute path.
    File(PathBuf),
}

/// Where statistics outlive a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StateDir {
    /// Depends on `base_dir`: see [`Settings::state_path`].
    #[default]
    Auto,
    Off,
    /// In this directory; an absolute path.
    Named(PathBuf),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// User to run as: a name or a number.
    pub user: String,
    /// Group to run as; none: the user's own.
    pub group: Option<String>,
    /// Directory to confine itself to, relative to `base_dir` unless absolute.
    pub chroot: Option<PathBuf>,
    /// Most clients at a time; at least 1.
    pub client_limit: u32,
}

impl Service {
    pub(super) fn new() -> Service {
        table::with_defaults(Service::default(), table::SERVICE)
    }

    /// The effective path of `chroot`.
    pub fn chroot_in(&self, base_dir: &Path) -> Option<PathBuf> {
        self.chroot.as_ref().map(|dir| base_dir.join(dir))
    }
}

/// A FIFO, or what a UNIX socket has in common with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileListener {
    /// The name as given: a path, relative to `base_dir` unless absolute.
    pub name: String,
    /// The file's owner; none: the user the daemon was started by.
    pub user: Option<String>,
    /// The file's group; none: the owner's.
    pub group: Option<String>,
    /// The file's permissions; 0: the listener is switched off.
    pub mode: u32,
}

impl FileListener {
    pub(super) fn new(name: &str) -> FileListener {
        let blank = FileListener {
            name: name.to_owned(),
            ..FileListener::default()
        };
        table::with_defaults(blank, table::FILE)
    }

    /// One of a FIFO.
    pub(super) fn fifo(name: &str) -> FileListener {
        FileListener {
            mode: table::FIFO_MODE,
            ..FileListener::new(name)
        }
    }

    pub fn path_in(&self, base_dir: &Path) -> PathBuf {
        base_dir.join(&self.name)
    }

    /// Whether the listener is not switched off.
    pub fn is_enabled(&self) -> bool {
        self.mode != 0
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixListener {
    pub file: FileListener,
    /// How its clients are served.
    pub options: ListenerOptions,
}

impl UnixListener {
    pub(super) fn new(name: &str) -> UnixListener {
        UnixListener {
            file: FileListener::new(name),
            options: ListenerOptions::of_unix(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InetListener {
    /// The section's name, if it has one. With `http` the default protocol is HTTP.
    pub name: Option<String>,
    /// Addresses to listen on; empty: all of IPv4 and all of IPv6.
    pub addresses: Vec<Address>,
    /// The port; 0: the listener is switched off.
    pub port: u16,
    /// Networks that clients may come from; empty: all.
    pub allow_nets: Vec<Network>,
    /// What clients of HTTP may call the server, beside its addresses and localhost:
    /// names with a blank in between.
    pub server_names: Rc<str>,
    /// How its clients are served.
    pub options: ListenerOptions,
}

impl InetListener {
    /// A section without settings. In Dovecot 2.3 the one named `http` is for
    /// Prometheus.
    pub(crate) fn new(name: Option<String>) -> InetListener {
        let mut options = ListenerOptions::of_inet();
        if name.as_deref() == Some("http") {
            options.protocol = Protocol::Http;
        }
        let blank = InetListener {
            name,
            options,
            ..InetListener::default()
        };
        table::with_defaults(blank, table::INET)
    }
}

/// How the clients of a listener are served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenerOptions {
    pub protocol: Protocol,
    /// Whether they may reset the global totals.
    pub reset: bool,
    /// Whether the connection is closed after each reply.
    pub close_after_reply: bool,
    /// The order of the columns they see.
    pub column_order: ColumnOrder,
    /// Whether a list of nothing has a header, too.
    pub header_always: bool,
}

impl ListenerOptions {
    /// The options of a UNIX socket without settings.
    pub fn of_unix() -> ListenerOptions {
        ListenerOptions {
            reset: true,
            ..ListenerOptions::of_inet()
        }
    }

    /// The options of a TCP port without settings.
    pub fn of_inet() -> ListenerOptions {
        table::with_defaults(ListenerOptions::default(), table::OPTIONS)
    }
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// That of Dovecot's statistics service.
    #[default]
    Stats,
    /// HTTP, for metrics.
    Http,
}

/// Whose order the columns of a list have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ColumnOrder {
    V2_2,
    #[default]
    V2_3,
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A numeric one; `0.0.0.0` and `::` are all of their family.
    Ip(IpAddr),
    /// A well-formed host name, to be resolved by who binds it.
    Host(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(IpAddr::V4(ip)) if ip.is_unspecified() => f.write_str("*"),
            Address::Ip(ip) => ip.fmt(f),
            Address::Host(name) => name.fmt(f),
        }
    }
}

/// A host and a port of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A host name or an address, IPv6 without brackets but perhaps with a zone.
    pub host: String,
    /// The port; never 0.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
