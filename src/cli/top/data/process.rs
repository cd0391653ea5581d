//! How long a process of this machine has been running.

use crate::sys::proc::process::ticks_per_sec;
use std::fs;

/// Seconds since its start; `None` without such a process or without /proc.
pub(crate) fn running_secs(pid: &[u8]) -> Option<u64> {
    let pid: u32 = std::str::from_utf8(pid).ok()?.parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    since(&stat, &uptime, ticks_per_sec())
}

/// From the texts of /proc/PID/stat and /proc/uptime, see proc(5).
fn since(stat: &str, uptime: &str, ticks_per_sec: u64) -> Option<u64> {
    // The name, in parentheses, may contain anything. Behind it: state, then numbers.
    let (_, rest) = stat.rsplit_once(')')?;
    let begun: u64 = rest.split_whitespace().nth(19)?.parse().ok()?;
    let (secs, _) = uptime.split_once('.')?;
    let now: u64 = secs.parse().ok()?;
    now.checked_sub(begun / ticks_per_sec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_since_its_start() {
        let zeros = "0 ".repeat(18);
        let stat = format!("7 (a) b) R {zeros}12345 0");
        assert_eq!(since(&stat, "200.50 1.00", 100), Some(77));
        assert_eq!(since(&stat, "20.50 1.00", 100), None, "another boot");
        assert_eq!(since("7 (a", "200.50", 100), None);
        let own = std::process::id().to_string();
        assert!(running_secs(own.as_bytes()).is_none_or(|secs| secs < 3600));
        assert_eq!(running_secs(b"x"), None);
    }
}
