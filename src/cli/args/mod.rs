//! The command line of `dovestat`.
//!
//! | module | what it is |
//! |---|---|
//! | `table` | options and commands: one table that makes parser, help and completions |
//! | `help` | that table as text |
//! | `completion` | that table as scripts for shells |
//! | `filter` | filters checked, and completed for a server |
//! | `raw` | words that are not UTF-8 |
//!
//! The words come from `table`; here they get their meaning. All options may
//! stand anywhere, before or behind the command: with doveadm some have to stand
//! before it, some behind. But what follows the program that is to be run belongs
//! to it, as it is.

mod completion;
pub(super) mod filter;
pub(super) mod help;
mod raw;
mod table;

#[cfg(test)]
mod tests;

use super::bridge::BridgeOptions;
use super::check::CheckOptions;
use super::column::{level_named, level_names};
use super::format::{Dialect, Format};
use super::server::Address;
use crate::config::Fatal;
use crate::store::Level;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use table::{names_of, COMMANDS, TABLE};

/// Words in front of a command that doveadm has. With one, output is doveadm's.
const SYNONYMS: [&str; 2] = ["stats", "oldstats"];

/// What is to be done.
#[derive(Debug)]
pub(super) enum Task {
    Print(String),
    Dump(DumpOptions),
    Top(TopOptions),
    /// Clear the totals of these servers, or of the first of the usual sockets.
    Reset(Vec<Address>),
    Run(RunOptions),
    /// Look for the reason why nothing arrives.
    Check(CheckOptions),
    /// Report what Dovecot 2.4 does.
    Bridge(BridgeOptions),
    /// Show a demonstration live; the servers are not used.
    Demo(TopOptions),
}

/// What `run` was asked for.
#[derive(Clone, Debug)]
pub(super) struct RunOptions {
    /// `-u`: the session's user.
    pub user: Option<Vec<u8>>,
    /// `-S`: its service.
    pub service: Option<Vec<u8>>,
    /// `-r`: the client's address.
    pub ip: Option<IpAddr>,
    /// `-i`: how often to report.
    pub every: Duration,
    /// `--fifo`: where to.
    pub fifo: Option<PathBuf>,
    pub program: OsString,
    pub args: Vec<OsString>,
    /// Arguments of options that are left out, and why. They must not keep a mail
    /// from being delivered.
    pub left_out: Vec<String>,
}

/// What `dump` was asked for.
#[derive(Clone, Debug)]
pub(super) struct DumpOptions {
    /// The servers; none: the first of the usual sockets.
    pub servers: Vec<Address>,
    pub format: Format,
    /// Who reads it.
    pub dialect: Dialect,
    pub source: Source,
    /// The saved dump to compare with.
    pub since: Option<PathBuf>,
    /// The columns to print; all without.
    pub fields: Option<Vec<String>>,
    pub sort: Option<String>,
    /// How many rows to print at most.
    pub limit: Option<usize>,
    /// How long to wait before printing again; once without.
    pub watch: Option<Duration>,
    /// Whether it was asked for by `slow`: without `fields` it chooses columns that a
    /// person wants, and in a table writes them as people read them.
    pub is_slow: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    /// From the servers: a level, and filters as in a request.
    Servers(Level, Vec<Vec<u8>>),
    File(PathBuf),
}

/// What `top` was asked for. Its entry is
/// `top::run(options: TopOptions) -> Result<(), Fatal>`.
#[derive(Clone, Debug)]
pub(super) struct TopOptions {
    /// The servers; none: the first of the usual sockets.
    pub servers: Vec<Address>,
    /// `-b`: read and written bytes in place of disk bytes.
    pub bytes: bool,
    /// `-B`: frames of text instead of a screen.
    pub batch: bool,
    /// `-n`: how many frames; for ever without.
    pub frames: Option<u64>,
    /// `-d`: how long between frames; more than nothing.
    pub delay: Duration,
    /// `disk`, `cpu` or a column, as given (not checked); a `-` in front or at
    /// the end reverses.
    pub sort: Option<String>,
    /// The format of frames; aligned text without.
    pub format: Option<Format>,
    /// The level to begin with.
    pub level: Option<Level>,
    /// Filters for the server, as in a request.
    pub filters: Vec<Vec<u8>>,
    /// `--limit`: how many rows a frame of text has at most.
    pub limit: Option<usize>,
    /// Whether the screen is remembered from one time to the next.
    pub remembers: bool,
}

