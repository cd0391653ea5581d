//! The command line of `dovestatd`.
//!
//! [`TABLE`] is the one table of options; parser and help are made from it.

use crate::config::{
    self, Configuration, Defaults, Fatal, LogPath, Mistakes, Shown, Source, DEFAULT_USER, OUR_FILE,
};
use crate::daemon::start::preflight;
use crate::sys::proc::user::{effective_uid, User};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

struct OptionRow {
    /// Its letter, or nothing.
    short: &'static str,
    /// Its long name, or nothing.
    long: &'static str,
    /// The name of its argument; empty when it has none.
    argument: &'static str,
    help: &'static str,
}

const TABLE: [OptionRow; 8] = [
    OptionRow {
        short: "c",
        long: "",
        argument: "FILE",
        help: "read this configuration instead of /etc/dovestat/dovestatd.conf",
    },
    OptionRow {
        short: "o",
        long: "",
        argument: "NAME=VALUE",
        help: "override one setting (may be repeated)",
    },
    OptionRow {
        short: "F",
        long: "",
        argument: "",
        help: "stay in the foreground and log to standard error",
    },
    OptionRow {
        short: "t",
        long: "",
        argument: "",
        help: "check the configuration and exit",
    },
    OptionRow {
        short: "n",
        long: "",
        argument: "",
        help: "print the settings that differ from the defaults and exit",
    },
    OptionRow {
        short: "a",
        long: "",
        argument: "",
        help: "print all settings and exit",
    },
    OptionRow {
        short: "h",
        long: "help",
        argument: "",
        help: "print this help and exit",
    },
    OptionRow {
        short: "V",
        long: "version",
        argument: "",
        help: "print the version and exit",
    },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Version,
    /// Look for mistakes in the configuration.
    Check,
    Print(Shown),
    Serve,
}

/// The options beside the command.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub source: Source,
    /// The statistics' settings of Dovecot's master, as `NAME=VALUE`.
    pub dovecots: Vec<String>,
    /// `NAME=VALUE` of every `-o`.
    pub overrides: Vec<String>,
    /// Stay in the foreground.
    pub foreground: bool,
}

impl Options {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    /// [`Fatal::Usage`] for what is not in the table.
    pub(super) fn parse(args: impl Iterator<Item = OsString>) -> Result<(Command, Options), Fatal> {
        let usage = |text: String| Fatal::Usage(format!("{text}; see dovestatd --help"));
        let mut parser = getopts::Options::new();
        for row in &TABLE {
            match row.argument {
                "" => parser.optflagmulti(row.short, row.long, row.help),
                argument => parser.optmulti(row.short, row.long, row.help, argument),
            };
        }
        let matches = parser
            .parse(args)
            .map_err(|error| usage(error.to_string()))?;
        if let Some(extra) = matches.free.first() {
            return Err(usage(format!("unexpected argument {extra:?}")));
        }
        let source = match matches.opt_strs("c").pop() {
            Some(file) => Source::Named(PathBuf::from(file)),
            None => Source::Default(PathBuf::from(OUR_FILE)),
        };
        let commands = [
            ("h", Command::Help),
            ("V", Command::Version),
            ("t", Command::Check),
            ("a", Command::Print(Shown::All)),
            ("n", Command::Print(Shown::Changed)),
        ];
        let command = commands
            .into_iter()
            .find(|(short, _)| matches.opt_present(short))
            .map_or(Command::Serve, |(_, command)| command);
        let options = Options {
            source,
            dovecots: Vec::new(),
            overrides: matches.opt_strs("o"),
            foreground: matches.opt_present("F"),
        };
        Ok((command, options))
    }

