//! What is wrong between settings: two listeners on one path, a port that is missing.
//!
//! Each is reported where the listener was opened.

use super::{Builder, Scope};
use crate::config::mistake::{quoted, Location, Mistake};
use crate::config::own_files::own_files;
use crate::config::settings::{InetListener, ListenerOptions, Protocol, UnixListener};
use std::path::{Path, PathBuf};

impl Builder {
    /// Reports what is wrong between settings.
    pub(super) fn check_whole(&mut self) {
        for opened in self.opened.clone() {
            if matches!(opened.scope, Scope::Inet(_)) && !opened.has_port && !opened.is_dovecots {
                let message = "inet_listener: a port is missing".to_owned();
                self.wrong_at(opened.order, &opened.place, message);
            }
        }
        self.check_protocols();
        let files = self.settings.fifo_listeners.iter().enumerate();
        let fifos = files.map(|(i, fifo)| (Scope::Fifo(i), fifo));
        let files = self.settings.unix_listeners.iter().enumerate();
        let sockets = files.map(|(i, unix)| (Scope::Unix(i), &unix.file));
        let mut taken: Vec<(Scope, PathBuf)> = Vec::new();
        for (scope, file) in fifos.chain(sockets).filter(|(_, file)| file.is_enabled()) {
            // Without what means nothing, so that comparing bytes will do.
            let path = file.path_in(&self.settings.base_dir).components().collect();
            taken.push((scope, path));
        }
        self.check_own_files(&taken);
        for (index, (scope, path)) in taken.iter().enumerate() {
            let mut before = taken[..index].iter().rev();
            let same = |other: &Path| other.as_os_str() == path.as_os_str();
            let Some((other, _)) = before.find(|(_, other)| same(other)) else {
                continue;
            };
            // One of the two may be a default one without a section.
            let both = [*scope, *other].map(|scope| self.opened(scope).cloned());
            let both = both.into_iter().flatten();
            if let Some(opened) = both.max_by_key(|opened| opened.order) {
                let path = quoted(&path.to_string_lossy());
                let message = format!("two listeners have the path {path}");
                self.wrong_at(opened.order, &opened.place, message);
            }
        }
    }

    /// Reports paths of listeners, and settings, that are those of the daemon's own
    /// files.
    fn check_own_files(&mut self, listeners: &[(Scope, PathBuf)]) {
        let files = own_files(&self.settings);
        let same = |a: &Path, b: &Path| a.components().eq(b.components());
        for (index, (setting, path)) in files.iter().enumerate() {
            let shown = quoted(&path.to_string_lossy());
            let given = self.origins.of(Scope::Top, setting).cloned();
            let whole = given.unwrap_or_else(|| Location::whole(setting));
            if let Some((scope, _)) = listeners.iter().find(|(_, other)| same(path, other)) {
                let opened = self.opened(*scope);
                let found = opened.map(|opened| (opened.order, opened.place.clone()));
                let (order, place) = found.unwrap_or((self.now, whole));
                let message = format!(
                    "a listener has the path {shown}, where the daemon keeps a file of its own \
                     ({setting}): give one of them another path"
                );
                self.wrong_at(order, &place, message);
            } else if let Some((other, _)) = files[..index].iter().find(|(_, o)| same(path, o)) {
                let message =
                    format!("{shown} is needed for {other} as well: give one of them another path");
                self.wrong_at(self.now, &whole, message);
            }
        }
    }

    /// Notes listeners on all addresses that were not asked to be there.
    pub(super) fn note_open_ports(&mut self) {
        for (index, inet) in self.settings.inet_listeners.iter().enumerate() {
            let is_open = inet.addresses.is_empty() && inet.allow_nets.is_empty();
            let place = self.origins.of(Scope::Inet(index), "address");
            if let (true, 1.., Some(place)) = (is_open, inet.port, place) {
                self.notices.push(Mistake {
                    place: place.clone(),
                    message: format!(
                        "inet_listener: no address is set: all who can reach port {} on any \
                         address of this host can read all statistics; set address (* :: if that is \
                         meant) or allow_nets",
                        inet.port
                    ),
                });
            }
        }
    }

    /// Reports settings of listeners that mean nothing to their protocol.
    fn check_protocols(&mut self) {
        for opened in self.opened.clone() {
            let (kind, options, default) = match opened.scope {
                Scope::Unix(i) => {
                    let unix = &self.settings.unix_listeners[i];
                    let default = UnixListener::new(&unix.file.name);
                    ("unix_listener", &unix.options, default.options)
                }
                Scope::Inet(i) => {
                    let inet = &self.settings.inet_listeners[i];
                    (
                        "inet_listener",
                        &inet.options,
                        InetListener::new(inet.name.clone()).options,
                    )
                }
                _ => continue,
            };
            let meaningful = ListenerOptions {
                protocol: options.protocol,
                close_after_reply: options.close_after_reply,
                // reset = no is true of HTTP: it has no RESET.
                reset: options.reset && default.reset,
                ..default
            };
            if options.protocol == Protocol::Http && *options != meaningful {
                let text =
                    "reset, column_order and header_always mean nothing with protocol = http";
                self.wrong_at(opened.order, &opened.place, format!("{kind}: {text}"));
            }
        }
    }
}
