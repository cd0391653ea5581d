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

#[cfg(test)]
mod tests;
mod wire_struct;

use std::fmt;
use std::ops::Range;
use wire_struct::{Width, AUTH_BYTES, MAIL_BYTES, MAIL_BYTES_ELSEWHERE, NET_BYTES};

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
    /// `net`: what passed between client and server, and waiting for locks. Dovecot
    /// sends none.
    Net,
}

impl Item {
    /// All items, in the order of their fields in [`FIELDS`].
    pub(crate) const ALL: [Item; 3] = [Item::Mail, Item::Auth, Item::Net];

    /// Where its fields are in [`FIELDS`].
    pub(crate) const fn fields(self) -> Range<usize> {
        match self {
            Item::Mail => 0..place::auth_successes,
            Item::Auth => place::auth_successes..place::net_in_bytes,
            Item::Net => place::net_in_bytes..FIELD_COUNT,
        }
    }
}

/// A row of [`FIELDS`]: a statistics field of the wire, of replies and of metrics.
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

/// The largest value taken from a peer: 2^53, about 9 PB of bytes or 285 years
/// of microseconds, and the largest whole number every reader that uses double
/// precision floats can hold. Larger ones are refused as insane.
pub const MAX_VALUE: u64 = 1 << 53;

/// The largest total of an entry: what a signed 64-bit number holds.
pub(crate) const MAX_TOTAL: u64 = i64::MAX as u64;

/// A 32-bit counter that seems to shrink has wrapped when it moved on by less
/// than this many steps past 2^32: no process counts 2^30 events between two
/// reports, which are at most five minutes apart.
const WRAP_STEPS: u64 = 1 << 30;

/// Bytes of the name of `mail` or `auth` and the NUL behind it.
const NAME_BYTES: usize = 5;

