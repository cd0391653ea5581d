//! Completions for shells, made from the tables of the command line.
//!
//! What an option's argument is called there decides what is offered for it. Columns
//! are those of the level that stands on the command line, of all levels without one.

use super::filter::FILTERS;
use super::table::{CommandRow, OptionRow, COMMANDS, TABLE};
use crate::cli::column;
use crate::cli::format::Format;
use crate::store::Level;

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// The script for a shell.
pub(super) fn script(shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(bash()),
        "zsh" => Some(zsh()),
        "fish" => Some(fish()),
        _ => None,
    }
}

/// What can be put in an argument's place.
enum Values {
    Words(Vec<String>),
    /// One of the [`columns`] of the level.
    Columns,
    /// One of its [`sorts`].
    Sorts,
    /// The path of a file.
    Files,
    Free,
}

/// What the argument of that name may be.
fn values(argument: &str) -> Values {
    let owned = |names: Vec<&str>| Values::Words(names.into_iter().map(str::to_owned).collect());
    match argument {
        "FORMAT" => owned(Format::ALL.map(|(_, name)| name).to_vec()),
        "LEVEL" => owned(column::level_names()),
        "SHELL" => owned(SHELLS.to_vec()),
        "FIELDS" | "FIELD" => Values::Columns,
        "SORT" => Values::Sorts,
        "FILTER" => owned(FILTERS.to_vec()),
        "FILE" | "SERVER" | "PATH" | "EVENTS" | "ANVIL" => Values::Files,
        _ => Values::Free,
    }
}

/// What `dump` can print and sort by.
fn columns(level: Option<Level>) -> String {
    let sums = column::SUMS.map(|(name, _)| name.to_owned());
    let names = match level {
        Some(level) => column::names_at(level),
        None => column::all_names().into_iter().map(str::to_owned).collect(),
    };
    [&sums[..], &names].concat().join(" ")
}

/// What `top` can sort by: it begins with users.
fn sorts(level: Option<Level>) -> String {
    let all = columns(Some(level.unwrap_or(Level::User)));
    let not_there = [
        "io",
        "reset_timestamp",
        "connected",
        "over",
        column::HISTOGRAM,
    ];
    let words = all.split(' ').filter(|word| !not_there.contains(word));
    words.collect::<Vec<_>>().join(" ")
}

/// The rows that help shows.
fn rows() -> impl Iterator<Item = &'static OptionRow> {
    TABLE.iter().filter(|row| !row.help.is_empty())
}

/// The names of an option as they are typed.
fn spellings(row: &OptionRow) -> Vec<String> {
    let short = (!row.short.is_empty()).then(|| format!("-{}", row.short));
    let long = (!row.long.is_empty()).then(|| format!("--{}", row.long));
    short.into_iter().chain(long).collect()
}

/// The names of the options that a command takes.
fn spellings_for(command: &CommandRow) -> String {
    let takes = |row: &&OptionRow| row.is_for(command.name);
    let all: Vec<String> = rows().filter(takes).flat_map(spellings).collect();
    all.join(" ")
}

/// The words that may follow a command, at its first place and at later ones.
fn operands(command: &CommandRow) -> [String; 2] {
    let kinds: Vec<&str> = command
        .operands
        .split(|c: char| !c.is_ascii_uppercase())
        .filter(|kind| !kind.is_empty())
        .collect();
    let words = |kinds: &[&str]| {
        let all = kinds.iter().filter_map(|kind| match values(kind) {
            Values::Words(words) => Some(words.join(" ")),
            Values::Sorts => Some("$sorts".to_owned()),
            _ => None,
        });
        all.collect::<Vec<_>>().join(" ")
    };
    // An operand in brackets may be left out for what follows it, and the last repeated.
    match kinds.split_first() {
        Some((_, [])) if command.operands.ends_with("...]") => [words(&kinds), words(&kinds)],
        Some((_, rest)) if command.operands.starts_with('[') => [words(&kinds), words(rest)],
        Some((first, rest)) => [words(&[first]), words(rest)],
        None => [String::new(), String::new()],
    }
}

