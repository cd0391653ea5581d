//! No message shows what a file contains, and no file is waited for.

use super::*;
use std::process::Command;

/// Looks like a key, whose last line has a `=`.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMIIEvSecret+Secret/Secret0\nSecret1==\n\
                   Secret2 {\n}\n!Secret3\n\"Secret4\n-----END PRIVATE KEY-----\n";

/// Checks that a text has nothing of [`KEY`].
#[track_caller]
fn shows_nothing(text: &str) {
    assert!(!text.contains("ecret"), "{text}");
}

#[test]
fn a_key_is_never_shown() {
    let dir = TempDir::new();
    let key = dir.write("key", KEY);
    // In a value: of a setting that is not ours, of one that takes no file, of one
    // that does.
    for (name, is_read) in [
        ("ssl_client_key", false),
        ("my_key", false),
        ("log_path", false),
        ("stats_memory_limit", false),
        ("stats_carbon_name", true),
        ("stats_carbon_server", true),
    ] {
        dir.write("main.conf", format!("{name} = <key\n"));
        let found = dir.load(&[]);
        if name.starts_with("ssl") {
            // Dovecot's own file.
            assert_eq!(found, Ok(untouched()));
            continue;
        }
        let text = found.unwrap_err();
        shows_nothing(&text);
        assert_eq!(text.contains("contains is wrong"), is_read, "{text}");
    }
    // In the place of a configuration.
    let text = load(&Source::Named(key), &[], &defaults()).unwrap_err();
    shows_nothing(&text.to_string());
    assert_eq!(text.0.len(), 7, "{text}");
    for line in ["!include key", "!include_try key*"] {
        dir.write("main.conf", line);
        shows_nothing(&dir.load(&[]).unwrap_err());
    }
    dir.write("main.conf", "service stats {\n!include key\n}\n");
    shows_nothing(&dir.load(&[]).unwrap_err());
}

#[test]
fn nothing_that_is_not_a_file_is_opened() {
    let dir = TempDir::new();
    let fifo = dir.0.join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    std::os::unix::fs::symlink("/dev/zero", dir.0.join("device")).unwrap();
    for name in ["fifo", "device"] {
        let refused = format!("\"{name}\" cannot be read: neither a file nor a link to one");
        for (line, expected) in [
            (
                format!("!include {name}"),
                format!("main.conf:1: {refused}"),
            ),
            (
                format!("!include {name}*"),
                format!("main.conf:1: {refused}"),
            ),
            (
                format!("stats_carbon_name = <{name}"),
                format!("main.conf:1: stats_carbon_name: {refused}"),
            ),
        ] {
            dir.write("main.conf", &line);
            assert_eq!(dir.load(&[]).unwrap_err(), expected, "{line}");
        }
        for source in [
            Source::Again(dir.0.join(name)),
            Source::Default(dir.0.join(name)),
        ] {
            let text = load(&source, &[], &defaults()).unwrap_err().to_string();
            assert!(text.ends_with("neither a file nor a link to one"), "{text}");
        }
    }
}

#[test]
fn patterns_end() {
    let endless = "/*".repeat(200);
    assert_eq!(
        wrong(format!("!include_try {endless}")),
        format!(
            "main.conf:1: {:?}... is not searched any further: the patterns of one \
             configuration may look at 10000 names",
            &endless[..60]
        )
    );
    let around = "/*/..".repeat(200);
    assert!(read(format!("!include_try {around}")).is_err());
}
