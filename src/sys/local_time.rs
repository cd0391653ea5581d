//! A wall clock instant in local time.
//!
//! Owns: the conversion in both directions, and how log files show it.
//!
//! Invariants: [`LocalTime::at`] never fails; an instant before 1970 or past what the system
//! converts is shown as 1970 began. The C library reads the time zone once, so
//! [`crate::sys::proc::user::drop_privileges`] makes it do so in time.
//!
//! Must not: read the clock.

use std::fmt;
use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

/// Date and time of day where we are. Displayed `2026-01-02 03:04:05`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalTime {
    /// The year, as in 2026.
    pub year: i32,
    /// The month, 1 to 12.
    pub month: u8,
    /// The day of the month, 1 to 31.
    pub day: u8,
    /// The hour, 0 to 23.
    pub hour: u8,
    /// The minute, 0 to 59.
    pub minute: u8,
    /// The second, 0 to 60 for a leap second.
    pub second: u8,
}

impl LocalTime {
    /// The beginning of 1970, for what cannot be converted.
    const EPOCH: LocalTime = LocalTime {
        year: 1970,
        month: 1,
        day: 1,
        hour: 0,
        minute: 0,
        second: 0,
    };

    pub(crate) fn at(instant: SystemTime) -> LocalTime {
        let secs = instant
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        LocalTime::convert(secs).unwrap_or(LocalTime::EPOCH)
    }

    /// The beginning of a day, or of one so many days before it.
    pub(crate) fn midnight(year: i32, month: u8, day: u8, days_before: u32) -> Option<LocalTime> {
        // Noon is on the same day whatever the clocks are set by.
        let noon = LocalTime {
            year,
            month,
            day,
            hour: 12,
            minute: 0,
            second: 0,
        };
        let secs = noon
            .to_secs()?
            .checked_sub(u64::from(days_before) * 86_400)?;
        Some(LocalTime {
            hour: 0,
            minute: 0,
            second: 0,
            ..LocalTime::convert(secs)?
        })
    }

    /// mktime(3): seconds since 1970. `None` for a day that does not exist, and for
    /// one before 1970.
    pub(crate) fn to_secs(self) -> Option<u64> {
        // SAFETY: integers and, on some systems, a pointer that may be null; for
        // all of them zero is a value.
        let mut parts: libc::tm = unsafe { MaybeUninit::zeroed().assume_init() };
        parts.tm_year = self.year - 1900;
        parts.tm_mon = i32::from(self.month) - 1;
        parts.tm_mday = self.day.into();
        parts.tm_hour = self.hour.into();
        parts.tm_min = self.minute.into();
        parts.tm_sec = self.second.into();
        parts.tm_isdst = -1;
        // SAFETY: the pointer is to a tm of ours, borrowed for the call.
        let secs = unsafe { libc::mktime(&mut parts) };
        let same_day = parts.tm_mday == i32::from(self.day);
        u64::try_from(secs).ok().filter(|_| same_day)
    }

    /// localtime_r(3) of seconds since 1970.
    // libc marks time_t on musl, which is to become 64 bits wide on all
    // machines; as it is converted to with a check, either width will do.
    #[cfg_attr(target_env = "musl", allow(deprecated))]
    fn convert(secs: u64) -> Option<LocalTime> {
        let secs = libc::time_t::try_from(secs).ok()?;
        let mut parts = MaybeUninit::<libc::tm>::uninit();
        // SAFETY: the pointers are to `secs` and to memory for a tm, both
        // borrowed for the call.
        let result = unsafe { libc::localtime_r(&secs, parts.as_mut_ptr()) };
        if result.is_null() {
            return None;
        }
        // SAFETY: a result that is not null means that it was filled in.
        let parts = unsafe { parts.assume_init() };
        Some(LocalTime {
            year: parts.tm_year.checked_add(1900)?,
            month: u8::try_from(parts.tm_mon + 1).ok()?,
            day: u8::try_from(parts.tm_mday).ok()?,
            hour: u8::try_from(parts.tm_hour).ok()?,
            minute: u8::try_from(parts.tm_min).ok()?,
            second: u8::try_from(parts.tm_sec).ok()?,
        })
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LocalTime {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = self;
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::spawn;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    #[test]
    fn it_agrees_with_date() {
        for secs in [0, 951_782_400, 1_767_322_999, 2_147_483_647] {
            let child = spawn(
                Command::new("date")
                    .args(["-d", &format!("@{secs}"), "+%Y-%m-%d %H:%M:%S"])
                    .stdout(Stdio::piped()),
            );
            let output = child.wait_with_output().unwrap();
            if !output.status.success() {
                return println!("skipped: date(1) does not know -d");
            }
            let expected = String::from_utf8(output.stdout).unwrap();
            let instant = UNIX_EPOCH + Duration::from_secs(secs);
            assert_eq!(LocalTime::at(instant).to_string(), expected.trim_end());
        }
    }

    #[test]
    fn it_is_turned_back() {
        // The last is in the last whole day of a time_t of 32 bits.
        for secs in [86_400, 951_782_400, 1_767_322_999, 2_147_400_000] {
            let time = LocalTime::convert(secs).unwrap();
            assert_eq!(time.to_secs(), Some(secs), "{time}");
            let midnight = LocalTime::midnight(time.year, time.month, time.day, 0).unwrap();
            assert_eq!(midnight.to_string()[..10], time.to_string()[..10]);
            let before = LocalTime::midnight(time.year, time.month, time.day, 1).unwrap();
            assert!(before.to_secs() < midnight.to_secs());
        }
        let no_day = LocalTime {
            year: 2026,
            month: 2,
            day: 30,
            ..LocalTime::EPOCH
        };
        assert_eq!(no_day.to_secs(), None);
    }

    #[test]
    fn it_is_padded() {
        let time = LocalTime {
            year: 2026,
            month: 1,
            day: 2,
            hour: 3,
            minute: 4,
            second: 5,
        };
        assert_eq!(time.to_string(), "2026-01-02 03:04:05");
    }

    #[test]
    fn what_cannot_be_converted_is_1970() {
        assert_eq!(LocalTime::convert(u64::MAX), None);
        assert_eq!(LocalTime::convert(i64::MAX as u64), None);
        let _ = LocalTime::at(UNIX_EPOCH - Duration::from_secs(1));
    }
}