fn bash() -> String {
    let mut arguments = String::new();
    for row in rows().filter(|row| !row.argument.is_empty()) {
        let action = match values(row.argument) {
            Values::Columns if row.argument == "FIELDS" => {
                "local done=; [[ $word == *,* ]] && done=${word%,*},\n            \
                 COMPREPLY=($(compgen -P \"$done\" -W \"$columns\" -- \"${word##*,}\"))"
                    .to_owned()
            }
            Values::Columns => "COMPREPLY=($(compgen -W \"$columns\" -- \"$word\"))".to_owned(),
            Values::Words(words) => {
                format!(
                    "COMPREPLY=($(compgen -W '{}' -- \"$word\"))",
                    words.join(" ")
                )
            }
            Values::Files => "COMPREPLY=($(compgen -f -- \"$word\"))".to_owned(),
            Values::Sorts | Values::Free => ":".to_owned(),
        };
        let names = spellings(row).join("|");
        arguments += &format!("        {names})\n            {action}\n            return ;;\n");
    }
    let takers: Vec<String> = rows()
        .filter(|row| !row.argument.is_empty())
        .flat_map(spellings)
        .collect();
    let mut commands = String::new();
    for command in &COMMANDS {
        let [first, later] = operands(command);
        commands += &format!(
            "        {}) options='{}'; words=(\"{first}\" '{later}') ;;\n",
            command.name,
            spellings_for(command)
        );
    }
    let names = COMMANDS.map(|command| command.name).join(" ");
    let globals: Vec<String> = rows()
        .filter(|row| row.commands.is_empty())
        .flat_map(spellings)
        .collect();
    format!(
        "# bash completion for dovestat
_dovestat() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    local command= count=0 options='{globals}' words=('{names}' '') n
    COMPREPLY=()
{levels}    case $before in
{arguments}    esac
    for ((n = 1; n < COMP_CWORD; n++)); do
        case ${{COMP_WORDS[n]}} in
            {takers}) ((n++)) ;;
            -*|stats|oldstats) ;;
            *) if [[ -z $command ]]; then command=${{COMP_WORDS[n]}}; else ((count++)); fi ;;
        esac
    done
    case $command in
{commands}    esac
    if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))
    else
        COMPREPLY=($(compgen -W \"${{words[count > 0]}}\" -- \"$word\"))
        [[ ${{COMPREPLY[0]}} == *= ]] && compopt -o nospace
    fi
}}
complete -F _dovestat dovestat
",
        globals = globals.join(" "),
        takers = takers.join("|"),
        levels = shell_levels("${COMP_WORDS[@]}"),
    )
}

/// The words of a command line that mean a level.
fn level_words(level: Level) -> String {
    let slow = if level == Level::Command { " slow" } else { "" };
    format!("{0} {0}s{slow}", level.name())
}

/// Lines of bash or zsh that choose the columns by the level among the words.
fn shell_levels(words: &str) -> String {
    let mut text = format!(
        "    local columns='{}' sorts='{}' level\n    for level in \"{words}\"; do\n        case $level in\n",
        columns(None),
        sorts(None)
    );
    for level in Level::ALL {
        text += &format!(
            "            {}) columns='{}' sorts='{}' ;;\n",
            level_words(level).replace(' ', "|"),
            columns(Some(level)),
            sorts(Some(level))
        );
    }
    text + "        esac\n    done\n"
}

/// A text between single quotes, for zsh and fish.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "'\\''"))
}

fn zsh() -> String {
    let line = |row: &OptionRow| {
        let names = spellings(row);
        let repeated = row.argument == "SERVER";
        let (head, tail) = match (&names[..], repeated) {
            ([one], false) => (String::new(), one.clone()),
            ([one], true) => ("*".to_owned(), one.clone()),
            (many, false) => (
                format!("({})", many.join(" ")),
                format!("'{{{}}}'", many.join(",")),
            ),
            (many, true) => ("*".to_owned(), format!("'{{{}}}'", many.join(","))),
        };
        let help = row.help.replace(':', "\\:").replace(['[', ']'], "");
        let action = match (row.argument, values(row.argument)) {
            ("", _) => String::new(),
            ("FIELDS", Values::Columns) => {
                format!(":{}:_values -s , column '\"$columns\"'", row.argument)
            }
            (name, Values::Columns) => format!(":{name}:('\"$columns\"')"),
            (name, Values::Words(words)) => format!(":{name}:({})", words.join(" ")),
            (name, Values::Files) => format!(":{name}:_files"),
            (name, Values::Sorts | Values::Free) => format!(":{name}:"),
        };
        format!("        '{head}{tail}[{help}]{action}'\n")
    };
    let globals: String = rows()
        .filter(|row| row.commands.is_empty())
        .map(line)
        .collect();
    let mut cases = String::new();
    for command in &COMMANDS {
        let own: String = rows()
            .filter(|row| row.commands.contains(&command.name))
            .map(line)
            .collect();
        let [first, later] = operands(command);
        let mut places = String::new();
        if !first.is_empty() {
            let first = first.replace("$sorts", "'\"$sorts\"'");
            places += &format!("        '1:: :({first})'\n");
            places += &format!("        '*: :({later})'\n");
        }
        cases += &format!(
            "    {})\n        options+=(\n{own}{places}        ) ;;\n",
            command.name
        );
    }
    let names = COMMANDS.map(|command| {
        let entry = format!("{}:{}", command.name, command.help);
        quoted(&entry)
    });
    format!(
        "#compdef dovestat
_dovestat() {{
    local -a options commands
    local command= word
    commands=({names})
{levels}    options=(
{globals}    )
    for word in ${{words[2,CURRENT-1]}}; do
        case $word in
            {each}) command=$word; break ;;
        esac
    done
    case $command in
    '')
        options+=('1:command:{{_describe command commands}}') ;;
{cases}    esac
    if [[ -n $command ]]; then
        # The command itself is no operand.
        local at=${{words[(i)$command]}}
        words[at]=()
        (( CURRENT-- ))
    fi
    _arguments -s $options
}}
# Called by completion, when this is a file of fpath; else sourced.
if [[ $funcstack[1] == _dovestat ]]; then
    _dovestat \"$@\"
