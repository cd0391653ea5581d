//! Names of users and domains, one a line, on their way to carbon; and the answer of
//! the look-up of its host.

use dovestat::store::{Counters, Key, Latency, Level, Row, Totals, WallTime};
use dovestat::wire::{parse_addresses, safe_part, write_lines, CarbonPaths};
use std::collections::HashSet;
use std::net::IpAddr;

/// The longest name of a directory.
const MAX_NAME_BYTES: usize = 255;

/// Whether a receiver takes a path, whatever it does of its dots.
fn is_plain(path: &str) -> bool {
    path.split('.').all(|part| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        !part.is_empty() && part.len() <= MAX_NAME_BYTES && part.bytes().all(plain)
    })
}

/// A report about entries of those names.
pub fn run(bytes: &[u8]) {
    let addresses = parse_addresses(bytes);
    let unique: HashSet<IpAddr> = addresses.iter().copied().collect();
    assert_eq!(unique.len(), addresses.len());

    let mut counters = Counters {
        num_logins: bytes.len() as u64,
        ..Counters::default()
    };
    counters.stats.values = [u64::MAX; dovestat::stats::FIELD_COUNT];
    let totals = Totals {
        reset_secs: u32::MAX,
        last_update: WallTime::default(),
        counters,
        connected: u64::MAX,
    };
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let prefix = format!("dovecot.{}", safe_part(lines.next().unwrap_or_default()));
    let mut paths = CarbonPaths::new(&prefix);
    let mut used = HashSet::new();
    for (number, name) in lines.enumerate() {
        let row = match number % 5 {
            0 => Row::Parent(Level::Domain, Key::Name(name), &totals),
            1 => Row::Service(name, &totals, &Latency::NONE),
            2 => Row::Cmd {
                service: &name[..name.len() / 2],
                name,
                totals: &totals,
                latency: &Latency::NONE,
            },
            _ => Row::Parent(Level::User, Key::Name(name), &totals),
        };
        let Some(path) = paths.of(&row) else {
            continue;
        };
        assert!(path.starts_with(&prefix) && is_plain(&path), "{path}");
        assert!(used.insert(path.clone()), "a path came twice");
        // What follows is the same for all of them.
        if number > 4 {
            continue;
        }
        let mut out = Vec::new();
        write_lines(&mut out, &path, &row, u32::MAX);
        let text = String::from_utf8(out).expect("lines are ASCII");
        for line in text.split_terminator("\r\n") {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words.len(), 3, "{line}");
            assert!(words[0].starts_with(&path) && is_plain(words[0]), "{line}");
            assert!(words[1].parse::<f64>().is_ok(), "{line}");
        }
    }
}