/// How many commands `slow` lists by default.
const SLOW_LIMIT: usize = 20;

/// How often `run` reports by default.
const RUN_EVERY: Duration = Duration::from_secs(30);

/// How often it may, and must: a session that is silent for long counts as gone,
/// so Dovecot's processes report at least as often.
const RUN_LIMITS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(300)];

fn usage(text: impl std::fmt::Display) -> Fatal {
    Fatal::Usage(format!("{text}; see dovestat --help"))
}

/// Reads the arguments behind the program's name.
///
/// # Errors
/// [`Fatal::Usage`] for what is not in the tables, [`Fatal::Bare`] without a command.
pub(super) fn parse(args: impl Iterator<Item = OsString>) -> Result<Task, Fatal> {
    let mut args: Vec<OsString> = args.collect();
    let program = split_program(&mut args);
    let texts = args.iter().map(|word| raw::text(word));
    let given = Given(parser().parse(texts).map_err(usage)?);
    if given.has("V") {
        return Ok(Task::Print(version()));
    }
    if let Some(shell) = given.last("completion") {
        let script = completion::script(&shell);
        return script
            .map(Task::Print)
            .ok_or_else(|| usage(format!("no completions for the shell {shell:?}")));
    }
    let mut words = given.0.free.iter().map(String::as_str).peekable();
    let dialect = match words.next_if(|word| SYNONYMS.contains(word)) {
        Some(_) => Dialect::Doveadm,
        None => Dialect::Usual,
    };
    let is_asked = given.has("h") || words.next_if_eq(&"help").is_some();
    let name = match words.next() {
        None if is_asked => return Ok(Task::Print(help::all())),
        None => return Err(Fatal::Bare),
        Some("version") => return Ok(Task::Print(version())),
        Some(name) => name,
    };
    if let Some(text) = help::of_command(name).filter(|_| is_asked) {
        return Ok(Task::Print(text));
    }
    if COMMANDS.iter().all(|command| command.name != name) {
        let all = COMMANDS.map(|command| command.name).join(" ");
        return Err(usage(format!("unknown command {name:?}; there are: {all}")));
    }
    for row in &TABLE {
        let names = [row.short, row.long].map(|name| !name.is_empty() && given.has(name));
        // Scripts may have given -v to doveadm.
        if names.contains(&true) && !row.is_for(name) && row.short != "v" {
            let option = names_of(row);
            return Err(usage(format!("option {option} is not for {name}")));
        }
    }
    let words: Vec<&str> = words.collect();
    match name {
        "run" => given.run(program).map(Task::Run),
        "check" if words.is_empty() => given.check().map(Task::Check),
        "bridge" if words.is_empty() => given.bridge().map(Task::Bridge),
        "demo" => given.top(&words).map(Task::Demo),
        "dump" => given.dump(&words, dialect).map(Task::Dump),
        "slow" => given.slow(&words).map(Task::Dump),
        "top" => given.top(&words).map(Task::Top),
        _ => match words.first() {
            Some(extra) => Err(usage(format!("unexpected argument {extra:?}"))),
            None => Ok(Task::Reset(given.servers())),
        },
    }
}

/// The table as getopts wants it.
fn parser() -> getopts::Options {
    let mut parser = getopts::Options::new();
    for row in &TABLE {
        match row.argument {
            "" => parser.optflagmulti(row.short, row.long, row.help),
            argument => parser.optmulti(row.short, row.long, row.help, argument),
        };
    }
    parser
}

/// Takes the program that is to be run and its arguments, which are not ours to
/// read and need not be text, off the end of a command line that has the command
/// `run`; nothing of any other.
fn split_program(args: &mut Vec<OsString>) -> Vec<OsString> {
    let mut parser = parser();
    parser.parsing_style(getopts::ParsingStyle::StopAtFirstFree);
    // How many words are left behind the options at the beginning; a command line
    // that is wrong is reported later.
    let behind = |words: &[OsString]| {
        let texts = words.iter().map(|word| word.to_string_lossy().into_owned());
        parser.parse(texts).map_or(0, |found| found.free.len())
    };
    let mut command = args.len() - behind(args);
    let is = |at: usize, name: &str| args.get(at).is_some_and(|word| word == name);
    if SYNONYMS.iter().any(|synonym| is(command, synonym)) {
        command += 1;
    }
    if !is(command, "run") {
        return Vec::new();
    }
    let program = args.split_off(args.len() - behind(&args[command + 1..]));
    if args.last().is_some_and(|word| word == "--") {
        args.pop();
    }
    program
}

