//! The manual pages against the programs: every option, command, setting,
//! default, filter and column stands in both, and nothing else does.
//!
//! The programs' side is their `--help`, which is made from their tables of
//! options, the table of settings, the table of fields, and what a daemon answers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dovestat::config::table::{self, Setting};
use dovestat::stats::{Item, FIELDS};

use crate::client::printed;
use crate::harness::{lacking, run, text, Daemon, Setup};

/// The pages.
const PAGES: [&str; 4] = [
    "dovestat-protocol.7",
    "dovestat.1",
    "dovestatd.8",
    "dovestatd.conf.5",
];

/// Where they are.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("man")
}

/// The lines of a page.
fn page(name: &str) -> Vec<String> {
    let path = directory().join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(str::to_owned).collect()
}

/// The lines of one section or subsection, to the next of the same kind.
fn part<'a>(lines: &'a [String], heading: &str) -> &'a [String] {
    let macro_name = &heading[..4];
    let begin = lines.iter().position(|line| line == heading);
    let begin = begin.unwrap_or_else(|| panic!("no {heading}")) + 1;
    let ends = |line: &String| line.starts_with(macro_name) || line.starts_with(".Sh ");
    let length = lines[begin..].iter().position(ends);
    &lines[begin..length.map_or(lines.len(), |length| begin + length)]
}

/// What `.It MACRO ` items say behind it.
fn items<'a>(lines: &'a [String], macro_name: &str) -> Vec<&'a str> {
    let head = format!(".It {macro_name} ");
    let of_item = |line: &'a String| line.strip_prefix(&head);
    lines.iter().filter_map(of_item).collect()
}

/// An option as `--help` and the manual have it: its names, its argument in lower
/// case, and the command it belongs to, which is empty for all.
type Entry = (Vec<String>, String, String);

/// The options of a program's help.
fn helped(help: &str) -> BTreeSet<Entry> {
    let mut command = String::new();
    let mut found = BTreeSet::new();
    for line in help.lines() {
        if let Some(name) = line.strip_prefix("Options of ") {
            // The manual has options of several commands at the first.
            let first = name.split([' ', ':']).next();
            command = first.expect("a command").to_owned();
        }
        let Some(rest) = line.strip_prefix("  -") else {
            continue;
        };
        let mut words = format!("-{rest}");
        words.truncate(words.find("  ").unwrap_or(words.len()));
        let mut words = words.split_whitespace().peekable();
        let mut names = Vec::new();
        while let Some(name) = words.next_if(|word| word.starts_with('-')) {
            names.push(name.trim_end_matches(',').to_owned());
        }
        // An argument that leaves no room has one blank behind it.
        let capitals = |word: &&str| word.chars().all(|c| c.is_ascii_uppercase() || c == '=');
        let argument = words.next_if(capitals).unwrap_or_default();
        found.insert((names, argument.to_lowercase(), command.clone()));
    }
    found
}

/// The options that the manual has items for; those in a list inside a command's
/// item are that command's.
fn documented(lines: &[String]) -> BTreeSet<Entry> {
    let (mut depth, mut command) = (0, String::new());
    let mut found = BTreeSet::new();
    for line in lines {
        if line.starts_with(".Bl") {
            depth += 1;
        } else if line.starts_with(".El") {
            depth -= 1;
        } else if let Some(item) = line.strip_prefix(".It Cm ") {
            command = item.split(' ').next().expect("a word").to_owned();
        } else if let Some(item) = line.strip_prefix(".It Fl ") {
            let (names, argument) = item.split_once(" Ar ").unwrap_or((item, ""));
            let names = names.split(" , ").map(|name| format!("-{name}")).collect();
            let argument = argument.replace(" Ns ", "").replace("=Ar ", "=");
            let owner = if depth > 1 {
                command.clone()
            } else {
                String::new()
            };
            found.insert((names, argument, owner));
        }
    }
    found
}

