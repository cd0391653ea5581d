//! HUP: the settings read again, and the log opened anew.
//!
//! What can change while the daemon serves does at once: the times entries are kept, which
//! commands are slow, carbon, the client limit, the state's interval, and how a listener's
//! next clients are served. Differences of other settings are logged; they take effect at the
//! next start, which loses nothing as long as there is a state. A configuration with mistakes
//! changes nothing.

use crate::config::{Address, FileListener, InetListener, Settings, UnixListener};
use crate::daemon::input::slow::limit_of;
use crate::daemon::serve::listener::Section;
use crate::daemon::server::{make_room_for_clients, store_limits, Daemon};
use crate::sys::reason;
use std::rc::Rc;
use std::time::Instant;

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

/// Takes what may change while the daemon serves from `new`. What needs a restart, by
/// the names of settings and sections.
fn follow(settings: &mut Settings, new: Settings) -> Vec<String> {
    let kept = settings.follow(&new);
    let mut names: Vec<String> = kept.into_iter().map(str::to_owned).collect();
    let (old_fixed, new_fixed) = (settings.fixed_listeners(), new.fixed_listeners());
    add_changed(&mut names, &settings.fifo_listeners, &new.fifo_listeners);
    add_changed(&mut names, &old_fixed.0, &new_fixed.0);
    add_changed(&mut names, &old_fixed.1, &new_fixed.1);
    if settings.fifo_listeners == new.fifo_listeners && old_fixed == new_fixed {
        settings.unix_listeners = new.unix_listeners;
        settings.inet_listeners = new.inet_listeners;
    }
    names
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
        let restart = follow(&mut self.settings, new);
        let listeners = self.listeners.len();
        make_room_for_clients(&self.settings.service, listeners, &mut self.log);
        self.store.set_min_times(&store_limits(&self.settings));
        self.store.set_slow_limit(limit_of(&self.settings));
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
