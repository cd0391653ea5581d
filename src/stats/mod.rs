//! The statistics themselves: which fields there are, how mail processes put
//! them on the wire, and the arithmetic of totals.
//!
//! Owns [`FIELDS`], the one table that makes the decoder, the header lines of
//! replies and whatever else lists statistics by name. A [`Stats`] is one value
//! per field in the order of that table, which is the order of the columns.
//!
//! Invariants: every value is at most [`MAX_VALUE`] when it comes from a peer;
//! sums saturate, they never wrap; times are whole microseconds.
//!
//! Must not: know which process reported a value, or where it is stored.

#![forbid(unsafe_code)]

mod wire_struct;

use std::fmt;
use wire_struct::{Width, AUTH_BYTES, MAIL_BYTES, MAIL_BYTES_ELSEWHERE};

/// The unit of a field's value, which decides how it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds, printed as `seconds.microseconds` with six digits.
    Time,
    /// A number of events.
    Count,
    /// A number of bytes.
    Bytes,
}

/// The item of a stats field that carries a statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// `mail`: what a mail process used and did.
    Mail,
    /// `auth`: what the auth process counted.
    Auth,
}

/// One statistics field.
#[derive(Debug)]
pub struct Field {
    /// The column's name in replies.
    pub name: &'static str,
    /// The unit of the value.
    pub unit: Unit,
    /// The item that carries it.
    pub item: Item,
    /// A phrase that explains the name.
    pub about: &'static str,
    /// The phrase at the ip level, for fields of auth.
    pub about_at_ip: &'static str,
    /// Its width in the C struct.
    width: Width,
}

/// Of these, the number of fields of the `mail` item; they come first.
pub(crate) const MAIL_FIELDS: usize = place::auth_successes;

/// The largest value taken from a peer: 2^53, about 9 PB of bytes or 285 years
/// of microseconds, and the largest whole number every reader that uses double
/// precision floats can hold. Larger ones are refused as insane.
pub const MAX_VALUE: u64 = 1 << 53;

/// A 32-bit counter that seems to shrink has wrapped when it moved on by less
/// than this many steps past 2^32: no process counts 2^30 events between two
/// reports, which are at most five minutes apart.
const WRAP_STEPS: u64 = 1 << 30;

/// Bytes of an item's name and the NUL behind it.
const NAME_BYTES: usize = 5;

/// What a disk moves in a microsecond: 100 MB in a second, as one that turns does.
const DISK_BYTES_PER_USEC: u64 = 100;

macro_rules! fields {
    ($($name:ident $text:literal $unit:ident $item:ident $about:literal;)*) => {
        /// The number of statistics fields.
        pub const FIELD_COUNT: usize = [$($text),*].len();

        /// All statistics fields, in column order.
        pub static FIELDS: [Field; FIELD_COUNT] = [$(Field {
            name: $text,
            unit: Unit::$unit,
            item: Item::$item,
            about: $about,
            about_at_ip: concat!(
                $about,
                ", where reported with an address: Dovecot 2.2 and 2.3 do not"
            ),
            width: wire_struct::$item::$name.1,
        }),*];

        /// The place of each field in [`FIELDS`], by name.
        #[allow(non_camel_case_types, non_upper_case_globals)]
        pub mod place {
            /// The names in order.
            enum Field {
                $($name,)*
            }

            $(/// Where this field is.
            pub const $name: usize = Field::$name as usize;)*
        }

        /// Writes the fields of one item from their columns into its struct.
        fn write_item(item: Item, values: &[u64; FIELD_COUNT], body: &mut [u8]) {
            $(if item == Item::$item {
                wire_struct::write(body, wire_struct::$item::$name, values[place::$name]);
            })*
        }

        /// Reads the fields of one item from its struct into their columns, one
        /// by one instead of in a loop, so that every offset is a constant. False
        /// when one is insane.
        #[inline(always)]
        fn read_item<const BYTES: usize>(
            item: Item,
            body: &[u8; BYTES],
            values: &mut [u64; FIELD_COUNT],
        ) -> bool {
            let mut bits = 0;
            $(if item == Item::$item {
                let value = wire_struct::read(body, wire_struct::$item::$name);
                bits |= value;
                values[place::$name] = value;
            })*
            // A power of two: below it every value is if all their bits are.
            bits < MAX_VALUE || are_sane(item, values)
        }
    };
}

/// Whether the fields of an item are, one by one.
#[cold]
#[inline(never)]
fn are_sane(item: Item, values: &[u64; FIELD_COUNT]) -> bool {
    first_insane(item, values).is_none()
}