/// Bytes of the name of `net` and the NUL behind it.
const NET_NAME_BYTES: usize = 4;

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
    net_in_bytes "net_in_bytes" Bytes Net "Bytes that clients sent";
    net_out_bytes "net_out_bytes" Bytes Net "Bytes that clients were sent";
    lock_wait "lock_wait" Time Net "Time spent waiting for locks";
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
    /// An item with a name that is neither `mail` nor `auth` nor `net`.
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
            StatsError::UnknownItem => f.write_str("an item is neither mail nor auth nor net"),
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
/// The fields of an item that was absent keep the totals they had. A field with no item at
/// all is a valid refresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The values; zero where the item was absent, but to [`Report::encode`], which
    /// leaves them out.
    pub stats: Stats,
    /// Whether the `mail` item was there.
    pub has_mail: bool,
    /// Whether the `auth` item was there.
    pub has_auth: bool,
    /// Whether the `net` item was there.
    pub has_net: bool,
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
        // An item's values are zero while its mark here is false: an item that was not
        // there last time either needs no zeros.
        let (mut has_mail, mut has_auth, mut has_net) = (false, false, false);
        let values = &mut self.stats.values;
        while let Some((name, rest)) = bytes.split_first_chunk::<NAME_BYTES>() {
            let (item, is_sane) = match name {
                b"mail\0" => {
                    (has_mail, self.has_mail) = (true, true);
                    let body;
                    (body, bytes) = rest.split_first_chunk().ok_or(StatsError::Truncated)?;
                    (
                        Item::Mail,
                        read_item::<MAIL_BYTES>(Item::Mail, body, values),
                    )
                }
                b"auth\0" => {
                    (has_auth, self.has_auth) = (true, true);
                    let body;
                    (body, bytes) = rest.split_first_chunk().ok_or(StatsError::Truncated)?;
                    (
                        Item::Auth,
                        read_item::<AUTH_BYTES>(Item::Auth, body, values),
                    )
                }
                [b'n', b'e', b't', 0, _] => {
                    (has_net, self.has_net) = (true, true);
                    let body;
                    (body, bytes) = bytes[NET_NAME_BYTES..]
                        .split_first_chunk()
                        .ok_or(StatsError::Truncated)?;
                    (Item::Net, read_item::<NET_BYTES>(Item::Net, body, values))
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
        let mut clear_if_gone = |had: &mut bool, has: bool, item: Item| {
            // One that is there is marked: only one that is gone differs.
            if *had != has {
                *had = has;
                values[item.fields()].fill(0);
            }
        };
        clear_if_gone(&mut self.has_mail, has_mail, Item::Mail);
        clear_if_gone(&mut self.has_auth, has_auth, Item::Auth);
        clear_if_gone(&mut self.has_net, has_net, Item::Net);
        Ok(())
    }

    /// Appends the items that are there as a stats field has them before base64;
    /// `Report::decode` gives the same values back. A 32-bit counter wraps, as
    /// those of mail processes do.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for item in Item::ALL {
            let (name, length) = match item {
                Item::Mail => (&b"mail\0"[..], MAIL_BYTES),
                Item::Auth => (&b"auth\0"[..], AUTH_BYTES),
                Item::Net => (&b"net\0"[..], NET_BYTES),
            };
            if self.has(item) {
                out.extend_from_slice(name);
                let start = out.len();
                out.resize(start + length, 0);
                write_item(item, &self.stats.values, &mut out[start..]);
            }
        }
    }

    /// Whether an item was there.
    fn has(&self, item: Item) -> bool {
        match item {
            Item::Mail => self.has_mail,
            Item::Auth => self.has_auth,
            Item::Net => self.has_net,
        }
    }

    /// Takes the report as the new total of what `total` counted so far, moves
    /// `total` there and sets in `difference`, which is zero before, what is to be added to
    /// the levels above. Returns whether anything shrank.
    ///
    /// A total that shrank becomes the new one and differs by nothing, except
    /// for a 32-bit counter a small step past 2^32, which is counted on.
    pub(crate) fn advance(&self, total: &mut Stats, difference: &mut Stats) -> bool {
        const MAIL: std::ops::Range<usize> = Item::Mail.fields();
        if self.has_mail && !self.has_auth && !self.has_net {
            // Most often only this, and nothing shrank: less than half the instructions.
            let mut bits = 0;
            for index in MAIL {
                let more = self.stats.values[index].wrapping_sub(total.values[index]);
                difference.values[index] = more;
                bits |= more;
            }
            if bits <= MAX_TOTAL {
                total.values[MAIL].copy_from_slice(&self.stats.values[MAIL]);
                return false;
            }
        }
        self.advance_each(total, difference)
    }

    /// [`Report::advance`] of each counter by itself.
    #[cold]
    #[inline(never)]
    fn advance_each(&self, total: &mut Stats, difference: &mut Stats) -> bool {
        let mut shrank = false;
        for item in Item::ALL {
            if !self.has(item) {
                continue;
            }
            for index in item.fields() {
                let (old, new) = (&mut total.values[index], self.stats.values[index]);
                match step(*old, new, FIELDS[index].width) {
                    Some(steps) => {
                        difference.values[index] = steps;
                        *old = old.saturating_add(steps).min(MAX_TOTAL);
                    }
                    None => {
                        shrank = true;
                        difference.values[index] = 0;
                        *old = new;
                    }
                }
            }
        }
        shrank
    }
}

/// The steps that a counter moved on from the total `old` to the reported `new`;
/// `None` when it shrank. A 32-bit counter reports its total modulo 2^32.
#[inline(always)]
fn step(old: u64, new: u64, width: Width) -> Option<u64> {
    const SPAN: u64 = 1 << 32;
    let steps = new.checked_sub(old);
    if steps.is_some() || width != Width::U32 {
        return steps;
    }
    match new.checked_sub(old % SPAN) {
        Some(steps) => Some(steps),
        None => Some(new + SPAN - old % SPAN).filter(|&steps| steps < WRAP_STEPS),
    }
}
