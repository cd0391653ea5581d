//! A daemon that no record reaches logs once what it waits for: "why does nothing
//! arrive?" is the question that is asked most about a new installation.

use crate::daemon::log::Log;

/// How long a new daemon waits before it logs that.
const PATIENCE_SECS: u32 = 300;

/// Waiting for the first record.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// When to log it, as [`Now::uptime_secs`](crate::store::Now::uptime_secs); none: a
    /// record came, or it is logged.
    due_secs: Option<u32>,
    /// The FIFOs with owner and mode.
    fifos: Vec<String>,
}

impl Waiting {
    /// From now on, if there are any FIFOs.
    pub(crate) fn new(uptime_secs: u32, fifos: Vec<String>) -> Waiting {
        Waiting {
            due_secs: (!fifos.is_empty()).then_some(uptime_secs + PATIENCE_SECS),
            fifos,
        }
    }

    /// When [`Waiting::serve`] has something to do by itself.
    pub(crate) fn wakes_at_secs(&self) -> Option<u32> {
        self.due_secs
    }

    /// Takes the number of lines so far, and logs if it is time and there are none.
    pub(crate) fn serve(&mut self, lines: u64, uptime_secs: u32, log: &mut Log) {
        match self.due_secs {
            Some(_) if lines > 0 => self.due_secs = None,
            Some(due) if due <= uptime_secs => {
                self.due_secs = None;
                log.warning(&self.text());
            }
            _ => {}
        }
    }

    /// The line of the log.
    fn text(&self) -> String {
        format!(
            "no record came in {} minutes: waiting for mail processes to write to {}; \
             \"dovestat check\" looks for the reason",
            PATIENCE_SECS / 60,
            self.fifos.join(" and "),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogPath;
    use std::fs;

    #[test]
    fn it_is_logged_once_and_only_without_records() {
        let path = std::env::temp_dir().join(format!("dovestat-waiting-{}", std::process::id()));
        let mut log = Log::open(&LogPath::File(path.clone()), None).unwrap();
        let fifos = vec!["/a (mode 0200)".to_owned(), "/b (mode 0622)".to_owned()];
        let mut waiting = Waiting::new(1000, fifos);
        assert_eq!(waiting.wakes_at_secs(), Some(1300));
        waiting.serve(0, 1299, &mut log);
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        waiting.serve(0, 1300, &mut log);
        waiting.serve(0, 1301, &mut log);
        assert_eq!(waiting.wakes_at_secs(), None);
        assert_eq!(Waiting::new(1000, Vec::new()).wakes_at_secs(), None);
        let mut served = Waiting::new(1000, vec!["/a (mode 0200)".to_owned()]);
        served.serve(1, 1010, &mut log);
        served.serve(1, 1300, &mut log);
        assert_eq!(served.wakes_at_secs(), None);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let expected =
            "warning: no record came in 5 minutes: waiting for mail processes to write to \
                    /a (mode 0200) and /b (mode 0622); \"dovestat check\" looks for the reason\n";
        assert!(text.ends_with(expected), "{text}");
        fs::remove_file(&path).unwrap();
    }
}
