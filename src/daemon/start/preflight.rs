//! Users, groups and directories that the settings name and this system lacks. `-t`
//! reports them, and the start refuses to go on without those that it needs.
//!
//! Every mistake is found in one go, each with the place of the setting. Whether a
//! port is free, and what permissions forbid, is found by opening: that is left to
//! the start.

use crate::config::{
    Configuration, Defaults, Fatal, FileListener, LogPath, Mistake, Scope, CHROOT_MADE,
};
use crate::daemon::start::identity::{find_gid, find_user};
use crate::sys::proc::user::effective_uid;
use std::path::Path;

/// What is missing for a check: what the start refuses, and a state_dir, without
/// which the start goes on, but a restart loses the statistics.
pub(crate) fn missing_for_check(configuration: &Configuration) -> Vec<Mistake> {
    let mut found = Missing::of(configuration);
    let settings = &configuration.settings;
    let state_dir = settings.state_path();
    if let Some(dir) = state_dir.filter(|dir| *dir != settings.base_dir) {
        found.directory_to_make("state_dir", dir);
    }
    found.mistakes.append(&mut missing(configuration));
    found.mistakes
}

/// What is missing to start.
pub(crate) fn missing(configuration: &Configuration) -> Vec<Mistake> {
    let mut found = Missing::of(configuration);
    found.top();
    if effective_uid() == 0 {
        found.service();
    }
    let settings = &configuration.settings;
    for (index, fifo) in settings.fifo_listeners.iter().enumerate() {
        found.listener(Scope::Fifo(index), "fifo_listener", fifo);
    }
    for (index, unix) in settings.unix_listeners.iter().enumerate() {
        found.listener(Scope::Unix(index), "unix_listener", &unix.file);
    }
    found.mistakes
}

struct Missing<'a> {
    configuration: &'a Configuration,
    mistakes: Vec<Mistake>,
}

impl<'a> Missing<'a> {
    fn of(configuration: &'a Configuration) -> Missing<'a> {
        Missing {
            configuration,
            mistakes: Vec::new(),
        }
    }

    /// Notes a mistake of a setting.
    fn note(&mut self, scope: Scope, name: &str, message: String) {
        let place = self.configuration.place_of(scope, name);
        self.mistakes.push(Mistake { place, message });
    }

    /// Notes what kept a lookup from finding something.
    #[cold]
    fn failure(&mut self, scope: Scope, name: &str, failure: Option<Fatal>) {
        if let Some(fatal) = failure {
            self.note(scope, name, fatal.to_string());
        }
    }

    /// Notes a user that is missing.
    fn user(&mut self, scope: Scope, setting: &str, name: &str) {
        self.failure(scope, "user", find_user(setting, name).err());
    }

    /// Notes a group that is missing.
    fn group(&mut self, scope: Scope, setting: &str, name: &str) {
        self.failure(scope, "group", find_gid(setting, name).err());
    }

    /// Notes that a directory is missing.
    fn directory(&mut self, scope: Scope, name: &str, setting: &str, dir: &Path) {
        let shown = dir.display();
        // base_dir is checked at its own setting.
        let base_dir = &self.configuration.settings.base_dir;
        if scope != Scope::Top && dir.components().eq(base_dir.components()) {
            return;
        }
        // What cannot be looked at fails when it is opened.
        let why = match dir.metadata() {
            Ok(metadata) if !metadata.is_dir() => format!("{shown} is not a directory"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                format!("the directory {shown} does not exist")
            }
            _ => return,
        };
        self.note(scope, name, format!("{setting}: {why}"));
    }

    /// Notes that the parent of a directory is missing, if that is to be made.
    fn directory_to_make(&mut self, name: &str, dir: &Path) {
        let setting = format!("{name} {}", dir.display());
        match (dir.exists(), dir.parent()) {
            (false, Some(parent)) => self.directory(Scope::Top, name, &setting, parent),
            _ => self.directory(Scope::Top, name, name, dir),
        }
    }

    /// Notes that the directory of a file is missing, which is to be made there.
    fn file(&mut self, name: &str, path: &Path) {
        let setting = format!("{name} {}", path.display());
        if path.is_dir() {
            self.note(Scope::Top, name, format!("{setting} is a directory"));
        } else if let Some(parent) = path.parent() {
            self.directory(Scope::Top, name, &setting, parent);
        }
    }

    fn top(&mut self) {
        let settings = &self.configuration.settings;
        // The default one lies where there is a directory; what else it needs to be is
        // for the start to find.
        if settings.base_dir != Defaults::ours().base_dir {
            self.directory_to_make("base_dir", &settings.base_dir);
        }
        if let LogPath::File(path) = &settings.log_path {
            self.file("log_path", path);
        }
        if let Some(path) = &settings.pidfile {
            self.file("pidfile", path);
        }
    }

    /// The user and group that root becomes, and the chroot.
    fn service(&mut self) {
        let settings = &self.configuration.settings;
        let service = &settings.service;
        self.user(Scope::Service, "service stats: user", &service.user);
        if let Some(group) = &service.group {
            self.group(Scope::Service, "service stats: group", group);
        }
        let dir = service.chroot_in(&settings.base_dir);
        if let Some(dir) = dir.filter(|_| service.chroot.as_deref() != Some(Path::new(CHROOT_MADE)))
        {
            self.directory(Scope::Service, "chroot", "service stats: chroot", &dir);
        }
    }

    /// A FIFO or a UNIX socket.
    fn listener(&mut self, scope: Scope, kind: &str, listener: &FileListener) {
        if !listener.is_enabled() {
            return;
        }
        let setting = format!("{kind} {}", listener.name);
        let base_dir = &self.configuration.settings.base_dir;
        if let Some(dir) = listener.path_in(base_dir).parent() {
            self.directory(scope, "", &setting, dir);
        }
        if let Some(user) = &listener.user {
            self.user(scope, &setting, user);
        }
        if let Some(group) = &listener.group {
            self.group(scope, &setting, group);
        }
    }
}
