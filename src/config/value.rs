//! The kinds of values: text to value and exactly back.
//!
//! For each kind there is a function that reads it, failing with what would be
//! right, and one whose text the first reads back to the same value. Dovecot's
//! own spellings are accepted (seen with Dovecot 2.3's doveconf): units of sizes
//! and times in any case, with or without a blank, those of times by prefix. A
//! mode without its leading zero is read as octal all the same.
//!
//! Nothing here knows which setting a value belongs to or resolves a host name.

use super::mistake::quoted;
use super::settings::{Address, ColumnOrder, HostPort, LogPath, Protocol, StateDir};
use crate::store::{Level, Network};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// Units of sizes, smallest first.
const SIZE_UNITS: [(&str, u64); 5] = [
    ("B", 1),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("T", 1 << 40),
];

/// Units of times in seconds, smallest first, as they are printed.
const TIME_UNITS: [(&str, u64); 5] = [
    ("secs", 1),
    ("mins", 60),
    ("hours", 3600),
    ("days", 86_400),
    ("weeks", 604_800),
];

/// Longer names of the units of times, of which any prefix is accepted as well.
const TIME_UNITS_LONG: [&str; 5] = ["seconds", "minutes", "hours", "days", "weeks"];

/// What is wrong with `text`.
#[cold]
fn wrong(text: &str, what: &str) -> String {
    format!("{} {what}", quoted(text))
}

/// Splits `text` into its leading number and the unit after it.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.is_empty() {
        return None;
    }
    // A number that does not fit is larger than every limit there is.
    Some((digits.parse().unwrap_or(u64::MAX), unit.trim()))
}

/// The largest unit that divides `count`, and how many of it there are.
fn in_units(count: u64, units: &[(&'static str, u64)]) -> (u64, &'static str) {
    let (unit, size) = units
        .iter()
        .rev()
        .find(|(_, size)| count > 0 && count % size == 0)
        .unwrap_or(&units[0]);
    (count / size, unit)
}

/// A size in bytes, at least `min_bytes`: `16 M`, `300k`, `262144`.
pub(super) fn size(text: &str, min_bytes: u64) -> Result<u64, String> {
    let parsed = number_and_unit(text).and_then(|(count, unit)| {
        let unit = unit.to_ascii_uppercase();
        // Dovecot 2.3: KB and KiB are K.
        let is_unit = |name: &str| match unit.strip_prefix(name) {
            Some("") => true,
            Some("B" | "IB") => name != "B",
            _ => unit.is_empty() && name == "B",
        };
        let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| is_unit(name))?;
        Some((count, *bytes))
    });
    let Some((count, unit_bytes)) = parsed else {
        return Err(wrong(text, "is not a size: a number with B, K, M, G or T"));
    };
    match count
        .checked_mul(unit_bytes)
        .filter(|&size| size < u64::MAX)
    {
        Some(size) if size >= min_bytes => Ok(size),
        Some(_) => Err(format!(
            "{} is too small: at least {}",
            quoted(text),
            show_size(min_bytes)
        )),
        None => Err(wrong(text, "is too large: below 16777216 T")),
    }
}

/// The text of a size.
pub(crate) fn show_size(bytes: u64) -> String {
    let (count, unit) = in_units(bytes, &SIZE_UNITS);
    format!("{count} {unit}")
}

/// A time in whole seconds, at least `min_secs`: `30s`, `1 mins`, `12 hours`, `0`.
pub(super) fn time(text: &str, min_secs: u32) -> Result<u32, String> {
    let wanted = || {
        wrong(
            text,
            "is not a time: a number with secs, mins, hours, days or weeks",
        )
    };
    let (count, unit) = number_and_unit(text).ok_or_else(wanted)?;
    let unit = unit.to_ascii_lowercase();
    let unit_secs = if unit.is_empty() {
        // Dovecot 2.3: only 0 may do without a unit.
        (count == 0).then_some(1)
    } else if is_msecs(&unit) {
        return Err(wrong(text, "is too fine: whole seconds only"));
    } else {
        TIME_UNITS
            .iter()
            .zip(TIME_UNITS_LONG)
            .find(|((short, _), long)| short.starts_with(&unit) || long.starts_with(&unit))
            .map(|((_, secs), _)| *secs)
    }
    .ok_or_else(wanted)?;
    match u32::try_from(count.saturating_mul(unit_secs)) {
        Ok(secs) if secs >= min_secs => Ok(secs),
        Ok(_) => Err(format!(
            "{} is too short: at least {}",
            quoted(text),
            show_time(min_secs)
        )),
        Err(_) => Err(format!(
            "{} is too long: at most {} secs",
            quoted(text),
            u32::MAX
        )),
    }
}

/// The text of a time.
pub(super) fn show_time(secs: u32) -> String {
    let (count, unit) = in_units(secs.into(), &TIME_UNITS);
    format!("{count} {unit}")
}

/// A time in milliseconds: `500 msecs`, or a [`time`].
pub(super) fn time_msecs(text: &str) -> Result<u64, String> {
    match number_and_unit(text) {
        Some((count, unit)) if is_msecs(unit) => match count <= u64::from(u32::MAX) {
            true => Ok(count),
            false => Err(format!(
                "{} is too long: at most {} msecs",
                quoted(text),
                u32::MAX
            )),
        },
        _ => time(text, 0).map(|secs| u64::from(secs) * 1000),
    }
}

/// The text of a time in milliseconds.
pub(super) fn show_time_msecs(msecs: u64) -> String {
    match msecs % 1000 {
        0 => show_time((msecs / 1000) as u32),
        _ => format!("{msecs} msecs"),
    }
}

/// Whether a unit is that of milliseconds: `m` and `mi` are minutes.
fn is_msecs(unit: &str) -> bool {
    let unit = unit.to_ascii_lowercase();
    let is_of = |name: &&str| name.starts_with(&unit);
    !"mins".starts_with(&unit) && ["msecs", "milliseconds"].iter().any(is_of)
}

/// A number from 0 to `max`.
pub(super) fn number(text: &str, max: u32) -> Result<u32, String> {
    match number_and_unit(text) {
        Some((number, "")) if number <= u64::from(max) => Ok(number as u32),
        _ => Err(format!("{} is not a number from 0 to {max}", quoted(text))),
    }
}

/// A TCP port; 0 where it means "off".
pub(super) fn port(text: &str) -> Result<u16, String> {
    match number(text, u16::MAX.into()) {
        Ok(port) => Ok(port as u16),
        Err(_) => Err(wrong(text, "is not a port from 0 to 65535")),
    }
}

/// File permissions in octal.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if digits && mode <= 0o7777 => Ok(mode),
        _ => Err(wrong(text, "is not an octal mode from 0 to 07777")),
    }
}