#[test]
fn options_of_both_programs_are_documented() {
    for (name, help) in [
        ("dovestatd.8", text(&run(&["--help"]).stdout)),
        ("dovestat.1", printed(&["--help"])),
    ] {
        let (lines, options) = (page(name), helped(&help));
        assert!(options.len() > 6, "{help}");
        assert_eq!(documented(&lines), options, "{name}");
        let synopsis = part(&lines, ".Sh SYNOPSIS");
        let letters: String = synopsis
            .iter()
            .filter_map(|line| line.strip_prefix(".Op Fl ").or(line.strip_prefix(".Fl ")))
            .map(|line| format!(" {line} "))
            .collect();
        for (names, argument, command) in options {
            let first = names[0].trim_start_matches('-');
            let is_printing =
                argument == "shell" || command.is_empty() && names.len() > 1 && argument.is_empty();
            let is_there = letters.split(' ').any(|word| {
                word.trim_start_matches('-') == first
                    || first.len() == 1 && !word.starts_with('-') && word.contains(first)
            });
            assert!(
                is_printing || is_there,
                "{name}: {first} is not in the synopsis"
            );
        }
    }
}

#[test]
fn commands_of_the_client_are_documented() {
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !["", "Ar", "Op", "Oo", "Oc", "Ns", "Fl"].contains(word))
            .map(str::to_lowercase)
            .collect()
    };
    let help = printed(&["--help"]);
    let helped: Vec<Vec<String>> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with("   "))
        .map(|line| {
            // Its help begins with the first word in small letters.
            let mut kept = words(line.trim().split(' ').next().expect("a command"));
            let operands = line.trim().split(' ').skip(1);
            let operands =
                operands.take_while(|word| !word.chars().any(|c| c.is_ascii_lowercase()));
            kept.extend(operands.flat_map(words));
            kept
        })
        .collect();
    let lines = page("dovestat.1");
    let documented: Vec<Vec<String>> = items(part(&lines, ".Sh DESCRIPTION"), "Cm")
        .into_iter()
        .map(words)
        .collect();
    assert_eq!(documented, helped);
    let synopsis = part(&lines, ".Sh SYNOPSIS");
    for command in &helped {
        assert!(
            synopsis.contains(&format!(".Cm {}", command[0])),
            "{command:?}"
        );
    }
}

/// The settings of a part of the manual, with their defaults.
fn settings(lines: &[String], heading: &str) -> Vec<(String, Option<String>)> {
    let items = items(part(lines, heading), "Ic");
    let of_item = |item: &str| match item.split_once(" No =") {
        Some((name, default)) => (name.to_owned(), Some(default.trim().to_owned())),
        None => (item.to_owned(), None),
    };
    items.into_iter().map(of_item).collect()
}

/// Those of the table.
fn rows<T>(table: &[Setting<T>]) -> Vec<(String, Option<String>)> {
    let of_row = |row: &Setting<T>| (row.name.to_owned(), row.default.map(str::to_owned));
    table.iter().map(of_row).collect()
}

#[test]
fn settings_and_defaults_are_those_of_the_table() {
    let lines = page("dovestatd.conf.5");
    assert_eq!(settings(&lines, ".Ss Settings"), rows(table::TOP));
    assert_eq!(settings(&lines, ".Ss service stats"), rows(table::SERVICE));
    assert_eq!(
        settings(&lines, ".Ss fifo_listener and unix_listener"),
        rows(table::FILE)
    );
    assert_eq!(settings(&lines, ".Ss inet_listener"), rows(table::INET));
    assert_eq!(
        settings(&lines, ".Ss unix_listener and inet_listener"),
        rows(table::OPTIONS)
    );
    // Those five, and the one about Dovecot's configuration.
    assert_eq!(
        lines.iter().filter(|line| line.starts_with(".Ss ")).count(),
        6
    );
    let text = lines.join("\n");
    for name in table::FIFO_NAMES {
        assert!(
            text.contains(&format!(".Ic fifo_listener {name}")),
            "{name}"
        );
    }
    for name in table::UNIX_NAMES {
        assert!(
            text.contains(&format!(".Ic unix_listener {name}")),
            "{name}"
        );
    }
}