    /// These options for any current directory and root directory: a configuration that is
    /// there now must be there when it is read again.
    ///
    /// # Errors
    /// When there is no current directory.
    pub(super) fn anchored(&self) -> Result<Options, Fatal> {
        let mut options = self.clone();
        options.source = match &self.source {
            Source::Default(path) if !path.exists() => Source::Default(path.clone()),
            Source::Default(path) | Source::Named(path) | Source::Again(path) => {
                Source::Again(std::path::absolute(path).map_err(Fatal::io("current directory"))?)
            }
        };
        Ok(options)
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// [`Fatal::Configuration`] with all mistakes.
    pub(super) fn load(&self) -> Result<Configuration, Fatal> {
        let Options {
            source,
            dovecots,
            overrides,
            ..
        } = self;
        config::read(source, dovecots, overrides, &Defaults::ours()).map_err(Fatal::Configuration)
    }

    /// Reads the configuration as it holds for this daemon: in the foreground it
    /// logs to standard error.
    ///
    /// # Errors
    /// As [`Options::load`].
    #[cold]
    pub(super) fn load_to_serve(&self) -> Result<Configuration, Fatal> {
        let mut configuration = self.load()?;
        if self.foreground {
            configuration.settings.log_path = LogPath::Stderr;
        }
        Ok(configuration)
    }

    /// Sets the overrides of a trial: root with `-F` and nothing else, without a
    /// configuration, on a system without the user of the service. It serves root alone,
    /// and leaves nothing to a later service. Returns whether it is one.
    #[cold]
    pub(super) fn try_out(&mut self) -> bool {
        let is_trial = self.foreground
            && self.overrides.is_empty()
            && effective_uid() == 0
            && matches!(&self.source, Source::Default(path) if !path.exists())
            && matches!(User::find(DEFAULT_USER), Ok(None));
        if is_trial {
            let base_dir = Defaults::private().base_dir;
            self.overrides = vec![
                format!("base_dir={}", base_dir.display()),
                "state_dir=".to_owned(),
                "service/stats/user=0".to_owned(),
                "service/stats/group=0".to_owned(),
            ];
        }
        is_trial
    }

    /// Looks for mistakes in the configuration, those that are found only on this
    /// system included, and prints "ok" if there are none.
    ///
    /// # Errors
    /// [`Fatal::Configuration`] with all mistakes.
    pub(super) fn check(&self) -> Result<(), Fatal> {
        let (configuration, mut mistakes) =
            config::examine(&self.source, &[], &self.overrides, &Defaults::ours());
        for notice in &configuration.notices {
            // There is nowhere else to report that this failed.
            let _ = writeln!(io::stderr(), "{} (notice)", notice);
        }
        mistakes.extend(preflight::missing_for_check(&configuration));
        if !mistakes.is_empty() {
            return Err(Fatal::Configuration(Mistakes(mistakes)));
        }
        let file = self.source.path().display();
        let remark = match &self.source {
            Source::Default(path) if !path.exists() => " (there is no such file: all defaults)",
            _ if configuration.is_dovecots => {
                " (Dovecot's own file: only settings and service of its statistics are taken)"
            }
            _ => "",
        };
        print(&format!("{file}: ok{remark}\n"))
    }
}

/// The text of `--help`.
pub(super) fn help() -> String {
    let mut text = String::from(
        "usage: dovestatd [-F] [-c FILE] [-o NAME=VALUE]...\n\
         \x20      dovestatd -t | -n | -a [-c FILE] [-o NAME=VALUE]...\n\
         \n\
         Keeps the statistics of Dovecot's mail processes and answers who asks for them.\n\
         \n",
    );
    for row in &TABLE {
        let names = match row.long {
            "" => format!("-{} {}", row.short, row.argument),
            long => format!("-{}, --{long}", row.short),
        };
        text += &format!("  {names:15} {}\n", row.help);
    }
    text
}

/// The text of `--version`.
pub(super) fn version() -> String {
    format!("dovestatd {}\n", env!("CARGO_PKG_VERSION"))
}

/// Prints to standard output. That it is closed is no error.
pub(super) fn print(text: &str) -> Result<(), Fatal> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Fatal::Io("standard output".to_owned(), error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<(Command, Options), Fatal> {
        Options::parse(args.iter().map(OsString::from))
    }

    #[test]
    fn reads_every_option() {
        let (command, options) = parse(&["-F", "-o", "a=1", "-oa=2", "-c", "f"]).unwrap();
        assert_eq!(command, Command::Serve);
        assert!(options.foreground);
        assert_eq!(options.overrides, ["a=1", "a=2"]);
        assert_eq!(options.source, Source::Named("f".into()));
        for (args, expected) in [
            (&["-h"][..], Command::Help),
            (&["--help"], Command::Help),
            (&["-V"], Command::Version),
            (&["--version"], Command::Version),
            (&["-t"], Command::Check),
            (&["-n"], Command::Print(Shown::Changed)),
            (&["-a", "-n"], Command::Print(Shown::All)),
        ] {
            assert_eq!(parse(args).unwrap().0, expected, "{args:?}");
        }
    }

    #[test]
    fn a_configuration_that_was_there_is_missed() {
        let anchored = |source| {
            let options = Options {
                source,
                ..parse(&[]).unwrap().1
            };
            options.anchored().unwrap().source
        };
        let there = PathBuf::from("/dev/null");
        let missing = Source::Default("/nonexistent/file".into());
        assert_eq!(
            anchored(Source::Default(there.clone())),
            Source::Again(there)
        );
        assert_eq!(anchored(missing.clone()), missing);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for args in [&["-x"][..], &["--nothing"], &["-c"], &["-o"], &["file"]] {
            assert_eq!(parse(args).unwrap_err().code(), 64, "{args:?}");
        }
    }

    #[test]
    fn helps_with_every_option() {
        for row in &TABLE {
            assert!(help().contains(&format!("-{}", row.short)));
            assert!(help().contains(row.help));
        }
    }
}