/// The text of a mode.
pub(super) fn show_mode(mode: u32) -> String {
    format!("0{mode:o}")
}

/// `yes` or `no`; Dovecot 2.3 takes `y` and `1` for yes as well.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "y" | "1" => Ok(true),
        "no" => Ok(false),
        _ => Err(wrong(text, "is neither yes nor no")),
    }
}

/// The text of a boolean.
pub(super) fn show_boolean(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// Text that may be empty, which is none.
pub(super) fn optional(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A path from the root.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, String> {
    if Path::new(text).is_absolute() {
        Ok(PathBuf::from(text))
    } else {
        Err(wrong(text, "is not an absolute path"))
    }
}

/// A file that need not be: an absolute path or nothing.
pub(super) fn optional_path(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "" => Ok(None),
        path => absolute_path(path).map(Some),
    }
}

/// The text of a file that need not be.
pub(super) fn show_optional_path(path: &Option<PathBuf>) -> String {
    let path = path.as_ref();
    path.map_or(String::new(), |path| path.to_string_lossy().into_owned())
}

/// Where statistics outlive a restart: `auto`, an absolute path or nothing.
pub(super) fn state_dir(text: &str) -> Result<StateDir, String> {
    match text {
        "auto" => Ok(StateDir::Auto),
        "" => Ok(StateDir::Off),
        path => absolute_path(path).map(StateDir::Named),
    }
}

pub(super) fn show_state_dir(dir: &StateDir) -> String {
    match dir {
        StateDir::Auto => "auto".to_owned(),
        StateDir::Off => String::new(),
        StateDir::Named(path) => path.to_string_lossy().into_owned(),
    }
}

pub(super) fn log_path(text: &str) -> Result<LogPath, String> {
    match text {
        "syslog" => Ok(LogPath::Syslog),
        "stderr" | "/dev/stderr" => Ok(LogPath::Stderr),
        path => match absolute_path(path) {
            Ok(path) => Ok(LogPath::File(path)),
            Err(_) => Err(wrong(
                path,
                "is neither syslog nor stderr nor an absolute path",
            )),
        },
    }
}

/// The text of a log's place.
pub(super) fn show_log_path(log_path: &LogPath) -> String {
    match log_path {
        LogPath::Syslog => "syslog".to_owned(),
        LogPath::Stderr | LogPath::Dovecot => "stderr".to_owned(),
        LogPath::File(path) => path.to_string_lossy().into_owned(),
    }
}

/// The values that are words.
const PROTOCOLS: [(&str, Protocol); 2] = [("stats", Protocol::Stats), ("http", Protocol::Http)];
const COLUMN_ORDERS: [(&str, ColumnOrder); 2] =
    [("2.2", ColumnOrder::V2_2), ("2.3", ColumnOrder::V2_3)];

/// The value of a word.
fn of_word<T: Copy>(words: &[(&str, T)], text: &str) -> Option<T> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value)
}

/// The word of a value.
fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    let found = words.iter().find(|(_, known)| known == value);
    found.map_or("", |(word, _)| word)
}

