//! The words of the command line.
//!
//! [`TABLE`] is the one table of options and [`COMMANDS`] that of commands:
//! parser, help and completions are made from them.

pub(super) struct OptionRow {
    /// Its letter, or nothing.
    pub short: &'static str,
    /// Its long name, or nothing.
    pub long: &'static str,
    /// The name of its argument, which decides what it may be; empty when it
    /// has none.
    pub argument: &'static str,
    /// The commands that take it; empty for all.
    pub commands: &'static [&'static str],
    /// What it does; empty for one that does nothing and is not shown.
    pub help: &'static str,
}

impl OptionRow {
    /// Whether a command takes it. The servers and the format are for all that ask
    /// and print, so that they may stand where doveadm has them.
    pub(super) fn is_for(&self, command: &str) -> bool {
        match self.short {
            "s" => !matches!(command, "run" | "demo"),
            "f" => !matches!(command, "run" | "check" | "bridge"),
            _ => self.commands.is_empty() || self.commands.contains(&command),
        }
    }
}

pub(super) struct CommandRow {
    pub name: &'static str,
    pub operands: &'static str,
    pub help: &'static str,
}

pub(super) const COMMANDS: [CommandRow; 8] = [
    CommandRow {
        name: "dump",
        operands: "LEVEL [FILTER...]",
        help: "print statistics",
    },
    CommandRow {
        name: "top",
        operands: "[SORT] [FILTER...]",
        help: "watch statistics live",
    },
    CommandRow {
        name: "slow",
        operands: "[FILTER...]",
        help: "print the commands that took longest, the slowest first",
    },
    CommandRow {
        name: "reset",
        operands: "",
        help: "clear the global totals",
    },
    CommandRow {
        name: "run",
        operands: "[--] CMD [ARG...]",
        help: "run a program and report it, with its children, as one session",
    },
    CommandRow {
        name: "check",
        operands: "",
        help: "look for the reason why nothing arrives, and say what to do",
    },
    CommandRow {
        name: "bridge",
        operands: "",
        help: "report the sessions of Dovecot 2.4 from its events, for as long as it runs",
    },
    CommandRow {
        name: "demo",
        operands: "[SORT] [FILTER...]",
        help: "watch a system of its own with processes that work and report themselves",
    },
];

/// Makes one row of [`TABLE`].
const fn row(
    names: [&'static str; 2],
    argument: &'static str,
    commands: &'static [&'static str],
    help: &'static str,
) -> OptionRow {
    let [short, long] = names;
    OptionRow {
        short,
        long,
        argument,
        commands,
        help,
    }
}

#[rustfmt::skip]
pub(super) const TABLE: [OptionRow; 31] = [
    row(["s", "server"], "SERVER", &[], "ask the server at this socket path or host:port (may be repeated)"),
    row(["f", "format"], "FORMAT", &[], "print in this format: tab, table, flow, pager, json, csv or ndjson"),
    row(["", "fields"], "FIELDS", &["dump", "slow"], "print only these columns, separated by commas"),
    row(["", "sort"], "FIELD", &["dump", "slow"], "sort by this column, or by disk, cpu or io: the largest first, names from a to z; a - before or behind it reverses"),
    row(["", "limit"], "N", &["dump", "top", "demo", "slow"], "print at most this many rows, of top in a frame of text; of slow 20 without"),
    row(["", "watch"], "SECS", &["dump", "slow"], "print again and again, this far apart"),
    row(["", "diff"], "FILE", &["dump"], "print what changed since this saved dump (format tab), or from it to the one in the place of LEVEL"),
    row(["b", ""], "", &["top", "demo"], "show read and written bytes in place of disk bytes"),
    row(["B", "batch"], "", &["top", "demo"], "print frames of text instead of filling the screen"),
    row(["n", "frames"], "N", &["top", "demo"], "end after this many frames"),
    row(["d", "delay"], "SECS", &["top", "demo"], "show a frame this often"),
    row(["l", "level"], "LEVEL", &["top", "demo"], "begin with this level"),
    row(["", "no-state"], "", &["top"], "neither remember nor recall level, sort and columns"),
    row(["u", ""], "USER", &["run"], "the session's user; without, $USER, $LOGNAME, or who runs it"),
    row(["S", ""], "SERVICE", &["run"], "the session's service; without, the name of CMD"),
    row(["r", ""], "IP", &["run"], "the client's address; without, $TCPREMOTEIP or $IP"),
    row(["e", ""], "EVENTS", &["bridge"], "listen for Dovecot's events at this path: /run/dovestat/events"),
    row(["a", ""], "ANVIL", &["bridge"], "ask Dovecot's anvil at this path: /run/dovecot/anvil"),
    row(["", "http"], "ADDR", &["bridge"], "take events that come by HTTP, too, at this address and port: 127.0.0.1:9120"),
    row(["", "events-only"], "", &["bridge"], "neither ask anvil nor look at processes: figures come at the end of sessions"),
    row(["", "args"], "", &["bridge"], "report arguments of commands in place of their tags, where the events have them"),
    row(["", "max-sessions"], "N", &["bridge"], "follow at most this many sessions: 100000"),
    row(["v", ""], "", &["bridge"], "print once a minute what came"),
    row(["i", ""], "SECS", &["run", "bridge"], "of run: report this often while CMD runs: 30, at most 300; of bridge: look at processes this often: 1"),
    row(["", "fifo"], "PATH", &["run", "bridge"], "report to this FIFO; without, to $DOVESTAT_FIFO or the daemon's stats-mail"),
    row(["", "completion"], "SHELL", &[], "print the completions for bash, zsh or fish and exit"),
    row(["", "dovecot"], "FILE", &["check"], "look at this configuration of Dovecot"),
    row(["h", "help"], "", &[], "print this help and exit"),
    row(["V", "version"], "", &[], "print the version and exit"),
    // What scripts may have given to doveadm, for which there is no need here.
    row(["c", ""], "FILE", &[], ""),
    row(["D", ""], "", &[], ""),
];

/// `-x`, `--xyz` or `-x, --xyz`.
pub(super) fn names_of(row: &OptionRow) -> String {
    match (row.short, row.long) {
        (short, "") => format!("-{short}"),
        ("", long) => format!("--{long}"),
        (short, long) => format!("-{short}, --{long}"),
    }
}
