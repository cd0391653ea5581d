//! HUP: the settings read again, and the log opened anew.
//!
//! What can change while the daemon serves does at once: the times entries are
//! kept, carbon, the client limit, the state's interval, and how a listener's
//! next clients are served. Differences of other settings are logged; they take effect at
//! the next start, which loses nothing as long as there is a state. A
//! configuration with mistakes changes nothing.

use crate::config::{
    Address, FileListener, InetListener, ListenerOptions, Service, Settings, UnixListener,
};
use crate::daemon::serve::listener::Section;
use crate::daemon::server::{make_room_for_clients, store_limits, Daemon};
use crate::sys::reason;
use std::rc::Rc;
use std::time::Instant;

/// The sections of listeners without what can change.
fn fixed(settings: &Settings) -> (Vec<UnixListener>, Vec<InetListener>) {
    let mut unix = settings.unix_listeners.clone();
    let mut inet = settings.inet_listeners.clone();
    for listener in &mut unix {
        listener.options = ListenerOptions::of_unix();
    }
    for listener in &mut inet {
        listener.options = ListenerOptions::of_inet();
        listener.allow_nets = Vec::new();
        listener.server_names = Rc::default();
    }
    (unix, inet)
}

/// Whether nothing but the options of listeners differs.
fn same_listeners(old: &Settings, new: &Settings) -> bool {
    old.fifo_listeners == new.fifo_listeners && fixed(old) == fixed(new)
}

/// A section of a listener.
trait Named: PartialEq {
    /// Its kind and name.
    fn name(&self) -> String;
}

impl Named for FileListener {
    fn name(&self) -> String {
        format!("fifo_listener {}", self.name)
    }
}

impl Named for UnixListener {
    fn name(&self) -> String {
        format!("unix_listener {}", self.file.name)
    }
}

impl Named for InetListener {
    fn name(&self) -> String {
        let mut name = "inet_listener".to_owned();
        for address in &self.addresses {
            name.push(' ');
            match address {
                Address::Ip(ip) => name += &ip.to_string(),
                Address::Host(host) => name += host,
            }
        }
        format!("{name} port {}", self.port)
    }
}

/// Appends the names of sections that are new, changed or gone.
fn add_changed<T: Named>(names: &mut Vec<String>, old: &[T], new: &[T]) {
    for section in new.iter().filter(|section| !old.contains(section)) {
        names.push(section.name());
    }
    for section in old.iter().filter(|section| !new.contains(section)) {
        let name = section.name();
        // A changed one is there already.
        if !names.contains(&name) {
            names.push(name + " (gone)");
        }
    }
}

/// What needs a restart, by the names of settings and sections.
fn differences(old: &Settings, new: &Settings) -> Vec<String> {
    let mut names = Vec::new();
    for (name, differs) in [
        ("base_dir", new.base_dir != old.base_dir),
        ("log_path", new.log_path != old.log_path),
        ("pidfile", new.pidfile != old.pidfile),
        ("state_dir", new.state_dir != old.state_dir),
        (
            "stats_memory_limit",
            new.stats_memory_limit_bytes != old.stats_memory_limit_bytes,
        ),
        ("user", new.service.user != old.service.user),
        ("group", new.service.group != old.service.group),
        ("chroot", new.service.chroot != old.service.chroot),
    ] {
        if differs {
            names.push(name.to_owned());
        }
    }
    let ((old_unix, old_inet), (new_unix, new_inet)) = (fixed(old), fixed(new));
    add_changed(&mut names, &old.fifo_listeners, &new.fifo_listeners);
    add_changed(&mut names, &old_unix, &new_unix);
    add_changed(&mut names, &old_inet, &new_inet);
    names
}

/// The new settings, with what needs a restart as it was.
fn in_force(old: &Settings, new: Settings) -> Settings {
    let mut settings = Settings {
        base_dir: old.base_dir.clone(),
        log_path: old.log_path.clone(),
        pidfile: old.pidfile.clone(),
        state_dir: old.state_dir.clone(),
        stats_memory_limit_bytes: old.stats_memory_limit_bytes,
        service: Service {
            client_limit: new.service.client_limit,
            ..old.service.clone()
        },
        ..new
    };
    if !same_listeners(old, &settings) {
        settings.fifo_listeners = old.fifo_listeners.clone();
        settings.unix_listeners = old.unix_listeners.clone();
        settings.inet_listeners = old.inet_listeners.clone();
    }
    settings
}

impl Daemon {
    /// Handles HUP.
    pub(super) fn reload(&mut self, instant: Instant) {
        if let Err((path, error)) = self.log.reopen() {
            let path = path.display();
            let why = reason(&error);
            self.log.error(&format!(
                "log_path {path}: {why}; logging to the old file: have the rotation make the new \
                 one for the user of the daemon"
            ));
        }
        let new = match self.options.load_to_serve() {
            Ok(configuration) => configuration.settings,
            Err(fatal) => {
                for line in fatal.to_string().lines() {
                    self.log.error(line);
                }
                self.log.error("the settings stay as they were");
                return;
            }
        };
        let restart = differences(&self.settings, &new);
        self.settings = in_force(&self.settings, new);
        let listeners = self.listeners.len();
        make_room_for_clients(&self.settings.service, listeners, &mut self.log);
        self.store.set_min_times(&store_limits(&self.settings));
        self.carbon.set(&self.settings, instant, &mut self.store);
        if let Some(state) = &mut self.state {
            state.set(&self.settings);
        }
        for listener in &mut self.listeners {
            let options = match listener.section {
                Section::Unix(index) => &self.settings.unix_listeners[index].options,
                Section::Inet(index) => {
                    let inet = &self.settings.inet_listeners[index];
                    listener.allow_nets.clone_from(&inet.allow_nets);
                    listener.server_names = Some(Rc::clone(&inet.server_names));
                    &inet.options
                }
                Section::Unnamed => continue,
            };
            // Clients that are connected keep theirs.
            if *listener.options != *options {
                listener.options = Rc::new(options.clone());
            }
        }
        match restart.is_empty() {
            true => self.log.info("settings read again"),
            false => self.log.warning(&format!(
                "settings read again; changes of these need a restart: {} (they are opened or set \
                 up at the start)",
                restart.join(", ")
            )),
        }
    }
}