pub(crate) fn protocol(text: &str) -> Result<Protocol, String> {
    of_word(&PROTOCOLS, text).ok_or_else(|| wrong(text, "is neither stats nor http"))
}

pub(crate) fn show_protocol(protocol: Protocol) -> String {
    word_of(&PROTOCOLS, &protocol).to_owned()
}

pub(crate) fn column_order(text: &str) -> Result<ColumnOrder, String> {
    of_word(&COLUMN_ORDERS, text).ok_or_else(|| wrong(text, "is neither 2.2 nor 2.3"))
}

pub(crate) fn show_column_order(order: ColumnOrder) -> String {
    word_of(&COLUMN_ORDERS, &order).to_owned()
}

/// Levels, divided by blanks or commas; each is kept once.
pub(super) fn levels(text: &str) -> Result<Vec<Level>, String> {
    let mut found = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || c == ',') {
        let named = Level::named(word.as_bytes());
        match named.filter(|level| Level::WITH_TOTALS.contains(level)) {
            Some(level) if !found.contains(&level) => found.push(level),
            None if !word.is_empty() => {
                let [others @ .., last] = Level::WITH_TOTALS.map(Level::name);
                let others = others.join(", ");
                return Err(wrong(word, &format!("is not one of {others} and {last}")));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The text of a list of levels.
pub(super) fn show_levels(levels: &[Level]) -> String {
    let names: Vec<&str> = levels.iter().map(|level| level.name()).collect();
    names.join(" ")
}

/// How many entries of a level are shown.
pub(super) fn entry_limit(text: &str) -> Result<u32, String> {
    match number(text, 10_000) {
        Ok(limit) if limit > 0 => Ok(limit),
        _ => Err(wrong(text, "is not a number from 1 to 10000")),
    }
}

/// Addresses to listen on, divided by blanks or commas.
pub(super) fn addresses(text: &str) -> Result<Vec<Address>, String> {
    let mut found = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || c == ',') {
        found.push(match word {
            "" => continue,
            "*" => Address::Ip(Ipv4Addr::UNSPECIFIED.into()),
            word => {
                let bare = word.strip_prefix('[').and_then(|w| w.strip_suffix(']'));
                let host = host(bare.unwrap_or(word))?;
                match host.parse::<IpAddr>() {
                    Ok(ip) => Address::Ip(ip),
                    Err(_) => Address::Host(host),
                }
            }
        });
    }
    Ok(found)
}

/// Networks, divided by blanks or commas: `192.0.2.0/24`, `2001:db8::/32`, `::1`.
pub(super) fn networks(text: &str) -> Result<Vec<Network>, String> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',');
    let network = |word: &str| {
        let (address, bits) = match word.split_once('/') {
            Some((address, bits)) => (address, Some(number(bits, 128).ok()? as u8)),
            None => (word, None),
        };
        let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
        Network::new(bare.unwrap_or(address).parse().ok()?, bits)
    };
    words
        .filter(|word| !word.is_empty())
        .map(|word| network(word).ok_or_else(|| wrong(word, "is not a network: ADDRESS/BITS")))
        .collect()
}

/// The text of a list of addresses or networks.
pub(super) fn show_list(list: &[impl ToString]) -> String {
    let texts: Vec<String> = list.iter().map(ToString::to_string).collect();
    texts.join(" ")
}

/// A host or `[ipv6]`, perhaps with `:port`; nothing is none.
pub(super) fn host_port(text: &str, default_port: u16) -> Result<Option<HostPort>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let (name, after) = if let Some(rest) = text.strip_prefix('[') {
        match rest.split_once(']') {
            Some((name, after)) if is_ipv6(name) => (name, after),
            _ => return Err(wrong(text, "is not an IPv6 address in []")),
        }
    } else if is_ipv6(text) {
        (text, "")
    } else {
        text.split_at(text.find(':').unwrap_or(text.len()))
    };
    let port = match after.strip_prefix(':').map(port) {
        None if after.is_empty() => default_port,
        Some(Ok(port)) if port > 0 => port,
        _ => return Err(wrong(text, "does not end in a port from 1 to 65535")),
    };
    let host = host(name)?;
    Ok(Some(HostPort { host, port }))
}

/// Whether `text` is an IPv6 address, perhaps with a zone (`fe80::1%eth0`).
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    let zone_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && zone.chars().all(zone_char)
}

/// An address or a well-formed host name.
fn host(text: &str) -> Result<String, String> {
    let labels = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits is meant as an IPv4 address and must be one.
    let is_name = labels.len() <= 253
        && labels.split('.').all(is_label)
        && !labels
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if is_name || text.parse::<Ipv4Addr>().is_ok() || is_ipv6(text) {
        Ok(text.to_owned())
    } else {
        Err(wrong(text, "is neither an IP address nor a host name"))
    }
}
