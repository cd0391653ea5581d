//! The FIFOs and sockets that Dovecot's master passes, served with the options of our own
//! section of the same name, else with the defaults.
//!
//! Invariants: their files are the master's: they are neither looked at nor removed.

use crate::config::{Fatal, InetListener, ListenerOptions, Settings};
use crate::daemon::input::fifo::FifoInput;
use crate::daemon::log::Log;
use crate::daemon::master::environment::ListenerName;
use crate::daemon::serve::listener::{Listener, Section, Socket};
use crate::daemon::start::listen::Opened;
use crate::sys::fs::passed::Passed;
use crate::sys::reason;
use std::io;
use std::rc::Rc;

/// All that the master passed and can be served.
///
/// # Errors
/// A descriptor that is neither a FIFO nor a listening socket.
#[cold]
#[inline(never)]
pub(crate) fn take_over(
    settings: &Settings,
    names: &[ListenerName],
    passed: Vec<io::Result<Passed>>,
    log: &mut Log,
) -> Result<Opened, Fatal> {
    let mut opened = Opened::default();
    for (ListenerName { name, layer }, what) in names.iter().zip(passed) {
        if !layer.is_empty() {
            log.error(&format!(
                "inet_listener {name}: {layer} is not supported, nobody is served there: set \
                 {layer} = no"
            ));
            continue;
        }
        match what.map_err(Fatal::io(format!("listener {name}")))? {
            Passed::Fifo(fifo, inode) => {
                opened.fifos.push(FifoInput::new(fifo, name, Some(inode)));
            }
            Passed::Unix(socket) => {
                let is_it = |path: &str| path.rsplit('/').next() == Some(name);
                let mut sections = settings.unix_listeners.iter();
                let options = sections
                    .find(|section| is_it(&section.file.name))
                    .map_or_else(ListenerOptions::of_unix, |section| section.options.clone());
                let socket = Socket::Unix(socket);
                let listener = Listener::new(socket, Section::Unnamed, &options, name);
                opened.listeners.push(listener);
            }
            Passed::Tcp(socket) => {
                let mut sections = settings.inet_listeners.iter();
                let section = sections.find(|section| section.name.as_ref() == Some(name));
                let default = InetListener::new(Some(name.clone()));
                let section = section.unwrap_or(&default);
                let shown = match socket.local_addr() {
                    Ok(address) => format!("inet_listener {address}"),
                    Err(error) => format!("inet_listener {name} ({})", reason(&error)),
                };
                let socket = Socket::Tcp(socket);
                let mut listener =
                    Listener::new(socket, Section::Unnamed, &section.options, &shown);
                listener.allow_nets.clone_from(&section.allow_nets);
                listener.server_names = Some(Rc::clone(&section.server_names));
                opened.listeners.push(listener);
            }
        }
    }
    Ok(opened)
}
