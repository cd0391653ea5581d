//! The items of a state file: each a byte that says which, the length of its fields
//! (two bytes, the less significant first), its fields.
//!
//! Numbers have seven bits a byte, the last one without its highest bit; texts
//! stand behind their length. So that files of other versions can be read, in both
//! directions, items of an unknown kind are passed over, and so are fields behind
//! those that are known; fields that an item does not have are 0 or empty. New fields
//! stand behind all others. The first item of a file has the names of its counters.
//!
//! Items of version 1 have no length, its counters are [`VERSION_1_COUNTERS`], and
//! some lists stand behind all entries ([`StateItem::Place`]).
//!
//! What cannot be read is `None`, nothing more: a block was whole before its items
//! are looked at.

use crate::stats::{FIELDS, FIELD_COUNT};
use crate::store::{
    Basis, Counters, Kept, Listing, Origin, Saved, WallTime, MAX_TEXT_BYTES as MAX_BYTES,
};
use crate::sys::fs::place::Inode;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
fn names() -> impl Iterator<Item = &'static str> {
    let fields = FIELDS.iter().map(|field| field.name);
    ["num_logins", "num_cmds"].into_iter().chain(fields)
}

/// The counter of a name, if there is one.
fn counter(name: &[u8]) -> Option<usize> {
    names().position(|known| known.as_bytes() == name)
}

/// What was read of a FIFO without its LF, which is still in there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialLine<'a> {
    /// The FIFO.
    pub fifo: Inode,
    /// The beginning of the line; empty when it was too long.
    pub bytes: &'a [u8],
    /// Whether it was too long and its end is to be passed over.
    pub is_too_long: bool,
}

