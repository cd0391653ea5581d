//! Filters as people write them, checked before a server sees them.
//!
//! A server closes the connection on a wrong value without a word, and ignores
//! a filter that it does not know: both are found here, and named. `since=`
//! takes what people write for times; a server gets seconds since 1970.

use super::raw;
use crate::cli::server::is_ours;
use crate::store::{Level, Pattern};
use crate::sys::local_time::LocalTime;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What asks for our further columns, which stands among the filters.
pub(crate) const MORE: &str = "more";

/// What asks for how many commands took how long, likewise.
pub(crate) const HISTOGRAM: &str = "histogram";

/// What requests may be filtered by, and what asks for columns; the last three have no
/// value.
pub(crate) const FILTERS: [&str; 10] = [
    "user=",
    "domain=",
    "ip=",
    "session=",
    "service=",
    "cmd=",
    "since=",
    "connected",
    MORE,
    HISTOGRAM,
];

/// Units of times; a prefix, with or without an `s` at its end, will do.
const UNITS: [(&str, u64); 5] = [
    ("seconds", 1),
    ("minutes", 60),
    ("hours", 3600),
    ("days", 86_400),
    ("weeks", 604_800),
];

/// A filter as a server takes it.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn judge(word: &str, now: SystemTime) -> Result<Vec<u8>, String> {
    let text = match word.split_once('=') {
        Some(("ip", value)) => {
            judge_network(value).map_err(|why| format!("ip={value}: {why}"))?;
            word.to_owned()
        }
        Some(("since", value)) => match since(value, now) {
            Some(secs) => format!("since={secs}"),
            None => {
                return Err(format!(
                    "since={value}: not a time, as 5m, \"2 hours\" (before now), today, \
                     yesterday, 2026-11-27, 2026-11-27T14:30 or seconds since 1970"
                ))
            }
        },
        Some((name, _)) if FILTERS.iter().any(|known| *known == format!("{name}=")) => {
            word.to_owned()
        }
        None if is_word(word) => word.to_owned(),
        _ => {
            let all = FILTERS.join(" ");
            return Err(format!("unknown filter {word:?}; there are: {all}"));
        }
    };
    Ok(raw::bytes(&text))
}

/// Whether a word is one of those without a value.
pub(crate) fn is_word(word: &str) -> bool {
    matches!(word, "connected" | MORE | HISTOGRAM)
}

/// The value of a filter, `name` with its `=`: of several, the last one holds.
fn value<'a>(filters: &'a [Vec<u8>], name: &str) -> Option<&'a [u8]> {
    let mut found = filters.iter().rev();
    found.find_map(|filter| filter.strip_prefix(name.as_bytes()))
}

/// Whether a server must know `service=`: rows of these levels have no column for it
/// that we could filter by.
pub(crate) fn must_know_service(level: Level, filters: &[Vec<u8>]) -> bool {
    let has_column = matches!(level, Level::Session | Level::Global) || is_ours(level);
    !has_column && value(filters, "service=").is_some()
}

/// A term that rows are judged by here as well, as Dovecot's own server ignores it: the
/// column, and what its fields must fit. Only these levels have the column there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnTerm {
    pub column: &'static str,
    pattern: Pattern,
}

impl OwnTerm {
    pub(crate) fn of(level: Level, filters: &[Vec<u8>]) -> Option<OwnTerm> {
        let (column, name) = match level {
            Level::Session => ("service", "service="),
            Level::Command => ("cmd", "cmd="),
            _ => return None,
        };
        let pattern = value(filters, name)?;
        let pattern = match level {
            Level::Command => Pattern::new(&pattern.to_ascii_uppercase()),
            _ => Pattern::new(pattern),
        };
        Some(OwnTerm { column, pattern })
    }

    /// Whether a field fits; names of commands do in any case.
    pub(crate) fn fits(&self, field: &[u8]) -> bool {
        match self.column {
            "cmd" => self.pattern.matches(&field.to_ascii_uppercase(), &mut 0),
            _ => self.pattern.matches(field, &mut 0),
        }
    }
}

/// What to say of filters that change nothing at a level, though they were given.
pub(crate) fn warning(level: Level, filters: &[Vec<u8>]) -> Option<String> {
    let ignored = ignored(level, filters).join(" ");
    let name = level.name();
    match level {
        _ if ignored.is_empty() => None,
        Level::Global => {
            Some("the global totals are of everything: no filter changes them".to_owned())
        }
        Level::Service | Level::Cmd => Some(format!(
            "the totals of {name}s are of everybody: {ignored} changes nothing there"
        )),
        _ => Some(format!("{ignored} changes nothing at the level {name}")),
    }
}

