//! Fields of items: how each type of value is written and read.
//!
//! Numbers have seven bits a byte, the last one without its highest bit; texts stand
//! behind their length; counters are a bit for each that is not zero, then those.

use crate::stats::{FIELDS, FIELD_COUNT};
use crate::store::{Counters, Kept, Latency, MAX_TEXT_BYTES};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

/// num_logins, num_cmds and the statistics fields.
const COUNTERS: usize = FIELD_COUNT + 2;

/// The most counters that an item can have.
const MAX_COUNTERS: usize = u64::BITS as usize;
const _: () = assert!(COUNTERS <= MAX_COUNTERS);

/// The counters of version 1.
const VERSION_1_COUNTERS: [&str; 26] = [
    "num_logins",
    "num_cmds",
    "user_cpu",
    "sys_cpu",
    "clock_time",
    "min_faults",
    "maj_faults",
    "vol_cs",
    "invol_cs",
    "disk_input",
    "disk_output",
    "read_count",
    "read_bytes",
    "write_count",
    "write_bytes",
    "mail_lookup_path",
    "mail_lookup_attr",
    "mail_read_count",
    "mail_read_bytes",
    "mail_cache_hits",
    "auth_successes",
    "auth_master_successes",
    "auth_failures",
    "auth_db_tempfails",
    "auth_cache_hits",
    "auth_cache_misses",
];

/// The names of all counters.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let fields = FIELDS.iter().map(|field| field.name);
    ["num_logins", "num_cmds"].into_iter().chain(fields)
}

/// The counter of a name, if there is one.
fn counter(name: &[u8]) -> Option<usize> {
    names().position(|known| known.as_bytes() == name)
}

/// A version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// Entries by level, items without a length.
    One,
    /// Entries by importance, items with a length.
    Two,
}

/// How the items of a file are to be read.
#[derive(Debug)]
pub(super) struct Format {
    pub(super) version: Version,
    /// Each counter of the file: its place in ours, `None` for one that is unknown.
    pub(super) counters: Vec<Option<usize>>,
}

impl Format {
    /// The format of a file of which nothing was read yet.
    pub(super) fn new(version: Version) -> Format {
        let counters = match version {
            Version::One => &VERSION_1_COUNTERS[..],
            Version::Two => &[],
        };
        let counters = counters.iter().map(|name| counter(name.as_bytes()));
        Format {
            version,
            counters: counters.collect(),
        }
    }
}

/// The fields of an item that are not read yet.
pub(super) struct Fields<'a, 'b> {
    pub(super) format: &'b Format,
    /// In version 1 with all items that follow.
    pub(super) bytes: &'a [u8],
}

/// A value that can be added to the fields of an item and taken off them.
pub(super) trait Field<'a>: Sized {
    fn push(&self, out: &mut Vec<u8>);
    fn take(from: &mut Fields<'a, '_>) -> Option<Self>;
}

/// Adds an item whose fields `fill` adds.
pub(super) fn push_item(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[tag, 0, 0]);
    let begin = out.len();
    fill(out);
    let length = u16::try_from(out.len() - begin).expect("two texts at most");
    out[begin - 2..begin].copy_from_slice(&length.to_le_bytes());
}

impl<'a, 'b> Fields<'a, 'b> {
    pub(super) fn new(format: &'b Format, bytes: &'a [u8]) -> Fields<'a, 'b> {
        Fields { format, bytes }
    }

    /// Takes a field off that version 1 does not have.
    pub(super) fn take_newer<T: Field<'a> + Default>(&mut self) -> Option<T> {
        match self.format.version {
            Version::One => Some(T::default()),
            Version::Two => T::take(self),
        }
    }

    /// Takes a field off that only version 1 has.
    pub(super) fn pass_over_older<T: Field<'a>>(&mut self) -> Option<()> {
        if self.format.version == Version::One {
            T::take(self)?;
        }
        Some(())
    }

    /// The places of counters by their names.
    pub(super) fn names(&mut self) -> Option<Vec<Option<usize>>> {
        let mut found = Vec::new();
        while !self.bytes.is_empty() {
            found.push(counter(Field::take(self)?));
        }
        (found.len() <= MAX_COUNTERS).then_some(found)
    }
}