/// One item of the file.
// There is one at a time, on the stack.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateItem<'a> {
    /// Of the store.
    Saved(Saved<'a>),
    /// The next entry of a list, in version 1.
    Place {
        /// The list.
        listing: Listing,
        /// The entry's number.
        number: u32,
    },
    /// Of a FIFO.
    Partial(PartialLine<'a>),
}

/// The kinds of items.
const TAG_END: u8 = 0;
const TAG_GLOBAL: u8 = 1;
const TAG_DOMAIN: u8 = 2;
const TAG_IP: u8 = 3;
const TAG_USER: u8 = 4;
const TAG_SESSION: u8 = 5;
const TAG_COMMAND: u8 = 6;
const TAG_PLACE: u8 = 7;
const TAG_PARTIAL: u8 = 8;
const TAG_COUNTERS: u8 = 9;

/// Those up to here are handed out.
const LAST_TAG: u8 = TAG_PARTIAL;

/// Adds a number.
#[inline(never)]
fn push_number(out: &mut Vec<u8>, number: impl Into<u64>) {
    let mut number = number.into();
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Adds a text.
fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    push_number(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// Adds a moment.
fn push_wall(out: &mut Vec<u8>, wall: WallTime) {
    push_number(out, wall.secs);
    push_number(out, wall.usecs);
}

/// Adds counters: which are not zero, then those.
fn push_counters(out: &mut Vec<u8>, counters: &Counters) {
    let mut values = [counters.num_logins; COUNTERS];
    values[1] = counters.num_cmds;
    values[2..].copy_from_slice(&counters.stats.values);
    let mut changed = 0u64;
    for (index, &value) in values.iter().enumerate() {
        changed |= u64::from(value != 0) << index;
    }
    push_number(out, changed);
    for value in values.into_iter().filter(|&value| value != 0) {
        push_number(out, value);
    }
}

/// Adds what all entries have.
fn push_basis(out: &mut Vec<u8>, basis: &Basis) {
    push_number(out, basis.age_secs);
    push_wall(out, basis.last_update);
    push_counters(out, &basis.counters);
    push_number(out, basis.place);
}

/// Adds what entries above sessions have.
fn push_above(out: &mut Vec<u8>, origin: &Origin, basis: &Basis) {
    push_number(out, origin.created_secs);
    push_number(out, origin.is_pinned);
    push_basis(out, basis);
    push_counters(out, &origin.pending);
}

/// Adds the end of all items.
pub fn push_end(out: &mut Vec<u8>) {
    out.push(TAG_END);
}

/// Adds an item whose fields `fill` adds.
fn push_item(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[tag, 0, 0]);
    let begin = out.len();
    fill(out);
    let length = u16::try_from(out.len() - begin).expect("two texts at most");
    out[begin - 2..begin].copy_from_slice(&length.to_le_bytes());
}

/// Adds the names of the counters.
pub fn push_names(out: &mut Vec<u8>) {
    push_item(out, TAG_COUNTERS, |out| {
        for name in names() {
            push_text(out, name.as_bytes());
        }
    });
}

/// Adds what was read of a FIFO.
pub fn push_partial(out: &mut Vec<u8>, partial: &PartialLine) {
    push_item(out, TAG_PARTIAL, |out| {
        push_number(out, partial.fifo.dev);
        push_number(out, partial.fifo.ino);
        push_text(out, partial.bytes);
        push_number(out, partial.is_too_long);
    });
}

/// Adds a value of the store.
pub fn push_saved(out: &mut Vec<u8>, saved: &Saved) {
    let tag = match saved {
        Saved::Global { .. } => TAG_GLOBAL,
        Saved::Domain { .. } => TAG_DOMAIN,
        Saved::Ip { .. } => TAG_IP,
        Saved::User { .. } => TAG_USER,
        Saved::Session { .. } => TAG_SESSION,
        Saved::Command { .. } => TAG_COMMAND,
    };
    push_item(out, tag, |out| push_fields(out, saved));
}

/// Adds the fields of a value.
fn push_fields(out: &mut Vec<u8>, saved: &Saved) {
    match *saved {
        Saved::Global {
            now,
            reset_secs,
            last_update,
            counters,
            kept,
        } => {
            push_wall(out, now);
            push_number(out, reset_secs);
            push_wall(out, last_update);
            push_counters(out, &counters);
            let kept = kept.unwrap_or_default();
            push_number(out, kept.connected);
            for count in kept.entries {
                push_number(out, count);
            }
            push_number(out, kept.used_bytes);
        }
        Saved::Domain {
            name,
            origin,
            basis,
        } => {
            push_text(out, name);
            push_above(out, &origin, &basis);
        }
        Saved::Ip {
            address,
            origin,
            basis,
        } => {
            match address {
                IpAddr::V4(ip) => push_text(out, &ip.octets()),
                IpAddr::V6(ip) => push_text(out, &ip.octets()),
            }
            push_above(out, &origin, &basis);
        }
        Saved::User {
            name,
            domain,
            origin,
            basis,
        } => {
            push_text(out, name);
            push_number(out, domain);
            push_above(out, &origin, &basis);
        }
        Saved::Session {
            id,
            service,
            user,
            ip,
            pid,
            connected,
            placeholder,
            indexed,
            basis,
            user_place,
            ip_place,
            pending,
        } => {
            push_text(out, id);
            push_text(out, service);
            push_number(out, user);
            push_number(out, ip.map_or(0, |ip| u64::from(ip) + 1));
            push_number(out, pid);
            for flag in [connected, placeholder, indexed] {
                push_number(out, flag);
            }
            push_basis(out, &basis);
            push_number(out, user_place);
            push_number(out, ip_place);
            for flag in pending {
                push_number(out, flag);
            }
        }
        Saved::Command {
            session,
            name,
            args,
            command_number,
            is_done,
            basis,
        } => {
            push_number(out, session);
            push_text(out, name);
            push_text(out, args);
            push_number(out, command_number.map_or(0, |number| number.get()));
            push_basis(out, &basis);
            push_number(out, is_done);
        }
    }
}

/// A version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Entries by level, items without a length.
    One,
    /// Entries by importance.
    Two,
}

/// How the items of a file are to be read.
#[derive(Debug)]
pub struct Format {
    /// The version.
    version: Version,
    /// The counters of the file: which they are here, if they still are.
    counters: Vec<Option<usize>>,
}

impl Format {
    /// That of a file of which nothing was read yet.
    pub fn new(version: Version) -> Format {
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

    /// Takes off an item that is not for the reader's caller: the counters, and kinds
    /// that later versions may have. False when the next one is not such an item.
    pub fn pass_over(&mut self, from: &mut &[u8]) -> Option<bool> {
        let (&tag, rest) = from.split_first()?;
        if tag <= LAST_TAG || self.version == Version::One {
            return Some(false);
        }
        let (bytes, rest) = take_sized(rest)?;
        *from = rest;
        if tag == TAG_COUNTERS {
            self.counters = Fields {
                format: self,
                bytes,
            }
            .names()?;
        }
        Some(true)
    }

    /// Takes an item off; `None` inside for the end of all.
    pub fn take_item<'a>(&self, from: &mut &'a [u8]) -> Option<Option<StateItem<'a>>> {
        let (&tag, rest) = from.split_first()?;
        *from = rest;
        if tag == TAG_END {
            return Some(None);
        }
        let mut fields = Fields {
            format: self,
            bytes: rest,
        };
        match self.version {
            Version::One => {
                let item = fields.item(tag)?;
                *from = fields.bytes;
                Some(Some(item))
            }
            Version::Two => {
                (fields.bytes, *from) = take_sized(rest)?;
                fields.item(tag).map(Some)
            }
        }
    }
}