/// The name of the first field of an item that is insane.
fn first_insane(item: Item, values: &[u64; FIELD_COUNT]) -> Option<&'static str> {
    let mut fields = FIELDS.iter().zip(values);
    let insane = fields.find(|(field, &value)| field.item == item && value > MAX_VALUE);
    insane.map(|(field, _)| field.name)
}

fields! {
    user_cpu "user_cpu" Time Mail "Processor time spent in programs";
    sys_cpu "sys_cpu" Time Mail "Processor time spent in the kernel";
    clock_time "clock_time" Time Mail "Time that passed while mail processes were at work";
    min_faults "min_faults" Count Mail "Page faults without disk access";
    maj_faults "maj_faults" Count Mail "Page faults with disk access";
    vol_cs "vol_cs" Count Mail "Voluntary context switches";
    invol_cs "invol_cs" Count Mail "Involuntary context switches";
    disk_input "disk_input" Bytes Mail "Bytes read from disks";
    disk_output "disk_output" Bytes Mail "Bytes written to disks";
    read_count "read_count" Count Mail "System calls that read";
    read_bytes "read_bytes" Bytes Mail "Bytes that system calls read";
    write_count "write_count" Count Mail "System calls that write";
    write_bytes "write_bytes" Bytes Mail "Bytes that system calls wrote";
    mail_lookup_path "mail_lookup_path" Count Mail "Mails whose file was opened or looked up";
    mail_lookup_attr "mail_lookup_attr" Count Mail "Mails whose attributes were looked up";
    mail_read_count "mail_read_count" Count Mail "Mails read";
    mail_read_bytes "mail_read_bytes" Bytes Mail "Bytes of mails read";
    mail_cache_hits "mail_cache_hits" Count Mail "Answers found in mailbox caches";
    auth_successes "auth_successes" Count Auth "Logins that succeeded";
    auth_master_successes "auth_master_successes" Count Auth "Logins of master users that succeeded";
    auth_failures "auth_failures" Count Auth "Logins that failed";
    auth_db_tempfails "auth_db_tempfails" Count Auth "Logins that failed for errors of user databases";
    auth_cache_hits "auth_cache_hits" Count Auth "Logins answered from the authentication cache";
    auth_cache_misses "auth_cache_misses" Count Auth "Logins not found in the authentication cache";
}

/// One value for each of [`FIELDS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The values in column order: microseconds, events or bytes.
    pub values: [u64; FIELD_COUNT],
}

impl Stats {
    /// Adds every value of `other`. A sum that would pass 2^64 stays there.
    pub fn add(&mut self, other: &Stats) {
        for (sum, value) in self.values.iter_mut().zip(other.values) {
            *sum = sum.saturating_add(value);
        }
    }

    /// What is more in it than in `earlier`, field by field.
    #[must_use]
    pub(crate) fn since(mut self, earlier: &Stats) -> Stats {
        for (value, earlier) in self.values.iter_mut().zip(earlier.values) {
            *value = value.saturating_sub(earlier);
        }
        self
    }

    /// The share of a machine that it takes, to rank entries: processor
    /// time and the time of a disk that moves 100 bytes in a microsecond.
    pub(crate) fn load_usecs(&self) -> u64 {
        let loads = FIELDS
            .iter()
            .zip(self.values)
            .map(|(field, value)| match field.name {
                "user_cpu" | "sys_cpu" => value,
                "disk_input" | "disk_output" => value / DISK_BYTES_PER_USEC,
                _ => 0,
            });
        loads.fold(0, u64::saturating_add)
    }

    /// True when every value is zero.
    #[must_use]
    pub(crate) fn is_zero(&self) -> bool {
        self.values.iter().all(|&value| value == 0)
    }
}

/// Why a stats field was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsError {
    /// An item's name has no NUL at its end, or its struct is cut short.
    Truncated,
    /// An item with a name that is neither `mail` nor `auth`.
    UnknownItem,
    /// A value, of the field with this name, that is negative or larger than
    /// [`MAX_VALUE`].
    Insane(&'static str),
    /// A `mail` item of so many bytes, as writers of other architectures have it.
    Foreign(usize),
}

impl fmt::Display for StatsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatsError::Truncated => f.write_str("an item is cut short"),
            StatsError::UnknownItem => f.write_str("an item is neither mail nor auth"),
            StatsError::Insane(field) => write!(f, "{field} is negative or larger than 2^53"),
            StatsError::Foreign(bytes) => write!(
                f,
                "mail item of {bytes} bytes, not {MAIL_BYTES}: writer of another architecture?"
            ),
        }
    }
}