#[test]
fn columns_are_those_of_replies() {
    let lines = page("dovestat-protocol.7");
    let replies = part(&lines, ".Ss Replies");
    let statistics: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
    let (known, net) = statistics.split_at(statistics.len() - 3);
    let daemon = Daemon::with("manual", &Setup::new().unix("header_always = yes"));
    let mut own = BTreeSet::new();
    let levels = items(replies, "Ic");
    let all = "command session user domain ip global service cmd";
    assert_eq!(levels, all.split(' ').collect::<Vec<_>>());
    let times = [
        "time_p50",
        "time_p90",
        "time_p99",
        "time_max",
        "time_histogram",
    ];
    let (quantiles, histogram) = times.split_at(4);
    for level in levels {
        let header = |request: &str| {
            let reply = text(&daemon.client().export_raw(request));
            reply.lines().next().expect("a header").to_owned()
        };
        let (plain, more) = (header(level), header(&format!("{level}\tmore")));
        let whole: Vec<&str> = plain.split('\t').collect();
        let more: Vec<&str> = more.split('\t').collect();
        // How long commands took comes last of the plain columns, or of all.
        let plain = whole.strip_suffix(quantiles).unwrap_or(&whole);
        assert_eq!(plain.len() < whole.len(), level == "cmd", "{level}");
        let rest = more.strip_suffix(quantiles).unwrap_or(&more);
        let has_more = ["global", "service"].contains(&level);
        assert_eq!(rest.len() < more.len(), has_more, "{level}");
        let counts = header(&format!("{level}\thistogram"));
        let counts: Vec<&str> = counts.split('\t').collect();
        let ending = if has_more || level == "cmd" {
            histogram
        } else {
            &[]
        };
        assert_eq!(counts, [&whole[..], ending].concat(), "{level}");
        let (keys, stats) = plain.split_at(plain.len() - known.len());
        let at = replies
            .iter()
            .position(|line| *line == format!(".It Ic {level}"));
        assert_eq!(
            replies[at.expect("its item") + 1],
            keys.join(" "),
            "{level}"
        );
        assert_eq!(stats, known, "{level}");
        own.extend(keys.iter().map(ToString::to_string));
        let further = rest.strip_prefix(&whole[..]).expect("the others first");
        let ours = further.strip_suffix(net).expect("those of all levels last");
        let at = replies
            .iter()
            .position(|line| *line == format!(".It Cm {level}"));
        let documented = at.map(|at| replies[at + 1].to_owned());
        assert_eq!(documented.unwrap_or_default(), ours.join(" "), "{level}");
        own.extend(ours.iter().map(ToString::to_string));
    }
    let columns: Vec<&str> = items(replies, "Va")
        .into_iter()
        .flat_map(|item| item.split(" , "))
        .collect();
    let columns = columns.strip_suffix(&times).expect("times at the end");
    let begin = columns.iter().position(|name| *name == known[0]);
    let (keys, stats) = columns.split_at(begin.expect("the statistics"));
    let (stats, further) = stats.split_at(known.len());
    assert_eq!(stats, known);
    let ours = further.strip_suffix(net).expect("those of all levels last");
    let keys = [keys, ours].concat();
    assert_eq!(
        keys.iter()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>(),
        own
    );
    assert_eq!(keys.len(), own.len());
}

#[test]
fn structs_have_all_fields() {
    let lines = page("dovestat-protocol.7");
    let records = part(&lines, ".Ss Records").join("\n");
    let blocks: Vec<&str> = records.split(".Bd ").skip(1).collect();
    assert_eq!(blocks.len(), 3);
    for (block, item) in blocks.into_iter().zip([Item::Mail, Item::Auth, Item::Net]) {
        let block = block.split(".Ed").next().expect("its text");
        let named: BTreeSet<&str> = block
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.contains('_') && !word.ends_with("_t"))
            .collect();
        let fields = FIELDS.iter().filter(|field| field.item == item);
        assert_eq!(named, fields.map(|field| field.name).collect());
    }
}

#[test]
fn filters_are_those_that_are_completed() {
    let lines = page("dovestat-protocol.7");
    let documented: Vec<String> = items(part(&lines, ".Ss Requests"), "Ic")
        .into_iter()
        .map(|item| item.split(' ').next().expect("a word").to_owned())
        .filter(|word| !word.chars().all(|c| c.is_ascii_uppercase()))
        .collect();
    let documented: BTreeSet<&str> = documented.iter().map(String::as_str).collect();
    // Of the words in quotes in the script, those of the filters.
    let script = printed(&["--completion", "bash"]);
    let completed = script.split('\'').find(|words| words.starts_with("user= "));
    let completed = completed.expect("the filters").split(' ').collect();
    assert_eq!(documented, completed);
}

#[test]
fn mandoc_finds_nothing() {
    let test = "mandoc_finds_nothing";
    // Where it runs it finds the pages that refer to each other.
    let output = Command::new("mandoc")
        .args(["-T", "lint", "-W", "style"])
        .args(PAGES)
        .current_dir(directory())
        .output();
    let Ok(output) = output else {
        return lacking(test, "mandoc");
    };
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    let found = fs::read_dir(directory()).expect("man").count();
    assert_eq!(found, PAGES.len());
}
