//! The slow log: a line for each command that took longer than `stats_slow_command_time`,
//! once it is over.
//!
//! A window begins with a slow command. It logs [`MOST_LINES`]; more are counted, and their
//! number is logged when the window ends. So a storm of slow commands, which is when a server
//! is short of everything, costs a bounded number of lines.

use crate::config::Settings;
use crate::daemon::log::{visible, Log};
use crate::stats::{place, FIELDS};
use crate::store::{SlowCommand, SlowLimit, Store};
use crate::wire::push_stat;

/// The most lines of a window.
const MOST_LINES: u32 = 100;

/// The length of a window.
const WINDOW_SECS: u32 = 60;

/// The statistics that are logged even where they are zero.
const ALWAYS: [usize; 5] = [
    place::user_cpu,
    place::sys_cpu,
    place::clock_time,
    place::disk_input,
    place::disk_output,
];

/// Which commands are slow by these settings.
pub(crate) fn limit_of(settings: &Settings) -> Option<SlowLimit> {
    let msecs = settings.stats_slow_command_msecs;
    (msecs > 0).then_some(SlowLimit {
        usecs: msecs * 1000,
        with_args: settings.stats_slow_command_args,
    })
}

#[derive(Debug, Default)]
pub(crate) struct SlowCommands {
    /// When the window ends, as [`Now::uptime_secs`](crate::store::Now::uptime_secs), while
    /// there is one.
    ends_secs: Option<u32>,
    /// Lines logged in it.
    lines: u32,
    /// Slow commands without a line.
    left_out: u64,
}

impl SlowCommands {
    /// When [`SlowCommands::serve`] has something to do by itself.
    pub(crate) fn wakes_at_secs(&self) -> Option<u32> {
        self.ends_secs.filter(|_| self.left_out > 0)
    }

    /// Logs the slow commands that ended since the last call, and what was left out in a
    /// window that is over.
    pub(crate) fn serve(&mut self, store: &mut Store, uptime_secs: u32, log: &mut Log) {
        if self.ends_secs.is_some_and(|ends| ends <= uptime_secs) {
            self.end(log);
        }
        let (commands, left_out) = store.take_slow();
        if !commands.is_empty() {
            self.log(&commands, left_out, uptime_secs, log);
        }
    }

    #[cold]
    fn log(&mut self, commands: &[SlowCommand], more: u64, uptime_secs: u32, log: &mut Log) {
        self.ends_secs.get_or_insert(uptime_secs + WINDOW_SECS);
        for command in commands {
            match self.lines < MOST_LINES {
                true => {
                    self.lines += 1;
                    log.info(&line(command));
                }
                false => self.left_out += 1,
            }
        }
        self.left_out += more;
    }

    /// Ends the window, and logs what was left out in it.
    pub(crate) fn end(&mut self, log: &mut Log) {
        if self.left_out > 0 {
            let left_out = self.left_out;
            log.info(&format!(
                "{left_out} more slow commands in the last {WINDOW_SECS} secs"
            ));
        }
        *self = SlowCommands::default();
    }
}

/// A text of a peer as a value: without quotes where nothing in it needs them.
fn value(text: &[u8]) -> String {
    let is_plain = |&byte: &u8| byte.is_ascii_alphanumeric() || b"@._-+:/".contains(&byte);
    match std::str::from_utf8(text) {
        Ok(plain) if (1..100).contains(&text.len()) && text.iter().all(is_plain) => {
            plain.to_owned()
        }
        _ => visible(text),
    }
}

