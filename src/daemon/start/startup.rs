//! From settings to a daemon that serves: directories, listeners, privileges.
//!
//! The order matters: the directory is locked before anything in it is touched;
//! everything that needs root is opened before root is given up; the starter is
//! told that all is well only when clients and writers are served. What was put
//! into the file system is taken away again when this ends, however it ends.

use crate::config::{
    show_size, Configuration, Defaults, LogPath, Mistakes, Service, Settings, CHROOT_MADE,
    DEFAULT_USER,
};
use crate::daemon::fatal::Fatal;
use crate::daemon::files::{BaseDir, ListenerFile};
use crate::daemon::log::Log;
use crate::daemon::options::Options;
use crate::daemon::server::{make_room_for_clients, store_limits, Daemon};
use crate::daemon::snapshot::State;
use crate::daemon::start::limits::fit_memory_limit;
use crate::daemon::start::listen::open_listeners;
use crate::daemon::start::listing;
use crate::daemon::start::pidfile::PidFile;
use crate::daemon::start::preflight;
use crate::daemon::start::sd_notify::Manager;
use crate::store::Limits;
use crate::sys::fs::created::CreatedFile;
use crate::sys::fs::dir::{Dir, Owner};
use crate::sys::mem::reserve;
use crate::sys::mem::resident::forget_code;
use crate::sys::proc::privileges::{drop_capabilities, empty_bounding_set, forbid_new};
use crate::sys::proc::process::{daemonize, set_umask};
use crate::sys::proc::signal::{reset_inherited, Signals};
use crate::sys::proc::user::{drop_privileges, effective_uid, find_group, User};
use crate::sys::reason;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// For the starter's standard error, where the log is lost.
const NO_SYSLOG: &str = "dovestatd: no system log at /dev/log: what is logged is lost until there \
                       is one; set log_path to a file, or use -F\n";

/// For the log of [`Options::try_out`]; the command that makes the user follows.
const TRIAL: &str = "no configuration and no user dovestat: a trial, as root, for root alone and \
                     without a state; a service needs that user: ";

/// sysexits(3): internal software error.
const EX_SOFTWARE: i32 = 70;

/// The user and group to run as.
pub struct Identity {
    /// The user.
    pub user: User,
    /// The group.
    pub gid: u32,
}

impl Identity {
    /// The user's name, or number where there is none.
    fn show(&self) -> String {
        let name = self.user.name.clone();
        name.unwrap_or_else(|| self.user.uid.to_string())
    }

    /// Whose its files are: user and group.
    fn ids(&self) -> (u32, u32) {
        (self.user.uid, self.gid)
    }
}

