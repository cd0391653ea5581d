//! Whether stats_memory_limit fits what the system lets the process have.
//!
//! Beside its statistics the daemon needs memory for its clients
//! ([`most_client_bytes`]) and for everything else ([`BESIDE_BYTES`], carbon's paths).
//! Where a resource limit or a control group leaves less than all of that together,
//! stats_memory_limit is lowered, so that the statistics give way to new ones and
//! nothing else runs out of memory.

use crate::config::{show_size, LogPath, Settings, MEMORY_LIMIT_MIN_BYTES};
use crate::daemon::log::{size, Log};
use crate::daemon::serve::clients::most_client_bytes;
use crate::store::Level;
use crate::sys::mem::limits::{cgroup_limit, in_use, machine_bytes, ResourceLimit};

/// What the daemon may need beside its statistics and its clients, in bytes.
const BESIDE_BYTES: u64 = 4 << 20;

/// What a report to carbon may need for an entry, in bytes: its path, which is
/// remembered so that no two are the same.
const CARBON_ENTRY_BYTES: u64 = 256;

/// A limit of the system.
#[derive(Debug)]
struct Ceiling {
    name: String,
    /// Its size in bytes.
    bytes: u64,
    /// The part of it that the process uses already.
    used_bytes: u64,
}

/// The limits that the process has; the first two are vsz_limit of a service of Dovecot.
fn ceilings(is_dovecots: bool) -> Vec<Ceiling> {
    let used = in_use();
    let resource = |name: &str, limit: ResourceLimit, used_bytes| {
        let bytes = limit.bytes().ok()??;
        let name = if is_dovecots {
            ["vsz_limit (", name, ")"].concat()
        } else {
            name.to_owned()
        };
        Some(Ceiling {
            name,
            bytes,
            used_bytes,
        })
    };
    let group = cgroup_limit().map(|(bytes, file)| Ceiling {
        name: file.display().to_string(),
        bytes,
        used_bytes: used.resident,
    });
    [
        resource("RLIMIT_AS", ResourceLimit::AddressSpace, used.address_space),
        resource("RLIMIT_DATA", ResourceLimit::Data, used.data),
        group,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Memory needed beside the statistics and the clients.
fn beside_bytes(settings: &Settings) -> u64 {
    let levels = settings.carbon_levels.iter();
    let ranked = levels.filter(|&&level| level != Level::Global).count() as u64;
    BESIDE_BYTES + ranked * u64::from(settings.carbon_limit) * CARBON_ENTRY_BYTES
}

/// Memory needed in all with this memory limit.
fn needed_bytes(limit_bytes: u64, beside_bytes: u64) -> u64 {
    let limit = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
    limit_bytes.saturating_add(most_client_bytes(limit) as u64 + beside_bytes)
}

/// The largest memory limit, in whole steps of the smallest one, with which all that
/// is needed fits `room_bytes`. Never less than the smallest one.
fn fitting_limit(room_bytes: u64, beside_bytes: u64) -> u64 {
    const STEP_BYTES: u64 = MEMORY_LIMIT_MIN_BYTES;
    let (mut fits, mut too_large) = (1, room_bytes / STEP_BYTES + 1);
    while fits + 1 < too_large {
        let middle = fits + (too_large - fits) / 2;
        match needed_bytes(middle * STEP_BYTES, beside_bytes) <= room_bytes {
            true => fits = middle,
            false => too_large = middle,
        }
    }
    fits * STEP_BYTES
}

/// The memory limit that is kept to, and what is logged about it.
fn judge(
    limit_bytes: u64,
    beside_bytes: u64,
    ceilings: &[Ceiling],
    machine_bytes: Option<u64>,
) -> (u64, Vec<String>) {
    let mut limit = limit_bytes;
    let mut warnings = Vec::new();
    for Ceiling {
        name,
        bytes,
        used_bytes,
    } in ceilings
    {
        let room_bytes = bytes.saturating_sub(*used_bytes);
        let needed_bytes = needed_bytes(limit, beside_bytes);
        if needed_bytes <= room_bytes {
            continue;
        }
        let lowered = fitting_limit(room_bytes, beside_bytes).min(limit);
        warnings.push(format!(
            "stats_memory_limit {} needs {} in all, but {name} {} leaves {}: lowered to {}; \
             raise {name} or lower stats_memory_limit",
            show_size(limit),
            size(needed_bytes),
            size(*bytes),
            size(room_bytes),
            show_size(lowered),
        ));
        limit = lowered;
    }
    if let Some(machine) = machine_bytes.filter(|&machine| limit > machine) {
        warnings.push(format!(
            "stats_memory_limit {} is more than the {} of this machine; lower it",
            show_size(limit),
            size(machine),
        ));
    }
    (limit, warnings)
}

/// The memory limit in bytes to keep to: that of the settings, or a smaller one that
/// fits what the system allows. Logs why.
pub(crate) fn fit_memory_limit(settings: &Settings, log: &mut Log) -> usize {
    let limit = settings.stats_memory_limit_bytes;
    let is_dovecots = settings.log_path == LogPath::Dovecot;
    let beside = beside_bytes(settings);
    let (limit, warnings) = judge(limit, beside, &ceilings(is_dovecots), machine_bytes());
    for warning in warnings {
        log.warning(&warning);
    }
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceiling(bytes: u64) -> Ceiling {
        Ceiling {
            name: "RLIMIT_AS".to_owned(),
            bytes: bytes + (3 << 20),
            used_bytes: 3 << 20,
        }
    }

    #[test]
    fn a_limit_that_fits_stays() {
        for limit in [256 << 10, 1 << 20, 16 << 20, 200 << 20] {
            let needed = needed_bytes(limit, BESIDE_BYTES);
            for (room, fits) in [(needed - 1, false), (needed, true), (needed + 1, true)] {
                let (kept, warnings) = judge(limit, BESIDE_BYTES, &[ceiling(room)], None);
                assert_eq!(warnings.is_empty(), fits, "{limit} in {room}");
                assert!(kept == limit || !fits && kept < limit, "{kept} of {limit}");
            }
        }
    }

    #[test]
    fn a_limit_that_does_not_fit_is_lowered_to_the_largest_that_does() {
        for room in [9 << 20, 10 << 20, 25 << 20, 1 << 32] {
            let limit = fitting_limit(room, BESIDE_BYTES);
            let next = limit + MEMORY_LIMIT_MIN_BYTES;
            assert!(needed_bytes(limit, BESIDE_BYTES) <= room, "{limit}");
            assert!(needed_bytes(next, BESIDE_BYTES) > room, "{limit}");
        }
        for room in [0, 1, 1 << 20, 8 << 20] {
            assert_eq!(fitting_limit(room, BESIDE_BYTES), MEMORY_LIMIT_MIN_BYTES);
        }
    }

    #[test]
    fn the_smallest_ceiling_holds_and_each_is_named() {
        let ceilings = [ceiling(40 << 20), ceiling(20 << 20), ceiling(30 << 20)];
        let (kept, warnings) = judge(200 << 20, 0, &ceilings, None);
        assert_eq!(kept, 16 << 20);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert_eq!(
            warnings[0],
            "stats_memory_limit 200 M needs 250 M in all, but RLIMIT_AS 43 M leaves 40 M: \
             lowered to 32 M; raise RLIMIT_AS or lower stats_memory_limit"
        );
    }

    #[test]
    fn a_limit_beyond_the_machine_is_warned_of_and_stays() {
        let (kept, warnings) = judge(40 << 30, 0, &[], Some((16 << 30) - 5));
        assert_eq!(kept, 40 << 30);
        let expected = "stats_memory_limit 40 G is more than the 15 G of this machine; lower it";
        assert_eq!(warnings, [expected]);
        assert_eq!(judge(16 << 30, 0, &[], Some(16 << 30)).1.len(), 0);
    }
}