impl<'a> Field<'a> for u64 {
    #[inline(never)]
    fn push(&self, out: &mut Vec<u8>) {
        let mut number = *self;
        while number >= 0x80 {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    }

    #[inline(never)]
    fn take(from: &mut Fields<'a, '_>) -> Option<u64> {
        if from.bytes.is_empty() && from.format.version != Version::One {
            return Some(0);
        }
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = from.bytes.split_first()?;
            from.bytes = rest;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

impl<'a> Field<'a> for u32 {
    fn push(&self, out: &mut Vec<u8>) {
        u64::from(*self).push(out);
    }

    fn take(from: &mut Fields<'a, '_>) -> Option<u32> {
        u64::take(from)?.try_into().ok()
    }
}

impl<'a> Field<'a> for bool {
    fn push(&self, out: &mut Vec<u8>) {
        u64::from(*self).push(out);
    }

    fn take(from: &mut Fields<'a, '_>) -> Option<bool> {
        match u64::take(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

/// The number of an entry plus one, or 0.
impl<'a> Field<'a> for Option<u32> {
    fn push(&self, out: &mut Vec<u8>) {
        self.map_or(0, |number| u64::from(number) + 1).push(out);
    }

    fn take(from: &mut Fields<'a, '_>) -> Option<Option<u32>> {
        match u64::take(from)? {
            0 => Some(None),
            number => Some(Some((number - 1).try_into().ok()?)),
        }
    }
}

/// A number that is not 0, or 0.
impl<'a> Field<'a> for Option<NonZeroU32> {
    fn push(&self, out: &mut Vec<u8>) {
        self.map_or(0, NonZeroU32::get).push(out);
    }

    fn take(from: &mut Fields<'a, '_>) -> Option<Option<NonZeroU32>> {
        u32::take(from).map(NonZeroU32::new)
    }
}

impl<'a> Field<'a> for Option<Kept> {
    fn push(&self, out: &mut Vec<u8>) {
        self.unwrap_or_default().push(out);
    }

    fn take(from: &mut Fields<'a, '_>) -> Option<Option<Kept>> {
        Field::take(from).map(Some)
    }
}

impl<'a, T: Field<'a> + Copy + Default, const N: usize> Field<'a> for [T; N] {
    fn push(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|value| value.push(out));
    }

    fn take(from: &mut Fields<'a, '_>) -> Option<[T; N]> {
        let mut values = [T::default(); N];
        for value in &mut values {
            *value = T::take(from)?;
        }
        Some(values)
    }
}

impl<'a> Field<'a> for &'a [u8] {
    fn push(&self, out: &mut Vec<u8>) {
        push_text(out, self);
    }

    fn take(from: &mut Fields<'a, '_>) -> Option<&'a [u8]> {
        let length = usize::try_from(u64::take(from)?).ok()?;
        let parts = from.bytes.split_at_checked(length);
        let (text, rest) = parts.filter(|_| length <= MAX_TEXT_BYTES)?;
        from.bytes = rest;
        Some(text)
    }
}

pub(super) fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    (text.len() as u64).push(out);
    out.extend_from_slice(text);
}

impl<'a> Field<'a> for IpAddr {
    fn push(&self, out: &mut Vec<u8>) {
        match self {
            IpAddr::V4(ip) => push_text(out, &ip.octets()),
            IpAddr::V6(ip) => push_text(out, &ip.octets()),
        }
    }

    fn take(from: &mut Fields<'a, '_>) -> Option<IpAddr> {
        let octets = <&[u8]>::take(from)?;
        if let Ok(octets) = <[u8; 4]>::try_from(octets) {
            return Some(Ipv4Addr::from(octets).into());
        }
        let octets = <[u8; 16]>::try_from(octets).ok()?;
        Some(Ipv6Addr::from(octets).into())
    }
}

/// The counts that are not zero, behind a bit for each, then the sum and the longest time.
impl<'a> Field<'a> for Latency {
    fn push(&self, out: &mut Vec<u8>) {
        let counted = self.counts.iter().enumerate();
        let bits = counted.map(|(place, &count)| u64::from(count > 0) << place);
        bits.fold(0, |bits, bit| bits | bit).push(out);
        let counted = self.counts.iter().filter(|&&count| count > 0);
        counted.for_each(|count| count.push(out));
        self.sum_usecs.push(out);
        self.max_usecs.push(out);
    }

    fn take(from: &mut Fields<'a, '_>) -> Option<Latency> {
        let bits = u64::take(from)?;
        let mut latency = Latency::NONE;
        for (place, count) in latency.counts.iter_mut().enumerate() {
            if bits >> place & 1 > 0 {
                *count = u64::take(from)?;
            }
        }
        latency.sum_usecs = u64::take(from)?;
        latency.max_usecs = u64::take(from)?;
        Some(latency)
    }
}

impl<'a> Field<'a> for Counters {
    fn push(&self, out: &mut Vec<u8>) {
        let mut values = [self.num_logins; COUNTERS];
        values[1] = self.num_cmds;
        values[2..].copy_from_slice(&self.stats.values);
        let mut changed = 0u64;
        for (index, &value) in values.iter().enumerate() {
            changed |= u64::from(value != 0) << index;
        }
        changed.push(out);
        let values = values.iter().filter(|&&value| value != 0);
        values.for_each(|value| value.push(out));
    }

    fn take(from: &mut Fields<'a, '_>) -> Option<Counters> {
        let mut changed = u64::take(from)?;
        let mut values = [0; COUNTERS];
        while changed != 0 {
            let counters = &from.format.counters;
            let known = *counters.get(changed.trailing_zeros() as usize)?;
            changed &= changed - 1;
            let value = u64::take(from)?;
            if let Some(index) = known {
                values[index] = value;
            }
        }
        let mut counters = Counters {
            num_logins: values[0],
            num_cmds: values[1],
            ..Counters::default()
        };
        counters.stats.values.copy_from_slice(&values[2..]);
        Some(counters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_at_most_64_bits() {
        let format = Format::new(Version::One);
        let number = |bytes: &[u8]| u64::take(&mut Fields::new(&format, bytes));
        assert_eq!(number(&[0xff; 20]), None);
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(number(&largest), Some(u64::MAX));
    }
}