/// The line of a command. What may be long comes last: a line that is too long is cut.
#[cold]
#[inline(never)]
fn line(command: &SlowCommand) -> String {
    let stats = &command.stats.values;
    let msecs = stats[place::clock_time] / 1000;
    let ip = command.ip.map(|ip| ip.to_string()).unwrap_or_default();
    let mut line = format!(
        "slow command: {} {} {}.{:03} s: user={} session={} ip={ip} last_update={}.{:06}",
        value(&command.service),
        value(&command.name),
        msecs / 1000,
        msecs % 1000,
        value(&command.user),
        value(&command.session),
        command.last_update.secs,
        command.last_update.usecs,
    );
    let mut digits = Vec::new();
    for (index, (field, &count)) in FIELDS.iter().zip(stats).enumerate() {
        if count > 0 || ALWAYS.contains(&index) {
            digits.clear();
            push_stat(&mut digits, index, count);
            line.extend([" ", field.name, "=", &String::from_utf8_lossy(&digits)]);
        }
    }
    if let Some(args) = &command.args {
        line.extend([" args=", &visible(args)]);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogPath;
    use crate::stats::Stats;
    use crate::store::WallTime;
    use std::fs;

    fn slow() -> SlowCommand {
        let mut stats = Stats::default();
        stats.values[place::clock_time] = 6_204_999;
        stats.values[place::user_cpu] = 1_200_000;
        stats.values[place::mail_read_count] = 7;
        SlowCommand {
            last_update: WallTime { secs: 7, usecs: 42 },
            user: b"alice@example.org".to_vec(),
            session: b"ab12".to_vec(),
            ip: "192.0.2.7".parse().ok(),
            service: b"imap".to_vec(),
            name: b"FETCH".to_vec(),
            args: None,
            stats,
        }
    }

    #[test]
    fn lines_have_what_counts_and_are_harmless() {
        let figures = "last_update=7.000042 user_cpu=1.200000 sys_cpu=0.000000 \
                       clock_time=6.204999 disk_input=0 disk_output=0 mail_read_count=7";
        assert_eq!(
            line(&slow()),
            format!(
                "slow command: imap FETCH 6.204 s: user=alice@example.org session=ab12 \
                 ip=192.0.2.7 {figures}"
            )
        );
        let hostile = SlowCommand {
            user: b"a b=\"\n\x1b".to_vec(),
            session: vec![b'x'; 512],
            ip: None,
            service: Vec::new(),
            name: b"UID FETCH".to_vec(),
            args: Some(b"1:* (FLAGS)\n".to_vec()),
            ..slow()
        };
        let long = "x".repeat(200);
        assert_eq!(
            line(&hostile),
            format!(
                "slow command: \"\" \"UID FETCH\" 6.204 s: user=\"a b=\\\"\\n\\x1b\" \
                 session=\"{long}\"... ip= {figures} args=\"1:* (FLAGS)\\n\""
            )
        );
    }

    #[test]
    fn a_window_has_so_many_lines_and_then_the_number_of_the_others() {
        let path = std::env::temp_dir().join(format!("dovestat-slow-{}", std::process::id()));
        let mut log = Log::open(&LogPath::File(path.clone()), None).unwrap();
        let mut store = Store::new(
            &crate::store::Limits {
                memory_bytes: 256 << 10,
                min_time_secs: [0; crate::store::LEVELS],
            },
            crate::store::Now {
                uptime_secs: 0,
                wall: WallTime::default(),
            },
        )
        .unwrap();
        let mut slow_log = SlowCommands::default();
        let batch = vec![slow(); 10];
        for second in 0..10 {
            slow_log.log(&batch, 0, 1000 + second, &mut log);
            assert_eq!(slow_log.wakes_at_secs(), None);
        }
        slow_log.log(&batch, 3, 1030, &mut log);
        assert_eq!(slow_log.wakes_at_secs(), Some(1060));
        slow_log.serve(&mut store, 1059, &mut log);
        let lines = || fs::read_to_string(&path).unwrap().lines().count();
        assert_eq!(lines(), 100);
        slow_log.serve(&mut store, 1060, &mut log);
        slow_log.serve(&mut store, 1061, &mut log);
        assert_eq!(slow_log.wakes_at_secs(), None);
        assert_eq!(lines(), 101);
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.ends_with(": 13 more slow commands in the last 60 secs\n"),
            "{text}"
        );
        // The next one begins a new window.
        slow_log.log(&batch[..1], 0, 1070, &mut log);
        assert_eq!(lines(), 102);
        slow_log.end(&mut log);
        assert_eq!(lines(), 102);
        fs::remove_file(&path).unwrap();
    }
}