/// What of a request changes nothing at a level.
fn ignored(level: Level, filters: &[Vec<u8>]) -> Vec<&'static str> {
    let is_ignored = |name: &str| match (level, name) {
        (_, MORE) => false,
        (Level::Global | Level::Service | Level::Cmd, HISTOGRAM) => false,
        (_, HISTOGRAM) | (Level::Global, _) => true,
        (Level::Service, name) => !matches!(name, "service=" | "since=" | "connected"),
        (Level::Cmd, name) => !matches!(name, "service=" | "cmd=" | "since="),
        (level, name) => name == "cmd=" && level != Level::Command,
    };
    let is_there = |name: &&str| {
        let same = |filter: &Vec<u8>| match name.ends_with('=') {
            true => filter.starts_with(name.as_bytes()),
            false => filter == name.as_bytes(),
        };
        filters.iter().any(same)
    };
    let found = FILTERS.into_iter().filter(is_there);
    found.filter(|name| is_ignored(name)).collect()
}

/// Refuses what is not `ADDR` or `ADDR/BITS`, with the reason.
fn judge_network(text: &str) -> Result<(), String> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| {
        "not an address or network, as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32".to_owned()
    })?;
    let (family, most) = match address {
        IpAddr::V4(_) => ("IPv4", 32),
        IpAddr::V6(_) => ("IPv6", 128),
    };
    let fits = |bits: &str| {
        let is_number = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
        is_number && bits.parse().is_ok_and(|bits: u32| bits <= most)
    };
    match bits.is_none_or(fits) {
        true => Ok(()),
        false => Err(format!("an {family} network has 0 to {most} bits")),
    }
}

/// A time in seconds since 1970.
fn since(text: &str, now: SystemTime) -> Option<u64> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number(text) {
        return text.parse().ok();
    }
    let days_ago = match text {
        "today" => Some(0),
        "yesterday" => Some(1),
        _ => None,
    };
    if let Some(days) = days_ago {
        let LocalTime {
            year, month, day, ..
        } = LocalTime::at(now);
        return LocalTime::midnight(year, month, day, days)?.to_secs();
    }
    match text.find(|c: char| !c.is_ascii_digit()) {
        Some(end @ 1..) if !text.contains('-') => {
            let (count, unit) = (text[..end].parse::<u64>().ok()?, text[end..].trim());
            let stem = unit.strip_suffix('s').filter(|stem| !stem.is_empty());
            let stem = stem.unwrap_or(unit);
            let fits = |(name, _): &&(&str, u64)| !stem.is_empty() && name.starts_with(stem);
            let (_, secs) = UNITS.iter().find(fits)?;
            let ago = Duration::from_secs(count.checked_mul(*secs)?);
            let then = now.checked_sub(ago).unwrap_or(UNIX_EPOCH);
            Some(then.duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs()))
        }
        _ => date(text)?.to_secs(),
    }
}