/// What stands behind its length, and what follows.
fn take_sized(from: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = from.split_first_chunk()?;
    rest.split_at_checked(u16::from_le_bytes(*length).into())
}

/// The fields of an item that are not read yet.
struct Fields<'a, 'b> {
    format: &'b Format,
    /// In version 1 with all that follows them.
    bytes: &'a [u8],
}

impl<'a> Fields<'a, '_> {
    /// A number.
    #[inline(never)]
    fn u64(&mut self) -> Option<u64> {
        if self.bytes.is_empty() && self.format.version != Version::One {
            return Some(0);
        }
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
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

    /// A number of 32 bits.
    fn u32(&mut self) -> Option<u32> {
        self.u64()?.try_into().ok()
    }

    /// A number of 32 bits that version 1 does not have.
    fn newer_u32(&mut self) -> Option<u32> {
        match self.format.version {
            Version::One => Some(0),
            Version::Two => self.u32(),
        }
    }

    /// A yes or no that version 1 does not have.
    fn newer_bool(&mut self) -> Option<bool> {
        match self.format.version {
            Version::One => Some(false),
            Version::Two => self.bool(),
        }
    }

    /// A yes or no.
    fn bool(&mut self) -> Option<bool> {
        match self.u64()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// A text.
    fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u64()?).ok()?;
        let (text, rest) = self
            .bytes
            .split_at_checked(length)
            .filter(|_| length <= MAX_BYTES)?;
        self.bytes = rest;
        Some(text)
    }

    /// A moment.
    fn wall(&mut self) -> Option<WallTime> {
        Some(WallTime {
            secs: self.u32()?,
            usecs: self.u32()?,
        })
    }

    /// Names of counters.
    fn names(&mut self) -> Option<Vec<Option<usize>>> {
        let mut found = Vec::new();
        while !self.bytes.is_empty() {
            found.push(counter(self.text()?));
        }
        (found.len() <= MAX_COUNTERS).then_some(found)
    }

    /// Counters.
    fn counters(&mut self) -> Option<Counters> {
        let mut changed = self.u64()?;
        let mut values = [0; COUNTERS];
        while changed != 0 {
            let known = self
                .format
                .counters
                .get(changed.trailing_zeros() as usize)?;
            changed &= changed - 1;
            let value = self.u64()?;
            if let Some(index) = *known {
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

    /// What all entries have.
    fn basis(&mut self) -> Option<Basis> {
        Some(Basis {
            age_secs: self.u32()?,
            last_update: self.wall()?,
            counters: self.counters()?,
            place: self.newer_u32()?,
        })
    }

    /// What entries above sessions have.
    fn above(&mut self) -> Option<(Origin, Basis)> {
        let (created_secs, is_pinned) = (self.u32()?, self.bool()?);
        let basis = self.basis()?;
        let pending = match self.format.version {
            Version::One => Counters::default(),
            Version::Two => self.counters()?,
        };
        let origin = Origin {
            created_secs,
            is_pinned,
            pending,
        };
        Some((origin, basis))
    }

    /// An address.
    fn address(&mut self) -> Option<IpAddr> {
        let octets = self.text()?;
        if let Ok(octets) = <[u8; 4]>::try_from(octets) {
            return Some(Ipv4Addr::from(octets).into());
        }
        let octets = <[u8; 16]>::try_from(octets).ok()?;
        Some(Ipv6Addr::from(octets).into())
    }

    /// What was kept, which version 1 does not have.
    fn kept(&mut self) -> Option<Option<Kept>> {
        if self.format.version == Version::One {
            return Some(None);
        }
        let mut kept = Kept {
            connected: self.u64()?,
            ..Kept::default()
        };
        for count in &mut kept.entries {
            *count = self.u64()?;
        }
        kept.used_bytes = self.u64()?;
        Some(Some(kept))
    }

    /// An item.
    fn item(&mut self, tag: u8) -> Option<StateItem<'a>> {
        let saved = match tag {
            TAG_GLOBAL => Saved::Global {
                now: self.wall()?,
                reset_secs: self.u32()?,
                last_update: self.wall()?,
                counters: self.counters()?,
                kept: self.kept()?,
            },
            TAG_DOMAIN => {
                let name = self.text()?;
                let (origin, basis) = self.above()?;
                Saved::Domain {
                    name,
                    origin,
                    basis,
                }
            }
            TAG_IP => {
                let address = self.address()?;
                let (origin, basis) = self.above()?;
                Saved::Ip {
                    address,
                    origin,
                    basis,
                }
            }
            TAG_USER => {
                let (name, domain) = (self.text()?, self.u32()?);
                let (origin, basis) = self.above()?;
                Saved::User {
                    name,
                    domain,
                    origin,
                    basis,
                }
            }
            TAG_SESSION => Saved::Session {
                id: self.text()?,
                service: self.text()?,
                user: self.u32()?,
                ip: match self.u64()? {
                    0 => None,
                    number => Some((number - 1).try_into().ok()?),
                },
                pid: self.u32()?,
                connected: self.bool()?,
                placeholder: self.bool()?,
                indexed: self.bool()?,
                basis: {
                    // Whether there is an older session of its id; that follows from the ids.
                    if self.format.version == Version::One {
                        self.bool()?;
                    }
                    self.basis()?
                },
                user_place: self.newer_u32()?,
                ip_place: self.newer_u32()?,
                pending: [self.newer_bool()?, self.newer_bool()?, self.newer_bool()?],
            },
            TAG_COMMAND => Saved::Command {
                session: self.u32()?,
                name: self.text()?,
                args: self.text()?,
                command_number: self.u32()?.try_into().ok(),
                basis: self.basis()?,
                is_done: self.newer_bool()?,
            },
            TAG_PARTIAL => {
                return Some(StateItem::Partial(PartialLine {
                    fifo: Inode {
                        dev: self.u64()?,
                        ino: self.u64()?,
                    },
                    bytes: self.text()?,
                    is_too_long: self.bool()?,
                }))
            }
            TAG_PLACE if self.format.version == Version::One => {
                return Some(StateItem::Place {
                    listing: *Listing::ALL.get(self.u32()? as usize)?,
                    number: self.u32()?,
                })
            }
            _ => return None,
        };
        Some(StateItem::Saved(saved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The item of these bytes in a version, if there is one.
    fn taken(version: Version, bytes: &[u8]) -> Option<Option<StateItem<'_>>> {
        Format::new(version).take_item(&mut &*bytes)
    }

    #[test]
    fn content_that_nobody_writes_is_refused() {
        let long = [&[TAG_DOMAIN, 0x81, 0x40][..], &[b'x'; MAX_BYTES + 1]].concat();
        for content in [
            &[10][..],
            &[TAG_DOMAIN, 5, b'x'],
            &[TAG_PLACE, 7, 0],
            &[TAG_PLACE, 0, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[TAG_IP, 3, 1, 2, 3],
            &[TAG_DOMAIN, 0, 0, 2],
            &[TAG_GLOBAL, 0, 0, 0, 0, 0, 0x80, 0x80, 0x80, 0x20],
            &[
                TAG_PARTIAL,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                2,
            ],
            &long,
        ] {
            assert_eq!(taken(Version::One, content), None, "{:?}", content.get(..9));
            let length = (content.len() as u16 - 1).to_le_bytes();
            let sized = [&content[..1], &length, &content[1..]].concat();
            assert_eq!(taken(Version::Two, &sized), None, "{:?}", content.get(..9));
        }
        // In version 1 items have no length.
        assert_eq!(taken(Version::One, &[TAG_DOMAIN]), None);
        assert_eq!(taken(Version::Two, &[TAG_DOMAIN, 1, 0]), None);
    }

    #[test]
    fn numbers_have_at_most_64_bits() {
        let format = Format::new(Version::One);
        let number = |bytes: &[u8]| {
            let mut fields = Fields {
                format: &format,
                bytes,
            };
            fields.u64()
        };
        assert_eq!(number(&[0xff; 20]), None);
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(number(&largest), Some(u64::MAX));
    }

    /// An item of version 2.
    fn sized(tag: u8, fields: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_item(&mut out, tag, |out| out.extend_from_slice(fields));
        out
    }

    #[test]
    fn what_an_older_version_did_not_have_is_zero() {
        let domain = sized(TAG_DOMAIN, &[1, b'd', 9]);
        let Some(Some(StateItem::Saved(saved))) = taken(Version::Two, &domain) else {
            panic!("a domain without the fields behind the first two");
        };
        let origin = Origin {
            created_secs: 9,
            is_pinned: false,
            pending: Counters::default(),
        };
        let basis = Basis {
            age_secs: 0,
            last_update: WallTime::default(),
            counters: Counters::default(),
            place: 0,
        };
        let name = b"d";
        assert_eq!(
            saved,
            Saved::Domain {
                name,
                origin,
                basis
            }
        );
    }

    #[test]
    fn what_a_newer_version_has_is_passed_over() {
        let mut bytes = sized(200, b"an item of an unknown kind");
        // Counters that are unknown, in another order, and fewer.
        let names = [&b"new_count"[..], b"num_cmds", b"user_cpu", b"num_logins"];
        push_item(&mut bytes, TAG_COUNTERS, |out| {
            names.iter().for_each(|name| push_text(out, name))
        });
        let fields = [1, b'd', 9, 1, 5, 6, 7, 0b1111, 10, 11, 12, 13, 3, 0];
        bytes.extend(sized(TAG_DOMAIN, &[&fields[..], b"more fields"].concat()));
        bytes.extend(sized(201, b""));
        bytes.push(TAG_END);
        let mut format = Format::new(Version::Two);
        let mut rest = &bytes[..];
        assert_eq!(format.pass_over(&mut rest), Some(true));
        assert_eq!(format.pass_over(&mut rest), Some(true));
        assert_eq!(format.pass_over(&mut rest), Some(false));
        let taken = format.take_item(&mut rest);
        let Some(Some(StateItem::Saved(Saved::Domain { basis, .. }))) = taken else {
            panic!("a domain, but {taken:?}");
        };
        assert_eq!(basis.counters.num_cmds, 11);
        assert_eq!(basis.counters.stats.values[0], 12, "user_cpu");
        assert_eq!(basis.counters.num_logins, 13);
        assert_eq!((basis.age_secs, basis.place), (5, 3));
        assert_eq!(format.pass_over(&mut rest), Some(true));
        assert_eq!(format.pass_over(&mut rest), Some(false));
        assert_eq!(format.take_item(&mut rest), Some(None));
        assert_eq!(rest, b"");
    }
}