/// The options that were given.
struct Given(getopts::Matches);

impl Given {
    /// Whether an option was given.
    fn has(&self, name: &str) -> bool {
        self.0.opt_present(name)
    }

    /// The argument of an option; of one that was repeated, the last.
    fn last(&self, name: &str) -> Option<String> {
        self.0.opt_strs(name).pop()
    }

    /// The argument of an option, decoded by `read`.
    fn read<T>(
        &self,
        name: &str,
        what: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Fatal> {
        let Some(text) = self.last(name) else {
            return Ok(None);
        };
        let value = read(&text).ok_or_else(|| usage(format!("{what} {text:?} is not possible")))?;
        Ok(Some(value))
    }

    fn servers(&self) -> Vec<Address> {
        let given = self.0.opt_strs("s");
        let address = |text: &String| match Address::parse(text) {
            tcp @ Address::Tcp(..) => tcp,
            _ => Address::Unix(raw::word(text).into()),
        };
        given.iter().map(address).collect()
    }

    /// What `dump` is to do.
    fn dump(&self, words: &[&str], dialect: Dialect) -> Result<DumpOptions, Fatal> {
        let since: Option<PathBuf> = self.last("diff").map(|path| raw::word(&path).into());
        let (first, rest) = words
            .split_first()
            .ok_or_else(|| usage(format!("dump of which level: {}?", all_levels())))?;
        let source = match level_named(first) {
            Some(level) => Source::Servers(level, filters(rest)?),
            None if since.is_some() && rest.is_empty() => Source::File(raw::word(first).into()),
            None => return Err(unknown_level(first)),
        };
        let options = self.rows(source)?;
        Ok(DumpOptions {
            dialect,
            since,
            ..options
        })
    }

    /// What `slow` is to do: a dump of the commands with another default of everything.
    fn slow(&self, words: &[&str]) -> Result<DumpOptions, Fatal> {
        let mut filters = filters(words)?;
        filters.push(filter::MORE.into());
        let options = self.rows(Source::Servers(Level::Command, filters))?;
        Ok(DumpOptions {
            format: self.format()?.unwrap_or(Format::Table),
            sort: options.sort.or_else(|| Some("clock_time".to_owned())),
            limit: options.limit.or(Some(SLOW_LIMIT)),
            is_slow: true,
            ..options
        })
    }

    /// The options that `dump` and `slow` have in common.
    fn rows(&self, source: Source) -> Result<DumpOptions, Fatal> {
        let fields = self.last("fields");
        Ok(DumpOptions {
            servers: self.servers(),
            format: self.format()?.unwrap_or_default(),
            dialect: Dialect::Usual,
            source,
            since: None,
            fields: fields.map(|names| names.split(',').map(str::to_owned).collect()),
            sort: self.last("sort"),
            limit: self.limit()?,
            watch: self.read("watch", "an interval of", seconds)?,
            is_slow: false,
        })
    }

    /// What `top` is to do.
    fn top(&self, words: &[&str]) -> Result<TopOptions, Fatal> {
        let (given, sorts): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| is_filter(word));
        if let Some(extra) = sorts.get(1) {
            return Err(usage(format!("unexpected argument {extra:?}")));
        }
        let level = match self.last("l") {
            Some(text) => Some(level_named(&text).ok_or_else(|| unknown_level(&text))?),
            None => None,
        };
        Ok(TopOptions {
            servers: self.servers(),
            bytes: self.has("b"),
            batch: self.has("B"),
            frames: self.read("n", "a number of frames of", |text| text.parse().ok())?,
            delay: self
                .read("d", "a delay of", seconds)?
                .unwrap_or(Duration::from_secs(1)),
            sort: sorts.first().map(|&sort| sort.to_owned()),
            format: self.format()?,
            level,
            filters: filters(&given)?,
            limit: self.limit()?,
            remembers: !self.has("no-state"),
        })
    }

    /// What `check` is to do.
    fn check(&self) -> Result<CheckOptions, Fatal> {
        let server = self.has("s").then(|| self.servers().remove(0));
        if let Some(Address::Tcp(..)) = server {
            return Err(usage(
                "check looks at this system: -s is the path of a socket",
            ));
        }
        Ok(CheckOptions {
            server,
            dovecot: self.last("dovecot").map(|path| raw::word(&path).into()),
        })
    }

