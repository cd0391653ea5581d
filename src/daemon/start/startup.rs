//! From settings to a daemon that serves: directories, listeners, privileges.
//!
//! The order matters: the directory is locked before anything in it is touched;
//! everything that needs root is opened before root is given up; success is reported to
//! the starter only when clients and writers are served. What was put into the file
//! system is removed when this ends, except by SIGKILL.

use crate::config::{
    show_size, Configuration, Defaults, Fatal, LogPath, Mistakes, Settings, CHROOT_MADE,
};
use crate::daemon::files::{BaseDir, ListenerFile};
use crate::daemon::log::{self, Log};
use crate::daemon::master::{listeners, Master};
use crate::daemon::options::Options;
use crate::daemon::server::{make_room_for_clients, store_limits, Daemon};
use crate::daemon::snapshot::State;
use crate::daemon::start::identity::{self, give_up_privileges, Identity};
use crate::daemon::start::limits::fit_memory_limit;
use crate::daemon::start::listen::open_listeners;
use crate::daemon::start::listing;
use crate::daemon::start::pidfile::PidFile;
use crate::daemon::start::preflight;
use crate::daemon::start::sd_notify::Manager;
use crate::store::Limits;
use crate::sys::fs::created::CreatedFile;
use crate::sys::fs::dir::Owner;
use crate::sys::mem::reserve;
use crate::sys::mem::resident::map_large_blocks;
use crate::sys::proc::process::{daemonize, set_umask, Readiness};
use crate::sys::proc::signal::{reset_inherited, Signals};
use std::io::{self, Write};
use std::path::Path;

/// For the starter's standard error, where the log is lost.
const NO_SYSLOG: &str = "dovestatd: no system log at /dev/log: what is logged is lost until there \
                       is one; set log_path to a file, or use -F\n";

/// For the log of [`Options::try_out`]; the command that makes the user follows.
const TRIAL: &str = "no configuration and no user dovestat: a trial, as root, for root alone and \
                     without a state; a service needs that user: ";

/// sysexits(3): internal software error.
const EX_SOFTWARE: i32 = 70;

/// Serves until a signal ends it.
///
/// # Errors
/// Whatever keeps it from starting, or poll(2) failing.
pub(crate) fn serve(options: Options) -> Result<(), Fatal> {
    let (_pidfile, mut daemon) = start(options)?;
    let result = daemon.run();
    daemon.finish(&result);
    result
}

/// Opens everything, and gives up root.
// Not inlined: while the daemon serves, the stack has no room for it.
#[inline(never)]
fn start(mut options: Options) -> Result<(Option<PidFile>, Box<Daemon>), Fatal> {
    map_large_blocks();
    let (mut master, from_master) = Master::from_env()?.unzip();
    let (manager, passed) = match &master {
        Some(_) => (Manager::none(), Vec::new()),
        None => Manager::from_env(),
    };
    reset_inherited().map_err(Fatal::io("reset signals"))?;
    let is_trial = master.is_none() && options.try_out();
    let configuration = match &master {
        Some(master) => master.load(&mut options)?,
        None => options.load_to_serve()?,
    };
    // What the manager or the master opened needs no owner and no directory.
    if passed.is_empty() && master.is_none() {
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
    let mut identity = Identity::of(&settings.service)?;
    if let Some(master) = &master {
        let groups = &master.environment.restrict.groups;
        identity = identity.map(|identity| identity.with_groups(groups.clone()));
    }
    let owner = identity.as_ref().map(Identity::ids);
    let base_dir = match &master {
        Some(_) => None,
        None => Some(lock_base_dir(&settings.base_dir, owner)?),
    };
    if settings.service.chroot.as_deref() == Some(Path::new(CHROOT_MADE)) && owner.is_some() {
        identity::make_empty(&settings.base_dir, owner)?;
    }
    let options = &options.anchored()?;
    let readiness = detach(options)?;

    let mut log = open_log(&settings, owner)?;
    if is_trial {
        log.warning(&[TRIAL, identity::making_user()].concat());
    }
    for notice in &notices {
        log.warning(&notice.to_string());
    }
    let mut opened = match (&master, from_master) {
        (Some(master), Some(passed)) => {
            let names = &master.environment.listeners;
            listeners::take_over(&settings, names, passed, &mut log)?
        }
        _ => open_listeners(&settings, owner, passed, &mut log)?,
    };
    let places = opened.files.iter().filter_map(ListenerFile::made).cloned();
    tidy_up_panics(settings.log_path.clone(), owner, places.collect());
    let fifos = listing::fifos(&opened, &settings);
    for line in listing::lines(&opened, &settings) {
        log.info(&line);
    }
    make_room_for_clients(&settings.service, opened.listeners.len(), &mut log);
    let signals = match &master {
        Some(_) => Signals::install_with_quit(),
        None => Signals::install(),
    };
    let signals = signals.map_err(Fatal::io("install signal handlers"))?;
    let state = match &mut master {
        Some(master) => master.open_state(&settings, owner, &signals, &mut opened, &mut log)?,
        None => State::open(&settings, owner, &mut |_| Ok(None), &mut log)?,
    };
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
        identity.assume(&settings)?;
        identity.log_lost_rights(&settings, held_pidfile.as_ref(), &mut log);
    }
    give_up_privileges(&mut log);
    if !reserve::fill() {
        log.warning("the system leaves no memory to spare: the daemon will end when it needs more");
    }

    let serving = format!(
        "dovestatd {}{} serving in {}, memory limit {}{origin}",
        env!("CARGO_PKG_VERSION"),
        identity.as_ref().map(Identity::shown).unwrap_or_default(),
        settings.base_dir.display(),
        show_size(limits.memory_bytes as u64),
    );
    let mut daemon = Box::new(Daemon::new(
        options,
        (settings, limits),
        log,
        (opened, base_dir),
        signals,
        (manager, master),
        state,
    )?);
    daemon.wait_for_records(fifos);
    daemon.log_info(&serving);
    if let Some(readiness) = readiness {
        readiness
            .report(0)
            .map_err(Fatal::io("detach from the starter"))?;
    }
    daemon.announce();
    Ok((held_pidfile, daemon))
}