/// `2026-11-27`, with `T14:30` or ` 14:30:05` behind it or not.
fn date(text: &str) -> Option<LocalTime> {
    let (day, time) = match text.split_once(['T', ' ']) {
        Some((day, time)) => (day, time),
        None => (text, "00:00"),
    };
    let numbers = |text: &str, separator: char, widths: &[usize]| {
        let parts: Vec<&str> = text.split(separator).collect();
        let fits = |(part, width): (&&str, &usize)| {
            part.len() == *width && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        let all_fit = parts.len() <= widths.len() && parts.iter().zip(widths).all(fits);
        all_fit
            .then(|| parts.iter().filter_map(|part| part.parse::<u16>().ok()))
            .map(Iterator::collect::<Vec<u16>>)
    };
    let [year, month, day] = numbers(day, '-', &[4, 2, 2])?.try_into().ok()?;
    let mut time = numbers(time, ':', &[2, 2, 2])?;
    time.resize(3.max(time.len()), 0);
    let [hour, minute, second] = time.try_into().ok()?;
    let in_range = (1970..).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    in_range.then_some(LocalTime {
        year: year.into(),
        month: month as u8,
        day: day as u8,
        hour: hour as u8,
        minute: minute as u8,
        second: second as u8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-27 00:00 where we are, and 13 h 5 min later.
    fn day_and_now() -> (u64, SystemTime) {
        let midnight = LocalTime::midnight(2026, 11, 27, 0).unwrap();
        let secs = midnight.to_secs().unwrap();
        (secs, UNIX_EPOCH + Duration::from_secs(secs + 47_100))
    }

    #[test]
    fn times_are_what_people_write() {
        let (day, now) = day_and_now();
        for (text, secs) in [
            ("0", Some(0)),
            ("1795737600", Some(1_795_737_600)),
            ("5m", Some(day + 46_800)),
            ("5min", Some(day + 46_800)),
            ("5 mins", Some(day + 46_800)),
            ("2hours", Some(day + 39_900)),
            ("13h", Some(day + 300)),
            ("90s", Some(day + 47_010)),
            ("1d", Some(day + 47_100 - 86_400)),
            ("1w", Some(day + 47_100 - 604_800)),
            ("9999999w", Some(0)),
            ("today", Some(day)),
            ("2026-11-27", Some(day)),
            ("2026-11-27T01:00", Some(day + 3600)),
            ("2026-11-27 01:00:07", Some(day + 3607)),
            ("", None),
            ("-1", None),
            ("m", None),
            ("5x", None),
            ("5 ", None),
            ("1.5h", None),
            ("tomorrow", None),
            ("2026-11", None),
            ("2026-13-01", None),
            ("2026-1-1", None),
            ("2026-02-31", None),
            ("2026-11-27T25:00", None),
            ("2026-11-27T01", Some(day + 3600)),
            ("2026-11-27T01:00:00:00", None),
            ("99999999999999999999", None),
            ("99999999999999999999w", None),
        ] {
            assert_eq!(since(text, now), secs, "{text:?}");
        }
        let yesterday = since("yesterday", now).unwrap();
        assert!((day - 25 * 3600..day - 22 * 3600).contains(&yesterday));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (_, now) = day_and_now();
        for (word, expected) in [
            ("ip=10.0.0.0/33", "an IPv4 network has 0 to 32 bits"),
            ("ip=2001:db8::/129", "an IPv6 network has 0 to 128 bits"),
            ("ip=10.0.0.0/", "0 to 32 bits"),
            ("ip=10.0.0.0/+8", "0 to 32 bits"),
            ("ip=", "not an address or network"),
            ("ip=10.0.0", "not an address or network"),
            ("since=", "not a time"),
            (
                "servic=pop3",
                "user= domain= ip= session= service= cmd= since= connected more histogram",
            ),
            ("connected=1", "unknown filter"),
            ("conected", "unknown filter"),
            ("more=1", "unknown filter"),
        ] {
            let error = judge(word, now).unwrap_err();
            assert!(error.contains(expected), "{word}: {error}");
            assert!(error.contains(word.split('=').next().unwrap()), "{error}");
        }
        for word in [
            "user=",
            "user=*@x",
            "ip=::1",
            "ip=10.0.0.0/0",
            "connected",
            "more",
        ] {
            assert_eq!(judge(word, now).unwrap(), word.as_bytes());
        }
    }

    fn filters(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn what_servers_may_ignore_is_judged_here_and_the_last_holds() {
        let words = filters(&["service=a", "connected", "service=b*", "cmd=uid*"]);
        let term = OwnTerm::of(Level::Session, &words).unwrap();
        assert!(term.column == "service" && term.fits(b"bc") && !term.fits(b"Bc"));
        let term = OwnTerm::of(Level::Command, &words).unwrap();
        assert!(term.column == "cmd" && term.fits(b"uid fetch") && !term.fits(b"FETCH"));
        assert_eq!(OwnTerm::of(Level::User, &words), None);
        assert_eq!(OwnTerm::of(Level::Session, &words[1..2]), None);
        for (level, must) in [(Level::User, true), (Level::Session, false)] {
            assert_eq!(must_know_service(level, &words), must);
            assert!(!must_know_service(level, &words[1..2]));
        }
    }

    #[test]
    fn what_changes_nothing_is_known() {
        let all = filters(&FILTERS);
        for (level, expected) in [
            (Level::Command, "histogram"),
            (Level::User, "cmd= histogram"),
            (
                Level::Global,
                "user= domain= ip= session= service= cmd= since= connected",
            ),
            (Level::Service, "user= domain= ip= session= cmd="),
            (Level::Cmd, "user= domain= ip= session= connected"),
        ] {
            assert_eq!(ignored(level, &all).join(" "), expected, "{level:?}");
            assert_eq!(ignored(level, &filters(&["more"])), [""; 0]);
        }
    }
}