else
    compdef _dovestat dovestat
fi
",
        names = names.join(" "),
        each = COMMANDS.map(|command| command.name).join("|"),
        levels = shell_levels("${words[@]}"),
    )
}

fn fish() -> String {
    let names = COMMANDS.map(|command| command.name).join(" ");
    let mut text = String::from("# fish completion for dovestat\ncomplete -c dovestat -f\n");
    for command in &COMMANDS {
        text += &format!(
            "complete -c dovestat -n 'not __fish_seen_subcommand_from {names}' -a {} -d {}\n",
            command.name,
            quoted(command.help)
        );
        let [first, later] = operands(command);
        for words in [first, later].iter().filter(|words| !words.is_empty()) {
            let words = words.replace("$sorts", &sorts(None));
            text += &format!(
                "complete -c dovestat -n '__fish_seen_subcommand_from {}' -a '{words}'\n",
                command.name
            );
        }
    }
    for row in rows() {
        let mut line = String::from("complete -c dovestat");
        if !row.commands.is_empty() {
            line += &format!(
                " -n '__fish_seen_subcommand_from {}'",
                row.commands.join(" ")
            );
        }
        if !row.short.is_empty() {
            line += &format!(" -s {}", row.short);
        }
        if !row.long.is_empty() {
            line += &format!(" -l {}", row.long);
        }
        match (row.argument, values(row.argument)) {
            ("", _) => {}
            (_, Values::Words(words)) => line += &format!(" -x -a '{}'", words.join(" ")),
            (_, Values::Columns) => {
                for level in Level::ALL {
                    let seen = format!("__fish_seen_subcommand_from {}", level_words(level));
                    let line = line.replace(" -l ", &format!(" -n '{seen}' -l "));
                    let words = columns(Some(level));
                    text += &format!("{line} -x -a '{words}' -d {}\n", quoted(row.help));
                }
                continue;
            }
            (_, Values::Files) => line += " -r -F",
            (_, Values::Sorts | Values::Free) => line += " -x",
        }
        text += &format!("{line} -d {}\n", quoted(row.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_and_value_is_completed() {
        for shell in SHELLS {
            let script = script(shell).unwrap();
            for row in rows() {
                let long = if shell == "fish" { "-l " } else { "--" };
                if !row.long.is_empty() {
                    assert!(script.contains(&format!("{long}{}", row.long)), "{shell}");
                }
            }
            for word in ["session", "since=", "ndjson", "mail_cache_hits", "reset"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
        assert!(script("csh").is_none());
    }

    #[test]
    fn operands_follow_the_table() {
        let [first, later] = operands(&COMMANDS[0]);
        assert_eq!(first, "command session user domain ip global service cmd");
        let filters = FILTERS.join(" ");
        assert_eq!(later, filters);
        assert!(filters.starts_with("user= ") && filters.ends_with(" connected more histogram"));
        let [first, later] = operands(&COMMANDS[1]);
        assert_eq!(first, format!("$sorts {filters}"));
        assert!(sorts(None).starts_with("disk cpu user ") && sorts(None).contains(" num_logins "));
        assert!(!sorts(Some(Level::Session)).contains("num_logins"));
        assert_eq!(later, filters);
        assert_eq!(COMMANDS[2].name, "slow");
        assert_eq!(operands(&COMMANDS[2]), [filters.clone(), filters]);
        assert!(level_words(Level::Command).ends_with(" slow"));
    }
}
