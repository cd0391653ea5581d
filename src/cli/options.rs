//! The command line of `dovestat`.
//!
//! Its words come from `table`; here they get their meaning. All options may
//! stand anywhere, before or behind the command: with doveadm some have to stand
//! before it, some behind. But what follows the program that is to be run belongs
//! to it, as it is.

#[cfg(test)]
mod tests;

use super::check::CheckOptions;
use super::completion;
use super::fatal::Fatal;
use super::format::Format;
use super::server::Address;
use super::table::{help, names_of, COMMANDS, TABLE};
use crate::store::Zoom;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Words in front of a command that change nothing: doveadm has them.
const SYNONYMS: [&str; 2] = ["stats", "oldstats"];

/// What is to be done.
#[derive(Debug)]
pub enum Task {
    /// Print a text.
    Print(String),
    /// Print statistics.
    Dump(DumpOptions),
    /// Show them live.
    Top(TopOptions),
    /// Clear the totals of these servers.
    Reset(Vec<Address>),
    /// Run a program.
    Run(RunOptions),
    /// Look for the reason why nothing arrives.
    Check(CheckOptions),
    /// Show a demonstration live; the servers are not used.
    Demo(TopOptions),
}

/// What `run` was asked for.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// `-u`: the session's user.
    pub user: Option<String>,
    /// `-S`: its service.
    pub service: Option<String>,
    /// `-r`: the client's address.
    pub ip: Option<IpAddr>,
    /// `-i`: how often to report.
    pub every: Duration,
    /// `--fifo`: where to.
    pub fifo: Option<PathBuf>,
    /// The program.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
}

/// What `dump` was asked for.
#[derive(Clone, Debug)]
pub struct DumpOptions {
    /// The servers; at least one.
    pub servers: Vec<Address>,
    /// The format.
    pub format: Format,
    /// Where rows come from.
    pub source: Source,
    /// The saved dump to compare with.
    pub since: Option<PathBuf>,
    /// The columns to print; all without.
    pub fields: Option<Vec<String>>,
    /// What to sort by.
    pub sort: Option<String>,
    /// How many rows to print at most.
    pub limit: Option<u64>,
    /// How long to wait before printing again; once without.
    pub watch: Option<Duration>,
}

/// Where `dump` gets rows.
#[derive(Clone, Debug)]
pub enum Source {
    /// From the servers: a level, and filters as in a request.
    Servers(Zoom, Vec<Vec<u8>>),
    /// From a saved dump.
    File(PathBuf),
}

/// What `top` was asked for. Its entry is
/// `top::run(options: TopOptions) -> Result<(), Fatal>`.
#[derive(Clone, Debug)]
pub struct TopOptions {
    /// The servers; at least one.
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
    pub level: Option<Zoom>,
    /// Filters for the server, as in a request.
    pub filters: Vec<Vec<u8>>,
}

/// How often `run` reports by default.
const RUN_EVERY: Duration = Duration::from_secs(30);

/// How often it may, and must: a session that is silent for long counts as gone,
/// so Dovecot's processes report at least as often.
const RUN_LIMITS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(300)];

/// A wrong command line.
fn usage(text: impl std::fmt::Display) -> Fatal {
    Fatal::Usage(format!("{text}; see dovestat --help"))
}