/// Makes base_dir if need be, and locks it against other daemons.
fn lock_base_dir(path: &Path, owner: Owner) -> Result<BaseDir, Fatal> {
    // The default one of a user's own daemon may lie in /tmp.
    let is_private = path == Defaults::private().base_dir && owner.is_none_or(|(uid, _)| uid == 0);
    BaseDir::open(path, is_private, owner)
        .map_err(Fatal::io(format!("base_dir {}", path.display())))?
        .ok_or_else(|| {
            let path = path.display();
            Fatal::Unavailable(format!("{path}: another dovestatd is serving there"))
        })
}

/// Goes to the background, unless the daemon is to stay in the foreground.
fn detach(options: &Options) -> Result<Option<Readiness>, Fatal> {
    // The end of the first process is the end of its container.
    if options.foreground || std::process::id() == 1 {
        return Ok(None);
    }
    let readiness = daemonize().map_err(Fatal::io("daemonize"))?;
    // Whatever file system it was started in can be unmounted.
    std::env::set_current_dir("/").map_err(Fatal::io("chdir /"))?;
    Ok(Some(readiness))
}

/// Opens the log, for panics as well.
fn open_log(settings: &Settings, owner: Owner) -> Result<Log, Fatal> {
    let path = &settings.log_path;
    let log =
        Log::open(path, owner).map_err(Fatal::io(format!("log_path {}", log::shown(path))))?;
    if !log.is_connected() {
        // The starter's standard error, until the daemon serves.
        let _ = io::stderr().write_all(NO_SYSLOG.as_bytes());
    }
    tidy_up_panics(path.clone(), owner, Vec::new());
    Ok(log)
}

/// Has a panic log its message, as standard error is gone in the background, and remove
/// the FIFOs and sockets. Nothing is saved: after a bug the statistics are not to be
/// trusted.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::created::Access;
    use crate::sys::fs::fifo::Fifo;
    use crate::sys::scratch::rerun;

    #[test]
    fn a_bug_is_logged_and_leaves_nothing_lying_about() {
        let path = std::env::temp_dir().join("dovestat-test-panic");
        let name = "a_bug_is_logged_and_leaves_nothing_lying_about";
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
        let logged = String::from_utf8_lossy(&output.stderr);
        assert!(
            logged.contains("internal error, please report it: "),
            "{logged}"
        );
        assert!(logged.contains("as a test"), "{logged}");
        assert!(!path.exists());
    }
}