/// Serves until a signal ends it.
///
/// # Errors
/// Whatever keeps it from starting, or poll(2) failing.
pub fn serve(mut options: Options) -> Result<(), Fatal> {
    let (manager, gifts) = Manager::meet();
    reset_inherited().map_err(Fatal::io("reset signals"))?;
    let is_trial = options.try_out();
    let configuration = options.load_to_serve()?;
    // What the manager opened needs no owner and no directory.
    if gifts.is_empty() {
        let missing = preflight::missing(&configuration);
        if !missing.is_empty() {
            return Err(Fatal::Configuration(Mistakes(missing)));
        }
    }
    let origin = match configuration.is_dovecots {
        true => format!(
            ", with the statistics' settings of Dovecot's {}",
            options.source.path().display()
        ),
        false => String::new(),
    };
    let Configuration {
        settings, notices, ..
    } = configuration;
    set_umask(0o027);
    let identity = match effective_uid() {
        0 => Some(identity(&settings.service)?),
        _ => None,
    };
    let owner = identity.as_ref().map(Identity::ids);
    let base_dir = settings.base_dir.clone();
    // The default one of a user's own daemon may lie in /tmp.
    let is_private =
        base_dir == Defaults::private().base_dir && owner.is_none_or(|(uid, _)| uid == 0);
    let base_dir_lock = BaseDir::open(&base_dir, is_private, owner)
        .map_err(Fatal::io(format!("base_dir {}", base_dir.display())))?
        .ok_or_else(|| {
            let base_dir = base_dir.display();
            Fatal::Unavailable(format!("{base_dir}: another dovestatd is serving there"))
        })?;
    if settings.service.chroot.as_deref() == Some(Path::new(CHROOT_MADE)) && owner.is_some() {
        make_empty(&base_dir, owner)?;
    }
    let options = &options.anchored()?;
    // The end of the first process is the end of its container.
    let readiness = match options.foreground || std::process::id() == 1 {
        true => None,
        false => {
            let readiness = daemonize().map_err(Fatal::io("daemonize"))?;
            // Whatever file system it was started in can be unmounted.
            std::env::set_current_dir("/").map_err(Fatal::io("chdir /"))?;
            Some(readiness)
        }
    };
    let mut log = Log::open(&settings.log_path, owner)
        .map_err(Fatal::io(format!("log_path {}", log_name(&settings))))?;
    if !log.is_heard() {
        // The starter's, until the daemon serves.
        let _ = io::stderr().write_all(NO_SYSLOG.as_bytes());
    }
    tidy_up_panics(settings.log_path.clone(), owner, Vec::new());
    if is_trial {
        log.warning(&[TRIAL, making_user()].concat());
    }
    for notice in &notices {
        log.warning(&notice.to_string());
    }
    let opened = open_listeners(&settings, owner, gifts, &mut log)?;
    let places = opened.files.iter().filter_map(ListenerFile::made).cloned();
    tidy_up_panics(settings.log_path.clone(), owner, places.collect());
    let fifos = listing::fifos(&opened, &settings);
    for line in listing::lines(&opened, &settings) {
        log.info(&line);
    }
    make_room_for_clients(&settings.service, opened.listeners.len(), &mut log);
    let signals = Signals::install().map_err(Fatal::io("install signal handlers"))?;
    let state = State::open(&settings, owner, &mut log)?;
    let pidfile = settings.pidfile.as_deref();
    let held_pidfile = pidfile
        .map(|path| PidFile::write(path, owner))
        .transpose()?;
    // Before /proc is out of reach in a chroot.
    let limits = Limits {
        memory_bytes: fit_memory_limit(&settings, &mut log),
        ..store_limits(&settings)
    };
    if let Some(identity) = &identity {
        become_user(identity, &settings)?;
        log_lost_rights(identity, &settings, held_pidfile.as_ref(), &mut log);
    }
    give_up_privileges(&mut log);
    if !reserve::fill() {
        log.warning("the system leaves no memory to spare: the daemon will end when it needs more");
    }
    let limit = show_size(limits.memory_bytes as u64);
    let settings = (settings, limits);
    let mut daemon = Daemon::new(
        options,
        settings,
        log,
        (opened, base_dir_lock),
        signals,
        manager,
        state,
    )?;
    daemon.wait_for_records(fifos);
    let identity = identity
        .as_ref()
        .map(|identity| format!(" as user {}, group {},", identity.show(), identity.gid));
    daemon.log_info(&format!(
        "dovestatd {}{} serving in {}, memory limit {limit}{origin}",
        env!("CARGO_PKG_VERSION"),
        identity.unwrap_or_default(),
        base_dir.display(),
    ));
    if let Some(readiness) = readiness {
        readiness
            .report(0)
            .map_err(Fatal::io("detach from the starter"))?;
    }
    daemon.announce();
    forget_code();
    let result = daemon.run();
    daemon.finish(&result);
    result
}

/// Has a bug of ours end the daemon with its message logged where everything
/// else is, as standard error is gone when the daemon is in the background, and
/// with its FIFOs and sockets taken away. Nothing is saved: what a bug left of
/// the statistics is not to be trusted.
fn tidy_up_panics(path: LogPath, owner: Owner, places: Vec<CreatedFile>) {
    std::panic::set_hook(Box::new(move |info| {
        for place in &places {
            // The next start finds what stays dead and takes it over.
            let _ = place.remove();
        }
        if let Ok(mut log) = Log::open(&path, owner) {
            let text = info.to_string().replace('\n', " ");
            log.error(&format!("internal error, please report it: {text}"));
        }
        std::process::exit(EX_SOFTWARE);
    }));
}

/// The log's name, for messages.
fn log_name(settings: &Settings) -> String {
    match &settings.log_path {
        LogPath::Syslog => "syslog".to_owned(),
        LogPath::Stderr => "stderr".to_owned(),
        LogPath::File(path) => path.display().to_string(),
    }
}

/// A user by name, or the setting that names one who does not exist.
#[cold]
pub fn find_user(setting: &str, name: &str) -> Result<User, Fatal> {
    User::find(name)
        .map_err(Fatal::io(format!("{setting}: look up user {name}")))?
        .ok_or_else(|| {
            let mut text = format!("{setting}: no user {name} on this system");
            if name == DEFAULT_USER {
                text += &[
                    "; make it: ",
                    making_user(),
                    "; or set user, a number will do",
                ]
                .concat();
            }
            Fatal::Setting(text)
        })
}

/// The command that makes the default user on this system.
#[cold]
fn making_user() -> &'static str {
    const WAYS: [(&str, &str); 3] = [
        ("/usr/lib/sysusers.d/dovestat.conf", "systemd-sysusers"),
        (
            "/usr/local/lib/sysusers.d/dovestat.conf",
            "systemd-sysusers",
        ),
        (
            "/usr/sbin/useradd",
            "useradd --system --user-group --shell /usr/sbin/nologin dovestat",
        ),
    ];
    let way = WAYS.iter().find(|(path, _)| Path::new(path).exists());
    // busybox
    way.map_or(
        "addgroup -S dovestat; adduser -S -D -H -s /sbin/nologin -G dovestat dovestat",
        |(_, command)| command,
    )
}