/// Reads the arguments behind the program's name.
///
/// # Errors
/// [`Fatal::Usage`] for what is not in the tables.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Task, Fatal> {
    let mut args: Vec<OsString> = args.collect();
    let program = split_program(&mut args);
    let given = Given(parser().parse(args).map_err(usage)?);
    if given.has("h") {
        return Ok(Task::Print(help()));
    }
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
    words.next_if(|word| SYNONYMS.contains(word));
    let name = words.next().ok_or_else(|| usage("no command"))?;
    if COMMANDS.iter().all(|command| command.name != name) {
        return Err(usage(format!("unknown command {name:?}")));
    }
    for row in &TABLE {
        let names = [row.short, row.long].map(|name| !name.is_empty() && given.has(name));
        if names.contains(&true) && !row.commands.is_empty() && !row.commands.contains(&name) {
            let option = names_of(row);
            return Err(usage(format!("option {option} is not for {name}")));
        }
    }
    // Taken by all others, so that doveadm's order of words holds.
    for (row, not_for) in [
        (&TABLE[0], &["run", "demo"][..]),
        (&TABLE[1], &["run", "check"]),
    ] {
        if given.has(row.short) && not_for.contains(&name) {
            let option = names_of(row);
            return Err(usage(format!("option {option} is not for {name}")));
        }
    }
    let words: Vec<&str> = words.collect();
    match name {
        "run" => given.run(program).map(Task::Run),
        "check" if words.is_empty() => given.check().map(Task::Check),
        "demo" => given.top(&words).map(Task::Demo),
        "dump" => given.dump(&words).map(Task::Dump),
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
    // that is wrong is told of later.
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

    /// The same, read by `read`.
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

    /// The servers to ask.
    fn servers(&self) -> Vec<Address> {
        let given = self.0.opt_strs("s");
        match given.is_empty() {
            true => vec![Address::default()],
            false => given.iter().map(|text| Address::parse(text)).collect(),
        }
    }

    /// What `dump` is to do.
    fn dump(&self, words: &[&str]) -> Result<DumpOptions, Fatal> {
        let since = self.last("diff").map(PathBuf::from);
        let (first, rest) = words
            .split_first()
            .ok_or_else(|| usage("dump of which level?"))?;
        let source = match Zoom::named(first.as_bytes()) {
            Some(level) => Source::Servers(level, filters(rest)),
            None if since.is_some() && rest.is_empty() => Source::File(PathBuf::from(first)),
            None => return Err(usage(format!("unknown level {first:?}"))),
        };
        let fields = self.last("fields");
        Ok(DumpOptions {
            servers: self.servers(),
            format: self.format()?.unwrap_or_default(),
            source,
            since,
            fields: fields.map(|names| names.split(',').map(str::to_owned).collect()),
            sort: self.last("sort"),
            limit: self.read("limit", "a limit of", |text| text.parse().ok())?,
            watch: self.read("watch", "an interval of", seconds)?,
        })
    }

    /// What `top` is to do.
    fn top(&self, words: &[&str]) -> Result<TopOptions, Fatal> {
        let (given, sorts): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| is_filter(word));
        if let Some(extra) = sorts.get(1) {
            return Err(usage(format!("unexpected argument {extra:?}")));
        }
        let level = |text: &str| Zoom::named(text.as_bytes());
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
            level: self.read("l", "the level", level)?,
            filters: filters(&given),
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
            dovecot: self.last("dovecot").map(PathBuf::from),
        })
    }

    /// What `run` is to do.
    fn run(&self, words: Vec<OsString>) -> Result<RunOptions, Fatal> {
        let mut words = words.into_iter();
        let program = words.next().ok_or_else(|| usage("run which program?"))?;
        let [least, most] = RUN_LIMITS;
        let every = self.read("i", "an interval of", seconds)?;
        Ok(RunOptions {
            user: self.last("u"),
            service: self.last("S"),
            ip: self.read("r", "the address", |text| text.parse().ok())?,
            every: every.unwrap_or(RUN_EVERY).clamp(least, most),
            fifo: self.last("fifo").map(PathBuf::from),
            program,
            args: words.collect(),
        })
    }

    /// The format.
    fn format(&self) -> Result<Option<Format>, Fatal> {
        self.read("f", "the format", Format::named)
    }
}

/// Whether a word is a filter.
fn is_filter(word: &str) -> bool {
    word.contains('=') || word.starts_with("connected")
}

/// Filters from the command line. doveadm passes its one argument on as it is,
/// so that scripts give it several filters with TABs in between.
fn filters(words: &[&str]) -> Vec<Vec<u8>> {
    let pieces = words.iter().flat_map(|word| word.split('\t'));
    pieces.map(|filter| filter.as_bytes().to_vec()).collect()
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
