//! The listeners as the log lists them at the start: path or address, owner and mode, protocol.

use crate::config::{Protocol, Settings};
use crate::daemon::input::fifo::FifoInput;
use crate::daemon::serve::listener::{Listener, Section};
use crate::daemon::start::listen::Opened;
use crate::sys::proc::user;
use std::fs;
use std::path::Path;

/// The FIFOs with owner and mode. To be called while the database of users is
/// within reach.
pub(crate) fn fifos(opened: &Opened, settings: &Settings) -> Vec<String> {
    let path = |fifo: &FifoInput| settings.base_dir.join(&**fifo.name());
    opened
        .fifos
        .iter()
        .map(|fifo| access(&path(fifo)))
        .collect()
}

/// A line for each. To be called then as well.
pub(crate) fn lines(opened: &Opened, settings: &Settings) -> Vec<String> {
    let fifos = fifos(opened, settings).into_iter();
    let fifos = fifos.map(|fifo| format!("records from {fifo}"));
    let clients = opened.listeners.iter().map(|listener| {
        let protocol = match listener.options.protocol {
            Protocol::Stats => "clients",
            Protocol::Http => "clients of HTTP",
        };
        format!("{protocol} at {}", address(listener, settings))
    });
    fifos.chain(clients).collect()
}

/// Where clients of a listener connect, with owner and mode or the networks allowed.
fn address(listener: &Listener, settings: &Settings) -> String {
    if let Section::Unix(index) = listener.section {
        let name = &settings.unix_listeners[index].file.name;
        return access(&settings.base_dir.join(name));
    }
    let name = listener.name.trim_start_matches("inet_listener ");
    match listener.allow_nets.is_empty() {
        true => name.to_owned(),
        false => {
            let nets = listener.allow_nets.iter().map(ToString::to_string);
            let nets: Vec<String> = nets.collect();
            format!("{name} (from {})", nets.join(" "))
        }
    }
}

/// A path with its owner and mode.
fn access(path: &Path) -> String {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) => format!("{shown} ({})", user::access(&found)),
        // One that was passed under another name.
        Err(_) => shown.to_string(),
    }
}
