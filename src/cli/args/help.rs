//! The texts of help.
//!
//! All of it comes from the tables of the command line; here are only the examples
//! and what levels and filters are.

use super::table::{names_of, CommandRow, OptionRow, COMMANDS, TABLE};
use crate::cli::column::level_names;

/// For bare `dovestat`.
pub(crate) const SHORT: &str = "\
usage: dovestat [-s SERVER]... [-f FORMAT] COMMAND [OPTION]... [ARGUMENT]...
  dovestat top                     watch who is busy, live
  dovestat dump user --sort disk   print statistics: users, the busiest first
  dovestat run CMD [ARG...]        run a program and report it as a session
dovestat help [COMMAND] shows more, dovestat(1) everything
";

/// An example for each command.
const EXAMPLES: [(&str, &str); 8] = [
    (
        "dump",
        "dovestat -f table dump session connected service=imap --sort cpu --limit 10",
    ),
    ("top", "dovestat top cpu -l session domain=example.org"),
    (
        "slow",
        "dovestat slow since=1h user=*@example.org --sort cpu",
    ),
    ("reset", "dovestat -s /run/dovestat/stats reset"),
    (
        "run",
        "dovestat run -u \"$USER@example.org\" -S maildrop -- maildrop -d \"$USER\"",
    ),
    (
        "check",
        "dovestat check --dovecot /etc/dovecot/dovecot.conf",
    ),
    ("bridge", "dovestat bridge -v -i 0.5"),
    ("demo", "dovestat demo"),
];

/// What filters there are, with their values.
const FILTERS: &str = "\
Filters, all of which must hold:
  user= domain= service=  a name, * for any run of characters, ? for one
  cmd=                    likewise, in any case: of the levels command and cmd
  session=                the exact id
  ip=                     an address or network: 192.0.2.1, 2001:db8::/32
  since=                  updated since: 5m or \"2 hours\" ago, today, yesterday,
                          2026-11-27, 2026-11-27T14:30, or seconds since 1970
  connected               connected now, or at least one of its sessions is
  more                    no filter: asks for further columns, which are ours
  histogram               no filter: asks for how many commands took how long,
                          at the levels global, service and cmd
";

/// The text of `COMMAND --help`; `None` for a command that does not exist.
pub(crate) fn of_command(name: &str) -> Option<String> {
    let command = COMMANDS.iter().find(|command| command.name == name)?;
    let CommandRow { operands, help, .. } = command;
    let servers = match TABLE[0].is_for(name) {
        true => "[-s SERVER]... [-f FORMAT] ",
        false => "",
    };
    let line = format!("usage: dovestat {servers}{name} [OPTION]... {operands}");
    let mut text = format!("{}\n\n{help}\n", line.trim_end());
    let has = |operand: &str| operands.contains(operand);
    if has("LEVEL")
        || TABLE
            .iter()
            .any(|row| row.argument == "LEVEL" && row.is_for(name))
    {
        text += &format!("\nLevels: {}\n", level_names().join(" "));
    }
    if has("FILTER") {
        text += &format!("\n{FILTERS}");
    }
    text += "\nOptions:\n";
    push_options(&mut text, |row| row.is_for(name));
    if let Some((_, example)) = EXAMPLES.iter().find(|(of, _)| *of == name) {
        text += &format!("\nExample:\n  {example}\n");
    }
    Some(text)
}

/// The text of `--help`.
pub(crate) fn all() -> String {
    let mut text = String::from(
        "usage: dovestat [-s SERVER]... [-f FORMAT] COMMAND [OPTION]... [ARGUMENT]...\n\nCommands:\n",
    );
    for command in &COMMANDS {
        let left = format!("{} {}", command.name, command.operands);
        push_entry(&mut text, &left, command.help);
    }
    let mut groups: Vec<&[&str]> = Vec::new();
    for row in TABLE.iter().filter(|row| !row.help.is_empty()) {
        match row.commands {
            known if groups.contains(&known) => {}
            // Those of all commands come first.
            [] => groups.insert(0, &[]),
            commands => groups.push(commands),
        }
    }
    for group in groups {
        text += &match group {
            [] => "\nOptions:\n".to_owned(),
            names => format!("\nOptions of {}:\n", names.join(" and ")),
        };
        push_options(&mut text, |row| row.commands == group);
    }
    text + "\ndovestat COMMAND --help shows more of a command.\n"
}

/// Appends the options that fit.
fn push_options(text: &mut String, fits: impl Fn(&OptionRow) -> bool) {
    for row in TABLE.iter().filter(|row| fits(row) && !row.help.is_empty()) {
        let left = format!("{} {}", names_of(row), row.argument);
        push_entry(text, &left, row.help);
    }
}

/// Appends one entry of the help, in two columns.
fn push_entry(text: &mut String, left: &str, right: &str) {
    /// How wide the first column is.
    const LEFT: usize = 23;
    /// How long lines may be.
    const WIDTH: usize = 79;
    let mut line = format!("  {left:width$}", width = LEFT - 2);
    for word in right.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            *text += &format!("{line}\n");
            line = " ".repeat(LEFT);
        }
        line += &format!(" {word}");
    }
    *text += &format!("{line}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_has_every_row() {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let help = all();
        assert!(help.lines().all(|line| line.len() < 80), "{help}");
        for row in TABLE.iter().filter(|row| !row.help.is_empty()) {
            assert!(help.contains(&format!("  {} {}", names_of(row), row.argument)));
            assert!(words(&help).contains(&words(row.help)), "{}", row.help);
            assert!(row
                .commands
                .iter()
                .all(|name| COMMANDS.iter().any(|c| c.name == *name)));
        }
    }

    #[test]
    fn every_command_has_a_help_of_its_own() {
        for command in &COMMANDS {
            let help = of_command(command.name).unwrap();
            assert!(help.lines().all(|line| line.len() < 80), "{help}");
            assert!(help.contains("\nExample:\n  dovestat "), "{help}");
            let takes_filters = command.operands.contains("FILTER");
            assert_eq!(help.contains("\nFilters, "), takes_filters, "{help}");
        }
        assert!(of_command("dump")
            .unwrap()
            .contains("\nLevels: command session"));
        assert!(!of_command("run").unwrap().contains("-s, --server"));
        assert_eq!(of_command("who"), None);
        assert_eq!(SHORT.lines().count(), 5);
    }
}