/// A group by name, likewise.
#[cold]
pub fn find_gid(setting: &str, name: &str) -> Result<u32, Fatal> {
    find_group(name)
        .map_err(Fatal::io(format!("{setting}: look up group {name}")))?
        .ok_or_else(|| Fatal::Setting(format!("{setting}: no group {name} on this system")))
}

/// Who the daemon is to be when it has given up root.
fn identity(service: &Service) -> Result<Identity, Fatal> {
    let user = find_user("service stats: user", &service.user)?;
    let gid = match (&service.group, user.gid) {
        (Some(group), _) => find_gid("service stats: group", group)?,
        (None, Some(gid)) => gid,
        (None, None) => {
            let user = &service.user;
            let text = format!("service stats: user {user} has no group; set group");
            return Err(Fatal::Setting(text));
        }
    };
    Ok(Identity { user, gid })
}

/// Makes the directory with nothing in it that is a chroot, if it is not there. It stays
/// root's.
fn make_empty(base_dir: &Path, owner: Owner) -> Result<(), Fatal> {
    let made = Dir::open(base_dir, owner).and_then(|dir| dir.make(CHROOT_MADE, 0o755, None));
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let dir = base_dir.join(CHROOT_MADE);
            Err(Fatal::Io(chroot_name(&dir), error))
        }
        _ => Ok(()),
    }
}

/// The chroot, for messages.
fn chroot_name(dir: &Path) -> String {
    format!("service stats: chroot {}", dir.display())
}

/// Gives up root: into the chroot if there is one, then to the user and group.
fn become_user(identity: &Identity, settings: &Settings) -> Result<(), Fatal> {
    let root = match settings.service.chroot_in(&settings.base_dir) {
        Some(root) => {
            let dir = Dir::open(&root, Some(identity.ids()));
            Some(dir.map_err(Fatal::io(chroot_name(&root)))?)
        }
        None => None,
    };
    if identity.user.uid != 0 {
        empty_bounding_set();
    }
    drop_privileges(&identity.user, identity.gid, root.as_ref().map(AsFd::as_fd))
        .map_err(Fatal::io("give up root"))
}

/// Logs what the user that the daemon has become may not do, but the settings ask for.
fn log_lost_rights(
    identity: &Identity,
    settings: &Settings,
    pidfile: Option<&PidFile>,
    log: &mut Log,
) {
    let user = identity.show();
    let name = log_name(settings);
    if !log.can_be_rotated() {
        log.warning(&format!(
            "log_path {name}: user {user} may not make files in its directory; have the rotation \
             of the log make the new file for that user (logrotate: create 0640 {user}), or put \
             the log in a directory of that user"
        ));
    } else if let Err((_, error)) = log.reopen() {
        let why = reason(&error);
        log.warning(&format!(
            "log_path {name}: user {user} may not open it anew ({why}); chown it to that user"
        ));
    }
    if let (Some(path), false) = (&settings.pidfile, pidfile.is_none_or(PidFile::is_removable)) {
        let path = path.display();
        log.info(&format!(
            "pidfile {path}: user {user} may not remove it; it stays at the end"
        ));
    }
}

/// Gives up what a service manager or root may have left us beside the user's own
/// rights, but for root who is to stay root: that would lock it out of the files
/// of others, as of its own log after a rotation.
fn give_up_privileges(log: &mut Log) {
    let capabilities = match effective_uid() {
        0 => Ok(()),
        _ => drop_capabilities(),
    };
    // An old kernel, or a filter of system calls: less safe, and no reason to
    // serve nobody.
    if let Err(error) = capabilities.and_then(|()| forbid_new()) {
        log.warning(&format!("give up privileges: {}", reason(&error)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::created::Access;
    use crate::sys::fs::fifo::Fifo;
    use crate::sys::scratch::rerun;

    #[test]
    fn a_bug_is_told_and_leaves_nothing_lying_about() {
        let path = std::env::temp_dir().join("dovestat-test-panic");
        let name = "a_bug_is_told_and_leaves_nothing_lying_about";
        let Some(output) = rerun(module_path!(), name) else {
            let access = Access {
                mode: 0o600,
                uid: None,
                gid: None,
            };
            let fifo = Fifo::create(&path, None, access).unwrap();
            tidy_up_panics(LogPath::Stderr, None, vec![fifo.file().unwrap().clone()]);
            panic!("as a test");
        };
        assert_eq!(output.status.code(), Some(EX_SOFTWARE));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("internal error, please report it: "),
            "{said}"
        );
        assert!(said.contains("as a test"), "{said}");
        assert!(!path.exists());
    }
}
