//! The files that the daemon keeps beside its listeners, by name: nothing else may
//! have their paths.

use super::settings::{LogPath, Settings};
use std::path::PathBuf;

/// In base_dir: the file by which one daemon holds it.
pub(crate) const LOCK: &str = ".lock";

/// In state_dir: the statistics.
pub(crate) const STATE: &str = "state";

/// In state_dir: the statistics while they are being written.
pub(crate) const STATE_TEMPORARY: &str = "state.new";

/// In state_dir: statistics that could not be read.
pub(crate) const STATE_SET_ASIDE: &str = "state.bad";

/// In state_dir: what is written at the start to see whether that works.
pub(crate) const STATE_PROBE: &str = "state.probe";

/// In state_dir: the file by which one daemon holds it.
pub(crate) const STATE_LOCK: &str = ".state.lock";

/// In state_dir: the socket by which a service of Dovecot passes what it holds to the one
/// that follows it.
pub(crate) const STATE_HANDOVER: &str = "handover";

/// All of them, each with the setting that names its directory or path.
pub(crate) fn own_files(settings: &Settings) -> Vec<(&'static str, PathBuf)> {
    let mut files = vec![("base_dir", settings.base_dir.join(LOCK))];
    if let Some(dir) = settings.state_path() {
        let names = [
            STATE,
            STATE_TEMPORARY,
            STATE_SET_ASIDE,
            STATE_PROBE,
            STATE_LOCK,
            STATE_HANDOVER,
        ];
        files.extend(names.map(|name| ("state_dir", dir.join(name))));
    }
    files.extend(settings.pidfile.clone().map(|path| ("pidfile", path)));
    if let LogPath::File(path) = &settings.log_path {
        files.push(("log_path", path.clone()));
    }
    files
}
