//! Numbers as people read them: at most five characters where that can be, the
//! magnitude at a glance.
//!
//! Owns: how rates, totals and times are shortened. Must not: know columns.

use std::time::Duration;

/// What nothing looks like: it must not distract from something.
pub(crate) const NOTHING: &str = "-";

/// Steps of magnitude and the letters for them.
const LETTERS: [char; 6] = ['k', 'M', 'G', 'T', 'P', 'E'];

/// A number rounded to so many decimals; of more than all there are it is the most.
// Called from many places, none of which is in a hurry.
#[inline(never)]
pub(crate) fn decimal(value: f64, decimals: usize) -> String {
    let unit = 10_u64.pow(decimals as u32);
    let count = (value * unit as f64).round() as u64;
    match decimals {
        0 => count.to_string(),
        _ => format!("{}.{:0decimals$}", count / unit, count % unit),
    }
}

/// Seconds as they are typed: `2`, `0.5`.
pub(crate) fn secs(time: Duration) -> String {
    let text = format!("{}.{:09}", time.as_secs(), time.subsec_nanos());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number with a letter for its magnitude, `base` being 1000 or 1024.
fn scaled(value: f64, base: f64, smallest: usize) -> String {
    let mut value = value;
    let mut letter = None;
    for next in LETTERS {
        // What would be printed as four digits takes the next letter.
        if value < 999.5 {
            break;
        }
        value /= base;
        letter = Some(next);
    }
    let decimals = match letter {
        _ if value >= 99.95 => 0,
        None => smallest,
        Some(_) if value < 9.995 => 2,
        Some(_) => 1,
    };
    let letter = letter.map(String::from).unwrap_or_default();
    decimal(value, decimals) + &letter
}

/// Events, or events a second: `0.2`, `12.3`, `1.23k`.
pub(crate) fn count(value: f64) -> String {
    if value < 0.05 {
        return NOTHING.to_owned();
    }
    scaled(value, 1000.0, 1)
}

/// A whole number of things: `7`, `950`, `9,999`, `12.3k`.
pub(crate) fn whole(value: u64) -> String {
    match value {
        0 => NOTHING.to_owned(),
        1..=999 => value.to_string(),
        1000..=99_999 => format!("{},{:03}", value / 1000, value % 1000),
        _ => scaled(value as f64, 1000.0, 0),
    }
}

/// Bytes, or bytes a second: `512`, `1.50k`, `12.3M`; the letters are of 1024.
pub(crate) fn bytes(value: f64) -> String {
    if value < 0.5 {
        return NOTHING.to_owned();
    }
    scaled(value, 1024.0, 0)
}

/// A share of one processor, in percent.
pub(crate) fn percent(value: f64) -> String {
    match value {
        ..0.05 => NOTHING.to_owned(),
        ..99.95 => decimal(value, 1),
        _ => decimal(value, 0),
    }
}

/// A length of time: `41us`, `0.3ms`, `25ms`, `1.25s`, `12.3s`, `4m05`, `3h12`, `2d04`.
pub(crate) fn duration(micros: u64) -> String {
    let secs = micros / 1_000_000;
    match secs {
        _ if micros == 0 => NOTHING.to_owned(),
        _ if micros < 100 => format!("{micros}us"),
        _ if micros < 9_950 => decimal(micros as f64 / 1e3, 1) + "ms",
        _ if micros < 999_500 => decimal(micros as f64 / 1e3, 0) + "ms",
        0..=9 => decimal(micros as f64 / 1e6, 2) + "s",
        10..=59 => decimal(micros as f64 / 1e6, 1) + "s",
        60..=3599 => format!("{}m{:02}", secs / 60, secs % 60),
        3600..=86_399 => format!("{}h{:02}", secs / 3600, secs / 60 % 60),
        _ => format!("{}d{:02}", secs / 86_400, secs / 3600 % 24),
    }
}

/// How long ago something was: `0s`, `59s`, `4m`, `3h`, `12d`.
pub(crate) fn age(secs: u64) -> String {
    match secs {
        0..=59 => format!("{secs}s"),
        60..=3599 => format!("{}m", secs / 60),
        3600..=86_399 => format!("{}h", secs / 3600),
        _ => format!("{}d", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_rounded_and_seconds_are_not_padded() {
        for (value, decimals, expected) in [
            (0.0, 0, "0"),
            (0.49, 0, "0"),
            (2.0, 3, "2.000"),
            (0.0004, 3, "0.000"),
            (0.0996, 3, "0.100"),
            (1_795_469_316.128_718, 6, "1795469316.128718"),
            (1e30, 0, "18446744073709551615"),
        ] {
            assert_eq!(decimal(value, decimals), expected, "{value}");
        }
        for (millis, expected) in [(0, "0"), (10_000, "10"), (1500, "1.5"), (250, "0.25")] {
            assert_eq!(secs(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn numbers_stay_short_at_every_step() {
        for (value, expected) in [
            (0.0, "-"),
            (0.04, "-"),
            (0.06, "0.1"),
            (99.9, "99.9"),
            (99.96, "100"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (999_499.0, "999k"),
            (999_500.0, "1.00M"),
        ] {
            assert_eq!(count(value), expected, "{value}");
        }
        for (value, expected) in [
            (0.4, "-"),
            (512.0, "512"),
            (1024.0, "1.00k"),
            (1_048_576.0, "1.00M"),
            (u64::MAX as f64, "16.0E"),
        ] {
            assert_eq!(bytes(value), expected, "{value}");
        }
        let mut value = 0.5;
        while value < 1e19 {
            assert!(
                bytes(value).len() <= 5 && count(value).len() <= 5,
                "{value}"
            );
            value *= 1.01;
        }
    }

    #[test]
    fn times_ages_and_things() {
        for (micros, expected) in [
            (0, "-"),
            (1, "1us"),
            (99, "99us"),
            (100, "0.1ms"),
            (300, "0.3ms"),
            (250_000, "250ms"),
            (1_250_000, "1.25s"),
            (12_300_000, "12.3s"),
            (245_000_000, "4m05"),
            (11_520_000_000, "3h12"),
            (187_200_000_000, "2d04"),
        ] {
            assert_eq!(duration(micros), expected);
        }
        assert_eq!((age(59), age(60)), ("59s".to_owned(), "1m".to_owned()));
        assert_eq!(
            (age(7200), age(172_800)),
            ("2h".to_owned(), "2d".to_owned())
        );
        assert_eq!(whole(999), "999");
        assert_eq!(whole(10_000), "10,000");
        assert_eq!(whole(100_000), "100k");
        assert_eq!(
            (percent(0.01), percent(12.34), percent(250.4)),
            ("-".to_owned(), "12.3".to_owned(), "250".to_owned())
        );
    }
}