/// Whether items that are not ours begin with a `mail` item of another architecture:
/// one of its size, alone or with another item behind it.
#[cold]
#[inline(never)]
fn foreign(bytes: &[u8]) -> Option<StatsError> {
    const AUTH_ITEM_BYTES: usize = NAME_BYTES + AUTH_BYTES;
    let auth = bytes.strip_prefix(b"auth\0");
    let bytes = auth
        .and_then(|_| bytes.get(AUTH_ITEM_BYTES..))
        .unwrap_or(bytes);
    let body = bytes.strip_prefix(b"mail\0")?;
    let is_foreign = |&&size: &&usize| {
        let rest = body.get(size..);
        size != MAIL_BYTES
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"auth\0"))
    };
    let size = MAIL_BYTES_ELSEWHERE.iter().find(is_foreign)?;
    Some(StatsError::Foreign(*size))
}

/// The stats field of a record: the values of its items.
///
/// The fields of an item that was absent keep the totals they had. A field with no item at all is a valid refresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The values; zero where the item was absent.
    pub stats: Stats,
    /// Whether the `mail` item was there.
    pub has_mail: bool,
    /// Whether the `auth` item was there.
    pub has_auth: bool,
}

impl Report {
    /// Sets the report from the items of a stats field, decoded from base64: for
    /// each its name, a NUL and the writer's C struct. An item given twice counts
    /// as given last.
    ///
    /// # Errors
    /// Any item that is not whole, known and sane refuses all of them; what the report
    /// contains then is unspecified.
    #[inline(always)]
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<(), StatsError> {
        self.decode_items(bytes)
            .map_err(|error| foreign(bytes).unwrap_or(error))
    }

    /// As [`Report::decode`], but for items of other architectures.
    #[inline(always)]
    fn decode_items(&mut self, mut bytes: &[u8]) -> Result<(), StatsError> {
        (self.has_mail, self.has_auth) = (false, false);
        let values = &mut self.stats.values;
        while let Some((name, rest)) = bytes.split_first_chunk::<NAME_BYTES>() {
            let (item, is_sane) = match name {
                b"mail\0" => {
                    self.has_mail = true;
                    let body;
                    (body, bytes) = rest.split_first_chunk().ok_or(StatsError::Truncated)?;
                    (
                        Item::Mail,
                        read_item::<MAIL_BYTES>(Item::Mail, body, values),
                    )
                }
                b"auth\0" => {
                    self.has_auth = true;
                    let body;
                    (body, bytes) = rest.split_first_chunk().ok_or(StatsError::Truncated)?;
                    (
                        Item::Auth,
                        read_item::<AUTH_BYTES>(Item::Auth, body, values),
                    )
                }
                _ => break,
            };
            if !is_sane {
                let field = first_insane(item, values).unwrap_or_default();
                return Err(StatsError::Insane(field));
            }
        }
        match bytes {
            [] => {}
            _ if bytes.contains(&0) => return Err(StatsError::UnknownItem),
            _ => return Err(StatsError::Truncated),
        }
        let (mail, auth) = values.split_at_mut(MAIL_FIELDS);
        if !self.has_mail {
            mail.fill(0);
        }
        if !self.has_auth {
            auth.fill(0);
        }
        Ok(())
    }

    /// Appends the items that are there as a stats field has them before base64;
    /// `Report::decode` gives the same values back. A 32-bit counter wraps, as
    /// those of mail processes do.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (has, item, name, length) in [
            (self.has_mail, Item::Mail, &b"mail\0"[..], MAIL_BYTES),
            (self.has_auth, Item::Auth, b"auth\0", AUTH_BYTES),
        ] {
            if has {
                out.extend_from_slice(name);
                let start = out.len();
                out.resize(start + length, 0);
                write_item(item, &self.stats.values, &mut out[start..]);
            }
        }
    }

    /// Takes the report as the new total of what `total` counted so far, moves
    /// `total` there and returns the difference to add to the levels above.
    ///
    /// A total that shrank becomes the new one and differs by nothing, except
    /// for a 32-bit counter a small step past 2^32, which is counted on. The
    /// second value is whether anything shrank.
    pub(crate) fn advance(&self, total: &mut Stats) -> (Stats, bool) {
        let mut difference = Stats::default();
        let mut shrank = false;
        for (index, field) in FIELDS.iter().enumerate() {
            let present = match field.item {
                Item::Mail => self.has_mail,
                Item::Auth => self.has_auth,
            };
            if !present {
                continue;
            }
            let (old, new) = (&mut total.values[index], self.stats.values[index]);
            match step(*old, new, field.width) {
                Some(steps) => {
                    difference.values[index] = steps;
                    *old = old.saturating_add(steps);
                }
                None => {
                    shrank = true;
                    *old = new;
                }
            }
        }
        (difference, shrank)
    }
}