    /// What `bridge` is to do.
    fn bridge(&self) -> Result<BridgeOptions, Fatal> {
        let path = |name: &str| self.last(name).map(|path| raw::word(&path).into());
        let least_and_most = |text: &str| {
            let [least, most] = RUN_LIMITS;
            Some(seconds(text)?.clamp(least, most))
        };
        let positive = |text: &str| text.parse().ok().filter(|&number| number > 0);
        let every = self.read("i", "an interval of", least_and_most)?;
        let defaults = BridgeOptions::default();
        Ok(BridgeOptions {
            server: self.servers().into_iter().next(),
            events: path("e").unwrap_or(defaults.events),
            anvil: path("a").unwrap_or(defaults.anvil),
            http: self.read("http", "an address of", |text| text.parse().ok())?,
            every: every.unwrap_or(defaults.every),
            fifo: path("fifo"),
            is_events_only: self.has("events-only"),
            has_args: self.has("args"),
            is_verbose: self.has("v"),
            max_sessions: self
                .read("max-sessions", "a number of sessions of", positive)?
                .unwrap_or(defaults.max_sessions),
        })
    }

    /// What `run` is to do.
    fn run(&self, words: Vec<OsString>) -> Result<RunOptions, Fatal> {
        let mut words = words.into_iter();
        let program = words.next().ok_or_else(|| usage("run which program?"))?;
        let [least, most] = RUN_LIMITS;
        let mut left_out = Vec::new();
        let mut leave_out = |option: &str, text: &str, why: &str| {
            left_out.push(format!(
                "run: -{option} {} is {why}: left out",
                raw::shown(text)
            ));
        };
        let mut name = |option: &str| match self.last(option) {
            Some(text) if text.is_empty() => {
                leave_out(option, &text, "empty");
                None
            }
            text => text.map(|text| raw::bytes(&text)),
        };
        let (user, service) = (name("u"), name("S"));
        let ip = self.last("r").and_then(|text| {
            let ip = text.parse().ok();
            if ip.is_none() {
                leave_out("r", &text, "not an address");
            }
            ip
        });
        let every = self.last("i").and_then(|text| {
            let every = seconds(&text);
            if every.is_none() {
                leave_out("i", &text, "not an interval in seconds");
            }
            every
        });
        Ok(RunOptions {
            user,
            service,
            ip,
            every: every.unwrap_or(RUN_EVERY).clamp(least, most),
            fifo: self.last("fifo").map(|path| raw::word(&path).into()),
            program,
            args: words.collect(),
            left_out,
        })
    }

    /// How many rows are wanted.
    fn limit(&self) -> Result<Option<usize>, Fatal> {
        self.read("limit", "a limit of", |text| text.parse().ok())
    }

    fn format(&self) -> Result<Option<Format>, Fatal> {
        self.read("f", "the format", Format::named)
    }
}

/// The names of all levels.
fn all_levels() -> String {
    level_names().join(" ")
}

/// A level that does not exist.
fn unknown_level(text: &str) -> Fatal {
    usage(format!(
        "unknown level {text:?}; there are: {}",
        all_levels()
    ))
}

/// Whether a word is a filter.
fn is_filter(word: &str) -> bool {
    word.contains('=') || word.starts_with("connected") || filter::is_word(word)
}

/// Filters from the command line, as a server takes them. doveadm passes its one
/// argument on as it is, so that scripts give it several filters with TABs in between.
fn filters(words: &[&str]) -> Result<Vec<Vec<u8>>, Fatal> {
    let now = SystemTime::now();
    let pieces = words.iter().flat_map(|word| word.split('\t'));
    let pieces = pieces.filter(|piece| !piece.is_empty());
    pieces
        .map(|piece| filter::judge(piece, now).map_err(usage))
        .collect()
}

/// A time of more than nothing, in seconds: `2`, `0.5`.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = [whole, part].concat();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let secs: u32 = format!("0{whole}").parse().ok()?;
    // Nanoseconds; what is less is nothing.
    let nanos = format!("{part:0<9}")[..9].parse().ok()?;
    let duration = Duration::new(secs.into(), nanos);
    (!duration.is_zero()).then_some(duration)
}

/// The text of `--version`.
fn version() -> String {
    format!("dovestat {}\n", env!("CARGO_PKG_VERSION"))
}