/// The steps that a counter moved on from the total `old` to the reported `new`;
/// `None` when it shrank. A 32-bit counter reports its total modulo 2^32.
fn step(old: u64, new: u64, width: Width) -> Option<u64> {
    const SPAN: u64 = 1 << 32;
    match width {
        Width::U32 => {
            let old = old % SPAN;
            match new.checked_sub(old) {
                Some(steps) => Some(steps),
                None => Some(new + SPAN - old).filter(|&steps| steps < WRAP_STEPS),
            }
        }
        Width::U64 | Width::Timeval => new.checked_sub(old),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes a stats field into a report that had other values.
    fn decoded(bytes: &[u8]) -> Result<Report, StatsError> {
        let mut report = Report {
            stats: Stats {
                values: [7; FIELD_COUNT],
            },
            has_mail: true,
            has_auth: true,
        };
        report.decode(bytes).map(|()| report)
    }

    fn index(name: &str) -> usize {
        FIELDS.iter().position(|field| field.name == name).unwrap()
    }

    #[test]
    fn the_structs_have_the_sizes_seen_on_the_wire() {
        if cfg!(all(target_pointer_width = "64", target_os = "linux")) {
            assert_eq!(MAIL_BYTES, 136);
        }
        assert_eq!(AUTH_BYTES, 24);
    }

    #[test]
    fn decodes_both_items_in_any_order_and_none() {
        let mut mail = vec![0; MAIL_BYTES];
        wire_struct::write(&mut mail, wire_struct::Mail::read_count, 7);
        wire_struct::write(&mut mail, wire_struct::Mail::write_bytes, 9_000_000_000);
        wire_struct::write(&mut mail, wire_struct::Mail::sys_cpu, 12_345_678);
        let mut auth = vec![0; AUTH_BYTES];
        wire_struct::write(&mut auth, wire_struct::Auth::auth_failures, 3);
        let bytes = [b"auth\0", &auth[..], b"mail\0", &mail[..]].concat();
        let report = decoded(&bytes).unwrap();
        assert!(report.has_mail && report.has_auth);
        assert_eq!(report.stats.values[index("read_count")], 7);
        assert_eq!(report.stats.values[index("write_bytes")], 9_000_000_000);
        assert_eq!(report.stats.values[index("sys_cpu")], 12_345_678);
        assert_eq!(report.stats.values[index("auth_failures")], 3);
        assert_eq!(decoded(b""), Ok(Report::default()));
    }

    #[test]
    fn refuses_what_is_not_whole_known_and_sane() {
        let mail = vec![0; MAIL_BYTES];
        let whole = [b"mail\0", &mail[..]].concat();
        assert!(decoded(&whole).is_ok());
        assert_eq!(
            decoded(&whole[..whole.len() - 1]),
            Err(StatsError::Truncated)
        );
        assert_eq!(
            decoded(&[&whole[..], b"x"].concat()),
            Err(StatsError::Truncated)
        );
        assert_eq!(decoded(b"male\0"), Err(StatsError::UnknownItem));
        for (place, name, bad) in [
            (wire_struct::Mail::disk_input, "disk_input", MAX_VALUE + 1),
            (wire_struct::Mail::disk_input, "disk_input", u64::MAX),
            (wire_struct::Mail::user_cpu, "user_cpu", u64::MAX),
        ] {
            let mut mail = mail.clone();
            wire_struct::write(&mut mail, place, bad);
            let bytes = [b"mail\0", &mail[..]].concat();
            let insane = Err(StatsError::Insane(name));
            assert_eq!(decoded(&bytes), insane, "{place:?} {bad}");
        }
        let mut limit = mail.clone();
        wire_struct::write(&mut limit, wire_struct::Mail::disk_input, MAX_VALUE);
        assert!(decoded(&[b"mail\0", &limit[..]].concat()).is_ok());
    }

    #[test]
    fn writers_of_other_architectures_are_recognised() {
        assert_eq!(MAIL_BYTES_ELSEWHERE, [108, 112, 132, 136]);
        assert!(MAIL_BYTES_ELSEWHERE.contains(&MAIL_BYTES));
        let auth = [b"auth\0", &[3; AUTH_BYTES][..]].concat();
        for size in MAIL_BYTES_ELSEWHERE {
            for byte in [0, 1, 0xff] {
                let mail = [b"mail\0", &vec![byte; size][..]].concat();
                for bytes in [
                    mail.clone(),
                    [&mail[..], &auth].concat(),
                    [&auth[..], &mail].concat(),
                ] {
                    let foreign = Err(StatsError::Foreign(size));
                    match size == MAIL_BYTES {
                        true => assert_ne!(decoded(&bytes), foreign),
                        false => assert_eq!(decoded(&bytes), foreign, "{size} {byte}"),
                    }
                }
            }
            let cut = [b"mail\0", &vec![0; size - 1][..]].concat();
            let is_foreign = matches!(decoded(&cut), Err(StatsError::Foreign(_)));
            assert!(!is_foreign, "{size}");
        }
        let message = StatsError::Foreign(108).to_string();
        let expected =
            format!("mail item of 108 bytes, not {MAIL_BYTES}: writer of another architecture?");
        assert_eq!(message, expected);
    }

    #[test]
    fn microseconds_carry_on_input_and_negative_ones_are_refused() {
        let mut mail = vec![0; MAIL_BYTES];
        wire_struct::put_timeval(&mut mail, wire_struct::Mail::user_cpu, 4, 1_000_000);
        let bytes = [b"mail\0", &mail[..]].concat();
        let report = decoded(&bytes).unwrap();
        assert_eq!(report.stats.values[index("user_cpu")], 5_000_000);
        wire_struct::put_timeval(&mut mail, wire_struct::Mail::user_cpu, 4, -1);
        let bytes = [b"mail\0", &mail[..]].concat();
        assert_eq!(decoded(&bytes), Err(StatsError::Insane("user_cpu")));
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut stats = Stats::default();
        for (index, value) in stats.values.iter_mut().enumerate() {
            *value = 1_999_999 + index as u64;
        }
        for (has_mail, has_auth) in [(true, true), (true, false), (false, true), (false, false)] {
            let report = Report {
                stats,
                has_mail,
                has_auth,
            };
            let mut bytes = Vec::new();
            report.encode(&mut bytes);
            let decoded = decoded(&bytes).unwrap();
            assert_eq!((decoded.has_mail, decoded.has_auth), (has_mail, has_auth));
            for (index, field) in FIELDS.iter().enumerate() {
                let has = match field.item {
                    Item::Mail => has_mail,
                    Item::Auth => has_auth,
                };
                let expected = if has { stats.values[index] } else { 0 };
                assert_eq!(decoded.stats.values[index], expected, "{}", field.name);
            }
        }
        stats.values[place::read_count] = (1 << 32) + 5;
        stats.values[place::read_bytes] = (1 << 32) + 5;
        let mut bytes = Vec::new();
        Report {
            stats,
            has_mail: true,
            has_auth: false,
        }
        .encode(&mut bytes);
        let decoded = decoded(&bytes).unwrap().stats;
        assert_eq!(decoded.values[place::read_count], 5);
        assert_eq!(decoded.values[place::read_bytes], (1 << 32) + 5);
    }

    #[test]
    fn totals_step_wrap_and_shrink() {
        const SPAN: u64 = 1 << 32;
        assert_eq!(step(5, 9, Width::U64), Some(4));
        assert_eq!(step(9, 5, Width::U64), None);
        assert_eq!(step(3, 2, Width::U32), None);
        assert_eq!(step(SPAN - 1, 0, Width::U32), Some(1));
        assert_eq!(step(3 * SPAN - 10, 20, Width::U32), Some(30));
        assert_eq!(
            step(SPAN - WRAP_STEPS + 1, 0, Width::U32),
            Some(WRAP_STEPS - 1)
        );
        assert_eq!(step(SPAN - WRAP_STEPS, 0, Width::U32), None);
    }

    #[test]
    fn an_absent_item_keeps_its_totals() {
        let mut total = Stats::default();
        total.values[index("read_count")] = 10;
        total.values[index("auth_failures")] = 10;
        let report = Report {
            stats: Stats::default(),
            has_mail: false,
            has_auth: true,
        };
        let (difference, shrank) = report.advance(&mut total);
        assert!(shrank && difference.is_zero());
        assert_eq!(total.values[index("read_count")], 10);
        assert_eq!(total.values[index("auth_failures")], 0);
    }
}
